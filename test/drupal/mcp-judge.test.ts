import t from 'tap'
import fastify from 'fastify'
import { once } from 'node:events'
import { PassThrough } from 'node:stream'
import type { GatewayError } from '../../src/errors.ts'
import { checkWhole, type Expected, findRequest, withId } from '../../src/drupal/mcp-answer.ts'
import { createJudge, createReplayJudge } from '../../src/drupal/mcp-judge.ts'
import { createStreams } from '../../src/drupal/streams.ts'
import type { RpcRequest } from '../../src/mcp/call.ts'
import { configFor } from './site.ts'

const request = (id: string | number): RpcRequest => ({
  kind: 'request',
  id,
  idText: JSON.stringify(id),
  method: 'tools/call',
  params: undefined
})
const one = request(1)
const two = request('two')
const asked = (requests: RpcRequest[], more: Partial<Expected> = {}): Expected => ({
  requests,
  batch: requests.length > 1,
  scopes: [],
  ...more
})
const result = (id: unknown, members: object = {}) => ({ jsonrpc: '2.0', id, result: members })
const denial = {
  jsonrpc: '2.0',
  id: null,
  error: {
    code: -32600,
    message: 'no',
    data: "Access Denied: The 'secret' permission is required."
  }
}
const event = (value: unknown) => `data: ${JSON.stringify(value)}\n\n`
const bytes = (value: unknown) => Buffer.from(JSON.stringify(value))
const foreign = 'an answer for another id'

function reasonOf(body: Buffer, expected: Expected): string | undefined {
  try {
    checkWhole(body, expected)
  } catch (error) {
    return (error as GatewayError).reason
  }
  return undefined
}

function judgeOf(expected: Expected) {
  const reasons: string[] = []
  const { pass, lost } = createJudge(expected, reason => reasons.push(reason))
  return { pass, reasons, lost: () => lost().map(({ id }) => id) }
}

t.test('R19 an answer passes to who waits for it, once, and no other does', async t => {
  const { pass, reasons, lost } = judgeOf(asked([one]))
  t.equal(pass(event(result(2))), undefined)
  t.strictSame(lost(), [1])
  t.equal(pass(event(result(1))), event(result(1)))
  t.strictSame(lost(), [])
  t.equal(pass(event(result(1))), undefined)
  t.strictSame(reasons, [foreign, foreign])
})

t.test('R18 R19 ids that only differ in how they are written are told apart', async t => {
  const ids = ['1', '"1"', '9007199254740993', '9007199254740992']
  const requests = ids.map(idText => ({ ...request(JSON.parse(idText) as number), idText }))
  const answers = ids.map(id => `{"jsonrpc":"2.0","id":${id},"result":{"of":${id}}}`)
  const lastFirst = answers.toReversed()
  t.equal(
    checkWhole(Buffer.from(`[${lastFirst.join(',')}]`), asked(requests)),
    `[${answers.join(',')}]`
  )
  const { pass, lost } = judgeOf(asked(requests))
  for (const answer of lastFirst) t.equal(pass(`data: ${answer}\n\n`), `data: ${answer}\n\n`)
  t.strictSame(lost(), [])
  const refused = judgeOf(asked([one, request('1')]))
  t.match(refused.pass(event({ ...denial, id: '1' })), /"id":"1","error"/)
  t.strictSame(refused.lost(), [1])
})

t.test('comments and news pass as they come, and answer nothing', async t => {
  const { pass, lost } = judgeOf(asked([one]))
  for (const text of [
    ': keepalive\n\n',
    'event: x\n\n',
    event({ method: 'notifications/x', jsonrpc: '2.0' }),
    event({ jsonrpc: '2.0', method: 'notifications/x' }),
    event({ jsonrpc: '2.0', id: 1, method: 'ping' })
  ])
    t.equal(pass(text), text)
  t.strictSame(lost(), [1])
})

t.test('an event is understood however its lines are written', async t => {
  const [head, tail] = ['{"jsonrpc":"2.0",', '"id":1,"result":{}}']
  for (const end of ['\n', '\r', '\r\n'])
    for (const lines of [
      [`data: ${head}`, `data:${tail}`],
      [': note', '', `data:${head}${tail}`],
      ['event: message', `data: ${head}`, 'retry: 1', `data: ${tail}`, ': note']
    ]) {
      const text = [...lines, '', ''].join(end)
      const { pass, lost } = judgeOf(asked([one]))
      t.equal(pass(text), text)
      t.strictSame(lost(), [], JSON.stringify(text))
    }
  const mixed = judgeOf(asked([one]))
  mixed.pass(`data: ${head}\rdata: ${tail}\n\n`)
  t.strictSame(mixed.lost(), [])
})

