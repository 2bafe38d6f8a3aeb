// Legacy clients before an upstream that speaks MCP: bytes, sessions, streams and refusals, over real sockets.
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import {
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  ToolListChangedNotificationSchema
} from '@modelcontextprotocol/sdk/types.js'
import t from 'tap'
import { startEverythingServer } from '../conformance/everything-server.ts'
import { html, json, oneTooMany, startSite } from '../drupal/site.ts'
import {
  type Before,
  closed,
  events,
  type Message,
  messagesOf,
  modern,
  rpc,
  startBefore,
  startLegacyServer
} from './fixtures/mcp.ts'
import { read, startGateway } from './fixtures/start.ts'

const call = (id: unknown = 1, args = {}) =>
  rpc('tools/call', { name: 'echo', arguments: args }, id)
const streamHead =
  'HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n'
const chunk = (text: string) => `${text.length.toString(16)}\r\n${text}\r\n`

t.test('R17 R20 R21 R77 bytes pass through in both directions', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token())
  const answer = '{"jsonrpc" : "2.0",  "id":12345678901234567890, "result":{"x":1.0}}'
  server.onRequest = (_message, response) => json(response, answer)
  const body =
    '{ "jsonrpc":"2.0", "id": 12345678901234567890,"method":"tools/call","extra":1,\n"params":{"name":"echo","n":1.50} }'
  const { text, status } = await gateway.post(body, session)
  t.equal(status, 200)
  t.equal(text, answer)
  t.equal(server.seen.at(-1)?.body, body)
})

t.test('an MCP server at the root of the site, and below a folder of it', async t => {
  const server = await startLegacyServer(t)
  for (const folder of ['', '/cms']) {
    const gateway = await startBefore(t, server.url, { DRUPAL_URL: server.url + folder })
    const session = await gateway.initialize(gateway.token())
    t.equal((await gateway.post(call(), session)).status, 200)
    const posts = server.seen.splice(0).filter(({ method }) => method === 'POST')
    t.strictSame([...new Set(posts.map(({ url }) => url))], [`${folder}/`])
  }
})

t.test('R48 a call without an id reaches nobody, alone or in a batch', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint, { AUTH_ANONYMOUS: 'public-tools' })
  const session = await gateway.initialize(gateway.token(), '2025-03-26')
  const { length } = server.seen
  const { id: _id, ...silent } = call() as Message
  for (const body of [silent, [silent], [call(), silent]])
    t.equal((await gateway.post(body, session)).status, 400)
  const { body, headers } = modern('tools/call', { name: 'echo' })
  const { id: _other, ...modernSilent } = body as Message
  const signedIn = { ...headers, authorization: `Bearer ${gateway.token()}` }
  t.equal((await gateway.post(modernSilent, signedIn)).status, 400)
  t.equal((await gateway.post(modernSilent, headers)).status, 400, 'before sign-in')
  t.equal(server.seen.length, length)
})

t.test(
  'R61 how initialize was refused is no 404, which would say that a session is gone',
  async t => {
    const server = await startLegacyServer(t)
    const gateway = await startBefore(t, server.endpoint)
    server.answer = ({ body }, response) => {
      const { id } = JSON.parse(body) as Message
      json(response, { jsonrpc: '2.0', id, error: { code: -32601, message: 'no' } }, 404)
    }
    const { status, json: answer } = await gateway.post(
      rpc('initialize', {
        protocolVersion: '2025-11-25',
        capabilities: {},
        clientInfo: { name: 'x', version: '1' }
      }),
      { authorization: `Bearer ${gateway.token()}` }
    )
    t.equal(status, 200)
    t.match(answer, { id: 1, error: { code: -32601 } })
  }
)

const requestText = (body: unknown, headers: Record<string, string>) => {
  const text = JSON.stringify(body)
  const lines = Object.entries({
    host: 'localhost',
    'content-type': 'application/json',
    'content-length': `${text.length}`,
    ...headers
  }).map(([name, value]) => `${name}: ${value}\r\n`)
  return `POST /mcp HTTP/1.1\r\n${lines.join('')}\r\n${text}`
}

t.test('no header of Drupal’s reaches a client by itself', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token())
  const inside = {
    'set-cookie': 'SESS=1',
    server: 'Apache',
    'x-drupal-cache': 'HIT',
    'x-generator': 'Drupal 11',
    'mcp-session-id': [...server.sessions].join(),
    'www-authenticate': 'Bearer realm="OAuth"'
  }
  const results: Record<string, object> = {
    200: { result: {} },
    400: { error: { code: -32600, message: 'no' } }
  }
  for (const [status, rest] of Object.entries(results)) {
    server.onRequest = ({ id }, response) =>
      json(response, { jsonrpc: '2.0', id, ...rest }, Number(status), inside)
    const { headers, status: seen } = await gateway.post(call(), session)
    t.equal(seen, Number(status))
    for (const name of Object.keys(inside)) t.equal(headers.get(name), null, `${status} ${name}`)
  }
  server.onRequest = ({ id }, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream', ...inside })
    response.end(`data: ${JSON.stringify({ jsonrpc: '2.0', id, result: {} })}\n\n`)
  }
  const { length } = gateway.audited
  const stream = await gateway.open(call(), session)
  t.match(await stream.text(), '"result":{}')
  while (gateway.audited.length === length) await nextTurn()
  t.match(gateway.audited.at(-1), /"status":200,.*"bytesOut":[1-9]/)
  for (const name of Object.keys(inside)) t.equal(stream.headers.get(name), null, `stream ${name}`)
})

t.test('R65 large answers, declared and chunked, never share their memory', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token())
  const textOf = (id: number) => `${id}:`.repeat(150_000)
  server.onRequest = (message, response) => {
    const id = message.id as number
    const body = JSON.stringify({ jsonrpc: '2.0', id, result: { text: textOf(id) } })
    if (id % 2 === 0) {
      json(response, body)
      return
    }
    response.setHeader('content-type', 'application/json')
    for (let at = 0; at < body.length; at += 60_000) response.write(body.slice(at, at + 60_000))
    response.end()
  }
  // Six requests on one connection that is not read yet: the gateway holds most of their answers.
  const slow = connect(Number(new URL(gateway.url).port), '127.0.0.1').pause()
  const held = [100, 101, 102, 103, 104, 105]
  const asked = server.seen.length + held.length
  for (const id of held) slow.write(requestText(call(id), session))
  while (server.seen.length < asked) await new Promise(setImmediate)
  const leaving = new AbortController()
  for (let id = 200; id < 204; id++) await gateway.open(call(id), session, leaving.signal)
  leaving.abort()
  for (let id = 300; id < 310; id++) {
    const response = await gateway.open(call(id), session)
    const { result } = (await response.json()) as { result: { text: string } }
    t.ok(result.text === textOf(id), `${id} has its own answer`)
  }
  let read = ''
  for await (const bytes of slow.setEncoding('latin1')) {
    read += bytes as string
    if (read.endsWith('105:"}}')) break
  }
  for (const id of held) t.ok(read.includes(`"${textOf(id)}"`), `${id} has its own answer`)
})

t.test('R43 a client that does not read holds the site back, and loses no event', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token())
  const total = 4000
  let sent = 0
  let held = () => {}
  const isHeld = new Promise<void>(resolve => (held = resolve))
  server.onRequest = async (message, response) => {
    const send = events(response)
    for (; sent < total; sent++) {
      const data = `${sent} ü ${'x'.repeat(20_000)}`
      send({ jsonrpc: '2.0', method: 'notifications/message', params: { level: 'info', data } })
      if (!response.writableNeedDrain) continue
      const late = setTimeout(held, 500)
      await once(response, 'drain')
      clearTimeout(late)
    }
    send({ jsonrpc: '2.0', id: message.id, result: { ok: true } })
    response.end()
  }
  const response = await gateway.open(call(), session)
  await isHeld
  t.ok(sent < total / 2, `${sent} of ${total} events were sent to nobody`)
  let next = 0
  let answer: unknown
  for await (const { method, params, result } of messagesOf(response)) {
    if (method === undefined) answer = result
    else if ((params as { data: string }).data.startsWith(`${next} ü x`)) next++
  }
  t.equal(next, total, 'all came, in order')
  t.strictSame(answer, { ok: true })
})

t.test('R65 two users and a race: lists and rules are each caller’s own', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const tokens = { editor: gateway.token({ uid: 2 }), reader: gateway.token({ uid: 3 }) }
  const { answer } = server
  server.answer = (seen, response, request) => {
    const message = JSON.parse(seen.body) as Message
    if (message.method !== 'tools/list') {
      answer(seen, response, request)
      return
    }
    const isEditor = seen.headers['authorization'] === `Bearer ${tokens.editor}`
    const scopes = isEditor ? [] : ['nobody:has']
    const edit = {
      name: 'edit',
      inputSchema: { type: 'object' },
      annotations: { auth: { scopes } }
    }
    const own = { name: isEditor ? 'of-editor' : 'of-reader', inputSchema: { type: 'object' } }
    const result = { tools: [edit, own] }
    setTimeout(() => json(response, { jsonrpc: '2.0', id: message.id, result }), 50)
  }
  const sessions = {
    editor: await gateway.initialize(tokens.editor),
    reader: await gateway.initialize(tokens.reader)
  }
  const edit = rpc('tools/call', { name: 'edit', arguments: {} })
  await Promise.all(
    Array.from({ length: 20 }, async (_, n) => {
      const who = n % 2 === 0 ? 'editor' : 'reader'
      const [list, call] = await Promise.all([
        gateway.post(rpc('tools/list'), sessions[who]),
        gateway.post(edit, sessions[who])
      ])
      t.equal(list.json.result.tools[1].name, `of-${who}`)
      t.equal(call.status, who === 'editor' ? 200 : 403, `${who} calls`)
    })
  )
})

t.test('R19 R92 one answer too many shows nobody the answers of another session', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const users = [
    await gateway.initialize(gateway.token({ uid: 2 })),
    await gateway.initialize(gateway.token({ uid: 3 }))
  ] as const
  const answer = oneTooMany()
  server.onRequest = ({ id, params }, response, { headers }) => {
    const { 'mcp-session-id': session } = headers
    const result = { who: params.arguments.who }
    answer(response, { jsonrpc: '2.0', id, result }, { 'mcp-session-id': session })
  }
  const told = []
  for (let n = 0; n < 6; n++) {
    const { status, json: body } = await gateway.post(call(1, { who: n }), users[n % 2])
    told.push(status === 200 ? body.result.who : status)
  }
  t.strictSame(told, [0, 502, 2, 3, 4, 5])
})

