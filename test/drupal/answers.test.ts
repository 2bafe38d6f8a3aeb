import t from 'tap'
import {
  type Asked,
  challengedScopes,
  readObject,
  readToolAnswer,
  refusal,
  retryAfterSeconds
} from '../../src/drupal/answers.ts'
import { callHeaders, siteHeaders, userAgent } from '../../src/drupal/headers.ts'
import type { Answer } from '../../src/drupal/exchange.ts'
import { failureText } from '../../src/drupal/tool-failure.ts'

const HTML = '<!DOCTYPE html><html><body>Secret internals</body></html>'
const asked: Asked = { scopes: ['content:read'], what: 'tool', now: 0 }
const anonymous: Asked = { ...asked, scopes: undefined }

function html(status: number, headers: Answer['headers'] = {}): Answer {
  const all = { 'content-type': 'text/html; charset=UTF-8', ...headers }
  return { status, headers: all, body: Buffer.from(HTML) }
}
function json(body: unknown, status = 200, headers: Answer['headers'] = {}): Answer {
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  const all = { 'content-type': 'application/json', ...headers }
  return { status, headers: all, body: Buffer.from(text) }
}
function thrown(run: () => unknown): Record<string, unknown> {
  try {
    run()
  } catch (error) {
    return error as Record<string, unknown>
  }
  throw new Error('nothing was thrown')
}
const refusedTool = (answer: Answer, as = asked) => thrown(() => readToolAnswer(answer, 'c1', as))

