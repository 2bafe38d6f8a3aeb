// Tokens over HTTP as OAUTH_VALIDATION says: by signature, by introspection (Drupal's dialect and RFC 7662), by both; how long a
// revoked token lives in each, who has the last word, and what a missing key set says.
import t, { type Test } from 'tap'
import { authorizationServer, privateJwk } from '../auth/fixtures/authorization-server.ts'
import { rpc } from './fixtures/mcp.ts'
import { type Answered, PUBLIC_URL, read, type Started, startGateway } from './fixtures/start.ts'

const INFO = rpc('tools/call', { name: 'site.info', arguments: {} })
const SEARCH = rpc('tools/call', { name: 'tutorials.search', arguments: {} })

/** The gateway's own client at the double, which may ask about everybody's tokens. */
const introspects = {
  OAUTH_CLIENT_ID: 'gateway',
  OAUTH_CLIENT_SECRET: 'gateway-secret',
  OAUTH_INTROSPECTION_SCOPE: 'mcp_introspect'
}

const bearer = (token: string) => ({ authorization: `Bearer ${token}` })
const asked = ({ drupal }: Started, part: string) =>
  drupal.requests.filter(({ path }) => path.includes(part))

function isInvalidToken(t: Test, { status, headers, json }: Answered, what: string): void {
  t.equal(status, 401, what)
  t.match(headers.get('www-authenticate'), /error="invalid_token".*$/)
  t.equal(json.error, 'invalid_token')
}

