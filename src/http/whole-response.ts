// How does an answer leave that is known as a whole? In one piece with its head, at the end of the turn. Everything else is left to
// Node's own response, which this is: streams, HEAD, answers that wait for their turn on a pipelined connection. It refuses to know
// what the answer says. Measured: 2 to 8 % of a call, and without it no answer could wait for the end of the turn.
import { type IncomingMessage, ServerResponse } from 'node:http'
import type { Server, Socket } from 'node:net'
import { type Sender, sendAtEndOfTurn } from '../end-of-turn.ts'
import type { Share } from './buffers.ts'
import { WholeRequest } from './whole-request.ts'

/** Larger bodies cost less in a piece of their own than copied into one with the head. */
const maxJoined = 4096
/** A request's body is there as it came, parsed, and as it goes to the site (measured: 12 MB for one of 4 MB). */
export const bodyCopies = 3
/** So many requests may wait on a connection behind the one that is being answered: each takes some KB, and 64 KB bring a thousand. */
const maxWaiting = 32

interface Connection extends Socket {
  /** Node's name for the answer under way. */
  _httpMessage?: ServerResponse | null
  /** Node's; takes each request when its head has come. */
  parser?: { onIncoming: () => number } | null
  /** Node's: the listener. Of a connection that is closed here it says `crowded`. */
  server?: Server
  waiting?: number
  /** Node's; below TLS there is another. */
  _handle?: { _parent?: { writeQueueSize: number } } | null
  /** Bytes that were left below TLS when its client was last looked at. */
  left?: number | undefined
}

/** For the listener's `ServerResponse`: same bytes and events as Node's, but a whole answer is written when the turn ends. */
export class WholeResponse extends ServerResponse implements Sender {
  // Fields of Node's that it does not document. Where they are missing no answer is taken for whole, and all is as without this.
  /** What Node has made of writeHead, and whether it has left. */
  declare readonly _header: string | null
  declare _headerSent: boolean
  /** As the head declares it; null where it does not. */
  declare readonly _contentLength: number | null
  declare readonly _hasBody: boolean
  /** Whether the connection is closed behind it. */
  declare _last: boolean
  /** Whether 'close' was emitted. */
  declare _closed: boolean

  static {
    // Some versions of Node have a getter here, and their types a field, which TypeScript lets no getter override.
    Object.defineProperty(WholeResponse.prototype, 'writableFinished', {
      get(this: WholeResponse) {
        return this.#isSent
      }
    })
  }

  /** What its request's body and what is unsent of it are counted in; undefined: nobody counts. */
  share: Share | undefined
  #bodyBytes = 0
  #body: Buffer | string | undefined
  #isSent = false
  #isWaiting = false
  /** "100 Continue" is due when its turn comes. */
  #owesContinue = false

  /** As Node makes its own; the options are not in its types. */
  constructor(request: IncomingMessage, options?: object) {
    super(...([request, options] as unknown as [IncomingMessage]))
    if (request instanceof WholeRequest) request.answer = this
    const socket: Connection = request.socket
    if (socket._httpMessage) this.#waitForTurn(socket)
  }

