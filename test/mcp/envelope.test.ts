import t from 'tap'
import fc from 'fast-check'
import { classifyInboundRequest } from '@modelcontextprotocol/server'
import { errorTable } from '../../src/errors.ts'
import { classify, type Envelope } from '../../src/mcp/envelope.ts'
import { readMessage } from '../../src/mcp/message.ts'
import {
  decodeHeaderValue,
  mirroredParams,
  paramMismatch,
  withoutMirroredParams
} from '../../src/mcp/mirrored-headers.ts'

const version = 'io.modelcontextprotocol/protocolVersion'
const capabilities = 'io.modelcontextprotocol/clientCapabilities'
const meta = { [version]: '2026-07-28', [capabilities]: {} }
const call = (extra: object = {}, _meta: unknown = meta) => ({
  jsonrpc: '2.0',
  id: 'c1',
  method: 'tools/call',
  params: { name: 'search', arguments: {}, _meta },
  ...extra
})
const good = { protocolVersion: '2026-07-28', mcpMethod: 'tools/call', mcpName: 'search' }
const none = { protocolVersion: undefined, mcpMethod: undefined, mcpName: undefined }

function judge(body: unknown, headers: object = {}, methods?: ReadonlySet<string>): Envelope {
  const reading = readMessage(Buffer.from(JSON.stringify(body)), { maxBatch: 100 })
  if (!reading.ok) throw new Error(`not a message: ${reading.reason}`)
  const { messages, batch } = reading
  const all = { ...none, ...headers }
  return classify({ messages, batch, headers: all, ...(methods && { methods }) })
}
function verdict(envelope: Envelope): string {
  return 'reject' in envelope ? String(errorTable[envelope.reject].rpc) : envelope.era
}
type Asserts = Pick<typeof t, 'equal'>
const is = (t: Asserts, expected: string, body: unknown, headers: object = {}, note?: string) =>
  t.equal(verdict(judge(body, headers)), expected, note ?? JSON.stringify([body, headers]))

t.test('R54 a request that says all and whose headers agree is modern', async t => {
  t.strictSame(judge(call(), good), { era: 'modern', version: '2026-07-28' })
  is(t, 'modern', call({ method: 'tools/list' }), {
    ...good,
    mcpMethod: 'tools/list',
    mcpName: undefined
  })
  const read = call({ method: 'resources/read', params: { uri: 'node:1', _meta: meta } })
  is(t, 'modern', read, { ...good, mcpMethod: 'resources/read', mcpName: 'node:1' })
})

t.test('R57 an incomplete envelope is -32602 and the answer says what to send', async t => {
  is(t, '-32602', call({}, { [version]: '2026-07-28' }), good)
  is(t, '-32602', call({}, { [version]: '2026-07-28', [capabilities]: [] }), good)
  is(t, '-32602', call({}, { ...meta, [version]: 20260728 }), good)
  is(t, '-32602', call({}, null), good)
  is(t, '-32602', call({}, 'text'), good)
  t.match(judge(call({}, { [version]: '2026-07-28' }), good), {
    reject: 'GW_INCOMPLETE_META',
    details: { idText: '"c1"', hint: /clientCapabilities/ }
  })
  t.match(judge({ jsonrpc: '2.0', id: 1, method: 'tools/list' }, good), {
    details: { hint: 'Send params._meta.' }
  })
})

t.test('R55 R58 headers that are missing or disagree are -32020', async t => {
  is(t, '-32020', call(), { ...good, protocolVersion: undefined })
  is(t, '-32020', call(), { ...good, protocolVersion: '2025-11-25' })
  is(t, '-32020', call(), { ...good, mcpMethod: undefined })
  is(t, '-32020', call(), { ...good, mcpMethod: 'Tools/call' })
  is(t, '-32020', call(), { ...good, mcpName: undefined })
  is(t, '-32020', call(), { ...good, mcpName: 'Search' })
  is(t, '-32020', call(), { ...good, mcpName: '=?base64?c2VhcmN?=' }, 'R59 bad base64')
  is(t, 'modern', call(), { ...good, mcpName: '=?base64?c2VhcmNo?=' }, 'R59 decoded')
  is(t, 'modern', call({ params: { _meta: meta } }), { ...good, mcpName: undefined }, 'no name')
  t.match(judge(call(), { ...good, mcpName: 'secret' }), {
    details: { hint: 'Mcp-Name differs from the body.' }
  })
})

