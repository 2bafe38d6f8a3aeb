// What the gateway answers as the MCP server in front of jsonrpc_mcp: initialize, ping, discover, the list of tools and their
// calls, in both eras, each as the JSON-RPC answer. It refuses to know bodies, batches and status codes.
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Config } from '../config/schema.ts'
import { gatewayError } from '../errors.ts'
import { isObject, type RpcRequest, type SessionState } from '../mcp/call.ts'
import {
  discoverResult,
  gatewayInfo,
  initializeResult,
  toolsCapabilities
} from '../mcp/server-info.ts'
import type { Sessions } from '../mcp/session.ts'
import { metaKey } from '../mcp/envelope.ts'
import { rpcFrame, rpcResult } from '../mcp/rpc-error.ts'
import { negotiate } from '../mcp/version.ts'
import { isListed, unknownToolHint } from '../policy/authorize.ts'
import { securitySchemes, type ToolPolicy } from '../policy/tools.ts'
import { createArgumentsText } from './arguments-text.ts'
import type { GetCatalogue } from './catalogue.ts'
import type { Signal } from './exchange.ts'
import { cancelled, type InFlight, untilGone } from './in-flight.ts'
import { openSession } from './open-session.ts'
import type { DrupalPool } from './pool.ts'
import { createCallTool, type RpcText } from './tool-call.ts'
import type { Catalogue, CatalogueTool } from './upstream.ts'

export interface MethodOptions {
  config: Config
  pool: DrupalPool
  catalogue: GetCatalogue
  toolPolicy: ToolPolicy
  sessions: Pick<Sessions, 'seal'>
  inFlight: InFlight
  /** Whether this caller is told when its tools change; undefined: who is not signed in. */
  listChanged: (principalKey: string | undefined) => boolean
  log?: { warn(details: object, text: string): void }
}

/** The answer to one request; undefined when there is none to give. Throws or rejects with GatewayErrors. */
export type AnswerRequest = (
  request: FastifyRequest,
  reply: FastifyReply,
  message: RpcRequest
) => RpcText | Promise<RpcText | undefined>

/** What modern clients may ask; admit.ts answers 404 to everything else (R61). */
export const modernMethods: ReadonlySet<string> = new Set([
  'server/discover',
  'tools/list',
  'tools/call'
])

/** How long a modern client may keep what discover says. */
const DISCOVER_TTL_MS = 300_000