t.test('R31 R38 the session of the upstream is mapped and never shown', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token(), '2025-11-25')
  t.equal(session['mcp-protocol-version'], '2025-06-18', 'R32 what the upstream negotiated')
  t.match(JSON.parse(gateway.audited.at(-1) as string), {
    method: 'initialize',
    version: '2025-06-18',
    sessionHash: /./
  })
  const { headers } = await gateway.post(rpc('tools/list'), {
    ...session,
    cookie: 'a=b',
    'x-forwarded-for': '1.2.3.4',
    'mcp-param-x': 'y'
  })
  const [id] = server.sessions
  t.notOk([...headers.values()].some(value => value.includes(id as string)))
  t.notOk(session['mcp-session-id']?.includes(id as string))
  const seen = server.seen.at(-1)?.headers ?? {}
  t.equal(seen['mcp-session-id'], id)
  t.equal(seen['mcp-protocol-version'], '2025-06-18')
  t.equal(seen['authorization'], session['authorization'], 'R91')
  t.equal(seen['host'], new URL(server.url).host)
  t.match(seen['user-agent'], /^drupal-mcp-gateway\//)
  for (const name of ['cookie', 'x-forwarded-for', 'mcp-param-x']) t.notOk(name in seen, name)
  const [line] = gateway.audited.slice(-1)
  t.equal(JSON.parse(line as string).requestId, seen['x-request-id'])
})

t.test('R77 the trace goes on to the upstream, whoever began it', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token())
  const traceOf = async (headers: Record<string, string>, meta?: object) => {
    const args = meta === undefined ? {} : { _meta: meta }
    await gateway.post(rpc('tools/call', { name: 'echo', ...args }), { ...session, ...headers })
    const { traceparent, tracestate } = server.seen.at(-1)?.headers ?? {}
    const [, traceId] = String(traceparent).split('-')
    t.equal(JSON.parse(gateway.audited.at(-1) as string).traceId, traceId, 'as in the audit line')
    return { traceId, tracestate }
  }
  const [one, other] = ['0af7651916cd43dd8448eb211c80319c', '4bf92f3577b34da6a3ce929d0e0e4736']
  const header = { traceparent: `00-${one}-b7ad6b7169203331-01`, tracestate: 'a=b' }
  t.strictSame(
    await traceOf(header),
    { traceId: one, tracestate: 'a=b' },
    'the client’s, by header'
  )
  t.match(
    await traceOf(header, { traceparent: `00-${other}-b7ad6b7169203331-01` }),
    { traceId: other, tracestate: undefined },
    '`_meta` goes before the header'
  )
  for (const traceparent of [undefined, 'ff-1-2-3', `00-${'0'.repeat(32)}-b7ad6b7169203331-01`]) {
    const { traceId } = await traceOf(traceparent === undefined ? {} : { traceparent })
    t.match(traceId, /^(?!0+$)[0-9a-f]{32}$/, 'the gateway’s own, where there is none or garbage')
  }
})

t.test('an upstream of a version that is not spoken here', async t => {
  const server = await startLegacyServer(t)
  server.initializeResult = { ...server.initializeResult, protocolVersion: '2024-11-05' }
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token(), '2025-03-26')
  t.equal(session['mcp-protocol-version'], '2025-03-26', 'the client gets what it may send')
  t.equal((await gateway.post(rpc('tools/list'), session)).status, 200)
  t.equal(server.seen.at(-1)?.headers['mcp-protocol-version'], '2024-11-05', 'R38')
})

t.test('an upstream that says nothing of itself, or without end', async t => {
  const site = await startSite(t)
  const endless = '{"a":'.repeat(20_000) + '1' + '}'.repeat(20_000)
  const gateway = await startBefore(t, `${site.url}/mcp`)
  const authorization = gateway.authorization()
  const hello = rpc('initialize', { protocolVersion: '2025-06-18', capabilities: {} })
  const initialized = (result: string) => {
    site.answer = (seen, response) => {
      const { id, method } = JSON.parse(seen.body) as Message
      const body = `{"jsonrpc":"2.0","id":${JSON.stringify(id)},"result":${result}}`
      if (method === 'initialize') json(response, body)
      else json(response, { jsonrpc: '2.0', id, error: { code: -32601, message: 'no' } })
    }
  }
  initialized('null')
  t.equal((await gateway.post(hello, { authorization })).status, 502)
  const old = (capabilities: string) =>
    initialized(`{"protocolVersion":"2024-11-05","capabilities":{"tools":${capabilities}}}`)
  old(endless)
  const { status, text } = await gateway.post(hello, { authorization })
  t.equal(status, 200)
  t.ok(text.includes(`"protocolVersion":"2025-06-18","capabilities":{"tools":${endless}}`))
  const { body, headers } = modern('server/discover')
  const discover = () => gateway.post(body, { authorization, ...headers })
  t.equal((await discover()).status, 502)
  old('{}')
  t.equal((await discover()).status, 200)
  site.answer = (seen, response) => {
    const { id, method } = JSON.parse(seen.body) as Message
    const result = `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":${endless}}}`
    const body = `{"jsonrpc":"2.0","id":${JSON.stringify(id)},"result":${result}}`
    const error = { code: -32022, message: 'no', data: { supported: ['2026-07-28'] } }
    if (method === 'server/discover') json(response, body)
    else json(response, { jsonrpc: '2.0', id, error }, 400)
  }
  t.equal((await gateway.post(hello, { authorization })).status, 502)
  t.notMatch(gateway.logged.join(''), 'uncaught')
})

t.test('R31 a session that the upstream has forgotten is opened anew, once', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const { authorization } = { authorization: gateway.authorization() }
  const capabilities = { sampling: {}, elicitation: { form: {} } }
  const opened = await gateway.post(
    rpc('initialize', {
      protocolVersion: '2025-06-18',
      capabilities,
      clientInfo: { name: 'Zoë', version: '1' }
    }),
    { authorization }
  )
  const session = { authorization, 'mcp-session-id': opened.headers.get('mcp-session-id') ?? '' }
  server.sessions.clear()
  server.messages.length = 0
  const answers = await Promise.all([1, 2, 3].map(id => gateway.post(call(id), session)))
  t.strictSame(
    answers.map(({ status, json: body }) => [status, body.id]),
    [
      [200, 1],
      [200, 2],
      [200, 3]
    ]
  )
  const again = server.messages.filter(({ method }) => method === 'initialize')
  // One for the client, at most one more for the gateway's own question after the tools.
  const mine = again.filter(({ params }) => params.clientInfo.name === 'Zoë')
  t.equal(mine.length, 1, 'opened once for three requests')
  t.strictSame(mine[0]?.params.capabilities, capabilities, 'with what the client had said')
  t.equal(server.messages.filter(({ method }) => method === 'tools/call').length, 6)
  server.messages.length = 0
  t.equal((await gateway.post(call(4), session)).status, 200)
  t.strictSame(
    server.messages.map(({ method }) => method),
    ['tools/call'],
    'the move is remembered'
  )
})

t.test('R31 a lost session may be told by 400 and a text, as servers of the SDKs do', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token())
  const { body: bridged, headers } = modern('tools/call', { name: 'echo', arguments: {} })
  const inModern = () => gateway.post(bridged, { ...session, ...headers })
  t.equal((await inModern()).status, 200)
  const { answer } = server
  let tell = (_response: ServerResponse) => {}
  server.answer = (seen, response, turn) => {
    const id = String(seen.headers['mcp-session-id'])
    const isIn = seen.method !== 'POST' || !/"initialize"|\/discover"/.test(seen.body)
    if (isIn && !server.sessions.has(id)) tell(response)
    else if (seen.method === 'GET') events(response)({ jsonrpc: '2.0', method: 'x' })
    else answer(seen, response, turn)
  }
  const error = (code: number, message: string) => (response: ServerResponse) =>
    json(response, { jsonrpc: '2.0', error: { code, message }, id: null }, 400)
  for (const lost of [
    error(-32000, 'Bad Request: No valid session ID provided'),
    error(-32000, 'Bad Request: Server not initialized'),
    (response: ServerResponse) => response.writeHead(400).end('Invalid or missing session ID')
  ]) {
    tell = lost
    for (const ask of [
      () => gateway.post(call(), session),
      inModern,
      () => gateway.listen(session)
    ]) {
      server.sessions.clear()
      const again = await ask()
      t.equal(again.status, 200)
      if (again instanceof Response) await again.body?.cancel()
    }
  }
  t.test('and a 400 about something else leaves it as it is', async t => {
    const [known] = server.sessions
    server.onRequest = (_message, response) => error(-32602, 'no such argument')(response)
    t.equal((await gateway.post(call(), session)).json.error.code, -32602)
    t.strictSame([...server.sessions], [known])
  })
})

t.test('R24 R31 what cannot name a session is not kept for one', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token())
  server.sessions.clear()
  const { answer } = server
  let [id, protocolVersion] = ['two words', '2025-06-18']
  server.answer = (seen, response, turn) => {
    const message = JSON.parse(seen.body || '{}') as Message
    if (message.method !== 'initialize') return answer(seen, response, turn)
    server.sessions.add(id)
    const result = { ...server.initializeResult, protocolVersion }
    json(response, { jsonrpc: '2.0', id: message.id, result }, 200, { 'mcp-session-id': id })
  }
  const initialize = () =>
    gateway.post(rpc('initialize', { protocolVersion: '2025-06-18', capabilities: {} }), {
      authorization: session['authorization'] as string
    })
  for (const bad of ['two words', '2025-06-18\r\nx: y']) {
    if (bad !== id) [id, protocolVersion] = ['word', bad]
    const reopened = await gateway.post(rpc('tools/list'), session)
    t.match([reopened.status, reopened.json.error.code], [502, -32603])
    t.equal((await initialize()).status, 502)
  }
  protocolVersion = '2025-06-18'
  t.equal(
    (await gateway.post(rpc('tools/list'), session)).status,
    200,
    'the session was not touched'
  )
})

t.test('a client with long capabilities gets a session all the same', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const authorization = gateway.authorization()
  const { headers, status } = await gateway.post(
    rpc('initialize', {
      protocolVersion: '2025-06-18',
      capabilities: { roots: {}, experimental: { x: 'y'.repeat(2000) } },
      clientInfo: { name: 'n'.repeat(2000), version: 'v'.repeat(2000) }
    }),
    { authorization }
  )
  t.equal(status, 200)
  server.sessions.clear()
  const session = { authorization, 'mcp-session-id': headers.get('mcp-session-id') ?? '' }
  t.equal((await gateway.post(rpc('tools/list'), session)).status, 200)
  const { params } = server.messages.findLast(({ method }) => method === 'initialize') as Message
  t.strictSame(params.capabilities, { roots: {} }, 'kept by name')
})

