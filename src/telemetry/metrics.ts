// What happened, in numbers: the process's Prometheus metrics, with plain methods that the other folders are given as
// callbacks. It refuses to let a client choose a label: methods come from a closed set, tools from what Drupal listed.
import { collectDefaultMetrics, Gauge, Registry } from 'prom-client'
import { createInstruments } from './instruments.ts'
import { type Cell, otherLabel, overflowLabel } from './tally.ts'

/** One answered request. Durations in milliseconds; leave `queueMs` and `drupalMs` out when Drupal was not asked. */
export interface RequestMeasure {
  /** JSON-RPC method; for a request without a message the HTTP method; `response` where one was posted. */
  method: string
  era: 'legacy' | 'modern' | 'none'
  /** `ok`, `tool-error`, `rpc-error`, `aborted`, or the code of the gateway error. */
  outcome: string
  /** HTTP status. */
  status: number
  /** Time in the gateway itself: the whole less queue and Drupal. */
  gatewayMs: number
  queueMs?: number | undefined
  drupalMs?: number | undefined
  bytesIn: number
  bytesOut: number
  tool?: string | undefined
}

export type BreakerState = 'closed' | 'open' | 'half-open'

/** Asked at scrape time only. */
export interface UpstreamSources {
  /** Calls at work in Drupal. */
  active(): number
  /** Calls that wait for a free worker. */
  queued(): number
  breaker(): BreakerState
}

/** Every function may be passed on by itself: none uses `this`. */
export interface Metrics {
  request: (measure: RequestMeasure) => void
  /** `ok`, or the reason of the refusal; `source` says who judged. */
  verdict: (reason: string, source: string) => void
  /** Verdict cache: `hit` or `miss`. */
  cache: (event: string) => void
  /** One fetch of keys: `ok` or `failed`. */
  keyRefresh: (outcome: string) => void
  /** One introspection request: its milliseconds and `active`, `inactive` or `failed`. */
  introspection: (ms: number, outcome: string) => void
  /** What was asked for in vain: `metadata`, `keys`, `introspection`, `token`. */
  authorizationServerFailure: (kind: string) => void
  /** One draw on a budget: `session`, `principal`, … and `allowed` or `refused`. */
  budget: (budget: string, outcome: string) => void
  /** The operation that the store did not answer. */
  storeFailure: (kind: string) => void
  storeHealthy: (healthy: boolean) => void
  /** When the TLS certificate in use ends, in seconds since epoch. */
  certificateExpiry: (seconds: number) => void
  /** Registers where queue and breaker are read from. Call it once. */
  upstream: (sources: UpstreamSources) => void
  sessionOpened: () => void
  sessionEnded: () => void
  streamOpened: () => void
  streamClosed: () => void
  /** The tools that Drupal listed: only these become label values. Cheap to call with every catalogue. */
  tools: (names: Iterable<string>) => void
  /** A body or an answer was given up for want of memory. */
  givenUp: () => void
  /** A connection was closed because too many requests waited on it. */
  crowded: () => void
  /** Registers where the bytes of bodies and unread answers are read from. Call it once. */
  buffered: (read: () => number) => void
  /** Something that is no request, or none that can be read, was answered with this status. */
  unread: (status: number) => void
  uncaught: () => void
  /** The scrape. */
  text: () => Promise<string>
  /** Its Content-Type. */
  contentType: string
}

const knownMethods = new Set(
  `
  initialize ping server/discover tools/list tools/call resources/list resources/templates/list resources/read
  resources/subscribe resources/unsubscribe prompts/list prompts/get completion/complete logging/setLevel
  tasks/get tasks/list tasks/cancel tasks/result tasks/update subscriptions/listen notifications/initialized
  notifications/cancelled notifications/progress notifications/roots/list_changed response GET POST
  DELETE OPTIONS HEAD PUT PATCH`
    .trim()
    .split(/\s+/)
)
/** The longest name that MCP allows a tool. */
const maxToolName = 128
/** Ways in which calls of one method or tool end, that are found at once; the others by their label values. */
const maxEndings = 64
const breakerStates: readonly BreakerState[] = ['closed', 'open', 'half-open']

/**
 * Builds the metrics in a registry of their own. `maxLabelValues` bounds each label of each metric (default 256, then
 * `_overflow`); `processMetrics: false` leaves Node's own out, for the many short-lived gateways of a test run.
 */
