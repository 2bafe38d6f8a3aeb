// The whole gateway, in the order in which a request meets it. Read this first: the order is the argument for its security.
import fastify, { type FastifyBaseLogger, type FastifyInstance } from 'fastify'
import { createDiscovery } from './auth/discovery.ts'
import { createIntrospection } from './auth/introspection.ts'
import { createKeys } from './auth/jwks.ts'
import type { Principal } from './auth/principal.ts'
import { publishedMetadata } from './auth/published-metadata.ts'
import { createVerifier } from './auth/verifier.ts'
import type { Config } from './config/schema.ts'
import { createJsonrpcUpstream } from './drupal/jsonrpc.ts'
import { createMcpUpstream } from './drupal/mcp-endpoint.ts'
import { createDrupalPool } from './drupal/pool.ts'
import { createPublishedScopes } from './drupal/published-scopes.ts'
import type { Catalogue } from './drupal/upstream.ts'
import { buildAdmin } from './http/admin.ts'
import { admit } from './http/admit.ts'
import { after } from './http/after.ts'
import { authenticate } from './http/authenticate.ts'
import { errors } from './http/errors.ts'
import { createHealth } from './http/health.ts'
import { landing } from './http/landing.ts'
import { limits } from './http/limits.ts'
import { origin } from './http/origin.ts'
import { permit } from './http/permit.ts'
import { remember } from './http/remember.ts'
import { request } from './http/request.ts'
import { overruleNode, serverOptions } from './http/server.ts'
import { shareMemory } from './http/share-memory.ts'
import { tls } from './http/tls.ts'
import { allHaveLeft, stopGracefully, watchConnections } from './http/stop.ts'
import { trace } from './http/trace.ts'
import { wellKnown } from './http/well-known.ts'
import { createSessions } from './mcp/session.ts'
import { createKnownScopes } from './policy/scopes.ts'
import { createToolPolicy, type ToolRule } from './policy/tools.ts'
import { createMemoryStore } from './store/memory.ts'
import { createAudit } from './telemetry/audit.ts'
import { createLogger, createOutageLog, openLogStream } from './telemetry/log.ts'
import { createMetrics } from './telemetry/metrics.ts'

/** Parts that a test may bring along. */
export interface Parts {
  logger?: FastifyBaseLogger
  /** Receives one audit line per call. Default: standard output. */
  audit?: (line: string) => void
}

export interface Gateway {
  /** The public listener: not yet listening. */
  app: FastifyInstance
  /** The private one; undefined when server.adminPort is -1. */
  admin: FastifyInstance | undefined
  /** Readiness goes first, streams get a clean end, calls in flight finish, then everything closes. */
  stop(): Promise<void>
}

