// The authorization server's metadata as this gateway shows it again, for 2025-03-26 clients that look at the MCP origin (R98).
// Nothing is invented: members are repaired where Drupal's own document would mislead, or left out. Pure.

interface Options {
  /** Canonical URL of the site, as browsers reach it. */
  drupalUrl: string
  /** Where the gateway connects instead; its name must not be published. */
  connectUrl: string
  deviceFlowEnabled: boolean
}

const DEVICE_GRANT = 'urn:ietf:params:oauth:grant-type:device_code'

/** Over an internal hop Drupal writes the hop's scheme or name into its URLs; clients need the canonical ones. */
function canonical(value: string, { drupalUrl, connectUrl }: Options): string {
  if (!URL.canParse(value)) return value
  const url = new URL(value)
  const own = new URL(drupalUrl)
  const inside = new URL(connectUrl)
  if (
    url.host === inside.host ||
    (url.hostname === own.hostname && url.protocol !== own.protocol)
  ) {
    return own.origin + url.pathname + url.search
  }
  return value
}

/** What is nested without end can be read, but not be written again. */
function isWritable(value: unknown): boolean {
  try {
    JSON.stringify(value)
    return true
  } catch {
    return false
  }
}

/**
 * The document to publish. The issuer stays byte for byte; `scopes_supported` becomes a list where PHP wrote an object; URLs become
 * canonical; a device flow that is switched off is not offered.
 */
export function publishedMetadata(
  document: Readonly<Record<string, unknown>>,
  options: Options
): Record<string, unknown> {
  const published: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(document)) {
    if (name === 'issuer') published[name] = value
    else if (name === 'scopes_supported' && typeof value === 'object' && value !== null) {
      published[name] = Object.values(value).filter(scope => typeof scope === 'string')
    } else if (typeof value === 'string') published[name] = canonical(value, options)
    else if (isWritable(value)) published[name] = value
  }
  if (!options.deviceFlowEnabled) {
    delete published['device_authorization_endpoint']
    const grants = published['grant_types_supported']
    if (Array.isArray(grants)) {
      published['grant_types_supported'] = grants.filter(grant => grant !== DEVICE_GRANT)
    }
  }
  return published
}
