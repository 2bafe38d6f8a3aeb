import t from 'tap'
import {
  createMetrics,
  type BreakerState,
  type RequestMeasure
} from '../../src/telemetry/metrics.ts'

const call: RequestMeasure = {
  method: 'tools/call',
  era: 'legacy',
  outcome: 'ok',
  status: 200,
  gatewayMs: 0.4,
  queueMs: 3,
  drupalMs: 120,
  bytesIn: 200,
  bytesOut: 1000,
  tool: 'search_tutorials'
}

const build = (maxLabelValues?: number) =>
  createMetrics({
    processMetrics: false,
    ...(maxLabelValues === undefined ? {} : { maxLabelValues })
  })

/** The samples of a scrape: series as written → value. */
async function scrape(metrics: { text(): Promise<string> }): Promise<Map<string, number>> {
  const samples = new Map<string, number>()
  for (const line of (await metrics.text()).split('\n')) {
    if (line === '' || line.startsWith('#')) continue
    const at = line.lastIndexOf(' ')
    if (samples.has(line.slice(0, at))) throw new Error(`two samples of one series: ${line}`)
    samples.set(line.slice(0, at), Number(line.slice(at + 1)))
  }
  return samples
}

t.test(
  'counts a request by method, era, outcome and status, and splits its time in three',
  async t => {
    const metrics = build()
    metrics.tools(['search_tutorials'])
    metrics.request(call)
    metrics.request({ ...call, outcome: 'GW_OVERLOADED', status: 503, drupalMs: undefined })
    const samples = await scrape(metrics)
    const get = (series: string) => samples.get(`mcp_gateway_${series}`)
    t.equal(get('requests_total{method="tools/call",era="legacy",outcome="ok",status="200"}'), 1)
    t.equal(
      get('requests_total{method="tools/call",era="legacy",outcome="GW_OVERLOADED",status="503"}'),
      1
    )
    t.equal(get('overhead_duration_seconds_count{method="tools/call"}'), 2)
    t.equal(get('queue_duration_seconds_sum{method="tools/call"}'), 0.006)
    t.equal(get('drupal_duration_seconds_count{method="tools/call"}'), 1)
    t.equal(get('drupal_duration_seconds_bucket{method="tools/call",le="0.1"}'), 0)
    t.equal(get('drupal_duration_seconds_bucket{method="tools/call",le="0.25"}'), 1)
    t.equal(get('drupal_duration_seconds_bucket{method="tools/call",le="+Inf"}'), 1)
    t.equal(get('received_bytes_total'), 400)
    t.equal(get('sent_bytes_total'), 2000)
    t.equal(get('tool_calls_total{tool="search_tutorials",outcome="ok"}'), 1)
    t.equal(get('tool_calls_total{tool="search_tutorials",outcome="GW_OVERLOADED"}'), 1)
    metrics.request({ ...call, method: 'ping', tool: undefined })
    const calls = [...(await scrape(metrics)).keys()].filter(key =>
      key.includes('tool_calls_total')
    )
    t.equal(calls.length, 2, 'what is no tool call is not counted as one')
    for (const other of [{ era: 'modern' }, { status: 404 }] as const) {
      const { era, status } = { ...call, ...other }
      metrics.request({ ...call, ...other })
      const series = `requests_total{method="tools/call",era="${era}",outcome="ok",status="${status}"}`
      t.equal((await scrape(metrics)).get(`mcp_gateway_${series}`), 1)
    }
  }
)

t.test('keeps counting from one scrape to the next', async t => {
  const metrics = build()
  const series = 'mcp_gateway_token_verdicts_total{reason="ok",source="cache"}'
  metrics.verdict('ok', 'cache')
  t.equal((await scrape(metrics)).get(series), 1)
  t.equal((await scrape(metrics)).get(series), 1)
  metrics.verdict('ok', 'cache')
  t.equal((await scrape(metrics)).get(series), 2)
})

t.test(
  'a histogram is one that Prometheus can read: cumulative buckets, bounds included',
  async t => {
    const metrics = build()
    for (const drupalMs of [1, 1.5, 10, 200_000]) metrics.request({ ...call, drupalMs })
    const samples = await scrape(metrics)
    const buckets = [...samples]
      .filter(([series]) =>
        series.startsWith('mcp_gateway_drupal_duration_seconds_bucket{method="tools/call"')
      )
      .map(([, value]) => value)
    t.equal(buckets.length, 17)
    t.strictSame(
      buckets,
      [...buckets].sort((a, b) => a - b)
    )
    t.equal(
      samples.get('mcp_gateway_drupal_duration_seconds_bucket{method="tools/call",le="0.001"}'),
      1,
      'a bound belongs to its bucket'
    )
    t.equal(buckets.at(-2), 3, 'what is beyond the last bound is in +Inf only')
    t.equal(buckets.at(-1), 4)
  }
)

