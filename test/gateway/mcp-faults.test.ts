// An upstream that speaks MCP and misbehaves: every row of docs/architecture.md “What Drupal's answers become”, whichever era client and upstream speak, in a body or on
// a stream. Whoever calls gets an answer of its own, and nothing of the site's inside.
import type { ServerResponse } from 'node:http'
import { gzipSync } from 'node:zlib'
import t, { type Test } from 'tap'
import { html, json, oneTooMany, type Site, startSite } from '../drupal/site.ts'
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
import { type Answered, read } from './fixtures/start.ts'

type Answer = (response: ServerResponse, id: unknown) => void

interface Upstream {
  endpoint: string
  /** Answers every request but those that open and list. */
  misbehave(answer: Answer): void
  tools: Record<string, unknown>[]
  site: Site
}

async function legacyUpstream(t: Test): Promise<Upstream> {
  const server: LegacyServer = await startLegacyServer(t)
  return Object.assign(server, {
    site: server,
    misbehave(answer: Answer) {
      server.onRequest = ({ id }, response) => answer(response, id)
    }
  })
}

/** A stateless server of 2026-07-28, as small as can be. */
async function modernUpstream(t: Test): Promise<Upstream> {
  const upstream = { tools: [{ name: 'echo', inputSchema: { type: 'object' } }] }
  let misbehaviour: Answer = (response, id) => json(response, good(id))
  const site = await startSite(t, (seen, response) => {
    const { id, method } = JSON.parse(seen.body) as Message
    if (seen.headers['mcp-protocol-version'] !== '2026-07-28') {
      const error = { code: -32022, message: 'no', data: { supported: ['2026-07-28'] } }
      json(response, { jsonrpc: '2.0', id, error }, 400)
    } else if (method === 'server/discover') {
      const result = { supportedVersions: ['2026-07-28'], capabilities: { tools: {} } }
      json(response, { jsonrpc: '2.0', id, result: { resultType: 'complete', ...result } })
    } else if (method === 'tools/list') {
      const list = { tools: upstream.tools, ttlMs: 1, cacheScope: 'public' }
      json(response, { jsonrpc: '2.0', id, result: { resultType: 'complete', ...list } })
    } else misbehaviour(response, id)
  })
  return Object.assign(upstream, {
    endpoint: `${site.url}/mcp`,
    site,
    misbehave: (answer: Answer) => void (misbehaviour = answer)
  })
}

const good = (id: unknown) => ({
  jsonrpc: '2.0',
  id,
  result: { resultType: 'complete', content: [] }
})

/** Sends a request as a client of this era, under the id `mine`. */
async function clientOf(era: 'legacy' | 'modern', gateway: Before) {
  const authorization = gateway.authorization({ scopes: ['read:tutorials'] })
  const session = era === 'legacy' ? await gateway.initialize(authorization.slice(7)) : {}
  return async (method: string, params: Record<string, unknown> = {}): Promise<Answered> => {
    if (era === 'legacy') return gateway.post(rpc(method, params, 'mine'), session)
    const { body, headers } = modern(method, params, 'mine')
    return gateway.post(body, { authorization, ...headers })
  }
}

const BEARER = 'Bearer realm="OAuth", error="access_denied", error_description="revoked"'
const DENIED = {
  code: -32600,
  message: 'Invalid Request',
  data: "Access Denied: The 'secret permission' permission is required."
}
const EXCEPTION = {
  code: -32603,
  message: 'Internal error',
  data: 'PDOException: SQLSTATE[HY000] Secret in /var/www/html/web/core/lib/Drupal.php:7'
}
const CLASSES = {
  code: -32602,
  message: 'Invalid Params',
  data: 'The value is wrong. Adaptor Drupal\\secret\\Shaper received invalid input data: []'
}
const half = (response: ServerResponse, wait: boolean) => {
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': '1000' })
  response.write('{"jsonrpc":"2.0","id":', () => {
    if (!wait) response.destroy()
  })
}

function zipped(response: ServerResponse, type: string, text: string): void {
  response.writeHead(200, { 'content-type': type, 'content-encoding': 'gzip' })
  response.end(gzipSync(text))
}

/** Whoever answers this has done nothing. */
const undone = new Set(['login redirect', 'redirect elsewhere', 'missing route'])

