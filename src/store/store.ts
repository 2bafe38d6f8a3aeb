// The contract of what must outlive a request and may be shared by replicas: budgets and tombstones. Six methods, so that
// memory and Redis are held to one suite (test/store/contract.test.ts).

/** What is wanted of one budget. */
export interface Draw {
  key: string
  /** Units; 0 only reads. */
  cost: number
  /** The most units of one window. */
  max: number
  windowMs: number
}

/** The state of a budget after a draw. */
export interface Taken {
  /** Whether this draw was made, and all that were asked for with it. */
  isDrawn: boolean
  /** Units drawn in the current window, with this draw where it was made. */
  used: number
  /** Milliseconds until the window ends. */
  resetMs: number
}

export interface Store {
  /**
   * Makes all of the draws, or none where one of them would go beyond its budget: who is refused for one budget uses up no other.
   * Fixed windows; the keys are distinct.
   */
  take(draws: readonly Draw[]): Taken[] | Promise<Taken[]>
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
