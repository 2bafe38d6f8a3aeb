// What do the events of a stream say, and how is an event written? For whoever has to understand a stream: the era bridge and
// the command line. Relaying does not: sse.ts.
import { type ErrorDetails, gatewayError } from '../errors.ts'

export interface ServerSentEvent {
  /** 'message' where the stream names none. */
  event: string
  /** Lines joined by "\n"; empty for a priming event (R43), which carries an id only. */
  data: string
  id: string | undefined
  /** Milliseconds to wait before reconnecting, at most 25 days: a timer that is longer does not wait at all. */
  retry: number | undefined
}

const longestMs = 2 ** 31 - 1

/**
 * The events of an SSE body, as they come; comments are skipped and an unfinished last event is dropped, as the standard says.
 * Throws GW_UPSTREAM_TOO_LARGE, with `details`, when one event is longer than `maxLength` characters. Ending the loop ends the body.
 */
export async function* readEvents(
  body: AsyncIterable<Uint8Array>,
  { maxLength, details }: { maxLength: number; details?: ErrorDetails }
): AsyncGenerator<ServerSentEvent, void, undefined> {
  const decoder = new TextDecoder()
  const block: string[] = []
  let line: string[] = []
  let length = 0
  let afterCarriageReturn = false
  for await (const chunk of body) {
    let text = decoder.decode(chunk, { stream: true })
    if (text === '') continue
    const endsWithReturn = text.endsWith('\r')
    if (afterCarriageReturn && text.startsWith('\n')) text = text.slice(1)
    afterCarriageReturn = endsWithReturn
    const pieces = text.split(/\r\n|\n|\r/)
    for (const [index, piece] of pieces.entries()) {
      length += piece.length
      if (length > maxLength)
        throw gatewayError('GW_UPSTREAM_TOO_LARGE', { reason: 'an event is too long', ...details })
      if (piece !== '') line.push(piece)
      if (index === pieces.length - 1) break
      if (line.length > 0) block.push(line.join(''))
      else {
        const event = toEvent(block)
        block.length = 0
        length = 0
        if (event !== undefined) yield event
      }
      line = []
    }
  }
}

function toEvent(lines: readonly string[]): ServerSentEvent | undefined {
  const event: ServerSentEvent = { event: 'message', data: '', id: undefined, retry: undefined }
  const data: string[] = []
  let hasField = false
  for (const line of lines) {
    const [, name, value = ''] = /^([^:]*)(?:: ?(.*))?$/s.exec(line) as RegExpExecArray
    if (name === '') continue
    hasField = true
    if (name === 'data') data.push(value)
    else if (name === 'event') event.event = value || 'message'
    else if (name === 'id' && !value.includes('\0')) event.id = value
    else if (name === 'retry' && /^\d+$/.test(value))
      event.retry = Math.min(Number(value), longestMs)
  }
  event.data = data.join('\n')
  return hasField ? event : undefined
}

/** An event as text. `data` may hold line breaks; `id` must not. */
export function writeEvent(data: string, id?: string): string {
  const idLine = id === undefined ? '' : `id: ${id}\n`
  return `event: message\n${idLine}data: ${data.replaceAll(/\r\n|\n|\r/g, '\ndata: ')}\n\n`
}
