// Groups of closed loops, and latency at fixed rates: starts the targets of a group, measures them in turn, tells the figures.
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort, pause, residentMegabytes, resume, start, stop } from '../child.mjs'
import { cores, has, program, workDir } from '../machine.mjs'
import { interleave, load, ratio, spread } from '../measure.mjs'
import { startSite, TICKER_SECONDS } from '../site.mjs'

const programOf = name => /^(nginx|haproxy|apache)/.exec(name)?.[1]

async function startRedis() {
  const port = await freePort()
  const args = ['--port', String(port), '--save', '', '--appendonly', 'no', '--dir', workDir]
  const started = await start({
    name: 'redis',
    command: program('redis'),
    args,
    core: cores.others,
    port
  })
  return { ...started, url: `redis://127.0.0.1:${port}/0` }
}

/**
 * Starts a site and those targets that can be; `use` gets them. Ends all of it. What is not installed is told in `skipped`.
 */
export async function withTargets({ targets, needs = [], toolCount }, use) {
  const skipped = []
  for (const name of needs) {
    if (!has(name)) return { skipped: [{ name, why: 'not installed: bench/install.sh' }] }
  }
  const site = await startSite({ toolCount })
  const redis = needs.includes('redis') ? await startRedis() : undefined
  const started = []
  try {
    for (const target of targets({ redisUrl: redis?.url })) {
      const needed = programOf(target.name)
      if (needed !== undefined && !has(needed)) {
        skipped.push({ name: target.name, why: 'not installed: bench/install.sh' })
      } else started.push(await target.start(site))
    }
    return { ...(await use(started, site)), skipped }
  } finally {
    for (const one of [...started.map(({ process }) => process), redis, site.upstream]) {
      if (one !== undefined) await stop(one)
    }
  }
}

/** One group of closed loops: rows of medians with their spread. */
export async function measureLoop(group, { rounds, seconds, tell }) {
  const { connections = 64 } = group
  return withTargets(group, async targets => {
    const measured = await interleave(targets, { rounds, seconds, connections, tell })
    const base = targets[0].name
    const rows = targets.map(target => {
      const told = measured.get(target.name)
      const of = figure => spread(told.map(one => one[figure]))
      return {
        name: target.name,
        cpuMicros: of('cpuMicros'),
        perSecond: of('perSecond'),
        toBase: ratio(measured, target.name, base),
        toHaproxy: ratio(measured, target.name, 'haproxy-rs256'),
        megabytes: residentMegabytes(target.process)
      }
    })
    return { rows, measured: Object.fromEntries(measured) }
  })
}

/** Latency at each rate, in interleaved rounds; the figures are medians over the rounds. */
export async function measureLatency(group, { rounds, seconds, tell }) {
  const settings = { rounds, seconds: seconds * group.lengthened }
  return withTargets(group, async targets => {
    const rows = []
    const measured = {}
    for (const rate of group.rates) {
      const found = await interleave(targets, { ...settings, rate, tell })
      for (const target of targets) {
        const told = found.get(target.name)
        measured[`${target.name}, ${rate}/s`] = told.map(({ latency }) => latency)
        const of = figure => spread(told.map(one => one.latency[figure]))
        rows.push({
          name: target.name,
          rate,
          p50: of('p50'),
          p99: of('p99'),
          cpuMicros: spread(told.map(one => one.cpuMicros))
        })
      }
    }
    return { rows, measured, settings }
  })
}

/** Event streams: CPU time an event, time to the first. */
export async function measureEvents(group, { rounds, seconds, tell }) {
  return withTargets(group, async targets => {
    const found = new Map(targets.map(({ name }) => [name, []]))
    const listenTo = async (target, options) => {
      resume(target.process)
      const told = await load(target, options)
      // A gateway reads the calls that were left to their end: the next round is not to pay for them.
      await sleep(TICKER_SECONDS * 1000)
      pause(target.process)
      if (told.events === 0) throw new Error(`${target.name}: no events: ${told.sample}`)
      return { ...told, cpuMicros: (told.cpuSeconds * 1e6) / told.events }
    }
    // Some 50,000 events, until the machine code is made.
    for (const target of targets) await listenTo(target, { connections: 100, seconds: 5 })
    for (let round = 1; round <= rounds; round++) {
      for (const target of targets) {
        found.get(target.name).push(await listenTo(target, { connections: 10, seconds }))
      }
      tell?.(`round ${round} of ${rounds}`)
    }
    const rows = targets.map(({ name }) => {
      const told = found.get(name)
      return {
        name,
        cpuMicros: spread(told.map(one => one.cpuMicros)),
        perSecond: spread(told.map(one => one.events / one.seconds)),
        first: spread(told.map(one => one.firstByte.p50))
      }
    })
    return { rows, measured: Object.fromEntries(found) }
  })
}
