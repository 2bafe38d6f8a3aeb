// The memory of bodies and of answers that nobody takes is bounded, and who holds most of it loses first. Real sockets; a ping's
// answer is as large as its id.
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { json, startSite } from '../drupal/site.ts'
import { events, rpc, startBefore, startLegacyServer } from './fixtures/mcp.ts'
import { type Started, startGateway } from './fixtures/start.ts'

const MB = 1_000_000
const bounds = {
  ADMIN_PORT: '0',
  MAX_BODY_BYTES: '8388608',
  DRUPAL_MAX_RESPONSE_BYTES: '4194304',
  MAX_BUFFERED_BYTES: String(40 * MB)
}

const lines = (headers: Record<string, string>) =>
  Object.entries(headers)
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join('')

/** A connection that takes nothing before `resume`. */
function dial(t: Test, { origin }: Started, localAddress = '127.0.0.1'): Socket {
  const { hostname, port } = new URL(origin)
  const socket = connect({ host: hostname, port: Number(port), localAddress }).pause()
  t.teardown(() => void socket.destroy())
  return socket.on('error', () => {})
}

const ping = (id: string) => JSON.stringify({ jsonrpc: '2.0', id, method: 'ping' })

const post = (session: Record<string, string>, body: string, length = body.length) =>
  `POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n${lines(session)}Content-Length: ${length}\r\n\r\n${body}`

async function metric({ gateway }: Started, name: string): Promise<number> {
  const { body } = await gateway.admin!.inject('/metrics')
  return Number(new RegExp(`^mcp_gateway_${name} (.+)$`, 'm').exec(body)?.[1])
}

const buffered = (gateway: Started) => metric(gateway, 'buffered_bytes')

