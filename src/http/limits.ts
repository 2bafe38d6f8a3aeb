// The crowd and the budgets: an address with too many failed attempts is held back before any key or Drupal is asked; sessions,
// principals and tools draw on their budgets after sign-in. Which key draws on what is policy's business (policy/budgets.ts).
import rateLimit, { type FastifyRateLimitStore, normalizeIP } from '@fastify/rate-limit'
import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { Budget, Config } from '../config/schema.ts'
import { type ErrorCode, type GatewayError, gatewayError } from '../errors.ts'
import {
  type Draw,
  isExceeded,
  rateLimited,
  rateLimitFields,
  takenDraw,
  type TakenDraw
} from '../policy/budgets.ts'
import type { Store, Taken } from '../store/store.ts'

export interface LimitEvents {
  budget?(name: string, outcome: 'allowed' | 'refused'): void
}

/**
 * What the limiter is given in the place of a request, and as its key: everything that one request draws. Asked for each draw by
 * itself, with functions for max and window, it would cost a call twice as much.
 */
interface Asked {
  /** The limiter looks here for a group of its own. */
  routeOptions: object
  draws: readonly Draw[]
  taken: readonly TakenDraw[]
}

declare module 'fastify' {
  interface FastifyInstance {
    /**
     * Makes all draws and sets the RateLimit fields; `done` is told GW_RATE_LIMITED, and nothing is drawn, when a budget is exceeded.
     */
    drawBudgets(draws: readonly Draw[], reply: FastifyReply, done: (error?: Error) => void): void
    /** Counts a failed attempt against the caller's address. */
    countFailure(request: FastifyRequest): void
  }
}

/**
 * Refusals that look like an attack on tokens. Every sign-in begins with a missing token and many a refresh with an expired one, and
 * hundreds of users of a hosted client share one address. A foreign Origin or Host can be sent by any web page, from the address of
 * whoever looks at it. None of these makes anybody fetch a key or ask the site, so they do not count.
 */
const FAILURES: ReadonlySet<string> = new Set<ErrorCode>([
  'GW_INVALID_TOKEN',
  'GW_MALFORMED_AUTHORIZATION'
])

/** Whether a refusal draws on the address budget. Pure. */
export function isFailedAttempt({ code, isExpired = false }: GatewayError): boolean {
  return FAILURES.has(code) && !isExpired
}

/**
 * The address that budgets count by; of IPv6 the network (/64), in which one caller has any number. Empty where a client has reset its
 * connection at once: the kernel knows no address any more, whatever the type says.
 */
export function addressOf(request: FastifyRequest): string {
  const ip = (request.ip as string | undefined) ?? ''
  return ip.includes(':') ? normalizeIP(ip) : ip
}

/** Lets @fastify/rate-limit keep its counts in our store. What it counts is how many of the asked budgets are exceeded. */
function bridge(store: Store): new () => FastifyRateLimitStore {
  type Callback = Parameters<FastifyRateLimitStore['incr']>[1]
  return class SharedStore implements FastifyRateLimitStore {
    incr(key: string, callback: Callback) {
      const asked = key as unknown as Asked
      const settle = (states: readonly Taken[]) => {
        const taken: TakenDraw[] = []
        let current = 0
        for (let at = 0; at < states.length; at++) {
          const draw = takenDraw(asked.draws[at] as Draw, states[at] as Taken)
          if (isExceeded(draw)) current += 1
          taken.push(draw)
        }
        asked.taken = taken
        callback(null, { current, ttl: 0 })
      }
      const states = store.take(asked.draws)
      if (states instanceof Promise) states.then(settle, callback)
      else settle(states)
    }
    child() {
      return this
    }
  }
}

interface Options {
  config: Config
  /** Shared by the replicas: sessions, principals, clients, tools. */
  store: Store
  /** Always this process's own: it is asked before sign-in, so it must cost nothing. */
  local: Store
  events?: LimitEvents
}

const plugin: FastifyPluginAsync<Options> = async function limits(app, options) {
  const { config, store, local, events } = options
  const { failures } = config.derived.budgets
  await app.register(rateLimit, { global: false, store: bridge(store) })
  const limit = app.createRateLimit({
    keyGenerator: asked => asked as unknown as string,
    max: 0
  })
  const attempt = (
    request: FastifyRequest,
    cost: number,
    { max, windowMs }: NonNullable<Budget>
  ) => ({ key: `address:${addressOf(request)}`, cost, max, windowMs })

  app.decorate('countFailure', function countFailure(request) {
    if (failures !== null) void local.take([attempt(request, 1, failures)])
  })
  app.decorate('drawBudgets', function drawBudgets(draws, reply, done) {
    const asked: Asked = { routeOptions: {}, draws, taken: [] }
    limit(asked as unknown as FastifyRequest)
      .then(() => tell(asked.taken, reply))
      .then(done, done)
  })

  function tell(taken: readonly TakenDraw[], reply: FastifyReply): GatewayError | undefined {
    for (const draw of taken) {
      if (draw.isDrawn) events?.budget?.(draw.budget, 'allowed')
      else if (isExceeded(draw)) events?.budget?.(draw.budget, 'refused')
    }
    reply.headers(rateLimitFields(taken) as Record<string, string>)
    return rateLimited(taken)
  }

  if (failures === null) return
  app.addHook('onRequest', function holdBack(request, _reply, next) {
    // Probes come from the address of the proxy that also brings the callers: an attack must not end the process.
    const [taken] = local.take([attempt(request, 0, failures)]) as [Taken]
    if (taken.used < failures.max || request.routeOptions.config.anyHost) {
      next()
      return
    }
    events?.budget?.('address', 'refused')
    next(
      gatewayError('GW_TOO_MANY_FAILURES', {
        reason: 'address budget of failures',
        retryAfterSeconds: Math.max(1, Math.ceil(taken.resetMs / 1000))
      })
    )
  })
}

/** Registers the address budget (before sign-in) and `drawBudgets` (after it). Errors: GW_TOO_MANY_FAILURES, GW_RATE_LIMITED. */
export const limits = fp(plugin, { name: 'limits', dependencies: ['request'] })
