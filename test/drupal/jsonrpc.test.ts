import { createTraceStarter, readTrace } from '../../src/telemetry/tracing.ts'
import { generateKeyPairSync } from 'node:crypto'
import { connect } from 'node:net'
import fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import type { Principal } from '../../src/auth/principal.ts'
import { type DrupalDouble, startDrupal } from '../../src/demo/double.ts'
import { createJsonrpcUpstream } from '../../src/drupal/jsonrpc.ts'
import { createDrupalPool, type DrupalPool } from '../../src/drupal/pool.ts'
import type { Upstream } from '../../src/drupal/upstream.ts'
import type { ErrorDetails, GatewayError } from '../../src/errors.ts'
import type { Era, Message, SessionState } from '../../src/mcp/call.ts'
import { readMessage } from '../../src/mcp/message.ts'
import { createSessions, type Sessions } from '../../src/mcp/session.ts'
import { createToolPolicy } from '../../src/policy/tools.ts'
import { createMemoryStore } from '../../src/store/memory.ts'
import { configFor, html, json, oneTooMany, refused, type Site, startSite } from './site.ts'

const KEY = 'alice-key'
const { privateKey: key } = generateKeyPairSync('rsa', { modulusLength: 2048 })

interface Bench {
  app: FastifyInstance
  pool: DrupalPool
  upstream: Upstream
  sessions: Sessions
  session: SessionState
  /** How each call went, as the metrics are told. */
  outcomes: string[]
  log: { warnings: object[] }
  /** Who calls, as the checks before the upstream would have set it. */
  as: { principal: Principal | undefined; token: string | undefined; era: Era }
  post(body: unknown, headers?: Record<string, string>): Promise<Answered>
  call(name: unknown, args?: unknown, id?: unknown): Promise<Answered>
}

interface Answered {
  status: number
  headers: Record<string, unknown>
  body: {
    jsonrpc?: string
    id?: unknown
    result?: Record<string, unknown>
    error?: Record<string, unknown>
  } & ErrorDetails
  text: string
}

/** The upstream in a small server: what the http rooms check before and write after is done here in a few lines. */
const startTrace = createTraceStarter()

async function bench(t: Test, url: string, overrides: Record<string, object> = {}): Promise<Bench> {
  const config = configFor(url, {
    streams: { watchSeconds: 0 },
    tools: { authStatus: 'off' },
    ...overrides
  })
  const pool = createDrupalPool(config)
  const store = createMemoryStore()
  const sessions = createSessions({ secrets: ['s'.repeat(32)], lifetimeSeconds: 60, store })
  const log = { warnings: [] as object[], warn: (details: object) => log.warnings.push(details) }
  const toolPolicy = createToolPolicy(config.policy)
  const upstream = createJsonrpcUpstream({
    config,
    pool,
    toolPolicy,
    sessions,
    log
  })
  const { state } = sessions.seal({ principal: KEY, version: '2025-06-18', upstream: undefined })
  const as: Bench['as'] = {
    principal: {
      issuer: 'https://cms.example/',
      subject: '2',
      clientId: 'public',
      hasUser: true,
      scopes: ['read:tutorials', 'write:tutorials'],
      expiresAt: 9e9,
      tokenId: undefined,
      key: KEY,
      subjectKey: KEY
    },
    token: 'token-1',
    era: 'legacy'
  }
  const app = fastify({ genReqId: () => 'request-1', forceCloseConnections: true })
  for (const name of ['principal', 'token', 'call']) app.decorateRequest(name, undefined)
  app.addHook('onRequest', async request => {
    const { traceparent, tracestate } = request.headers
    request.trace = readTrace(traceparent, tracestate) ?? startTrace()
  })
  app.decorateRequest('trace')
  app.decorateRequest('outcome', 'ok')
  app.decorateRequest('queueMs', 0)
  app.decorateRequest('drupalMs', 0)
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, next) =>
    next(null, body)
  )
  app.setErrorHandler((error: GatewayError, _request, reply) => {
    const { code, message, reason, retryAfterSeconds, requiredScopes, allow, idText } = error
    if (allow !== undefined) reply.header('allow', allow)
    reply
      .code(error.statusCode ?? 500)
      .send({ error: { code, message }, reason, retryAfterSeconds, requiredScopes, idText })
  })
  app.addHook('preHandler', async request => {
    const bytes = (request.body as Buffer | undefined) ?? Buffer.alloc(0)
    const reading = readMessage(bytes, { maxBatch: 100 })
    const messages: Message[] = reading.ok ? reading.messages : []
    const isFirst = messages.some(m => m.kind === 'request' && m.method === 'initialize')
    request.principal = as.principal
    request.token = as.token
    request.call = {
      era: as.era,
      messages,
      batch: reading.ok && reading.batch,
      bytes,
      version: as.era === 'legacy' ? '2025-06-18' : '2026-07-28',
      session: isFirst || as.era === 'modern' || request.headers['no-session'] ? undefined : state
    }
  })
  const outcomes: string[] = []
  app.addHook('onSend', async ({ call, outcome }) => {
    for (const message of call.messages) {
      const own = message.kind === 'request' ? message : undefined
      outcomes.push(own?.refusal?.code ?? own?.outcome ?? outcome)
    }
  })
  await app.register(upstream.plugin)
  await app.listen({ port: 0, host: '127.0.0.1' })
  t.teardown(async () => {
    await app.close()
    await pool.close()
    await store.close()
  })
  const post: Bench['post'] = async (body, headers = {}) => {
    const response = await fetch(app.listeningOrigin, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: typeof body === 'string' ? body : JSON.stringify(body)
    })
    const text = await response.text()
    return {
      status: response.status,
      headers: Object.fromEntries(response.headers),
      body: text === '' ? {} : JSON.parse(text),
      text
    }
  }
  return {
    app,
    pool,
    upstream,
    sessions,
    session: state,
    outcomes,
    log,
    as,
    post,
    call: (name, args, id = 1) =>
      post({ jsonrpc: '2.0', id, method: 'tools/call', params: { name, arguments: args } })
  }
}

