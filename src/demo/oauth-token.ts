// POST /oauth/token: which grant, by which client, and the answer's form (wire §3). The grants themselves are in grants.ts.
import { randomBytes } from 'node:crypto'
import { credentialsOf } from './clients.ts'
import {
  authorizationCode,
  clientCredentials,
  deviceCode,
  refreshToken,
  type Grant
} from './grants.ts'
import { invalidRequest, unsupportedGrant } from './oauth-error.ts'
import { json, type Reply } from './reply.ts'
import type { DrupalRequest } from './request.ts'
import {
  AUTHORIZATION_CODE,
  CLIENT_CREDENTIALS,
  clientWithId,
  DEVICE_CODE,
  REFRESH_TOKEN
} from './site.ts'
import { remember, seconds, type State } from './state.ts'
import { issueAccessToken, signJwt } from './tokens.ts'
import { looksNative, nativeVerifierRefusal } from './pkce.ts'

const REFRESH_LIFETIME = 1_209_600

/** Answers a token request. Throws OAuthError. */
export function token(state: State, request: DrupalRequest): Reply {
  const { id } = credentialsOf(request)
  if (!id) throw invalidRequest('client_id')
  const type = request.form.get('grant_type')
  const client = clientWithId(state.site, id)
  if (type === AUTHORIZATION_CODE && client && looksNative(client)) {
    const refusal = nativeVerifierRefusal(request.form.get('code_verifier'))
    if (refusal) return refusal
  }
  return tokenResponse(state, request, grantOf(state, request, type))
}

function grantOf(state: State, request: DrupalRequest, type: string | null): Grant {
  switch (type) {
    case AUTHORIZATION_CODE:
      return authorizationCode(state, request)
    case REFRESH_TOKEN:
      return refreshToken(state, request)
    case CLIENT_CREDENTIALS:
      return clientCredentials(state, request)
    case DEVICE_CODE:
      return deviceCode(state, request)
    default:
      throw unsupportedGrant()
  }
}

function tokenResponse(state: State, request: DrupalRequest, grant: Grant): Reply {
  const { client, uid, scopes } = grant
  const { issuer } = request
  const access = issueAccessToken(state, { clientId: client.clientId, uid, scopes, issuer })
  const withRefresh = uid !== null && client.grantTypes.includes(REFRESH_TOKEN)
  const body = {
    ...(scopes.includes('openid') ? { id_token: idToken(state, request, grant) } : {}),
    token_type: 'Bearer',
    expires_in: state.accessTokenLifetime,
    access_token: access.token,
    ...(withRefresh ? { refresh_token: newRefreshToken(state, grant, uid, access.jti) } : {})
  }
  return json(body, 200, {
    pragma: 'no-cache',
    'Cache-Control': 'no-store, private',
    'Content-Type': 'application/json; charset=UTF-8'
  })
}

/** No nonce, whatever was asked for (wire §1). */
function idToken(state: State, request: DrupalRequest, { client, uid }: Grant): string {
  const iat = seconds(state)
  const exp = iat + state.accessTokenLifetime
  return signJwt(
    state,
    { typ: 'JWT', alg: 'RS256' },
    { aud: client.clientId, iss: request.issuer, iat, exp, sub: String(uid) }
  )
}

function newRefreshToken(state: State, grant: Grant, uid: number, accessJti: string): string {
  const opaque = `def50200${randomBytes(390).toString('hex')}`
  remember(state.refreshTokens, opaque, {
    accessJti,
    clientId: grant.client.clientId,
    uid,
    scopes: grant.scopes,
    expiresAt: seconds(state) + REFRESH_LIFETIME,
    revoked: false
  })
  return opaque
}
