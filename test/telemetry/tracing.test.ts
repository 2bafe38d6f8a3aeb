import {
  type Attributes,
  type Context,
  type Span,
  type SpanOptions,
  type SpanStatus,
  trace as api
} from '@opentelemetry/api'
import fc from 'fast-check'
import t from 'tap'
import {
  createSpans,
  createTraceStarter,
  readMetaTrace,
  readTrace,
  type Trace,
  traceHeaders
} from '../../src/telemetry/tracing.ts'

const traceId = '4bf92f3577b34da6a3ce929d0e0e4736'
const spanId = '00f067aa0ba902b7'
const traceparent = `00-${traceId}-${spanId}-01`
const given: Trace = { traceId, spanId, sampled: true, state: 'rojo=1', started: false }

t.test('traceparent and tracestate come in and go out', async t => {
  t.strictSame(readTrace(traceparent, 'rojo=1'), given)
  t.strictSame(traceHeaders(given), { traceparent, tracestate: 'rojo=1' })
  t.equal(readTrace(`00-${traceId}-${spanId}-00`, undefined)?.sampled, false)
  t.equal(readTrace(`00-${traceId}-${spanId}-03`, undefined)?.sampled, true, 'further flags')
  t.equal(readTrace(`00-${traceId}-${spanId}-10`, undefined)?.sampled, false, 'further flags')
  t.strictSame(traceHeaders({ ...given, sampled: false, state: undefined }), {
    traceparent: `00-${traceId}-${spanId}-00`
  })
})

t.test('a later version is read as far as it is known, and answered with ours', async t => {
  const later = readTrace(`cc-${traceId}-${spanId}-01-what-the-future-holds`, undefined)
  t.match(later, { traceId, spanId, sampled: true })
  t.equal(traceHeaders(later as Trace).traceparent, traceparent)
})

t.test('a malformed traceparent is none', async t => {
  for (const bad of [
    undefined,
    '',
    'x',
    [traceparent],
    5,
    `${traceparent}, ${traceparent}`,
    `00-${traceId}-${spanId}-01-more`,
    `00-${traceId}-${spanId}-01\n`,
    `ff-${traceId}-${spanId}-01`,
    `00-${'0'.repeat(32)}-${spanId}-01`,
    `00-${traceId}-${'0'.repeat(16)}-01`,
    `00-${traceId.toUpperCase()}-${spanId}-01`,
    `cc-${traceId}-${spanId}-01-${'x'.repeat(100)}`
  ]) {
    t.equal(readTrace(bad, 'a=b'), undefined, String(bad))
  }
})

t.test('a tracestate that is long or could split a header is dropped, the trace stays', async t => {
  for (const bad of ['a='.padEnd(513, 'x'), 'a=b\r\nX-Evil: 1', 'a=é', '', ['a=b'], 5]) {
    t.match(readTrace(traceparent, bad), { traceId, state: undefined }, String(bad))
  }
  const longest = 'a='.padEnd(512, 'x')
  t.equal(readTrace(traceparent, longest)?.state, longest)
})

t.test('whatever comes in, what goes out is well-formed', async () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.anything(),
        fc.string().map(text => traceparent + text)
      ),
      fc.anything(),
      (parent, state) => {
        const trace = readTrace(parent, state)
        if (trace === undefined) return true
        const headers = traceHeaders(trace)
        return (
          /^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$/.test(headers.traceparent) &&
          /^[\x20-\x7e]{0,512}$/.test(headers.tracestate ?? '')
        )
      }
    )
  )
})

t.test('R77 _meta names a trace as the headers do', async t => {
  t.strictSame(readMetaTrace({ traceparent, tracestate: 'rojo=1', other: 1 }), given)
  for (const none of [undefined, null, 'x', {}, { traceparent: 5 }]) {
    t.equal(readMetaTrace(none), undefined)
  }
})

t.test('a trace of our own has ids that are read back, each time others', async t => {
  const startTrace = createTraceStarter()
  const traces = Array.from({ length: 1000 }, () => startTrace())
  for (const trace of traces) {
    const { traceId, spanId } = trace
    t.match(readTrace(traceHeaders(trace).traceparent, undefined), {
      traceId,
      spanId,
      sampled: true
    })
  }
  t.equal(new Set(traces.map(({ traceId }) => traceId)).size, 1000)
  t.equal(new Set(traces.map(({ spanId }) => spanId)).size, 1000)
  t.ok(traces.every(({ started }) => started))
})

t.test('without an SDK no span is opened', async t => {
  const open = createSpans()
  t.equal(open({ trace: given, method: 'tools/call' }), undefined)
})

/** What a span was given: the least that an SDK does. */
interface Recorded {
  name: string
  options: SpanOptions
  parent: ReturnType<Span['spanContext']> | undefined
  attributes: Attributes
  status: SpanStatus | undefined
  ends: number
}

