// The fault suite: the site, the network to it and Redis fail in every way that architecture §5 and §7 name, while calls run.
// Every call is answered or refused with a reason; none is lost, none gets another's answer, and all heals by itself.
// Prints a table and writes it to .artifacts/faults.txt.
import t from 'tap'
import { startDrupal } from '../../src/demo/double.ts'
import type { Faults } from '../../src/demo/faults.ts'
import { redisMissing, startRedis } from '../fixtures/redis.ts'
import { startGateway } from '../gateway/fixtures/start.ts'
import { startFaultProxy, type Trouble } from './fixtures/fault-proxy.ts'
import { echo } from './fixtures/load.ts'
import {
  CALL_TIMEOUT_MS,
  callersOf,
  CALLERS,
  env,
  type Expected,
  isQuiet,
  isRefusedAs,
  play,
  reportFaults
} from './fixtures/play.ts'

reportFaults(t, 'faults')

t.test('the site', async t => {
  const gateway = await startGateway(t, { env, drupal: { extraTools: [echo] } })
  const { drupal } = gateway
  const callers = callersOf(gateway, drupal)
  const faults: [string, Partial<Faults>, Expected][] = [
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
    ['slow headers', { slowHeadersMs: 2000 }, ['504', '503']],
    ['slow body', { slowBodyMs: 2000 }, ['504', '503']],
    ['reset before the first byte', { resetBefore: true }, ['502', '503']],
    ['reset after the first byte', { resetAfterFirstByte: true }, ['502', '503']],
    ['a huge body', { hugeBody: 1_000_000 }, ['502']],
    ['wrong content type', { wrongContentType: true }, ['502']],
    ['no JSON-RPC', { invalidJsonRpc: true }, ['502']],
    ['an answer for another id', { otherId: true }, ['502']]
  ]
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

t.test('the network', async t => {
  const drupal = await startDrupal({ extraTools: [echo] })
  t.teardown(() => drupal.close())
  const proxy = await startFaultProxy(t, drupal.port)
  const gateway = await startGateway(t, { env: { ...env, DRUPAL_URL: proxy.url }, drupal })
  const callers = callersOf(gateway, drupal)
  const troubles: [Trouble, boolean][] = [
    ['latency', false],
    ['one byte a packet', false],
    ['closed after each answer', false],
    ['reset', true],
    ['reset midway', true],
    ['truncation', true],
    ['half-open', true],
    ['black hole', true],
    ['slow drip', true],
    ['garbage', true],
    ['refused', true]
  ]
  for (const [trouble, isFatal] of troubles) {
    const tally = await play(
      t,
      trouble,
      callers,
      () => proxy.set(trouble),
      () => proxy.set('none')
    )
    if (isFatal) t.ok(tally.refused.size > 0, `${trouble}: it was played`)
    const others = [...tally.refused.keys()].filter(s => !['502', '503', '504'].includes(s))
    t.same(others, [], `${trouble}: refused as it should be`)
    // One list of tools and one call, each within its time; the rest of the bound is for a busy machine.
    t.ok(tally.longestMs < 4 * CALL_TIMEOUT_MS + 3000, `${trouble}: every call ends in time`)
  }
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
    t.same([...tally.refused.keys()], ['503'], `${name}: sessions cannot be checked`)
    t.ok(tally.answered >= CALLERS, `${name}: calls without a session go on`)
  }
  isQuiet(t, gateway)
})