t.test('a number that is none breaks neither the call nor the scrape', async t => {
  const metrics = build()
  const bad = { gatewayMs: Number.NaN, queueMs: -1, drupalMs: Number.POSITIVE_INFINITY }
  metrics.request({ ...call, ...bad, bytesIn: Number.NaN, bytesOut: -5 })
  const samples = await scrape(metrics)
  t.equal(samples.get('mcp_gateway_overhead_duration_seconds_count{method="tools/call"}'), 0)
  t.equal(samples.get('mcp_gateway_queue_duration_seconds_count{method="tools/call"}'), 0)
  t.equal(samples.get('mcp_gateway_drupal_duration_seconds_count{method="tools/call"}'), 0)
  t.equal(samples.get('mcp_gateway_received_bytes_total'), 0)
  t.equal(samples.get('mcp_gateway_sent_bytes_total'), 0)
  metrics.request({ ...call, queueMs: 0 })
  const queued = 'mcp_gateway_queue_duration_seconds_count{method="tools/call"}'
  t.equal((await scrape(metrics)).get(queued), 1, 'not to have waited is a time')
})

t.test('a client cannot choose a label: unknown methods and tools become "other"', async t => {
  const metrics = build()
  metrics.tools(['known', 'x'.repeat(129)])
  for (let i = 0; i < 1000; i += 1) {
    metrics.request({ ...call, method: `evil/${i}"}\n`, tool: `tool-${i}` })
    metrics.request({ ...call, tool: `tool-${i}`, outcome: 'GW_TOOL_UNREACHABLE' })
  }
  metrics.request({ ...call, tool: 'x'.repeat(129) })
  metrics.request({ ...call, tool: 'known', outcome: 'GW_TOOL_UNREACHABLE' })
  const text = await metrics.text()
  t.notMatch(text, 'evil')
  t.notMatch(text, 'tool-')
  t.notMatch(text, 'xxx')
  const samples = await scrape(metrics)
  t.equal(
    samples.get(
      'mcp_gateway_requests_total{method="other",era="legacy",outcome="ok",status="200"}'
    ),
    1000
  )
  t.equal(samples.get('mcp_gateway_tool_calls_total{tool="other",outcome="ok"}'), 1001)
  t.equal(samples.get('mcp_gateway_tool_unreachable_total{tool="other"}'), 1000)
  t.equal(samples.get('mcp_gateway_tool_unreachable_total{tool="known"}'), 1)
})

t.test('label values are capped: the rest is _overflow', async t => {
  const metrics = build(3)
  metrics.tools(['a', 'b', 'c', 'd'])
  for (const tool of ['a', 'b', 'c', 'd', 'e']) metrics.request({ ...call, tool })
  for (let i = 0; i < 100; i += 1) {
    metrics.authorizationServerFailure(`kind-${i}`)
    metrics.introspection(5, `outcome-${i}`)
  }
  metrics.request({ ...call, tool: 'a', outcome: 'GW_OVERLOADED' })
  for (const method of ['ping', 'tools/list', 'prompts/list', 'unknown'])
    metrics.request({ ...call, method, tool: undefined })
  const samples = await scrape(metrics)
  const of = (name: string) => [...samples].filter(([series]) => series.startsWith(name))
  t.equal(of('mcp_gateway_tool_calls_total').length, 5)
  t.equal(samples.get('mcp_gateway_tool_calls_total{tool="a",outcome="GW_OVERLOADED"}'), 1)
  for (const method of ['tools/list', '_overflow', 'other']) {
    const series = `method="${method}",era="legacy",outcome="ok",status="200"`
    t.equal(samples.get(`mcp_gateway_requests_total{${series}}`), 1, method)
  }
  t.equal(samples.get('mcp_gateway_tool_calls_total{tool="_overflow",outcome="ok"}'), 2)
  t.equal(of('mcp_gateway_authorization_server_failures_total').length, 4, 'three and _overflow')
  t.equal(
    samples.get('mcp_gateway_authorization_server_failures_total{kind="_overflow"}'),
    100,
    'the three values are the declared ones'
  )
  t.equal(samples.get('mcp_gateway_introspection_duration_seconds_count{outcome="_overflow"}'), 97)
})

