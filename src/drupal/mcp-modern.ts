// A client of the modern era before an upstream of the same era: bytes through, both ways, and nothing is remembered. It refuses
// to know sessions.
import type { FastifyReply, FastifyRequest } from 'fastify'
import { gatewayError } from '../errors.ts'
import type { RpcRequest } from '../mcp/call.ts'
import { paramMismatch } from '../mcp/mirrored-headers.ts'
import { writeEvent } from '../mcp/sse-events.ts'
import { ended } from '../mcp/subscription.ts'
import { untilGone } from './in-flight.ts'
import { type Ask, type Caller, refuseOrPass } from './mcp-ask.ts'
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
        sendWhole(request, reply, answer, expected)
      } else {
        // Who listens waits for no answer, but for the end that tells a stop from a connection that was lost (R71).
        const follows = isListening
          ? {
              until: request.principal?.expiresAt,
              farewell: writeEvent(ended(message.idText)),
              edit: replayEdit(request)
            }
          : { expected }
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
