// Who opens the address in a browser is helped: one page, the same for everybody, at / and at the MCP path. It is a route of
// its own, chosen by the router, so that no MCP request ever comes near it, and it refuses to know tokens and Drupal.
import { createHash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { FastifyPluginCallback } from 'fastify'
import type { Config } from '../config/schema.ts'
import { page } from './landing/page.ts'

/** The weight (RFC 9110 §12.4.2) that an Accept value gives to a media type that it names; undefined when it does not. */
function weight(accept: string, type: string): number | undefined {
  for (const range of accept.toLowerCase().split(',')) {
    const [name = '', ...parameters] = range.split(';').map(part => part.trim())
    if (name !== type) continue
    const q = parameters.find(parameter => parameter.startsWith('q='))
    return q === undefined ? 1 : Number(q.slice(2)) || 0
  }
  return undefined
}

/** Whether a browser wants a page: text/html is named, an event stream is not, and JSON is wanted less. Pure. */
export function prefersPage(accept: string | undefined): boolean {
  if (accept === undefined || weight(accept, 'text/event-stream') !== undefined) return false
  return (weight(accept, 'text/html') ?? 0) > (weight(accept, 'application/json') ?? 0)
}

/** What only programs send: with one of these a request is theirs, whatever it accepts. */
const PROGRAMS = ['authorization', 'mcp-session-id', 'mcp-protocol-version', 'last-event-id']

function isForPeople({ method, headers }: Pick<IncomingMessage, 'method' | 'headers'>): boolean {
  return (
    method === 'GET' &&
    prefersPage(headers.accept) &&
    PROGRAMS.every(name => headers[name] === undefined)
  )
}

/** `GET /` and `GET <mcpPath>` for people. Every other request finds the routes as if this were not here. */
export const landing: FastifyPluginCallback<{ config: Config }> = function landing(
  app,
  { config },
  done
) {
  const { html, policy } = page(config)
  const etag = `"${createHash('sha256').update(html).digest('base64url').slice(0, 22)}"`

  app.addConstraintStrategy({
    name: 'people',
    storage() {
      const handlers = new Map()
      return {
        get: value => handlers.get(value) ?? null,
        set: (value, handler) => void handlers.set(value, handler)
      }
    },
    deriveConstraint: request => isForPeople(request as unknown as IncomingMessage),
    validate() {}
  })
  for (const url of ['/', config.mcpPath]) {
    app.get(url, { constraints: { people: true } }, (request, reply) => {
      reply.headers({
        'content-security-policy': policy,
        'x-content-type-options': 'nosniff',
        'referrer-policy': 'no-referrer',
        'cross-origin-opener-policy': 'same-origin',
        // No shared cache: one that ignores Vary would hand the page to MCP clients.
        'cache-control': 'private, no-cache',
        vary: 'Accept, Authorization, Origin',
        etag
      })
      if (request.headers['if-none-match'] === etag) return reply.code(304).send()
      return reply.type('text/html; charset=utf-8').send(html)
    })
  }
  done()
}
