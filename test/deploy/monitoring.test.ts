// The alerts and the dashboard of deploy/prometheus before a real Prometheus: every alarm rings when it should and only then, and every
// query is answered from a real gateway under traffic, good and bad. test/telemetry/prometheus.test.ts needs no Prometheus.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { parse, stringify } from 'yaml'
import { chromiumMissing, startChromium } from '../fixtures/chromium.ts'
import { fetchTrusting } from '../clients/fixtures/trust.ts'
import { pair } from '../fixtures/certificate.ts'
import { modern, rpc } from '../gateway/fixtures/mcp.ts'
import { startGateway } from '../gateway/fixtures/start.ts'
import { calm, quiet, rings } from './alarms.ts'
import { type Dashboard, drawDashboard } from './dashboard.ts'
import {
  alertsFile,
  composeConfig,
  promtool,
  type Prometheus,
  type Sample,
  startPrometheus
} from './prometheus.ts'
import { needs, root, tools } from './tools.ts'

const dashboard = JSON.parse(
  readFileSync(join(root, 'deploy/prometheus/dashboard.json'), 'utf8')
) as Dashboard
const { groups } = parse(readFileSync(alertsFile, 'utf8')) as {
  groups: { rules: { alert: string }[] }[]
}
const alerts = groups.flatMap(({ rules }) => rules.map(({ alert }) => alert))

