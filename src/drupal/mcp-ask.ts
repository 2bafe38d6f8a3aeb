// One question to an upstream that speaks MCP, with a place in Drupal's queue for as long as it works on it: the whole answer, or
// its events as they come. It refuses to know sessions, eras and what is asked.
import type { FastifyRequest } from 'fastify'
import type { Principal } from '../auth/principal.ts'
import type { Config } from '../config/schema.ts'
import {
  type ErrorCode,
  errorTable,
  type GatewayError,
  gatewayError,
  isGatewayError
} from '../errors.ts'
import { isObject, type Params, parseJson } from '../mcp/call.ts'
import { traceHeaders } from '../telemetry/tracing.ts'
import { type Asked, codingRefusal, refusal } from './answers.ts'
import type { Answer, Signal } from './exchange.ts'
import { mayHaveRun } from './exchange-failure.ts'
import { callHeaders, siteHeaders } from './headers.ts'
import type { DrupalPool, Timing } from './pool.ts'
import { CommonHeaders } from './request-head.ts'

/** Who asks, as every request to the upstream must say. */
export interface Caller {
  /** Undefined: anonymous. */
  principal: Principal | undefined
  token: string | undefined
  requestId: string | undefined
  traceparent?: string | undefined
  tracestate?: string | undefined
  /** Receives the milliseconds in the queue and in Drupal. */
  timing?: Timing | undefined
}

/** Who asks the upstream, from an admitted request. */
export function callerOf(request: FastifyRequest): Caller {
  const { traceparent, tracestate } = traceHeaders(request.trace)
  return {
    principal: request.principal,
    token: request.token,
    requestId: request.id,
    timing: request,
    traceparent,
    tracestate
  }
}

export interface Question {
  method: 'POST' | 'DELETE'
  body?: string | Buffer
  /** Beside those that every request has: of MCP. */
  headers?: Record<string, string> | undefined
  /** Of MCP as well: those that all requests of a session have in common. */
  inSession?: CommonHeaders
  signal?: Signal | undefined
  /** The events are news and no work: they hold no place among Drupal's workers. */
  isListening?: boolean
}

/** Rejects with GatewayErrors, or with the signal's reason. */
export type Ask = (caller: Caller, question: Question) => Promise<Answer>

const json = 'application/json'
const bothTypes = `${json}, text/event-stream`

/** All headers of a request for a stream; `more` are of MCP. */
export function streamRequestHeaders(
  caller: Caller,
  host: string,
  more: Record<string, string>
): Record<string, string> {
  const { token } = caller
  return {
    ...siteHeaders({ host, accept: 'text/event-stream' }),
    ...(token !== undefined && { authorization: `Bearer ${token}` }),
    ...callHeaders(caller),
    ...more
  }
}

const ofSite: ReadonlySet<string> = new Set<ErrorCode>([
  'GW_UPSTREAM_UNAVAILABLE',
  'GW_UPSTREAM_TIMEOUT',
  'GW_OVERLOADED'
])

/** Whether the site failed, and would have failed anybody, whatever token came. */
export const isOfSite = (error: unknown) => isGatewayError(error) && ofSite.has(error.code)

/** Asks at drupal.mcpPath, within the bounds of the configuration. */
export function createAsk(config: Config, pool: DrupalPool): Ask {
  const path = config.drupal.mcpPath
  const { host } = pool
  const bodiless = new CommonHeaders(siteHeaders({ host, accept: bothTypes }))
  const withBody = new CommonHeaders(siteHeaders({ host, accept: bothTypes, contentType: json }))
  return function ask(caller, question) {
    const { method, body, signal, inSession, isListening } = question
    const { principal, token } = caller
    const headers = callHeaders(caller)
    if (question.headers !== undefined) Object.assign(headers, question.headers)
    const common = body === undefined ? bodiless : withBody
    return pool.request({
      method,
      path,
      headers,
      common: inSession === undefined ? [common] : [common, inSession],
      bearer: token,
      body,
      signal,
      subjectKey: principal?.subjectKey,
      timing: caller.timing,
      streams: method === 'POST',
      isListening
    })
  }
}

/** The media type without its parameters, in lower case. */
export function typeOf(answer: Pick<Answer, 'headers'>): string {
  const type = answer.headers['content-type']
  return typeof type === 'string' ? (type.split(';', 1)[0] as string).trim().toLowerCase() : ''
}

/** The JSON-RPC answer in a body; undefined when it is none. */
export function readRpc(answer: Answer): Params | undefined {
  if (typeOf(answer) !== 'application/json') return undefined
  const body = parseJson(answer.body.toString())
  return isObject(body) && body['jsonrpc'] === '2.0' ? body : undefined
}

/** The code of a JSON-RPC error; undefined when the body is none. */
export function rpcCode(answer: Answer): number | undefined {
  const error = readRpc(answer)?.['error']
  return isObject(error) && Number.isInteger(error['code']) ? (error['code'] as number) : undefined
}

/** The request was no request to the server, whatever it asked for. */
const ofTransport: ReadonlySet<number> = new Set([-32700, -32600, -32000, -32001])

/**
 * Whether a method failed, and not the request that called it: drupal/mcp 1.x says so with 400, servers that map codes to statuses
 * with 404, as the modern era does for an unknown method. A lost session is told with a code of the transport, by some only in words.
 */
export function isMethodError(answer: Answer): boolean {
  const { status } = answer
  const code = status === 400 || status === 404 ? rpcCode(answer) : undefined
  if (code === undefined || ofTransport.has(code)) return false
  if (status === 400 || code === errorTable.GW_METHOD_NOT_FOUND.rpc) return true
  return !/\bsession\b/i.test(answer.body.toString())
}

const translated: ReadonlySet<number> = new Set([401, 403, 429])

/**
 * Throws what an answer other than 2xx, or one in a coding, means to a client (docs/architecture.md). A JSON-RPC error of MCP itself,
 * such as 400 for a bad header or 404 for a lost session, is no refusal of Drupal's: it passes.
 */
export function refuseOrPass(answer: Answer, caller: Caller): void {
  const { status } = answer
  if (status >= 200 && status < 300) {
    const coded = codingRefusal(answer)
    if (coded === undefined) return
    answer.stream?.destroy()
    throw coded
  }
  const isProtocol = status >= 400 && status < 500 && !translated.has(status)
  if (isProtocol && rpcCode(answer) !== undefined) return
  const asked: Asked = { scopes: caller.principal?.scopes, what: 'endpoint', now: Date.now() }
  throw refusal(answer, asked) ?? unusable(`Drupal: status ${status}`)
}

/** There was an answer, so the upstream has done something. `answer`: it may be another's, and so may the next on its connection. */
export function unusable(reason: string, answer?: Pick<Answer, 'source'>): GatewayError {
  answer?.source?.discard()
  return gatewayError('GW_UPSTREAM_INVALID', { reason, ...mayHaveRun })
}