/** What the upstream does; the status and the JSON-RPC code that the client gets; Retry-After. */
const rows: [string, Answer, number, number, string?][] = [
  ['maintenance mode', r => html(r, 503, { 'retry-after': '300' }), 503, -32603, '300'],
  ['flood control', r => html(r, 429, { 'retry-after': '7' }), 429, 429, '7'],
  ['HTML', r => html(r, 200), 502, -32603],
  ['login redirect', r => html(r, 302, { location: '/user/login' }), 502, -32603],
  ['redirect elsewhere', r => html(r, 302, { location: 'https://evil.example/' }), 502, -32603],
  ['403', r => html(r, 403), 200, 403],
  ['permission denied as HTTP 200', r => json(r, rpcError(null, DENIED)), 200, 403],
  ['the same with its id', (r, id) => json(r, rpcError(id, DENIED)), 200, 403],
  ['drupal/mcp 401', r => json(r, rpcError(null, { code: -32001, message: 'No' }), 401), 200, 403],
  ['missing route', r => html(r, 404), 502, -32603],
  ['500', r => html(r, 500), 502, -32603],
  ['502', r => html(r, 502), 502, -32603],
  ['504', r => html(r, 504), 504, -32603],
  ['no body', r => json(r, ''), 502, -32603],
  ['truncated body', r => half(r, false), 502, -32603],
  [
    'truncated in good order',
    (r, id) => json(r, JSON.stringify(good(id)).slice(0, -3)),
    502,
    -32603
  ],
  ['slow headers', () => {}, 504, -32603],
  ['slow body', r => half(r, true), 504, -32603],
  ['reset before the first byte', r => void r.destroy(), 502, -32603],
  [
    'reset after the first byte',
    r => void r.writeHead(200).write('{', () => r.destroy()),
    502,
    -32603
  ],
  ['huge body', (r, id) => json(r, { ...good(id), padding: 'x'.repeat(50_000) }), 502, -32603],
  [
    'wrong content type',
    (r, id) => r.writeHead(200, { 'content-type': 'text/plain' }).end(JSON.stringify(good(id))),
    502,
    -32603
  ],
  ['no JSON', r => json(r, 'Secret'), 502, -32603],
  ['a coding', (r, id) => zipped(r, 'application/json', JSON.stringify(good(id))), 502, -32603],
  ['events in a coding', r => zipped(r, 'text/event-stream', 'data: Secret\n\n'), 502, -32603],
  [
    'a warning of PHP within it',
    (r, id) => json(r, JSON.stringify(good(id)).replace('[]', '[\n<b>Warning</b>: Secret]')),
    502,
    -32603
  ],
  [
    'NUL within it',
    (r, id) => json(r, JSON.stringify(good(id)).replace('[]', '["\0"]')),
    502,
    -32603
  ],
  ['two bodies', (r, id) => json(r, JSON.stringify(good(id)).repeat(2)), 502, -32603],
  ['no JSON-RPC', r => json(r, { neither: 'Secret' }), 502, -32603],
  ['a request for an answer', (r, id) => json(r, { jsonrpc: '2.0', id, method: 'x' }), 502, -32603],
  [
    'result and error',
    (r, id) => json(r, { ...good(id), error: { code: 1, message: 'x' } }),
    502,
    -32603
  ],
  ['an error that is none', (r, id) => json(r, rpcError(id, 'Secret')), 502, -32603],
  ['an array without the answer', r => json(r, [good('Secret')]), 502, -32603],
  [
    'an array that is cut',
    (r, id) => json(r, JSON.stringify([good(id)]).slice(0, -1)),
    502,
    -32603
  ],
  ['an answer for another id', r => json(r, good('Secret')), 502, -32603],
  ['a result without an id', r => json(r, good(null)), 502, -32603],
  [
    'an error for another id',
    r => json(r, rpcError('Secret', { code: 1, message: 'x' })),
    502,
    -32603
  ],
  ['an exception', (r, id) => json(r, rpcError(id, EXCEPTION)), 200, -32603],
  [
    'an exception as drupal/jsonrpc tells it',
    (r, id) => json(r, rpcError(id, { code: -32603, message: 'Internal Error', data: 'Secret' })),
    200,
    -32603
  ],
  ['an exception without the id', r => json(r, rpcError(null, EXCEPTION)), 200, -32603],
  ['classes', (r, id) => json(r, rpcError(id, CLASSES)), 200, -32602],
  ['a denial for another id', r => json(r, rpcError('Secret', DENIED)), 502, -32603],
  [
    'an error that lost its id',
    r => json(r, rpcError(null, { code: -32000, message: 'x' })),
    200,
    -32000
  ]
]

function rpcError(id: unknown, error: unknown): object {
  return { jsonrpc: '2.0', id, error }
}

const news = {
  jsonrpc: '2.0',
  method: 'notifications/message',
  params: { level: 'info', data: 'news' }
}
/** Asks for them. */
const echoed = {
  name: 'echo',
  arguments: {},
  _meta: { 'io.modelcontextprotocol/logLevel': 'info' }
}

/** The same on a stream, after a first event: the code that the client is told on it. */
const streamRows: [string, Answer, number][] = [
  ['ends without an answer', r => void stream(r).end(), -32603],
  ['has no id to resume at', r => void stream(r).end('id:\ndata:\n\nid: a\0\ndata:\n\n'), -32603],
  ['reset', r => void stream(r).write(': x\n\n', () => r.destroy()), -32603],
  [
    'cut in the middle of the answer',
    r => void stream(r).end('data: {"jsonrpc":"2.0","id":"mi'),
    -32603
  ],
  [
    'cut where it could be a whole answer',
    r => void stream(r).end('data: {"jsonrpc":"2.0","id":"mine","result":{"Secret":{}}'),
    -32603
  ],
  ['huge event', r => void stream(r).write(`data: ${'x'.repeat(50_000)}`), -32603],
  ['no JSON', r => void stream(r).end('data: Secret\n\n'), -32603],
  ['an answer for another id', r => void stream(r, good('Secret')).end(), -32603],
  ['permission denied', r => void stream(r, rpcError(null, DENIED)).end(), 403],
  ['classes', (r, id) => void stream(r, rpcError(id, CLASSES)).end(), -32602],
  [
    'an error that lost its id',
    r => void stream(r, rpcError(null, { code: -32000, message: 'x' })).end(),
    -32000
  ]
]

function stream(response: ServerResponse, ...messages: unknown[]): ServerResponse {
  const send = events(response)
  for (const message of [news, ...messages]) send(message)
  return response
}

/** One event in the same packet as the head. */
function event(response: ServerResponse, data: string): void {
  response.writeHead(200, { 'content-type': 'text/event-stream' }).end(`data: ${data}\n\n`)
}

const env = {
  DRUPAL_MAX_RESPONSE_BYTES: '20000',
  DRUPAL_CONNECT_TIMEOUT: '0.3',
  DRUPAL_HEADERS_TIMEOUT: '0.3',
  DRUPAL_CALL_TIMEOUT: '0.6',
  DRUPAL_BREAKER_FAILURES: '1000'
}
const onePlace = { ...env, DRUPAL_MAX_CONCURRENCY: '1', DRUPAL_MAX_QUEUE: '0' }
const combinations = [
  ['legacy', 'legacy', legacyUpstream],
  ['modern', 'legacy', legacyUpstream],
  ['legacy', 'modern', modernUpstream],
  ['modern', 'modern', modernUpstream]
] as const