t.test('drupal/mcp 1.x: no sessions, no streams', async t => {
  const server = await startLegacyServer(t)
  server.isSessionful = false
  server.initializeResult = { ...server.initializeResult, protocolVersion: '2025-03-26' }
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token())
  t.equal(session['mcp-protocol-version'], '2025-03-26')
  t.equal((await gateway.post(call(), session)).json.result.method, 'tools/call')
  t.notOk('mcp-session-id' in (server.seen.at(-1)?.headers ?? {}))
  const notified = await gateway.post(
    { jsonrpc: '2.0', method: 'notifications/initialized' },
    session
  )
  t.equal(notified.status, 202)
  t.equal(notified.text, '')
  const got = await gateway.listen(session)
  t.equal(got.status, 405, 'R40')
  t.equal(got.headers.get('allow'), 'POST, DELETE')
  await got.body?.cancel()
  const seen = server.seen.length
  const ended = await fetch(gateway.url, { method: 'DELETE', headers: session })
  t.equal(ended.status, 204)
  t.equal(server.seen.length, seen, 'there is nothing to end')
  t.equal((await gateway.post(rpc('ping'), session)).status, 404, 'R28')
  const batch = await gateway.initialize(gateway.token())
  server.answer = (_seen, response) => json(response, '[{"jsonrpc":"2.0","id":1,"result":{}}]')
  t.equal((await gateway.post([rpc('ping')], batch)).text, '[{"jsonrpc":"2.0","id":1,"result":{}}]')
  const unknown = { code: -32601, message: 'Method not found' }
  server.answer = ({ body }, response) =>
    json(
      response,
      (JSON.parse(body) as Message[]).map(({ id, method }) =>
        method === 'ping'
          ? { jsonrpc: '2.0', id, error: unknown }
          : { jsonrpc: '2.0', id, result: { tools: [] } }
      )
    )
  t.strictSame(
    (await gateway.post([rpc('tools/list', {}, 'l'), rpc('ping', {}, 'p')], batch)).json,
    [
      { jsonrpc: '2.0', id: 'l', result: { tools: [] } },
      { jsonrpc: '2.0', id: 'p', result: {} }
    ],
    'R51 a ping is answered also where the site does not know it'
  )
})

t.test('R28 DELETE ends both sessions', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token())
  t.equal((await fetch(gateway.url, { method: 'DELETE', headers: session })).status, 204)
  t.equal(server.sessions.size, 0)
  t.equal((await gateway.post(rpc('ping'), session)).status, 404)
  const next = await gateway.initialize(gateway.token())
  server.answer = (_seen, response) => html(response, 500)
  t.equal(
    (await fetch(gateway.url, { method: 'DELETE', headers: next })).status,
    204,
    'whatever the upstream says'
  )
})

t.test("PHP's SDK: the answer is found among all that waited in the session", async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token())
  server.onRequest = ({ id, method }, response) => {
    const notice = { jsonrpc: '2.0', method: 'notifications/message', params: { data: 'late' } }
    const tools = [{ name: 'echo', inputSchema: { type: 'object' } }]
    const result = method === 'tools/list' ? { tools } : { content: [] }
    const foreign = { jsonrpc: '2.0', id: 'of-another-call', result: { secret: 1 } }
    json(response, [notice, foreign, { jsonrpc: '2.0', id, result }])
  }
  const list = await gateway.post(rpc('tools/list', {}, 'l'), session)
  t.match(list, { status: 200, json: { id: 'l', result: { tools: [{ name: 'echo' }] } } })
  const called = await gateway.post(rpc('tools/call', { name: 'echo' }, 'c'), session)
  t.equal(called.status, 200)
  t.strictSame(called.json, { jsonrpc: '2.0', id: 'c', result: { content: [] } })
  const { body, headers } = modern('tools/call', { name: 'echo' }, 'm')
  const bridged = await gateway.post(body, { ...session, ...headers })
  t.match(bridged, { status: 200, json: { id: 'm', result: { content: [] } } })
})

t.test('mcp_server: one request at a time in a session', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const [a, b] = await Promise.all([
    gateway.initialize(gateway.token()),
    gateway.initialize(gateway.token())
  ])
  await gateway.post(rpc('tools/list'), a)
  const busy = new Set<string>()
  let refused = 0
  let together = 0
  let most = 0
  let finishFirst: (() => void) | undefined
  server.onRequest = (message, response, { headers }) => {
    const id = String(headers['mcp-session-id'])
    if (busy.has(id)) {
      refused++
      response.writeHead(503, { 'retry-after': '1', 'content-type': 'text/plain' })
      response.end('MCP session lock timeout')
      finishFirst?.()
      return
    }
    busy.add(id)
    together++
    most = Math.max(most, together)
    const finish = () => {
      together--
      busy.delete(id)
      json(response, { jsonrpc: '2.0', id: message.id, result: {} })
    }
    if (refused === 0) finishFirst = finish
    else setTimeout(finish, 20)
  }
  const run = (session: Record<string, string>, count: number) =>
    Promise.all(Array.from({ length: count }, (_, id) => gateway.post(call(id), session)))
  const first = await run(a, 2)
  t.strictSame(
    first.map(({ status }) => status),
    [200, 200],
    'the lock is waited for'
  )
  t.equal(refused, 1, 'and learned from')
  const all = (await Promise.all([run(a, 5), run(b, 5)])).flat()
  t.ok(all.every(({ status }) => status === 200))
  t.equal(refused, 1, 'nobody runs into it again')
  t.ok(most > 1, 'other sessions do not wait')
})

t.test(
  'R51 a ping is answered here: it waits for no call and costs the upstream nothing',
  async t => {
    const server = await startLegacyServer(t)
    const gateway = await startBefore(t, server.endpoint)
    const session = await gateway.initialize(gateway.token())
    const { length } = server.seen
    const { json: pong } = await gateway.post(rpc('ping', undefined, 'p'), session)
    t.strictSame(pong, { jsonrpc: '2.0', id: 'p', result: {} })
    t.equal(server.seen.length, length)
  }
)

t.test(
  'R61 an unknown method costs no session, whatever status the upstream says it with',
  async t => {
    const server = await startLegacyServer(t)
    const gateway = await startBefore(t, server.endpoint)
    const session = await gateway.initialize(gateway.token())
    const { authorization } = session as { authorization: string }
    const { body, headers } = modern('completion/complete')
    for (const status of [400, 404]) {
      server.onRequest = (message, response) => {
        const error = { code: -32601, message: 'no' }
        json(response, { jsonrpc: '2.0', id: message.id, error }, status)
      }
      const legacy = await gateway.post(rpc('completion/complete', undefined, 'u'), session)
      t.strictSame([legacy.status, legacy.json.id, legacy.json.error.code], [200, 'u', -32601])
      const bridged = await gateway.post(body, { authorization, ...headers })
      t.strictSame([bridged.status, bridged.json.error.code], [404, -32601])
    }
    const opened = server.messages.filter(({ method }) => method === 'initialize')
    t.equal(opened.length, 2, 'one for either era')
  }
)

t.test('R61 how a method failed is 200, why a request was refused stays 400', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token())
  for (const [code, status] of [
    [-32602, 200],
    [-32603, 200],
    [-32002, 200],
    [7, 200],
    [-32700, 400],
    [-32600, 400],
    [-32000, 400],
    [-32001, 400]
  ] as const) {
    // Of a lost session only those speak who did not come to the method.
    const error = { code, message: status === 200 ? 'no session id among the arguments' : 'no' }
    server.onRequest = ({ id }, response) => json(response, { jsonrpc: '2.0', id, error }, 400)
    const got = await gateway.post(rpc('prompts/get', { name: 'a' }, 'e'), session)
    t.strictSame([got.status, got.json], [status, { jsonrpc: '2.0', id: 'e', error }])
  }
  const opened = () => server.messages.filter(({ method }) => method === 'initialize').length
  t.equal(opened(), 1)
  t.test('R31 with 404 too: only codes of the transport and words tell a lost session', async t => {
    const { body, headers } = modern('tools/call', { name: 'echo' }, 'e')
    const ask = async (code: number, message: string) => {
      server.onRequest = ({ id }, response) =>
        json(response, { jsonrpc: '2.0', id, error: { code, message } }, 404)
      const own = await gateway.post(rpc('prompts/get', { name: 'a' }, 'e'), session)
      const bridged = await gateway.post(body, { ...session, ...headers })
      return [own.status, own.json.error.code, bridged.status, bridged.json.error.code]
    }
    await gateway.post(body, { ...session, ...headers })
    const before = opened()
    for (const code of [-32602, -32603, 7]) {
      t.strictSame(await ask(code, 'Unknown tool'), [200, code, 200, code])
    }
    t.strictSame(await ask(-32002, 'No such resource'), [200, -32002, 200, -32602])
    t.strictSame(await ask(-32601, 'No method session/x'), [200, -32601, 404, -32601])
    t.equal(opened(), before, 'no session was opened anew')
    const lost = [
      [-32001, 'Session not found'],
      [-32600, 'Session not found or has expired.'],
      [-32000, 'gone'],
      [-32603, 'Session not found: 1']
    ] as const
    for (const [code, message] of lost) t.equal((await ask(code, message))[0], 404, message)
    t.equal(opened(), before + 2 * lost.length, 'the two sessions, for each')
  })
})

