import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer as createTcpServer } from 'node:net'
import { createServer } from 'node:tls'
import t from 'tap'
import { redisMissing, startRedis } from '../fixtures/redis.ts'
import { createAuthority } from './fixtures/certificate.ts'
import { startChain } from './fixtures/chain.ts'
import { eachFault, type Expected, on, page } from './fixtures/spoil.ts'

t.test('from inside, before anything is deployed', async t => {
  const chain = await startChain(t)
  const { authority, drupal, drupalFront } = chain
  const { faults, site } = drupal
  const client = { OAUTH_CLIENT_ID: 'gateway', OAUTH_CLIENT_SECRET: 'gateway-secret' }
  const env: Record<string, string> = { ...chain.env, LIMIT_FAILURES: '60/1m', ...client }
  const inside = (changes: Record<string, string> = {}) => ({
    url: null,
    env: { ...env, ...changes }
  })
  const newKey = (modulusLength: number) =>
    generateKeyPairSync('rsa', { modulusLength }).publicKey.export({ type: 'spki', format: 'pem' })
  /** Through the front, where answers can be spoilt. */
  const direct = { DRUPAL_INTERNAL_URL: '' }
  const folder = t.testdir({ short: newKey(1024), other: newKey(2048) })
  const [shortKey, otherKey] = [`${folder}/short`, `${folder}/other`]
  const publicDefaults = () => {
    for (const client of site.clients) client.defaultScopes = ['mcp_introspect']
  }
  const status =
    (status: number, path = '/') =>
    () =>
      void Object.assign(faults, { status, only: (asked: string) => asked === path })

  await t.test('a sound configuration: only the audience policy is named', async t => {
    const { code, checks, text } = await chain.diagnose(
      inside({ OAUTH_VALIDATION: 'both', OAUTH_INTROSPECTION: 'drupal' })
    )
    const others = checks.filter(({ status }) => status !== 'ok').map(({ id }) => id)
    t.strictSame(others, ['audience'])
    t.equal(code, 0)
    t.notMatch(text, /gateway-secret|a-test-secret|eyJ/)
  })

  await t.test('with a URL too, both sides are checked', async t => {
    const file = `${t.testdir({ 'gateway.yaml': 'siteName: X\n' })}/gateway.yaml`
    const { checks } = await chain.diagnose({ env, args: ['--gateway-config', file] })
    const ids = checks.map(({ id }) => id)
    t.ok(['config', 'dns', 'redis', 'token'].every(id => ids.includes(id)))
    const other = await chain.diagnose({
      env,
      url: `${chain.typed}/x`,
      args: ['--gateway-config', file, '--only', 'as-metadata']
    })
    t.match(other.of('config'), { status: 'failed', seen: /typed was/, advice: /PUBLIC_URL/ })
    const none = await chain.diagnose({ url: null, args: ['--gateway-config', '/none.yaml'] })
    t.match(none.of('config'), { status: 'failed', seen: /cannot be read|none\.yaml/ })
    t.match(none.of('drupal'), { status: 'skipped' })
  })

  await t.test('a certificate of the site or of Redis that is refused', async t => {
    const { server } = drupalFront
    const site = async () =>
      (
        await chain.diagnose({ ...inside({ DRUPAL_INTERNAL_URL: '' }), args: ['--only', 'drupal'] })
      ).of('drupal')
    for (const [certificate, seen, advice] of [
      [authority.issue(['127.0.0.1'], -1), /certificate is refused \(CERT_HAS_EXPIRED\)/, /Renew/],
      [
        authority.issue(['other.example']),
        /refused \(ERR_TLS_CERT_ALTNAME_INVALID\)/,
        /names this/
      ],
      [createAuthority('Another').issue(['127.0.0.1']), /VERIFY_LEAF/, /NODE_EXTRA_CA_CERTS/]
    ] as const) {
      server.setSecureContext(certificate)
      t.match(await site(), { status: 'failed', seen, advice })
    }
    server.setSecureContext(authority.issue(['127.0.0.1']))
    t.match(await site(), { status: 'ok' })

    const redis = createServer(createAuthority('Another').issue(['localhost']))
    redis.listen(0, '127.0.0.1')
    await once(redis, 'listening')
    t.teardown(() => redis.close())
    const { port } = redis.address() as AddressInfo
    const options = inside({ REDIS_URL: `rediss://localhost:${port}` })
    const { of } = await chain.diagnose({ ...options, args: ['--only', 'redis'] })
    t.match(of('redis'), { status: 'failed', seen: /VERIFY_LEAF/, advice: /NODE_EXTRA_CA_CERTS/ })
  })

  // biome-ignore format: one fault a line
  for (const [name, changes, ...fault] of [
    ['a bad option', { MCP_SERVER_PORT: 'x' }, 'config', () => {}, 'failed', /MCP_SERVER_PORT/, /gateway\.example\.yaml/],
    ['a risk', { LIMIT_FAILURES: 'off' }, 'config-warnings', () => {}, 'warning', /LIMIT_FAILURES/, /can go wrong/],
    ['plain http', { GATEWAY_PUBLIC_URL: 'http://mcp.example.org' }, 'config-public-url', () => {}, 'warning', /plain http/, /https/],
    ['the audience is the resource', { OAUTH_AUDIENCE: 'resource' }, 'audience', () => {}, 'ok', /must name/, /^$/],
    ['the audience is a list of clients', { OAUTH_AUDIENCE: 'clients:x' }, 'audience', () => {}, 'warning', /list of clients, weaker than resource/, /RFC 8707/],
    ['nothing listens', { DRUPAL_INTERNAL_URL: 'http://127.0.0.1:1' }, 'drupal', () => {}, 'failed', /by way of http:\/\/127\.0\.0\.1:1.*nothing listens/, /DRUPAL_INTERNAL_URL/],
    ['an unknown name', { DRUPAL_INTERNAL_URL: 'http://doctor-probe.invalid' }, 'drupal', () => {}, 'failed', /the name is not known/, /DRUPAL_INTERNAL_URL/],
    ['the Host is not trusted', {}, 'drupal', status(400), 'failed', /400/, /trusted_host_patterns/],
    ['maintenance', {}, 'drupal', status(503), 'failed', /503/, /maintenance_mode 0/],
    ['a broken site', {}, 'drupal', status(500), 'failed', /500/, /watchdog/],
    ['a redirect elsewhere', {}, 'drupal', () => void Object.assign(faults, { redirectHost: 'https://www.example.org', only: () => true }), 'failed', /302 to https:\/\/www/, /follows no redirect/],
    ['a redirect within', {}, 'drupal', () => void Object.assign(faults, { redirectLogin: true, only: (path: string) => path === '/' }), 'ok', /302/, /^$/],
    ['no jsonrpc_mcp', { DRUPAL_MCP_PATH: '/other' }, 'drupal-mcp', () => {}, 'failed', /404/, /jsonrpc_mcp/],
    ['no MCP server', { DRUPAL_UPSTREAM: 'mcp' }, 'drupal-mcp', () => {}, 'failed', /\/mcp answers 404/, /DRUPAL_UPSTREAM/],
    ['a broken tool list', {}, 'drupal-mcp', status(500, '/mcp/tools/list'), 'failed', /500/, /watchdog/],
    ['a sign-in page in the place of the tool list', direct, 'drupal-mcp', () => void (drupalFront.spoil = on('/mcp/tools/list', () => ({ status: 302, headers: { location: '/user/login' }, body: '' }))), 'failed', /answers 302/, /no redirect/],
    ['nothing in the place of the tool list', direct, 'drupal-mcp', () => void (drupalFront.spoil = on('/mcp/tools/list', () => ({ body: '' }))), 'failed', /no answer of an MCP endpoint/, /DRUPAL_MCP_PATH/],
    ['a page in the place of the MCP server', { ...direct, DRUPAL_UPSTREAM: 'mcp' }, 'drupal-mcp', () => void (drupalFront.spoil = on('/mcp', page(200))), 'failed', /no answer of an MCP endpoint/, /DRUPAL_MCP_PATH/],
    ['metadata is missing', {}, 'as-metadata', () => void (drupalFront.spoil = a => a, faults.metadataDown = true), 'failed', /503/, /maintenance_mode/],
    ['another issuer than configured', { OAUTH_ISSUER: 'https://old.example/' }, 'as-issuer', () => {}, 'failed', /the configuration "https:\/\/old/, /OAUTH_ISSUER=https:\/\/127/],
    ['an issuer that DRUPAL_URL does not explain', {}, 'as-issuer', () => void (faults.metadata = { issuer: 'https://old.example/' }), 'failed', /the configuration/, /DRUPAL_URL/],
    ['the pinned key is short', { OAUTH_PUBLIC_KEY_FILE: shortKey }, 'keys', () => {}, 'failed', /at least 2048 bits/, /generate-keys/],
    ['device sign-in is off', { OAUTH_DEVICE_FLOW_ENABLED: 'false' }, 'device', () => {}, 'skipped', /OAUTH_DEVICE_FLOW_ENABLED/, /^$/],
    ['device sign-in is off', { OAUTH_DEVICE_FLOW_ENABLED: 'false' }, 'device-scopes', () => {}, 'skipped', /OAUTH_DEVICE_FLOW_ENABLED/, /^$/],
    ['introspection is needed and missing', { OAUTH_VALIDATION: 'both' }, 'introspection', () => void (faults.introspectionDown = true), 'failed', /503/, /OAUTH_VALIDATION=jwt/],
    ['the other dialect', { OAUTH_VALIDATION: 'both', OAUTH_INTROSPECTION: 'rfc7662' }, 'introspection', () => {}, 'failed', /speaks drupal/, /OAUTH_INTROSPECTION=drupal/],
    ['the site is ahead of this machine', {}, 'clock', () => void (faults.clockSkewSeconds = 60), 'failed', /of this machine/, /timedatectl/],
    ['no client', { OAUTH_CLIENT_ID: '', OAUTH_CLIENT_SECRET: '' }, 'service-client', () => {}, 'skipped', /no OAUTH_CLIENT_ID/, /^$/],
    ['a wrong secret', { OAUTH_CLIENT_SECRET: 'wrong' }, 'service-client', () => {}, 'failed', /invalid_client/, /OAUTH_CLIENT_SECRET/],
    ['a client without the grant', { OAUTH_CLIENT_ID: 'public' }, 'service-client', publicDefaults, 'failed', /unauthorized_client/, /grant client_credentials/],
    ['no introspection wanted', {}, 'service-introspection', () => {}, 'skipped', /jwt/, /^$/],
    ['no base scope', { OAUTH_SCOPES: '' }, 'scope-grants', () => {}, 'skipped', /names none/, /^$/],
    ['an unknown base scope', { OAUTH_SCOPES: 'read_tutorials,gone' }, 'scope-grants', () => {}, 'warning', /^gone: "invalid_scope"/, /grants/],
    ['a base scope whose grants are off, as jsonrpc_mcp installs them', { OAUTH_SCOPES: 'no_grants' }, 'scope-grants', () => void site.scopes.push({ name: 'no_grants', grants: [] }), 'warning', /^no_grants: "invalid_scope"/, /switch client_credentials on/],
    ['Redis is away', { REDIS_URL: 'redis://:hush@127.0.0.1:1' }, 'redis', () => {}, 'failed', /127\.0\.0\.1:1/, /REDIS_URL/]
  ] as [string, Record<string, string>, string, () => void, ...Expected][]) {
    await eachFault(t, chain, [[name, ...fault]], inside(changes))
  }

  await t.test('a pinned key', async t => {
    const folder = t.testdir({ key: drupal.publicKeyPem, token: chain.token(), config: '' })
    const file = `${folder}/key`
    const { of } = await chain.diagnose(inside({ OAUTH_PUBLIC_KEY_FILE: file }))
    t.match(of('keys'), { status: 'ok', seen: /pinned/ })
    const sources = ['--gateway-config', `${folder}/config`, '--token-file', `${folder}/token`]
    const signedIn = (pinned: string, algorithms = 'RS256') =>
      chain.diagnose({
        env: { ...env, OAUTH_PUBLIC_KEY_FILE: pinned, OAUTH_ALGORITHMS: algorithms },
        args: [...sources, '--only', 'token-signature']
      })
    t.match((await signedIn(file)).of('token-signature'), {
      status: 'ok',
      seen: 'RS256, by one of the keys'
    })
    t.match((await signedIn(otherKey)).of('token-signature'), {
      status: 'failed',
      seen: 'RS256, by none of the 1 keys'
    })
    t.match((await signedIn(file, 'ES256')).of('token'), {
      status: 'failed',
      seen: /alg "RS256"/,
      advice: /OAUTH_ALGORITHMS/
    })
  })

  await t.test(
    'a client without default scope, without permission, with a scope of nothing',
    async t => {
      const gateway = site.clients.find(({ clientId }) => clientId === 'gateway')!
      const only = (id: string, changes: Record<string, string> = {}) =>
        chain.diagnose({ ...inside(changes), args: ['--only', id] }).then(({ of }) => of(id))
      gateway.defaultScopes = ['read_tutorials']
      t.match(await only('service-introspection', { OAUTH_VALIDATION: 'both' }), {
        status: 'failed',
        seen: /active false/,
        advice: /bypass token introspection/
      })
      gateway.defaultScopes = []
      t.match(await only('service-client'), { status: 'failed', advice: /default scope/ })
      const named = { OAUTH_VALIDATION: 'both', OAUTH_INTROSPECTION_SCOPE: 'mcp_introspect' }
      t.match(await only('service-client', named), { status: 'ok' })
      t.match(await only('service-introspection', named), { status: 'ok' })
      gateway.defaultScopes = ['mcp_introspect']
      const { grantsRole, ...empty } = site.scopes[0]!
      t.ok(grantsRole)
      site.scopes[0] = empty
      t.match(await only('scope-grants'), { status: 'failed', advice: /granularity/ })
      site.scopes[0] = { ...empty, grantsRole: grantsRole! }
    }
  )

  await t.test('an authorization server of another kind: opaque tokens, RFC 7662', async t => {
    t.teardown(chain.heal)
    drupalFront.spoil = answer => {
      const fields = new URLSearchParams(answer.sent)
      const json = (body: object) => ({ ...answer, status: 200, body: JSON.stringify(body) })
      if (fields.get('grant_type') === 'client_credentials') return json({ access_token: 'opaque' })
      return fields.get('token') === 'opaque' ? json({ active: true }) : answer
    }
    const { of } = await chain.diagnose(inside({ ...direct, OAUTH_VALIDATION: 'introspection' }))
    t.match(of('drupal'), { status: 'ok', seen: /^https:\/\/127\.0\.0\.1:\d+ answers 200/ })
    t.match(of('service-introspection'), { status: 'ok' })
  })

  await t.test('with URL and token the policies of the configuration are applied', async t => {
    const folder = t.testdir({
      token: chain.token(),
      elsewhere: chain.token({ claims: { aud: 'https://other.example/mcp' } }),
      bare: chain.token({ scopes: [] }),
      'g.yaml': 'siteName: X'
    })
    const both = async (id: string, changes: Record<string, string> = {}, token = 'token') => {
      const files = ['--token-file', `${folder}/${token}`, '--gateway-config', `${folder}/g.yaml`]
      const args = [...files, '--only', id]
      return (await chain.diagnose({ env: { ...env, ...changes }, args })).of(id)
    }
    t.match(await both('token-audience', { OAUTH_AUDIENCE: 'resource' }), {
      status: 'failed',
      advice: /OAUTH_AUDIENCE=drupal/
    })
    t.match(await both('token-audience', { OAUTH_AUDIENCE: 'clients:x' }), {
      status: 'failed',
      seen: /nor a client/
    })
    t.match(await both('token-audience', { OAUTH_AUDIENCE: 'clients:public' }), { status: 'ok' })
    t.match(await both('token-audience', {}, 'elsewhere'), {
      status: 'failed',
      seen: /not this resource, but another: OAUTH_AUDIENCE=drupal refuses it/,
      advice: /URL of this gateway/
    })
    const named = { OAUTH_AUDIENCE: 'clients:https://other.example/mcp' }
    t.match(await both('token-audience', named, 'elsewhere'), { status: 'ok' })
    t.match(await both('token-scopes', {}, 'bare'), { status: 'failed', seen: /^none: / })
    t.match(await both('token-scopes', { OAUTH_AUDIENCE: 'clients:public' }, 'bare'), {
      status: 'warning',
      seen: 'none'
    })
    t.match(await both('token-time'), { status: 'ok' })
    t.match(await both('tool-routes'), { status: 'ok', seen: '8 routes' })
    t.match(await both('tool-routes', { DRUPAL_UPSTREAM: 'mcp', DRUPAL_MCP_PATH: '/' }), {
      status: 'skipped',
      seen: /no route per tool/
    })
  })

  await t.test('a Redis too far away for the gateway', { skip: redisMissing() }, async t => {
    const redis = await startRedis(t)
    const far = createTcpServer(near => {
      const socket = connect(redis.port, '127.0.0.1').on('error', () => {})
      near.on('error', () => {}).pipe(socket)
      socket.on('data', piece => setTimeout(() => near.write(piece), 70))
      near.on('close', () => socket.destroy())
    })
    far.listen(0, '127.0.0.1')
    await once(far, 'listening')
    t.teardown(() => far.close())
    const { port } = far.address() as AddressInfo
    const { of } = await chain.diagnose({
      ...inside({ REDIS_URL: `redis://127.0.0.1:${port}` }),
      args: ['--only', 'redis']
    })
    t.match(of('redis'), { status: 'failed', seen: /takes \d+ ms/, advice: /more than 50 ms/ })
  })
  await t.test('Redis answers', { skip: redisMissing() }, async t => {
    const redis = await startRedis(t)
    const { of } = await chain.diagnose({
      ...inside({ REDIS_URL: redis.url }),
      args: ['--only', 'redis']
    })
    t.match(of('redis'), { status: 'ok', seen: /takes a write/ })
  })
})