for (const [era, other, start] of combinations) {
  t.test(`a ${era} client, a ${other} upstream`, async t => {
    const upstream = await start(t)
    const gateway = await startBefore(t, upstream.endpoint, env)
    const send = await clientOf(era, gateway)
    const echo = () => send('tools/call', echoed)
    t.equal((await echo()).status, 200)

    t.test('every fault has one answer', async t => {
      for (const [name, answer, status, code, retryAfter] of rows) {
        upstream.misbehave(answer)
        const got = await echo()
        t.equal(got.status, status, name)
        t.match(got.json, { id: 'mine', error: { code, message: /\w/ } }, `${name}: for its id`)
        t.notMatch(got.text, /secret|<|127\.0\.0\.1/i, `${name}: nothing leaks`)
        const isLost = [502, 504].includes(status) && !undone.has(name)
        t.equal(/may have been carried out/.test(got.text), isLost, `${name}: says what is unsure`)
        if (retryAfter !== undefined) t.equal(got.headers.get('retry-after'), retryAfter, name)
      }
      upstream.misbehave((response, id) => json(response, `\uFEFF${JSON.stringify(good(id))}`))
      t.match((await echo()).json, { id: 'mine', result: {} }, 'a byte order mark is no fault')
      const codings = gateway.logged.filter(line => line.includes('an answer in the coding gzip'))
      t.equal(codings.length, 2, 'the log says what is wrong')
      for (const none of ['Identity', 'none', 'UTF-8', '']) {
        upstream.misbehave((r, id) => json(r, good(id), 200, { 'content-encoding': none }))
        t.match((await echo()).json, { id: 'mine', result: {} }, `no coding: ${none}`)
      }
    })

    t.test('what is left out is no fault of its connection (R19, R43, R68)', async t => {
      const connections = new Set<unknown>()
      upstream.misbehave((response, id) => {
        connections.add(response.req.socket)
        const [said, answer] = [news, good(id)].map(each => `data: ${JSON.stringify(each)}`)
        event(response, `\nid: 1\n\n${said}\n\n${answer}`)
      })
      for (let calls = 0; calls < 3; calls++) {
        const { json: told } = await send('tools/call', { name: 'echo', arguments: {} })
        t.match(told, { id: 'mine', result: {} })
      }
      t.equal(connections.size, 1, 'an event without data, a log line that nobody asked for')
    })

    t.test('and on a stream', async t => {
      for (const [name, answer, code] of streamRows) {
        upstream.misbehave(answer)
        const got = await echo()
        const answers = got.text.match(/"id":/g) ?? []
        t.equal(got.status, 200, name)
        t.match(got.json, { id: 'mine', error: { code, message: /\w/ } }, `${name}: for its id`)
        t.equal(answers.length, 1, `${name}: once`)
        const isLost = code === -32603
        t.equal(/may have been carried out/.test(got.text), isLost, `${name}: says what is unsure`)
        t.notMatch(got.text, /secret|</i, `${name}: nothing leaks`)
      }
      upstream.misbehave((response, id) => {
        stream(
          response,
          good('Secret'),
          rpcError(id, { code: 7, message: 'first' }),
          good(id)
        ).end()
      })
      const { text } = await echo()
      t.equal(text.match(/"id":/g)?.length, 1, 'one answer, the first that is its own')
      t.match(text, /"id":"mine".*"code":7/)
      t.match(text, /news/, 'news pass')
    })

    t.test('R19 what brought an answer for somebody else brings nothing more', async t => {
      const foreign: [string, (response: ServerResponse) => void][] = [
        ['whole', r => json(r, good('Secret'))],
        ['on a stream', r => void stream(r, good('Secret')).end()],
        ['no JSON', r => html(r, 200)]
      ]
      for (const [name, answer] of foreign) {
        const ports: (number | undefined)[] = []
        for (const misbehave of [answer, (r: ServerResponse, id: unknown) => json(r, good(id))]) {
          upstream.misbehave((response, id) => {
            ports.push(response.req.socket.remotePort)
            misbehave(response, id)
          })
          await echo()
        }
        t.equal(new Set(ports).size, 2, name)
      }
    })

    t.test('401 and a missing scope: our own challenge', async t => {
      const scope = 'Bearer realm="x", error="insufficient_scope", scope="write:tutorials"'
      upstream.misbehave(response => html(response, 403, { 'www-authenticate': scope }))
      const missing = await echo()
      t.equal(missing.status, 403)
      t.match(
        missing.headers.get('www-authenticate'),
        /resource_metadata=.* scope="read:tutorials write:tutorials", error="insufficient_scope"/
      )
      const again = await echo()
      t.equal(again.headers.get('www-authenticate'), missing.headers.get('www-authenticate'))
      upstream.misbehave(response => html(response, 401, { 'www-authenticate': BEARER }))
      const refused = await echo()
      t.equal(refused.status, 401)
      t.match(refused.headers.get('www-authenticate'), /resource_metadata=.*error="invalid_token"/)
    })
  })
}

t.test('an error whose data cannot become a text is told all the same', async t => {
  for (const [era, other, start] of combinations) {
    const upstream = await start(t)
    const gateway = await startBefore(t, upstream.endpoint, onePlace)
    const send = await clientOf(era, gateway)
    for (const data of ['{"toString":1}', `${'['.repeat(9000)}${']'.repeat(9000)}`]) {
      const refused = (id: unknown) =>
        `{"jsonrpc":"2.0","id":${JSON.stringify(id)},"error":{"code":-32600,"message":"no","data":${data}}}`
      for (const [way, answer] of [
        ['whole', (r, id) => json(r, refused(id))],
        ['on a stream', (r, id) => event(r, refused(id))],
        ['on a stream, later', (r, id) => void stream(r).end(`data: ${refused(id)}\n\n`)]
      ] as [string, Answer][]) {
        upstream.misbehave(answer)
        const { json: told } = await send('tools/call', echoed)
        const what = `${era} on ${other}, ${way}: ${data.slice(0, 20)}`
        t.match(told, { id: 'mine', error: { code: -32600, message: 'no' } }, what)
      }
    }
    t.notMatch(gateway.logged.join(''), 'uncaught')
  }
})

