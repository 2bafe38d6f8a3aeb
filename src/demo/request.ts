// One request as Drupal's PHP sees it: path, query, form, host. It reads a node request into plain data and judges nothing.
import type { IncomingMessage } from 'node:http'
import type { Account } from './account.ts'

export interface SeenRequest {
  method: string
  /** the request target exactly as sent, query included */
  path: string
  headers: Record<string, string>
  body: string
}

export interface DrupalRequest extends SeenRequest {
  /** the path without query and language prefix, not decoded */
  route: string
  /** '' or the language prefix of a multilingual site: '/en', '/es' */
  prefix: string
  query: URLSearchParams
  /** the body's fields, when it is a form */
  form: URLSearchParams
  /** scheme://host:port of this request: what Drupal derives every URL from */
  base: string
  /** the site's issuer for this host: https, no port on http, a trailing slash (wire §1) */
  issuer: string
  wantsJson: boolean
  /** the bearer token; null when Drupal sees none (`bearer` in lower case is none) */
  bearer: string | null
  account: Account
  /** the browser session's id, when its cookie is known */
  session: string | null
  /** ends with the connection: nobody waits for a client that has gone */
  gone: AbortSignal
}

export interface HostRules {
  multilingual: boolean
  publicUrl: URL | null
  plainIssuer: boolean
}

const MAX_BODY = 16 * 1024 * 1024

/** The body as text; null when it is over PHP's post_max_size (the rest is read and dropped). */
export async function readBody(message: IncomingMessage): Promise<string | null> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of message as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size <= MAX_BODY) chunks.push(chunk)
  }
  return size > MAX_BODY ? null : Buffer.concat(chunks).toString()
}

/** The plain data of a request, its account still anonymous. */
export function asDrupalRequest(
  seen: SeenRequest,
  rules: HostRules,
  gone: AbortSignal
): DrupalRequest {
  const mark = seen.path.indexOf('?')
  const wholePath = mark < 0 ? seen.path : seen.path.slice(0, mark)
  const query = new URLSearchParams(mark < 0 ? '' : seen.path.slice(mark + 1))
  const prefix = rules.multilingual ? (/^\/(?:en|es)(?=\/|$)/.exec(wholePath)?.[0] ?? '') : ''
  const isForm = (seen.headers['content-type'] ?? '').startsWith(
    'application/x-www-form-urlencoded'
  )
  const base = baseOf(seen.headers.host ?? 'localhost', rules.publicUrl)
  return {
    ...seen,
    route: wholePath.slice(prefix.length) || '/',
    prefix,
    query,
    form: new URLSearchParams(isForm ? seen.body : ''),
    base,
    issuer: rules.plainIssuer ? `${base}/` : issuerOf(base),
    wantsJson: query.get('_format') === 'json',
    bearer: /^Bearer (.*)$/.exec(seen.headers.authorization ?? '')?.[1] ?? null,
    account: { kind: 'anonymous' },
    session: null,
    gone
  }
}

/** The request as a Drupal sees it that trusts everybody's X-Forwarded-Host. */
export function forwarded(seen: SeenRequest): SeenRequest {
  const host = seen.headers['x-forwarded-host'] ?? seen.headers.host ?? 'localhost'
  return { ...seen, headers: { ...seen.headers, host } }
}

function baseOf(host: string, publicUrl: URL | null): string {
  return publicUrl?.host === host ? publicUrl.origin : `http://${host}`
}

/** The issuer Simple OAuth derives from scheme://host:port. */
export function issuerOf(base: string): string {
  const url = URL.canParse(base) ? new URL(base) : new URL('http://localhost')
  return `https://${url.protocol === 'https:' ? url.host : url.hostname}/`
}

/** A node header list as one string a name. */
export function plainHeaders(message: IncomingMessage): Record<string, string> {
  const entries = Object.entries(message.headers).map(([name, value]) => [name, String(value)])
  return Object.fromEntries(entries) as Record<string, string>
}
