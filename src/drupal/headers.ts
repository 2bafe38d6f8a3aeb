// Which headers cross the hop to Drupal: what is not named here does not pass, so no client can speak as somebody else
// (X-Consumer-ID, X-Forwarded-*, Cookie). None of Drupal's comes back by itself: whoever sends an answer writes its headers.
import { version } from '../package.ts'

/** The gateway's own User-Agent. A client's is never forwarded: Drupal blocks some of them by name (drupal-wire §5). */
export const userAgent = `drupal-mcp-gateway/${version}`

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
