// Where is a URL that names Drupal reached from inside? Pure: it connects to nothing.

/** The path of a base URL without its trailing slash. */
const basePath = (url: URL) => url.pathname.replace(/\/+$/, '')

/**
 * A URL of the site `canonical` as it is at `connect`; undefined when it is not the site's. Whatever the scheme: behind an
 * internal http hop Drupal advertises http, and its issuer loses the port (drupal-wire §1).
 */
export function internalUrl(url: URL, canonical: URL, connect: URL): URL | undefined {
  const isDrupal =
    url.host === canonical.host || (url.hostname === canonical.hostname && url.port === '')
  if (!isDrupal) return undefined
  const base = basePath(canonical)
  const inside = url.pathname === base || url.pathname.startsWith(`${base}/`)
  const path = inside ? basePath(connect) + url.pathname.slice(base.length) : url.pathname
  return new URL(connect.origin + path + url.search)
}
