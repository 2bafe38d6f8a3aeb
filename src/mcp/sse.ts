// How does an event stream pass through? Byte for byte, as it comes, with a comment where it has been silent so long that
// something in between might cut it. It looks for the ends of events only and refuses to know what they say.

const keepalive = ': keepalive\n\n'
/** U+FEFF in UTF-8, one character a byte. */
const mark = '\xef\xbb\xbf'

/** A text as what is relayed is kept, one character a byte: looking into buffers costs 3 % of an event more (measured). */
export const bytesOf = (text: string) => Buffer.from(text).toString('latin1')

/** Where events go. */
export interface EventClient {
  /** It has more to take than it keeps: it tells when it has taken it. */
  readonly isFull: boolean
  /** What is written now may wait for what is written next: there is more at hand. */
  cork(): void
  write(bytes: string): void
  end(): void
}

export interface EventRelayOptions {
  client: EventClient
  /** Milliseconds of silence after which a comment is sent (R44). */
  heartbeatMs: number
  /** Is told each whole event, comments too, and gives what passes: the same, something else, or nothing. */
  judge?: (event: string) => string | undefined
  /** With `judge`: the longest event in bytes, and what is called instead of keeping a longer one. */
  bound?: { maxBytes: number; exceeded: () => void }
}

/**
 * What stands between the upstream's body and the client's response. It buffers nothing, unless events are judged: then one at a time
 * is kept until it is whole.
 */
export class EventRelay {
  /** Bytes that came from upstream, and of what was said beside. */
  bytes = 0
  readonly #client: EventClient
  readonly #heartbeat: NodeJS.Timeout
  #draining = false
  #farewell = ''
  #ended = false
  /** Inside an event: at least one line of it went through. */
  #open = false
  #lineIsEmpty = true
  #afterCarriageReturn = false
  /** Of the chunk that is followed: each is looked for once, however many events the chunk has. */
  #nextLf = -1
  #nextCr = -1
  readonly #judge: EventRelayOptions['judge']
  readonly #bound: EventRelayOptions['bound']
  /** All that came, while it may be the beginning of a byte order mark. */
  #beginning: string | undefined = ''
  /** The beginning of an event that is to be judged. */
  #held = ''

  constructor({ client, heartbeatMs, judge, bound }: EventRelayOptions) {
    this.#client = client
    this.#judge = judge
    this.#bound = bound
    this.#heartbeat = setInterval(() => this.#beat(), heartbeatMs)
    // At once, so that headers and a first byte reach the client although the upstream may be silent for long.
    this.#beat()
  }

  /**
   * Ends the stream for the client, after the event that is going through, if one is, with `farewell` as its last one. What comes later
   * is dropped: close the upstream once the response has finished, not before.
   */
  drain(farewell = ''): void {
    this.#farewell = farewell
    this.#draining = true
    this.#endWhenDrained()
  }

  /** Takes what came, one character a byte. False asks for a pause until the client has taken what there is. */
  take(chunk: string, hasMore = false): boolean {
    if (this.#ended) return true
    if (hasMore) this.#client.cork()
    this.bytes += chunk.length
    this.#heartbeat.refresh()
    const text = this.#beginning === undefined ? chunk : this.#afterMark(this.#beginning + chunk)
    if (this.#judge === undefined) {
      const end = this.#follow(text, 0, this.#draining)
      this.#client.write(text.slice(0, end))
    } else this.#passJudged(text, this.#judge)
    this.#endWhenDrained()
    return !this.#client.isFull
  }

  /** Tells the client whole events that nobody judges: after `cut`. */
  say(events: string): void {
    if (this.#ended) return
    this.bytes += events.length
    this.#client.write(events)
  }

  /** The rest of an event will not come: what is kept of it is not taken for a whole one. */
  cut(): void {
    if (this.#judge === undefined || this.#isBetweenEvents()) return
    this.#held = ''
    this.#open = false
    this.#lineIsEmpty = true
  }

  /** Nothing more comes. */
  end(): void {
    if (this.#ended) return
    this.close()
    this.#client.end()
  }

  /** Nothing more is to reach the client. */
  close(): void {
    this.#ended = true
    clearInterval(this.#heartbeat)
  }

  /** A stream may begin with a byte order mark: behind our comment it would spoil the first event. */
  #afterMark(text: string): string {
    const isUnclear = text.length < mark.length && mark.startsWith(text)
    this.#beginning = isUnclear ? text : undefined
    if (isUnclear) return ''
    return text.startsWith(mark) ? text.slice(mark.length) : text
  }

  /** What passes of a chunk goes on in as few pieces as it can. */
  #passJudged(chunk: string, judge: (event: string) => string | undefined): void {
    let passed = 0
    let at = 0
    while (at < chunk.length) {
      const start = at
      at = this.#follow(chunk, start, true)
      if (!this.#isBetweenEvents()) {
        this.#hold(chunk.slice(start))
        at = start
        break
      }
      const piece = chunk.slice(start, at)
      const event = this.#held + piece
      this.#held = ''
      const shown = judge(event)
      if (shown !== piece) {
        if (start > passed) this.#client.write(chunk.slice(passed, start))
        if (shown !== undefined) this.#client.write(shown)
        passed = at
      }
      if (this.#draining) break
    }
    if (at > passed) this.#client.write(chunk.slice(passed, at))
  }

  #hold(piece: string): void {
    this.#held += piece
    if (this.#bound === undefined || this.#held.length <= this.#bound.maxBytes) return
    this.#held = ''
    this.#bound.exceeded()
  }

  /** A comment, unless it would land inside an event or the client does not even take what there is. */
  #beat(): void {
    // Of an event that is to be judged nothing has gone out yet.
    const fits = this.#judge !== undefined || this.#isBetweenEvents()
    if (fits && !this.#client.isFull) this.#client.write(keepalive)
  }

  #endWhenDrained(): void {
    if (!this.#draining || this.#ended || !this.#isBetweenEvents()) return
    // Parsers wait to see whether a line feed follows: without one, clients would not see the last event.
    if (this.#afterCarriageReturn) this.#client.write('\n')
    if (this.#farewell !== '') this.#client.write(this.#farewell)
    this.end()
  }

  #isBetweenEvents(): boolean {
    return this.#lineIsEmpty && !this.#open
  }

  /** Follows the lines of a chunk from `start`; how far: all of it, or to the next end of an event. */
  #follow(chunk: string, start: number, stops: boolean): number {
    let at = start
    if (start === 0) {
      this.#nextLf = chunk.indexOf('\n')
      this.#nextCr = chunk.indexOf('\r')
    }
    while (at < chunk.length) {
      if (this.#afterCarriageReturn && chunk[at] === '\n') at += 1
      this.#afterCarriageReturn = false
      if (this.#nextLf !== -1 && this.#nextLf < at) this.#nextLf = chunk.indexOf('\n', at)
      if (this.#nextCr !== -1 && this.#nextCr < at) this.#nextCr = chunk.indexOf('\r', at)
      const isCr = this.#nextCr !== -1 && (this.#nextLf === -1 || this.#nextCr < this.#nextLf)
      const found = isCr ? this.#nextCr : this.#nextLf
      const lineEnd = found === -1 ? chunk.length : found
      if (lineEnd > at) this.#lineIsEmpty = false
      if (found === -1) break
      this.#endLine()
      this.#afterCarriageReturn = isCr
      at = lineEnd + 1
      if (stops && this.#isBetweenEvents()) return at
    }
    return chunk.length
  }

  #endLine(): void {
    this.#open = !this.#lineIsEmpty
    this.#lineIsEmpty = true
  }
}
