// The connections to Drupal and what protects it: never more calls at work than its workers can take, fairly shared; a breaker
// that stops asking when it is down. It refuses to know what is asked and what an answer means.
import { type Dispatcher, Pool } from 'undici'
import type { Config } from '../config/schema.ts'
import { type GatewayError, gatewayError } from '../errors.ts'
import { createBackChannel } from './back-channel.ts'
import { type Breaker, type BreakerState, createBreaker, type Ticket } from './breaker.ts'
import { type Connections, createConnections } from './connections.ts'
import { type Answer, exchange, type Signal } from './exchange.ts'
import { createFairQueue, type FairQueue } from './queue.ts'

export interface Timing {
  queueMs: number
  drupalMs: number
}

export interface DrupalRequest {
  method: 'GET' | 'HEAD' | 'POST' | 'DELETE'
  /** Below the site's base path; built by the gateway, never taken from a client unchecked. */
  path: string
  /** From `upstreamHeaders`. */
  headers: Record<string, string>
  body?: string | Buffer
  signal?: Signal | undefined
  /** Principal.key; calls without one share a line. */
  principalKey?: string | undefined
  /** The milliseconds in the queue and in Drupal are added to it, whatever comes of the request. */
  timing?: Timing
}

export type Outcome = 'success' | 'failure' | 'unknown'

/** A place among Drupal's workers. */
export interface Place {
  /** Tells the breaker how it went, as soon as that is known (a stream's first byte); the first word counts. */
  report(outcome: Outcome): void
  /** Gives the place back; once. */
  release(): void
}

export interface DrupalPool {
  /** The whole answer, whatever its status. Rejects with GatewayErrors, or with the signal's reason. */
  request(request: DrupalRequest): Promise<Answer>
  /** A place among Drupal's workers, for those who hold a stream; at once where one is free. Throws or rejects as `request` does. */
  acquire(principalKey: string, signal?: Signal): Place | Promise<Place>
  /** For the authorization server's endpoints; bounded apart from the calls. */
  fetch: typeof fetch
  /** The connections themselves, for `exchange`. Take a place by `acquire` first. */
  connections: Connections
  /** The same for @fastify/http-proxy, which wants undici's. */
  dispatcher: Dispatcher
  /** The origin that they connect to, the path below which the site lives there, and Drupal's canonical Host. */
  origin: string
  basePath: string
  host: string
  stats(): { active: number; queued: number; breaker: BreakerState }
  close(): Promise<void>
}

export interface PoolOptions {
  log?: { warn(details: object, text: string): void; info(details: object, text: string): void }
  /** Milliseconds; only differences count. For the breaker. Default: the monotonic clock. */
  now?: () => number
}

/** 502 and 504 come from a server in front of Drupal: nobody is behind it. */
export const isDown = (status: number) => status === 502 || status === 504

/** A site that sends too much is up; a caller who gives up says nothing about the site. */
function outcomeOf(error: unknown, signal: Signal | undefined): Outcome {
  if (signal?.aborted) return 'unknown'
  return (error as GatewayError).code === 'GW_UPSTREAM_TOO_LARGE' ? 'success' : 'failure'
}

class WorkerPlace implements Place {
  readonly #queue: FairQueue
  readonly #breaker: Breaker
  readonly #key: string
  readonly #ticket: Ticket
  #isReported = false
  #isReleased = false

  constructor(queue: FairQueue, breaker: Breaker, key: string, ticket: Ticket) {
    this.#queue = queue
    this.#breaker = breaker
    this.#key = key
    this.#ticket = ticket
  }

