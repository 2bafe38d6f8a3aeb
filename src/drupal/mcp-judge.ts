// Which events of a stream may reach those who asked, and who of them is still without an answer? It refuses to know bytes on a
// connection and how a stream ends.
import { isGatewayError } from '../errors.ts'
import type { RpcRequest } from '../mcp/call.ts'
import { writeEvent } from '../mcp/sse-events.ts'
import { errorFor, type Expected, findRequest } from './mcp-answer.ts'
import { isSameId } from './mcp-read.ts'

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

/** `dropped` is told why an event does not pass, or not as it came. */
export function createJudge(expected: Expected, dropped: (reason: string) => void): Judge {
  let waiting = expected.requests
  let isResumable = false

  function answered(request: RpcRequest): void {
    waiting = waiting.filter(each => each !== request)
  }

  /** What the client gets of one message: the same where it passes as it came, nothing where it is for nobody here. */
  function shown(data: Buffer, owner: RpcRequest | undefined): Buffer | string | undefined {
    try {
      const found = findRequest(data, { ...expected, requests: waiting })
      if (found.kind === 'news') return data
      if (found.kind === 'foreign') {
        dropped(found.reason)
        return undefined
      }
      answered(found.request)
      return found.text ?? data
    } catch (error) {
      /* c8 ignore next -- a mistake of ours: whoever reads the stream reports it */
      if (!isGatewayError(error)) throw error
      dropped(error.reason ?? error.code)
      if (owner === undefined) return undefined
      answered(owner)
      return errorFor(owner, error)
    }
  }

  /** The answers to a batch come one by one or together. */
  function shownOfBatch(data: Buffer): Buffer | string | undefined {
    const value = parse(data)
    if (!Array.isArray(value)) return shown(data, ownerOf(value))
    const messages = value.map(message => Buffer.from(JSON.stringify(message)))
    const all = messages.map((message, index) => shown(message, ownerOf(value[index])))
    if (all.every((each, index) => each === messages[index])) return data
    const passing = all.filter(each => each !== undefined)
    return passing.length === 0 ? undefined : `[${passing.join(',')}]`
  }

  const ownerOf = (message: unknown) =>
    waiting.find(({ id }) => isSameId((message as { id?: unknown } | null | undefined)?.id, id))

  return {
    pass(event) {
      const { data, hasId } = readEvent(event)
      if (hasId) isResumable = true
      if (data === undefined || data.length === 0 || isNews(data)) return event
      const text = expected.batch ? shownOfBatch(data) : shown(data, waiting[0])
      if (text === data) return event
      return text === undefined ? undefined : Buffer.from(writeEvent(text.toString()))
    },
    lost: () => (isResumable ? [] : waiting)
  }
}

function parse(data: Buffer): unknown {
  try {
    return JSON.parse(data.toString())
  } catch {
    return undefined
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
