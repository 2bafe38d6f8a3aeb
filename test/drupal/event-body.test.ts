import t from 'tap'
import { once } from 'node:events'
import { PassThrough } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { EventBody, follow, readToEnd } from '../../src/drupal/event-body.ts'

function opened() {
  const connection = {
    aborted: 0,
    resumed: 0,
    discarded: 0,
    discard: () => void connection.discarded++,
    abort: () => void connection.aborted++,
    resume: () => void connection.resumed++
  }
  const body = new EventBody(connection)
  const add = (text: string, rest = '') =>
    body.add(Buffer.from(`<${text}${rest}`, 'latin1'), 1, 1 + Buffer.byteLength(text, 'latin1'))
  return { connection, body, add }
}

t.test('hands on what is kept, then what comes, then its end', async t => {
  const { body, add, connection } = opened()
  t.equal(add('kept \xe9'), true)
  const got: [string, boolean | undefined][] = []
  let wants = true
  const resume = follow(body, (bytes, hasMore) => {
    got.push([bytes, hasMore])
    return wants
  })
  t.equal(add('one', '\r\n'), true)
  t.equal(add('more', '\r\n4\r\ntext\r\n'), true, 'of what came at once')
  wants = false
  t.equal(add('two'), false, 'asks for a pause')
  t.strictSame(got, [
    ['kept \xe9', undefined],
    ['one', false],
    ['more', true],
    ['two', false]
  ])
  await delay(5)
  const { resumed } = connection
  resume()
  t.equal(connection.resumed, resumed + 1)
  const end = once(body, 'end')
  const close = once(body, 'close')
  body.complete()
  await end
  await close
  t.equal(connection.aborted, 0)
})

t.test('what it keeps is bounded, and read on when there is room', async t => {
  const { body, add, connection } = opened()
  while (add('x'.repeat(10_000)));
  const { resumed } = connection
  while (body.read() !== null);
  t.equal(connection.resumed, resumed + 1)
  body.destroy()
})

t.test('destroying it closes the connection', async t => {
  const { body, add, connection } = opened()
  let taken = 0
  follow(body, () => taken++ < 0)
  body.destroy(new Error('lost'))
  t.equal(add('what came at once'), true)
  t.equal(taken, 0)
  await delay(5)
  t.equal(body.closed, true)
  t.equal(connection.aborted, 1)
})

t.test('where it is for somebody else, nothing more comes on its connection', async t => {
  for (const isOver of [false, true]) {
    const { body, add, connection } = opened()
    if (isOver) body.complete()
    body.discard()
    if (!isOver) {
      add('its rest')
      t.equal(connection.aborted, 0, 'read to its end')
      body.complete()
    }
    t.strictSame([connection.aborted, connection.discarded], isOver ? [0, 1] : [1, 0])
  }
})

t.test('what is over when it is read to its end is not waited for', async t => {
  const { body, add } = opened()
  follow(body, () => true)
  add('all')
  const close = once(body, 'close')
  body.complete()
  await close
  body.destroy = () => (t.fail('a timer holds it'), body)
  readToEnd(body, body, 5, 5)
  await delay(20)
  t.equal(body.listenerCount('close'), 0)
})

t.test('another that follows takes its place', t => {
  const { body, add } = opened()
  const got: string[] = []
  follow(body, () => true)
  follow(body, bytes => got.push(bytes) > 0)
  add('rest')
  t.strictSame(got, ['rest'])
  t.end()
})

t.test('any other stream is followed the same way', async t => {
  const source = new PassThrough()
  const got: string[] = []
  let wants = true
  const resume = follow(source, bytes => {
    got.push(bytes)
    return wants
  })
  source.write('one')
  await delay(5)
  wants = false
  source.write('two')
  await delay(5)
  source.write('three')
  await delay(5)
  t.strictSame(got, ['one', 'two'], 'paused')
  resume()
  await delay(5)
  t.strictSame(got, ['one', 'two', 'three'])
  source.destroy()
})
