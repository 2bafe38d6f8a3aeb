// Does a change pay? Runs builds of the gateway and bare http-proxy in many short rounds and tells the CPU time of their quiet
// rounds: on a shared machine a few per cent show there, and drown in medians.
//
// Usage: node bench/compare.mjs BUILD BUILD… [--era legacy|modern] [--upstream jsonrpc|mcp] [--rounds 60] [--seconds 0.25]
// A build is a folder as "npm run build" makes it; copy build/ away before the change, inside the repository.
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { pause, resume } from './child.mjs'
import { withTargets } from './groups/loops.mjs'
import { compile } from './machine.mjs'
import { load, mustSucceed, spread, warm } from './measure.mjs'
import { gateway, httpProxy } from './targets.mjs'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    era: { type: 'string', default: 'legacy' },
    upstream: { type: 'string', default: 'jsonrpc' },
    rounds: { type: 'string', default: '60' },
    seconds: { type: 'string', default: '0.25' },
    connections: { type: 'string', default: '32' },
    tool: { type: 'string', default: 'article_1k' }
  }
})

compile()
const { era, upstream, tool } = values
const targets = () => [
  ...positionals.map(build => gateway(build, { era, upstream, tool, build: resolve(build) })),
  httpProxy('http-proxy', { tool })
]
await withTargets({ targets }, async started => {
  const measured = new Map(started.map(({ name }) => [name, []]))
  const options = { seconds: Number(values.seconds), connections: Number(values.connections) }
  for (const target of started) {
    await warm(target, { seconds: 60 })
    pause(target.process)
  }
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const target of round % 2 === 0 ? started : started.toReversed()) {
      resume(target.process)
      await load(target, { connections: options.connections, count: 300, seconds: 5 })
      const told = await load(target, options)
      pause(target.process)
      // A short round on a busy machine may end before the first answer.
      if (told.answers > 0) measured.get(target.name).push(mustSucceed(target, told))
    }
  }
  /** The lowest tenth: rounds in which the machine left us alone. */
  const quiet = told =>
    told.map(one => one.cpuMicros).sort((a, b) => a - b)[Math.floor(told.length / 10)]
  const show = figure =>
    `${figure.median.toFixed(2)} (${figure.min.toFixed(2)}–${figure.max.toFixed(2)})`
  for (const { name } of started) {
    const told = measured.get(name)
    const low = quiet(told)
    const parts = [
      `quiet ${low.toFixed(1)} µs`,
      `÷ ${started[0].name} ${(low / quiet(measured.get(started[0].name))).toFixed(3)}`,
      `÷ http-proxy ${(low / quiet(measured.get('http-proxy'))).toFixed(3)}`,
      `all ${show(spread(told.map(one => one.cpuMicros)))}`
    ]
    process.stdout.write(`${name.padEnd(24)} ${parts.join('   ')}\n`)
  }
  return {}
})
process.exit(0)
