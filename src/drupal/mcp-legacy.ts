// A client of the legacy era before an upstream of the same era: bytes through, both ways, in a session of the upstream that the
// client never sees. It refuses to know the modern era.
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Readable } from 'node:stream'
import type { Message, Params, RpcNotification, RpcRequest, SessionState } from '../mcp/call.ts'
import { rpcResult } from '../mcp/rpc-error.ts'
import { gatewayInfo } from '../mcp/server-info.ts'
import type { Sessions } from '../mcp/session.ts'
import { isSupportedLegacy, negotiate } from '../mcp/version.ts'
import { isGatewayError } from '../errors.ts'
import type { Answer } from './exchange.ts'
import { cancelled, createInFlight, type Stop } from './in-flight.ts'
import { type Ask, type Caller, callerOf, isMethodError, refuseOrPass, rpcCode } from './mcp-ask.ts'
import { isToolList, type McpCatalogues } from './mcp-catalogue.ts'
import { type ReadBounds, readAnswer } from './mcp-read.ts'
import { openSession } from './open-session.ts'
import { sendRead, sendWhole } from './mcp-send.ts'
import type { Streams } from './streams.ts'
import type { ExpectedOf } from './mcp-shown.ts'
import {
  cancellation,
  type Holder,
  openedSession,
  readSession,
  sessionHeaders,
  shortHello,
  type UpstreamSessions,
  writeSession
} from './mcp-upstream-session.ts'

export interface LegacyOptions {
  ask: Ask
  sessions: Sessions
  upstreamSessions: UpstreamSessions
  catalogues: Pick<McpCatalogues, 'learn'>
  streams: Streams
  bounds: ReadBounds
  expectedOf: ExpectedOf
}

export interface LegacyRelay {
  /** Nothing is sent where it gives an answer: the refusal of an upstream that may be of the other era. */
  initialize(request: FastifyRequest, reply: FastifyReply): Promise<Answer | undefined>
  post(request: FastifyRequest, reply: FastifyReply): Promise<void>
  /** A request without a session: the upstream opens one for it, which ends with it. */
  single(request: FastifyRequest, reply: FastifyReply): Promise<void>
  /** Opens a session of the upstream's for who signed in on one that was begun without a token, unless he has one. */
  adopt(session: SessionState, caller: Caller): Promise<void>
  /** Tells the upstream that its session is over; what it answers changes nothing. */
  end(session: SessionState, caller: Caller): Promise<void>
  holderOf(session: SessionState): Holder
}

const isCancellation = (message: Message): message is RpcNotification =>
  message.kind === 'notification' && message.method === 'notifications/cancelled'

const isUrgent = (message: Message) => message.kind === 'response' || isCancellation(message)

