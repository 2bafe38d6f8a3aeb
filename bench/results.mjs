// The results page: tables of what was found, the goals and whether they are met. It refuses to measure.

import { spread } from './measure.mjs'

const digits = value =>
  value >= 100
    ? Math.round(value).toLocaleString('en')
    : value >= 10
      ? value.toFixed(1)
      : value.toFixed(2)

/** "median (min–max)". */
const ranged = figure =>
  figure === undefined
    ? ''
    : `${digits(figure.median)} (${digits(figure.min)}–${digits(figure.max)})`

function table(head, rows) {
  const line = cells => `| ${cells.join(' | ')} |\n`
  return line(head) + line(head.map(() => '---')) + rows.map(line).join('')
}

function loopTable({ rows }) {
  const [base] = rows
  const haproxy = rows.some(row => row.toHaproxy !== undefined)
  const head = [
    'who',
    'CPU µs a request',
    'requests/s',
    `÷ ${base.name}`,
    ...(haproxy ? ['÷ HAProxy RS256'] : []),
    'MB'
  ]
  return table(
    head,
    rows.map(row => [
      row.name,
      ranged(row.cpuMicros),
      digits(row.perSecond.median),
      ranged(row.toBase),
      ...(haproxy ? [ranged(row.toHaproxy)] : []),
      digits(row.megabytes)
    ])
  )
}

const latencyTable = ({ rows }) =>
  table(
    ['who', 'rate', 'p50', 'p99', 'CPU µs a request'],
    rows.map(row => [
      row.name,
      `${row.rate}/s`,
      ranged(row.p50),
      ranged(row.p99),
      ranged(row.cpuMicros)
    ])
  )

const eventTable = ({ rows }) =>
  table(
    ['who', 'CPU µs an event', 'events/s', 'first event, µs'],
    rows.map(row => [
      row.name,
      ranged(row.cpuMicros),
      digits(row.perSecond.median),
      ranged(row.first)
    ])
  )

const figureTable = ({ rows }) =>
  table(
    ['what', 'found', 'must', 'goal', ''],
    rows.map(row => [
      row.what,
      row.found,
      row.must ?? '',
      row.goal ?? '',
      row.kept === undefined ? '' : row.kept ? 'met' : '**missed**'
    ])
  )

const curveTable = ({ curves }) =>
  curves
    .map(
      ({ what, head, points }) =>
        `${what}\n\n${table(
          head,
          points.map(point =>
            point.map(value => (typeof value === 'number' ? digits(value) : value))
          )
        )}`
    )
    .join('\n')

const tables = {
  latency: latencyTable,
  events: eventTable,
  cost: figureTable,
  growth: curveTable,
  overload: curveTable,
  soak: figureTable
}

/** One group as Markdown. */
export function tellGroup(name, result) {
  const has = result.rows?.length > 0 || result.curves?.length > 0
  const body = has ? (tables[name] ?? loopTable)(result) : ''
  const skipped = (result.skipped ?? []).map(
    ({ name: who, why }) => `- not measured: ${who} (${why})\n`
  )
  return `${body}${skipped.length > 0 ? `\n${skipped.join('')}` : ''}`
}

/** Every goal with the ratio that was found, where both sides were measured. `kept`: whether the must holds. */
export function judge(results, goals) {
  const found = []
  for (const { group, who, base, figure = 'cpuMicros', must, goal } of goals) {
    const rounds = results[group]?.measured
    if (rounds?.[who] === undefined || rounds[base] === undefined) continue
    const ratios = rounds[who].map((told, index) => told[figure] / rounds[base][index][figure])
    const ratio = spread(ratios).median
    const wanted = [must && `must be ≤ ${must}`, goal && `goal ≤ ${goal}`]
      .filter(Boolean)
      .join(', ')
    found.push({
      group: results[group].title,
      text: `${who}: ${ratio.toFixed(2)} × ${base} (${wanted})`,
      figure,
      ratio,
      must,
      goal,
      who,
      base,
      kept: must === undefined ? undefined : ratio <= must,
      reached: goal === undefined ? undefined : ratio <= goal
    })
  }
  return found
}

function goalTable(results, goals) {
  const word = value => (value === undefined ? '' : value ? 'met' : '**missed**')
  return table(
    ['what', 'who', 'beside', 'figure', 'ratio', 'must', '', 'goal', ''],
    judge(results, goals).map(one => [
      one.group ?? '',
      one.who,
      one.base,
      one.figure === 'cpuMicros' ? 'CPU' : one.figure,
      digits(one.ratio),
      one.must === undefined ? '' : `≤ ${one.must}`,
      word(one.kept),
      one.goal === undefined ? '' : `≤ ${one.goal}`,
      word(one.reached)
    ])
  )
}

/** The whole page. `findings` is what people wrote about it. */
export function writeResults(results, goals, findings) {
  const parts = [
    '# What the gateway costs\n\nWritten by `npm run bench`; do not edit (the findings at the end come from `bench/findings.md`). ' +
      'The figure that counts is the CPU time of the measured process a request (user and system, from /proc): it is steady on ' +
      'a shared machine, and throughput follows it. The measured process has core 0, load generator and stand-in have core 1. ' +
      'Medians of interleaved rounds, with the least and the greatest. Compare ratios inside one table; absolute figures hold ' +
      'for one machine.\n',
    '## Goals\n\nThey were set on Node 20, where a call through bare http-proxy cost 3.1 times one through HAProxy that verifies RS256. ' +
      'On a newer Node http-proxy costs less and HAProxy the same, so a line that was drawn beside http-proxy stands here twice: beside ' +
      'the http-proxy of this run, and beside its HAProxy at the height that it had.\n\n' +
      goalTable(results, goals)
  ]
  for (const [name, result] of Object.entries(results)) {
    parts.push(`## ${result.title}\n\n${result.text ?? ''}\n\n${tellGroup(name, result)}`)
    const { rounds, seconds } = result.settings
    parts.push(
      `${result.at.slice(0, 10)}, commit ${result.machine.commit}, ${rounds} rounds of ${seconds} s.\n`
    )
  }
  const machine = Object.values(results).at(-1)?.machine ?? {}
  parts.push(findings.trimEnd() + '\n')
  parts.push(`## Machine and versions\n\n${table(['what', 'which'], Object.entries(machine))}`)
  return parts.join('\n')
}
