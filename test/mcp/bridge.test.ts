import t from 'tap'
import fc from 'fast-check'
import { InitializeResultSchema } from '@modelcontextprotocol/sdk/types.js'
import { specTypeSchemas } from '@modelcontextprotocol/server'
import {
  describeUpstream,
  toLegacyAnswer,
  toLegacyRequest,
  toModernAnswer,
  toModernRequest
} from '../../src/mcp/bridge.ts'
import { progressToken, toModernNews } from '../../src/mcp/news.ts'
import type { Message, RpcRequest } from '../../src/mcp/call.ts'
import { classify } from '../../src/mcp/envelope.ts'
import { elementTexts, keepMembers, memberText, setMembers } from '../../src/mcp/json-members.ts'
import { readMessage } from '../../src/mcp/message.ts'
import {
  decodeHeaderValue,
  encodeHeaderValue,
  mirroredParams,
  paramHeaders,
  paramMismatch
} from '../../src/mcp/mirrored-headers.ts'
import {
  discoverResult,
  gatewayInfo,
  initializeResult,
  toolsCapabilities
} from '../../src/mcp/server-info.ts'
import { acknowledged, changed, ended, honoured } from '../../src/mcp/subscription.ts'

const info = { ...gatewayInfo, version: '1.2.3' }
const parse = (text: string) => JSON.parse(text) as Record<string, unknown>
function request(text: string): RpcRequest {
  const reading = readMessage(Buffer.from(text), { maxBatch: 1 })
  const message = reading.ok ? reading.messages[0] : undefined
  if (message?.kind !== 'request') throw new Error('not a request')
  return message
}

t.test('sets members and leaves every other character of them alone', async t => {
  const text = ' { "id" : 12345678901234567890, "a":{"x":"}\\"{"},"b" : [1, 2.50] , "c":null} '
  t.equal(memberText(text, 'id'), '12345678901234567890')
  t.equal(memberText(text, 'a'), '{"x":"}\\"{"}')
  t.equal(memberText(text, 'b'), '[1, 2.50]')
  t.equal(memberText(text, 'none'), undefined)
  t.strictSame(elementTexts(`[ 1.0 ,${text}, "],\\"" ,[[]] ] `), [
    '1.0',
    text.trim(),
    '"],\\""',
    '[[]]'
  ])
  t.strictSame(elementTexts('[]'), [])
  t.equal(
    setMembers(text, { a: undefined, b: '{}', d: 'true', e: undefined }),
    '{"id" : 12345678901234567890,"b" : {},"c":null,"d":true}'
  )
  t.equal(setMembers('{}', {}), '{}')
  t.equal(
    setMembers('{"a":1,"b":{"c":2},"a":"x"}', { a: was => `[${was}]`, d: was => String(was) }),
    '{"b":{"c":2},"a":["x"],"d":undefined}',
    'a change is told what is there; of two the last counts'
  )
  t.equal(
    setMembers('{"b":1,"a":1,"b":2,"\\u0061":2,"c":{"a":3},"a":4}', { a: '0', d: '5' }),
    '{"b":1,"b":2,"c":{"a":3},"a":0,"d":5}',
    'what is not changed stays twice'
  )
  t.equal(setMembers('{"a":1,"b":2}', { a: () => undefined, c: () => undefined }), '{"b":2}')
  t.equal(setMembers('{"\\u0061":1}', { a: '2' }), '{"\\u0061":2}')
  t.equal(
    keepMembers('{ "a" : 1, "b":[ ], "c":"}"}', name => name !== 'b'),
    '{"a" : 1,"c":"}"}'
  )
  for (const broken of ['', '[]', '"x"', '{"a"', '{"a":[', '{"a":"', '{"a" 1}'])
    t.throws(() => setMembers(broken, {}), SyntaxError, broken)
  const object = fc.dictionary(fc.string({ maxLength: 3 }), fc.jsonValue())
  const changes = fc.dictionary(
    fc.string({ maxLength: 3 }),
    fc.option(fc.jsonValue(), { nil: undefined })
  )
  fc.assert(
    fc.property(object, changes, fc.constantFrom(0, 1), (before, change, indent) => {
      fc.pre(!JSON.stringify([before, change]).includes('__proto__'))
      const texts = Object.entries(change).map(([name, value]) => [name, JSON.stringify(value)])
      const after = setMembers(JSON.stringify(before, null, indent), Object.fromEntries(texts))
      t.strictSame(parse(after), parse(JSON.stringify({ ...before, ...change })))
    }),
    { numRuns: 200 }
  )
})

