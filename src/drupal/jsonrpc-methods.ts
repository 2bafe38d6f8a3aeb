// What the gateway answers as the MCP server in front of jsonrpc_mcp: initialize, ping, discover, the list of tools and their
// calls, in both eras, each as JSON text of the result. It refuses to know bodies, batches and status codes.
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
import { negotiate } from '../mcp/version.ts'
import { isListed, unknownToolHint } from '../policy/authorize.ts'
import { securitySchemes, type ToolPolicy } from '../policy/tools.ts'
import { traceHeaders } from '../telemetry/tracing.ts'
import { createArgumentsText } from './arguments-text.ts'
import type { GetCatalogue } from './catalogue.ts'
import type { Signal } from './exchange.ts'
import { cancelled, type InFlight, untilGone } from './in-flight.ts'
import { openSession } from './open-session.ts'
import type { DrupalPool } from './pool.ts'
import { createCallTool } from './tool-call.ts'
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

/** JSON text; in bytes where they are many: those stand behind the text. */
export type Result = string | { before: string; bytes: Buffer }

const joined = (before: string, rest: string | Buffer): Result =>
  typeof rest === 'string' ? before + rest : { before, bytes: rest }

/** The result of one request; undefined when there is none to give. Throws or rejects with GatewayErrors. */
export type AnswerRequest = (
  request: FastifyRequest,
  reply: FastifyReply,
  message: RpcRequest
) => Result | Promise<Result | undefined>

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
    return JSON.stringify(initializeResult(serverFor(request), requested))
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
  async function listTools(request: FastifyRequest, message: RpcRequest): Promise<Result> {
    if (message.params?.['cursor'] !== undefined) {
      throw gatewayError('GW_INVALID_PARAMS', { hint: 'There is no such cursor.' })
    }
    const { era } = request.call
    const inEra = era === 'modern' ? cacheable : (result: string) => result
    const mine = await catalogue(request.principal, request.token)
    if (missingScope === 'hide') {
      return inEra(listText(mine.tools.filter(tool => isShown(tool, request))))
    }
    let bytes = wholeLists[era].get(mine)
    if (bytes === undefined) {
      bytes = Buffer.from(inEra(listText(mine.tools)))
      wholeLists[era].set(mine, bytes)
    }
    return { before: '', bytes }
  }

  /** `opening` is the brace, and what else stands before the members of the tool's own result. */
  async function call(
    request: FastifyRequest,
    message: RpcRequest,
    signal: Signal,
    opening: string
  ): Promise<Result> {
    const { name, arguments: args } = message.params ?? {}
    // In a batch each element is judged here alone.
    if (typeof name !== 'string') {
      throw gatewayError('GW_INVALID_PARAMS', { hint: 'tools/call needs "name", a string.' })
    }
    if (args !== undefined && !isObject(args)) {
      throw gatewayError('GW_INVALID_PARAMS', { hint: '"arguments" must be an object.' })
    }
    const known = catalogue(request.principal, request.token)
    const mine = known instanceof Promise ? await known : known
    const tool = mine.byName.get(name)
    if (tool === undefined || !isShown(tool, request)) {
      throw gatewayError('GW_INVALID_PARAMS', { hint: unknownToolHint(name) })
    }
    const { principal, token } = request
    if (tool.answer !== undefined) return opening + tool.answer(principal, mine).slice(1)
    const { members, isError } = await callTool({
      tool,
      argsText: args === undefined ? undefined : argumentsText(request.call, message),
      principal,
      token,
      requestId: request.id,
      ...traceHeaders(request.trace),
      signal,
      timing: request
    })
    if (isError) message.outcome = 'tool-error'
    return joined(opening, members)
  }

  /** A client that cancels gets no answer; one that only went away does not stop the work (R45). */
  async function callInSession(
    request: FastifyRequest,
    message: RpcRequest,
    session: SessionState
  ): Promise<Result | undefined> {
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
        return '{}'
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

  async function modern(
    request: FastifyRequest,
    reply: FastifyReply,
    message: RpcRequest
  ): Promise<Result> {
    switch (message.method) {
      case 'server/discover':
        return JSON.stringify(discoverResult(serverFor(request), DISCOVER_TTL_MS))
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
