// Can the official conformance suite tell the gateway from the server behind it? Runs every requirement set against both and
// prints what differs, check by check. In the run `clients` the suite is the server, and judges what the gateway forwards.
import { parseArgs } from 'node:util'
import { compare, tally, type Difference, type Tally } from './compare.ts'
import { runClientScenarios, runServerSuite, type Checks } from './suite.ts'
import { startDirect, startThroughGateway } from './target.ts'
import { areToolsInstalled, installHint, root } from './tools.ts'

type Way = 'direct' | 'gateway'

interface Run {
  measure: (way: Way, dir: string) => Promise<Checks>
  /** What the suite says of the everything-server and of client.ts alone: if those got worse, the comparison would be worth less. */
  direct: Tally
}

/** Scenarios in which the suite is the server and sees what a gateway forwards. Those that are about OAuth only are left out: there Drupal is the server. */
const clientScenarios = [
  ['initialize', '2025-11-25'],
  ['tools_call', '2025-11-25'],
  ['elicitation-sep1034-client-defaults', '2025-11-25'],
  ['sse-retry', '2025-11-25'],
  ['json-schema-2020-12-preservation', '2025-11-25'],
  ['tools_call', '2026-07-28'],
  ['request-metadata', '2026-07-28'],
  ['sep-2322-client-request-state', '2026-07-28'],
  ['http-standard-headers', '2026-07-28'],
  ['http-custom-headers', '2026-07-28'],
  ['http-invalid-tool-headers', '2026-07-28'],
  ['json-schema-ref-no-deref', '2026-07-28'],
  ['json-schema-2020-12-preservation', '2026-07-28']
] as const

const starters = { direct: startDirect, gateway: startThroughGateway }

// A fresh server per run: what one run leaves behind, no other run meets.
const servers = (...args: string[]) =>
  async function measure(way: Way, dir: string): Promise<Checks> {
    const target = await starters[way]()
    try {
      return await runServerSuite(target, args, dir)
    } finally {
      await target.close()
    }
  }

const runs: Record<string, Run> = {
  '2025-11-25': {
    measure: servers('--requirements', '2025-11-25'),
    direct: { passed: 84, failed: 0 }
  },
  '2026-07-28': {
    measure: servers('--requirements', '2026-07-28'),
    direct: { passed: 164, failed: 30 }
  },
  all: { measure: servers('--suite', 'all'), direct: { passed: 202, failed: 30 } },
  clients: {
    measure: (way, dir) => runClientScenarios(way, clientScenarios, dir),
    direct: { passed: 84, failed: 0 }
  }
}

const help = `Usage: conformance [--direct] [--run NAME] [-o DIR]

  --direct    nothing in front of the servers; no gateway is started
  --run NAME  one of ${Object.keys(runs).join(', ')}; default: each of them
  -o DIR      where the suite's output goes; default .artifacts/conformance

Exit codes: 0 no difference, 1 differences or other direct verdicts than there should be, 2 wrong use.
`

const say = (line: string) => process.stdout.write(`${line}\n`)

function report(name: string, direct: Tally, gateway: Tally | undefined, found: Difference[]) {
  const cell = (counts: Tally | undefined) =>
    (counts ? `${counts.passed} passed, ${counts.failed} failed` : '–').padEnd(24)
  const last = gateway ? String(found.length) : '–'
  say(`${name.padEnd(12)}${cell(direct)}${cell(gateway)}${last}`)
}

function explain({ scenario, check, direct, gateway, reason }: Difference): void {
  say(`  ${scenario}: ${check}\n    direct ${direct}, through the gateway ${gateway}`)
  if (reason) say(`    ${reason.slice(0, 300)}`)
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      direct: { type: 'boolean' },
      run: { type: 'string' },
      'output-dir': { type: 'string', short: 'o' },
      help: { type: 'boolean', short: 'h' }
    }
  })
  const names = Object.keys(runs).filter(name => values.run === undefined || name === values.run)
  if (values.help || names.length === 0) {
    say(help)
    return values.help ? 0 : 2
  }
  if (!areToolsInstalled()) {
    say(installHint)
    return 2
  }
  const dir = values['output-dir'] ?? `${root}.artifacts/conformance`
  let isGood = true
  say(`${'run'.padEnd(12)}${'direct'.padEnd(24)}${'through the gateway'.padEnd(24)}differences`)
  for (const name of names) {
    const { measure, direct: due } = runs[name] as Run
    const direct = await measure('direct', `${dir}/${name}-direct`)
    const counts = tally(direct)
    if (counts.passed !== due.passed || counts.failed !== due.failed) {
      say(`  ${name}: direct there should be ${due.passed} passed, ${due.failed} failed`)
      isGood = false
    }
    if (values.direct) {
      report(name, counts, undefined, [])
      continue
    }
    const gateway = await measure('gateway', `${dir}/${name}-gateway`)
    const found = compare(direct, gateway)
    report(name, counts, tally(gateway), found)
    found.forEach(explain)
    if (found.length > 0) isGood = false
  }
  return isGood ? 0 : 1
}

process.exitCode = await main()
