// Which events of a stream may reach those who asked, and who of them is still without an answer? It refuses to know bytes on a
// connection and how a stream ends.
import { type GatewayError, gatewayError, isGatewayError } from '../errors.ts'
import { isObject, parseJson, type RpcRequest } from '../mcp/call.ts'
import { elementTexts } from '../mcp/json-members.ts'
import { errorFor } from '../mcp/rpc-error.ts'
import { bytesOf } from '../mcp/sse.ts'
import { writeEvent } from '../mcp/sse-events.ts'
import { type Expected, findRequest, isNews, ownerOf } from './mcp-answer.ts'
import type { Edit } from './mcp-shown.ts'

export interface Judge {
  /** The event, one character a byte, as it came or as the client gets it; undefined: it is an answer to nobody here. */
  pass(event: string): string | undefined
  /** Requests that nothing more will be said to. None where the client can resume the stream (R43). */
  lost(): readonly RpcRequest[]
}

const dataField = 'data:'
const idField = 'id:'
/** A comment, a field that clients know, or the end of an event. */
const known = /(?:data|event|id|retry)?(?:[:\r\n]|$)/y
const lineEnd = /\r\n|\n|\r/

/**
 * `dropped` is told why an event does not pass, or not as it came, and whether it answers nobody here. `mayResume`: the client has a
 * session to come back in.
 */
export function createJudge(
  expected: Expected,
  dropped: (reason: string, isForeign: boolean) => void,
  mayResume = true
): Judge {
  let waiting = expected.requests
  let isResumable = false

  function answered(request: RpcRequest): void {
    waiting = waiting.filter(each => each !== request)
  }

  /** What the client gets of one message: the same where it passes as it came, nothing where it is for nobody here. */
  function shown(data: Buffer, owner: RpcRequest | undefined): Buffer | string | undefined {
    try {
      const found = findRequest(data, { ...expected, requests: waiting })
      if (found.kind === 'news') {
        if (expected.maySay?.(found.message) ?? true) return data
        dropped('not to be said on this stream', false)
        return undefined
      }
      if (found.kind === 'foreign') {
        dropped(found.reason, true)
        return undefined
      }
      answered(found.request)
      return found.text ?? data
    } catch (error) {
      /* c8 ignore next -- a mistake of ours: whoever reads the stream reports it */
      if (!isGatewayError(error)) throw error
      dropped(error.reason ?? error.code, false)
      if (owner === undefined) return undefined
      answered(owner)
      return errorFor(owner, error)
    }
  }

  /** The answers to a batch come one by one or together. */
  function shownOfBatch(data: Buffer): Buffer | string | undefined {
    const text = data.toString()
    const value = parseJson(text)
    if (!Array.isArray(value)) return shown(data, ownOf(value, text))
    const texts = elementTexts(text)
    const messages = texts.map(each => Buffer.from(each))
    const all = messages.map((message, index) =>
      shown(message, ownOf(value[index], texts[index] as string))
    )
    if (all.every((each, index) => each === messages[index])) return data
    const passing = all.filter(each => each !== undefined)
    return passing.length === 0 ? undefined : `[${passing.join(',')}]`
  }

  const ownOf = (message: unknown, text: string) =>
    isObject(message) ? ownerOf(message['id'], text, waiting) : undefined

  return {
    pass(event) {
      const { data, hasId, isClean } = readEvent(event)
      if (hasId) isResumable = mayResume
      const own = isClean ? event : writtenAnew(event)
      if (data === '' || (expected.maySay === undefined && isNews(data))) return own
      const message = Buffer.from(data, 'latin1')
      const text = expected.batch ? shownOfBatch(message) : shown(message, waiting[0])
      if (text === message) return own
      return text === undefined ? undefined : writtenAnew(event, text.toString())
    },
    lost: () => (isResumable ? [] : waiting)
  }
}

/** For a stream that nobody here waits for an answer on. */
export function createReplayJudge(edit: Edit): Judge {
  return {
    pass(event) {
      const { data, isClean } = readEvent(event)
      const own = isClean ? event : writtenAnew(event)
      if (data === '') return own
      const text = Buffer.from(data, 'latin1').toString()
      const shown = edit(text)
      if (shown === text) return own
      return shown === undefined ? undefined : writtenAnew(event, shown)
    },
    lost: () => []
  }
}

/**
 * The judge's `pass`, which now never throws: the stream would take that for an error of its own, and the client would wait for as long
 * as a stream may last. `failed` is told instead, once, and no event passes any more.
 */
export function guarded(judge: Judge, failed: (error: unknown) => void): Judge['pass'] {
  let hasFailed = false
  return event => {
    if (hasFailed) return undefined
    try {
      return judge.pass(event)
    } catch (error) {
      hasFailed = true
      failed(error)
      return undefined
    }
  }
}

/** What those are told whose answer was lost with the upstream, or never came. */
export function lostAnswers(judge: Judge | undefined, error: Error): string {
  const cause: GatewayError = isGatewayError(error) ? error : gatewayError('GW_UPSTREAM_INVALID')
  return (judge?.lost() ?? []).map(request => writeEvent(errorFor(request, cause))).join('')
}

interface EventParts {
  /** Empty where it has none. */
  data: string
  /** Whether it has an id that clients resume at: none that is empty or holds U+0000. */
  hasId: boolean
  /** Whether clients know each of its lines: PHP writes what it warns of into what it answers. */
  isClean: boolean
}

function readEvent(event: string): EventParts {
  let data: string | undefined
  let hasId = false
  let isClean = true
  let at = 0
  let nextLf = event.indexOf('\n')
  let nextCr = event.indexOf('\r')
  while (at < event.length) {
    // Looked for again only once it was passed: an event may have a line for every other byte.
    if (nextLf !== -1 && nextLf < at) nextLf = event.indexOf('\n', at)
    if (nextCr !== -1 && nextCr < at) nextCr = event.indexOf('\r', at)
    let end = nextLf === -1 || (nextCr !== -1 && nextCr < nextLf) ? nextCr : nextLf
    if (end === -1) end = event.length
    if (event.startsWith(dataField, at)) {
      const from = at + dataField.length
      const line = event.slice(event[from] === ' ' ? from + 1 : from, end)
      data = data === undefined ? line : `${data}\n${line}`
    } else if (event.startsWith(idField, at)) {
      const found = event.slice(at + idField.length, end).replace(/^ /, '')
      if (found !== '' && !found.includes('\0')) hasId = true
    } else if (end > at && !isKnown(event, at)) isClean = false
    at = end + 1
  }
  return { data: data ?? '', hasId, isClean }
}

function isKnown(event: string, at: number): boolean {
  known.lastIndex = at
  return known.test(event)
}

/** The lines of an event that clients know, with this text for its data, if any; undefined where nothing is left of it. */
function writtenAnew(event: string, text?: string): string | undefined {
  const lines = event
    .split(lineEnd)
    .filter(
      line => line !== '' && isKnown(line, 0) && (text === undefined || !line.startsWith('data'))
    )
  if (text !== undefined) {
    lines.push(
      ...bytesOf(text)
        .split(lineEnd)
        .map(line => `${dataField} ${line}`)
    )
  }
  return lines.length === 0 ? undefined : `${lines.join('\n')}\n\n`
}