t.test(
  'R56 an unsupported version is -32022 and names what is served and what was asked',
  async t => {
    const asked = call({}, { ...meta, [version]: '2099-01-01' })
    t.match(judge(asked, { ...good, protocolVersion: '2099-01-01' }), {
      reject: 'GW_UNSUPPORTED_MODERN_VERSION',
      details: { data: { supported: ['2026-07-28'], requested: '2099-01-01' }, idText: '"c1"' }
    })
    is(t, '-32022', call({}, { ...meta, [version]: '2025-11-25' }), {
      protocolVersion: '2025-11-25'
    })
  }
)

t.test('R61 a removed or unknown method is 404 -32601 on the modern era', async t => {
  for (const method of ['initialize', 'ping', 'logging/setLevel', 'resources/subscribe'])
    t.match(judge(call({ method }), { ...good, mcpMethod: method }), {
      reject: 'GW_METHOD_NOT_FOUND',
      details: { status: 404, idText: '"c1"' }
    })
  const served = new Set(['tools/list'])
  t.match(judge(call(), good, served), { reject: 'GW_METHOD_NOT_FOUND', details: { status: 404 } })
  t.match(judge(call(), good, new Set(['tools/call'])), { era: 'modern' })
})

t.test(
  'the checks come in the order of the protocol: each error hides those behind it',
  async t => {
    const everythingWrong = { protocolVersion: '2025-11-25', mcpMethod: 'x', mcpName: 'y' }
    const unknown = (_meta: object) => call({ method: 'ping', params: { _meta } })
    is(t, '-32602', unknown({ [version]: '2099-01-01' }), everythingWrong)
    is(t, '-32020', unknown({ ...meta, [version]: '2099-01-01' }), everythingWrong)
    is(t, '-32022', unknown({ ...meta, [version]: '2099-01-01' }), { mcpMethod: 'x' })
    is(t, '-32020', unknown(meta), { mcpMethod: 'x' })
    is(t, '-32601', unknown(meta), { protocolVersion: '2026-07-28', mcpMethod: 'ping' })
  }
)

t.test('R16 modern notifications need no Mcp-Method', async t => {
  const note = { jsonrpc: '2.0', method: 'notifications/x', params: { _meta: meta } }
  is(t, 'modern', note)
  is(t, 'modern', note, { protocolVersion: '2026-07-28' })
  is(t, 'modern', { jsonrpc: '2.0', method: 'notifications/x' }, { protocolVersion: '2026-07-28' })
  is(t, '-32020', note, { protocolVersion: '2026-07-28', mcpMethod: 'other' })
  is(t, '-32022', { jsonrpc: '2.0', method: 'notifications/x' }, { protocolVersion: '2099-01-01' })
  t.notOk(
    'idText' in (judge(note, { protocolVersion: '2025-11-25' }) as { details: object }).details
  )
})

t.test('what stays legacy, and what may not mix eras', async t => {
  is(t, 'legacy', { jsonrpc: '2.0', id: 1, method: 'tools/list' })
  is(t, 'legacy', { jsonrpc: '2.0', id: 1, method: 'tools/list' }, { protocolVersion: 'banana' })
  is(t, 'legacy', { jsonrpc: '2.0', id: 1, method: 'initialize', params: {} })
  is(t, 'legacy', call({ method: 'initialize' }, { [version]: '2026-07-28' }), {}, 'half a claim')
  is(
    t,
    '-32020',
    { jsonrpc: '2.0', id: 1, method: 'initialize' },
    { protocolVersion: '2026-07-28' }
  )
  const response = { jsonrpc: '2.0', id: 1, result: {} }
  is(t, 'legacy', response, { protocolVersion: '2025-11-25' })
  is(t, '-32600', response, { protocolVersion: '2026-07-28' }, 'R14')
  is(t, 'legacy', [response])
  is(t, 'legacy', [{ jsonrpc: '2.0', id: 1, method: 'tools/list' }])
  is(t, '-32600', [call()], {}, 'R47 a modern message in a batch')
  is(t, '-32600', [{ jsonrpc: '2.0', id: 1, method: 'initialize' }], {}, 'R47')
  is(t, '-32600', [{ jsonrpc: '2.0', id: 1, method: 'tools/list' }], good)
})

