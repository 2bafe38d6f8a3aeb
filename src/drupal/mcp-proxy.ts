// The stream that a legacy client opens by GET, for news and to resume (R40–R43): it rides on @fastify/http-proxy, in the session
// of the upstream that belongs to the client's. It refuses to know what is sent on it.
import httpProxy from '@fastify/http-proxy'
import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import type { Readable } from 'node:stream'
import type { Config } from '../config/schema.ts'
import { gatewayError, isGatewayError } from '../errors.ts'
import type { Sessions } from '../mcp/session.ts'
import { isCoded } from './answers.ts'
import { Stop, untilGone } from './in-flight.ts'
import { withId } from './mcp-answer.ts'
import {
  type Caller,
  callerOf,
  refuseOrPass,
  streamRequestHeaders,
  rpcCode,
  typeOf
} from './mcp-ask.ts'
import type { Answer } from './exchange.ts'
import type { LegacyRelay } from './mcp-legacy.ts'
import { failure, noStream, readRefusal } from './mcp-no-stream.ts'
import { isLost } from './mcp-session-told.ts'
import type { createReplayEdit } from './mcp-shown.ts'
import type { Streams } from './streams.ts'
import { type Holder, sessionHeaders, type UpstreamSession } from './mcp-kept-session.ts'
import { type UpstreamSessions } from './mcp-upstream-session.ts'
import { type DrupalPool, isDown } from './pool.ts'

export interface ProxyOptions {
  config: Config
  pool: DrupalPool
  streams: Streams
  legacy: Pick<LegacyRelay, 'holderOf'>
  sessions: Pick<Sessions, 'open'>
  upstreamSessions: Pick<UpstreamSessions, 'reopen'>
  replayEdit: ReturnType<typeof createReplayEdit>
  /** Answers GET where the upstream has no stream for this client. */
  own: (request: FastifyRequest, reply: FastifyReply) => Promise<void> | void
}

/** A stream that one client asks for. */
interface Opening {
  request: FastifyRequest
  reply: FastifyReply
  dest: string
  proxyOptions: Parameters<FastifyReply['from']>[1]
  caller: Caller
  holder: Holder
  /** Gives its place among the streams back. */
  place: () => void
}

/** What @fastify/reply-from hands on; its types say less. */
interface UpstreamResponse {
  statusCode: number
  stream: Readable
  headers: Answer['headers']
}

type Requestable = Parameters<DrupalPool['dispatcher']['request']>
type Callback = (error: Error | null, data: unknown) => void

/** Whether events came, and not in a content coding: nobody asked for one, and the client would not be told. */
const isStream = (answer: Answer) =>
  answer.status === 200 && !isCoded(answer) && typeOf(answer) === 'text/event-stream'

