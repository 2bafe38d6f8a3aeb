import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { join } from 'node:path'
import type { TLSSocket } from 'node:tls'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t, { type Test } from 'tap'
import type { RequestHandler } from '../../src/drupal/connection.ts'
import { CommonHeaders, type OutgoingRequest } from '../../src/drupal/request-head.ts'
import { type Connections, createConnections } from '../../src/drupal/connections.ts'
import { exchange } from '../../src/drupal/exchange.ts'
import { builtProgram } from '../fixtures/program.ts'
import { refused, startSite, startTcp } from './site.ts'

function connectionsTo(t: Test, origin: string, keepAliveMs = 4000): Connections {
  const { host } = new URL(origin)
  const connections = createConnections({ origin, host, connectTimeoutMs: 2000, keepAliveMs })
  t.teardown(() => connections.close())
  return connections
}

const request = (more: Partial<OutgoingRequest> = {}) => ({
  method: 'GET',
  path: '/x',
  headers: { host: 'cms.example' },
  ...more
})
const bounds = { maxBytes: 1_000_000, headersTimeoutMs: 5000, callTimeoutMs: 5000 }
const ask = (connections: Connections, more: Partial<OutgoingRequest> = {}) =>
  exchange(connections, { ...request(more), ...bounds })

t.test(
  'one connection serves one request after the other, and two at the same time need two',
  async t => {
    const ports: (number | undefined)[] = []
    const site = await startSite(t, (_seen, response, incoming) => {
      ports.push(incoming.socket.remotePort)
      response.end('{}')
    })
    const connections = connectionsTo(t, site.url)
    for (const body of ['{"text":"plain"}', '{"text":"schön"}', Buffer.alloc(100_000, 'ü'), null]) {
      const headers = { host: 'cms.example', 'x-name': 'schön' }
      const answer = await ask(connections, { method: 'POST', headers, body })
      t.equal(answer.status, 200)
      t.equal(site.seen.at(-1)?.headers['x-name'], 'schön')
      t.equal(site.seen.at(-1)?.body, body?.toString() ?? '')
      t.equal(site.seen.at(-1)?.headers['content-length'], String(Buffer.byteLength(body ?? '')))
    }
    t.equal(new Set(ports).size, 1)
    await Promise.all([ask(connections), ask(connections)])
    t.equal(new Set(ports).size, 2)
    t.notOk('content-length' in (site.seen.at(-1)?.headers ?? {}), 'a GET has no body')
  }
)

t.test(
  'a connection that the other side closes, or speaks on unasked, is never used again',
  async t => {
    const sockets: Socket[] = []
    const url = await startTcp(t, socket => {
      sockets.push(socket)
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}')
    })
    const connections = connectionsTo(t, url)
    await ask(connections)
    const [first] = sockets as [Socket]
    const gone = once(first, 'close')
    first.write('HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged')
    await gone
    t.equal((await ask(connections)).body.toString(), '{}')
    t.equal(sockets.length, 2)
    const [, second] = sockets as [Socket, Socket]
    const ended = once(second, 'close')
    second.end()
    await ended
    await ask(connections)
    t.equal(sockets.length, 3)
  }
)

t.test('bytes after an answer end its connection', async t => {
  let count = 0
  const url = await startTcp(t, socket => {
    count++
    socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n\r\n')
  })
  const connections = connectionsTo(t, url)
  t.equal((await ask(connections)).body.toString(), '{}')
  await ask(connections)
  t.equal(count, 2)
})

t.test('bytes after a stream of events take nothing of it away', async t => {
  let isClosed: Promise<unknown> | undefined
  const url = await startTcp(t, socket => {
    isClosed = once(socket, 'close')
    const head = 'HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n'
    socket.write(`${head}transfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n0\r\n\r\n\r\n`)
  })
  const asked = exchange(connectionsTo(t, url), { ...request(), ...bounds, streams: true })
  const { stream } = await asked
  await isClosed
  t.equal(String(await stream?.reduce((all, bytes) => all + String(bytes), '')), 'data: 1\n\n')
})

