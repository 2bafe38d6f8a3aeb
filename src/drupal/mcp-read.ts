// The JSON-RPC answer inside an upstream's answer, whether it came whole or as the last event of a stream. It refuses to know what is
// done with it.
import type { Config } from '../config/schema.ts'
import { gatewayError } from '../errors.ts'
import { isObject, type Params, parseJson, type RequestId } from '../mcp/call.ts'
import { elementTexts } from '../mcp/json-members.ts'
import { readEvents, writeEvent } from '../mcp/sse-events.ts'
import type { Answer } from './exchange.ts'
import { mayHaveRun } from './exchange-failure.ts'
import { readRpc, unusable } from './mcp-ask.ts'

const openBracket = 0x5b

/** What the configuration grants an answer that is read here. */
export function readBounds({ drupal }: Config): ReadBounds {
  return { maxBytes: drupal.maxResponseBytes, timeoutMs: drupal.callTimeoutSeconds * 1000 }
}

export interface ReadBounds {
  /** In all, up to the answer. */
  maxBytes: number
  /** Milliseconds. */
  timeoutMs: number
}

export interface ReadAnswer {
  message: Params
  /** Its own text. */
  text: string
  /** As it came; of a stream, the events up to it that are no answer to somebody else. */
  bytes: Buffer
}

/**
 * The JSON-RPC answer to the request `id` in a body or on a stream, read until it comes. Throws GW_UPSTREAM_INVALID where none comes,
 * GW_UPSTREAM_TOO_LARGE and GW_UPSTREAM_TIMEOUT.
 */
export async function readAnswer(
  answer: Answer,
  { maxBytes, timeoutMs }: ReadBounds,
  id: RequestId
): Promise<ReadAnswer> {
  const { stream } = answer
  if (stream === undefined) {
    const bytes = answerIn(answer.body, id)
    const message = readRpc({ ...answer, body: bytes })
    if (message === undefined) throw unusable('the answer is no JSON-RPC', answer)
    if (!isFor(id, message)) throw unusable('an answer for another id', answer)
    return { message, text: bytes.toString(), bytes }
  }
  const passing: string[] = []
  let length = 0
  const late = setTimeout(() => {
    const reason = `no answer on the stream within ${timeoutMs} ms`
    stream.destroy(gatewayError('GW_UPSTREAM_TIMEOUT', { reason, ...mayHaveRun }))
  }, timeoutMs)
  try {
    const read = readEvents(stream, { maxLength: maxBytes, details: mayHaveRun })
    for await (const { data, id: eventId } of read) {
      length += data.length
      if (length > maxBytes) {
        const reason = `more than ${maxBytes} bytes`
        throw gatewayError('GW_UPSTREAM_TOO_LARGE', { reason, ...mayHaveRun })
      }
      const value = parseJson(data)
      const message = isObject(value) ? value : undefined
      const isAnswer = message !== undefined && ('result' in message || 'error' in message)
      if (isAnswer && isFor(id, message)) {
        passing.push(writeEvent(data, eventId))
        return { message, text: data, bytes: Buffer.from(passing.join('')) }
      }
      const isNews = message !== undefined && 'method' in message && !isAnswer
      const isPriming = data === '' && eventId !== undefined
      if (isNews || isPriming) passing.push(writeEvent(data, eventId))
    }
  } finally {
    clearTimeout(late)
  }
  throw unusable('the stream ended without an answer', answer)
}

/**
 * The answer to one request: the body, or an element of it. PHP's SDK answers with an array where more waits in the session, such as
 * what it could not say on a stream that was cut (drupal-wire §15).
 */
export function answerIn(body: Buffer, id: RequestId): Buffer {
  if (body[0] !== openBracket) return body
  const text = body.toString()
  const elements = parseJson(text)
  if (!Array.isArray(elements)) return body
  const at = elements.findIndex(
    each => isObject(each) && !('method' in each) && isSameId(each['id'], id)
  )
  return at < 0 ? body : Buffer.from(elementTexts(text)[at] as string)
}

/** An error may have lost its id: one that is refused is often not read so far. */
function isFor(id: RequestId, { id: found, error }: Params): boolean {
  const isLost = found === null || found === undefined
  return isLost ? error !== undefined : isSameId(found, id)
}

/** Some servers write a number's id as a string. */
export function isSameId(found: unknown, id: RequestId): boolean {
  return (typeof found === 'string' || typeof found === 'number') && String(found) === String(id)
}
