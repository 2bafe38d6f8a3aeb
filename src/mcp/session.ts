// Whose session is this? A session id is the session: its state, sealed with AES-256-GCM, so that any replica opens it after any
// restart. Only three things are remembered: its end (a tombstone), whose one is that was begun without a token, and an upstream
// session that had to be opened anew. Legacy era only.
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { gatewayError } from '../errors.ts'
import type { Store } from '../store/store.ts'
import type { SessionState } from './call.ts'

export interface SessionOptions {
  /** The first seals, all open: rotate by putting the new one in front. */
  secrets: readonly string[]
  /** Seconds from issue to the absolute end of a session. */
  lifetimeSeconds: number
  store: Store
  events?: { opened?(): void; ended?(): void }
  /** Milliseconds since epoch. */
  now?: () => number
  /** How many opened ids are kept to save decrypting them again. */
  cacheSize?: number
}

export interface Sessions {
  /** A new session and its id: 0x21–0x7E only (R24), unguessable (R23, R94). Throws GW_UPSTREAM_INVALID for a huge upstream id. */
  seal(state: Omit<SessionState, 'id' | 'issuedAt'>): { sealed: string; state: SessionState }
  /**
   * The session, or undefined: tampered, expired, of another principal, ended and never issued look the same (R26, R93).
   * An anonymous caller's key is ''. A session begun by one becomes that of the first principal who opens it, because clients that
   * sign in on the way keep their id (R27); from then on it is no other's.
   * Rejects with GW_STORE_UNAVAILABLE when it cannot be known whether it was ended, or whose it is. A principal's own opens at
   * once where the store answers at once.
   */
  open(
    sealed: string,
    principalKey: string
  ): SessionState | undefined | Promise<SessionState | undefined>
  /** A session for one request of a client that sends no id. */
  single(principalKey: string, version: string): SessionState
  /** Ends it for every replica until it would have expired anyway (R28). */
  end(state: SessionState): void | Promise<void>
  /** The upstream's session id as of now: the one that was moved to, else the sealed one. */
  upstreamOf(state: SessionState): string | undefined | Promise<string | undefined>
  /** Remembers that the upstream session was opened anew: the id that the client holds cannot change. */
  moveUpstream(state: SessionState, upstream: string): void | Promise<void>
}

type Payload = [id: string, principal: string, version: string, upstream: string, issuedAt: number]

const maxLength = 1024
const nonceLength = 12
const tagLength = 16
/** Replicas' clocks may differ by this: a tombstone outlives its session on each of them. */
const skewSeconds = 60

