import { generateKeyPairSync } from 'node:crypto'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { startDrupal } from '../../src/demo/double.ts'
import type { Faults } from '../../src/demo/faults.ts'
import { remember } from '../../src/demo/state.ts'
import { bearer, json, post, type RawAnswer, raw, signIn, start } from './browse.ts'
import { recordedSite } from './recorded-site.ts'

const key = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey
const TOOL = '/mcp/tools/site.info?query={"jsonrpc":"2.0","id":1,"method":"site.info"}'.replaceAll(
  '"',
  '%22'
)
const AS = '/.well-known/oauth-authorization-server'

t.test('each switch spoils the tools, nothing else, and goes off again', async t => {
  const drupal = await start(t, { key })
  const cases: [Partial<Faults>, Partial<RawAnswer>][] = [
    [{ maintenance: true }, { status: 503, headers: { 'retry-after': '300' } }],
    [{ flood: true }, { status: 429, headers: { 'retry-after': '7' } }],
    [{ flood: 3 }, { status: 429, headers: { 'retry-after': '3' } }],
    [{ status: 502 }, { status: 502 }],
    [{ redirectLogin: true }, { status: 302, headers: { location: '/user/login?destination' } }],
    [{ redirectHost: true }, { status: 302, headers: { location: `http://other.example${TOOL}` } }],
    [{ redirectHost: 'http://x' }, { status: 302, headers: { location: `http://x${TOOL}` } }],
    [{ html200: true }, { status: 200, body: '<!DOCTYPE html>' }],
    [{ emptyBody: true }, { status: 200, headers: { 'content-length': '0' } }],
    [{ wrongContentType: true }, { status: 200, headers: { 'content-type': 'text/plain' } }],
    [{ wrongContentType: 'a/b' }, { status: 200, headers: { 'content-type': 'a/b' } }],
    [{ invalidJsonRpc: true }, { status: 200, body: '{"neither"' }],
    [{ otherId: true }, { status: 200, body: '"somebody-else"' }],
    [{ hugeBody: 100_000 }, { status: 200, body: 'x'.repeat(100_000) }],
    [{ slowHeadersMs: 1 }, { status: 200 }],
    [{ slowBodyMs: 1 }, { status: 200, body: '"published":5' }]
  ]
  for (const [faults, expected] of cases) {
    const name = JSON.stringify(faults)
    Object.assign(drupal.faults, faults)
    t.match(await raw(drupal.url, TOOL), expected, name)
    t.equal((await raw(drupal.url, AS)).status, 200, `${name} leaves metadata alone`)
    drupal.clearFaults()
    t.equal((await raw(drupal.url, TOOL)).status, 200, `${name} is off`)
  }
  drupal.faults.maintenance = true
  drupal.faults.only = path => path === '/'
  t.equal((await raw(drupal.url, TOOL)).status, 200)
  t.equal((await raw(drupal.url, '/')).status, 503, 'only says where')
})

t.test('the breaking switches break the connection', async t => {
  const drupal = await start(t, { key })
  drupal.faults.resetBefore = true
  await t.rejects(raw(drupal.url, TOOL), { code: 'ECONNRESET' })
  drupal.clearFaults()
  for (const name of ['resetAfterFirstByte', 'halfBody'] as const) {
    drupal.faults[name] = true
    await t.rejects(raw(drupal.url, TOOL), { message: 'aborted' }, name)
    drupal.clearFaults()
  }
})

t.test('an answer that waits is given up when the double closes', async t => {
  const drupal = await startDrupal({ key })
  drupal.faults.slowHeadersMs = 600_000
  drupal.faults.only = path => {
    if (path !== '/slow') return false
    setImmediate(() => void drupal.close())
    return true
  }
  await t.rejects(raw(drupal.url, '/slow'))
})

