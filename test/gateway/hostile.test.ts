// Bad input over real sockets: whatever a client or Drupal sends, the answer is an exact status and a JSON body, nothing from
// inside shows, and the gateway serves the next request.
import { once } from 'node:events'
import { connect } from 'node:net'
import { brotliCompressSync, gzipSync } from 'node:zlib'
import t, { type Test } from 'tap'
import type { Faults } from '../../src/demo/faults.ts'
import { principalKey } from '../../src/auth/principal.ts'
import { createSessions } from '../../src/mcp/session.ts'
import { createMemoryStore } from '../../src/store/memory.ts'
import { type Answered, read, type Started, startGateway } from './fixtures/start.ts'

const PING = { jsonrpc: '2.0', id: 7, method: 'ping' }
const call = (name: unknown, args?: unknown, id: unknown = 7) => ({
  jsonrpc: '2.0',
  id,
  method: 'tools/call',
  params: { name, ...(args === undefined ? {} : { arguments: args }) }
})

/** What must never be in an answer: stacks, Drupal's pages, addresses, tokens. */
function isClean(t: Test, { text }: Answered, { drupal }: Started): void {
  t.notMatch(text, /<html|<!doctype|node_modules|\.ts:\d|at \w+ \(|ECONN|eyJ|stack/i)
  t.notMatch(text, new URL(drupal.url).host)
}

async function alive(t: Test, gateway: Started, session: Record<string, string>) {
  const { status, json } = await gateway.post(PING, session)
  t.equal(status, 200, 'the gateway lives on')
  t.strictSame(json, { jsonrpc: '2.0', id: 7, result: {} })
}

t.test('bodies', async t => {
  const gateway = await startGateway(t)
  const session = await gateway.initialize(gateway.token())
  const rows: [string, string | Uint8Array, number, number, Record<string, string>?][] = [
    ['R12 not JSON', '{nope', 400, -32700],
    ['R12 not JSON-RPC', '{"hello":1}', 400, -32600],
    ['R12 a JSON string', '"x"', 400, -32600],
    ['R12 null', 'null', 400, -32600],
    ['R12 empty', '', 400, -32700],
    ['R12 invalid UTF-8', new Uint8Array([0x22, 0xff, 0xfe, 0x22]), 400, -32700],
    [
      'R12 5 MiB',
      `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"${'x'.repeat(5 << 20)}"}}`,
      413,
      -32600
    ],
    ['R11 text/plain', JSON.stringify(PING), 415, -32600, { 'content-type': 'text/plain' }],
    [
      'R11 a media type that only begins like JSON',
      JSON.stringify(PING),
      415,
      -32600,
      { 'content-type': 'application/json-seq' }
    ],
    [
      'R11 a media type in a parameter',
      JSON.stringify(PING),
      415,
      -32600,
      { 'content-type': 'text/plain; x=application/json' }
    ],
    ['R10 nothing acceptable', JSON.stringify(PING), 406, -32600, { accept: 'text/html' }],
    ['R18 a null id', '{"jsonrpc":"2.0","id":null,"method":"ping"}', 400, -32600],
    ['R18 a fractional id', '{"jsonrpc":"2.0","id":1.5,"method":"ping"}', 400, -32600],
    ['R13 a batch after 2025-03-26', JSON.stringify([PING]), 400, -32600],
    ['R47 an empty batch', '[]', 400, -32600],
    [
      '`__proto__` at the top',
      '{"jsonrpc":"2.0","id":1,"method":"ping","__proto__":{"x":1}}',
      400,
      -32600
    ],
    [
      '`__proto__` deep in arguments',
      '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"site.info","arguments":{"a":{"__proto__":{"x":1}}}}}',
      400,
      -32600
    ],
    [
      '`constructor.prototype`',
      '{"jsonrpc":"2.0","id":1,"method":"ping","params":{"constructor":{"prototype":{"x":1}}}}',
      400,
      -32600
    ]
  ]
  for (const [name, body, status, code, headers] of rows) {
    await t.test(name, async t => {
      const answer = await gateway.post(body, { ...session, ...headers })
      t.equal(answer.status, status)
      t.equal(answer.json.error.code, code)
      t.notOk('id' in answer.json && answer.json.id === null, 'R21 no null id')
      isClean(t, answer, gateway)
    })
  }
  t.equal(({} as Record<string, unknown>)['x'], undefined, 'no prototype was touched')
  await alive(t, gateway, session)
})

t.test('R11 a compressed body: 415, and what to send instead', async t => {
  const gateway = await startGateway(t)
  const session = await gateway.initialize(gateway.token())
  for (const [coding, body] of [
    ['gzip', gzipSync(JSON.stringify(PING))],
    ['br', brotliCompressSync(JSON.stringify(PING))],
    ['gzip', JSON.stringify(PING)]
  ] as const) {
    const answer = await gateway.post(body, { ...session, 'content-encoding': coding })
    t.equal(answer.status, 415)
    t.equal(answer.headers.get('accept-encoding'), 'identity', 'RFC 9110 §15.5.16')
    t.equal(answer.json.error.code, -32600)
    t.match(answer.json.error.message, 'Content-Encoding')
  }
  const refused = await gateway.post(PING, { 'content-encoding': 'gzip' })
  t.equal(refused.status, 401, 'who calls is asked first')
  await alive(t, gateway, { ...session, 'content-encoding': 'identity' })
})

t.test('a body that nobody reads is not waited for', async t => {
  const gateway = await startGateway(t)
  const paths: [string, number][] = [
    ['/', 404],
    ['/nothing', 404],
    ['/livez', 404],
    ['/.well-known/oauth-protected-resource', 404],
    ['/mcp/nothing', 404],
    ['/mcp', 401]
  ]
  const { hostname, port } = new URL(gateway.origin)
  for (const [path, status] of paths) {
    for (const type of ['application/json', 'text/plain', 'application/xml', undefined]) {
      const socket = connect(Number(port), hostname)
      const line = type === undefined ? '' : `Content-Type: ${type}\r\n`
      socket.write(
        `POST ${path} HTTP/1.1\r\nHost: localhost\r\n${line}Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n`
      )
      const [answer] = (await once(socket, 'data')) as [Buffer]
      t.match(answer.toString(), new RegExp(`^HTTP/1\\.1 ${status} `), `${path} ${type}`)
      socket.resume().write('1\r\n}\r\n0\r\n\r\n')
      await once(socket, 'end')
    }
  }
})

t.test('R81 Authorization headers', async t => {
  const gateway = await startGateway(t)
  const good = gateway.token()
  const raw = (lines: string[]) =>
    new Promise<string>((resolve, reject) => {
      const { hostname, port } = new URL(gateway.origin)
      const socket = connect(Number(port), hostname)
      let text = ''
      socket.on('data', chunk => (text += chunk.toString()))
      socket.on('end', () => resolve(text)).on('error', reject)
      socket.end(
        `POST /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${lines.map(l => `${l}\r\n`).join('')}Content-Length: 0\r\n\r\n`
      )
    })
  const rows: [string, string[], number][] = [
    ['twice the same', [`Authorization: Bearer ${good}`, `Authorization: Bearer ${good}`], 400],
    [
      'twice, in other spelling',
      [`Authorization: Bearer ${good}`, 'aUTHORIZATION: Bearer other'],
      400
    ],
    ['of two schemes', ['Authorization: Basic eDp5', `Authorization: Bearer ${good}`], 400],
    ['no token', ['Authorization: Bearer'], 400],
    ['two tokens', [`Authorization: Bearer ${good} ${good}`], 400],
    ['a comma list', [`Authorization: Bearer ${good}, Bearer x`], 400],
    ['quotes', [`Authorization: Bearer "${good}"`], 400],
    ['another scheme', ['Authorization: Basic eDp5'], 401],
    ['empty', ['Authorization: '], 401]
  ]
  for (const [name, lines, status] of rows) {
    await t.test(name, async t => {
      const text = await raw(lines)
      t.match(text, new RegExp(`^HTTP/1.1 ${status} `))
      t.match(text, /www-authenticate: Bearer .*resource_metadata="/i)
      t.type(JSON.parse(text.slice(text.indexOf('\r\n\r\n') + 4)).error, 'string')
    })
  }
  t.test('R80 a token in the query does not count', async t => {
    const { status } = await read(
      await fetch(`${gateway.url}?access_token=${good}`, { method: 'POST' })
    )
    t.equal(status, 401)
  })
  t.test('R79 headers over the limit: 431', async t => {
    t.match(
      await raw([`X-Big: ${'x'.repeat(20_000)}`]),
      /^HTTP\/1.1 431 [\s\S]*\r\nCache-Control: no-store\r\n[\s\S]*"code":-32600/
    )
  })
  t.test('R3 R4 R7 R79 a field is seen behind a thousand others', async t => {
    const token = `Authorization: Bearer ${good}`
    const many = Array.from({ length: 1500 }, () => 'a:')
    for (const [line, status] of [
      ['Origin: https://evil.example', 403],
      ['Host: evil.example', 403],
      [token.toLowerCase(), 400]
    ] as const) {
      const text = await raw([token, 'Content-Type: application/json', ...many, line])
      t.match(text, new RegExp(`^HTTP/1.1 ${status} `), line)
    }
  })
})

t.test('what Node’s parser does not take for a request', async t => {
  const gateway = await startGateway(t)
  const { hostname, port } = new URL(gateway.origin)
  const send = (bytes: string) =>
    new Promise<string>((resolve, reject) => {
      let all = ''
      const socket = connect(Number(port), hostname).on('error', reject)
      socket.on('data', chunk => (all += chunk.toString())).on('end', () => resolve(all))
      socket.end(bytes)
    })
  for (const bytes of ['\x16\x03\x01 hello\r\n\r\n', 'FOO\r\n\r\n', 'FOO /mcp HTTP/3\r\n\r\n']) {
    const text = await send(bytes)
    t.match(text, /^HTTP\/1.1 400 [\s\S]*application\/json[\s\S]*"code":-32600/, 'no HTTP at all')
    t.notMatch(text, /^Allow:/im)
  }
  for (const method of ['FOO', 'post', 'X-1'])
    t.match(
      await send(`${method} /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n`),
      /^HTTP\/1.1 405 Method Not Allowed\r\nAllow: GET, POST, DELETE, OPTIONS\r\n[\s\S]*"code":-32600/,
      `R8 ${method}`
    )
})

t.test(
  'R4 with a loopback public URL: any port of a loopback name, and nothing that only looks so',
  async t => {
    const gateway = await startGateway(t)
    const session = await gateway.initialize(gateway.token())
    for (const origin of [
      'http://localhost',
      'http://127.0.0.1:8080',
      'https://[::1]:1',
      'http://LOCALHOST:6274'
    ])
      t.equal((await gateway.post(PING, { ...session, origin })).status, 200, origin)
    for (const origin of [
      'http://localhost/, http://evil.example',
      'http://evil@localhost',
      'http://localhost/path',
      'http://localhost?x',
      'ftp://localhost'
    ]) {
      const { status, headers } = await gateway.post(PING, { ...session, origin })
      t.equal(status, 403, origin)
      t.equal(headers.get('access-control-allow-origin'), null)
    }
  }
)

t.test('R28 a session ends whatever content its DELETE names', async t => {
  const gateway = await startGateway(t)
  for (const [type, body] of [
    ['application/json', undefined],
    ['application/x-www-form-urlencoded', undefined],
    ['text/plain', 'bye'],
    [undefined, undefined]
  ] as const) {
    const session = await gateway.initialize(gateway.token())
    const headers = { ...session, ...(type !== undefined && { 'content-type': type }) }
    const ended = await fetch(gateway.url, { method: 'DELETE', headers, ...(body && { body }) })
    t.equal(ended.status, 204, String(type))
    t.equal((await gateway.post(PING, session)).status, 404, 'it is over')
  }
})

t.test(
  'R48 what is no notification needs an id: nobody would have looked at its scopes',
  async t => {
    const gateway = await startGateway(t)
    const session = await gateway.initialize(gateway.token(), '2025-03-26')
    const call = { jsonrpc: '2.0', method: 'tools/call', params: { name: 'site.info' } }
    for (const body of [call, [call], [PING, call], { jsonrpc: '2.0', method: 'ping' }]) {
      const answer = await gateway.post(body, session)
      t.equal(answer.status, 400)
      t.equal(answer.json.error.code, -32600)
      t.notOk('id' in answer.json)
      t.match(answer.json.error.message, /Only notifications go without an id/)
    }
    const notice = { jsonrpc: '2.0', method: 'notifications/nobody-knows' }
    t.equal((await gateway.post(notice, session)).status, 202)
  }
)

t.test('URLs that no route can be looked up for', async t => {
  const gateway = await startGateway(t)
  const session = await gateway.initialize(gateway.token())
  for (const [url, status] of [
    ['/%zz', 400],
    ['/mcp%', 400],
    ['/.well-known/%c0%ae', 400],
    [`/.well-known/${'a'.repeat(9000)}`, 404],
    [`/${'a'.repeat(9000)}`, 404]
  ] as const) {
    for (const method of ['GET', 'POST']) {
      await t.test(`${method} ${url.slice(0, 40)}`, async t => {
        const answer = await read(await fetch(gateway.origin + url, { method, headers: session }))
        t.equal(answer.status, status)
        t.match(answer.headers.get('content-type'), /^application\/json/)
        t.equal(answer.json.error.code, -32600)
        t.notMatch(answer.text, /FST_|aaaa|%/, 'neither the framework nor the URL shows')
        isClean(t, answer, gateway)
      })
    }
  }
  await alive(t, gateway, session)
})

t.test('R87 tokens', async t => {
  const gateway = await startGateway(t)
  const { drupal } = gateway
  const { startDrupal } = await import('../../src/demo/double.ts')
  const stranger = await startDrupal()
  t.teardown(() => stranger.close())
  const good = gateway.token()
  const [head = '', body = '', signature = ''] = good.split('.')
  const rows: [string, string][] = [
    ['expired', drupal.mint({ expiresIn: -60 }).token],
    ['not yet valid', drupal.mint({ claims: { nbf: Math.floor(Date.now() / 1000) + 3600 } }).token],
    ['alg none', drupal.mint({ header: { alg: 'none' } }).token],
    ['alg none, spelt otherwise', drupal.mint({ header: { alg: 'NoNe' } }).token],
    ['HS256, signed with the public key', drupal.mint({ header: { alg: 'HS256' } }).token],
    ['another issuer', drupal.mint({ claims: { iss: 'https://evil.example/' } }).token],
    ['another key', stranger.mint().token],
    [
      'another audience: a URL that is not this resource',
      drupal.mint({ claims: { aud: 'https://other.example/mcp' } }).token
    ],
    ['no scope of this resource', drupal.mint({ scopes: ['openid'] }).token],
    ['truncated', good.slice(0, -20)],
    ['without its signature', `${head}.${body}.`],
    ['a changed payload', `${head}.${body.slice(0, -2)}AA.${signature}`],
    ['not a JWT', 'abc'],
    ['two parts', `${head}.${body}`]
  ]
  for (const [name, token] of rows) {
    await t.test(`refuses a token: ${name}`, async t => {
      const answer = await gateway.post(PING, { authorization: `Bearer ${token}` })
      t.equal(answer.status, 401)
      t.match(answer.headers.get('www-authenticate'), /error="invalid_token"/)
      t.equal(answer.json.error, 'invalid_token')
      isClean(t, answer, gateway)
    })
  }
  t.equal(
    drupal.requests.filter(({ path }) => path.startsWith('/mcp/tools')).length,
    0,
    'R91 nothing was relayed'
  )
  t.notMatch(gateway.logged.join('') + gateway.audited.join(''), good, 'no token in any log line')
})

t.test('R26 R93 sessions', async t => {
  const gateway = await startGateway(t)
  const mine = gateway.token()
  const session = await gateway.initialize(mine)
  const id = session['mcp-session-id'] as string
  const middle = Math.floor(id.length / 2)
  const flipped = id.slice(0, middle) + (id[middle] === 'A' ? 'B' : 'A') + id.slice(middle + 1)
  const notFound = { status: 404, json: { error: { code: -32001, message: 'Session not found' } } }
  t.test('R24 the id is visible ASCII', async t => t.match(id, /^[\x21-\x7e]+$/))
  t.test('tampered', async t =>
    t.match(await gateway.post(PING, { ...session, 'mcp-session-id': flipped }), notFound)
  )
  t.test('made up', async t =>
    t.match(await gateway.post(PING, { ...session, 'mcp-session-id': 'abc' }), notFound)
  )
  t.test('foreign: another user', async t => {
    const authorization = `Bearer ${gateway.token({ uid: 3, scopes: ['read:tutorials'] })}`
    for (const method of ['POST', 'GET', 'DELETE']) {
      const answer = await read(
        await fetch(gateway.url, {
          method,
          headers: {
            ...session,
            authorization,
            'content-type': 'application/json',
            accept: 'text/event-stream, application/json'
          },
          ...(method === 'POST' ? { body: JSON.stringify(PING) } : {})
        })
      )
      t.match(answer, notFound, `${method} cannot be told from an unknown id`)
    }
  })
  t.test('expired', async t => {
    const longAgo = createSessions({
      secrets: gateway.config.session.secrets,
      lifetimeSeconds: 3600,
      store: createMemoryStore(),
      now: () => Date.now() - gateway.config.session.lifetimeSeconds * 1000
    })
    const { issuer } = gateway.drupal
    const principal = principalKey(issuer, '2', 'public')
    const { sealed } = longAgo.seal({ principal, version: '2025-11-25', upstream: undefined })
    for (const method of ['POST', 'GET', 'DELETE']) {
      const headers = { ...session, 'mcp-session-id': sealed, 'content-type': 'application/json' }
      const body = method === 'POST' ? { body: JSON.stringify(PING) } : {}
      t.match(await read(await fetch(gateway.url, { method, headers, ...body })), notFound, method)
    }
    const young = createSessions({
      secrets: gateway.config.session.secrets,
      lifetimeSeconds: 3600,
      store: createMemoryStore()
    })
    const alive = young.seal({ principal, version: '2025-11-25', upstream: undefined })
    const now = await gateway.post(PING, { ...session, 'mcp-session-id': alive.sealed })
    t.equal(now.status, 200, 'the same id, but younger, is good')
  })
  t.test('R93 a refreshed token of the same person keeps the session', async t => {
    const { status } = await gateway.post(PING, {
      ...session,
      authorization: `Bearer ${gateway.token()}`
    })
    t.equal(status, 200)
  })
  t.test('R25 missing: 400', async t => {
    const { status, json } = await gateway.post(PING, {
      authorization: session['authorization'] as string
    })
    t.equal(status, 400)
    t.equal(json.error.code, -32600)
    t.equal(json.id, 7, 'R21 the id is echoed')
  })
  t.test('R28 deleted: 404 from then on', async t => {
    const { status } = await fetch(gateway.url, { method: 'DELETE', headers: session })
    t.equal(status, 204)
    t.match(await gateway.post(PING, session), notFound)
    t.equal((await fetch(gateway.url, { method: 'DELETE', headers: session })).status, 404)
  })
  t.test('R29 a second initialize in a live session: 400', async t => {
    const live = await gateway.initialize(mine)
    const { status, json } = await gateway.post(
      { jsonrpc: '2.0', id: 1, method: 'initialize', params: { protocolVersion: '2025-11-25' } },
      live
    )
    t.equal(status, 400)
    t.equal(json.error.code, -32600)
  })
})

t.test('tool names that try to leave their URL', async t => {
  const gateway = await startGateway(t)
  const session = await gateway.initialize(gateway.token())
  await gateway.post({ jsonrpc: '2.0', id: 1, method: 'tools/list' }, session)
  const before = gateway.drupal.requests.length
  for (const name of [
    '../../user/login',
    '..',
    '.',
    '%2e%2e%2f',
    'site.info/../../admin',
    'site.info?x=1',
    'site.info#x',
    'site.info%00',
    'site.info\0',
    'list',
    'describe',
    'site.info/',
    '/site.info',
    'x'.repeat(10_240),
    '',
    'töol',
    'a b',
    'a\r\nHost: x'
  ]) {
    await t.test(JSON.stringify(name.slice(0, 40)), async t => {
      const { status, json } = await gateway.post(call(name, {}), session)
      t.equal(status, 200)
      t.equal(json.error.code, -32602)
      t.equal(json.id, 7)
    })
  }
  for (const name of [42, null, ['site.info'], { a: 1 }, undefined]) {
    const { status, json } = await gateway.post(call(name, {}), session)
    t.equal(status, 200)
    t.equal(json.error.code, -32602)
  }
  t.equal(gateway.drupal.requests.length, before, 'Drupal was not asked once')
  await alive(t, gateway, session)
})

t.test('a Drupal that misbehaves', async t => {
  const gateway = await startGateway(t, {
    env: {
      DRUPAL_CONNECT_TIMEOUT: '1',
      DRUPAL_HEADERS_TIMEOUT: '2',
      DRUPAL_CALL_TIMEOUT: '2.5',
      DRUPAL_MAX_RESPONSE_BYTES: '1048576',
      DRUPAL_BREAKER_FAILURES: '1000'
    }
  })
  const { drupal } = gateway
  const session = await gateway.initialize(gateway.token())
  await gateway.post({ jsonrpc: '2.0', id: 1, method: 'tools/list' }, session)
  const rows: [string, Partial<Faults>, number, number | string][] = [
    ['answers HTML', { html200: true }, 502, -32603],
    ['answers nothing', { emptyBody: true }, 502, -32603],
    ['answers half a body', { halfBody: true }, 502, -32603],
    ['answers 401', { status: 401 }, 401, 'invalid_token'],
    ['answers 403', { status: 403 }, 200, 403],
    ['answers 404', { status: 404 }, 200, -32603],
    ['answers 500', { status: 500 }, 502, -32603],
    ['answers 502', { status: 502 }, 502, -32603],
    ['answers 503', { status: 503 }, 503, -32603],
    ['is in maintenance', { maintenance: true }, 503, -32603],
    ['has flood control', { flood: true }, 429, 429],
    ['redirects to the login', { redirectLogin: true }, 502, -32603],
    ['redirects to another host', { redirectHost: true }, 502, -32603],
    ['answers 100 MB', { hugeBody: 100 * 1024 * 1024 }, 502, -32603],
    ['lies about the content type', { wrongContentType: true }, 502, -32603],
    ['answers no JSON-RPC', { invalidJsonRpc: true }, 502, -32603],
    ['answers for another id', { otherId: true }, 502, -32603],
    ['is slow with its headers', { slowHeadersMs: 3000 }, 504, -32603],
    ['is slow with its body', { slowBodyMs: 3000 }, 504, -32603],
    ['resets before the first byte', { resetBefore: true }, 502, -32603],
    ['resets after the first byte', { resetAfterFirstByte: true }, 502, -32603]
  ]
  for (const [name, faults, status, code] of rows) {
    await t.test(name, async t => {
      const authorization = `Bearer ${gateway.token()}`
      Object.assign(drupal.faults, faults)
      const answer = await gateway.post(call('site.info', {}), { ...session, authorization })
      drupal.clearFaults()
      t.equal(answer.status, status)
      if (typeof code === 'string') t.equal(answer.json.error, code)
      else {
        t.equal(answer.json.error.code, code)
        t.equal(answer.json.id, 7)
      }
      isClean(t, answer, gateway)
    })
  }
  await alive(t, gateway, { ...session, authorization: `Bearer ${gateway.token()}` })
})
