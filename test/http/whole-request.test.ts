// A body read as a whole beside the same body read as a stream: the same bytes, however it comes and whoever goes.
import { once } from 'node:events'
import {
  createServer,
  IncomingMessage,
  type RequestListener,
  type Server,
  ServerResponse
} from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t, { type Test } from 'tap'
import { isGatewayError } from '../../src/errors.ts'
import { readWhole, WholeRequest } from '../../src/http/whole-request.ts'
import { WholeResponse } from '../../src/http/whole-response.ts'

const limit = 100_000
const head = (more: string, path = '/') => `POST ${path} HTTP/1.1\r\nHost: a\r\n${more}\r\n`
const last = 'Connection: close\r\n'
const sized = (body: string, more = last, path = '/') =>
  `${head(`Content-Length: ${Buffer.byteLength(body)}\r\n${more}`, path)}${body}`
const chunked = (...pieces: string[]) =>
  `${head(`Transfer-Encoding: chunked\r\n${last}`)}${pieces.map(piece => `${piece.length.toString(16)}\r\n${piece}\r\n`).join('')}0\r\n\r\n`

/** What a client writes, piece by piece, by name. */
const bodies: Record<string, string[]> = {
  whole: [sized('{"jsonrpc":"2.0"}')],
  'not ASCII': [sized('{"text":"Grüße, 你好 👋"}')],
  'head first': [head(`Content-Length: 4\r\n${last}`), 'body'],
  'byte by byte': sized('abc').split(''),
  empty: [sized('')],
  'no body': [head(last)],
  chunked: [chunked('one', 'two', 'three')],
  'chunked and empty': [chunked()],
  'chunked with a trailer': [chunked('one').replace(/\r\n$/, 'X-Trailer: 1\r\n\r\n')],
  'in many pieces': ['x'.repeat(9999), 'y'.repeat(65_536), 'z'.repeat(9999)].reduce<string[]>(
    (pieces, piece) => [...pieces, piece],
    [head(`Content-Length: ${9999 * 2 + 65_536}\r\n${last}`)]
  ),
  'as much as is allowed': [sized('x'.repeat(limit))],
  'one after the other': [sized('one', ''), sized('two', ''), sized('three')],
  'several at once': [sized('one', '') + sized('two', '') + sized('three')],
  'one waits, the next is there': [sized('one', '', '/late') + sized('two')],
  '100-continue': [head(`Content-Length: 4\r\nExpect: 100-continue\r\n${last}`), 'body'],
  'bytes that nobody reads': [sized('x'.repeat(70_000), '', '/unread') + sized('two')]
}

async function listen(
  t: Test,
  request: typeof IncomingMessage,
  listener: RequestListener,
  response: typeof ServerResponse = ServerResponse
): Promise<Server> {
  const options = { IncomingMessage: request, ServerResponse: response, keepAliveTimeout: 75_000 }
  const server = createServer(options, listener)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return server
}

const connected = (server: Server): Socket =>
  connect((server.address() as AddressInfo).port, '127.0.0.1')

/** All that comes back, without the time of day. */
async function ask(server: Server, pieces: readonly string[]): Promise<string> {
  const socket = connected(server).setNoDelay()
  const answer = buffer(socket)
  for (const piece of pieces) await new Promise(resolve => socket.write(piece, resolve))
  return (await answer).toString('latin1').replaceAll(/Date: [^\r]+/g, 'Date: then')
}

/** Answers with the body; `read` reads it. */
function echo(
  read: (req: IncomingMessage, tell: (error: Error | null, body?: Buffer) => void) => void
): RequestListener {
  return (req: IncomingMessage, res: ServerResponse) => {
    const answer = (error: Error | null, body?: Buffer) =>
      res.writeHead(error === null ? 200 : 400).end(body)
    if (req.url === '/unread') answer(null)
    else if (req.url === '/late') setTimeout(() => read(req, answer), 20)
    else read(req, answer)
  }
}

const readStream = (req: IncomingMessage, tell: (error: Error | null, body?: Buffer) => void) => {
  buffer(req).then(body => tell(null, body), tell)
}
const asStream = echo(readStream)

t.test('the same body as read from a stream, however it comes', async t => {
  const node = await listen(t, IncomingMessage, asStream)
  const ours = await listen(
    t,
    WholeRequest,
    echo((req, tell) => readWhole(req, limit, tell))
  )
  const later = await listen(
    t,
    WholeRequest,
    echo((req, tell) => setImmediate(() => readWhole(req, limit, tell)))
  )
  const foreign = await listen(
    t,
    IncomingMessage,
    echo((req, tell) => readWhole(req, limit, tell))
  )
  const streams = await listen(t, WholeRequest, asStream)
  const laterStreams = await listen(
    t,
    WholeRequest,
    echo((req, tell) => setImmediate(() => readStream(req, tell)))
  )
  for (const [name, pieces] of Object.entries(bodies)) {
    const [expected, ...found] = await Promise.all(
      [node, ours, later, foreign, streams, laterStreams].map(server => ask(server, pieces))
    )
    t.match(expected, /^HTTP\/1\.1 (200|100) /, name)
    for (const each of found) t.equal(each, expected, name)
  }
})

