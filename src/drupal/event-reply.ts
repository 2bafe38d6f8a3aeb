// The client's side of an event stream: a response that takes bytes as they come and says when it has enough. It refuses to know what
// the events say and where they come from.
import type { ServerResponse } from 'node:http'
import type { FastifyReply } from 'fastify'
import type { EventClient } from '../mcp/sse.ts'

/** Headers of every event stream (R44). */
export const streamHeaders = {
  'content-type': 'text/event-stream',
  'cache-control': 'no-cache, no-transform',
  'x-accel-buffering': 'no'
}

/** A client that is full has `stallMs`, and one millisecond more for every `bytesPerMs` bytes that wait: then its connection is closed. */
const patience = { stallMs: 60_000, bytesPerMs: 1 }

/** The gateway's own counts what its client has yet to take. */
type CountedResponse = ServerResponse & { countUnsent?(): void }

/**
 * A response that writes the chunked coding itself and to the socket. Node would write each chunk as four pieces, and on the next tick:
 * 16 % of what an event costs (measured).
 */
class EventReply implements EventClient {
  readonly #raw: CountedResponse
  /** Not to a client that speaks HTTP/1.0. */
  readonly #isChunked: boolean
  readonly #patience: typeof patience
  /** A time-out of the socket would begin anew with each byte: who takes one a minute would keep the site's worker. */
  #late: NodeJS.Timeout | undefined
  #tell = () => {}
  #hasBegun = false

  constructor(raw: ServerResponse, allowed: typeof patience) {
    this.#raw = raw
    this.#patience = allowed
    this.#isChunked = raw.chunkedEncoding
    raw.chunkedEncoding = false
  }

  /** `resume` is called when the client has taken what there was. */
  onDrain(resume: () => void): void {
    const { socket } = this.#raw.req
    const tell = () => {
      if (this.isFull) return
      clearTimeout(this.#late)
      // Set by an answer before it on the connection: a stream may be silent for longer.
      socket.setTimeout(0)
      this.#raw.countUnsent?.()
      resume()
    }
    socket.on('drain', tell)
    this.#tell = tell
  }

  /** The response is closed. Told, and not listened for: Node warns of more than ten listeners. */
  leave(): void {
    clearTimeout(this.#late)
    this.#raw.req.socket.off('drain', this.#tell)
  }

  get isFull(): boolean {
    const { socket } = this.#raw
    return socket === null ? this.#raw.writableNeedDrain : socket.writableNeedDrain
  }

  cork(): void {
    const { socket } = this.#raw
    if (socket === null || socket.writableCorked > 0) return
    socket.cork()
    process.nextTick(() => socket.uncork())
  }

  write(bytes: string): void {
    // An empty chunk would be the last.
    if (bytes === '') return
    const text = this.#isChunked ? `${bytes.length.toString(16)}\r\n${bytes}\r\n` : bytes
    const { socket } = this.#raw
    // The head goes first, and what was asked before on the same connection is answered before.
    if (this.#hasBegun && socket?.writable) socket.write(text, 'latin1')
    else this.#raw.write(text, 'latin1')
    this.#hasBegun = true
    if (this.isFull) this.#waitForClient()
  }

  end(): void {
    const { socket } = this.#raw
    if (this.#isChunked) this.#raw.end('0\r\n\r\n', 'latin1')
    else this.#raw.end()
    if (socket !== null && socket.writableLength > 0) this.#waitForClient()
  }

  #waitForClient(): void {
    this.#raw.countUnsent?.()
    clearTimeout(this.#late)
    const { socket } = this.#raw
    // It waits for its turn on the connection, not for the client.
    if (socket === null) return
    const { stallMs, bytesPerMs } = this.#patience
    const ms = stallMs + socket.writableLength / bytesPerMs
    this.#late = setTimeout(() => socket.destroy(), ms)
  }
}

/** Begins to answer with events. */
export function replyWithEvents(reply: FastifyReply, allowed = patience): EventReply {
  reply.hijack()
  reply.raw.writeHead(reply.statusCode, {
    ...(reply.getHeaders() as Record<string, string>),
    ...streamHeaders
  })
  return new EventReply(reply.raw, allowed)
}
