import t, { type Test } from 'tap'
import fastify from 'fastify'
import { connect, type AddressInfo, type Socket } from 'node:net'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { replyWithEvents } from '../../src/drupal/event-reply.ts'

type Client = ReturnType<typeof replyWithEvents>

/** A server whose every answer is a stream of events, and a connection to it. */
async function opened(t: Test, stallMs = 60_000, bytesPerMs = Infinity) {
  const app = fastify()
  const clients: { client: Client; socket: Socket }[] = []
  app.get('/', (request, reply) => {
    reply.header('mcp-session-id', 'one')
    const client = replyWithEvents(reply, { stallMs, bytesPerMs })
    reply.raw.once('close', () => client.leave())
    clients.push({ client, socket: request.raw.socket })
  })
  t.teardown(() => app.close())
  await app.listen({ port: 0, host: '127.0.0.1' })
  const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1')
  t.teardown(() => void socket.destroy())
  let text = ''
  socket.on('data', (bytes: Buffer) => (text += bytes.toString('latin1')))
  const until = async (is: () => boolean) => {
    for (let waited = 0; !is() && waited < 5000; waited += 5) await delay(5)
  }
  return {
    socket,
    got: () => text,
    ask: (version = '1.1') => socket.write(`GET / HTTP/${version}\r\nhost: a\r\n\r\n`),
    async client(index = 0) {
      await until(() => clients[index] !== undefined)
      return clients[index] as (typeof clients)[0]
    },
    until
  }
}

t.test('events are chunks, and the connection is kept for the next request', async t => {
  const { ask, client, got, until } = await opened(t)
  ask()
  const { client: first, socket } = await client()
  first.write('data: 1\n\n')
  first.write('')
  await until(() => got().includes('data: 1'))
  first.write('data: \xe9\n\n')
  first.cork()
  first.cork()
  first.write('data: 3\n\n')
  first.end()
  await until(() => got().endsWith('0\r\n\r\n'))
  const [head, body] = got().split(/\r\n\r\n(.*)/s)
  t.match(head, /^HTTP\/1\.1 200 OK\r\n/)
  t.match(head, /^mcp-session-id: one$/m)
  t.match(head, /^content-type: text\/event-stream$/m)
  t.match(head, /^transfer-encoding: chunked$/im)
  t.equal(
    body,
    '9\r\ndata: 1\n\n\r\n9\r\ndata: \xe9\n\n\r\n9\r\ndata: 3\n\n\r\n0\r\n\r\n',
    'what is empty would have been the last'
  )
  t.equal(socket.listenerCount('drain'), 1, "Node's own")
  ask()
  const { client: second } = await client(1)
  second.end()
  await until(() => got().length > (head?.length ?? 0) * 2)
  t.match(got().slice((head?.length ?? 0) + (body?.length ?? 0)), /HTTP\/1\.1 200 OK/)
})

t.test('a client of HTTP/1.0 gets no chunks', async t => {
  const { ask, client, got, socket } = await opened(t)
  ask('1.0')
  const { client: only } = await client()
  only.write('data: 1\n\n')
  only.write('data: 2\n\n')
  only.end()
  await once(socket, 'end')
  t.match(got(), /\r\n\r\ndata: 1\n\ndata: 2\n\n$/)
})

t.test('what is asked behind another stream is answered behind it', async t => {
  const { ask, client, got, until } = await opened(t)
  ask()
  ask()
  const [{ client: first }, { client: second }] = [await client(), await client(1)]
  second.cork()
  second.write('data: 2\n\n')
  second.write('data: 3\n\n')
  t.equal(second.isFull, false)
  let resumed = 0
  second.onDrain(() => resumed++)
  second.write(`data: ${'x'.repeat(100_000)}\n\n`)
  t.equal(second.isFull, true)
  let isTaken = false
  first.onDrain(() => (isTaken = true))
  first.write(`data: 1${'x'.repeat(100_000)}\n\n`)
  await until(() => isTaken)
  t.match(got(), 'data: 1')
  t.notMatch(got(), 'data: 2')
  t.equal(resumed, 0, 'what the other has taken is no room for it')
  first.end()
  await until(() => resumed > 0)
  second.write('data: 4\n\n')
  second.end()
  await until(() => got().includes('data: 4'))
  const order = [...got().matchAll(/data: (\d|x)/g)].map(([, name]) => name)
  t.strictSame(order, ['1', '2', '3', 'x', '4'])
})

