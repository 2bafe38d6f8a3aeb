// One HTTP exchange with every bound that a call has: size both declared and counted, time to the first byte, time in all. No
// redirect is followed and nothing is retried: a tool call may have been carried out although its answer was lost.
import type { Readable } from 'node:stream'
import type { Dispatcher } from 'undici'
import { type GatewayError, gatewayError } from '../errors.ts'
import { EventBody } from './event-body.ts'

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
  body: Buffer
  /** Where `streams` was set and events come: they, instead of a body. Destroying it closes the connection. */
  stream?: Readable
}

export interface ExchangeOptions {
  origin: string
  method: string
  /** Path and query as sent; never from a client unchecked. */
  path: string
  headers: Record<string, string>
  body?: string | Buffer | null
  /** Largest answer in bytes. */
  maxBytes: number
  /** Milliseconds until the answer's headers, and between two pieces of its body. */
  headersTimeoutMs: number
  /** Milliseconds in all. */
  callTimeoutMs: number
  signal?: Signal | undefined
  /** Hand on a 200 of type text/event-stream as it comes. From then on only its reader bounds its time and size. */
  streams?: boolean
}

const noBytes = Buffer.alloc(0)

const connectionCodes = /^(E[A-Z]+|UND_ERR_CONNECT_TIMEOUT|UND_ERR_DESTROYED|UND_ERR_CLOSED)$/

/** What a client must know when a call was sent and its answer was lost. */
export const mayHaveRun = {
  hint: 'The call may have been carried out all the same: check before repeating it.'
}

/** What a failed exchange means. The reason names the error's code only: its message would tell the internal address. */
function failure(
  error: NodeJS.ErrnoException,
  method: string,
  status: number,
  received: number
): GatewayError {
  const code = error.code ?? error.name
  const sent = method === 'POST' ? mayHaveRun : {}
  if (code === 'UND_ERR_HEADERS_TIMEOUT' || code === 'UND_ERR_BODY_TIMEOUT') {
    const reason = `silence of the site, status ${status}, ${received} bytes: ${code}`
    return gatewayError('GW_UPSTREAM_TIMEOUT', { reason, ...sent })
  }
  if (status !== 0) {
    const reason = `connection lost after status ${status} and ${received} bytes: ${code}`
    return gatewayError('GW_UPSTREAM_INVALID', { reason, ...sent })
  }
  if (code === 'UND_ERR_SOCKET' || code === 'ECONNRESET') {
    const reason = 'connection lost before an answer'
    return gatewayError('GW_UPSTREAM_UNAVAILABLE', { reason, ...sent })
  }
  if (connectionCodes.test(code) || /CERT|TLS|SSL/.test(code)) {
    return gatewayError('GW_UPSTREAM_UNAVAILABLE', { reason: `connection failed: ${code}` })
  }
  return gatewayError('GW_UPSTREAM_INVALID', { reason: `not an HTTP answer: ${code}` })
}

/** The headers of an answer that anybody here reads, by the length of their names: all others are not even decoded. */
const read = new Set([
  'age',
  'allow',
  'cache-control',
  'content-length',
  'content-type',
  'date',
  'expires',
  'location',
  'mcp-session-id',
  'retry-after',
  'www-authenticate'
])
const readLengths = new Set([...read].map(name => name.length))

function pickHeaders(raw: readonly Buffer[]): Record<string, string> {
  const headers: Record<string, string> = {}
  for (let i = 0; i < raw.length; i += 2) {
    const bytes = raw[i] as Buffer
    if (!readLengths.has(bytes.length)) continue
    const name = bytes.toString('latin1').toLowerCase()
    if (!read.has(name)) continue
    const value = (raw[i + 1] as Buffer).toString('latin1')
    headers[name] = headers[name] === undefined ? value : `${headers[name]}, ${value}`
  }
  return headers
}

/**
 * Collects one answer and settles once, whatever comes first. It has the older form of undici's handlers on purpose: the newer one
 * decodes every header of every answer. The version of undici is that of @fastify/reply-from, which has both.
 */
