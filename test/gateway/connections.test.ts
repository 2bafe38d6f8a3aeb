// How connections end, over real sockets: what was answered arrives, what was refused is over, and nothing stays behind.
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { modern } from './fixtures/mcp.ts'
import { type Started, startGateway } from './fixtures/start.ts'

const PING = '{"jsonrpc":"2.0","id":7,"method":"ping"}'

interface Client {
  socket: Socket
  /** All that has come. */
  said: { text: string }
  /** The gateway has closed its side: in good order, or while something was on its way to it. */
  over: Promise<void>
  /** Waits until what has come is of this form. */
  until: (form: RegExp) => Promise<void>
}

/** A client that keeps its side open whatever the gateway does. */
function dial(t: Test, { origin }: Started): Client {
  const { hostname, port } = new URL(origin)
  const socket = connect({ host: hostname, port: Number(port), allowHalfOpen: true })
  const said = { text: '' }
  t.teardown(() => socket.destroy())
  socket.on('data', (piece: Buffer) => void (said.text += piece.toString()))
  socket.on('error', () => {})
  const over = new Promise<void>(resolve => {
    socket.once('end', resolve).once('close', () => resolve())
  })
  async function until(form: RegExp) {
    while (!form.test(said.text)) await once(socket, 'data')
  }
  return { socket, said, over, until }
}

const lines = (headers: Record<string, string>) =>
  Object.entries(headers)
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join('')

const post = (path: string, headers: string, body = '') =>
  `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n${headers}\r\n${body}`

const statuses = ({ said }: Client) =>
  [...said.text.matchAll(/^HTTP\/1\.1 (\d+)/gm)].map(([, status]) => Number(status))