export function createMetrics(
  options: { maxLabelValues?: number; processMetrics?: boolean } = {}
): Metrics {
  const { maxLabelValues: max = 256, processMetrics = true } = options
  const register = new Registry()
  if (processMetrics) collectDefaultMetrics({ register })
  const instruments = createInstruments(register, max)
  instruments.storeHealth.set(1)
  // No sample until a certificate is served: the 0 that a gauge begins with would be one that ended in 1970.
  instruments.certificateExpiry.remove()
  const { requests, toolCalls, unreachable, overhead, queue, drupal } = instruments
  const received = instruments.received.cell([])
  const sent = instruments.sent.cell([])

  const bind = (label: string) => ({
    ended: createEndings((outcome, status, era) =>
      requests.cell([label, era, outcome, `${status}`])
    ),
    overhead: overhead(label),
    queue: queue(label),
    drupal: drupal(label)
  })
  const other = bind(otherLabel)
  const methods = new Map<string, typeof other>()
  function methodOf(name: string): typeof other {
    if (!knownMethods.has(name)) return other
    const bound = bind(name)
    methods.set(name, bound)
    return bound
  }
  const bindTool = (label: string) => ({
    label,
    ended: createEndings(outcome => toolCalls.cell([label, outcome]))
  })
  const otherTool = bindTool(otherLabel)
  const overflowTool = bindTool(overflowLabel)
  const listedTools = new Map<string, typeof otherTool>()
  const toolOf = (name: string) =>
    listedTools.get(name) ?? (listedTools.size < max ? otherTool : overflowTool)

  return {
    request(measure) {
      const { outcome, status, era, bytesIn, bytesOut } = measure
      const method = methods.get(measure.method) ?? methodOf(measure.method)
      method.ended(outcome, status, era).count += 1
      method.overhead(measure.gatewayMs)
      method.queue(measure.queueMs)
      method.drupal(measure.drupalMs)
      // Also false for NaN: a wrong number must not break the scrape, let alone the call.
      if (bytesIn > 0) received.count += bytesIn
      if (bytesOut > 0) sent.count += bytesOut
      if (measure.tool === undefined) return
      const tool = toolOf(measure.tool)
      tool.ended(outcome, status, era).count += 1
      if (outcome === 'GW_TOOL_UNREACHABLE') unreachable.add([tool.label])
    },
    verdict: (reason, source) => instruments.verdicts.add([reason, source]),
    cache: event => instruments.cacheEvents.add([event]),
    keyRefresh: outcome => instruments.keyRefreshes.add([outcome]),
    introspection: (ms, outcome) => instruments.introspections(outcome)(ms),
    authorizationServerFailure: kind => instruments.serverFailures.add([kind]),
    budget: (budget, outcome) => instruments.draws.add([budget, outcome]),
    storeFailure: kind => instruments.storeFailures.add([kind]),
    storeHealthy: healthy => instruments.storeHealth.set(healthy ? 1 : 0),
    certificateExpiry: seconds => instruments.certificateExpiry.set(seconds),
    upstream: sources => registerUpstream(register, sources),
    sessionOpened: () => instruments.opened.add([]),
    sessionEnded: () => instruments.ended.add([]),
    streamOpened() {
      instruments.streams.inc()
      instruments.streamsOpened.add([])
    },
    streamClosed: () => instruments.streams.dec(),
    tools(names) {
      for (const name of names) {
        if (listedTools.size >= max) return
        if (name.length <= maxToolName && !listedTools.has(name))
          listedTools.set(name, bindTool(name))
      }
    },
    givenUp: () => instruments.givenUp.add([]),
    crowded: () => instruments.crowded.add([]),
    buffered: read =>
      readGauge(
        register,
        'buffered_bytes',
        'Bytes of request bodies, and of answers that clients have yet to take.',
        read
      ),
    unread: status => instruments.unread.add([`${status}`]),
    uncaught: () => instruments.uncaughtErrors.add([]),
    text: () => register.metrics(),
    contentType: register.contentType
  }
}

/**
 * Gives the cell of what came of calls that have a name in common. They end in few ways: looking through these is cheaper than a
 * joined key.
 */
function createEndings(
  make: (outcome: string, status: number, era: RequestMeasure['era']) => Cell
): typeof make {
  const known: { outcome: string; status: number; era: string; cell: Cell }[] = []
  return (outcome, status, era) => {
    for (const one of known) {
      if (one.outcome === outcome && one.status === status && one.era === era) return one.cell
    }
    const cell = make(outcome, status, era)
    if (known.length < maxEndings) known.push({ outcome, status, era, cell })
    return cell
  }
}

/** A gauge that is read at scrape time. */
function readGauge(register: Registry, name: string, help: string, read: () => number): void {
  new Gauge({
    name: `mcp_gateway_${name}`,
    help,
    registers: [register],
    collect() {
      this.set(read())
    }
  })
}

function registerUpstream(register: Registry, sources: UpstreamSources): void {
  const { active, queued } = sources
  readGauge(register, 'drupal_active_calls', 'Calls at work in Drupal now.', active)
  readGauge(register, 'drupal_queued_calls', 'Calls that wait for a Drupal worker now.', queued)
  new Gauge({
    name: 'mcp_gateway_breaker_state',
    help: '1 for the state that the circuit breaker is in, 0 for the others.',
    labelNames: ['state'],
    registers: [register],
    collect() {
      const now = sources.breaker()
      for (const state of breakerStates) this.set({ state }, state === now ? 1 : 0)
    }
  })
}