/** A site with the given tools; calls are answered by the test. */
function siteOf(t: Test, tools: object[], call: Site['answer']): Promise<Site> {
  return startSite(t, (seen, response, request) => {
    if (seen.url === '/mcp/tools/list') json(response, { tools, nextCursor: null })
    else call(seen, response, request)
  })
}

const result =
  (value: unknown): Site['answer'] =>
  (seen, response) =>
    json(response, {
      jsonrpc: '2.0',
      id: (JSON.parse(seen.body) as { id: string }).id,
      result: value
    })

/** The names of a list. */
const toolsOf = ({ result }: Answered['body']) =>
  (result as { tools: { name: string }[] }).tools.map(tool => tool.name)

const rpc = (method: string, params?: object, id: unknown = 1) => ({
  jsonrpc: '2.0',
  id,
  method,
  params
})

async function againstDouble(
  t: Test,
  overrides: Record<string, object> = {}
): Promise<{ drupal: DrupalDouble; b: Bench }> {
  const drupal = await startDrupal({ key })
  t.teardown(() => drupal.close())
  const b = await bench(t, drupal.url, overrides)
  b.as.token = drupal.mint().token
  return { drupal, b }
}

t.test('the gateway is the MCP server', async t => {
  const site = await siteOf(t, [{ name: 'a.b' }], result({ ok: true }))
  const b = await bench(t, site.url)

  t.test('R22 R32 initialize negotiates and seals a session for this principal', async t => {
    const answer = await b.post(rpc('initialize', { protocolVersion: '2025-03-26' }, 'i'))
    t.equal(answer.status, 200)
    t.match(answer.headers['content-type'], /^application\/json/)
    t.match(answer.body, {
      jsonrpc: '2.0',
      id: 'i',
      result: {
        protocolVersion: '2025-03-26',
        capabilities: { tools: {} },
        serverInfo: { name: 'drupal-mcp-gateway', version: /^\d+\.\d+/ }
      }
    })
    t.match(b.sessions.open(answer.headers['mcp-session-id'] as string, KEY), {
      principal: KEY,
      version: '2025-03-26'
    })
    const future = await b.post(rpc('initialize', { protocolVersion: '2099-01-01' }))
    t.match(future.body.result, { protocolVersion: '2025-11-25' })
    const { principal } = b.as
    b.as.principal = undefined
    const anonymous = await b.post(rpc('initialize', { protocolVersion: '2025-06-18' }))
    t.match(await b.sessions.open(anonymous.headers['mcp-session-id'] as string, ''), {
      principal: ''
    })
    b.as.principal = principal
    const none = await b.post(rpc('initialize'))
    t.match(none.body, { error: { code: 'GW_INVALID_PARAMS' } })
    t.notOk(none.headers['mcp-session-id'])
  })

  t.test('R51 ping is {}, with the id exactly as sent', async t => {
    const answer = await b.post('{"jsonrpc":"2.0","id":12345678901234567890,"method":"ping"}')
    t.equal(answer.text, '{"jsonrpc":"2.0","id":12345678901234567890,"result":{}}')
  })

  t.test('R61 an unknown method is -32601 with HTTP 200', async t => {
    for (const method of ['resources/list', 'server/discover', 'constructor', '__proto__']) {
      const answer = await b.post(rpc(method))
      t.equal(answer.status, 200)
      t.match(answer.body, { error: { code: 'GW_METHOD_NOT_FOUND' } }, method)
    }
  })

  t.test('R15 notifications and responses are 202, empty', async t => {
    for (const message of [
      { jsonrpc: '2.0', method: 'notifications/initialized' },
      { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 'unknown' } },
      { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: {} } },
      { jsonrpc: '2.0', method: 'notifications/cancelled' },
      { jsonrpc: '2.0', id: 5, result: {} }
    ]) {
      const answer = await b.post(message)
      t.equal(answer.status, 202)
      t.equal(answer.text, '')
    }
    const early = { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 1 } }
    t.equal((await b.post(early, { 'no-session': '1' })).status, 202)
  })

  t.test('R40 GET is 405 with Allow, R28 DELETE ends the session', async t => {
    const get = await fetch(b.app.listeningOrigin)
    t.equal(get.status, 405)
    t.equal(get.headers.get('allow'), 'POST, DELETE')
    const { sealed } = b.sessions.seal({ principal: KEY, version: 'x', upstream: undefined })
    t.ok(b.sessions.open(sealed, KEY))
    const end = await fetch(b.app.listeningOrigin, { method: 'DELETE' })
    t.equal(end.status, 204)
    const none = await fetch(b.app.listeningOrigin, {
      method: 'DELETE',
      headers: { 'no-session': '1' }
    })
    t.equal(none.status, 400)
  })
})