/** Seals and opens session ids. Keys are derived once, here. */
export function createSessions(options: SessionOptions): Sessions {
  const { lifetimeSeconds, store, events, now = Date.now, cacheSize = 16_384 } = options
  const secrets = options.secrets.map(deriveKey)
  const sealingKey = secrets[0]
  if (sealingKey === undefined) throw new Error('createSessions needs at least one secret')
  // Measured: saves 6 µs of decryption a call. Tombstone, principal and expiry are looked at every time all the same.
  const opened = new LRUCache<string, SessionState>({ max: cacheSize })

  const adoptions = new WeakMap<SessionState, SessionState>()

  // Joined on each call, a key is hashed on each call: ten times the price of the look-up (measured).
  const keys = new WeakMap<SessionState, { ended: string; owner: string; upstream: string }>()
  function keysOf(state: SessionState) {
    let names = keys.get(state)
    if (names === undefined) {
      const { id, isAdopted } = state
      names = {
        ended: `session-ended:${id}`,
        owner: `session-owner:${id}`,
        upstream: isAdopted ? `session-upstream:${id}:owner` : `session-upstream:${id}`
      }
      keys.set(state, names)
    }
    return names
  }

  const remainingMs = (state: SessionState) =>
    Math.max(0, (state.issuedAt + lifetimeSeconds + skewSeconds) * 1000 - now())

  const identity = () => ({
    id: randomBytes(16).toString('base64url'),
    issuedAt: Math.floor(now() / 1000)
  })

  async function openAnonymous(state: SessionState, principalKey: string) {
    const { ended, owner } = keysOf(state)
    const [tombstone, key] = await Promise.all([store.get(ended), store.get(owner)])
    if (tombstone !== undefined) return undefined
    if (principalKey === '') return key === undefined ? state : undefined
    const first = key ?? (await store.claim(owner, principalKey, remainingMs(state)))
    return first === principalKey ? adopted(state) : undefined
  }

  /** What its owner holds: what was opened for nobody in the upstream stays nobody's (R31). */
  function adopted(state: SessionState): SessionState {
    if (state.upstream === undefined) return state
    let own = adoptions.get(state)
    if (own === undefined) {
      own = { ...state, isAdopted: true }
      adoptions.set(state, own)
    }
    return own
  }

  return {
    single: (principal, version) => ({
      ...identity(),
      principal,
      version,
      upstream: undefined,
      isSingle: true
    }),
    seal(fields) {
      const state = { ...fields, ...identity() }
      const sealed = encrypt(sealingKey, state)
      if (sealed.length > maxLength)
        throw gatewayError('GW_UPSTREAM_INVALID', { reason: 'the upstream session id is too long' })
      events?.opened?.()
      return { sealed, state }
    },
    open(sealed, principalKey) {
      if (sealed.length > maxLength) return undefined
      let state = opened.get(sealed)
      if (state === undefined) {
        state = decrypt(secrets, sealed)
        if (state === undefined) return undefined
        opened.set(sealed, state)
      }
      if (now() / 1000 >= state.issuedAt + lifetimeSeconds) return undefined
      if (state.principal === '') return openAnonymous(state, principalKey)
      if (state.principal !== principalKey) return undefined
      const ended = store.get(keysOf(state).ended)
      if (ended instanceof Promise) return ended.then(value => ifAlive(state, value))
      return ifAlive(state, ended)
    },
    end(state) {
      events?.ended?.()
      return store.put(keysOf(state).ended, '1', remainingMs(state))
    },
    upstreamOf(state) {
      const moved = store.get(keysOf(state).upstream)
      if (moved instanceof Promise) return moved.then(value => value ?? state.upstream)
      return moved ?? state.upstream
    },
    moveUpstream: (state, upstream) =>
      store.put(keysOf(state).upstream, upstream, remainingMs(state))
  }
}

const ifAlive = (state: SessionState, tombstone: string | undefined) =>
  tombstone === undefined ? state : undefined

function deriveKey(secret: string): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, '', 'drupal-mcp-gateway session id v1', 32))
}

function encrypt(key: Buffer, state: SessionState): string {
  const payload: Payload = [
    state.id,
    state.principal,
    state.version,
    state.upstream ?? '',
    state.issuedAt
  ]
  const nonce = randomBytes(nonceLength)
  const cipher = createCipheriv('aes-256-gcm', key, nonce)
  const body = cipher.update(JSON.stringify(payload))
  return Buffer.concat([nonce, body, cipher.final(), cipher.getAuthTag()]).toString('base64url')
}

function decrypt(keys: readonly Buffer[], sealed: string): SessionState | undefined {
  const bytes = Buffer.from(sealed, 'base64url')
  // Buffer's decoder skips what it does not know and drops spare bits: only the one canonical spelling is an id.
  if (bytes.length <= nonceLength + tagLength || bytes.toString('base64url') !== sealed)
    return undefined
  const nonce = bytes.subarray(0, nonceLength)
  const body = bytes.subarray(nonceLength, -tagLength)
  const tag = bytes.subarray(-tagLength)
  for (const key of keys) {
    const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: tagLength })
    decipher.setAuthTag(tag)
    const text = decipher.update(body, undefined, 'utf8')
    try {
      decipher.final()
    } catch {
      continue
    }
    const [id, principal, version, upstream, issuedAt] = JSON.parse(text) as Payload
    return { id, principal, version, upstream: upstream || undefined, issuedAt }
  }
  return undefined
}
