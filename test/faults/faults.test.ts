// The fault suite: the site, the network to it and Redis fail in every way that docs/architecture.md and docs/runbooks.md name, while calls run.
// Every call is answered or refused with a reason; none is lost, none gets another's answer, and all heals by itself.
// Prints a table and writes it to .artifacts/faults.txt.
import t from 'tap'
import { startDrupal } from '../../src/demo/double.ts'
import type { Faults } from '../../src/demo/faults.ts'
import { redisMissing, startRedis } from '../fixtures/redis.ts'
import { startGateway } from '../gateway/fixtures/start.ts'
import { startFaultProxy } from './fixtures/fault-proxy.ts'
import { echo } from './fixtures/load.ts'
import {
  callersOf,
  CALLERS,
  env,
  type Expected,
  isQuiet,
  isRefusedAs,
  patient,
  play,
  playNetwork,
  reportFaults
} from './fixtures/play.ts'

reportFaults(t, 'faults')

const prompt: [string, Partial<Faults>, Expected][] = [
  ['maintenance mode', { maintenance: true }, ['503']],
  ['flood control', { flood: 1 }, ['429']],
  ['HTML instead of JSON', { html200: true }, ['502']],
  ['redirect to the login', { redirectLogin: true }, ['502']],
  ['redirect to another host', { redirectHost: true }, ['502']],
  ['401 for every token', { unauthorized: true }, ['401']],
  ['403', { status: 403 }, ['200 403']],
  ['routes are missing', { missingRoutes: new Set([echo.name]) }, ['200 -32603']],
  ['404', { status: 404 }, ['200 -32603', '502']],
  ['500', { status: 500 }, ['502']],
  ['502', { status: 502 }, ['502', '503']],
  ['504', { status: 504 }, ['504', '503']],
  ['no body', { emptyBody: true }, ['502']],
  ['half a body', { halfBody: true }, ['502', '503']],
  ['reset before the first byte', { resetBefore: true }, ['502', '503']],
  ['reset after the first byte', { resetAfterFirstByte: true }, ['502', '503']],
  ['a huge body', { hugeBody: 1_000_000 }, ['502']],
  ['wrong content type', { wrongContentType: true }, ['502']],
  ['no JSON-RPC', { invalidJsonRpc: true }, ['502']],
  ['an answer for another id', { otherId: true }, ['502']]
]
const slow: [string, Partial<Faults>, Expected][] = [
  ['slow headers', { slowHeadersMs: 2000 }, ['504', '503']],
  ['slow body', { slowBodyMs: 2000 }, ['504', '503']]
]

for (const [title, timeouts, faults] of [
  ['the site', patient, prompt],
  ['the site is slow', env, slow]
] as const)
  t.test(title, async t => {
    const gateway = await startGateway(t, { env: timeouts, drupal: { extraTools: [echo] } })
    const { drupal } = gateway
    const callers = callersOf(gateway, drupal)
    for (const [name, switches, expected] of faults) {
      const tally = await play(
        t,
        name,
        callers,
        () => void Object.assign(drupal.faults, switches),
        drupal.clearFaults
      )
      isRefusedAs(t, name, tally, expected)
    }
    isQuiet(t, gateway)
  })

for (const [title, timeouts] of [
  ['the network is odd', patient],
  ['the network breaks', env]
] as const)
  t.test(title, async t => {
    const drupal = await startDrupal({ extraTools: [echo] })
    t.teardown(() => drupal.close())
    const proxy = await startFaultProxy(t, drupal.port)
    const gateway = await startGateway(t, { env: { ...timeouts, DRUPAL_URL: proxy.url }, drupal })
    await playNetwork(t, proxy, callersOf(gateway, drupal), timeouts)
    isQuiet(t, gateway)
  })

t.test('Redis', { skip: redisMissing() }, async t => {
  const redis = await startRedis(t)
  const gateway = await startGateway(t, {
    env: { ...env, REDIS_URL: redis.url, LIMIT_PRINCIPAL: '100000/1m' },
    drupal: { extraTools: [echo] }
  })
  const callers = callersOf(gateway, gateway.drupal)
  for (const [name, begin, end] of [
    ['Redis is killed', redis.kill, redis.start],
    ['Redis hangs', redis.hang, redis.wake]
  ] as const) {
    const tally = await play(t, name, callers, begin, end)
    t.strictSame([...tally.refused.keys()], ['503'], `${name}: sessions cannot be checked`)
    t.ok(tally.answered >= CALLERS, `${name}: calls without a session go on`)
  }
  isQuiet(t, gateway)
})
