// How does a client of one era talk to an upstream of the other? Translated message by message, as text: ids and
// arguments stay as they were written. What cannot be translated is not advertised. No streams, no sessions, no HTTP here.
import { gatewayError } from '../errors.ts'
import { isObject, type Params, parseJson, type RpcRequest } from './call.ts'
import { metaKey } from './envelope.ts'
import { keepMembers, setMembers } from './json-members.ts'
import { encodeHeaderValue, mirroredName } from './mirrored-headers.ts'
import { resultFrames, rpcErrorBody, rpcResult } from './rpc-error.ts'
import { gatewayInfo, type ServerDescription, writable } from './server-info.ts'
import { MODERN_VERSIONS } from './version.ts'

/** A JSON-RPC answer and the HTTP status that goes with it. */
export interface RpcAnswer {
  status: number
  body: string
}

/** Whether the gateway itself watches the upstream's tools and tells listening clients. */
export interface Watches {
  tools: boolean
}

/** What an upstream of the other era is said to offer, by its `initialize` or `server/discover` result. Throws GW_UPSTREAM_INVALID. */
export function describeUpstream(result: Params, watches: Watches): ServerDescription {
  const named = result['serverInfo'] ?? asObject(result['_meta'])[metaKey.serverInfo]
  const instructions = result['instructions']
  return writable({
    info: isObject(named) ? named : gatewayInfo,
    capabilities: bridgeable(asObject(result['capabilities']), watches),
    instructions: typeof instructions === 'string' ? instructions : undefined
  })
}

/** Subscriptions, logging and tasks need a server that remembers, which the other era does not have. */
function bridgeable(capabilities: Params, watches: Watches): Params {
  const offered: Params = {}
  for (const name of ['tools', 'prompts', 'resources', 'completions', 'experimental']) {
    const capability = capabilities[name]
    if (!isObject(capability)) continue
    const { listChanged: _listChanged, subscribe: _subscribe, ...rest } = capability
    offered[name] = name === 'tools' && watches.tools ? { ...rest, listChanged: true } : rest
  }
  return offered
}

/**
 * Modern request → legacy upstream: without the envelope in `_meta`; progress token and trace keys stay (R77). `idText`: another id,
 * and another progress token where there is one, for a session in which other clients may use the same (R50).
 */
