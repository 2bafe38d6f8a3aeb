// The fault suite: the site, the network to it and Redis fail in every way that architecture §5 and §7 name, while calls run.
// Every call is answered or refused with a reason; none is lost, none gets another's answer, and all heals by itself.
// Prints a table and writes it to .artifacts/faults.txt.
import { mkdirSync, writeFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { startDrupal } from '../../src/demo/double.ts'
import type { Faults } from '../../src/demo/faults.ts'
import { redisMissing, startRedis } from '../fixtures/redis.ts'
import { type Started, startGateway } from '../gateway/fixtures/start.ts'
import { startFaultProxy, type Trouble } from './fixtures/fault-proxy.ts'
import { asTable, type Caller, createCaller, echo, newTally, type Tally } from './fixtures/load.ts'

const CALLERS = 8
const CALLS_EACH = 2
const CALL_TIMEOUT_MS = 800

const rows: { fault: string; tally: Tally; healedMs: number }[] = []

const env = {
  LIMIT_SESSION: 'off',
  LIMIT_PRINCIPAL: 'off',
  LIMIT_FAILURES: 'off',
  CATALOGUE_TTL: '1',
  DRUPAL_CONNECT_TIMEOUT: '0.4',
  DRUPAL_HEADERS_TIMEOUT: '0.4',
  DRUPAL_CALL_TIMEOUT: String(CALL_TIMEOUT_MS / 1000),
  DRUPAL_QUEUE_TIMEOUT: '0.5',
  DRUPAL_BREAKER_FAILURES: '12',
  DRUPAL_BREAKER_OPEN: '0.1',
  DRUPAL_MAX_RESPONSE_BYTES: '100000'
}

function callersOf(gateway: Started, drupal: Started['drupal']): Caller[] {
  return Array.from({ length: CALLERS }, (_, n) =>
    createCaller(gateway, drupal, {
      n,
      uid: n % 2 === 0 ? 2 : 3,
      era: n % 4 < 2 ? 'legacy' : 'modern'
    })
  )
}

/** Plays one fault while everybody calls. */
async function play(
  t: Test,
  fault: string,
  callers: Caller[],
  begin: () => Promise<void> | void,
  end: () => Promise<void> | void
): Promise<Tally> {
  const tally = newTally()
  const everybody = (times: number) =>
    Promise.all(
      callers.map(async caller => {
        for (let n = 0; n < times; n++) await caller.call(tally)
      })
    )
  // The fault comes while calls are on their way.
  const before = everybody(2)
  while (tally.answered < CALLERS / 2) await new Promise(resolve => setImmediate(resolve))
  await begin()
  await before
  await everybody(CALLS_EACH)
  await end()
  const since = performance.now()
  const healing = newTally()
  const heal = async (caller: Caller) => {
    while (!(await caller.call(healing))) {
      if (performance.now() - since > 30_000) throw new Error(`${fault}: did not heal`)
      await new Promise(resolve => setTimeout(resolve, 20))
    }
  }
  await Promise.all(callers.map(heal))
  tally.lost.push(...healing.lost)
  tally.crossed.push(...healing.crossed)
  rows.push({ fault, tally, healedMs: performance.now() - since })
  t.same(tally.lost, [], `${fault}: no call is lost`)
  t.same(tally.crossed, [], `${fault}: no answer is another’s`)
  return tally
}

/** What a fault must lead to, beside calls that were answered before it came. */
type Expected = readonly string[]

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
    const others = [...tally.refused.keys()].filter(status => !expected.includes(status))
    t.same(others, [], `${name}: refused as it should be`)
    t.ok(tally.refused.size > 0, `${name}: it was played`)
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

t.teardown(() => {
  const table = asTable(rows)
  for (const line of table) process.stdout.write(`# ${line}\n`)
  mkdirSync('.artifacts', { recursive: true })
  writeFileSync('.artifacts/faults.txt', `${table.join('\n')}\n`)
})

/** No exception came out of all this, and nothing was written that nobody foresaw. */
function isQuiet(t: Test, { logged }: Started): void {
  const uncaught = logged.filter(line => /"level":"?(error|fatal|50|60)/.test(line))
  t.same(uncaught, [], 'no uncaught error')
}
