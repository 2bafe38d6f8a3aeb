// Which trace is this call part of? The client's own, by header or by `_meta` (R77), else a new one; a span where an OpenTelemetry
// SDK is registered. What is written to headers and lines is telemetry's business.
import type { FastifyPluginCallback } from 'fastify'
import fp from 'fastify-plugin'
import { toolName } from '../policy/tools.ts'
import {
  type CallSpan,
  createSpans,
  createTraceStarter,
  readMetaTrace,
  readTrace,
  type Trace
} from '../telemetry/tracing.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Where the call stands in its trace: goes to Drupal and into the audit line. */
    trace: Trace
    /** Undefined without an SDK, and before the call is admitted. */
    span: CallSpan | undefined
  }
}

const plugin: FastifyPluginCallback = function trace(app, _options, done) {
  const start = createTraceStarter()
  const openSpan = createSpans()
  app.decorateRequest('trace')
  app.decorateRequest('span', undefined)

  app.addHook('onRequest', function trace(request, _reply, next) {
    const { traceparent, tracestate } = request.headers
    request.trace = readTrace(traceparent, tracestate) ?? start()
    next()
  })

  app.addHook('preHandler', function trace(request, _reply, next) {
    const [message, ...others] = request.messages ?? []
    if (message === undefined || others.length > 0 || message.kind === 'response') {
      next()
      return
    }
    const transport = request.trace
    request.trace = readMetaTrace(message.params?.['_meta']) ?? transport
    request.span = openSpan({
      trace: request.trace,
      transport,
      method: message.method,
      tool: toolName(message),
      idText: message.kind === 'request' ? message.idText : undefined,
      version: request.call.version
    })
    if (request.span !== undefined) request.trace = request.span.trace
    next()
  })
  done()
}

/** Sets request.trace, and request.span once the call is admitted. */
export const trace = fp(plugin, { name: 'trace', dependencies: ['request'] })
