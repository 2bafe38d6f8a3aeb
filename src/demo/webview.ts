// simple_oauth_native_apps' trap: a browser embedded in an app is refused wherever an OAuth-looking parameter turns up (wire §5).
import { json, type Reply } from './reply.ts'
import type { DrupalRequest } from './request.ts'

const WATCHED = ['client_id', 'scope', 'redirect_uri', 'response_type']
const EMBEDDED =
  /Electron|CFNetwork\/|App\/.*WebKit|\bWebView\b|; wv\)|FBAN|FBAV|Instagram|Twitter|LinkedInApp|Reddit|\bLine\//i

/** The refusal of an embedded browser, on any path, or null. */
export function webviewRefusal({ headers, query, form }: DrupalRequest): Reply | null {
  if (!EMBEDDED.test(headers['user-agent'] ?? '')) return null
  if (!WATCHED.some(name => query.has(name) || form.has(name))) return null
  const error_description =
    'Embedded webviews are not allowed for OAuth authorization. Use the system browser (RFC 8252).'
  return json({ error: 'embedded_webview_blocked', error_description }, 400)
}