/** GET on '/'. */
export function createProxy(options: ProxyOptions): FastifyPluginAsync {
  const { config, pool, sessions, streams, legacy, upstreamSessions } = options
  // Learned from the first stream. Until then a 404 that is no answer of MCP says that there is no route, and not that the session,
  // which all other requests go on in, is lost.
  let hasStreams = false

  /** Stops when the client leaves for whom `reply.from` is called: that takes no signal, but calls `request` before it returns. */
  let left = new Stop()

  /** The pool's connections, which verify TLS (http-proxy's own do not). Errors go on without the address in their text. */
  const requestable = {
    headersTimeout: config.drupal.headersTimeoutSeconds * 1000,
    // A quiet stream is none that has died: its life is bounded by streams.maxSeconds.
    bodyTimeout: 0,
    request(asked: Requestable[0], callback: Callback) {
      const signal = left
      pool.dispatcher.request({ ...asked, signal: signal as never }, (error, data) => {
        // Nobody is there to be told.
        if (signal.aborted) return
        const { code = error?.name } = (error ?? {}) as NodeJS.ErrnoException
        callback(error && Object.assign(new Error('no answer'), { code }), data)
      })
    }
  }

  function refuse({ reply, place }: Opening, error: unknown): void {
    place()
    // Forbidden is 200 and JSON: the SDKs take that for a stream that has ended, and open it again every second, for good.
    const isForbidden = isGatewayError(error) && error.code === 'GW_UPSTREAM_FORBIDDEN'
    if (reply.raw.destroyed) void reply.code(499).send()
    else void reply.send(isForbidden ? noStream(error.reason) : error)
  }

  /** Asks the upstream for the stream, once more where its session turns out to be lost. */
  async function ask(opening: Opening, isReopened = false): Promise<void> {
    const { request, reply, caller, holder } = opening
    const current = await holder.get()
    const lastEventId = request.headers['last-event-id']
    const ofMcp = sessionHeaders(current)
    if (typeof lastEventId === 'string') ofMcp['last-event-id'] = lastEventId
    const headers = streamRequestHeaders(caller, pool.host, ofMcp)
    const worker = await pool.acquire(caller.principal?.subjectKey ?? '', untilGone(reply))
    const early = (left = new Stop())
    let isThere = false
    reply.raw.once('close', () => {
      worker.release()
      // Else the site would go on with it although its place is free again.
      if (!isThere) early.stop(new Error('the client went away'))
    })
    reply.from(opening.dest, {
      ...opening.proxyOptions,
      // Nothing of the client's query reaches Drupal.
      queryString: () => '',
      rewriteRequestHeaders: () => headers,
      rewriteHeaders: () => ({}),
      onError(_reply, { error }) {
        const refused = failure(error)
        // What is no answer is the route's fault: the site is there.
        worker.report(refused.code === 'GW_UPSTREAM_INVALID' ? 'unknown' : 'failure')
        worker.release()
        refuse(opening, refused)
      },
      onResponse(_request, _reply, response) {
        isThere = true
        const found = response as unknown as UpstreamResponse
        const { statusCode: status, stream } = found
        // A stream holds a place until it is there, and none while it waits for news.
        worker.report(isDown(status) ? 'failure' : 'success')
        worker.release()
        const answer = { status, headers: found.headers, body: Buffer.alloc(0) }
        const answered = isStream(answer)
          ? begin(opening, stream)
          : judge(opening, answer, stream, isReopened ? undefined : current)
        answered.catch((error: unknown) => {
          stream.destroy()
          refuse(opening, error)
        })
      }
    })
  }

  async function begin(opening: Opening, stream: Readable): Promise<void> {
    const { request, reply, place, caller } = opening
    hasStreams = true
    stream.on('error', () => {})
    // Ended while the upstream was asked: nobody ends its streams any more (R28).
    const sealed = String(request.headers['mcp-session-id'])
    if ((await sessions.open(sealed, caller.principal?.key ?? '')) === undefined) {
      throw gatewayError('GW_SESSION_NOT_FOUND', { reason: 'ended meanwhile' })
    }
    if (stream.errored !== null) throw failure(stream.errored)
    streams.relay(request, reply.code(200), stream, {
      whenGone: 'abort',
      place,
      edit: options.replayEdit(request),
      until: request.principal?.expiresAt
    })
  }

  /** An answer without events, in the session `used`; undefined where that was opened for it. */
  async function judge(
    opening: Opening,
    answer: Answer,
    stream: Readable,
    used: UpstreamSession | undefined
  ): Promise<void> {
    const { reply, place, caller, holder } = opening
    answer.body = await readRefusal(stream, requestable.headersTimeout)
    const isRoute = answer.status !== 404 || hasStreams || rpcCode(answer) !== undefined
    if (isRoute && isLost(answer) && used !== undefined && used.id !== '') {
      await upstreamSessions.reopen(holder, caller, used)
      await ask(opening, true)
      return
    }
    const { status } = answer
    if (status === 404 || status === 405 || status === 406) {
      throw noStream(`the upstream has no stream: status ${status}`)
    }
    refuseOrPass(answer, caller)
    if (status < 400 || rpcCode(answer) === undefined) {
      const reason = 'the upstream answered GET with no events'
      throw gatewayError('GW_UPSTREAM_INVALID', { reason })
    }
    place()
    const shown = withId(answer.body, { requests: [] })
    void reply.code(status).header('content-type', 'application/json').send(shown)
  }

  return async function proxy(scope) {
    await scope.register(httpProxy, {
      upstream: pool.origin,
      rewritePrefix: pool.basePath + config.drupal.mcpPath,
      httpMethods: ['GET'],
      // No path below the endpoint leads into Drupal.
      routes: ['/'],
      undici: requestable as never,
      // Its default sends a GET that was answered 503 eleven times.
      retryMethods: [],
      proxyPayloads: false,
      disableRequestLogging: true,
      internalRewriteLocationHeader: false,
      handler: async (request, reply, dest, proxyOptions) => {
        const { session } = request.call
        if (session === undefined) throw gatewayError('GW_SESSION_REQUIRED', { reason: 'GET' })
        if (session.upstream === undefined) {
          await options.own(request, reply)
          return reply
        }
        const place = streams.reserve(request.principal?.subjectKey)
        // A client that goes before the upstream answers is seen here only.
        reply.raw.once('close', place)
        const caller = callerOf(request)
        const holder = legacy.holderOf(session)
        const opening = { request, reply, dest, proxyOptions, caller, holder, place }
        await ask(opening).catch(error => refuse(opening, error))
        return reply
      }
    })
  }
}