/** Waits until that many bytes are held; throws after 20 s with how many are. */
async function until(gateway: Started, is: (bytes: number) => boolean): Promise<void> {
  const deadline = performance.now() + 20_000
  for (;;) {
    const bytes = await buffered(gateway)
    if (is(bytes)) return
    if (performance.now() > deadline) throw new Error(`${bytes} bytes are held`)
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}

async function text(socket: Socket): Promise<string> {
  let all = ''
  socket.on('data', (piece: Buffer) => void (all += piece.toString('latin1')))
  await once(socket, 'close')
  return all
}

t.test('who holds most loses what came last, and nobody else anything', async t => {
  const gateway = await startGateway(t, { env: bounds })
  const greedy = await gateway.initialize(gateway.token({ uid: 3 }))
  const client = { uid: 3, claims: { aud: 'another' } }
  const again = await gateway.initialize(gateway.token(client))
  const modest = await gateway.initialize(gateway.token())
  t.equal(await buffered(gateway), 0)

  const large = ping('x'.repeat(7.5 * MB))
  const first = dial(t, gateway)
  first.write(post(greedy, large))
  // The body three times, and the answer.
  await until(gateway, bytes => bytes > 29 * MB)
  t.ok((await buffered(gateway)) < 31 * MB)

  const second = await gateway.post(large, again)
  t.equal(second.status, 503, 'a body that is coming is refused, whatever client sends it')
  t.equal(second.headers.get('retry-after'), '1')
  t.equal(second.json.error.code, -32603)
  t.notOk(first.destroyed, 'what came before is kept')
  t.equal(await metric(gateway, 'buffers_given_up_total'), 1)

  gateway.audited.length = 0
  const other = await gateway.post(ping('y'.repeat(4 * MB)), modest)
  t.equal(other.status, 200, 'another finds room')
  t.equal(other.json.id.length, 4 * MB)
  const got = await text(first.resume())
  t.ok(got.length < large.length, 'where the one who held most has his connection closed')
  t.equal(await metric(gateway, 'buffers_given_up_total'), 2)
  while (gateway.audited.length < 2) await new Promise(setImmediate)
  t.strictSame(
    new Set(gateway.audited.map(line => JSON.parse(line).status)),
    new Set([200, 499]),
    'and both have their lines'
  )
  await until(gateway, bytes => bytes === 0)
})

t.test('who is not signed in shares with nobody but his own address', async t => {
  const env = { ...bounds, AUTH_ANONYMOUS: 'public-tools' }
  const gateway = await startGateway(t, { env })
  const begin = async (address: string) => {
    const socket = dial(t, gateway, address)
    const before = await buffered(gateway)
    socket.write(post({}, 'x'.repeat(4.5 * MB), 8 * MB))
    await until(gateway, bytes => bytes === before + 13.5 * MB)
    return socket
  }
  await begin('127.0.0.1')
  const greedy = await begin('127.0.0.1')
  const modest = dial(t, gateway, '127.0.0.2')
  modest.on('data', () => t.fail('the other address is refused'))
  modest.resume().write(post({}, 'x'.repeat(4.5 * MB), 8 * MB))
  const [refusal] = (await once(greedy.resume(), 'data')) as [Buffer]
  t.match(refusal.toString(), /^HTTP\/1.1 503 /)
})

t.test('who is not signed in shares with all of his IPv6 network', async t => {
  const env = { ...bounds, AUTH_ANONYMOUS: 'public-tools', TRUSTED_PROXIES: '127.0.0.1' }
  const gateway = await startGateway(t, { env })
  const begin = async (address: string) => {
    const socket = dial(t, gateway)
    const before = await buffered(gateway)
    const from = { 'x-forwarded-for': address }
    socket.write(post(from, 'x'.repeat(4 * MB), 8 * MB))
    await until(gateway, bytes => bytes === before + 12 * MB)
    return socket
  }
  await begin('2001:db8::1')
  const greedy = await begin('2001:db8::2')
  await begin('2001:db8:0:1::1')
  // Counted one by one no address has more than the first of this network.
  const modest = dial(t, gateway)
  modest.on('data', () => t.fail('the other network is refused'))
  modest.write(post({ 'x-forwarded-for': '2001:db8:0:1::2' }, 'x'.repeat(2 * MB), 8 * MB))
  const [refusal] = (await once(greedy.resume(), 'data')) as [Buffer]
  t.match(refusal.toString(), /^HTTP\/1.1 503 /)
})

t.test('what is taken, and what its client has left, counts no longer', async t => {
  const env = { ...bounds, MAX_BUFFERED_BYTES: String(100 * MB) }
  const gateway = await startGateway(t, { env })
  const session = await gateway.initialize(gateway.token())
  const body = ping('x'.repeat(7.5 * MB))

  const pipelined = dial(t, gateway)
  pipelined.write(post(session, body) + post(session, body))
  await until(gateway, bytes => bytes > 59 * MB)
  pipelined.resume()
  await until(gateway, bytes => bytes === 0)
  t.notOk(pipelined.destroyed)

  // New ones: a connection that was read from may hold a whole answer in the kernel (tcp_rmem goes up to 32 MB), and it counts no more.
  const leaving = [dial(t, gateway), dial(t, gateway)]
  for (const socket of leaving) socket.write(post(session, body))
  await until(gateway, bytes => bytes > 59 * MB)
  for (const socket of leaving) socket.destroy()
  await until(gateway, bytes => bytes === 0)

  const coming = dial(t, gateway)
  coming.write(post(session, body.slice(0, MB), body.length))
  await until(gateway, bytes => bytes === 3 * MB)
  coming.destroy()
  await until(gateway, bytes => bytes === 0)

  const refused = dial(t, gateway)
  refused.write(post(session, 'x'.repeat(2 * MB)))
  refused.resume()
  await once(refused, 'data')
  await until(gateway, bytes => bytes === 0)
  t.equal(await metric(gateway, 'buffers_given_up_total'), 0)
})

t.test('a body counts for what it becomes when it is parsed', async t => {
  const gateway = await startGateway(t, { env: bounds })
  const session = await gateway.initialize(gateway.token())
  const dense = (count: number) =>
    `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":[${'{},'.repeat(count)}{}]}}`
  t.equal((await gateway.post(dense(100_000), session)).status, 200)
  const other = await gateway.initialize(gateway.token({ uid: 3 }))
  const patient = dial(t, gateway)
  patient.write(post(other, ping('x'.repeat(7.5 * MB))))
  await until(gateway, bytes => bytes > 29 * MB)
  const { status, headers, json } = await gateway.post(dense(350_000), session)
  t.strictSame([status, headers.get('retry-after'), json.error.code], [503, '1', -32603])
  t.match(gateway.audited.at(-1), /maxBufferedBytes/)
  t.notOk(patient.destroyed, 'nobody else loses anything')
  patient.resume()
  await until(gateway, bytes => bytes === 0)
  const tooMany = await gateway.post(dense(1_000_000), session)
  t.strictSame([tooMany.status, tooMany.headers.get('retry-after')], [413, null])
  t.match(tooMany.json.error.message, 'too many objects')
  t.match(gateway.audited.at(-1), /GW_BODY_TOO_LARGE/)
  const text = `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"${'{[\\\"'.repeat(400_000)}"}}`
  t.equal((await gateway.post(text, session)).status, 200, 'what stands in a text is text')
  t.equal(await buffered(gateway), 0)
  t.equal(await metric(gateway, 'buffers_given_up_total'), 1)
})

t.test('R45 a body at work is counted although its client has gone', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint, { ...bounds, DRUPAL_MAX_CONCURRENCY: '1' })
  const session = await gateway.initialize(gateway.token())
  const held: (() => void)[] = []
  server.onRequest = ({ id }, response) => {
    held.push(() => json(response, { jsonrpc: '2.0', id, result: { content: [] } }))
  }
  const call = JSON.stringify(
    rpc('tools/call', { name: 'echo', arguments: { text: 'x'.repeat(MB) } })
  )
  for (const count of [2, 1]) {
    const clients = Array.from({ length: count }, () => dial(t, gateway))
    const gone = () => gateway.audited.filter(line => line.includes('"status":499')).length
    const before = gone()
    for (const index of [0, 1]) {
      clients[index % count]?.write(post(session, call))
      await until(gateway, bytes => bytes > 3 * (index + 1) * MB)
    }
    while (held.length === 0) await new Promise(setImmediate)
    for (const client of clients) client.destroy()
    while (gone() < before + 2) await new Promise(setImmediate)
    t.ok((await buffered(gateway)) > 6 * MB, `one works, one waits; connections: ${count}`)
    for (const left of [1, 0]) {
      while (held.length === 0) await new Promise(setImmediate)
      held.pop()?.()
      await until(gateway, bytes => bytes < 3.5 * left * MB || bytes === 0)
    }
    t.equal(await buffered(gateway), 0)
  }
})

