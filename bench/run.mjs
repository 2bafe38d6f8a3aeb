// The benchmark: runs the groups that are asked for, keeps what they found, writes RESULTS.md and judges the goals.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { bytesPerCall } from './allocations.mjs'
import { measureCost } from './groups/cost.mjs'
import { measureGrowth } from './groups/growth.mjs'
import { measureEvents, measureLatency, measureLoop, withTargets } from './groups/loops.mjs'
import { measureOverload } from './groups/overload.mjs'
import { measureSoak } from './groups/soak.mjs'
import { compile, describeMachine, root, workDir } from './machine.mjs'
import { events, gate, goals, latency, loops, overload } from './plan.mjs'
import { judge, tellGroup, writeResults } from './results.mjs'

const groups = {
  ...Object.fromEntries(Object.entries(loops).map(([name, group]) => [name, [group, measureLoop]])),
  latency: [latency, measureLatency],
  events: [events, measureEvents],
  overload: [overload, measureOverload],
  cost: [{ title: 'Memory and start' }, measureCost],
  growth: [{ title: 'How cost grows' }, measureGrowth],
  soak: [{ title: 'Soak' }, measureSoak]
}

const help = `Usage: npm run bench -- [options]

Measures the gateway beside its peers and writes bench/RESULTS.md. Without options every group is run in full, which takes
about two hours; latency is half of that. What it needs from Debian and npm: bench/install.sh

Options:
  --only A,B    these groups: ${Object.keys(groups).join(', ')}
  --rounds N    interleaved rounds (default 8)
  --seconds S   length of one load (default 3)
  --minutes M   length of the soak (default 10)
  --short       fewer and shorter rounds, to see that everything runs; RESULTS.md is not written
  --gate        the regression gate: under 2 minutes, ends with 1 when the gateway costs more than it must
  --help        this text
`

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    minutes: { type: 'string' },
    short: { type: 'boolean', default: false },
    gate: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false }
  }
})
if (values.help) {
  process.stdout.write(help)
  process.exit(0)
}

const quick = values.short || values.gate
const settings = {
  rounds: Number(values.rounds ?? (values.gate ? 7 : values.short ? 2 : 8)),
  seconds: Number(values.seconds ?? (quick ? 1.5 : 3)),
  minutes: Number(values.minutes ?? (quick ? 0.5 : 10)),
  quick,
  tell: text => process.stderr.write(`\r  ${text}   `)
}

async function runGate() {
  const relay = await measureLoop({ ...loops.relay, ...gate }, settings)
  process.stdout.write(`\n${tellGroup('gate', relay)}`)
  const broken = judge({ relay }, gate.limits)
    .filter(({ kept }) => kept === false)
    .map(({ text }) => text)
  await withTargets(gate.allocations, async targets => {
    for (const target of targets) {
      const most = gate.kilobytes[target.name]
      const kilobytes = (await bytesPerCall(target)) / 1000
      const text = `${target.name}: ${kilobytes.toFixed(1)} KB made a call (must be ≤ ${most})`
      process.stdout.write(`${text}\n`)
      // Not "greater": it may be no number.
      if (!(kilobytes <= most)) broken.push(text)
    }
    return {}
  })
  for (const text of broken) process.stdout.write(`BROKEN: ${text}\n`)
  return broken.length === 0 ? 0 : 1
}

async function runGroups() {
  const names = values.only?.split(',') ?? Object.keys(groups)
  const unknown = names.filter(name => groups[name] === undefined)
  if (unknown.length > 0) throw new Error(`No such group: ${unknown.join(', ')}. See --help.`)
  const kept = `${workDir}/${quick ? 'short' : 'results'}`
  mkdirSync(kept, { recursive: true })
  for (const name of names) {
    const [group, measure] = groups[name]
    process.stderr.write(`${name}: ${group.title}\n`)
    const found = await measure(group, settings)
    const { title, text } = group
    const result = {
      name,
      title,
      text,
      at: new Date().toISOString(),
      settings,
      machine: describeMachine(),
      ...found
    }
    writeFileSync(`${kept}/${name}.json`, JSON.stringify(result))
    process.stdout.write(`\n${tellGroup(name, result)}\n`)
  }
  const results = {}
  for (const name of Object.keys(groups)) {
    if (readdirSync(kept).includes(`${name}.json`)) {
      results[name] = JSON.parse(readFileSync(`${kept}/${name}.json`, 'utf8'))
    }
  }
  const page = writeResults(results, goals, readFileSync(`${root}bench/findings.md`, 'utf8'))
  if (quick) return 0
  writeFileSync(`${root}bench/RESULTS.md`, page)
  process.stderr.write('bench/RESULTS.md is written\n')
  return 0
}

compile()
process.exit(await (values.gate ? runGate() : runGroups()))