t.test('a body that is too large is refused, and the rest of it let go', async t => {
  const told: (string | undefined)[] = []
  let listener: (req: IncomingMessage, read: () => void) => void
  const server = await listen(t, WholeRequest, (req, res) =>
    listener(req, () =>
      readWhole(req, 10, (error, body) => {
        told.push(isGatewayError(error) ? error.code : String(body))
        res.writeHead(413, { 'content-length': '0' }).end()
      })
    )
  )
  const large = 'x'.repeat(1000)
  const after = sized('small')
  for (const [name, when] of [
    ['at once', (_: IncomingMessage, read: () => void) => read()],
    ['later', (_: IncomingMessage, read: () => void) => setImmediate(read)]
  ] as const) {
    listener = when
    told.length = 0
    const chunks = chunked('x'.repeat(8), large, large).replace(last, '')
    const answer = await ask(server, [chunks, sized(large, ''), after])
    t.equal(answer.match(/^HTTP\/1\.1 413 /gm)?.length, 3, name)
    t.strictSame(told, ['GW_BODY_TOO_LARGE', 'GW_BODY_TOO_LARGE', 'small'], name)
  }
})

const now = (read: () => void) => read()
const soon = (read: () => void) => void setImmediate(read)
const whenGone = (read: () => void, req: IncomingMessage) => void req.once('aborted', read)
const afterwards = (read: () => void, req: IncomingMessage) =>
  void req.once('close', () => setImmediate(read))

t.test('a client that goes: told once, after its connection has closed', async t => {
  for (const [name, when, body] of [
    ['at once', now, 'half'],
    ['later', soon, 'half'],
    ['too late', whenGone, 'half'],
    ['too late for a whole body', whenGone, 'whole'],
    ['long after', afterwards, 'half']
  ] as const) {
    const told: unknown[] = []
    let settle: (error: Error | null) => void
    const failed = new Promise<Error | null>(resolve => (settle = resolve))
    const server = await listen(t, WholeRequest, (req, res) => {
      res.once('close', () => told.push('close'))
      when(() => {
        readWhole(req, limit, error => {
          told.push('failed')
          settle(error)
        })
      }, req)
      req.once('aborted', () => told.push('aborted'))
      setImmediate(() => client.destroy())
    })
    const client = connected(server)
    client.write(`${head('Content-Length: 5\r\n')}${body}`)
    const error = await failed
    t.ok(isGatewayError(error), name)
    t.match(error, { code: 'GW_BAD_REQUEST', statusCode: 400 })
    t.ok(told.includes('aborted'))
    t.equal(told.filter(each => each === 'failed').length, 1)
    t.ok(told.indexOf('close') < told.indexOf('failed'), told.join())
  }
})

t.test('a body is counted, whenever it comes, and given up no more once it is whole', async t => {
  const body = 'x'.repeat(50_000)
  for (const [name, isLate] of [
    ['before it is wanted', true],
    ['afterwards', false]
  ] as const) {
    const counted: [number, boolean][] = []
    const read = new Promise<void>((resolve, reject) => {
      const listener: RequestListener = async (req, res) => {
        ;(req as WholeRequest).answer = {
          leaveUnsent() {},
          countBody: (bytes, giveUp) => void counted.push([bytes, giveUp !== undefined])
        }
        while (isLate && !req.complete) await new Promise(setImmediate)
        readWhole(req, limit, error => {
          res.end()
          if (error === null) resolve()
          else reject(error)
        })
      }
      void listen(t, WholeRequest, listener).then(server => connected(server).end(sized(body, '')))
    })
    await read
    t.strictSame(counted.at(-1), [body.length, false], name)
  }
})

t.test('what comes on a connection that is being ended is not acted upon', async t => {
  const told = new Promise<Error | null>(resolve => {
    void listen(t, WholeRequest, req => {
      req.socket.end()
      readWhole(req, limit, resolve)
    }).then(server => connected(server).end(sized('body', '')))
  })
  t.match(await told, { code: 'GW_BAD_REQUEST' })
})

