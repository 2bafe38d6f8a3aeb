// The switches by which a test makes Drupal misbehave, and what each does to a request or an answer. All are off at first.
// A switch acts on the paths that `only` admits; the metadata switches act on their own documents.
import type { JsonWebKey } from 'node:crypto'
import { errorPage } from './pages.ts'
import { empty, failure, html, redirect, type Reply } from './reply.ts'

/** how a switch with a value is off */
export type Off = null | undefined

export interface Faults {
  /** which paths (no query) the switches act on; default: everything below /mcp/tools/ */
  only: (path: string) => boolean
  /** 503, text/html, as in maintenance mode */
  maintenance: boolean
  /** 429 with Retry-After: that many seconds, or 7 */
  flood: number | boolean | Off
  /** 200 with an HTML page where JSON is due */
  html200: boolean
  /** 302 to /user/login */
  redirectLogin: boolean
  /** 302 to this origin (true: http://other.example), path kept */
  redirectHost: string | boolean | Off
  /** this status with an HTML page */
  status: number | false | Off
  /** 200, application/json, no bytes */
  emptyBody: boolean
  /** Content-Length of the whole, half of the bytes, then the socket is destroyed */
  halfBody: boolean
  /** wait before the first byte */
  slowHeadersMs: number
  /** wait between the headers and the second half of the body */
  slowBodyMs: number
  /** the socket is destroyed before anything is answered */
  resetBefore: boolean
  /** the socket is destroyed after the headers and one byte of the body */
  resetAfterFirstByte: boolean
  /** a JSON-RPC result of about this many bytes, with somebody else’s id */
  hugeBody: number | false | Off
  /** this Content-Type (true: text/plain) on an otherwise good answer */
  wrongContentType: string | boolean | Off
  /** JSON that is no JSON-RPC response */
  invalidJsonRpc: boolean
  /** a JSON-RPC response to somebody else's id */
  otherId: boolean
  /** 401 for every bearer token, as after a user was saved */
  unauthorized: boolean
  /** /oauth/jwks and its alias answer 404 */
  jwks404: boolean
  /** /oauth/jwks and its alias answer 503 */
  jwksDown: boolean
  /** the authorization server's metadata documents answer 503 */
  metadataDown: boolean
  /** /oauth/introspect answers 503 */
  introspectionDown: boolean
  /** Drupal's clock is ahead by that much */
  clockSkewSeconds: number
  /** registration_endpoint is http://default/oauth/register, as after an installation by drush */
  registrationDefaultHost: boolean
  /** metadata does not offer S256 */
  noS256: boolean
  /** tools that are listed although their URL answers 404 */
  missingRoutes: Set<string>
  /** laid over the authorization server's metadata documents; a member that is undefined goes missing */
  metadata: Record<string, unknown>
  /** the key set that is published instead of the site's own */
  publishedKeys: JsonWebKey[] | Off
  /** documents follow X-Forwarded-Host, whoever sends it */
  believesForwardedHost: boolean
  /** simple_oauth_native_apps lets embedded browsers pass (webview.detection: off); no fault, the default is one */
  allowsWebviews: boolean
  /** further headers of the answers that `only` admits, as a cache in front of the site adds them */
  headers: Record<string, string>
}

/** Every switch off. */
export function noFaults(): Faults {
  return {
    only: path => path.startsWith('/mcp/tools/'),
    maintenance: false,
    flood: false,
    html200: false,
    redirectLogin: false,
    redirectHost: false,
    status: false,
    emptyBody: false,
    halfBody: false,
    slowHeadersMs: 0,
    slowBodyMs: 0,
    resetBefore: false,
    resetAfterFirstByte: false,
    hugeBody: false,
    wrongContentType: false,
    invalidJsonRpc: false,
    otherId: false,
    unauthorized: false,
    jwks404: false,
    jwksDown: false,
    metadataDown: false,
    introspectionDown: false,
    clockSkewSeconds: 0,
    registrationDefaultHost: false,
    noS256: false,
    missingRoutes: new Set(),
    metadata: {},
    publishedKeys: null,
    believesForwardedHost: false,
    allowsWebviews: false,
    headers: {}
  }
}

/** The answer that a switch gives instead of Drupal's own, if one is on. */
export function insteadOfDrupal(
  faults: Faults,
  path: string,
  target: string,
  hasBearer: boolean
): Reply | null {
  return documentFault(faults, path) ?? (faults.only(path) ? pathFault() : null)

  function pathFault(): Reply | null {
    if (faults.maintenance) return failure(503, false, '', { 'Retry-After': '300' })
    if (faults.flood) {
      const wait = faults.flood === true ? 7 : faults.flood
      return failure(429, false, '', { 'Retry-After': String(wait) })
    }
    if (faults.status) return failure(faults.status, false, '')
    if (faults.redirectLogin) {
      return redirect(`/user/login?destination=${encodeURIComponent(target)}`)
    }
    if (faults.redirectHost) {
      const origin = faults.redirectHost === true ? 'http://other.example' : faults.redirectHost
      return redirect(`${origin}${target}`)
    }
    if (faults.unauthorized && hasBearer) {
      return failure(401, false, '', {
        'WWW-Authenticate': refusal('Access token has been revoked')
      })
    }
    if (faults.html200) return html(errorPage(200))
    if (faults.emptyBody) return { ...empty(200), headers: { 'Content-Type': 'application/json' } }
    return null
  }
}

function documentFault(faults: Faults, path: string): Reply | null {
  const isKeys = path === '/oauth/jwks' || path === '/.well-known/jwks.json'
  const isMetadata =
    path === '/.well-known/oauth-authorization-server' ||
    path === '/.well-known/openid-configuration'
  if (isKeys && faults.jwks404) return failure(404, false, '')
  const down =
    (isKeys && faults.jwksDown) ||
    (isMetadata && faults.metadataDown) ||
    (path === '/oauth/introspect' && faults.introspectionDown)
  return down ? failure(503, false, '', { 'Retry-After': '300' }) : null
}

/** Simple OAuth's challenge: always access_denied, never invalid_token (wire §9). */
export function refusal(hint: string): string {
  return `Bearer realm="OAuth", error="access_denied", error_description="${hint}"`
}

/** Drupal's own answer, spoilt by the switches that are on. */
export function spoil(faults: Faults, path: string, reply: Reply): Reply {
  if (!faults.only(path)) return reply
  const spoilt = { ...reply, headers: { ...reply.headers, ...faults.headers } }
  if (faults.wrongContentType) {
    const type = faults.wrongContentType === true ? 'text/plain' : faults.wrongContentType
    spoilt.headers['Content-Type'] = type
  }
  if (faults.invalidJsonRpc) spoilt.body = '{"neither":"result","nor":"error"}'
  if (faults.otherId) spoilt.body = '{"jsonrpc":"2.0","id":"somebody-else","result":{"secret":1}}'
  if (faults.hugeBody) {
    const [before, after] = ['{"jsonrpc":"2.0","id":"huge","result":"', '"}']
    // Filled once and in place: what takes long here would be taken for a slow site.
    const body = Buffer.allocUnsafe(before.length + faults.hugeBody + after.length).fill('x')
    body.write(before)
    body.write(after, body.length - after.length)
    spoilt.body = body
  }
  return spoilt
}
