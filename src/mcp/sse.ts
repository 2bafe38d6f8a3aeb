// How does an event stream pass through? Byte for byte, as it comes, with a comment where it has been silent so long that
// something in between might cut it. It looks for the ends of events only and refuses to know what they say.
import { Transform, type TransformCallback } from 'node:stream'

const lf = 0x0a
const cr = 0x0d
const colon = 0x3a
const keepalive = Buffer.from(': keepalive\n\n')

export interface EventRelayOptions {
  /** Milliseconds of silence after which a comment is sent (R44). */
  heartbeatMs: number
  /** Is told each whole event, comments too, and gives what passes: the same, something else, or nothing. */
  judge?: (event: Buffer) => Buffer | undefined
  /** With `judge`: the longest event in bytes, and what is called instead of keeping a longer one. */
  bound?: { maxBytes: number; exceeded: () => void }
}

/**
 * A Transform between the upstream's body and the client's response. Never buffers more than the streams around it do, unless events
 * are judged: then one at a time is kept until it is whole.
 */
export class EventRelay extends Transform {
  /** Events that went through whole; comments do not count. */
  events = 0
  /** Bytes that came from upstream. */
  bytes = 0
  readonly #heartbeat: NodeJS.Timeout
  #draining = false
  #ended = false
  /** Inside an event: at least one line of it went through. */
  #open = false
  /** The open event has a line that is no comment. */
  #counts = false
  #lineIsEmpty = true
  #afterCarriageReturn = false
  readonly #judge: EventRelayOptions['judge']
  readonly #bound: EventRelayOptions['bound']
  /** The beginning of an event that is to be judged. */
  #held: Buffer[] = []
  #heldBytes = 0

  constructor({ heartbeatMs, judge, bound }: EventRelayOptions) {
    super()
    this.#judge = judge
    this.#bound = bound
    this.#heartbeat = setInterval(() => this.#beat(), heartbeatMs)
    // At once, so that headers and a first byte reach the client although the upstream may be silent for long.
    this.#beat()
  }

  /**
   * Ends the stream for the client, after the event that is going through, if one is. What comes later is dropped: close the
   * upstream once the response has finished, not before.
   */
  drain(): void {
    this.#draining = true
    this.#endWhenDrained()
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    if (this.#ended) return done()
    this.bytes += chunk.length
    this.#heartbeat.refresh()
    if (this.#judge === undefined) {
      const end = this.#follow(chunk, 0, this.#draining)
      this.push(end === chunk.length ? chunk : chunk.subarray(0, end))
    } else this.#passJudged(chunk, this.#judge)
    this.#endWhenDrained()
    done()
  }

  /** What passes of a chunk goes on in as few pieces as it can. */
  #passJudged(chunk: Buffer, judge: (event: Buffer) => Buffer | undefined): void {
    let passed = 0
    let at = 0
    while (at < chunk.length) {
      const start = at
      at = this.#follow(chunk, start, true)
      if (!this.#isBetweenEvents()) {
        this.#hold(chunk.subarray(start))
        at = start
        break
      }
      const piece = chunk.subarray(start, at)
      const event = this.#held.length === 0 ? piece : Buffer.concat([...this.#held, piece])
      this.#held = []
      this.#heldBytes = 0
      const shown = judge(event)
      if (shown !== piece) {
        if (start > passed) this.push(chunk.subarray(passed, start))
        if (shown !== undefined) this.push(shown)
        passed = at
      }
      if (this.#draining) break
    }
    if (at > passed) this.push(chunk.subarray(passed, at))
  }

  #hold(piece: Buffer): void {
    this.#heldBytes += piece.length
    if (this.#bound !== undefined && this.#heldBytes > this.#bound.maxBytes) this.#bound.exceeded()
    else this.#held.push(piece)
  }

  override _flush(done: TransformCallback): void {
    clearInterval(this.#heartbeat)
    done()
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    clearInterval(this.#heartbeat)
    done(error)
  }

  /** A comment, unless it would land inside an event or the client does not even take what there is. */
  #beat(): void {
    // Of an event that is to be judged nothing has gone out yet.
    const fits = this.#judge !== undefined || this.#isBetweenEvents()
    if (fits && !this.#ended && this.readableLength < this.readableHighWaterMark)
      this.push(keepalive)
  }

  #endWhenDrained(): void {
    if (!this.#draining || this.#ended || !this.#isBetweenEvents()) return
    this.#ended = true
    clearInterval(this.#heartbeat)
    // Parsers wait to see whether a line feed follows: without one, clients would not see the last event.
    if (this.#afterCarriageReturn) this.push('\n')
    this.push(null)
  }

  #isBetweenEvents(): boolean {
    return this.#lineIsEmpty && !this.#open
  }

  /** Follows the lines of a chunk from `start`; how far: all of it, or to the next end of an event. */
  #follow(chunk: Buffer, start: number, stops: boolean): number {
    let at = start
    let nextLf = chunk.indexOf(lf, at)
    let nextCr = chunk.indexOf(cr, at)
    while (at < chunk.length) {
      if (this.#afterCarriageReturn && chunk[at] === lf) at += 1
      this.#afterCarriageReturn = false
      if (nextLf !== -1 && nextLf < at) nextLf = chunk.indexOf(lf, at)
      if (nextCr !== -1 && nextCr < at) nextCr = chunk.indexOf(cr, at)
      const isCr = nextCr !== -1 && (nextLf === -1 || nextCr < nextLf)
      const found = isCr ? nextCr : nextLf
      const lineEnd = found === -1 ? chunk.length : found
      if (lineEnd > at) this.#seeText(chunk[at] as number)
      if (found === -1) break
      this.#endLine()
      this.#afterCarriageReturn = isCr
      at = lineEnd + 1
      if (stops && this.#isBetweenEvents()) return at
    }
    return chunk.length
  }

  #seeText(firstByte: number): void {
    if (this.#lineIsEmpty && firstByte !== colon) this.#counts = true
    this.#lineIsEmpty = false
  }

  #endLine(): void {
    if (!this.#lineIsEmpty) this.#open = true
    else {
      if (this.#counts) this.events += 1
      this.#open = false
      this.#counts = false
    }
    this.#lineIsEmpty = true
  }
}
