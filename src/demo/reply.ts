// An answer as Drupal gives it, before it is written to a socket: status, headers, body. It knows no route and no state.
import { errorPage, refreshPage } from './pages.ts'

export interface Reply {
  status: number
  headers: Record<string, string>
  body: string | Buffer
}

const UNCACHED = 'must-revalidate, no-cache, private'

/** JSON the way Symfony writes it (slashes and apostrophes escaped), not to be cached. */
export function json(body: unknown, status = 200, headers: Record<string, string> = {}): Reply {
  return {
    status,
    headers: { 'Cache-Control': UNCACHED, 'Content-Type': 'application/json', ...headers },
    body: JSON.stringify(body).replaceAll('/', '\\/').replaceAll("'", '\\u0027')
  }
}

/** An HTML page. */
export function html(body: string, status = 200, headers: Record<string, string> = {}): Reply {
  return {
    status,
    headers: { 'Cache-Control': UNCACHED, 'Content-Type': 'text/html; charset=UTF-8', ...headers },
    body
  }
}

/** No body at all, which PHP still labels text/html. */
export function empty(status: number, headers: Record<string, string> = {}): Reply {
  return html('', status, headers)
}

/** A redirect with Symfony's little page. */
export function redirect(
  location: string,
  status = 302,
  headers: Record<string, string> = {}
): Reply {
  return {
    status,
    headers: {
      'Cache-Control': UNCACHED,
      Location: location,
      'Content-Type': 'text/html; charset=utf-8',
      ...headers
    },
    body: refreshPage(location)
  }
}

/** A redirect of the OAuth library: Location and nothing else. */
export function bareRedirect(location: string): Reply {
  return empty(302, { Location: location })
}

/** Drupal's own error page; as JSON only when the URL says `_format=json`, whatever Accept says (wire §9). */
export function failure(
  status: number,
  wantsJson: boolean,
  message: string,
  headers: Record<string, string> = {}
): Reply {
  return wantsJson ? json({ message }, status, headers) : html(errorPage(status), status, headers)
}
