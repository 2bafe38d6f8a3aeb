// To which trace does a call belong? Reads and writes W3C Trace Context, in headers and in `_meta` (R77), and opens OpenTelemetry
// spans by the MCP semantic conventions where an SDK is registered. It refuses to be an SDK: without one no span costs anything.
import {
  createTraceState,
  isSpanContextValid,
  type Link,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  SpanKind,
  SpanStatusCode,
  trace as api
} from '@opentelemetry/api'
import { randomFillSync } from 'node:crypto'
import { scrubStart } from './scrub.ts'

/** A place in a trace. Without an SDK it is the client's own: a span that nobody records must not become a parent. */
export interface Trace {
  /** 32 lower-case hex digits, for log and audit lines. */
  traceId: string
  /** 16 lower-case hex digits: the parent that Drupal is told of. */
  spanId: string
  sampled: boolean
  /** `tracestate`, as sent. */
  state: string | undefined
  /** True when no client gave it. */
  started: boolean
}

/** How a call ended, as metrics and audit call it. */
export interface SpanEnd {
  /** `ok`, `tool-error`, `rpc-error`, `aborted`, or the code of the gateway error. */
  outcome: string
  /** HTTP status. */
  status: number
}

export interface CallSpan {
  /** The place of this span: give it to Drupal and to the audit line in place of the call's own. */
  trace: Trace
  /** Ends the span; later calls do nothing. */
  end(how: SpanEnd): void
}

export interface SpanCall {
  trace: Trace
  /** JSON-RPC method. */
  method: string
  tool?: string | undefined
  /** The id as JSON text. */
  idText?: string | undefined
  /** MCP protocol version. */
  version?: string | undefined
  /** The trace of the HTTP request: a link, where it is the client's own and `_meta` named another one. */
  transport?: Trace | undefined
}

/** Opens spans; undefined when no SDK was registered at the start. */
export type OpenSpan = (call: SpanCall) => CallSpan | undefined

const traceparentPattern = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/s
const tracestatePattern = /^[\x20-\x7e]+$/
const maxTraceparent = 128
/** W3C Trace Context §3.3.1.5: at least 512 characters are to be carried; more is dropped whole. */
const maxTracestate = 512

/** Reads `traceparent` and `tracestate` (W3C Trace Context §3.2, §3.3): undefined when there is none or it is malformed. */
export function readTrace(traceparent: unknown, tracestate: unknown): Trace | undefined {
  if (typeof traceparent !== 'string' || traceparent.length > maxTraceparent) return undefined
  const [, version, traceId = '', spanId = '', flags = '', more] =
    traceparentPattern.exec(traceparent) ?? []
  if (version === undefined || version === 'ff') return undefined
  if (version === '00' && more !== undefined) return undefined
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined
  const valid =
    typeof tracestate === 'string' &&
    tracestate.length <= maxTracestate &&
    tracestatePattern.test(tracestate)
  return {
    traceId,
    spanId,
    sampled: (Number.parseInt(flags, 16) & 1) === 1,
    state: valid ? tracestate : undefined,
    started: false
  }
}

/**
 * Gives what starts a trace of our own, for a client that brought none. Sampled, because to Drupal's usual sampler (parent-based,
 * always on) "not sampled" would mean: record nothing that comes through the gateway.
 */
export function createTraceStarter(): () => Trace {
  // Random bytes are drawn and written out 128 ids at a time: one by one they cost 2.5 µs a call.
  const size = 48
  const pool = Buffer.alloc((size / 2) * 128)
  let hex = ''
  let used = 0
  return () => {
    if (used === hex.length) {
      hex = randomFillSync(pool).toString('hex')
      used = 0
    }
    const middle = used + 32
    const end = used + size
    const traceId = hex.slice(used, middle)
    const spanId = hex.slice(middle, end)
    used = end
    return { traceId, spanId, sampled: true, state: undefined, started: true }
  }
}

/** The trace that `params._meta` names (R77), undefined when it names none. It goes before the one of the HTTP headers. */
export function readMetaTrace(meta: unknown): Trace | undefined {
  if (typeof meta !== 'object' || meta === null) return undefined
  const { traceparent, tracestate } = meta as Record<string, unknown>
  return readTrace(traceparent, tracestate)
}

/** The headers for Drupal. */
export function traceHeaders(trace: Trace): { traceparent: string; tracestate?: string } {
  const traceparent = `00-${trace.traceId}-${trace.spanId}-${trace.sampled ? '01' : '00'}`
  return trace.state === undefined ? { traceparent } : { traceparent, tracestate: trace.state }
}

/** Looks once whether an OpenTelemetry SDK is registered: register it before (`node --import`). */
export function createSpans(): OpenSpan {
  const tracer = api.getTracer('drupal-mcp-gateway')
  // The API has no better question: only an SDK gives out valid ids. A span that is not ended is not exported.
  const registered = isSpanContextValid(
    tracer.startSpan('probe', { root: true }, ROOT_CONTEXT).spanContext()
  )
  if (!registered) return () => undefined

  return call => {
    const method = short(call.method)
    const tool = call.tool === undefined ? undefined : short(call.tool)
    // mcp.session.id is left out: who knows a session id holds a part of a credential.
    const span = tracer.startSpan(
      tool === undefined ? method : `${method} ${tool}`,
      {
        kind: SpanKind.SERVER,
        links: linksOf(call),
        attributes: {
          'mcp.method.name': method,
          'mcp.protocol.version': call.version,
          'jsonrpc.request.id': call.idText === undefined ? undefined : short(call.idText),
          'gen_ai.tool.name': tool,
          'gen_ai.operation.name': tool === undefined ? undefined : 'execute_tool',
          'network.transport': 'tcp',
          'network.protocol.name': 'http'
        }
      },
      call.trace.started ? ROOT_CONTEXT : api.setSpanContext(ROOT_CONTEXT, contextOf(call.trace))
    )
    return { trace: traceOf(span, call.trace), end: how => endSpan(span, how) }
  }
}

function linksOf({ trace, transport }: SpanCall): Link[] {
  const isOther = transport !== undefined && transport !== trace && !transport.started
  return isOther ? [{ context: contextOf(transport) }] : []
}

function contextOf({ traceId, spanId, sampled, state }: Trace): SpanContext {
  return {
    traceId,
    spanId,
    traceFlags: sampled ? 1 : 0,
    isRemote: true,
    ...(state === undefined ? {} : { traceState: createTraceState(state) })
  }
}

function traceOf(span: Span, parent: Trace): Trace {
  const { traceId, spanId, traceFlags } = span.spanContext()
  return { traceId, spanId, sampled: (traceFlags & 1) === 1, state: parent.state, started: false }
}

function endSpan(span: Span, { outcome, status }: SpanEnd): void {
  if (!span.isRecording()) return
  span.setAttribute('http.response.status_code', status)
  if (outcome !== 'ok') {
    const type = outcome === 'tool-error' ? 'tool_error' : outcome
    span.setAttribute('error.type', type)
    span.setStatus({ code: SpanStatusCode.ERROR })
  }
  span.end()
}

/** What a client chose, for a name or an attribute: bounded, and no token. */
function short(text: string): string {
  return scrubStart(text, 128)
}
