// What the gateway says when it refuses , and in which order it looks (docs/architecture.md “Which era”): on each kind of upstream, over real
// sockets. How single refusals come about is tested where they are decided.
import { once } from 'node:events'
import { type IncomingMessage, METHODS, request as httpRequest } from 'node:http'
import t, { type Test } from 'tap'
import { json, startSite } from '../drupal/site.ts'
import { type Message, modern, rpc, startBefore, startLegacyServer } from './fixtures/mcp.ts'
import { read, type Started, startGateway } from './fixtures/start.ts'

const metaKey = (name: string) => `io.modelcontextprotocol/${name}`
const claims = (version: unknown, more = {}) => ({
  _meta: { [metaKey('protocolVersion')]: version, [metaKey('clientCapabilities')]: {}, ...more }
})
const headersOf = (method: string, name?: string, version = '2026-07-28') => ({
  'mcp-protocol-version': version,
  'mcp-method': method,
  ...(name !== undefined && { 'mcp-name': name })
})

/** An upstream of the modern era that knows one method beside those that every one has. */
async function startModernSite(t: Test): Promise<string> {
  const site = await startSite(t, ({ body }, response) => {
    const { id, method } = JSON.parse(body) as Message
    const answer = (rest: object, status = 200) =>
      json(response, { jsonrpc: '2.0', id, ...rest }, status)
    if (method === 'server/discover') answer({ result: { supportedVersions: ['2026-07-28'] } })
    else if (method === 'tools/list') answer({ result: { resultType: 'complete', tools: [] } })
    else if (method === 'tools/call')
      answer(
        {
          error: {
            code: -32021,
            message: 'Missing required client capability',
            data: { requiredCapabilities: { sampling: {} } }
          }
        },
        400
      )
    else answer({ error: { code: -32601, message: 'Method not found' } }, 404)
  })
  return `${site.url}/mcp`
}

const upstreams: Record<string, (t: Test) => Promise<Started>> = {
  jsonrpc: t => startGateway(t, { env: { LIMIT_SESSION: 'off', LIMIT_PRINCIPAL: 'off' } }),
  'mcp, legacy': async t => startBefore(t, (await startLegacyServer(t)).endpoint),
  'mcp, modern': async t => startBefore(t, await startModernSite(t))
}

interface Row {
  name: string
  body: unknown
  headers?: Record<string, string>
  status: number
  code: number
  /** Undefined: the answer must have none. */
  id?: unknown
  data?: unknown
}

const list = (params: object, id: unknown = 'q') => rpc('tools/list', params, id)
const both = claims('2026-07-28')
const call = { name: 'search', arguments: {}, ...both }

const modernRows: Row[] = [
  {
    name: 'R57 no _meta',
    body: list({}),
    headers: headersOf('tools/list'),
    status: 400,
    code: -32602,
    id: 'q'
  },
  {
    name: 'R57 no clientCapabilities, whatever else is wrong',
    body: rpc('ping', { _meta: { [metaKey('protocolVersion')]: '2099-01-01' } }, 'q'),
    headers: headersOf('x', 'y', '2025-11-25'),
    status: 400,
    code: -32602,
    id: 'q'
  },
  {
    name: 'R55 another version in the header comes before a version that is not served',
    body: rpc('ping', claims('2099-01-01'), 'q'),
    headers: headersOf('x', 'y'),
    status: 400,
    code: -32020,
    id: 'q'
  },
  {
    name: 'R56 a version that is not served comes before the other headers',
    body: rpc('ping', claims('2099-01-01'), 'q'),
    headers: headersOf('x', 'y', '2099-01-01'),
    status: 400,
    code: -32022,
    id: 'q',
    data: { supported: ['2026-07-28'], requested: '2099-01-01' }
  },
  { name: 'R55 no version header', body: list(both), status: 400, code: -32020, id: 'q' },
  {
    name: 'R58 R73 no Mcp-Method',
    body: list(both),
    headers: { 'mcp-protocol-version': '2026-07-28' },
    status: 400,
    code: -32020,
    id: 'q'
  },
  {
    name: 'R58 another Mcp-Method comes before an unknown method',
    body: rpc('no/such', both, 12345),
    headers: headersOf('tools/list'),
    status: 400,
    code: -32020,
    id: 12345
  },
  {
    name: 'R58 no Mcp-Name',
    body: rpc('tools/call', call, 'q'),
    headers: headersOf('tools/call'),
    status: 400,
    code: -32020,
    id: 'q'
  },
  {
    name: 'R59 Mcp-Name in bad base64',
    body: rpc('tools/call', call, 'q'),
    headers: headersOf('tools/call', '=?base64?c2VhcmN?='),
    status: 400,
    code: -32020,
    id: 'q'
  },
  ...[
    'no/such',
    'initialize',
    'ping',
    'logging/setLevel',
    'resources/subscribe',
    'resources/unsubscribe'
  ].map(method => ({
    name: `R61 ${method}`,
    body: rpc(method, both, 'q'),
    headers: headersOf(method),
    status: 404,
    code: -32601,
    id: 'q'
  })),
  {
    name: 'R14 a posted response',
    body: { jsonrpc: '2.0', id: 1, result: {} },
    headers: headersOf('x'),
    status: 400,
    code: -32600
  },
  {
    name: 'R47 a modern message in a batch',
    body: [list(both), list(both, 'r')],
    headers: headersOf('tools/list'),
    status: 400,
    code: -32600
  },
  {
    name: 'initialize with a modern version header',
    body: rpc('initialize', { protocolVersion: '2025-11-25' }, 'q'),
    headers: headersOf('initialize'),
    status: 400,
    code: -32020,
    id: 'q'
  },
  {
    name: 'R12 no JSON',
    body: '{nope',
    headers: headersOf('tools/list'),
    status: 400,
    code: -32700
  },
  {
    name: 'R12 no JSON-RPC',
    body: '{}',
    headers: headersOf('tools/list'),
    status: 400,
    code: -32600
  },
  {
    name: 'R11 another Content-Type',
    body: list(both),
    headers: { ...headersOf('tools/list'), 'content-type': 'text/plain' },
    status: 415,
    code: -32600
  },
  {
    name: 'R10 nothing acceptable',
    body: list(both),
    headers: { ...headersOf('tools/list'), accept: 'image/png' },
    status: 406,
    code: -32600,
    id: 'q'
  }
]