t.test('every other event has its series', async t => {
  const metrics = build()
  metrics.verdict('expired', 'jwt')
  metrics.cache('hit')
  metrics.keyRefresh('failed')
  metrics.introspection(12, 'active')
  metrics.authorizationServerFailure('keys')
  metrics.budget('session', 'refused')
  metrics.storeFailure('take')
  metrics.sessionOpened()
  metrics.sessionEnded()
  metrics.streamOpened()
  metrics.streamOpened()
  metrics.streamClosed()
  metrics.uncaught()
  metrics.givenUp()
  metrics.crowded()
  metrics.unread(431)
  metrics.buffered(() => 42)
  const samples = await scrape(metrics)
  const expected: Record<string, number> = {
    'token_verdicts_total{reason="expired",source="jwt"}': 1,
    'token_cache_events_total{event="hit"}': 1,
    'key_refreshes_total{outcome="failed"}': 1,
    'introspection_duration_seconds_sum{outcome="active"}': 0.012,
    'authorization_server_failures_total{kind="keys"}': 1,
    'budget_draws_total{budget="session",outcome="refused"}': 1,
    'store_failures_total{kind="take"}': 1,
    sessions_opened_total: 1,
    sessions_ended_total: 1,
    streams_opened_total: 2,
    streams_open: 1,
    uncaught_errors_total: 1,
    buffers_given_up_total: 1,
    crowded_connections_total: 1,
    'unread_requests_total{status="431"}': 1,
    buffered_bytes: 42,
    store_healthy: 1
  }
  for (const [series, value] of Object.entries(expected)) {
    t.equal(samples.get(`mcp_gateway_${series}`), value, series)
  }
  metrics.storeHealthy(false)
  t.equal((await scrape(metrics)).get('mcp_gateway_store_healthy'), 0)
  metrics.storeHealthy(true)
  t.equal((await scrape(metrics)).get('mcp_gateway_store_healthy'), 1)
})

t.test('what alerts watch is 0 before the first event, so that increase() sees it', async t => {
  const samples = await scrape(build())
  for (const series of [
    'key_refreshes_total{outcome="failed"}',
    'authorization_server_failures_total{kind="keys"}',
    'store_failures_total{kind="take"}',
    'tool_unreachable_total{tool="other"}',
    'uncaught_errors_total',
    'buffers_given_up_total',
    'crowded_connections_total'
  ]) {
    t.equal(samples.get(`mcp_gateway_${series}`), 0, series)
  }
  const expiry = 'mcp_gateway_tls_certificate_expiry_timestamp_seconds'
  t.notOk(samples.has(expiry), 'without a certificate none has ended')
})

t.test('queue and breaker are asked at scrape time', async t => {
  const metrics = build()
  const now = { active: 0, queued: 0, breaker: 'closed' as BreakerState }
  metrics.upstream({
    active: () => now.active,
    queued: () => now.queued,
    breaker: () => now.breaker
  })
  const states = (samples: Map<string, number>) =>
    ['closed', 'open', 'half-open'].map(state =>
      samples.get(`mcp_gateway_breaker_state{state="${state}"}`)
    )
  t.strictSame(states(await scrape(metrics)), [1, 0, 0])
  Object.assign(now, { active: 32, queued: 7, breaker: 'open' })
  const samples = await scrape(metrics)
  t.equal(samples.get('mcp_gateway_drupal_active_calls'), 32)
  t.equal(samples.get('mcp_gateway_drupal_queued_calls'), 7)
  t.strictSame(states(samples), [0, 1, 0])
  now.breaker = 'half-open'
  t.strictSame(states(await scrape(metrics)), [0, 0, 1])
})

t.test('two gateways in one process share nothing; each brings the process metrics', async t => {
  const [one, two] = [createMetrics(), createMetrics()]
  one.uncaught()
  t.equal((await scrape(one)).get('mcp_gateway_uncaught_errors_total'), 1)
  const samples = await scrape(two)
  t.equal(samples.get('mcp_gateway_uncaught_errors_total'), 0)
  t.ok(samples.has('nodejs_eventloop_lag_p99_seconds'), 'event-loop delay')
  t.ok((samples.get('process_resident_memory_bytes') as number) > 0)
  t.match(one.contentType, /^text\/plain; version=0\.0\.4/)
})

t.test(
  'names follow the conventions: one prefix, _total for counters, seconds and bytes',
  async t => {
    const text = await build().text()
    const types = [...text.matchAll(/^# TYPE (\S+) (\S*)$/gm)]
    t.ok(types.length > 15)
    for (const [, name, type] of types) {
      t.match(name, /^mcp_gateway_[a-z_]+$/)
      t.equal(String(name).endsWith('_total'), type === 'counter', `${name} is a ${type}`)
      t.equal(String(name).endsWith('_duration_seconds'), type === 'histogram', `and so is ${name}`)
    }
  }
)
