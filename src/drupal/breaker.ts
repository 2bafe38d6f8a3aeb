// Is it worth asking Drupal at all? Failures in a row open the breaker; after a pause one call probes and decides. It refuses to
// know what a failure is, and has no timer: time is read when somebody asks.

export type BreakerState = 'closed' | 'open' | 'half-open'

/** What `enter` hands out and `report` takes back: a probe decides, the others are only counted while the breaker is closed. */
export type Ticket = 'call' | 'probe'

export interface Breaker {
  /** A ticket, or undefined: refuse at once. */
  enter(): Ticket | undefined
  /** How the call went; `unknown` (the caller gave up) decides nothing and hands the probe on. */
  report(ticket: Ticket, outcome: 'success' | 'failure' | 'unknown'): void
  /** Milliseconds until it is worth asking again; 0 when `enter` would say yes. */
  waitMs(): number
  state(): BreakerState
}

/**
 * Makes a breaker that opens on `failures` in a row and stays open for `openMs`. `now` gives milliseconds; only differences
 * count. `onChange` hears of every change of state.
 */
export function createBreaker(options: {
  failures: number
  openMs: number
  now: () => number
  onChange?: ((state: BreakerState, before: BreakerState) => void) | undefined
}): Breaker {
  const { failures, openMs, now, onChange } = options
  let state: BreakerState = 'closed'
  let inARow = 0
  let openUntil = 0

  function become(next: BreakerState): void {
    const before = state
    state = next
    onChange?.(next, before)
  }

  return {
    enter() {
      if (state === 'closed') return 'call'
      if (state === 'half-open' || now() < openUntil) return undefined
      become('half-open')
      return 'probe'
    },
    report(ticket, outcome) {
      // Late answers of calls that began before the opening say nothing about now.
      if (ticket === 'call' && state !== 'closed') return
      if (ticket === 'probe' && outcome === 'unknown') {
        become('open')
      } else if (outcome === 'success') {
        inARow = 0
        if (ticket === 'probe') become('closed')
      } else if (outcome === 'failure') {
        inARow++
        // A probe that fails is one more: only a success begins to count anew.
        if (inARow >= failures) {
          openUntil = now() + openMs
          become('open')
        }
      }
    },
    waitMs() {
      if (state === 'closed') return 0
      return state === 'half-open' ? openMs : Math.max(0, openUntil - now())
    },
    state: () => state
  }
}