t.test('a connection that is discarded brings nobody anything more', async t => {
  const sockets = new Set<Socket>()
  const site = await startSite(t, (seen, response, { socket }) => {
    sockets.add(socket)
    if (seen.url === '/x') response.end('{}')
  })
  const connections = connectionsTo(t, site.url)
  const first = await ask(connections)
  first.source?.discard()
  const second = await ask(connections)
  t.equal(sockets.size, 2, 'it was free')
  const unsent = ask(connections)
  second.source?.discard()
  const third = await unsent
  t.equal(third.status, 200, 'what was still to be sent on it goes out on another')
  t.equal(sockets.size, 3)
  const waiting = refused(ask(connections, { method: 'POST', path: '/wait', body: '{}' }))
  while (site.active === 0) await new Promise(setImmediate)
  third.source?.discard()
  t.match(await waiting, {
    code: 'GW_UPSTREAM_UNAVAILABLE',
    reason: 'connection failed: ERR_DISCARDED',
    hint: /may have been carried out/
  })
})

t.test('after HEAD comes no other answer: some send the body of one', async t => {
  const ports = new Set<number | undefined>()
  const site = await startSite(t, (_seen, response, { socket }) => {
    ports.add(socket.remotePort)
    response.end('{}')
  })
  const connections = connectionsTo(t, site.url)
  for (const method of ['GET', 'HEAD', 'GET']) await ask(connections, { method })
  t.equal(ports.size, 2)
})

t.test('events that came whole are read although their connection has closed since', async t => {
  for (const [how, framing, events] of [
    ['chunked', 'transfer-encoding: chunked', '9\r\ndata: 1\n\n\r\n0\r\n\r\n'],
    ['up to the end of the connection', 'connection: close', 'data: 1\n\n']
  ] as const) {
    let isClosed: Promise<unknown> | undefined
    const url = await startTcp(t, socket => {
      isClosed = once(socket, 'close')
      socket.end(
        `HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n${framing}\r\n\r\n${events}`
      )
    })
    const asked = exchange(connectionsTo(t, url), { ...request(), ...bounds, streams: true })
    const { stream } = await asked
    await isClosed
    t.equal(
      String(await stream?.reduce((all, bytes) => all + String(bytes), '')),
      'data: 1\n\n',
      how
    )
  }
})

t.test('a connection that closes before the request has left is replaced', async t => {
  for (const [how, close] of [
    ['FIN', (socket: Socket) => socket.destroy()],
    ['reset', (socket: Socket) => socket.resetAndDestroy()],
    ['bytes that nobody asked for', (socket: Socket) => socket.write('HTTP/1.1 200 OK\r\n\r\n')]
  ] as const) {
    const sockets: Socket[] = []
    const url = await startTcp(t, socket => {
      sockets.push(socket)
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}')
    })
    const connections = connectionsTo(t, url)
    await ask(connections, { method: 'POST', body: '1' })
    // What is asked now is sent only after the news of the close has been read.
    await new Promise(setImmediate)
    close(sockets[0] as Socket)
    const answer = await ask(connections, { method: 'POST', body: '2' })
    t.equal(answer.body.toString(), '{}', how)
    t.equal(sockets.length, 2, how)
  }
})

t.test('a site that closes while TLS begins was never asked', async t => {
  const url = await startTcp(t, socket => socket.end())
  const connections = connectionsTo(t, url.replace('http:', 'https:'))
  const error = await refused(ask(connections, { method: 'POST', body: '{}' }))
  t.match(error, { code: 'GW_UPSTREAM_UNAVAILABLE', reason: 'connection failed: ECONNRESET' })
  t.notMatch(error['hint'], /may have been carried out/)
})

t.test('a connection that is always busy is replaced: the site may have moved', async t => {
  const ports = new Set<number | undefined>()
  const site = await startSite(t, (_seen, response, incoming) => {
    ports.add(incoming.socket.remotePort)
    response.end('{}')
  })
  const times = { connectTimeoutMs: 2000, keepAliveMs: 4000, maxAgeMs: 20 }
  const connections = createConnections({ origin: site.url, host: 'cms.example', ...times })
  t.teardown(() => connections.close())
  for (const end = performance.now() + 100; performance.now() < end; ) await ask(connections)
  t.ok(ports.size > 1 && ports.size < site.seen.length, `${ports.size} for ${site.seen.length}`)
})

