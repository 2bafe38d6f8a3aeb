// Holds the queries of deploy/prometheus against a real scrape: a name, label or value that the gateway does not expose fails.
import { readFileSync } from 'node:fs'
import t from 'tap'
import { parse } from 'yaml'
import { type ErrorCode, errorTable } from '../../src/errors.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'

interface Rule {
  alert: string
  expr: string
  for?: string
  labels: { severity: string }
  annotations: { summary: string; description: string; runbook: string }
}
interface Panel {
  id: number
  type: string
  title: string
  gridPos: { h: number; w: number; x: number; y: number }
  targets?: { expr: string; legendFormat: string }[]
}
interface Variable {
  name: string
  definition?: string
}

const alerts = parse(readFileSync('deploy/prometheus/alerts.yaml', 'utf8')) as {
  groups: { rules: Rule[] }[]
}
const rules = alerts.groups.flatMap(group => group.rules)
const dashboard = JSON.parse(readFileSync('deploy/prometheus/dashboard.json', 'utf8')) as {
  panels: Panel[]
  templating: { list: Variable[] }
}
const targets = dashboard.panels.flatMap(({ title, targets = [] }) =>
  targets.map(target => ({ title, ...target }))
)

/** Sample name → label → values, from a gateway to which everything happened once. */
type Exposed = Map<string, Map<string, Set<string>>>

async function exposed(): Promise<Exposed> {
  const metrics = createMetrics()
  metrics.tools(['search_tutorials'])
  metrics.upstream({ active: () => 1, queued: () => 1, breaker: () => 'open' })
  metrics.buffered(() => 1)
  const call = {
    method: 'tools/call',
    era: 'legacy',
    gatewayMs: 1,
    queueMs: 1,
    drupalMs: 1,
    bytesIn: 1,
    bytesOut: 1,
    tool: 'search_tutorials'
  } as const
  metrics.request({ ...call, outcome: 'ok', status: 200 })
  for (const code of Object.keys(errorTable) as ErrorCode[]) {
    metrics.request({ ...call, outcome: code, status: errorTable[code].status })
  }
  metrics.verdict('ok', 'cache')
  metrics.cache('hit')
  metrics.keyRefresh('ok')
  metrics.introspection(1, 'active')
  metrics.budget('session', 'refused')
  metrics.streamOpened()
  metrics.certificateExpiry(1)

  const series: Exposed = new Map()
  for (const line of (await metrics.text()).split('\n')) {
    const [, name, labels = ''] = /^([a-z0-9_]+)(?:\{(.*)\})? \S+$/.exec(line) ?? []
    if (name === undefined) continue
    // Labels that Prometheus adds to every target.
    const known =
      series.get(name) ??
      new Map([
        ['job', new Set()],
        ['instance', new Set()]
      ])
    series.set(name, known)
    for (const [, label = '', value = ''] of labels.matchAll(/([a-z_]+)="([^"]*)"/g)) {
      known.set(label, (known.get(label) ?? new Set()).add(value))
    }
  }
  // Made by Prometheus itself for each target.
  return series.set('up', new Map([['job', new Set()]]))
}

const words = new Set(
  'and or unless by without on ignoring group_left group_right offset bool sum max min avg count topk bottomk rate increase changes absent histogram_quantile max_over_time time'.split(
    ' '
  )
)

/** What a PromQL expression names that the scrape does not have. */
function unknownIn(expr: string, series: Exposed): string[] {
  const problems: string[] = []
  const names: string[] = []
  const groupings: string[] = []
  let rest = expr.replace(/\[[^\]]*\]/g, '').replace(/\boffset \w+/g, '')
  rest = rest.replace(/\b(?:by|on|without|ignoring) \(([^)]*)\)/g, (_, labels: string) => {
    groupings.push(...labels.split(',').map(label => label.trim()))
    return ''
  })
  rest = rest.replace(/([a-z0-9_:]+)\{([^}]*)\}/g, (_, name: string, matchers: string) => {
    names.push(name)
    for (const [, label = '', operator, pattern = ''] of matchers.matchAll(
      /([a-z_]+)\s*(=~|!~|!=|=)\s*"([^"]*)"/g
    )) {
      const values = series.get(name)?.get(label)
      if (values === undefined) problems.push(`${name} has no label ${label}`)
      else if (label !== 'job' && label !== 'instance' && !pattern.startsWith('$')) {
        const wanted = operator === '=~' ? pattern.split('|') : [pattern]
        for (const value of wanted) {
          if (![...values].some(seen => new RegExp(`^(?:${value})$`).test(seen))) {
            problems.push(`${name} has no ${label} ${value}`)
          }
        }
      }
    }
    return ''
  })
  for (const [word] of rest.matchAll(/[a-z_:][a-z0-9_:]*/g)) if (!words.has(word)) names.push(word)
  if (names.length === 0) problems.push('names no metric')
  for (const name of names) if (!series.has(name)) problems.push(`no metric ${name}`)
  for (const label of groupings) {
    if (!names.some(name => series.get(name)?.has(label))) problems.push(`no label ${label}`)
  }
  return problems
}

