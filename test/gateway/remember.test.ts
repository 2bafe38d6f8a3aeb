// What a call leaves behind: its trace, its audit line and its measures, also when the client went away.
import t from 'tap'
import { json } from '../drupal/site.ts'
import { events, startBefore, startLegacyServer } from './fixtures/mcp.ts'
import { startGateway } from './fixtures/start.ts'

const call = (name: string, args: object, meta?: object) => ({
  jsonrpc: '2.0',
  id: 1,
  method: 'tools/call',
  params: { name, arguments: args, ...(meta === undefined ? {} : { _meta: meta }) }
})
const TRACE = '0af7651916cd43dd8448eb211c80319c'
const OTHER = '4bf92f3577b34da6a3ce929d0e0e4736'

t.test('the trace', async t => {
  const gateway = await startGateway(t)
  const session = await gateway.initialize(gateway.token())
  const seen = () =>
    gateway.drupal.requests.findLast(({ path }) => path === '/mcp/tools/site.info')?.headers
  const line = () => JSON.parse(gateway.audited.at(-1) as string)
  t.test('goes on where a client began it', async t => {
    await gateway.post(call('site.info', {}), {
      ...session,
      traceparent: `00-${TRACE}-b7ad6b7169203331-01`,
      tracestate: 'a=b'
    })
    t.match(seen()?.['traceparent'], `00-${TRACE}-`)
    t.equal(seen()?.['tracestate'], 'a=b')
    t.equal(line().traceId, TRACE)
  })
  t.test('R77 `_meta` goes before the header', async t => {
    await gateway.post(call('site.info', {}, { traceparent: `00-${OTHER}-b7ad6b7169203331-01` }), {
      ...session,
      traceparent: `00-${TRACE}-b7ad6b7169203331-01`
    })
    t.match(seen()?.['traceparent'], `00-${OTHER}-`)
    t.equal(line().traceId, OTHER)
  })
  t.test('begins here when a client brings none, or garbage', async t => {
    await gateway.post(call('site.info', {}), { ...session, traceparent: 'x'.repeat(200) })
    t.match(seen()?.['traceparent'], /^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/)
    t.match(line().traceId, /^[0-9a-f]{32}$/)
  })
})

/** What the lines that came since the last look say of each call. */
const decisions = (audited: string[]) =>
  audited.splice(0).map(line => {
    const { decision, code, reason } = JSON.parse(line) as Record<string, string>
    return [decision, code, reason]
  })
const permission = "Access Denied: The 'create tutorial content' permission is required."

t.test('R48 each element of a batch has its own decision and reason', async t => {
  const gateway = await startGateway(t, { env: { ADMIN_PORT: '0' } })
  const { site } = gateway.drupal
  const token = gateway.token({ scopes: ['read:tutorials', 'write:tutorials'] })
  const session = await gateway.initialize(token, '2025-03-26')
  await gateway.post(call('site.info', {}), session)
  for (const [role, permissions] of Object.entries(site.roles)) {
    site.roles[role] = permissions.filter(name => name !== 'create tutorial content')
  }
  gateway.audited.length = 0
  const names = ['tutorials.create', 't.absent', 'site.info', 'demo.fail']
  const { status } = await gateway.post(
    names.map(name => call(name, { title: 'x' })),
    session
  )
  t.equal(status, 200)
  t.strictSame(decisions(gateway.audited), [
    ['refused', 'GW_UPSTREAM_FORBIDDEN', `Drupal: -32600 Invalid Request: ${permission}`],
    ['refused', 'GW_INVALID_PARAMS', undefined],
    ['allowed', undefined, undefined],
    ['allowed', undefined, undefined]
  ])
  const { body } = await gateway.gateway.admin!.inject('/metrics')
  const count = (tool: string, outcome: string) =>
    new RegExp(`tool_calls_total\\{tool="${tool}",outcome="${outcome}"\\} (\\d+)`).exec(body)?.[1]
  t.equal(count('tutorials.create', 'GW_UPSTREAM_FORBIDDEN'), '1')
  t.equal(count('site.info', 'ok'), '2', 'what went well beside it did')
  t.equal(count('demo.fail', 'tool-error'), '1')
})

t.test('what an mcp upstream refuses on a stream or in a batch is refused on record', async t => {
  const server = await startLegacyServer(t)
  server.initializeResult['protocolVersion'] = '2025-03-26'
  const error = { code: -32600, message: 'Invalid Request', data: permission }
  const refused = ['refused', 'GW_UPSTREAM_FORBIDDEN', `Drupal: ${permission}`]
  server.onRequest = ({ id }, response) => {
    events(response)({ jsonrpc: '2.0', id, error })
    response.end()
  }
  const { answer } = server
  server.answer = (seen, response, request) => {
    if (!seen.body.startsWith('[')) answer(seen, response, request)
    else {
      json(response, [
        { jsonrpc: '2.0', id: null, error },
        { jsonrpc: '2.0', id: 2, result: {} }
      ])
    }
  }
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token(), '2025-03-26')
  gateway.audited.length = 0
  await gateway.post(call('echo', {}), session)
  t.strictSame(decisions(gateway.audited), [refused])
  await gateway.post([call('echo', {}), { ...call('echo', {}), id: 2 }], session)
  t.strictSame(decisions(gateway.audited), [refused, ['allowed', undefined, undefined]])
  server.onRequest = (_message, response) => {
    events(response)({ jsonrpc: '2.0', method: 'notifications/progress' })
    response.end()
  }
  const { json: lost } = await gateway.post(call('echo', {}), session)
  t.equal(lost.error.code, -32603)
  t.match(decisions(gateway.audited), [['failed', 'GW_UPSTREAM_INVALID']])
})

