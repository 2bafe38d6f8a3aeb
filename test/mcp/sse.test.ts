import t from 'tap'
import fc from 'fast-check'
import { once } from 'node:events'
import { PassThrough, Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { EventRelay } from '../../src/mcp/sse.ts'
import { readEvents, writeEvent, type ServerSentEvent } from '../../src/mcp/sse-events.ts'

const keepalive = ': keepalive\n\n'
const hour = 3_600_000

function cut(bytes: Buffer, at: readonly number[]): Buffer[] {
  const points = [0, ...at.map(n => n % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]
  return points.slice(1).map((end, index) => bytes.subarray(points[index], end))
}
async function through(relay: EventRelay, chunks: readonly Buffer[]): Promise<string> {
  for (const chunk of chunks) relay.write(chunk)
  relay.end()
  return Buffer.concat((await relay.toArray()) as Buffer[]).toString('latin1')
}
async function read(chunks: readonly Buffer[], maxLength = 1000): Promise<ServerSentEvent[]> {
  const events = []
  for await (const event of readEvents(Readable.from(chunks), { maxLength })) events.push(event)
  return events
}
/** All that can be read now, as text. */
const available = (relay: EventRelay) => String((relay.read() as Buffer | null) ?? '')

const line = fc.constantFrom(
  'data: {"a":1}',
  'data',
  'id: 7',
  ': note',
  'event: message',
  'retry: 5',
  ''
)
const ending = fc.constantFrom('\n', '\r\n', '\r')
const stream = fc
  .array(fc.tuple(line, ending), { maxLength: 20 })
  .map(lines => Buffer.from(lines.map(([text, end]) => text + end).join('')))
const cuts = fc.array(fc.nat(300), { maxLength: 8 })

t.test(
  'R42 bytes go through exactly, wherever the chunks are cut, after one keep-alive',
  async () => {
    await fc.assert(
      fc.asyncProperty(stream, cuts, async (bytes, at) => {
        const relay = new EventRelay({ heartbeatMs: hour })
        const out = await through(relay, cut(bytes, at))
        return out === keepalive + bytes.toString('latin1') && relay.bytes === bytes.length
      }),
      { numRuns: 300 }
    )
  }
)

t.test('counts events the same wherever the chunks are cut', async t => {
  const relay = new EventRelay({ heartbeatMs: hour })
  const text = 'id: 1\r\ndata: a\r\n\r\n: note\n\ndata: b\n\n\n\ndata: c\r\rdata: unfinished'
  await through(relay, [Buffer.from(text)])
  t.equal(relay.events, 3)
  await fc.assert(
    fc.asyncProperty(stream, cuts, async (bytes, at) => {
      const whole = new EventRelay({ heartbeatMs: hour })
      const pieces = new EventRelay({ heartbeatMs: hour })
      await Promise.all([through(whole, [bytes]), through(pieces, cut(bytes, at))])
      const understood = await read(cut(bytes, at))
      return whole.events === pieces.events && whole.events === understood.length
    }),
    { numRuns: 300 }
  )
})

t.test('R44 a silent stream gets comments, but never inside an event', async t => {
  const relay = new EventRelay({ heartbeatMs: 20 })
  t.equal(available(relay), keepalive, 'at once')
  await once(relay, 'readable')
  t.equal(available(relay), keepalive, 'after silence')
  relay.write('data: half')
  t.equal(available(relay), 'data: half')
  await delay(70)
  t.equal(available(relay), '', 'not within a line')
  relay.write('\r\n')
  await delay(70)
  t.equal(available(relay), '\r\n', 'nor between the lines of an event')
  relay.write('\r\n')
  t.equal(available(relay), '\r\n')
  await once(relay, 'readable')
  t.equal(available(relay), keepalive)
  relay.destroy()
})

t.test('R44 a client that does not read is not sent more and more comments', async t => {
  const relay = new EventRelay({ heartbeatMs: 1 })
  relay.write(Buffer.alloc(relay.readableHighWaterMark, '\n'))
  const full = relay.readableLength
  await delay(30)
  t.equal(relay.readableLength, full)
  relay.destroy()
})

t.test('a slow client slows the upstream down', async t => {
  const relay = new EventRelay({ heartbeatMs: hour })
  const chunk = Buffer.from(`data: ${'x'.repeat(64 * 1024)}\n\n`)
  let written = 0
  while (relay.write(chunk) && written < 100) written += 1
  t.ok(written < 10, `stopped after ${written} chunks`)
  relay.resume()
  await once(relay, 'drain')
  t.pass('and goes on when the client reads')
  relay.destroy()
})

t.test('a drained stream ends cleanly, after the event that is going through', async t => {
  const idle = new EventRelay({ heartbeatMs: 5 })
  idle.drain()
  idle.drain()
  t.equal(Buffer.concat((await idle.toArray()) as Buffer[]).toString(), keepalive)

  const upstream = new PassThrough()
  const busy = upstream.pipe(new EventRelay({ heartbeatMs: 5 }))
  let text = ''
  busy.on('data', (chunk: Buffer) => (text += chunk.toString()))
  upstream.write('data: 1\n\ndata: ')
  await delay(20)
  busy.drain()
  upstream.write('2\r\n\r\ndata: 3\n\n')
  await once(busy, 'end')
  t.match(text, /data: 1\n\n(: keepalive\n\n)*data: 2\r\n\r\n$/, 'the second event is whole')
  t.equal(busy.events, 2)
  upstream.write('data: 4\n\n')
  upstream.end()
  await once(busy, 'finish')
  t.notMatch(text, /data: [34]/, 'what comes later is dropped and does not stop the upstream')
})

t.test('R43 reads events: fields, several data lines, priming events, comments', async t => {
  const text =
    '\uFEFFid: 1\ndata:\nretry: 500\n\n: comment\n\nevent: note\ndata: a\ndata:  b\nunknown: x\n\n' +
    'event\ndata: {"x":"é:☕"}\nid: a\0b\nretry: soon\n\n\n\ndata: unfinished'
  const bytes = Buffer.from(text)
  const expected = [
    { event: 'message', data: '', id: '1', retry: 500 },
    { event: 'note', data: 'a\n b', id: undefined, retry: undefined },
    { event: 'message', data: '{"x":"é:☕"}', id: undefined, retry: undefined }
  ]
  t.strictSame(await read([bytes]), expected)
  t.strictSame(await read(Array.from(bytes, byte => Buffer.from([byte]))), expected, 'byte by byte')
  t.strictSame(await read([]), [])
})

t.test('bounds the length of an event, not of the stream', async t => {
  const event = Buffer.from(`data: ${'x'.repeat(90)}\n\n`)
  t.equal((await read(Array(50).fill(event), 100)).length, 50)
  const endless = Array(50).fill(Buffer.from('data: x\n'))
  await t.rejects(read(endless, 100), { code: 'GW_UPSTREAM_TOO_LARGE' })
  await t.rejects(read(Array(50).fill(Buffer.from('xxx')), 100), { code: 'GW_UPSTREAM_TOO_LARGE' })
})

t.test('what is written as an event is read as it was', async t => {
  t.equal(writeEvent('{}', '5'), 'event: message\nid: 5\ndata: {}\n\n')
  await fc.assert(
    fc.asyncProperty(fc.jsonValue(), cuts, async (value, at) => {
      const data = JSON.stringify(value, null, 1)
      const [event] = await read(cut(Buffer.from(writeEvent(data)), at), 1e6)
      return event?.data === data && event.id === undefined
    })
  )
})