// The SDK's classifier knows era and shape only: the rungs that it leaves to its handler (version served, headers present, method
// known) may follow where it says "modern". The stated differences: posted responses, batches with a modern header or with
// `initialize`, and Mcp-Method, which the SDK compares before the version is looked up.
t.test('agrees with the classifier of SDK v2 wherever both have an opinion', async t => {
  const dates = ['2026-07-28', '2025-11-25', '2099-01-01']
  const maybe = (...values: string[]) => fc.constantFrom(undefined, ...values)
  const method = fc.constantFrom(
    'initialize',
    'tools/call',
    'tools/list',
    'ping',
    'notifications/x'
  )
  const someMeta = fc.record(
    {
      [version]: fc.constantFrom<unknown>(...dates, 5, null),
      [capabilities]: fc.constantFrom<unknown>({}, { sampling: {} }, [], 'x'),
      progressToken: fc.constant('p')
    },
    { requiredKeys: [] }
  )
  const message = fc
    .record({
      id: fc.constantFrom(undefined, 1, 'a'),
      method,
      name: fc.constantFrom('search', undefined),
      _meta: fc.oneof(fc.constant(undefined), someMeta, fc.constant(meta), fc.constant(meta))
    })
    .map(({ id, method, name, _meta }) => ({ jsonrpc: '2.0', id, method, params: { name, _meta } }))
  const response = fc.constant({ jsonrpc: '2.0', id: 1, result: {} })
  const body = fc.oneof(
    { weight: 8, arbitrary: message },
    { weight: 1, arbitrary: response },
    { weight: 1, arbitrary: fc.array(message, { minLength: 1, maxLength: 3 }) }
  )
  const headers = fc.record({
    protocolVersion: maybe(...dates),
    mcpMethod: maybe('initialize', 'tools/call', 'tools/list', 'ping', 'notifications/x'),
    mcpName: maybe('search', 'other')
  })
  const seen = new Map<string, number>()
  fc.assert(
    fc.property(body, headers, (value, headers) => {
      const json = JSON.parse(JSON.stringify(value)) as Record<string, unknown>
      const theirs = classifyInboundRequest({
        httpMethod: 'POST',
        body: json,
        ...(headers.protocolVersion && { protocolVersionHeader: headers.protocolVersion }),
        ...(headers.mcpMethod && { mcpMethodHeader: headers.mcpMethod }),
        ...(headers.mcpName && { mcpNameHeader: headers.mcpName })
      })
      const ours = verdict(judge(json, headers))
      seen.set(ours, (seen.get(ours) ?? 0) + 1)
      if (theirs.kind === 'modern') return ['modern', '-32022', '-32020', '-32601'].includes(ours)
      if (theirs.kind === 'legacy')
        return ours === 'legacy' || ((Array.isArray(json) || 'result' in json) && ours === '-32600')
      return ours === String(theirs.code) || (theirs.code === -32020 && ours === '-32022')
    }),
    { numRuns: 4000 }
  )
  for (const outcome of ['modern', 'legacy', '-32600', '-32601', '-32602', '-32020', '-32022'])
    t.ok((seen.get(outcome) ?? 0) > 5, `${outcome} was seen`)
})

t.test('R59 decodes the base64 sentinel and nothing that only looks like it', async t => {
  const encode = (text: string) => `=?base64?${Buffer.from(text).toString('base64')}?=`
  t.equal(decodeHeaderValue(encode('Café ☕\n')), 'Café ☕\n')
  t.equal(decodeHeaderValue('=?base64??='), '')
  for (const literal of [
    'plain',
    '=?BASE64?YQ==?=',
    'base64?YQ==?=',
    '=?base64?YQ==',
    '=?base64?=',
    ''
  ])
    t.equal(decodeHeaderValue(literal), literal)
  for (const bad of [
    '=?base64?YQ?=',
    '=?base64?Y Q==?=',
    '=?base64?YQ=?=',
    '=?base64?_w==?=',
    '=?base64?/w==?='
  ])
    t.equal(decodeHeaderValue(bad), undefined, bad)
  t.equal(decodeHeaderValue('caf\u00e9'), undefined, 'a header holds visible ASCII only')
  t.equal(decodeHeaderValue('a\u0000b'), undefined)
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), text => {
      return decodeHeaderValue(encode(text)) === text
    })
  )
})