t.test('the audit line names arguments and never their values', async t => {
  const gateway = await startGateway(t)
  const session = await gateway.initialize(gateway.token())
  await gateway.post(call('tutorials.search', { query: 'a secret wish', limit: 3 }), session)
  const text = gateway.audited.at(-1) as string
  t.notMatch(text, 'a secret wish')
  t.match(JSON.parse(text), {
    type: 'audit',
    subject: '2',
    clientId: 'public',
    method: 'tools/call',
    tool: 'tutorials.search',
    era: 'legacy',
    version: '2025-11-25',
    decision: 'allowed',
    status: 200,
    arguments: [
      { name: 'query', type: 'string', size: 13 },
      { name: 'limit', type: 'number' }
    ]
  })
  t.ok(JSON.parse(text).drupalMs > 0)
})

t.test(
  'the audit line of initialize names its session and the version that it is answered',
  async t => {
    const gateway = await startGateway(t)
    for (const [asked, answered] of [
      ['2025-11-25', '2025-11-25'],
      ['2025-03-26', '2025-03-26'],
      ['1999-01-01', '2025-11-25']
    ] as const) {
      const session = await gateway.initialize(gateway.token(), asked)
      t.equal(session['mcp-protocol-version'], answered)
      const line = JSON.parse(gateway.audited.at(-1) as string)
      t.match(line, { method: 'initialize', era: 'legacy', version: answered })
      await gateway.post(call('site.info', {}), session)
      const { sessionHash } = JSON.parse(gateway.audited.at(-1) as string)
      t.type(sessionHash, 'string')
      t.equal(line.sessionHash, sessionHash, 'and the session that it opened')
    }
  }
)

t.test('R45 a client that went away leaves its line', async t => {
  const gateway = await startGateway(t)
  const session = await gateway.initialize(gateway.token())
  const gone = new AbortController()
  const asked = fetch(gateway.url, {
    method: 'POST',
    signal: gone.signal,
    headers: { ...session, 'content-type': 'application/json', accept: 'application/json' },
    body: JSON.stringify(call('demo.slow', { ms: 300 }))
  })
  while (!gateway.drupal.requests.some(({ path }) => path.endsWith('/demo.slow'))) {
    await new Promise(resolve => setTimeout(resolve, 5))
  }
  gone.abort()
  await t.rejects(asked)
  const lines = () =>
    gateway.audited.map(line => JSON.parse(line)).filter(({ tool }) => tool === 'demo.slow')
  while (lines().length === 0) await new Promise(resolve => setTimeout(resolve, 5))
  t.match(lines()[0], { status: 499, decision: 'allowed' })
  while (gateway.drupal.load.active > 0) await new Promise(resolve => setTimeout(resolve, 5))
  await gateway.post({ jsonrpc: '2.0', id: 2, method: 'ping' }, session)
  t.equal(lines().length, 1, 'one line, not two')
})

t.test('a stream is counted while it is open', async t => {
  const gateway = await startGateway(t, { env: { ADMIN_PORT: '0' } })
  const session = await gateway.initialize(gateway.token())
  const streams = async () => {
    const { body } = await gateway.gateway.admin!.inject('/metrics')
    return ['open', 'opened_total'].map(name =>
      Number(new RegExp(`^mcp_gateway_streams_${name} (\\d+)$`, 'm').exec(body)?.[1])
    )
  }
  t.strictSame(await streams(), [0, 0])
  const news = await fetch(gateway.url, { headers: { ...session, accept: 'text/event-stream' } })
  t.equal(news.status, 200)
  t.strictSame(await streams(), [1, 1])
  const audited = gateway.audited.length
  await news.body?.cancel()
  while (gateway.audited.length === audited) await new Promise(setImmediate)
  t.strictSame(await streams(), [0, 1])
})

t.test('the bytes of a batch are counted once', async t => {
  const gateway = await startGateway(t, { env: { ADMIN_PORT: '0' } })
  const session = await gateway.initialize(gateway.token(), '2025-03-26')
  const counted = async () => {
    const { body } = await gateway.gateway.admin!.inject('/metrics')
    const sum = (name: string) =>
      [...body.matchAll(new RegExp(`^${name}(?:\\{.*\\})? (\\d+)$`, 'gm'))].reduce(
        (total, [, value]) => total + Number(value),
        0
      )
    return [sum('mcp_gateway_received_bytes_total'), sum('mcp_gateway_sent_bytes_total')] as const
  }
  const [receivedBefore, sentBefore] = await counted()
  const batch = Array.from({ length: 9 }, (_, id) => ({ jsonrpc: '2.0', id, method: 'ping' }))
  const { text } = await gateway.post(batch, session)
  const [received, sent] = await counted()
  t.equal(received - receivedBefore, JSON.stringify(batch).length)
  t.equal(sent - sentBefore, text.length)
})
