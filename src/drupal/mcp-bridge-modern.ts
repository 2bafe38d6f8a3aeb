// A client of the modern era before an upstream of the legacy one: the upstream's session is opened in the gateway's own
// name, one per principal, and every request goes into it under an id that no other client uses.
import { LRUCache } from 'lru-cache'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { gatewayError, isGatewayError } from '../errors.ts'
import { describeUpstream, toLegacyRequest, toModernAnswer } from '../mcp/bridge.ts'
import type { Params, RpcRequest } from '../mcp/call.ts'
import { progressToken, toModernNews } from '../mcp/news.ts'
import { withoutMirroredParams } from '../mcp/mirrored-headers.ts'
import { errorFor, rpcResult } from '../mcp/rpc-error.ts'
import { discoverResult, gatewayInfo, type ServerDescription } from '../mcp/server-info.ts'
import { LEGACY_VERSIONS } from '../mcp/version.ts'
import type { Answer, Signal } from './exchange.ts'
import { untilGone } from './in-flight.ts'
import { type Caller, callerOf, isOfSite, refuseOrPass, unusable } from './mcp-ask.ts'
import type { Eras } from './mcp-eras.ts'
import type { Listening } from './listening.ts'
import type { Streams } from './streams.ts'
import { sendJson, sendTranslated } from './mcp-translate.ts'
import { type ReadBounds, readAnswer } from './mcp-read.ts'
import { isLost } from './mcp-session-told.ts'
import type { ExpectedOf } from './mcp-shown.ts'
import { type Holder, type UpstreamSession } from './mcp-kept-session.ts'
import { cancellation, type Sent, type UpstreamSessions } from './mcp-upstream-session.ts'

export interface ModernBridgeOptions {
  eras: Pick<Eras, 'judge' | 'doubt'>
  upstreamSessions: UpstreamSessions
  listening: Listening
  streams: Streams
  bounds: ReadBounds
  expectedOf: ExpectedOf
  /** Milliseconds for which clients may keep a list, and what discover says. */
  listTtlMs: number
}

export interface ModernBridge {
  post(request: FastifyRequest, reply: FastifyReply): Promise<void>
  /** One page of tools for the gateway itself; undefined where the upstream has no such list. */
  listTools(caller: Caller, cursor: string | undefined): Promise<Params | undefined>
}

/** What a legacy upstream can be asked in a modern client's name; the rest is 404 (R61). */
const bridged: ReadonlySet<string> = new Set([
  'tools/list',
  'tools/call',
  'prompts/list',
  'prompts/get',
  'resources/list',
  'resources/templates/list',
  'resources/read',
  'completion/complete'
])

/** To the upstream the gateway is the client: one that is there, and can do nothing else (R51). */
function answerOf(question: RpcRequest): Sent {
  const body =
    question.method === 'ping'
      ? rpcResult(question.idText, '{}')
      : errorFor(question, gatewayError('GW_METHOD_NOT_FOUND'))
  return { body, isUrgent: true }
}

const ignore = () => {}
/** Nobody reads this answer: a stream would keep its place until somebody did. */
const drop = ({ stream }: Answer) => void stream?.destroy()

const discoverTtlMs = 300_000
const maxPrincipals = 10_000

interface Kept {
  holder: Holder
  /** What the upstream said when its session was opened, or opened anew. */
  description: ServerDescription
}

const hello = JSON.stringify({
  protocolVersion: LEGACY_VERSIONS[0],
  // What the upstream would ask back has no way to the client.
  capabilities: {},
  clientInfo: gatewayInfo
})

