// The connections to Drupal and what protects it: never more calls at work than its workers can take, fairly shared; a breaker
// that stops asking when it is down. It refuses to know what is asked and what an answer means.
import { type Dispatcher, Pool } from 'undici'
import type { Config } from '../config/schema.ts'
import { type GatewayError, gatewayError, isGatewayError } from '../errors.ts'
import { createBackChannel } from './back-channel.ts'
import { type Breaker, type BreakerState, createBreaker, type Ticket } from './breaker.ts'
import { type Connections, createConnections } from './connections.ts'
import { type Answer, exchange, type Signal } from './exchange.ts'
import { createFairQueue, type FairQueue } from './queue.ts'
import type { CommonHeaders } from './request-head.ts'

export interface Timing {
  queueMs: number
  drupalMs: number
}

export interface DrupalRequest {
  method: 'GET' | 'HEAD' | 'POST' | 'DELETE'
  /** Below the site's base path; built by the gateway, never taken from a client unchecked. */
  path: string
  /** From headers.ts, as `common`. */
  headers: Record<string, string>
  common?: readonly CommonHeaders[] | undefined
  /** The caller's token. */
  bearer?: string | undefined
  body?: string | Buffer | undefined
  signal?: Signal | undefined
  /** Principal.subjectKey; calls without one share a line. */
  subjectKey?: string | undefined
  /** The milliseconds in the queue and in Drupal are added to it, whatever comes of the request. */
  timing?: Timing | undefined
  /** Hand on a 200 of type text/event-stream as it comes. */
  streams?: boolean
  /** The events are news and no work: they hold no place among Drupal's workers. */
  isListening?: boolean | undefined
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
  /** The whole answer, whatever its status, or its events. Rejects with GatewayErrors, or with the signal's reason. */
  request(request: DrupalRequest): Promise<Answer>
  /** A place among Drupal's workers, for what is asked by `dispatcher`; at once where one is free. Throws or rejects as `request` does. */
  acquire(subjectKey: string, signal?: Signal): Place | Promise<Place>
  /** For the authorization server's endpoints; bounded apart from the calls. */
  fetch: typeof fetch
  /** Connections for @fastify/http-proxy, which wants undici's. */
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

/** A site that sends too much is up; who gives up, or asks what cannot be sent, says nothing about the site. */
function outcomeOf(error: unknown, signal: Signal | undefined): Outcome {
  if (signal?.aborted || !isGatewayError(error) || error.code === 'GW_INTERNAL') return 'unknown'
  return error.code === 'GW_UPSTREAM_TOO_LARGE' ? 'success' : 'failure'
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
  // Of their own: a call's answer that came too late or twice must never be the verdict on a token.
  const ofBackChannel = connectionsTo(origin, host)
  const dispatcher = new Pool(origin, {
    connect: { timeout: connectTimeoutMs, rejectUnauthorized: true },
    pipelining: 1,
    keepAliveTimeout: keepAliveMs,
    // Drupal names what an answer depends on in its head, which may be long (answer-reader.ts).
    maxHeaderSize: 65_536,
    connections: null
  })
  const others = new Map<string, Connections>()
  let isClosed = false
  const queue = createFairQueue({
    maxActive: drupal.maxConcurrency,
    maxQueue: drupal.maxQueue,
    timeoutMs: drupal.queueTimeoutSeconds * 1000
  })
  const breaker = createBreaker({
    failures: drupal.breakerFailures,
    openMs: drupal.breakerOpenSeconds * 1000,
    now,
    onChange(state, before) {
      // Not of each probe that fails.
      if (state === 'open' && before === 'closed') {
        log?.warn({ breaker: state }, 'Drupal fails: calls are refused')
      }
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

  function acquire(key: string, signal?: Signal, timing?: Timing): Place | Promise<Place> {
    if (breaker.waitMs() > 0) throw refusedByBreaker()
    const waiting = queue.enter(key, signal)
    if (waiting === undefined) return placeFor(key)
    const since = performance.now()
    return waiting
      .finally(() => {
        if (timing !== undefined) timing.queueMs += performance.now() - since
      })
      .then(() => placeFor(key))
  }

  /** The breaker is asked again: it may have opened while the call waited. */
  function placeFor(key: string): Place {
    const ticket = breaker.enter()
    if (ticket !== undefined) return new WorkerPlace(queue, breaker, key, ticket)
    queue.leave(key)
    throw refusedByBreaker()
  }

  /** Sends in a place that was taken, and gives it back. */
  function send(place: Place, request: DrupalRequest): Promise<Answer> {
    const { signal, timing, isListening = false } = request
    const sent = performance.now()
    return exchange(connections, {
      method: request.method,
      path: basePath + request.path,
      headers: request.headers,
      common: request.common,
      bearer: request.bearer,
      body: request.body ?? null,
      maxBytes: drupal.maxResponseBytes,
      headersTimeoutMs: drupal.headersTimeoutSeconds * 1000,
      callTimeoutMs: drupal.callTimeoutSeconds * 1000,
      signal,
      streams: request.streams ?? false,
      onSettled(answer, error) {
        if (timing !== undefined) timing.drupalMs += performance.now() - sent
        if (answer === undefined) place.report(isClosed ? 'unknown' : outcomeOf(error, signal))
        // A 202 is no work: what the site says to the cancellation after each time-out must not count as health.
        else if (answer.status !== 202) place.report(isDown(answer.status) ? 'failure' : 'success')
        if (answer?.stream === undefined || isListening) place.release()
        else answer.stream.once('close', () => place.release())
      }
    })
  }

  return {
    request(request) {
      try {
        const place = acquire(request.subjectKey ?? '', request.signal, request.timing)
        return place instanceof Promise
          ? place.then(late => send(late, request))
          : send(place, request)
      } catch (error) {
        return Promise.reject(error as Error)
      }
    },

    acquire,

    fetch: createBackChannel({
      drupal: ofBackChannel,
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
    dispatcher,
    origin,
    basePath,
    host,
    stats: () => ({ ...queue.stats(), breaker: breaker.state() }),
    async close() {
      isClosed = true
      for (const each of [connections, ofBackChannel, ...others.values()]) each.close()
      await dispatcher.destroy()
    }
  }
}
