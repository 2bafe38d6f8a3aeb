// Which era does this POST belong to, and may it go on? The body decides, the headers only have to agree. The order of the
// checks is part of the protocol (docs/architecture.md “Which era”). It refuses to know sessions, tools and the upstream.
import type { ErrorCode, ErrorDetails } from '../errors.ts'
import {
  isObject,
  type Message,
  type Params,
  type RpcNotification,
  type RpcRequest
} from './call.ts'
import { nameMismatch } from './mirrored-headers.ts'
import { isModernVersion, isSupportedModern, MODERN_VERSIONS } from './version.ts'

const prefix = 'io.modelcontextprotocol/'
export const metaKey = {
  protocolVersion: `${prefix}protocolVersion`,
  clientCapabilities: `${prefix}clientCapabilities`,
  clientInfo: `${prefix}clientInfo`,
  serverInfo: `${prefix}serverInfo`,
  subscriptionId: `${prefix}subscriptionId`
} as const

export interface Inbound {
  messages: readonly Message[]
  batch: boolean
  /** As Node gives them: without surrounding blanks. */
  headers: {
    protocolVersion: string | undefined
    mcpMethod: string | undefined
    mcpName: string | undefined
  }
  /** The methods that are served to modern clients; undefined leaves it to an upstream that speaks the modern era itself. */
  methods?: ReadonlySet<string> | undefined
}

/** What to throw: `gatewayError(refusal.reject, refusal.details)`. */
export interface Refusal {
  reject: ErrorCode
  details: ErrorDetails
}
/** `version`: the message's own, checked. Of the legacy era version.ts `legacyVersion` judges the header beside the session. */
export type Envelope = { era: 'modern'; version: string } | { era: 'legacy' } | Refusal

const legacy: Envelope = { era: 'legacy' }

const removed: ReadonlySet<string> = new Set([
  'initialize',
  'ping',
  'logging/setLevel',
  'resources/subscribe',
  'resources/unsubscribe'
])

/**
 * The era of an authenticated POST or the refusal, in that order (R14, R16, R47, R54–R61). Missing client capabilities
 * (-32021, R67) are for an upstream to refuse, which knows what a tool needs: no method of the protocol needs one by itself.
 */
export function classify({ messages, batch, headers, methods }: Inbound): Envelope {
  const header = headers.protocolVersion
  const modernHeader = isModernVersion(header)
  if (batch) return classifyBatch(messages, header)
  const message = messages[0] as Message
  if (message.kind === 'response')
    return modernHeader ? refuse('GW_INVALID_MESSAGE', 'modern clients post no responses') : legacy
  const meta = metaOf(message)
  const claims = meta !== undefined && Object.hasOwn(meta, metaKey.protocolVersion)
  const legacyHandshake =
    message.kind === 'request' && message.method === 'initialize' && !isWholeModernEnvelope(meta)
  if (claims && !legacyHandshake) return checkModern(message, meta, headers, methods)
  if (!modernHeader) return legacy
  if (message.kind === 'notification') return checkNotification(message, header, headers.mcpMethod)
  if (legacyHandshake)
    return mismatch('initialize came with a modern MCP-Protocol-Version', message)
  return incomplete(message, meta === undefined ? '_meta' : metaKey.protocolVersion)
}

function classifyBatch(messages: readonly Message[], header: string | undefined): Envelope {
  for (const message of messages) {
    if (message.kind === 'response') continue
    const meta = metaOf(message)
    if (meta !== undefined && Object.hasOwn(meta, metaKey.protocolVersion))
      return refuse('GW_INVALID_MESSAGE', 'a batch holds a modern message')
    if (message.method === 'initialize')
      return refuse('GW_INVALID_MESSAGE', 'initialize stands in a batch')
  }
  return isModernVersion(header)
    ? refuse('GW_INVALID_MESSAGE', 'a batch came with a modern version header')
    : legacy
}

function checkModern(
  message: RpcRequest | RpcNotification,
  meta: Params,
  headers: Inbound['headers'],
  methods: Inbound['methods']
): Envelope {
  const version = meta[metaKey.protocolVersion]
  if (typeof version !== 'string') return incomplete(message, metaKey.protocolVersion)
  if (message.kind === 'request' && !isObject(meta[metaKey.clientCapabilities]))
    return incomplete(message, metaKey.clientCapabilities)
  if (headers.protocolVersion !== undefined && headers.protocolVersion !== version)
    return mismatch('MCP-Protocol-Version differs from the body', message)
  if (message.kind === 'notification') return checkNotification(message, version, headers.mcpMethod)
  if (!isSupportedModern(version)) return unsupported(message, version)
  if (headers.protocolVersion === undefined)
    return mismatch('MCP-Protocol-Version is missing', message)
  if (headers.mcpMethod === undefined) return mismatch('Mcp-Method is missing', message)
  if (headers.mcpMethod !== message.method)
    return mismatch('Mcp-Method differs from the body', message)
  const wrongName = nameMismatch(message.method, message.params, headers.mcpName)
  if (wrongName !== undefined) return mismatch(wrongName, message)
  if (removed.has(message.method) || methods?.has(message.method) === false)
    return refuse('GW_METHOD_NOT_FOUND', 'no such method in this version', message, { status: 404 })
  return { era: 'modern', version }
}

/** R16: what headers a notification needs is undefined, so none is demanded; those that came must agree. */
function checkNotification(
  message: RpcNotification,
  version: string | undefined,
  mcpMethod: string | undefined
): Envelope {
  if (!isSupportedModern(version)) return unsupported(message, version)
  if (mcpMethod !== undefined && mcpMethod !== message.method)
    return mismatch('Mcp-Method differs from the body', message)
  return { era: 'modern', version }
}

function isWholeModernEnvelope(meta: Params | undefined): boolean {
  return (
    meta !== undefined &&
    isModernVersion(meta[metaKey.protocolVersion]) &&
    isObject(meta[metaKey.clientCapabilities])
  )
}

function metaOf(message: RpcRequest | RpcNotification): Params | undefined {
  const meta = message.params?.['_meta']
  return isObject(meta) ? meta : undefined
}

function incomplete(message: Message, key: string): Refusal {
  return refuse('GW_INCOMPLETE_META', `${key} is missing`, message, {
    hint: `Send ${key === '_meta' ? 'params._meta' : `params._meta["${key}"]`}.`
  })
}

/** `what` names headers only, never their values: it is public. */
function mismatch(what: string, message: Message): Refusal {
  return refuse('GW_HEADER_MISMATCH', what, message, { hint: `${what}.` })
}

function unsupported(message: Message, requested: string | undefined): Refusal {
  return refuse('GW_UNSUPPORTED_MODERN_VERSION', 'version not served', message, {
    data: { supported: [...MODERN_VERSIONS], requested }
  })
}

function refuse(
  reject: ErrorCode,
  reason: string,
  message?: Message,
  details?: ErrorDetails
): Refusal {
  const idText = message?.kind === 'request' ? { idText: message.idText } : {}
  return { reject, details: { reason, ...idText, ...details } }
}
