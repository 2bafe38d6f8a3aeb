// The wall clock steps back by an hour (a machine resumed, NTP corrected it): what waits for some time to pass waits no longer for it.
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { startGateway } from './fixtures/start.ts'

const HOUR = 3_600_000
/** A little more than the second for which everything here waits. */
const WAIT = 1200

const wall = Date.now
let stepMs = 0
t.beforeEach(() => {
  stepMs = 0
  // Before anything is built: a default may be the function itself.
  Date.now = () => wall() + stepMs
})
t.afterEach(() => {
  Date.now = wall
})

const message = (method: string, params: object = {}) => ({ jsonrpc: '2.0', id: 1, method, params })
const call = message('tools/call', { name: 'site.info', arguments: {} })

t.test('an open breaker probes in its time', async t => {
  const { drupal, initialize, post, token } = await startGateway(t, {
    file: { drupal: { breakerFailures: 2, breakerOpenSeconds: 1 } }
  })
  // Good before the step and after it.
  const nbf = Math.floor((wall() - 2 * HOUR) / 1000)
  const session = await initialize(token({ claims: { nbf, iat: nbf } }))
  t.equal((await post(call, session)).status, 200)
  drupal.faults.resetBefore = true
  for (let i = 0; i < 2; i++) t.equal((await post(call, session)).status, 502)
  const open = await post(call, session)
  t.equal(open.status, 503)
  t.equal(open.headers.get('retry-after'), '1')
  drupal.faults.resetBefore = false
  stepMs = -HOUR
  t.equal((await post(call, session)).headers.get('retry-after'), '1', 'no longer than it was')
  await sleep(WAIT)
  t.equal((await post(call, session)).status, 200)
})

t.test('/readyz asks again in its time', async t => {
  const { origin, drupal } = await startGateway(t)
  const ready = async () => (await fetch(`${origin}/readyz`)).status
  t.equal(await ready(), 200)
  drupal.faults.metadataDown = true
  stepMs = -HOUR
  await sleep(WAIT)
  t.equal(await ready(), 503)
})

t.test('metadata that could not be had are asked for again in their time', async t => {
  const { origin, drupal } = await startGateway(t)
  const metadata = async () =>
    (await fetch(`${origin}/.well-known/oauth-authorization-server`)).status
  drupal.faults.metadataDown = true
  t.equal(await metadata(), 503)
  drupal.faults.metadataDown = false
  stepMs = -HOUR
  await sleep(WAIT)
  t.equal(await metadata(), 200)
})

t.test('a new key is looked for after the cooldown', async t => {
  const { drupal, initialize, post, token } = await startGateway(t, {
    env: { OAUTH_KEY_COOLDOWN: '1' }
  })
  const session = await initialize(token())
  const as = async (bearer: string) =>
    (await post(call, { ...session, authorization: `Bearer ${bearer}` })).status
  await drupal.rotateKey()
  t.equal(await as(token()), 200, 'a token had them fetched')
  await drupal.rotateKey()
  stepMs = -HOUR
  await sleep(WAIT)
  t.equal(await as(token()), 200)
})

t.test('a list of tools is kept no longer than configured', async t => {
  const { drupal, initialize, post, token } = await startGateway(t, {
    file: { drupal: { catalogueTtlSeconds: 1 } }
  })
  const session = await initialize(token())
  const listed = () => drupal.requests.filter(({ path }) => path === '/mcp/tools/list').length
  await post(message('tools/list'), session)
  const before = listed()
  t.ok(before > 0)
  await post(message('tools/list'), session)
  t.equal(listed(), before, 'kept')
  stepMs = -HOUR
  await sleep(WAIT)
  const later = { ...session, authorization: `Bearer ${token()}` }
  t.equal((await post(message('tools/list'), later)).status, 200)
  t.equal(listed(), before + 1)
})

t.test('R87 a verdict is given again no longer than OAUTH_TOKEN_CACHE_TTL', async t => {
  for (const OAUTH_VALIDATION of ['introspection', 'both']) {
    const { drupal, initialize, post } = await startGateway(t, {
      env: {
        OAUTH_VALIDATION,
        OAUTH_CLIENT_ID: 'gateway',
        OAUTH_CLIENT_SECRET: 'gateway-secret',
        OAUTH_INTROSPECTION_SCOPE: 'mcp_introspect',
        OAUTH_TOKEN_CACHE_TTL: '1'
      }
    })
    // Good before the step and after it.
    const nbf = Math.floor((wall() - 2 * HOUR) / 1000)
    const { token, jti } = drupal.mint({ claims: { nbf, iat: nbf } })
    const session = await initialize(token)
    const ping = async () => (await post(message('ping'), session)).status
    t.equal(await ping(), 200)
    stepMs = -HOUR
    drupal.revoke(jti)
    await sleep(WAIT)
    t.equal(await ping(), 401, OAUTH_VALIDATION)
    stepMs = 0
  }
})