t.test('R32 R62 introduces itself to both eras as their schemas want it', async t => {
  const server = { info, capabilities: toolsCapabilities(false), instructions: 'Be kind.' }
  const initialize = initializeResult(server, '2025-06-18')
  t.match(initialize, { protocolVersion: '2025-06-18', serverInfo: { version: '1.2.3' } })
  t.ok(InitializeResultSchema.safeParse(initialize).success)
  t.strictSame(initializeResult({ ...server, instructions: undefined }, 5), {
    protocolVersion: '2025-11-25',
    capabilities: { tools: {} },
    serverInfo: info
  })
  const discover = discoverResult({ ...server, capabilities: toolsCapabilities(true) }, 5000)
  t.match(discover, {
    supportedVersions: ['2026-07-28'],
    capabilities: { tools: { listChanged: true } },
    ttlMs: 5000,
    cacheScope: 'private',
    instructions: 'Be kind.'
  })
  const checked = specTypeSchemas.DiscoverResult['~standard'].validate(discover)
  t.notOk(checked.issues)
  t.notOk('instructions' in discoverResult({ ...server, instructions: undefined }, 0))
})

t.test('advertises of an upstream only what can be bridged', async t => {
  const upstream = {
    protocolVersion: '2025-11-25',
    serverInfo: { name: 'drupal', version: '11' },
    instructions: 'Search first.',
    capabilities: {
      tools: { listChanged: true },
      resources: { subscribe: true, listChanged: true },
      completions: {},
      prompts: 5,
      logging: {},
      tasks: {}
    }
  }
  t.strictSame(describeUpstream(upstream, { tools: false }), {
    info: { name: 'drupal', version: '11' },
    capabilities: { tools: {}, resources: {}, completions: {} },
    instructions: 'Search first.'
  })
  t.match(describeUpstream(upstream, { tools: true }), {
    capabilities: { tools: { listChanged: true }, resources: {} }
  })
  const modern = { _meta: { 'io.modelcontextprotocol/serverInfo': { name: 'm', version: '1' } } }
  t.strictSame(describeUpstream(modern, { tools: true }), {
    info: { name: 'm', version: '1' },
    capabilities: {},
    instructions: undefined
  })
  t.strictSame(describeUpstream({}, { tools: true }).info, gatewayInfo)
})

t.test(
  'R77 a modern request goes to a legacy upstream without its envelope, else as it was',
  async t => {
    const sent =
      '{"jsonrpc":"2.0","id":12345678901234567890,"method":"tools/call","params":{"name":"t","arguments":{"n":1.50},' +
      '"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","progressToken":9007199254740993,' +
      '"io.modelcontextprotocol/clientCapabilities":{},"traceparent":"00-x"}}}'
    t.equal(
      toLegacyRequest(sent),
      '{"jsonrpc":"2.0","id":12345678901234567890,"method":"tools/call","params":{"name":"t","arguments":{"n":1.50},' +
        '"_meta":{"progressToken":9007199254740993,"traceparent":"00-x"}}}'
    )
    t.equal(
      toLegacyRequest('{"method":"m","params":{"_meta":{"io.modelcontextprotocol/x":1}}}'),
      '{"method":"m","params":{}}'
    )
    t.equal(toLegacyRequest('{"method":"m"}'), '{"method":"m","params":{}}')
    t.equal(
      toLegacyRequest('{"id":1,"method":"m","params":{"a":1}}', '"x"'),
      '{"id":"x","method":"m","params":{"a":1}}'
    )
    for (const [own, given] of [
      ['5', '"x"'],
      ['-9007199254740993', '"x"'],
      ['"5"', '"x"'],
      ['null', 'null']
    ]) {
      t.equal(
        toLegacyRequest(`{"id":1,"params":{"_meta":{"progressToken":${own},"b":1.0}}}`, '"x"'),
        `{"id":"x","params":{"_meta":{"progressToken":${given},"b":1.0}}}`,
        'R50 under another id with another token'
      )
    }
  }
)