/** Builds the gateway; nothing is asked of Drupal or the authorization server yet (they may be down: it heals by itself). */
export async function buildGateway(config: Config, parts: Parts = {}): Promise<Gateway> {
  const output = openLogStream()
  const log = parts.logger ?? createLogger({ level: config.log.level, destination: output })
  for (const warning of config.derived.warnings) log.warn({ warning }, 'configuration')
  const metrics = createMetrics()
  const audit = createAudit({ write: parts.audit ?? (line => output.write(line)) })

  // What is remembered.
  const local = createMemoryStore()
  const store =
    config.redisUrl === ''
      ? createMemoryStore()
      : await (await import('./store/redis.ts')).createRedisStore({
          url: config.redisUrl,
          log,
          events: {
            outage: down => metrics.storeHealthy(!down),
            unanswered: metrics.storeFailure
          }
        })
  const sessions = createSessions({
    ...config.session,
    store,
    events: { opened: metrics.sessionOpened, ended: metrics.sessionEnded }
  })

  // Where Drupal is, and who says who is calling.
  const pool = createDrupalPool(config, { log })
  metrics.upstream({
    active: () => pool.stats().active,
    queued: () => pool.stats().queued,
    breaker: () => pool.stats().breaker
  })
  const scopes = createKnownScopes(config.oauth.scopes)
  const events = {
    verdict(reason: string, source: string) {
      metrics.verdict(reason, source)
      metrics.cache(source === 'cache' ? 'hit' : 'miss')
    },
    keyRefresh: metrics.keyRefresh,
    introspection: metrics.introspection,
    asFailure: metrics.authorizationServerFailure,
    outage: createOutageLog(log)
  }
  const { fetch } = pool
  // Not the wall clock: what is kept or cools down would wait for one that stepped back to catch up.
  const now = () => performance.now()
  const discovery = createDiscovery({ config, fetch, now, events })
  const keys = createKeys({ config, discovery, fetch, now, events })
  // Opaque tokens can be asked about wherever the gateway has a client of its own; without its secret nobody answers it.
  const introspection =
    config.oauth.clientId === '' || config.oauth.clientSecret === ''
      ? undefined
      : createIntrospection({ config, discovery, fetch, now, events })
  const verifier = createVerifier({
    config,
    discovery,
    keys,
    ...(introspection === undefined ? {} : { introspection }),
    knownScopes: scopes.list,
    events
  })

  // What may be called.
  const toolPolicy = createToolPolicy(config.policy)
  const createUpstream =
    config.drupal.upstream === 'mcp' ? createMcpUpstream : createJsonrpcUpstream
  const upstream = createUpstream({
    config,
    pool,
    toolPolicy,
    sessions,
    log,
    learned,
    events: metrics,
    refuses: async token => !(await verifier.verify(token)).ok
  })
  const publishedScopes = createPublishedScopes({ config, fetch, now })
  for (const { scopes: needed = [] } of Object.values(config.policy.tools)) scopes.add(needed)

  metrics.tools([config.tools.authStatus])

  /** What a caller's tools ask for becomes known: as scopes of this resource, and as names that metrics may show. */
  function learned({ tools, byName }: Catalogue): void {
    metrics.tools(byName.keys())
    for (const { name, auth } of tools) scopes.add(toolPolicy.rule(name, auth).scopes)
  }

  const app = fastify({ ...serverOptions(config, metrics.unread), loggerInstance: log })
  overruleNode(app.server)
  app.server.on('crowded', metrics.crowded)
  const connections = watchConnections(app.server)
  let stopping = false

  await app.register(tls, { config, metrics })
  await app.register(request) //  1. arrive
  await app.register(origin, { config }) //  Host and Origin, OPTIONS
  await app.register(limits, { config, store, local, events: metrics }) //  2. hold back the crowd
  await app.register(errors, { config, uncaught: metrics.uncaught })
  // With issuer and key configured no call needs it.
  const asksServer =
    config.oauth.validation !== 'jwt' ||
    config.oauth.publicKeyFile === '' ||
    config.oauth.issuers.length === 0
  const health = createHealth({
    log,
    stopping: () => stopping,
    checks: [
      ...(asksServer ? [{ name: 'authorization server', check: () => discovery.metadata() }] : []),
      { name: 'signing keys', check: signingKeys },
      ...(config.oauth.validation === 'jwt'
        ? []
        : [{ name: 'introspection', check: async () => introspection?.ready() }]),
      { name: 'drupal', check: signal => upstream.check(signal) },
      { name: 'store', check: () => store.check() }
    ]
  })
  await app.register(health)
  await app.register(wellKnown, {
    prefix: '/.well-known',
    config,
    issuer: () => discovery.issuer(),
    authorizationServer: async () => {
      const { document } = await discovery.metadata()
      return publishedMetadata(document, {
        drupalUrl: config.drupal.url,
        connectUrl: config.derived.drupalConnectUrl,
        deviceFlowEnabled: config.oauth.deviceFlowEnabled
      })
    },
    scopes: async () => {
      scopes.add(await publishedScopes())
      return scopes.list()
    }
  })
  await app.register(landing, { config }) //  people are shown a page; everybody else goes on
  await app.register(
    async function mcp(scope) {
      await scope.register(remember, { audit, metrics }) // 10. remember
      await scope.register(authenticate, { verifier, anonymous: config.oauth.anonymous !== 'off' }) //  3. who?
      await scope.register(shareMemory, { config, metrics }) //  whose memory
      await scope.register(admit, {
        sessions,
        needsSession: config.session.required,
        bounds: config.server,
        modernMethods: upstream.modernMethods
      }) //  4. what?  5. which era?
      await scope.register(trace) //  its place in a trace
      await scope.register(permit, {
        config,
        weigh: name => toolPolicy.rule(name, undefined),
        judgesElements: upstream.allowsUnlisted !== true,
        ruleOf
      }) //  6. budget  7. may they?
      await scope.register(upstream.plugin) //  8. go  9. come back
    },
    { prefix: config.mcpPath }
  )

  /** The rule of a tool for this caller: its annotation in the caller's own catalogue, under the operator's overrides. */
  function ruleOf(tool: string, principal: Principal | undefined, token: string | undefined) {
    return after(upstream.catalogue(principal, token), ({ byName }): ToolRule | undefined => {
      const listed = byName.get(tool)
      const hides = principal && config.policy.missingScope === 'hide' && byName.size > 0
      if (listed === undefined && (hides || upstream.allowsUnlisted !== true)) return undefined
      return toolPolicy.rule(tool, listed?.auth)
    })
  }

  /** Who only introspects may do so without keys, where the server is shown the whole token. */
  async function signingKeys(): Promise<void> {
    if (config.oauth.validation === 'introspection' && (await introspection?.seesToken())) return
    await keys.ready()
  }

  const adminApp = config.server.adminPort === -1 ? undefined : buildAdmin({ log, metrics, health })
  app.addHook('onClose', async () => {
    await allHaveLeft(connections)
    await adminApp?.close()
    await pool.close()
    await store.close()
    await local.close()
  })

  return {
    app,
    admin: adminApp,
    async stop() {
      stopping = true
      await stopGracefully(app, config, connections)
    }
  }
}
