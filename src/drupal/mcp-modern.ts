// A client of the modern era before an upstream of the same era: bytes through, both ways, and nothing is remembered. It refuses
// to know sessions.
import type { FastifyReply, FastifyRequest } from 'fastify'
import { gatewayError } from '../errors.ts'
import type { Params, RpcRequest } from '../mcp/call.ts'
import { toKnownError } from '../mcp/bridge.ts'
import { paramMismatch } from '../mcp/mirrored-headers.ts'
import { maySay } from '../mcp/news.ts'
import { writeEvent } from '../mcp/sse-events.ts'
import { ended } from '../mcp/subscription.ts'
import type { Answer } from './exchange.ts'
import { untilGone } from './in-flight.ts'
import { type Ask, type Caller, isMethodError, refuseOrPass, rpcCode } from './mcp-ask.ts'
import { isToolList, type McpCatalogues } from './mcp-catalogue.ts'
import type { Eras } from './mcp-eras.ts'
import { sendWhole } from './mcp-send.ts'
import type { Streams } from './streams.ts'
import { type createReplayEdit, type ExpectedOf, learned } from './mcp-shown.ts'

export interface ModernOptions {
  ask: Ask
  eras: Pick<Eras, 'judge'>
  catalogues: McpCatalogues
  streams: Streams
  expectedOf: ExpectedOf
  replayEdit: ReturnType<typeof createReplayEdit>
}

/** The headers that mirror the body, as the client sent them: held against it by admit.ts (R58) and by checkParams (R60). */
export function mirroredHeaders(request: FastifyRequest): Record<string, string> {
  const headers: Record<string, string> = { 'mcp-protocol-version': request.call.version }
  for (const [name, value] of Object.entries(request.headers)) {
    const isMirror = name === 'mcp-method' || name === 'mcp-name' || name.startsWith('mcp-param-')
    if (isMirror && typeof value === 'string') headers[name] = value
  }
  return headers
}

/** R60: whoever processes the body holds the headers against it, also where the upstream does not. */
async function checkParams(
  request: FastifyRequest,
  message: RpcRequest,
  catalogues: Pick<McpCatalogues, 'get'>
): Promise<void> {
  if (message.method !== 'tools/call') return
  const { mirrored } = await catalogues.get(request.principal, request.token)
  const declared = mirrored.get(String(message.params?.['name']))
  if (declared === undefined) return
  const wrong = paramMismatch(declared, message.params?.['arguments'], request.headers)
  if (wrong !== undefined)
    throw gatewayError('GW_HEADER_MISMATCH', { reason: wrong, hint: `${wrong}.` })
}

/**
 * R61: the status of an error that came whole, where its code goes with `usual`. A method's failure may be told as any; invalid params
 * may be those of the envelope.
 */
function statusOf(answer: Answer, usual: number): number {
  if (answer.status < 300) return usual
  const isOfRequest = answer.status === 400 && rpcCode(answer) === -32602
  return isOfRequest || !isMethodError(answer) ? answer.status : usual
}

/** Sends a modern client's POST to a modern upstream and its answer back. */
export function createModernRelay(options: ModernOptions) {
  const { ask, eras, catalogues, streams, expectedOf, replayEdit } = options

  return async function post(
    request: FastifyRequest,
    reply: FastifyReply,
    caller: Caller
  ): Promise<void> {
    const { messages, bytes } = request.call
    const message = messages[0] as RpcRequest
    if (message.kind === 'request') await checkParams(request, message, catalogues)
    const isListening = message.method === 'subscriptions/listen'
    const place = isListening ? streams.reserve(request.principal?.subjectKey) : undefined
    const signal = untilGone(reply)
    try {
      const answer = await ask(caller, {
        method: 'POST',
        body: bytes,
        headers: mirroredHeaders(request),
        signal,
        isListening
      })
      eras.judge(answer)
      refuseOrPass(answer, caller)
      const asked = expectedOf(request)
      const expected =
        answer.status === 200 && isToolList(message)
          ? learned(asked, result => catalogues.learn(request.principal, result))
          : asked
      if (answer.stream === undefined || expected.requests.length === 0) {
        const error = (text: string) => {
          const { status, body } = toKnownError(text)
          const shown = statusOf(answer, status)
          if (shown !== 200) request.outcome = 'rpc-error'
          void reply.code(shown)
          return body
        }
        sendWhole(request, reply, answer, { ...expected, error })
      } else {
        // Who listens waits for no answer, but for the end that tells a stop from a connection that was lost (R71).
        const follows = isListening
          ? {
              until: request.principal?.expiresAt,
              farewell: writeEvent(ended(message.idText)),
              edit: replayEdit(request)
            }
          : {
              expected: {
                ...expected,
                error: (text: string) => toKnownError(text).body,
                maySay: (said: Params) => maySay(said, message)
              }
            }
        streams.relay(request, reply, answer.stream, { whenGone: 'abort', place, ...follows })
        return
      }
    } catch (error) {
      place?.()
      throw error
    }
    place?.()
  }
}
