// Which headers cross the hop to Drupal, and which come back: two allow-lists. What is not named here does not pass, so no
// client can speak as somebody else (X-Consumer-ID, X-Forwarded-*, Cookie) and nothing of Drupal's inside shows.
import { existsSync, readFileSync } from 'node:fs'

const packageFile = ['../../package.json', '../../../package.json']
  .map(path => new URL(path, import.meta.url))
  .find(path => existsSync(path)) as URL

/** The gateway's version, from package.json. */
export const gatewayVersion = (JSON.parse(readFileSync(packageFile, 'utf8')) as { version: string })
  .version

/** The gateway's own User-Agent. A client's is never forwarded: Drupal blocks some of them by name (drupal-wire §5). */
export const userAgent = `drupal-mcp-gateway/${gatewayVersion}`

export interface UpstreamHeaderOptions {
  /** Drupal's canonical host, as in drupal.url: its issuer and trusted host patterns depend on it (drupal-wire §10). */
  host: string
  /** The caller's bearer token; undefined: anonymous. */
  token: string | undefined
  /** The same on both hops, so that both logs can be joined (R91 f). */
  requestId?: string | undefined
  accept: string
  contentType?: string | undefined
  traceparent?: string | undefined
  tracestate?: string | undefined
}

/** All headers of a request to Drupal. The scheme is spelt `Bearer`: Drupal compares it by case (drupal-wire §6.3). */
export function upstreamHeaders(options: UpstreamHeaderOptions): Record<string, string> {
  const headers: Record<string, string> = {
    host: options.host,
    'user-agent': userAgent,
    accept: options.accept
  }
  if (options.requestId !== undefined) headers['x-request-id'] = options.requestId
  if (options.token !== undefined) headers['authorization'] = `Bearer ${options.token}`
  if (options.contentType !== undefined) headers['content-type'] = options.contentType
  if (options.traceparent !== undefined) headers['traceparent'] = options.traceparent
  if (options.tracestate !== undefined) headers['tracestate'] = options.tracestate
  return headers
}

/** Response headers that a relayed MCP answer keeps; `mcp-session-id` is not among them, the gateway has its own. */
const kept = ['content-type', 'mcp-protocol-version', 'retry-after'] as const

/**
 * The headers of a relayed answer. Everything else is Drupal's own affair: its challenge would send clients to the wrong
 * place, its cookies and X-Drupal-* tell what is inside. Event streams also keep `cache-control`.
 */
export function relayedHeaders(
  headers: Readonly<Record<string, string | string[] | undefined>>
): Record<string, string> {
  const relayed: Record<string, string> = {}
  for (const name of kept) {
    const value = headers[name]
    if (typeof value === 'string') relayed[name] = value
  }
  const cache = headers['cache-control']
  if (typeof cache === 'string' && relayed['content-type']?.startsWith('text/event-stream')) {
    relayed['cache-control'] = cache
  }
  return relayed
}
