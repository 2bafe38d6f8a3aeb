// What do these bytes of a connection say as HTTP/1.1? Reads one answer after the other, in whatever pieces it comes, and takes
// nothing that two readers could understand differently (RFC 9112 §6.3, §11.2). It refuses to know sockets and what is asked.

/** The bytes are no HTTP/1.1 answer. The code says why, in the form of Node's error codes. */
class NoAnswerError extends Error {
  readonly code: string

  constructor(code: string) {
    super(code)
    this.code = code
  }
}

export interface AnswerHandler {
  /** Of the final answer; lower-case names, only those that anybody reads. Repeated ones are joined by a comma. */
  onHeaders(status: number, headers: Record<string, string>): void
  /** A piece of the body: `bytes` from `from` to `to`, lent for this call only. False asks for a pause. */
  onData(bytes: Buffer, from: number, to: number): boolean
  onComplete(): void
}

/** More is no head of Drupal's: Node's and PHP's own limits for all headers. */
const maxHead = 65_536
const start = 'HTTP/1.'
/** A line of the chunked coding: its size and extensions that nobody reads. */
const maxLine = 4096
/** As many hexadecimal digits as stay an exact number by far. */
const chunkSize = /^([0-9a-f]{1,10})[\t ]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n$/i
const field = "(?:\\r\\n[!#$%&'*+.^_`|~0-9a-z-]+:[\\t\\x20-\\x7e\\x80-\\xff]*)"
const head = new RegExp(`^HTTP/1\\.[01] \\d{3}(?: [\\t\\x20-\\x7e\\x80-\\xff]*)?${field}*$`, 'i')

/** The headers that anybody reads, by the length of their names: all others are not looked at. */
const read = new Set([
  'connection',
  'content-encoding',
  'content-length',
  'content-type',
  'keep-alive',
  'location',
  'mcp-session-id',
  'retry-after',
  'transfer-encoding',
  'www-authenticate'
])
const readLengths = new Set([...read].map(name => name.length))

const isBlank = (code: number) => code === 0x20 || code === 0x09

/** Blanks are spaces and tabs (RFC 9112 §5); `trim` takes U+00A0 for one too, which other readers do not. */
function withoutBlanks(text: string, start: number, end: number): string {
  let from = start
  let to = end
  while (from < to && isBlank(text.charCodeAt(from))) from++
  while (to > from && isBlank(text.charCodeAt(to - 1))) to--
  return text.slice(from, to)
}

function readHeaders(text: string): Record<string, string> {
  const headers: Record<string, string> = {}
  let at = text.indexOf('\r\n')
  while (at !== -1) {
    const from = at + 2
    at = text.indexOf('\r\n', from)
    const colon = text.indexOf(':', from)
    if (!readLengths.has(colon - from)) continue
    const name = text.slice(from, colon).toLowerCase()
    if (!read.has(name)) continue
    const value = withoutBlanks(text, colon + 1, at === -1 ? text.length : at)
    headers[name] = headers[name] === undefined ? value : `${headers[name]}, ${value}`
  }
  return headers
}

type State = 'head' | 'length' | 'size' | 'chunk' | 'chunk-end' | 'trailer' | 'end' | 'done'

/** Reads the answers of one connection. After an error it is of no use any more, and neither is the connection. */
export class AnswerReader {
  #state: State = 'done'
  #handler: AnswerHandler | undefined
  #isHead = false
  /** Bytes of the body, or of its chunk, that are still to come. */
  #left = 0
  /** The beginning of a head or line whose end has not come yet. */
  #pending = ''
  /** Milliseconds that the connection may wait for its next request; 0: it is over with this answer. */
  keepAliveMs = 0

  /** `limitMs`: the longest wait for a next request, unless the answer names a shorter one. */
  readonly #limitMs: number

  constructor(limitMs: number) {
    this.#limitMs = limitMs
  }

  get isDone(): boolean {
    return this.#state === 'done'
  }

  /** The next bytes belong to the answer to a request of this method. */
  begin(handler: AnswerHandler, method: string): void {
    this.#handler = handler
    this.#isHead = method === 'HEAD'
    this.#state = 'head'
  }

