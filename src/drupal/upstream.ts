// The seam to Drupal: an upstream answers an already admitted request, knows the tools of a caller and can be asked whether it
// is well. Adapters: jsonrpc.ts (Drupal is jsonrpc_mcp) and mcp-endpoint.ts (Drupal speaks MCP).
import type { FastifyPluginAsync, FastifyPluginCallback } from 'fastify'
import type { Principal } from '../auth/principal.ts'
import type { AuthAnnotation } from '../policy/tools.ts'

/** A tool as Drupal lists it, normalised for MCP (schemas are objects, auth annotation understood). */
export interface CatalogueTool {
  name: string
  /** The tool as MCP clients see it, ready to be serialised. */
  listing: Readonly<Record<string, unknown>>
  /** From `annotations.auth`; undefined when the tool says nothing (drupal-wire §12.4). */
  auth: AuthAnnotation | undefined
  /** A tool of the gateway's own: answers its CallToolResult as JSON text; Drupal is not asked. `mine`: the caller's tools. */
  answer?: (principal: Principal | undefined, mine: Catalogue) => string
}

/** One caller's tools: never shown to another (R65). */
export interface Catalogue {
  tools: readonly CatalogueTool[]
  byName: ReadonlyMap<string, CatalogueTool>
}

export interface Upstream {
  /** What it serves to modern clients; undefined: it speaks that era itself and says what it does not know. */
  modernMethods: ReadonlySet<string> | undefined
  /** Registers POST, GET and DELETE on '/'; request.principal, request.token and request.call are set and checked. */
  plugin: FastifyPluginCallback | FastifyPluginAsync
  /**
   * A tool that is not in the catalogue may be called all the same: the upstream says what it thinks of it. Not where the policy
   * hides tools: what it says would tell an unknown tool from a hidden one. Default: unknown.
   */
  allowsUnlisted?: boolean
  /** The tools that Drupal shows this caller, at once where they are kept. No principal: anonymous. Rejects with GatewayErrors. */
  catalogue(
    principal: Principal | undefined,
    token: string | undefined
  ): Catalogue | Promise<Catalogue>
  /** Resolves when Drupal answers; rejects with a GatewayError whose reason says why not. */
  check(signal: AbortSignal): Promise<void>
}
