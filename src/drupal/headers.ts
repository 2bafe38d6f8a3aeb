// Which headers cross the hop to Drupal: what is not named here does not pass, so no client can speak as somebody else
// (X-Consumer-ID, X-Forwarded-*, Cookie). None of Drupal's comes back by itself: whoever sends an answer writes its headers.
import { version } from '../package.ts'

/** The gateway's own User-Agent. A client's is never forwarded: Drupal blocks some of them by name (drupal-wire §5). */
export const userAgent = `drupal-mcp-gateway/${version}`

export interface SiteHeaderOptions {
  /** Drupal's canonical host, as in drupal.url: its issuer and trusted host patterns depend on it (drupal-wire §10). */
  host: string
  accept: string
  contentType?: string | undefined
}

/** The headers of all requests of a kind, whoever calls. */
export function siteHeaders({
  host,
  accept,
  contentType
}: SiteHeaderOptions): Record<string, string> {
  const headers: Record<string, string> = { host, 'user-agent': userAgent, accept }
  if (contentType !== undefined) headers['content-type'] = contentType
  return headers
}

/** What belongs to one request. */
export interface CallHeaderOptions {
  /** The same on both hops, so that both logs can be joined (R91 f). */
  requestId: string | undefined
  traceparent?: string | undefined
  tracestate?: string | undefined
}

/** The headers of one request, beside those and the caller's token. */
export function callHeaders(options: CallHeaderOptions): Record<string, string> {
  const headers: Record<string, string> = {}
  if (options.requestId !== undefined) headers['x-request-id'] = options.requestId
  if (options.traceparent !== undefined) headers['traceparent'] = options.traceparent
  if (options.tracestate !== undefined) headers['tracestate'] = options.tracestate
  return headers
}