  report(outcome: Outcome): void {
    if (!this.#isReported) this.#breaker.report(this.#ticket, outcome)
    this.#isReported = true
  }

  release(): void {
    if (this.#isReleased) return
    this.#isReleased = true
    this.report('unknown')
    this.#queue.leave(this.#key)
  }
}

/** Makes the pool. Connections are opened when needed and TLS is verified, against the name in drupal.url. */
export function createDrupalPool(config: Config, options: PoolOptions = {}): DrupalPool {
  const { log, now = () => performance.now() } = options
  const { drupal } = config
  const connectUrl = new URL(config.derived.drupalConnectUrl)
  const origin = connectUrl.origin
  const basePath = connectUrl.pathname.replace(/\/+$/, '')
  const host = new URL(drupal.url).host
  // Shorter than the idle time of nginx, Apache and PHP's own server.
  const keepAliveMs = 4000
  const connectTimeoutMs = drupal.connectTimeoutSeconds * 1000
  const connectionsTo = (to: string, name: string) =>
    createConnections({ origin: to, host: name, connectTimeoutMs, keepAliveMs })
  // The queue bounds how many connections there are.
  const connections = connectionsTo(origin, host)
  const dispatcher = new Pool(origin, {
    connect: { timeout: connectTimeoutMs, rejectUnauthorized: true },
    pipelining: 1,
    keepAliveTimeout: keepAliveMs,
    connections: null
  })
  const others = new Map<string, Connections>()
  const queue = createFairQueue({
    maxActive: drupal.maxConcurrency,
    maxQueue: drupal.maxQueue,
    timeoutMs: drupal.queueTimeoutSeconds * 1000
  })
  const breaker = createBreaker({
    failures: drupal.breakerFailures,
    openMs: drupal.breakerOpenSeconds * 1000,
    now,
    onChange(state) {
      if (state === 'open') log?.warn({ breaker: state }, 'Drupal fails: calls are refused')
      if (state === 'closed') log?.info({ breaker: state }, 'Drupal answers again')
    }
  })

  function refusedByBreaker(): GatewayError {
    return gatewayError('GW_UPSTREAM_UNAVAILABLE', {
      status: 503,
      reason: 'the circuit breaker is open',
      retryAfterSeconds: Math.max(1, Math.ceil(breaker.waitMs() / 1000))
    })
  }

  /** A place and a ticket, at once where there is one. */
  function admit(key: string, signal?: Signal, timing?: Timing): Ticket | Promise<Ticket> {
    if (breaker.waitMs() > 0) throw refusedByBreaker()
    const waiting = queue.enter(key, signal)
    if (waiting === undefined) return ticketFor(key)
    const since = performance.now()
    return waiting
      .finally(() => {
        if (timing !== undefined) timing.queueMs += performance.now() - since
      })
      .then(() => ticketFor(key))
  }

  /** The breaker is asked again: it may have opened while the call waited. */
  function ticketFor(key: string): Ticket {
    const ticket = breaker.enter()
    if (ticket !== undefined) return ticket
    queue.leave(key)
    throw refusedByBreaker()
  }

  return {
    async request(request) {
      const key = request.principalKey ?? ''
      const { timing } = request
      const admitted = admit(key, request.signal, timing)
      const ticket = typeof admitted === 'string' ? admitted : await admitted
      const sent = performance.now()
      const leave = (outcome: Outcome) => {
        queue.leave(key)
        breaker.report(ticket, outcome)
        if (timing !== undefined) timing.drupalMs += performance.now() - sent
      }
      let answer: Answer
      try {
        answer = await exchange(connections, {
          method: request.method,
          path: basePath + request.path,
          headers: request.headers,
          body: request.body ?? null,
          maxBytes: drupal.maxResponseBytes,
          headersTimeoutMs: drupal.headersTimeoutSeconds * 1000,
          callTimeoutMs: drupal.callTimeoutSeconds * 1000,
          signal: request.signal
        })
      } catch (error) {
        leave(outcomeOf(error, request.signal))
        throw error
      }
      leave(isDown(answer.status) ? 'failure' : 'success')
      return answer
    },

    acquire(principalKey, signal) {
      const ticket = admit(principalKey, signal)
      return typeof ticket === 'string'
        ? new WorkerPlace(queue, breaker, principalKey, ticket)
        : ticket.then(late => new WorkerPlace(queue, breaker, principalKey, late))
    },

    fetch: createBackChannel({
      drupal: connections,
      others(to) {
        let found = others.get(to.origin)
        if (found === undefined) {
          found = connectionsTo(to.origin, to.host)
          others.set(to.origin, found)
        }
        return found
      },
      canonicalUrl: drupal.url,
      connectUrl: config.derived.drupalConnectUrl,
      timeoutMs: config.oauth.timeoutSeconds * 1000
    }),
    connections,
    dispatcher,
    origin,
    basePath,
    host,
    stats: () => ({ ...queue.stats(), breaker: breaker.state() }),
    async close() {
      for (const each of [connections, ...others.values()]) each.close()
      await dispatcher.destroy()
    }
  }
}