  /** Takes bytes as they come; false asks for a pause. Throws NoAnswerError. */
  read(bytes: Buffer): boolean {
    let at = 0
    let goOn = true
    while (at < bytes.length) {
      switch (this.#state) {
        case 'head':
          at = this.#readHead(bytes, at)
          break
        case 'length':
        case 'chunk':
        case 'end': {
          const to = Math.min(bytes.length, at + this.#left)
          goOn = (this.#handler as AnswerHandler).onData(bytes, at, to)
          this.#left -= to - at
          at = to
          if (this.#left > 0) break
          if (this.#state === 'chunk') this.#state = 'chunk-end'
          else this.#complete()
          break
        }
        case 'size':
        case 'chunk-end':
        case 'trailer':
          at = this.#readLine(bytes, at)
          break
        // Bytes that nobody asked for: the next request would take them for its answer.
        case 'done':
          throw new NoAnswerError('HPE_UNEXPECTED_BYTES')
      }
    }
    return goOn
  }

  /** The other side has closed. Gives whether an answer was complete, or none was due. */
  end(): boolean {
    this.keepAliveMs = 0
    if (this.#state === 'end') this.#complete()
    return this.#state === 'done'
  }

  #complete(): void {
    this.#state = 'done'
    const handler = this.#handler as AnswerHandler
    this.#handler = undefined
    handler.onComplete()
  }

  /** Takes bytes up to the end of the head. Gives how far it came. */
  #readHead(bytes: Buffer, at: number): number {
    // The usual case: all of it in one piece.
    const end = this.#pending === '' ? bytes.indexOf('\r\n\r\n', at, 'latin1') : -1
    if (end !== -1) {
      this.#takeHead(bytes.toString('latin1', at, end))
      return end + 4
    }
    const known = this.#pending.length
    const text = this.#pending + bytes.toString('latin1', at, Math.min(bytes.length, at + maxHead))
    const found = text.indexOf('\r\n\r\n')
    if (!text.startsWith(start.slice(0, text.length)))
      throw new NoAnswerError('HPE_INVALID_CONSTANT')
    if ((found === -1 ? text.length : found) >= maxHead) {
      throw new NoAnswerError('HPE_HEADER_OVERFLOW')
    }
    if (found === -1) {
      this.#pending = text
      return bytes.length
    }
    this.#pending = ''
    this.#takeHead(text.slice(0, found))
    return at + found + 4 - known
  }

  #takeHead(text: string): void {
    if (text.length >= maxHead) throw new NoAnswerError('HPE_HEADER_OVERFLOW')
    if (!text.startsWith(start)) throw new NoAnswerError('HPE_INVALID_CONSTANT')
    if (!head.test(text)) throw new NoAnswerError('HPE_INVALID_HEADER')
    const status = Number(text.slice(9, 12))
    if (status === 101 || status < 100) throw new NoAnswerError('HPE_INVALID_STATUS')
    // 1xx: the answer is still to come.
    if (status < 200) return
    const headers = readHeaders(text)
    this.#state = this.#framing(status, headers)
    this.keepAliveMs = this.#keepAlive(text, headers)
    ;(this.#handler as AnswerHandler).onHeaders(status, headers)
    if (this.#state === 'done' || (this.#state === 'length' && this.#left === 0)) this.#complete()
  }

  /** How the end of the body is known (RFC 9112 §6.3). What says it in two ways is refused. */
  #framing(status: number, headers: Record<string, string>): State {
    const { 'transfer-encoding': coding, 'content-length': length } = headers
    if (coding !== undefined && (length !== undefined || coding.toLowerCase() !== 'chunked')) {
      throw new NoAnswerError('HPE_INVALID_TRANSFER_ENCODING')
    }
    if (length !== undefined && !/^\d{1,15}$/.test(length)) {
      throw new NoAnswerError('HPE_INVALID_CONTENT_LENGTH')
    }
    if (this.#isHead || status === 204 || status === 304) return 'done'
    if (coding !== undefined) return 'size'
    this.#left = length === undefined ? Infinity : Number(length)
    return length === undefined ? 'end' : 'length'
  }

  #keepAlive(
    text: string,
    { connection, 'keep-alive': hint, 'transfer-encoding': coding }: Record<string, string>
  ): number {
    const words = connection?.toLowerCase() ?? ''
    // Some send the body that HEAD has not.
    if (this.#isHead || /\bclose\b/.test(words)) return 0
    // HTTP/1.0 knows no chunks: what follows them may be another answer to one reader and the same to another (RFC 9112 §6.1).
    const mayStay = coding === undefined && /\bkeep-alive\b/.test(words)
    if (text.startsWith('HTTP/1.0') && !mayStay) return 0
    const seconds = /\btimeout=(\d{1,9})\b/i.exec(hint ?? '')?.[1]
    if (seconds === undefined) return this.#limitMs
    // The other side's clock runs from its last byte: a second less, so that no request meets a closing connection.
    return Math.max(0, Math.min(this.#limitMs, Number(seconds) * 1000 - 1000))
  }

  /** Takes bytes up to the end of a line of the chunked coding. Gives how far it came. */
  #readLine(bytes: Buffer, at: number): number {
    const lf = bytes.indexOf(0x0a, at)
    const to = lf === -1 ? bytes.length : lf + 1
    const line = this.#pending + bytes.toString('latin1', at, Math.min(to, at + maxLine))
    if (line.length >= maxLine) throw new NoAnswerError('HPE_INVALID_CHUNK_SIZE')
    this.#pending = lf === -1 ? line : ''
    if (lf !== -1) this.#takeLine(line)
    return to
  }

  #takeLine(line: string): void {
    if (this.#state === 'size') {
      const size = chunkSize.exec(line)?.[1]
      if (size === undefined) throw new NoAnswerError('HPE_INVALID_CHUNK_SIZE')
      this.#left = Number.parseInt(size, 16)
      this.#state = this.#left === 0 ? 'trailer' : 'chunk'
    } else if (this.#state === 'chunk-end') {
      if (line !== '\r\n') throw new NoAnswerError('HPE_STRICT')
      this.#state = 'size'
    } else if (line === '\r\n') this.#complete()
    // Trailers say nothing that anybody here reads; many of them are no answer's.
    else if ((this.#left += line.length) > maxHead) throw new NoAnswerError('HPE_HEADER_OVERFLOW')
  }
}
