// An answer of the other era, whole or as events, on its way to a client: a stream stays a stream where it says something before
// its end, and becomes one JSON answer where not. How a message is translated is the bridges' affair.
import { Readable } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { gatewayError, isGatewayError } from '../errors.ts'
import type { RpcAnswer } from '../mcp/bridge.ts'
import type { Message, RpcRequest } from '../mcp/call.ts'
import { readMessage } from '../mcp/message.ts'
import { readEvents, writeEvent } from '../mcp/sse-events.ts'
import type { Answer } from './exchange.ts'
import { mayHaveRun } from './exchange-failure.ts'
import { checkWhole, type Expected, findRequest } from './mcp-answer.ts'
import { typeOf, unusable } from './mcp-ask.ts'
import type { Streams } from './streams.ts'
import type { ReadBounds } from './mcp-read.ts'

/** What passes of a stream. */
export interface News {
  /** A message that is no answer, as the client gets it; undefined: not at all. */
  news: (message: Message, text: string) => string | undefined
  /** Told of what the upstream asks its client: no request passes from one era to the other. */
  asked?: (question: RpcRequest) => void
}

export interface Translation {
  /** The request as the upstream knows it. */
  expected: Expected
  /** The answer as the client's era wants it. Throws GW_UPSTREAM_INVALID for what is none. */
  finish: (text: string) => RpcAnswer
  /** Called where the answer is a stream: most are none. */
  newsOf: () => News
}

/** The same for all answers of a bridge. */
export interface Relaying {
  streams: Streams
  bounds: ReadBounds
  whenGone: 'finish' | 'abort'
}

function finished(finish: Translation['finish'], text: string): RpcAnswer {
  try {
    return finish(text)
  } catch (error) {
    /* c8 ignore next -- a mistake of ours: the error handler reports it */
    if (!isGatewayError(error)) throw error
    throw unusable(error.reason ?? error.code)
  }
}

/** The answer of a stream, and the messages before it. */
async function* read(
  answer: Answer,
  { expected, finish, newsOf }: Translation,
  bounds: ReadBounds
) {
  const { news, asked } = newsOf()
  for await (const { data } of readEvents(answer.stream as Readable, {
    maxLength: bounds.maxBytes,
    details: mayHaveRun
  })) {
    // It says where to resume, and nothing else (R43).
    if (data === '') continue
    const found = findRequest(Buffer.from(data), expected)
    if (found.kind === 'answer') {
      yield { isLast: true, ...finished(finish, found.text ?? data) }
      return
    }
    // An answer to somebody else, or nothing at all: its own may still come.
    if (found.kind === 'foreign') {
      answer.source?.discard()
      continue
    }
    const reading = readMessage(Buffer.from(data), { maxBatch: 1 })
    const message = reading.ok ? reading.messages[0] : undefined
    if (message === undefined) continue
    if (message.kind === 'request') asked?.(message)
    const shown = news(message, data)
    if (shown !== undefined) yield { isLast: false, status: 200, body: shown }
  }
  throw unusable('the stream ended without an answer', answer)
}

async function* written(
  first: RpcAnswer,
  rest: AsyncIterable<RpcAnswer>
): AsyncGenerator<string, void, undefined> {
  yield writeEvent(first.body)
  for await (const { body } of rest) yield writeEvent(body)
}

/** Answers the client with what the upstream answered, translated. */
export function sendTranslated(
  request: FastifyRequest,
  reply: FastifyReply,
  answer: Answer,
  translation: Translation,
  relaying: Relaying
): void | Promise<void> {
  if (answer.stream !== undefined) {
    return sendStream(request, reply, answer, answer.stream, translation, relaying)
  }
  if (typeOf(answer) !== 'application/json') {
    throw unusable('Drupal: an answer that is no JSON', answer)
  }
  const { expected, finish } = translation
  sendJson(request, reply, finished(finish, checkWhole(answer.body, expected, answer).toString()))
}

async function sendStream(
  request: FastifyRequest,
  reply: FastifyReply,
  answer: Answer,
  stream: Readable,
  translation: Translation,
  { streams, bounds, whenGone }: Relaying
): Promise<void> {
  const { expected } = translation
  const messages = read(answer, translation, bounds)
  const late = setTimeout(() => {
    const reason = 'no event on the stream'
    stream.destroy(gatewayError('GW_UPSTREAM_TIMEOUT', { reason, ...mayHaveRun }))
  }, bounds.timeoutMs)
  const { value: first } = await messages.next().finally(() => clearTimeout(late))
  if (first === undefined) throw unusable('the stream ended without an answer', answer)
  if (first.isLast) {
    // Its end may come late or never, and nobody reads on to it.
    stream.destroy()
    sendJson(request, reply, first)
    return
  }
  const events = Readable.from(written(first, messages), { objectMode: false })
  const requests = request.call.messages.filter(message => message.kind === 'request')
  streams.relay(request, reply, events, {
    whenGone,
    origin: stream,
    expected: { ...expected, requests, edit: undefined }
  })
}

/** Sends one JSON-RPC answer; with another status than 200 the call counts as failed. */
export function sendJson(request: FastifyRequest, reply: FastifyReply, answer: RpcAnswer): void {
  if (answer.status !== 200) request.outcome = 'rpc-error'
  void reply
    .code(answer.status)
    .header('content-type', 'application/json; charset=utf-8')
    .send(answer.body)
}
