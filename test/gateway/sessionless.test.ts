// SESSION_REQUIRED=false: clients that never send the session id back are served all the same, and nobody gets what is another's.
import type { ServerResponse } from 'node:http'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { createMcpHandler, McpServer } from '@modelcontextprotocol/server'
import t from 'tap'
import { json } from '../drupal/site.ts'
import { events, type Message, rpc, startBefore, startLegacyServer } from './fixtures/mcp.ts'
import { read, startGateway } from './fixtures/start.ts'

const env = { SESSION_REQUIRED: 'false' }

t.test('R25 before jsonrpc: every request is a session of its own', async t => {
  const gateway = await startGateway(t, { env: { ...env, LIMIT_SESSION: '1/1m' } })
  const authorization = `Bearer ${gateway.token()}`
  const session = await gateway.initialize(gateway.token())
  t.equal((await gateway.post(rpc('ping'), { authorization })).status, 200)
  for (let n = 0; n < 3; n++) {
    const { status, json } = await gateway.post(rpc('tools/list', {}, n), { authorization })
    t.strictSame([status, json.id], [200, n], 'the budget of a session is not for them')
    t.ok(json.result.tools.length > 0)
  }
  const call = rpc('tools/call', { name: 'site.info', arguments: {} }, 'c')
  const { headers, json: answer, status } = await gateway.post(call, { authorization })
  t.strictSame([status, answer.id, answer.result.isError], [200, 'c', undefined])
  t.match(headers.get('ratelimit'), /principal/, 'but that of its user')
  t.equal(headers.get('mcp-session-id'), null)
  t.notOk('sessionHash' in JSON.parse(gateway.audited.at(-1) as string))
  const news = { jsonrpc: '2.0', method: 'notifications/initialized' }
  t.equal((await gateway.post(news, { authorization })).status, 202)

  const batch = await gateway.post([rpc('ping', {}, 1), rpc('ping', {}, 2)], { authorization })
  t.equal(batch.json.length, 2, 'no version named: 2025-03-26')
  const newer = { authorization, 'mcp-protocol-version': '2025-06-18' }
  t.equal((await gateway.post([rpc('ping')], newer)).status, 400)
  const old = { authorization, 'mcp-protocol-version': '1999-01-01' }
  t.equal((await gateway.post(rpc('ping'), old)).status, 400, 'R35')

  t.equal((await gateway.post(rpc('ping'))).status, 401, 'a token is needed as ever')
  const wrong = { authorization, 'mcp-session-id': 'x' }
  t.equal(
    (await gateway.post(rpc('ping'), wrong)).status,
    404,
    'R26 an id that is sent must be good'
  )
  const foreign = { ...session, authorization: `Bearer ${gateway.token({ uid: 3 })}` }
  t.equal((await gateway.post(rpc('ping'), foreign)).status, 404, 'R93')
  t.equal((await fetch(gateway.url, { method: 'DELETE', headers: { authorization } })).status, 400)
})

t.test('before an upstream with sessions: one is opened for each request', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint, env)
  const authorization = gateway.authorization()
  const used: { message: Message; response: ServerResponse; session: unknown }[] = []
  server.onRequest = (message, response, { headers }) => {
    used.push({ message, response, session: headers['mcp-session-id'] })
    if (used.length < 2) return
    for (const { message, response } of used)
      json(response, { jsonrpc: '2.0', id: 1, result: { who: message.params.name } })
  }
  const ask = async (name: string) =>
    (await gateway.post(rpc('prompts/get', { name }, 1), { authorization })).json.result.who
  t.strictSame(await Promise.all([ask('a'), ask('b')]), ['a', 'b'], 'R19 the same id twice')
  t.not(used[0]?.session, used[1]?.session)
  while (server.sessions.size > 0) await new Promise(setImmediate)
  t.pass('and each is ended with its answer')

  const before = server.messages.length
  t.equal((await gateway.post(rpc('ping'), { authorization })).status, 200)
  const news = { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 1 } }
  t.equal((await gateway.post(news, { authorization })).status, 202)
  t.equal(server.messages.length, before, 'the site is not asked for these')

  let own: unknown
  server.onRequest = ({ id }, response, { headers }) => {
    const say = events(response)
    say({ jsonrpc: '2.0', method: 'notifications/message', params: { data: 'x' } })
    t.ok(server.sessions.has(String(headers['mcp-session-id'])), 'it lasts as long as its stream')
    own = headers['mcp-session-id']
    say({ jsonrpc: '2.0', id, result: { content: [] } })
    response.end()
  }
  const call = rpc('tools/call', { name: 'echo', arguments: {} })
  const { text } = await read(await gateway.open(call, { authorization }))
  t.match(text, /"notifications\/message"[^]*"content":\[\]/)
  while (server.sessions.has(String(own))) await new Promise(setImmediate)
})

t.test('before an upstream without sessions, of either era', async t => {
  const legacy = await startLegacyServer(t)
  legacy.isSessionful = false
  const old = await startBefore(t, legacy.endpoint, env)
  const { json } = await old.post(rpc('tools/list'), { authorization: old.authorization() })
  t.equal(json.result.tools[0].name, 'echo')

  const handler = createMcpHandler(
    () => {
      const server = new McpServer({ name: 'modern', version: '1' })
      server.registerTool('greet', { description: 'greets' }, async () => ({
        content: [{ type: 'text', text: 'Hello' }]
      }))
      return server
    },
    { legacy: 'reject' }
  )
  t.teardown(() => handler.close())
  legacy.answer = (seen, response) => {
    const headers = Object.entries(seen.headers).map(([k, v]) => [k, String(v)] as [string, string])
    const { method, body, url } = seen
    const request = new Request(`http://x${url}`, { method, headers, ...(body && { body }) })
    void handler.fetch(request).then(async answer => {
      response.writeHead(answer.status, Object.fromEntries(answer.headers))
      response.end(await answer.text())
    })
  }
  const modern = await startBefore(t, legacy.endpoint, env)
  const authorization = modern.authorization()
  const called = await modern.post(rpc('tools/call', { name: 'greet' }, 'g'), { authorization })
  t.strictSame([called.json.id, called.json.result.content[0].text], ['g', 'Hello'])
})

t.test('a client of the SDK that loses the id connects, lists and calls', async t => {
  for (const [required, name] of [
    ['false', 'served'],
    ['true', 'R25 refused']
  ] as const) {
    const gateway = await startGateway(t, { env: { SESSION_REQUIRED: required } })
    const client = new Client({ name: 'forgetful', version: '1' })
    const transport = new StreamableHTTPClientTransport(new URL(gateway.url), {
      fetch: async (url, init) => {
        const headers = new Headers(init?.headers)
        headers.delete('mcp-session-id')
        headers.set('authorization', `Bearer ${gateway.token()}`)
        return fetch(url, { ...init, headers })
      }
    })
    const trip = async () => {
      await client.connect(transport as never)
      t.ok((await client.listTools()).tools.length > 0)
      return client.callTool({ name: 'site.info', arguments: {} })
    }
    if (required === 'true')
      await t.rejects(trip(), { message: /Mcp-Session-Id is required/ }, name)
    else t.notOk((await trip()).isError, name)
    await client.close()
  }
})
