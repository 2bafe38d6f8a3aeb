// The listener's own limits: what is refused before Fastify sees a request, and how its connections live and end.
import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import {
  type FastifyError,
  type FastifyHttpOptions,
  type FastifyReply,
  type FastifyRequest,
  type FastifyServerOptions,
  LogController
} from 'fastify'
import type { Server } from 'node:http'
import type { Config } from '../config/schema.ts'
import { type ErrorCode, errorTable } from '../errors.ts'
import { rpcErrorBody } from '../mcp/rpc-error.ts'
import { toGatewayError } from './errors.ts'
import { tlsOptions } from './tls.ts'
import { WholeRequest } from './whole-request.ts'
import { WholeResponse } from './whole-response.ts'

/** Ids that no other process makes: a random prefix for the process, then a counter. Costs no system call per request. */
export function requestIds(): () => string {
  const prefix = randomBytes(8).toString('base64url')
  let count = 0
  return () => `${prefix}-${(count++).toString(36)}`
}

/** What cannot be parsed as HTTP has no request to answer to: one raw response in the usual form, then the end. */
function refuseRaw(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
    return
  }
  const code: ErrorCode =
    error.code === 'HPE_HEADER_OVERFLOW' ? 'GW_HEADERS_TOO_LARGE' : 'GW_BAD_REQUEST'
  const { status, rpc, text } = errorTable[code]
  const body = rpcErrorBody({ code: rpc, message: text })
  const reason = status === 431 ? 'Request Header Fields Too Large' : 'Bad Request'
  socket.end(
    `HTTP/1.1 ${status} ${reason}\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`
  )
}

/** A URL that no route can be looked up for: the router gives up before any hook, and its own answer would repeat the URL. */
function refuseUrl(error: FastifyError, _request: FastifyRequest, reply: FastifyReply): void {
  const { code, statusCode, message } = toGatewayError(error)
  reply
    .code(statusCode)
    .headers({ 'content-type': 'application/json; charset=utf-8', 'cache-control': 'no-store' })
    .send(rpcErrorBody({ code: errorTable[code].rpc, message }))
}

/** Fastify's options for the public listener. Time-outs come from the configuration; ids are never taken from a request. */
export function serverOptions(config: Config): FastifyHttpOptions<Server> & FastifyServerOptions {
  const { maxBodyBytes, requestTimeoutSeconds, trustedProxies } = config.server
  const https = tlsOptions(config.server)
  const whole = { IncomingMessage: WholeRequest, ServerResponse: WholeResponse }
  return {
    // Fastify tells http and https apart by type; everybody here uses what the two servers share.
    ...(https === null ? { http: whole } : ({ https: { ...https, ...whole } } as object)),
    logController: new LogController({ disableRequestLogging: true }),
    trustProxy: trustedProxies.length > 0 ? [...trustedProxies] : false,
    bodyLimit: maxBodyBytes,
    requestTimeout: requestTimeoutSeconds * 1000,
    // Longer than the idle time of common load balancers (60 s): the balancer closes first, so no request meets a dying socket.
    keepAliveTimeout: 75_000,
    // 0: an idle event stream is not an idle connection.
    connectionTimeout: 0,
    forceCloseConnections: 'idle',
    // What comes on an open connection while the process ends is still served, with "Connection: close": nobody need try again.
    return503OnClosing: false,
    // A logger of its own for each request costs 5 % of a call (measured); whoever logs names `requestId` where it matters.
    childLoggerFactory: logger => logger,
    requestIdHeader: false,
    genReqId: requestIds(),
    exposeHeadRoutes: false,
    clientErrorHandler: refuseRaw,
    frameworkErrors: refuseUrl,
    routerOptions: { maxParamLength: 256 }
  }
}
