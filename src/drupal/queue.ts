// Who may work in Drupal now, who waits, who is turned away: a bounded, fair queue. It refuses to know what the work is.
// Fair means three things: free places go round the users that wait, not to the longest line; one user alone never
// holds every place (from four places on); and when the queue is full the longest line loses its last waiter to a shorter one.
import { gatewayError } from '../errors.ts'
import type { Signal } from './exchange.ts'

export interface QueueOptions {
  /** Most that work at once. */
  maxActive: number
  /** Most that wait. */
  maxQueue: number
  /** Longest wait in milliseconds. */
  timeoutMs: number
}

export interface FairQueue {
  /**
   * Takes a place for `key`. Undefined: the place is taken at once. A promise: it resolves when a place is taken, rejects with
   * GW_OVERLOADED (full, or waited too long) or with the signal's reason. Whoever holds a place calls `leave(key)` exactly once.
   */
  enter(key: string, signal?: Signal): Promise<void> | undefined
  leave(key: string): void
  stats(): { active: number; queued: number }
}

interface Waiter {
  admit: () => void
  refuse: (error: unknown) => void
}

/** What one user has at work and in line. */
interface Lane {
  active: number
  waiting: Waiter[]
}

/** More idle lanes than this are dropped together. */
const maxIdle = 1000

const isIdle = (lane: Lane) => lane.active === 0 && lane.waiting.length === 0

/** Makes a queue. Timers run only while somebody waits. */
export function createFairQueue(options: QueueOptions): FairQueue {
  const { maxActive, maxQueue, timeoutMs } = options
  const perLane = maxActive < 4 ? maxActive : maxActive - Math.max(1, maxActive >> 3)
  const retryAfterSeconds = Math.max(1, Math.ceil(timeoutMs / 1000))
  // Idle lanes stay until there are many, and the lines are arrays: a Map or Set that is set and deleted with each call keeps
  // what hung on it (see roster.ts).
  let lanes = new Map<string, Lane>()
  let idle = 0
  // The lanes with waiters, in the order of their next turn.
  const turns: Lane[] = []
  let active = 0
  let queued = 0

  function overloaded(why: 'full' | 'timeout') {
    const reason = why === 'full' ? 'the queue is full' : 'waited too long for a free place'
    return gatewayError('GW_OVERLOADED', { reason, retryAfterSeconds })
  }

  function laneOf(key: string): Lane {
    const known = lanes.get(key)
    if (known !== undefined) {
      if (isIdle(known)) idle--
      return known
    }
    const lane: Lane = { active: 0, waiting: [] }
    lanes.set(key, lane)
    return lane
  }

  function rest(lane: Lane): void {
    if (!isIdle(lane) || ++idle <= maxIdle) return
    lanes = new Map([...lanes].filter(([, each]) => !isIdle(each)))
    idle = 0
  }

  function take(lane: Lane): void {
    active++
    lane.active++
  }

  /** Takes a waiter out of its line. */
  function remove(lane: Lane, waiter: Waiter): void {
    lane.waiting.splice(lane.waiting.indexOf(waiter), 1)
    queued--
    if (lane.waiting.length === 0) turns.splice(turns.indexOf(lane), 1)
    rest(lane)
  }

  function admitNext(): void {
    while (active < maxActive) {
      const lane = turns.find(each => each.active < perLane)
      if (lane === undefined) return
      const [waiter] = lane.waiting as [Waiter]
      take(lane)
      remove(lane, waiter)
      // To the end of the round.
      if (lane.waiting.length > 0) turns.push(...turns.splice(turns.indexOf(lane), 1))
      waiter.admit()
    }
  }

  /** A full queue: the last of the longest line goes, unless `length` (the newcomer's line) is about as long. */
  function makeRoom(length: number): boolean {
    let longest: Lane | undefined
    for (const lane of turns) {
      if (longest === undefined || lane.waiting.length > longest.waiting.length) longest = lane
    }
    if (longest === undefined || longest.waiting.length <= length + 1) return false
    const last = longest.waiting.at(-1) as Waiter
    remove(longest, last)
    last.refuse(overloaded('full'))
    return true
  }

  function wait(lane: Lane, signal: Signal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = () => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', onAbort)
      }
      const waiter: Waiter = {
        admit() {
          settle()
          resolve()
        },
        refuse(error) {
          settle()
          reject(error as Error)
        }
      }
      const onAbort = () => {
        remove(lane, waiter)
        waiter.refuse((signal as Signal).reason)
      }
      const timer = setTimeout(() => {
        remove(lane, waiter)
        waiter.refuse(overloaded('timeout'))
      }, timeoutMs)
      signal?.addEventListener('abort', onAbort)
      queued++
      if (lane.waiting.push(waiter) === 1) turns.push(lane)
    })
  }

  return {
    enter(key, signal) {
      if (signal?.aborted) return Promise.reject(signal.reason as Error)
      const known = lanes.get(key)
      const mayWork =
        active < maxActive &&
        (known === undefined || (known.active < perLane && known.waiting.length === 0))
      const length = known?.waiting.length ?? 0
      if (!mayWork && queued >= maxQueue && !makeRoom(length)) {
        return Promise.reject(overloaded('full'))
      }
      const lane = laneOf(key)
      if (!mayWork) return wait(lane, signal)
      take(lane)
      return undefined
    },
    leave(key) {
      const lane = lanes.get(key)
      if (lane === undefined || lane.active === 0) throw new Error('leave without enter')
      active--
      lane.active--
      rest(lane)
      admitNext()
    },
    stats: () => ({ active, queued })
  }
}
