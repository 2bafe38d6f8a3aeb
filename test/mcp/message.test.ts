import t from 'tap'
import fc from 'fast-check'
import { JSONRPCMessageSchema } from '@modelcontextprotocol/sdk/types.js'
import { countContainers } from '../../src/mcp/json-scan.ts'
import { readMessage, maxDepth, type Reading } from '../../src/mcp/message.ts'
import { rpcErrorBody, rpcResult } from '../../src/mcp/rpc-error.ts'

const limits = { maxBatch: 100 }
const read = (text: string | Uint8Array): Reading => readMessage(Buffer.from(text), limits)
const readJson = (value: unknown): Reading => read(JSON.stringify(value))
const code = (reading: Reading) => (reading.ok ? 'accepted' : reading.code)
const first = (reading: Reading) => (reading.ok ? reading.messages[0] : undefined)
const idText = (reading: Reading) => {
  const message = first(reading)
  return message?.kind === 'request' ? message.idText : undefined
}

t.test('R18 reads a request, a notification, a result and an error', async t => {
  t.strictSame(readJson({ jsonrpc: '2.0', id: 7, method: 'ping' }), {
    ok: true,
    batch: false,
    messages: [{ kind: 'request', id: 7, idText: '7', method: 'ping', params: undefined }]
  })
  t.strictSame(first(readJson({ jsonrpc: '2.0', method: 'notifications/x', params: { a: 1 } })), {
    kind: 'notification',
    method: 'notifications/x',
    params: { a: 1 }
  })
  t.strictSame(first(readJson({ jsonrpc: '2.0', id: 'a"b', result: {} })), {
    kind: 'response',
    id: 'a"b'
  })
  t.strictSame(first(readJson({ jsonrpc: '2.0', id: 0, error: { code: -1, message: 'no' } })), {
    kind: 'response',
    id: 0
  })
  t.strictSame(first(readJson({ jsonrpc: '2.0', error: { code: -1, message: 'no' } })), {
    kind: 'response',
    id: undefined
  })
})

t.test('R18 keeps the id as it was sent, digit by digit', async t => {
  for (const id of ['12345678901234567890', '-98765432109876543210', '9007199254740993'])
    t.equal(idText(read(`{"jsonrpc":"2.0","method":"m","id" : ${id} }`)), id)
  for (const text of [
    '{"params":{"id":2},"id":12345678901234567890,"method":"m","jsonrpc":"2.0"}',
    '{"id":12345678901234567890,"method":"m","params":{"id":2},"jsonrpc":"2.0"}'
  ])
    t.equal(
      idText(read(text)),
      '12345678901234567890',
      'the id of the message and not the one inside params'
    )
  t.equal(idText(read('{"jsonrpc":"2.0","id":"\\ud800\\n\\"","method":"m"}')), '"\\ud800\\n\\""')
  t.equal(idText(readJson({ jsonrpc: '2.0', id: '', method: 'm' })), '""')
  t.equal(
    code(read(`{"jsonrpc":"2.0","method":"m","id":${'9'.repeat(300)}}`)),
    'GW_INVALID_MESSAGE'
  )
  const batch = read(
    '[{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":[1,{"id":2}]}},\n' +
      '{"jsonrpc":"2.0","id":99999999999999999999,"method":"m"}]'
  )
  t.match(batch, { messages: [{ idText: '1' }, { idText: '99999999999999999999' }] })
})

t.test('R18 refuses an id that is null, fractional, infinite or no scalar', async t => {
  for (const id of ['null', '1.5', '1e400', '1e30', 'true', '[]', '{}', '12345678901234567890.5']) {
    const reading = read(`{"jsonrpc":"2.0","id":${id},"method":"m"}`)
    t.equal(code(reading), 'GW_INVALID_MESSAGE', id)
    t.notOk('idText' in reading, 'and such an id is not echoed')
  }
})

