import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { callHeaders, siteHeaders } from '../../src/drupal/headers.ts'
import { createDrupalPool, type DrupalRequest, type PoolOptions } from '../../src/drupal/pool.ts'
import { pairOfAuthority } from '../fixtures/certificate.ts'
import { configFor, html, json, refused, startSite, startTcp } from './site.ts'

function poolFor(t: Test, url: string, drupal: object = {}, options: PoolOptions = {}) {
  const pool = createDrupalPool(configFor(url, { drupal }), options)
  t.teardown(() => pool.close())
  return pool
}

// Self-signed for localhost, made for this test only: worth nothing.
const TLS_KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgQ27cEVnsJ+CPlNtr
BOwVfE40h4e4kIxwFpn62efMJFehRANCAATUQ9A0QnLT+ijKtIxV5KUVmH322USl
E3DkiV2m8MVlJc+sfBFAGy+GmUWew5tPeILnl6mD/T3YdlNMrWl/dmjF
-----END PRIVATE KEY-----`
const TLS_CERT = `-----BEGIN CERTIFICATE-----
MIIBfzCCASWgAwIBAgIUGhBHgXSE4cXWRoToNs+OY3C3HFswCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMzA2MjM0MloYDzIxMjYxMDMw
MDYyMzQyWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAATUQ9A0QnLT+ijKtIxV5KUVmH322USlE3DkiV2m8MVlJc+sfBFAGy+G
mUWew5tPeILnl6mD/T3YdlNMrWl/dmjFo1MwUTAdBgNVHQ4EFgQUethTsqxnZqZt
e5cuseY5UbcFJ0QwHwYDVR0jBBgwFoAUethTsqxnZqZte5cuseY5UbcFJ0QwDwYD
VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiEAjpHQI6h3kCnPx4Z+2r0K
hvuttHKh1SkRyvqh1vXiLfcCIGDmonBbxYpFo+bzexSAwe1faybdumBXWTEMK6ep
1fcG
-----END CERTIFICATE-----`

const headers = () => ({
  ...siteHeaders({ host: 'cms.example', accept: 'application/json' }),
  ...callHeaders({ requestId: 'r-1' })
})
const get = (more: Partial<DrupalRequest> = {}): DrupalRequest => ({
  method: 'GET',
  path: '/x',
  headers: headers(),
  bearer: 'token-1',
  ...more
})

t.test('a request', async t => {
  t.test('goes to the internal address under the canonical Host, below the base path', async t => {
    const site = await startSite(t, (_seen, response) => json(response, { ok: true }, 201))
    const pool = poolFor(t, 'https://cms.example/sub', { internalUrl: `${site.url}/inner/` })
    const answer = await pool.request({
      method: 'POST',
      path: '/mcp/tools/a.b',
      headers: { ...headers(), host: pool.host },
      bearer: 'token-1',
      body: '{"a":1}'
    })
    t.equal(answer.status, 201)
    t.equal(answer.body.toString(), '{"ok":true}')
    t.equal(answer.headers['content-type'], 'application/json')
    const seen = site.seen[0]
    t.match(seen, { method: 'POST', url: '/inner/mcp/tools/a.b', body: '{"a":1}' })
    t.match(seen?.headers, {
      host: 'cms.example',
      authorization: 'Bearer token-1',
      'content-length': '7',
      'user-agent': /^drupal-mcp-gateway\/\d/
    })
    t.equal(pool.origin, site.url)
    t.strictSame(pool.stats(), { active: 0, queued: 0, breaker: 'closed' })
  })

  t.test('follows no redirect: the token is never sent anywhere else', async t => {
    const other = await startSite(t)
    const site = await startSite(t, (_seen, response) => {
      response.writeHead(302, { location: `${other.url}/user/login` }).end()
    })
    const answer = await poolFor(t, site.url).request(get())
    t.equal(answer.status, 302)
    t.strictSame(other.seen, [])
  })

  t.test('takes early hints for no answer, and joins the pieces of a body', async t => {
    const site = await startSite(t, (_seen, response) => {
      response.writeEarlyHints({ link: '</style.css>; rel=preload' })
      response.write('{"a":')
      setImmediate(() => response.end('1}'))
    })
    const answer = await poolFor(t, site.url).request(get())
    t.equal(answer.status, 200)
    t.equal(answer.body.toString(), '{"a":1}')
  })

  t.test('a body over the limit is refused, declared or counted', async t => {
    const site = await startSite(t, (seen, response) => {
      if (seen.url === '/declared') response.writeHead(200, { 'content-length': 10_000_000 })
      response.write('x'.repeat(1500))
      if (seen.url === '/counted') response.write('x'.repeat(1500))
    })
    const pool = poolFor(t, site.url, { maxResponseBytes: 2048, breakerFailures: 1 })
    for (const path of ['/declared', '/counted']) {
      const error = await refused(pool.request(get({ path })))
      t.match(error, { code: 'GW_UPSTREAM_TOO_LARGE', reason: 'more than 2048 bytes' })
    }
    t.equal(pool.stats().breaker, 'closed', 'a site that sends too much is up')
  })

  t.test('time-outs: to the first byte, and in all', async t => {
    const site = await startSite(t, (seen, response) => {
      if (seen.url === '/body') response.write('{"half":')
    })
    const pool = poolFor(t, site.url, { headersTimeoutSeconds: 0.05, callTimeoutSeconds: 30 })
    t.match(await refused(pool.request(get({ path: '/headers' }))), {
      code: 'GW_UPSTREAM_TIMEOUT',
      statusCode: 504,
      reason: /silence of the site, status 0/
    })
    t.match(await refused(pool.request(get({ path: '/body' }))), {
      code: 'GW_UPSTREAM_TIMEOUT',
      reason: /silence of the site, status 200, 8 bytes/
    })
    const impatient = poolFor(t, site.url, {
      connectTimeoutSeconds: 0.05,
      headersTimeoutSeconds: 0.05,
      callTimeoutSeconds: 0.05
    })
    t.match(await refused(impatient.request(get({ path: '/body' }))), {
      code: 'GW_UPSTREAM_TIMEOUT',
      reason: /no complete answer within 50 ms/
    })
  })

  t.test('what breaks below HTTP gets a reason without an address', async t => {
    const cases: [string, Parameters<typeof startTcp>[1], object][] = [
      [
        'reset before the first byte',
        socket => socket.resetAndDestroy(),
        { code: 'GW_UPSTREAM_UNAVAILABLE', statusCode: 502 }
      ],
      [
        'closed before the first byte',
        socket => socket.end(),
        { code: 'GW_UPSTREAM_UNAVAILABLE', reason: 'connection lost before an answer' }
      ],
      [
        'half a body, then closed',
        socket => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"half"'),
        { code: 'GW_UPSTREAM_INVALID', reason: /after status 200 and 7 bytes/ }
      ],
      [
        'half a chunked body, then reset',
        socket => {
          socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n', () =>
            setTimeout(() => socket.resetAndDestroy(), 20)
          )
        },
        { code: 'GW_UPSTREAM_INVALID', reason: /after status 200 and 5 bytes/ }
      ],
      [
        'not HTTP at all',
        socket => socket.end('SSH-2.0-OpenSSH_9.2\r\n'),
        { code: 'GW_UPSTREAM_INVALID', reason: /^not an HTTP answer: H/ }
      ]
    ]
    for (const [name, behave, expected] of cases) {
      const url = await startTcp(t, behave)
      const error = await refused(poolFor(t, url).request(get()))
      t.match(error, expected, name)
      t.notMatch(JSON.stringify(error), /127\.0\.0\.1/, `${name}: no address`)
    }
  })

  t.test('nobody listens: 502 at once', async t => {
    const error = await refused(poolFor(t, 'http://127.0.0.1:1').request(get()))
    t.match(error, { code: 'GW_UPSTREAM_UNAVAILABLE', reason: 'connection failed: ECONNREFUSED' })
    const closed = createDrupalPool(configFor('http://127.0.0.1:1'))
    await closed.close()
    t.match(await refused(closed.request(get())), { code: 'GW_UPSTREAM_UNAVAILABLE' })
  })

  t.test('a certificate that nobody vouches for is refused', async t => {
    const server = createTlsServer({ key: TLS_KEY, cert: TLS_CERT }, (_request, response) =>
      response.end('{}')
    )
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.teardown(() => server.close())
    const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`
    const error = await refused(poolFor(t, url).request(get({ headers: { host: 'localhost' } })))
    t.match(error, { code: 'GW_UPSTREAM_UNAVAILABLE', reason: /SELF_SIGNED_CERT/ })
  })

  t.test('nor is one of an authority that nobody knows, and nothing was carried out', async t => {
    const { cert, key } = pairOfAuthority(t.testdir())
    const server = createTlsServer({ key: readFileSync(key), cert: readFileSync(cert) })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.teardown(() => server.close())
    const pool = poolFor(t, `https://127.0.0.1:${(server.address() as AddressInfo).port}`)
    const error = await refused(pool.request(get({ method: 'POST', body: '{}' })))
    t.match(error, {
      code: 'GW_UPSTREAM_UNAVAILABLE',
      reason: 'connection failed: UNABLE_TO_VERIFY_LEAF_SIGNATURE'
    })
    t.notMatch(error['hint'], /may have been carried out/)
  })

  t.test('the signal ends it: before, while it waits, while it runs', async t => {
    const site = await startSite(t, () => {})
    const pool = poolFor(t, site.url, { maxConcurrency: 1, breakerFailures: 1 })
    const gone = AbortSignal.abort(new Error('gone'))
    t.match(await refused(pool.request(get({ signal: gone }))), { message: 'gone' })

    const running = new AbortController()
    const waiting = new AbortController()
    const first = pool.request(get({ signal: running.signal }))
    const second = pool.request(get({ signal: waiting.signal }))
    while (site.active === 0) await new Promise(setImmediate)
    waiting.abort(new Error('left the line'))
    t.match(await refused(second), { message: 'left the line' })
    running.abort()
    t.match(await refused(first), { name: 'AbortError' })
    while (site.active > 0) await new Promise(setImmediate)
    t.equal(site.seen.length, 1, 'what gave up in the line was never sent')
    t.strictSame(pool.stats(), { active: 0, queued: 0, breaker: 'closed' }, 'and nothing is held')
  })

  t.test('aborted while the connection is being made: nothing is sent', async t => {
    const site = await startSite(t)
    const pool = poolFor(t, site.url)
    for (const turns of [0, 5]) {
      const controller = new AbortController()
      const pending = pool.request(get({ signal: controller.signal }))
      for (let i = 0; i < turns; i++) await Promise.resolve()
      controller.abort(new Error('gone'))
      t.match(await refused(pending), { message: 'gone' })
    }
    await pool.request(get({ path: '/after' }))
    t.strictSame(
      site.seen.map(seen => seen.url),
      ['/after']
    )
  })
})

