// The gateway's response beside Node's own: the same bytes and the same events, whoever ends an answer how.
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer, type RequestListener, type Server, ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { Readable } from 'node:stream'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import t, { type Test } from 'tap'
import { sendAtEndOfTurn } from '../../src/end-of-turn.ts'
import { Buffers } from '../../src/http/buffers.ts'
import { watchConnections } from '../../src/http/stop.ts'
import { WholeResponse } from '../../src/http/whole-response.ts'
import { pair } from '../fixtures/certificate.ts'

const json = 'application/json; charset=utf-8'
const ascii = '{"jsonrpc":"2.0","id":1,"result":{}}'
const foreign = '{"text":"Grüße, 你好 👋"}'

const lengthOf = (body: string | Buffer) => ({
  'content-type': json,
  'content-length': Buffer.byteLength(body)
})

/** How an answer can be ended, by name. */
const answers: Record<string, RequestListener> = {
  text: (_, res) => res.writeHead(200, lengthOf(ascii)).end(ascii),
  'text that is not ASCII': (_, res) => res.writeHead(200, lengthOf(foreign)).end(foreign),
  bytes: (_, res) => res.writeHead(200, lengthOf(ascii)).end(Buffer.from(ascii)),
  'bytes that are not ASCII': (_, res) =>
    res.writeHead(200, lengthOf(foreign)).end(Buffer.from(foreign)),
  'every byte there is': (_, res) =>
    res
      .writeHead(200, { 'content-length': '256' })
      .end(Buffer.from(Array.from({ length: 256 }, (_, n) => n))),
  'many bytes': (_, res) =>
    res.writeHead(200, lengthOf('x'.repeat(300_000))).end(Buffer.alloc(300_000, 'x')),
  'much text': (_, res) =>
    res.writeHead(200, lengthOf('x'.repeat(300_000))).end('x'.repeat(300_000)),
  'nothing, and says so': (_, res) => res.writeHead(401, lengthOf('')).end(''),
  'no body at all': (_, res) => void res.writeHead(202).end(),
  '204': (_, res) => res.writeHead(204, { 'content-length': '0' }).end(''),
  '304': (_, res) => res.writeHead(304, lengthOf(ascii)).end(ascii),
  'no length': (_, res) => res.writeHead(200, { 'content-type': json }).end(ascii),
  'headers set before': (_, res) => {
    res.setHeader('x-request-id', 'one')
    res.writeHead(200, lengthOf(ascii)).end(ascii)
  },
  'no writeHead': (_, res) => res.end(ascii),
  'in pieces': (_, res) => {
    res.writeHead(200, lengthOf(ascii)).write(ascii.slice(0, 10))
    res.end(ascii.slice(10))
  },
  chunks: (_, res) => {
    res.writeHead(200, { 'content-type': json }).write(ascii)
    res.end()
  },
  'a stream': (_, res) => {
    res.writeHead(200, lengthOf(ascii))
    Readable.from([ascii.slice(0, 3), ascii.slice(3)]).pipe(res)
  },
  'with a callback': (_, res) => res.writeHead(200, lengthOf(ascii)).end(ascii, () => {}),
  'with an encoding': (_, res) => res.writeHead(200, { 'content-length': '2' }).end('6869', 'hex'),
  'with an encoding, as long as it says': (_, res) =>
    res.writeHead(200, { 'content-length': '4' }).end('6869', 'hex'),
  'bytes that are no Buffer': (_, res) =>
    res.writeHead(200, { 'content-length': '2' }).end(new Uint8Array([104, 105])),
  'a length and chunks': (_, res) =>
    res.writeHead(200, { ...lengthOf(ascii), 'transfer-encoding': 'chunked' }).end(ascii),
  'the connection ends with it': (_, res) =>
    res.writeHead(503, { ...lengthOf(ascii), connection: 'close' }).end(ascii),
  later: (_, res) => setImmediate(() => res.writeHead(200, lengthOf(ascii)).end(ascii)),
  twice: (_, res) => {
    res.on('error', () => {})
    res.writeHead(200, lengthOf(ascii)).end(ascii)
    res.end(ascii)
  }
}

