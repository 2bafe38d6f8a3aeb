// connect, end to end: a stdio client on one side, the whole gateway and the Drupal double on the other; and a scripted server
// where a stream, a lost session or a server's own request is wanted.
import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { PassThrough, Readable } from 'node:stream'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { createAccess } from '../../src/cli/connect-access.ts'
import {
  learnMirrored,
  look,
  type Look,
  type Mirrored,
  modernHeaders,
  oneLine,
  refusalFor
} from '../../src/cli/connect-message.ts'
import { createConnection } from '../../src/cli/connect-session.ts'
import { lineWriter, readLines } from '../../src/cli/connect-stdio.ts'
import type { Credential } from '../../src/cli/credentials.ts'
import { openVault } from '../../src/cli/credentials-vault.ts'
import { Failure } from '../../src/cli/failure.ts'
import { openHttp } from '../../src/cli/http.ts'
import { main } from '../../src/cli/main.ts'
import {
  connect,
  editor,
  enterCode,
  serve,
  startReal,
  type StdioClient,
  terminal,
  useBrowser
} from './fixtures/site.ts'

const initialize = (id: unknown = 0, capabilities: unknown = {}) => ({
  jsonrpc: '2.0',
  id,
  method: 'initialize',
  params: {
    protocolVersion: '2025-11-25',
    capabilities,
    clientInfo: { name: 'test', version: '1' }
  }
})
const initialized = { jsonrpc: '2.0', method: 'notifications/initialized' }
const request = (id: unknown, method: string, params?: unknown) => ({
  jsonrpc: '2.0',
  id,
  method,
  ...(params ? { params } : {})
})
const call = (id: unknown, name: string, args: unknown = {}) =>
  request(id, 'tools/call', { name, arguments: args })
const answer = (id: unknown) => (message: { id?: unknown; method?: unknown }) =>
  message.id === id && message.method === undefined

async function greeted(client: StdioClient, capabilities?: unknown) {
  client.send(initialize(0, capabilities))
  const hello = await client.sees(answer(0))
  client.send(initialized)
  return hello
}

