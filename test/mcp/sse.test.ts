import t from 'tap'
import fc from 'fast-check'
import { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { bytesOf, EventRelay } from '../../src/mcp/sse.ts'
import { readEvents, writeEvent, type ServerSentEvent } from '../../src/mcp/sse-events.ts'

const keepalive = ': keepalive\n\n'
const hour = 3_600_000

function cut(bytes: Buffer, at: readonly number[]): Buffer[] {
  const points = [0, ...at.map(n => n % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]
  return points.slice(1).map((end, index) => bytes.subarray(points[index], end))
}
/** A client that takes everything, and what it got. */
function openClient() {
  const client = {
    isFull: false,
    text: '',
    corked: 0,
    isEnded: false,
    cork: () => void client.corked++,
    write: (bytes: string) => void (client.text += bytes),
    end: () => void (client.isEnded = true)
  }
  return client
}
function open(heartbeatMs = hour) {
  const client = openClient()
  return { client, relay: new EventRelay({ client, heartbeatMs }) }
}
/** What the client got since the last time. */
function taken({ client }: ReturnType<typeof open>): string {
  const { text } = client
  client.text = ''
  return text
}
function through({ client, relay }: ReturnType<typeof open>, chunks: readonly Buffer[]): string {
  for (const chunk of chunks) relay.take(chunk.toString('latin1'))
  relay.end()
  return client.text
}
async function read(chunks: readonly Buffer[], maxLength = 1000): Promise<ServerSentEvent[]> {
  const events = []
  for await (const event of readEvents(Readable.from(chunks), { maxLength })) events.push(event)
  return events
}
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

t.test('R44 a byte order mark behind the first comment would spoil the first event', t => {
  const bytes = Buffer.from('\ufeffdata: \ufeff\n\n')
  for (let at = 0; at <= bytes.length; at++) {
    t.equal(
      through(open(), cut(bytes, [at])),
      keepalive + bytesOf('data: \ufeff\n\n'),
      `cut at ${at}`
    )
  }
  t.end()
})

t.test('R42 bytes go through exactly, wherever the chunks are cut, after one keep-alive', t => {
  fc.assert(
    fc.property(stream, cuts, (bytes, at) => {
      const opened = open()
      const out = through(opened, cut(bytes, at))
      return (
        out === keepalive + bytes.toString('latin1') &&
        opened.relay.bytes === bytes.length &&
        opened.client.isEnded
      )
    }),
    { numRuns: 300 }
  )
  t.end()
})

t.test('reads the same events wherever the chunks are cut', async t => {
  await fc.assert(
    fc.asyncProperty(stream, cuts, async (bytes, at) => {
      t.strictSame(await read(cut(bytes, at)), await read([bytes]))
    }),
    { numRuns: 300 }
  )
})

t.test('judges each event whole, wherever the chunks are cut', t => {
  fc.assert(
    fc.property(stream, cuts, (bytes, at) => {
      const text = bytes.toString('latin1')
      const events: string[] = []
      const client = openClient()
      const judge = (event: string) => {
        events.push(event)
        return event.includes('id: 7') ? undefined : event.replace('{"a":1}', '{"a":22}')
      }
      through(
        { client, relay: new EventRelay({ client, heartbeatMs: hour, judge }) },
        cut(bytes, at)
      )
      const shown = events.map(event =>
        event.includes('id: 7') ? '' : event.replace('{"a":1}', '{"a":22}')
      )
      return text.startsWith(events.join('')) && client.text === keepalive + shown.join('')
    }),
    { numRuns: 300 }
  )
  t.end()
})

t.test('keeps no event that is longer than the bound', t => {
  const client = openClient()
  let exceeded = 0
  const bound = { maxBytes: 10, exceeded: () => void exceeded++ }
  const relay = new EventRelay({ client, heartbeatMs: hour, judge: event => event, bound })
  relay.take('data: 5678')
  t.equal(exceeded, 0)
  relay.take('9')
  t.equal(exceeded, 1)
  relay.close()
  relay.take('\n\n')
  t.equal(client.text, keepalive, 'and nothing of it goes out')
  t.end()
})

t.test('R44 a silent stream gets comments, but never inside an event', async t => {
  const opened = open(20)
  const { relay } = opened
  t.equal(taken(opened), keepalive, 'at once')
  await delay(30)
  t.match(taken(opened), new RegExp(`^(${keepalive})+$`), 'after silence')
  relay.take('data: half')
  t.equal(taken(opened), 'data: half')
  await delay(70)
  t.equal(taken(opened), '', 'not within a line')
  relay.take('\r\n')
  await delay(70)
  t.equal(taken(opened), '\r\n', 'nor between the lines of an event')
  relay.take('\r\n')
  t.equal(taken(opened), '\r\n')
  await delay(70)
  t.match(taken(opened), new RegExp(`^(${keepalive})+$`))
  relay.close()
  await delay(50)
  t.equal(taken(opened), '', 'nor after its end')
})

t.test('R44 a stream that says something gets no comments', async t => {
  const opened = open(400)
  for (let count = 0; count < 10; count++) {
    opened.relay.take('data: 1\n\n')
    await delay(60)
  }
  t.equal(taken(opened), keepalive + 'data: 1\n\n'.repeat(10))
  opened.relay.close()
})

t.test('R44 a client that does not read is not sent more and more comments', async t => {
  const opened = open(1)
  opened.client.isFull = true
  taken(opened)
  await delay(30)
  t.equal(taken(opened), '')
  opened.relay.close()
})

t.test('a slow client slows the upstream down', t => {
  const { client, relay } = open()
  t.equal(relay.take('data: 1\n\n'), true)
  client.isFull = true
  t.equal(relay.take('data: 2\n\n'), false)
  relay.close()
  t.equal(relay.take('data: 3\n\n'), true, 'but one that has gone does not')
  t.end()
})

t.test('what is at hand together is written together', t => {
  const { client, relay } = open()
  relay.take('data: 1\n\n', true)
  t.equal(client.corked, 1)
  relay.take('data: 2\n\n')
  t.equal(client.corked, 1)
  relay.end()
  t.end()
})

t.test('a drained stream ends cleanly, after the event that is going through', async t => {
  const idle = open(5)
  idle.relay.drain()
  idle.relay.drain()
  await delay(20)
  t.equal(taken(idle), keepalive)
  t.equal(idle.client.isEnded, true)

  const { client, relay } = open(5)
  relay.take('data: 1\n\ndata: ')
  await delay(20)
  relay.drain()
  t.equal(client.isEnded, false)
  t.equal(relay.take('2\r\n\r\ndata: 3\n\n'), true)
  t.equal(client.isEnded, true)
  t.match(client.text, /data: 1\n\ndata: 2\r\n\r\n$/, 'the second event is whole')
  t.equal(relay.take('data: 4\n\n'), true)
  relay.end()
  t.notMatch(
    client.text,
    /data: [34]/,
    'what comes later is dropped and does not stop the upstream'
  )

  const cr = open()
  cr.relay.take('data: 1\r\r')
  cr.relay.drain()
  t.equal(taken(cr), `${keepalive}data: 1\r\r\n`, 'with the line feed that parsers may wait for')
})

t.test('a text is kept as its bytes', t => {
  t.equal(bytesOf('é☕'), Buffer.from('é☕').toString('latin1'))
  t.end()
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
  const [late] = await read([Buffer.from('retry: 99999999999\n\n')])
  t.equal(
    late?.retry,
    2 ** 31 - 1,
    'a longer timer ends at once, and the client would ask in a loop'
  )
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

t.test('an event whose rest never came is not judged, and the next one is', async t => {
  const client = openClient()
  const judged: string[] = []
  const judge = (event: string) => {
    judged.push(event)
    return event
  }
  const relay = new EventRelay({ client, heartbeatMs: hour, judge })
  t.teardown(() => relay.close())
  for (const piece of ['data: whole\n\n', 'data: {"result":{"a":', '{}}']) relay.take(piece)
  relay.cut()
  relay.take('\n\ndata: lost\n\n')
  t.strictSame(
    judged.filter(event => event.trim() !== ''),
    ['data: whole\n\n', 'data: lost\n\n']
  )
  t.equal(client.text, `${keepalive}data: whole\n\n\n\ndata: lost\n\n`)
})

t.test('what is not judged has gone out: there is nothing to forget', async t => {
  const at = open()
  t.teardown(() => at.relay.close())
  at.relay.take('data: begun')
  at.relay.cut()
  at.relay.drain()
  t.notOk(at.client.isEnded)
  at.relay.take('\n\n')
  t.equal(taken(at), `${keepalive}data: begun\n\n`)
  t.ok(at.client.isEnded)
})

t.test('many events in one piece cost no more than in many', t => {
  const client = openClient()
  const relay = new EventRelay({ client, heartbeatMs: hour, judge: event => event })
  const text = ':\n\n'.repeat(200_000)
  const started = performance.now()
  relay.take(text)
  t.ok(client.text === keepalive + text)
  t.ok(performance.now() - started < 2000)
  relay.end()
  t.end()
})