t.test('an exception of the site stays there; what else an error says passes', async t => {
  const upstream = await legacyUpstream(t)
  const gateway = await startBefore(t, upstream.endpoint, env)
  const send = await clientOf('legacy', gateway)
  for (const status of [200, 400]) {
    for (const inside of [
      EXCEPTION,
      { code: -32603, message: "ENOENT: no such file, open 'Secret'" },
      { code: -32000, message: 'connect ECONNREFUSED 10.0.0.3:3306' },
      { code: 7, message: 'no', data: { trace: ['Secret\n    at run (file.js:1:1)'] } }
    ]) {
      upstream.misbehave((response, id) => json(response, rpcError(id, inside), status))
      const { status: got, json: answer, text } = await send('prompts/get', { name: 'a' })
      t.equal(got, inside.code === -32000 ? status : 200)
      const error = { code: inside.code, message: 'The site failed. Its log says why.' }
      t.strictSame(answer, { jsonrpc: '2.0', id: 'mine', error })
      t.notMatch(text, /Secret|10\.0/)
    }
    for (const php of [
      'in \\/var\\/www\\/Secret',
      'Secret-\\u003Eload()',
      'SQLST\\u0041TE Secret'
    ]) {
      const body = `{"jsonrpc":"2.0","id":"mine","error":{"code":1,"message":"${php}"}}`
      upstream.misbehave(response => json(response, body, status))
      t.notMatch((await send('prompts/get', { name: 'a' })).text, 'Secret', 'as PHP writes it')
    }
    upstream.misbehave((response, id) => json(response, rpcError(id, CLASSES), status))
    t.strictSame((await send('prompts/get', { name: 'a' })).json.error, {
      code: -32602,
      message: 'Invalid arguments: The value is wrong.'
    })
    for (const outside of [
      { code: -32002, message: 'Resource not found', data: { uri: 'file:///home/a/b.txt' } },
      { code: -32042, message: 'x', data: { elicitations: [{ url: 'https://a.example/app/c' }] } },
      { code: -32603, message: 'The index is being rebuilt.\nTry in 5 minutes.', data: { n: 1 } }
    ]) {
      const body = JSON.stringify(rpcError('mine', outside), null, 1)
      upstream.misbehave(response => json(response, body, status))
      t.equal((await send('prompts/get', { name: 'a' })).text, body)
    }
  }
})

t.test('an exception of the site stays there also where a GET is refused with one', async t => {
  const { endpoint, site } = await legacyUpstream(t)
  const gateway = await startBefore(t, endpoint, env)
  const session = await gateway.initialize(gateway.token())
  async function refusedWith(error: object) {
    site.answer = (_seen, response) => json(response, rpcError(null, error), 409)
    return read(await gateway.listen(session))
  }
  const error = { code: EXCEPTION.code, message: 'The site failed. Its log says why.' }
  const hidden = await refusedWith(EXCEPTION)
  t.equal(hidden.status, 409)
  t.strictSame(hidden.json, { jsonrpc: '2.0', id: null, error })
  const outside = { code: -32000, message: 'Conflict: Only one SSE stream is allowed per session' }
  t.strictSame((await refusedWith(outside)).json.error, outside, 'what is none passes')
})

t.test(
  'R54 who has no session to resume in is told of a lost answer, event ids or not',
  async t => {
    const cut: Answer = response => {
      events(response)({ jsonrpc: '2.0', method: 'notifications/message', params: {} }, 'e1')
      response.end()
    }
    const lost = { id: 'mine', error: { code: -32603, message: /may have been carried out/ } }
    t.test('a modern client', async t => {
      const { endpoint, misbehave } = await modernUpstream(t)
      const send = await clientOf('modern', await startBefore(t, endpoint, env))
      misbehave(cut)
      t.match((await send('tools/call', echoed)).json, lost)
    })
    t.test('a legacy client without a session', async t => {
      const { endpoint, misbehave } = await legacyUpstream(t)
      const gateway = await startBefore(t, endpoint, { ...env, SESSION_REQUIRED: 'false' })
      misbehave(cut)
      const headers = {
        authorization: gateway.authorization(),
        'mcp-protocol-version': '2025-06-18'
      }
      t.match((await gateway.post(rpc('tools/call', echoed, 'mine'), headers)).json, lost)
    })
  }
)

t.test('a GET whose refusal is cut off is 502', async t => {
  const { endpoint, site } = await legacyUpstream(t)
  const gateway = await startBefore(t, endpoint, env)
  const session = await gateway.initialize(gateway.token())
  site.answer = (_seen, response) => {
    response.writeHead(503, { 'content-type': 'application/json', 'content-length': 500 })
    response.write('{"jsonrpc"', () => response.destroy())
  }
  const { status, json: body } = await read(await gateway.listen(session))
  t.match({ status, body }, { status: 502, body: { error: { code: -32603 } } })
  t.notMatch(gateway.logged.join(''), 'uncaught')
})

t.test('an exception of the site stays there also where it refuses to listen', async t => {
  const { endpoint, misbehave } = await modernUpstream(t)
  const gateway = await startBefore(t, endpoint, env)
  const acknowledged = { jsonrpc: '2.0', method: 'notifications/subscriptions/acknowledged' }
  const { body, headers } = modern('subscriptions/listen', {}, 'mine')
  misbehave((response, id) => {
    const messages = [acknowledged, rpcError(id, EXCEPTION)]
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.end(messages.map(message => `data: ${JSON.stringify(message)}\n\n`).join(''))
  })
  const news = messagesOf(
    await gateway.open(body, { ...headers, authorization: gateway.authorization() })
  )
  t.strictSame((await news.next()).value, acknowledged)
  const error = { code: EXCEPTION.code, message: 'The site failed. Its log says why.' }
  t.strictSame((await news.next()).value, { jsonrpc: '2.0', id: 'mine', error })
})

t.test('an answer for another id cannot cross, also where ids are alike', async t => {
  const upstream = await legacyUpstream(t)
  const gateway = await startBefore(t, upstream.endpoint, env)
  const session = await gateway.initialize(gateway.token())
  upstream.misbehave((response, id) => json(response, good(String(id))))
  const number = await gateway.post(rpc('prompts/list', {}, 7), session)
  t.equal(number.json.id, 7, 'a number that came back as a string is the number again')
  for (const spelling of [
    (id: number) => `{"jsonrpc":"2.0","id":${id},"result":{"a":1.0}}`,
    (id: number) => `{"result":{"a":1.0},"jsonrpc":"2.0","id":${id}}`,
    (id: number) => `{"jsonrpc":"2.0","result":{"a":1.0},"id":${id}}\n`,
    (id: number) => ` {"id" : ${id}, "result":{"a":1.0}, "jsonrpc":"2.0"}`
  ]) {
    upstream.misbehave((response, id) => json(response, spelling(Number(id))))
    const { text } = await gateway.post(rpc('prompts/list', {}, 7), session)
    t.equal(text, spelling(7), 'the bytes as they came')
    upstream.misbehave(response => json(response, spelling(8)))
    t.equal((await gateway.post(rpc('prompts/list', {}, 7), session)).status, 502)
  }
})