t.test('with the whole gateway', async t => {
  t.test('a token from a file', async t => {
    const { url, drupal, logged } = await startReal(t)
    const { token } = drupal.mint()
    const file = join(t.testdir({ token }), 'token')
    const client = connect({}, '--token-file', file, url)
    const hello = await greeted(client)
    t.equal(hello.result.protocolVersion, '2025-11-25')
    // 20-digit ids and odd spacing survive.
    client.send('{"jsonrpc" : "2.0",  "id":12345678901234567890, "method":"tools/list"}')
    for (let id = 1; id <= 40; id++) client.send(call(id, 'tutorials.search', { query: 'drupal' }))
    await Promise.all(Array.from({ length: 40 }, (_, index) => client.sees(answer(index + 1))))
    await client.sees(({ result }) => result?.tools?.length > 0)
    t.match(client.raw(), '"id":12345678901234567890')
    t.equal(client.messages.length, 42, 'each request is answered once, and nothing else is said')

    drupal.revoke(JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString()).jti)
    await writeFile(file, drupal.mint().token)
    client.send(call('after', 'tutorials.search', { query: '' }))
    t.notOk((await client.sees(answer('after'))).error, 'the file is read again after a 401')
    t.equal(await client.end(), 0)
    t.notMatch(client.stderr() + client.raw() + logged.join(''), token)
  })

  t.test('a token from outside that lacks a scope: the client is told which', async t => {
    const { url, drupal } = await startReal(t)
    const client = connect(
      { DRUPAL_MCP_TOKEN: drupal.mint({ scopes: ['read:tutorials'] }).token },
      url
    )
    await greeted(client)
    client.send(call(1, 'tutorials.create', { title: 'No', body: 'No.' }))
    t.equal(
      (await client.sees(answer(1))).error.message,
      'The gateway answered with status 403: The access token lacks a scope that this call needs. Scopes to ask for: read:tutorials write:tutorials'
    )
    t.equal(await client.end(), 0)
  })

  t.test('signs in when needed, steps up, refreshes, and signs in again', async t => {
    let ahead = 0
    const { url, drupal } = await startReal(t, { now: () => Date.now() + ahead })
    const person = terminal(t, 'person', { BROWSER: 'true' })
    const client = connect(person.env, url)
    client.send(initialize(0, { elicitation: { url: {} } }))
    const [, address = ''] = await client.reads(/browser at:\s+(http\S+)/)
    const told = await client.sees(({ method }) => method === 'notifications/message')
    t.match(told.params.data, address, 'the client can show it too')
    await useBrowser(address)
    t.ok((await client.sees(answer(0))).result, 'the greeting waited for the sign-in')
    client.send(initialized)
    client.send(call(1, 'tutorials.search', { query: 'drupal' }))
    t.ok((await client.sees(answer(1))).result)

    client.send(call(2, 'tutorials.create', { title: 'From stdio', body: 'Hello.' }))
    const asked = await client.sees(({ method }) => method === 'elicitation/create')
    t.equal(asked.params.mode, 'url')
    t.match(new URL(asked.params.url).searchParams.get('scope'), 'write:tutorials')
    client.send({ jsonrpc: '2.0', id: asked.id, result: { action: 'accept' } })
    await useBrowser(asked.params.url)
    t.ok((await client.sees(answer(2))).result, 'after the step-up the call is made')

    const vault = await openVault({ env: person.env })
    const [before] = await vault.list()
    drupal.saveUser('editor')
    client.send(call(3, 'tutorials.search', { query: '' }))
    t.ok((await client.sees(answer(3))).result, 'a revoked token is refreshed after the 401')
    const [after] = await vault.list()
    t.not(after!.accessToken, before!.accessToken)
    t.not(after!.refreshToken, before!.refreshToken)
    t.strictSame(after!.grantedScopes, before!.grantedScopes)
    ahead = 0
    t.equal(await client.end(), 0)
    const told401 = drupal.requests.filter(
      ({ path, body }) => path === '/oauth/token' && body.includes('refresh_token=')
    ).length
    t.ok(told401 >= 1)
  })

  t.test('where some tools work before sign-in, it is for what a refusal names', async t => {
    const { url } = await startReal(t, {}, { AUTH_ANONYMOUS: 'public-tools' })
    const client = connect(terminal(t, 'caller', { BROWSER: 'true' }).env, url)
    t.ok((await greeted(client)).result, 'nobody has to sign in yet')
    client.send(call(1, 'tutorials.search', { query: '' }))
    const [, address = ''] = await client.reads(/browser at:\s+(http\S+)/)
    t.equal(new URL(address).searchParams.get('scope'), 'read:tutorials', 'not for all there is')
    await useBrowser(address)
    t.ok((await client.sees(answer(1))).result)
    t.equal(await client.end(), 0)

    const person = terminal(t, 'person', { BROWSER: 'true' })
    const login = person.run('login', url)
    const [, shown = ''] = await person.sees(/browser at:\s+(http\S+)/)
    t.equal(new URL(shown).searchParams.get('scope'), 'read:tutorials')
    await useBrowser(shown)
    t.equal((await login).code, 0)
  })

  t.test('a device code, for a client without a browser', async t => {
    const { url, drupal } = await startReal(t)
    const [scope] = drupal.site.scopes
    drupal.site.scopes.push({ ...scope!, name: 'plain_scope' })
    const person = terminal(t, 'person')
    const client = connect(person.env, '--device', '--scope', 'plain_scope', url)
    client.send(initialize())
    const [, code = ''] = await client.reads(/code\n\s+(\S+)/)
    await enterCode(drupal, code, editor)
    const hello = await client.sees(answer(0))
    t.ok(hello.result ?? hello.error)
    t.match(client.messages[0].params.data, code)
    t.equal(await client.end(), 0)
  })

  t.test('a service account, where nothing can be written', async t => {
    const { url } = await startReal(t)
    const env = {
      DRUPAL_MCP_CLIENT_ID: 'gateway',
      DRUPAL_MCP_CLIENT_SECRET: 'gateway-secret',
      DRUPAL_MCP_HOME: '/proc/nowhere'
    }
    const client = connect(env, '--client-credentials', '--scope', 'read:tutorials', url)
    t.ok((await greeted(client)).result)
    t.equal(await client.end(), 0)
    const refused = connect(
      { ...env, DRUPAL_MCP_CLIENT_SECRET: 'wrong' },
      '--client-credentials',
      url
    )
    refused.send(initialize(7))
    t.match((await refused.sees(answer(7))).error, { code: -32603, message: /invalid_client/ })
    refused.send(request(8, 'ping'))
    t.match(
      (await refused.sees(answer(8))).error.message,
      /invalid_client/,
      'and no new attempt is made at once'
    )
    t.equal(await refused.end(), 0)
  })

  t.test('wrong use', async t => {
    const { url } = await startReal(t)
    for (const [args, code, why] of [
      [[], 2, /Which gateway/],
      [['--token-file', '/no/such/file', url], 1, /cannot be read \(ENOENT\)/],
      [['--device', '--browser', url], 2, /exclude/]
    ] as const) {
      const client = connect({ DRUPAL_MCP_HOME: join(t.testdirName, 'x') }, ...args)
      t.equal(await client.ended, code)
      t.match(client.stderr(), why)
      t.equal(client.raw(), '')
    }
    const bad = connect({ DRUPAL_MCP_TOKEN: 'nonsense' }, url)
    bad.send(initialize(1))
    t.match((await bad.sees(answer(1))).error.message, /DRUPAL_MCP_TOKEN was refused/)
    t.equal(await bad.end(), 0)
    const unreadable = connect({ DRUPAL_MCP_HOME: '/proc/nowhere' }, url)
    t.equal(await unreadable.ended, 1)
    t.match(unreadable.stderr(), /cannot be kept in \/proc\/nowhere \(ENOENT\).*--token-file/)
    t.match(await terminal(t, 'help').run('connect', '--help'), { code: 0, stdout: /^Usage:/ })
  })
})

interface Seen {
  method: string
  path: string
  headers: IncomingMessage['headers']
  body: string
}

/** A server that answers as the test says; it remembers what it saw. */
async function scripted(
  t: Parameters<typeof serve>[0],
  respond: (seen: Seen & { rpc: any }, response: ServerResponse) => void, // oxlint-disable-line typescript/no-explicit-any
  envAt: (origin: string) => Promise<Record<string, string>> = async () => ({
    DRUPAL_MCP_TOKEN: 'x'
  }),
  args: string[] = []
) {
  const seen: Seen[] = []
  const origin = await serve(t, (incoming, response) => {
    let body = ''
    incoming.on('data', chunk => (body += chunk))
    incoming.on('end', () => {
      const { method = '', url: path = '', headers } = incoming
      const one = { method, path, headers, body }
      seen.push(one)
      let rpc: unknown
      try {
        rpc = JSON.parse(body)
      } catch {}
      respond({ ...one, rpc }, response)
    })
  })
  const client = connect(await envAt(origin), ...args, `${origin}/mcp`)
  t.teardown(() => client.end())
  return { seen, client, origin }
}

/** Somebody who is signed in at a scripted server, with the token `one`. */
async function signedInAt(t: Test, origin: string, more: Partial<Credential> = {}) {
  const env = { DRUPAL_MCP_HOME: join(t.testdir(), 'home') }
  const vault = await openVault({ env, keychain: null })
  const kept: Credential = {
    issuer: origin,
    resource: `${origin}/mcp`,
    clientId: 'c',
    grant: 'authorization_code',
    tokenEndpoint: `${origin}/token`,
    accessToken: 'one',
    refreshToken: 'r1',
    expiresAt: Date.now() + 3_600_000,
    signedInAt: 1,
    askedScopes: [],
    ...more
  }
  await vault.set(kept)
  return { env, vault, expire: () => vault.set({ ...kept, expiresAt: Date.now() }) }
}
const refreshed = (response: ServerResponse) =>
  json(response, {
    access_token: 'two',
    token_type: 'Bearer',
    expires_in: 3600,
    refresh_token: 'r2'
  })

