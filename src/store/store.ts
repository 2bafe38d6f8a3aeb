// The contract of what must outlive a request and may be shared by replicas: budgets and tombstones. Six methods, so that
// memory and Redis are held to one suite (test/store/contract.test.ts).

/** The state of a budget after a draw. */
export interface Taken {
  /** Units drawn in the current window, this draw included. */
  used: number
  /** Milliseconds until the window ends. */
  resetMs: number
}

export interface Store {
  /** Draws `cost` units from the budget `key` whose window lasts `windowMs`; a cost of 0 only reads. Fixed windows. */
  take(key: string, cost: number, windowMs: number): Taken | Promise<Taken>
  /** Remembers `value` under `key` for `ttlMs`. */
  put(key: string, value: string, ttlMs: number): void | Promise<void>
  /**
   * Remembers `value` under `key` for `ttlMs` where nothing is remembered yet, and answers what is remembered then: of several who
   * claim at the same moment, on whichever replica, all are told the same one. Rejects with GW_STORE_UNAVAILABLE.
   */
  claim(key: string, value: string, ttlMs: number): string | Promise<string>
  /** The value, or undefined. Rejects with GW_STORE_UNAVAILABLE when it cannot be known: callers fail closed. */
  get(key: string): string | undefined | Promise<string | undefined>
  /** Resolves when the store answers; rejects with the reason when not. */
  check(): Promise<void>
  close(): Promise<void>
}
