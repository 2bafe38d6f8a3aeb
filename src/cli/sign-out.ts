// Makes kept tokens worthless at the server, as far as that server lets anybody. Drupal's revocation endpoint answers 200 to a JWT
// and to a refresh token and revokes neither (wire §4.2), so this takes the ways that do work.
import type { AuthorizationServer } from 'oauth4webapi'
import type { Credential } from './credentials.ts'
import type { Fetch } from './http.ts'
import { Refusal, refresh, revoke } from './oauth.ts'
import { unregister } from './registration.ts'
import { peek } from './scopes.ts'

export interface SignedOut {
  /** What was done, in words. */
  done: string[]
  /** What could not be done, in words. */
  failed: string[]
}

/**
 * 1. The refresh token is spent and its successor thrown away: rotation kills it and the access token, wherever copies are.
 * 2. Each access token is revoked, by itself (RFC 7009) and by its jti (which is what Drupal looks up).
 * 3. A client that registered itself is deleted. Never throws: a server that is down must not keep a person from signing out.
 */
export async function signOut(fetch: Fetch, credential: Credential): Promise<SignedOut> {
  const { issuer, tokenEndpoint, revocationEndpoint, registration, refreshToken } = credential
  const server: AuthorizationServer = {
    issuer,
    token_endpoint: tokenEndpoint,
    ...(revocationEndpoint === undefined ? {} : { revocation_endpoint: revocationEndpoint })
  }
  const result: SignedOut = { done: [], failed: [] }
  const attempt = async (what: string, work: () => Promise<boolean>) => {
    const success = await work().catch(() => false)
    ;(success ? result.done : result.failed).push(what)
  }
  const access = [credential.accessToken]
  const refreshTokens = refreshToken === undefined ? [] : [refreshToken]
  // A service account has no refresh token, and its secret is not ours: its token can only run out.
  const isOurs = credential.grant !== 'client_credentials'
  if (refreshToken !== undefined) {
    await attempt('the refresh token', async () => {
      try {
        const last = await refresh(fetch, server, credential, refreshToken, credential.resource)
        access.push(last.access_token)
        if (last.refresh_token !== undefined) refreshTokens.push(last.refresh_token)
        return true
      } catch (error) {
        // It has ended, or was revoked: as good as spent.
        return error instanceof Refusal && error.error === 'invalid_grant'
      }
    })
  }
  if (revocationEndpoint !== undefined && isOurs) {
    await attempt('the access token', async () => {
      const jtis = access.map(token => peek(token)?.['jti']).filter(jti => typeof jti === 'string')
      const answers = []
      for (const token of [...refreshTokens, ...access, ...jtis]) {
        answers.push(await revoke(fetch, server, credential, token))
      }
      return answers.every(Boolean)
    })
  }
  if (registration !== undefined) {
    await attempt('the registered client', () => unregister(fetch, registration))
  }
  return result
}