/** Where one signs in by device code; `token` is what there is at each question for it. False for what is no page of the sign-in. */
function signInPages(
  { path, headers }: Seen,
  response: ServerResponse,
  token: () => Record<string, unknown> | undefined
): boolean {
  const origin = `http://${headers.host}`
  if (path === '/token') {
    const given = token()
    if (given !== undefined) json(response, { token_type: 'Bearer', expires_in: 3600, ...given })
    else
      response
        .writeHead(400, { 'content-type': 'application/json' })
        .end('{"error":"authorization_pending"}')
    return true
  }
  const page = {
    '/.well-known/oauth-protected-resource/mcp': {
      resource: `${origin}/mcp`,
      authorization_servers: [origin]
    },
    '/.well-known/oauth-authorization-server': {
      issuer: origin,
      token_endpoint: `${origin}/token`,
      device_authorization_endpoint: `${origin}/device`
    },
    '/device': {
      device_code: 'd',
      user_code: 'A-CODE',
      verification_uri: `${origin}/enter`,
      expires_in: 600,
      interval: 0.01
    }
  }[path]
  if (page !== undefined) json(response, page)
  return page !== undefined
}

const json = (response: ServerResponse, body: unknown, headers: Record<string, string> = {}) =>
  response
    .writeHead(200, { 'content-type': 'application/json', ...headers })
    .end(JSON.stringify(body, null, 2))
const welcome = (rpc: { id: unknown }, response: ServerResponse, session?: string) =>
  json(
    response,
    { jsonrpc: '2.0', id: rpc.id, result: { protocolVersion: '2025-11-25', capabilities: {} } },
    session ? { 'mcp-session-id': session } : {}
  )
const stream = (response: ServerResponse) =>
  response.writeHead(200, { 'content-type': 'text/event-stream' })
const event = (data: unknown, id?: string) =>
  `${id ? `id: ${id}\n` : ''}data: ${typeof data === 'string' ? data : JSON.stringify(data)}\n\n`

t.test('streams and server requests', async t => {
  let push: ServerResponse | undefined
  const { client, seen } = await scripted(t, ({ method, rpc }, response) => {
    if (method === 'GET') return (push = stream(response)).flushHeaders()
    if (method === 'DELETE') return void response.writeHead(204).end()
    if (rpc?.method === 'initialize') return welcome(rpc, response, 's1')
    if (rpc?.method === 'tools/call') {
      stream(response).write(
        `: hello\n\n${event({ jsonrpc: '2.0', method: 'notifications/progress', params: { progress: 1 } })}`
      )
      response.write(event(request('from-server', 'sampling/createMessage')))
      return void response.end(`data: {"jsonrpc":"2.0",\ndata: "id":${rpc.id},"result":{}}\n\n`)
    }
    response.writeHead(202).end()
  })
  await greeted(client)
  client.send(call(1, 'x'))
  await client.sees(answer(1))
  t.strictSame(
    client.messages.slice(1).map(({ method, id }) => method ?? id),
    ['notifications/progress', 'sampling/createMessage', 1],
    'in the order of the stream'
  )
  client.send({ jsonrpc: '2.0', id: 'from-server', result: { role: 'assistant' } })
  while (push === undefined || !seen.some(({ body }) => body.includes('assistant')))
    await new Promise(resolve => setImmediate(resolve))
  push.write(event({ jsonrpc: '2.0', method: 'notifications/tools/list_changed' }))
  push.write('event: ping\ndata: no message\n\n')
  push.write(event(request('other', 'unknown/thing')))
  await client.sees(({ id }) => id === 'other')
  client.send(
    '[{"jsonrpc":"2.0","method":"notifications/a"},{"jsonrpc":"2.0","method":"notifications/b"}]'
  )
  client.send('not json')
  t.match(await client.sees(({ error }) => error?.code === -32700), { id: null })
  t.equal(await client.end(), 0)
  const posts = seen.filter(({ method }) => method === 'POST').slice(1)
  for (const { headers } of posts)
    t.match(headers, {
      'mcp-session-id': 's1',
      'mcp-protocol-version': '2025-11-25',
      authorization: 'Bearer x'
    })
  t.equal(posts[0]?.body, JSON.stringify(initialized), 'nothing overtakes it')
  t.match(
    seen.at(-1),
    { method: 'DELETE', headers: { 'mcp-session-id': 's1' } },
    'the session is ended'
  )
})

t.test('R27 a session that the gateway forgot is opened again, once for all', async t => {
  let generation = 0
  const { client, seen } = await scripted(t, ({ method, rpc, headers }, response) => {
    if (method === 'GET') return void response.writeHead(405).end()
    if (rpc?.method === 'initialize') return welcome(rpc, response, `s${++generation}`)
    if (headers['mcp-session-id'] !== `s${Math.max(generation, 2)}`)
      return void response.writeHead(404).end()
    if (rpc?.id === undefined) return void response.writeHead(202).end()
    json(response, { jsonrpc: '2.0', id: rpc.id, result: {} })
  })
  client.send(initialize())
  await client.sees(answer(0))
  for (const id of [1, 2, 3]) client.send(request(id, 'tools/list'))
  await Promise.all([1, 2, 3].map(id => client.sees(answer(id))))
  t.equal(generation, 2)
  t.equal(client.messages.length, 4, 'the client noticed nothing')
  const again = seen.filter(({ body }) => body.includes('notifications/initialized'))
  t.equal(again.length, 1)
  t.match(client.stderr(), 'opened again')
})

t.test('a session that cannot be opened again is an error for each who waits', async t => {
  let greetings = 0
  const { client } = await scripted(t, ({ rpc }, response) => {
    if (rpc?.method === 'initialize' && ++greetings === 1) return welcome(rpc, response, 's')
    if (rpc?.method === 'initialize')
      return void response.writeHead(200, { 'content-type': 'text/event-stream' }).end(event('hm'))
    response.writeHead(404).end()
  })
  client.send(initialize())
  await client.sees(answer(0))
  client.send(request(1, 'tools/list'))
  t.match((await client.sees(answer(1))).error.message, /cannot be opened again/)
})