const legacyRows: Row[] = [
  { name: 'R25 no session', body: rpc('ping', {}, 'q'), status: 400, code: -32600, id: 'q' },
  {
    name: 'R26 an unknown session',
    body: rpc('ping', {}, 'q'),
    headers: { 'mcp-session-id': 'unknown' },
    status: 404,
    code: -32001,
    id: 'q'
  },
  {
    name: 'R35 a version that is not served, before initialize',
    body: rpc('initialize', { protocolVersion: '2025-11-25' }, 'q'),
    headers: { 'mcp-protocol-version': '2024-01-01' },
    status: 400,
    code: -32600,
    id: 'q'
  }
]

async function check(t: Test, gateway: Started, row: Row, more: Record<string, string> = {}) {
  const authorization = `Bearer ${gateway.token()}`
  const answer = await gateway.post(row.body, { authorization, ...more, ...row.headers })
  t.equal(answer.status, row.status, row.name)
  t.equal(answer.json.jsonrpc, '2.0')
  t.equal(answer.json.error.code, row.code, `${row.name}: code`)
  t.equal(answer.json.id, row.id, `${row.name}: R21 the id`)
  t.equal('id' in answer.json, row.id !== undefined, `${row.name}: no null`)
  if (row.data !== undefined) t.strictSame(answer.json.error.data, row.data)
  t.notOk(answer.headers.has('mcp-session-id'))
}