const paths = Object.keys(answers)
const line = (method: string, name: string, version = '1.1', more = '') =>
  `${method} /${paths.indexOf(name)} HTTP/${version}\r\nHost: a\r\n${more}\r\n`

/** What clients send, by name; the last request ends the connection. */
const last = 'Connection: close\r\n'
const asked: Record<string, string> = {
  ...Object.fromEntries(paths.map(name => [name, line('GET', name, '1.1', last)])),
  HEAD: line('HEAD', 'text', '1.1', last),
  'HTTP/1.0': line('GET', 'text', '1.0'),
  'HTTP/1.0, kept':
    line('GET', 'text', '1.0', 'Connection: keep-alive\r\n') + line('GET', 'text', '1.0'),
  'one after the other': line('GET', 'bytes') + line('GET', 'text', '1.1', last),
  'three at once, the first comes late':
    line('GET', 'later') + line('GET', 'bytes') + line('GET', 'many bytes', '1.1', last)
}

async function listen(t: Test, response: typeof ServerResponse, listener: RequestListener) {
  const server = createServer({ ServerResponse: response, keepAliveTimeout: 75_000 }, listener)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return server
}

/** All that comes back, without the time of day. */
async function ask(server: Server, bytes: string): Promise<string> {
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
  socket.write(bytes)
  const pieces: Buffer[] = []
  for await (const piece of socket) pieces.push(piece as Buffer)
  return Buffer.concat(pieces)
    .toString('latin1')
    .replaceAll(/Date: [^\r]+/g, 'Date: then')
}

t.test(
  'the same bytes and events as of a response of Node, however an answer is ended',
  async t => {
    const told: string[][] = [[], []]
    const servers = await Promise.all(
      [ServerResponse, WholeResponse].map((response, index) =>
        listen(t, response as typeof ServerResponse, (req, res) => {
          const note = (event: string) => () =>
            told[index]?.push(
              `${event} ${req.url} ${res.headersSent} ${res.writableEnded} ${res.writableFinished} ${res.statusCode}`
            )
          res.on('finish', note('finish')).on('close', note('close'))
          const answer = answers[paths[Number(req.url?.slice(1))] as string] as RequestListener
          answer(req, res)
        })
      )
    )
    for (const [name, bytes] of Object.entries(asked)) {
      const [expected, found] = await Promise.all(servers.map(server => ask(server, bytes)))
      t.match(expected, /^HTTP\/1\.1 \d{3} /, name)
      t.equal(found, expected, name)
    }
    t.equal(told[0]?.length, 2 * (paths.length + 9))
    t.strictSame(told[1]?.sort(), told[0]?.sort())
  }
)

t.test('what is to be sent on stands before the head of its answer, never behind it', async t => {
  let answerFirst = () => {}
  const server = await listen(t, WholeResponse as typeof ServerResponse, (req, res) => {
    const answer = () => res.writeHead(200, lengthOf(ascii)).end(Buffer.from(ascii))
    if (req.url === '/first') answerFirst = answer
    else {
      if (req.url === '/waits') answerFirst()
      req.on('end', () => {
        answer()
        if (req.url === '/ready') answerFirst()
      })
    }
    req.resume()
  })
  const head = (path: string, more = '') =>
    `POST ${path} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n${more}\r\n`
  const expects = `Expect: 100-continue\r\n${last}`
  const answered = await ask(server, `${head('/first')}hi${head('/ready', expects)}hi`)
  const [, ...bodies] = answered.split(/HTTP\/1\.1 200 OK\r\n(?:[^\r]+\r\n)+\r\n/)
  t.strictSame(bodies, [ascii, ascii], 'nobody waits for it any more')

  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
  socket.write(`${head('/first')}hi${head('/waits', expects)}`)
  let text = ''
  for await (const piece of socket) {
    text += String(piece)
    if (String(piece).includes('100 Continue')) socket.write('hi')
  }
  t.match(
    text,
    /\}\}HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK\r\n(?:[^\r]+\r\n)+\r\n\{.*\}\}$/s
  )
})