t.test('events that nobody takes are counted until they are taken', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint, bounds)
  let sent = 0
  let finish = () => {}
  server.onRequest = (message, response) => {
    const write = events(response)
    const more = () => {
      if (++sent > 10) finish = () => write({ jsonrpc: '2.0', id: message.id, result: {} })
      else {
        write(rpc('notifications/message', { level: 'info', data: 'x'.repeat(3 * MB) }, undefined))
        setImmediate(more)
      }
    }
    more()
  }
  const session = await gateway.initialize(gateway.token())
  const reader = dial(t, gateway)
  const accept = 'application/json, text/event-stream'
  reader.write(post({ accept, ...session }, JSON.stringify(rpc('tools/call', { name: 'echo' }))))
  await until(gateway, bytes => bytes > MB)
  let last = ''
  reader.on('data', (piece: Buffer) => void (last = piece.toString())).resume()
  while (sent <= 10) await new Promise(setImmediate)
  // While the stream goes on.
  await until(gateway, bytes => bytes === 0)
  t.equal(await metric(gateway, 'buffers_given_up_total'), 0)
  finish()
  while (!last.includes('"result":{}')) await once(reader, 'data')
})

/** An answer of which four are almost what a batch may hold. */
const LARGE = 100_000

/** A site of either kind whose calls are answered with so many bytes; that with `wait` in its arguments when `finish` is called. */
async function startLarge(t: Test, upstream: string, bytes: number, env: Record<string, string>) {
  const text = 'x'.repeat(bytes)
  const held: (() => void)[] = []
  const isModern = upstream === 'mcp'
  const result = isModern ? { content: [{ type: 'text', text }] } : text
  const tools = [{ name: 'export', inputSchema: { type: 'object' } }]
  const site = await startSite(t, ({ body, headers, url }, response) => {
    if (url.endsWith('/list')) return json(response, { tools })
    const { id, method } = JSON.parse(body) as { id: unknown; method: string }
    if (isModern && headers['mcp-protocol-version'] !== '2026-07-28') {
      return json(response, { jsonrpc: '2.0', id, error: { code: -32022, message: 'no' } }, 400)
    }
    if (method === 'server/discover') {
      return json(response, { jsonrpc: '2.0', id, result: { supportedVersions: ['2026-07-28'] } })
    }
    const answered = method === 'tools/list' ? { tools } : result
    const answer = () => json(response, { jsonrpc: '2.0', id, result: answered })
    if (body.includes('"wait"')) held.push(answer)
    else answer()
  })
  const path = isModern ? '/mcp' : '/mcp/tools'
  const gateway = await startBefore(t, `${site.url}${path}`, {
    ...bounds,
    DRUPAL_MAX_RESPONSE_BYTES: '409600',
    DRUPAL_UPSTREAM: upstream,
    ...env
  })
  const finish = () => {
    for (const answer of held.splice(0)) answer()
  }
  return { gateway, site, held, finish }
}

