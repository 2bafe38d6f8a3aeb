// Is the process alive, and can it serve? Probes and load balancers ask; the answer names what is missing in general words and
// never an address.
import type { FastifyBaseLogger, FastifyPluginCallback } from 'fastify'
import { type GatewayError, isGatewayError } from '../errors.ts'

export interface HealthCheck {
  name: string
  /** Rejects with the reason when the part is not well. */
  check(signal: AbortSignal): Promise<unknown>
}

interface Options {
  log: FastifyBaseLogger
  checks: readonly HealthCheck[]
  /** True from the moment that the process was asked to stop. */
  stopping: () => boolean
  /** Milliseconds that an answer is kept: probes must not become load on Drupal. Default 1000. */
  keepMs?: number
  /** Milliseconds that one check may take, whatever it does with its signal. Default 5000. */
  timeoutMs?: number
}

interface Report {
  ready: boolean
  checks: Record<string, string>
}

async function ask(
  checks: readonly HealthCheck[],
  timeoutMs: number,
  failed: (name: string, error: unknown) => void
): Promise<Report> {
  const signal = AbortSignal.timeout(timeoutMs)
  const late = new Promise<never>((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error))
  })
  late.catch(() => {})
  const results = await Promise.all(
    checks.map(async ({ name, check }) => {
      try {
        await Promise.race([check(signal), late])
        failed(name, undefined)
        return [name, 'ok'] as const
      } catch (error) {
        failed(name, error)
        // Only the public text of our own errors: a reason may hold an internal address.
        return [name, isGatewayError(error) ? error.message : 'not available'] as const
      }
    })
  )
  return {
    ready: results.every(([, state]) => state === 'ok'),
    checks: Object.fromEntries(results)
  }
}

/**
 * `/livez`: the process runs. `/readyz`: everything that a call needs can be asked; 503 with the reasons when not. `/readyz?once`,
 * for what spreads requests: was that so once, and is the process not stopping? All replicas lose Drupal together; taken out of
 * rotation together, nobody could tell clients why, or serve what still can be. One plugin for all listeners: what was asked for
 * one is known to the other.
 */
export function createHealth(options: Options): FastifyPluginCallback {
  const { log, checks, stopping, keepMs = 1000, timeoutMs = 5000 } = options
  const known = new Map<string, string | undefined>()
  let last: { at: number; report: Promise<Report> } | undefined
  let wasReady = false

  /** To the log with the reason that probes are not told, once for as long as it stays the same. */
  function say(name: string, error: unknown): void {
    const { reason: inside, message } = (error ?? {}) as Partial<GatewayError>
    const reason = inside ?? message
    if (reason !== undefined && reason !== known.get(name)) {
      log.warn({ check: name, reason }, 'not ready')
    } else if (reason === undefined && known.get(name) !== undefined) {
      log.info({ check: name }, 'ready again')
    }
    known.set(name, reason)
  }

  return function health(app, _options, done) {
    // Monitors ask by HEAD as often as by GET.
    const probe = { config: { anyHost: true }, exposeHeadRoute: true }

    app.get('/livez', probe, async (_request, reply) => {
      reply.header('cache-control', 'no-store')
      return { status: 'ok' }
    })

    app.get('/readyz', probe, async (request, reply) => {
      reply.header('cache-control', 'no-store')
      if (stopping()) return reply.code(503).send({ status: 'stopping', checks: {} })
      if (last === undefined || performance.now() - last.at >= keepMs) {
        last = { at: performance.now(), report: ask(checks, timeoutMs, say) }
      }
      // At once: a part that hangs must not outlast the prober's patience. The parts are asked all the same, for the log.
      if (wasReady && 'once' in (request.query as object))
        return { status: 'was ready', checks: {} }
      const { ready, checks: states } = await last.report
      wasReady ||= ready
      return reply
        .code(ready ? 200 : 503)
        .send({ status: ready ? 'ready' : 'not ready', checks: states })
    })
    done()
  }
}
