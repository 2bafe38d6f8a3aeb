// How a whole answer of the upstream leaves: as it came where it is the one that was asked for. It refuses to know sessions and eras.
import type { FastifyReply, FastifyRequest } from 'fastify'
import { giveMemoryBack, isLent } from './body-memory.ts'
import { streamHeaders } from './event-reply.ts'
import type { Answer } from './exchange.ts'
import { checkWhole, type Expected, withId } from './mcp-answer.ts'
import { typeOf, unusable } from './mcp-ask.ts'
import type { ReadAnswer } from './mcp-read.ts'

/** Sends a whole answer on: JSON-RPC as it is where it is the one that was asked for, 202 for what needs no answer, whatever came (R15). */
export function sendWhole(
  request: FastifyRequest,
  reply: FastifyReply,
  answer: Answer,
  expected: Expected,
  shownStatus = answer.status
): void {
  const { body } = answer
  const isGood = answer.status < 300
  // Also where it is 200 for how a method failed: to what is no request there is no answer.
  if (shownStatus < 300 && expected.requests.length === 0) {
    if (!isGood) request.outcome = 'rpc-error'
    answer.stream?.destroy()
    void reply.code(202).send()
    return
  }
  if (typeOf(answer) !== 'application/json' || body.length === 0) {
    throw unusable('Drupal: an answer that is no JSON', answer)
  }
  if (!isGood) request.outcome = 'rpc-error'
  void reply.code(isGood ? 200 : shownStatus)
  // What is told of an error may set another status.
  const shown = isGood ? checkWhole(body, expected, answer) : withId(body, expected)
  // With 'finish' the kernel has the bytes; without it, who knows: then they are left to V8.
  if (shown === body && isLent(body)) reply.raw.once('finish', () => giveMemoryBack(body))
  void reply
    .header('content-type', answer.headers['content-type'])
    // To a text Fastify would add a charset.
    .send(typeof shown === 'string' ? Buffer.from(shown) : shown)
}

/** Sends on what `readAnswer` read: as it came, or what the client gets instead. */
export function sendRead(
  reply: FastifyReply,
  answer: Answer,
  { text, bytes }: ReadAnswer,
  expected: Expected
): void {
  const read = Buffer.from(text)
  const shown = checkWhole(read, expected)
  if (shown !== read) void reply.header('content-type', 'application/json').send(shown)
  else if (answer.stream !== undefined) void reply.headers(streamHeaders).send(bytes)
  else void reply.header('content-type', answer.headers['content-type']).send(bytes)
}