export function toLegacyRequest(request: string, idText?: string): string {
  // A string or a number: what else is written there names nothing.
  const token = (own = '') => (/^["\d-]/.test(own) ? idText : own || undefined)
  const withoutEnvelope = (meta = '{}') => {
    const kept = keepMembers(meta, name => !name.startsWith('io.modelcontextprotocol/'))
    if (kept === '{}') return undefined
    return idText === undefined ? kept : setMembers(kept, { progressToken: token })
  }
  return setMembers(request, {
    ...(idText !== undefined && { id: idText }),
    params: (params = '{}') => setMembers(params, { _meta: withoutEnvelope })
  })
}

const cacheable: ReadonlySet<string> = new Set([
  'server/discover',
  'tools/list',
  'prompts/list',
  'resources/list',
  'resources/templates/list',
  'resources/read'
])

export interface ModernAnswerOptions {
  /** The method of the request that is answered. */
  method: string
  info: Params
  /** Milliseconds for which a list may be kept by the client. */
  ttlMs: number
  /** Where the client's own id is not the one under which the upstream was asked. */
  ids?: AnswerIds
}

interface AnswerIds {
  own: string
  asked: string
}

/**
 * Legacy answer → modern client: what every modern result must have (R62–R64), error codes that it may see (R74, R75). Throws
 * GW_UPSTREAM_INVALID for text that is no answer.
 */
export function toModernAnswer(answer: string, options: ModernAnswerOptions): RpcAnswer {
  const { method, info, ttlMs, ids } = options
  const usual = ids && cutResult(answer, ids.asked)
  const { result, error }: ReturnType<typeof parseAnswer> = usual ?? parseAnswer(answer)
  const named = ids === undefined ? {} : { id: ids.own }
  if (result === undefined) return toModernError(answer, named, (error as RpcError).code)
  const complete = (text = '{}') => {
    const { names, front, added, server } = membersFor(
      cacheable.has(method) ? ttlMs : undefined,
      info
    )
    // In front nothing has to be looked for: that and the cut save two fifths of what an answer of 100 KB costs (measured).
    if (names.every(name => !Object.hasOwn(result, name))) return inFront(text, front)
    const meta = (old = '{}') => setMembers(isObject(result['_meta']) ? old : '{}', server)
    return setMembers(text, { ...added, _meta: meta })
  }
  const body =
    usual === undefined
      ? setMembers(answer, { ...named, result: complete })
      : rpcResult((ids as AnswerIds).own, complete(usual.text))
  return { status: 200, body }
}

interface ModernMembers {
  names: readonly string[]
  /** As JSON text by name, but for `_meta`. */
  added: Readonly<Record<string, string>>
  /** The member of `_meta`. */
  server: Readonly<Record<string, string>>
  /** An object of all of them. */
  front: string
}

const membersOfServer = new WeakMap<Params, Map<number | undefined, ModernMembers>>()

/**
 * What a result must have beyond the legacy one, `ttlMs` where it may be kept. Made once for each server, as making it for each answer
 * would be half of what an answer costs here, 4 % of a call (measured).
 */
function membersFor(ttlMs: number | undefined, info: Params): ModernMembers {
  const known = membersOfServer.get(info)?.get(ttlMs)
  if (known !== undefined) return known
  const added: Record<string, string> = {
    resultType: '"complete"',
    // What Drupal lists depends on who asks: never public (R65).
    ...(ttlMs !== undefined && { ttlMs: String(ttlMs), cacheScope: '"private"' })
  }
  const server = { [metaKey.serverInfo]: JSON.stringify(info) }
  const front = setMembers('{}', { ...added, _meta: setMembers('{}', server) })
  const members = { names: [...Object.keys(added), '_meta'], added, server, front }
  const ofServer = membersOfServer.get(info) ?? new Map<number | undefined, ModernMembers>()
  membersOfServer.set(info, ofServer.set(ttlMs, members))
  return members
}

/** The members of `first`, which has some, before those of `object`. */
function inFront(object: string, first: string): string {
  const rest = object.slice(object.indexOf('{') + 1)
  return `${first.slice(0, -1)}${/^\s*\}/.test(rest) ? '' : ','}${rest}`
}

/** The result of an answer in one of the usual orders; undefined for another one. Parsing the cut proves it whole. */
function cutResult(answer: string, id: string): { text: string; result: Params } | undefined {
  for (const frame of resultFrames) {
    const [head, tail] = frame(id)
    if (!answer.startsWith(head) || !answer.endsWith(tail)) continue
    const text = answer.slice(head.length, -tail.length)
    const result = parseJson(text)
    return isObject(result) ? { text, result } : undefined
  }
  return undefined
}

/** What the envelope of a request has earned (R55, R56, R67). */
const ofEnvelope: ReadonlySet<number> = new Set([-32020, -32021, -32022])

/** An error of a modern upstream as a modern client may see it (R61, R74). Throws GW_UPSTREAM_INVALID for text that is none. */
export function toKnownError(answer: string): RpcAnswer {
  const { code = 0 } = parseAnswer(answer).error ?? {}
  return ofEnvelope.has(code) ? { status: 400, body: answer } : toModernError(answer, {}, code)
}

function toModernError(answer: string, named: { id?: string }, code: number): RpcAnswer {
  // Codes that the modern era keeps for itself: from a legacy server they mean something else, or nothing (R74).
  const isReserved = code <= -32020 && code >= -32099
  const renamed = code === -32002 ? '-32602' : isReserved ? '-32603' : undefined
  const rename = (error = '{}') => setMembers(error, { code: renamed })
  const changes = { ...named, ...(renamed !== undefined && { error: rename }) }
  return { status: code === -32601 ? 404 : 200, body: setMembers(answer, changes) }
}

/** A method that a header can repeat, which has no other spelling for it (R58). */
const headerMethod = /^[\x21-\x7e]{1,128}$/

/**
 * Legacy request → modern upstream: with the envelope in `_meta`, and the headers that repeat it (R55–R58). No client capability is
 * declared: what the upstream would then ask back has no way to the client. Throws GW_METHOD_NOT_FOUND for what no header can name.
 */
export function toModernRequest(
  text: string,
  request: RpcRequest
): { body: string; headers: Record<string, string> } {
  if (!headerMethod.test(request.method)) throw gatewayError('GW_METHOD_NOT_FOUND')
  const envelope = {
    [metaKey.protocolVersion]: JSON.stringify(MODERN_VERSIONS[0]),
    [metaKey.clientCapabilities]: '{}',
    [metaKey.clientInfo]: JSON.stringify(gatewayInfo)
  }
  const isKept = isObject(request.params?.['_meta'])
  const withEnvelope = (meta = '{}') => setMembers(isKept ? meta : '{}', envelope)
  const name = mirroredName(request.method, request.params)
  return {
    body: setMembers(text, {
      params: (params = '{}') => setMembers(params, { _meta: withEnvelope })
    }),
    headers: {
      'mcp-protocol-version': MODERN_VERSIONS[0],
      'mcp-method': request.method,
      ...(name !== undefined && { 'mcp-name': encodeHeaderValue(name) })
    }
  }
}

/**
 * Modern answer → legacy client. Legacy clients ignore the members they do not know, so results go as they are; a 404 would tell them
 * that the session is gone, so errors are 200 (R61). Throws GW_UPSTREAM_INVALID for text that is no answer.
 */
export function toLegacyAnswer(answer: string, request: RpcRequest): RpcAnswer {
  const { result, error } = parseAnswer(answer)
  const asksBack = result?.['resultType'] === 'input_required'
  // Our own envelope was refused: nothing the client could mend.
  const envelopeRefused = ofEnvelope.has(error?.code ?? 0)
  if (!asksBack && !envelopeRefused) return { status: 200, body: answer }
  const message = asksBack
    ? 'This call needs input from the user, which this protocol version cannot carry. Use a client that speaks 2026-07-28.'
    : 'The site and the gateway do not agree on the protocol.'
  return { status: 200, body: rpcErrorBody({ idText: request.idText, code: -32603, message }) }
}

interface RpcError {
  code: number
}

/** One of the two, or GW_UPSTREAM_INVALID. */
function parseAnswer(text: string): { result?: Params; error?: RpcError } {
  const answer = parseJson(text)
  if (answer === undefined) {
    throw gatewayError('GW_UPSTREAM_INVALID', { reason: 'the answer is not JSON' })
  }
  const { result, error } = asObject(answer)
  if (isObject(result)) return { result }
  const code = asObject(error)['code']
  if (typeof code === 'number') return { error: { code } }
  throw gatewayError('GW_UPSTREAM_INVALID', { reason: 'the answer has no result and no error' })
}

function asObject(value: unknown): Params {
  return isObject(value) ? value : {}
}
