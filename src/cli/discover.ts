// Where does one sign in for this URL? Found from the URL alone: refusal → protected resource metadata (RFC 9728) → authorization
// server metadata (RFC 8414, R99). It signs nobody in.
import type { AuthorizationServer } from 'oauth4webapi'
import { metadataLocations } from '../auth/metadata-location.ts'
import { isObject } from '../mcp/call.ts'
import { callToRefuse } from './call-to-refuse.ts'
import { covers } from './credentials.ts'
import { Failure } from './failure.ts'
import { ask, type Fetch, safeUrl } from './http.ts'
import { printable } from './oauth.ts'

export interface Discovered {
  /** Byte for byte as the metadata says it: what is sent as `resource` (R103). */
  resource: string
  server: AuthorizationServer
  /** What to ask for when the user does not say: the refusal's scopes, else those of the metadata. */
  scopes: string[]
  /** The gateway's copy of the metadata leaves the device flow out: its operator has switched it off. */
  deviceFlowIsOff: boolean
}

type Document = Record<string, unknown>

/** What a refusal says: where the metadata is, which scopes to ask for, and why. Pure. */
export function readChallenge(header: string | null): {
  metadata?: string
  scope?: string
  error?: string
  description?: string
} {
  const parameter = (name: string) =>
    new RegExp(`(?:^|[\\s,])${name}="([^"]*)"`, 'i').exec(header ?? '')?.[1]
  const names = ['resource_metadata', 'scope', 'error', 'error_description']
  const [metadata, scope, error, description] = names.map(parameter)
  return {
    ...(metadata === undefined ? {} : { metadata }),
    ...(scope === undefined ? {} : { scope }),
    ...(error === undefined ? {} : { error }),
    ...(description === undefined ? {} : { description })
  }
}

/** Asks until it knows. Throws a Failure that names the link that is broken. */
export async function discover(
  fetch: Fetch,
  url: string,
  signal?: AbortSignal
): Promise<Discovered> {
  const target = safeUrl(url, 'The URL')
  const init = signal ? { signal } : {}
  const refusal = await ask(fetch, url, { ...init, ...callToRefuse })
  const challenge = readChallenge(refusal.headers.get('www-authenticate'))
  const path = target.pathname === '/' ? '' : target.pathname
  const wellKnown = `${target.origin}/.well-known/oauth-protected-resource`
  const places = new Set([
    challenge.metadata ?? `${wellKnown}${path}`,
    `${wellKnown}${path}`,
    wellKnown
  ])
  const trouble = troubleOf(refusal, url)
  const found = await firstDocument(fetch, [...places], init, trouble)
  if (found === undefined) {
    const { status, headers } = refusal
    const [inTrouble] = trouble
    if (inTrouble !== undefined) throw inTrouble
    if (status >= 300 && status < 400) {
      const target = printable(headers.get('location') ?? 'nowhere')
      throw new Failure(
        `${url} answered ${status}: it sends to ${target}. Use the URL of the gateway itself.`
      )
    }
    throw new Failure(
      `${url} does not say where to sign in (it answered ${status}, and there is no ${wellKnown}${path}). Is this the MCP URL of a gateway? It usually ends in /mcp.`
    )
  }
  const { resource, authorization_servers: servers, scopes_supported: supported } = found
  if (typeof resource !== 'string') {
    throw new Failure(`${url} has metadata without a resource (RFC 9728 §3.3).`)
  }
  // A fragment is in no resource (RFC 9728 §1.2), and must not be sent (RFC 8707 §2).
  if (!covers(resource, url) || resource.includes('#')) {
    throw new Failure(
      `${url} calls itself ${resource}. Use that URL, or set GATEWAY_PUBLIC_URL of the gateway to what users type.`
    )
  }
  const [issuer] = Array.isArray(servers) ? (servers as unknown[]) : []
  if (typeof issuer !== 'string' || !URL.canParse(issuer)) {
    throw new Failure(`The metadata of ${url} names no authorization server.`)
  }
  const scopes = challenge.scope?.split(' ').filter(Boolean) ?? listOf(supported)
  const server = await authorizationServer(fetch, issuer, target.origin, init)
  const copy = await firstDocument(fetch, [copyAt(target.origin)], init)
  const deviceFlowIsOff =
    server.device_authorization_endpoint !== undefined &&
    copy?.['issuer'] === issuer &&
    copy['device_authorization_endpoint'] === undefined
  return { resource, server, scopes, deviceFlowIsOff }
}

const copyAt = (gateway: string) => `${gateway}/.well-known/oauth-authorization-server`

/**
 * The issuer's own metadata; where the issuer cannot be asked, the copy that the gateway serves (R98). Drupal's issuer is https
 * without a port whatever it listens on, so on a developer's machine or inside a cluster nobody answers there. The copy is no
 * weaker: the same gateway already chose the issuer, and credentials are kept per issuer *and* resource. Either must name the
 * issuer byte for byte; a document that names another one is an error and not a reason to look elsewhere.
 */
async function authorizationServer(
  fetch: Fetch,
  issuer: string,
  gateway: string,
  init: { signal?: AbortSignal }
): Promise<AuthorizationServer> {
  const places = [...metadataLocations(issuer), copyAt(gateway)]
  const trouble: Failure[] = []
  const found = await firstDocument(fetch, places, init, trouble)
  if (found === undefined) {
    if (trouble[0] !== undefined) throw trouble[0]
    throw new Failure(
      `The metadata of the authorization server ${issuer} cannot be found, neither there nor at ${gateway}. Is Drupal's simple_oauth_server_metadata enabled?`
    )
  }
  if (found['issuer'] !== issuer) {
    throw new Failure(
      `The authorization server calls itself ${String(found['issuer'])}, but the gateway names it ${issuer}. Set OAUTH_ISSUER of the gateway to the first.`
    )
  }
  return found as unknown as AuthorizationServer
}

/** What an answer says of a server that is in trouble and may be well again later; nothing for any other. */
function troubleOf({ status }: Response, url: string): Failure[] {
  if (status < 500 && status !== 429) return []
  return [
    new Failure(
      `${url} answered ${status}: try again later, or run doctor with the URL of the gateway.`
    )
  ]
}

/**
 * The first place that answers 200 with a JSON object; `trouble` gathers why another did not. Tokens are never sent to these: Drupal
 * answers 401 then (wire §6.1).
 */
async function firstDocument(
  fetch: Fetch,
  places: readonly string[],
  init: { signal?: AbortSignal },
  trouble: Failure[] = []
): Promise<Document | undefined> {
  for (const place of places) {
    try {
      safeUrl(place, 'A metadata URL')
      const answer = await ask(fetch, place, { ...init, headers: { accept: 'application/json' } })
      const value: unknown = answer.status === 200 ? await answer.json() : undefined
      if (isObject(value)) return value
      trouble.push(...troubleOf(answer, place))
    } catch (error) {
      if (init.signal?.aborted) throw error
    }
  }
  return undefined
}

/** A list of names; Drupal's may have become an object on its way through PHP (wire §6). */
function listOf(value: unknown): string[] {
  const values: unknown[] = typeof value === 'object' && value !== null ? Object.values(value) : []
  return values.filter(item => typeof item === 'string')
}