t.test(
  'R27 a session that is lost again as soon as it is opened is an error, and no end of everything',
  async t => {
    let generation = 0
    const { client } = await scripted(t, ({ method, rpc, headers }, response) => {
      if (method === 'GET') return void response.writeHead(405).end()
      if (rpc?.method === 'initialize') return welcome(rpc, response, `s${++generation}`)
      // Replicas that do not share their secret, asked in turn.
      if (headers['mcp-session-id'] !== 's3') return void response.writeHead(404).end()
      if (rpc?.id === undefined) return void response.writeHead(202).end()
      json(response, { jsonrpc: '2.0', id: rpc.id, result: {} })
    })
    client.send(initialize())
    await client.sees(answer(0))
    client.send(request(1, 'tools/list'))
    t.match((await client.sees(answer(1))).error.message, /lost again as soon as it is opened/)
    client.send(request(2, 'tools/list'))
    t.strictSame((await client.sees(answer(2))).result, {}, 'the next one tries once more')
  }
)

t.test('R42 R43 a stream that breaks is taken up again', async t => {
  let part = 0
  const { client, seen } = await scripted(t, ({ method, rpc, headers }, response) => {
    if (rpc?.method === 'initialize') return welcome(rpc, response, 's')
    if (method === 'GET' && headers['last-event-id'] === undefined)
      return void response.writeHead(405).end()
    if (method === 'GET' && headers['last-event-id'] === 'lost')
      return void response.writeHead(404).end()
    if (method === 'GET') {
      if (++part === 1) return void stream(response).end(event('', 'e2'))
      return void stream(response).end(event({ jsonrpc: '2.0', id: 1, result: { late: true } }))
    }
    if (rpc?.method === 'tools/call') {
      const id = rpc.params.name === 'lost' ? 'lost' : 'e1'
      stream(response).write(`retry: 1\n${event('', id)}`)
      return void setImmediate(() => response.destroy())
    }
    response.writeHead(202).end()
  })
  await greeted(client)
  client.send(call(1, 'x'))
  t.strictSame((await client.sees(answer(1))).result, { late: true })
  t.strictSame(
    seen.flatMap(({ headers }) => headers['last-event-id'] ?? []),
    ['e1', 'e2']
  )
  client.send(call(2, 'lost'))
  t.match((await client.sees(answer(2))).error.message, /ended its answer before the result/)
})

t.test('the server’s own stream is opened again when it breaks', async t => {
  let opened = 0
  const { client } = await scripted(t, ({ method, rpc, headers }, response) => {
    if (rpc?.method === 'initialize') return welcome(rpc, response, `s${opened}`)
    if (method !== 'GET') return void response.writeHead(202).end()
    opened++
    if (opened === 1)
      return void stream(response).end(
        `retry: 1\n${event({ jsonrpc: '2.0', method: 'first' }, 'g1')}`
      )
    if (opened === 2) return void response.destroy()
    if (opened === 3) return void response.writeHead(503).end()
    if (opened === 4) return void response.writeHead(404).end()
    stream(response).write(
      event({ jsonrpc: '2.0', method: 'last', params: { after: headers['last-event-id'] ?? null } })
    )
  })
  await greeted(client)
  await client.sees(({ method }) => method === 'last')
  t.equal(opened, 5)
  t.strictSame(
    client.messages.slice(1).map(({ method }) => method),
    ['first', 'last']
  )
})

t.test('R43 what a server says of reconnecting holds until it says otherwise', async t => {
  let opened = 0
  let reopened = () => {}
  const again = new Promise<void>(resolve => (reopened = resolve))
  const origin = await serve(t, (_incoming, response) => {
    if (++opened === 2) reopened()
    const news = event({ jsonrpc: '2.0', method: 'news' })
    stream(response).end(`retry: 1\n${event('', 'e1')}${news}`)
  })
  const ended = new AbortController()
  const http = openHttp()
  t.teardown(async () => {
    ended.abort()
    await http.close()
  })
  const connection = createConnection(
    {
      url: `${origin}/mcp`,
      fetch: http.fetch,
      access: createAccess({
        tokens: { current: async () => 'x', instead: async () => undefined }
      }),
      write: async () => {},
      log() {},
      signal: ended.signal,
      reconnectMs: 600_000
    },
    new Map()
  )
  connection.listen()
  await again
  t.ok(opened >= 2)
})

t.test('the server’s own stream outlives an authorization server that is away', async t => {
  let home: Awaited<ReturnType<typeof signedInAt>>
  let open: ServerResponse | undefined
  let refreshes = 0
  const { client } = await scripted(
    t,
    ({ method, rpc, headers, body }, response) => {
      if (body.includes('refresh_token=')) {
        if (++refreshes === 1) return void response.writeHead(503).end()
        if (refreshes === 2) return void response.destroy()
        return refreshed(response)
      }
      if (rpc?.method === 'initialize') return welcome(rpc, response, 's')
      if (method !== 'GET') return void response.writeHead(202).end()
      open = stream(response)
      const told = { jsonrpc: '2.0', method: headers.authorization }
      open.write(`retry: 1\n${event(told)}`)
    },
    async origin => (home = await signedInAt(t, origin)).env
  )
  await greeted(client)
  await client.sees(({ method }) => method === 'Bearer one')
  await home!.expire()
  open?.end()
  await Promise.race([
    client.sees(({ method }) => method === 'Bearer two'),
    client.reads(/The stream of the gateway was lost/)
  ])
  t.notMatch(client.stderr(), 'lost')
  t.equal(refreshes, 3)
})