t.test('a batch: each request has one answer', async t => {
  const upstream = await legacyUpstream(t)
  const server = upstream as unknown as LegacyServer
  server.initializeResult['protocolVersion'] = '2025-03-26'
  const gateway = await startBefore(t, upstream.endpoint, env)
  const session = await gateway.initialize(gateway.token(), '2025-03-26')
  await gateway.post(rpc('tools/list'), session)
  const { answer } = server
  let reply: unknown
  let asStream = false
  const answerBatch: Site['answer'] = (seen, response, request) => {
    if (!seen.body.startsWith('[')) answer(seen, response, request)
    else if (asStream) {
      events(response)(reply)
      response.end()
    } else json(response, reply)
  }
  server.answer = answerBatch
  const batch = [rpc('prompts/list', {}, 1), rpc('prompts/list', {}, 'two')]
  const send = async (answers: unknown) => {
    reply = answers
    return (await gateway.post(batch, session)).json
  }
  t.match(await send([good('two'), good(1)]), [
    { id: 1, result: {} },
    { id: 'two', result: {} }
  ])
  const exact = '{"jsonrpc":"2.0","id":1,"result":{"n": 12345678901234567890, "x":1.0}}'
  for (const isStream of [false, true]) {
    server.answer = (_seen, response) => {
      const body = `[ ${exact} , ${JSON.stringify(good('Secret'))},${JSON.stringify(good('two'))}]`
      if (!isStream) json(response, body)
      else response.writeHead(200, { 'content-type': 'text/event-stream' }).end(`data: ${body}\n\n`)
    }
    const { text } = await gateway.post(batch, session)
    t.match(text, exact, 'R77 as it was written')
    t.notMatch(text, 'Secret')
  }
  server.answer = answerBatch
  const lost = { code: -32603, message: /could not be used/ }
  t.match(await send([good(1), good('Secret')]), [
    { id: 1, result: {} },
    { id: 'two', error: lost }
  ])
  t.match(await send([good(1), rpcError(null, DENIED)]), [
    { id: 1, result: {} },
    { id: 'two', error: { code: 403 } }
  ])
  const whole = { code: -32600, message: 'no batches' }
  t.match(await send(rpcError(null, whole)), [
    { id: 1, error: whole },
    { id: 'two', error: whole }
  ])
  t.match(await send('Secret'), { error: { code: -32603 } })
  asStream = true
  const both = await send([good(1), good('two')])
  t.match(both, [{ id: 1 }, { id: 'two' }], 'a stream with both')
  const one = await send(good(1))
  t.match(one, { id: 'two', error: { code: -32603 } }, 'a stream with one of them')
  const told = async (answers: unknown) => {
    reply = answers
    const { text } = await gateway.post(batch, session)
    return [...text.matchAll(/^data: (.*)$/gm)].flatMap(
      ([, data = '']) => JSON.parse(data) as object
    )
  }
  const cases: [string, unknown, unknown[]][] = [
    ['another’s answer', [good(1), good('Secret'), good('two')], [good(1), good('two')]],
    [
      'a denial with its id',
      [good(1), rpcError('two', DENIED)],
      [good(1), { id: 'two', error: { code: 403 } }]
    ],
    [
      'a denial without',
      [rpcError(null, DENIED)],
      [
        { id: 1, error: lost },
        { id: 'two', error: lost }
      ]
    ],
    [
      'no JSON-RPC',
      ['Secret'],
      [
        { id: 1, error: lost },
        { id: 'two', error: lost }
      ]
    ]
  ]
  for (const [what, answers, wanted] of cases) {
    const found = await told(answers)
    t.match(found, wanted, what)
    t.equal(found.length, wanted.length, what)
    t.notMatch(JSON.stringify(found), /Secret|Access Denied/, what)
  }
})

const padded = { ...news, padding: 'x'.repeat(9000) }
const silent: Answer = response => void events(response)
const huge: Answer = response => events(response)('x'.repeat(50_000))
const many: Answer = response => void stream(response, padded, padded, padded)

t.test('what is unsure is said on a stream that brings no answer, in a batch too', async t => {
  for (const [era, other, start] of combinations.filter(([era, other]) => era !== other)) {
    const upstream = await start(t)
    const gateway = await startBefore(t, upstream.endpoint, env)
    const send = await clientOf(era, gateway)
    const old = await gateway.initialize(gateway.token(), '2025-03-26')
    const alone = async () => (await send('tools/call', echoed)).text
    const batch = async () => (await gateway.post([rpc('tools/call', echoed)], old)).text
    for (const [name, answer, call] of [
      ['silent', silent, alone],
      ['huge', huge, alone],
      ['silent, a batch', silent, batch],
      ['huge, a batch', huge, batch],
      ['huge in all, a batch', many, batch]
    ] as const) {
      if (call === batch && era === 'modern') continue
      upstream.misbehave(answer)
      const said = await call()
      t.match(said, name.startsWith('huge') ? /larger than/ : /in time/, `${other}: ${name}`)
      t.match(said, /may have been carried out/, `${other}: ${name}`)
    }
  }
})

t.test('a bridge that cannot read an answer says what is unsure', async t => {
  for (const [era, other, start] of combinations.filter(([era, other]) => era !== other)) {
    const upstream = await start(t)
    const gateway = await startBefore(t, upstream.endpoint)
    const send = await clientOf(era, gateway)
    const broken = (id: unknown) => JSON.stringify(good(id)).replace('[]', '[}')
    for (const answer of [
      (r, id) => json(r, broken(id)),
      (r, id) => event(r, broken(id))
    ] as Answer[]) {
      upstream.misbehave(answer)
      const { status, text } = await send('tools/call', { name: 'echo', arguments: {} })
      t.equal(status, 502, `${era} on ${other}`)
      t.match(text, /may have been carried out/, `${era} on ${other}`)
    }
  }
})

t.test('an answer on a stream that does not end leaves no place taken', async t => {
  for (const [era, other, start] of combinations.filter(([era, other]) => era !== other)) {
    const upstream = await start(t)
    const gateway = await startBefore(t, upstream.endpoint, onePlace)
    const send = await clientOf(era, gateway)
    upstream.misbehave((response, id) => events(response)(good(id)))
    for (let n = 0; n < 3; n++) {
      const { status, json: answer } = await send('tools/call', { name: 'echo', arguments: {} })
      t.equal(status, 200, `${era} on ${other}`)
      t.match(answer, { id: 'mine', result: {} })
    }
  }
})