t.test('protection', async t => {
  t.test('ten times too much: Drupal never sees more than its bound, the rest is 503', async t => {
    const held: ServerResponse[] = []
    // Eight are held until they are eight, and a little longer, so that a ninth could show itself.
    const site = await startSite(t, (_seen, response) => {
      if (held.push(response) === 8) {
        setTimeout(() => held.splice(0).forEach(one => json(one, {})), 5)
      }
    })
    const pool = poolFor(t, site.url, { maxConcurrency: 8, maxQueue: 24 })
    const timing = { queueMs: 0, drupalMs: 0 }
    const calls = Array.from({ length: 80 }, (_, i) =>
      pool.request(get({ subjectKey: `p${i % 10}`, timing })).then(
        answer => answer.status,
        error => (error as { statusCode: number }).statusCode
      )
    )
    t.strictSame(pool.stats(), { active: 8, queued: 24, breaker: 'closed' })
    const statuses = await Promise.all(calls)
    t.equal(site.peak, 8)
    t.equal(statuses.filter(status => status === 200).length, 32)
    t.equal(statuses.filter(status => status === 503).length, 48)
    t.ok(timing.queueMs >= 24 * 4, 'the waiting is told')
    t.ok(timing.drupalMs >= 32 * 4, 'and so is the work')
    t.strictSame(pool.stats(), { active: 0, queued: 0, breaker: 'closed' })
  })

  t.test('the breaker opens on failures, answers at once, probes and closes', async t => {
    const clock = { ms: 0 }
    const lines: string[] = []
    let status = 502
    const site = await startSite(t, (_seen, response) => html(response, status))
    const pool = poolFor(
      t,
      site.url,
      { breakerFailures: 3, breakerOpenSeconds: 5 },
      {
        now: () => clock.ms,
        log: { warn: (_details, text) => lines.push(text), info: (_d, text) => lines.push(text) }
      }
    )
    for (let i = 0; i < 3; i++) await pool.request(get())
    const error = await refused(pool.request(get()))
    t.match(error, {
      code: 'GW_UPSTREAM_UNAVAILABLE',
      statusCode: 503,
      retryAfterSeconds: 5,
      reason: /breaker/
    })
    t.equal(site.seen.length, 3, 'not asked while it is open')
    clock.ms = 5000
    t.equal((await pool.request(get())).status, 502, 'a probe')
    t.equal(pool.stats().breaker, 'open')
    clock.ms = 10_000
    status = 503
    t.equal((await pool.request(get())).status, 503, 'maintenance is an answer')
    t.equal(pool.stats().breaker, 'closed')
    t.strictSame(lines, ['Drupal fails: calls are refused', 'Drupal answers again'])
  })

  t.test('what the site takes note of, and no more, says nothing of its health', async t => {
    const clock = { ms: 0 }
    let status = 502
    const site = await startSite(t, (_seen, response) => response.writeHead(status).end())
    const pool = poolFor(t, site.url, { breakerFailures: 2 }, { now: () => clock.ms })
    for (status of [502, 202, 502]) await pool.request(get())
    t.equal(pool.stats().breaker, 'open', 'in a row, but for it')
    clock.ms = 60_000
    for (status of [202, 200]) t.equal((await pool.request(get())).status, status)
    t.equal(pool.stats().breaker, 'closed', 'as a probe it leaves the word to the next')
  })

  t.test('a breaker that opens while calls wait turns them away too', async t => {
    const pending: (() => void)[] = []
    const site = await startSite(t, (_seen, response) =>
      pending.push(() => response.writeHead(504).end())
    )
    const pool = poolFor(t, site.url, { maxConcurrency: 1, breakerFailures: 1 })
    const first = pool.request(get())
    const waiting = [refused(pool.request(get())), refused(pool.request(get()))]
    while (pending.length === 0) await new Promise(setImmediate)
    pending[0]?.()
    t.equal((await first).status, 504)
    for (const error of await Promise.all(waiting)) {
      t.match(error, { code: 'GW_UPSTREAM_UNAVAILABLE', statusCode: 503 })
    }
    t.equal(site.seen.length, 1)
    t.strictSame(pool.stats(), { active: 0, queued: 0, breaker: 'open' })
  })

  t.test('what the end of the gateway cuts is no failure of the site', async t => {
    const site = await startSite(t, () => {})
    const lines: string[] = []
    const log = { warn: (_: object, text: string) => lines.push(text), info: () => {} }
    const pool = poolFor(t, site.url, { breakerFailures: 1 }, { log })
    const cut = refused(pool.request(get()))
    while (site.seen.length === 0) await new Promise(setImmediate)
    await pool.close()
    t.match(await cut, { code: 'GW_UPSTREAM_UNAVAILABLE' })
    t.equal(pool.stats().breaker, 'closed')
    t.strictSame(lines, [])
  })

  t.test('what cannot be sent is no failure of the site', async t => {
    const pool = poolFor(t, (await startSite(t)).url, { breakerFailures: 1 })
    t.match(await refused(pool.request(get({ headers: { 'mcp-method': 'x\u0001' } }))), {
      code: 'GW_INTERNAL'
    })
    t.equal(pool.stats().breaker, 'closed')
  })

  t.test('who gives up in the moment of its turn is not sent', async t => {
    const site = await startSite(t)
    const pool = poolFor(t, site.url, { maxConcurrency: 1 })
    const place = await pool.acquire('p')
    const controller = new AbortController()
    const waiting = pool.request(get({ signal: controller.signal }))
    place.release()
    controller.abort(new Error('gone'))
    t.match(await refused(waiting), { message: 'gone' })
    t.strictSame(site.seen, [])
    t.strictSame(pool.stats(), { active: 0, queued: 0, breaker: 'closed' })
  })

  t.test('acquire holds a place until it is released, once, and reports', async t => {
    const site = await startSite(t)
    const pool = poolFor(t, site.url, { maxConcurrency: 1, breakerFailures: 1 })
    const place = await pool.acquire('p')
    let through = false
    const waiting = pool.request(get()).then(() => {
      through = true
    })
    await new Promise(setImmediate)
    t.equal(through, false)
    place.release()
    place.release()
    await waiting
    t.equal(pool.stats().active, 0)
    const failing = await pool.acquire('p')
    failing.report('failure')
    failing.report('success')
    t.equal(pool.stats().breaker, 'open')
    t.throws(() => pool.acquire('p'), { code: 'GW_UPSTREAM_UNAVAILABLE' }, 'without waiting')
    failing.release()
    t.equal(pool.stats().active, 0)
  })

  t.test('what began before the breaker opened says nothing about the site now', async t => {
    const clock = { ms: 0 }
    const pool = poolFor(t, 'http://127.0.0.1:1', { breakerFailures: 1 }, { now: () => clock.ms })
    const [failing, late, later] = [pool.acquire('p'), pool.acquire('p'), pool.acquire('p')]
    const places = [await failing, await late, await later] as const
    places[0].report('failure')
    places[1].report('success')
    t.equal(pool.stats().breaker, 'open')
    clock.ms = 60_000
    const probe = await pool.acquire('p')
    places[2].report('failure')
    t.equal(pool.stats().breaker, 'half-open', 'the probe decides')
    probe.report('success')
    t.equal(pool.stats().breaker, 'closed')
    for (const place of [...places, probe]) place.release()
  })

  t.test('a place that probes: released without a word it hands the probe on', async t => {
    const clock = { ms: 0 }
    const pool = poolFor(t, 'http://127.0.0.1:1', { breakerFailures: 1 }, { now: () => clock.ms })
    const failing = await pool.acquire('p')
    failing.report('failure')
    failing.release()
    clock.ms = 60_000
    const silent = await pool.acquire('p')
    t.equal(pool.stats().breaker, 'half-open')
    silent.release()
    const probe = await pool.acquire('p')
    probe.report('success')
    probe.release()
    t.equal(pool.stats().breaker, 'closed', 'the end of its stream says nothing more')
  })
})