t.test('a connection of which the answer says `close` is closed, and no other', async t => {
  const sockets: Socket[] = []
  const url = await startTcp(t, socket => sockets.push(socket))
  const connections = connectionsTo(t, url)
  const asked = [ask(connections), ask(connections)]
  while (sockets.length < 2) await new Promise(setImmediate)
  const [kept, closing] = sockets as [Socket, Socket]
  kept.write('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n')
  await Promise.race(asked)
  const isClosed = once(closing, 'close')
  closing.write('HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n')
  await Promise.all([...asked, isClosed])
  kept.once('data', () => kept.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}'))
  t.equal((await ask(connections)).body.toString(), '{}')
  t.equal(sockets.length, 2)
})

t.test('of what is aborted nobody is told', async t => {
  let isClosed: Promise<unknown> | undefined
  const url = await startTcp(t, socket => {
    isClosed = once(socket, 'close')
    connection.abort()
  })
  const connections = connectionsTo(t, url)
  const told = () => t.fail('told')
  const handler = { onSend() {}, onHeaders: told, onComplete: told, onError: told }
  const connection = connections.send(request(), { ...handler, onData: () => true })
  while (isClosed === undefined) await new Promise(setImmediate)
  await isClosed
})

t.test('without a port it is that of the scheme', async t => {
  for (const [origin, address, port] of [
    ['http://255.255.255.255', '255.255.255.255', 80],
    ['https://255.255.255.255', '255.255.255.255', 443],
    ['https://255.255.255.255:80', '255.255.255.255', 80],
    ['http://[ff02::1]', 'ff02::1', 80]
  ] as const) {
    // TCP has no connection to many: these fail before anything is sent.
    const error = await new Promise(onError => {
      const [onSend, onHeaders, onComplete] = [() => {}, () => {}, () => {}]
      const handler = { onSend, onHeaders, onData: () => true, onComplete, onError }
      connectionsTo(t, origin).send(request(), handler)
    })
    t.match(error, { address, port }, origin)
  }
})

t.test('of a connection that has closed nothing is kept', async t => {
  const site = await startSite(t, (_seen, response) => {
    response.setHeader('connection', 'close').end('{}')
  })
  const connections = connectionsTo(t, site.url)
  setFlagsFromString('--expose-gc')
  const gc = runInNewContext('gc') as () => void
  function inUse() {
    gc()
    return process.memoryUsage().arrayBuffers
  }
  await ask(connections)
  const before = inUse()
  for (let calls = 0; calls < 100; calls++) await ask(connections)
  // Each had a buffer of 64 KB.
  const isFree = () => inUse() - before < 1_000_000
  for (let turns = 0; turns < 100 && !isFree(); turns++) await new Promise(setImmediate)
  t.ok(isFree())
})

t.test(
  'the time to connect ends no connection that is made, and what is past its time is not used',
  async t => {
    const ports: (number | undefined)[] = []
    const site = await startSite(t, (_seen, response, incoming) => {
      ports.push(incoming.socket.remotePort)
      setTimeout(() => response.end('{}'), 150)
    })
    const { host } = new URL(site.url)
    const times = { connectTimeoutMs: 100, keepAliveMs: 20 }
    const connections = createConnections({ origin: site.url, host, ...times })
    t.teardown(() => connections.close())
    t.equal((await ask(connections)).body.toString(), '{}')
    await new Promise(resolve => setTimeout(resolve, 50))
    await ask(connections)
    t.equal(new Set(ports).size, 2)
  }
)

t.test('free connections close in time', async t => {
  const closed: Promise<unknown>[] = []
  const url = await startTcp(t, socket => {
    closed.push(once(socket, 'close'))
    socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}')
  })
  const connections = connectionsTo(t, url, 20)
  for (let rounds = 0; rounds < 2; rounds++) {
    await Promise.all([ask(connections), ask(connections)])
    await Promise.all(closed)
  }
  t.equal(closed.length, 4)
})