t.test('tools/list', async t => {
  const tools = [
    {
      name: 'open.tool',
      inputSchema: { type: 'object', properties: [] },
      annotations: { auth: { level: 'none' } }
    },
    { name: 'write.tool', annotations: { auth: { scopes: ['admin:write'] } } }
  ]

  t.test('is the whole catalogue at once, and again from memory', async t => {
    const site = await siteOf(t, tools, result({}))
    const b = await bench(t, site.url)
    for (let i = 0; i < 2; i++) {
      const { body } = await b.post(rpc('tools/list', {}))
      const names = toolsOf(body)
      t.strictSame(names, ['open.tool', 'write.tool'])
    }
    t.equal(site.seen.length, 1)
    const paged = await b.post(rpc('tools/list', { cursor: 'x' }))
    t.match(paged.body, { error: { code: 'GW_INVALID_PARAMS', message: /cursor/ } })
  })

  t.test(
    'hides what the token may not call when the policy says so, and knows no such tool',
    async t => {
      const site = await siteOf(t, tools, result({ ok: 1 }))
      const b = await bench(t, site.url, { policy: { missingScope: 'hide' } })
      for (let i = 0; i < 2; i++) {
        const { body } = await b.post(rpc('tools/list'))
        t.match(body.result, { tools: [{ name: 'open.tool' }] })
        t.equal(toolsOf(body).length, 1)
      }
      t.match((await b.call('write.tool')).body, {
        error: { code: 'GW_INVALID_PARAMS', message: /Unknown tool: write\.tool/ }
      })
      t.match((await b.call('open.tool')).body, { result: { structuredContent: { ok: 1 } } })
      const mighty = { ...(b.as.principal as Principal), key: 'mighty', scopes: ['admin:write'] }
      b.as.principal = mighty
      const { body } = await b.post(rpc('tools/list'))
      t.equal(toolsOf(body).length, 2, 'the same list, another caller')
    }
  )
})