t.test('R43 nothing is lost where the client can resume, and only there', async t => {
  for (const [line, expected] of [
    ['id: 7', []],
    ['id:7', []],
    ['id', [1]],
    ['id:', [1]],
    ['id: ', [1]],
    ['id: a\0b', [1]],
    ['xid: 7', [1]],
    [': id: 7', [1]]
  ] as const) {
    const { pass, lost } = judgeOf(asked([one]))
    pass(`${line}\ndata:\n\n`)
    t.strictSame(lost(), expected, JSON.stringify(line))
  }
})

t.test('R42 R43 of an event only what clients know passes, and that as it came', async t => {
  const warning = ['<br />', '<b>Warning</b>: secret in /var/www/html/x.php']
  const known = [
    'event: message',
    'id: 7',
    'retry: 5',
    ': note',
    'event',
    'data',
    'id',
    'retry',
    ':'
  ]
  const answer = `data: ${JSON.stringify(result(1))}`
  const notice = `data: ${JSON.stringify({ jsonrpc: '2.0', method: 'notifications/x' })}`
  for (const judge of [
    () => judgeOf(asked([one])).pass,
    () => createReplayJudge(text => text).pass
  ]) {
    for (const end of ['\n', '\r', '\r\n']) {
      const whole = [...known, answer, '', ''].join(end)
      t.equal(judge()(whole), whole)
      t.equal(judge()([...warning, '', ''].join(end)), undefined)
      t.equal(judge()([...warning, ': note', '', ''].join(end)), ': note\n\n')
      for (const data of [answer, notice]) {
        const told = judge()([...known, warning[0], data, ...warning, '', ''].join(end))
        t.equal(told, [...known, data, '', ''].join('\n'))
      }
    }
    t.equal(judge()('database: secret\nidea: secret\n\n'), undefined)
  }
  // Another text than the one that came: all else stays.
  const own = judgeOf(asked([one])).pass(
    `event: message\nid: 7\nretry: 5\nsecret\n${event(result('1'))}`
  )
  t.equal(own, `event: message\nid: 7\nretry: 5\n${event(result(1))}`)
  const cut = `${notice.slice(0, -1)}<b>secret`
  t.equal(judgeOf(asked([one])).pass(`${cut}\n\n`), undefined)
})

t.test('a batch: each gets its own, one by one or together', async t => {
  const apart = judgeOf(asked([one, two]))
  t.equal(apart.pass(event(result('two'))), event(result('two')))
  t.strictSame(apart.lost(), [1])
  t.equal(apart.pass(event(result(1))), event(result(1)))

  const together = judgeOf(asked([one, two]))
  t.match(
    together.pass(event([result('two'), result(9), result(1)])),
    `data: ${JSON.stringify([result('two'), result(1)])}\n\n`
  )
  t.strictSame(together.lost(), [])
  t.equal(together.pass(event([result(1)])), undefined)
})

t.test('a permission that is missing is not named, whoever is refused', async t => {
  const single = judgeOf(asked([one]))
  const told = single.pass(event(denial))
  t.match(told, '"id":1')
  t.notMatch(told, 'secret')
  t.strictSame(single.lost(), [])
  t.match(single.reasons, [/^Drupal: Access Denied/])
  // Of a batch nobody knows which one it refuses.
  const batch = judgeOf(asked([one, two]))
  t.equal(batch.pass(event(denial)), undefined)
  t.strictSame(batch.lost(), [1, 'two'])
})

t.test('what an answer hides is hidden however it comes', async t => {
  const edit: Expected['edit'] = ({ id }) =>
    id === 1 ? answer => answer.replace('hidden', 'shown') : undefined
  const [hidden, shown] = [result(1, { a: 'hidden' }), result(1, { a: 'shown' })]
  for (const requests of [[one], [one, two]]) {
    const expected = asked(requests, { edit })
    t.equal(checkWhole(bytes(hidden), { ...expected, batch: false }), JSON.stringify(shown))
    t.match(judgeOf(expected).pass(event(hidden)), event(shown))
    t.match(judgeOf(expected).pass(event(result('1', { a: 'hidden' }))), event(shown))
  }
  const others = result('two', { a: 'hidden' })
  t.equal(
    checkWhole(bytes([others, hidden]), asked([one, two], { edit })),
    JSON.stringify([shown, others])
  )
})

t.test('a stream that is resumed shows its messages as they may be seen', async t => {
  const judge = createReplayJudge(text => text.replace('grüße', 'hidden'))
  const utf8 = (text: string) => Buffer.from(text).toString('latin1')
  for (const text of [': grüße\n\n', event(result(1))]) t.equal(judge.pass(utf8(text)), utf8(text))
  t.match(judge.pass(utf8(event(result('grüße')))), event(result('hidden')))
  t.strictSame(judge.lost(), [])
})