t.test(
  'R15 a notification that the site refuses is 202: 4xx would end the connection of SDKs',
  async t => {
    const server = await startLegacyServer(t)
    const { answer } = server
    let refuse = (_response: ServerResponse) => {}
    server.answer = (seen, response, turn) => {
      if (/"method":"notifications|"result"/.test(seen.body)) refuse(response)
      else answer(seen, response, turn)
    }
    const gateway = await startBefore(t, server.endpoint)
    const authorization = gateway.authorization()
    const error = (code: number, status: number) => (response: ServerResponse) =>
      json(response, { jsonrpc: '2.0', id: null, error: { code, message: 'Secret' } }, status)
    for (const refused of [
      error(-32601, 400),
      error(-32602, 404),
      (response: ServerResponse) => html(response, 403)
    ]) {
      refuse = refused
      const client = new Client({ name: 'sdk', version: '1' })
      await client.connect(
        new StreamableHTTPClientTransport(new URL(gateway.url), {
          requestInit: { headers: { authorization } }
        })
      )
      t.equal((await client.listTools()).tools.length, 1)
      await client.close()
      const session = await gateway.initialize(authorization.slice(7))
      for (const body of [
        { jsonrpc: '2.0', method: 'notifications/x' },
        { jsonrpc: '2.0', id: 1, result: {} }
      ]) {
        const { status, text } = await gateway.post(body, session)
        t.strictSame([status, text], [202, ''])
      }
    }
    const { decision, code } = JSON.parse(gateway.audited.at(-1) as string) as Record<
      string,
      string
    >
    t.strictSame([decision, code], ['refused', 'GW_UPSTREAM_FORBIDDEN'], 'and is on record')
    refuse = error(-32600, 400)
    const session = await gateway.initialize(authorization.slice(7))
    const bad = await gateway.post({ jsonrpc: '2.0', method: 'notifications/x' }, session)
    t.equal(bad.status, 400, 'what was no message to the site stays a refusal')
  }
)

t.test('mcp_server: a lock is waited for as long as a call may last, and no longer', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint, {
    DRUPAL_CONNECT_TIMEOUT: '2.5',
    DRUPAL_HEADERS_TIMEOUT: '2.5',
    DRUPAL_CALL_TIMEOUT: '2.5'
  })
  const session = await gateway.initialize(gateway.token())
  let hits = 0
  server.onRequest = (_message, response) => {
    hits++
    response.writeHead(503, { 'retry-after': '1' }).end('MCP session lock timeout')
  }
  const { status, headers, json: body } = await gateway.post(rpc('prompts/list'), session)
  t.strictSame([status, body.id, hits], [503, 1, 3])
  t.equal(headers.get('retry-after'), '1')
})

t.test('a 503 that is no lock, or one that lasts longer than a call, is not repeated', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token())
  const lock = 'MCP session lock timeout'
  for (const [type, text, wait] of [
    ['text/html; charset=UTF-8', 'The site is under maintenance', '7'],
    ['text/html; charset=UTF-8', lock, '1'],
    ['text/plain', 'The site is locked', '1'],
    ['text/plain', lock, '300']
  ] as const) {
    let hits = 0
    server.onRequest = (_message, response) => {
      hits++
      response.writeHead(503, { 'content-type': type, 'retry-after': wait }).end(text)
    }
    const { status, headers, json: body } = await gateway.post(rpc('prompts/list'), session)
    t.strictSame([status, headers.get('retry-after'), body.id], [503, wait, 1], text)
    t.equal(hits, 1, text)
  }
})

t.test('refusals of Drupal become clean answers', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const authorization = gateway.authorization({ scopes: ['read:tutorials'] })
  const session = await gateway.initialize(authorization.slice(7))
  const ask = async (answer: (response: ServerResponse) => void) => {
    server.onRequest = (_message, response) => answer(response)
    const got = await gateway.post(rpc('prompts/list'), session)
    t.notMatch(got.text, /Secret|DOCTYPE|127\.0\.0\.1:/, 'nothing leaks')
    return got
  }
  const page = await ask(response => html(response, 500))
  t.equal(page.status, 502)
  t.equal(page.json.id, 1)
  t.equal((await ask(response => html(response, 200))).status, 502, 'a page where JSON was due')
  t.equal((await ask(response => json(response, ''))).status, 502, 'nothing where JSON was due')
  t.equal(
    (await ask(response => html(response, 302, { location: 'https://evil.example' }))).status,
    502
  )
  t.equal((await ask(response => response.destroy())).status, 502)
  t.equal((await ask(response => html(response, 502))).status, 502)
  t.equal((await ask(response => response.writeHead(200).end('{}'))).status, 502, 'of no type')
  const limited = await ask(response => html(response, 429, { 'retry-after': '9' }))
  t.equal(limited.status, 429)
  t.equal(limited.headers.get('retry-after'), '9')
  const scoped = await ask(response =>
    html(response, 403, {
      'www-authenticate': 'Bearer error="insufficient_scope", scope="write:x"'
    })
  )
  t.equal(scoped.status, 403)
  t.match(scoped.headers.get('www-authenticate'), /scope="read:tutorials write:x"/, 'R88')
  const bad = await ask(response =>
    json(response, { jsonrpc: '2.0', id: 1, error: { code: -32600, message: 'bad' } }, 400)
  )
  t.equal(bad.status, 400)
  t.equal(bad.json.error.message, 'bad', 'what MCP itself says passes')
  const denied = await ask(response =>
    json(
      response,
      { jsonrpc: '2.0', id: null, error: { code: -32001, message: 'Access Denied' } },
      401
    )
  )
  t.equal(denied.status, 200)
  t.equal(denied.json.error.code, 403, 'drupal/mcp says 401 for a missing permission')
  const refused = await ask(response =>
    html(response, 401, { 'www-authenticate': 'Bearer realm="OAuth"' })
  )
  t.equal(refused.status, 401)
  t.match(refused.headers.get('www-authenticate'), /resource_metadata=/)
  const asked = server.seen.length
  t.equal((await gateway.post(rpc('ping'), session)).status, 401, 'the verdict was dropped')
  t.equal(server.seen.length, asked)
})

t.test('bounds: body, time, refusals of initialize', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint, {
    DRUPAL_MAX_RESPONSE_BYTES: '2048',
    DRUPAL_CONNECT_TIMEOUT: '0.2',
    DRUPAL_CALL_TIMEOUT: '0.2',
    DRUPAL_HEADERS_TIMEOUT: '0.2'
  })
  const session = await gateway.initialize(gateway.token())
  const padding = 'x'.repeat(4096)
  server.onRequest = (_message, response) => json(response, { padding })
  t.equal((await gateway.post(rpc('prompts/list'), session)).status, 502)
  server.onRequest = () => {}
  t.equal((await gateway.post(rpc('prompts/list'), session)).status, 504, 'R52')
  const [authorization] = [session['authorization'] as string]
  const initialize = async (answer: (response: ServerResponse, id: unknown) => void) => {
    server.answer = (seen, response) => answer(response, JSON.parse(seen.body).id)
    return gateway.post(rpc('initialize', { protocolVersion: '2025-11-25' }), { authorization })
  }
  const stream = await initialize((response, id) => {
    const send = events(response)
    send({ jsonrpc: '2.0', method: 'notifications/message', params: { padding } })
    send({ jsonrpc: '2.0', id, result: {} })
  })
  t.equal(stream.status, 502, 'too large')
  const silent = await initialize(response => void events(response))
  t.equal(silent.status, 504, 'silent')
  const short = await initialize(response => {
    events(response)
    response.end()
  })
  t.equal(short.status, 502, 'no answer')
  const error = { code: -32602, message: 'no' }
  const refused = await initialize((response, id) => json(response, { jsonrpc: '2.0', id, error }))
  t.equal(refused.json.error.message, 'no')
  const wrong = await initialize((response, id) =>
    json(response, { jsonrpc: '2.0', id, error }, 400)
  )
  t.equal(wrong.status, 400)
  t.equal(wrong.json.error.message, 'no')
  const odd = await initialize((response, id) =>
    json(response, { jsonrpc: '2.0', id, result: {} }, 200)
  )
  t.equal(odd.status, 502, 'no version')
  const nonsense = await initialize(response => json(response, { id: 1 }))
  t.equal(nonsense.status, 502)
})

t.test('policy: the annotations of the upstream’s own list', async t => {
  const server = await startLegacyServer(t)
  const auth = { level: 'required', scopes: ['write:tutorials'] }
  server.tools.push({ name: 'write', inputSchema: {}, annotations: { auth } })
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token({ scopes: ['read:tutorials'] }))
  const write = rpc('tools/call', { name: 'write', arguments: {} })
  const refused = await gateway.post(write, session)
  t.equal(refused.status, 403, 'asked for when nobody had listed them')
  t.match(refused.headers.get('www-authenticate'), /scope="read:tutorials write:tutorials"/, 'R88')
  t.equal((await gateway.post(rpc('tools/call', { name: 'unlisted' }), session)).status, 200)
  const lists = () => server.messages.filter(({ method }) => method === 'tools/list').length
  const asked = lists()
  const other = await gateway.initialize(gateway.token({ uid: 3 }))
  await gateway.post(rpc('tools/list'), other)
  t.equal((await gateway.post(call(), other)).status, 200)
  t.equal(lists(), asked + 1, 'a list that passed by is not asked for again')
  t.test('whatever the tools are called', async t => {
    for (const name of ['node:write', 'list', 'nœud', '.', 'x'.repeat(129)]) {
      server.tools = [{ name, inputSchema: {}, annotations: { auth } }]
      const own = await gateway.initialize(gateway.token({ uid: 5, scopes: ['read:tutorials'] }))
      await gateway.post(rpc('tools/list'), own)
      t.equal((await gateway.post(rpc('tools/call', { name }), own)).status, 403, name)
    }
  })
  t.test('an upstream without a list does not block', async t => {
    server.tools = undefined as never
    const own = await gateway.initialize(gateway.token({ uid: 4 }))
    t.equal((await gateway.post(write, own)).status, 200)
  })
})

async function withEverything(t: Parameters<typeof startBefore>[0], env = {}) {
  const server = await startEverythingServer()
  t.teardown(() => server.close())
  return startBefore(t, server.url, env)
}

t.test('R92 R93 R95 a session is its owner’s, for POST, GET, resumption and DELETE', async t => {
  const gateway = await withEverything(t)
  const session = await gateway.initialize(gateway.token())
  const other = { ...session, authorization: gateway.authorization({ uid: 3 }) }
  t.equal((await gateway.post(rpc('ping'), other)).status, 404)
  t.equal((await read(await gateway.listen(other))).status, 404)
  t.equal((await read(await gateway.listen({ ...other, 'last-event-id': 'x' }))).status, 404)
  t.equal((await fetch(gateway.url, { method: 'DELETE', headers: other })).status, 404)
  t.equal((await gateway.post(rpc('ping'), session)).status, 200, 'the owner’s is untouched')
  const refreshed = { ...session, authorization: gateway.authorization() }
  t.equal((await gateway.post(rpc('ping'), refreshed)).status, 200, 'a new token keeps it')
  const none = await gateway.listen({ authorization: session['authorization'] as string })
  t.equal((await read(none)).status, 400, 'R25')
})

async function connectClient(gateway: Before, capabilities = {}) {
  const client = new Client({ name: 'sdk', version: '1' }, { capabilities })
  const transport = new StreamableHTTPClientTransport(new URL(gateway.url), {
    requestInit: { headers: { authorization: gateway.authorization() } }
  })
  await client.connect(transport as Parameters<typeof client.connect>[0])
  return { client, transport }
}