t.test('R63 R64 R65 a legacy result is completed for a modern client', async t => {
  const listed = '{"jsonrpc":"2.0","id":1e0,"result":{"tools":[],"ttlMs":5,"_meta":{"a":1.0}}}'
  const answer = toModernAnswer(listed, { method: 'tools/list', info, ttlMs: 7000 })
  t.equal(answer.status, 200)
  t.match(answer.body, /"id":1e0/)
  t.match(answer.body, /"a":1\.0/)
  t.match(parse(answer.body), {
    result: {
      tools: [],
      resultType: 'complete',
      ttlMs: 7000,
      cacheScope: 'private',
      _meta: { a: 1, 'io.modelcontextprotocol/serverInfo': info }
    }
  })
  for (const method of [
    'server/discover',
    'tools/list',
    'prompts/list',
    'resources/list',
    'resources/templates/list',
    'resources/read'
  ]) {
    const { body } = toModernAnswer('{"result":{}}', { method, info, ttlMs: 1 })
    t.match(parse(body), { result: { ttlMs: 1, cacheScope: 'private' } }, `R64 ${method}`)
  }
  const called = '{"jsonrpc":"2.0","id":1,"result":{"content":[],"_meta":null}}'
  t.strictSame(
    parse(toModernAnswer(called, { method: 'tools/call', info, ttlMs: 7000 }).body)['result'],
    {
      content: [],
      _meta: { 'io.modelcontextprotocol/serverInfo': { ...info } },
      resultType: 'complete'
    }
  )
})

t.test(
  'R62 R20 an answer under another id becomes the client’s own, in whichever order it is written',
  async t => {
    const options = { method: 'tools/call', info, ttlMs: 0, ids: { own: '1e0', asked: '"g-1"' } }
    const complete = {
      resultType: 'complete',
      _meta: { 'io.modelcontextprotocol/serverInfo': info }
    }
    const texts = (result: string) => [
      `{"jsonrpc":"2.0","id":"g-1","result":${result}}`,
      `{"result":${result},"jsonrpc":"2.0","id":"g-1"}`,
      `{"jsonrpc":"2.0","result":${result},"id":"g-1"}`,
      `{ "id" : "g-1", "result" : ${result} , "jsonrpc":"2.0" }\n`
    ]
    const results = [
      '{}',
      '{ }',
      ' { "a":1.0,"b":"}" }',
      '{"_meta":null}',
      '{"resultType":"task","a":1.0}'
    ]
    for (const result of results) {
      for (const text of texts(result)) {
        const { status, body } = toModernAnswer(text, options)
        t.equal(status, 200)
        t.strictSame(parse(body), {
          jsonrpc: '2.0',
          id: 1,
          result: { ...parse(result), ...complete }
        })
        t.equal(body.split('1e0').length, 2, 'the id as the client wrote it')
        if (result.includes('1.0')) t.match(body, /"a":1\.0/)
      }
    }
    const [kept = ''] = texts('{"_meta":{"x":1}}')
    t.match(parse(toModernAnswer(kept, options).body), { result: { _meta: { x: 1 } } })
    const smuggled = '{"jsonrpc":"2.0","id":"g-1","result":{},"result":{"b":2}}'
    t.match(parse(toModernAnswer(smuggled, options).body), { result: { b: 2, ...complete } })
    const error = '{"jsonrpc":"2.0","id":"g-1","error":{"code":-32601,"message":"m"}}'
    t.strictSame(toModernAnswer(error, options), {
      status: 404,
      body: error.replace('"g-1"', '1e0')
    })
  }
)

t.test('R74 R75 R61 legacy error codes and statuses become those of the modern era', async t => {
  const cases = [
    [-32002, 200, -32602],
    [-32042, 200, -32603],
    [-32020, 200, -32603],
    [-32022, 200, -32603],
    [-32099, 200, -32603],
    [-32019, 200, -32019],
    [-32100, 200, -32100],
    [-32601, 404, -32601],
    [-32602, 200, -32602],
    [403, 200, 403]
  ] as const
  for (const [code, status, becomes] of cases) {
    const error = { code, message: 'm', data: { uri: 'x' } }
    const answer = toModernAnswer(JSON.stringify({ jsonrpc: '2.0', id: 'é', error }), {
      method: 'resources/read',
      info,
      ttlMs: 0
    })
    t.equal(answer.status, status, String(code))
    t.strictSame(parse(answer.body), {
      jsonrpc: '2.0',
      id: 'é',
      error: { ...error, code: becomes }
    })
  }
})

