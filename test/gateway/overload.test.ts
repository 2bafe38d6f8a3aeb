// Drupal's workers under too much work: never more at once than they are, admitted calls keep their latency, nobody starves, the
// rest is told when to come again. Prints the overload curve and writes it to .artifacts/.
import { mkdirSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { json, startSite } from '../drupal/site.ts'
import { startBefore } from './fixtures/mcp.ts'
import { type Started, startGateway } from './fixtures/start.ts'

const WORKERS = 4
// Long, so that ten times too much is still few requests: client, gateway and Drupal share the machine.
const WORK_MS = 250
/** Calls a second that Drupal can do. */
const CAPACITY = (WORKERS * 1000) / WORK_MS
const QUEUE = 8
const SECONDS = 1.5

const unlimited = { LIMIT_SESSION: 'off', LIMIT_PRINCIPAL: 'off' }

const call = (name: string, args: object = {}) => ({
  jsonrpc: '2.0',
  id: 1,
  method: 'tools/call',
  params: { name, arguments: args }
})
const slow = call('demo.slow', { ms: WORK_MS })

interface Outcome {
  status: number
  ms: number
  retryAfter: string | null
}

async function timed(gateway: Started, session: Record<string, string>): Promise<Outcome> {
  const start = performance.now()
  const { status, headers } = await gateway.post(slow, session)
  return { status, ms: performance.now() - start, retryAfter: headers.get('retry-after') }
}

/** So many people, each with a session and a list of tools that is known. */
async function people(gateway: Started, count: number): Promise<Record<string, string>[]> {
  return Promise.all(
    Array.from({ length: count }, async (_, n) => {
      const session = await gateway.initialize(gateway.token({ claims: { sub: `person-${n}` } }))
      await gateway.post(call('site.info'), session)
      return session
    })
  )
}

/** Sends at a steady rate, whatever comes back. */
async function offer(
  gateway: Started,
  sessions: Record<string, string>[],
  perSecond: number
): Promise<Outcome[]> {
  const sent: Promise<Outcome>[] = []
  const start = performance.now()
  while (performance.now() - start < SECONDS * 1000) {
    const due = Math.ceil(((performance.now() - start) / 1000) * perSecond)
    while (sent.length < due) {
      sent.push(timed(gateway, sessions[sent.length % sessions.length] as Record<string, string>))
    }
    await new Promise(resolve => setTimeout(resolve, 2))
  }
  return Promise.all(sent)
}

function percentile(values: number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0)
}

t.test('up to ten times what Drupal can do', async t => {
  const gateway = await startGateway(t, {
    env: {
      ...unlimited,
      LOG_LEVEL: 'warn',
      DRUPAL_MAX_CONCURRENCY: String(WORKERS),
      DRUPAL_MAX_QUEUE: String(QUEUE),
      DRUPAL_QUEUE_TIMEOUT: '1'
    }
  })
  const { load } = gateway.drupal
  const sessions = await people(gateway, 10)
  const table = [
    `${WORKERS} workers, ${WORK_MS} ms a call: ${CAPACITY} calls/s; ${QUEUE} places in the queue, 1000 ms at most`,
    'offered/s   sent  admitted  refused  admitted/s   p50 ms   p99 ms   peak in Drupal'
  ]
  for (const times of [0.5, 1, 2, 5, 10]) {
    load.peak = 0
    const outcomes = await offer(gateway, sessions, CAPACITY * times)
    const admitted = outcomes.filter(({ status }) => status === 200)
    const refused = outcomes.filter(({ status }) => status === 503)
    const ms = admitted.map(outcome => outcome.ms)
    const row = [
      CAPACITY * times,
      outcomes.length,
      admitted.length,
      refused.length,
      Math.round(admitted.length / SECONDS),
      percentile(ms, 0.5),
      percentile(ms, 0.99),
      load.peak
    ]
    const widths = [9, 7, 10, 9, 12, 9, 9, 17]
    table.push(row.map((value, n) => String(value).padStart(widths[n] as number)).join(''))
    t.equal(
      admitted.length + refused.length,
      outcomes.length,
      `${times}×: answered or told to wait`
    )
    t.ok(load.peak <= WORKERS, `${times}×: Drupal’s peak is ${load.peak} of ${WORKERS}`)
    for (const { retryAfter } of refused) {
      if (!/^[1-9]\d*$/.test(retryAfter ?? '')) t.fail(`Retry-After: ${retryAfter}`)
    }
    // The wait is bounded by the queue; the rest is for a busy machine. Unbounded, ten times the load would wait 20 s.
    t.ok(
      percentile(ms, 0.5) < WORK_MS + 1000 + 3500,
      `${times}×: admitted calls keep their latency`
    )
    if (times >= 2) t.ok(admitted.length >= (CAPACITY * SECONDS) / 3, 'and Drupal is kept at work')
  }
  for (const line of table) t.comment(line)
  mkdirSync('.artifacts', { recursive: true })
  writeFileSync('.artifacts/overload.txt', `${table.join('\n')}\n`)
})