t.test('R17 R49 R50 an SDK client', async t => {
  const gateway = await withEverything(t, {
    DRUPAL_MAX_CONCURRENCY: '2',
    DRUPAL_QUEUE_TIMEOUT: '2'
  })
  const { client } = await connectClient(gateway, { sampling: {}, elicitation: { form: {} } })
  t.teardown(() => client.close())
  const reply = { model: 'm', role: 'assistant', content: { type: 'text', text: 'mine' } } as const
  client.setRequestHandler(CreateMessageRequestSchema, () => reply)
  client.setRequestHandler(ElicitRequestSchema, () => ({
    action: 'accept',
    content: { username: 'Ada', email: 'ada@example.org' }
  }))
  await t.test('questions of the server reach it, and its answers the server', async t => {
    const sampled = await client.callTool({ name: 'test_sampling', arguments: { prompt: 'x' } })
    t.match(JSON.stringify(sampled), /mine/)
    const asked = await client.callTool({ name: 'test_elicitation', arguments: { message: 'x' } })
    t.match(JSON.stringify(asked), /ada@example\.org/)
  })
  await t.test('progress', async t => {
    const progress: number[] = []
    await client.callTool({ name: 'test_tool_with_progress', arguments: {} }, undefined, {
      onprogress: ({ progress: done }) => progress.push(done)
    })
    t.ok(progress.length >= 3)
  })
  await t.test('news of tools, as the server tells them', async t => {
    const told = new Promise<void>(resolve => {
      client.setNotificationHandler(ToolListChangedNotificationSchema, () => resolve())
    })
    await client.callTool({ name: 'test_trigger_tool_change', arguments: {} })
    await told
    t.pass()
  })
  await t.test('calls that it cancels hold no place', async t => {
    for (let i = 0; i < 4; i++) {
      const stop = new AbortController()
      client.setRequestHandler(CreateMessageRequestSchema, () => {
        stop.abort()
        return new Promise<never>(() => {})
      })
      const sampling = { name: 'test_sampling', arguments: { prompt: 'x' } }
      await t.rejects(client.callTool(sampling, undefined, { signal: stop.signal }))
    }
    const called = await client.callTool({ name: 'test_simple_text', arguments: {} })
    t.match(JSON.stringify(called), /simple text response/)
  })
})

t.test('R19 1,000 interleaved calls of 50 sessions each get their own answer', async t => {
  const server = await startLegacyServer(t)
  server.onRequest = ({ id, params }, response, { headers }) => {
    const text = `${params.arguments.n} ${String(headers['mcp-session-id'])}`
    const answer = { jsonrpc: '2.0', id, result: { text } }
    setTimeout(() => {
      if (params.arguments.n % 3 === 0) {
        events(response)(answer)
        response.end()
      } else json(response, answer)
    }, params.arguments.n % 7)
  }
  const gateway = await startBefore(t, server.endpoint, { DRUPAL_MAX_QUEUE: '2000' })
  const token = gateway.token()
  const seen = new Map<string, Set<string>>()
  let wrong = 0
  await Promise.all(
    Array.from({ length: 50 }, async (_, which) => {
      const session = await gateway.initialize(token)
      const own = new Set<string>()
      seen.set(String(which), own)
      await Promise.all(
        Array.from({ length: 20 }, async (_, id) => {
          // Every session uses the same ids.
          const n = which * 20 + id
          const response = await gateway.open(call(id, { n }), session)
          const text = await response.text()
          const answer = JSON.parse(text.replace(/^(:.*\n|\n|data: )*/, '')) as {
            id: number
            result: { text: string }
          }
          const [got, upstream] = answer.result.text.split(' ')
          if (answer.id !== id || got !== String(n)) wrong++
          own.add(upstream as string)
        })
      )
    })
  )
  t.equal(wrong, 0)
  t.ok(
    [...seen.values()].every(({ size }) => size === 1),
    'each in its own upstream session'
  )
  t.equal(new Set([...seen.values()].flatMap(own => [...own])).size, 50)
})

t.test('R40 R42 R43 GET: news and resumption', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint, { STREAM_HEARTBEAT: '0.05' })
  const session = await gateway.initialize(gateway.token())
  const post = server.answer
  const streams: ServerResponse[] = []
  server.answer = (seen, response, request) => {
    if (seen.method !== 'GET') post(seen, response, request)
    else {
      streams.push(response)
      // PHP keeps a server from compressing its streams so.
      const none = { 'content-encoding': 'none' }
      response.writeHead(200, { 'content-type': 'text/event-stream', ...none }).flushHeaders()
    }
  }
  const response = await gateway.listen({ ...session, 'last-event-id': 'e-7' })
  t.equal(response.status, 200)
  t.equal(response.headers.get('content-type'), 'text/event-stream')
  t.equal(response.headers.get('cache-control'), 'no-cache, no-transform', 'R44')
  t.equal(response.headers.get('x-accel-buffering'), 'no', 'R44')
  const [stream] = streams as [ServerResponse]
  const seen = server.seen.at(-1)
  t.equal(seen?.headers['last-event-id'], 'e-7')
  t.equal(seen?.headers['accept'], 'text/event-stream')
  t.equal(seen?.url, '/mcp', 'no query')
  t.ok(server.sessions.has(String(seen?.headers['mcp-session-id'])))
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader()
  let text = ''
  const until = async (wanted: RegExp) => {
    while (!wanted.test(text)) {
      const { value, done } = (await reader?.read()) ?? { done: true }
      if (done) throw new Error(`ended: ${text}`)
      text += value
    }
  }
  await until(/^(: keepalive\n\n){3}/)
  t.pass('R44 a silent stream is kept alive')
  const bytes = 'id: e-8\nretry: 10\ndata:\n\nid: e-9\ndata: {"jsonrpc":"2.0","method":"x"}\n\n'
  stream.write(bytes)
  await until(/"x"/)
  t.ok(text.includes(bytes), 'byte by byte')
  const gone = closed(stream)
  await reader?.cancel()
  await gone
  t.pass('a client that goes takes the stream with it')
  t.test('a forgotten session is opened anew for a stream too', async t => {
    server.sessions.clear()
    const known = server.answer
    server.answer = (asked, answer, request) =>
      asked.method === 'GET' && !server.sessions.has(String(asked.headers['mcp-session-id']))
        ? json(answer, { jsonrpc: '2.0', error: { code: -32001, message: 'x' } }, 404)
        : known(asked, answer, request)
    const again = await gateway.listen(session)
    t.equal(again.status, 200)
    await again.body?.cancel()
  })
  t.test('what is no stream', async t => {
    const get = async (answer: (response: ServerResponse) => void) => {
      server.answer = (_seen, response) => answer(response)
      return read(await gateway.listen(session))
    }
    t.equal((await get(response => html(response, 500))).status, 502)
    t.equal((await get(response => html(response, 200))).status, 502)
    const coded = { 'content-type': 'text/event-stream', 'content-encoding': 'gzip' }
    const zipped = gzipSync('data: x\n\n')
    t.equal((await get(response => response.writeHead(200, coded).end(zipped))).status, 502)
    t.equal((await get(response => json(response, 'x'.repeat(100_000), 400))).status, 502)
    t.equal((await get(response => response.destroy())).status, 502)
    t.equal((await get(response => html(response, 502))).status, 502)
    t.equal((await get(response => html(response, 504))).status, 504)
    const unknown = await get(response =>
      json(response, { jsonrpc: '2.0', error: { code: -32000, message: 'bad event id' } }, 400)
    )
    t.equal(unknown.status, 400)
    t.match(unknown.text, /bad event id/)
    const data = 'Adaptor Drupal\\jsonrpc\\Shaper received invalid input data: []'
    const inside = await get(response =>
      json(response, { jsonrpc: '2.0', error: { code: -32603, message: 'x', data } }, 400)
    )
    t.equal(inside.status, 400)
    t.notMatch(inside.text, /Shaper/, 'nothing of the inside of the site')
    const denied = { code: -32600, message: 'x', data: "Access Denied: The 'y' is required." }
    const refusals: ((response: ServerResponse) => void)[] = [
      response => html(response, 403),
      response => json(response, { jsonrpc: '2.0', error: { code: -32001, message: 'x' } }, 401)
    ]
    for (const refused of refusals) {
      const { status, headers } = await get(refused)
      t.equal(status, 405, 'R40 a stream or 405: after a 200 the SDKs would come every second')
      t.equal(headers.get('allow'), 'POST, DELETE')
    }
    const asResult = await get(response => json(response, { jsonrpc: '2.0', error: denied }))
    t.equal(asResult.status, 502, 'R40 nor the 200 of an answer')
    t.notMatch(asResult.text, /Access Denied/)
    t.equal((await get(response => html(response, 401))).status, 401)
    const asked = server.seen.length
    t.equal((await gateway.post(rpc('ping'), session)).status, 401, 'the verdict was dropped')
    t.equal(server.seen.length, asked)
    t.notOk(
      gateway.logged.some(line => line.includes(`127.0.0.1:${server.port}`)),
      'no address'
    )
  })
})

t.test('R40 how long the head of a refused GET is says nothing about the site', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint, { DRUPAL_BREAKER_FAILURES: '1' })
  const session = await gateway.initialize(gateway.token())
  const { answer } = server
  const heads: [string, number, (response: ServerResponse) => void][] = [
    ['long', 405, r => html(r, 405, { 'x-drupal-cache-tags': 'node:1 '.repeat(2600) })],
    ['too long', 502, r => html(r, 405, { 'x-drupal-cache-tags': 'node:1 '.repeat(10_000) })],
    ['none', 502, r => void r.req.socket.end('SSH-2.0-OpenSSH_9.2\r\n')]
  ]
  for (const [name, status, respond] of heads) {
    server.answer = (_seen, response) => respond(response)
    t.equal((await read(await gateway.listen(session))).status, status, name)
    server.answer = answer
    t.equal((await gateway.post(rpc('tools/list'), session)).status, 200, `${name}: calls go on`)
  }
  const said = gateway.logged.filter(line => line.includes('not an HTTP answer: '))
  t.equal(said.length, 2)
})

