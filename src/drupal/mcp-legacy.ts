// A client of the legacy era before an upstream of the same era: bytes through, both ways, in a session of the upstream that the
// client never sees. It refuses to know the modern era.
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Readable } from 'node:stream'
import {
  isObject,
  type Message,
  type RpcNotification,
  type RpcRequest,
  type SessionState
} from '../mcp/call.ts'
import { memberText, setMembers } from '../mcp/json-members.ts'
import { rpcResult } from '../mcp/rpc-error.ts'
import { gatewayInfo } from '../mcp/server-info.ts'
import type { Sessions } from '../mcp/session.ts'
import { isSupportedLegacy, negotiate } from '../mcp/version.ts'
import { isGatewayError } from '../errors.ts'
import type { Answer } from './exchange.ts'
import { cancelled, createInFlight, type RunningCall } from './in-flight.ts'
import {
  type Ask,
  type Caller,
  callerOf,
  isMethodError,
  refuseOrPass,
  rpcCode,
  unusable
} from './mcp-ask.ts'
import { isToolList, type McpCatalogues } from './mcp-catalogue.ts'
import { type ReadBounds, readAnswer } from './mcp-read.ts'
import { refuseOtherEra } from './mcp-session-told.ts'
import { openSession } from './open-session.ts'
import { sendRead, sendWhole } from './mcp-send.ts'
import type { Streams } from './streams.ts'
import { type ExpectedOf, learned } from './mcp-shown.ts'
import {
  createHolders,
  type Holder,
  openedSession,
  readSession,
  sessionHeaders,
  shortHello,
  writeSession
} from './mcp-kept-session.ts'
import { cancellation, type UpstreamSessions } from './mcp-upstream-session.ts'

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

/** Gives what relays clients of the legacy era to an upstream of the same. */
export function createLegacyRelay(options: LegacyOptions): LegacyRelay {
  const { ask, sessions, upstreamSessions, catalogues, streams, bounds, expectedOf } = options
  const inFlight = createInFlight()

  const holderOf = createHolders(sessions)

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
    const { result } = read.message
    if (result === undefined) {
      sendRead(reply, answer, read, expectedOf(request))
      return undefined
    }
    if (!isObject(result)) throw unusable('the result of initialize is no object')

    const { id, version } = openedSession(answer, result)
    // An upstream may speak an older version than any that is spoken here; what it does not know, it does not send.
    const shown = isSupportedLegacy(version) ? version : negotiate(params['protocolVersion'])
    const upstream = writeSession({ id, version, hello: shortHello(params) })
    openSession(sessions, request, reply, { version: shown, upstream })
    if (shown === version) sendRead(reply, answer, read, expectedOf(request))
    else {
      const said = memberText(read.text, 'result') as string
      const told = setMembers(said, { protocolVersion: JSON.stringify(shown) })
      void reply.header('content-type', 'application/json').send(rpcResult(idText, told))
    }
    return undefined
  }

  /** Bytes through. `call` is one that its client may cancel (R49) and that nobody waits for after its time (R52). */
  async function relay(
    request: FastifyRequest,
    reply: FastifyReply,
    session: SessionState,
    call?: RunningCall
  ): Promise<void> {
    const { messages, bytes: body } = request.call
    const caller = callerOf(request)
    const sent = { body, signal: call, isUrgent: messages.every(isUrgent) }
    let answer: Answer | undefined
    try {
      answer = await upstreamSessions.post(holderOf(session), caller, sent)
      const { stream } = answer
      if (stream === undefined) over(session, caller, call)
      else overWith(stream, session, caller, call)
      show(request, reply, answer, caller)
    } catch (error) {
      if (answer === undefined) over(session, caller, call)
      if (call === undefined) throw error
      inFlight.end(call)
      if (isGatewayError(error) && error.code === 'GW_UPSTREAM_TIMEOUT') {
        const cancel = cancellation((messages[0] as RpcRequest).idText)
        void upstreamSessions.cancel(holderOf(session), caller, cancel)
      }
      if (error !== cancelled) throw error
      // There is no answer to what was cancelled.
      request.outcome = 'aborted'
      void reply.code(202).send()
    }
  }

  /** Nothing more comes of it: the call can be cancelled no more, and a session that was opened for it alone ends. */
  function over(session: SessionState, caller: Caller, call: RunningCall | undefined): void {
    if (call !== undefined) inFlight.end(call)
    if (session.isSingle) end(session, caller).catch(() => {})
  }

  function overWith(
    stream: Readable,
    session: SessionState,
    caller: Caller,
    call: RunningCall | undefined
  ): void {
    stream.once('close', () => over(session, caller, call))
    call?.addEventListener('abort', () => stream.destroy(cancelled))
  }

  /** Throws what a refusal means to the client. */
  function show(
    request: FastifyRequest,
    reply: FastifyReply,
    answer: Answer,
    caller: Caller
  ): void {
    refuseOrPass(answer, caller)
    refuseOtherEra(answer)
    const { messages, batch } = request.call
    const isList = !batch && answer.status === 200 && isToolList(messages[0])
    const asked = expectedOf(request)
    const expected = isList
      ? learned(asked, result => catalogues.learn(request.principal, result))
      : asked
    if (answer.stream === undefined || expected.requests.length === 0) {
      // To a client 400 would say that the connection is broken, and 404 that its session is gone (R61).
      sendWhole(request, reply, answer, expected, isMethodError(answer) ? 200 : answer.status)
    } else streams.relay(request, reply, answer.stream, { whenGone: 'finish', expected })
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
    // Called before the cancellation has passed: the upstream may take it only when the call is over.
    const cancelHere = () => {
      for (const { params } of cancellations) inFlight.cancel(session, params?.['requestId'])
    }
    if (cancellations.length < messages.length) {
      const relayed = relay(request, reply, session)
      cancelHere()
      return relayed
    }
    const caller = callerOf(request)
    const passed = upstreamSessions.cancel(holderOf(session), caller, bytes)
    cancelHere()
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
    if (message.method === 'ping') return pong(reply, message)
    return relay(request, reply, session, inFlight.start(session, message.id))
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