t.test('a client that does not read is full until it does', async t => {
  const { ask, client, socket, until } = await opened(t)
  socket.pause()
  ask()
  const { client: slow, socket: served } = await client()
  let resumed = 0
  slow.onDrain(() => resumed++)
  const event = `data: ${'x'.repeat(60_000)}\n\n`
  // What the system keeps for both sides comes first.
  for (let written = 0; written < 500 && served.writableLength < 1e6; written++) {
    slow.write(event)
    await delay(0)
  }
  const before = resumed
  await delay(50)
  t.equal(slow.isFull, true)
  t.equal(resumed, before)
  socket.resume()
  await until(() => resumed > before)
  t.equal(slow.isFull, false)
  const listeners = served.listenerCount('drain')
  slow.end()
  await until(() => served.listenerCount('drain') < listeners)
  t.equal(
    served.listenerCount('drain'),
    listeners - 1,
    'nothing is left on a connection that goes on'
  )
})

t.test('a client that takes nothing is not waited for', async t => {
  for (const [name, size] of Object.entries({ 'of much': 100_000, 'of the rest': 12_000 })) {
    const { ask, client, socket } = await opened(t, 100)
    socket.pause()
    ask()
    const { client: silent, socket: served } = await client()
    const closing = once(served, 'close')
    // More than the system keeps for both sides.
    while (served.writableLength === 0 && !served.destroyed) {
      silent.write(`data: ${'x'.repeat(size)}\n\n`)
      await delay(0)
    }
    t.equal(silent.isFull, size > 50_000)
    if (!silent.isFull) silent.end()
    await closing
    t.pass(name)
  }
})

t.test('a client that takes the rest late keeps its connection', async t => {
  const { ask, client, socket, until, got } = await opened(t, 300)
  socket.pause()
  ask()
  const { client: late, socket: served } = await client()
  while (served.writableLength === 0 && !served.destroyed) {
    late.write(`data: ${'x'.repeat(12_000)}\n\n`)
    await delay(0)
  }
  t.equal(late.isFull, false)
  late.end()
  socket.resume()
  await until(() => got().endsWith('0\r\n\r\n'))
  await delay(400)
  t.notOk(served.destroyed)
})

t.test('a client that has much to take is given the time for it', async t => {
  const { ask, client, socket } = await opened(t, 50, 1000)
  socket.pause()
  ask()
  const { client: slow, socket: served } = await client()
  const drained = new Promise<void>(resolve => slow.onDrain(resolve))
  while (served.writableLength < 8e6) slow.write(`data: ${'x'.repeat(100_000)}\n\n`)
  await delay(150)
  socket.resume()
  await drained
  t.notOk(served.destroyed)
})

t.test('a client that takes little at a time is not waited for', async t => {
  const { ask, client, socket, until } = await opened(t, 600)
  socket.pause()
  ask()
  const { client: trickling, socket: served } = await client()
  let isDrained = false
  trickling.onDrain(() => (isDrained = true))
  while (served.writableLength < 8e6) {
    trickling.write(`data: ${'x'.repeat(100_000)}\n\n`)
    await delay(0)
  }
  const closing = once(served, 'close')
  isDrained = false
  // In all more than the time, never still for so long.
  const reading = setInterval(() => socket.read(100_000), 10)
  await Promise.race([closing, until(() => isDrained)])
  clearInterval(reading)
  t.equal(isDrained, false)
})

t.test('a stream may be silent for longer than its client may be still', async t => {
  const { ask, client, socket, until, got } = await opened(t, 100)
  ask()
  const { client: slow, socket: served } = await client()
  slow.onDrain(() => {})
  slow.write(`data: ${'x'.repeat(100_000)}\n\n`)
  t.equal(slow.isFull, true)
  await until(() => !slow.isFull)
  t.equal(served.timeout, 0)
  await delay(150)
  slow.write('data: end\n\n')
  slow.end()
  await until(() => got().endsWith('0\r\n\r\n'))
  t.ok((served.timeout as number) > 1000, 'and its connection has its usual time again')
  socket.destroy()
})

t.test('what is written to a client that has gone is written nowhere', async t => {
  const { ask, client, socket, until } = await opened(t)
  ask()
  const { client: gone, socket: served } = await client()
  gone.write('data: 1\n\n')
  gone.write('data: 2\n\n')
  served.on('error', ({ code }: NodeJS.ErrnoException) => {
    t.not(code, 'ERR_STREAM_WRITE_AFTER_END')
  })
  served.end()
  gone.write('data: 3\n\n')
  socket.destroy()
  await until(() => served.destroyed)
  gone.write('data: 4\n\n')
  gone.cork()
  gone.write('data: 5\n\n')
  t.equal(gone.isFull, false)
  gone.end()
  await delay(20)
})
