// What happened? One audit line and one set of measures per message, when the answer has gone out or the client has. It refuses
// to know values: names, sizes, decisions and times only.
import type { FastifyPluginCallback, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { errorTable, type ErrorCode } from '../errors.ts'
import { isObject, type Message } from '../mcp/call.ts'
import type { AuditEntry } from '../telemetry/audit.ts'
import type { Metrics } from '../telemetry/metrics.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** The client went away before it had an answer; its line is written. */
    aborted: boolean
  }
}

interface Options {
  audit: (entry: AuditEntry) => void
  metrics: Metrics
}

function decisionOf(code: string | undefined): AuditEntry['decision'] {
  if (code === undefined) return 'allowed'
  return errorTable[code as ErrorCode].status >= 500 ? 'failed' : 'refused'
}

function methodOf(request: FastifyRequest, message: Message | undefined): string {
  if (message === undefined) return request.method
  return message.kind === 'response' ? 'response' : message.method
}

/** The tool that the message names and its arguments, whatever they are; audit.ts writes only names and sizes of them. */
function toolOf(message: Message | undefined): Pick<AuditEntry, 'tool' | 'arguments'> {
  if (message?.kind !== 'request' || message.method !== 'tools/call') {
    return { tool: undefined, arguments: undefined }
  }
  const { name, arguments: args } = message.params ?? {}
  return {
    tool: typeof name === 'string' ? name : undefined,
    arguments: isObject(args) ? args : undefined
  }
}

function bytesOut(reply: FastifyReply): number {
  return Number(reply.getHeader('content-length') ?? reply.request.bytesOut)
}

const plugin: FastifyPluginCallback<Options> = function remember(app, { audit, metrics }, done) {
  /** Status 499: the client went away before there was an answer; nothing was sent. */
  function write(request: FastifyRequest, status: number, durationMs: number, sent: number): void {
    const { principal, queueMs, drupalMs, bytesIn } = request
    const messages: readonly (Message | undefined)[] = request.messages ?? [undefined]
    const call = request.call as FastifyRequest['call'] | undefined
    let overall = 'ok'
    const asked = drupalMs > 0
    // A call that was turned away while it waited never got to Drupal; its wait counts all the same.
    const waited = asked || queueMs > 0 ? queueMs : undefined
    for (const message of messages) {
      const method = methodOf(request, message)
      const { tool, arguments: args } = toolOf(message)
      const own = message?.kind === 'request' ? message : undefined
      const refusal = request.refusal ?? own?.refusal
      const ended = status === 499 ? 'aborted' : (own?.outcome ?? request.outcome)
      const outcome = refusal?.code ?? ended
      if (overall === 'ok') overall = outcome
      audit({
        requestId: request.id,
        traceId: (request.trace as FastifyRequest['trace'] | undefined)?.traceId,
        principal,
        session: call?.session?.isSingle ? undefined : call?.session,
        era: call?.era,
        version: call?.version,
        method,
        tool,
        arguments: args,
        decision: decisionOf(refusal?.code),
        code: refusal?.code,
        reason: refusal?.reason,
        status,
        durationMs,
        queueMs: waited,
        drupalMs: asked ? drupalMs : undefined,
        bytesIn,
        bytesOut: sent,
        address: request.ip,
        userAgent: request.headers['user-agent']
      })
      metrics.request({
        method,
        era: call?.era ?? 'none',
        outcome,
        status,
        gatewayMs: Math.max(0, durationMs - queueMs - drupalMs),
        queueMs: waited,
        drupalMs: asked ? drupalMs : undefined,
        // Of a batch once: they are those of the request.
        bytesIn: message === messages[0] ? bytesIn : 0,
        bytesOut: message === messages[0] ? sent : 0,
        tool
      })
    }
    request.span?.end({ outcome: overall, status })
  }

  app.decorateRequest('aborted', false)
  app.addHook('onResponse', function remember(request, reply, next) {
    if (!request.aborted) write(request, reply.statusCode, reply.elapsedTime, bytesOut(reply))
    next()
  })
  // No onResponse follows when the client has gone: legacy work goes on (R45), modern work is stopped (R69); both leave their line.
  // onRequestAbort is no help: it is silent once the body has been read.
  app.addHook('onRequest', function remember(request, reply, next) {
    reply.raw.on('close', () => {
      if (reply.raw.writableFinished) return
      request.aborted = true
      write(request, 499, performance.now() - request.arrivedAt, 0)
    })
    next()
  })
  done()
}

/** Writes the audit line and the metrics of every request in its scope. */
export const remember = fp(plugin, { name: 'remember', dependencies: ['request'] })
