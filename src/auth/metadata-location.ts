// Where the metadata of an issuer is looked for, and which issuer it may then name (RFC 8414 §3, OIDC Discovery §4, R99).
// Pure URL work; it refuses to fetch.

const oauth = '/.well-known/oauth-authorization-server'
const openid = '/.well-known/openid-configuration'

/**
 * Candidate URLs in the order of asking: the three of R99, and for an issuer with a path also the OAuth name below the path,
 * where a Drupal in a sub-directory serves it.
 */
export function metadataLocations(base: string): readonly string[] {
  const { origin, pathname } = new URL(base)
  const path = pathname.replace(/\/$/, '')
  const names = [origin + oauth + path, origin + openid + path]
  if (path !== '') names.push(origin + path + openid, origin + path + oauth)
  return names
}

/**
 * The issuers that metadata found at drupal.url may name when none is configured: the URL itself with or without its last
 * slash, and Drupal's own habit: https whatever the scheme was, with the port kept or dropped, always a last slash.
 */
export function issuersOf(drupalUrl: string): readonly string[] {
  const { protocol, host, hostname, pathname } = new URL(drupalUrl)
  const path = pathname.replace(/\/$/, '')
  return [
    `${protocol}//${host}${path}`,
    `${protocol}//${host}${path}/`,
    `https://${host}${path}/`,
    `https://${hostname}${path}/`
  ]
}

/**
 * Where an issuer is looked for, in the order of asking: at drupal.url when it names the same host, without a port or with the
 * same one, but below its own path first, where another server may live beside Drupal; else at the issuer itself.
 */
export function basesOf(issuer: string, drupalUrl: string): readonly string[] {
  if (!URL.canParse(issuer)) return [drupalUrl]
  const [named, drupal] = [new URL(issuer), new URL(drupalUrl)]
  const isDrupal = named.hostname === drupal.hostname && ['', drupal.port].includes(named.port)
  if (!isDrupal) return [issuer]
  const path = (url: URL) => url.pathname.replace(/\/$/, '')
  return path(named) === path(drupal) ? [drupalUrl] : [drupal.origin + path(named), drupalUrl]
}

/**
 * An endpoint that metadata found at `base` names, as it will be asked; undefined when it is no URL to trust. Drupal behind a
 * TLS proxy may name its endpoints with the wrong scheme: on the host of `base` and without another port they are asked at
 * the origin of `base`. From https nothing leads down to http.
 */
export function endpoint(value: unknown, base: string): string | undefined {
  if (typeof value !== 'string' || !URL.canParse(value)) return undefined
  const url = new URL(value)
  const home = new URL(base)
  if (url.username !== '' || url.password !== '') return undefined
  if (url.hostname === home.hostname && (url.port === '' || url.port === home.port)) {
    return home.origin + url.pathname + url.search
  }
  return url.protocol === 'https:' || (url.protocol === 'http:' && home.protocol === 'http:')
    ? url.href
    : undefined
}
