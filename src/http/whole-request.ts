// How does a body come that is wanted as a whole? In one piece, straight from the HTTP parser; whoever wants a stream gets Node's. It
// refuses to know what the body says. Measured: without the machinery of streams a call costs a tenth less.
import { IncomingMessage } from 'node:http'
import type { Readable } from 'node:stream'
import { gatewayError } from '../errors.ts'
import { buffersAreFull, worthCounting } from './buffers.ts'

const NO_BYTES = Buffer.alloc(0)

/** Called once: with the body, GW_BODY_TOO_LARGE, or GW_BAD_REQUEST when the client went away in the middle. */
export type BodyCallback = (error: Error | null, body?: Buffer) => void

/** What has come of one body. It is told to whoever wants it when it is whole or has failed; what comes after that is let go. */
class Body {
  /**
   * The first piece, or room for twice as much as has come, but no more than is to come: kept apart, pieces of one byte would take two
   * hundred times as much.
   */
  #bytes: Buffer = NO_BYTES
  #declared: number
  #length = 0
  #isEnded = false
  #isOver = false
  #limit = Infinity
  #done: BodyCallback | undefined

  /** With its Content-Length, where it has one. */
  constructor(contentLength?: string) {
    this.#declared = contentLength === undefined ? Infinity : Number(contentLength)
  }

  get length(): number {
    return this.#length
  }

  want(limit: number, done: BodyCallback): void {
    this.#limit = limit
    this.#done = done
    this.#look()
  }

  add(piece: Buffer): void {
    if (this.#isOver) return
    const before = this.#length
    this.#length += piece.length
    if (before === 0) this.#bytes = piece
    else {
      if (this.#length > this.#bytes.length) {
        const room = Math.min(2 * this.#length, this.#declared)
        const larger = Buffer.allocUnsafe(Math.max(room, this.#length))
        this.#bytes.copy(larger, 0, 0, before)
        this.#bytes = larger
      }
      piece.copy(this.#bytes, before)
    }
    this.#look()
  }

  end(): void {
    this.#isEnded = true
    this.#look()
  }

  fail(cause: Error): void {
    this.#settle(gatewayError('GW_BAD_REQUEST', { cause }))
  }

  giveUp(): void {
    this.#settle(gatewayError('GW_OVERLOADED', { reason: buffersAreFull, retryAfterSeconds: 1 }))
  }

  get isEnded(): boolean {
    return this.#isEnded
  }

  /** Nobody waits for more of it. */
  get isOver(): boolean {
    return this.#isOver
  }

  /** What has come so far. */
  get bytes(): Buffer {
    const whole = this.#bytes
    return whole.length === this.#length ? whole : whole.subarray(0, this.#length)
  }

  #look(): void {
    if (this.#done === undefined) return
    if (this.#length > this.#limit) this.#settle(gatewayError('GW_BODY_TOO_LARGE'))
    else if (this.#isEnded) this.#settle(null, this.bytes)
  }

  #settle(error: Error | null, body?: Buffer): void {
    const done = this.#done
    if (done === undefined) return
    this.#done = undefined
    this.#isOver = true
    this.#bytes = NO_BYTES
    done(error, body)
  }
}

/** For the listener's `IncomingMessage`: Node's, but what comes before anybody reads is kept in one piece, and goes as such. */
export class WholeRequest extends IncomingMessage {
  static {
    // Node has a getter here, and its types a field, which TypeScript lets no getter override. The parser lets go of a request that has
    // ended.
    const inherited = (request: WholeRequest) =>
      Reflect.get(IncomingMessage.prototype, 'readableEnded', request) as boolean
    Object.defineProperty(WholeRequest.prototype, 'readableEnded', {
      get(this: WholeRequest) {
        return this.#isWhole || inherited(this)
      }
    })
  }

  /** Undefined before the first piece, and as soon as somebody reads the stream. */
  #body: Body | undefined
  #isStream = false
  #isWanted = false
  #isWhole = false
  #whenCome: (() => void) | undefined
  /** What it will be answered with. */
  answer: { leaveUnsent(): void; countBody(bytes: number, giveUp?: () => void): void } | undefined

  /** Reads the whole body; false where somebody reads the stream already. */
  readWhole(limit: number, done: BodyCallback): boolean {
    if (this.#isStream || this.#isWanted) return false
    this.#isWanted = true
    this.#body ??= new Body(this.headers['content-length'])
    // Node learns that somebody reads, and reads on where it has stopped.
    super._read(0)
    // Nobody is there any more to be answered: what was sent is not acted upon.
    const isGone = this.destroyed || this.socket.writableEnded
    if (isGone) this.#body = new Body()
    const body = this.#body
    if (body.isEnded) this.#count(body.length)
    body.want(limit, (error, bytes) => {
      this.#isWhole = error === null
      if (error !== null) this.answer?.countBody(0)
      done(error, bytes)
    })
    if (!body.isOver) this.#count(body.length, body)
    if (isGone) this.#fail(null)
    return true
  }

  /** Nobody wants what is still to come; `whenCome` is called as soon as all of it has. */
  letGo(whenCome: () => void): void {
    this.#isStream = true
    this.#body = undefined
    this.resume()
    if (this.complete) whenCome()
    else this.#whenCome = whenCome
  }

  override push(piece: Buffer | null, encoding?: BufferEncoding): boolean {
    if (piece === null) this.#whenCome?.()
    if (this.#isStream) return super.push(piece, encoding)
    const body = (this.#body ??= new Body(this.headers['content-length']))
    if (piece === null) {
      if (!body.isOver) this.#count(body.length)
      body.end()
    } else {
      // Before it is added: it may be given up.
      if (!body.isOver) this.#count(body.length + piece.length, body)
      body.add(piece)
    }
    return this.#isWanted || body.length < this.readableHighWaterMark
  }

  /** A body that is whole may be at work, and is not given up. */
  #count(bytes: number, coming?: Body): void {
    if (bytes < worthCounting || !this.#isWanted) return
    this.answer?.countBody(bytes, coming && (() => coming.giveUp()))
  }

  override _read(size: number): void {
    if (!this.#isStream && !this.#isWanted) {
      this.#isStream = true
      const body = this.#body
      this.#body = undefined
      if (body !== undefined && body.length > 0) super.push(body.bytes)
      if (body?.isEnded) super.push(null)
    }
    super._read(size)
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    super._destroy(error, callback)
    if (this.#isWanted) this.#fail(error)
    if (this.socket.destroyed) process.nextTick(() => this.answer?.leaveUnsent())
  }

  /** Who waits for the body is not the first to learn that the client has gone: 'close' of the response comes before. */
  #fail(error: Error | null): void {
    process.nextTick(() => this.#body?.fail(error ?? new Error('aborted')))
  }
}

/** Reads the whole body of a request, of at most `limit` bytes. */
export function readWhole(request: Readable, limit: number, done: BodyCallback): void {
  if (request instanceof WholeRequest) {
    if (Number(request.headers['content-length']) > limit) {
      done(gatewayError('GW_BODY_TOO_LARGE'))
      return
    }
    if (request.readWhole(limit, done)) return
  }
  const body = new Body()
  body.want(limit, done)
  request
    .on('data', (piece: Buffer) => body.add(piece))
    .on('end', () => body.end())
    .on('error', error => body.fail(error))
}