t.test('what would not be one request is not sent', async t => {
  const site = await startSite(t)
  const connections = connectionsTo(t, site.url)
  for (const more of [
    { headers: { host: 'a\r\nx: y' } },
    { headers: { host: 'a\0' } },
    { headers: { host: '\u010a' } },
    { common: [new CommonHeaders({ host: 'a\r\nx: y' })] },
    { common: [new CommonHeaders({ host: 'a' }), new CommonHeaders({ accept: 'a\nx: y' })] },
    { bearer: 'a\r\nx: y' },
    { bearer: 'a b' },
    { bearer: '' },
    { path: '/a b' },
    { path: '' },
    { path: '/\u010a' },
    { method: 'GET /' }
  ]) {
    t.match(await refused(ask(connections, more)), { code: 'GW_INTERNAL' }, JSON.stringify(more))
  }
  t.strictSame(site.seen, [])
})

t.test('a reader that asks for a pause gets no more until it goes on', async t => {
  const url = await startTcp(t, socket => {
    socket.write(`HTTP/1.1 200 OK\r\n\r\n${'x'.repeat(1_000_000)}`, () => socket.end())
  })
  let received = 0
  let pauses = 0
  await new Promise<void>((resolve, reject) => {
    const handler: RequestHandler = {
      onSend() {},
      onHeaders() {},
      onData(_bytes, from, to) {
        received += to - from
        pauses++
        const before = received
        setTimeout(() => {
          t.equal(received, before, 'nothing came meanwhile')
          connection.resume()
        }, 2)
        return false
      },
      onComplete: resolve,
      onError: reject
    }
    const connection = connectionsTo(t, url).send(request(), handler)
  })
  t.equal(received, 1_000_000)
  t.ok(pauses > 1)
})

t.test(
  'a pause that is asked for with the last bytes does not hold up the next request',
  async t => {
    const ports = new Set<number | undefined>()
    const site = await startSite(t, (_seen, response, incoming) => {
      ports.add(incoming.socket.remotePort)
      response.end('{}')
    })
    const connections = connectionsTo(t, site.url)
    await new Promise<void>((resolve, reject) => {
      connections.send(request(), {
        onSend() {},
        onHeaders() {},
        onData: () => false,
        onComplete: resolve,
        onError: reject
      })
    })
    t.equal((await ask(connections)).body.toString(), '{}')
    t.equal(ports.size, 1)
  }
)

t.test(
  'a busy gateway is no silent site: what has arrived is read before the time-out counts',
  async t => {
    const site = await startSite(t, (_seen, response) => setTimeout(() => response.end('{}'), 20))
    const connections = connectionsTo(t, site.url)
    await ask(connections)
    for (const bound of ['headersTimeoutMs', 'callTimeoutMs']) {
      const asked = exchange(connections, { ...request(), ...bounds, [bound]: 60 })
      // The answer of a site in a process of its own would have come; here it is made to wait as well, and then both are due at once.
      const busy = performance.now() + 100
      setTimeout(() => {
        while (performance.now() < busy);
      }, 30)
      t.equal((await asked).status, 200, bound)
    }
  }
)

t.test('on a kept connection silence ends a call as on a new one, and it may have run', async t => {
  const ports: (number | undefined)[] = []
  const site = await startSite(t, (seen, response, incoming) => {
    ports.push(incoming.socket.remotePort)
    if (seen.method === 'GET') response.end('{}')
  })
  const connections = connectionsTo(t, site.url)
  await ask(connections)
  const call = { ...request({ method: 'POST', body: '{}' }), ...bounds, headersTimeoutMs: 50 }
  t.match(await refused(exchange(connections, call)), {
    code: 'GW_UPSTREAM_TIMEOUT',
    reason: /^silence of the site/,
    message: /may have been carried out/
  })
  t.equal(new Set(ports).size, 1)
})

