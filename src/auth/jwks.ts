// Did a key of this issuer sign this token? Keeps each server's JWK set and knows when fetching it again may help. It refuses
// to know what the token says. jose's remote set is not used: it cannot serve stale keys, and takes a bad signature as final,
// while Drupal replaces its one key, which has no kid.
import { createPublicKey, type JsonWebKey } from 'node:crypto'
import {
  type CompactVerifyGetKey,
  compactVerify,
  createLocalJWKSet,
  decodeProtectedHeader,
  errors,
  type JWK
} from 'jose'
import type { Config } from '../config/schema.ts'
import { type GatewayError, gatewayError } from '../errors.ts'
import type { JsonObject, Refusal } from './claims.ts'
import { type AuthorizationServer, type Discovery, unavailable } from './discovery.ts'
import type { VerifierEvents } from './events.ts'
import { type Fetch, FetchFailure, fetchJson } from './fetch-json.ts'
import { algorithmNames } from './jwt.ts'
import { keep, type Kept } from './kept.ts'
import { type LastSigner, lastSigner } from './last-signer.ts'
import { readPinnedKey } from './pinned-key.ts'

export interface Keys {
  /** True when the issuer is accepted and the key that signed its last token, still among its keys, signed this one too. Asks nobody; false says nothing. */
  recognizes(issuer: string, token: string, header: JsonObject): boolean
  /** Undefined when a key of the accepted issuer signed the token; else why not. Rejects with GW_AUTHORIZATION_SERVER_UNAVAILABLE when no keys can be had. */
  check(issuer: string, token: string): Promise<Refusal | undefined>
  /** Rejects with GW_AUTHORIZATION_SERVER_UNAVAILABLE while the first server's keys cannot be had, not even old ones; its hint is for the operator. */
  ready(): Promise<void>
}

interface KeySet {
  resolve: CompactVerifyGetKey
  /** No key has a kid: a bad signature may then mean a new key, as it may when the token names none. */
  anonymous: boolean
  lastSigner: LastSigner | undefined
}

interface ServerKeys {
  kept: Kept<KeySet>
  /** The last fetch that a token asked for. */
  forced: { at: number; done: Promise<unknown> } | undefined
}

interface Options {
  config: Config
  discovery: Discovery
  fetch: Fetch
  /** Milliseconds; only differences count. */
  now: () => number
  events?: VerifierEvents
}

const oidcIsOff =
  'in Drupal, OpenID Connect is switched off in the settings of Simple OAuth. Switch it on, or set OAUTH_PUBLIC_KEY_FILE'

/** A token is tried with every key that fits: a set of thousands would turn one bad token into work for all. */
export const maxKeys = 32

/** Keeps the keys of every accepted issuer; throws at once when a pinned key file is not usable. */
export function createKeys({ config, discovery, fetch, now, events = {} }: Options): Keys {
  const { oauth } = config
  const algorithms = algorithmNames(oauth.algorithms)
  const pinned = oauth.publicKeyFile === '' ? undefined : keySet(readPinnedKey(oauth.publicKeyFile))
  const servers = new Map<string, ServerKeys>()

  async function load(issuer: string): Promise<KeySet> {
    try {
      const set = await fetchKeys(await discovery.serverOf(issuer))
      events.keyRefresh?.('ok')
      return set
    } catch (error) {
      events.keyRefresh?.('failed')
      events.asFailure?.('keys')
      throw error
    }
  }

  async function fetchKeys({ issuer, jwksUri, document }: AuthorizationServer): Promise<KeySet> {
    if (jwksUri === undefined) {
      throw unavailable(
        `${issuer} names no usable jwks_uri (${JSON.stringify(document['jwks_uri'])}): set OAUTH_PUBLIC_KEY_FILE`
      )
    }
    try {
      return keySet(
        await fetchJson({ fetch, url: jwksUri, timeoutMs: oauth.timeoutSeconds * 1000 })
      )
    } catch (error) {
      if (!(error instanceof FetchFailure)) {
        throw unavailable(`${jwksUri}: ${(error as Error).message}`, error)
      }
      const hint = error.status === 404 ? ` although the metadata names it: ${oidcIsOff}` : ''
      throw unavailable(error.message + hint, error)
    }
  }

  function serverKeys(issuer: string): ServerKeys {
    let server = servers.get(issuer)
    if (server === undefined) {
      const kept = keep({
        now,
        load: () => load(issuer),
        ttlMs: oauth.discoveryCacheTtlSeconds * 1000,
        staleMs: oauth.staleSeconds * 1000,
        retryMs: 1000,
        outage: error => events.outage?.('keys', error)
      })
      server = { kept, forced: undefined }
      servers.set(issuer, server)
    }
    return server
  }

  /** Fetches the keys anew because a token asks for it: once per cooldown, shared by all who ask meanwhile. Never rejects. */
  function renew(server: ServerKeys): Promise<unknown> {
    const { forced } = server
    if (forced !== undefined && now() - forced.at < oauth.keyCooldownSeconds * 1000)
      return forced.done
    const done = server.kept.reload().catch(() => undefined)
    server.forced = { at: now(), done }
    return done
  }

  async function check(issuer: string, token: string): Promise<Refusal | undefined> {
    if (pinned !== undefined) return tryKeys(pinned, token, algorithms)
    const { issuer: signer } = await discovery.serverOf(issuer)
    const refusal = await checkBy(signer, token)
    if (refusal === undefined || signer === issuer) return refusal
    // The first server stood in for another, whose keys may be the right ones.
    const own = await discovery.ownServerOf(issuer)
    return own === undefined ? refusal : checkBy(own.issuer, token)
  }

  async function checkBy(signer: string, token: string): Promise<Refusal | undefined> {
    const server = serverKeys(signer)
    const known = await server.kept.get()
    const refusal = await tryKeys(known, token, algorithms)
    if (refusal === undefined) return undefined
    if (refusal.reason === 'signature' && !known.anonymous && namesItsKey(token)) return refusal
    await renew(server)
    // What is kept, not what that fetch gave: within a long cooldown it may be older than what was known.
    const fresh = await server.kept.get()
    if (fresh !== known) return tryKeys(fresh, token, algorithms)
    // A key that could not be fetched may have signed it: with 401 its owner would throw a good token away.
    const failure = server.kept.failure()
    if (refusal.reason === 'unknown-key' && failure !== undefined) throw failure
    return refusal
  }

  async function ready(): Promise<void> {
    if (pinned !== undefined) return
    const { issuer } = await discovery.metadata()
    await serverKeys(issuer)
      .kept.get()
      .catch((error: GatewayError) => {
        const { code, reason = '' } = error
        throw gatewayError(code, { reason, hint: advice(error.cause) })
      })
  }

  return {
    check,
    recognizes(issuer, token, header) {
      if (!discovery.acceptsUnasked(issuer)) return false
      const set = pinned ?? servers.get(issuer)?.kept.fresh()
      return set?.lastSigner?.signed(token, header) ?? false
    },
    ready
  }
}