t.test('a client that goes before the turn ends: the answer is never finished', async t => {
  let finished: boolean | undefined
  let close: () => void
  const closed = new Promise<void>(resolve => (close = resolve))
  const server = await listen(t, WholeResponse as typeof ServerResponse, (req, res) => {
    res.once('finish', () => t.fail('nothing was sent'))
    res.once('close', () => {
      finished = res.writableFinished
      close()
    })
    res.writeHead(200, lengthOf(ascii)).end(ascii)
    t.equal(res.writableFinished, false)
    req.socket.destroy()
  })
  t.equal(await ask(server, line('GET', 'text')).catch(() => ''), '')
  await closed
  t.equal(finished, false)
})

t.test('a client that goes in the middle of its answer: the answer is never finished', async t => {
  // More than the kernel keeps for two sockets.
  const much = Buffer.alloc(20_000_000, 'x')
  const foreign = `é${much.toString()}`
  let answer: ServerResponse | undefined
  const server = await listen(t, WholeResponse as typeof ServerResponse, (req, res) => {
    answer = res
    res.once('finish', () => t.fail('the rest was never taken'))
    if (req.url === '/parts') res.write(much)
    else res.writeHead(200, lengthOf(req.url === '/foreign' ? foreign : much))
    res.end(req.url === '/foreign' ? foreign : much)
  })
  for (const path of ['/', '/foreign', '/parts']) {
    const client = connect((server.address() as AddressInfo).port, '127.0.0.1')
    client.write(`GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`)
    await once(client, 'data')
    const closed = once(answer as ServerResponse, 'close')
    client.destroy()
    await closed
    t.equal(answer?.writableFinished, false, path)
  }
})

t.test('a client that takes nothing of its answer is not waited for', async t => {
  class Impatient extends WholeResponse {
    override get stallMs() {
      return 300
    }
  }
  // More than the kernel keeps for two sockets.
  const much = Buffer.alloc(20_000_000, 'x')
  const bodies: Record<string, string | Buffer> = {
    '/much': much,
    '/foreign': `é${much.toString()}`
  }
  let before: ServerResponse
  const server = await listen(t, Impatient as typeof ServerResponse, (req, res) => {
    const body = bodies[req.url as string] ?? ascii
    if (req.url === '/parts') {
      res.writeHead(200, { 'content-length': 2 * much.length }).write(much)
      res.end(much)
    } else if (req.url === '/later') {
      before.once('finish', () => setTimeout(() => res.end(ascii), 1000))
    } else res.writeHead(200, lengthOf(body)).end(body)
    before = res
  })
  const get = (path: string) => `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`
  for (const [name, bytes] of Object.entries({
    'the first': get('/much'),
    'one that is not ASCII': get('/foreign'),
    'one in parts': get('/parts'),
    'one that waited for its turn': get('/') + get('/much')
  })) {
    const accepted = once(server, 'connection') as Promise<[Socket]>
    const silent = connect((server.address() as AddressInfo).port, '127.0.0.1')
    t.teardown(() => silent.destroy())
    const [served] = await accepted
    silent.on('error', () => {}).pause()
    silent.write(bytes)
    const from = performance.now()
    await once(served, 'close')
    t.ok(performance.now() - from < 5000, name)
  }

  const accepted = once(server, 'connection') as Promise<[Socket]>
  const slow = connect((server.address() as AddressInfo).port, '127.0.0.1')
  const [served] = await accepted
  let taken = 0
  let last = ''
  slow.on('data', (piece: Buffer) => {
    // Slower than the time, and yet never still for as long.
    if (Math.floor(taken / 2e6) !== Math.floor((taken + piece.length) / 2e6)) {
      slow.pause()
      setTimeout(() => slow.resume(), 100)
    }
    taken += piece.length
    last = piece.subarray(-300).toString()
  })
  slow.write(get('/much') + get('/foreign') + get('/later'))
  const cut = new AbortController()
  slow.once('close', () => cut.abort())
  while (!last.endsWith(ascii)) await once(slow, 'data', cut)
  t.ok(taken > 2 * much.length, 'one that takes it slowly gets all of it')
  t.ok(last.endsWith(ascii), 'and the next, also where that takes its time')
  t.ok((served.timeout as number) > 1000, 'and its connection has its usual time again')
  slow.destroy()
})