t.test('R12 tells what is not JSON from what is no message', async t => {
  const bom = Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), Buffer.from('{}')])
  for (const bytes of ['', '{', 'nope', '{"a":1}}', '{"a":\n', '\u0000', bom, [0x22, 0xff, 0x22]])
    t.equal(code(read(bytes as string)), 'GW_PARSE_ERROR', JSON.stringify(bytes))
  for (const value of [null, 1, 'x', true, {}, { jsonrpc: '1.0', method: 'm' }, { method: 'm' }])
    t.equal(code(readJson(value)), 'GW_INVALID_MESSAGE', JSON.stringify(value))
})

t.test('R21 a refusal of a readable message carries its id, and never the body', async t => {
  const secret = 'hunter2'
  const wrong = [
    { jsonrpc: '1.0', id: 5, method: secret },
    { jsonrpc: '2.0', id: 5, method: 5, x: secret },
    { jsonrpc: '2.0', id: 5, method: 'm', params: [secret] },
    { jsonrpc: '2.0', id: 5, method: 'm', params: null },
    { jsonrpc: '2.0', id: 5, method: 'm', result: {} },
    { jsonrpc: '2.0', id: 5, method: 'm', error: {} },
    { jsonrpc: '2.0', id: 5, result: {}, error: { code: 1, message: secret } },
    { jsonrpc: '2.0', id: 5, error: { code: 1.5, message: secret } },
    { jsonrpc: '2.0', id: 5, error: { code: 1 } },
    { jsonrpc: '2.0', id: 5, error: secret },
    { jsonrpc: '2.0', id: 5, result: secret },
    { jsonrpc: '2.0', id: 5 }
  ]
  for (const value of wrong) {
    const reading = readJson(value)
    t.match(reading, { ok: false, code: 'GW_INVALID_MESSAGE', idText: '5' }, JSON.stringify(value))
    t.notMatch(JSON.stringify(reading), secret)
  }
  for (const params of [
    '{"name":"a","name":"b"}',
    '{"__proto__":1}',
    `{"a":${'['.repeat(600)}${']'.repeat(600)}}`
  ])
    t.match(
      read(`{"jsonrpc":"2.0","id":12345678901234567890,"method":"m","params":${params}}`),
      { code: 'GW_INVALID_MESSAGE', idText: '12345678901234567890' },
      params.slice(0, 20)
    )
  t.equal(code(readJson({ jsonrpc: '2.0', result: {} })), 'GW_INVALID_MESSAGE')
  t.notMatch(JSON.stringify(read(`{"${secret}`)), secret)
})

t.test('R20 ignores unknown members beside the envelope', async t => {
  t.match(readJson({ jsonrpc: '2.0', id: 1, method: 'm', trace: 'x' }), { ok: true })
})

t.test('refuses members that would poison a prototype, however they are spelled', async t => {
  const poisoned = [
    '"__proto__":{"a":1}',
    '"\\u005f_proto__":{"a":1}',
    '"constructor":{"prototype":{"a":1}}',
    '"\\u0063onstructor":{"prototype":{"a":1}}',
    '"constructor" : {"prototype":{"a":1}}'
  ]
  for (const member of poisoned) {
    const reading = read(`{"jsonrpc":"2.0","id":1,"method":"m","params":{"deep":[{${member}}]}}`)
    t.equal(code(reading), 'GW_INVALID_MESSAGE', member)
  }
  t.match(
    read('{"jsonrpc":"2.0","id":1,"method":"m","params":{"q":"__proto__","constructor":1}}'),
    {
      ok: true
    }
  )
  t.equal(code(read('"__proto__"')), 'GW_INVALID_MESSAGE')
  t.equal(({} as { a?: unknown }).a, undefined)
})