export function createLegacyRelay(options: LegacyOptions): LegacyRelay {
  const { ask, sessions, upstreamSessions, catalogues, streams, bounds, expectedOf } = options
  const inFlight = createInFlight()

  function holderOf(session: SessionState): Holder {
    return {
      key: session.id,
      get() {
        // Only sessions that were sealed with one have a holder.
        const text = sessions.upstreamOf(session) as string | Promise<string>
        return text instanceof Promise ? text.then(readSession) : readSession(text)
      },
      move: moved => sessions.moveUpstream(session, writeSession(moved))
    }
  }

  async function initialize(
    request: FastifyRequest,
    reply: FastifyReply
  ): Promise<Answer | undefined> {
    const { messages, bytes: body } = request.call
    const [message] = messages as [RpcRequest]
    const { idText, params = {} } = message
    const caller = callerOf(request)
    const answer = await ask(caller, { method: 'POST', body })
    if (answer.status >= 400 && rpcCode(answer) !== undefined) return answer
    refuseOrPass(answer, caller)
    const read = await readAnswer(answer, bounds, message.id)
    const result = read.message['result'] as Params | undefined
    if (result === undefined) {
      sendRead(reply, answer, read, expectedOf(request))
      return undefined
    }

    const { id, version } = openedSession(answer, result)
    // An upstream may speak an older version than any that is spoken here; what it does not know, it does not send.
    const shown = isSupportedLegacy(version) ? version : negotiate(params['protocolVersion'])
    const upstream = writeSession({ id, version, hello: shortHello(params) })
    openSession(sessions, request, reply, { version: shown, upstream })
    if (shown === version) sendRead(reply, answer, read, expectedOf(request))
    else {
      const rewritten = rpcResult(idText, JSON.stringify({ ...result, protocolVersion: shown }))
      void reply.header('content-type', 'application/json').send(rewritten)
    }
    return undefined
  }

  /** Bytes through; `signal` ends it. Answers the stream that goes on, if one does. */
  async function relay(
    request: FastifyRequest,
    reply: FastifyReply,
    session: SessionState,
    signal?: Stop
  ): Promise<Readable | undefined> {
    const { messages, bytes, batch } = request.call
    const caller = callerOf(request)
    const over = () => {
      if (session.isSingle) end(session, caller).catch(() => {})
    }
    const answer = await upstreamSessions
      .post(holderOf(session), caller, {
        body: bytes,
        signal,
        isUrgent: messages.every(isUrgent)
      })
      .catch((error: unknown) => {
        over()
        throw error
      })
    const { stream } = answer
    if (stream === undefined) over()
    else stream.once('close', over)
    if (stream !== undefined) signal?.addEventListener('abort', () => stream.destroy(cancelled))
    refuseOrPass(answer, caller)
    const expected = expectedOf(request)
    const [first] = messages
    if (!batch && answer.status === 200 && isToolList(first)) {
      const read = await readAnswer(answer, bounds, first.id)
      const { result } = read.message
      if (result !== undefined) catalogues.learn(request.principal, result as Params)
      sendRead(reply, answer, read, expected)
    } else if (stream === undefined || expected.requests.length === 0) {
      // To a client 400 would say that the connection is broken, and 404 that its session is gone (R61).
      sendWhole(request, reply, answer, expected, isMethodError(answer) ? 200 : answer.status)
    } else streams.relay(request, reply, stream, { whenGone: 'finish', expected })
    return stream
  }

  /** One call, which its own client may cancel (R49) and which nobody waits for after its time (R52). */
  async function call(
    request: FastifyRequest,
    reply: FastifyReply,
    session: SessionState,
    message: RpcRequest
  ): Promise<void> {
    const stop = inFlight.start(session, message.id)
    const over = () => inFlight.end(stop)
    try {
      const stream = await relay(request, reply, session, stop)
      if (stream?.closed === false) stream.once('close', over)
      else over()
    } catch (error) {
      over()
      if (isGatewayError(error) && error.code === 'GW_UPSTREAM_TIMEOUT') {
        const cancel = cancellation(message.idText)
        void upstreamSessions.cancel(holderOf(session), callerOf(request), cancel)
      }
      if (error !== cancelled) throw error
      // There is no answer to what was cancelled.
      request.outcome = 'aborted'
      void reply.code(202).send()
    }
  }

  /** Not the upstream's: it may not know it (drupal/mcp 1.x), or let it wait for the call that holds the session (R51). */
  async function pong(reply: FastifyReply, { idText }: RpcRequest): Promise<void> {
    void reply.header('content-type', 'application/json').send(rpcResult(idText, '{}'))
  }

  /** Notifications, responses and batches. */
  async function others(
    request: FastifyRequest,
    reply: FastifyReply,
    session: SessionState
  ): Promise<void> {
    const { messages, bytes } = request.call
    const cancellations = messages.filter(isCancellation)
    // Not after it was passed: the upstream may take it only when the call is over.
    const end = () => {
      for (const { params } of cancellations) inFlight.cancel(session, params?.['requestId'])
    }
    if (cancellations.length < messages.length) {
      const relayed = relay(request, reply, session)
      end()
      await relayed
      return
    }
    const caller = callerOf(request)
    const passed = upstreamSessions.cancel(holderOf(session), caller, bytes)
    end()
    const told = await passed
    // Drupal's word on the token counts whatever it came with; all else it says is of no use to who has cancelled.
    if (told?.status === 401) refuseOrPass(told, caller)
    void reply.code(202).send()
  }

  function post(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    const { messages, batch } = request.call
    const session = request.call.session as SessionState
    const [message] = messages as [Message]
    if (message.kind !== 'request' || batch) return others(request, reply, session)
    return message.method === 'ping' ? pong(reply, message) : call(request, reply, session, message)
  }

  async function single(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    const { messages, batch } = request.call
    const session = request.call.session as SessionState
    const requests = messages.filter(message => message.kind === 'request')
    // What is no request is about a session, and there is none that it could be about.
    if (requests.length === 0) return void reply.code(202).send()
    if (requests[0]?.method === 'ping' && !batch) return post(request, reply)
    const hello = shortHello({ protocolVersion: session.version, clientInfo: gatewayInfo })
    const { session: opened } = await upstreamSessions.open(hello, callerOf(request))
    session.upstream = writeSession(opened)
    await post(request, reply)
  }

  async function adopt(session: SessionState, caller: Caller): Promise<void> {
    const begun = readSession(session.upstream as string)
    if (begun.id !== '') await upstreamSessions.reopen(holderOf(session), caller, begun)
  }

  async function end(session: SessionState, caller: Caller): Promise<void> {
    const current = await holderOf(session).get()
    if (current.id === '') return
    const { stream } = await ask(caller, { method: 'DELETE', headers: sessionHeaders(current) })
    stream?.destroy()
  }

  return { holderOf, initialize, post, single, adopt, end }
}
