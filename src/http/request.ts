// What a request carries on its way: declared once, filled in by the steps of app.ts. It refuses to judge anything.
import type { IncomingHttpHeaders } from 'node:http'
import { isIP } from 'node:net'
import type { FastifyPluginCallback } from 'fastify'
import fp from 'fastify-plugin'
import type { Principal } from '../auth/principal.ts'
import { sendAtEndOfTurn } from '../end-of-turn.ts'
import type { Call, Message } from '../mcp/call.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Who calls; set by authenticate, undefined before it and for anonymous callers. */
    principal: Principal | undefined
    /** The caller's bearer token, validated: goes to Drupal and nowhere else. */
    token: string | undefined
    /** The admitted call; set by admit. */
    call: Call
    /** The messages as the parser read them; set before they are judged, so that refusals can name the id. */
    messages: readonly Message[]
    /** Why the request was refused, for the audit line; undefined when it was not. */
    refusal: { code: string; reason: string | undefined } | undefined
    /** performance.now() at arrival. */
    arrivedAt: number
    /** Milliseconds spent waiting for, and waiting on, Drupal. */
    queueMs: number
    drupalMs: number
    /** Bytes read from the client's body, and written of an answer that has no Content-Length. */
    bytesIn: number
    bytesOut: number
    /** How an allowed call went, as the upstream knows it. */
    outcome: 'ok' | 'rpc-error' | 'aborted'
  }
  interface FastifyContextConfig {
    /** Probes come by address: the Host and Origin lists do not hold for this route. */
    anyHost?: boolean
    /** Public documents: any origin may read them. */
    anyOrigin?: boolean
  }
}

/** An address with its port, as some proxies write it (Azure's do): `203.0.113.9:4711`, `[2001:db8::1]:4711`. */
const withPort = /^(?:(\d{1,3}(?:\.\d{1,3}){3}):\d{1,5}|\[([\da-f:.]+)\](?::\d{1,5})?)$/i

/**
 * The end of an X-Forwarded-For that holds nothing but addresses, without ports: with them each connection would count as another
 * caller, and no proxy would be one of those trusted. Behind an entry that is no address nobody knows who stands; believed, it would
 * be a name of the caller's choice.
 */
function forwardedAddresses(value: string): string {
  const entries = value.split(',').map(entry => entry.trim().replace(withPort, '$1$2'))
  const hidden = entries.findLastIndex(entry => entry !== '' && isIP(entry) === 0)
  return entries.slice(hidden + 1).join(', ')
}

/** Whether a body follows the head (RFC 9112 §6). */
const hasBody = ({
  'content-length': length = '0',
  'transfer-encoding': coding
}: IncomingHttpHeaders) => length !== '0' || coding !== undefined

const plugin: FastifyPluginCallback = function request(app, _options, done) {
  app.decorateRequest('principal', undefined)
  app.decorateRequest('token', undefined)
  app.decorateRequest('call')
  app.decorateRequest('messages')
  app.decorateRequest('refusal', undefined)
  app.decorateRequest('arrivedAt', 0)
  app.decorateRequest('queueMs', 0)
  app.decorateRequest('drupalMs', 0)
  app.decorateRequest('bytesIn', 0)
  app.decorateRequest('bytesOut', 0)
  app.decorateRequest('outcome', 'ok')
  // Only /mcp reads bodies, and only those of callers that it knows. What anybody may send is not even waited for: a body of 4 MB, in
  // pieces of one byte, would take 800 MB to read.
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', function leave(_request, _body, next) {
    next(null)
  })
  app.addHook('onRequest', function arrive(request, _reply, next) {
    request.arrivedAt = performance.now()
    const { headers } = request
    const forwarded = headers['x-forwarded-for']
    if (typeof forwarded === 'string') {
      headers['x-forwarded-for'] = forwardedAddresses(forwarded)
    }
    next()
  })
  // For answers that leave before all of the body has come: a proxy would use the connection again, and where it never sends the rest
  // (HAProxy 2.6) the next request on it, anybody's, would be read as that rest (RFC 9112 §9.3).
  app.addHook('onSend', function closeBeforeTheRest({ raw }, reply, payload, next) {
    if (raw.complete || !hasBody(raw.headers)) {
      next(null, payload)
      return
    }
    // What came with the head is read by then.
    sendAtEndOfTurn({
      sendNow() {
        if (!raw.complete) reply.header('connection', 'close')
        next(null, payload)
      }
    })
  })
  done()
}

/** Declares the fields above on every request, whose body nobody reads unless a scope says so. */
export const request = fp(plugin, { name: 'request' })