/** Calls whose ids are equally long; the first is held by the site. */
const batchOf = (count: number) =>
  Array.from({ length: count }, (_, index) =>
    rpc('tools/call', { name: 'export', arguments: index === 0 ? { wait: 1 } : {} }, 100 + index)
  )

/** One result of theirs, in bytes. */
const sizeOf = (text: string) =>
  JSON.stringify({ jsonrpc: '2.0', id: 100, result: { content: [{ type: 'text', text }] } }).length

for (const upstream of ['jsonrpc', 'mcp']) {
  t.test(`R48 the answers to a batch are bounded and counted, before ${upstream}`, async t => {
    const { gateway, site, held, finish } = await startLarge(t, upstream, LARGE, {})
    const session = await gateway.initialize(gateway.token(), '2025-03-26')
    const answering = gateway.post(batchOf(100), session)
    // What would pass alone passes, until as much is held as one answer may have.
    const most = 5 * sizeOf('x'.repeat(LARGE))
    await until(gateway, bytes => bytes === most)
    while (held.length === 0 || site.active > 1) await new Promise(setImmediate)
    t.equal(await buffered(gateway), most)
    finish()
    const { status, json: answers } = await answering
    t.equal(status, 200)
    t.strictSame(
      answers.map(({ id }: { id: number }) => id),
      batchOf(100).map(({ id }) => id),
      'each in its place'
    )
    const refusals = answers.filter(({ error }: { error?: object }) => error !== undefined)
    t.equal(refusals.length, 95)
    t.equal(refusals[0].id, 100, 'which came last')
    for (const { error } of refusals) {
      t.match(error, { code: -32603, message: /larger than .* may have been carried out/ })
    }
    t.equal(gateway.audited.filter(line => line.includes('GW_UPSTREAM_TOO_LARGE')).length, 95)
    await until(gateway, bytes => bytes === 0)
  })

  t.test(`R48 the answers to a batch are given up as others are, before ${upstream}`, async t => {
    const env = { MAX_BODY_BYTES: '100000', MAX_BUFFERED_BYTES: '1200000' }
    const { gateway, held, finish } = await startLarge(t, upstream, LARGE, env)
    const session = await gateway.initialize(gateway.token(), '2025-03-26')
    const size = sizeOf('x'.repeat(LARGE))
    const first = gateway.post(batchOf(6), session)
    await until(gateway, bytes => bytes === 5 * size)
    const second = gateway.post(batchOf(6), session)
    await until(gateway, bytes => bytes === 10 * size)
    const third = gateway.post([rpc('logging/setLevel', undefined, 1), ...batchOf(6)], session)
    while ((await metric(gateway, 'buffers_given_up_total')) === 0 || held.length < 3) {
      await new Promise(setImmediate)
    }
    t.equal(await buffered(gateway), 10 * size)
    finish()
    for (const kept of await Promise.all([first, second])) {
      t.equal(kept.json.filter((answer: object) => 'result' in answer).length, 5)
    }
    const [unknown, ...calls] = (await third).json
    t.match(unknown, { id: 1, error: { code: -32601 } }, 'what was refused already stays so')
    t.equal(calls.length, 6)
    for (const { error } of calls) {
      t.match(error, { code: -32603, message: /busy.* may have been carried out/ })
    }
    await until(gateway, bytes => bytes === 0)
  })
}

t.test('R48 what a client that has gone would get of its batch is not collected', async t => {
  const { gateway, held, site, finish } = await startLarge(t, 'jsonrpc', LARGE, {})
  const session = await gateway.initialize(gateway.token(), '2025-03-26')
  const leaving = dial(t, gateway)
  leaving.write(post(session, JSON.stringify(batchOf(2))))
  await until(gateway, bytes => bytes === sizeOf('x'.repeat(LARGE)))
  leaving.destroy()
  while (gateway.audited.every(line => !line.includes('499'))) await new Promise(setImmediate)
  t.ok((await buffered(gateway)) > LARGE, 'what is held counts on')
  finish()
  while (site.active > 0) await new Promise(setImmediate)
  await until(gateway, bytes => bytes === 0)
  t.equal(held.length, 0)
})