/** What an operator may read at /readyz: no address. */
function advice(cause: unknown): string {
  return cause instanceof FetchFailure && cause.status === 404
    ? `Its signing keys cannot be had: they are missing (404) although its metadata name them; ${oidcIsOff}.`
    : 'Its signing keys cannot be had; the log says why.'
}

const namesItsKey = (token: string) => decodeProtectedHeader(token).kid !== undefined

/** Undefined when a key of this JWK set signed the token; else why not. Throws when the set is none. */
export async function checkSignature(
  document: Record<string, unknown>,
  token: string,
  algorithms: readonly string[]
): Promise<Refusal | undefined> {
  return tryKeys(keySet(document), token, algorithmNames(algorithms))
}

/** Makes a set of fetched keys usable. Throws when it is none. A set without any kid ignores the kid of a token. */
function keySet(document: Record<string, unknown>): KeySet {
  const list = document['keys']
  if (!Array.isArray(list) || list.length === 0 || list.length > maxKeys) {
    throw new Error(`the key set must hold 1 to ${maxKeys} keys`)
  }
  const keys = list.map(withoutNulls).filter(isPublicKey)
  if (keys.length === 0) throw new Error('the key set holds no key that can be used')
  const local = createLocalJWKSet({ keys })
  const anonymous = keys.every(key => key.kid === undefined)
  return {
    resolve: anonymous ? ({ alg }) => local({ alg }) : local,
    anonymous,
    lastSigner: undefined
  }
}

/** PHP writes a member that it has nothing for as null. */
function withoutNulls(jwk: unknown): unknown {
  if (typeof jwk !== 'object' || jwk === null) return jwk
  return Object.fromEntries(Object.entries(jwk).filter(([, value]) => value !== null))
}

/** RFC 7517 §5: what is no key, or one that nobody here can read, is passed over; the rest of the set counts. */
function isPublicKey(jwk: unknown): jwk is JWK {
  try {
    createPublicKey({ key: jwk as JsonWebKey, format: 'jwk' })
    return true
  } catch {
    return false
  }
}

async function tryKeys(
  set: KeySet,
  token: string,
  algorithms: string[]
): Promise<Refusal | undefined> {
  try {
    const { protectedHeader, key } = await compactVerify(token, set.resolve, { algorithms })
    set.lastSigner = lastSigner(protectedHeader, key)
    return undefined
  } catch (error) {
    if (error instanceof errors.JWKSNoMatchingKey) {
      return { reason: 'unknown-key', detail: 'no key of the issuer fits the token' }
    }
    if (error instanceof errors.JWKSMultipleMatchingKeys) {
      for await (const key of error) {
        const verified = await compactVerify(token, key, { algorithms }).catch(() => undefined)
        if (verified !== undefined) {
          set.lastSigner = lastSigner(verified.protectedHeader, key)
          return undefined
        }
      }
    }
    return { reason: 'signature', detail: (error as { code?: string }).code ?? 'unusable key' }
  }
}