t.test('tools/call', async t => {
  t.test('goes to the tool’s own URL with a body that the gateway built', async t => {
    const site = await siteOf(t, [{ name: 'examples.articles.list' }], result({ nid: 1 }))
    const b = await bench(t, site.url)
    const answer = await b.post(
      {
        jsonrpc: '2.0',
        id: 'mine',
        method: 'tools/call',
        params: {
          name: 'examples.articles.list',
          arguments: { page: { limit: 5 } },
          _meta: { a: 1 }
        }
      },
      {
        traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
        tracestate: 'a=b',
        cookie: 'SESS=1',
        'x-consumer-id': 'evil',
        'x-forwarded-host': 'evil.example',
        forwarded: 'host=evil.example',
        'user-agent': 'Electron/1'
      }
    )
    t.equal(
      answer.text,
      '{"jsonrpc":"2.0","id":"mine","result":{"content":[{"type":"text","text":"{\\"nid\\":1}"}],"structuredContent":{"nid":1}}}'
    )
    const seen = site.seen[1]
    t.match(seen, { method: 'POST', url: '/mcp/tools/examples.articles.list' })
    t.match(JSON.parse(seen?.body ?? ''), {
      jsonrpc: '2.0',
      id: /^c\d+$/,
      method: 'examples.articles.list',
      params: { page: { limit: 5 } }
    })
    t.strictSame(Object.keys(seen?.headers ?? {}).sort(), [
      'accept',
      'authorization',
      'content-length',
      'content-type',
      'host',
      'traceparent',
      'tracestate',
      'user-agent',
      'x-request-id'
    ])
    t.match(seen?.headers, {
      authorization: 'Bearer token-1',
      'x-request-id': 'request-1',
      'user-agent': /^drupal-mcp-gateway/
    })
    await b.post(
      { ...rpc('tools/call', { name: 'examples.articles.list' }) },
      { traceparent: 'not-a-trace', tracestate: 'a=b' }
    )
    const bare = site.seen[2]
    t.match(bare?.headers['traceparent'], /^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/, 'a trace of our own')
    t.notOk(bare?.headers['tracestate'])
    t.notOk('params' in JSON.parse(bare?.body ?? ''), 'no arguments: none are sent')
    await b.post(rpc('tools/call', { name: 'examples.articles.list' }), {
      traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
      tracestate: 'x'.repeat(513)
    })
    t.notOk(site.seen[3]?.headers['tracestate'])
  })

  t.test('a name that is not in the caller’s catalogue never reaches Drupal', async t => {
    const site = await siteOf(t, [{ name: 'a.b' }, { name: '../admin' }], result({}))
    const b = await bench(t, site.url)
    const names = [
      '../a.b',
      '%2e%2e',
      'a.b?x=1',
      'a.b%2f..',
      'a.b\0',
      'x'.repeat(10_000),
      '../admin'
    ]
    for (const name of [...names, 'list', 'toString', '__proto__', '', 5, null, undefined]) {
      const { body } = await b.call(name)
      const message = typeof name === 'string' ? /Unknown tool/ : /needs "name", a string/
      t.match(body, { error: { code: 'GW_INVALID_PARAMS', message } })
    }
    for (const args of [null, [], 'x', 5]) {
      t.match((await b.call('a.b', args)).body, { error: { message: /must be an object/ } })
    }
    t.strictSame(
      site.seen.map(seen => seen.url),
      ['/mcp/tools/list']
    )
  })

  t.test('R19 one answer too many costs one call, and not all that follow', async t => {
    const answer = oneTooMany()
    const site = await siteOf(t, [{ name: 'a' }], (seen, response) => {
      const { id, params } = JSON.parse(seen.body) as { id: string; params: object }
      answer(response, { jsonrpc: '2.0', id, result: params })
    })
    const b = await bench(t, site.url)
    const told = []
    for (let n = 0; n < 6; n++) {
      const { status, body } = await b.call('a', { n }, 1)
      told.push(status === 200 ? body.result?.['structuredContent'] : status)
    }
    t.strictSame(told, [{ n: 0 }, 502, { n: 2 }, { n: 3 }, { n: 4 }, { n: 5 }])
  })

  t.test('results of every type become content', async t => {
    const given: { value?: unknown; raw?: string } = {}
    const output = { name: 'obj', outputSchema: { type: 'object' } }
    const site = await siteOf(t, [{ name: 'any' }, output], (seen, response, request) => {
      if (given.raw === undefined) return result(given.value)(seen, response, request)
      const { id } = JSON.parse(seen.body) as { id: string }
      json(response, `{"jsonrpc":"2.0","id":"${id}","result":${given.raw}}`)
    })
    const b = await bench(t, site.url)
    const texts: [unknown, string][] = [
      ['plain text', 'plain text'],
      [[{ a: 1 }], '[{"a":1}]'],
      [5, '5'],
      [true, 'true'],
      [null, 'null'],
      [[], '[]']
    ]
    for (const [value, text] of texts) {
      given.value = value
      t.strictSame((await b.call('any')).body.result, { content: [{ type: 'text', text }] })
    }
    given.value = []
    t.strictSame(
      (await b.call('obj')).body.result,
      { content: [{ type: 'text', text: '[]' }], structuredContent: {} },
      'PHP writes an empty object as []'
    )
    given.raw = '{"url":"https:\\/\\/x","name":"\\u00e9\\u0027","big":12345678901234567890}'
    const answer = await b.call('obj')
    t.match(answer.text, `"structuredContent":${given.raw}`, 'Drupal’s own bytes')
    t.match(answer.body.result, {
      content: [{ text: `{"url":"https://x","name":"é'","big":12345678901234567890}` }]
    })
  })

  t.test('large results, of one call and in a batch, are each caller’s own', async t => {
    // Their memory is used again: twelve answers, more than the kernel takes, wait on a connection that is not read yet, while
    // others come and go.
    const rows = (n: number) =>
      Array.from({ length: 3000 }, (_, row) => `é ${n}/${row} "${'x'.repeat(80)}"`)
    const site = await siteOf(t, [{ name: 'a.b' }], (seen, response) => {
      const { id, params } = JSON.parse(seen.body) as { id: string; params: { n: number } }
      const text = JSON.stringify({ rows: rows(params.n) }).replaceAll('/', '\\/')
      json(response, `{"jsonrpc":"2.0","id":"${id}","result":${text}}`)
    })
    const b = await bench(t, site.url)
    const call = (n: number) => rpc('tools/call', { name: 'a.b', arguments: { n } }, n)
    const expected = (n: number) => {
      const structuredContent = { rows: rows(n) }
      return {
        content: [{ type: 'text', text: JSON.stringify(structuredContent) }],
        structuredContent
      }
    }
    const held = Array.from({ length: 12 }, (_, index) => index + 100)
    const slow = connect(Number(new URL(b.app.listeningOrigin).port), '127.0.0.1').pause()
    for (const n of held) {
      const body = JSON.stringify(call(n))
      const head = `POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${body.length}`
      slow.write(`${head}\r\n\r\n${body}`)
    }
    while (site.seen.length < held.length + 1) await new Promise(setImmediate)
    for (let n = 10; n < 20; n++) {
      const { body, headers } = await b.post(call(n))
      t.strictSame(body.result, expected(n), `${n}`)
      t.match(headers, {
        'content-type': 'application/json; charset=utf-8',
        'content-length': /^\d+$/
      })
    }
    const batch = (await b.post([call(20), call(21)])).body as unknown as Answered['body'][]
    t.strictSame(
      batch.map(({ result }) => result),
      [expected(20), expected(21)]
    )
    b.as.era = 'modern'
    t.match((await b.post(call(22))).body.result, { resultType: 'complete', ...expected(22) })
    let read = ''
    for await (const bytes of slow.setEncoding('utf8')) {
      read += bytes as string
      if (read.split('HTTP/1.1 200').length > held.length && read.endsWith(']}}}')) break
    }
    const answers = read.split(/HTTP\/1\.1 200[^]*?\r\n\r\n/).slice(1)
    t.strictSame(
      answers.map(text => (JSON.parse(text) as Answered['body']).result),
      held.map(expected)
    )
  })

  t.test('a tool that failed is a result with isError; its exception stays inside', async t => {
    const { b } = await againstDouble(t)
    const failed = await b.call('demo.fail', { message: 'kaboom in /var/www' })
    t.equal(failed.status, 200)
    t.strictSame(failed.body.result, {
      content: [{ type: 'text', text: 'The tool failed on the site. Its log says why.' }],
      isError: true
    })
    t.strictSame(b.outcomes, ['tool-error'])
    t.match(b.log.warnings, [{ tool: 'demo.fail', reason: /kaboom/, requestId: 'request-1' }])
    t.match((await b.call('tutorials.read', { id: 'x' })).body.result, {
      content: [{ text: /^Invalid arguments: .*an integer is required/ }],
      isError: true
    })
  })
})