class Exchange implements Dispatcher.DispatchHandler {
  readonly #options: ExchangeOptions
  readonly #resolve: (answer: Answer) => void
  readonly #reject: (error: unknown) => void
  readonly #timer: NodeJS.Timeout
  readonly #onAbort: (() => void) | undefined
  #abort: ((error?: Error) => void) | undefined
  #status = 0
  #headers: Record<string, string> = {}
  #chunks: Buffer[] = []
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
    this.#timer = setTimeout(() => {
      const reason = `no complete answer within ${options.callTimeoutMs} ms`
      this.#fail(
        gatewayError('GW_UPSTREAM_TIMEOUT', {
          reason,
          ...(options.method === 'POST' && mayHaveRun)
        })
      )
    }, options.callTimeoutMs)
    const { signal } = options
    if (signal !== undefined) {
      this.#onAbort = () => this.#fail(signal.reason)
      signal.addEventListener('abort', this.#onAbort)
    }
  }

  #settle(): void {
    this.#settled = true
    clearTimeout(this.#timer)
    if (this.#onAbort !== undefined) {
      this.#options.signal?.removeEventListener('abort', this.#onAbort)
    }
  }

  #fail(error: unknown): void {
    if (this.#settled) return
    this.#settle()
    this.#reject(error)
    // Closes the connection: what else may come on it is nobody's answer.
    this.#abort?.(new Error('aborted'))
  }

  #tooLarge(): void {
    const reason = `more than ${this.#options.maxBytes} bytes`
    this.#fail(gatewayError('GW_UPSTREAM_TOO_LARGE', { reason }))
  }

  onConnect(abort: (error?: Error) => void): void {
    this.#abort = abort
    // Settled while the connection was being made: nothing is sent.
    if (this.#settled) abort(new Error('aborted'))
  }

  onHeaders(status: number, raw: Buffer[], resume: () => void): boolean {
    // 1xx: the answer is still to come.
    if (status < 200) return true
    this.#status = status
    this.#headers = pickHeaders(raw)
    if (this.#options.streams === true && status === 200 && isEventStream(this.#headers)) {
      this.#settle()
      this.#events = new EventBody(resume, this.#abort as (error?: Error) => void)
      this.#resolve({ status, headers: this.#headers, body: noBytes, stream: this.#events })
    } else if (Number(this.#headers['content-length']) > this.#options.maxBytes) this.#tooLarge()
    return true
  }

  onData(chunk: Buffer): boolean {
    if (this.#events !== undefined) return this.#events.push(chunk)
    this.#received += chunk.length
    if (this.#received > this.#options.maxBytes) this.#tooLarge()
    else this.#chunks.push(chunk)
    return true
  }

  onComplete(): void {
    if (this.#events !== undefined) {
      this.#events.complete()
      return
    }
    this.#settle()
    const body =
      this.#chunks.length === 1 ? (this.#chunks[0] as Buffer) : Buffer.concat(this.#chunks)
    this.#resolve({ status: this.#status, headers: this.#headers, body })
  }

  onError(error: Error): void {
    const failed = failure(error, this.#options.method, this.#status, this.#received)
    if (this.#events === undefined) this.#fail(failed)
    else this.#events.destroy(failed)
  }
}

function isEventStream(headers: Answer['headers']): boolean {
  return /^text\/event-stream\b/i.test(headers['content-type'] ?? '')
}

/**
 * Sends one request and gives the whole answer, whatever its status. Rejects with GW_UPSTREAM_UNAVAILABLE, GW_UPSTREAM_TIMEOUT,
 * GW_UPSTREAM_INVALID or GW_UPSTREAM_TOO_LARGE, or with the signal's reason.
 */
export function exchange(dispatcher: Dispatcher, options: ExchangeOptions): Promise<Answer> {
  return new Promise((resolve, reject) => {
    if (options.signal?.aborted) {
      reject(options.signal.reason as Error)
      return
    }
    dispatcher.dispatch(
      {
        origin: options.origin,
        method: options.method,
        path: options.path,
        headers: options.headers,
        body: options.body ?? null,
        headersTimeout: options.headersTimeoutMs,
        // Between two pieces of a body. Equal values let undici go on with one timer; the absolute bound is the call's own.
        // A quiet stream is none that has died.
        bodyTimeout: options.streams === true ? 0 : options.headersTimeoutMs
      },
      new Exchange(options, resolve, reject)
    )
  })
}
