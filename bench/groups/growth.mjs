// How cost grows: CPU time and memory by the number of sessions, of known tokens, of tools and of open streams.
import { setTimeout as sleep } from 'node:timers/promises'
import { sessionCalls, tokenCalls } from '../callers.mjs'
import { stop } from '../child.mjs'
import { load, mustSucceed, spread, warm } from '../measure.mjs'
import { keptMegabytes, startMeasurable } from '../memory.mjs'
import { initialize, listen, message, writeRequests } from '../requests.mjs'
import { startSite } from '../site.mjs'

const counts = { full: [10, 100, 1000, 10_000, 100_000], quick: [10, 1000] }
const streamCounts = { full: [1, 10, 100, 1000], quick: [1, 100] }
const toolCounts = { full: [10, 100, 1000, 10_000], quick: [10, 1000] }

/** The CPU time of a call, in a few loads. */
async function cost(target, file, { rounds, seconds }) {
  const found = []
  for (let round = 0; round < rounds; round++) {
    found.push(mustSucceed(target, await load(target, { file, seconds })).cpuMicros)
  }
  return spread(found).median
}

/** One gateway; ever more callers of one kind, each seen once before the loads. */
async function byCallers(site, { what, head, make, env, settings, limits }) {
  const target = await startMeasurable(site, { name: `growth ${what}`, env })
  try {
    const points = []
    for (const count of limits) {
      const file = writeRequests('growth', await make(target.port, count))
      if (points.length === 0) await warm({ ...target, file })
      const once = { file, count: Math.max(count, 5000), seconds: 300 }
      mustSucceed(target, await load(target, once))
      points.push([
        count.toLocaleString('en'),
        await cost(target, file, settings),
        await keptMegabytes(target)
      ])
      settings.tell?.(`${count} ${what}`)
    }
    return { what: head, head: [what, 'CPU µs a call', 'MB kept'], points }
  } finally {
    await stop(target.process)
  }
}

/** A site of `count` tools: a call, and the list. */
async function byTools(settings) {
  const points = []
  for (const count of settings.quick ? toolCounts.quick : toolCounts.full) {
    const site = await startSite({ toolCount: count })
    const target = await startMeasurable(site, { name: `growth ${count} tools` })
    try {
      const token = site.token()
      const call = { port: target.port, token, id: 1, era: 'modern' }
      const small = writeRequests('tool', [
        message({ ...call, method: 'tools/call', name: 'article_1k' })
      ])
      const list = writeRequests('list', [message({ ...call, method: 'tools/list' })])
      await warm({ ...target, file: small })
      await warm({ ...target, file: list }, { count: 3000 })
      const listed = await cost(target, list, settings)
      points.push([
        count.toLocaleString('en'),
        await cost(target, small, settings),
        listed,
        await keptMegabytes(target)
      ])
      settings.tell?.(`${count} tools`)
    } finally {
      await stop(target.process)
      await stop(site.upstream)
    }
  }
  const head = ['tools', 'CPU µs a call', 'CPU µs a list', 'MB kept']
  return {
    what: 'By the number of tools that the site lists (the gateway keeps at most 5,000).',
    head,
    points
  }
}

/** A call, while `count` clients listen for news that do not come. */
async function byStreams(site, settings) {
  const target = await startMeasurable(site, { name: 'growth streams', upstream: 'mcp' })
  try {
    const { port } = target
    const token = site.token()
    const caller = { port, token, session: await initialize({ port, token }) }
    const stream = writeRequests('growth-stream', [listen(caller)])
    const call = { ...caller, id: 1, era: 'legacy', method: 'tools/call', name: 'article_1k' }
    const calls = writeRequests('growth-call', [message(call)])
    await warm({ ...target, file: calls })
    const points = []
    for (const count of settings.quick ? streamCounts.quick : streamCounts.full) {
      const seconds = settings.rounds * settings.seconds + 8
      const open = load(target, { file: stream, connections: count, seconds })
      await sleep(3000)
      const micros = await cost(target, calls, settings)
      points.push([count.toLocaleString('en'), micros, await keptMegabytes(target)])
      const { failures, sample } = await open
      if (failures > 0) throw new Error(`streams: ${sample}`)
      settings.tell?.(`${count} streams`)
    }
    const head = ['open streams', 'CPU µs a call', 'MB kept']
    return { what: 'By the number of open streams, mcp upstream.', head, points }
  } finally {
    await stop(target.process)
  }
}

export async function measureGrowth(_group, options) {
  const settings = { ...options, rounds: Math.min(options.rounds, 3) }
  const limits = settings.quick ? counts.quick : counts.full
  const site = await startSite()
  try {
    const sessions = {
      what: 'sessions',
      head: 'By the number of sessions in use, one caller.',
      make: (port, count) => sessionCalls(site, port, count)
    }
    const tokens = {
      what: 'tokens',
      head: 'By the number of known tokens, each of another user (room for 100,000 verdicts; the default is 10,000).',
      env: { OAUTH_TOKEN_CACHE_ENTRIES: '100000' },
      make: (port, count) => tokenCalls(site, port, count)
    }
    const curves = [
      await byCallers(site, { ...sessions, limits, settings }),
      await byCallers(site, { ...tokens, limits, settings }),
      await byTools(settings),
      await byStreams(site, settings)
    ]
    return { curves }
  } finally {
    await stop(site.upstream)
  }
}