t.test('tokens can be made bad in every way Drupal tells apart', async t => {
  const drupal = await start(t, { key })
  const why = async (token: string) => {
    const { status, headers } = await raw(drupal.url, '/', { headers: bearer(token) })
    return status === 200
      ? 'fine'
      : /error_description="(.*)"$/.exec(headers['www-authenticate']!)![1]
  }
  t.equal(await why(drupal.mint().token), 'fine')
  t.equal(await why(drupal.mint({ claims: { aud: 'x', iss: 'https://evil/' } }).token), 'fine')
  const unverified = 'Access token could not be verified'
  t.equal(await why(drupal.mint({ expiresIn: -1 }).token), unverified)
  t.equal(await why(drupal.mint({ claims: { nbf: 9e9 } }).token), unverified)
  t.equal(await why(drupal.mint({ header: { alg: 'none' } }).token), unverified)
  t.equal(await why(drupal.mint({ header: { alg: 'HS256' } }).token), unverified)
  t.equal(await why(drupal.mint({ stored: false }).token), 'Access token has been revoked')
  t.equal(await why('a.b.c'), 'Error while decoding from JSON')
  t.equal(await why('a.NQ.c'), 'Error while decoding from JSON', 'no object')
  const { token, jti } = drupal.mint()
  drupal.revoke(jti)
  t.equal(await why(token), 'Access token has been revoked')
  const old = drupal.mint().token
  const pem = drupal.publicKeyPem
  await drupal.rotateKey()
  t.equal(await why(old), unverified)
  t.not(drupal.publicKeyPem, pem)
  await drupal.rotateKey(generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey)
  t.equal(await why(drupal.mint().token), 'fine')
  t.match(drupal.privateKeyPem, /BEGIN PRIVATE KEY/)
  drupal.faults.unauthorized = true
  drupal.faults.only = () => true
  t.equal(await why(drupal.mint().token), 'Access token has been revoked')
  t.equal((await raw(drupal.url, '/')).status, 200, 'without a token all is well')
  drupal.clearFaults()
  const headers = { Authorization: `bearer ${old}` }
  t.equal((await raw(drupal.url, '/', { headers })).status, 200, 'lower case is no token at all')
})

t.test('saving a user or a consumer kills access tokens, not refresh tokens', async t => {
  const drupal = await start(t, { key })
  const status = async (token: string) =>
    (await raw(drupal.url, '/', { headers: bearer(token) })).status
  const editor = drupal.mint().token
  const reader = drupal.mint({ uid: 3 }).token
  drupal.saveUser('editor')
  t.strictSame([await status(editor), await status(reader)], [401, 200])
  drupal.saveConsumer('public')
  t.equal(await status(reader), 401)
  drupal.blockUser('editor')
  const blocked = await raw(drupal.url, '/', { headers: bearer(drupal.mint().token) })
  t.match(blocked.headers['www-authenticate'], '<em class="placeholder">editor</em> is blocked')
  const login = await post(drupal.url, '/user/login', { name: 'editor', pass: 'editor' })
  t.equal(login.status, 200, 'and cannot sign in')
  t.throws(() => drupal.saveUser('nobody'), /no user nobody/)
  t.throws(() => drupal.saveConsumer('nothing'), /no client nothing/)
})

t.test('requests are seen, counted and bounded', async t => {
  const lines: string[] = []
  const drupal = await start(t, { key, log: line => lines.push(line) })
  await raw(drupal.url, '/mcp/tools/../x?a=1', { headers: { 'X-Id': '1' } })
  t.match(drupal.requests, [
    { method: 'GET', path: '/mcp/tools/../x?a=1', headers: { 'x-id': '1' } }
  ])
  t.strictSame(lines, ['GET /mcp/tools/../x 404'])
  t.equal(drupal.load.peak, 1)
  drupal.requests.push(...Array.from({ length: 999 }, () => drupal.requests[0]!))
  await raw(drupal.url, '/last')
  t.equal(drupal.requests.length, 1000)
  t.equal(drupal.requests.at(-1)!.path, '/last')
  const oldest = connect(drupal.port, '127.0.0.1')
  oldest.end('GET /no-host HTTP/1.0\r\n\r\n')
  t.match(await text(oldest), /^HTTP\/1.1 404/, 'HTTP/1.0 without a Host')
  const big = await raw(drupal.url, '/', { method: 'POST', body: 'x'.repeat(17 * 1024 * 1024) })
  t.equal(big.status, 413)
  const rows = new Map(Array.from({ length: 20_000 }, (_, n) => [String(n), n]))
  remember(rows, 'new', 1)
  t.strictSame([rows.size, rows.has('0')], [20_000, false])
})