t.test('neither the time nor the signal of an answered call ends the next one', async t => {
  const ports: (number | undefined)[] = []
  const site = await startSite(t, (seen, response, incoming) => {
    ports.push(incoming.socket.remotePort)
    if (seen.url === '/x') response.end('{}')
    else setTimeout(() => response.end('late'), 150)
  })
  const connections = connectionsTo(t, site.url)
  const controller = new AbortController()
  const { signal } = controller
  await exchange(connections, { ...request(), ...bounds, signal, callTimeoutMs: 100 })
  await exchange(connections, { ...request(), ...bounds, headersTimeoutMs: 100 })
  const asked = ask(connections, { path: '/late' })
  await new Promise(setImmediate)
  controller.abort(new Error('gone'))
  t.equal((await asked).body.toString(), 'late')
  t.equal(new Set(ports).size, 1)
})

t.test('a stream may take longer than a call, and tells that it was lost', async t => {
  const site = await startSite(t, (seen, response) => {
    response.setHeader('content-type', 'text/event-stream').write('data: 1\n\n')
    setTimeout(() => {
      if (seen.url === '/x') response.end('data: 2\n\n')
      else response.destroy()
    }, 150)
  })
  const connections = connectionsTo(t, site.url)
  const asked = { ...request(), ...bounds, streams: true, callTimeoutMs: 100 }
  const { stream } = await exchange(connections, asked)
  const text = await stream?.reduce((all, bytes) => all + String(bytes), '')
  t.equal(text, 'data: 1\n\ndata: 2\n\n')
  const lost = await exchange(connections, { ...asked, path: '/lost' })
  t.match(await refused(lost.stream?.toArray()), { code: 'GW_UPSTREAM_INVALID' })
})

t.test('the time for a call runs while its connection is being made', async t => {
  const url = await startTcp(t, () => {})
  const connections = connectionsTo(t, url.replace('http:', 'https:'))
  const error = await refused(exchange(connections, { ...request(), ...bounds, callTimeoutMs: 50 }))
  t.match(error, { code: 'GW_UPSTREAM_TIMEOUT', reason: 'no complete answer within 50 ms' })
})

t.test('a connection that takes too long to be made is given up', async t => {
  const origin = (await startTcp(t, () => {})).replace('http:', 'https:')
  const { host } = new URL(origin)
  const times = { connectTimeoutMs: 50, keepAliveMs: 4000 }
  const connections = createConnections({ origin, host, ...times })
  t.teardown(() => connections.close())
  const error = await refused(ask(connections))
  t.match(error, { code: 'GW_UPSTREAM_UNAVAILABLE', reason: 'connection failed: ETIMEDOUT' })
})

t.test('a body may take longer than its silences', async t => {
  const site = await startSite(t, (_seen, response) => {
    let pieces = 0
    const timer = setInterval(() => {
      response.write('piece')
      if (++pieces < 5) return
      clearInterval(timer)
      response.end()
    }, 100)
  })
  const asked = { ...request(), ...bounds, headersTimeoutMs: 300 }
  const { body } = await exchange(connectionsTo(t, site.url), asked)
  t.equal(body.toString(), 'piece'.repeat(5))
})

t.test('an answer may be as large as the bound, and no larger', async t => {
  const site = await startSite(t, (seen, response) => {
    if (seen.method === 'GET') response.setHeader('content-length', 2)
    response.write('{')
    response.end('}')
  })
  const connections = connectionsTo(t, site.url)
  for (const method of ['GET', 'POST']) {
    const asked = { ...request({ method }), ...bounds }
    t.equal((await exchange(connections, { ...asked, maxBytes: 2 })).body.toString(), '{}', method)
    const error = await refused(exchange(connections, { ...asked, maxBytes: 1 }))
    t.match(error, { code: 'GW_UPSTREAM_TOO_LARGE' }, method)
  }
})

t.test('a connection on which a part of the last request still waits is not used', async t => {
  let count = 0
  const url = await startTcp(t, socket => {
    count++
    // Reads no more of the body.
    socket.pause()
    socket.write('HTTP/1.1 413 No\r\ncontent-length: 0\r\n\r\n')
  })
  const connections = connectionsTo(t, url)
  const body = Buffer.alloc(20_000_000, 'x')
  t.equal((await ask(connections, { method: 'POST', body })).status, 413)
  t.equal((await ask(connections)).status, 413)
  t.equal(count, 2)
})

