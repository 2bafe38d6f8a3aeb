// Clients of one era before an MCP upstream of the same or the other: modern through, and both bridges, over real sockets.
import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createMcpHandler, McpServer } from '@modelcontextprotocol/server'
import * as v2 from '@modelcontextprotocol/client'
import t, { type Test } from 'tap'
import { z } from 'zod'
import { startEverythingServer } from '../conformance/everything-server.ts'
import { sendResponse, toRequest } from '../conformance/everything/web.ts'
import { html, json, type Site, startSite } from '../drupal/site.ts'
import {
  type Before,
  closed,
  events,
  type LegacyServer,
  type Message,
  messagesOf,
  modern,
  rpc,
  startBefore,
  startLegacyServer
} from './fixtures/mcp.ts'
import { read, startGateway } from './fixtures/start.ts'

/** An SDK server that speaks the modern era only. */
async function startModernServer(t: Test) {
  const seen: { method: string | undefined; headers: Record<string, unknown> }[] = []
  const state = { refusal: 0 }
  const tools = new Set(['greet'])
  const handler = createMcpHandler(
    () => {
      const server = new McpServer(
        { name: 'modern', version: '1' },
        { capabilities: { tools: { listChanged: true } }, instructions: 'Be modern.' }
      )
      for (const name of tools) {
        server.registerTool(
          name,
          { description: name, inputSchema: z.object({ who: z.string().optional() }) },
          async ({ who }, context) => {
            const progressToken = context.mcpReq._meta?.progressToken
            if (progressToken !== undefined) {
              await context.mcpReq.notify({
                method: 'notifications/progress',
                params: { progressToken, progress: 1 }
              })
            }
            if (who === 'nobody')
              await new Promise(resolve => context.mcpReq.signal.addEventListener('abort', resolve))
            return { content: [{ type: 'text', text: `Hello ${who ?? 'you'}` }] }
          }
        )
      }
      return server
    },
    { legacy: 'reject' }
  )
  const server = createServer((incoming, outgoing) => {
    seen.push({ method: incoming.method, headers: incoming.headers })
    if (state.refusal > 0) {
      html(outgoing, state.refusal, { 'www-authenticate': 'Bearer' })
      return
    }
    const gone = new AbortController()
    outgoing.once('close', () => gone.abort())
    void handler
      .fetch(toRequest(incoming, gone.signal))
      .then(response => sendResponse(response, outgoing))
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.teardown(async () => {
    await handler.close()
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  return Object.assign(state, { endpoint: `http://127.0.0.1:${port}/mcp`, seen, tools, handler })
}

const ask = (
  gateway: Before,
  authorization: string,
  method: string,
  params = {},
  id: unknown = 1
) => {
  const { body, headers } = modern(method, params, id)
  return gateway.post(body, { authorization, ...headers })
}

t.test('modern on modern', async t => {
  const server = await startEverythingServer()
  t.teardown(() => server.close())
  const gateway = await startBefore(t, server.url, { STREAMS_PER_PRINCIPAL: '1' })
  const authorization = gateway.authorization()
  t.test('R62 R64 discover, lists and calls are the upstream’s own', async t => {
    const found = await ask(gateway, authorization, 'server/discover')
    t.match(found.json.result.supportedVersions, ['2026-07-28'])
    t.equal(found.json.result._meta['io.modelcontextprotocol/serverInfo'].name, 'everything-server')
    t.equal((await ask(gateway, authorization, 'tools/list')).status, 200)
    const called = await ask(gateway, authorization, 'tools/call', {
      name: 'test_simple_text',
      arguments: {}
    })
    t.equal(called.json.result.resultType, 'complete', 'R63')
    t.notOk(called.headers.has('mcp-session-id'), 'R54')
    const unknown = await ask(gateway, authorization, 'no/such')
    t.equal(unknown.status, 404, 'R61')
    t.equal(unknown.json.error.code, -32601)
  })
  t.test('R71 subscriptions/listen: relayed, and capped per principal', async t => {
    const { body, headers } = modern(
      'subscriptions/listen',
      { notifications: { toolsListChanged: true } },
      'l'
    )
    const stop = new AbortController()
    const stream = await gateway.open(body, { authorization, ...headers }, stop.signal)
    const messages = messagesOf(stream)
    t.match((await messages.next()).value, { method: 'notifications/subscriptions/acknowledged' })
    const second = await gateway.post(body, { authorization, ...headers })
    t.equal(second.status, 429)
    t.equal((await ask(gateway, authorization, 'tools/list')).status, 200, 'calls are no streams')
    stop.abort()
    await t.rejects(messages.next())
    let status = 429
    while (status === 429) {
      const again = new AbortController()
      const response = await gateway.open(body, { authorization, ...headers }, again.signal)
      status = response.status
      again.abort()
    }
    t.equal(status, 200, 'R69 the place comes back when the client goes')
  })
})

t.test('modern on modern: what a handwritten upstream shows', async t => {
  const site = await startSite(t)
  const seen: Message[] = []
  let onCall = (message: Message, response: ServerResponse) =>
    json(response, { jsonrpc: '2.0', id: message.id, result: { resultType: 'complete' } })
  let isModern = true
  let isListHeld = false
  site.answer = ({ body }, response) => {
    const message = JSON.parse(body) as Message
    seen.push(message)
    const result = (value: unknown) =>
      json(response, { jsonrpc: '2.0', id: message.id, result: value })
    if (!isModern) {
      const error = { code: -32600, message: 'Session required' }
      json(response, { jsonrpc: '2.0', id: message.id, error }, 400)
    } else if (message.method === 'server/discover') result({ supportedVersions: ['2026-07-28'] })
    else if (message.method === 'tools/list' && !isListHeld) {
      const properties = { region: { type: 'string', 'x-mcp-header': 'Region' } }
      const page = message.params.cursor === undefined
      result({
        tools: [{ name: page ? 'echo' : 'second', inputSchema: { type: 'object', properties } }],
        ...(page && { nextCursor: 'next' })
      })
    } else onCall(message, response)
  }
  const gateway = await startBefore(t, `${site.url}/mcp`)
  const authorization = gateway.authorization()
  t.test('R60 R77 bytes and mirrored headers pass; nothing else does', async t => {
    const { body, headers } = modern('tools/call', { name: 'echo', arguments: { region: 'eu' } })
    const text = JSON.stringify(body, null, 1)
    const { status } = await gateway.post(text, {
      authorization,
      ...headers,
      'mcp-param-region': 'eu',
      'mcp-param-unknown': 'x',
      'mcp-session-id': 'ignored',
      'last-event-id': 'ignored',
      traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
      tracestate: 'a=b'
    })
    t.equal(status, 200)
    const { headers: sent, body: arrived } = site.seen.at(-1) as (typeof site.seen)[0]
    t.equal(arrived, text)
    t.match(sent, {
      'mcp-protocol-version': '2026-07-28',
      'mcp-method': 'tools/call',
      'mcp-name': 'echo',
      'mcp-param-region': 'eu',
      'mcp-param-unknown': 'x',
      traceparent: /^00-/,
      tracestate: 'a=b'
    })
    t.notOk('mcp-session-id' in sent, 'R54')
    t.notOk('last-event-id' in sent)
    const own = site.seen.filter(({ body: asked }) => asked.includes('"gateway-'))
    t.ok(own.length >= 3, 'discover and two pages of tools were asked in the same era')
    t.ok(own.every(({ headers: { authorization: by } }) => by === authorization))
  })
  t.test('R61 R74 errors: the status that goes with them, and no code of another era', async t => {
    const answered = onCall
    const { body, headers } = modern('tools/call', { name: 'second' })
    const called = async (status: number, code: number) => {
      const error = { code, message: 'm', data: { a: 1 } }
      onCall = ({ id }, response) => json(response, { jsonrpc: '2.0', id, error }, status)
      const whole = await gateway.post(body, { authorization, ...headers })
      onCall = ({ id }, response) => {
        events(response)({ jsonrpc: '2.0', id, error })
        response.end()
      }
      const event = await gateway.post(body, { authorization, ...headers })
      t.equal(event.status, 200)
      t.strictSame(event.json, whole.json, 'the same on a stream')
      t.match(whole.json, { id: 1, error: { message: 'm', data: { a: 1 } } })
      return [whole.status, whole.json.error.code] as const
    }
    for (const [status, code, shownStatus, shownCode] of [
      [200, -32601, 404, -32601],
      [400, -32601, 404, -32601],
      [404, -32601, 404, -32601],
      [404, -32602, 200, -32602],
      [404, 7, 200, 7],
      [400, 7, 200, 7],
      [200, -32602, 200, -32602],
      [400, -32602, 400, -32602],
      [400, -32600, 400, -32600],
      [400, -32020, 400, -32020],
      [200, -32021, 400, -32021],
      [400, -32022, 400, -32022],
      [200, -32002, 200, -32602],
      [404, -32002, 200, -32602],
      [200, -32042, 200, -32603],
      [200, -32023, 200, -32603],
      [200, -32099, 200, -32603],
      [200, -32019, 200, -32019]
    ] as const)
      t.strictSame(await called(status, code), [shownStatus, shownCode], `${status} ${code}`)
    const { body: listening, headers: ofListening } = modern('subscriptions/listen', {
      notifications: {}
    })
    onCall = ({ id }, response) => {
      events(response)({ jsonrpc: '2.0', id, error: { code: -32042, message: 'm' } })
      response.end()
    }
    const refused = await gateway.post(listening, { authorization, ...ofListening })
    t.match(refused.json, { id: 1, error: { code: -32603, message: 'm' } })
    onCall = answered
  })
  t.test('R68 no questions, and no log lines that nobody asked for', async t => {
    const answered = onCall
    const log = { jsonrpc: '2.0', method: 'notifications/message', params: { level: 'info' } }
    const progress = { jsonrpc: '2.0', method: 'notifications/progress' }
    const sampling = { jsonrpc: '2.0', method: 'sampling/createMessage', id: 7 }
    const elicitation = { id: 8, jsonrpc: '2.0', method: 'elicitation/create' }
    const answer = { jsonrpc: '2.0', id: 1, result: { resultType: 'complete' } }
    onCall = (_message, response) => {
      const send = events(response)
      for (const said of [log, sampling, progress, elicitation, answer]) send(said)
      response.end()
    }
    const told = async (method: string, params: Record<string, unknown>) => {
      const { body, headers } = modern(method, params)
      const messages = messagesOf(await gateway.open(body, { authorization, ...headers }))
      const all: unknown[] = []
      for await (const message of messages) all.push(message)
      return all
    }
    const _meta = { 'io.modelcontextprotocol/logLevel': 'info' }
    for (const [method, params] of [
      ['tools/call', { name: 'second' }],
      ['subscriptions/listen', { notifications: {} }]
    ] as const) {
      t.strictSame(await told(method, params), [progress, answer])
      t.strictSame(await told(method, { ...params, _meta }), [log, progress, answer])
    }
    onCall = answered
  })
  t.test('R60 a mirrored argument that differs', async t => {
    const { body, headers } = modern('tools/call', { name: 'second', arguments: { region: 'eu' } })
    const asked = seen.length
    const { status, json: answer } = await gateway.post(body, {
      authorization,
      ...headers,
      'mcp-param-region': 'us'
    })
    t.equal(status, 400)
    t.equal(answer.error.code, -32020)
    t.equal(seen.length, asked)
  })
  t.test('R16 a notification', async t => {
    const { body, headers } = modern('notifications/x')
    const { id: _, ...notification } = body as { id: unknown }
    const { status } = await gateway.post(notification, { authorization, ...headers })
    t.equal(status, 202)
  })
  t.test('R69 a client that goes has cancelled: JSON and stream', async t => {
    for (const isStream of [false, true]) {
      const begun = new Promise<ServerResponse>(resolve => {
        onCall = (_message, response) => {
          if (isStream) events(response)({ jsonrpc: '2.0', method: 'notifications/progress' })
          resolve(response)
        }
      })
      const stop = new AbortController()
      const { body, headers } = modern('prompts/get', { name: 'x' })
      const opening = gateway.open(body, { authorization, ...headers }, stop.signal)
      const response = await begun
      const gone = closed(response)
      if (isStream) await opening
      stop.abort()
      if (!isStream) await t.rejects(opening)
      await gone
      t.pass('aborted upstream')
    }
  })
  t.test('R69 a client that goes while its list of tools is read', async t => {
    isListHeld = true
    const answered = onCall
    const begun = new Promise<ServerResponse>(resolve => {
      onCall = (message, response) => {
        if (message.method !== 'tools/list') return json(response, { id: message.id, result: {} })
        events(response)({ jsonrpc: '2.0', method: 'notifications/progress' })
        resolve(response)
      }
    })
    const stop = new AbortController()
    const { body, headers } = modern('tools/list')
    const response = await gateway.open(body, { authorization, ...headers }, stop.signal)
    const gone = closed(await begun)
    await messagesOf(response).next()
    stop.abort()
    await gone
    t.pass('aborted upstream')
    isListHeld = false
    onCall = answered
  })
  t.test('the gateway notices that the upstream has changed', async t => {
    isModern = false
    const first = await ask(gateway, authorization, 'prompts/list')
    t.equal(first.status, 400, 'said by the upstream')
    const asked = seen.length
    await ask(gateway, authorization, 'prompts/list')
    t.ok(
      seen.slice(asked).some(({ method }) => method === 'server/discover'),
      'asked again'
    )
  })
  t.test('an upstream that was found legacy in a bad moment, or was so before', async t => {
    const other = await startSite(t)
    const legacy = await startLegacyServer(t)
    const moments: Site['answer'][] = [
      (_seen, response) => html(response, 404),
      (_seen, response) => events(response)({ jsonrpc: '2.0', method: 'x' }),
      legacy.answer
    ]
    for (const [index, answer] of moments.entries()) {
      const gateway = await startBefore(t, `${other.url}/mcp`, {
        DRUPAL_CALL_TIMEOUT: '1',
        DRUPAL_HEADERS_TIMEOUT: '1',
        DRUPAL_CONNECT_TIMEOUT: '1'
      })
      const authorization = gateway.authorization()
      const list = () => ask(gateway, authorization, 'prompts/list')
      other.answer = answer
      await list()
      other.answer = (seen, response) => {
        const { id, params } = JSON.parse(seen.body) as Message
        const result = { resultType: 'complete', supportedVersions: ['2026-07-28'], prompts: [] }
        if (params?._meta !== undefined) json(response, { jsonrpc: '2.0', id, result })
        else json(response, { jsonrpc: '2.0', id, error: { code: -32022, message: 'no' } }, 400)
      }
      await list()
      t.match((await list()).json, { result: { prompts: [] } }, `${index}`)
    }
  })
  t.test('an upstream that is down is of no era', async t => {
    const other = await startSite(t, (_seen, response) => html(response, 503))
    const before = await startBefore(t, `${other.url}/mcp`)
    const { status } = await ask(before, before.authorization(), 'tools/list')
    t.equal(status, 503)
    const twice = await Promise.all([
      ask(before, before.authorization(), 'server/discover'),
      ask(before, before.authorization(), 'tools/list')
    ])
    t.strictSame(
      twice.map(answer => answer.status),
      [503, 503]
    )
  })
})

t.test('R16 R54 R62 modern on modern: no client decides the era for the others', async t => {
  const clientInfo = { 'io.modelcontextprotocol/clientInfo': 5 }
  const discover = modern('server/discover')
  const { id: _, ...notification } = discover.body as { id: unknown }
  const poisons: Record<string, [{ body: unknown; headers: Record<string, string> }, number]> = {
    'a request without an id': [{ ...discover, body: notification }, 400],
    'a bad progress token': [modern('server/discover', { _meta: { progressToken: {} } }), 400],
    'bad client info': [modern('server/discover', { _meta: clientInfo }), 400]
  }
  for (const [name, [poison, status]] of Object.entries(poisons)) {
    t.test(name, async t => {
      const server = await startModernServer(t)
      const gateway = await startBefore(t, server.endpoint)
      const attacker = gateway.authorization()
      const send = ({ body, headers } = poison) =>
        gateway.post(body, { authorization: attacker, ...headers })
      const othersWork = async () => {
        const authorization = gateway.authorization({ uid: 3 })
        const called = await ask(gateway, authorization, 'tools/call', { name: 'greet' })
        t.match(called.json, { result: { content: [{ text: 'Hello you' }] } })
        const session = await gateway.initialize(gateway.token({ uid: 4 }))
        t.match((await gateway.post(rpc('tools/list'), session)).json.result.tools, [
          { name: 'greet' }
        ])
      }
      t.equal((await send()).status, status, 'while nobody knows')
      await othersWork()
      const bad = modern('tools/list', { _meta: { progressToken: {} } })
      t.equal((await send(bad)).status, 400, 'a refusal after which the era is asked again')
      t.equal((await send()).status, status)
      await othersWork()
    })
  }
  t.test('where nothing is refused, the upstream is asked once', async t => {
    const server = await startModernServer(t)
    const gateway = await startBefore(t, server.endpoint)
    const authorization = gateway.authorization()
    for (const method of ['server/discover', 'prompts/list']) {
      await ask(gateway, authorization, method)
    }
    t.strictSame(
      server.seen.map(({ headers }) => headers['mcp-method']),
      ['server/discover', 'prompts/list']
    )
  })
})

t.test(
  'R26 legacy sessions end with the era of the upstream: their clients begin anew',
  async t => {
    const upgraded = await startModernServer(t)
    const site = await startLegacyServer(t)
    const legacy = site.answer
    const passOn: Site['answer'] = ({ method, headers, body }, response) => {
      const init = { method, headers: headers as Record<string, string>, ...(body && { body }) }
      void upgraded.handler
        .fetch(new Request(upgraded.endpoint, init))
        .then(answer => sendResponse(answer, response))
    }
    const gateway = await startBefore(t, site.endpoint)
    const authorization = gateway.authorization()
    const list = (session: Record<string, string>) => gateway.post(rpc('tools/list'), session)
    const begin = () => gateway.initialize(authorization.slice('Bearer '.length))
    let session = await begin()
    t.match((await list(session)).json, { result: { tools: [{ name: 'echo' }] } })

    for (const [era, answer, name] of [
      ['modern', passOn, 'greet'],
      ['legacy', legacy, 'echo']
    ] as const) {
      site.answer = answer
      const lost = await list(session)
      t.equal(lost.status, 404, `the upstream has become ${era}`)
      t.match(lost.json, { id: 1, error: { code: -32001 } })
      session = await begin()
      t.match((await list(session)).json, { result: { tools: [{ name }] } })
    }
  }
)

t.test(
  'modern on legacy: where the site hangs, nobody waits for the time-outs of others',
  async t => {
    const server = await startLegacyServer(t)
    const gateway = await startBefore(t, server.endpoint, { DRUPAL_HEADERS_TIMEOUT: '2' })
    const authorization = gateway.authorization()
    t.equal((await ask(gateway, authorization, 'no/such')).status, 404, 'the era is known')
    const { answer } = server
    let opened = 0
    server.answer = (seen, response, request) => {
      if (seen.body.includes('"initialize"')) opened++
      else answer(seen, response, request)
    }
    const prompts = Array.from({ length: 8 }, () => ask(gateway, authorization, 'prompts/list'))
    for (const { status } of await Promise.all(prompts)) t.equal(status, 504)
    t.equal(opened, 1)
  }
)

t.test('modern on legacy', async t => {
  const server: LegacyServer = await startLegacyServer(t)
  server.initializeResult = {
    ...server.initializeResult,
    instructions: 'Old but good.',
    capabilities: {
      tools: { listChanged: true },
      resources: { subscribe: true },
      logging: {},
      tasks: { list: {}, requests: { tools: { call: {} } } }
    }
  }
  server.tools.push({
    name: 'noted',
    inputSchema: { type: 'object', properties: { a: { type: 'string', 'x-mcp-header': 'A' } } }
  })
  const gateway = await startBefore(t, server.endpoint, {
    STREAM_WATCH: '0.05',
    CATALOGUE_TTL: '0.0011'
  })
  const authorization = gateway.authorization()
  await t.test('R62 R64 R65 discover', async t => {
    const { json: body } = await ask(gateway, authorization, 'server/discover', {}, '7')
    t.match(body, {
      id: '7',
      result: {
        resultType: 'complete',
        supportedVersions: ['2026-07-28'],
        instructions: 'Old but good.',
        cacheScope: 'private',
        _meta: { 'io.modelcontextprotocol/serverInfo': { name: 'legacy' } }
      }
    })
    const offered = { tools: { listChanged: true }, resources: {} }
    t.strictSame(body.result.capabilities, offered, 'R53 tasks neither')
    t.type(body.result.ttlMs, 'number')
  })
  t.test('R60 R63 R64 lists; nobody is asked for headers that nobody checks', async t => {
    const { json: body } = await ask(gateway, authorization, 'tools/list')
    t.equal(body.result.resultType, 'complete')
    t.equal(body.result.cacheScope, 'private')
    t.equal(body.result.ttlMs, 1, 'whole milliseconds')
    t.notMatch(JSON.stringify(body), /x-mcp-header/)
    const { params } = server.messages.findLast(({ method }) => method === 'tools/list') as Message
    t.notOk(params._meta, 'the envelope stays here')
  })
  t.test(
    'R60 Mcp-Param headers pass, since nobody here knows them; no other header does',
    async t => {
      const { body, headers } = modern('tools/call', { name: 'echo' })
      const { status } = await gateway.post(body, {
        authorization,
        ...headers,
        'mcp-param-region': 'eu',
        'last-event-id': 'ignored'
      })
      t.equal(status, 200)
      const { headers: sent } = server.seen.at(-1) as (typeof server.seen)[0]
      t.equal(sent['mcp-param-region'], 'eu')
      for (const name of ['mcp-method', 'mcp-name', 'last-event-id']) t.notOk(name in sent, name)
    }
  )
  t.test(
    'R77 what a tool answers passes as it was written, whatever its members are called',
    async t => {
      const result =
        '{"content":[],"structuredContent":{"x-mcp-header":"A","n":12345678901234567890}}'
      const { onRequest } = server
      server.onRequest = ({ id }, response) =>
        json(response, `{"jsonrpc":"2.0","id":${JSON.stringify(id)},"result":${result}}`)
      const { text } = await ask(gateway, authorization, 'tools/call', { name: 'echo' })
      t.match(text, result.slice(1, -1))
      server.onRequest = onRequest
    }
  )
  t.test('R19 R31 two clients of one principal with the same ids never cross', async t => {
    const waiting: [Message, ServerResponse][] = []
    const both = new Promise<void>(resolve => {
      server.onRequest = (message, response) => {
        waiting.push([message, response])
        if (waiting.length === 2) resolve()
      }
    })
    const answers = ['a', 'b'].map(who =>
      ask(gateway, authorization, 'tools/call', { name: 'echo', arguments: { who } }, 5)
    )
    await both
    const [first, second] = waiting as [[Message, ServerResponse], [Message, ServerResponse]]
    t.not(first[0].id, second[0].id)
    for (const [{ id, params }, response] of waiting.reverse()) {
      json(response, { jsonrpc: '2.0', id, result: { who: params.arguments.who } })
    }
    const [a, b] = await Promise.all(answers)
    t.match(
      [a?.json, b?.json],
      [
        { id: 5, result: { who: 'a' } },
        { id: 5, result: { who: 'b' } }
      ]
    )
    t.equal(
      server.messages.filter(({ method }) => method === 'initialize').length,
      1,
      'one session'
    )
    await ask(gateway, gateway.authorization({ uid: 3 }), 'tools/list')
    t.equal(
      server.messages.filter(({ method }) => method === 'initialize').length,
      2,
      'R65 another principal has another'
    )
  })
  t.test('R61 R74 R75 errors', async t => {
    const error = (code: number) => {
      server.onRequest = ({ id }, response) =>
        json(response, { jsonrpc: '2.0', id, error: { code, message: 'm' } })
    }
    error(-32002)
    const missing = await ask(gateway, authorization, 'resources/read', { uri: 'x:y' })
    t.strictSame([missing.status, missing.json.error.code], [200, -32602])
    error(-32601)
    const unknown = await ask(gateway, authorization, 'completion/complete')
    t.strictSame([unknown.status, unknown.json.error.code], [404, -32601])
    const unbridged = await ask(gateway, authorization, 'tasks/list')
    t.strictSame([unbridged.status, unbridged.json.error.code], [404, -32601])
    server.onRequest = (_message, response) => html(response, 200)
    t.equal((await ask(gateway, authorization, 'prompts/list')).status, 502)
    const { body, headers } = modern('notifications/x')
    const { id: _, ...notification } = body as { id: unknown }
    t.equal((await gateway.post(notification, { authorization, ...headers })).status, 202)
  })
  t.test('R68 streams: progress passes, questions and uninvited log lines do not', async t => {
    const notice = (method: string, params = {}) => ({ jsonrpc: '2.0', method, params })
    server.onRequest = ({ id, params }, response) => {
      const send = events(response)
      response.write('id: prime\ndata:\n\n')
      send(notice('notifications/message'))
      send({ ...notice('sampling/createMessage'), id: 1 })
      send({ ...notice('notifications/progress', params._meta), id: {} })
      send(notice('notifications/progress', params._meta))
      send(notice('notifications/progress', params._meta))
      send({ jsonrpc: '2.0', id, result: {} })
    }
    const asked = { name: 'echo', _meta: { progressToken: 'p' } }
    const { body, headers } = modern('tools/call', asked, 'mine')
    const response = await gateway.open(body, { authorization, ...headers })
    t.equal(response.headers.get('content-type'), 'text/event-stream')
    const messages = []
    for await (const message of messagesOf(response)) messages.push(message)
    t.match(messages, [
      { method: 'notifications/progress', params: { progressToken: 'p' } },
      { method: 'notifications/progress', params: { progressToken: 'p' } },
      { id: 'mine', result: { resultType: 'complete' } }
    ])
    t.equal(messages.length, 3)
    server.onRequest = ({ id }, quiet) => {
      const send = events(quiet)
      send(notice('notifications/message'))
      send({ jsonrpc: '2.0', id, error: { code: -32601, message: 'm' } })
    }
    const whole = await ask(gateway, authorization, 'tools/call', { name: 'echo' })
    t.equal(whole.status, 404, 'nothing to say before the end: one JSON answer with its status')
    server.onRequest = ({ id }, failing) => {
      const message = 'PDOException in /var/www/html/index.php'
      events(failing)({ jsonrpc: '2.0', id, error: { code: -32603, message } })
    }
    const failed = await ask(gateway, authorization, 'tools/call', { name: 'echo' })
    t.match(failed.json.error, { code: -32603, message: /^The site failed/ })
    for (const broken of ['', 'data: nonsense\n\n']) {
      server.onRequest = (_message, torn) => {
        events(torn)
        torn.end(broken)
      }
      t.equal((await ask(gateway, authorization, 'tools/call', { name: 'echo' })).status, 502)
    }
  })
  t.test('R50 the progress of two calls with the same token never crosses', async t => {
    const working: [Message, (message: unknown) => void][] = []
    server.onRequest = (message, response) => {
      working.push([message, events(response)])
      if (working.length < 2) return
      // As the PHP SDK: what is said in a session is said on whichever of its streams is written next.
      const [, [, say]] = working as [unknown, [unknown, (message: unknown) => void]]
      for (const [{ params }] of working) {
        const { progressToken } = params._meta
        const said = { progressToken, progress: 1, message: params.arguments.who }
        say({ jsonrpc: '2.0', method: 'notifications/progress', params: said })
      }
      for (const [{ id, params }, answer] of working) {
        answer({ jsonrpc: '2.0', id, result: { who: params.arguments.who } })
      }
    }
    const heard = await Promise.all(
      ['a', 'b'].map(async who => {
        const params = { name: 'echo', arguments: { who }, _meta: { progressToken: 0 } }
        const { body, headers } = modern('tools/call', params, 5)
        const { text } = await read(await gateway.open(body, { authorization, ...headers }))
        const [, said] = /"progressToken":0,"progress":1,"message":"(.)"/.exec(text) ?? []
        const [, result] = /"who":"(.)"/.exec(text) ?? []
        return [who, said ?? who, result]
      })
    )
    t.strictSame(heard, [
      ['a', 'a', 'a'],
      ['b', 'b', 'b']
    ])
    t.equal(new Set(working.map(([{ params }]) => params._meta.progressToken)).size, 2)
  })
  t.test('R52 R69 a client that goes: the upstream is told', async t => {
    const begun = new Promise<Message>(resolve => {
      server.onRequest = message => resolve(message)
    })
    const stop = new AbortController()
    const { body, headers } = modern('tools/call', { name: 'echo' })
    const opening = gateway.open(body, { authorization, ...headers }, stop.signal)
    const { id } = await begun
    const told = new Promise<Message>(resolve => {
      const { answer } = server
      server.answer = (seen, response, request) => {
        answer(seen, response, request)
        const message = JSON.parse(seen.body) as Message
        if (message.method === 'notifications/cancelled') resolve(message)
      }
    })
    stop.abort()
    await t.rejects(opening)
    t.equal((await told).params.requestId, id)
  })
  t.test('R31 the session is opened anew when it is forgotten', async t => {
    server.onRequest = ({ id }, response) => json(response, { jsonrpc: '2.0', id, result: {} })
    server.sessions.clear()
    t.equal((await ask(gateway, authorization, 'prompts/list')).status, 200)
  })
  t.test(
    'R71 subscriptions/listen: acknowledged, tagged, told of changes, ended in order',
    async t => {
      const { body, headers } = modern(
        'subscriptions/listen',
        { notifications: { toolsListChanged: true, promptsListChanged: true } },
        9
      )
      const stream = await gateway.open(body, { authorization, ...headers })
      const messages = messagesOf(stream)
      const tag = { 'io.modelcontextprotocol/subscriptionId': 9 }
      t.strictSame((await messages.next()).value, {
        jsonrpc: '2.0',
        method: 'notifications/subscriptions/acknowledged',
        params: { _meta: tag, notifications: { toolsListChanged: true } }
      })
      const lists = () => server.messages.filter(({ method }) => method === 'tools/list').length
      const asked = lists()
      while (lists() < asked + 3) await new Promise(resolve => setTimeout(resolve, 20))
      server.tools.push({ name: 'new', inputSchema: { type: 'object' } })
      t.strictSame((await messages.next()).value, {
        jsonrpc: '2.0',
        method: 'notifications/tools/list_changed',
        params: { _meta: tag }
      })
      for (const wrong of [
        {},
        { notifications: 5 },
        { notifications: { toolsListChanged: 'yes' } }
      ]) {
        const refused = await ask(gateway, authorization, 'subscriptions/listen', wrong)
        t.equal(refused.status, 200)
        t.match(refused.json, { error: { code: -32602 } }, JSON.stringify(wrong))
      }
      const { body: nothing } = modern('subscriptions/listen', { notifications: {} }, 10)
      const quiet = messagesOf(await gateway.open(nothing, { authorization, ...headers }))
      t.match((await quiet.next()).value, { params: { notifications: {} } })
      const other = messagesOf(
        await gateway.open(body, { authorization: gateway.authorization(), ...headers })
      )
      await other.next()
      await gateway.gateway.stop()
      t.match((await messages.next()).value, { id: 9, result: { resultType: 'complete' } })
      t.equal((await messages.next()).done, true, 'a clean end')
      t.match((await quiet.next()).value, { id: 10, result: {} })
      await other.return(undefined)
    }
  )
})

t.test('R61 R63 R64 what both eras know passes from each to the other', async t => {
  const lists = ['tools/list', 'prompts/list', 'resources/list', 'resources/templates/list']
  const methods: [string, Record<string, unknown>][] = [
    ...lists.map((method): [string, Record<string, unknown>] => [method, {}]),
    ['tools/call', { name: 'echo' }],
    ['prompts/get', { name: 'p' }],
    ['resources/read', { uri: 'x:y' }],
    ['completion/complete', { ref: { type: 'ref/prompt', name: 'p' } }]
  ]
  const old = await startLegacyServer(t)
  const site = await startSite(t, ({ headers, body }, response) => {
    const { id, method } = JSON.parse(body) as Message
    if (headers['mcp-protocol-version'] !== '2026-07-28') {
      const error = { code: -32022, message: 'no', data: { supported: ['2026-07-28'] } }
      return json(response, { jsonrpc: '2.0', id, error }, 400)
    }
    const result =
      method === 'server/discover'
        ? { supportedVersions: ['2026-07-28'] }
        : { resultType: 'complete', method, ...(method === 'tools/list' && { tools: [] }) }
    json(response, { jsonrpc: '2.0', id, result })
  })
  const onLegacy = await startBefore(t, old.endpoint)
  const authorization = onLegacy.authorization()
  for (const [method, params] of methods) {
    const { status, json: answer } = await ask(onLegacy, authorization, method, params)
    t.equal(status, 200, `${method}, modern on legacy`)
    t.equal(old.messages.at(-1)?.method, method)
    t.equal(answer.result.resultType, 'complete')
    const isKept = lists.includes(method) || method === 'resources/read'
    t.equal('ttlMs' in answer.result, isKept, 'R64 only where the client may keep it')
    t.equal(answer.result.cacheScope, isKept ? 'private' : undefined)
  }
  const onModern = await startBefore(t, `${site.url}/mcp`)
  const session = await onModern.initialize(onModern.token())
  for (const [method, params] of methods) {
    const { status, json: answer } = await onModern.post(rpc(method, params), session)
    t.equal(status, 200, `${method}, legacy on modern`)
    t.equal(answer.result.method, method)
  }
})

t.test('R62 a version that only the upstream serves is not offered', async t => {
  const site = await startSite(t)
  const gateway = await startBefore(t, `${site.url}/mcp`)
  const list = '["2027-03-01", "2026-07-28","2025-11-25","2024-11-05"]'
  site.answer = ({ body }, response) => {
    const { id } = JSON.parse(body) as Message
    const result = `{"supportedVersions":${list},"n":1.0}`
    json(response, `{"jsonrpc":"2.0","id":${JSON.stringify(id)}, "result":${result}}`)
  }
  const authorization = gateway.authorization()
  for (const what of ['while nobody knows its era', 'from then on']) {
    const { text } = await ask(gateway, authorization, 'server/discover', {}, 'd')
    const result = '{"supportedVersions":["2026-07-28","2025-11-25"],"n":1.0}'
    t.equal(text, `{"jsonrpc":"2.0","id":"d","result":${result}}`, what)
  }
})

t.test('R62 modern on legacy: discover says what the upstream offers by now', async t => {
  const { now } = performance
  let stepMs = 0
  performance.now = () => now.call(performance) + stepMs
  t.teardown(() => (performance.now = now))
  for (const isSessionful of [true, false]) {
    const server = await startLegacyServer(t)
    server.isSessionful = isSessionful
    const gateway = await startBefore(t, server.endpoint)
    const authorization = gateway.authorization()
    const offered = async () => {
      const { json: answer } = await ask(gateway, authorization, 'server/discover')
      return Object.keys(answer.result.capabilities as object)
    }
    const offer = (...names: string[]) => {
      const capabilities = Object.fromEntries(names.map(name => [name, {}]))
      server.initializeResult = { ...server.initializeResult, capabilities }
    }
    t.strictSame(await offered(), ['tools'])
    offer('tools', 'prompts')
    if (isSessionful) {
      server.sessions.clear()
      await ask(gateway, authorization, 'prompts/list')
      t.strictSame(await offered(), ['tools', 'prompts'], 'opened anew')
    }
    offer('prompts')
    stepMs += 300_000
    t.strictSame(await offered(), ['prompts'], 'after the time for which it may be kept')
    const asked = server.messages.length
    await offered()
    t.equal(server.messages.length, asked, 'not before')
  }
})

t.test('a revoked token hears nothing any more', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint, {
    STREAM_WATCH: '0.05',
    CATALOGUE_TTL: '0'
  })
  const authorization = gateway.authorization()
  const { body, headers } = modern('subscriptions/listen', {
    notifications: { toolsListChanged: true }
  })
  const messages = messagesOf(await gateway.open(body, { authorization, ...headers }))
  await messages.next()
  const { answer } = server
  server.answer = (_seen, response) => html(response, 503)
  await new Promise(resolve => setTimeout(resolve, 120))
  server.answer = (_seen, response) =>
    html(response, 401, { 'www-authenticate': 'Bearer error="invalid_token"' })
  t.match((await messages.next()).value, { result: { resultType: 'complete' } })
  t.equal((await messages.next()).done, true)
  server.answer = answer
})

t.test('news that nobody watches are not offered', async t => {
  const server = await startLegacyServer(t)
  server.initializeResult['capabilities'] = { tools: { listChanged: true } }
  const gateway = await startBefore(t, server.endpoint, { STREAM_WATCH: '0' })
  const authorization = gateway.authorization()
  const { json: body } = await ask(gateway, authorization, 'server/discover')
  t.strictSame(body.result.capabilities, { tools: {} })
  const refused = await ask(gateway, authorization, 'subscriptions/listen', { notifications: {} })
  t.equal(refused.status, 404)
})

t.test('R62 R71 who is not signed in is promised no news, who is hears them', async t => {
  const both = await startEverythingServer()
  t.teardown(() => both.close())
  const legacy = await startLegacyServer(t)
  legacy.initializeResult['capabilities'] = { tools: { listChanged: true } }
  const env = { AUTH_ANONYMOUS: 'public-tools' }
  const gateways = {
    jsonrpc: await startGateway(t, { env }),
    legacy: await startBefore(t, legacy.endpoint, env),
    modern: await startBefore(t, (await startModernServer(t)).endpoint, env),
    both: await startBefore(t, both.url, env)
  }
  const discover = modern('server/discover')
  const listen = modern('subscriptions/listen', { notifications: { toolsListChanged: true } })
  for (const [name, gateway] of Object.entries(gateways)) {
    const authorization = `Bearer ${gateway.token()}`
    const offered = async ({ body, headers } = discover, more = {}) =>
      (await gateway.post(body, { ...headers, ...more })).json.result.capabilities
    const strangers = JSON.stringify(await offered())
    t.match(strangers, /"tools":/, name)
    t.notMatch(strangers, /listChanged|subscribe/, name)
    t.equal((await gateway.post(listen.body, listen.headers)).status, 401)
    t.match(await offered(discover, { authorization }), { tools: { listChanged: true } })

    const initialize = { body: rpc('initialize', { protocolVersion: '2025-11-25' }), headers: {} }
    t.match(await offered(initialize, { authorization }), { tools: { listChanged: true } })
    // What a legacy upstream says of itself holds: it has a stream for them.
    if (name === 'jsonrpc' || name === 'modern')
      t.strictSame(await offered(initialize), { tools: {} })
  }
  t.test('and of an upstream that says it oddly', async t => {
    const site = await startSite(t)
    const gateway = await startBefore(t, `${site.url}/mcp`, env)
    const said = {
      supportedVersions: ['2026-07-28'],
      capabilities: { tools: { listChanged: true } }
    }
    for (const [result, shown] of [
      [said, { ...said, capabilities: { tools: {} } }],
      [{ capabilities: 5 }, { capabilities: 5 }],
      [null, null]
    ]) {
      site.answer = ({ body }, response) =>
        json(response, { jsonrpc: '2.0', id: (JSON.parse(body) as Message).id, result })
      const { json: answer } = await gateway.post(discover.body, discover.headers)
      t.strictSame(answer.result, shown)
    }
    site.answer = ({ body }, response) => {
      const result = { ...said, ttlMs: 1, cacheScope: 'public' }
      json(response, { jsonrpc: '2.0', id: (JSON.parse(body) as Message).id, result })
    }
    for (const authorization of [undefined, `Bearer ${gateway.token()}`]) {
      const headers = { ...discover.headers, ...(authorization && { authorization }) }
      const { json: answer } = await gateway.post(discover.body, headers)
      t.equal(answer.result.cacheScope, 'private', 'R65 one is not the other’s')
    }
  })
})

t.test('legacy on modern', async t => {
  const server = await startModernServer(t)
  const gateway = await startBefore(t, server.endpoint, {
    STREAM_WATCH: '0.05',
    CATALOGUE_TTL: '0'
  })
  const opened = await gateway.post(
    rpc('initialize', {
      protocolVersion: '2025-03-26',
      capabilities: {},
      clientInfo: { name: 'x', version: '1' }
    }),
    { authorization: gateway.authorization() }
  )
  t.match(opened.json.result, {
    protocolVersion: '2025-03-26',
    capabilities: { tools: { listChanged: true } },
    serverInfo: { name: 'modern' },
    instructions: 'Be modern.'
  })
  const session = await gateway.initialize(gateway.token())
  const old = await gateway.initialize(gateway.token(), '2025-03-26')
  const greet = (who: string, id: unknown = 1, meta = {}) =>
    rpc('tools/call', { name: 'greet', arguments: { who }, ...meta }, id)
  t.test('R51 R15 what the gateway answers itself', async t => {
    t.strictSame((await gateway.post(rpc('ping'), session)).json.result, {})
    const note = { jsonrpc: '2.0', method: 'notifications/initialized' }
    t.equal((await gateway.post(note, session)).status, 202)
    for (const method of ['logging/setLevel', 'resources/subscribe', 'server/discover']) {
      const { status, json: body } = await gateway.post(rpc(method), session)
      t.strictSame([status, body.error.code], [200, -32601], method)
    }
  })
  t.test('lists and calls', async t => {
    const { json: list } = await gateway.post(rpc('tools/list', undefined, 'l'), session)
    t.match(list, { id: 'l', result: { tools: [{ name: 'greet' }] } })
    const { json: called } = await gateway.post(greet('Ada', 12), session)
    t.match(called, { id: 12, result: { content: [{ text: 'Hello Ada' }] } })
    const unknown = await gateway.post(rpc('no/such'), session)
    t.strictSame(
      [unknown.status, unknown.json.error.code],
      [200, -32601],
      'R61 404 would mean a lost session'
    )
  })
  t.test('R50 progress on a stream', async t => {
    const response = await gateway.open(greet('Ada', 1, { _meta: { progressToken: 'p' } }), session)
    const messages = []
    for await (const message of messagesOf(response)) messages.push(message)
    t.match(messages, [
      { method: 'notifications/progress', params: { progressToken: 'p' } },
      { id: 1, result: {} }
    ])
  })
  t.test('R58 R61 methods that no header can name are unknown, alone and in a batch', async t => {
    const methods = ['x\u0001', 'x'.repeat(100_000), ...Array<string>(10).fill('é\u0100')]
    const batch = await gateway.post(
      methods.map((method, id) => rpc(method, {}, id)),
      old
    )
    const singles = methods.map(method => gateway.post(rpc(method), session))
    const answers = [...batch.json, ...(await Promise.all(singles)).map(({ json }) => json)]
    for (const answer of answers) t.equal(answer.error.code, -32601)
    t.equal((await gateway.post(greet('Ada'), session)).status, 200, 'it is nobody else’s affair')
  })
  t.test('R46 R48 batches of 2025-03-26', async t => {
    const { json: answers } = await gateway.post(
      [
        rpc('ping', undefined, 1),
        greet('Ada', 12),
        rpc('no/such', undefined, 'x'),
        rpc('logging/setLevel', undefined, 4),
        { jsonrpc: '2.0', method: 'notifications/initialized' }
      ],
      old
    )
    t.match(answers, [
      { id: 1, result: {} },
      { id: 12, result: { content: [{ text: 'Hello Ada' }] } },
      { id: 'x', error: { code: -32601 } },
      { id: 4, error: { code: -32601 } }
    ])
    const only = await gateway.post([{ jsonrpc: '2.0', method: 'notifications/initialized' }], old)
    t.equal(only.status, 202)
  })
  t.test('R49 a cancelled call has no answer', async t => {
    const cancel = (id: unknown) => ({
      jsonrpc: '2.0',
      method: 'notifications/cancelled',
      params: { requestId: id }
    })
    const calls = () =>
      server.seen.filter(({ headers }) => headers['mcp-method'] === 'tools/call').length
    const begin = async (body: unknown, headers: Record<string, string>) => {
      const before = calls()
      const pending = gateway.post(body, headers)
      while (calls() === before) await new Promise(resolve => setTimeout(resolve, 5))
      return pending
    }
    const [single, batch] = [begin(greet('nobody', 21), session), begin([greet('nobody', 22)], old)]
    for (const done = { count: 0 }; done.count < 1; ) {
      await new Promise(resolve => setTimeout(resolve, 50))
      if (calls() >= 2) done.count++
    }
    await gateway.post(cancel(22), session)
    await gateway.post(cancel(21), session)
    await gateway.post(cancel(22), old)
    const [one, many] = await Promise.all([single, batch])
    t.strictSame([one.status, one.text], [202, ''])
    t.strictSame([many.status, many.text], [202, ''])
  })
  t.test('news of tools reach a listening client, and its DELETE ends the session', async t => {
    const stop = new AbortController()
    const stream = await gateway.listen(session, stop.signal)
    t.equal(stream.status, 200)
    const asked = server.seen.length
    while (server.seen.length < asked + 2) await new Promise(resolve => setTimeout(resolve, 20))
    server.tools.add('more')
    t.match((await messagesOf(stream).next()).value, { method: 'notifications/tools/list_changed' })
    t.equal((await fetch(gateway.url, { method: 'DELETE', headers: session })).status, 204)
    t.equal((await gateway.post(rpc('ping'), session)).status, 404)
  })
})

t.test('R65 legacy on modern: what the upstream says of itself is for who asked', async t => {
  const site = await startSite(t)
  const gateway = await startBefore(t, `${site.url}/mcp`)
  site.answer = ({ body, headers }, response) => {
    const { id, params } = JSON.parse(body) as Message
    const result = {
      resultType: 'complete',
      supportedVersions: ['2026-07-28'],
      capabilities: {},
      instructions: headers.authorization,
      ttlMs: 300_000,
      cacheScope: 'private'
    }
    if (params._meta !== undefined) json(response, { jsonrpc: '2.0', id, result })
    else json(response, { jsonrpc: '2.0', id, error: { code: -32022, message: 'no' } }, 400)
  }
  const callers = [2, 3].map(uid => gateway.authorization({ uid }))
  await ask(gateway, callers[0] as string, 'server/discover')
  const greeted = async (authorization: string) => {
    const { json: answer } = await gateway.post(
      rpc('initialize', { protocolVersion: '2025-11-25', capabilities: {} }),
      { authorization }
    )
    return answer.result.instructions as string
  }
  t.strictSame(await Promise.all(callers.map(greeted)), callers)
})

t.test(
  'R77 legacy on modern: arguments of a batch reach the upstream as they were written',
  async t => {
    const site = await startSite(t)
    const gateway = await startBefore(t, `${site.url}/mcp`)
    site.answer = ({ body }, response) => {
      const { id, params } = JSON.parse(body) as Message
      const result = { resultType: 'complete', supportedVersions: ['2026-07-28'], tools: [] }
      if (params._meta !== undefined) json(response, { jsonrpc: '2.0', id, result })
      else json(response, { jsonrpc: '2.0', id, error: { code: -32022, message: 'no' } }, 400)
    }
    const session = await gateway.initialize(gateway.token(), '2025-03-26')
    const exact = '"arguments": {"node":12345678901234567890, "x":1.0}'
    const called = await gateway.post(
      `[ {"jsonrpc":"2.0","method":"notifications/initialized"},
      {"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"a",${exact}}} ]`,
      session
    )
    t.match(called.json, [{ id: 7, result: {} }])
    t.match(site.seen.at(-1)?.body, exact)
  }
)

t.test('legacy on modern without news: no stream', async t => {
  const server = await startModernServer(t)
  const gateway = await startBefore(t, server.endpoint, { STREAM_WATCH: '0' })
  const session = await gateway.initialize(gateway.token())
  t.equal((await gateway.listen(session)).status, 405)
})

t.test('SDK v2 in each mode on each kind of upstream', async t => {
  const both = await startEverythingServer()
  t.teardown(() => both.close())
  const upstreams = {
    both: both.url,
    legacy: (await startLegacyServer(t)).endpoint,
    modern: (await startModernServer(t)).endpoint
  }
  for (const [kind, url] of Object.entries(upstreams)) {
    const gateway = await startBefore(t, url)
    for (const mode of ['legacy', 'auto', { pin: '2026-07-28' }] as const) {
      t.test(`${JSON.stringify(mode)} on ${kind}`, async t => {
        const client = new v2.Client({ name: 'c', version: '1' }, { versionNegotiation: { mode } })
        await client.connect(
          new v2.StreamableHTTPClientTransport(new URL(gateway.url), {
            requestInit: { headers: { authorization: gateway.authorization() } }
          })
        )
        const { tools } = await client.listTools()
        t.ok(tools.length > 0)
        const revision = client.getNegotiatedProtocolVersion()
        t.equal(revision === '2026-07-28', mode !== 'legacy')
        await client.close()
      })
    }
  }
})

t.test('R71 modern on modern: a subscription that the gateway ends has a result', async t => {
  const site = await startSite(t)
  const open: ServerResponse[] = []
  site.answer = ({ body }, response) => {
    const { id, method } = JSON.parse(body) as Message
    if (method === 'server/discover') {
      json(response, { jsonrpc: '2.0', id, result: { supportedVersions: ['2026-07-28'] } })
      return
    }
    events(response)({ jsonrpc: '2.0', method: 'notifications/subscriptions/acknowledged' })
    open.push(response)
  }
  const gateway = await startBefore(t, `${site.url}/mcp`)
  const authorization = gateway.authorization()
  const listen = async (id: unknown) => {
    const { body, headers } = modern('subscriptions/listen', { notifications: {} }, id)
    const response = await gateway.open(body, { authorization, ...headers })
    const reader = (response.body as ReadableStream<Uint8Array>).getReader()
    return async (last: string) => {
      for (let text = ''; ; ) {
        const { done, value } = await reader.read()
        if (done) return text
        text += Buffer.from(value).toString()
        if (last !== '' && text.endsWith(last)) return text
      }
    }
  }
  const quiet = await listen(7)
  const torn = await listen('l')
  await quiet('}\n\n')
  await torn('}\n\n')
  open[1]?.write(
    'data: {"jsonrpc":"2.0","method":"whole"}\n\ndata: {"jsonrpc":"2.0","method":"half'
  )
  await torn('"whole"}\n\n')
  const stopped = gateway.gateway.stop()
  const result = (id: string) =>
    `event: message\ndata: {"jsonrpc":"2.0","id":${id},"result":{"resultType":"complete","_meta":{"io.modelcontextprotocol/subscriptionId":${id}}}}\n\n`
  t.match(await quiet(''), result('7'))
  open[1]?.write('"}\n\ndata: {"jsonrpc":"2.0","method":"late"}\n\n')
  t.equal(await torn(''), result('"l"'), 'and not into an event of which a half has come')
  await stopped
})

t.test('R15 R16 a notification is answered 202, whatever the upstream begins', async t => {
  const notification = { jsonrpc: '2.0', method: 'notifications/x' }
  const begun: Promise<unknown>[] = []
  const begin = (response: ServerResponse) => {
    begun.push(closed(response))
    events(response)
  }
  const legacy = await startLegacyServer(t)
  const { answer } = legacy
  legacy.answer = (seen, response, request) => {
    if (/notifications\/x|"result"/.test(seen.body)) begin(response)
    else answer(seen, response, request)
  }
  const before = await startBefore(t, legacy.endpoint)
  const session = await before.initialize(before.token())
  for (const body of [notification, { jsonrpc: '2.0', id: 1, result: {} }]) {
    const { status, text } = await before.post(body, session)
    t.strictSame([status, text], [202, ''], 'legacy on legacy')
  }
  const site = await startSite(t, ({ body }, response) => {
    const { id, method } = JSON.parse(body) as Message
    if (method !== 'server/discover') begin(response)
    else json(response, { jsonrpc: '2.0', id, result: { supportedVersions: ['2026-07-28'] } })
  })
  const gateway = await startBefore(t, `${site.url}/mcp`)
  const { body, headers } = modern('notifications/x')
  const { id: _, ...modernNotification } = body as { id: unknown }
  const authorization = gateway.authorization()
  const { status, text } = await gateway.post(modernNotification, { authorization, ...headers })
  t.strictSame([status, text], [202, ''], 'modern on modern')
  t.equal((await Promise.all(begun)).length, 3, 'nobody reads it: it is closed')
})

t.test('modern on modern: subscriptions that do not come about give their place back', async t => {
  const site = await startSite(t)
  let refuse = (response: ServerResponse, _id: unknown) => html(response, 503)
  site.answer = ({ body }, response) => {
    const { id, method } = JSON.parse(body) as Message
    if (method === 'server/discover') {
      json(response, { jsonrpc: '2.0', id, result: { supportedVersions: ['2026-07-28'] } })
    } else refuse(response, id)
  }
  const gateway = await startBefore(t, `${site.url}/mcp`, { STREAMS_PER_PRINCIPAL: '1' })
  const authorization = gateway.authorization()
  const listen = () => ask(gateway, authorization, 'subscriptions/listen', { notifications: {} })
  t.equal((await listen()).status, 503)
  refuse = (response, id) =>
    json(response, { jsonrpc: '2.0', id, error: { code: -32601, message: 'no' } }, 404)
  t.equal((await listen()).status, 404)
  t.equal((await listen()).status, 404)
})

t.test('who is gone while the tools are asked for', async t => {
  const site = await startSite(t)
  let release: () => void = () => {}
  const listing = new Promise<void>(resolve => {
    site.answer = ({ body }, response) => {
      const { id, method } = JSON.parse(body) as Message
      if (method === 'server/discover') {
        json(response, { jsonrpc: '2.0', id, result: { supportedVersions: ['2026-07-28'] } })
      } else {
        release = () => json(response, { jsonrpc: '2.0', id, result: { tools: [] } })
        resolve()
      }
    }
  })
  const gateway = await startBefore(t, `${site.url}/mcp`)
  const { body, headers } = modern('tools/call', { name: 'x' })
  const stop = new AbortController()
  const opening = gateway.open(
    body,
    { authorization: gateway.authorization(), ...headers },
    stop.signal
  )
  await listing
  stop.abort()
  await t.rejects(opening)
  await new Promise(resolve => setTimeout(resolve, 30))
  release()
  await new Promise(resolve => setTimeout(resolve, 50))
  t.notOk(
    site.seen.some(seen => seen.body.includes('"tools/call"')),
    'R69 the call was not made'
  )
})

t.test(
  'modern on legacy: nonsense for discover, silence on a stream, a session lost twice',
  async t => {
    const server = await startLegacyServer(t)
    const gateway = await startBefore(t, server.endpoint, { AUTH_ANONYMOUS: 'public-tools' })
    // Which would have to open its session within that time, too, on a busy machine.
    const impatient = await startBefore(t, server.endpoint, {
      DRUPAL_CONNECT_TIMEOUT: '1',
      DRUPAL_HEADERS_TIMEOUT: '1',
      DRUPAL_CALL_TIMEOUT: '1'
    })
    const { answer } = server
    server.answer = (seen, response, request) => {
      if (seen.headers['mcp-protocol-version'] === '2026-07-28') html(response, 400)
      else answer(seen, response, request)
    }
    const authorization = gateway.authorization()
    const found = await ask(gateway, authorization, 'server/discover')
    t.equal(found.json.result._meta['io.modelcontextprotocol/serverInfo'].name, 'legacy')
    server.onRequest = (_message, response) => void events(response)
    t.equal((await ask(impatient, impatient.authorization(), 'prompts/list')).status, 504)
    server.onRequest = ({ id }, response) =>
      void setTimeout(events(response), 50, { jsonrpc: '2.0', id, result: { prompts: [] } })
    t.equal((await ask(gateway, authorization, 'prompts/list')).status, 200)
    server.onRequest = ({ id }, response) =>
      json(response, { jsonrpc: '2.0', id, error: { code: -32001, message: 'lost' } }, 404)
    t.equal((await ask(gateway, authorization, 'prompts/list')).status, 502)
    const { body, headers } = modern('tools/list')
    t.equal((await gateway.post(body, headers)).status, 200, 'also for those not signed in')
  }
)

t.test('legacy on modern: not signed in, and a token that Drupal refuses', async t => {
  const server = await startModernServer(t)
  const gateway = await startBefore(t, server.endpoint, { AUTH_ANONYMOUS: 'public-tools' })
  const opened = await gateway.post(rpc('initialize', { protocolVersion: '2025-03-26' }))
  const session = { 'mcp-session-id': opened.headers.get('mcp-session-id') as string }
  t.equal((await gateway.post(rpc('tools/list'), session)).status, 200)
  t.equal((await fetch(gateway.url, { headers: session })).status, 405, 'they hear no news')
  const own = await gateway.initialize(gateway.token(), '2025-03-26')
  server.refusal = 401
  t.equal((await gateway.post([rpc('tools/list')], own)).status, 401)
})

t.test(
  'R93 whose token is refused is told so, and nobody who waited for the same answer',
  async t => {
    // Of two callers while the era is unknown, and of one principal while its session with the upstream is not yet open.
    for (const uids of [
      [3, 2],
      [2, 2]
    ]) {
      const server = await startLegacyServer(t)
      const gateway = await startBefore(t, server.endpoint)
      const [refused, good] = uids.map(uid => gateway.authorization({ uid }))
      const { answer } = server
      const held = new Promise<void>(resolve => {
        server.answer = (seen, response, turn) => {
          if (seen.headers.authorization !== refused) return answer(seen, response, turn)
          if (uids[0] === 2 && seen.headers['mcp-protocol-version'] === '2026-07-28') {
            return answer(seen, response, turn)
          }
          resolve()
          void waited.then(() => response.writeHead(401, { 'www-authenticate': 'Bearer' }).end())
        }
      })
      let go = () => {}
      const waited = new Promise<void>(resolve => (go = resolve))
      const { body, headers } = modern('tools/call', { name: 'echo', arguments: {} })
      const call = (authorization: string | undefined) =>
        gateway.post(body, { authorization: authorization as string, ...headers })
      const first = call(refused)
      await held
      const arrived = once(gateway.gateway.app.server, 'request')
      const second = call(good)
      await arrived
      for (let n = 0; n < 50; n++) await new Promise(setImmediate)
      go()
      t.equal((await first).status, 401)
      t.equal((await second).status, 200, uids.join())
      t.equal((await call(good)).status, 200)
    }
  }
)
