// The four grants of the token endpoint: each takes the request and gives who the token is for, or throws the OAuth library's
// error (wire §3, §5, §7). None of them issues a token.
import { authenticatedClient, credentialsOf, grantedScopes } from './clients.ts'
import {
  devicePending,
  invalidClient,
  invalidGrant,
  invalidRefreshToken,
  invalidRequest,
  invalidScope
} from './oauth-error.ts'
import { verifierMatches } from './pkce.ts'
import type { DrupalRequest } from './request.ts'
import {
  AUTHORIZATION_CODE,
  CLIENT_CREDENTIALS,
  type Client,
  clientWithId,
  DEVICE_CODE,
  REFRESH_TOKEN
} from './site.ts'
import { type CodeRow, seconds, type State } from './state.ts'

export interface Grant {
  client: Client
  /** null: the client acts for itself */
  uid: number | null
  scopes: string[]
}

const POLL_INTERVAL_MS = 5000

/** client_credentials: a scope is mandatory, and asked for before the client is authenticated. */
export function clientCredentials(state: State, request: DrupalRequest): Grant {
  const asking = clientWithId(state.site, credentialsOf(request).id)
  const scope = request.form.get('scope') || asking?.defaultScopes?.join(' ')
  if (!scope) throw invalidRequest('scope')
  const client = authenticatedClient(state, request, CLIENT_CREDENTIALS)
  // A client without a secret cannot speak for itself.
  if (client.secret === undefined) throw invalidClient()
  const scopes = grantedScopes(state, scope, CLIENT_CREDENTIALS)
  return { client, uid: null, scopes }
}

/** authorization_code, with PKCE when the request had a challenge. */
export function authorizationCode(state: State, request: DrupalRequest): Grant {
  const { form } = request
  const client = authenticatedClient(state, request, AUTHORIZATION_CODE)
  const code = form.get('code')
  if (!code) throw invalidRequest('code')
  const row = state.codes.get(code)
  if (!row) throw invalidGrant('Cannot validate the provided authorization code')
  if (row.expiresAt <= seconds(state)) throw invalidGrant('Authorization code has expired')
  if (row.used) throw invalidGrant('Authorization code has been revoked')
  if (row.clientId !== client.clientId) {
    throw invalidRequest('code', 'Authorization code was not issued to this client')
  }
  if (form.get('redirect_uri') !== row.redirectUri) {
    throw invalidRequest('redirect_uri', 'Invalid redirect URI')
  }
  checkVerifier(row, form.get('code_verifier'))
  row.used = true
  return { client, uid: row.uid, scopes: row.scopes }
}

function checkVerifier(row: CodeRow, verifier: string | null): void {
  if (!row.challenge) {
    if (verifier === null) return
    throw invalidRequest(
      'code_challenge',
      'code_verifier received when no code_challenge is present'
    )
  }
  if (!verifier) throw invalidRequest('code_verifier')
  if (!/^[A-Za-z0-9\-._~]{43,128}$/.test(verifier)) {
    throw invalidRequest(
      'code_verifier',
      'Code Verifier must follow the specifications of RFC-7636.'
    )
  }
  if (!verifierMatches(verifier, row.challenge, row.challengeMethod)) {
    throw invalidGrant('Failed to verify `code_verifier`.')
  }
}

/** refresh_token: rotates, and kills the old access token with the old refresh token. A blocked user is not noticed. */
export function refreshToken(state: State, request: DrupalRequest): Grant {
  const { form } = request
  const client = authenticatedClient(state, request, REFRESH_TOKEN)
  const given = form.get('refresh_token')
  if (!given) throw invalidRequest('refresh_token')
  const row = state.refreshTokens.get(given)
  if (!row) throw invalidRefreshToken('Cannot decrypt the refresh token')
  if (row.clientId !== client.clientId) throw invalidRefreshToken('Token is not linked to client')
  if (row.expiresAt <= seconds(state)) throw invalidRefreshToken('Token has expired')
  if (row.revoked) throw invalidRefreshToken('Token has been revoked')
  const scopes = grantedScopes(state, form.get('scope') ?? row.scopes.join(' '), REFRESH_TOKEN)
  const added = scopes.find(scope => !row.scopes.includes(scope))
  if (added) throw invalidScope(added)
  row.revoked = true
  const old = state.accessTokens.get(row.accessJti)
  if (old) old.revoked = true
  return { client, uid: row.uid, scopes }
}

/** device_code: pending until somebody approved; polling within 5 s is slow_down. */
export function deviceCode(state: State, request: DrupalRequest): Grant {
  const client = authenticatedClient(state, request, DEVICE_CODE)
  const given = request.form.get('device_code')
  if (!given) throw invalidRequest('device_code')
  const row = state.devices.get(given)
  if (!row) throw invalidGrant('')
  if (row.clientId !== client.clientId) {
    throw invalidRequest('device_code', 'Device code was not issued to this client')
  }
  if (row.used) throw invalidRequest('device_code', 'Device code has been revoked')
  if (row.expiresAt <= seconds(state)) {
    throw devicePending(
      'expired_token',
      'The `device_code` has expired and the device authorization session has concluded.'
    )
  }
  if (row.uid === null) throw stillPending(state, row)
  row.used = true
  return { client, uid: row.uid, scopes: row.scopes }
}

function stillPending(state: State, row: { lastPolledAt: number }): Error {
  const tooSoon = state.now() - row.lastPolledAt < POLL_INTERVAL_MS
  row.lastPolledAt = state.now()
  return tooSoon
    ? devicePending(
        'slow_down',
        'The authorization request is still pending and polling should continue, but the interval MUST be increased by 5 seconds for this and all subsequent requests.'
      )
    : devicePending(
        'authorization_pending',
        "The authorization request is still pending as the end user hasn't yet completed the user interaction steps. The client SHOULD repeat the Access Token Request to the token endpoint"
      )
}