t.test('fair: one who asks for everything does not starve the others', async t => {
  const gateway = await startGateway(t, {
    env: {
      ...unlimited,
      LOG_LEVEL: 'warn',
      DRUPAL_MAX_CONCURRENCY: String(WORKERS),
      DRUPAL_MAX_QUEUE: '40',
      DRUPAL_QUEUE_TIMEOUT: '5'
    }
  })
  const [greedy, ...modest] = await people(gateway, 4)
  let over = false
  const flood = (async () => {
    const outcomes = await offer(gateway, [greedy as Record<string, string>], CAPACITY * 5)
    over = true
    return outcomes
  })()
  const calm = await Promise.all(
    modest.map(async session => {
      const outcomes: Outcome[] = []
      while (!over) outcomes.push(await timed(gateway, session))
      return outcomes
    })
  )
  const flooded = await flood
  t.ok(
    flooded.some(({ status }) => status === 503),
    'the greedy one is turned away'
  )
  for (const outcomes of calm) {
    t.ok(outcomes.length >= 3)
    t.ok(
      outcomes.every(({ status }) => status === 200),
      'the others never'
    )
  }
  const theirs = percentile(
    calm.flat().map(({ ms }) => ms),
    0.5
  )
  const its = percentile(
    flooded.filter(({ status }) => status === 200).map(({ ms }) => ms),
    0.5
  )
  t.ok(theirs < its, `they wait less: ${theirs} ms against ${its} ms`)
  t.comment(`p50 of the modest ${theirs} ms, of the greedy ${its} ms`)
})

t.test('fair: a user of two clients does not hold every worker', async t => {
  const held: (() => void)[] = []
  const tools = ['slow', 'quick'].map(name => ({ name, inputSchema: { type: 'object' } }))
  const site = await startSite(t, ({ url, body }, response) => {
    if (url.endsWith('/list')) return json(response, { tools })
    const { id } = JSON.parse(body) as { id: string }
    const answer = () => json(response, { jsonrpc: '2.0', id, result: 'done' })
    if (url.endsWith('/slow')) held.push(answer)
    else answer()
  })
  const gateway = await startBefore(t, `${site.url}/mcp/tools`, {
    DRUPAL_UPSTREAM: 'jsonrpc',
    DRUPAL_MAX_CONCURRENCY: String(WORKERS),
    DRUPAL_QUEUE_TIMEOUT: '30',
    ADMIN_PORT: '0'
  })
  const sessionOf = (sub: string, aud: string) =>
    gateway.initialize(gateway.token({ claims: { sub, aud } }))
  const greedy = await Promise.all(['one', 'two'].map(client => sessionOf('person-1', client)))
  // The list of tools is asked for first, and would wait in the same line.
  for (const session of greedy) await gateway.post(call('quick'), session)
  const calls = greedy.flatMap(session =>
    Array.from({ length: WORKERS }, () => gateway.post(call('slow'), session))
  )
  const count = async (state: string) => {
    const { body } = await gateway.gateway.admin!.inject('/metrics')
    return Number(new RegExp(`^mcp_gateway_drupal_${state}_calls (.+)$`, 'm').exec(body)?.[1])
  }
  const { length } = calls
  while ((await count('active')) + (await count('queued')) < length) {
    await new Promise(resolve => setTimeout(resolve, 5))
  }
  t.strictSame([await count('active'), await count('queued')], [WORKERS - 1, WORKERS + 1])
  const other = await gateway.post(call('quick'), await sessionOf('person-2', 'two'))
  t.match(other.json, { result: { content: [{ text: 'done' }] } }, 'another gets through')
  let left = calls.length
  const done = Promise.all(calls.map(each => each.then(() => left--)))
  while (left > 0) {
    for (const answer of held.splice(0)) answer()
    await new Promise(setImmediate)
  }
  await done
})