/** Milliseconds from now until a call that only the gateway answers is refused. */
async function lag(gateway: Started, session: Record<string, string>): Promise<number> {
  const start = performance.now()
  for (;;) {
    const { status } = await gateway.post(rpc('ping'), session)
    if (status === 401) return performance.now() - start
    if (performance.now() - start > 20_000) throw new Error('never refused')
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}

/** One session whose token is then revoked in Drupal. */
async function revoked(t: Test, gateway: Started, expiresIn = 300) {
  const { token, jti } = gateway.drupal.mint({ expiresIn })
  const session = await gateway.initialize(token)
  t.equal((await gateway.post(SEARCH, session)).status, 200)
  gateway.drupal.revoke(jti)
  return session
}

t.test('Drupal’s dialect', async t => {
  t.test('mode introspection: the jti is asked about, with the gateway’s own token', async t => {
    const gateway = await startGateway(t, {
      env: { ...introspects, OAUTH_VALIDATION: 'introspection' }
    })
    const { token, jti } = gateway.drupal.mint()
    const session = await gateway.initialize(token)
    t.equal((await gateway.post(INFO, session)).status, 200)
    const [question, ...others] = asked(gateway, '/oauth/introspect')
    t.equal(others.length, 0, 'once')
    t.equal(new URLSearchParams(question?.body).get('token'), jti)
    t.not(question?.headers['authorization'], `Bearer ${token}`)
    t.equal(asked(gateway, '/oauth/token').length, 1)
    isInvalidToken(
      t,
      await gateway.post(rpc('ping'), bearer(gateway.token({ stored: false }))),
      'a good signature on a token that Drupal does not know'
    )
    const owned = new URLSearchParams(asked(gateway, '/oauth/token')[0]?.body)
    t.equal(owned.get('scope'), 'mcp_introspect')
    t.notMatch(gateway.logged.join('') + gateway.audited.join(''), 'gateway-secret')
  })

  t.test('a gateway whose own token was dropped gets a new one', async t => {
    const gateway = await startGateway(t, {
      env: { ...introspects, OAUTH_VALIDATION: 'introspection' }
    })
    await gateway.initialize(gateway.token())
    gateway.drupal.saveConsumer('gateway')
    await gateway.initialize(gateway.token())
    t.equal(asked(gateway, '/oauth/token').length, 2)
  })

  t.test('fails closed: nobody answers, or the gateway may not ask', async t => {
    const gateway = await startGateway(t, {
      env: { ...introspects, OAUTH_VALIDATION: 'introspection' }
    })
    const session = await gateway.initialize(gateway.token())
    gateway.drupal.faults.introspectionDown = true
    t.equal((await gateway.post(INFO, session)).status, 200, 'a verdict in its bound goes on')
    const unknown = await gateway.post(rpc('ping'), bearer(gateway.token()))
    t.equal(unknown.status, 503)
    t.match(unknown.headers.get('retry-after'), /^\d+$/)
    t.equal(unknown.json.error, 'temporarily_unavailable')
    gateway.drupal.clearFaults()
    await gateway.initialize(gateway.token())

    const wrong = await startGateway(t, {
      env: { ...introspects, OAUTH_VALIDATION: 'introspection', OAUTH_CLIENT_SECRET: 'not-it' }
    })
    const refused = await wrong.post(rpc('ping'), bearer(wrong.token()))
    t.equal(refused.status, 503)
    t.notMatch(refused.text, /SECRET|127\.0\.0\.1/)
    t.match(JSON.parse(wrong.audited.at(-1) as string).reason, /OAUTH_CLIENT_SECRET/, 'the hint')
    t.notMatch(wrong.logged.join('') + wrong.audited.join(''), 'not-it')
  })

  t.test('mode both: believed at once, asked about in the meantime', async t => {
    const gateway = await startGateway(t, { env: { ...introspects, OAUTH_VALIDATION: 'both' } })
    gateway.drupal.faults.introspectionDown = true
    t.equal((await gateway.post(rpc('ping'), bearer(gateway.token()))).status, 400, 'let in')
    gateway.drupal.clearFaults()
    const { token, jti } = gateway.drupal.mint()
    gateway.drupal.revoke(jti)
    const session = bearer(token)
    t.equal((await gateway.post(rpc('ping'), session)).status, 400, 'believed by its signature')
    t.ok((await lag(gateway, session)) < 5000, 'and refused as soon as Drupal has answered')
  })
})

t.test('what is counted of it', async t => {
  const gateway = await startGateway(t, {
    env: { ...introspects, OAUTH_VALIDATION: 'introspection', ADMIN_PORT: '0' }
  })
  const session = await gateway.initialize(gateway.token())
  for (const headers of [
    session,
    bearer(gateway.token({ stored: false })),
    bearer('opaque'),
    bearer(gateway.drupal.mint({ expiresIn: -60 }).token)
  ]) {
    await gateway.post(rpc('ping'), headers)
  }
  gateway.drupal.faults.introspectionDown = true
  gateway.drupal.faults.jwksDown = true
  await gateway.post(rpc('ping'), bearer(gateway.token()))
  const [head, body] = gateway.token().split('.')
  await gateway.post(rpc('ping'), bearer(`${head}.${body}.AAAA`))

  const address = (await gateway.gateway.admin?.listen({ host: '127.0.0.1', port: 0 })) as string
  const { text } = await read(await fetch(`${address}/metrics`))
  for (const series of [
    'token_verdicts_total{reason="ok",source="introspection"} 1',
    'token_verdicts_total{reason="ok",source="cache"} 1',
    'token_verdicts_total{reason="inactive",source="introspection"} 2',
    'token_verdicts_total{reason="expired",source="jwt"} 1',
    'token_verdicts_total{reason="signature",source="jwt"} 1',
    'token_cache_events_total{event="hit"} 1',
    'key_refreshes_total{outcome="ok"} 1',
    'key_refreshes_total{outcome="failed"} 1',
    'introspection_duration_seconds_count{outcome="active"} 1',
    'introspection_duration_seconds_count{outcome="inactive"} 1',
    'introspection_duration_seconds_count{outcome="failed"} 1',
    'authorization_server_failures_total{kind="introspection"} 1',
    'authorization_server_failures_total{kind="keys"} 1'
  ]) {
    t.ok(text.includes(`\nmcp_gateway_${series}\n`), series)
  }
  t.strictSame(
    gateway.audited.map(line => JSON.parse(line).reason?.split(':')[0]),
    [undefined, undefined, 'inactive', 'inactive', 'expired', 'http', 'signature'],
    'one reason per refusal'
  )
})

t.test('a client that the server refuses is told at /readyz and in the log, once', async t => {
  const server = await authorizationServer(t)
  for (const [name, reason, env] of [
    [
      'Drupal',
      /\/oauth\/token answered 4\d\d\. Check OAUTH_CLIENT_ID/,
      { OAUTH_CLIENT_ID: 'gateway' }
    ],
    [
      'RFC 7662',
      /answered 401: check OAUTH_CLIENT_ID/,
      { OAUTH_CLIENT_ID: 'gateway', OAUTH_ISSUER: server.issuer }
    ]
  ] as const) {
    for (const OAUTH_VALIDATION of ['introspection', 'both']) {
      const gateway = await startGateway(t, {
        env: { ...env, OAUTH_CLIENT_SECRET: 'not-it-not-it', OAUTH_VALIDATION }
      })
      for (let i = 0; i < 2; i++) {
        const { status, text, json } = await read(await fetch(`${gateway.origin}/readyz`))
        t.equal(status, 503, `${name}, ${OAUTH_VALIDATION}`)
        t.match(json.checks, { 'authorization server': 'ok', 'signing keys': 'ok', drupal: 'ok' })
        t.match(json.checks.introspection, /It refuses the client of this gateway; the log says/)
        t.notMatch(text, /127\.0\.0\.1|https?:|not-it/)
      }
      const said = gateway.logged.filter(line => line.includes('"check":"introspection"'))
      t.equal(said.length, 1)
      t.match(JSON.parse(said[0] as string).reason, reason)
      t.notMatch(gateway.logged.join(''), 'not-it')
    }
  }
})

t.test('/readyz asks about no token while all is well, and an outage is no refusal', async t => {
  const gateway = await startGateway(t, {
    env: { ...introspects, OAUTH_VALIDATION: 'introspection' }
  })
  const ready = async () => (await read(await fetch(`${gateway.origin}/readyz`))).json.status
  const next = () => new Promise(resolve => setTimeout(resolve, 1010))
  const questions = () => asked(gateway, '/oauth/introspect').length
  t.equal(await ready(), 'ready')
  t.equal(questions(), 0, 'a token of its own says enough')
  gateway.drupal.faults.introspectionDown = true
  t.equal((await gateway.post(rpc('ping'), bearer(gateway.token()))).status, 503)
  await next()
  t.equal(await ready(), 'ready', 'known tokens are served')
  t.equal(questions(), 2, 'whether it is back')
  gateway.drupal.clearFaults()
  await next()
  t.equal(await ready(), 'ready')
  await next()
  t.equal(await ready(), 'ready')
  t.equal(questions(), 3, 'no more once it has answered')
})

t.test(
  'what was answered and is no longer is told in the log, once, and so is its end',
  async t => {
    const gateway = await startGateway(t, {
      env: { ...introspects, OAUTH_VALIDATION: 'introspection', OAUTH_DISCOVERY_CACHE_TTL: '1' }
    })
    const statuses = async () => {
      const pings = [1, 2].map(() => gateway.post(rpc('ping'), bearer(gateway.token())))
      return (await Promise.all(pings)).map(({ status }) => status)
    }
    const told = () =>
      gateway.logged
        .map(line => JSON.parse(line) as Record<string, string>)
        .filter(({ msg }) => msg?.startsWith('the authorization server'))
        .map(({ level, kind, msg, reason = '' }) => `${level} ${kind} ${msg} ${reason}`)
        .toSorted()
    const later = () => new Promise(resolve => setTimeout(resolve, 1010))
    t.strictSame(await statuses(), [400, 400], 'good tokens')
    Object.assign(gateway.drupal.faults, {
      metadataDown: true,
      jwksDown: true,
      introspectionDown: true
    })
    for (let i = 0; i < 2; i++) {
      await later()
      t.strictSame(await statuses(), [503, 503])
    }
    const out = 'the authorization server gives no usable answer'
    t.match(told(), [
      RegExp(`^warn introspection ${out} .*503`),
      RegExp(`^warn keys ${out} .*503`),
      RegExp(`^warn metadata ${out} .*503`)
    ])
    gateway.drupal.clearFaults()
    for (let i = 0; i < 2; i++) {
      await later()
      t.strictSame(await statuses(), [400, 400])
    }
    const kinds = ['introspection', 'keys', 'metadata']
    t.strictSame(
      told().filter(line => line.startsWith('info')),
      kinds.map(kind => `info ${kind} the authorization server answers again `)
    )
    t.equal(told().length, 6)
  }
)

t.test('the lag of a revocation, by mode', async t => {
  const TTL = 1
  const rows = [
    ['jwt', {}, 4],
    ['introspection', introspects, 300],
    ['both', introspects, 300]
  ] as const
  for (const [mode, own, expiresIn] of rows) {
    const gateway = await startGateway(t, {
      env: {
        ...own,
        OAUTH_VALIDATION: mode,
        OAUTH_TOKEN_CACHE_TTL: String(TTL),
        OAUTH_CLOCK_TOLERANCE: '0'
      }
    })
    const ms = await lag(gateway, await revoked(t, gateway, expiresIn))
    // A busy machine may add to it; the bound is the token's own end, or the TTL.
    const bound = mode === 'jwt' ? expiresIn * 1000 : TTL * 1000
    t.ok(ms < bound + 1500, `${mode}: within its bound`)
    t.comment(
      `revocation, answered by the gateway alone: ${mode} ${Math.round(ms)} ms (bound ${bound})`
    )

    const session = await revoked(t, gateway, 300)
    const start = performance.now()
    isInvalidToken(t, await gateway.post(SEARCH, session), `${mode}: a call of a tool ends at once`)
    t.comment(`revocation, a call of a tool: ${mode} ${Math.round(performance.now() - start)} ms`)
  }
})

t.test('a revoked token listens no longer than it may call', async t => {
  const gateway = await startGateway(t, {
    env: {
      ...introspects,
      OAUTH_VALIDATION: 'introspection',
      OAUTH_TOKEN_CACHE_TTL: '1',
      STREAM_HEARTBEAT: '0.5',
      STREAM_WATCH: '3600'
    }
  })
  const { token, jti } = gateway.drupal.mint()
  const listen = async (session: Record<string, string>) =>
    fetch(gateway.url, { headers: { ...session, accept: 'text/event-stream' } })
  const news = await listen(await gateway.initialize(token))
  const others = await listen(await gateway.initialize(gateway.token({ uid: 3 })))
  const other = others.body?.getReader()
  gateway.drupal.revoke(jti)
  t.match(await news.text(), 'keepalive')
  for (let beats = 0; beats < 3; beats++) t.notOk((await other?.read())?.done, 'a good one goes on')
  await other?.cancel()
})

t.test('Drupal has the last word: a revoked token is 401, and refused from then on', async t => {
  const gateway = await startGateway(t)
  const session = await revoked(t, gateway)
  isInvalidToken(t, await gateway.post(SEARCH, session), 'an upstream 401 ends the call')
  const count = gateway.drupal.requests.length
  for (const message of [SEARCH, INFO, rpc('tools/list'), rpc('ping')]) {
    isInvalidToken(t, await gateway.post(message, session), 'from then on')
  }
  t.equal(gateway.drupal.requests.length, count, 'nobody is asked again')
  const { token, jti } = gateway.drupal.mint({ uid: 3 })
  const unknown = await gateway.initialize(token)
  gateway.drupal.revoke(jti)
  for (const message of [SEARCH, rpc('ping')]) {
    isInvalidToken(t, await gateway.post(message, unknown), 'also where the tools were asked for')
  }
  const fresh = bearer(gateway.token())
  t.equal(
    (await gateway.post(SEARCH, { ...session, ...fresh })).status,
    200,
    'R93 a new token, the same session'
  )

  for (const [name, end] of [
    ['the user is blocked', () => gateway.drupal.blockUser('reader')],
    ['the consumer is saved', () => gateway.drupal.saveConsumer('public')]
  ] as const) {
    const one = await gateway.initialize(gateway.token({ uid: 3 }))
    end()
    isInvalidToken(t, await gateway.post(SEARCH, one), name)
  }
  const many = await gateway.initialize(gateway.token())
  gateway.drupal.faults.unauthorized = true
  const statuses = await Promise.all(
    Array.from({ length: 20 }, async () => (await gateway.post(SEARCH, many)).status)
  )
  t.strictSame(new Set(statuses), new Set([401]), 'and for calls at the same time')
})

t.test('keys', async t => {
  t.test('rotation: one refetch, the new key at once, the old one no longer', async t => {
    const gateway = await startGateway(t)
    const old = gateway.token()
    await gateway.initialize(gateway.token())
    t.equal(asked(gateway, 'jwks').length, 1)
    await gateway.drupal.rotateKey()
    await gateway.initialize(gateway.token())
    t.equal(asked(gateway, 'jwks').length, 2)
    isInvalidToken(t, await gateway.post(rpc('ping'), bearer(old)), 'signed with the old key')
    await Promise.all(
      Array.from({ length: 30 }, () => gateway.post(rpc('ping'), bearer(gateway.token())))
    )
    t.equal(asked(gateway, 'jwks').length, 2, 'no more within the cooldown')
  })

  t.test('the key set is missing although it is advertised (OpenID Connect is off)', async t => {
    const gateway = await startGateway(t)
    gateway.drupal.faults.jwks404 = true
    const refused = await gateway.post(rpc('ping'), bearer(gateway.token()))
    t.equal(refused.status, 503)
    t.notMatch(refused.text, /OpenID|jwks/i, 'not the client’s business')
    const notReady = await read(await fetch(`${gateway.origin}/readyz`))
    t.equal(notReady.status, 503)
    t.equal(notReady.json.checks['authorization server'], 'ok')
    t.match(
      notReady.json.checks['signing keys'],
      /signing keys cannot be had: .*\(404\).*OpenID Connect is switched off.*OAUTH_PUBLIC_KEY_FILE/
    )
    t.notMatch(notReady.text, /127\.0\.0\.1|https?:/, 'no address')
    const said = gateway.logged.filter(line => line.includes('"check":"signing keys"'))
    t.equal(said.length, 1, 'said once')
    t.match(said[0], /OpenID Connect is switched off.*OAUTH_PUBLIC_KEY_FILE/)
    t.match(JSON.parse(gateway.audited.at(-1) as string).reason, /OpenID Connect/)

    gateway.drupal.clearFaults()
    for (;;) {
      if ((await fetch(`${gateway.origin}/readyz`)).status === 200) break
      await new Promise(resolve => setTimeout(resolve, 50))
    }
    await gateway.initialize(gateway.token())
    t.ok(
      gateway.logged.some(line => line.includes('ready again')),
      'it heals by itself'
    )
  })
})

t.test('RFC 7662 and RFC 9068 with oidc-provider', async t => {
  const server = await authorizationServer(t)
  const resource = `${PUBLIC_URL}/mcp`
  const start = (env: Record<string, string>) =>
    startGateway(t, {
      env: {
        OAUTH_ISSUER: server.issuer,
        OAUTH_AUDIENCE: 'resource',
        OAUTH_CLIENT_ID: 'gateway',
        OAUTH_CLIENT_SECRET: 'secret',
        OAUTH_TOKEN_CACHE_TTL: '1',
        OAUTH_KEY_COOLDOWN: '0',
        ...env
      }
    })
  const revoke = async (token: string) =>
    t.equal((await server.post('/token/revocation', { token })).status, 200)

  t.test('an opaque token lives no longer than the bound', async t => {
    const gateway = await start({ OAUTH_VALIDATION: 'introspection' })
    const token = await server.token({ resource, format: 'opaque' })
    const session = await gateway.initialize(token)
    const elsewhere = await server.token({ resource: 'https://other.example/', format: 'opaque' })
    isInvalidToken(t, await gateway.post(rpc('ping'), bearer(elsewhere)), 'R86 another resource')
    isInvalidToken(t, await gateway.post(rpc('ping'), bearer('unheard-of')), 'unknown')
    await revoke(token)
    const ms = await lag(gateway, session)
    t.ok(ms < 2500)
    t.comment(`revocation, opaque token: ${Math.round(ms)} ms (bound 1000)`)
  })
  t.test(
    'opaque tokens work in mode jwt where the gateway has a client; else a log line says so',
    async t => {
      const gateway = await start({})
      const token = await server.token({ resource, format: 'opaque' })
      await gateway.initialize(token)
      for (const OAUTH_CLIENT_ID of ['', 'gateway']) {
        const without = await start({ OAUTH_CLIENT_ID, OAUTH_CLIENT_SECRET: '' })
        isInvalidToken(t, await without.post(rpc('ping'), bearer(token)), 'nobody to ask')
        t.match(
          JSON.parse(without.audited.at(-1) as string).reason,
          'opaque: the token is no JWT and no introspection is configured'
        )
      }
    }
  )
  t.test('JWTs of ES256 and EdDSA, after a rotation each', async t => {
    const gateway = await start({})
    const first = await server.token({ resource })
    await gateway.initialize(first)
    for (const alg of ['ES256', 'EdDSA'] as const) {
      server.rotate(alg, privateJwk(alg, `new-${alg}`))
      await gateway.initialize(await server.token({ resource }))
    }
    isInvalidToken(
      t,
      await gateway.post(
        rpc('ping'),
        bearer(await server.token({ resource: 'https://other.example/mcp' }))
      ),
      'R86 another resource'
    )
  })
  t.test('the published document names that server', async t => {
    const gateway = await start({})
    const { json } = await read(
      await fetch(`${gateway.origin}/.well-known/oauth-protected-resource/mcp`)
    )
    t.strictSame(json.authorization_servers, [server.issuer])
    t.equal(json.resource, resource)
  })
})