t.test('no token is refreshed to end a session', async t => {
  let home: Awaited<ReturnType<typeof signedInAt>>
  const { client, seen } = await scripted(
    t,
    ({ method, rpc, body }, response) => {
      if (body.includes('refresh_token=')) return refreshed(response)
      if (method === 'GET') return void response.writeHead(405).end()
      if (rpc?.method === 'initialize') return welcome(rpc, response, 's')
      response.writeHead(202).end()
    },
    async origin => (home = await signedInAt(t, origin)).env
  )
  await greeted(client)
  while (!seen.some(({ method }) => method === 'GET'))
    await new Promise(resolve => setImmediate(resolve))
  await home!.expire()
  t.equal(await client.end(), 0)
  t.match(seen.at(-1), { method: 'DELETE', headers: { authorization: 'Bearer one' } })
  t.notOk(seen.some(({ body }) => body.includes('refresh_token=')))
})

t.test('a refresh that is under way at the end is kept', async t => {
  let asked: ((response: ServerResponse) => void) | undefined
  const asking = new Promise<ServerResponse>(resolve => (asked = resolve))
  const origin = await serve(t, (_incoming, response) => asked?.(response))
  const { env, vault, expire } = await signedInAt(t, origin)
  await expire()
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()]
  const ended = main(['connect', `${origin}/mcp`], { env, stdin, stdout, stderr })
  stdin.write(`${JSON.stringify(initialize())}\n`)
  const response = await asking
  const hungUp = once(stdin, 'close')
  // As a signal does.
  stdout.destroy(new Error('the client died'))
  await hungUp
  refreshed(response)
  t.equal(await ended, 0)
  t.match(await vault.list(), [{ accessToken: 'two', refreshToken: 'r2' }])
})

t.test('refusals reach the client as errors with its own id', async t => {
  const { client } = await scripted(t, ({ rpc }, response) => {
    const [status, body, type] = {
      rpc: [
        429,
        '{"jsonrpc":"2.0","id":null,"error":{"code":429,"message":"slowly","data":{"a":1}}}',
        'application/json'
      ],
      html: [502, '<html>', 'text/html'],
      redirect: [302, '', 'text/html'],
      silent: [202, '', 'text/plain'],
      empty: [204, '', 'text/event-stream'],
      gone: [0, '', '']
    }[String(rpc?.method)] as [number, string, string]
    if (status === 0) return void response.destroy()
    response
      .writeHead(status, { 'content-type': type, location: 'https://evil.example/' })
      .end(body)
  })
  for (const method of ['rpc', 'html', 'redirect', 'silent', 'empty', 'gone'])
    client.send(request(method, method))
  t.strictSame((await client.sees(answer('rpc'))).error, {
    code: 429,
    message: 'slowly',
    data: { a: 1 }
  })
  t.match((await client.sees(answer('html'))).error, { code: -32603, message: /status 502/ })
  t.match((await client.sees(answer('redirect'))).error.message, /never sent after a redirect/)
  t.match((await client.sees(answer('silent'))).error.message, /before the result/)
  t.match((await client.sees(answer('empty'))).error.message, /before the result/)
  t.match((await client.sees(answer('gone'))).error.message, /cannot be reached/)
  t.notMatch(client.raw(), 'html>')
})

t.test('a sign-in that brought no scopes: the client is told why', async t => {
  const { client } = await scripted(
    t,
    ({ body }, response) => {
      if (body.includes('refresh_token=')) return refreshed(response)
      const why = 'Bearer error="invalid_token", error_description="Sign in again."'
      response.writeHead(401, { 'www-authenticate': why }).end()
    },
    async origin => {
      const scopes = { askedScopes: ['read:all'], grantedScopes: [] }
      return (await signedInAt(t, origin, { ...scopes, grant: 'device_code' })).env
    }
  )
  client.send(initialize())
  t.match(
    (await client.sees(answer(0))).error.message,
    /status 401: Sign in again\. Not granted: read:all\. Drupal's device flow drops.*--browser/
  )
})

t.test('a step-up that brings nothing costs nothing', async t => {
  let home: Awaited<ReturnType<typeof signedInAt>>
  const { client, seen } = await scripted(
    t,
    (one, response) => {
      const { rpc, headers } = one
      if (signInPages(one, response, () => ({ access_token: 'narrow', scope: '' }))) return
      if (headers.authorization !== 'Bearer one') return void response.writeHead(401).end()
      if (rpc?.method === 'initialize') return welcome(rpc, response)
      const wanted = 'Bearer error="insufficient_scope", scope="read:all write:all"'
      if (rpc?.method === 'tools/call')
        return void response.writeHead(403, { 'www-authenticate': wanted }).end()
      response.writeHead(202).end()
    },
    async origin => {
      home = await signedInAt(t, origin, { askedScopes: ['read:all'], grantedScopes: ['read:all'] })
      return { ...home.env, DRUPAL_MCP_CLIENT_ID: 'c' }
    },
    ['--device']
  )
  await greeted(client)
  for (const id of [1, 2]) {
    client.send(call(id, 'x'))
    t.match((await client.sees(answer(id))).error.message, /^Not granted: .*--browser.*was kept\.$/)
  }
  t.match(await home!.vault.list(), [{ accessToken: 'one' }])
  t.equal(seen.filter(({ path }) => path === '/device').length, 1, 'and nobody is asked twice')
})

