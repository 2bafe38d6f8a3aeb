// The pure parts of the http room: what a Host, an Accept and a thrown value mean.
import t from 'tap'
import { gatewayError } from '../../src/errors.ts'
import { isAcceptable } from '../../src/http/admit.ts'
import { challengeFor, toGatewayError } from '../../src/http/errors.ts'
import { isFailedAttempt } from '../../src/http/limits.ts'
import { allowLists, hostName } from '../../src/http/origin.ts'
import { requestIds } from '../../src/http/server.ts'
import { loadConfig } from '../../src/config/load.ts'

t.test('R7 the host name of a Host header', async t => {
  const rows: [string | undefined, string | undefined][] = [
    ['Example.org', 'example.org'],
    ['example.org:8443', 'example.org'],
    ['[::1]:3000', '[::1]'],
    ['127.0.0.1', '127.0.0.1'],
    [undefined, undefined],
    ['', undefined],
    ['a b', undefined],
    ['example.org:port', undefined],
    ['user@example.org', undefined],
    ['example.org/path', undefined]
  ]
  for (const [header, expected] of rows) t.equal(hostName(header), expected, String(header))
})

t.test('R4 the allow-lists follow the public URL', async t => {
  const lists = (env: Record<string, string>) =>
    allowLists(loadConfig({ env: { DRUPAL_URL: 'http://127.0.0.1:1', ...env } }))
  const local = lists({ GATEWAY_PUBLIC_URL: 'http://localhost:3000' })
  t.ok(local.loopback)
  for (const host of ['localhost', '127.0.0.1', '[::1]']) t.ok(local.hosts.has(host))
  const far = lists({
    GATEWAY_PUBLIC_URL: 'https://mcp.example.org',
    ALLOWED_HOSTS: 'Other.example,[::A]',
    ALLOWED_ORIGINS: 'https://App.example'
  })
  t.strictSame([...far.hosts].sort(), ['[::a]', 'mcp.example.org', 'other.example'])
  t.strictSame([...(far.origins ?? [])], ['https://mcp.example.org', 'https://app.example'])
  const open = lists({ GATEWAY_PUBLIC_URL: 'https://mcp.example.org', ALLOWED_ORIGINS: '*' })
  t.equal(open.origins, undefined)
})

t.test('R10 what is acceptable', async t => {
  for (const accept of [
    undefined,
    '*/*',
    'application/json',
    'text/event-stream',
    'text/html, */*;q=0.1',
    'Application/JSON;q=1',
    'text/*'
  ]) {
    t.ok(isAcceptable(accept), String(accept))
  }
  for (const accept of ['text/html', 'application/jsonx', 'image/*', ''])
    t.notOk(isAcceptable(accept), accept)
})

t.test('any thrown value becomes an error of the table', async t => {
  const own = gatewayError('GW_OVERLOADED')
  t.equal(toGatewayError(own), own)
  const rows: [unknown, string, number][] = [
    [{ code: 'FST_ERR_MAX_PARAM_LENGTH', statusCode: 414 }, 'GW_NOT_FOUND', 404],
    [{ code: 'FST_ERR_CTP_INVALID_MEDIA_TYPE', statusCode: 415 }, 'GW_UNSUPPORTED_MEDIA_TYPE', 415],
    [{ code: 'FST_ERR_SOMETHING_NEW', statusCode: 422 }, 'GW_BAD_REQUEST', 422],
    [new TypeError('undefined is not a function'), 'GW_INTERNAL', 500],
    [undefined, 'GW_INTERNAL', 500],
    ['a string', 'GW_INTERNAL', 500],
    [{ statusCode: 503 }, 'GW_INTERNAL', 500]
  ]
  for (const [thrown, code, status] of rows) {
    const error = toGatewayError(thrown)
    t.equal(error.code, code)
    t.equal(error.statusCode, status)
    t.notMatch(error.message, /undefined is not|a string/)
  }
})

t.test('R84 R88 which refusal carries which challenge', async t => {
  const source = { resourceMetadataUrl: 'https://x.example/m', scopes: ['a'] }
  t.equal(
    challengeFor(gatewayError('GW_TOKEN_MISSING'), source),
    'Bearer resource_metadata="https://x.example/m", scope="a"'
  )
  t.match(challengeFor(gatewayError('GW_INVALID_TOKEN'), source), /error="invalid_token"/)
  t.match(
    challengeFor(gatewayError('GW_MALFORMED_AUTHORIZATION'), source),
    /error="invalid_request"/
  )
  t.match(
    challengeFor(gatewayError('GW_INSUFFICIENT_SCOPE', { requiredScopes: ['b', 'a'] }), source),
    /scope="a b"/
  )
  t.match(challengeFor(gatewayError('GW_INSUFFICIENT_SCOPE'), source), /scope="a"/)
  t.equal(challengeFor(gatewayError('GW_NOT_FOUND'), source), undefined)
})

t.test(
  'a refused token is a failed attempt; none, an expired one, and what any web page can send is not',
  async t => {
    const failed = ['GW_INVALID_TOKEN', 'GW_MALFORMED_AUTHORIZATION'] as const
    for (const code of failed) t.ok(isFailedAttempt(gatewayError(code)), code)
    const others = ['GW_TOKEN_MISSING', 'GW_FORBIDDEN_HOST', 'GW_FORBIDDEN_ORIGIN'] as const
    for (const code of others) t.notOk(isFailedAttempt(gatewayError(code)), code)
    t.notOk(isFailedAttempt(gatewayError('GW_INVALID_TOKEN', { isExpired: true })))
    t.notOk(isFailedAttempt(gatewayError('GW_INSUFFICIENT_SCOPE')))
  }
)

t.test('request ids are unique and tell nothing', async t => {
  const [one, other] = [requestIds(), requestIds()]
  const ids = [one(), one(), other(), other()]
  t.equal(new Set(ids).size, 4)
  for (const id of ids) t.match(id, /^[A-Za-z0-9_-]{12,24}$/)
})
