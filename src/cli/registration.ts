// How this program becomes a client of a site: registered (RFC 7591), looked up and taken back (RFC 7592). It makes room for
// Drupal's ways (wire §8) and signs nobody in.
import * as oauth from 'oauth4webapi'
import { Failure } from './failure.ts'
import { ask, type Fetch, safeUrl } from './http.ts'
import { type Client, deviceGrant, requestOptions, understood } from './oauth.ts'

/**
 * Registers this program as a public client (RFC 7591) that may use every flow it has. Drupal answers 200 instead of 201 and
 * does not repeat token_endpoint_auth_method; a secret means that it made the client confidential.
 */
export async function register(
  fetch: Fetch,
  server: oauth.AuthorizationServer,
  redirectUri: string,
  signal?: AbortSignal
): Promise<Client> {
  const endpoint = server.registration_endpoint
  if (endpoint === undefined) {
    throw new Failure(
      `${server.issuer} does not let clients register. Ask its administrator for a client id and pass it with --client-id.`
    )
  }
  if (URL.canParse(endpoint) && new URL(endpoint).hostname === 'default') {
    throw new Failure(
      `Drupal names ${endpoint} as its registration endpoint, a leftover of an installation by drush. On the site, run: drush config:set simple_oauth_server_metadata.settings registration_endpoint ''`
    )
  }
  const metadata = {
    client_name: 'drupal-mcp-gateway command line',
    redirect_uris: [redirectUri],
    grant_types: [
      'authorization_code',
      'refresh_token',
      ...(server.device_authorization_endpoint === undefined ? [] : [deviceGrant])
    ],
    response_types: ['code'],
    token_endpoint_auth_method: 'none',
    application_type: 'native'
  }
  const options = requestOptions(fetch, endpoint, 'The registration endpoint', signal)
  const answer = await oauth.dynamicClientRegistrationRequest(server, metadata, options)
  const created =
    answer.status === 200
      ? new Response(await answer.text(), { status: 201, headers: answer.headers })
      : answer
  const made = await understood(
    oauth.processDynamicClientRegistrationResponse(created),
    'registration',
    answer.status
  )
  const { registration_client_uri: uri, registration_access_token: token } = made
  return {
    clientId: made.client_id,
    ...(typeof made.client_secret === 'string' ? { clientSecret: made.client_secret } : {}),
    ...(typeof uri === 'string' && typeof token === 'string'
      ? { registration: { uri, token } }
      : {})
  }
}

/**
 * The client as the site knows it now, with a new secret or registration token where the site gives one (RFC 7592 §2.1). Undefined when
 * it did not register itself, when the site has forgotten it (at Drupal a client is easily deleted), when it may not use this grant or
 * redirect URI, when its secret has ended, and when it can only be asked about where others would read the answer.
 */
export async function known(
  fetch: Fetch,
  kept: Client | undefined,
  grant: string,
  redirectUri: string,
  signal?: AbortSignal
): Promise<Client | undefined> {
  if (kept?.registration === undefined || !isSafe(kept.registration.uri)) return undefined
  const { clientId, clientSecret, registration } = kept
  const client: Client = {
    clientId,
    ...(clientSecret === undefined ? {} : { clientSecret }),
    registration
  }
  const headers = { authorization: `Bearer ${registration.token}`, accept: 'application/json' }
  const answer = await ask(fetch, registration.uri, { headers, ...(signal ? { signal } : {}) })
  // A site in trouble has forgotten nothing: another registration would leave this one there for good.
  if (answer.status >= 500 || answer.status === 429) return client
  if (answer.status !== 200) return undefined
  const now = (await answer.json().catch(() => ({}))) as Record<string, unknown>
  const has = (list: unknown, item: string) => Array.isArray(list) && list.includes(item)
  if (!has(now['grant_types'], grant) || !has(now['redirect_uris'], redirectUri)) return undefined
  const {
    client_secret: secret,
    client_secret_expires_at: end,
    registration_access_token: token
  } = now
  // 0: never (RFC 7591 §3.2.1).
  if (typeof end === 'number' && end !== 0 && end * 1000 <= Date.now()) return undefined
  return {
    ...client,
    ...(typeof secret === 'string' ? { clientSecret: secret } : {}),
    ...(typeof token === 'string' ? { registration: { ...registration, token } } : {})
  }
}

/** Drupal makes the URL of a registration from the request, so a proxy before it may give it http. */
function isSafe(uri: string): boolean {
  try {
    return safeUrl(uri, '') !== undefined
  } catch {
    return false
  }
}

/** Takes a registration back (RFC 7592): what is left of its tokens has no client any more. */
export async function unregister(
  fetch: Fetch,
  { uri, token }: NonNullable<Client['registration']>
): Promise<boolean> {
  safeUrl(uri, 'The registration')
  const headers = { authorization: `Bearer ${token}` }
  return (await ask(fetch, uri, { method: 'DELETE', headers })).status === 204
}
