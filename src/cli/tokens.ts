// Which token goes with the next request: a given one, or a kept one that is refreshed before it expires, by one process at a
// time. It signs nobody in and shows nothing.
import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import type { AuthorizationServer } from 'oauth4webapi'
import { type Credential, credentialFor, type CredentialKey, type Vault } from './credentials.ts'
import type { Env } from './credentials-home.ts'
import { exitCodes, Failure, systemCode } from './failure.ts'
import type { Fetch } from './http.ts'
import { clientCredentials, refresh, Refusal, type Tokens } from './oauth.ts'
import { explainMissing, grantedScopes, missingScopes } from './scopes.ts'
import { lifetime } from './sign-in.ts'

export interface TokenSource {
  /** A token that is good for a while; undefined when somebody has to sign in first. */
  current(): Promise<string | undefined>
  /** Another token than the refused one; undefined when there is none to be had without a sign-in. */
  instead(refused: string): Promise<string | undefined>
  /** Resolves when another process has signed in with these scopes. Rejects when aborted. */
  signedInElsewhere?(scopes: readonly string[], signal: AbortSignal): Promise<void>
  /** Which scopes the sign-in asked for and did not get, and why; undefined when there is none. */
  lacking?(): Promise<string | undefined>
  /** Resolves when no refresh is under way: the only good refresh token is in its answer. */
  settled?(): Promise<unknown>
}

/** Refreshed this long before the end; Drupal's tokens live 300 s by default. */
const marginMs = 30_000
/** Of a short life only that part: with the whole margin every request would refresh, and each refresh kills the others' token. */
const marginShare = 0.25

/** A token from DRUPAL_MCP_TOKEN or a file, which is read anew each time: whoever writes it may rotate it. Undefined: none given. */
export function givenToken(env: Env, file: string | undefined): TokenSource | undefined {
  const read = async () => {
    if (file === undefined) return env['DRUPAL_MCP_TOKEN']?.trim()
    const text = await readFile(file, 'utf8').catch((error: unknown) => {
      throw new Failure(`The token file ${file} cannot be read (${systemCode(error)}).`)
    })
    return text.trim()
  }
  if (file === undefined && !env['DRUPAL_MCP_TOKEN']) return undefined
  const current = async () => {
    const token = await read()
    // A newline inside would become a second header.
    if (token && /^[\x21-\x7e]+$/.test(token)) return token
    throw new Failure(`${file ?? 'DRUPAL_MCP_TOKEN'} does not hold one token.`, exitCodes.usage)
  }
  return {
    current,
    async instead(refused) {
      const token = await current()
      if (token !== refused) return token
      throw new Failure(
        `The token from ${file ?? 'DRUPAL_MCP_TOKEN'} was refused: it is expired, revoked, or not for this site. Bring a new one.`,
        exitCodes.notSignedIn
      )
    }
  }
}

interface KeptTokens {
  vault: Vault
  url: string
  fetch: Fetch
  /** Of a service account, for its next token. */
  clientSecret?: string
  now?: () => number
  /** Milliseconds between two looks for a sign-in elsewhere. */
  watchMs?: number
}

/** Tokens of whoever signed in for `url`. */
export function keptTokens({
  vault,
  url,
  fetch,
  clientSecret,
  now = Date.now,
  watchMs = 500
}: KeptTokens): Required<TokenSource> {
  const isFresh = ({ expiresAt, obtainedAt = 0 }: Credential) =>
    expiresAt - now() > Math.min(marginMs, (expiresAt - obtainedAt) * marginShare)
  const usable = (credential: Credential, refused: string | undefined) =>
    isFresh(credential) && credential.accessToken !== refused

  let running: Promise<unknown> = Promise.resolve()

  async function next(refused?: string): Promise<string | undefined> {
    const seen = await credentialFor(vault, url)
    if (seen === undefined) return undefined
    if (usable(seen, refused)) return seen.accessToken
    // Read again inside: while we waited, another process may have spent the refresh token and kept its successor.
    return vault.locked(seen, () => (running = renew(seen, refused)))
  }

  async function renew(
    key: CredentialKey,
    refused: string | undefined
  ): Promise<string | undefined> {
    const kept = await vault.get(key)
    if (kept === undefined) return undefined
    if (usable(kept, refused)) return kept.accessToken
    const tokens = await renewed(kept)
    if (tokens === undefined)
      return kept.accessToken !== refused && kept.expiresAt > now() ? kept.accessToken : undefined
    const { refreshToken: _spent, ...rest } = kept
    const granted = grantedScopes(tokens.access_token, tokens.scope)
    await vault.set({
      ...rest,
      ...(granted === undefined ? {} : { grantedScopes: granted }),
      // A server that does not rotate sends none: the old one stays good (RFC 6749 §6).
      ...(kept.refreshToken === undefined ? {} : { refreshToken: kept.refreshToken }),
      ...lifetime(tokens, now())
    })
    return tokens.access_token
  }

  /** Undefined when only a person can help. A server that is merely down is a Failure: the credential may still be good. */
  async function renewed(kept: Credential): Promise<Tokens | undefined> {
    const server: AuthorizationServer = { issuer: kept.issuer, token_endpoint: kept.tokenEndpoint }
    try {
      if (kept.grant === 'client_credentials') {
        if (clientSecret === undefined) return undefined
        const client = { clientId: kept.clientId, clientSecret }
        return await clientCredentials(fetch, server, client, {
          scopes: kept.askedScopes,
          resource: kept.resource
        })
      }
      if (kept.refreshToken === undefined) return undefined
      return await refresh(fetch, server, kept, kept.refreshToken, kept.resource)
    } catch (error) {
      if (error instanceof Refusal && error.error === 'invalid_grant') {
        // It is dead for good; sent again, it may count as a replay (RFC 9700 §4.14).
        const { refreshToken: _dead, ...rest } = kept
        await vault.set(rest)
      }
      if (error instanceof Refusal && [400, 401, 403].includes(error.status)) return undefined
      // The exit code of a refusal would say that only a sign-in helps.
      throw error instanceof Refusal
        ? new Failure(error.message, exitCodes.failed, { cause: error })
        : error
    }
  }

  async function signedInElsewhere(scopes: readonly string[], signal: AbortSignal): Promise<void> {
    const before = await credentialFor(vault, url)
    for (;;) {
      await sleep(watchMs, undefined, { signal })
      const kept = await credentialFor(vault, url)
      if (kept === undefined || missingScopes(scopes, kept.grantedScopes).length > 0) continue
      // Not by its token: that changes with a refresh, too.
      if (kept.signedInAt !== before?.signedInAt) return
    }
  }

  async function lacking(): Promise<string | undefined> {
    const kept = await credentialFor(vault, url)
    const missing = missingScopes(kept?.askedScopes ?? [], kept?.grantedScopes)
    return missing.length === 0 ? undefined : explainMissing(missing, kept?.grant === 'device_code')
  }

  return {
    current: () => next(),
    instead: next,
    signedInElsewhere,
    lacking,
    settled: () => running.catch(() => undefined)
  }
}