t.test('R46 R48 batches', async t => {
  const site = await siteOf(t, [{ name: 'a.b' }, { name: 'gone' }], (seen, response, request) => {
    if (seen.url.endsWith('/gone')) html(response, 404)
    else result({ ok: true })(seen, response, request)
  })
  const b = await bench(t, site.url)

  t.test('each request is answered in its place, notifications are not', async t => {
    const { status, body } = await b.post([
      rpc('ping', undefined, 1),
      { jsonrpc: '2.0', method: 'notifications/initialized' },
      rpc('tools/call', { name: 'a.b' }, 'two'),
      rpc('tools/call', { name: 'gone' }, 3),
      rpc('nope', undefined, 4)
    ])
    t.equal(status, 200)
    t.match(body, [
      { jsonrpc: '2.0', id: 1, result: {} },
      { id: 'two', result: { structuredContent: { ok: true } } },
      { id: 3, error: { code: -32603, message: /no route/ } },
      { id: 4, error: { code: -32601 } }
    ])
    t.equal((body as unknown as unknown[]).length, 4)
    t.strictSame(b.outcomes, ['ok', 'ok', 'ok', 'GW_TOOL_UNREACHABLE', 'GW_METHOD_NOT_FOUND'])
  })

  t.test('lists are refused where too many of them come together, and nothing has run', async t => {
    const tools = [{ name: 'a.b', description: 'é'.repeat(10_000) }]
    const large = await siteOf(t, tools, () => t.fail('nothing is called'))
    const drupal = { maxResponseBytes: 30_000 }
    const { body, text } = await (await bench(t, large.url, { drupal })).post([
      rpc('ping', undefined, 0),
      ...[1, 2, 3].map(id => rpc('tools/list', undefined, id))
    ])
    const [ping, first, second, third] = body as unknown as Answered['body'][]
    t.strictSame(ping?.result, {})
    for (const each of [first, second]) t.match(each?.result, { tools: [{ name: 'a.b' }] })
    t.match(third, { id: 3, error: { code: -32603, message: /larger than .* relays\.$/ } })
    t.ok(Buffer.byteLength(text) < 41_000)
  })

  t.test('notifications only: 202', async t => {
    const answer = await b.post([{ jsonrpc: '2.0', method: 'notifications/initialized' }])
    t.equal(answer.status, 202)
  })

  t.test('a token that Drupal refuses is the whole request’s refusal', async t => {
    const { drupal, b } = await againstDouble(t)
    await b.post(rpc('tools/list'))
    drupal.faults.unauthorized = true
    const answer = await b.post([rpc('ping'), rpc('tools/call', { name: 'site.info' }, 2)])
    t.equal(answer.status, 401)
    t.match(answer.body, { error: { code: 'GW_INVALID_TOKEN' } })
  })

  t.test('what nobody foresaw is not swallowed', async t => {
    const { body, status } = await b.post([rpc('initialize', { protocolVersion: 'x' })])
    t.equal(status, 200)
    t.ok(body)
    const broken = await bench(t, site.url)
    Object.defineProperty(broken.as, 'principal', { value: { scopes: 5, key: 'k' } })
    t.equal((await broken.post([rpc('tools/list')])).status, 500)
  })
})

