// The upstream that speaks MCP itself: whichever era a client and it have, the one is brought to the other, by bytes where they
// agree and by translation where not. It refuses to know how either is done.
import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import type { Principal } from '../auth/principal.ts'
import type { Config } from '../config/schema.ts'
import { gatewayError, isGatewayError } from '../errors.ts'
import type { Params, RpcRequest } from '../mcp/call.ts'
import type { Sessions } from '../mcp/session.ts'
import type { ToolPolicy } from '../policy/tools.ts'
import { type Caller, callerOf, createAsk, isMethodError, refuseOrPass } from './mcp-ask.ts'
import { createLegacyBridge } from './mcp-bridge-legacy.ts'
import { createModernBridge } from './mcp-bridge-modern.ts'
import { createMcpCatalogues } from './mcp-catalogue.ts'
import { createEras, modernRequest } from './mcp-eras.ts'
import { createLegacyRelay } from './mcp-legacy.ts'
import { createListening } from './listening.ts'
import { createModernRelay, mirroredHeaders } from './mcp-modern.ts'
import { createProxy } from './mcp-proxy.ts'
import { sendRead, sendWhole } from './mcp-send.ts'
import { createExpectedOf, createReplayEdit } from './mcp-shown.ts'
import { createStreams, type Refuses, type StreamEvents } from './streams.ts'
import { readAnswer, readBounds } from './mcp-read.ts'
import { createUpstreamSessions } from './mcp-upstream-session.ts'
import type { DrupalPool } from './pool.ts'
import { checkSite } from './site-check.ts'
import type { Catalogue, Upstream } from './upstream.ts'

export interface McpOptions {
  config: Config
  pool: DrupalPool
  sessions: Sessions
  toolPolicy: ToolPolicy
  /** Told of every list of tools that came from Drupal. */
  learned?: (catalogue: Catalogue) => void
  events?: StreamEvents
  refuses?: Refuses
}

function isDiscover({ call: { messages } }: FastifyRequest): boolean {
  const [message] = messages
  return message?.kind === 'request' && message.method === 'server/discover'
}

/** Clients take a server that answers 429 to discover for one of the legacy era, and stay there. */
function notOfAnEra(error: unknown): unknown {
  const isLimited = isGatewayError(error) && error.code === 'GW_UPSTREAM_RATE_LIMITED'
  return isLimited ? Object.assign(error, { statusCode: 503 }) : error
}

