// The body of an answer that is a stream of events: read from the connection no faster than the client takes it. It refuses to know
// what the events say.
import { Readable } from 'node:stream'
import type { Connection } from './connection.ts'

/** Takes bytes, one character each, perhaps with more at hand. False asks for a pause. */
export type Take = (bytes: string, hasMore?: boolean) => boolean

/** Bytes behind the last chunk that has come: the end of its line. */
const lineEnd = 2

/** The events of an answer, taken from the connection no faster than they are read. */
export class EventBody extends Readable {
  readonly #connection: Connection
  #take: Take | undefined
  #isComplete = false
  #isDiscarded = false

  constructor(connection: Connection) {
    super()
    this.#connection = connection
    // A connection that is lost before anybody reads must not end the process.
    this.on('error', () => {})
  }

  /** Bytes that are lent for this call only. False asks for a pause. */
  add(bytes: Buffer, from: number, to: number): boolean {
    if (this.#take === undefined) return this.push(Buffer.from(bytes.subarray(from, to)))
    return this.#take(bytes.toString('latin1', from, to), bytes.length - to > lineEnd)
  }

  /** Hands on what is kept already, and then what comes, past the stream's own buffers: a tenth of what an event costs (measured). */
  follow(take: Take): () => void {
    for (let kept = this.read(); kept !== null; kept = this.read()) take(kept.toString('latin1'))
    this.#take = take
    // For its end.
    this.resume()
    return () => this.#connection.resume()
  }

  /** What it says is for somebody else: what is still to come of it may be read, but nothing else on its connection. */
  discard(): void {
    this.#isDiscarded = true
    if (this.#isComplete) this.#connection.discard()
  }

  complete(): void {
    this.#isComplete = true
    if (this.#isDiscarded) this.#connection.abort()
    this.push(null)
  }

  override _read(): void {
    this.#connection.resume()
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    // The rest of what came at once is for nobody any more.
    this.#take = () => true
    if (!this.#isComplete) this.#connection.abort()
    done(error)
  }
}

/** Hands on what a source says, as it comes. Answers what lets it go on after a pause. */
export function follow(source: Readable, take: Take): () => void {
  if (source instanceof EventBody) return source.follow(take)
  source.on('data', (bytes: Buffer) => {
    if (!take(bytes.toString('latin1'))) source.pause()
  })
  return () => void source.resume()
}

/**
 * Reads on what nobody waits for any more, for `longestMs` and through a silence of `silentMs` at most. `origin`: what comes from the
 * connection, where `source` is a translation of it.
 */
export function readToEnd(
  source: Readable,
  origin: Readable,
  longestMs: number,
  silentMs: number
): void {
  // It is over, and says so no more: the timers would hold all that it has brought.
  if (origin.closed) return
  const stop = () => origin.destroy()
  const late = setTimeout(stop, longestMs).unref()
  const silent = setTimeout(stop, silentMs).unref()
  const heard = () => {
    silent.refresh()
    return true
  }
  if (origin !== source) origin.on('data', heard)
  origin.once('close', () => {
    clearTimeout(late)
    clearTimeout(silent)
  })
  source.on('error', () => {})
  follow(source, heard)()
}
