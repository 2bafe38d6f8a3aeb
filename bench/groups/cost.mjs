// What the gateway holds and how fast it starts: sessions, known tokens, open streams, the first answer.
import { setTimeout as sleep } from 'node:timers/promises'
import { sessionCalls, tokenCalls } from '../callers.mjs'
import { freePort, residentMegabytes, stop } from '../child.mjs'
import { load, mustSucceed, spread } from '../measure.mjs'
import { keptMegabytes, startMeasurable } from '../memory.mjs'
import { initialize, listen, writeRequests } from '../requests.mjs'
import { startSite } from '../site.mjs'
import { startGateway } from '../targets.mjs'

const megabytes = (from, to) => `${Math.max(0, to - from).toFixed(1)} MB`

/** What is kept more after every request of `list` was answered once than after a few thousand of one caller. */
async function kept(site, what, makeList, { must, goal }) {
  const target = await startMeasurable(site, { name: `kept ${what}` })
  try {
    const list = await makeList(target.port)
    const few = writeRequests('few', list.slice(0, 8))
    const many = writeRequests('many', list)
    mustSucceed(target, await load(target, { file: few, count: 5000, seconds: 60, connections: 8 }))
    const before = await keptMegabytes(target)
    mustSucceed(
      target,
      await load(target, { file: many, count: list.length, seconds: 300, connections: 32 })
    )
    const after = await keptMegabytes(target)
    const found = after - before
    return {
      what: `${list.length.toLocaleString('en')} ${what}`,
      found: megabytes(before, after),
      must: `≤ ${must} MB`,
      goal: `≤ ${goal} MB`,
      kept: found <= must
    }
  } finally {
    await stop(target.process)
  }
}

/** Resident memory a stream, while `count` are open. */
async function streams(site, count) {
  const target = await startMeasurable(site, { name: 'streams', upstream: 'mcp' })
  try {
    const token = site.token()
    const session = await initialize({ port: target.port, token })
    const file = writeRequests('streams', [listen({ port: target.port, token, session })])
    const few = load(target, { file, connections: 10, seconds: 3 })
    await sleep(1500)
    await few
    const before = residentMegabytes(target.process)
    const open = load(target, { file, connections: count, seconds: 12 })
    await sleep(8000)
    const perStream = ((residentMegabytes(target.process) - before) * 1000) / count
    const told = await open
    if (told.failures > 0) throw new Error(`streams: ${told.sample}`)
    return {
      what: `${count.toLocaleString('en')} open streams, each`,
      found: `${perStream.toFixed(0)} KB`,
      must: '≤ 100 KB',
      goal: '≤ 50 KB',
      kept: perStream <= 100
    }
  } finally {
    await stop(target.process)
  }
}

/** Milliseconds from the start of the process to the first 200 on a call that needs keys and a token. */
async function coldStart(site) {
  const port = await freePort()
  const token = site.token()
  const from = performance.now()
  const starting = startGateway(site, { name: 'cold start', at: port })
  let took
  while (took === undefined) {
    try {
      await initialize({ port, token })
      took = performance.now() - from
    } catch {
      await sleep(3)
    }
    if (performance.now() - from > 30_000) throw new Error('no first 200 within 30 s')
  }
  await stop(await starting)
  return took
}

export async function measureCost(_group, { rounds, quick, tell }) {
  const site = await startSite()
  const rows = []
  try {
    const times = []
    for (let round = 0; round < Math.min(rounds, 5); round++) times.push(await coldStart(site))
    const { median, min, max } = spread(times)
    const ms = value => `${Math.round(value)} ms`
    const found = `${ms(median)} (${ms(min)}–${ms(max)})`
    const start = { must: '≤ 1,200 ms', goal: '≤ 500 ms', kept: median <= 1200 }
    rows.push({ what: 'cold start to the first 200', found, ...start })
    tell?.('cold start')
    const count = quick ? 1000 : 10_000
    const sessions = port => sessionCalls(site, port, count)
    rows.push(await kept(site, 'sessions', sessions, { must: 40, goal: 5 }))
    tell?.('sessions')
    const tokens = port => tokenCalls(site, port, count)
    rows.push(await kept(site, 'known tokens', tokens, { must: 40, goal: 20 }))
    tell?.('tokens')
    rows.push(await streams(site, quick ? 100 : 1000))
    return { rows }
  } finally {
    await stop(site.upstream)
  }
}
