// What is asked of Drupal for one caller, kept per principal and scopes for a short time, one request at a time for the same
// question. One caller's answer is never another's (R65). It refuses to know what is asked.
import { LRUCache } from 'lru-cache'
import type { Principal } from '../auth/principal.ts'
import { MAX_LISTED } from './distinct-lists.ts'

const MAX_CALLERS = 10_000

export interface CallerMemory<T> {
  /** What is kept, else asked for; `isFresh`: asked for whatever is kept. What failed is not kept. */
  get(
    principal: Principal | undefined,
    token: string | undefined,
    isFresh?: boolean
  ): T | Promise<T>
  /** Keeps what came by itself. */
  keep(principal: Principal | undefined, value: T): void
}

/** Gives a memory of what `ask` answers, per principal and scopes; `get` rejects as `ask` does (R65). */
export function createCallerMemory<T extends object>(options: {
  ask: (principal: Principal | undefined, token: string | undefined) => Promise<T>
  /** Seconds; 0 keeps nothing. */
  ttlSeconds: number
  /** Milliseconds; only differences count. */
  now: () => number
  /** How much a value takes, by whatever measure its bound has; callers may share one. */
  sizeOf: (value: T) => number
  /** Of all values together; beyond it the least recently used callers are forgotten. Default: MAX_LISTED. */
  maxSize?: number
}): CallerMemory<T> {
  const { ask, now, sizeOf, maxSize = MAX_LISTED } = options
  const ttlMs = options.ttlSeconds * 1000
  // Values and not promises: each call looks twice, and waiting for what is there costs it 5 % (measured).
  const kept = new LRUCache<string, { value: T; until: number }>({
    max: MAX_CALLERS,
    dispose: ({ value }) => letGo(value)
  })
  // By how many callers each value is held: shared, it takes its size once.
  const holders = new Map<T, number>()
  let size = 0
  // The verifier hands out the same Principal for the same token.
  const keys = new WeakMap<Principal, string>()
  const asking = new Map<string, Promise<T>>()

  function keyOf(principal: Principal | undefined): string {
    if (principal === undefined) return ''
    let key = keys.get(principal)
    if (key === undefined) {
      key = `${principal.key} ${[...principal.scopes].sort().join(' ')}`
      keys.set(principal, key)
    }
    return key
  }

  /** Else each would be held until MAX_CALLERS others have come: of 1,000 tools half a megabyte (measured). */
  function forgetOld(): void {
    for (const key of kept.rkeys()) {
      if (now() < (kept.peek(key)?.until ?? 0)) return
      kept.delete(key)
    }
  }

  function hold(value: T): void {
    const count = holders.get(value) ?? 0
    holders.set(value, count + 1)
    if (count === 0) size += sizeOf(value)
  }

  function letGo(value: T): void {
    const count = holders.get(value) as number
    if (count > 1) {
      holders.set(value, count - 1)
      return
    }
    holders.delete(value)
    size -= sizeOf(value)
  }

  function keep(key: string, value: T): void {
    if (ttlMs === 0) return
    forgetOld()
    hold(value)
    kept.set(key, { value, until: now() + ttlMs })
    while (size > maxSize && kept.size > 0) kept.pop()
  }

  return {
    get(principal, token, isFresh = false) {
      const key = keyOf(principal)
      const entry = kept.get(key)
      if (!isFresh && entry !== undefined && now() < entry.until) return entry.value

      // By token: should one token be revoked, its refusal is not the answer to another token of the same principal.
      const question = `${key} ${token ?? ''}`
      let answer = asking.get(question)
      if (answer === undefined) {
        answer = ask(principal, token)
        asking.set(question, answer)
        answer.then(
          value => {
            asking.delete(question)
            keep(key, value)
          },
          () => asking.delete(question)
        )
      }
      return answer
    },
    keep: (principal, value) => keep(keyOf(principal), value)
  }
}
