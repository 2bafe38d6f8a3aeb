// What would a Drupal that speaks all of MCP answer? The upstream of the conformance run: every fixture of the published
// suite, both eras on one endpoint (2026-07-28 per request, earlier revisions in sessions). Knows nothing of tokens.
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import {
  createMcpHandler,
  hostHeaderValidationResponse,
  isInitializeRequest,
  isLegacyRequest,
  localhostAllowedHostnames,
  localhostAllowedOrigins,
  McpServer,
  originValidationResponse,
  WebStandardStreamableHTTPServerTransport
} from '@modelcontextprotocol/server'
import { registerContentTools } from './everything/content-tools.ts'
import { createEventStore } from './everything/event-store.ts'
import { registerInputTools, verifyRequestState } from './everything/input-tools.ts'
import { registerPromptsAndResources } from './everything/prompts-and-resources.ts'
import { registerStreamTools, type Announce } from './everything/stream-tools.ts'
import { relay } from './everything/relay.ts'
import { sendResponse, toRequest } from './everything/web.ts'

function buildServer(announce: (server: McpServer) => Announce): McpServer {
  const server = new McpServer(
    { name: 'everything-server', version: '1.0.0' },
    {
      capabilities: { logging: {}, tools: { listChanged: true }, prompts: { listChanged: true } },
      instructions: 'Serves the fixtures of the MCP conformance suite.',
      requestState: { verify: verifyRequestState }
    }
  )
  registerContentTools(server)
  registerStreamTools(server, announce(server))
  registerInputTools(server)
  registerPromptsAndResources(server)
  return server
}

const legacyAnnounce = (server: McpServer): Announce => ({
  toolsChanged: () => server.sendToolListChanged(),
  promptsChanged: () => server.sendPromptListChanged()
})

function rpcError(status: number, code: number, message: string): Response {
  return Response.json({ jsonrpc: '2.0', error: { code, message } }, { status })
}

function createLegacyHandler() {
  const sessions = new Map<string, WebStandardStreamableHTTPServerTransport>()
  return {
    async fetch(request: Request): Promise<Response> {
      const id = request.headers.get('mcp-session-id')
      if (id !== null) {
        const session = sessions.get(id)
        return session?.handleRequest(request) ?? rpcError(404, -32001, 'Session not found')
      }
      const parsedBody: unknown = await request
        .clone()
        .json()
        .catch(() => undefined)
      if (!isInitializeRequest(parsedBody)) return rpcError(400, -32000, 'No session id')
      const transport = new WebStandardStreamableHTTPServerTransport({
        sessionIdGenerator: randomUUID,
        onsessioninitialized: sessionId => void sessions.set(sessionId, transport),
        onsessionclosed: sessionId => void sessions.delete(sessionId),
        eventStore: createEventStore(),
        retryInterval: 50
      })
      await buildServer(legacyAnnounce).connect(transport)
      return transport.handleRequest(request, { parsedBody })
    },
    async close() {
      await Promise.all([...sessions.values()].map(session => session.close()))
    }
  }
}

/** An everything-server that is listening. */
export interface EverythingServer {
  /** The MCP endpoint; `localhost`, because the suite's rebinding checks ask for that name. */
  url: string
  close(): Promise<void>
}

export interface EverythingOptions {
  /** 0, the default, takes a free one. */
  port?: number
  /** Who answers all paths but /mcp, such as the sign-in of a Drupal double; else they are 404. */
  elsewhere?: URL
}

/** Starts the everything-server on the loopback interface. */
export async function startEverythingServer({
  port = 0,
  elsewhere
}: EverythingOptions = {}): Promise<EverythingServer> {
  const modern = createMcpHandler(() => buildServer(() => modern.notify), { legacy: 'reject' })
  const legacy = createLegacyHandler()
  const handle = async (request: Request): Promise<Response> => {
    const refusal =
      hostHeaderValidationResponse(request, localhostAllowedHostnames()) ??
      originValidationResponse(request, localhostAllowedOrigins())
    if (refusal) return refusal
    if (new URL(request.url).pathname !== '/mcp') return new Response(null, { status: 404 })
    return (await isLegacyRequest(request)) ? legacy.fetch(request) : modern.fetch(request)
  }
  const server = createServer((incoming, outgoing) => {
    if (elsewhere && !/^\/mcp(\?|$)/.test(incoming.url ?? '')) {
      relay(incoming, outgoing, elsewhere)
      return
    }
    const gone = new AbortController()
    outgoing.once('close', () => gone.abort())
    handle(toRequest(incoming, gone.signal))
      .catch(() => rpcError(500, -32603, 'Internal error'))
      .then(response => sendResponse(response, outgoing))
  })
  server.listen(port, 'localhost')
  await once(server, 'listening')
  return {
    url: `http://localhost:${(server.address() as AddressInfo).port}/mcp`,
    async close() {
      await Promise.all([modern.close(), legacy.close()])
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    }
  }
}
