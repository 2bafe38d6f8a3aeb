// The only place where a refusal becomes an answer: every error of every room passes here and leaves as one status and one JSON
// body. What is not in the table of errors.ts leaves as "Internal error".
import type { FastifyError, FastifyPluginCallback, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { challenge } from '../auth/challenge.ts'
import type { Config } from '../config/schema.ts'
import {
  type ErrorCode,
  errorTable,
  type GatewayError,
  gatewayError,
  isGatewayError
} from '../errors.ts'
import { rpcErrorBody, rpcResult } from '../mcp/rpc-error.ts'
import { challengeResult } from '../mcp/tool-challenge.ts'
import { isFailedAttempt } from './limits.ts'

/** Fastify's own refusals, in our words. None is about a body: Fastify reads none (request.ts, admit.ts). */
const FASTIFY_CODES: Readonly<Record<string, ErrorCode>> = {
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'GW_UNSUPPORTED_MEDIA_TYPE',
  FST_ERR_BAD_URL: 'GW_BAD_REQUEST',
  FST_ERR_MAX_PARAM_LENGTH: 'GW_NOT_FOUND'
}

/** Any thrown value as an error of the table; the original stays behind as the cause, for the log. Pure. */
export function toGatewayError(error: unknown): GatewayError {
  if (isGatewayError(error)) return error
  const { code, statusCode } = (error ?? {}) as Partial<FastifyError>
  const known = FASTIFY_CODES[code ?? '']
  if (known !== undefined) return gatewayError(known, { cause: error })
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return gatewayError('GW_BAD_REQUEST', { cause: error, status: statusCode })
  }
  return gatewayError('GW_INTERNAL', { cause: error, reason: 'uncaught' })
}

export interface ChallengeSource {
  resourceMetadataUrl: string
  /** Scopes that a first sign-in should ask for (R83). */
  scopes: readonly string[]
}

/** The WWW-Authenticate value that belongs to a refusal, or undefined (R82–R84, R88). Byte-stable. */
export function challengeFor(error: GatewayError, source: ChallengeSource): string | undefined {
  const { resourceMetadataUrl, scopes } = source
  switch (error.code) {
    case 'GW_TOKEN_MISSING':
      return challenge({
        resourceMetadataUrl,
        scopes: [...scopes, ...(error.requiredScopes ?? [])]
      })
    case 'GW_INVALID_TOKEN':
      return challenge({
        resourceMetadataUrl,
        scopes,
        error: 'invalid_token',
        errorDescription: errorTable.GW_INVALID_TOKEN.text
      })
    case 'GW_MALFORMED_AUTHORIZATION':
      return challenge({ resourceMetadataUrl, scopes, error: 'invalid_request' })
    case 'GW_INSUFFICIENT_SCOPE':
      return challenge({
        resourceMetadataUrl,
        scopes: error.requiredScopes ?? scopes,
        error: 'insufficient_scope',
        errorDescription: errorTable.GW_INSUFFICIENT_SCOPE.text
      })
    default:
      return undefined
  }
}

/** The request's id as sent, when the body held one request (R21). */
function idTextOf(request: FastifyRequest): string | undefined {
  const [message, ...others] = request.messages ?? []
  return message?.kind === 'request' && others.length === 0 ? message.idText : undefined
}

interface Options {
  config: Config
  /** Told of every error that the table did not foresee. */
  uncaught?: () => void
}

const plugin: FastifyPluginCallback<Options> = function errors(app, options, done) {
  const { oauth, policy, derived } = options.config
  const source = { resourceMetadataUrl: derived.resourceMetadataUrl, scopes: oauth.scopes }

  /** Whether this refusal of a tool call is told within its result. A bad token is none of the call's. */
  function isToldInResult({ code }: GatewayError, request: FastifyRequest): boolean {
    if (code !== 'GW_TOKEN_MISSING' && code !== 'GW_INSUFFICIENT_SCOPE') return false
    const [message] = request.messages ?? []
    const isCall = message?.kind === 'request' && message.method === 'tools/call'
    const agent = request.headers['user-agent'] ?? ''
    return isCall && !request.batch && policy.resultChallenge.some(name => agent.startsWith(name))
  }

  function answer(thrown: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
    const error = toGatewayError(thrown)
    const entry: { status: number; rpc: number; oauth?: string } = errorTable[error.code]
    request.refusal = { code: error.code, reason: error.reason }
    if (error.code === 'GW_INTERNAL') {
      options.uncaught?.()
      request.log.error({ requestId: request.id, err: error.cause ?? error }, 'uncaught error')
    } else {
      const { code, reason, cause: err } = error
      request.log.debug({ requestId: request.id, code, reason, err }, 'refused')
    }
    if (isFailedAttempt(error)) app.countFailure(request)

    // To what is no request a JSON-RPC answer would be one to nobody (R15).
    const isAnswer = error.statusCode === 200
    if (isAnswer && request.messages?.every(({ kind }) => kind !== 'request')) {
      return reply.code(202).send()
    }
    const wwwAuthenticate = challengeFor(error, source)
    const idText = error.idText ?? idTextOf(request)
    if (wwwAuthenticate !== undefined && idText !== undefined && isToldInResult(error, request)) {
      const isModern = request.call.era === 'modern'
      const result = challengeResult({ text: error.message, challenge: wwwAuthenticate, isModern })
      return reply
        .code(200)
        .header('content-type', 'application/json; charset=utf-8')
        .header('cache-control', 'no-store')
        .send(rpcResult(idText, result))
    }
    if (wwwAuthenticate !== undefined) reply.header('www-authenticate', wwwAuthenticate)
    if (error.retryAfterSeconds !== undefined) {
      reply.header('retry-after', String(error.retryAfterSeconds))
    }
    if (error.allow !== undefined) reply.header('allow', error.allow)
    if (error.acceptEncoding !== undefined) {
      reply.header('accept-encoding', error.acceptEncoding)
    }
    reply
      .code(error.statusCode)
      .header('content-type', 'application/json; charset=utf-8')
      .header('cache-control', 'no-store')
    if (entry.oauth !== undefined) {
      return reply.send(JSON.stringify({ error: entry.oauth, error_description: error.message }))
    }
    const body = (idText: string | undefined) =>
      rpcErrorBody({ code: entry.rpc, message: error.message, idText, data: error.data })
    // The answer to a batch that was refused as a whole: each of its requests waits for its own (R48).
    if (isAnswer && request.batch) {
      const texts = request.messages.flatMap(each =>
        each.kind === 'request' ? [body(each.idText)] : []
      )
      return reply.send(`[${texts.join(',')}]`)
    }
    return reply.send(body(idText))
  }

  app.setErrorHandler(function errors(error, request, reply) {
    return answer(error, request, reply)
  })
  app.setNotFoundHandler(function notFound(request, reply) {
    return answer(gatewayError('GW_NOT_FOUND'), request, reply)
  })
  done()
}

/** Installs the error handler and the 404 handler. */
export const errors = fp(plugin, { name: 'errors', dependencies: ['request', 'limits'] })
