// Which metrics are there? Names, help, labels and buckets in one place; docs and dashboards cite these. It refuses to know when
// they move: that is metrics.ts.
import { Gauge, type Registry } from 'prom-client'
import { createTally } from './tally.ts'
import { createTimings } from './timings.ts'

const overheadBuckets = [
  0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1
]
const callBuckets = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120
]

/** Registers every metric of the gateway; each label takes at most `max` values. Series that alerts watch start at 0. */
export function createInstruments(register: Registry, max: number) {
  const tally = (
    name: string,
    help: string,
    labelNames: readonly string[] = [],
    declared: readonly (readonly string[])[] = []
  ) => createTally(register, { name: `mcp_gateway_${name}`, help, labelNames, max, declared })
  const timings = (name: string, help: string, labelName: string, buckets: number[]) =>
    createTimings(register, {
      name: `mcp_gateway_${name}_duration_seconds`,
      help,
      labelName,
      buckets,
      max
    })
  const gauge = (name: string, help: string) =>
    new Gauge({ name: `mcp_gateway_${name}`, help, registers: [register] })

  return {
    requests: tally(
      'requests_total',
      'Requests answered, by JSON-RPC method (or HTTP method), era, outcome and HTTP status.',
      ['method', 'era', 'outcome', 'status']
    ),
    overhead: timings(
      'overhead',
      'Time of a request in the gateway itself.',
      'method',
      overheadBuckets
    ),
    queue: timings(
      'queue',
      'Time that a request waited for a Drupal worker.',
      'method',
      callBuckets
    ),
    drupal: timings('drupal', 'Time that Drupal took for a request.', 'method', callBuckets),
    received: tally('received_bytes_total', 'Bytes of request bodies.', [], [[]]),
    sent: tally('sent_bytes_total', 'Bytes of response bodies.', [], [[]]),
    toolCalls: tally('tool_calls_total', 'Tool calls, by tool and outcome.', ['tool', 'outcome']),
    verdicts: tally(
      'token_verdicts_total',
      'Judgements on access tokens: ok or the reason of the refusal, and who judged.',
      ['reason', 'source']
    ),
    cacheEvents: tally('token_cache_events_total', 'Events of the verdict cache.', ['event']),
    keyRefreshes: tally(
      'key_refreshes_total',
      'Fetches of signing keys.',
      ['outcome'],
      [['ok'], ['failed']]
    ),
    introspections: timings(
      'introspection',
      'Time of introspection requests.',
      'outcome',
      callBuckets
    ),
    serverFailures: tally(
      'authorization_server_failures_total',
      'Failed requests to the authorization server.',
      ['kind'],
      [['metadata'], ['keys'], ['introspection'], ['token']]
    ),
    draws: tally('budget_draws_total', 'Draws on budgets.', ['budget', 'outcome']),
    storeFailures: tally(
      'store_failures_total',
      'Failures of the shared store (Redis).',
      ['kind'],
      [['take'], ['get'], ['put']]
    ),
    storeHealth: gauge('store_healthy', '1 while the store answers, else 0.'),
    certificateExpiry: gauge(
      'tls_certificate_expiry_timestamp_seconds',
      'When the TLS certificate that the gateway serves ends, in seconds since epoch.'
    ),
    opened: tally('sessions_opened_total', 'Sessions opened.', [], [[]]),
    ended: tally('sessions_ended_total', 'Sessions that their clients ended.', [], [[]]),
    streams: gauge('streams_open', 'Event streams open now.'),
    streamsOpened: tally('streams_opened_total', 'Event streams opened.', [], [[]]),
    unreachable: tally(
      'tool_unreachable_total',
      'Calls of tools that Drupal lists but does not route.',
      ['tool'],
      [['other']]
    ),
    givenUp: tally(
      'buffers_given_up_total',
      'Bodies refused and connections closed for want of memory.',
      [],
      [[]]
    ),
    crowded: tally(
      'crowded_connections_total',
      'Connections closed because too many requests waited on them for their turn.',
      [],
      [[]]
    ),
    unread: tally(
      'unread_requests_total',
      'What could not be read as a request, or did not come to its end in time, by the status of the answer.',
      ['status'],
      [['400'], ['405'], ['408'], ['431']]
    ),
    uncaughtErrors: tally(
      'uncaught_errors_total',
      'Errors that no part of the gateway foresaw.',
      [],
      [[]]
    )
  }
}