export function createModernBridge(options: ModernBridgeOptions): ModernBridge {
  const { eras, upstreamSessions, listening, streams, bounds, expectedOf, listTtlMs } = options
  const kept = new LRUCache<string, { since: number; found: Promise<Kept> }>({ max: maxPrincipals })
  let count = 0

  /** One session of the upstream per principal, whoever of its clients asks; another one where it is older than `longestMs`. */
  function sessionOf(caller: Caller, longestMs = Infinity): Promise<Kept> {
    const key = caller.principal?.key ?? ''
    const shared = kept.get(key)
    if (shared !== undefined && performance.now() - shared.since < longestMs) {
      // A refusal may be for the token of who asked: whoever waited for it asks for himself. Of a site that is down, each would wait
      // for the time-outs of all before him.
      return shared.found.catch((error: unknown) => {
        if (isOfSite(error)) throw error
        return sessionOf(caller, longestMs)
      })
    }
    const found = open(key, caller)
    kept.set(key, { since: performance.now(), found })
    found.catch((error: unknown) => {
      kept.delete(key)
      // It was found to be of this era in a bad moment, or is so no longer.
      if (isGatewayError(error) && error.code === 'GW_UPSTREAM_INVALID') eras.doubt()
    })
    return found
  }

  async function open(key: string, caller: Caller): Promise<Kept> {
    const { session, result } = await upstreamSessions.open(hello, caller)
    let current: UpstreamSession = session
    const watches = { tools: listening.isFor(caller.principal?.key) }
    const describe = (said: Params) => describeUpstream(said, watches)
    const opened: Kept = {
      description: describe(result),
      holder: {
        key: `principal ${key}`,
        get: () => current,
        move(moved, said) {
          current = moved
          opened.description = describe(said)
        }
      }
    }
    return opened
  }

  /** Sends a request under an id of the gateway's own; a client that goes away has it cancelled there (R52, R69). */
  async function ask(
    holder: Holder,
    caller: Caller,
    write: (idText: string) => string,
    signal?: Signal
  ) {
    const id = `gateway-${count++}`
    const idText = JSON.stringify(id)
    const cancel = () => void upstreamSessions.cancel(holder, caller, cancellation(idText))
    signal?.addEventListener('abort', cancel)
    const answer = await upstreamSessions
      .post(holder, caller, { body: write(idText), signal })
      .catch((error: unknown) => {
        if (isGatewayError(error) && error.code === 'GW_UPSTREAM_TIMEOUT') cancel()
        throw error
      })
    // Once there is a head, the signal does not end it any more.
    signal?.addEventListener('abort', () => answer.stream?.destroy())
    eras.judge(answer)
    refuseOrPass(answer, caller)
    if (isLost(answer)) throw unusable('the upstream has lost a session that was just opened')
    return { answer, id, idText }
  }

  async function call(
    request: FastifyRequest,
    reply: FastifyReply,
    message: RpcRequest
  ): Promise<void> {
    const caller = callerOf(request)
    const { holder, description } = await sessionOf(caller)
    const write = (idText: string) => toLegacyRequest(request.call.bytes.toString(), idText)
    const { answer, id, idText } = await ask(holder, caller, write, untilGone(reply))
    const { method, idText: own } = message
    const ids = { own, asked: idText }
    const told = {
      request: message,
      asked: id,
      progressToken: progressToken(message, () => request.call.bytes.toString())
    }
    const asModern = { method, info: description.info, ttlMs: listTtlMs, ids }
    await sendTranslated(request, reply, answer, {
      streams,
      bounds,
      whenGone: 'abort',
      news: (said, text) => toModernNews(said, text, told),
      asked: question =>
        void upstreamSessions.post(holder, caller, answerOf(question)).then(drop, ignore),
      expected: expectedOf(request, [{ ...message, id, idText }]),
      finish: answered =>
        toModernAnswer(method === 'tools/list' ? withoutAnnotations(answered) : answered, asModern)
    })
  }

  return {
    async post(request, reply) {
      const message = request.call.messages[0] as RpcRequest
      if (message.kind !== 'request') {
        // The era defines none that would concern the upstream (R16).
        void reply.code(202).send()
      } else if (message.method === 'server/discover') {
        const { description } = await sessionOf(callerOf(request), discoverTtlMs)
        const result = JSON.stringify(discoverResult(description, discoverTtlMs))
        sendJson(request, reply, { status: 200, body: rpcResult(message.idText, result) })
      } else if (message.method === 'subscriptions/listen' && listening.isOffered) {
        listening.subscribe(request, reply, message)
      } else if (bridged.has(message.method)) await call(request, reply, message)
      else throw gatewayError('GW_METHOD_NOT_FOUND', { status: 404 })
    },

    async listTools(caller, cursor) {
      const { holder } = await sessionOf(caller)
      const params = cursor === undefined ? {} : { cursor }
      const rest = `"method":"tools/list","params":${JSON.stringify(params)}`
      const write = (idText: string) => `{"jsonrpc":"2.0","id":${idText},${rest}}`
      const { answer, id } = await ask(holder, caller, write)
      const { message } = await readAnswer(answer, bounds, id)
      return message['result'] as Params | undefined
    }
  }
}

/** Nobody checks headers against annotations of a legacy upstream, so clients are not asked to send them (R60). */
function withoutAnnotations(text: string): string {
  if (!text.includes('x-mcp-header')) return text
  return JSON.stringify(withoutMirroredParams(JSON.parse(text)))
}
