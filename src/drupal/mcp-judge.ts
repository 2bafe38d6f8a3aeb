// Which events of a stream may reach those who asked, and who of them is still without an answer? It refuses to know bytes on a
// connection and how a stream ends.
import { isGatewayError } from '../errors.ts'
import type { RpcRequest } from '../mcp/call.ts'
import { writeEvent } from '../mcp/sse-events.ts'
import { errorFor, type Expected, findRequest } from './mcp-answer.ts'

export interface Judge {
  /** The event as it came or as the client gets it; undefined: it is an answer to nobody here. */
  pass(event: Buffer): Buffer | undefined
  /** Requests that nothing more will be said to. None where the client can resume the stream (R43). */
  lost(): readonly RpcRequest[]
}

const news = ['{"method":', '{"jsonrpc":"2.0","method":'].map(text => Buffer.from(text))
const dataField = Buffer.from('data:')
const idField = Buffer.from('id:')
const lf = 0x0a
const cr = 0x0d

/** `dropped` is told why an event does not pass. Of a batch everything passes: its answers may come one by one or together. */
export function createJudge(expected: Expected, dropped: (reason: string) => void): Judge {
  let waiting = expected.requests
  let isResumable = false

  function answered(request: RpcRequest): void {
    waiting = waiting.filter(each => each !== request)
  }

  return {
    pass(event) {
      const { data, hasId } = readEvent(event)
      if (hasId) isResumable = true
      if (data === undefined || data.length === 0 || isNews(data)) return event
      if (expected.batch) {
        for (const id of idsIn(data)) waiting = waiting.filter(each => String(each.id) !== id)
        return event
      }
      try {
        const found = findRequest(data, { ...expected, requests: waiting })
        if (found.kind === 'news') return event
        if (found.kind === 'foreign') {
          dropped(found.reason)
          return undefined
        }
        answered(found.request)
        return found.text === undefined ? event : Buffer.from(writeEvent(found.text))
      } catch (error) {
        const [request] = waiting
        /* c8 ignore next -- a mistake of ours: whoever reads the stream reports it */
        if (!isGatewayError(error)) throw error
        dropped(error.reason ?? error.code)
        if (request === undefined) return undefined
        answered(request)
        return Buffer.from(writeEvent(errorFor(request, error)))
      }
    },
    lost: () => (isResumable ? [] : waiting)
  }
}

/** The ids that the data of an event answers; none where it is not JSON. */
function idsIn(data: Buffer): string[] {
  try {
    const value: unknown = JSON.parse(data.toString())
    const messages = (Array.isArray(value) ? value : [value]) as ({ id?: unknown } | null)[]
    return messages.map(message => String(message?.id))
  } catch {
    return []
  }
}

const startsWith = (bytes: Buffer, start: Buffer, at = 0) =>
  bytes.length >= at + start.length &&
  bytes.compare(start, 0, start.length, at, at + start.length) === 0

const isNews = (data: Buffer) => news.some(start => startsWith(data, start))

/** The data of an event, without copying where it is one line, as it nearly always is. */
function readEvent(event: Buffer): { data: Buffer | undefined; hasId: boolean } {
  let data: Buffer | undefined
  let hasId = false
  let at = 0
  while (at < event.length) {
    let end = at
    const nextLf = event.indexOf(lf, at)
    const nextCr = event.indexOf(cr, at)
    if (nextLf === -1 && nextCr === -1) end = event.length
    else end = nextLf === -1 || (nextCr !== -1 && nextCr < nextLf) ? nextCr : nextLf
    if (startsWith(event, dataField, at)) {
      const from = at + dataField.length
      const line = event.subarray(event[from] === 0x20 ? from + 1 : from, end)
      data = data === undefined ? line : Buffer.concat([data, Buffer.of(lf), line])
    } else if (startsWith(event, idField, at)) hasId = true
    at = end + 1
  }
  return { data, hasId }
}