t.test('the load says how many requests were worked on at once', async t => {
  const drupal = await start(t, { key })
  const rpc = { jsonrpc: '2.0', id: 1, method: 'demo.slow', params: { ms: 50 } }
  const slow = () =>
    raw(drupal.url, '/mcp/tools/demo.slow', { method: 'POST', body: JSON.stringify(rpc) })
  await Promise.all([slow(), slow(), slow()])
  t.equal(drupal.load.peak, 3)
})

t.test('a port that is taken is an error, and a given key is used', async t => {
  const pem = key.export({ type: 'pkcs8', format: 'pem' }).toString()
  const drupal = await start(t, { key: pem })
  t.equal(drupal.privateKeyPem, pem)
  await t.rejects(startDrupal({ key, port: drupal.port }), { code: 'EADDRINUSE' })
  const host = await start(t, { key, host: 'localhost' })
  t.equal(host.issuer, 'https://localhost/')
})

t.test('a site of one’s own may be misconfigured', async t => {
  const site = recordedSite()
  const drupal = await start(t, { key, site })
  t.equal(drupal.site, site)
  const broken = drupal.mint({ scopes: ['user:read'] }).token
  const answer = await raw(drupal.url, '/', { headers: bearer(broken) })
  t.equal(answer.status, 500, 'a scope without granularity')
  const call = async (name: string, headers: Record<string, string> = {}) => {
    const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: name, params: { nid: 1 } })
    const answer = await raw(drupal.url, `/mcp/tools/${name}`, { method: 'POST', headers, body })
    return json(answer).result
  }
  t.match(await call('examples.articles.list'), [{ nid: 1 }])
  t.equal(await call('examples.article.toMarkdown'), '# First article')
  site.scopes.push({ name: 'tutorial:read', grants: [], grantsPermission: 'access content' })
  const scopes = ['tutorial:read', 'tutorial:search', 'content:write']
  const types = await call('examples.contentTypes.list', bearer(drupal.mint({ scopes }).token))
  t.match(types, [{ id: 'article' }])
  const Cookie = await signIn(drupal.url, 'alice')
  t.match(await call('demo.optional', { Cookie }), { roles: ['authenticated', 'writer'], uid: 2 })
  const all = bearer(drupal.mint().token)
  t.match(await call('demo.optional', all), { roles: ['authenticated', 'writer'] })
  const stranger = bearer(drupal.mint({ uid: 99 }).token)
  t.match(await call('demo.optional', stranger), { roles: ['authenticated'], uid: 99 })
  site.users[1]!.roles.push('deleted role')
  t.match(await call('demo.read', all), { uid: 2 }, 'a role that is no more grants nothing')
  const asked = await raw(drupal.url, '/', { headers: { 'X-Consumer-ID': 'gw-client' } })
  t.equal(asked.headers['x-consumer-id'], 'gw-client', 'the consumer may be named by anybody')
  const head = await raw(drupal.url, '/', { method: 'HEAD' })
  t.equal(head.status, 200)
})

t.test('nobody goes on waiting for a client that has gone, however many there are', async t => {
  const warnings: string[] = []
  const onWarning = ({ name }: Error) => void warnings.push(name)
  process.on('warning', onWarning)
  t.teardown(() => process.removeListener('warning', onWarning))
  const drupal = await start(t, { key })
  const slow = `${drupal.url}${TOOL.replaceAll('site.info', 'demo.slow')}`
  for (const faults of [{}, { slowHeadersMs: 60_000 }, { slowBodyMs: 60_000 }]) {
    Object.assign(drupal.faults, faults)
    const gone = new AbortController()
    const calls = Array.from({ length: 15 }, () =>
      fetch(slow, { headers: bearer(drupal.mint().token), signal: gone.signal }).then(
        response => response.text(),
        () => 'gone'
      )
    )
    while (drupal.load.active < 15) await new Promise(resolve => setTimeout(resolve, 5))
    gone.abort()
    await Promise.allSettled(calls)
    while (drupal.load.active > 0) await new Promise(resolve => setTimeout(resolve, 5))
    drupal.clearFaults()
  }
  t.strictSame(warnings, [])
})