t.test("every row of what Drupal's answers become", async t => {
  const denied = {
    jsonrpc: '2.0',
    id: null,
    error: {
      code: -32600,
      message: 'Invalid Request',
      data: "Access Denied: The 'bypass node access' permission is required."
    }
  }
  const bearer = 'Bearer realm="OAuth", error="access_denied", error_description="revoked"'
  const blocked =
    'Bearer realm="OAuth", error="access_denied", error_description="<em class="placeholder">alice</em> is blocked"'
  const disguised = { jsonrpc: '2.0', error: { code: -32001, message: 'Access Denied' }, id: null }
  const rows: [string, Answer, object, Asked?][] = [
    [
      '200 in a coding',
      json({}, 200, { 'content-encoding': 'br' }),
      { code: 'GW_UPSTREAM_INVALID', reason: 'Drupal: an answer in the coding br' }
    ],
    [
      '401 HTML: revoked',
      html(401, { 'www-authenticate': bearer }),
      { code: 'GW_INVALID_TOKEN', statusCode: 401 }
    ],
    [
      '401 HTML: blocked user',
      html(401, { 'www-authenticate': blocked }),
      { code: 'GW_INVALID_TOKEN' }
    ],
    [
      '401 JSON',
      json({ message: 'denied' }, 401, { 'www-authenticate': bearer }),
      { code: 'GW_INVALID_TOKEN' }
    ],
    ['401 empty, without a challenge', json('', 401), { code: 'GW_INVALID_TOKEN' }],
    ['401 to an anonymous caller', html(401), { code: 'GW_TOKEN_MISSING' }, anonymous],
    [
      "401 of drupal/mcp that means 'no permission'",
      json(disguised, 401),
      { code: 'GW_UPSTREAM_FORBIDDEN', statusCode: 200 }
    ],
    [
      '403 insufficient_scope',
      html(403, {
        'www-authenticate':
          'Bearer realm="MCP Tools", error="insufficient_scope", scope="content:write"'
      }),
      {
        code: 'GW_INSUFFICIENT_SCOPE',
        statusCode: 403,
        requiredScopes: ['content:read', 'content:write']
      }
    ],
    [
      '403 insufficient_scope for what the token has: no loop',
      html(403, {
        'www-authenticate': 'Bearer error="insufficient_scope", scope="content:read"'
      }),
      { code: 'GW_UPSTREAM_FORBIDDEN' }
    ],
    [
      '403 insufficient_scope for more than the token has',
      html(403, {
        'www-authenticate': 'Bearer error="insufficient_scope", scope="content:read content:write"'
      }),
      { code: 'GW_INSUFFICIENT_SCOPE', requiredScopes: ['content:read', 'content:write'] }
    ],
    ['403 HTML', html(403), { code: 'GW_UPSTREAM_FORBIDDEN', statusCode: 200 }],
    [
      '403 JSON',
      json({ message: "The 'administer nodes' permission is required." }, 403),
      { code: 'GW_UPSTREAM_FORBIDDEN' }
    ],
    ['403 to an anonymous caller', html(403), { code: 'GW_TOKEN_MISSING' }, anonymous],
    [
      'R81 403 insufficient_scope to an anonymous caller: he has no token that lacks it',
      html(403, { 'www-authenticate': 'Bearer error="insufficient_scope", scope="a"' }),
      { code: 'GW_TOKEN_MISSING', statusCode: 401, requiredScopes: ['a'] },
      anonymous
    ],
    [
      '200 that means no permission',
      json(denied),
      { code: 'GW_UPSTREAM_FORBIDDEN', statusCode: 200, reason: /bypass node access/ }
    ],
    ['404 on a listed tool', html(404), { code: 'GW_TOOL_UNREACHABLE' }],
    [
      '400 method not found',
      json({ jsonrpc: '2.0', id: 'c1', error: { code: -32601, message: 'Method Not Found' } }, 400),
      { code: 'GW_TOOL_UNREACHABLE' }
    ],
    [
      '503 maintenance',
      html(503, { 'retry-after': '300' }),
      {
        code: 'GW_UPSTREAM_MAINTENANCE',
        statusCode: 503,
        retryAfterSeconds: 300,
        message: /Wait 300 s/,
        data: { retryAfterSeconds: 300 }
      }
    ],
    [
      '503 without Retry-After',
      html(503),
      { code: 'GW_UPSTREAM_MAINTENANCE', message: /later\.$/, data: undefined }
    ],
    [
      '429 flood',
      html(429, { 'retry-after': 'Thu, 01 Jan 1970 00:01:00 GMT' }),
      {
        code: 'GW_UPSTREAM_RATE_LIMITED',
        statusCode: 429,
        retryAfterSeconds: 60,
        message: /Wait 60 s/
      }
    ],
    ['502', html(502), { code: 'GW_UPSTREAM_UNAVAILABLE', statusCode: 502 }],
    ['504', html(504), { code: 'GW_UPSTREAM_TIMEOUT', statusCode: 504 }],
    ['500 HTML', html(500), { code: 'GW_UPSTREAM_INVALID', statusCode: 502 }],
    [
      '302 to the login',
      html(302, { location: '/user/login' }),
      { code: 'GW_UPSTREAM_INVALID', reason: /redirect/ }
    ],
    ['400 untrusted host', html(400), { code: 'GW_UPSTREAM_INVALID', reason: /trusted_host/ }],
    ['200 HTML', html(200), { code: 'GW_UPSTREAM_INVALID' }],
    ['200 empty', json(''), { code: 'GW_UPSTREAM_INVALID' }],
    [
      '200 half',
      json('{"jsonrpc":"2.0","id":"c1","result":{"a":'),
      { code: 'GW_UPSTREAM_INVALID' }
    ],
    [
      '200 with more after it',
      json('{"jsonrpc":"2.0","id":"c1","result":{}}}'),
      { code: 'GW_UPSTREAM_INVALID' }
    ],
    ['200 array', json([]), { code: 'GW_UPSTREAM_INVALID' }],
    ['200 no JSON-RPC', json({ tools: [] }), { code: 'GW_UPSTREAM_INVALID' }],
    [
      '200 both result and error',
      json({ jsonrpc: '2.0', id: 'c1', result: 1, error: { code: 1 } }),
      { code: 'GW_UPSTREAM_INVALID' }
    ],
    [
      '200 for another id',
      json({ jsonrpc: '2.0', id: 'c2', result: {} }),
      { code: 'GW_UPSTREAM_INVALID', reason: /another id/ }
    ],
    [
      '200 error for another id',
      json({ jsonrpc: '2.0', id: 'c2', error: { code: -32603 } }),
      { code: 'GW_UPSTREAM_INVALID', reason: /another id/ }
    ],
    [
      '200 with an error that is none',
      json({ jsonrpc: '2.0', id: 'c1', error: 'kaboom' }),
      { code: 'GW_UPSTREAM_INVALID' }
    ]
  ]
  for (const [name, answer, expected, as] of rows) {
    const error = refusedTool(answer, as)
    t.match(error, expected, name)
    t.notMatch(`${String(error['message'])}${String(error['hint'])}`, /Secret|permission is|alice/)
  }
})