t.test('an upstream that gives no answer is named as the fault, in both directions', async t => {
  const ping = request('{"jsonrpc":"2.0","id":1,"method":"m"}')
  for (const text of [
    '',
    '<html>',
    '[]',
    '{}',
    '{"result":5}',
    '{"error":{}}',
    '{"error":{"code":"x"}}',
    'null'
  ]) {
    const options = { method: 'm', info, ttlMs: 0 }
    t.throws(() => toModernAnswer(text, options), { code: 'GW_UPSTREAM_INVALID' }, text)
    t.throws(() => toLegacyAnswer(text, ping), { code: 'GW_UPSTREAM_INVALID' }, text)
  }
})

t.test('R50 R68 what of a legacy stream reaches a modern client', async t => {
  const shown = (news: string, meta: string) => {
    const text = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{${meta}}}}`
    const reading = readMessage(Buffer.from(news), { maxBatch: 1 })
    const [said] = reading.ok ? reading.messages : []
    return toModernNews(said as Message, news, {
      request: request(text),
      asked: 'gateway-7',
      progressToken: progressToken(request(text), () => text)
    })
  }
  const note = (method: string, params = '{}') =>
    `{"jsonrpc":"2.0","method":"notifications/${method}","params":${params}}`
  const progress = (token: string) => note('progress', `{"progressToken":${token},"progress":1.0}`)
  const quiet = '"x":1'
  const chatty = '"io.modelcontextprotocol/logLevel":"info"'
  const line = (level: string) => note('message', `{"level":${level},"data":1.0}`)
  t.equal(shown(line('"alert"'), quiet), undefined)
  for (const level of ['"info"', '"notice"', '"emergency"'])
    t.equal(shown(line(level), chatty), line(level))
  for (const level of ['"debug"', '"INFO"', '7', 'null'])
    t.equal(shown(line(level), chatty), undefined, `${level} is less than was asked for`)
  const unknown = '"io.modelcontextprotocol/logLevel":"all"'
  t.equal(shown(line('"alert"'), unknown), undefined, 'no level')
  t.equal(shown(note('tools/list_changed'), chatty), undefined)
  const question = '{"jsonrpc":"2.0","id":1,"method":"ping"}'
  t.equal(shown(question, chatty), undefined, 'no server→client requests')
  for (const own of ['0', '"a\\u0062"', '9007199254740993']) {
    const meta = `"progressToken":${own}`
    t.equal(shown(progress('"gateway-7"'), meta), progress(own), 'as the client wrote it')
    t.equal(shown(progress('"gateway-8"'), meta), undefined, 'of another client’s call')
    t.equal(shown(progress(own), meta), undefined, 'of nobody’s: the upstream never heard of it')
    t.equal(shown(note('progress'), meta), undefined)
  }
  for (const meta of [quiet, '"progressToken":null']) {
    t.equal(shown(progress('"gateway-7"'), meta), undefined, 'of a call that asked for none')
  }
})

t.test('R55 R57 R58 a legacy request becomes a modern one that passes our own checks', async t => {
  const texts = [
    '{"jsonrpc":"2.0","id":1,"method":"tools/list"}',
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","_meta":{"progressToken":5}}}',
    '{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"=?base64?x?=","_meta":7}}',
    '{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"node:é "}}',
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"x"}}}'
  ]
  for (const text of texts) {
    const { body, headers } = toModernRequest(text, request(text))
    const envelope = classify({
      messages: [request(body)],
      batch: false,
      headers: {
        protocolVersion: headers['mcp-protocol-version'],
        mcpMethod: headers['mcp-method'],
        mcpName: headers['mcp-name']
      }
    })
    t.match(envelope, { era: 'modern', version: '2026-07-28' }, text)
  }
  const { body } = toModernRequest(texts[1]!, request(texts[1]!))
  t.match(parse(body), { params: { _meta: { progressToken: 5 } } })
})

t.test('R58 R61 a method that no header can name is none of the modern era', async t => {
  const asked = (method: string) => {
    const text = JSON.stringify({ jsonrpc: '2.0', id: 1, method })
    return () => toModernRequest(text, request(text))
  }
  for (const method of ['x\u0001', 'é', '\u0100', 'a b', ' a', '', 'x'.repeat(129)]) {
    t.throws(asked(method), { code: 'GW_METHOD_NOT_FOUND', statusCode: 200 }, method)
  }
  t.equal(asked('x'.repeat(128))().headers['mcp-method'], 'x'.repeat(128))
})

t.test('R61 a modern answer for a legacy client', async t => {
  const asked = request('{"jsonrpc":"2.0","id":12345678901234567890,"method":"tools/call"}')
  const same =
    '{"jsonrpc":"2.0","id":12345678901234567890,"result":{"resultType":"complete","ttlMs":0}}'
  t.strictSame(toLegacyAnswer(same, asked), { status: 200, body: same })
  const unknown = '{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"m"}}'
  t.strictSame(toLegacyAnswer(unknown, asked), { status: 200, body: unknown }, 'never 404')
  const asksBack =
    '{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","requestState":"s"}}'
  t.match(toLegacyAnswer(asksBack, asked).body, /"id":12345678901234567890,"error":\{"code":-32603/)
  for (const code of [-32020, -32021, -32022]) {
    const refused = JSON.stringify({ jsonrpc: '2.0', id: 1, error: { code, message: 'm' } })
    t.match(toLegacyAnswer(refused, asked), { status: 200, body: /-32603/ }, 'R74 not known there')
  }
})

t.test(
  'R71 a subscription is told with its id as sent, and only of what was asked and is offered',
  async t => {
    const offered = { toolsListChanged: true, promptsListChanged: false }
    const asked = { toolsListChanged: true, promptsListChanged: true, resourcesListChanged: true }
    t.strictSame(honoured(asked, offered), { toolsListChanged: true })
    t.strictSame(honoured({ unknown: 1 }, offered), {})
    for (const none of [undefined, null, 5, [], { toolsListChanged: 'yes' }])
      t.throws(() => honoured(none, offered), { code: 'GW_INVALID_PARAMS' })
    const id = '"listen:0"'
    t.strictSame(parse(acknowledged(id, { toolsListChanged: true })), {
      jsonrpc: '2.0',
      method: 'notifications/subscriptions/acknowledged',
      params: {
        _meta: { 'io.modelcontextprotocol/subscriptionId': 'listen:0' },
        notifications: { toolsListChanged: true }
      }
    })
    t.match(acknowledged('12345678901234567890', {}), /subscriptionId":12345678901234567890\}/)
    t.strictSame(parse(changed('0', 'notifications/tools/list_changed')), {
      jsonrpc: '2.0',
      method: 'notifications/tools/list_changed',
      params: { _meta: { 'io.modelcontextprotocol/subscriptionId': 0 } }
    })
    const schemas = specTypeSchemas
    const ack = schemas.SubscriptionsAcknowledgedNotification['~standard']
    t.notOk(ack.validate(parse(acknowledged(id, offered))).issues)
    const end = schemas.SubscriptionsListenResult['~standard']
    t.notOk(end.validate(parse(ended(id))['result']).issues)
    t.strictSame(parse(ended(id)), {
      jsonrpc: '2.0',
      id: 'listen:0',
      result: {
        resultType: 'complete',
        _meta: { 'io.modelcontextprotocol/subscriptionId': 'listen:0' }
      }
    })
  }
)

t.test('R59 R60 what is encoded for a header is decoded to the same', async t => {
  t.equal(encodeHeaderValue('search'), 'search')
  t.equal(encodeHeaderValue('two words'), 'two words')
  for (const text of ['', ' x', 'x ', 'é', 'a\nb', '=?base64?eA==?=', '=?x'])
    t.match(encodeHeaderValue(text), /^=\?base64\?[A-Za-z0-9+/=]*\?=$/, JSON.stringify(text))
  fc.assert(
    fc.property(
      fc.string({ unit: 'grapheme' }),
      text => decodeHeaderValue(encodeHeaderValue(text)) === text
    )
  )
  const declared = mirroredParams({
    properties: {
      region: { type: 'string', 'x-mcp-header': 'Region' },
      count: { type: 'integer', 'x-mcp-header': 'Count' }
    }
  })
  const args = { region: 'Zürich', count: 3 }
  t.equal(paramMismatch(declared, args, paramHeaders(declared, args)), undefined)
  t.strictSame(paramHeaders(declared, { count: null }), {})
})

t.test('a name that stands many times costs no more than other names', t => {
  const many = (member: string) => Array.from({ length: 50_000 }, () => member).join(',')
  const started = performance.now()
  const text = setMembers(`{${many('"a":1')},${many('"b":2')}}`, { a: '3', b: undefined })
  t.equal(text, '{"a":3}')
  t.ok(performance.now() - started < 2000)
  t.end()
})
