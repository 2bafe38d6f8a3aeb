// The tools of a caller, for an upstream that speaks MCP: read from the lists that pass by, else asked for with the caller's own
// token. For policy only: clients are shown the upstream's own list. One caller's tools are never another's (R65).
import type { Principal } from '../auth/principal.ts'
import { isGatewayError } from '../errors.ts'
import { isObject, type Message, type Params, type RpcRequest } from '../mcp/call.ts'
import { type MirroredParam, mirroredParams } from '../mcp/mirrored-headers.ts'
import { type CallerMemory, createCallerMemory } from './caller-memory.ts'
import { createDistinctLists } from './distinct-lists.ts'
import { maxPages, maxTools, readTool } from './tool-listing.ts'
import type { Catalogue, CatalogueTool } from './upstream.ts'

/** A catalogue that also knows which arguments a tool wants mirrored in headers (R60). */
export interface McpCatalogue extends Catalogue {
  mirrored: ReadonlyMap<string, readonly MirroredParam[]>
}

/** One page: the result of tools/list, or undefined where the upstream has no such list. */
export type ListTools = (
  principal: Principal | undefined,
  token: string | undefined,
  cursor: string | undefined
) => Promise<Params | undefined>

export interface McpCatalogues {
  get: CallerMemory<McpCatalogue>['get']
  /** A whole list that passed by on its way to this caller. */
  learn(principal: Principal | undefined, result: Params): void
}

/** Whether the message is a question for the first page of tools: `learn` reads the answer. */
export const isToolList = (message: Message | undefined): message is RpcRequest =>
  message?.kind === 'request' &&
  message.method === 'tools/list' &&
  message.params?.['cursor'] === undefined

/** The upstream's own names, whatever they are: a tool that were passed over would be called without a look at its scopes. */
const isString = (name: unknown): name is string => typeof name === 'string'

/** PHP writes a list with gaps as an object. */
function listed({ tools }: Params): readonly unknown[] | undefined {
  return isObject(tools) ? Object.values(tools) : Array.isArray(tools) ? tools : undefined
}

function read(tools: readonly unknown[]): McpCatalogue {
  const byName = new Map<string, CatalogueTool>()
  const mirrored = new Map<string, readonly MirroredParam[]>()
  for (const each of tools.slice(0, maxTools)) {
    const tool = readTool(each, isString)
    if (tool === undefined || byName.has(tool.name)) continue
    byName.set(tool.name, tool)
    const params = mirroredParams((each as Params)['inputSchema'])
    if (params.length > 0) mirrored.set(tool.name, params)
  }
  return { tools: [...byName.values()], byName, mirrored }
}

/** Refusals that mean "no list for you": Drupal still decides each call. */
const withoutList: ReadonlySet<string> = new Set(['GW_UPSTREAM_FORBIDDEN', 'GW_INSUFFICIENT_SCOPE'])

/** Gives the catalogues of all callers, each asked for by `list` where none is kept (R65). */
export function createMcpCatalogues(options: {
  list: ListTools
  /** Seconds; 0 keeps nothing. */
  ttlSeconds: number
  /** Told of every list. */
  learned: (catalogue: Catalogue) => void
  /** Milliseconds; only differences count. */
  now: () => number
}): McpCatalogues {
  const { list, learned } = options
  const distinct = createDistinctLists<McpCatalogue>()
  const { get, keep } = createCallerMemory({ ...options, ask, sizeOf: distinct.sizeOf })

  function learn(tools: readonly unknown[]): McpCatalogue {
    const catalogue = distinct.of(tools, () => read(tools))
    learned(catalogue)
    return catalogue
  }

  async function ask(
    principal: Principal | undefined,
    token: string | undefined
  ): Promise<McpCatalogue> {
    const all: unknown[] = []
    let cursor: string | undefined
    const seen = new Set<string>()
    for (let pages = 0; pages < maxPages && all.length < maxTools; pages++) {
      const found = await list(principal, token, cursor).catch((error: unknown) => {
        if (isGatewayError(error) && withoutList.has(error.code)) return undefined
        throw error
      })
      const result = found ?? {}
      // Not spread: as arguments of one call, many do not fit on the stack.
      for (const tool of listed(result)?.slice(0, maxTools) ?? []) all.push(tool)
      const { nextCursor } = result
      // One that came before would go round for ever.
      if (typeof nextCursor !== 'string' || seen.has(nextCursor)) break
      seen.add(nextCursor)
      cursor = nextCursor
    }
    return learn(all)
  }

  return {
    get,
    learn(principal, result) {
      const tools = listed(result)
      if (tools !== undefined && result['nextCursor'] === undefined) keep(principal, learn(tools))
    }
  }
}