t.test('a client that goes does not leave a place taken', async t => {
  for (const [era, other, start] of combinations) {
    const upstream = await start(t)
    const gateway = await startBefore(t, upstream.endpoint, onePlace)
    const send = await clientOf(era, gateway)
    const echo = () => send('tools/call', echoed)
    await echo()
    upstream.misbehave(response => void stream(response))
    const stop = new AbortController()
    const authorization = gateway.authorization()
    const { body, headers } =
      era === 'modern'
        ? modern('tools/call', echoed)
        : {
            body: rpc('tools/call', echoed),
            headers: await gateway.initialize(authorization.slice(7))
          }
    const response = await gateway.open(body, { authorization, ...headers }, stop.signal)
    await messagesOf(response).next()
    t.equal((await echo()).status, 503, `${era} on ${other}: the only place is taken`)
    stop.abort()
    upstream.misbehave((response, id) => json(response, good(id)))
    let status = 503
    for (let n = 0; n < 300 && status === 503; n++) {
      await new Promise(resolve => setTimeout(resolve, 20))
      ;({ status } = await echo())
    }
    t.equal(
      status,
      200,
      `${era} on ${other}: the upstream says nothing more, the place is given back`
    )
  }
})

t.test('R69 a client that goes before the first event', { timeout: 10_000 }, async t => {
  const upstream = await legacyUpstream(t)
  const gateway = await startBefore(t, upstream.endpoint, { DRUPAL_MAX_CONCURRENCY: '1' })
  const authorization = gateway.authorization()
  const { body, headers } = modern('tools/call', { name: 'echo', arguments: {} })
  const begun = new Promise<ServerResponse>(resolve => {
    upstream.misbehave(response => {
      events(response)
      response.write(': working\n\n', () => resolve(response))
    })
  })
  const stop = new AbortController()
  const opening = gateway.open(body, { authorization, ...headers }, stop.signal)
  const gone = closed(await begun)
  // The gateway has read it when the loop has been round.
  for (let turn = 0; turn < 2; turn++) await new Promise(setImmediate)
  stop.abort()
  await t.rejects(opening)
  await gone
  upstream.misbehave((response, id) => json(response, good(id)))
  t.equal((await gateway.post(body, { authorization, ...headers })).status, 200)
})

t.test(
  'R45 a client that goes: what the upstream still says is heard for longer than a call may last',
  async t => {
    for (const [era, other, start] of combinations.filter(([era]) => era === 'legacy')) {
      const upstream = await start(t)
      const gateway = await startBefore(t, upstream.endpoint, env)
      const ended = new Promise<boolean>(resolve => {
        upstream.misbehave((response, id) => {
          const send = events(response)
          response.once('close', () => resolve(response.writableFinished))
          let times = 0
          const timer = setInterval(() => {
            if (++times < 12 && !response.destroyed) send(news)
            else {
              clearInterval(timer)
              response.end(`data: ${JSON.stringify(good(id))}\n\n`)
            }
          }, 100)
          send(news)
        })
      })
      const stop = new AbortController()
      const authorization = gateway.authorization()
      const headers = await gateway.initialize(authorization.slice(7))
      const body = rpc('tools/call', { name: 'echo', arguments: {} })
      const response = await gateway.open(body, { authorization, ...headers }, stop.signal)
      await messagesOf(response).next()
      stop.abort()
      t.equal(await ended, true, `${era} on ${other}`)
    }
  }
)

t.test('flood control of the site makes no legacy server of the gateway', async t => {
  for (const start of [legacyUpstream, modernUpstream]) {
    const upstream = await start(t)
    const gateway = await startBefore(t, upstream.endpoint)
    upstream.site.answer = (_seen, response) => html(response, 429, { 'retry-after': '7' })
    const refused = await (await clientOf('modern', gateway))('server/discover')
    t.equal(refused.status, 503)
    t.equal(refused.headers.get('retry-after'), '7')
    t.match(refused.json, { id: 'mine', error: { data: { retryAfterSeconds: 7 } } })
  }
})

t.test(
  'calls that time out open the breaker, whatever the site says to their cancellation',
  async t => {
    for (const [era, other, start] of combinations) {
      const upstream = await start(t)
      const three = { ...env, DRUPAL_BREAKER_FAILURES: '3' }
      const gateway = await startBefore(t, upstream.endpoint, three)
      const send = await clientOf(era, gateway)
      t.equal((await send('tools/call', echoed)).status, 200)
      upstream.misbehave(() => {})
      const seen = []
      for (let call = 0; call < 4; call++) seen.push((await send('tools/call', echoed)).status)
      t.strictSame(seen, [504, 504, 504, 503], `${era} on ${other}`)
    }
  }
)

t.test('policy.missingScope: hide, in both eras', async t => {
  for (const [era, other, start] of combinations) {
    const upstream = await start(t)
    const auth = { level: 'required', scopes: ['write:tutorials'] }
    upstream.tools.push({ name: 'write', inputSchema: { type: 'object' }, annotations: { auth } })
    const gateway = await startBefore(t, upstream.endpoint, { POLICY_MISSING_SCOPE: 'hide' })
    const what = `${era} on ${other}`
    const send = await clientOf(era, gateway)
    const list = await send('tools/list')
    t.strictSame(
      list.json.result.tools.map(({ name }: { name: string }) => name),
      ['echo'],
      what
    )
    t.equal(list.json.id, 'mine')
    if (era === 'modern') t.equal(list.json.result.cacheScope, 'private', `${what}: R65`)
    const hidden = await send('tools/call', { name: 'write', arguments: {} })
    t.match(hidden.json, { id: 'mine', error: { code: -32602, message: /Unknown tool/ } }, what)
    if (era === 'modern') {
      upstream.tools.pop()
      const whole = await send('tools/list')
      t.equal(whole.json.result.tools.length, 1)
      t.equal(whole.json.result.cacheScope, 'private', `${what}: R64 R65 a page that is whole`)
      upstream.tools.push({ name: 'write', inputSchema: { type: 'object' }, annotations: { auth } })
    }
    const open = await startBefore(t, upstream.endpoint)
    const all = await (await clientOf(era, open))('tools/list')
    t.equal(all.json.result.tools.length, 2, `${what}: step-up shows it`)

    // PHP writes a list with gaps as an object, and what has no name cannot be called.
    const [echo, write] = upstream.tools
    upstream.tools = [{ name: { toString: 1 } }, echo, write] as typeof upstream.tools
    const odd = await send('tools/list')
    t.strictSame([odd.status, odd.json.result.tools], [200, [echo]], `${what}: a name that is none`)
    upstream.tools = { 0: echo, 2: write } as never
    const gaps = await send('tools/list')
    t.strictSame([gaps.status, gaps.json.result.tools], [200, { 0: echo }], `${what}: with gaps`)
    const asking = await startBefore(t, upstream.endpoint, { POLICY_MISSING_SCOPE: 'hide' })
    for (const call of [send, await clientOf(era, asking)]) {
      const refused = await call('tools/call', { name: 'write', arguments: {} })
      t.match(refused.json, { error: { message: /Unknown tool/ } }, `${what}: nor called`)
    }
  }
})

