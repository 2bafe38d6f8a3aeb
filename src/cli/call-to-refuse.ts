// A request that a gateway refuses without a token whatever it lets pass before sign-in: how one learns from outside what to ask for.

const message = {
  jsonrpc: '2.0',
  id: 1,
  method: 'tools/call',
  params: {
    // In no list, so nobody may call it before sign-in.
    name: 'doctor-probe',
    _meta: {
      'io.modelcontextprotocol/protocolVersion': '2026-07-28',
      'io.modelcontextprotocol/clientCapabilities': {}
    }
  }
}

/** The options of a request to the MCP URL. */
export const callToRefuse = {
  method: 'POST',
  headers: {
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
    'mcp-protocol-version': '2026-07-28',
    'mcp-method': message.method,
    'mcp-name': message.params.name
  },
  body: JSON.stringify(message)
}
