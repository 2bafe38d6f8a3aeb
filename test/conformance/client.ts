// A client that does whatever the suite's mock servers want to see: it lists everything, reads everything and calls every
// tool, in the era it is told. `client.ts direct URL` goes straight, `client.ts gateway URL` through a gateway of its own in
// front of URL. Run by the suite, which judges what reaches its server.
import { Client, StreamableHTTPClientTransport, type Tool } from '@modelcontextprotocol/client'
import { startGatewayBefore } from './target.ts'

/** A value for one property of a tool's input schema, by its type. */
function example(schema: { type?: unknown }): unknown {
  switch (schema.type) {
    case 'number':
    case 'integer':
      return 5
    case 'boolean':
      return true
    case 'array':
      return []
    case 'object':
      return {}
    default:
      return 'value'
  }
}

function argumentsOf(tool: Tool, tools: Tool[]): Record<string, unknown> {
  // The one tool that wants to be told something: the schema of its neighbour, as it arrived.
  if (tool.name === 'json_schema_echo')
    return { schema: tools.find(({ name }) => name !== tool.name)?.inputSchema }
  const { properties = {}, required = [] } = tool.inputSchema
  return Object.fromEntries(
    (required as string[]).map(name => [name, example((properties[name] ?? {}) as object)])
  )
}

async function visit(url: string, token: string | undefined): Promise<void> {
  const version = process.env['MCP_CONFORMANCE_PROTOCOL_VERSION'] ?? '2025-11-25'
  const isModern = version >= '2026'
  const client = new Client(
    { name: 'conformance-client', version: '1.0.0' },
    {
      capabilities: { elicitation: { form: { applyDefaults: true } }, sampling: {}, roots: {} },
      versionNegotiation: { mode: isModern ? { pin: version } : 'legacy' }
    }
  )
  client.setRequestHandler('elicitation/create', () => ({ action: 'accept', content: {} }))
  const transport = new StreamableHTTPClientTransport(new URL(url), {
    requestInit: { headers: token === undefined ? {} : { authorization: `Bearer ${token}` } }
  })
  await client.connect(transport)
  const { prompts, resources, tools } = client.getServerCapabilities() ?? {}
  if (tools) {
    const { tools: listed } = await client.listTools()
    const { toolCalls } = JSON.parse(process.env['MCP_CONFORMANCE_CONTEXT'] ?? '{}') as {
      toolCalls?: { name: string; arguments: Record<string, unknown> }[]
    }
    const calls =
      toolCalls ?? listed.map(tool => ({ name: tool.name, arguments: argumentsOf(tool, listed) }))
    for (const call of calls) {
      // Some mock servers answer wrongly on purpose. What counts is what reached them.
      await client.callTool(call).catch((error: unknown) => console.error(call.name, error))
    }
  }
  if (resources) {
    for (const { uri } of (await client.listResources()).resources)
      await client.readResource({ uri })
  }
  if (prompts) {
    for (const { name } of (await client.listPrompts()).prompts) await client.getPrompt({ name })
  }
  await client.close()
}

const [way, url] = process.argv.slice(2)
if (url === undefined || (way !== 'direct' && way !== 'gateway'))
  throw new Error('Usage: client.ts direct|gateway URL')
if (way === 'direct') {
  await visit(url, undefined)
} else {
  const gateway = await startGatewayBefore(new URL(url))
  try {
    await visit(gateway.url, gateway.token)
  } finally {
    await gateway.close()
  }
}