t.test('refuses a decisive member that stands twice: parsers disagree on which wins', async t => {
  const wrap = (params: string) =>
    `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":${params}}`
  const twice = [
    '{"jsonrpc":"2.0","id":1,"id":2,"method":"m"}',
    '{"jsonrpc":"2.0","id":1,"method":"tools/list","m\\u0065thod":"tools/call"}',
    wrap('{"name":"harmless","name":"dangerous"}'),
    wrap('{"name":"harmless","\\u006eame" : "dangerous"}'),
    wrap('{"arguments":{},"x":[{"y":"\\\\\\""}],"arguments":{"a":1}}'),
    wrap(
      '{"_meta":{"io.modelcontextprotocol/protocolVersion":"1","io.modelcontextprotocol\\/protocolVersion":"2"}}'
    ),
    `[${wrap('{"name":"a"}')},${wrap('{"name":"a","name":"b"}')}]`
  ]
  for (const text of twice) t.equal(code(read(text)), 'GW_INVALID_MESSAGE', text)
  const once = [
    wrap(
      '{"name":"a","arguments":{"name":"b","id":2,"x":1,"x":2,"list":[{"name":"c"},{"name":"d"}]}}'
    ),
    wrap('{"name":"name","arguments":{"name":"\\u00e9"}}'),
    `[${wrap('{"name":"a"}')},${wrap('{"name":"b"}')}]`
  ]
  for (const text of once) t.equal(code(read(text)), 'accepted', text)
})

t.test('bounds the depth of what is handed on', async t => {
  const nested = (levels: number) =>
    `{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":${'['.repeat(levels)}${']'.repeat(levels)}}}`
  t.equal(code(read(nested(maxDepth - 2))), 'accepted')
  t.equal(code(read(nested(maxDepth - 1))), 'GW_INVALID_MESSAGE')
  t.equal(code(read(nested(maxDepth - 1).replace(']}}', '],"b":{}}}'))), 'GW_INVALID_MESSAGE')
  t.equal(code(read(nested(1_000_000))), 'GW_INVALID_MESSAGE')
  t.equal(code(read('['.repeat(5_000_000))), 'GW_PARSE_ERROR')
})

t.test('R46 R47 reads a batch of requests and notifications, or of responses', async t => {
  const request = { jsonrpc: '2.0', id: 1, method: 'm' }
  const response = { jsonrpc: '2.0', id: 1, result: {} }
  const notification = { jsonrpc: '2.0', method: 'm' }
  t.match(readJson([request, notification]), {
    ok: true,
    batch: true,
    messages: [{ kind: 'request' }, { kind: 'notification' }]
  })
  t.match(readJson([response, response]), { ok: true, batch: true })
  t.equal(code(readJson([])), 'GW_INVALID_MESSAGE')
  t.equal(code(readJson([request, response])), 'GW_INVALID_MESSAGE')
  t.equal(code(readJson(Array(100).fill(request))), 'accepted')
  t.equal(code(readJson(Array(101).fill(request))), 'GW_INVALID_MESSAGE')
  const broken = readJson([request, { jsonrpc: '2.0', id: 2, method: 5 }])
  t.match(broken, { ok: false, reason: /message 1 of the batch/ })
  t.notOk('idText' in broken, 'no single id can stand for a batch')
  t.equal(code(readJson([[request]])), 'GW_INVALID_MESSAGE')
})

t.test('R12 any bytes get a verdict and never an exception', async () => {
  const json = fc.json({ maxDepth: 6 }).map(text => Buffer.from(text))
  const noise = fc.uint8Array({ maxLength: 200 }).map(bytes => Buffer.from(bytes))
  // A message with one byte changed comes closest to the edges.
  const mutated = fc.tuple(fc.nat(), fc.nat(255)).map(([at, byte]) => {
    const bytes = Buffer.from(
      '{"jsonrpc":"2.0","id":12345678901234567890,"method":"m","params":{"name":"\\u0041","_meta":{"a":[1]}}}'
    )
    bytes[at % bytes.length] = byte
    return bytes
  })
  fc.assert(
    fc.property(fc.oneof(json, noise, mutated), bytes => {
      const reading = readMessage(bytes, limits)
      if (reading.ok) return reading.messages.length > 0
      return reading.code === 'GW_PARSE_ERROR' || reading.code === 'GW_INVALID_MESSAGE'
    }),
    { numRuns: 3000 }
  )
})

