// The gateway that one would write with the MCP SDK and Express, following its examples: bearer middleware with jose, a server and
// its transport a session on the way in, one client a session on the way out. With STATELESS=1 as the SDK's example without
// sessions: a server and a transport for each request, one client a token on the way out.
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { requireBearerAuth } from '@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js'
import { Server } from '@modelcontextprotocol/sdk/server/index.js'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import {
  CallToolRequestSchema,
  isInitializeRequest,
  ListToolsRequestSchema
} from '@modelcontextprotocol/sdk/types.js'
import express from 'express'
import { createLocalJWKSet, jwtVerify } from 'jose'

const { PORT, UPSTREAM, JWKS, ISSUER, STATELESS } = process.env
const keys = createLocalJWKSet(JSON.parse(readFileSync(JWKS, 'utf8')))
const transports = new Map()
const clients = new Map()

const verifier = {
  async verifyAccessToken(token) {
    const { payload } = await jwtVerify(token, keys, { issuer: ISSUER })
    return { token, clientId: String(payload.aud), scopes: payload.scope, expiresAt: payload.exp }
  }
}

async function connectUpstream(token) {
  const client = new Client({ name: 'gateway', version: '1.0.0' })
  const headers = { Authorization: `Bearer ${token}` }
  await client.connect(
    new StreamableHTTPClientTransport(new URL('/mcp', UPSTREAM), { requestInit: { headers } })
  )
  return client
}

async function connect(client, options) {
  const server = new Server({ name: 'gateway', version: '1.0.0' }, { capabilities: { tools: {} } })
  server.setRequestHandler(ListToolsRequestSchema, request => client.listTools(request.params))
  server.setRequestHandler(CallToolRequestSchema, request => client.callTool(request.params))
  const transport = new StreamableHTTPServerTransport(options)
  await server.connect(transport)
  return transport
}

async function open(token) {
  const transport = await connect(await connectUpstream(token), {
    sessionIdGenerator: () => randomUUID(),
    enableJsonResponse: true,
    onsessioninitialized: id => transports.set(id, transport)
  })
  return transport
}

async function answerWithoutSession(request, response) {
  const { token } = request.auth
  if (!clients.has(token)) clients.set(token, connectUpstream(token))
  const transport = await connect(await clients.get(token), { sessionIdGenerator: undefined })
  response.on('close', () => transport.close())
  await transport.handleRequest(request, response, request.body)
}

const app = express()
app.use(express.json())
app.post('/mcp', requireBearerAuth({ verifier }), async (request, response) => {
  if (STATELESS) return answerWithoutSession(request, response)
  const known = transports.get(request.headers['mcp-session-id'])
  if (known === undefined && !isInitializeRequest(request.body)) {
    response.status(404).json({ error: 'no session' })
    return
  }
  const transport = known ?? (await open(request.auth.token))
  await transport.handleRequest(request, response, request.body)
})
app.listen(Number(PORT), '127.0.0.1')
process.once('SIGTERM', () => process.exit(0))
