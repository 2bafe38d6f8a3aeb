// What does the bridge have to know of a message it passes on? Its kind, its ids as they were written, and the headers that the
// modern era repeats. It changes nothing and refuses nothing: what it does not know goes through.
import { isObject, parseJson } from '../mcp/call.ts'
import { metaKey } from '../mcp/envelope.ts'
import { readMessage } from '../mcp/message.ts'
import {
  encodeHeaderValue,
  mirroredName,
  mirroredParams,
  paramHeaders
} from '../mcp/mirrored-headers.ts'

export interface Look {
  /** `other`: no JSON-RPC that this program knows, or several messages at once. */
  kind: 'request' | 'notification' | 'response' | 'other'
  method?: string
  params?: Record<string, unknown>
  /** Ids of the requests in it, as JSON text: what must be answered. */
  requests: string[]
  /** Of a response: what it answers, as JSON text. */
  answers?: string
  /** The version that a modern request names in itself (R55). */
  modern?: string
}

/** Looks at one line. Undefined for what is no JSON at all. */
export function look(line: string): Look | undefined {
  const reading = readMessage(Buffer.from(line), { maxBatch: 1000 })
  if (!reading.ok) {
    if (reading.code === 'GW_PARSE_ERROR') return undefined
    return { kind: 'other', requests: reading.idText === undefined ? [] : [reading.idText] }
  }
  const [message] = reading.messages
  const requests = reading.messages.flatMap(one => (one.kind === 'request' ? [one.idText] : []))
  if (message === undefined || reading.batch) return { kind: 'other', requests }
  if (message.kind === 'response') {
    return { kind: 'response', requests, answers: JSON.stringify(message.id ?? null) }
  }
  const { kind, method, params } = message
  const meta = params?.['_meta'] as Record<string, unknown> | undefined
  const modern = meta?.[metaKey.protocolVersion]
  return {
    kind,
    method,
    requests,
    ...(params === undefined ? {} : { params }),
    ...(typeof modern === 'string' ? { modern } : {})
  }
}

/** JSON on one line: line breaks can stand only between its parts, never inside a string. */
export function oneLine(json: string): string {
  return json.replaceAll(/[\r\n]+/g, ' ').trim()
}

/** Whether this is a JSON-RPC message, or several at once: what else a server says is not for the client. */
export function isMessage(text: string): boolean {
  const value = parseJson(text)
  const all: unknown[] = Array.isArray(value) ? value : [value]
  return all.length > 0 && all.every(one => isObject(one) && one['jsonrpc'] === '2.0')
}

/** The refusal in a body of status 4xx or 5xx, for this id; undefined when the body is no JSON-RPC error. */
export function refusalFor(idText: string, body: string): string | undefined {
  const value = parseJson(body) as { error?: { code?: unknown } } | null | undefined
  if (typeof value?.error?.code !== 'number') return undefined
  return `{"jsonrpc":"2.0","id":${idText},"error":${JSON.stringify(value.error)}}`
}

/** Arguments that tools want repeated as headers, learned from the lists that passed by (R60). */
export type Mirrored = Map<string, ReturnType<typeof mirroredParams>>

/** The headers of a modern request (R55, R58, R60). */
export function modernHeaders(seen: Look, mirrored: Mirrored): Record<string, string> {
  const { method = '', params = {}, modern } = seen
  if (modern === undefined) return {}
  const headers: Record<string, string> = {
    'mcp-protocol-version': modern,
    'mcp-method': encodeHeaderValue(method)
  }
  const name = mirroredName(method, params)
  if (name === undefined) return headers
  headers['mcp-name'] = encodeHeaderValue(name)
  if (method !== 'tools/call') return headers
  return { ...headers, ...paramHeaders(mirrored.get(name) ?? [], params['arguments']) }
}

/** Learns from a result of tools/list. */
export function learnMirrored(result: unknown, mirrored: Mirrored): void {
  const { tools } = (result ?? {}) as { tools?: unknown }
  if (!Array.isArray(tools)) return
  for (const tool of tools as { name?: unknown; inputSchema?: unknown }[]) {
    if (typeof tool?.name !== 'string') continue
    const wanted = mirroredParams(tool.inputSchema)
    if (wanted.length > 0) mirrored.set(tool.name, wanted)
    else mirrored.delete(tool.name)
  }
}
