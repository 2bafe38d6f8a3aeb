// What does the gateway say about itself? Its name, and the answers to `initialize` and `server/discover` where it is the MCP
// server (upstream `jsonrpc`) or speaks for one of the other era.
import { gatewayError } from '../errors.ts'
import { version } from '../package.ts'
import type { Params } from './call.ts'
import { metaKey } from './envelope.ts'
import { MODERN_VERSIONS, negotiate } from './version.ts'

/** The gateway as it introduces itself, to clients and to an upstream: `Implementation` of the protocol. */
export const gatewayInfo = { name: 'drupal-mcp-gateway', title: 'Drupal MCP Gateway', version }

/** What the gateway offers for an upstream that is a list of tools. `listChanged` only while it really watches the list. */
export function toolsCapabilities(listChanged: boolean): Params {
  return { tools: listChanged ? { listChanged } : {} }
}

export interface ServerDescription {
  info: Params
  capabilities: Params
  /** Undefined when there is nothing to say. */
  instructions: string | undefined
}

/** The same, or GW_UPSTREAM_INVALID where it is nested so deep that it cannot be written as JSON again. */
export function writable(server: ServerDescription): ServerDescription {
  try {
    JSON.stringify(server)
  } catch (cause) {
    const reason = 'what the upstream says of itself cannot be written'
    throw gatewayError('GW_UPSTREAM_INVALID', { reason, cause })
  }
  return server
}

/** The result of `initialize`: `requested` is params.protocolVersion, whatever it is (R32). */
export function initializeResult(server: ServerDescription, requested: unknown): Params {
  return {
    protocolVersion: negotiate(requested),
    capabilities: server.capabilities,
    serverInfo: server.info,
    ...(server.instructions !== undefined && { instructions: server.instructions })
  }
}

/** The result of `server/discover` (R62, R64). It may differ by caller, so it is private; `ttlMs` is how long it may be kept. */
export function discoverResult(server: ServerDescription, ttlMs: number): Params {
  return {
    resultType: 'complete',
    supportedVersions: [...MODERN_VERSIONS],
    capabilities: server.capabilities,
    ...(server.instructions !== undefined && { instructions: server.instructions }),
    ttlMs,
    cacheScope: 'private',
    _meta: { [metaKey.serverInfo]: server.info }
  }
}