t.test('a sign-in elsewhere is taken, and the own one ended', async t => {
  const home = join(t.testdir(), 'home')
  const env = { DRUPAL_MCP_HOME: home, DRUPAL_MCP_CLIENT_ID: 'c' }
  const vault = await openVault({ env, keychain: null })
  let polls = 0
  const { client, origin } = await scripted(
    t,
    (one, response) => {
      const { rpc, headers } = one
      if (signInPages(one, response, () => void polls++)) return
      if (headers.authorization === undefined) return void response.writeHead(401).end()
      if (rpc?.method === 'initialize') return welcome(rpc, response)
      if (headers.authorization === 'Bearer wide') {
        return json(response, { jsonrpc: '2.0', id: rpc.id, result: {} })
      }
      const wanted = 'Bearer error="insufficient_scope", scope="read write"'
      response.writeHead(rpc?.id ? 403 : 202, { 'www-authenticate': wanted }).end()
    },
    async () => env,
    ['--device']
  )
  const signsIn = (accessToken: string, signedInAt: number, grantedScopes: string[]) =>
    vault.set({
      issuer: origin,
      resource: `${origin}/mcp`,
      clientId: 'c',
      grant: 'authorization_code',
      tokenEndpoint: `${origin}/token`,
      accessToken,
      expiresAt: Date.now() + 3_600_000,
      signedInAt,
      askedScopes: grantedScopes,
      grantedScopes
    })
  client.send(initialize())
  await client.reads(/A-CODE/)
  await signsIn('narrow', 1, ['read'])
  t.ok((await client.sees(answer(0))).result, 'as by login in a terminal')
  client.send(initialized)
  client.send(call(1, 'x'))
  await client.reads(/A-CODE[^]*A-CODE/)
  await signsIn('renewed', 1, ['read'])
  await signsIn('other', 2, ['read'])
  await signsIn('wide', 3, ['read', 'write'])
  t.ok((await client.sees(answer(1))).result, 'and a step-up, by one that has the scopes')
  const before = polls
  client.send(call(2, 'x'))
  await client.sees(answer(2))
  t.equal(polls, before, 'its own code is asked for no more')
})

t.test('nothing but MCP reaches stdout, whatever answers', async t => {
  const bodies: Record<string, [type: string, body: string]> = {
    page: ['text/html; charset=utf-8', '<html><h1>Checking your browser</h1>\n</html>'],
    json: ['application/json', '{"error":"blocked"}'],
    empty: ['application/json', '[]'],
    bare: ['', 'Blocked.']
  }
  const { client } = await scripted(t, ({ method, rpc }, response) => {
    if (method === 'GET') return void stream(response).end(`retry: 60000\n${event('<html>')}`)
    if (rpc?.method === 'initialize') return welcome(rpc, response)
    if (rpc?.method === 'refused')
      return void response.writeHead(403, { 'content-type': 'text/html' }).end('<html>')
    if (rpc?.method === 'stream')
      return void stream(response).end(
        event('<html>') + event({ jsonrpc: '2.0', id: rpc.id, result: {} })
      )
    const [type, body] = bodies[String(rpc?.method)] ?? bodies['page']!
    response.writeHead(200, type === '' ? {} : { 'content-type': type }).end(body)
  })
  await greeted(client)
  for (const method of [...Object.keys(bodies), 'refused', 'stream']) {
    client.send(request(method, method))
  }
  const inPlace = async (id: string) => {
    const { code, message } = (await client.sees(answer(id))).error
    t.equal(code, -32603)
    return message
  }
  const page =
    'Something in front of the gateway answered in its place (status 200, text/html). Run doctor with the same URL: it finds the broken link.'
  t.equal(await inPlace('page'), page)
  t.match(await inPlace('json'), /in its place \(status 200, application\/json\)/)
  t.match(await inPlace('empty'), /in its place/)
  t.match(await inPlace('bare'), /in its place \(status 200, no media type\)/)
  t.match(await inPlace('refused'), /in its place \(status 403, text\/html\)/)
  t.ok((await client.sees(answer('stream'))).result)
  t.equal(await client.end(), 0)
  t.notMatch(client.raw(), /[<>]|locked/)
  t.match(client.stderr(), `notifications/initialized: ${page}`)
})

t.test(
  'a sign-in is shown to each who comes to wait for it, and ends when it is declined',
  async t => {
    const env = { DRUPAL_MCP_HOME: join(t.testdir(), 'home'), DRUPAL_MCP_CLIENT_ID: 'c' }
    const { client } = await scripted(
      t,
      (one, response) => {
        if (signInPages(one, response, () => undefined)) return
        if (one.rpc?.method === 'initialize') return welcome(one.rpc, response, 's')
        response.writeHead(one.rpc?.id ? 401 : 202).end()
      },
      async () => env,
      ['--device']
    )
    await greeted(client, { elicitation: { url: {} } })
    const asked = () => client.messages.filter(({ method }) => method === 'elicitation/create')
    const shown = () => client.messages.filter(({ method }) => method === 'notifications/message')
    const reply = (result: unknown) =>
      client.send({ jsonrpc: '2.0', id: asked().at(-1).id, result })
    client.send(call(1, 'x'))
    await client.sees(() => asked().length === 1)
    client.send(call(2, 'x'))
    await client.sees(() => shown().length === 2)
    reply({ action: 'accept' })
    client.send(call(3, 'x'))
    await client.sees(() => asked().length === 2)
    t.strictSame(new Set(shown().map(({ params }) => params.data)).size, 1, 'the same code')
    t.equal(new Set(asked().map(({ id }) => id)).size, 2)
    t.equal(shown().length, 3, 'what the client still shows is not asked again')
    client.send({ jsonrpc: '2.0', id: asked()[0].id, result: { action: 'cancel' } })
    client.send(request('between', 'ping'))
    await client.sees(() => shown().length === 4)
    t.notOk(client.messages.some(answer(1)), 'an old answer ends nothing')
    reply({ action: 'decline' })
    for (const id of [1, 2, 3, 'between']) {
      t.match(
        (await client.sees(answer(id))).error.message,
        'The sign-in was declined in the client'
      )
    }
    client.send(call(4, 'x'))
    t.match((await client.sees(answer(4))).error.message, /declined/, 'and nobody is asked at once')
    t.equal(asked().length, 2)
  }
)

