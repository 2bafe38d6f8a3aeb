// The upstream where Drupal is jsonrpc_mcp and the gateway is the MCP server: single messages and batches in, one JSON answer
// out, 202 where there is nothing to say. It refuses to know what the methods answer (jsonrpc-methods.ts).
import type { OutgoingHttpHeaders } from 'node:http'
import type { FastifyPluginCallback, FastifyReply, FastifyRequest } from 'fastify'
import type { Config } from '../config/schema.ts'
import { gatewayError } from '../errors.ts'
import type { Message, RpcNotification, RpcRequest } from '../mcp/call.ts'
import type { Sessions } from '../mcp/session.ts'
import type { ToolPolicy } from '../policy/tools.ts'
import { withAuthStatus } from './auth-status.ts'
import { answerBatch } from './batch.ts'
import { giveMemoryBack } from './body-memory.ts'
import { createCatalogue } from './catalogue.ts'
import { createInFlight } from './in-flight.ts'
import { createMethods, modernMethods } from './jsonrpc-methods.ts'
import { createListening } from './listening.ts'
import { createStreams, type Refuses, type StreamEvents } from './streams.ts'
import type { DrupalPool } from './pool.ts'
import { checkSite } from './site-check.ts'
import type { RpcText } from './tool-call.ts'
import type { Catalogue, Upstream } from './upstream.ts'

export interface JsonrpcOptions {
  config: Config
  pool: DrupalPool
  toolPolicy: ToolPolicy
  sessions: Pick<Sessions, 'seal' | 'end'>
  log?: { warn(details: object, text: string): void }
  /** Told of every list of tools that came from Drupal. */
  learned?: (catalogue: Catalogue) => void
  events?: StreamEvents
  refuses?: Refuses
}

const isListen = (request: FastifyRequest, { method }: RpcRequest) =>
  request.call.era === 'modern' && method === 'subscriptions/listen'

const json = 'application/json; charset=utf-8'

function send(reply: FastifyReply, text: RpcText | undefined): void {
  if (text === undefined) void reply.code(202).send()
  else if (typeof text === 'string') void reply.header('content-type', json).send(text)
  else sendBytes(reply, text)
}

/** An answer in bytes: made text, measured and made bytes again, a list of 400 KB costs twice as much (measured). */
function sendBytes(reply: FastifyReply, { before, bytes, behind }: Exclude<RpcText, string>): void {
  const length = Buffer.byteLength(before) + bytes.length + behind.length
  const { raw } = reply.headers({ 'content-type': json, 'content-length': length }).hijack()
  raw.writeHead(200, reply.getHeaders() as OutgoingHttpHeaders)
  // A list is kept, and its memory was never lent. With 'finish' the kernel has the bytes.
  raw.once('finish', () => giveMemoryBack(bytes))
  raw.cork()
  raw.write(before)
  raw.write(bytes)
  raw.end(behind)
  raw.uncork()
}

/** The upstream for jsonrpc_mcp. */
export function createJsonrpcUpstream(options: JsonrpcOptions): Upstream {
  const { config, pool, sessions } = options
  const maxBytes = config.drupal.maxResponseBytes
  const catalogue = withAuthStatus({ ...options, catalogue: createCatalogue(options) })
  const inFlight = createInFlight()
  const streams = createStreams(config, options.events, options.refuses)
  const listening = createListening({
    streams,
    catalogue,
    watchSeconds: config.streams.watchSeconds
  })
  const answer = createMethods({
    ...options,
    catalogue,
    inFlight,
    listChanged: listening.isFor
  })

  function notice(request: FastifyRequest, message: RpcNotification): void {
    const { session } = request.call
    if (message.method === 'notifications/cancelled' && session !== undefined) {
      inFlight.cancel(session, message.params?.['requestId'])
    }
  }

  /** What is answered to a message; a notification is acted upon. */
  function answerTo(request: FastifyRequest, reply: FastifyReply, message: Message | undefined) {
    if (message?.kind === 'request') return answer(request, reply, message)
    if (message?.kind === 'notification') notice(request, message)
    return undefined
  }

  const plugin: FastifyPluginCallback = function jsonrpc(app, _options, done) {
    app.post('/', async function post(request, reply) {
      const { messages, batch } = request.call
      const [message] = messages
      if (message?.kind === 'request' && isListen(request, message)) {
        listening.subscribe(request, reply, message)
        return reply
      }
      try {
        if (batch) {
          const answerOne = (one: Message) => answerTo(request, reply, one)
          await answerBatch({ request, reply, maxBytes, answer: answerOne })
        } else send(reply, await answerTo(request, reply, message))
        return reply
      } catch (error) {
        // A modern client that went away has cancelled (R69): nobody is there to be told.
        if (request.call.era === 'modern' && reply.raw.destroyed) return reply.code(499).send()
        throw error
      }
    })

    app.get('/', async function get(request, reply) {
      const { session } = request.call
      if (session === undefined || !listening.isFor(request.principal?.key)) {
        throw gatewayError('GW_METHOD_NOT_ALLOWED', {
          allow: 'POST, DELETE',
          reason: 'there is no stream for this caller'
        })
      }
      listening.open(request, reply)
      return reply
    })

    app.addHook('preClose', function endStreams(next) {
      streams.drain(0)
      next()
    })

    app.delete('/', async function end(request, reply) {
      const { session } = request.call
      if (session === undefined) throw gatewayError('GW_SESSION_REQUIRED')
      await sessions.end(session)
      streams.endSession(session.id)
      return reply.code(204).send()
    })
    done()
  }

  return {
    modernMethods: listening.isOffered
      ? new Set([...modernMethods, 'subscriptions/listen'])
      : modernMethods,
    plugin,
    catalogue,
    check: signal => checkSite(pool.fetch, config.drupal.url, signal)
  }
}