t.test('R31 R40 a GET that has no route leaves the session as it is', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token())
  const [known] = server.sessions
  const { answer } = server
  let onGet = (response: ServerResponse) => html(response, 404)
  server.answer = (seen, response, turn) =>
    seen.method === 'GET' ? onGet(response) : answer(seen, response, turn)
  const { status, headers } = await gateway.listen(session)
  t.equal(status, 405)
  t.equal(headers.get('allow'), 'POST, DELETE')
  t.equal((await gateway.post(rpc('ping'), session)).status, 200)
  t.equal(server.seen.at(-1)?.headers['mcp-session-id'], known)
  t.equal(server.messages.filter(({ method }) => method === 'initialize').length, 1)

  t.test('where there are streams, a lost session may be told in any form', async t => {
    onGet = response => events(response)({ jsonrpc: '2.0', method: 'x' })
    await (await gateway.listen(session)).body?.cancel()
    server.sessions.clear()
    onGet = response => {
      if (server.sessions.size === 0) response.writeHead(404).end('session not found')
      else events(response)({ jsonrpc: '2.0', method: 'x' })
    }
    const again = await gateway.listen(session)
    t.equal(again.status, 200)
    await again.body?.cancel()
  })
})

t.test('R52 a GET that is refused without an end', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint, { DRUPAL_HEADERS_TIMEOUT: '0.2' })
  const session = await gateway.initialize(gateway.token())
  let ended: Promise<unknown> | undefined
  server.answer = (_seen, response) => {
    ended = closed(response)
    response.writeHead(200, { 'content-type': 'text/html' }).write('<p>')
  }
  const { status, json: body } = await read(
    await gateway.listen(session, AbortSignal.timeout(5000))
  )
  t.match({ status, body }, { status: 504, body: { error: { code: -32603 } } })
  await ended
})

t.test('R52 a client that goes before its stream is there', { timeout: 10_000 }, async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint, { DRUPAL_MAX_CONCURRENCY: '1' })
  const session = await gateway.initialize(gateway.token())
  const { answer } = server
  const asked = new Promise<ServerResponse>(resolve => {
    // It works on it, and says nothing yet.
    server.answer = (seen, response, turn) =>
      seen.method === 'GET' ? resolve(response) : answer(seen, response, turn)
  })
  const stop = new AbortController()
  const opening = gateway.listen(session, stop.signal)
  const gone = closed(await asked)
  stop.abort()
  await t.rejects(opening)
  await gone
  t.pass('the site does not go on at it beyond the one place that it has')
  t.equal((await gateway.post(rpc('tools/list'), session)).status, 200)
  t.notOk(gateway.logged.some(line => line.includes('"level":"warn"') && line.includes('errored')))
})

t.test('R71 R95 streams are bounded: in number, and by the token', async t => {
  const gateway = await withEverything(t, { STREAMS_PER_PRINCIPAL: '2' })
  const sessions = await Promise.all(
    ['one', 'one', 'two'].map(aud => gateway.initialize(gateway.token({ claims: { aud } })))
  )
  const [a, b, c] = sessions as [
    Record<string, string>,
    Record<string, string>,
    (typeof sessions)[0]
  ]
  const stop = new AbortController()
  const first = await gateway.listen(a as Record<string, string>, stop.signal)
  const second = await gateway.listen(b as Record<string, string>)
  t.equal(second.status, 200)
  const third = await read(await gateway.listen(c as Record<string, string>))
  t.equal(third.status, 429, 'another client of the same user has none of its own')
  t.ok(Number(third.headers.get('retry-after')) > 0)
  const other = await gateway.initialize(gateway.token({ uid: 3 }))
  t.equal((await gateway.listen(other)).status, 200, 'another principal has places of its own')
  stop.abort()
  await t.rejects(first.text())
  let again = await gateway.listen(c)
  for (; again.status === 429; again = await gateway.listen(c)) await again.text()
  t.equal(again.status, 200, 'a place is given back')
  t.equal((await gateway.listen(a as Record<string, string>)).status, 429, 'once')
  // What nobody holds any more fetch would close by itself.
  for (const { body } of [second, again]) await body?.cancel()
  const short = await gateway.initialize(gateway.token({ uid: 4, expiresIn: 3 }))
  const dying = await gateway.listen(short)
  t.match(await dying.text(), /^(: keepalive\n\n)+$/, 'a stream ends with its token')
})

t.test('R45 R69 who goes, and what becomes of the call', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token())
  await gateway.post(rpc('tools/list'), session)
  const lost = () => gateway.audited.filter(line => line.includes('"status":499')).length
  /** The gateway knows that the client has gone, and what it has made of that is with the upstream. */
  async function noticed(before: number): Promise<void> {
    while (lost() === before) await nextTurn()
    await gateway.post(rpc('tools/list'), session)
  }
  t.test('R45 a legacy client that goes does not cancel: stream', async t => {
    const begun = new Promise<[Message, ServerResponse]>(resolve => {
      server.onRequest = (message, response) => resolve([message, response])
    })
    const stop = new AbortController()
    const opening = gateway.open(call(), session, stop.signal)
    const [message, response] = await begun
    const send = events(response)
    send({ jsonrpc: '2.0', method: 'notifications/progress', params: {} })
    const client = await opening
    const before = lost()
    stop.abort()
    await t.rejects(client.text())
    await noticed(before)
    t.notOk(response.destroyed, 'the upstream still has its connection')
    for (let i = 0; i < 200; i++) send({ jsonrpc: '2.0', method: 'x', params: 'y'.repeat(1000) })
    send({ jsonrpc: '2.0', id: message.id, result: {} })
    const finished = once(response, 'finish')
    response.end()
    await finished
    t.pass('and could finish')
  })
  t.test('R45 a legacy client that goes does not cancel: JSON', async t => {
    const begun = new Promise<ServerResponse>(resolve => {
      server.onRequest = (_message, response) => resolve(response)
    })
    const stop = new AbortController()
    const opening = gateway.open(call(), session, stop.signal)
    const response = await begun
    const before = lost()
    stop.abort()
    await t.rejects(opening)
    await noticed(before)
    t.notOk(response.destroyed)
    json(response, { jsonrpc: '2.0', id: 1, result: {} })
  })
  t.test('R49 a cancellation passes, in its own session', async t => {
    const cancel = { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 1 } }
    t.equal((await gateway.post(cancel, session)).status, 202)
    t.equal(server.messages.at(-1)?.method, 'notifications/cancelled')
  })
  t.test('an upstream that is lost in the middle: the client is told, with its id', async t => {
    server.onRequest = (_message, response) => {
      events(response)({ jsonrpc: '2.0', method: 'notifications/progress', params: {} })
      setTimeout(() => response.destroy(), 20)
    }
    const messages = []
    for await (const message of messagesOf(await gateway.open(call('me'), session))) {
      messages.push(message)
    }
    t.match(messages, [{ method: 'notifications/progress' }, { id: 'me', error: { code: -32603 } }])
  })
})

t.test('shutdown: news end at once, calls finish', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token())
  await gateway.post(rpc('tools/list'), session)
  const post = server.answer
  server.answer = (seen, response, request) => {
    if (seen.method === 'GET') events(response)
    else post(seen, response, request)
  }
  const news = await gateway.listen(session)
  const begun = new Promise<[Message, ServerResponse]>(resolve => {
    server.onRequest = (message, response) => resolve([message, response])
  })
  const opening = gateway.open(call(), session)
  const [message, response] = await begun
  const send = events(response)
  const streaming = await opening
  const stopped = gateway.gateway.stop()
  t.match(await news.text(), /^(: keepalive\n\n)*$/, 'a clean end')
  send({ jsonrpc: '2.0', id: message.id, result: { late: true } })
  response.end()
  t.match(await streaming.text(), /"late":true/)
  await stopped
})

t.test('shutdown: a connection that was opened in advance does not delay it', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const { hostname, port } = new URL(gateway.origin)
  const socket = connect(Number(port), hostname)
  await once(gateway.gateway.app.server, 'connection')
  const gone = once(socket.resume(), 'close')
  const began = Date.now()
  await gateway.gateway.stop()
  await gone
  t.ok(Date.now() - began < 10_000)
})

t.test('shutdown: who asks for news while the gateway stops has none to wait for', async t => {
  const server = await startLegacyServer(t)
  const { answer } = server
  server.answer = (seen, response, request) => {
    if (seen.method === 'GET') events(response)
    else answer(seen, response, request)
  }
  const gateway = await startBefore(t, server.endpoint, { SHUTDOWN_TIMEOUT: '2' })
  const session = await gateway.initialize(gateway.token())
  const socket = connect(Number(new URL(gateway.origin).port), '127.0.0.1')
  const headers = { host: 'localhost', accept: 'text/event-stream', ...session }
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  socket.write(`GET /mcp HTTP/1.1\r\n${lines.join('')}`)
  const { server: listener } = gateway.gateway.app
  const [served] = (await once(listener, 'connection')) as [Socket]
  while (served.bytesRead === 0) await nextTurn()
  const stopped = gateway.gateway.stop()
  while (listener.listening) await nextTurn()
  socket.write('\r\n')
  const [said] = (await once(socket, 'data')) as [Buffer]
  t.match(said.toString(), /^HTTP\/1\.1 503 .*^retry-after: 1\r$/ims)
  await stopped
})

t.test('shutdown: a call that does not finish ends before the connections are cut', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint, { SHUTDOWN_TIMEOUT: '1' })
  const session = await gateway.initialize(gateway.token())
  await gateway.post(rpc('tools/list'), session)
  server.onRequest = (_message, response) => void events(response)
  const streaming = await gateway.open(call(), session)
  const [text] = await Promise.all([streaming.text(), gateway.gateway.stop()])
  t.match(
    text,
    /^(: keepalive\n\n)*\n*event: message\ndata: .*"id":1,"error".*\n\n$/,
    'a clean end'
  )
  t.match(text, /may have been carried out/, 'and nobody waits for an answer that will not come')
})

t.test('callers who are not signed in', async t => {
  const server = await startLegacyServer(t)
  const auth = { level: 'none', scopes: [] }
  server.tools = [
    { name: 'open', inputSchema: {}, annotations: { auth } },
    { name: 'open', inputSchema: {} },
    { name: 'no name!', inputSchema: {} }
  ]
  const gateway = await startBefore(t, server.endpoint, { AUTH_ANONYMOUS: 'public-tools' })
  const opened = await gateway.post(
    rpc('initialize', { protocolVersion: '2025-06-18', capabilities: {} })
  )
  const session = { 'mcp-session-id': opened.headers.get('mcp-session-id') as string }
  const open = await gateway.post(rpc('tools/call', { name: 'open' }), session)
  t.equal(open.json.result.method, 'tools/call')
  t.notOk('authorization' in (server.seen.at(-1)?.headers ?? {}))
  t.equal((await gateway.post(rpc('tools/call', { name: 'other' }), session)).status, 401)
  server.onRequest = (_message, response) =>
    html(response, 403, {
      'www-authenticate': 'Bearer error="insufficient_scope", scope="write:tutorials"'
    })
  const refused = await gateway.post(rpc('tools/call', { name: 'open' }), session)
  t.equal(refused.status, 401, 'R81 whatever the upstream asks of them')
  t.match(
    refused.headers.get('www-authenticate'),
    /scope="read:tutorials write:tutorials"$/,
    'R83 beside the base scopes'
  )
})

