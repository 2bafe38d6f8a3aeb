// How does a body come that is wanted as a whole? Straight from the HTTP parser, where nothing of it has been read yet; else as from
// any stream. It refuses to know what the body says. Measured: without the machinery of streams a call costs a tenth less.
import { IncomingMessage } from 'node:http'
import type { Readable } from 'node:stream'
import { gatewayError } from '../errors.ts'

const NO_BYTES = Buffer.alloc(0)

/** Called once: with the body, GW_BODY_TOO_LARGE, or GW_BAD_REQUEST when the client went away in the middle. */
export type BodyCallback = (error: Error | null, body?: Buffer) => void

/** One body, until it is whole or has failed; what comes after that is let go. */
class Body {
  readonly #limit: number
  #done: BodyCallback | undefined
  /** The first piece, or room for twice as much as has come: kept apart, pieces of one byte would take two hundred times as much. */
  #bytes: Buffer = NO_BYTES
  #length = 0

  constructor(limit: number, done: BodyCallback) {
    this.#limit = limit
    this.#done = done
  }

  add(piece: Buffer): void {
    if (this.#done === undefined) return
    const before = this.#length
    this.#length += piece.length
    if (this.#length > this.#limit) this.#settle(gatewayError('GW_BODY_TOO_LARGE'))
    else if (before === 0) this.#bytes = piece
    else {
      if (this.#length > this.#bytes.length) {
        const larger = Buffer.allocUnsafe(2 * this.#length)
        this.#bytes.copy(larger, 0, 0, before)
        this.#bytes = larger
      }
      piece.copy(this.#bytes, before)
    }
  }

  end(): void {
    const bytes = this.#bytes
    this.#settle(null, bytes.length === this.#length ? bytes : bytes.subarray(0, this.#length))
  }

  fail(cause: Error): void {
    this.#settle(gatewayError('GW_BAD_REQUEST', { cause }))
  }

  #settle(error: Error | null, body?: Buffer): void {
    const done = this.#done
    this.#done = undefined
    this.#bytes = NO_BYTES
    done?.(error, body)
  }
}

/** For the listener's `IncomingMessage`: Node's, but a body that is wanted as a whole does not go through the buffer of a stream. */
export class WholeRequest extends IncomingMessage {
  // A field of Node's that it does not document: whether somebody reads. Without it the body that is none would be read to its end.
  declare _consuming: boolean

  static {
    // A getter in Node and a field in its types: only this may stand before it. The parser lets go of a request that has ended.
    const inherited = (request: WholeRequest) =>
      Reflect.get(IncomingMessage.prototype, 'readableEnded', request) as boolean
    Object.defineProperty(WholeRequest.prototype, 'readableEnded', {
      get(this: WholeRequest) {
        return this.#isEnded || inherited(this)
      }
    })
  }

  #body: Body | undefined
  #isEnded = false

  /** Has the pieces go to `body`, all of them; false where some have come already. */
  giveTo(body: Body): boolean {
    if (this.complete || this.destroyed || this.readableLength > 0 || this.readableFlowing !== null)
      return false
    this.#body = body
    this._consuming = true
    return true
  }

  override push(piece: Buffer | null, encoding?: BufferEncoding): boolean {
    const body = this.#body
    if (body === undefined) return super.push(piece, encoding)
    if (piece === null) {
      this.#isEnded = true
      body.end()
    } else body.add(piece)
    return true
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    super._destroy(error, callback)
    // Not before all is told that 'close' tells: who waits for the body is not the first to learn of it.
    process.nextTick(() => this.#body?.fail(error ?? new Error('aborted')))
  }
}

/** Reads the whole body of a request, of at most `limit` bytes. */
export function readWhole(request: Readable, limit: number, done: BodyCallback): void {
  const body = new Body(limit, done)
  if (request instanceof WholeRequest) {
    if (Number(request.headers['content-length']) > limit) {
      done(gatewayError('GW_BODY_TOO_LARGE'))
      return
    }
    if (request.giveTo(body)) return
  }
  request
    .on('data', (piece: Buffer) => body.add(piece))
    .on('end', () => body.end())
    .on('error', error => body.fail(error))
}
