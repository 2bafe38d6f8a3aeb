// Who wants to hear when the tools change, of an upstream that does not tell by itself: streams of the gateway's own, for both
// eras, and the question to Drupal at an interval, asked only while somebody listens and with that one's own token.
import { PassThrough } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Principal } from '../auth/principal.ts'
import { isGatewayError } from '../errors.ts'
import type { RpcRequest } from '../mcp/call.ts'
import { writeEvent } from '../mcp/sse-events.ts'
import { acknowledged, changed, ended, honoured } from '../mcp/subscription.ts'
import type { GetCatalogue } from './catalogue.ts'
import type { Streams } from './streams.ts'

export interface ListeningOptions {
  streams: Streams
  catalogue: GetCatalogue
  /** 0: nobody is told anything. */
  watchSeconds: number
}

export interface Listening {
  /** Whether anybody is told of changes. */
  isOffered: boolean
  /**
   * Whether this caller is: else nothing must be promised (R62). Whoever is not signed in hears nothing: all of them together would have
   * the streams of one principal.
   */
  isFor(principalKey: string | undefined): boolean
  /** Answers `subscriptions/listen` (R71). Throws GW_RATE_LIMITED where too many streams are open. */
  subscribe(request: FastifyRequest, reply: FastifyReply, message: RpcRequest): void
  /** Answers a legacy client's GET. */
  open(request: FastifyRequest, reply: FastifyReply): void
}

interface Listener {
  /** Of a legacy client. */
  sessionId: string | undefined
  token: string | undefined
  /** Called when the tools have changed. */
  tell: () => void
  end: () => void
}

interface Watch {
  listeners: Set<Listener>
  timer: NodeJS.Timeout
  principal: Principal | undefined
  /** Their JSON; undefined until they were read once. */
  last: string | undefined
}

const listChanged = 'notifications/tools/list_changed'

/** A message travels on one stream of a session only: on the newest (R41). */
function tellEach(listeners: Watch['listeners']): void {
  const told = new Set<string>()
  for (const { sessionId, tell } of [...listeners].toReversed()) {
    if (sessionId !== undefined && told.has(sessionId)) continue
    if (sessionId !== undefined) told.add(sessionId)
    tell()
  }
}

/** Gives the gateway's own streams of changes; with `watchSeconds` 0 nobody is told anything (R41, R62, R71). */
export function createListening({ streams, catalogue, watchSeconds }: ListeningOptions): Listening {
  const watches = new Map<string, Watch>()

  async function look(watch: Watch): Promise<void> {
    const { listeners, principal } = watch
    // The newest token lives longest.
    const token = [...listeners].at(-1)?.token
    try {
      const { tools } = await catalogue(principal, token, true)
      const found = JSON.stringify(tools)
      const isNews = watch.last !== undefined && watch.last !== found
      watch.last = found
      if (isNews) tellEach(listeners)
    } catch (error) {
      // A token that is worth nothing any more hears nothing any more, but the others of its user do; other failures pass.
      if (isGatewayError(error) && error.code === 'GW_INVALID_TOKEN') {
        for (const listener of listeners) if (listener.token === token) listener.end()
      }
    }
  }

  /** From now on `tell` is called after changes; the answer ends it. */
  function follow(principal: Principal | undefined, listener: Listener): () => void {
    const key = `${principal?.key} ${principal?.scopes.toSorted().join(' ')}`
    let watch = watches.get(key)
    if (watch === undefined) {
      const begun: Watch = {
        listeners: new Set(),
        timer: setInterval(() => void look(begun), watchSeconds * 1000),
        principal,
        last: undefined
      }
      watches.set(key, begun)
      watch = begun
    }
    const { listeners, timer } = watch
    listeners.add(listener)
    if (watch.last === undefined) void look(watch)
    return () => {
      listeners.delete(listener)
      if (listeners.size > 0) return
      clearInterval(timer)
      watches.delete(key)
    }
  }

  function stream(
    request: FastifyRequest,
    reply: FastifyReply,
    news: string | undefined,
    farewell?: string
  ): PassThrough {
    const { principal, token } = request
    const place = streams.reserve(principal?.subjectKey)
    const source = new PassThrough()
    if (news !== undefined) {
      const stop = follow(principal, {
        sessionId: request.call.session?.id,
        token,
        tell: () => source.write(writeEvent(news)),
        end: () => source.end(farewell)
      })
      source.once('close', stop)
    }
    streams.relay(request, reply, source, {
      whenGone: 'abort',
      place,
      until: principal?.expiresAt,
      ...(farewell !== undefined && { farewell })
    })
    return source
  }

  const isOffered = watchSeconds > 0
  return {
    isOffered,
    isFor: principalKey => isOffered && principalKey !== undefined,
    subscribe(request, reply, { idText, params }) {
      const filter = honoured(params?.['notifications'], { toolsListChanged: isOffered })
      const news = filter.toolsListChanged ? changed(idText, listChanged) : undefined
      const source = stream(request, reply, news, writeEvent(ended(idText)))
      source.write(writeEvent(acknowledged(idText, filter)))
    },
    open(request, reply) {
      stream(request, reply, `{"jsonrpc":"2.0","method":"${listChanged}"}`)
    }
  }
}
