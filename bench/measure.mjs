// How to measure: loads in interleaved rounds, CPU time per answer, medians with their spread, ratios inside one round.
import { execFile } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { cpuSeconds, pause, resume } from './child.mjs'
import { cores, workDir } from './machine.mjs'

const run = promisify(execFile)

/** One load; answers what load.c prints, and the CPU time of the process under it. */
export async function load(target, options = {}) {
  const { connections = 64, seconds = 2, rate = 0, count = 0, file = target.file } = options
  const args = [target.port, file, connections, seconds, rate, count].map(String)
  const before = cpuSeconds(target.process)
  const { stdout } = await run('taskset', ['-c', String(cores.others), `${workDir}/load`, ...args])
  const cpu = cpuSeconds(target.process) - before
  const told = JSON.parse(stdout)
  return {
    ...told,
    cpuMicros: (cpu * 1e6) / Math.max(1, told.answers),
    cpuSeconds: cpu,
    perSecond: told.answers / told.seconds
  }
}

/** Throws when anything but success came back: a fast refusal is no result. */
export function mustSucceed(target, told) {
  if (told.failures > 0 || told.answers === 0) {
    const what = `${told.failures} of ${told.answers} answers failed: ${told.sample}`
    throw new Error(`${target.name}: ${what}; its log is ${target.process.log}`)
  }
  return told
}

const sorted = values => [...values].sort((a, b) => a - b)

/** The median, with the least and the greatest. */
export function spread(values) {
  const all = sorted(values)
  const middle = all.length >> 1
  const median = all.length % 2 === 1 ? all[middle] : (all[middle - 1] + all[middle]) / 2
  return { median, min: all[0], max: all.at(-1), low: all[all.length >> 2] }
}

/**
 * Sends calls until the machine code is made: V8 compiles on threads of its own for some 20,000 calls, and that time is the
 * process's too (a third of what a call seems to cost, at first).
 */
export async function warm(target, { connections, seconds = 15, count = 30_000 } = {}) {
  resume(target.process)
  return mustSucceed(target, await load(target, { connections, seconds, count }))
}

/** One load of a target that was paused: awake, in its stride again, measured, and paused. */
export async function measureAlone(target, options) {
  resume(target.process)
  // What an idle process has put off comes first: at a fixed rate it would be somebody's latency. V8 shrinks a heap that was idle
  // some seconds after it has woken up.
  const stride =
    options.rate > 0 ? { rate: options.rate, seconds: 12 } : { count: 1000, seconds: 5 }
  for (let tries = 0; tries < 10; tries++) {
    const { failures } = await load(target, { connections: options.connections, ...stride })
    if (failures === 0) break
    // Time went by while it was paused: it takes its Redis for dead, and asks again.
    await sleep(500)
  }
  const told = mustSucceed(target, await load(target, options))
  pause(target.process)
  return told
}

/** Rounds of one load a target each, in turn, once all are warm. Answers the rounds by target. */
export async function interleave(targets, { rounds, tell, ...options }) {
  const found = new Map(targets.map(target => [target.name, []]))
  for (const target of targets) {
    tell?.(`warming up ${target.name}`)
    await warm(target, { connections: options.connections })
    pause(target.process)
  }
  for (let round = 0; round < rounds; round++) {
    // Every other round backwards, so that nobody always runs after the same neighbour.
    for (const target of round % 2 === 0 ? targets : targets.toReversed()) {
      found.get(target.name).push(await measureAlone(target, options))
    }
    tell?.(`round ${round + 1} of ${rounds}`)
  }
  return found
}

/** What a figure of one target is to that of another, round by round. */
export function ratio(rounds, name, base, figure = 'cpuMicros') {
  const under = rounds.get(base)
  const over = rounds.get(name)
  if (under === undefined || over === undefined) return undefined
  return spread(over.map((told, index) => told[figure] / under[index][figure]))
}