t.test('a result', async t => {
  const resultOf = (body: string | Buffer) => {
    const answer = readToolAnswer({ ...json(''), body: Buffer.from(body as string) }, 'c1', asked)
    return answer.ok
      ? { raw: answer.raw.toString(), value: answer.value }
      : { raw: '', value: answer }
  }

  t.test('keeps the bytes that Drupal wrote', async t => {
    const text = '{"jsonrpc":"2.0","id":"c1","result":{"nid":12345678901234567890,"p":1.0}}'
    t.equal(resultOf(text).raw, '{"nid":12345678901234567890,"p":1.0}')
    t.strictSame(resultOf('{"jsonrpc":"2.0","id":"c1","result":null}'), {
      raw: 'null',
      value: null
    })
  })

  t.test('bytes that are no UTF-8 do not get out', async t => {
    const bytes = Buffer.concat([
      Buffer.from('{"jsonrpc":"2.0","id":"c1","result":"caf'),
      Buffer.from([0xe9]),
      Buffer.from('"}')
    ])
    const answer = readToolAnswer({ ...json(''), body: bytes }, 'c1', asked)
    t.strictSame(answer, { ok: true, raw: Buffer.from('"caf\ufffd"'), value: 'caf\ufffd' })
  })

  t.test('spelt otherwise is read as well', async t => {
    const text = '{ "id": "c1", "result": [1, 2], "jsonrpc": "2.0" }\n'
    t.strictSame(resultOf(text), { raw: '[1, 2]', value: [1, 2] })
  })

  t.test('spelt otherwise keeps its digits, and may be nested as deep as it likes', async t => {
    const value = '{"nid":9007199254740993,"p":1.0,"e":1E+2}'
    for (const text of [
      `{"jsonrpc":"2.0","result":${value},"id":"c1"}`,
      `{\n  "jsonrpc": "2.0",\n  "id": "c1",\n  "result": ${value}\n}`,
      `{"jsonrpc":"2.0","id":"c1","result":${value}}\n`
    ]) {
      t.equal(resultOf(text).raw, value)
    }
    const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`
    t.equal(resultOf(`{"jsonrpc":"2.0","result":${deep},"id":"c1"}`).raw, deep)
  })

  t.test('cannot smuggle a second member into the answer', async t => {
    const text = '{"jsonrpc":"2.0","id":"c1","result":1,"result":{"a":2}}'
    t.strictSame(resultOf(text), { raw: '{"a":2}', value: { a: 2 } })
  })
})

t.test("a tool's own failure", async t => {
  const failure = (code: number, message: unknown, data: unknown, status = 200) =>
    readToolAnswer(
      json({ jsonrpc: '2.0', id: 'c1', error: { code, message, data } }, status),
      'c1',
      asked
    )

  t.test('objects in the place of texts are no obstacle', async t => {
    const odd = { toString: 1, valueOf: 2 }
    t.strictSame(failure(-32000, odd, odd), {
      ok: false,
      text: 'The tool failed on the site. Its log says why.',
      reason: 'Drupal: -32000 object: object'
    })
  })

  t.test('an exception is told as a fact; its text stays in the log', async t => {
    t.strictSame(failure(-32603, 'Internal Error', 'kaboom in /var/www/html/x.php'), {
      ok: false,
      text: 'The tool failed on the site. Its log says why.',
      reason: 'Drupal: -32603 Internal Error: kaboom in /var/www/html/x.php'
    })
  })

  t.test('bad arguments are explained, without class names', async t => {
    const data =
      'The text parameter does not conform to the parameter schema. Adaptor Drupal\\jsonrpc\\ParameterFactory\\RawParameterFactory received invalid input data: [{"property":"","pointer":"","message":"Integer value found, but a string is required","constraint":"type","context":1},{"property":"page","message":"too large"}].'
    const answer = failure(-32602, 'Invalid Params', data, 400)
    t.match(answer, {
      ok: false,
      text: 'Invalid arguments: The text parameter does not conform to the parameter schema. Integer value found, but a string is required. page: too large.'
    })
    t.equal(failureText(-32602, '', undefined), 'The arguments are not valid.')
    t.equal(failureText(-32602, '', 'Title is required'), 'Invalid arguments: Title is required')
    t.equal(
      failureText(-32602, '', 'Adaptor X\\Y received invalid input data: [broken].'),
      'The arguments are not valid.'
    )
    t.equal(
      failureText(-32602, '', 'SQLSTATE[42S02]: Base table or view not found'),
      'The arguments are not valid.'
    )
    t.equal(
      failureText(-32602, '', 'Adaptor X received invalid input data: [{"message":5}].'),
      'The arguments are not valid.'
    )
  })

  t.test("an author's own code passes its message when it is fit for the outside", async t => {
    t.equal(failureText(404, 'No such article', 'x'), 'The tool failed: No such article')
    t.equal(
      failureText(1, 'Call to undefined method Foo::bar()', ''),
      'The tool failed on the site. Its log says why.'
    )
    t.equal(failureText(1, undefined, ''), 'The tool failed on the site. Its log says why.')
    t.ok(failureText(1, 'x'.repeat(9999), '').length < 600)
  })
})

t.test('other objects', async t => {
  const list: Asked = { ...asked, what: 'list' }
  t.strictSame(readObject(json({ tools: [] }), list), { tools: [] })
  for (const answer of [
    html(404),
    html(200),
    json('[]'),
    json('{', 200),
    json({ jsonrpc: '2.0' }, 400)
  ]) {
    t.match(
      thrown(() => readObject(answer, list)),
      { code: 'GW_UPSTREAM_INVALID' }
    )
  }
  t.equal(refusal(json({}), list), undefined)
})

t.test('Retry-After is whole seconds, bounded', async t => {
  t.equal(retryAfterSeconds('5', 0), 5)
  t.equal(retryAfterSeconds('0', 0), 1)
  t.equal(retryAfterSeconds('999999', 0), 3600)
  t.equal(retryAfterSeconds('soon', 0), undefined)
  t.equal(retryAfterSeconds(undefined, 0), undefined)
  t.equal(retryAfterSeconds('Thu, 01 Jan 1970 00:00:10 GMT', 0), 10)
  t.equal(retryAfterSeconds('Thu, 01 Jan 1970 00:00:10 GMT', 60_000), 1)
})

t.test('scopes of a challenge are read leniently', async t => {
  t.strictSame(challengedScopes('Bearer error="insufficient_scope", scope="a b:c"'), ['a', 'b:c'])
  t.strictSame(challengedScopes('Bearer error=insufficient_scope,scope=a'), ['a'])
  t.strictSame(challengedScopes('Basic realm="x", Bearer scope="a", error="insufficient_scope"'), [
    'a'
  ])
  t.strictSame(
    challengedScopes(
      'Bearer error_description="<em class="x">no</em>", error="insufficient_scope", scope="a\\ é b'
    ),
    []
  )
  t.strictSame(challengedScopes('Bearer error="insufficient_scope"'), [])
  t.equal(challengedScopes('Bearer error="invalid_token", scope="a"'), undefined)
  t.equal(challengedScopes(undefined), undefined)
})

t.test('headers cross the hop by name only', async t => {
  t.strictSame(
    {
      ...siteHeaders({
        host: 'cms.example',
        accept: 'application/json',
        contentType: 'application/json'
      }),
      ...callHeaders({ requestId: 'r1', traceparent: '00-1-2-01', tracestate: 'a=b' })
    },
    {
      host: 'cms.example',
      'user-agent': userAgent,
      accept: 'application/json',
      'x-request-id': 'r1',
      'content-type': 'application/json',
      traceparent: '00-1-2-01',
      tracestate: 'a=b'
    }
  )
})
