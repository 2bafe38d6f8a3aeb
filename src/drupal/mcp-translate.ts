// An answer of the other era, whole or as events, on its way to a client: a stream stays a stream where it says something before
// its end, and becomes one JSON answer where not. How a message is translated is the bridges' affair.
import { Readable } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { gatewayError } from '../errors.ts'
import type { Answer as RpcAnswer } from '../mcp/bridge.ts'
import type { Message, RpcRequest } from '../mcp/call.ts'
import { readMessage } from '../mcp/message.ts'
import { readEvents, writeEvent } from '../mcp/sse-events.ts'
import type { Answer } from './exchange.ts'
import { typeOf, unusable } from './mcp-ask.ts'
import type { Streams } from './mcp-streams.ts'
import type { ReadBounds } from './mcp-read.ts'

export interface Translation {
  /** Whether a message that is no answer may reach the client. */
  passes: (message: Message) => boolean
  /** Told of what the upstream asks its client: no request passes from one era to the other. */
  asked?: (question: RpcRequest) => void
  /** The answer as the client's era wants it. Throws GW_UPSTREAM_INVALID for what is none. */
  finish: (text: string) => RpcAnswer
}

/** The answer of a stream or of a body; `news` are the messages before it. */
async function* read(answer: Answer, { passes, asked, finish }: Translation, bounds: ReadBounds) {
  for await (const { data } of readEvents(answer.stream as Readable, {
    maxLength: bounds.maxBytes
  })) {
    if (data === '') continue
    const reading = readMessage(Buffer.from(data), { maxBatch: 1 })
    const message = reading.ok ? reading.messages[0] : undefined
    if (message === undefined) throw unusable('an event holds no message')
    if (message.kind === 'response') {
      yield { isLast: true, ...finish(data) }
      return
    }
    if (message.kind === 'request') asked?.(message)
    if (passes(message)) yield { isLast: false, status: 200, body: data }
  }
  throw unusable('the stream ended without an answer')
}

async function* written(
  first: RpcAnswer,
  rest: AsyncIterable<RpcAnswer>
): AsyncGenerator<string, void, undefined> {
  yield writeEvent(first.body)
  for await (const { body } of rest) yield writeEvent(body)
}

/** Answers the client with what the upstream answered, translated. */
export async function sendTranslated(
  request: FastifyRequest,
  reply: FastifyReply,
  answer: Answer,
  options: Translation & { streams: Streams; bounds: ReadBounds; whenGone: 'finish' | 'abort' }
): Promise<void> {
  const { streams, bounds, whenGone, finish } = options
  const { stream } = answer
  if (stream === undefined) {
    if (typeOf(answer) !== 'application/json') throw unusable('Drupal: an answer that is no JSON')
    sendJson(request, reply, finish(answer.body.toString()))
    return
  }
  const messages = read(answer, options, bounds)
  const late = setTimeout(() => {
    stream.destroy(gatewayError('GW_UPSTREAM_TIMEOUT', { reason: 'no event on the stream' }))
  }, bounds.timeoutMs)
  const { value: first } = await messages.next().finally(() => clearTimeout(late))
  if (first === undefined) throw unusable('the stream ended without an answer')
  if (first.isLast) {
    sendJson(request, reply, first)
    return
  }
  const events = Readable.from(written(first, messages), { objectMode: false })
  streams.relay(request, reply, events, { whenGone })
}

export function sendJson(request: FastifyRequest, reply: FastifyReply, answer: RpcAnswer): void {
  if (answer.status !== 200) request.outcome = 'rpc-error'
  void reply
    .code(answer.status)
    .header('content-type', 'application/json; charset=utf-8')
    .send(answer.body)
}
