// One HTTP exchange with every bound that a call has: size both declared and counted, time to the first byte, time in all. No
// redirect is followed and nothing that was sent is retried: a tool call may have been carried out although its answer was lost.
import type { Readable } from 'node:stream'
import { gatewayError } from '../errors.ts'
import { giveMemoryBack, takeMemory } from './body-memory.ts'
import { type Connection, type RequestHandler, unsent } from './connection.ts'
import type { Connections } from './connections.ts'
import { EventBody } from './event-body.ts'
import { failure, silence, tooLarge, tooLate, unreached } from './exchange-failure.ts'
import type { OutgoingRequest } from './request-head.ts'

/** What ends an exchange early: an AbortSignal, or the much cheaper Stop of in-flight.ts. */
export interface Signal {
  readonly aborted: boolean
  readonly reason: unknown
  addEventListener(type: 'abort', listener: () => void): void
  removeEventListener(type: 'abort', listener: () => void): void
}

export interface Answer {
  status: number
  /** Lower-case names; only those that anybody here reads. Repeated ones are joined by a comma. */
  headers: Readonly<Record<string, string | undefined>>
  /** Its memory may be given back (body-memory.ts) once nobody looks at it any more. */
  body: Buffer
  /** Where `streams` was set and events come: they, instead of a body. Destroying it closes the connection. */
  stream?: Readable
  /** What it came on: discarded where it is no answer to what was asked. */
  source?: { discard(): void } | undefined
}

export interface ExchangeOptions extends OutgoingRequest {
  /** Largest answer in bytes. */
  maxBytes: number
  /** Milliseconds until the answer's headers, and between two pieces of its body. */
  headersTimeoutMs: number
  /** Milliseconds in all. */
  callTimeoutMs: number
  signal?: Signal | undefined
  /** Hand on a 200 of type text/event-stream as it comes. From then on only its reader bounds its time and size. */
  streams?: boolean
  /** Told at once what came, before whoever awaits it: an answer, or why there is none. */
  onSettled?: (answer: Answer | undefined, error?: unknown) => void
}

const noBytes = Buffer.alloc(0)
const noHeaders: Answer['headers'] = {}

/** Collects one answer and settles once, whatever comes first. */
class Exchange implements RequestHandler {
  readonly #options: ExchangeOptions
  readonly #resolve: (answer: Answer) => void
  readonly #reject: (error: unknown) => void
  readonly #onAbort: (() => void) | undefined
  /** performance.now() */
  readonly #deadline: number
  #timer: NodeJS.Timeout | undefined
  #connections: Connections | undefined
  #connection: Connection | undefined
  #isSent = false
  #status = 0
  #headers: Answer['headers'] = noHeaders
  /** As large as declared, or twice as large whenever it is full. */
  #body: Buffer = noBytes
  #declared = 0
  #received = 0
  #settled = false
  #events: EventBody | undefined

