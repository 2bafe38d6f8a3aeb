// What is asked, in which era, in whose session? The bytes are read once and kept; the parsed copy is only looked at. Here a
// request becomes a Call or a refusal (R10–R15, R25–R29, R33–R36, R46, R47; docs/architecture.md “Which era”). It refuses to know
// tools and budgets.
import { METHODS } from 'node:http'
import type { FastifyPluginCallback, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { Config } from '../config/schema.ts'
import { gatewayError } from '../errors.ts'
import type { Call, Message, RpcRequest, SessionState } from '../mcp/call.ts'
import { classify } from '../mcp/envelope.ts'
import { readMessage } from '../mcp/message.ts'
import type { Sessions } from '../mcp/session.ts'
import {
  FIRST_LEGACY,
  isModernVersion,
  legacyVersion,
  negotiate,
  supportedVersionsHint
} from '../mcp/version.ts'
import { after } from './after.ts'
import { refuseParsed } from './parsed-body.ts'
import { ALLOWED_METHODS } from './server.ts'
import { readWhole } from './whole-request.ts'

const NO_BYTES = Buffer.alloc(0)
const served = new Set(['POST', 'GET', 'DELETE'])
/** All that Node can read, but for the preflight and CONNECT, which never gets to a route. */
const others = METHODS.filter(name => !served.has(name) && !['OPTIONS', 'CONNECT'].includes(name))

interface Options {
  sessions: Sessions
  /** Whether a legacy POST must name its session (R25). */
  needsSession: boolean
  bounds: Pick<Config['server'], 'maxBatch' | 'maxBufferedBytes'>
  /** What is served to modern clients; undefined leaves it to an upstream that speaks the modern era itself. */
  modernMethods: ReadonlySet<string> | undefined
}

/** R10, leniently: some listed type, or a wildcard that covers one, must be acceptable. Pure. */
export function isAcceptable(accept: string | undefined): boolean {
  if (accept === undefined) return true
  return /(^|[,\s])(\*\/\*|application\/(json|\*)|text\/(event-stream|\*))\s*($|[;,])/i.test(accept)
}

/** R39, as leniently: an event stream must be acceptable. Pure. */
function isStreamAcceptable(accept: string | undefined): boolean {
  if (accept === undefined) return true
  return /(^|[,\s])(\*\/\*|text\/(event-stream|\*))\s*($|[;,])/i.test(accept)
}

/** Whether a body is compressed, as far as its header says. Pure. */
function isCoded(coding: string | undefined): boolean {
  return coding !== undefined && !/^(identity)?$/i.test(coding)
}

const isCallWithoutId = (message: Message) =>
  message.kind === 'notification' && !message.method.startsWith('notifications/')

function one(header: string | string[] | undefined): string | undefined {
  return Array.isArray(header) ? header.join(', ') : header
}

const plugin: FastifyPluginCallback<Options> = function admit(app, options, done) {
  const { sessions, needsSession, modernMethods } = options
  const { maxBatch, maxBufferedBytes } = options.bounds
  const bodyLimit = app.initialConfig.bodyLimit as number

  function openSession(request: FastifyRequest): SessionState | Promise<SessionState> {
    const sealed = one(request.headers['mcp-session-id'])
    if (sealed === undefined) throw gatewayError('GW_SESSION_REQUIRED', { reason: 'no session id' })
    return after(sessions.open(sealed, request.principal?.key ?? ''), session => {
      if (session !== undefined) return session
      throw gatewayError('GW_SESSION_NOT_FOUND', { reason: 'tampered, expired, foreign or ended' })
    })
  }

  /** The version that governs a legacy request, or 400 (R35). */
  function versionOf(request: FastifyRequest, session: SessionState | undefined): string {
    const version = legacyVersion(one(request.headers['mcp-protocol-version']), session?.version)
    if (version === undefined) {
      throw gatewayError('GW_UNSUPPORTED_VERSION', {
        reason: 'version header',
        hint: supportedVersionsHint()
      })
    }
    return version
  }

  async function isLive(request: FastifyRequest): Promise<boolean> {
    try {
      await openSession(request)
      return true
    } catch {
      return false
    }
  }

  async function initialize(request: FastifyRequest, bytes: Buffer): Promise<Call> {
    const { messages, batch } = request
    if (batch) throw gatewayError('GW_INVALID_MESSAGE', { hint: '"initialize" stands alone.' })
    versionOf(request, undefined)
    // A dead id is no obstacle to starting anew; a live one is a mistake of the client (R29).
    if (request.headers['mcp-session-id'] !== undefined && (await isLive(request))) {
      throw gatewayError('GW_INVALID_MESSAGE', { hint: 'This session is initialized already.' })
    }
    const [{ params }] = messages as [RpcRequest]
    const version = negotiate(params?.['protocolVersion'])
    return { era: 'legacy', messages, batch, bytes, version, session: undefined }
  }

  function legacyPost(request: FastifyRequest, bytes: Buffer): Call | Promise<Call> {
    const { messages, batch } = request
    if (messages.some(m => m.kind === 'request' && m.method === 'initialize')) {
      return initialize(request, bytes)
    }
    const claimed = versionOf(request, undefined)
    const isSingle = !needsSession && request.headers['mcp-session-id'] === undefined
    const opened = isSingle
      ? sessions.single(request.principal?.key ?? '', claimed)
      : openSession(request)
    return after(opened, session => {
      const version = versionOf(request, session)
      if (batch && version !== FIRST_LEGACY) {
        throw gatewayError('GW_INVALID_MESSAGE', { hint: `Batches ended with ${FIRST_LEGACY}.` })
      }
      return { era: 'legacy', messages, batch, bytes, version, session }
    })
  }

  function post(request: FastifyRequest, bytes: Buffer): Call | Promise<Call> {
    const { messages, batch, headers } = request
    const found = classify({
      messages,
      batch,
      headers: {
        protocolVersion: one(headers['mcp-protocol-version']),
        mcpMethod: one(headers['mcp-method']),
        mcpName: one(headers['mcp-name'])
      },
      methods: modernMethods
    })
    if ('reject' in found) throw gatewayError(found.reject, found.details)
    if (found.era === 'legacy') return legacyPost(request, bytes)
    return { era: 'modern', messages, batch, bytes, version: found.version, session: undefined }
  }

  /** GET and DELETE are of the legacy era; a session id that is sent must be good. */
  async function streamOrEnd(request: FastifyRequest): Promise<Call> {
    if (isModernVersion(one(request.headers['mcp-protocol-version']))) {
      throw gatewayError('GW_METHOD_NOT_ALLOWED', { allow: 'POST' })
    }
    const version = versionOf(request, undefined)
    const optional = request.method === 'GET' && request.headers['mcp-session-id'] === undefined
    const session = optional ? undefined : await openSession(request)
    if (request.method === 'GET' && session && !isStreamAcceptable(request.headers.accept)) {
      throw gatewayError('GW_NOT_ACCEPTABLE', { hint: 'GET answers with text/event-stream.' })
    }
    return {
      era: 'legacy',
      messages: [],
      batch: false,
      bytes: NO_BYTES,
      version: session?.version ?? version,
      session
    }
  }

  function callOf(request: FastifyRequest): Call | Promise<Call> {
    if (request.method !== 'POST') return streamOrEnd(request)
    if (request.body === undefined) throw gatewayError('GW_UNSUPPORTED_MEDIA_TYPE')
    if (!isAcceptable(request.headers.accept)) throw gatewayError('GW_NOT_ACCEPTABLE')
    return post(request, request.body as Buffer)
  }

  app.decorateRequest('batch', false)
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', function read(request, payload, next) {
    if (isCoded(request.headers['content-encoding'])) {
      next(gatewayError('GW_UNSUPPORTED_CODING', { acceptEncoding: 'identity' }))
      return
    }
    readWhole(payload, bodyLimit, (error, bytes) => {
      if (bytes === undefined || request.method !== 'POST') {
        next(error)
        return
      }
      request.bytesIn = bytes.length
      const refusal = refuseParsed(request.raw, bytes, maxBufferedBytes)
      if (refusal !== undefined) {
        next(refusal)
        return
      }
      const reading = readMessage(bytes, { maxBatch })
      if (!reading.ok) {
        const { reason, idText } = reading
        next(gatewayError(reading.code, { reason, ...(idText === undefined ? {} : { idText }) }))
        return
      }
      // The SDKs would not run it either; a server that does would be asked with no budget drawn and no scope looked at (R48).
      if (reading.messages.some(isCallWithoutId)) {
        next(gatewayError('GW_INVALID_MESSAGE', { hint: 'Only notifications go without an id.' }))
        return
      }
      request.messages = reading.messages
      request.batch = reading.batch
      next(null, bytes)
    })
  })

  // Some clients name a content type on a DELETE that has no content; what it is makes no difference (R28).
  app.addContentTypeParser('*', function ignore(request, payload, next) {
    if (request.method === 'POST') next(gatewayError('GW_UNSUPPORTED_MEDIA_TYPE'))
    else readWhole(payload, bodyLimit, error => next(error))
  })

  // Other methods have a route too: the caller learns of the 405 only after the 401 (R8, R39).
  for (const name of others) if (!app.supportedMethods.includes(name)) app.addHttpMethod(name)
  app.route({ method: others, url: '/', handler: async () => {} })
  app.addHook('preParsing', function method(request, _reply, payload, next) {
    if (served.has(request.method)) next(null, payload)
    else next(gatewayError('GW_METHOD_NOT_ALLOWED', { allow: ALLOWED_METHODS }))
  })

  app.addHook('preHandler', function admit(request, _reply, next) {
    const admitted = after(callOf(request), call => {
      request.call = call
    })
    if (admitted instanceof Promise) admitted.then(() => next(), next)
    else next()
  })
  done()
}

declare module 'fastify' {
  interface FastifyRequest {
    /** Whether the body was an array. */
    batch: boolean
  }
}

/** Sets request.call, or refuses as test/gateway/status-table.test.ts says. */
export const admit = fp(plugin, { name: 'admit', dependencies: ['authenticate'] })
