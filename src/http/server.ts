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
import { type Server, STATUS_CODES } from 'node:http'
import type { Config } from '../config/schema.ts'
import { sendAll } from '../end-of-turn.ts'
import { type ErrorCode, errorTable } from '../errors.ts'
import { rpcErrorBody } from '../mcp/rpc-error.ts'
import { toGatewayError } from './errors.ts'
import { tlsOptions } from './tls.ts'
import { WholeRequest } from './whole-request.ts'
import { WholeResponse } from './whole-response.ts'

/** What /mcp is asked with, as `Allow` and CORS say it (R8, R9). */
export const ALLOWED_METHODS = 'GET, POST, DELETE, OPTIONS'

/** Ids that no other process makes: a random prefix for the process, then a counter. Costs no system call per request. */
export function requestIds(): () => string {
  const prefix = randomBytes(8).toString('base64url')
  let count = 0
  return () => `${prefix}-${(count++).toString(36)}`
}

/** A request line whose method Node does not know; what is no HTTP at all fails at the same place. */
const foreignMethod = /^[\w!#$%&'*+.^`|~-]+ \S+ HTTP\/1\.[01]\r?\n/

function refusalOf(error: NodeJS.ErrnoException & { rawPacket?: Buffer }): ErrorCode {
  const { code, rawPacket } = error
  if (code === 'HPE_HEADER_OVERFLOW') return 'GW_HEADERS_TOO_LARGE'
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return 'GW_REQUEST_TIMEOUT'
  const isForeign =
    code === 'HPE_INVALID_METHOD' && foreignMethod.test(rawPacket?.toString('latin1') ?? '')
  return isForeign ? 'GW_METHOD_NOT_ALLOWED' : 'GW_BAD_REQUEST'
}

/**
 * What cannot be parsed as HTTP, or does not come to its end in time, has no request to answer to: one raw response in the usual
 * form, then the end of the connection in both directions. Only half closed, it would stay for as long as the client likes, and
 * what still came on it would be carried out.
 */
function refuseRaw(
  error: NodeJS.ErrnoException,
  socket: Socket,
  told: (status: number) => void
): void {
  // The answers to what came before it.
  sendAll()
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
    return
  }
  // Node's name for the answer under way: into its middle nothing may be written (Node's own handler looks there, too).
  const answer = (socket as Socket & { _httpMessage?: { _headerSent: boolean } })._httpMessage
  if (answer?._headerSent !== true) {
    const code = refusalOf(error)
    told(errorTable[code].status)
    socket.write(rawRefusal(code))
  }
  socket.destroySoon()
}

function rawRefusal(code: ErrorCode): string {
  const allow = code === 'GW_METHOD_NOT_ALLOWED' ? `Allow: ${ALLOWED_METHODS}\r\n` : ''
  const { status, rpc, text } = errorTable[code]
  const body = rpcErrorBody({ code: rpc, message: text })
  return `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${allow}Content-Type: application/json; charset=utf-8\r\nCache-Control: no-store\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`
}

/**
 * A URL that no route can be looked up for: the router gives up before any hook, and its own answer would repeat the URL. No hook sees
 * whether the body has come (request.ts), so the connection is never used again.
 */
function refuseUrl(error: FastifyError, _request: FastifyRequest, reply: FastifyReply): void {
  const { code, statusCode, message } = toGatewayError(error)
  reply
    .code(statusCode)
    .headers({
      'content-type': 'application/json; charset=utf-8',
      'cache-control': 'no-store',
      connection: 'close'
    })
    .send(rpcErrorBody({ code: errorTable[code].rpc, message }))
}

/**
 * Fastify's options for the public listener. Time-outs come from the configuration; ids are never taken from a request. `unread` is told
 * the status of each answer to what could not be read as a request: no hook sees it.
 */
export function serverOptions(
  config: Config,
  unread: (status: number) => void = () => {}
): FastifyHttpOptions<Server> & FastifyServerOptions {
  const { keepAliveSeconds, maxBodyBytes, requestTimeoutSeconds, trustedProxies } = config.server
  const https = tlsOptions(config.server)
  const requestTimeout = requestTimeoutSeconds * 1000
  const http = {
    IncomingMessage: WholeRequest,
    ServerResponse: WholeResponse,
    // Else of two Host fields the second is dropped unseen, and a hop before this one may have gone by it (RFC 9112 §3.2).
    joinDuplicateHeaders: true,
    // origin.ts says what is missing; Node would send an empty 400 that nobody counts.
    requireHostHeader: false,
    // Node swaps the two where the time for the head is longer than that for the whole request; by default it is 60 seconds.
    headersTimeout: Math.min(60_000, requestTimeout),
    connectionsCheckingInterval: Math.min(5000, requestTimeout)
  }
  return {
    // Fastify tells http and https apart by type; everybody here uses what the two servers share.
    ...(https === null ? { http } : ({ https: { ...https, ...http } } as object)),
    logController: new LogController({ disableRequestLogging: true }),
    trustProxy: trustedProxies.length > 0 ? [...trustedProxies] : false,
    bodyLimit: maxBodyBytes,
    requestTimeout,
    // The balancer closes first, so no request meets a dying socket.
    keepAliveTimeout: keepAliveSeconds * 1000,
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
    clientErrorHandler: (error, socket) => refuseRaw(error, socket, unread),
    frameworkErrors: refuseUrl,
    routerOptions: { maxParamLength: 256 }
  }
}

/**
 * What Node does by itself with a listener's requests, and must not. It drops every field behind the first 1,000 unseen, which may be a
 * foreign Origin (R79: their size is bounded all the same). And it answers an expectation that it does not know, on a connection that
 * is used again for what it takes for the body; here it is a request like any other (RFC 9110 §10.1.1 lets a server ignore it).
 */
export function overruleNode(server: Server): void {
  server.maxHeadersCount = 0
  server.on('checkExpectation', (request, response) => server.emit('request', request, response))
}