t.test(
  'promtool takes the alerts and the configuration of Compose',
  needs(tools.promtool),
  async t => {
    const config = join(
      t.testdir({ 'prometheus.yaml': composeConfig('127.0.0.1:1') }),
      'prometheus.yaml'
    )
    t.match(await promtool('check', 'rules', alertsFile), `SUCCESS: ${alerts.length} rules found`)
    t.match(await promtool('check', 'config', config), 'SUCCESS')
    // Whom the alarms call, as the comment there shows it.
    const calling = composeConfig('127.0.0.1:1').replaceAll(/^#(?! \S)/gm, '')
    t.match(parse(calling), { alerting: { alertmanagers: [{ static_configs: [{}] }] } })
    writeFileSync(config, calling)
    t.match(await promtool('check', 'config', config), 'SUCCESS')
  }
)

t.test('every alarm rings when it should, and no other', needs(tools.promtool), async t => {
  t.strictSame(
    new Set(rings.map(([alert]) => alert)),
    new Set(alerts),
    'every alert is in the table'
  )
  const labelled = (series: string) =>
    `${series.replace(/\}$/, '')}${series.endsWith('}') ? ',' : '{'}job="drupal-mcp-gateway",instance="a:9464"}`
  const silent = [{}, ...quiet].map(series => ['', series] as const)
  const tests = [...silent, ...rings].map(([alert, series]) => ({
    interval: '30s',
    name: alert,
    input_series: Object.entries({ ...calm, ...series }).map(([name, values]) => ({
      series: labelled(name),
      values
    })),
    promql_expr_test: [
      {
        expr: 'count by (alertname) (ALERTS{alertstate="firing"})',
        eval_time: '19m30s',
        exp_samples: alert === '' ? [] : [{ labels: `{alertname="${alert}"}`, value: 1 }]
      }
    ]
  }))
  const folder = t.testdir()
  const file = join(folder, 'tests.yaml')
  const check = async (tests: object[]) => {
    writeFileSync(file, stringify({ rule_files: [alertsFile], evaluation_interval: '30s', tests }))
    return promtool('test', 'rules', file).catch((error: { stdout: string; stderr: string }) =>
      `${error.stdout}${error.stderr}`.trim()
    )
  }
  t.match(await check(tests), /SUCCESS/)
  t.match(
    await check([{ ...tests[0], promql_expr_test: tests.at(-1)?.promql_expr_test }]),
    /FAILED/,
    'it looks'
  )
})

/** Fifteen seconds in the life of a gateway: good calls of both eras, and everything that panels and alerts watch. */
async function traffic(t: Test, folder: string) {
  const { cert, key } = pair(folder, 'gateway')
  t.intercept(globalThis, 'fetch', { value: fetchTrusting(cert) })
  const gateway = await startGateway(t, {
    env: {
      ADMIN_PORT: '0',
      GATEWAY_PUBLIC_URL: 'https://localhost:3999',
      TLS_CERT_FILE: cert,
      TLS_KEY_FILE: key,
      OAUTH_VALIDATION: 'both',
      OAUTH_CLIENT_ID: 'gateway',
      OAUTH_CLIENT_SECRET: 'gateway-secret',
      OAUTH_INTROSPECTION_SCOPE: 'mcp_introspect',
      LIMIT_FAILURES: 'off',
      LIMIT_SESSION: 'off',
      LIMIT_PRINCIPAL: 'off',
      DRUPAL_MAX_CONCURRENCY: '4',
      DRUPAL_MAX_QUEUE: '4'
    },
    file: { policy: { tools: { 'demo.large': { budget: '3/1m' } } } }
  })
  const { faults } = gateway.drupal
  faults.missingRoutes.add('tutorials.publish')
  const call = (name: string, args: object = {}) => rpc('tools/call', { name, arguments: args })
  const target = (await gateway.gateway.admin?.listen({ host: '127.0.0.1', port: 0 })) as string
  return {
    target: new URL(target).host,
    async run() {
      for (let second = 0; second < 15; second++) {
        faults.maintenance = second === 6 || second === 7
        const session = await gateway.initialize(gateway.token())
        const reader = await gateway.initialize(gateway.token({ scopes: ['read:tutorials'] }))
        const { body, headers } = modern('tools/call', { name: 'site.info', arguments: {} })
        const busy = second >= 10 && second < 13 ? 20 : 2
        const asked = [
          gateway.post(rpc('tools/list'), session),
          gateway.post(call('tutorials.search', { query: 'a' }), session),
          gateway.post(call('tutorials.publish', { id: 1 }), session),
          gateway.post(call('demo.large', { size: 20_000 }), session),
          gateway.post(call('demo.fail'), session),
          gateway.post(call('tutorials.create'), reader),
          gateway.post(rpc('ping'), { authorization: 'Bearer forged.token.x' }),
          gateway.post(body, { authorization: session['authorization'] as string, ...headers }),
          ...Array.from({ length: busy }, () =>
            gateway.post(call('demo.slow', { ms: 250 }), session)
          )
        ]
        await Promise.all([...asked, new Promise(resolve => setTimeout(resolve, 1000))])
        await fetch(gateway.url, { method: 'DELETE', headers: session })
      }
    }
  }
}

/** A query of the dashboard as Grafana sends it. */
const filledIn = (expr: string) =>
  expr.replaceAll('$__rate_interval', '10s').replaceAll(/\$(job|instance)/g, '.+')

t.test('a gateway under traffic is scraped', needs(tools.prometheus), async t => {
  const folder = t.testdir({ tls: {}, prometheus: {} })
  const { target, run } = await traffic(t, join(folder, 'tls'))
  const prometheus: Prometheus = await startPrometheus(t, join(folder, 'prometheus'), target)
  const start = Date.now() / 1000
  await run()
  // The last second is scraped too.
  await new Promise(resolve => setTimeout(resolve, 1500))
  const end = Date.now() / 1000

  const drawn = new Map<string, Sample[]>()
  for (const { title, targets = [] } of dashboard.panels) {
    for (const { expr } of targets) {
      const query = filledIn(expr)
      t.ok((await prometheus.query(query)).length > 0, `${title}: ${expr} has an answer`)
      drawn.set(expr, await prometheus.range(query, start + 3, end, 0.5))
    }
  }
  for (const { definition } of dashboard.templating.list) {
    const [, match = '', label = ''] = /^label_values\((.*), (\w+)\)$/.exec(definition ?? '') ?? []
    if (label === '') continue
    const found = await prometheus.ask<string[]>(`label/${label}/values`, {
      'match[]': filledIn(match)
    })
    t.strictSame(found, [label === 'job' ? 'drupal-mcp-gateway' : target], label)
  }
  t.match(
    await prometheus.ask('rules'),
    { groups: [{ rules: alerts.map(name => ({ name, health: 'ok' })) }] },
    'every alert can be evaluated'
  )
  const { alerts: ringing } = await prometheus.ask<{
    alerts: { labels: Record<string, string>; state: string }[]
  }>('alerts')
  const firing = ringing.filter(({ state }) => state === 'firing').map(({ labels }) => labels)
  t.match(firing, [
    // The certificate of the test has two days.
    { alertname: 'McpGatewayCertificateExpiring', instance: target },
    { alertname: 'McpGatewayToolUnreachable', tool: 'tutorials.publish' }
  ])

  await t.test('and the dashboard is drawn', { skip: chromiumMissing() }, async t => {
    const page = await (await startChromium(t, {})).newPage({
      viewport: { width: 1500, height: 900 }
    })
    await page.setContent(drawDashboard(dashboard, drawn, { start: start + 3, end }))
    t.equal(
      await page.locator('.panel').count(),
      dashboard.panels.filter(({ type }) => type !== 'row').length
    )
    mkdirSync('.artifacts', { recursive: true })
    await page.screenshot({ path: '.artifacts/dashboard.png', fullPage: true })
  })
})
