// An answer as Drupal gives it, before it is written to a socket: status, headers, body. It knows no route and no state.
import { errorPage, refreshPage } from './pages.ts'

export interface Reply {
  status: number
  headers: Record<string, string>
  body: string | Buffer
}

const UNCACHED = 'must-revalidate, no-cache, private'

/** As PHP's json_encode writes it: slashes escaped, all of it ASCII; `isHex`: no quote nor anything of HTML stands as itself. */
export function phpJson(body: unknown, isHex: boolean): string {
  return JSON.stringify(body).replace(/\\.|[/<>&'\u0080-\uffff]/g, found => {
    if (found === '/') return '\\/'
    if (found > '\x7f') return `\\u${found.charCodeAt(0).toString(16).padStart(4, '0')}`
    if (!isHex || (found.startsWith('\\') && found !== '\\"')) return found
    return `\\u00${found
      .charCodeAt(found.length - 1)
      .toString(16)
      .toUpperCase()}`
  })
}

/** JSON the way Symfony writes it, not to be cached. */
export function json(body: unknown, status = 200, headers: Record<string, string> = {}): Reply {
  return {
    status,
    headers: { 'Cache-Control': UNCACHED, 'Content-Type': 'application/json', ...headers },
    body: phpJson(body, true)
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