for (const [name, start] of Object.entries(upstreams)) {
  t.test(`the status table on upstream ${name}`, async t => {
    const gateway = await start(t)
    const authorization = `Bearer ${gateway.token()}`
    for (const row of modernRows) await check(t, gateway, row)
    for (const row of legacyRows) await check(t, gateway, row)
    for (const version of ['2025-06-18', '2025-11-25']) {
      const row = { name: `R13 a batch of ${version}`, status: 400, code: -32600 }
      const headers = await gateway.initialize(gateway.token(), version)
      await check(t, gateway, { ...row, body: [rpc('ping'), rpc('ping', {}, 2)] }, headers)
    }
    const session = await gateway.initialize(gateway.token())
    const unready = await gateway.post(rpc('tools/list'), session)
    t.equal(unready.status, 200, 'R30 nobody waits for notifications/initialized')
    const unsupported = await gateway.post(rpc('ping'), {
      ...session,
      'mcp-protocol-version': '2024-01-01'
    })
    t.equal(unsupported.status, 400, 'R35 after initialize')
    t.match(unsupported.json.error.message, /2025-11-25/, 'R35 names what is served')
    t.test('R2 R8 other verbs', async t => {
      const get = (method: string, headers: object) =>
        fetch(gateway.url, { method, headers: { authorization, ...headers } }).then(read)
      for (const method of ['GET', 'DELETE']) {
        const modernVerb = await get(method, {
          ...session,
          accept: 'text/event-stream',
          'mcp-protocol-version': '2026-07-28'
        })
        t.equal(modernVerb.status, 405, `R2 ${method} of a modern client`)
        t.equal(modernVerb.headers.get('allow'), 'POST')
      }
      const head = await get('HEAD', { ...session, accept: 'text/event-stream' })
      t.equal(head.status, 405, 'R8 HEAD opens no stream')
      const blind = await get('GET', { ...session, accept: 'application/json' })
      t.equal(blind.status, 406, 'R39 GET that takes no events')
      for (const method of ['PUT', 'PATCH']) {
        const other = await get(method, headersOf('tools/list'))
        t.equal(other.status, 405)
        t.match(other.headers.get('allow'), /POST/)
      }
      // fetch sends no TRACE.
      for (const method of ['TRACE', 'PROPFIND', 'QUERY'].filter(name => METHODS.includes(name))) {
        const answers = [{ authorization }, {}].map(async headers => {
          const [answer] = (await once(
            httpRequest(gateway.url, { method, headers }).end(),
            'response'
          )) as [IncomingMessage]
          return answer.resume()
        })
        const [signedIn, stranger] = await Promise.all(answers)
        t.equal(signedIn?.statusCode, 405, `R8 ${method}`)
        t.match(signedIn?.headers.allow, /POST/)
        t.equal(stranger?.statusCode, 401, `R39 ${method}: first who`)
      }
      t.equal((await gateway.post(rpc('ping'), session)).status, 200, 'R2 the session is alive')
    })
    t.test('R6 R81 R82 no token: the same OAuth answer in both eras', async t => {
      const { body, headers } = modern('tools/list')
      for (const [asked, more] of [
        [body, headers],
        [rpc('ping'), { 'mcp-session-id': session['mcp-session-id'] as string }]
      ] as [unknown, Record<string, string>][]) {
        const answer = await gateway.post(asked, more)
        t.equal(answer.status, 401)
        t.match(answer.headers.get('www-authenticate'), /resource_metadata="/)
        t.type(answer.json.error, 'string')
        t.type(answer.json.error_description, 'string')
      }
    })
  })
}

t.test('R67 -32021 of a modern upstream arrives, with its data', async t => {
  const gateway = await startBefore(t, await startModernSite(t))
  const { body, headers } = modern('tools/call', { name: 'search', arguments: {} }, 'q')
  const answer = await gateway.post(body, { authorization: gateway.authorization(), ...headers })
  t.equal(answer.status, 400)
  t.match(answer.json, {
    id: 'q',
    error: { code: -32021, data: { requiredCapabilities: { sampling: {} } } }
  })
})

t.test('R70 input_required and requestState pass byte for byte, both ways', async t => {
  const state = '"opaque \\u00e9 /+== 12345678901234567890"'
  const asked = `{"jsonrpc":"2.0", "id":"q","result":{"resultType":"input_required","requestState":${state},"inputRequests":{"a":{"method":"elicitation/create","params":{"n":1.0}}}}}`
  const site = await startSite(t, ({ body }, response) => {
    const { id, method } = JSON.parse(body) as Message
    if (method === 'server/discover')
      json(response, { jsonrpc: '2.0', id, result: { supportedVersions: ['2026-07-28'] } })
    else if (method === 'tools/list') json(response, { jsonrpc: '2.0', id, result: { tools: [] } })
    else json(response, asked)
  })
  const gateway = await startBefore(t, `${site.url}/mcp`)
  const { body, headers } = modern('tools/call', { name: 'search', arguments: {} }, 'q')
  const sent = { authorization: gateway.authorization(), ...headers }
  t.equal((await gateway.post(body, sent)).text, asked)
  const retry = JSON.stringify(body).replace(
    '"arguments":{}',
    `"arguments":{}, "requestState" : ${state},"inputResponses":{"a":{"n":2.50}}`
  )
  t.equal((await gateway.post(retry, sent)).status, 200)
  t.equal(site.seen.at(-1)?.body, retry)
  const asks = site.seen.length
  t.equal((await gateway.post(retry, headers)).status, 401, 'R96 a state is no token')
  t.equal(site.seen.length, asks)
  const other = gateway.authorization({ uid: 3 })
  await gateway.post(retry, { ...headers, authorization: other })
  t.equal(site.seen.at(-1)?.headers.authorization, other, 'R96 the upstream sees who brings it')
})