t.test(
  'behind TLS, too, whoever takes slowly gets all of it, and only who takes nothing is not waited for',
  async t => {
    class Impatient extends WholeResponse {
      override get stallMs() {
        return 300
      }
    }
    const much = Buffer.alloc(20_000_000, 'x')
    const { cert, key } = pair(t.testdir({}), 'tls')
    const own = { ServerResponse: Impatient as typeof ServerResponse }
    const options = { cert: readFileSync(cert), key: readFileSync(key), ...own }
    const server = createTlsServer(options, (_, res) =>
      res.writeHead(200, lengthOf(much)).end(much)
    )
    t.teardown(() => server.close())
    await once(server.listen(0, '127.0.0.1'), 'listening')
    async function dial() {
      const accepted = once(server, 'secureConnection') as Promise<[TLSSocket]>
      const { port } = server.address() as AddressInfo
      const client = connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false })
      t.teardown(() => client.destroy())
      client.on('error', () => {}).write('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
      const [served] = await accepted
      return { client, served }
    }
    const slow = await dial()
    let taken = 0
    slow.client.on('data', (piece: Buffer) => {
      if (Math.floor(taken / 1e6) !== Math.floor((taken + piece.length) / 1e6)) {
        slow.client.pause()
        setTimeout(() => slow.client.resume(), 100)
      }
      taken += piece.length
    })
    const cut = new AbortController()
    slow.client.once('close', () => cut.abort())
    while (taken < much.length) await once(slow.client, 'data', cut)
    t.ok(taken > much.length)
    slow.client.destroy()

    const silent = await dial()
    silent.client.pause()
    await once(silent.served, 'close')
    t.ok(silent.served.destroyed)
  }
)

t.test('a listener that closes in the turn of an answer: the answer leaves first', async t => {
  const told: boolean[] = []
  const server = await listen(t, WholeResponse as typeof ServerResponse, (_, res) =>
    setImmediate(() => {
      res.once('close', () => told.push(res.writableFinished))
      res.writeHead(200, lengthOf(ascii)).end(ascii)
      server.close()
    })
  )
  const open = watchConnections(server)
  t.match(await ask(server, line('GET', 'text')), /^HTTP\/1\.1 200 OK\r\n.*"result":\{\}\}$/s)
  while (open.size > 0) await new Promise(setImmediate)
  t.strictSame(told, [true], 'and its client is not taken for one that went away')
})

t.test(
  'what is ready leaves in the order in which it got ready, what gets ready meanwhile in the next turn',
  async t => {
    const sent: string[] = []
    const sender = (name: string, then?: () => void) => ({
      sendNow() {
        sent.push(name)
        then?.()
      }
    })
    const all = new Promise<void>(resolve => {
      sendAtEndOfTurn(sender('a', () => sendAtEndOfTurn(sender('c', resolve))))
    })
    sendAtEndOfTurn(sender('b'))
    t.strictSame(sent, [], 'not before the turn ends')
    await all
    t.strictSame(sent, ['a', 'b', 'c'])
  }
)

t.test('counting little again and again adds no listener', async t => {
  const counts: number[] = []
  const server = createServer({ ServerResponse: WholeResponse }, (_, response) => {
    response.share = new Buffers(1_000_000).shareOf('a')
    for (let i = 0; i < 3; i++) {
      response.countUnsent()
      response.countBody(100)
      counts.push(response.listenerCount('close'))
    }
    response.countBody(10_000)
    response.countBody(20_000)
    counts.push(response.listenerCount('close'))
    response.end()
  })
  server.listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  await fetch(`http://127.0.0.1:${port}/`)
  const [none = 0] = counts
  t.strictSame(counts, [none, none, none, none + 1], 'one, where it is held')
})