t.test(
  'R27 R31 who signs in on the way keeps the session, and has one of the upstream for himself',
  async t => {
    for (const isSessionful of [true, false]) {
      const server = await startLegacyServer(t)
      server.isSessionful = isSessionful
      server.tools = [
        { name: 'open', inputSchema: {}, annotations: { auth: { level: 'none' } } },
        { name: 'closed', inputSchema: {} }
      ]
      const gateway = await startBefore(t, server.endpoint, { AUTH_ANONYMOUS: 'public-tools' })
      const begun = await gateway.post(
        rpc('initialize', { protocolVersion: '2025-06-18', capabilities: { sampling: {} } })
      )
      const session = { 'mcp-session-id': begun.headers.get('mcp-session-id') as string }
      t.equal((await gateway.post(rpc('tools/call', { name: 'open' }), session)).status, 200)
      const ofNobody = server.seen.at(-1)?.headers['mcp-session-id']
      const closed = rpc('tools/call', { name: 'closed' })
      t.equal((await gateway.post(closed, session)).status, 401)

      const hello = () => server.seen.filter(({ body }) => body.includes('"sampling"'))
      const alice = { ...session, authorization: gateway.authorization() }
      const both = await Promise.all([gateway.post(closed, alice), gateway.post(closed, alice)])
      t.strictSame(
        both.map(({ status }) => status),
        [200, 200],
        'the call that was refused goes on'
      )
      t.equal(hello().length, isSessionful ? 2 : 1, 'one of her own is opened, once')
      const { headers } = server.seen.at(-1)!
      t.equal(headers['authorization'], alice.authorization)
      t.equal(headers['mcp-session-id'] !== ofNobody, isSessionful)
      if (isSessionful) t.equal(hello().at(-1)?.headers['authorization'], alice.authorization)
      const bob = { ...session, authorization: gateway.authorization({ uid: 3 }) }
      for (const other of [session, bob]) t.equal((await gateway.post(closed, other)).status, 404)
      const ended = await fetch(gateway.url, { method: 'DELETE', headers: alice })
      t.equal(ended.status, 204)
      if (isSessionful) {
        t.equal(server.seen.at(-1)?.headers['mcp-session-id'], headers['mcp-session-id'])
      }
      t.equal((await gateway.post(closed, alice)).status, 404)
    }
  }
)

t.test('policy: a list that Drupal refuses, and one that fails', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token())
  const { answer } = server
  let onList = (response: ServerResponse) => html(response, 403)
  server.answer = (seen, response, request) => {
    if (seen.body.includes('"tools/list"')) onList(response)
    else answer(seen, response, request)
  }
  t.equal((await gateway.post(call(), session)).status, 200, 'Drupal decides each call')
  const other = await gateway.initialize(gateway.token({ uid: 3 }))
  onList = response => html(response, 500)
  t.equal((await gateway.post(call(), other)).status, 502)
  onList = response => html(response, 401, { 'www-authenticate': 'Bearer' })
  t.equal((await gateway.post(call(), other)).status, 401)
  const asked = server.seen.length
  t.equal((await gateway.post(rpc('ping'), other)).status, 401, 'the verdict was dropped')
  t.equal(server.seen.length, asked)
})

t.test('policy: a list whose cursors go round is read once round', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token())
  const { answer } = server
  const asked: unknown[] = []
  server.answer = (seen, response, request) => {
    if (!seen.body.includes('"tools/list"')) {
      answer(seen, response, request)
      return
    }
    const { id, params } = JSON.parse(seen.body) as Message
    asked.push(params?.cursor)
    const nextCursor = params?.cursor === 'a' ? 'b' : 'a'
    json(response, { jsonrpc: '2.0', id, result: { tools: server.tools, nextCursor } })
  }
  t.equal((await gateway.post(call(), session)).status, 200)
  t.strictSame(asked, [undefined, 'a', 'b'])
})

t.test('a locked session: streams and failures give it back', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token())
  await gateway.post(rpc('tools/list'), session)
  let locked = true
  server.onRequest = ({ id, params }, response) => {
    if (locked) {
      locked = false
      response.writeHead(503, { 'content-type': 'text/plain' }).end('session lock')
    } else if (params.arguments.fail) response.destroy()
    else {
      events(response)({ jsonrpc: '2.0', id, result: {} })
      response.end()
    }
  }
  t.equal((await gateway.post(call(1), session)).status, 200)
  const [first, second, third] = await Promise.all([
    gateway.post(call(2), session),
    gateway.post(call(3, { fail: true }), session),
    gateway.post(call(4), session)
  ])
  t.strictSame([first?.status, second?.status, third?.status], [200, 502, 200])
})

t.test('a stream that breaks in the piece that began it', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token())
  await gateway.post(rpc('tools/list'), session)
  const { answer: known } = server
  let rest = ''
  let isLocked = true
  server.answer = (seen, response, request) => {
    if (!seen.body.includes('tools/call')) known(seen, response, request)
    else if (isLocked) {
      isLocked = false
      response.writeHead(503, { 'content-type': 'text/plain' }).end('session lock')
    } else request.socket.write(`${streamHead}${rest}`)
  }
  for (const begun of ['', chunk(': x\n\n')]) {
    rest = `${begun}ZZ\r\n`
    const broken = await gateway.open(call(), session, AbortSignal.timeout(5000))
    t.match((await read(broken)).json, { id: 1, error: { code: -32603 } }, 'the client is told')
  }
  server.answer = known
  t.equal((await gateway.post(call(), session)).status, 200, 'the session is free again')
})

t.test(
  'R28 news that stop in the middle of an event end all the same',
  { timeout: 10_000 },
  async t => {
    const server = await startLegacyServer(t)
    const gateway = await startBefore(t, server.endpoint)
    const session = await gateway.initialize(gateway.token())
    const { answer: known } = server
    const whole = 'data: {"jsonrpc":"2.0","method":"x"}\n\n'
    const half = 'data: {"jsonrpc":"2.0","method":'
    const begun = new Promise<ServerResponse>(resolve => {
      server.answer = (seen, response, request) => {
        if (seen.method !== 'GET') return known(seen, response, request)
        resolve(response)
        response.writeHead(200, { 'content-type': 'text/event-stream' }).write(whole + half)
      }
    })
    const news = await gateway.listen(session)
    const gone = closed(await begun)
    const reader = news.body?.pipeThrough(new TextDecoderStream()).getReader()
    let text = ''
    while (!text.endsWith(whole)) text += (await reader?.read())?.value
    await fetch(gateway.url, { method: 'DELETE', headers: session })
    t.equal((await reader?.read())?.done, true)
    await gone
  }
)

t.test('R43 news that break off in the middle of an event can be resumed before it', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token())
  const { answer } = server
  const whole = 'id: e-1\ndata: {"jsonrpc":"2.0","method":"x"}\n\n'
  const half = 'id: e-2\ndata: {"jsonrpc":"2.0","meth'
  let cut = () => {}
  server.answer = (seen, response, request) => {
    if (seen.method !== 'GET') return answer(seen, response, request)
    cut = () => void response.destroy()
    response.writeHead(200, { 'content-type': 'text/event-stream' }).write(whole + half)
  }
  const news = await gateway.listen(session)
  let text = ''
  for await (const piece of (news.body as ReadableStream<Uint8Array>).pipeThrough(
    new TextDecoderStream()
  )) {
    text += piece
    if (text.endsWith(whole)) cut()
  }
  t.ok(text.endsWith(whole), 'of the half, and of its id, nothing has come')
})

t.test('R71 a stream is over in its time also where its client takes nothing', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint, {
    STREAM_MAX: '1',
    STREAM_HEARTBEAT: '0.5'
  })
  const session = await gateway.initialize(gateway.token())
  const called = new Promise<ServerResponse>(resolve => {
    server.onRequest = (_message, response) => resolve(response)
  })
  // Nobody reads its body.
  const stop = new AbortController()
  const silent = gateway.open(call(), session, stop.signal)
  const response = await called
  const send = events(response)
  const full = () => {
    while (!response.writableNeedDrain)
      send({ jsonrpc: '2.0', method: 'x', params: 'y'.repeat(1e5) })
  }
  response.on('drain', full)
  full()
  await Promise.all([silent, closed(response)])
  t.pass('and the upstream works no longer for it')
  stop.abort()
})

t.test('a byte order mark at the beginning of a stream', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token())
  await gateway.post(rpc('tools/list'), session)
  const event = '\ufeffdata: {"jsonrpc":"2.0","id":1,"result":{"content":["\ufeff"]}}\n\n'
  for (const pieces of [[event], [...Buffer.from(event)].map(byte => Buffer.of(byte))]) {
    server.onRequest = async (_message, response) => {
      events(response)
      for (const piece of pieces) await new Promise<unknown>(sent => response.write(piece, sent))
      response.end()
    }
    const { text } = await gateway.post(call(), session)
    t.match(text, /^(: keepalive\n\n)*data: .*"result":\{"content":\["\ufeff"\]\}\}\n\n$/)
  }
})

t.test('readiness: whether the site answers', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const ready = async (status: number) => {
    server.answer = (_seen, response) => html(response, status)
    return (await read(await fetch(`${gateway.origin}/readyz`))).text
  }
  t.match(await ready(503), /drupal/)
  t.match(await ready(500), /drupal/)
})

t.test('who is gone before the answer begins', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token())
  await gateway.post(rpc('tools/list'), session)
  const begun = new Promise<ServerResponse>(resolve => {
    server.onRequest = (_message, response) => resolve(response)
  })
  const stop = new AbortController()
  const opening = gateway.open(call(), session, stop.signal)
  const response = await begun
  stop.abort()
  await t.rejects(opening)
  await sleep(50)
  const { socket } = response
  const finished = once(response, 'finish')
  events(response)({ jsonrpc: '2.0', id: 1, result: {} })
  response.end()
  await finished
  await sleep(50)
  t.match(gateway.audited.at(-1), /"status":499/)
  t.notOk(socket?.destroyed, 'R45 the upstream could finish')
})

