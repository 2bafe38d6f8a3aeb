// Introspection, revocation and userinfo (wire §4). The first two look tokens up by jti, so a JWT is never active and never
// revoked; that is the module's bug, kept.
import { permissionsOf, uidOf } from './account.ts'
import { credentialsOf, isSameSecret } from './clients.ts'
import { empty, failure, json, type Reply } from './reply.ts'
import type { DrupalRequest } from './request.ts'
import { clientWithId, userWithId } from './site.ts'
import type { AccessTokenRow, State } from './state.ts'
import { checkBearer } from './tokens.ts'

/** POST /oauth/introspect, by a bearer; GET gets a JSON 405. */
export function introspect(state: State, request: DrupalRequest): Reply {
  const refusal = callerRefusal(state, request)
  if (refusal) return refusal
  if (request.method !== 'POST') {
    const error_description =
      'Only POST requests are allowed. RFC 7662 requires the introspection endpoint to accept HTTP POST.'
    return json({ error: 'invalid_request', error_description }, 405, { Allow: 'POST' })
  }
  const token = request.form.get('token')
  if (!token) {
    const error_description = 'Missing token parameter'
    return json({ error: 'invalid_request', error_description }, 400)
  }
  const row = state.accessTokens.get(token)
  const isActive = row && !row.revoked && row.expiresAt * 1000 > state.now()
  if (!isActive || !isVisible(state, request, row)) return json({ active: false })
  return json(description(state, request, row))
}

/** The module authenticates its caller itself, with answers of its own. */
function callerRefusal(state: State, request: DrupalRequest): Reply | null {
  if (request.bearer !== null) {
    const verdict = checkBearer(state, request.bearer)
    if ('row' in verdict) return null
    const error_description = 'Bearer token authentication failed'
    return json({ error: 'invalid_client', error_description }, 401, {
      'WWW-Authenticate': 'Bearer error="invalid_token"',
      'Cache-Control': 'no-store, private',
      Pragma: 'no-cache'
    })
  }
  const isBasic = request.headers.authorization?.startsWith('Basic ') ?? false
  if (isBasic && state.site.basicAuth) return failure(403, request.wantsJson, 'Access denied')
  const error_description = 'Authentication required'
  return json({ error: 'invalid_client', error_description }, 401, { 'WWW-Authenticate': 'Bearer' })
}

function isVisible(state: State, { account }: DrupalRequest, row: AccessTokenRow): boolean {
  const isOwn = row.uid !== null && row.uid === uidOf(account)
  return isOwn || permissionsOf(state, account)('bypass token introspection restrictions')
}

/** Uuids throughout: client_id, aud, sub, iss and jti all disagree with the JWT. */
function description(state: State, request: DrupalRequest, row: AccessTokenRow): unknown {
  const client = clientWithId(state.site, row.clientId)
  const user = userWithId(state.site, row.uid)
  return {
    active: true,
    scope: row.scopes.join(' '),
    client_id: client?.uuid,
    username: user?.name,
    sub: user?.uuid,
    token_type: 'Bearer',
    exp: row.expiresAt,
    iat: row.issuedAt,
    aud: client?.uuid,
    iss: request.base,
    jti: row.uuid
  }
}

/** POST /oauth/revoke, by a client: 200 whatever happens, effective only for the client's own jti. */
export function revoke(state: State, request: DrupalRequest): Reply {
  const { id, secret } = credentialsOf(request)
  const client = clientWithId(state.site, id)
  if (!client || (client.secret !== undefined && !isSameSecret(client.secret, secret))) {
    return json({ error: 'invalid_client' }, 401)
  }
  const token = request.form.get('token')
  if (!token) {
    const error_description = 'Missing token parameter'
    return json({ error: 'invalid_request', error_description }, 400)
  }
  const row = state.accessTokens.get(token)
  if (row?.clientId === client.clientId) row.revoked = true
  return empty(200)
}

/** GET or POST /oauth/userinfo: `sub` and nothing else, whatever the scopes. */
export function userinfo(_state: State, request: DrupalRequest): Reply {
  if (request.account.kind !== 'token') return failure(403, request.wantsJson, 'Access denied')
  return json({ sub: String(uidOf(request.account)) })
}