/** Makes the answers. Tools are called with the caller's own token; what the caller may was decided before. */
export function createMethods(options: MethodOptions): AnswerRequest {
  const { config, catalogue, toolPolicy, sessions, inFlight } = options
  const { missingScope } = config.policy
  const callTool = createCallTool(options)
  const info = { ...gatewayInfo, title: config.siteName }
  const serverFor = ({ principal }: FastifyRequest) => ({
    info,
    capabilities: toolsCapabilities(options.listChanged(principal?.key)),
    instructions: undefined
  })
  const listings = new WeakMap<CatalogueTool, string>()
  const lists = () => new WeakMap<Catalogue, Buffer>()
  const wholeLists = { legacy: lists(), modern: lists() }
  const argumentsText = createArgumentsText()

  function isShown(tool: CatalogueTool, request: FastifyRequest): boolean {
    if (missingScope === 'step-up') return true
    return isListed(toolPolicy.rule(tool.name, tool.auth), request.principal, missingScope)
  }

  function initialize(request: FastifyRequest, reply: FastifyReply, message: RpcRequest): string {
    const requested = message.params?.['protocolVersion']
    if (typeof requested !== 'string') {
      throw gatewayError('GW_INVALID_PARAMS', { hint: 'initialize needs "protocolVersion".' })
    }
    openSession(sessions, request, reply, { version: negotiate(requested), upstream: undefined })
    const result = initializeResult(serverFor(request), requested)
    return rpcResult(message.idText, JSON.stringify(result))
  }

  function shown({ name, listing, auth }: CatalogueTool): object {
    if (config.policy.resultChallenge.length === 0) return listing
    const schemes = securitySchemes(toolPolicy.rule(name, auth), config.oauth.anonymous)
    // Clients read the one or the other.
    return { ...listing, securitySchemes: schemes, _meta: { securitySchemes: schemes } }
  }

  function listingOf(tool: CatalogueTool): string {
    let text = listings.get(tool)
    if (text === undefined) {
      text = JSON.stringify(shown(tool))
      listings.set(tool, text)
    }
    return text
  }

  const listText = (tools: readonly CatalogueTool[]) =>
    `{"tools":[${tools.map(listingOf).join(',')}]}`

  /** All tools at once: there are no pages, so every cursor is an invalid one. */
  async function listTools(request: FastifyRequest, message: RpcRequest): Promise<RpcText> {
    if (message.params?.['cursor'] !== undefined) {
      throw gatewayError('GW_INVALID_PARAMS', { hint: 'There is no such cursor.' })
    }
    const { era } = request.call
    const inEra = era === 'modern' ? cacheable : (result: string) => result
    const mine = await catalogue(request.principal, request.token)
    if (missingScope === 'hide') {
      const list = listText(mine.tools.filter(tool => isShown(tool, request)))
      return rpcResult(message.idText, inEra(list))
    }
    let bytes = wholeLists[era].get(mine)
    if (bytes === undefined) {
      bytes = Buffer.from(inEra(listText(mine.tools)))
      wholeLists[era].set(mine, bytes)
    }
    const [before, behind] = rpcFrame(message.idText)
    return { before, bytes, behind }
  }

  /** `opening` is the brace, and what else stands before the members of the tool's own result. */
  function call(
    request: FastifyRequest,
    message: RpcRequest,
    signal: Signal,
    opening: string
  ): RpcText | Promise<RpcText> {
    const { name, arguments: args } = message.params ?? {}
    // In a batch each element is judged here alone.
    if (typeof name !== 'string') {
      throw gatewayError('GW_INVALID_PARAMS', { hint: 'tools/call needs "name", a string.' })
    }
    if (args !== undefined && !isObject(args)) {
      throw gatewayError('GW_INVALID_PARAMS', { hint: '"arguments" must be an object.' })
    }
    const { principal, token } = request
    const callOf = (mine: Catalogue) => {
      const tool = mine.byName.get(name)
      if (tool === undefined || !isShown(tool, request)) {
        throw gatewayError('GW_INVALID_PARAMS', { hint: unknownToolHint(name) })
      }
      const [head, behind] = rpcFrame(message.idText)
      const before = head + opening
      if (tool.answer !== undefined) return before + tool.answer(principal, mine).slice(1) + behind
      const argsText = args === undefined ? undefined : argumentsText(request.call, message)
      return callTool({ tool, argsText, request, message, signal, before, behind })
    }
    // Mostly the list is at hand.
    const mine = catalogue(principal, token)
    return mine instanceof Promise ? mine.then(callOf) : callOf(mine)
  }

  /** A client that cancels gets no answer; one that only went away does not stop the work (R45). */
  async function callInSession(
    request: FastifyRequest,
    message: RpcRequest,
    session: SessionState
  ): Promise<RpcText | undefined> {
    const stop = inFlight.start(session, message.id)
    try {
      const result = await call(request, message, stop, '{')
      inFlight.end(stop)
      return result
    } catch (error) {
      inFlight.end(stop)
      if (stop.reason !== cancelled) throw error
      // There is no answer to what the client cancelled (R49).
      request.outcome = 'aborted'
      return undefined
    }
  }

  function legacy(
    request: FastifyRequest,
    reply: FastifyReply,
    message: RpcRequest
  ): ReturnType<AnswerRequest> {
    switch (message.method) {
      case 'initialize':
        return initialize(request, reply, message)
      case 'ping':
        return rpcResult(message.idText, '{}')
      case 'tools/list':
        return listTools(request, message)
      case 'tools/call':
        return callInSession(request, message, request.call.session as SessionState)
      default:
        throw gatewayError('GW_METHOD_NOT_FOUND')
    }
  }

  /** R62–R64: what a modern result says beyond the legacy one stands in front of it. What Drupal lists is the caller's own (R65). */
  const meta = JSON.stringify({ [metaKey.serverInfo]: info })
  const completeOpening = `{"resultType":"complete","_meta":${meta},`
  const ttlMs = Math.round(config.drupal.catalogueTtlSeconds * 1000)
  const cacheable = (result: string) =>
    `${completeOpening}"ttlMs":${ttlMs},"cacheScope":"private",${result.slice(1)}`

  function modern(
    request: FastifyRequest,
    reply: FastifyReply,
    message: RpcRequest
  ): ReturnType<AnswerRequest> {
    switch (message.method) {
      case 'server/discover': {
        const result = discoverResult(serverFor(request), DISCOVER_TTL_MS)
        return rpcResult(message.idText, JSON.stringify(result))
      }
      case 'tools/list':
        return listTools(request, message)
      case 'tools/call':
        return call(request, message, untilGone(reply), completeOpening)
      default:
        throw gatewayError('GW_METHOD_NOT_FOUND', { status: 404 })
    }
  }

  return function answer(request, reply, message) {
    return request.call.era === 'modern'
      ? modern(request, reply, message)
      : legacy(request, reply, message)
  }
}
