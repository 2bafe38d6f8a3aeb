// The private listener: metrics. It serves no MCP and asks for no token, so it must never share a port with the public one.
import fastify, { type FastifyBaseLogger, type FastifyInstance, LogController } from 'fastify'

interface Options {
  log: FastifyBaseLogger
  metrics: { text(): Promise<string>; contentType: string }
}

/** A listener with `GET /metrics` in Prometheus' text format; it does not listen yet. */
export function buildAdmin({ log, metrics }: Options): FastifyInstance {
  const app = fastify({
    loggerInstance: log,
    logController: new LogController({ disableRequestLogging: true })
  })
  app.get('/metrics', async (_request, reply) => {
    reply.header('content-type', metrics.contentType)
    return metrics.text()
  })
  return app
}
