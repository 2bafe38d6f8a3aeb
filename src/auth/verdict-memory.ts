// Which verdicts are remembered, and how long each may be given again? Knows the modes of OAUTH_VALIDATION by what they forget; it
// refuses to judge.
import type { Config } from '../config/schema.ts'
import { createTokenCache, type TokenCache } from './token-cache.ts'
import type { Verdict } from './verdict.ts'

/** Times are milliseconds since epoch, where nothing else is said. */
interface Remembered {
  verdict: Verdict
  /** The verdict may be given again until then by the wall clock, which may be set back, */
  freshUntil: number
  /** and no longer than until then by the steady one. */
  steadyUntil: number
  /** The token counts as seen until then: mode `both` believes at first sight only. */
  seenUntil: number
}

type Accepted = Verdict & { ok: true }

export interface VerdictMemory {
  /** What may be given again; `seen`: judged before, and to be judged anew. */
  find(token: string): Verdict | 'seen' | undefined
  /** `expiresAt`: seconds, as signed; the server may have named an earlier end, which the principal has. Gives what counts. */
  accept(token: string, verdict: Accepted, expiresAt: number): Verdict
  /** The server said no to a token that was signed to live until `expiresAt` (seconds). */
  reject(token: string, verdict: Verdict, expiresAt: number): Verdict
  /** Drupal said no. */
  refuse(token: string, verdict: Verdict): void
  /** The token is forged, or nobody knows it: anybody can make such a one, so they are remembered apart. */
  rejectUnknown(token: string, verdict: Verdict): Verdict
}

/** How long a refusal that cost a key or a server is remembered: long enough to end a loop, short enough to heal. */
const refusedMs = 5000

/**
 * Three caches, so that a flood of forged tokens evicts neither a good verdict nor one of Drupal's. `now`: milliseconds since epoch;
 * `steady`: milliseconds, only differences count.
 */
export function createVerdictMemory(
  oauth: Config['oauth'],
  now: () => number,
  steady: () => number = () => performance.now()
): VerdictMemory {
  const { tokenCacheEntries: entries } = oauth
  const ttlMs = oauth.tokenCacheTtlSeconds * 1000
  const known = createTokenCache<Remembered>(entries, entries * 2048)
  const refused = createTokenCache<Remembered>(2000, 4_194_304)
  const forged = createTokenCache<Remembered>(1000, 2_097_152)
  const caches = [known, refused, forged]

  /** The last moment at which the signature of a token with this `exp` (seconds) is believed. */
  const endOfLife = (expiresAt: number) => (expiresAt + oauth.clockToleranceSeconds) * 1000

  function remember(
    cache: TokenCache<Remembered>,
    token: string,
    verdict: Verdict,
    freshUntil: number,
    seenUntil = freshUntil
  ): Verdict {
    const nowMs = now()
    const entry = {
      verdict: { ...verdict, source: 'cache' as const },
      freshUntil,
      steadyUntil: steady() + freshUntil - nowMs,
      seenUntil
    }
    cache.set(token, entry, seenUntil, nowMs)
    return verdict
  }

  const isFresh = (last: Remembered, nowMs: number) =>
    nowMs < last.freshUntil && steady() < last.steadyUntil

  /** In mode both a dead token counts as seen until its end, or it would be believed at first sight again. */
  function refuseUntil(token: string, verdict: Verdict, endMs: number): Verdict {
    const freshUntil = now() + refusedMs
    const seenUntil = oauth.validation === 'both' ? Math.max(freshUntil, endMs) : freshUntil
    known.delete(token)
    return remember(refused, token, verdict, freshUntil, seenUntil)
  }

  return {
    find(token) {
      const nowMs = now()
      let seen: 'seen' | undefined
      for (const cache of caches) {
        const last = cache.get(token, nowMs)
        if (last === undefined) continue
        if (isFresh(last, nowMs)) return last.verdict
        seen = 'seen'
      }
      return seen
    },

    accept(token, verdict, expiresAt) {
      const nowMs = now()
      // Drupal may have refused the token while it was being judged.
      const last = refused.get(token, nowMs)
      if (last !== undefined && isFresh(last, nowMs)) return last.verdict
      const freshUntil = Math.min(verdict.principal.expiresAt * 1000, nowMs + ttlMs)
      const seenUntil = oauth.validation === 'both' ? endOfLife(expiresAt) : freshUntil
      return remember(known, token, verdict, freshUntil, seenUntil)
    },

    reject: (token, verdict, expiresAt) => refuseUntil(token, verdict, endOfLife(expiresAt)),

    refuse(token, verdict) {
      const nowMs = now()
      // Calls at the same time may all be refused: the second must not shorten what the first remembered.
      const last = known.get(token, nowMs) ?? refused.get(token, nowMs)
      refuseUntil(token, verdict, last?.seenUntil ?? nowMs + refusedMs + ttlMs)
    },

    rejectUnknown: (token, verdict) => remember(forged, token, verdict, now() + refusedMs)
  }
}
