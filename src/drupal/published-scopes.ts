// Which scopes do the site's tools ask for, as anybody may know? jsonrpc_mcp writes them into Drupal's own resource metadata
// (drupal-wire §6.3). Drupal leaves out what an anonymous user may not run, so this is a beginning and not the whole.
import type { Config } from '../config/schema.ts'

interface Options {
  config: Config
  fetch: typeof fetch
  /** Milliseconds; only differences count. */
  now: () => number
}

/** A failed attempt is not repeated for this long. */
const RETRY_MS = 5_000

/** Answers the published scopes; empty when Drupal publishes none or cannot be asked. Never rejects; kept for the discovery TTL. */
export function createPublishedScopes({
  config,
  fetch,
  now
}: Options): () => Promise<readonly string[]> {
  const url = `${config.drupal.url}/.well-known/oauth-protected-resource`
  let kept: { until: number; scopes: Promise<readonly string[]> } | undefined

  async function ask(): Promise<readonly string[]> {
    const response = await fetch(url, { headers: { accept: 'application/json' } })
    if (!response.ok) throw new Error(`status ${response.status}`)
    const { scopes_supported: scopes } = (await response.json()) as { scopes_supported?: unknown }
    return Array.isArray(scopes) ? scopes.filter(scope => typeof scope === 'string') : []
  }

  return function publishedScopes() {
    if (kept === undefined || now() >= kept.until) {
      const entry = { until: now() + config.oauth.discoveryCacheTtlSeconds * 1000, scopes: ask() }
      entry.scopes = entry.scopes.catch(() => {
        entry.until = now() + RETRY_MS
        return []
      })
      kept = entry
    }
    return kept.scopes
  }
}