t.test('Drupal has the last word', async t => {
  t.test('a revoked token is 401', async t => {
    const { drupal, b } = await againstDouble(t)
    const { token, jti } = drupal.mint()
    b.as.token = token
    t.equal((await b.call('site.info')).status, 200)
    drupal.revoke(jti)
    const answer = await b.call('site.info')
    t.equal(answer.status, 401)
    t.match(answer.body, { error: { code: 'GW_INVALID_TOKEN' } })
  })

  t.test('also when the list is asked for', async t => {
    const { b } = await againstDouble(t)
    b.as.token = 'abc'
    const error = await refused(b.upstream.catalogue(b.as.principal, b.as.token))
    t.match(error, { code: 'GW_INVALID_TOKEN' })
    t.ok((await b.upstream.catalogue(undefined, undefined)).byName.has('site.info'))
  })

  t.test('an anonymous caller whom Drupal refuses is asked to sign in', async t => {
    const { b } = await againstDouble(t)
    Object.assign(b.as, { principal: undefined, token: undefined })
    t.match((await b.call('site.info')).body, { result: { structuredContent: {} } })
    const answer = await b.call('tutorials.search')
    t.equal(answer.status, 401)
    t.match(answer.body, { error: { code: 'GW_TOKEN_MISSING' } })
  })

  t.test('R88 a scope that Drupal misses is asked for together with those granted', async t => {
    const { drupal, b } = await againstDouble(t)
    b.as.token = drupal.mint({ scopes: ['read:tutorials'] }).token
    b.as.principal = { ...(b.as.principal as Principal), scopes: ['read:tutorials'] }
    const answer = await b.call('tutorials.create', { title: 'x', body: 'y' })
    t.equal(answer.status, 403)
    t.match(answer.body, {
      error: { code: 'GW_INSUFFICIENT_SCOPE' },
      requiredScopes: ['read:tutorials', 'write:tutorials']
    })
  })

  t.test('permission denied as HTTP 200 is forbidden for the caller’s id', async t => {
    const { drupal, b } = await againstDouble(t)
    await b.post(rpc('tools/list'))
    const tool = drupal.site.tools.find(tool => tool.name === 'site.info')
    if (tool !== undefined) tool.permission = 'bypass node access'
    const answer = await b.call('site.info')
    t.equal(answer.status, 200)
    t.match(answer.body, {
      error: { code: 'GW_UPSTREAM_FORBIDDEN' },
      reason: /bypass node access/
    })
    t.notMatch(JSON.stringify(answer.body.error), /bypass/)
  })
})