t.test('the modern era', async t => {
  const meta = {
    'io.modelcontextprotocol/protocolVersion': '2026-07-28',
    'io.modelcontextprotocol/clientCapabilities': {}
  }
  let hungUp: (() => void) | undefined
  const gone = new Promise<void>(resolve => (hungUp = resolve))
  const { client, seen } = await scripted(t, ({ rpc }, response) => {
    if (rpc.method === 'subscriptions/listen') {
      stream(response).write(
        event({ jsonrpc: '2.0', method: 'notifications/subscriptions/acknowledged' })
      )
      return void response.on('close', () => hungUp?.())
    }
    if (rpc.method === 'tools/list') {
      const properties = {
        city: { type: 'string', 'x-mcp-header': 'City' },
        deep: { properties: { n: { type: 'integer', 'x-mcp-header': 'N' } } }
      }
      return json(response, {
        jsonrpc: '2.0',
        id: rpc.id,
        result: { tools: [{ name: 'a b', inputSchema: { properties } }, { name: 'plain' }, {}] }
      })
    }
    if (rpc.method === 'gone/method') {
      return void response.writeHead(404).end(
        JSON.stringify({
          jsonrpc: '2.0',
          id: rpc.id,
          error: { code: -32601, message: 'Method not found' }
        })
      )
    }
    json(response, { jsonrpc: '2.0', id: rpc.id, result: {} })
  })
  client.send(request(1, 'tools/list', { _meta: meta }))
  await client.sees(answer(1))
  client.send(
    request(2, 'tools/call', {
      name: 'a b',
      arguments: { city: ' Zürich', deep: { n: 42 } },
      _meta: meta
    })
  )
  await client.sees(answer(2))
  const { headers } = seen[1]!
  t.match(headers, {
    'mcp-protocol-version': '2026-07-28',
    'mcp-method': 'tools/call',
    'mcp-name': 'a b',
    'mcp-param-n': '42'
  })
  t.equal(headers['mcp-param-city'], `=?base64?${Buffer.from(' Zürich').toString('base64')}?=`)
  t.equal(headers['mcp-session-id'], undefined, 'R54')
  client.send(request(3, 'gone/method', { _meta: meta }))
  t.equal((await client.sees(answer(3))).error.code, -32601)
  client.send(request(4, 'subscriptions/listen', { _meta: meta }))
  await client.sees(({ method }) => method === 'notifications/subscriptions/acknowledged')
  client.send({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 4 } })
  await gone
  t.pass('R69 cancelling hangs up')
  client.send(request(5, 'ping', { _meta: meta }))
  await client.sees(answer(5))
  t.notOk(client.messages.some(answer(4)), 'and what was cancelled is not answered')
  t.notOk(seen.some(({ body }) => body.includes('cancelled')))
  const again = new Promise<void>(resolve => (hungUp = resolve))
  client.send(request(6, 'subscriptions/listen', { _meta: meta }))
  while (seen.length < 6) await new Promise(resolve => setImmediate(resolve))
  const started = Date.now()
  t.equal(await client.end(), 0)
  t.ok(Date.now() - started < 5000, 'a subscription does not keep it from ending')
  await again
})

t.test('a legacy cancellation is passed on, and nothing is answered for it', async t => {
  let open: ServerResponse | undefined
  const { client, seen } = await scripted(t, ({ method, rpc }, response) => {
    if (method === 'GET') return void response.writeHead(405).end()
    if (rpc?.method === 'initialize') return welcome(rpc, response, 's')
    if (rpc?.method === 'tools/call') return (open = stream(response)).flushHeaders()
    if (rpc?.method === 'notifications/cancelled') open?.end()
    if (rpc?.method === 'ping') return json(response, { jsonrpc: '2.0', id: rpc.id, result: {} })
    response.writeHead(202).end()
  })
  await greeted(client)
  client.send(call(1, 'x'))
  while (open === undefined) await new Promise(resolve => setImmediate(resolve))
  client.send({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 1 } })
  client.send(request(2, 'ping'))
  await client.sees(answer(2))
  t.equal(await client.end(), 0)
  t.ok(seen.some(({ body }) => body.includes('notifications/cancelled')))
  t.notOk(client.messages.some(answer(1)))
})

t.test('too many at once are refused, and no more than that', async t => {
  const held: [unknown, ServerResponse][] = []
  const { client } = await scripted(t, ({ rpc }, response) => void held.push([rpc.id, response]))
  for (let id = 1; id <= 256; id++) client.send(request(id, 'slow'))
  while (held.length < 256) await new Promise(resolve => setImmediate(resolve))
  client.send(request('over', 'slow'))
  client.send({ jsonrpc: '2.0', method: 'notifications/fine' })
  t.match((await client.sees(answer('over'))).error, { code: 429, message: /256 requests/ })
  while (held.length < 257) await new Promise(resolve => setImmediate(resolve))
  for (const [id, response] of held) json(response, { jsonrpc: '2.0', id, result: {} })
  await Promise.all(Array.from({ length: 256 }, (_, index) => client.sees(answer(index + 1))))
  t.equal(await client.end(), 0)
})

t.test('access', async t => {
  const none = { current: async () => undefined, instead: async () => undefined }
  await t.rejects(createAccess({ tokens: none }).replace('x'), {
    message: /nobody can sign in here/
  })
  await t.rejects(createAccess({ tokens: none, signIn: async () => {} }).replace(undefined), {
    message: /no token/
  })
  t.equal(await createAccess({ tokens: none }).stepUp(['a']), undefined)
  let now = 0
  let asked = 0
  const access = createAccess({
    tokens: none,
    now: () => now,
    signIn: async () => {
      asked++
      throw new Failure('denied')
    }
  })
  await Promise.all([
    t.rejects(access.replace('x'), /denied/),
    t.rejects(access.replace('x'), /denied/)
  ])
  t.equal(asked, 1, 'one sign-in for all')
  await t.rejects(access.replace('x'), /denied/)
  t.equal(asked, 1, 'and not another one at once')
  now = 31_000
  await t.rejects(access.replace('x'), /denied/)
  t.equal(asked, 2)
  now = 99_000
  await t.rejects(access.stepUp(['b', 'a']), /denied/)
  t.equal(asked, 3)
  await t.rejects(access.stepUp(['a', 'b']), /denied/, 'which is asked again, but not at once')
  t.equal(asked, 3)
  now = 130_000
  await t.rejects(access.stepUp(['a', 'b']), /denied/)
  t.equal(asked, 4)
})