t.test(
  'what has been read is let go: by the parser at once, and no later bytes change it',
  async t => {
    const kept: Buffer[] = []
    const parsers: { incoming: unknown }[] = []
    const server = await listen(t, WholeRequest, (req, res) =>
      readWhole(req, limit, (_, body) => {
        t.equal(req.readableFlowing, null, 'no stream was read')
        kept.push(body as Buffer)
        parsers.push((req.socket as unknown as { parser: { incoming: unknown } }).parser)
        res.once('close', () => {
          t.equal(parsers[0]?.incoming, null)
          if (kept.length === 3) client.end()
        })
        res.end('so')
      })
    )
    const client = connected(server)
    for (const name of ['one', 'two', 'three']) {
      client.write(sized(name, ''))
      await once(client, 'data')
    }
    await once(client, 'close')
    t.strictSame(kept.map(String), ['one', 'two', 'three'])
  }
)

function used(): number {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  collect()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

t.test('a body that comes byte by byte is not kept byte by byte', async t => {
  const count = 300_000
  for (const isWanted of [true, false]) {
    let told: (req: IncomingMessage) => void
    const arrived = new Promise<IncomingMessage>(resolve => (told = resolve))
    let body: Buffer | undefined
    let read = () => {}
    const server = await listen(t, WholeRequest, (req, res) => {
      read = () =>
        readWhole(req, count, (_, bytes) => {
          body = bytes
          res.end('whole')
        })
      if (isWanted) read()
      told(req)
    })
    const client = connected(server)
    client.write(head('Transfer-Encoding: chunked\r\n'))
    const { socket } = await arrived
    const before = used()
    const { bytesRead } = socket
    const bytes = '1\r\nx\r\n'.repeat(count)
    client.write(bytes)
    const hasCome = () => socket.bytesRead === bytesRead + bytes.length
    while (isWanted ? !hasCome() : !socket.isPaused()) await new Promise(setImmediate)
    t.ok(used() - before < 30 * count, `${Math.round((used() - before) / count)} bytes a byte`)
    t.equal(hasCome(), isWanted, 'what nobody wants is not read on and on')
    if (!isWanted) read()
    client.end('0\r\n\r\n')
    await once(client, 'data')
    t.equal(body?.toString(), 'x'.repeat(count))
  }
})

t.test('what is refused is not kept, however much still comes', { timeout: 10_000 }, async t => {
  const rest = Buffer.alloc(32_000_000, 'x')
  for (const isAnswered of [true, false]) {
    let refused: (req: IncomingMessage) => void
    const refusal = new Promise<IncomingMessage>(resolve => (refused = resolve))
    const listener: RequestListener = (req, res) =>
      readWhole(req, 10, () => {
        if (isAnswered) res.writeHead(413, { connection: 'close', 'content-length': '0' }).end()
        refused(req)
      })
    const server = await listen(t, WholeRequest, listener, WholeResponse as typeof ServerResponse)
    const client = connected(server)
    t.teardown(() => client.destroy())
    client.write(`${head('Transfer-Encoding: chunked\r\n')}b\r\nlarger than\r\n`)
    const { socket } = await refusal
    const before = used()
    client.write(`${rest.length.toString(16)}\r\n`)
    client.write(rest)
    while (socket.bytesRead < rest.length) await new Promise(setImmediate)
    while (used() - before > rest.length / 4) await new Promise(setImmediate)
    t.pass(`answered: ${isAnswered}`)
  }
})

t.test(
  'a connection is closed as it was said, also where the rest comes meanwhile',
  { timeout: 10_000 },
  async t => {
    const large = Buffer.alloc(20_000_000)
    let came = () => {}
    const hasCome = new Promise<void>(resolve => (came = resolve))
    const listener: RequestListener = (req, res) => {
      res.writeHead(200, { connection: 'close', 'content-length': large.length }).end(large)
      const wait = () => (req.complete ? came() : setImmediate(wait))
      wait()
    }
    const server = await listen(t, WholeRequest, listener, WholeResponse as typeof ServerResponse)
    const client = connected(server).pause()
    client.write(`${head('Content-Length: 4\r\n')}bo`)
    await once(server, 'request')
    client.write('dy')
    await hasCome
    const answer = await buffer(client)
    t.ok(answer.length > large.length)
  }
)

t.test('a body of a known length takes no more than that', async t => {
  const length = 90_000
  let body: Buffer | undefined
  const server = await listen(t, WholeRequest, (req, res) =>
    readWhole(req, length, (_, bytes) => {
      body = bytes
      res.end()
    })
  )
  await ask(server, [
    head(`Content-Length: ${length}\r\n${last}`),
    'x'.repeat(50_000),
    'y'.repeat(40_000)
  ])
  t.equal(body?.length, length)
  t.equal(body?.buffer.byteLength, length)
})