t.test(
  'R65 the scopes of a tool are those of the caller’s own list, also where one comes twice',
  async t => {
    const { site, endpoint } = await modernUpstream(t)
    const { answer } = site
    const list = oneTooMany()
    site.answer = (seen, response, request) => {
      if (!seen.body.includes('"tools/list"')) return answer(seen, response, request)
      const { id } = JSON.parse(seen.body) as Message
      const auth = { level: 'required', scopes: ['write:tutorials'] }
      const isFirst = seen.headers.authorization === first
      const tools = [{ name: 'echo', inputSchema: {}, ...(!isFirst && { annotations: { auth } }) }]
      list(response, { jsonrpc: '2.0', id, result: { resultType: 'complete', tools } })
    }
    const gateway = await startBefore(t, endpoint, env)
    const [first, second] = [2, 3].map(uid =>
      gateway.authorization({ uid, scopes: ['read:tutorials'] })
    )
    const call = async (authorization = '') => {
      const { body, headers } = modern('tools/call', echoed)
      return (await gateway.post(body, { ...headers, authorization })).status
    }
    t.strictSame([await call(first), await call(second), await call(second)], [200, 502, 403])
  }
)

t.test('R60 R78 a tool that is nested without end does not take the list with it', async t => {
  const nested = `${'{"a":'.repeat(20_000)}{"x-mcp-header":"A"}${'}'.repeat(20_000)}`
  const arrays = `${'['.repeat(20_000)}${']'.repeat(20_000)}`
  const auth = '{"auth":{"level":"required","scopes":["write:tutorials"]}}'
  const tools = [
    '{"name":"flat","inputSchema":{"type":"object","properties":{"n":{"const":12345678901234567890}}}}',
    `{"name":"deep","inputSchema":{"type":"object","properties":${nested}}}`,
    `{"name":"wide","inputSchema":{"type":"object","enum":${arrays}}}`,
    `{"name":"write","inputSchema":{"type":"object"},"annotations":${auth}}`
  ]
  const rest = '"resultType":"complete","ttlMs":1,"cacheScope":"private"'
  for (const [era, other, start] of combinations) {
    const { site, endpoint } = await start(t)
    const { answer } = site
    site.answer = (seen, response, request) => {
      if (!seen.body.includes('"tools/list"')) return answer(seen, response, request)
      const id = JSON.stringify((JSON.parse(seen.body) as Message).id)
      response.writeHead(200, { 'content-type': 'application/json' })
      response.end(`{"jsonrpc":"2.0","id":${id},"result":{"tools":[${tools.join(',')}],${rest}}}`)
    }
    for (const policy of ['step-up', 'hide']) {
      const gateway = await startBefore(t, endpoint, { POLICY_MISSING_SCOPE: policy })
      const { status, json: body } = await (await clientOf(era, gateway))('tools/list')
      const what = `${era} on ${other}, ${policy}`
      t.equal(status, 200, what)
      t.strictSame(
        body?.result.tools.map(({ name }: { name: string }) => name),
        ['flat', 'deep', 'wide', ...(policy === 'hide' ? [] : ['write'])],
        what
      )
    }
  }
})

t.test('R43 what a policy hides is not shown by a stream that is taken up again', async t => {
  const server = await startLegacyServer(t)
  const auth = { level: 'required', scopes: ['write:tutorials'] }
  const tools = [{ name: 'write', annotations: { auth } }, { name: 'echo' }]
  const list = (names: unknown) => ({ jsonrpc: '2.0', id: 7, result: { tools: names } })
  const said = [
    { method: 'notifications/message', params: { tools } },
    { jsonrpc: '2.0', id: 6, result: { content: [], big: 1 } },
    [{ jsonrpc: '2.0', id: 5, result: {} }, list(tools)],
    'no object',
    list(tools),
    list('none')
  ]
  const { answer } = server
  server.answer = (seen, response, request) => {
    if (seen.method !== 'GET') return answer(seen, response, request)
    const events = said.map(message => `id: e\ndata: ${JSON.stringify(message)}\n\n`)
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.end(`id: 0\ndata:\n\ndata: no JSON\n\n${events.join('')}`)
  }
  const resume = async (env: Record<string, string>) => {
    const gateway = await startBefore(t, server.endpoint, env)
    const session = await gateway.initialize(gateway.token({ scopes: ['read:tutorials'] }))
    const text = await (await gateway.listen({ ...session, 'last-event-id': 'x' })).text()
    const data = [...text.matchAll(/^data: (.*)$/gm)].map(([, found]) => found as string)
    return data.map(one => JSON.parse(one) as unknown)
  }
  const passing = said.filter(message => message !== 'no object')
  const shown = structuredClone(passing)
  shown[2] = [{ jsonrpc: '2.0', id: 5, result: {} }, list([{ name: 'echo' }])]
  shown[3] = list([{ name: 'echo' }])
  t.strictSame(await resume({ POLICY_MISSING_SCOPE: 'hide' }), shown)
  t.strictSame(await resume({}), passing, 'as it comes where nothing is hidden')
})

