// Who calls? One answer for POST, GET and DELETE alike, before the body is read and before 404, 405 and 406 (R39, R80–R84).
// Registered inside the MCP scope only; it refuses to know what is being asked.
import type { FastifyPluginCallback, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { readBearer } from '../auth/bearer.ts'
import type { Verdict, Verifier } from '../auth/verdict.ts'
import { type GatewayError, gatewayError } from '../errors.ts'

/** How many Authorization headers came: Node joins two to one value, of which the second would not be seen; another hop may prefer it. */
function countAuthorization(raw: readonly string[]): number {
  let count = 0
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] as string
    if (name.length === 13 && name.toLowerCase() === 'authorization') count++
  }
  return count
}

/** Writes down who calls; gives the refusal, or null, as Fastify's `next` takes it. */
function identify(request: FastifyRequest, token: string, verdict: Verdict): GatewayError | null {
  if (!verdict.ok) {
    const { reason, detail } = verdict
    return gatewayError('GW_INVALID_TOKEN', {
      reason: `${reason}: ${detail}`,
      isExpired: reason === 'expired'
    })
  }
  request.principal = verdict.principal
  request.token = token
  return null
}

interface Options {
  verifier: Verifier
  /** Whether a call without a token may go on: the policy then decides what it may do. */
  anonymous: boolean
}

const plugin: FastifyPluginCallback<Options> = function authenticate(app, options, done) {
  const { verifier, anonymous } = options

  // preParsing: the address budget has been asked, the body is still unread.
  app.addHook('preParsing', function authenticate(request, _reply, payload, next) {
    const { authorization } = request.headers
    const count = countAuthorization(request.raw.rawHeaders)
    // Only tokens of good form are ever judged: what is remembered word for word need not be read again (measured: 1 µs).
    if (count === 1 && authorization?.startsWith('Bearer ')) {
      const token = authorization.slice('Bearer '.length)
      const remembered = verifier.recall(token)
      if (remembered !== undefined) {
        next(identify(request, token, remembered), payload)
        return
      }
    }
    const bearer = readBearer(authorization, count)
    switch (bearer.kind) {
      case 'malformed':
        next(gatewayError('GW_MALFORMED_AUTHORIZATION', { reason: bearer.reason }))
        return
      case 'none':
        if (anonymous) next(null, payload)
        else next(gatewayError('GW_TOKEN_MISSING', { reason: 'no token' }))
        return
      case 'token': {
        const { token } = bearer
        const verdict = verifier.verify(token)
        if (verdict instanceof Promise) {
          verdict.then(
            late => next(identify(request, token, late), payload),
            (error: Error) => next(error)
          )
        } else next(identify(request, token, verdict), payload)
      }
    }
  })

  // Drupal has the last word on a token: from now on it is refused here.
  app.addHook('onError', function refuse({ token }, _reply, error, next) {
    if (error.code === 'GW_INVALID_TOKEN' && token !== undefined) verifier.refuse(token)
    next()
  })
  done()
}

/** Sets request.principal and request.token, or answers 401 with the challenge, 400, or 503 when nobody can be asked. */
export const authenticate = fp(plugin, { name: 'authenticate', dependencies: ['request'] })
