// Who may work in Drupal now, who waits, who is turned away: a bounded, fair queue. It refuses to know what the work is.
// Fair means three things: free places go round the principals that wait, not to the longest line; one principal alone never
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
  /** Called when somebody is turned away. */
  onShed?: ((why: 'full' | 'timeout') => void) | undefined
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

interface Lane {
  active: number
  waiting: Set<Waiter>
}

/** Makes a queue. Timers run only while somebody waits. */
export function createFairQueue(options: QueueOptions): FairQueue {
  const { maxActive, maxQueue, timeoutMs } = options
  const perPrincipal = maxActive < 4 ? maxActive : maxActive - Math.max(1, maxActive >> 3)
  const retryAfterSeconds = Math.max(1, Math.ceil(timeoutMs / 1000))
  const lanes = new Map<string, Lane>()
  // The lanes with waiters, in the order of their next turn.
  const turns = new Map<string, Lane>()
  let active = 0
  let queued = 0

  function overloaded(why: 'full' | 'timeout') {
    options.onShed?.(why)
    const reason = why === 'full' ? 'the queue is full' : 'waited too long for a free place'
    return gatewayError('GW_OVERLOADED', { reason, retryAfterSeconds })
  }

  function take(lane: Lane): void {
    active++
    lane.active++
  }

  /** Takes a waiter out of its line. */
  function remove(key: string, lane: Lane, waiter: Waiter): void {
    lane.waiting.delete(waiter)
    queued--
    if (lane.waiting.size === 0) turns.delete(key)
    if (lane.active === 0 && lane.waiting.size === 0) lanes.delete(key)
  }

  function admitNext(): void {
    while (active < maxActive && turns.size > 0) {
      let found: [string, Lane] | undefined
      for (const turn of turns) {
        if (turn[1].active < perPrincipal) {
          found = turn
          break
        }
      }
      if (found === undefined) return
      const [key, lane] = found
      const waiter = lane.waiting.values().next().value as Waiter
      take(lane)
      remove(key, lane, waiter)
      // To the end of the round.
      if (turns.delete(key)) turns.set(key, lane)
      waiter.admit()
    }
  }

  /** A full queue: the last of the longest line goes, unless `length` (the newcomer's line) is about as long. */
  function makeRoom(length: number): boolean {
    let longest: [string, Lane] | undefined
    for (const turn of turns) {
      if (longest === undefined || turn[1].waiting.size > longest[1].waiting.size) longest = turn
    }
    if (longest === undefined || longest[1].waiting.size <= length + 1) return false
    const last = [...longest[1].waiting].at(-1) as Waiter
    remove(longest[0], longest[1], last)
    last.refuse(overloaded('full'))
    return true
  }

  function wait(key: string, lane: Lane, signal: Signal | undefined): Promise<void> {
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
        remove(key, lane, waiter)
        waiter.refuse((signal as Signal).reason)
      }
      const timer = setTimeout(() => {
        remove(key, lane, waiter)
        waiter.refuse(overloaded('timeout'))
      }, timeoutMs)
      signal?.addEventListener('abort', onAbort)
      queued++
      lane.waiting.add(waiter)
      turns.set(key, lane)
    })
  }

  return {
    enter(key, signal) {
      if (signal?.aborted) return Promise.reject(signal.reason as Error)
      let lane = lanes.get(key)
      const mayWork =
        active < maxActive &&
        (lane === undefined || (lane.active < perPrincipal && lane.waiting.size === 0))
      if (!mayWork && queued >= maxQueue && !makeRoom(lane?.waiting.size ?? 0)) {
        return Promise.reject(overloaded('full'))
      }
      if (lane === undefined) {
        lane = { active: 0, waiting: new Set() }
        lanes.set(key, lane)
      }
      if (!mayWork) return wait(key, lane, signal)
      take(lane)
      return undefined
    },
    leave(key) {
      const lane = lanes.get(key)
      if (lane === undefined || lane.active === 0) throw new Error('leave without enter')
      active--
      lane.active--
      if (lane.active === 0 && lane.waiting.size === 0) lanes.delete(key)
      admitNext()
    },
    stats: () => ({ active, queued })
  }
}