t.test('stepping up', async t => {
  const asked: string[] = []
  let answered = Promise.resolve()
  const access = createAccess({
    tokens: { current: async () => 'new', instead: async () => undefined },
    signIn: async ({ scopes }) => {
      asked.push(scopes?.join(' ') ?? 'default')
      await answered
    }
  })
  let answerNow = () => {}
  answered = new Promise(resolve => (answerNow = resolve))
  const all = [['x'], ['y', 'a'], ['x'], ['a', 'y']].map(scopes => access.stepUp(scopes))
  const refused = access.replace('old')
  answerNow()
  t.strictSame(await Promise.all([...all, refused]), ['new', 'new', 'new', 'new', 'new'])
  t.strictSame(
    asked,
    ['x', 'a y x'],
    'each wish is asked for once, and the second does not cost the first'
  )
  t.equal(await access.stepUp(['y', 'a']), undefined, 'a server that wants it still gets no more')
  t.equal(await access.stepUp(['x']), undefined)
  await access.replace('revoked')
  t.equal(await access.stepUp(['x']), 'new', 'but after a sign-in without it')
  t.strictSame(asked.slice(2), ['default', 'x'])

  answered = Promise.reject(new Failure('Not granted: z.', 4))
  await t.rejects(access.stepUp(['z']), /Not granted/)
  await t.rejects(access.stepUp(['z']), /Not granted/)
  t.equal(asked.length, 5, 'what it cannot bring is not asked for again')
  answered = Promise.resolve()
  await access.replace('revoked', ['named', 'too'])
  t.equal(asked.at(-1), 'named too', 'what the refusal names')
  t.equal(await access.stepUp(['z']), 'new', 'but by somebody else, perhaps')
})

t.test('messages', t => {
  t.equal(look('{'), undefined)
  t.match(
    look('{"jsonrpc":"2.0","id":1,"method":"x","params":[1]}'),
    { kind: 'other', requests: ['1'] },
    'what is not MCP goes through'
  )
  t.strictSame(look('{"jsonrpc":"1.0"}'), { kind: 'other', requests: [] })
  t.equal(
    look('{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":""}}')?.answers ?? 'null',
    'null'
  )
  t.equal(oneLine('{\r\n  "a": "b\\n"\n}\n'), '{   "a": "b\\n" }')
  t.equal(refusalFor('1', 'null'), undefined)
  t.equal(refusalFor('1', '{"error":"invalid_token"}'), undefined)
  const mirrored: Mirrored = new Map()
  learnMirrored(undefined, mirrored)
  const tool = (inputSchema: unknown) => ({ tools: [{ name: 'x', inputSchema }] })
  learnMirrored(tool({ properties: { a: { type: 'string', 'x-mcp-header': 'A' } } }), mirrored)
  const seen: Look = { kind: 'request', method: 'tools/call', requests: ['1'], modern: 'v' }
  t.match(modernHeaders({ ...seen, params: { name: 'x', arguments: { a: 'v' } } }, mirrored), {
    'mcp-param-a': 'v'
  })
  t.notOk(
    'mcp-param-a' in modernHeaders({ ...seen, params: { name: 'x', arguments: null } }, mirrored)
  )
  t.notOk('mcp-name' in modernHeaders({ ...seen, params: { name: 1 } }, mirrored))
  t.equal(
    modernHeaders({ ...seen, method: 'resources/read', params: { uri: 'a:b' } }, mirrored)[
      'mcp-name'
    ],
    'a:b'
  )
  learnMirrored(tool({}), mirrored)
  t.equal(mirrored.size, 0)
  t.strictSame(modernHeaders({ kind: 'request', requests: [] }, mirrored), {})
  t.end()
})

t.test('lines', async t => {
  const lines = async (chunks: (string | Buffer)[], max?: number) => {
    const found = []
    for await (const line of readLines(Readable.from(chunks.map(chunk => Buffer.from(chunk))), max))
      found.push(line)
    return found
  }
  const euro = Buffer.from('€')
  t.strictSame(
    await lines(['a\r\n\n b', 'c \n', euro.subarray(0, 1), euro.subarray(1), '\nrest']),
    ['a', 'bc', '€', 'rest']
  )
  t.strictSame(await lines(['short\n', 'x'.repeat(20), 'y\nnext\n'], 10), [
    'short',
    undefined,
    'next'
  ])
  t.strictSame(
    await lines(['short\n', 'x'.repeat(20)], 10),
    ['short', undefined],
    'also as the last'
  )
  const stop = new AbortController()
  const slow = new PassThrough({ highWaterMark: 4 })
  const write = lineWriter(slow, stop.signal)
  let done = false
  const writing = write('longer than that').then(() => (done = true))
  await new Promise(resolve => setImmediate(resolve))
  t.notOk(done, 'a slow reader is waited for')
  const others = Array.from({ length: 11 }, (_, index) => write(`line ${index}`))
  t.equal(slow.listenerCount('drain'), 1, 'Node warns of a leak where more than ten listen')
  slow.resume()
  await Promise.all([writing, ...others])
  slow.pause()
  const cut = write('longer than that')
  stop.abort()
  await cut
  await write('nothing any more')
  t.notMatch(String(slow.read()), 'nothing')
})

t.test('a server without sessions, whose own stream is refused', async t => {
  const { client, seen } = await scripted(t, ({ method, rpc }, response) => {
    if (method === 'GET') return void response.writeHead(401).end()
    if (rpc?.method === 'initialize') return welcome(rpc, response)
    response.writeHead(202).end()
  })
  await greeted(client)
  await client.reads(
    /The stream of the gateway was lost: The token from DRUPAL_MCP_TOKEN was refused/
  )
  t.equal(await client.end(), 0)
  t.notOk(seen.some(({ method }) => method === 'DELETE'))
  t.notOk(seen.some(({ headers }) => 'mcp-session-id' in headers))
  t.ok(seen.slice(1).every(({ headers }) => headers['mcp-protocol-version'] === '2025-11-25'))
})