// Where the gateway is more lenient than the SDK's schemas: (1) unknown members beside the envelope are ignored (R20); (2) integers
// beyond 2^53 are ids; (3) `_meta` is looked at by the checks that need it and not here. It is stricter nowhere but in what
// JSON.stringify never writes (repeated members, poison) and in depth.
t.test('R18 accepts what the SDK accepts, and nothing more but the stated leniencies', async t => {
  const id = fc.oneof(fc.string(), fc.maxSafeInteger(), fc.double())
  const object = fc.dictionary(fc.constantFrom('name', 'uri', 'a', 'id'), fc.jsonValue())
  const error = fc.record({ code: fc.integer(), message: fc.string(), data: fc.jsonValue() })
  const optional = { requiredKeys: ['jsonrpc'] as const }
  const jsonrpc = fc.constant('2.0')
  const shapes = fc.oneof(
    fc.record(
      { jsonrpc, id, method: fc.string(), params: object },
      { requiredKeys: ['jsonrpc', 'method'] }
    ),
    fc.record({ jsonrpc, id, result: object }),
    fc.record({ jsonrpc, id, error }),
    fc.record(
      { jsonrpc, id, method: fc.string(), params: object, result: object, error },
      optional as never
    )
  )
  const wrong = fc.oneof(fc.jsonValue(), fc.record({ code: fc.double(), message: fc.string() }))
  const member = fc.constantFrom('jsonrpc', 'id', 'method', 'params', 'result', 'error')
  const mutated = fc
    .tuple(shapes, member, wrong)
    .map(([shape, name, value]) => ({ ...shape, [name]: value }))
  const message: fc.Arbitrary<unknown> = fc.oneof(shapes, mutated)
  let accepted = 0
  fc.assert(
    fc.property(message, value => {
      const text = JSON.stringify(value)
      fc.pre(!text.includes('__proto__'))
      const parsed = JSON.parse(text) as { id?: unknown; method?: unknown; params?: unknown }
      // Beside a response, params is a member like any unknown one.
      if (parsed.method === undefined) delete parsed.params
      const theirs = JSONRPCMessageSchema.safeParse(parsed).success
      const ours = read(text).ok
      if (ours) accepted += 1
      const hugeId = Number.isInteger(parsed.id) && !Number.isSafeInteger(parsed.id)
      return ours === theirs || (hugeId && !theirs)
    }),
    { numRuns: 2000 }
  )
  t.ok(
    accepted > 300 && accepted < 1900,
    `the property saw messages of both kinds (${accepted} accepted)`
  )
  const lenient = [
    { jsonrpc: '2.0', id: 1, method: 'm', extra: 1 },
    { jsonrpc: '2.0', id: 1, method: 'm', params: { _meta: 5 } }
  ]
  for (const value of lenient) {
    t.notOk(JSONRPCMessageSchema.safeParse(value).success)
    t.ok(readJson(value).ok)
  }
})

t.test('R21 answers carry the id character by character, or none', async t => {
  t.equal(
    rpcResult('12345678901234567890', '{"a": 1}'),
    '{"jsonrpc":"2.0","id":12345678901234567890,"result":{"a": 1}}'
  )
  t.equal(
    rpcErrorBody({ idText: '"x"', code: -32601, message: 'No "m"', data: { a: 1 } }),
    '{"jsonrpc":"2.0","id":"x","error":{"code":-32601,"message":"No \\"m\\"","data":{"a":1}}}'
  )
  const withoutId = rpcErrorBody({ code: -32700, message: 'Parse error' })
  t.equal(withoutId, '{"jsonrpc":"2.0","error":{"code":-32700,"message":"Parse error"}}')
  t.ok(JSONRPCMessageSchema.safeParse(JSON.parse(withoutId)).success)
})

t.test('what opens is counted outside of strings, and in no text without an end', t => {
  for (const [text, count] of [
    ['{}', 1],
    ['[{},[]]', 3],
    ['["{[",{}]', 2],
    ['["\\"{",{}]', 2],
    ['["\\"",{}]', 2],
    ['["\\\\",{}]', 2],
    ['["{', 1],
    ['["{\\', 1]
  ] as const) {
    t.equal(countContainers(Buffer.from(text)), count, text)
  }
  t.end()
})