t.test('every fault of the site has one answer (issue rows)', async t => {
  const fast = {
    connectTimeoutSeconds: 0.2,
    headersTimeoutSeconds: 0.2,
    callTimeoutSeconds: 0.4,
    maxResponseBytes: 50_000
  }
  const { drupal, b } = await againstDouble(t, { drupal: { ...fast, breakerFailures: 1000 } })
  const rows: [string, () => void, number, object][] = [
    [
      'maintenance',
      () => (drupal.faults.maintenance = true),
      503,
      { error: { code: 'GW_UPSTREAM_MAINTENANCE' }, retryAfterSeconds: 300 }
    ],
    [
      'flood',
      () => (drupal.faults.flood = true),
      429,
      { error: { code: 'GW_UPSTREAM_RATE_LIMITED' }, retryAfterSeconds: 7 }
    ],
    ['HTML', () => (drupal.faults.html200 = true), 502, { error: { code: 'GW_UPSTREAM_INVALID' } }],
    ['login redirect', () => (drupal.faults.redirectLogin = true), 502, { reason: /redirect/ }],
    [
      'redirect to another host',
      () => (drupal.faults.redirectHost = true),
      502,
      { reason: /redirect/ }
    ],
    ['500', () => (drupal.faults.status = 500), 502, { error: { code: 'GW_UPSTREAM_INVALID' } }],
    [
      '403 HTML',
      () => (drupal.faults.status = 403),
      200,
      { error: { code: 'GW_UPSTREAM_FORBIDDEN' } }
    ],
    [
      '502',
      () => (drupal.faults.status = 502),
      502,
      { error: { code: 'GW_UPSTREAM_UNAVAILABLE' } }
    ],
    ['504', () => (drupal.faults.status = 504), 504, { error: { code: 'GW_UPSTREAM_TIMEOUT' } }],
    ['204', () => (drupal.faults.status = 204), 502, { error: { code: 'GW_UPSTREAM_INVALID' } }],
    [
      'missing route',
      () => drupal.faults.missingRoutes.add('site.info'),
      200,
      { error: { code: 'GW_TOOL_UNREACHABLE' } }
    ],
    [
      'empty body',
      () => (drupal.faults.emptyBody = true),
      502,
      { error: { code: 'GW_UPSTREAM_INVALID' } }
    ],
    [
      'truncated body',
      () => (drupal.faults.halfBody = true),
      502,
      { error: { code: 'GW_UPSTREAM_INVALID' } }
    ],
    [
      'slow headers',
      () => (drupal.faults.slowHeadersMs = 2000),
      504,
      { error: { code: 'GW_UPSTREAM_TIMEOUT' } }
    ],
    [
      'slow body',
      () => (drupal.faults.slowBodyMs = 2000),
      504,
      { error: { code: 'GW_UPSTREAM_TIMEOUT' } }
    ],
    [
      'reset before the first byte',
      () => (drupal.faults.resetBefore = true),
      502,
      { error: { code: 'GW_UPSTREAM_UNAVAILABLE' } }
    ],
    [
      'reset after the first byte',
      () => (drupal.faults.resetAfterFirstByte = true),
      502,
      { error: { code: 'GW_UPSTREAM_INVALID' } }
    ],
    [
      'huge body',
      () => (drupal.faults.hugeBody = 1_000_000),
      502,
      { error: { code: 'GW_UPSTREAM_TOO_LARGE' } }
    ],
    [
      'wrong content type',
      () => (drupal.faults.wrongContentType = true),
      502,
      { reason: /no JSON/ }
    ],
    [
      'invalid JSON-RPC',
      () => (drupal.faults.invalidJsonRpc = true),
      502,
      { reason: /no JSON-RPC answer/ }
    ],
    [
      'an answer for another id',
      () => (drupal.faults.otherId = true),
      502,
      { reason: /another id/ }
    ]
  ]
  // Whoever answers this has done nothing.
  const undone = new Set(['login redirect', 'redirect to another host'])
  await b.post(rpc('tools/list'))
  for (const [name, fault, status, expected] of rows) {
    fault()
    const answer = await b.call('site.info', {}, 'mine')
    t.equal(answer.status, status, name)
    t.match(answer.body, expected, name)
    t.notMatch(
      JSON.stringify(answer.body.error),
      /<|secret|127\.0\.0\.1/i,
      `${name}: nothing leaks`
    )
    const isLost = [502, 504].includes(status) && !undone.has(name)
    const { message } = answer.body.error as { message: string }
    t.equal(/may have been carried out/.test(message), isLost, `${name}: says what is unsure`)
    drupal.clearFaults()
    t.match((await b.call('site.info')).body, { result: {} }, `${name}: healed`)
  }
  t.match(b.pool.stats(), { active: 0, queued: 0 })
})

t.test('ending a call', async t => {
  async function slowSite(t: Test) {
    const answers: (() => void)[] = []
    const site = await siteOf(t, [{ name: 'slow' }], (seen, response, request) =>
      answers.push(() => result({ done: true })(seen, response, request))
    )
    const b = await bench(t, site.url)
    await b.post(rpc('tools/list'))
    const until = async (done: () => boolean) => {
      while (!done()) await new Promise(setImmediate)
    }
    return { site, b, answers, until }
  }
  const cancel = (requestId: unknown) => ({
    jsonrpc: '2.0',
    method: 'notifications/cancelled',
    params: { requestId }
  })

  t.test('R49 a cancelled call is ended upstream and has no answer', async t => {
    const { site, b, answers, until } = await slowSite(t)
    const pending = b.call('slow', {}, 7)
    await until(() => answers.length === 1)
    await b.post(cancel('7'))
    t.equal(site.active, 1, '"7" is not 7')
    b.session.principal = 'somebody-else'
    await b.post(cancel(7))
    t.equal(site.active, 1, 'nobody ends another principal’s call')
    b.session.principal = KEY
    await b.post(cancel(7))
    const answer = await pending
    t.equal(answer.status, 202)
    t.equal(answer.text, '')
    t.equal(b.outcomes.at(-1), 'aborted')
    await until(() => site.active === 0)
    const batch = b.post([rpc('tools/call', { name: 'slow' }, 8), rpc('ping', undefined, 9)])
    await until(() => answers.length === 2)
    await b.post(cancel(8))
    t.strictSame((await batch).body, [{ jsonrpc: '2.0', id: 9, result: {} }])
  })

  t.test('the same id twice in one session: the later one can be cancelled', async t => {
    const { b, answers, until } = await slowSite(t)
    const first = b.call('slow', {}, 1)
    await until(() => answers.length === 1)
    const second = b.call('slow', {}, 1)
    await until(() => answers.length === 2)
    answers[0]?.()
    t.equal((await first).status, 200)
    await b.post(cancel(1))
    t.equal((await second).status, 202)
  })

  t.test('R45 a client that goes away does not stop a legacy call', async t => {
    const { site, b, answers, until } = await slowSite(t)
    const controller = new AbortController()
    const gone = fetch(b.app.listeningOrigin, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(rpc('tools/call', { name: 'slow' })),
      signal: controller.signal
    })
    await until(() => answers.length === 1)
    controller.abort()
    await t.rejects(gone)
    for (let i = 0; i < 20; i++) await new Promise(setImmediate)
    t.equal(site.active, 1, 'Drupal works on')
    answers[0]?.()
    await until(() => b.pool.stats().active === 0)
  })
})

