// The private listener: metrics, and health for probes that do not come by the public one. It serves no MCP and asks for no token,
// so it must never share a port with the public one.
import fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyPluginCallback,
  LogController
} from 'fastify'

interface Options {
  log: FastifyBaseLogger
  metrics: { text(): Promise<string>; contentType: string }
  health: FastifyPluginCallback
}

/** A listener with `GET /metrics` in Prometheus' text format, `/livez` and `/readyz`; it does not listen yet. */
export function buildAdmin({ log, metrics, health }: Options): FastifyInstance {
  const app = fastify({
    loggerInstance: log,
    // A browser keeps a connection in advance: a stop would wait for it, and nothing here is worth waiting for.
    forceCloseConnections: true,
    logController: new LogController({ disableRequestLogging: true })
  })
  app.removeAllContentTypeParsers()
  void app.register(health)
  app.get('/metrics', async (_request, reply) => {
    reply.header('content-type', metrics.contentType)
    return metrics.text()
  })
  return app
}