t.test('with an SDK', async t => {
  const spans: Recorded[] = []
  let sampled = true
  api.setGlobalTracerProvider({
    getTracer: () => ({
      startSpan(name: string, options: SpanOptions = {}, context?: Context) {
        const parent = context === undefined ? undefined : api.getSpanContext(context)
        const recorded: Recorded = {
          name,
          options,
          parent,
          attributes: { ...options.attributes },
          status: undefined,
          ends: 0
        }
        spans.push(recorded)
        const span = {
          spanContext: () => ({
            traceId: parent?.traceId ?? 'a'.repeat(32),
            spanId: 'b'.repeat(16),
            traceFlags: sampled ? 1 : 0
          }),
          setAttribute(key: string, value: string) {
            recorded.attributes[key] = value
            return span
          },
          setStatus(status: SpanStatus) {
            recorded.status = status
            return span
          },
          isRecording: () => sampled && recorded.ends === 0,
          end() {
            recorded.ends += 1
          }
        }
        return span as unknown as Span
      },
      startActiveSpan() {
        throw new Error('not used: async context costs every call')
      }
    })
  })
  t.teardown(() => api.disable())
  const open = createSpans()
  const last = () => spans.at(-1) as Recorded
  t.equal(last().ends, 0, 'the probe is never exported')

  t.test('a call is a server span by the MCP conventions, child of the given trace', async t => {
    const span = open({
      trace: given,
      method: 'tools/call',
      tool: 'search_tutorials',
      idText: '7',
      version: '2025-11-25'
    })
    t.equal(last().name, 'tools/call search_tutorials')
    t.equal(last().options.kind, 1)
    t.match(last().parent, { traceId, spanId, isRemote: true, traceFlags: 1 })
    t.equal(last().parent?.traceState?.serialize(), 'rojo=1')
    t.strictSame(last().options.links, [])
    t.match(last().attributes, {
      'mcp.method.name': 'tools/call',
      'gen_ai.tool.name': 'search_tutorials',
      'gen_ai.operation.name': 'execute_tool',
      'jsonrpc.request.id': '7',
      'mcp.protocol.version': '2025-11-25',
      'network.transport': 'tcp'
    })
    t.strictSame(span?.trace, { ...given, spanId: 'b'.repeat(16) }, 'Drupal becomes its child')
    span?.end({ outcome: 'ok', status: 200 })
    span?.end({ outcome: 'GW_INTERNAL', status: 500 })
    t.equal(last().ends, 1)
    t.equal(last().status, undefined)
    t.equal(last().attributes['http.response.status_code'], 200)
    t.notOk('error.type' in last().attributes)
  })

  t.test('the trace of the headers is the parent and no link as well', async t => {
    open({ trace: given, method: 'ping', transport: given })
    t.match(last().parent, { traceId: given.traceId })
    t.strictSame(last().options.links, [])
  })

  t.test('_meta is the parent, the transport a link; a trace of our own is neither', async t => {
    const transport = { ...given, traceId: 'c'.repeat(32), state: undefined }
    open({ trace: given, method: 'ping', transport })
    t.match(last().options.links, [{ context: { traceId: 'c'.repeat(32) } }])
    t.equal(last().name, 'ping')
    t.equal(last().attributes['gen_ai.operation.name'], undefined)
    const own = createTraceStarter()()
    const span = open({ trace: own, method: 'ping', transport: own })
    t.equal(last().parent, undefined)
    t.strictSame(last().options.links, [])
    t.match(span?.trace, { traceId: 'a'.repeat(32), started: false })
  })

  t.test('failures carry error.type', async t => {
    for (const [how, type] of [
      [{ outcome: 'tool-error', status: 200 }, 'tool_error'],
      [{ outcome: 'rpc-error', status: 200 }, 'rpc-error'],
      [{ outcome: 'GW_OVERLOADED', status: 503 }, 'GW_OVERLOADED']
    ] as const) {
      open({ trace: given, method: 'tools/call' })?.end(how)
      t.equal(last().attributes['error.type'], type)
      t.equal(last().status?.code, 2)
    }
  })

  t.test('what a client chose is bounded and holds no token', async t => {
    const token = `eyJhbGciOiJSUzI1NiJ9.${'a'.repeat(60)}.${'b'.repeat(60)}`
    open({ trace: given, method: token, tool: `Bearer ${token}`, idText: `"${'x '.repeat(999)}"` })
    const text = JSON.stringify([last().name, last().attributes])
    t.notMatch(text, /aaaa|bbbb/)
    t.ok(text.length < 800)
  })

  t.test('a span that is not sampled says so to Drupal and costs no attribute', async t => {
    sampled = false
    open({ trace: { ...given, sampled: false }, method: 'ping' })
    t.equal(last().parent?.traceFlags, 0)
    const span = open({ trace: given, method: 'ping' })
    t.match(span?.trace, { sampled: false })
    span?.end({ outcome: 'ok', status: 200 })
    t.equal(last().ends, 0)
    t.notOk('http.response.status_code' in last().attributes)
  })
})
