// One document of the authorization server, kept: fresh for a while, fetched once at a time, stale while the server is down,
// up to a bound. It refuses to know what the document is.

export interface Kept<T> {
  /**
   * The document; rejects with what the last attempt threw when there is none young enough to serve. `waitMs` replaces retryMs for
   * a caller to whom the document matters more.
   */
  get(waitMs?: number): Promise<T>
  /** The document while it is fresh, without a wait. */
  fresh(): T | undefined
  /** What the last attempt threw; undefined when it succeeded. */
  failure(): unknown
  /** Fetches anew, together with an attempt that is already under way; the old document stays when it fails. */
  reload(): Promise<T>
}

interface Options<T> {
  load: () => Promise<T>
  /** Milliseconds; only differences count. */
  now: () => number
  ttlMs: number
  /** Time beyond the TTL that a document goes on serving when it cannot be fetched. */
  staleMs: number
  /** Least time between an attempt that failed and the next, so that a server in trouble is not hammered. */
  retryMs: number
  /** Told once when a known document cannot be fetched anew, with why, and once, without, when it can again. */
  outage?: (error?: unknown) => void
}

/** Keeps what `load` gives. Only the first caller after expiry waits for a server that is down: the next are served stale at once. */
export function keep<T>(options: Options<T>): Kept<T> {
  const { load, now, ttlMs, staleMs, retryMs, outage } = options
  let value: { document: T; loadedAt: number } | undefined
  let failed: { error: unknown; at: number } | undefined
  let pending: Promise<T> | undefined
  let isOut = false

  function tell(isNowOut: boolean, error?: unknown): void {
    if (isOut !== isNowOut) outage?.(error)
    isOut = isNowOut
  }

  function reload(): Promise<T> {
    pending ??= load()
      .then(
        document => {
          value = { document, loadedAt: now() }
          failed = undefined
          tell(false)
          return document
        },
        (error: unknown) => {
          failed = { error, at: now() }
          if (value !== undefined) tell(true, error)
          throw error
        }
      )
      .finally(() => {
        pending = undefined
      })
    return pending
  }

  const ageMs = () => (value === undefined ? Infinity : now() - value.loadedAt)

  async function get(waitMs = retryMs): Promise<T> {
    const age = ageMs()
    if (value !== undefined && age < ttlMs) return value.document
    const stale = value !== undefined && age < ttlMs + staleMs ? value : undefined
    if (failed !== undefined && now() - failed.at < waitMs) {
      if (stale === undefined) throw failed.error
      return stale.document
    }
    const attempt = reload()
    if (stale === undefined) return attempt
    // After a failure the next attempt runs beside the callers, not in front of them.
    if (failed !== undefined) {
      attempt.catch(() => {})
      return stale.document
    }
    return attempt.catch(() => stale.document)
  }

  return {
    get,
    fresh: () => (ageMs() < ttlMs ? value?.document : undefined),
    failure: () => failed?.error,
    reload
  }
}
