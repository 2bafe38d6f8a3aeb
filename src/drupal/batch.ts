// How do the answers to one batch become one answer? Each in its place, and all of them are held until the last is there: no more than
// a bound, and counted (http/buffers.ts). It refuses to know how an answer comes about.
import type { ServerResponse } from 'node:http'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { type ErrorCode, errorTable, gatewayError, isGatewayError } from '../errors.ts'
import type { Message, RpcRequest } from '../mcp/call.ts'
import { errorFor } from '../mcp/rpc-error.ts'
import { giveMemoryBack } from './body-memory.ts'
import { mayHaveRun } from './exchange-failure.ts'
import type { RpcText } from './tool-call.ts'

export interface Batch {
  request: FastifyRequest
  reply: FastifyReply
  /** Bytes: answers that come when so many are held already are refused. What would pass alone passes first. */
  maxBytes: number
  /** Called with each message, in their order, before any is awaited. Undefined: there is no answer. */
  answer: (message: Message, index: number) => RpcText | undefined | Promise<RpcText | undefined>
}

/** The gateway's own counts what is held of its answer. */
type CountedResponse = ServerResponse & { countAnswer?(bytes: number, giveUp?: () => void): void }

/** In UTF-8, as it leaves: a text with one character beyond Latin-1 takes two bytes for each. */
function bytesOf(text: RpcText): Buffer {
  if (typeof text === 'string') return Buffer.from(text)
  const whole = Buffer.concat([Buffer.from(text.before), text.bytes, Buffer.from(text.behind)])
  giveMemoryBack(text.bytes)
  return whole
}

function refuse(message: RpcRequest, code: ErrorCode, reason: string): Buffer {
  const hint = message.method === 'tools/call' ? mayHaveRun : {}
  return Buffer.from(errorFor(message, gatewayError(code, { reason, ...hint })))
}

function joined(answers: Buffer[]): Buffer {
  const comma = Buffer.from(',')
  const parts = answers.flatMap(each => [comma, each])
  return Buffer.concat([Buffer.from('['), ...parts.slice(1), Buffer.from(']')])
}

/**
 * Answers a batch (R46, R48), or 202 where nothing is to be said. A refusal is one element's own; rejects with one that is about the
 * token, which is the request's.
 */
export async function answerBatch({ request, reply, maxBytes, answer }: Batch): Promise<void> {
  const { messages } = request.call
  const raw: CountedResponse = reply.raw
  let answers: (Buffer | undefined)[] = []
  let bytes = 0
  let isGivenUp = false
  let isOver = false

  const refuseGivenUp = (message: RpcRequest) =>
    refuse(message, 'GW_OVERLOADED', 'the answers of its batch were given up')

  function giveUp(): void {
    isGivenUp = true
    answers = messages.map((message, index) => {
      const held = answers[index]
      const isResult = message.kind === 'request' && message.refusal === undefined
      return held && isResult ? refuseGivenUp(message) : held
    })
    raw.countAnswer?.(0)
  }

  function hold(message: RpcRequest, text: RpcText): Buffer {
    if (isGivenUp) return refuseGivenUp(message)
    if (bytes >= maxBytes) {
      return refuse(message, 'GW_UPSTREAM_TOO_LARGE', `a batch of more than ${maxBytes} bytes`)
    }
    const held = bytesOf(text)
    bytes += held.length
    return held
  }

  async function element(message: Message, index: number): Promise<void> {
    try {
      const text = await answer(message, index)
      // Nobody waits for it any more.
      if (text === undefined || isOver || raw.destroyed) return
      answers[index] = hold(message as RpcRequest, text)
      if (!isGivenUp) raw.countAnswer?.(bytes, giveUp)
    } catch (error) {
      if (!isGatewayError(error) || 'oauth' in errorTable[error.code]) throw error
      answers[index] = Buffer.from(errorFor(message as RpcRequest, error))
    }
  }

  try {
    await Promise.all(messages.map(element))
    const said = answers.filter(each => each !== undefined)
    if (said.length === 0) void reply.code(202).send()
    else void reply.header('content-type', 'application/json; charset=utf-8').send(joined(said))
  } finally {
    isOver = true
    answers = []
  }
}
