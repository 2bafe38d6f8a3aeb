// Which Host and Origin are served, and CORS. The first thing asked of any request (R3, R4, R7); a preflight is answered here,
// before anybody asks for a token (R9). It refuses to know who calls.
import type { FastifyPluginCallback, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { Config } from '../config/schema.ts'
import { gatewayError } from '../errors.ts'
import { ALLOWED_METHODS } from './server.ts'

const ALLOW_HEADERS = [
  'Authorization',
  'Content-Type',
  'Accept',
  'Mcp-Session-Id',
  'MCP-Protocol-Version',
  'Last-Event-ID',
  'Mcp-Method',
  'Mcp-Name',
  'traceparent',
  'tracestate'
].join(', ')
const EXPOSE_HEADERS =
  'Mcp-Session-Id, WWW-Authenticate, MCP-Protocol-Version, Retry-After, RateLimit, RateLimit-Policy'
const LOOPBACK = ['localhost', '127.0.0.1', '[::1]']

/** The host name of a Host header value, lower case, without port; undefined when it is not one. Pure. */
export function hostName(host: string | undefined): string | undefined {
  return /^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?$/.exec(host ?? '')?.[1]?.toLowerCase()
}

interface Allowed {
  hosts: ReadonlySet<string>
  /** Exact origins; undefined: every origin. */
  origins: ReadonlySet<string> | undefined
  loopback: boolean
}

/** The allow-lists that follow from the configuration; a loopback public URL lets loopback names and origins in. */
export function allowLists(config: Config): Allowed {
  const own = new URL(config.publicUrl)
  const loopback = LOOPBACK.includes(own.hostname)
  const hosts = new Set([own.hostname, ...config.server.allowedHosts])
  if (loopback) for (const name of LOOPBACK) hosts.add(name)
  const origins = config.server.allowedOrigins.includes('*')
    ? undefined
    : new Set([own.origin, ...config.server.allowedOrigins])
  return { hosts, origins, loopback }
}

function originAllowed(origin: string, { origins, loopback }: Allowed): boolean {
  if (!URL.canParse(origin)) return false // "null" and garbage (R4)
  if (origins === undefined || origins.has(origin.toLowerCase())) return true
  const { protocol, hostname, origin: own } = new URL(origin)
  return (
    loopback &&
    LOOPBACK.includes(hostname) &&
    /^https?:$/.test(protocol) &&
    own === origin.toLowerCase()
  )
}

function answerPreflight(request: FastifyRequest, reply: FastifyReply): void {
  const asked = String(request.headers['access-control-request-headers'] ?? '')
  const params =
    asked.match(/(?<=^|[,\s])mcp-param-[!#$%&'*+.^_`|~a-z0-9-]{1,64}(?=$|[,\s])/gi) ?? []
  reply
    .header('access-control-allow-methods', ALLOWED_METHODS)
    .header('access-control-allow-headers', [ALLOW_HEADERS, ...params.slice(0, 32)].join(', '))
    .header('access-control-max-age', '600')
    .code(204)
    .send()
}

const plugin: FastifyPluginCallback<{ config: Config }> = function origin(app, { config }, done) {
  const allowed = allowLists(config)
  const isServed = (host: string | undefined) => allowed.hosts.has(hostName(host) ?? '')

  app.addHook('onRequest', function origin(request, reply, next) {
    const { anyHost = false, anyOrigin = false } = request.routeOptions.config
    const { host } = request.headers
    if (host === undefined && request.raw.httpVersion === '1.1') {
      next(gatewayError('GW_BAD_REQUEST', { hint: 'HTTP/1.1 needs a Host header.' }))
      return
    }
    if (!anyHost) {
      // The host of a target that is a whole URL counts before the Host field (RFC 9112 §3.2.2), which must name one all the same.
      const target = /^https?:\/\/([^/?#]*)/i.exec(request.url)?.[1]
      if (!isServed(host) || (target !== undefined && !isServed(target))) {
        const named = hostName(target ?? host)
        next(
          gatewayError('GW_FORBIDDEN_HOST', { reason: `Host ${named ?? 'missing or malformed'}` })
        )
        return
      }
    }
    const origin = request.headers.origin
    // Public documents are read by browsers of any origin, also on the preflight's route, which has no config of its own.
    if (anyOrigin || request.url.startsWith('/.well-known/')) {
      reply.header('access-control-allow-origin', '*')
    } else if (origin !== undefined) {
      if (!originAllowed(origin, allowed)) {
        next(gatewayError('GW_FORBIDDEN_ORIGIN', { reason: 'Origin is not on the list' }))
        return
      }
      reply.header('access-control-allow-origin', origin).header('vary', 'Origin')
    }
    if (request.method === 'OPTIONS') {
      answerPreflight(request, reply)
      return
    }
    if (origin !== undefined) reply.header('access-control-expose-headers', EXPOSE_HEADERS)
    next()
  })
  done()
}

/** Refuses foreign Hosts and Origins with 403, answers every OPTIONS, sets CORS headers (R3, R4, R7, R9). */
export const origin = fp(plugin, { name: 'origin' })