t.test('what is no answer to the request is not taken for one', async t => {
  const error = { code: -32000, message: 'no' }
  for (const [message, reason] of [
    [{ id: 1, result: {} }, 'JSON, but no JSON-RPC'],
    [[result(1)], 'JSON, but no JSON-RPC'],
    [{ jsonrpc: '2.0', id: 1 }, /neither a result nor an error, or both/],
    [{ ...result(1), error }, /neither a result nor an error, or both/],
    [{ jsonrpc: '2.0', id: 1, error: 'no' }, 'an error that is none'],
    [{ jsonrpc: '2.0', id: 1, error: { ...error, code: 1.5 } }, 'an error that is none'],
    [{ jsonrpc: '2.0', result: {} }, foreign],
    [result(10), foreign],
    [result('1 '), foreign]
  ] as const)
    t.match(findRequest(bytes(message), asked([one])), { kind: 'foreign', reason })
  t.equal(reasonOf(bytes(result(10)), asked([one])), foreign)
  t.match(reasonOf(bytes({ jsonrpc: '2.0', method: 'x' }), asked([one])), /no answer/)
  t.match(reasonOf(Buffer.from('['), asked([one, two])), /not JSON/)
  t.strictSame(findRequest(Buffer.from('{'), asked([one])), {
    kind: 'foreign',
    reason: 'the answer is not JSON'
  })
})

t.test('R21 an answer goes back under the id that was written', async t => {
  t.equal(checkWhole(bytes(result('1')), asked([one])), JSON.stringify(result(1)))
  const body = bytes(result(1))
  t.equal(checkWhole(body, asked([one])), body)
  t.equal(withId(body, { requests: [one] }), body)
  t.equal(withId(body, { requests: [two] }), JSON.stringify(result('two')))
  t.equal(withId(body, { requests: [two, one] }), body)
  const error = { code: -32000, message: 'no' }
  for (const lost of [
    { jsonrpc: '2.0', id: null, error },
    { jsonrpc: '2.0', error }
  ])
    t.strictSame(JSON.parse(checkWhole(bytes(lost), asked([two])).toString()), {
      ...lost,
      id: 'two'
    })
})

t.test('a batch that came whole: one answer for each that was asked, and no other', async t => {
  const answers = (value: unknown, ...requests: RpcRequest[]): unknown =>
    JSON.parse(checkWhole(bytes(value), asked(requests, { batch: true })).toString())
  t.strictSame(answers([result('two'), result(1)], one, two), [result(1), result('two')])
  t.match(answers([result(1, { a: 1 }), result(1, { a: 2 }), result(9)], one, two), [
    result(1, { a: 1 }),
    { id: 'two', error: { code: Number } }
  ])
  const refused = { jsonrpc: '2.0', id: null, error: { code: -32600, message: 'no batches' } }
  t.match(answers(refused, one, two), [
    { id: 1, error: { message: 'no batches' } },
    { id: 'two', error: { message: 'no batches' } }
  ])
  const none = { jsonrpc: '2.0', error: { code: -32600, message: 'no batches' } }
  t.match(answers([result(1), none], one, two), [result(1), { id: 'two', ...none }])
  t.match(answers([result(1), { ...refused, id: 9 }], one, two), [
    result(1),
    { id: 'two', error: { data: undefined, message: /could not be used/ } }
  ])
  const forbidden = answers([denial, result(1)], one, two)
  t.match(forbidden, [result(1), { id: 'two', error: { message: /^Forbidden/ } }])
  t.notMatch(JSON.stringify(forbidden), 'secret')
  const anonymous = asked([one, two], { scopes: undefined })
  t.throws(() => checkWhole(bytes([denial]), anonymous), { code: 'GW_TOKEN_MISSING' })
})

t.test('a mistake of ours in the judge of a stream ends it with one error', async t => {
  let uncaught = 0
  const streams = createStreams(configFor('http://127.0.0.1:1'), { uncaught: () => uncaught++ })
  const source = new PassThrough()
  const app = fastify()
  let givenBack: unknown
  app.get('/', (asking, reply) => {
    Object.assign(asking, { call: {} })
    givenBack = new Promise<void>(place => {
      const edit: Expected['edit'] = ({ id }) => {
        if (id === 1) throw new TypeError('ours')
        return undefined
      }
      const expected = asked([one, two], { edit })
      streams.relay(asking, reply, source, { whenGone: 'abort', place, expected })
    })
    source.write(event(result('two')) + event(result(1)) + event({ secret: 1 }))
  })
  t.teardown(() => app.close())
  const closed = once(source, 'close').catch(() => {})
  const response = await fetch(await app.listen({ port: 0, host: '127.0.0.1' }))
  const [, first, second, ...more] = (await response.text()).split('\n\n')
  t.equal(first, `data: ${JSON.stringify(result('two'))}`, 'what passed before it has passed')
  t.match(second, /"id":1,"error":\{"code":-32603/)
  t.strictSame(more, [''])
  t.equal(uncaught, 1)
  await Promise.all([givenBack, closed])
})
