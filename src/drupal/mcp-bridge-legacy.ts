// A client of the legacy era before an upstream of the modern one: the gateway keeps the session, the upstream is asked
// statelessly. What needs a server that remembers (subscriptions, log levels, questions to the client) is not offered.
import type { FastifyReply, FastifyRequest } from 'fastify'
import { gatewayError } from '../errors.ts'
import { describeUpstream, toLegacyAnswer, toModernRequest } from '../mcp/bridge.ts'
import type { Message, Params, RpcRequest, SessionState } from '../mcp/call.ts'
import { elementTexts } from '../mcp/json-members.ts'
import { paramHeaders } from '../mcp/mirrored-headers.ts'
import { rpcResult } from '../mcp/rpc-error.ts'
import { initializeResult } from '../mcp/server-info.ts'
import type { Sessions } from '../mcp/session.ts'
import { answerBatch } from './batch.ts'
import type { Answer } from './exchange.ts'
import { cancelled, createInFlight } from './in-flight.ts'
import { checkWhole } from './mcp-answer.ts'
import { type Ask, callerOf, refuseOrPass } from './mcp-ask.ts'
import type { McpCatalogues } from './mcp-catalogue.ts'
import type { Eras } from './mcp-eras.ts'
import type { Listening } from './listening.ts'
import type { Streams } from './streams.ts'
import { type Relaying, sendJson, sendTranslated, type Translation } from './mcp-translate.ts'
import { type ReadBounds, readAnswer } from './mcp-read.ts'
import { openSession } from './open-session.ts'
import { otherEra } from './mcp-session-told.ts'
import type { ExpectedOf } from './mcp-shown.ts'

export interface LegacyBridgeOptions {
  ask: Ask
  eras: Pick<Eras, 'judge' | 'isModern'>
  sessions: Pick<Sessions, 'seal'>
  catalogues: Pick<McpCatalogues, 'get'>
  listening: Pick<Listening, 'isFor'>
  streams: Streams
  bounds: ReadBounds
  expectedOf: ExpectedOf
}

export interface LegacyBridge {
  /** Opens a session in front of an upstream that says `discovered` of itself. */
  initialize(request: FastifyRequest, reply: FastifyReply, discovered: Params): void
  post(request: FastifyRequest, reply: FastifyReply): Promise<void>
}

/** What the modern era has no counterpart for. */
const unbridged: ReadonlySet<string> = new Set([
  'initialize',
  'logging/setLevel',
  'resources/subscribe',
  'resources/unsubscribe',
  'server/discover',
  'subscriptions/listen'
])

const isNews = (message: Message) =>
  message.kind === 'notification' &&
  (message.method === 'notifications/progress' || message.method === 'notifications/message')

/** Gives what answers clients of the legacy era from an upstream of the modern one. */
export function createLegacyBridge(options: LegacyBridgeOptions): LegacyBridge {
  const { ask, eras, sessions, catalogues, listening, streams, bounds, expectedOf } = options
  const inFlight = createInFlight()
  const relaying: Relaying = { streams, bounds, whenGone: 'finish' }

  /** The upstream's answer, or the refusal that it stands for. */
  async function askModern(
    request: FastifyRequest,
    message: RpcRequest,
    text: string
  ): Promise<Answer> {
    if (unbridged.has(message.method)) throw gatewayError('GW_METHOD_NOT_FOUND')
    const caller = callerOf(request)
    const { body, headers } = toModernRequest(text, message)
    if (message.method === 'tools/call') {
      const { mirrored } = await catalogues.get(request.principal, request.token)
      const declared = mirrored.get(String(message.params?.['name'])) ?? []
      Object.assign(headers, paramHeaders(declared, message.params?.['arguments']))
    }
    const session = request.call.session as SessionState
    const signal = inFlight.start(session, message.id)
    const over = () => inFlight.end(signal)
    try {
      const answer = await ask(caller, { method: 'POST', body, headers, signal })
      eras.judge(answer)
      if (answer.status >= 400 && !session.isSingle && !(await eras.isModern(caller))) {
        throw otherEra()
      }
      refuseOrPass(answer, caller)
      // A stream is at work until it ends.
      if (answer.stream !== undefined) {
        signal.addEventListener('abort', () => answer.stream?.destroy(cancelled))
        answer.stream.once('close', over)
      } else over()
      return answer
    } catch (error) {
      over()
      throw error
    }
  }

  /** The answer to one element of a batch; undefined: it was cancelled. */
  async function element(
    request: FastifyRequest,
    message: RpcRequest,
    asked: string
  ): Promise<string | undefined> {
    try {
      const answer = await askModern(request, message, asked)
      const { text } = await readAnswer(answer, bounds, message.id)
      const own = checkWhole(Buffer.from(text), expectedOf(request, [message]))
      return toLegacyAnswer(own.toString(), message).body
    } catch (error) {
      if (error === cancelled) return undefined
      throw error
    }
  }

  function batch(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    const asked = elementTexts(request.call.bytes.toString())
    const { maxBytes } = bounds
    return answerBatch({
      request,
      reply,
      maxBytes,
      answer(message, index) {
        if (message.kind !== 'request') return undefined
        if (message.method === 'ping') return rpcResult(message.idText, '{}')
        return element(request, message, asked[index] as string)
      }
    })
  }

  async function single(
    request: FastifyRequest,
    reply: FastifyReply,
    message: RpcRequest
  ): Promise<void> {
    if (message.method === 'ping') {
      sendJson(request, reply, { status: 200, body: rpcResult(message.idText, '{}') })
      return
    }
    try {
      const answer = await askModern(request, message, request.call.bytes.toString())
      const translation: Translation = {
        newsOf: () => ({ news: (said, text) => (isNews(said) ? text : undefined) }),
        expected: expectedOf(request),
        finish: text => toLegacyAnswer(text, message)
      }
      await sendTranslated(request, reply, answer, translation, relaying)
    } catch (error) {
      if (error !== cancelled) throw error
      // There is no answer to what was cancelled (R49).
      request.outcome = 'aborted'
      void reply.code(202).send()
    }
  }

  return {
    initialize(request, reply, discovered) {
      const { idText, params = {} } = request.call.messages[0] as RpcRequest
      const watches = { tools: listening.isFor(request.principal?.key) }
      const description = describeUpstream(discovered, watches)
      const result = initializeResult(description, params['protocolVersion'])
      const version = String(result['protocolVersion'])
      openSession(sessions, request, reply, { version, upstream: undefined })
      sendJson(request, reply, { status: 200, body: rpcResult(idText, JSON.stringify(result)) })
    },

    async post(request, reply) {
      const { messages, session } = request.call
      for (const message of messages) {
        if (message.kind === 'notification' && message.method === 'notifications/cancelled') {
          inFlight.cancel(session as SessionState, message.params?.['requestId'])
        }
      }
      const [message] = messages as [Message]
      if (request.call.batch) await batch(request, reply)
      else if (message.kind === 'request') await single(request, reply, message)
      else void reply.code(202).send()
    }
  }
}
