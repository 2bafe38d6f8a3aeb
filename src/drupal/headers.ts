// Which headers cross the hop to Drupal: what is not named here does not pass, so no client can speak as somebody else
// (X-Consumer-ID, X-Forwarded-*, Cookie). None of Drupal's comes back by itself: whoever sends an answer writes its headers.
import type { Principal } from '../auth/principal.ts'
import { version } from '../package.ts'
import { CommonHeaders } from './request-head.ts'

/** The gateway's own User-Agent. A client's is never forwarded: Drupal blocks some of them by name (drupal-wire §5). */
export const userAgent = `drupal-mcp-gateway/${version}`

export interface CallerHeaderOptions {
  /** Drupal's canonical host, as in drupal.url: its issuer and trusted host patterns depend on it (drupal-wire §10). */
  host: string
  accept: string
  contentType?: string | undefined
}

/** The headers that all of a caller's requests have in common. The scheme is spelt `Bearer`: Drupal compares it by case (drupal-wire §6.3). */
export function callerHeaders(
  { host, accept, contentType }: CallerHeaderOptions,
  token: string | undefined
): Record<string, string> {
  const headers: Record<string, string> = { host, 'user-agent': userAgent, accept }
  if (token !== undefined) headers['authorization'] = `Bearer ${token}`
  if (contentType !== undefined) headers['content-type'] = contentType
  return headers
}

/** `callerHeaders`, kept for as long as the principal that a token was judged to be. */
export function createCallerHeaders(
  options: CallerHeaderOptions
): (principal: Principal | undefined, token: string | undefined) => CommonHeaders {
  const anonymous = new CommonHeaders(callerHeaders(options, undefined))
  const kept = new WeakMap<Principal, { token: string; headers: CommonHeaders }>()
  return (principal, token) => {
    if (token === undefined) return anonymous
    const known = principal && kept.get(principal)
    if (known?.token === token) return known.headers
    const headers = new CommonHeaders(callerHeaders(options, token))
    if (principal !== undefined) kept.set(principal, { token, headers })
    return headers
  }
}

/** What belongs to one request. */
export interface CallHeaderOptions {
  /** The same on both hops, so that both logs can be joined (R91 f). */
  requestId: string | undefined
  traceparent?: string | undefined
  tracestate?: string | undefined
}

/** The headers of one request, beside its caller's. */
export function callHeaders(options: CallHeaderOptions): Record<string, string> {
  const headers: Record<string, string> = {}
  if (options.requestId !== undefined) headers['x-request-id'] = options.requestId
  if (options.traceparent !== undefined) headers['traceparent'] = options.traceparent
  if (options.tracestate !== undefined) headers['tracestate'] = options.tracestate
  return headers
}