const schema = {
  type: 'object',
  'x-mcp-header': 'Root',
  properties: {
    region: { type: 'string', 'x-mcp-header': 'Region' },
    count: { type: 'integer', 'x-mcp-header': 'Count' },
    deep: { type: 'object', properties: { flag: { type: 'boolean', 'x-mcp-header': 'Flag' } } },
    bad: { type: 'string', 'x-mcp-header': 'not a token' },
    list: { type: 'array', items: { type: 'string', 'x-mcp-header': 'Item' } },
    'x-mcp-header': { type: 'string' }
  }
}

t.test('R60 finds the parameters that a tool wants mirrored', async t => {
  t.strictSame(mirroredParams(schema), [
    { path: ['region'], header: 'mcp-param-region', numeric: false },
    { path: ['count'], header: 'mcp-param-count', numeric: true },
    { path: ['deep', 'flag'], header: 'mcp-param-flag', numeric: false }
  ])
  for (const none of [undefined, null, 'x', [], {}, { properties: [] }])
    t.strictSame(mirroredParams(none), [])
  let endless: object = { type: 'string', 'x-mcp-header': 'Deep' }
  for (let level = 0; level < 100; level++) endless = { properties: { a: endless } }
  t.strictSame(mirroredParams(endless), [], 'and stops at a depth')
})

t.test('R60 Mcp-Param headers must say what the body says', async t => {
  const declared = mirroredParams(schema)
  const check = (args: unknown, headers: Record<string, string | string[]> = {}) =>
    paramMismatch(declared, args, headers)
  t.equal(check({ region: 'eu' }, { 'mcp-param-region': 'eu' }), undefined)
  t.equal(check({ region: 'eu' }, { 'mcp-param-region': '=?base64?ZXU=?=' }), undefined)
  t.equal(check({ region: 'eu' }), 'mcp-param-region is missing')
  t.equal(
    check({ region: 'eu' }, { 'mcp-param-region': ['eu', 'us'] }),
    'mcp-param-region is missing'
  )
  t.match(check({ region: 'eu' }, { 'mcp-param-region': 'us' }), /differs/)
  t.match(check({ region: 'eu' }, { 'mcp-param-region': '=?base64?!?=' }), /encoded/)
  for (const [count, header] of [
    [42, '42'],
    [42, '42.0'],
    [-1, '-1'],
    [1.5, '1.50']
  ] as const)
    t.equal(check({ count }, { 'mcp-param-count': header }), undefined, header)
  for (const header of ['43', '0x2a', '42 ', '', '4.2e1'])
    t.match(check({ count: 42 }, { 'mcp-param-count': header }), /differs/, header)
  t.match(
    check({ count: '42' }, { 'mcp-param-count': '42.0' }),
    /differs/,
    'text is compared as text'
  )
  t.equal(check({ deep: { flag: true } }, { 'mcp-param-flag': 'true' }), undefined)
  t.match(check({ deep: { flag: false } }, { 'mcp-param-flag': 'true' }), /differs/)
  const notExpected = [
    undefined,
    null,
    {},
    { region: null, count: 2 ** 60, deep: 'x' },
    { region: {} }
  ]
  for (const args of notExpected)
    t.equal(check(args, { 'mcp-param-other': 'x' }), undefined, JSON.stringify(args))
})

t.test('R60 an annotation that nobody checks is not shown, a property of that name is', async t => {
  const shown = withoutMirroredParams(schema)
  t.strictSame(mirroredParams(shown), [])
  t.match(shown, { properties: { region: { type: 'string' }, 'x-mcp-header': { type: 'string' } } })
  t.notMatch(JSON.stringify(shown), /Item|Root|not a token/)
})
