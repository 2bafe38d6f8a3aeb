// Which consumer asks, whether it may use a grant, which scopes and redirect URIs it gets. Decisions only; it issues nothing.
import { timingSafeEqual } from 'node:crypto'
import { OIDC_SCOPES } from './account.ts'
import { invalidClient, invalidRequest, invalidScope, unauthorizedClient } from './oauth-error.ts'
import type { DrupalRequest } from './request.ts'
import { clientWithId, type Client } from './site.ts'
import type { State } from './state.ts'

/** client_id and secret of a form; a Basic header counts too (Simple OAuth moves it into the body). */
export function credentialsOf(request: DrupalRequest): {
  id: string | null
  secret: string | null
} {
  const basic = /^Basic (.+)$/.exec(request.headers.authorization ?? '')?.[1]
  if (!basic) {
    return { id: request.form.get('client_id'), secret: request.form.get('client_secret') }
  }
  const [id = '', ...secret] = Buffer.from(basic, 'base64').toString().split(':')
  return { id: id || null, secret: secret.join(':') }
}

/** The client of a token request, authenticated when confidential. Throws invalid_client or unauthorized_client. */
export function authenticatedClient(state: State, request: DrupalRequest, grant: string): Client {
  const { id, secret } = credentialsOf(request)
  const hadAuthorization = request.headers.authorization !== undefined
  const client = clientWithId(state.site, id)
  if (!client) throw invalidClient(hadAuthorization)
  if (!client.grantTypes.includes(grant)) throw unauthorizedClient()
  if (client.secret === undefined) return client
  if (!secret) throw invalidRequest('client_secret')
  if (!isSameSecret(client.secret, secret)) throw invalidClient(hadAuthorization)
  return client
}

/** Whether the given secret is the known one. */
export function isSameSecret(known: string, given: string | null): boolean {
  const [a, b] = [Buffer.from(known), Buffer.from(given ?? '')]
  return a.length === b.length && timingSafeEqual(a, b)
}

export interface ScopeVerdict {
  scopes: string[]
  /** the first name that is no scope at all */
  unknown?: string
  /** the first scope whose grant is switched off */
  disabled?: string
}

/** Splits a scope parameter and says what is wrong with it for this grant. */
export function judgeScopes(state: State, parameter: string | null, grant: string): ScopeVerdict {
  const scopes = [...new Set((parameter ?? '').split(' ').filter(Boolean))]
  const verdict: ScopeVerdict = { scopes }
  for (const name of scopes) {
    const scope = state.site.scopes.find(candidate => candidate.name === name)
    const isOidc = state.oidc && !scope && OIDC_SCOPES.includes(name)
    if (isOidc) continue
    if (!scope) verdict.unknown ??= name
    else if (!scope.grants.includes(grant)) verdict.disabled ??= name
  }
  return verdict
}

/** The scopes of a token request. Throws invalid_scope. */
export function grantedScopes(state: State, parameter: string | null, grant: string): string[] {
  const { scopes, unknown, disabled } = judgeScopes(state, parameter, grant)
  const bad = unknown ?? disabled
  if (bad) throw invalidScope(bad)
  return scopes
}

/** Whether a client may be redirected there: exact, except that loopback addresses (not `localhost`) may use any port (wire §5). */
export function isRedirectAllowed(client: Client, redirectUri: string): boolean {
  if (client.redirectUris.includes(redirectUri)) return true
  const withoutPort = loopbackWithoutPort(redirectUri)
  return (
    withoutPort !== null &&
    client.redirectUris.some(known => loopbackWithoutPort(known) === withoutPort)
  )
}

function loopbackWithoutPort(uri: string): string | null {
  const match = /^(http:\/\/(?:127\.0\.0\.1|\[::1\]))(?::\d+)?(\/.*|)$/.exec(uri)
  return match && `${match[1]}${match[2]}`
}