t.test('who waits too long is told so', async t => {
  const gateway = await startGateway(t, {
    env: { DRUPAL_MAX_CONCURRENCY: '1', DRUPAL_QUEUE_TIMEOUT: '0.1' }
  })
  const [one, two] = await people(gateway, 2)
  const long = gateway.post(call('demo.slow', { ms: 1500 }), one)
  while (gateway.drupal.load.active === 0) await new Promise(resolve => setTimeout(resolve, 5))
  const { status, headers, json } = await gateway.post(call('site.info'), two)
  t.equal(status, 503)
  t.equal(headers.get('retry-after'), '1')
  t.match(json, { id: 1, error: { code: -32603, message: /busy/ } })
  t.equal((await long).status, 200, 'the call that was admitted is not disturbed')
})

t.test('the breaker opens, probes and heals', async t => {
  for (const [name, refused, fault, env] of [
    ['resets', 502, { resetBefore: true }, {}],
    ['time-outs', 504, { slowHeadersMs: 5000 }, { DRUPAL_HEADERS_TIMEOUT: '0.5' }]
  ] as const) {
    await t.test(name, async t => {
      const gateway = await startGateway(t, {
        env: {
          ...unlimited,
          ...env,
          DRUPAL_BREAKER_FAILURES: '3',
          DRUPAL_BREAKER_OPEN: '1.5'
        }
      })
      const { drupal } = gateway
      const [session] = await people(gateway, 1)
      const info = () => gateway.post(call('site.info'), session)
      const toTools = () => drupal.requests.filter(({ path }) => path.endsWith('/site.info')).length
      Object.assign(drupal.faults, fault)
      const failed = await Promise.all([info(), info(), info()])
      for (const { status } of failed) t.equal(status, refused)
      const asked = toTools()
      for (let n = 0; n < 5; n++) {
        const { status, headers, json } = await info()
        t.equal(status, 503, 'open')
        t.match(headers.get('retry-after'), /^[12]$/)
        t.equal(json.error.code, -32603)
      }
      t.equal(toTools(), asked, 'Drupal is left alone')
      t.equal((await gateway.post({ jsonrpc: '2.0', id: 1, method: 'ping' }, session)).status, 200)

      // After the pause one call probes, whoever else is there: it fails, and the breaker opens again.
      await new Promise(resolve => setTimeout(resolve, 1600))
      const probes = (await Promise.all(Array.from({ length: 8 }, info))).map(
        ({ status }) => status
      )
      t.equal(toTools(), asked + 1, 'one probe')
      t.equal(probes.filter(status => status === 503).length, 7)

      drupal.clearFaults()
      for (;;) {
        const { status } = await info()
        if (status === 200) break
        t.equal(status, 503)
        await new Promise(resolve => setTimeout(resolve, 100))
      }
      t.strictSame(
        new Set((await Promise.all(Array.from({ length: 8 }, info))).map(({ status }) => status)),
        new Set([200]),
        'healed'
      )
      t.equal(gateway.logged.filter(line => line.includes('Drupal answers again')).length, 1)
    })
  }
})