  #waitForTurn(socket: Connection): void {
    this.#isWaiting = true
    socket.waiting = (socket.waiting ?? 0) + 1
    if (socket.waiting <= maxWaiting) return
    socket.server?.emit('crowded')
    socket.destroy()
    // What has come is parsed to its end all the same: of a thousand in one piece each would be carried out.
    if (socket.parser) socket.parser.onIncoming = () => 0
  }

  /** The connection has gone before the answer's turn came: Node 20 forgets it, later versions say 'close'. */
  leaveUnsent(): void {
    if (this._closed) return
    this.destroyed = true
    this._closed = true
    this.emit('close')
  }

  override end(chunk?: unknown, encoding?: unknown, callback?: unknown): this {
    if (this._closed) this.share?.free()
    if (this._last && !this.req.complete) this.#closeWhenItHasCome()
    // A text is as long as its bytes where it is ASCII.
    const isWhole =
      (typeof chunk === 'string' || Buffer.isBuffer(chunk)) &&
      chunk.length === this._contentLength &&
      (encoding === null || encoding === undefined) &&
      typeof callback !== 'function' &&
      this._hasBody &&
      !this.chunkedEncoding &&
      typeof this._header === 'string' &&
      !this._headerSent &&
      !this.finished &&
      this.socket !== null
    if (!isWhole) {
      super.end(...([chunk, encoding, callback] as unknown as []))
      if (this.socket !== null) this.#doNotWaitForever(this.socket)
      this.countUnsent()
      return this
    }
    this.#body = chunk
    this._headerSent = true
    this.finished = true
    // TLS tells at the end of a turn that it has written: written then, the answer would be finished a turn later.
    if ('encrypted' in this.socket) this.sendNow()
    else sendAtEndOfTurn(this)
    return this
  }

  sendNow(): void {
    const { socket } = this
    // The client has gone meanwhile: 'close' has told so.
    if (socket === null || socket.destroyed) return
    const head = this._header as string
    const body = this.#body as Buffer | string
    if (body.length > maxJoined) {
      socket.cork()
      socket.write(head, 'latin1')
      socket.write(body, this.#sent)
      socket.uncork()
    } else {
      const text = typeof body === 'string' ? body : body.toString('latin1')
      socket.write(head + text, 'latin1', this.#sent)
    }
    this.#doNotWaitForever(socket)
    this.countUnsent()
  }

  /** So much has come of the body, which is held until the answer is through. */
  countBody(bytes: number, giveUp?: () => void): void {
    this.#bodyBytes = bodyCopies * bytes
    this.#hold(this.#bodyBytes, giveUp)
  }

  /** So much is held of its answer until the rest of it is there. */
  countAnswer(bytes: number, giveUp?: () => void): void {
    this.#hold(this.#bodyBytes + bytes, giveUp)
  }

  /** Counts anew what its client has yet to take; where that is given up, the connection is closed. */
  countUnsent(): void {
    const unsent = this.writableLength
    if (unsent === 0) this.#hold(this.#bodyBytes)
    else this.#hold(this.#bodyBytes + unsent, () => void this.req.socket.destroy())
  }

  /** The client has gone. What it asked for may be at work or waiting all the same (R45), and its body is held as long. */
  #leave(): void {
    if (this.headersSent) this.share?.free()
  }

  #hold(bytes: number, giveUp?: () => void): void {
    const { share } = this
    if (share === undefined || this._closed) return
    const { isHeld } = share
    share.hold(bytes, giveUp)
    if (!isHeld && share.isHeld) this.once('close', () => this.#leave())
  }

  /** Said before its turn on a pipelined connection, it may leave behind the head of its answer: Node puts that first of all that waits. */
  override writeContinue(callback?: () => void): void {
    if (this.socket === null) this.#owesContinue = true
    else super.writeContinue(callback)
  }

  /** Node gives an answer its connection, and what was said meanwhile leaves on it. */
  override assignSocket(socket: Connection): void {
    if (this.#isWaiting) socket.waiting = (socket.waiting as number) - 1
    super.assignSocket(socket)
    if (this.#owesContinue && !this.headersSent) super.writeContinue()
    this.#doNotWaitForever(socket)
  }

  #doNotWaitForever(socket: Socket): void {
    if (socket.writableLength > 0) socket.setTimeout(this.stallMs)
  }

  /** A client that takes nothing of its answer for so long, in milliseconds, is not waited for: Node closes the connection. */
  get stallMs(): number {
    return 60_000
  }

  override emit(event: string | symbol, ...told: unknown[]): boolean {
    if (event === 'finish') {
      const { socket } = this
      // Node 20 says so, too, where the client has gone and what it has not taken is thrown away.
      if (socket?.destroyed) return false
      this.#isSent = true
      // Before Node's own listener: it gives the connection to the next answer, or its time as an idle one.
      if (socket?.timeout === this.stallMs) socket.setTimeout(0)
    }
    return (event === 'timeout' && this.#isTaken()) || super.emit(event as 'close', ...(told as []))
  }

  /** Node asks TLS what is left, to which that is all until the last byte has gone: it would cut off whoever takes it slowly. */
  #isTaken(): boolean {
    const socket: Connection = this.req.socket
    const left = socket._handle?._parent?.writeQueueSize
    if (left === socket.left) return false
    socket.left = left
    socket.setTimeout(this.stallMs)
    return true
  }

  readonly #sent = (error?: Error | null): void => {
    if (!error) this.emit('finish')
  }

  /**
   * A connection that is closed with bytes unread is reset, and a client that was still sending never sees its answer (RFC 9112 §9.6).
   * The rest is let go, for at most the time that a request may take.
   */
  #closeWhenItHasCome(): void {
    const { req } = this
    if (!(req instanceof WholeRequest)) return
    this._last = false
    this.once('finish', () => req.letGo(() => req.socket.destroySoon()))
  }
}
