// One connection to Drupal or another server: HTTP/1.1, one request at a time, kept for the next. It refuses to know how long an
// answer may take, how large it may be and how many connections there are. Measured: undici's client costs a call 20 µs more, a
// quarter of what a bare relay costs.
import type { OnReadOpts, Socket } from 'node:net'
import { type Sender, sendAtEndOfTurn } from '../end-of-turn.ts'
import { type AnswerHandler, AnswerReader } from './answer-reader.ts'
import type { OutgoingRequest } from './request-head.ts'

/** Where a request is under way. */
export interface Connection {
  /** Closes it: what may still come is nobody's answer. No handler is told. */
  abort(): void
  /**
   * What it brought was no answer to what had been asked: then neither is what it brings next. It is closed, and whoever has asked on
   * it since is told so.
   */
  discard(): void
  /** Reads on after `onData` asked for a pause. */
  resume(): void
}

export interface RequestHandler extends AnswerHandler {
  /** The request is about to be sent. */
  onSend(): void
  /** No answer, or no whole one; nothing follows. Errors have a `code`. */
  onError(error: NodeJS.ErrnoException): void
}

/** Larger requests cost less in two pieces than copied into one. */
const maxJoined = 4096
/** Pages that no answer fills are never made. */
const readBytes = 65_536

/** The connection was gone before anything of the request was written on it: it can be sent again. */
export const unsent = Object.assign(new Error('unsent'), { code: 'ECONNRESET' })

const failed = (code: string) => Object.assign(new Error(code), { code })

/** A connection that is free for the next request after each. */
export class KeptConnection implements Connection, Sender {
  /** performance.now() up to which a free connection may be used. */
  freeUntil = 0
  readonly #socket: Socket
  readonly #reader: AnswerReader
  readonly #onFree: (connection: KeptConnection) => void
  #handler: RequestHandler | undefined
  #isReady = false
  #isPaused = false
  /** performance.now() from which on it is not used again. */
  readonly #endsAt: number
  /** What is still to be sent. */
  #request: OutgoingRequest | undefined
  #head = ''

  constructor(
    open: (onread: OnReadOpts) => Socket,
    keepAliveMs: number,
    maxAgeMs: number,
    onFree: (connection: KeptConnection) => void,
    onClose: (connection: KeptConnection) => void
  ) {
    this.#reader = new AnswerReader(keepAliveMs)
    this.#endsAt = performance.now() + maxAgeMs
    this.#onFree = onFree
    const buffer = Buffer.allocUnsafeSlow(readBytes)
    // Without `onread` each read would allocate 64 KB and go through a stream.
    this.#socket = open({ buffer, callback: length => this.#read(buffer, length) })
    this.#socket.setKeepAlive(true, 60_000)
    this.#socket.on('end', () => this.#end())
    this.#socket.on('error', error => this.#fail(error))
    this.#socket.on('close', () => {
      onClose(this)
      this.#fail(failed('ECONNRESET'))
    })
  }

  get isClosed(): boolean {
    return this.#socket.destroyed
  }

  /** Connected, and where it must be, who is there has been verified. */
  ready(): void {
    this.#isReady = true
    this.#handler?.onSend()
    this.sendNow()
  }

  send(request: OutgoingRequest, head: string, handler: RequestHandler): void {
    this.#handler = handler
    this.#request = request
    this.#head = head
    // Written before it is ready, it would be on its way before the certificate is looked at.
    if (!this.#isReady) return
    handler.onSend()
    // TLS tells at the end of a turn that it has written: what it writes then would still count as unwritten when a quick answer is
    // there, and the connection could not be used again.
    if ('encrypted' in this.#socket) this.sendNow()
    else sendAtEndOfTurn(this)
  }

  sendNow(): void {
    const handler = this.#handler
    const request = this.#request
    this.#request = undefined
    // Nobody waits for an answer any more.
    if (handler === undefined || request === undefined) return
    const head = this.#head
    const { method, body } = request
    this.#reader.begin(handler, method)
    const socket = this.#socket
    if (body === undefined || body === null) {
      socket.write(head, 'latin1')
      return
    }
    const bytes = typeof body === 'string' ? Buffer.from(body) : body
    // One piece is one system call without a list of buffers.
    if (bytes.length <= maxJoined) {
      socket.write(head + bytes.toString('latin1'), 'latin1')
    } else {
      socket.cork()
      socket.write(head, 'latin1')
      socket.write(bytes)
      socket.uncork()
    }
  }

  #read(buffer: Buffer, length: number): boolean {
    try {
      const goOn = this.#reader.read(length === buffer.length ? buffer : buffer.subarray(0, length))
      // Whoever asked for a pause has all there is: the next request must be able to read.
      if (this.#reader.isDone) this.#done()
      else this.#isPaused = !goOn
      return !this.#isPaused
    } catch (error) {
      // The answer is whole: what follows it says nothing about it.
      if (this.#reader.isDone && this.#request === undefined) this.#handler = undefined
      this.#fail(error as NodeJS.ErrnoException)
      return false
    }
  }

  /** The answer is whole: free for the next, where both sides are through. */
  #done(): void {
    this.#handler = undefined
    const { keepAliveMs } = this.#reader
    const now = performance.now()
    this.freeUntil = Math.min(now + keepAliveMs, this.#endsAt)
    if (this.freeUntil > now && this.#socket.writableLength === 0 && !this.isClosed) {
      this.#onFree(this)
    } else this.#socket.destroy()
  }

  #end(): void {
    if (this.#reader.end() && this.#request === undefined) this.#handler = undefined
    this.#fail(failed('ECONNRESET'))
  }

  #fail(error: NodeJS.ErrnoException): void {
    const handler = this.#handler
    // A new connection that fails would fail again.
    const isStale = this.#isReady && this.#request !== undefined
    this.#handler = undefined
    this.#socket.destroy()
    handler?.onError(isStale ? unsent : error)
  }

  close(code: string): void {
    this.#fail(failed(code))
  }

  abort(): void {
    this.#handler = undefined
    this.#socket.destroy()
  }

  discard(): void {
    this.close('ERR_DISCARDED')
  }

  resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    this.#socket.resume()
  }
}