t.test('close ends what is under way, and nothing is sent after it', async t => {
  const site = await startSite(t, () => {})
  const connections = connectionsTo(t, site.url)
  const asked = refused(ask(connections, { method: 'POST', body: '{}' }))
  while (site.active === 0) await new Promise(setImmediate)
  connections.close()
  t.match(await asked, {
    code: 'GW_UPSTREAM_UNAVAILABLE',
    reason: 'connection failed: ERR_CLOSED',
    hint: /may have been carried out/
  })
  t.match(await refused(ask(connections)), { code: 'GW_UPSTREAM_UNAVAILABLE' })
  t.equal(site.seen.length, 1)
})

t.test(
  'TLS: the name or address in Host must be proven before the first byte is sent; sessions are resumed',
  async t => {
    const folder = t.testdir()
    const [key, cert] = [join(folder, 'tls.key'), join(folder, 'tls.crt')]
    const made = `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout ${key} -out ${cert}`
    execFileSync('openssl', made.split(' '), { stdio: 'ignore' })
    const seen: { servername: string | false; isReused: boolean; port: number }[] = []
    const server = createTlsServer({ key: readFileSync(key), cert: readFileSync(cert) })
    server.on('request', (incoming, response) => {
      const socket = incoming.socket as TLSSocket
      const { servername } = socket as TLSSocket & { servername: string | false }
      seen.push({
        servername,
        isReused: socket.isSessionReused(),
        port: socket.remotePort as number
      })
      response.end(incoming.method)
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.teardown(() => server.close())
    const origin = `https://127.0.0.1:${(server.address() as AddressInfo).port}`
    // Whom to trust is read at the start of a process.
    const program = `
    import { createConnections } from './build/src/drupal/connections.js'
    import { exchange } from './build/src/drupal/exchange.js'
    const bounds = { maxBytes: 1000, headersTimeoutMs: 5000, callTimeoutMs: 5000 }
    const to = (host, keepAliveMs) =>
      createConnections({ origin: '${origin}', host, connectTimeoutMs: 5000, keepAliveMs })
    const ask = connections => exchange(connections, { method: 'POST', path: '/', headers: { host: 'localhost' }, body: '{}', ...bounds })
      .then(({ body }) => String(body), ({ reason }) => reason)
    const good = to('localhost:8443', 4000)
    const told = []
    for (let calls = 0; calls < 300; calls++) told.push(await ask(good))
    told.push(...(await Promise.all([ask(good), ask(good)])))
    const other = to('cms.example', 4000)
    told.push(await ask(other))
    const address = to('127.0.0.1:8443', 4000)
    told.push(await ask(address))
    console.log(JSON.stringify(told))
    for (const connections of [good, other, address]) connections.close()`
    builtProgram()
    const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
      env: {
        ...process.env,
        NODE_OPTIONS: '',
        NODE_EXTRA_CA_CERTS: cert,
        // Drupal is verified also where this switches it off for the process, with a warning.
        NODE_TLS_REJECT_UNAUTHORIZED: '0',
        NODE_NO_WARNINGS: '1'
      },
      stdio: ['ignore', 'pipe', 'inherit']
    })
    let told = ''
    for await (const text of child.stdout) told += String(text)
    t.strictSame(JSON.parse(told), [
      ...Array.from({ length: 302 }, () => 'POST'),
      'connection failed: ERR_TLS_CERT_ALTNAME_INVALID',
      'POST'
    ])
    t.equal(seen.pop()?.servername, false, 'an address is no name for SNI (RFC 6066 §3)')
    t.equal(seen.length, 302, 'the token was not shown to whom it was not meant for')
    t.strictSame(new Set(seen.map(({ servername }) => servername)), new Set(['localhost']))
    t.equal(new Set(seen.map(({ port }) => port)).size, 2, 'one for those that came alone')
    t.equal(seen.at(-1)?.isReused || seen.at(-2)?.isReused, true)
  }
)
