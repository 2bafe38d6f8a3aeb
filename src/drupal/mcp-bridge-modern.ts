// A client of the modern era before an upstream of the legacy one: the upstream's session is opened in the gateway's own
// name, one per principal, and every request goes into it under an id that no other client uses.
import { LRUCache } from 'lru-cache'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { gatewayError, isGatewayError } from '../errors.ts'
import { describeUpstream, toLegacyRequest, toModernAnswer } from '../mcp/bridge.ts'
import type { Params, RpcRequest } from '../mcp/call.ts'
import { progressToken, toModernNews } from '../mcp/news.ts'
import { sentParamHeaders, withoutAnnotations } from '../mcp/mirrored-headers.ts'
import { errorFor, rpcResult } from '../mcp/rpc-error.ts'
import { discoverResult, gatewayInfo, type ServerDescription } from '../mcp/server-info.ts'
import { LEGACY_VERSIONS } from '../mcp/version.ts'
import type { Answer } from './exchange.ts'
import { untilGone } from './in-flight.ts'
import { type Caller, isOfSite, refuseOrPass, unusable } from './mcp-ask.ts'
import type { Eras } from './mcp-eras.ts'
import type { Listening } from './listening.ts'
import type { Streams } from './streams.ts'
import { type Relaying, sendJson, sendTranslated, type Translation } from './mcp-translate.ts'
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
  post(request: FastifyRequest, reply: FastifyReply, caller: Caller): void | Promise<void>
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

interface Entry {
  since: number
  /** The promise until it is open: no call waits for what is there. */
  found: Kept | Promise<Kept>
}

const hello = JSON.stringify({
  protocolVersion: LEGACY_VERSIONS[0],
  // What the upstream would ask back has no way to the client.
  capabilities: {},
  clientInfo: gatewayInfo
})

/** Gives what answers clients of the modern era from an upstream of the legacy one, in a session per principal. */
export function createModernBridge(options: ModernBridgeOptions): ModernBridge {
  const { eras, upstreamSessions, listening, streams, bounds, expectedOf, listTtlMs } = options
  const kept = new LRUCache<string, Entry>({ max: maxPrincipals })
  const relaying: Relaying = { streams, bounds, whenGone: 'abort' }
  let count = 0

  /** One session of the upstream per principal, whoever of its clients asks; another one where it is older than `longestMs`. */
  function sessionOf(caller: Caller, longestMs = Infinity): Kept | Promise<Kept> {
    const key = caller.principal?.key ?? ''
    const shared = kept.get(key)
    if (shared !== undefined && performance.now() - shared.since < longestMs) {
      if (!(shared.found instanceof Promise)) return shared.found
      // A refusal may be for the token of who asked: whoever waited for it asks for himself. Of a site that is down, each would wait
      // for the time-outs of all before him.
      return shared.found.catch((error: unknown) => {
        if (isOfSite(error)) throw error
        return sessionOf(caller, longestMs)
      })
    }
    const found = open(key, caller)
    const entry: Entry = { since: performance.now(), found }
    kept.set(key, entry)
    found.then(
      opened => {
        entry.found = opened
      },
      (error: unknown) => {
        kept.delete(key)
        // The upstream was taken for a legacy one in a bad moment, or is none any more.
        if (isGatewayError(error) && error.code === 'GW_UPSTREAM_INVALID') eras.doubt()
      }
    )
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
  function ask(holder: Holder, caller: Caller, idText: string, sent: Sent): Promise<Answer> {
    const { signal } = sent
    const cancel = () => void upstreamSessions.cancel(holder, caller, cancellation(idText))
    signal?.addEventListener('abort', cancel)
    return upstreamSessions.post(holder, caller, sent).then(
      answer => {
        const { stream } = answer
        // Once there is a head, the signal does not end it any more.
        if (stream !== undefined) signal?.addEventListener('abort', () => stream.destroy())
        eras.judge(answer)
        refuseOrPass(answer, caller)
        if (isLost(answer)) throw unusable('the upstream has lost a session that was just opened')
        return answer
      },
      (error: unknown) => {
        if (isGatewayError(error) && error.code === 'GW_UPSTREAM_TIMEOUT') cancel()
        throw error
      }
    )
  }

  function call(
    request: FastifyRequest,
    reply: FastifyReply,
    caller: Caller,
    { holder, description }: Kept
  ): Promise<void> {
    const message = request.call.messages[0] as RpcRequest
    const { method, idText: own } = message
    // Not kept for as long as the call is at work: it may have 4 MB.
    const textOf = () => request.call.bytes.toString()
    const id = `gateway-${count++}`
    const idText = `"${id}"`
    const signal = untilGone(reply)
    const headers = sentParamHeaders(request.headers)
    const sent: Sent = { body: toLegacyRequest(textOf(), idText), headers, signal }
    return ask(holder, caller, idText, sent).then(answer => {
      const translation: Translation = {
        expected: expectedOf(request, [{ ...message, id, idText }]),
        finish: answered =>
          toModernAnswer(method === 'tools/list' ? withoutAnnotations(answered) : answered, {
            method,
            info: description.info,
            ttlMs: listTtlMs,
            ids: { own, asked: idText }
          }),
        newsOf() {
          const token = progressToken(message, textOf)
          const told = { request: message, asked: id, progressToken: token }
          return {
            news: (said, saidText) => toModernNews(said, saidText, told),
            asked: question =>
              void upstreamSessions.post(holder, caller, answerOf(question)).then(drop, ignore)
          }
        }
      }
      return sendTranslated(request, reply, answer, translation, relaying)
    })
  }

  async function discover(
    request: FastifyRequest,
    reply: FastifyReply,
    caller: Caller
  ): Promise<void> {
    const { description } = await sessionOf(caller, discoverTtlMs)
    const { idText } = request.call.messages[0] as RpcRequest
    const result = JSON.stringify(discoverResult(description, discoverTtlMs))
    sendJson(request, reply, { status: 200, body: rpcResult(idText, result) })
  }

  return {
    post(request, reply, caller) {
      const message = request.call.messages[0] as RpcRequest
      // The era defines no notification that would concern the upstream (R16).
      if (message.kind !== 'request') return void reply.code(202).send()
      if (message.method === 'server/discover') return discover(request, reply, caller)
      if (message.method === 'subscriptions/listen' && listening.isOffered) {
        return listening.subscribe(request, reply, message)
      }
      if (!bridged.has(message.method)) throw gatewayError('GW_METHOD_NOT_FOUND', { status: 404 })
      const found = sessionOf(caller)
      return found instanceof Promise
        ? found.then(opened => call(request, reply, caller, opened))
        : call(request, reply, caller, found)
    },

    async listTools(caller, cursor) {
      const { holder } = await sessionOf(caller)
      const id = `gateway-${count++}`
      const params = cursor === undefined ? {} : { cursor }
      const body = JSON.stringify({ jsonrpc: '2.0', id, method: 'tools/list', params })
      const answer = await ask(holder, caller, `"${id}"`, { body })
      const { message } = await readAnswer(answer, bounds, id)
      return message['result'] as Params | undefined
    }
  }
}