/** Resolves when the gateway has no connection but these many. */
async function openConnections({ gateway }: Started, wanted: number): Promise<void> {
  for (;;) {
    const count = await new Promise<number>((resolve, reject) =>
      gateway.app.server.getConnections((error, open) => (error ? reject(error) : resolve(open)))
    )
    if (count === wanted) return
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}

t.test('what does not come to its end within REQUEST_TIMEOUT is refused and over', async t => {
  const gateway = await startGateway(t, { env: { REQUEST_TIMEOUT: '1', ADMIN_PORT: '0' } })
  const session = lines(await gateway.initialize(gateway.token()))
  await openConnections(gateway, 1)
  const clients = {
    nothing: dial(t, gateway),
    'half a head': dial(t, gateway),
    'half a body': dial(t, gateway),
    'no end of a body, refused already': dial(t, gateway),
    garbage: dial(t, gateway)
  }
  clients['half a head'].socket.write('POST /mcp HTTP/1.1\r\nHost: loc')
  const body = clients['half a body'].socket
  body.write(post('/mcp', `${session}Content-Length: 100\r\n`, '{'))
  const endless = clients['no end of a body, refused already']
  endless.socket.write(post('/mcp', 'Transfer-Encoding: chunked\r\n', '1\r\n{\r\n'))
  const more = setInterval(() => endless.socket.write('1\r\nx\r\n'), 100)
  await openConnections(gateway, 6)
  clients.garbage.socket.write('garbage\r\n\r\n')
  const before = performance.now()
  // fetch keeps its connection; the others have gone although the clients keep theirs.
  await openConnections(gateway, 1)
  clearInterval(more)
  t.ok(performance.now() - before < 10_000, 'both times are the configured one')
  await Promise.all(Object.values(clients).map(({ over }) => over))
  const told = Object.entries(clients).map(([name, client]) => [name, statuses(client)[0]])
  t.strictSame(Object.fromEntries(told), {
    nothing: 408,
    'half a head': 408,
    'half a body': 408,
    'no end of a body, refused already': 401,
    garbage: 400
  })
  const scrape = await gateway.gateway.admin?.inject('/metrics')
  // The body without an end, too: of a request, but not one that can be read to its end.
  t.match(scrape?.body, /^mcp_gateway_unread_requests_total\{status="408"\} 4$/m, 'all are counted')
  t.match(scrape?.body, /^mcp_gateway_unread_requests_total\{status="400"\} 1$/m)
  gateway.audited.length = 0
  body.write(PING.slice(1).padEnd(99))
  await gateway.post(PING)
  t.equal(gateway.audited.length, 1, 'and what comes too late is not carried out')
})

t.test('a free connection is kept for as long as KEEP_ALIVE says', async t => {
  const gateway = await startGateway(t, { env: { KEEP_ALIVE: '3660' } })
  const accepted = once(gateway.gateway.app.server, 'connection') as Promise<[Socket]>
  const client = dial(t, gateway)
  const [socket] = await accepted
  client.socket.write('GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n')
  await client.until(/\r\n\r\n/)
  t.match(client.said.text, /^keep-alive: timeout=3660\r$/im)
  // Later versions of Node add a second.
  t.match(socket.timeout, /^366[01]000$/, 'and so it is kept')
})

t.test('garbage behind a request does not cost it its answer', async t => {
  const gateway = await startGateway(t)
  const session = lines(await gateway.initialize(gateway.token()))
  const requests: [string, string, number][] = [
    ['404', 'GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n', 404],
    ['401', post('/mcp', `Content-Length: ${PING.length}\r\n`, PING), 401],
    ['a page', 'GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n\r\n', 200]
  ]
  for (const [name, request, status] of requests) {
    for (const garbage of ['garbage\r\n\r\n', 'CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n']) {
      const client = dial(t, gateway)
      client.socket.write(request + garbage)
      await once(client.socket, 'end')
      t.equal(statuses(client)[0], status, `${name}, then ${garbage.slice(0, 7)}`)
    }
  }
  await openConnections(gateway, 1)

  const stream = dial(t, gateway)
  stream.socket.write(
    `GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n${session}\r\n`
  )
  await stream.until(/\r\n\r\n/)
  stream.socket.write('garbage\r\n\r\n')
  await once(stream.socket, 'end')
  t.strictSame(statuses(stream), [200], 'nothing is written into an event stream')
  await openConnections(gateway, 1)
})

t.test(
  'who is refused while sending may send on, and is not reset before the answer is read',
  async t => {
    const gateway = await startGateway(t)
    const session = lines(await gateway.initialize(gateway.token()))
    const size = 12 << 20
    const chunk = `${size.toString(16)}\r\n`
    const known = `Content-Length: ${size}\r\n`
    const rows: [string, number, string, string, string][] = [
      ['a body declared too large', 413, session + known, '', ''],
      [
        'one that becomes so',
        413,
        `${session}Transfer-Encoding: chunked\r\n`,
        chunk,
        '\r\n0\r\n\r\n'
      ],
      ['a client that asks to close', 401, `Connection: close\r\n${known}`, '', '']
    ]
    for (const [name, status, headers, before, behind] of rows) {
      const client = dial(t, gateway)
      const errors: Error[] = []
      client.socket.on('error', error => errors.push(error))
      // As much as makes it refuse; the rest is more than what lies between the two can hold.
      const first = before === '' ? 1 : (4 << 20) + 1
      client.socket.write(post('/mcp', headers, before + 'x'.repeat(first)))
      await client.until(/\{.*\}$/s)
      t.match(client.said.text, /^connection: close\r$/im, name)
      client.socket.write('x'.repeat(size - first) + behind)
      await client.over
      t.strictSame(errors, [], name)
      t.strictSame(statuses(client), [status], name)
    }

    const client = dial(t, gateway)
    client.socket.write(post('/mcp', 'Connection: close\r\nContent-Length: 2\r\n', '{'))
    await client.until(/\{.*\}$/s)
    client.socket.write(`}${post('/mcp', `${session}Content-Length: ${PING.length}\r\n`, PING)}`)
    await client.over
    t.strictSame(statuses(client), [401], 'what is behind the last answer is not carried out')
  }
)

t.test('a connection is used again only where all of its request has come', async t => {
  const gateway = await startGateway(t)
  const known = `Content-Length: ${PING.length}\r\n`
  const chunk = `${PING.length.toString(16)}\r\n${PING}\r\n`
  const rows: [string, string, string][] = [
    ['a body of known length', known, PING],
    ['one in chunks', 'Transfer-Encoding: chunked\r\n', `${chunk}0\r\n\r\n`],
    ['none', '', ''],
    ['one of no bytes', 'Content-Length: 0\r\n', '']
  ]
  const listen = 'GET /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n'
  for (const path of ['/mcp', '/nothing', '/%', '/mcp/%ff', '/mcp?expecting']) {
    const expect = path.endsWith('?expecting') ? 'Expect: the-unexpected\r\n' : ''
    for (const [name, more, body] of rows) {
      const headers = expect + more
      // The router gives up on these before it could be known.
      if (!path.includes('%')) {
        const whole = dial(t, gateway)
        whole.socket.write(post(path, headers, body))
        await whole.until(/\{.*\}$/s)
        t.match(
          whole.said.text,
          /^connection: keep-alive\r$/im,
          `${name} to ${path}, with the head`
        )
        whole.socket.write(listen)
        await whole.until(/\{.*\}.*\{.*\}$/s)
      }
      if (body === '') continue

      // What a proxy sends that forgets the body: HAProxy 2.6, where the client speaks HTTP/2.
      const early = dial(t, gateway)
      early.socket.write(post(path, headers))
      await early.until(/\{.*\}$/s)
      t.match(early.said.text, /^connection: close\r$/im, `${name} to ${path}, answered before it`)
      early.socket.write(body + listen)
      await early.over
      t.equal(statuses(early).length, 1)
    }
  }
})

t.test('a client that closes its side is answered, however its bytes fall', async t => {
  const gateway = await startGateway(t)
  const session = lines(await gateway.initialize(gateway.token()))
  for (const size of [65_535, 65_536, 65_537, 131_072]) {
    for (const [path, headers, status] of [
      ['/nothing', '', 404],
      ['/mcp', session, 200]
    ] as const) {
      const head = (length: number) =>
        post(path, `${headers}Content-Length: ${String(length).padStart(6, '0')}\r\n`)
      const room = size - head(0).length
      const client = dial(t, gateway)
      client.socket.end(head(room) + PING.padEnd(room))
      await once(client.socket, 'end')
      t.strictSame(statuses(client), [status], `${size} bytes to ${path}`)
    }
  }
})

t.test('a stop waits for a slow reader', async t => {
  const gateway = await startGateway(t, {
    file: { server: { readinessDelaySeconds: 0 } },
    env: { MAX_BODY_BYTES: '33554432', MAX_BUFFERED_BYTES: '268435456' }
  })
  const session = lines(await gateway.initialize(gateway.token()))
  // More than the kernel keeps for two sockets.
  const id = 'x'.repeat(30_000_000)
  const ping = JSON.stringify({ jsonrpc: '2.0', id, method: 'ping' })
  const accepted = once(gateway.gateway.app.server, 'connection') as Promise<[Socket]>
  const client = dial(t, gateway)
  const [served] = await accepted
  client.socket.pause()
  client.socket.write(post('/mcp', `${session}Content-Length: ${ping.length}\r\n`, ping))
  const turn = () => new Promise(resolve => setImmediate(resolve))
  while (served.writableLength === 0) await turn()
  const stopped = gateway.gateway.stop()
  await new Promise(resolve => setTimeout(resolve, 200))
  t.notOk(served.destroyed)
  client.socket.resume()
  await once(client.socket, 'end')
  t.ok(client.said.text.endsWith(`{"jsonrpc":"2.0","id":"${id}","result":{}}`), 'all of it comes')
  await stopped
})

t.test('calls that wait behind another on a connection that goes leave their line', async t => {
  const gateway = await startGateway(t, { env: { STREAMS_PER_PRINCIPAL: '4' } })
  const token = gateway.token()
  const session = lines(await gateway.initialize(token))
  const stream = `GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n${session}\r\n`
  gateway.audited.length = 0
  const client = dial(t, gateway)
  client.socket.write(stream.repeat(4))
  await client.until(/\r\n\r\n/)
  client.socket.destroy()
  await openConnections(gateway, 1)
  while (gateway.audited.length < 4) await new Promise(resolve => setImmediate(resolve))
  for (let n = 0; n < 4; n++) {
    const next = dial(t, gateway)
    next.socket.write(stream)
    await next.until(/\r\n\r\n/)
    t.strictSame(statuses(next), [200], 'and give back the place of their stream')
  }
})

t.test('a few requests may wait on a connection, with many it is closed', async t => {
  const gateway = await startGateway(t, { env: { ADMIN_PORT: '0' } })
  const session = lines(await gateway.initialize(gateway.token()))
  const ping = post('/mcp', `${session}Content-Length: ${PING.length}\r\n`, PING)
  const few = dial(t, gateway)
  for (let round = 1; round <= 3; round++) {
    few.socket.write(ping.repeat(33))
    while (few.said.text.split('"result":{}').length <= 33 * round) await once(few.socket, 'data')
  }

  gateway.audited.length = 0
  const many = dial(t, gateway)
  many.socket.write('GET /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(1000))
  await many.over
  await openConnections(gateway, 2)
  while (gateway.audited.length < 34) await new Promise(resolve => setImmediate(resolve))
  t.equal(gateway.audited.length, 34, 'and what is behind them is not carried out')
  const scrape = await gateway.gateway.admin?.inject('/metrics')
  t.match(scrape?.body, /^mcp_gateway_crowded_connections_total 1$/m, 'and it is counted')
  t.notMatch(gateway.audited.join('\n'), /"status":401/, 'nobody was told anything')
})

t.test('a client that resets its connection at once is no error', async t => {
  const gateway = await startGateway(t, { env: { AUTH_ANONYMOUS: 'public-tools' } })
  const { socket } = dial(t, gateway)
  await once(socket, 'connect')
  const call = modern('tools/call', { name: 'site.info', arguments: {} })
  const body = JSON.stringify(call.body)
  const length = { 'Content-Length': String(Buffer.byteLength(body)) }
  socket.write(post('/mcp', lines({ ...call.headers, ...length }), body))
  socket.resetAndDestroy()
  const isUncaught = () => gateway.logged.join('').includes('uncaught')
  while (gateway.audited.length === 0 && !isUncaught())
    await new Promise(resolve => setTimeout(resolve, 5))
  t.notOk(isUncaught())
  t.match(gateway.audited, [/"status":499/])
})
