// Remembers budgets and tombstones inside this process: the store of a single replica, and what budgets fall back to when
// Redis is gone. It knows nothing of sessions or limits, only of keys, units and time.
import { LRUCache } from 'lru-cache'
import type { Draw, Store, Taken } from './store.ts'

export interface MemoryStoreOptions {
  /** Most budgets and, apart from them, most values; default 50,000 each. The least recently used go first. */
  maxEntries?: number
  /** Milliseconds; only differences count. Default: the monotonic clock, so that a clock step opens no budget. */
  now?: () => number
}

/** The contract without promises: what this process knows, it knows at once. */
export interface MemoryStore extends Store {
  take(draws: readonly Draw[]): Taken[]
  put(key: string, value: string, ttlMs: number): void
  claim(key: string, value: string, ttlMs: number): string
  get(key: string): string | undefined
}

/** Makes an empty store. Windows are fixed: the first draw opens one, it ends `windowMs` later whatever happens in it. */
export function createMemoryStore(options: MemoryStoreOptions = {}): MemoryStore {
  const { maxEntries = 50_000, now = () => performance.now() } = options
  // Two caches: budget keys come with every caller, and a flood of them must not push out a tombstone.
  const budgets = new LRUCache<string, { used: number; endsAt: number }>({ max: maxEntries })
  const values = new LRUCache<string, { value: string; endsAt: number }>({ max: maxEntries })

  function openBudget(key: string, time: number) {
    const budget = budgets.get(key)
    return budget !== undefined && budget.endsAt > time ? budget : undefined
  }

  function put(key: string, value: string, ttlMs: number) {
    values.set(key, { value, endsAt: now() + ttlMs })
  }

  function get(key: string) {
    const entry = values.get(key)
    if (entry === undefined) return undefined
    if (entry.endsAt > now()) return entry.value
    values.delete(key)
    return undefined
  }

  return {
    take(draws) {
      const time = now()
      const open = []
      let isDrawn = true
      for (const { key, cost, max } of draws) {
        const budget = openBudget(key, time)
        if ((budget?.used ?? 0) + cost > max) isDrawn = false
        open.push(budget)
      }
      const taken: Taken[] = []
      for (let at = 0; at < draws.length; at++) {
        const { key, cost, windowMs } = draws[at] as Draw
        let budget = open[at]
        if (isDrawn && cost > 0) {
          if (budget === undefined) {
            budget = { used: 0, endsAt: time + windowMs }
            budgets.set(key, budget)
          }
          budget.used += cost
        }
        // The clock has fractions: a hair more than a minute would be told as 61 seconds.
        const resetMs = Math.min(windowMs, (budget?.endsAt ?? Infinity) - time)
        taken.push({ isDrawn, used: budget?.used ?? 0, resetMs })
      }
      return taken
    },
    put,
    claim(key, value, ttlMs) {
      const known = get(key)
      if (known === undefined) put(key, value, ttlMs)
      return known ?? value
    },
    get,
    async check() {},
    async close() {
      budgets.clear()
      values.clear()
    }
  }
}