t.test('the modern era', async t => {
  const tools = [{ name: 'a.b', outputSchema: { type: 'object' } }]
  const serverInfo = { name: 'drupal-mcp-gateway', title: 'Drupal' }
  const meta = { 'io.modelcontextprotocol/serverInfo': serverInfo }

  t.test('R62–R65 discover and results say what they are and whose', async t => {
    const site = await siteOf(t, tools, result({ ok: true }))
    const b = await bench(t, site.url, { drupal: { catalogueTtlSeconds: 30 } })
    b.as.era = 'modern'
    const discovered = await b.post(rpc('server/discover', {}, 'server-discover-probe-1'))
    t.match(discovered.body, {
      id: 'server-discover-probe-1',
      result: {
        resultType: 'complete',
        _meta: meta,
        ttlMs: 300_000,
        cacheScope: 'private',
        supportedVersions: ['2026-07-28'],
        capabilities: { tools: {} }
      }
    })
    t.notOk(discovered.headers['mcp-session-id'], 'R54 no session')
    t.match((await b.post(rpc('tools/list'))).body.result, {
      resultType: 'complete',
      _meta: meta,
      ttlMs: 30_000,
      cacheScope: 'private',
      tools: [{ name: 'a.b' }]
    })
    const called = (await b.call('a.b')).body.result
    t.match(called, { resultType: 'complete', _meta: meta, structuredContent: { ok: true } })
    t.notOk('ttlMs' in (called ?? {}))
    const unknown = await b.post(rpc('ping'))
    t.equal(unknown.status, 404)
    t.match(unknown.body, { error: { code: 'GW_METHOD_NOT_FOUND' } })
    t.strictSame(
      [...(b.upstream.modernMethods ?? [])],
      ['server/discover', 'tools/list', 'tools/call']
    )
    const notice = { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 1 } }
    t.equal((await b.post(notice)).status, 202)
  })

  t.test('R69 a client that goes away has cancelled: Drupal is not kept at work', async t => {
    let asked = 0
    const site = await siteOf(t, tools, () => asked++)
    const b = await bench(t, site.url)
    b.as.era = 'modern'
    await b.post(rpc('tools/list'))
    const controller = new AbortController()
    const gone = fetch(b.app.listeningOrigin, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(rpc('tools/call', { name: 'a.b' })),
      signal: controller.signal
    })
    while (asked === 0) await new Promise(setImmediate)
    controller.abort()
    const since = performance.now()
    await t.rejects(gone)
    while (site.active > 0) await new Promise(setImmediate)
    t.ok(performance.now() - since < 10_000, 'and not because of a time-out')
    t.match(b.pool.stats(), { active: 0, breaker: 'closed' })
  })

  t.test('a refusal of Drupal is the same as in the legacy era', async t => {
    const { b } = await againstDouble(t)
    b.as.era = 'modern'
    b.as.token = 'abc'
    t.equal((await b.post(rpc('tools/list'))).status, 401)
  })
})

t.test('check', async t => {
  let status = 200
  const site = await startSite(t, (_seen, response) => html(response, status))
  const b = await bench(t, site.url)
  const signal = new AbortController().signal
  for (status of [200, 401, 404]) await b.upstream.check(signal)
  t.match(site.seen[0], { method: 'HEAD', url: '/.well-known/oauth-authorization-server' })
  t.notOk(site.seen[0]?.headers.authorization)
  status = 503
  t.match(await refused(b.upstream.check(signal)), { reason: /503: maintenance/ })
  status = 500
  t.match(await refused(b.upstream.check(signal)), { reason: 'Drupal answers 500' })
  const down = await bench(t, 'http://127.0.0.1:1')
  t.match(await refused(down.upstream.check(signal)), {
    code: 'GW_UPSTREAM_UNAVAILABLE',
    reason: /ECONNREFUSED/
  })
})