t.test('R45 who is gone before the turn of his answer has come', { timeout: 20_000 }, async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint, { DRUPAL_MAX_CONCURRENCY: '2' })
  const session = await gateway.initialize(gateway.token())
  await gateway.post(rpc('tools/list'), session)
  const held: [Message, ServerResponse][] = []
  server.onRequest = (message, response) => void held.push([message, response])
  const client = connect(Number(new URL(gateway.url).port), '127.0.0.1')
  for (const id of [1, 2]) client.write(requestText(call(id), session))
  while (held.length < 2) await nextTurn()
  const gone = () => gateway.audited.filter(line => line.includes('"status":499')).length
  client.destroy()
  while (gone() < 2) await nextTurn()
  const sockets = held.map(([, { socket }]) => socket)
  for (const [{ id }, response] of held) {
    const send = events(response)
    for (let n = 0; n < 200; n++) send({ jsonrpc: '2.0', method: 'x', params: 'y'.repeat(1e5) })
    send({ jsonrpc: '2.0', id, result: {} })
    response.end()
    await once(response, 'finish')
  }
  server.onRequest = ({ id }, response) => json(response, { jsonrpc: '2.0', id, result: {} })
  t.equal((await gateway.post(call(3), session)).status, 200, 'the places are free again')
  t.notOk(
    sockets.some(socket => socket?.destroyed),
    'R45 and the upstream could finish'
  )
})

t.test('GET and DELETE where the upstream is busy or lost', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint, {
    DRUPAL_MAX_CONCURRENCY: '1',
    DRUPAL_MAX_QUEUE: '0'
  })
  const session = await gateway.initialize(gateway.token())
  await gateway.post(rpc('tools/list'), session)
  const begun = new Promise<ServerResponse>(resolve => {
    server.onRequest = (_message, response) => resolve(response)
  })
  const pending = gateway.post(call(), session)
  const response = await begun
  t.equal((await read(await gateway.listen(session))).status, 503)
  json(response, { jsonrpc: '2.0', id: 1, result: {} })
  await pending
  server.answer = (_seen, lost) => lost.destroy()
  t.equal((await fetch(gateway.url, { method: 'DELETE', headers: session })).status, 204)
})

t.test('a client that goes while its GET waits for a worker of Drupal takes none', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint, {
    ADMIN_PORT: '0',
    DRUPAL_MAX_CONCURRENCY: '1',
    DRUPAL_QUEUE_TIMEOUT: '1'
  })
  const session = await gateway.initialize(gateway.token())
  const begun = new Promise<ServerResponse>(resolve => {
    server.onRequest = (_message, response) => resolve(response)
  })
  const pending = gateway.post(call(), session)
  const response = await begun
  const stop = new AbortController()
  const news = gateway.listen(session, stop.signal)
  const heard = gateway.audited.length
  const metrics = async () => (await gateway.gateway.admin?.inject('/metrics'))?.body ?? ''
  while (!(await metrics()).includes('queued_calls 1')) await nextTurn()
  stop.abort()
  await t.rejects(news)
  while (gateway.audited.length === heard) await nextTurn()
  t.match(gateway.audited.at(-1), /"status":499/)
  json(response, { jsonrpc: '2.0', id: 1, result: {} })
  await pending
  server.onRequest = (_message, next) => json(next, { jsonrpc: '2.0', id: 1, result: {} })
  t.equal((await gateway.post(call(), session)).status, 200)
})

t.test('R28 a session that ends while its GET is being opened has no stream', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token())
  const { answer } = server
  const asked = new Promise<ServerResponse>(resolve => {
    server.answer = (seen, response, request) => {
      if (seen.method === 'GET') resolve(response)
      else answer(seen, response, request)
    }
  })
  const news = gateway.listen(session)
  const response = await asked
  const gone = closed(response)
  t.equal((await fetch(gateway.url, { method: 'DELETE', headers: session })).status, 204)
  events(response)({ jsonrpc: '2.0', method: 'x' })
  t.equal((await news).status, 404)
  await gone
})

t.test('initialize on a stream with more than the answer', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  server.answer = (seen, response) => {
    const send = events(response)
    response.write('id: 1\ndata:\n\ndata: nonsense\n\ndata: 7\n\n')
    send({ jsonrpc: '2.0', id: JSON.parse(seen.body).id, result: server.initializeResult })
  }
  const session = await gateway.initialize(gateway.token())
  t.equal(
    session['mcp-protocol-version'],
    '2025-06-18',
    'a stream that stays open is not waited for'
  )
})

t.test('R19 a list on a stream: its own answer, once, and no other’s', async t => {
  const news = { jsonrpc: '2.0', method: 'notifications/message', params: { data: 'grüße' } }
  const list = (id: unknown, tools: unknown[]) => ({ jsonrpc: '2.0', id, result: { tools } })
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token())
  server.answer = (_seen, response) => {
    const anothers = list(2, ['another’s'])
    const odd = { ...anothers, method: 'x' }
    const said = [news, anothers, odd, rpc('x', {}, 7), list(1, []), list(1, ['again'])]
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    const events = said.map(
      (message, index) => `id: ${index}\ndata: ${JSON.stringify(message)}\n\n`
    )
    response.end(`id: first\ndata:\n\nretry: 5\n\nid: 9\ndata: nonsense\n\n${events.join('')}`)
  }
  const { text } = await gateway.post(rpc('tools/list'), session)
  const shown = [...text.matchAll(/^data: (.+)$/gm)].map(([, data]) => data)
  const passing = [news, rpc('x', {}, 7), list(1, [])]
  t.strictSame(
    shown,
    passing.map(message => JSON.stringify(message))
  )
  t.match(text, /^: keepalive\n\nid: first\ndata:\n\nretry: 5\n\n/, 'R43')

  server.answer = (_seen, response) => {
    events(response)({ jsonrpc: '2.0', id: null, error: { code: -32000, message: 'refused' } })
    response.end()
  }
  const refused = (await gateway.post(rpc('tools/list', {}, 'mine'), session)).json
  t.match(refused, { id: 'mine', error: { message: 'refused' } }, 'an error that lost its id')
})

t.test('R90 a certificate that nobody vouches for gets no token, by no verb', async t => {
  const tls = new URL('../clients/fixtures/tls/', import.meta.url)
  const asked: string[] = []
  const impostor = createTlsServer(
    {
      key: readFileSync(new URL('localhost-key.pem', tls)),
      cert: readFileSync(new URL('localhost.pem', tls))
    },
    (request, response) => {
      asked.push(request.method ?? '')
      response.end()
    }
  )
  await new Promise<void>(resolve => impostor.listen(0, '127.0.0.1', resolve))
  t.teardown(() => impostor.close())
  const server = await startLegacyServer(t)
  const before = await startBefore(t, server.endpoint)
  const session = await before.initialize(before.token())
  const { port } = impostor.address() as AddressInfo
  const { origin } = await startGateway(t, {
    drupal: before.drupal,
    env: {
      DRUPAL_URL: `https://localhost:${port}`,
      DRUPAL_INTERNAL_URL: `https://127.0.0.1:${port}`,
      DRUPAL_UPSTREAM: 'mcp',
      OAUTH_ISSUER: before.drupal.issuer,
      OAUTH_PUBLIC_KEY_FILE: before.config.oauth.publicKeyFile
    }
  })
  for (const method of ['GET', 'POST', 'DELETE']) {
    const response = await fetch(`${origin}/mcp`, {
      method,
      headers: { ...session, accept: 'text/event-stream', 'content-type': 'application/json' },
      ...(method === 'POST' && { body: JSON.stringify(rpc('tools/list')) })
    })
    // The client's session is over whatever the upstream says.
    t.equal(response.status, method === 'DELETE' ? 204 : 502, method)
    await response.body?.cancel()
  }
  t.strictSame(asked, [])
})

t.test(
  'R31 R93 a token that is refused while a session is opened anew refuses no other token',
  async t => {
    const server = await startLegacyServer(t)
    const gateway = await startBefore(t, server.endpoint)
    const refused = gateway.authorization()
    const session = await gateway.initialize(gateway.token())
    server.sessions.clear()
    const { answer } = server
    let go = () => {}
    const waited = new Promise<void>(resolve => (go = resolve))
    const held = new Promise<void>(resolve => {
      server.answer = (seen, response, turn) => {
        const isOpening = (JSON.parse(seen.body) as Message).method === 'initialize'
        if (!isOpening || seen.headers.authorization !== refused) {
          return answer(seen, response, turn)
        }
        resolve()
        void waited.then(() => html(response, 401, { 'www-authenticate': 'Bearer' }))
      }
    })
    const first = gateway.post(rpc('prompts/get'), { ...session, authorization: refused })
    await held
    const lost = server.messages.length
    const others = [2, 3].map(id => gateway.post(rpc('prompts/get', {}, id), session))
    while (server.messages.length < lost + others.length) await new Promise(setImmediate)
    for (let n = 0; n < 50; n++) await new Promise(setImmediate)
    go()
    t.equal((await first).status, 401)
    for (const { status, json: body } of await Promise.all(others)) {
      t.match({ status, body }, { status: 200, body: { result: { method: 'prompts/get' } } })
    }
    t.equal((await gateway.post(rpc('ping'), session)).status, 200, 'and stays good')
  }
)

t.test('R42 R43 R44 a list on a stream passes as it comes, and is learned', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token())
  const { answer } = server
  const asked: unknown[] = []
  const head = ': hello\nid: 1\nretry: 10\ndata:\n\n'
  const list = `event: message\nid: 2\ndata: ${JSON.stringify({
    jsonrpc: '2.0',
    id: 1,
    result: { tools: [{ name: 'echo', inputSchema: { type: 'object' } }] }
  })}\n\n`
  const begun = new Promise<ServerResponse>(resolve => {
    server.answer = (seen, response, request) => {
      const { method } = JSON.parse(seen.body) as Message
      if (method !== 'tools/list') return answer(seen, response, request)
      asked.push(method)
      response.writeHead(200, { 'content-type': 'text/event-stream' }).write(head)
      resolve(response)
    }
  })
  const response = await gateway.open(rpc('tools/list'), session)
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader()
  let text = ''
  while (!text.endsWith(head)) text += (await reader?.read())?.value
  t.pass('before the answer is there')
  ;(await begun).end(list)
  for (let read = await reader?.read(); read?.done === false; read = await reader?.read())
    text += read.value
  t.equal(text, `: keepalive\n\n${head}${list}`)
  t.equal((await gateway.post(call(), session)).status, 200)
  t.strictSame(asked, ['tools/list'], 'the policy knows it from there')

  // What is primed and closed is resumed by GET.
  server.answer = (_seen, response) =>
    void response.writeHead(200, { 'content-type': 'text/event-stream' }).end(head)
  const primed = await gateway.post(rpc('tools/list'), session)
  t.equal(primed.status, 200)
  t.equal(primed.text, `: keepalive\n\n${head}`)
})