t.test('the back channel', async t => {
  t.test('finds Drupal by name whatever the scheme, with its own User-Agent', async t => {
    const site = await startSite(t, (_seen, response) => {
      response.setHeader('www-authenticate', ['Basic', 'Bearer'])
      response.setHeader('x-junk', 'x').setHeader('x-generator!', 'x')
      json(response, { issuer: 'https://cms.example/' })
    })
    const pool = poolFor(t, 'https://cms.example', { internalUrl: site.url })
    const urls = ['https://cms.example/a?b=c', 'http://cms.example/a?b=c']
    for (const url of urls) {
      const response = await pool.fetch(url, {
        headers: { 'user-agent': 'Electron/1', accept: 'application/json' }
      })
      t.ok(response instanceof Response)
      t.equal(response.status, 200)
      t.equal(response.headers.get('www-authenticate'), 'Basic, Bearer')
      t.notOk(response.headers.has('x-junk'))
      t.strictSame(await response.json(), { issuer: 'https://cms.example/' })
    }
    for (const seen of site.seen) {
      t.equal(seen.url, '/a?b=c')
      t.match(seen.headers, { host: 'cms.example', accept: 'application/json' })
      t.match(seen.headers['user-agent'], /^drupal-mcp-gateway\//)
    }
  })

  t.test('an issuer that lost its port is still Drupal; another port is not', async t => {
    const site = await startSite(t)
    const other = await startSite(t, (_seen, response) => response.writeHead(204).end())
    const pool = poolFor(t, site.url)
    t.equal((await pool.fetch('https://127.0.0.1/issuer')).status, 200)
    t.equal((await pool.fetch(`${other.url}/other`)).status, 204)
    t.equal(site.seen[0]?.headers.host, `127.0.0.1:${site.port}`)
    t.equal(other.seen[0]?.headers.host, `127.0.0.1:${other.port}`)
  })

  t.test('a site in a folder: the base path is exchanged, a root document is not', async t => {
    const site = await startSite(t)
    const pool = poolFor(t, 'https://h.example/sub', { internalUrl: `${site.url}/in` })
    for (const path of ['/sub', '/sub?x=1', '/sub/oauth/jwks', '/suburb', '/.well-known/x/sub']) {
      await pool.fetch(`https://h.example${path}`)
    }
    t.strictSame(
      site.seen.map(seen => seen.url),
      ['/in', '/in?x=1', '/in/oauth/jwks', '/suburb', '/.well-known/x/sub']
    )
  })

  t.test('a byte order mark is left out, of what is whole', async t => {
    const bodies: Record<string, Buffer> = {
      '/json': Buffer.from('\uFEFF{}'),
      '/mark': Buffer.from('\uFEFF'),
      '/part': Buffer.from([0xef, 0xbb]),
      '/within': Buffer.from('{"a":"\uFEFF"}')
    }
    const site = await startSite(t, ({ url }, response) => response.end(bodies[url]))
    const pool = poolFor(t, site.url)
    const got = async (path: string) =>
      Buffer.from(await (await pool.fetch(`${site.url}${path}`)).arrayBuffer())
    t.strictSame(await got('/json'), Buffer.from('{}'))
    t.strictSame(await got('/mark'), Buffer.alloc(0))
    for (const path of ['/part', '/within']) t.strictSame(await got(path), bodies[path])
  })

  t.test('posts forms, follows no redirect', async t => {
    const site = await startSite(t, (_seen, response) =>
      response.writeHead(302, { location: 'https://evil.example/' }).end()
    )
    const response = await poolFor(t, site.url).fetch(`${site.url}/oauth/token`, {
      method: 'POST',
      body: new URLSearchParams({ token: 'x y' })
    })
    t.equal(response.status, 302)
    t.match(site.seen[0], {
      body: 'token=x+y',
      headers: { 'content-type': /x-www-form-urlencoded/ }
    })
  })

  t.test('is bounded in size and time, and knows only HTTP', async t => {
    const site = await startSite(t, (seen, response) => {
      if (seen.url === '/huge') response.end('x'.repeat(1_100_000))
    })
    const pool = poolFor(t, site.url)
    t.match(await refused(pool.fetch(`${site.url}/huge`)), {
      code: 'GW_AUTHORIZATION_SERVER_UNAVAILABLE',
      reason: /GW_UPSTREAM_TOO_LARGE/
    })
    const impatient = createDrupalPool(configFor(site.url, { oauth: { timeoutSeconds: 0.05 } }))
    t.teardown(() => impatient.close())
    t.match(await refused(impatient.fetch(`${site.url}/slow`)), { reason: /GW_UPSTREAM_TIMEOUT/ })
    t.match(await refused(pool.fetch('data:text/plain,x')), { name: 'TypeError' })
    const signal = AbortSignal.abort(new Error('gone'))
    t.match(await refused(pool.fetch(site.url, { signal })), { message: 'gone' })
  })

  t.test('asks a site at most seven things at once', async t => {
    const held: ServerResponse[] = []
    const site = await startSite(t, (_seen, response) => {
      held.push(response)
      if (site.seen.length >= 7) for (const each of held.splice(0)) json(each, {})
    })
    const pool = poolFor(t, site.url)
    await Promise.all(Array.from({ length: 20 }, () => pool.fetch(`${site.url}/keys`)))
    t.equal(site.peak, 7)
  })

  t.test('shares no connection with calls, whose answers may be anybody’s', async t => {
    const ports: (number | undefined)[] = []
    const site = await startSite(t, (_seen, response, { socket }) => {
      ports.push(socket.remotePort)
      json(response, {})
    })
    const pool = poolFor(t, site.url)
    for (let n = 0; n < 2; n++) {
      await pool.request(get())
      await pool.fetch(`${site.url}/oauth/introspect`)
    }
    t.equal(new Set(ports).size, 2)
    t.strictSame(ports.slice(0, 2), ports.slice(2))
  })

  t.test('no call waits behind it, and it does not wait behind calls', async t => {
    const site = await startSite(t, (seen, response) => {
      if (seen.url !== '/x') json(response, {})
    })
    const pool = poolFor(t, site.url, { maxConcurrency: 1, maxQueue: 0 })
    const controller = new AbortController()
    const call = pool.request(get({ signal: controller.signal }))
    t.equal((await pool.fetch(`${site.url}/keys`)).status, 200)
    controller.abort()
    await t.rejects(call)
  })
})