t.test('R43 an exception of the site stays there also where a stream brings it again', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token())
  const outside = [
    ': a comment\nid: 1\ndata:\n\n',
    'id: 2\r\ndata: {"id":1,\r\ndata: "jsonrpc":"2.0","result":{"error":{"message":"SQLSTATE"}}}\r\n\r\n',
    'id: 3\rdata: {"jsonrpc": "2.0", "id": 1, "error": {"code": 7, "message": "grüße"}}\r\r'
  ]
  const inside = [rpcError(7, EXCEPTION), [good(8), rpcError(9, EXCEPTION)]]
  const shown = { code: -32603, message: 'The site failed. Its log says why.' }
  const { answer } = server
  server.answer = (seen, response, request) => {
    if (seen.method !== 'GET') return answer(seen, response, request)
    const events = inside.map(message => `id: é\ndata: ${JSON.stringify(message)}\n\n`)
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.end(outside.join('') + events.join(''))
  }
  const text = await (await gateway.listen({ ...session, 'last-event-id': 'x' })).text()
  t.ok(text.includes(outside.join('')), 'what is no such error, byte for byte')
  t.notMatch(text, /Secret/)
  const cleaned = [rpcError(7, shown), [good(8), rpcError(9, shown)]]
  const events = cleaned.map(each => `id: é\ndata: ${JSON.stringify(each)}\n\n`)
  t.ok(text.endsWith(events.join('')), 'and the stream can be resumed behind them')
})

t.test('what PHP writes into a stream reaches nobody', async t => {
  const warning = '<br />\n<b>Warning</b>: Secret in /var/www/html/x.php'
  const said = (data: unknown) =>
    `event: message\n${warning}\nretry: 5\n${warning}\ndata: ${JSON.stringify(data)}\n${warning}\n\n`
  const php = (...messages: unknown[]) =>
    `${warning}\n\n${messages.map(said).join('')}data: PHP Fatal error: Secret\n\ndata: [3]\n\n`
  const notice = { jsonrpc: '2.0', method: 'notifications/tools/list_changed' }
  const stream = (response: ServerResponse, ...messages: unknown[]) =>
    response.writeHead(200, { 'content-type': 'text/event-stream' }).end(php(...messages))
  for (const [era, other, start] of combinations) {
    const upstream = await start(t)
    const gateway = await startBefore(t, upstream.endpoint)
    const send = await clientOf(era, gateway)
    upstream.misbehave((response, id) => void stream(response, notice, good(id)))
    const { text, json: answer } = await send('tools/call', echoed)
    t.match(answer, { id: 'mine', result: {} }, `${era} on ${other}`)
    t.notMatch(text, /secret|<|\[3\]/i, `${era} on ${other}`)
  }

  const legacy = await startLegacyServer(t)
  const { answer } = legacy
  legacy.answer = (seen, response, request) =>
    seen.method === 'GET'
      ? void stream(response, notice, good(1), rpcError(1, { code: 'Secret' }))
      : answer(seen, response, request)
  const before = await startBefore(t, legacy.endpoint)
  const session = await before.initialize(before.token())
  for (const resumed of [{}, { 'last-event-id': 'x' }]) {
    const text = await (await before.listen({ ...session, ...resumed })).text()
    const events = [notice, good(1)].map(
      message => `event: message\nretry: 5\ndata: ${JSON.stringify(message)}\n\n`
    )
    t.equal(text, `: keepalive\n\n${events.join('')}`)
  }

  const site = await modernUpstream(t)
  const gateway = await startBefore(t, site.endpoint)
  site.misbehave((response, id) => void stream(response, notice, good(id)))
  const { body, headers } = modern('subscriptions/listen', { notifications: {} })
  const authorization = gateway.authorization()
  const { text } = await gateway.post(body, { authorization, ...headers })
  t.match(text, 'list_changed')
  t.notMatch(text, /secret|<|\[3\]/i)
})

t.test('R48 what a policy hides is not called from within a batch either', async t => {
  const auth = { level: 'required', scopes: ['write:tutorials'] }
  const write = { name: 'write', inputSchema: { type: 'object' }, annotations: { auth } }
  const legacy = await startLegacyServer(t)
  legacy.initializeResult['protocolVersion'] = '2025-03-26'
  const modern = await modernUpstream(t)
  let called = false
  modern.misbehave((response, id) => {
    called = true
    json(response, good(id))
  })
  for (const upstream of [legacy, modern]) {
    upstream.tools.push(write)
    const gateway = await startBefore(t, upstream.endpoint, { POLICY_MISSING_SCOPE: 'hide' })
    const token = gateway.token({ scopes: ['read:tutorials'] })
    const session = await gateway.initialize(token, '2025-03-26')
    const call = (name: string) => rpc('tools/call', { name, arguments: {} })
    const { json: refused } = await gateway.post([call('write')], session)
    t.match(refused, [{ id: 1, error: { code: -32602, message: /Unknown tool/ } }])
    for (const wrap of [(one: unknown) => one, (one: unknown) => [call('echo'), one]]) {
      const [hidden, unknown] = await Promise.all(
        ['write', 'wrong'].map(name => gateway.post(wrap(call(name)), session))
      )
      t.equal(
        unknown?.text.replaceAll('wrong', 'write'),
        hidden?.text,
        'like one that is not there'
      )
      t.equal(unknown?.status, hidden?.status)
    }
    const { json: all } = await gateway.post([rpc('ping', {}, 'p'), call('write')], session)
    t.match(all, [
      { id: 'p', error: { code: -32602 } },
      { id: 1, error: { code: -32602 } }
    ])
    await gateway.post([call('echo'), call('write')], session)
    t.notOk(called, 'not even the others')
  }
  t.notMatch(legacy.seen.map(({ body }) => body).join(), '"tools/call"')
})

t.test('an event of many lines costs no more than one of few', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token())
  const event = `data: {"jsonrpc":"2.0","id":1,"result":{\n${'data:\n'.repeat(400_000)}data:}}\n\n`
  server.onRequest = (_message, response) => void stream(response).end(event)
  const started = performance.now()
  const answered = await gateway.post(rpc('prompts/get'), session)
  t.ok(answered.text.endsWith(event))
  t.ok(performance.now() - started < 5000)
})