t.test('the check finds what is wrong', async t => {
  const series = await exposed()
  for (const [expr, problem] of [
    ['sum(rate(mcp_gateway_request_total[5m]))', 'no metric mcp_gateway_request_total'],
    ['sum by (tools) (rate(mcp_gateway_tool_calls_total[5m]))', 'no label tools'],
    ['mcp_gateway_breaker_state{status="open"}', 'has no label status'],
    ['mcp_gateway_breaker_state{state="ajar"}', 'has no state ajar'],
    ['mcp_gateway_requests_total{outcome=~"GW_INTERNAL|GW_TYPO"}', 'has no outcome GW_TYPO'],
    ['1 > 0', 'names no metric'],
    ['rate(mcp_gateway_requests_total[5m]) / mcp_typo', 'no metric mcp_typo']
  ] as const) {
    t.match(unknownIn(expr, series).join(), problem)
  }
})

t.test('every alert asks for what a scrape has, and says what to do', async t => {
  const series = await exposed()
  t.ok(rules.length >= 10)
  t.equal(new Set(rules.map(rule => rule.alert)).size, rules.length)
  for (const { alert, expr, labels, annotations } of rules) {
    t.strictSame(unknownIn(expr, series), [], alert)
    t.match(alert, /^McpGateway[A-Za-z]+$/)
    t.match(labels.severity, /^(?:warning|critical)$/)
    t.match(annotations.runbook, /^docs\/runbooks\.md#[a-z-]+$/)
    t.ok(annotations.summary.length > 0 && annotations.description.length > 0)
    const kept = /\bby \(([^)]*)\)/.exec(expr)?.[1]?.split(/,\s*/)
    for (const [, label = ''] of annotations.description.matchAll(/\$labels\.(\w+)/g)) {
      if (kept !== undefined) t.ok(kept.includes(label), `${alert}: the description's ${label}`)
    }
  }
})

t.test('every query of the dashboard asks for what a scrape has', async t => {
  const series = await exposed()
  t.ok(targets.length >= 30)
  for (const { title, expr, legendFormat } of targets) {
    t.strictSame(unknownIn(expr, series), [], `${title}: ${expr}`)
    for (const [, label = ''] of legendFormat.matchAll(/\{\{(\w+)\}\}/g)) {
      t.match(expr, new RegExp(`\\b${label}\\b`), `${title}: the legend's ${label}`)
    }
    for (const [, variable] of expr.matchAll(/\$(\w+)/g)) {
      const known = ['__rate_interval', ...dashboard.templating.list.map(({ name }) => name)]
      t.ok(known.includes(variable as string), `${title}: $${variable}`)
    }
  }
  for (const { definition } of dashboard.templating.list) {
    if (definition === undefined) continue
    const [, selector = '', label = ''] = /^label_values\((.*), (\w+)\)$/.exec(definition) ?? []
    t.strictSame(unknownIn(`sum by (${label}) (${selector})`, series), [], definition)
  }
})

t.test('every metric of the gateway is on the dashboard', async t => {
  const text = targets.map(({ expr }) => expr).join('\n')
  for (const name of (await exposed()).keys()) {
    if (!name.startsWith('mcp_gateway_')) continue
    t.match(text, name.replace(/_(?:sum|count|bucket)$/, ''), name)
  }
})

t.test('panels have ids of their own and lie beside each other', async t => {
  const { panels } = dashboard
  t.equal(new Set(panels.map(({ id }) => id)).size, panels.length)
  for (const { title, gridPos: a } of panels) {
    t.ok(a.x + a.w <= 24, `${title} fits`)
    const over = panels.filter(
      ({ title: other, gridPos: b }) =>
        other !== title && a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h
    )
    t.strictSame(over, [], `${title} covers no other`)
  }
})