  constructor(
    options: ExchangeOptions,
    resolve: (answer: Answer) => void,
    reject: (error: unknown) => void
  ) {
    this.#options = options
    this.#resolve = resolve
    this.#reject = reject
    this.#deadline = performance.now() + options.callTimeoutMs
    const { signal } = options
    if (signal !== undefined) {
      this.#onAbort = () => this.#fail(signal.reason)
      signal.addEventListener('abort', this.#onAbort)
    }
  }

  start(connections: Connections): void {
    this.#connections = connections
    try {
      this.#connection = connections.send(this.#options, this)
    } catch (error) {
      // Nobody was asked: what was to be sent is no request.
      this.#fail(gatewayError('GW_INTERNAL', { cause: error, reason: 'not to be sent' }))
    }
    // The connection is still being made, which has a limit of its own.
    if (this.#timer === undefined) this.#wait(this.#options.callTimeoutMs)
  }

  /** One timer at a time: for the next bytes, or for the whole answer where that is due sooner. */
  #wait(silenceMs: number): void {
    if (this.#settled) return
    clearTimeout(this.#timer)
    const leftMs = this.#deadline - performance.now()
    const isLast = leftMs <= silenceMs
    const timer = setTimeout(
      () => {
        // We may have been the busy ones, or stopped for a while: what has arrived meanwhile is read first.
        setImmediate(() => {
          if (this.#timer !== timer) return
          if (isLast) this.#late()
          else this.onError(silence)
        })
      },
      isLast ? leftMs : silenceMs
    )
    this.#timer = timer
  }

  #late(): void {
    const { callTimeoutMs, method } = this.#options
    this.#fail(tooLate(callTimeoutMs, method === 'POST'))
  }

  #settle(): void {
    this.#settled = true
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#onAbort !== undefined) {
      this.#options.signal?.removeEventListener('abort', this.#onAbort)
    }
  }

  #fail(error: unknown): void {
    if (this.#settled) return
    this.#settle()
    // Closes the connection: what else may come on it is nobody's answer. Before whoever waits for the place is sent.
    this.#connection?.abort()
    this.#options.onSettled?.(undefined, error)
    this.#reject(error)
  }

  onSend(): void {
    this.#isSent = true
    this.#wait(this.#options.headersTimeoutMs)
  }

  onHeaders(status: number, headers: Record<string, string>): void {
    if (this.#settled) return
    this.#status = status
    this.#headers = headers
    const { streams, maxBytes } = this.#options
    if (streams === true && status === 200 && isEventStream(headers)) {
      this.#settle()
      const stream = new EventBody(this.#connection as Connection)
      this.#events = stream
      this.#answer({ status, headers, body: noBytes, stream, source: stream })
      return
    }
    this.#declared = Number(headers['content-length'] ?? 0)
    if (this.#declared > maxBytes) this.#tooLarge()
    else if (this.#declared > 0) this.#body = takeMemory(this.#declared)
  }

  onData(bytes: Buffer, from: number, to: number): boolean {
    if (this.#events !== undefined) return this.#events.add(bytes, from, to)
    if (this.#settled) return true
    const before = this.#received
    this.#received += to - from
    if (this.#received > this.#options.maxBytes) {
      this.#tooLarge()
      return true
    }
    if (this.#received > this.#body.length) this.#grow(before)
    bytes.copy(this.#body, before, from, to)
    if (this.#received !== this.#declared) this.#wait(this.#options.headersTimeoutMs)
    return true
  }

  /** Room for what has come, and where more came before for as much again. */
  #grow(used: number): void {
    const larger = takeMemory(Math.max(this.#received, 2 * used))
    this.#body.copy(larger, 0, 0, used)
    giveMemoryBack(this.#body)
    this.#body = larger
  }

  #tooLarge(): void {
    const { maxBytes, method } = this.#options
    this.#fail(tooLarge(maxBytes, method === 'POST'))
  }

  onComplete(): void {
    if (this.#events !== undefined) {
      this.#events.complete()
      return
    }
    if (this.#settled) return
    this.#settle()
    // An answer to HEAD declares a length and has no body: what was set aside for it holds old memory.
    const { length, 0: first, 1: second, 2: third } = this.#body
    // A byte order mark is no JSON (RFC 8259 §8.1), and PHP sends one where a file of the site begins with it.
    const from = first === 0xef && second === 0xbb && third === 0xbf && this.#received > 2 ? 3 : 0
    const isWhole = from === 0 && length === this.#received
    const body = isWhole ? this.#body : this.#body.subarray(from, this.#received)
    this.#answer({ status: this.#status, headers: this.#headers, body, source: this.#connection })
  }

  #answer(answer: Answer): void {
    this.#options.onSettled?.(answer)
    this.#resolve(answer)
  }

  onError(error: NodeJS.ErrnoException): void {
    if (error === unsent) {
      this.#isSent = false
      this.#wait(this.#options.callTimeoutMs)
      this.start(this.#connections as Connections)
      return
    }
    const isCall = this.#options.method === 'POST'
    const failed = this.#isSent
      ? failure(error, isCall, this.#status, this.#received)
      : unreached(error)
    const events = this.#events
    if (events === undefined) this.#fail(failed)
    // Where it came together with the head, whoever awaits the answer has yet to listen.
    else setImmediate(() => events.destroy(failed))
  }
}

function isEventStream(headers: Answer['headers']): boolean {
  return /^text\/event-stream\b/i.test(headers['content-type'] ?? '')
}

/**
 * Sends one request and gives the whole answer, whatever its status. Rejects with GW_UPSTREAM_UNAVAILABLE, GW_UPSTREAM_TIMEOUT,
 * GW_UPSTREAM_INVALID or GW_UPSTREAM_TOO_LARGE, or with the signal's reason.
 */
export function exchange(connections: Connections, options: ExchangeOptions): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { signal } = options
    if (signal?.aborted) {
      options.onSettled?.(undefined, signal.reason)
      reject(signal.reason as Error)
    } else new Exchange(options, resolve, reject).start(connections)
  })
}