/** The upstream for a Drupal that speaks MCP Streamable HTTP. */
export function createMcpUpstream(options: McpOptions): Upstream {
  const { config, pool, sessions, toolPolicy, learned = () => {} } = options
  const ask = createAsk(config, pool)
  const bounds = readBounds(config)
  const streams = createStreams(config, options.events, options.refuses)
  const upstreamSessions = createUpstreamSessions(ask, bounds)
  const eras = createEras(ask, bounds)
  const ttlSeconds = config.drupal.catalogueTtlSeconds
  const catalogues = createMcpCatalogues({
    list: listTools,
    ttlSeconds,
    learned,
    now: () => performance.now()
  })
  const { watchSeconds } = config.streams
  const listening = createListening({ streams, catalogue: catalogues.get, watchSeconds })
  const expectedOf = createExpectedOf(config, toolPolicy)
  const replayEdit = createReplayEdit(config, toolPolicy)
  const parts = {
    ask,
    bounds,
    streams,
    upstreamSessions,
    eras,
    catalogues,
    listening,
    expectedOf
  }
  const legacy = createLegacyRelay({ ...parts, sessions })
  const modern = createModernRelay({ ...parts, replayEdit })
  const modernBridge = createModernBridge({ ...parts, listTtlMs: Math.round(ttlSeconds * 1000) })
  const legacyBridge = createLegacyBridge({ ...parts, sessions })

  /** The gateway's own question, for policy, in whichever era the upstream speaks. */
  async function listTools(
    principal: Principal | undefined,
    token: string | undefined,
    cursor: string | undefined
  ): Promise<Params | undefined> {
    const caller: Caller = { principal, token, requestId: undefined }
    if (!(await eras.isModern(caller))) return modernBridge.listTools(caller, cursor)
    const question = modernRequest('tools/list', cursor === undefined ? {} : { cursor })
    const { body, headers } = question
    const answer = await ask(caller, { method: 'POST', body, headers })
    refuseOrPass(answer, caller)
    const { message } = await readAnswer(answer, bounds, question.id)
    return message['result'] as Params | undefined
  }

  function modernPost(request: FastifyRequest, reply: FastifyReply): void | Promise<void> {
    const caller = callerOf(request)
    const isModern = eras.known()
    if (isModern === undefined) return firstPost(request, reply, caller)
    if (isModern) return modern(request, reply, caller)
    return modernBridge.post(request, reply, caller)
  }

  /** Where nobody knows the upstream's era: a client's server/discover is sent as it is, for it asks the same. */
  async function firstPost(
    request: FastifyRequest,
    reply: FastifyReply,
    caller: Caller
  ): Promise<void> {
    if (isDiscover(request)) {
      const { bytes: body, messages } = request.call
      const { id } = messages[0] as RpcRequest
      const { isModern, answer, read } = await eras.probe(caller, {
        body,
        headers: mirroredHeaders(request),
        id
      })
      if (isModern) {
        sendRead(reply.code(answer.status), answer, read, expectedOf(request))
        return
      }
    }
    if (await eras.isModern(caller)) await modern(request, reply, caller)
    else await modernBridge.post(request, reply, caller)
  }

  async function initialize(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    const refused = await legacy.initialize(request, reply)
    if (refused === undefined) return
    const discovered = await eras.discover(callerOf(request))
    // 404 would say that a session is gone (R61).
    const status = refused.status === 404 && isMethodError(refused) ? 200 : refused.status
    if (discovered === undefined) sendWhole(request, reply, refused, expectedOf(request), status)
    else legacyBridge.initialize(request, reply, discovered)
  }

  function answer(request: FastifyRequest, reply: FastifyReply): void | Promise<void> {
    const { era, session } = request.call
    if (era === 'modern') return modernPost(request, reply)
    if (session === undefined) return initialize(request, reply)
    if (session.isSingle) return singlePost(request, reply)
    if (session.upstream === undefined) return legacyBridge.post(request, reply)
    return legacy.post(request, reply)
  }

  async function singlePost(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    if (await eras.isModern(callerOf(request))) await legacyBridge.post(request, reply)
    else await legacy.single(request, reply)
  }

  const plugin: FastifyPluginAsync = async function mcpEndpoint(app) {
    app.addHook('preHandler', function adopt(request, _reply, next) {
      const { session } = request.call
      if (!session?.isAdopted || request.method === 'DELETE') next()
      else legacy.adopt(session, callerOf(request)).then(() => next(), next)
    })
    app.post('/', async function post(request, reply) {
      try {
        await answer(request, reply)
        // A reply is a promise of its own: awaited, it would wait for the client.
        return reply
      } catch (error) {
        // A modern client that went away has cancelled (R69): nobody is there to be told.
        if (request.call.era === 'modern' && reply.raw.destroyed) return reply.code(499).send()
        throw isDiscover(request) ? notOfAnEra(error) : error
      }
    })
    app.delete('/', async function end(request, reply) {
      const { session } = request.call
      if (session === undefined) throw gatewayError('GW_SESSION_REQUIRED')
      await sessions.end(session)
      streams.endSession(session.id)
      // The client's session is over whatever the upstream says.
      if (session.upstream !== undefined) {
        await legacy.end(session, callerOf(request)).catch((error: Error) => {
          request.log.debug(
            { requestId: request.id, reason: error.message },
            'the upstream session was not ended'
          )
        })
      }
      return reply.code(204).send()
    })
    // Streams must end before the listener waits for its connections.
    app.addHook('preClose', function endStreams(done) {
      streams.drain(config.server.shutdownTimeoutSeconds * 900)
      done()
    })
    await app.register(
      createProxy({
        config,
        pool,
        sessions,
        streams,
        legacy,
        upstreamSessions,
        replayEdit,
        own(request, reply) {
          if (listening.isFor(request.principal?.key)) listening.open(request, reply)
          else throw gatewayError('GW_METHOD_NOT_ALLOWED', { allow: 'POST, DELETE' })
        }
      })
    )
  }

  return {
    modernMethods: undefined,
    allowsUnlisted: true,
    plugin,
    catalogue: catalogues.get,
    check: signal => checkSite(pool.fetch, config.drupal.url, signal)
  }
}
