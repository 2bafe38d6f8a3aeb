// The requests that a load is made of: raw HTTP/1.1 as clients of both eras send it, sessions opened where an era has them.
import { writeFileSync } from 'node:fs'
import { fileName, workDir } from './machine.mjs'

const MODERN = '2026-07-28'
const LEGACY = '2025-11-25'

/** The headers that every call has. */
function callHeaders({ port, token }) {
  return {
    Host: `127.0.0.1:${port}`,
    'User-Agent': 'bench-client/1.0',
    Authorization: `Bearer ${token}`,
    'Content-Type': 'application/json',
    Accept: 'application/json, text/event-stream'
  }
}

function modernParts(method, name, params) {
  const _meta = {
    'io.modelcontextprotocol/protocolVersion': MODERN,
    'io.modelcontextprotocol/clientCapabilities': {},
    'io.modelcontextprotocol/clientInfo': { name: 'bench', version: '1.0' }
  }
  const headers = { 'MCP-Protocol-Version': MODERN, 'Mcp-Method': method }
  if (name !== undefined) headers['Mcp-Name'] = name
  return { headers, params: { ...params, _meta } }
}

/** One message as raw bytes. `session` undefined and era legacy: a peer that knows no sessions. */
export function message({ port, path = '/mcp', token, id, era, session, method, name }) {
  const params =
    name === undefined
      ? {}
      : { name, arguments: { query: 'how to write an article', langcode: 'en', limit: 10 } }
  const modern = era === 'modern' ? modernParts(method, name, params) : undefined
  const headers = {
    ...callHeaders({ port, token }),
    ...(modern?.headers ?? { 'MCP-Protocol-Version': LEGACY }),
    ...(session === undefined ? {} : { 'Mcp-Session-Id': session })
  }
  const body = JSON.stringify({ jsonrpc: '2.0', id, method, params: modern?.params ?? params })
  return raw('POST', path, headers, body)
}

/** A GET that opens a stream. */
export function listen({ port, path = '/mcp', token, session }) {
  const headers = { ...callHeaders({ port, token }), 'MCP-Protocol-Version': LEGACY }
  delete headers['Content-Type']
  headers.Accept = 'text/event-stream'
  if (session !== undefined) headers['Mcp-Session-Id'] = session
  return raw('GET', path, headers, '')
}

function raw(method, path, headers, body) {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  const length = body === '' ? '' : `Content-Length: ${Buffer.byteLength(body)}\r\n`
  return Buffer.from(`${method} ${path} HTTP/1.1\r\n${lines.join('')}${length}\r\n${body}`)
}

/** Opens a session as a client does and answers its id. */
export async function initialize({ port, path = '/mcp', token }) {
  const body = {
    jsonrpc: '2.0',
    id: 0,
    method: 'initialize',
    params: {
      protocolVersion: LEGACY,
      capabilities: {},
      clientInfo: { name: 'bench', version: '1.0' }
    }
  }
  const url = `http://127.0.0.1:${port}${path}`
  const { Host: _, ...headers } = callHeaders({ port, token })
  const answer = await fetch(url, { method: 'POST', headers, body: JSON.stringify(body) })
  const session = answer.headers.get('mcp-session-id')
  const text = await answer.text()
  if (session === null) throw new Error(`no session: ${answer.status} ${text.slice(0, 300)}`)
  await fetch(url, {
    method: 'POST',
    headers: { ...headers, 'mcp-session-id': session, 'mcp-protocol-version': LEGACY },
    body: '{"jsonrpc":"2.0","method":"notifications/initialized"}'
  }).then(said => said.arrayBuffer())
  return session
}

/** Writes requests where the load generator reads them. */
export function writeRequests(name, list) {
  const file = `${workDir}/${fileName(name)}.requests`
  const parts = []
  for (const bytes of list) {
    const size = Buffer.alloc(4)
    size.writeUInt32LE(bytes.length)
    parts.push(size, bytes)
  }
  writeFileSync(file, Buffer.concat(parts))
  return file
}
