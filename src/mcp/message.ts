// What do these bytes say? The one reader of JSON-RPC messages: bytes in, messages or a verdict out, and never an exception,
// whoever wrote them. It refuses to know eras, sessions, headers and what a method means.
import { isUtf8 } from 'node:buffer'
import { scan as scanForPoison } from 'secure-json-parse'
import { isObject, type Message, type Params, type RequestId } from './call.ts'
import { type EnvelopeText, integerAt, scanEnvelope } from './json-scan.ts'

export interface ReadLimits {
  /** The most messages an array may hold. */
  maxBatch: number
}

export interface Rejection {
  ok: false
  code: 'GW_PARSE_ERROR' | 'GW_INVALID_MESSAGE'
  /** For the log: never holds a part of the body. */
  reason: string
  /** The id as JSON text where a single message had a readable one, so that the refusal can carry it (R21). */
  idText?: string
}
export type Reading = { ok: true; messages: Message[]; batch: boolean } | Rejection

/** PHP's json_decode stops here too: what is deeper would only be refused by Drupal, or overflow a stack before. */
export const maxDepth = 512

/**
 * Reads one message or a batch (R12, R18, R46, R47). Unknown top-level members are ignored (R20); an id is a string or an
 * integer; params, where present, are an object; a response has a result or an error and not both; a decisive member that
 * stands twice, `__proto__` and `constructor.prototype` are refused.
 */
export function readMessage(bytes: Buffer, limits: ReadLimits): Reading {
  if (bytes.length === 0) return unreadable('the body is empty')
  if (!isUtf8(bytes)) return unreadable('the body is not UTF-8')
  let value: unknown
  try {
    value = JSON.parse(bytes.toString())
  } catch {
    return unreadable('the body is not JSON')
  }
  const batch = Array.isArray(value)
  const scan = scanEnvelope(bytes, batch)
  const exactId = (index: number) => integerAt(bytes, scan.idEnds[index] as number)
  const unfit = unfitness(value, scan)
  if (unfit !== undefined)
    return invalid(unfit, isObject(value) ? textOfId(value['id'], () => exactId(0)) : undefined)
  if (Array.isArray(value)) return readBatch(value, limits.maxBatch, exactId)
  const message = toMessage(value, () => exactId(0))
  return 'ok' in message ? message : { ok: true, messages: [message], batch }
}

/** Why a body that is JSON is not handed on, whatever it means. */
function unfitness(value: unknown, scan: EnvelopeText): string | undefined {
  if (scan.depth > maxDepth) return `the body is nested deeper than ${maxDepth} levels`
  if (scan.suspect && poisons(value)) return 'a member would change a prototype'
  return scan.repeats ? 'a member of the envelope stands twice' : undefined
}

function readBatch(
  values: readonly unknown[],
  maxBatch: number,
  exactId: (index: number) => string
): Reading {
  if (values.length === 0) return invalid('the batch is empty')
  if (values.length > maxBatch) return invalid(`the batch holds more than ${maxBatch} messages`)
  const messages: Message[] = []
  for (const [index, value] of values.entries()) {
    const message = toMessage(value, () => exactId(index))
    // Which of the ids would the refusal answer? None of them.
    if ('ok' in message) return invalid(`message ${index} of the batch: ${message.reason}`)
    messages.push(message)
  }
  const responses = messages.filter(message => message.kind === 'response').length
  if (responses > 0 && responses < messages.length)
    return invalid('the batch mixes responses with requests or notifications')
  return { ok: true, messages, batch: true }
}

function toMessage(value: unknown, exactId: () => string): Message | Rejection {
  if (!isObject(value)) return invalid('the message is not an object')
  const { id, method, params } = value
  const idText = textOfId(id, exactId)
  if (value['jsonrpc'] !== '2.0') return invalid('jsonrpc is not "2.0"', idText)
  if (id !== undefined && idText === undefined) return invalid('the id is no string or integer')
  const answers = value['result'] !== undefined || value['error'] !== undefined
  if (method === undefined) return toResponse(value, id as RequestId | undefined, idText)
  if (answers) return invalid('a method stands beside a result or an error', idText)
  if (typeof method !== 'string') return invalid('the method is no string', idText)
  if (params !== undefined && !isObject(params)) return invalid('params is no object', idText)
  if (idText === undefined) return { kind: 'notification', method, params }
  return { kind: 'request', id: id as RequestId, idText, method, params }
}

function toResponse(
  value: Params,
  id: RequestId | undefined,
  idText: string | undefined
): Message | Rejection {
  const { result, error } = value
  if (error === undefined) {
    if (!isObject(result))
      return invalid('neither a method, nor a result object, nor an error', idText)
    if (id === undefined) return invalid('a result without an id')
  } else {
    if (result !== undefined) return invalid('both a result and an error', idText)
    if (
      !isObject(error) ||
      !Number.isSafeInteger(error['code']) ||
      typeof error['message'] !== 'string'
    )
      return invalid('the error has no integer code and message', idText)
  }
  return { kind: 'response', id }
}

/** The id as sent. Only beyond 2^53 the parsed number is another one than was written; then the text itself is asked. */
function textOfId(id: unknown, exactId: () => string): string | undefined {
  if (typeof id === 'string') return JSON.stringify(id)
  if (Number.isSafeInteger(id)) return String(id)
  if (!Number.isInteger(id)) return undefined
  return exactId() || undefined
}

/** Whether an object anywhere inside names `__proto__` or `constructor.prototype`. */
function poisons(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false
  try {
    scanForPoison(value)
    return false
  } catch {
    return true
  }
}

function unreadable(reason: string): Rejection {
  return { ok: false, code: 'GW_PARSE_ERROR', reason }
}

function invalid(reason: string, idText?: string): Rejection {
  return { ok: false, code: 'GW_INVALID_MESSAGE', reason, ...(idText !== undefined && { idText }) }
}
