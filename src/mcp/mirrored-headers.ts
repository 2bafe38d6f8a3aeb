// Do the headers that mirror the body say what the body says? Mcp-Method, Mcp-Name and Mcp-Param-* of the modern era. Nothing is
// ever decided from a header: it only has to agree (R72).
import { isObject, type Params } from './call.ts'

const nameSource: Readonly<Record<string, string>> = {
  'tools/call': 'name',
  'prompts/get': 'name',
  'resources/read': 'uri',
  'tasks/get': 'taskId',
  'tasks/update': 'taskId',
  'tasks/cancel': 'taskId'
}

/** The member of params that Mcp-Name repeats for this method, where there is one (R58). */
export function mirroredName(method: string, params: Params | undefined): string | undefined {
  const member = Object.hasOwn(nameSource, method) ? nameSource[method] : undefined
  const value = member === undefined ? undefined : params?.[member]
  return typeof value === 'string' ? value : undefined
}

/**
 * What is wrong with Mcp-Name, or undefined (R58, R59). A body without the member is left to the checks of the method itself,
 * and a method that mirrors nothing may carry any Mcp-Name.
 */
export function nameMismatch(
  method: string,
  params: Params | undefined,
  header: string | undefined
): string | undefined {
  const expected = mirroredName(method, params)
  if (expected === undefined) return undefined
  if (header === undefined) return 'Mcp-Name is missing'
  const decoded = decodeHeaderValue(header)
  if (decoded === undefined) return 'Mcp-Name is not encoded as it must be'
  return decoded === expected ? undefined : 'Mcp-Name differs from the body'
}

const canonicalBase64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/
const visible = /^[\x20-\x7e\t]*$/

/**
 * The value that a header stands for (R59): `=?base64?…?=` decoded, anything else as it is. Undefined for base64 that is none,
 * bytes that are no UTF-8 and characters that a header must not hold.
 */
export function decodeHeaderValue(value: string): string | undefined {
  if (!visible.test(value)) return undefined
  if (!value.startsWith('=?base64?') || !value.endsWith('?=') || value.length < 11) return value
  const encoded = value.slice(9, -2)
  if (!canonicalBase64.test(encoded)) return undefined
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(
      Buffer.from(encoded, 'base64')
    )
  } catch {
    return undefined
  }
}

/** The other way round: as it is where a header can hold it and nobody would decode it, else base64. */
export function encodeHeaderValue(value: string): string {
  const plain = /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/.test(value) && !value.startsWith('=?')
  return plain ? value : `=?base64?${Buffer.from(value).toString('base64')}?=`
}

/** An argument that a tool wants mirrored: where it stands in `arguments`, and the header's name in lower case. */
export interface MirroredParam {
  path: readonly string[]
  header: string
  numeric: boolean
}

const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
/** Levels of `properties` that are looked into: a schema comes from upstream and could be built to go on forever. */
const maxSchemaDepth = 16

/** The `x-mcp-header` annotations of an input schema that are well-formed and reachable through `properties` alone (R60). */
export function mirroredParams(inputSchema: unknown): MirroredParam[] {
  const found: MirroredParam[] = []
  const visit = (schema: unknown, path: readonly string[]): void => {
    if (!isObject(schema) || path.length > maxSchemaDepth) return
    const { type, properties } = schema
    const header = schema['x-mcp-header']
    if (typeof header === 'string' && token.test(header) && path.length > 0)
      found.push({
        path,
        header: `mcp-param-${header.toLowerCase()}`,
        numeric: type === 'integer' || type === 'number'
      })
    if (isObject(properties))
      for (const [name, inner] of Object.entries(properties)) visit(inner, [...path, name])
  }
  visit(inputSchema, [])
  return found
}

/** Levels of JSON that are written anew: nested too deep, it could not be. */
const maxWrittenDepth = 64

/**
 * The JSON of schemas without their annotations: what a client is shown when nobody will check the headers (R60). A property of
 * that name stays, since it is a schema and no annotation. What is nested deeper than any schema is cut off: it says "anything" there.
 */
export function withoutMirroredParams(json: unknown, depth = 0): unknown {
  if (Array.isArray(json)) {
    // An array that is a member of the last object that is kept stays.
    if (depth > maxWrittenDepth + 1) return []
    return json.map(item => withoutMirroredParams(item, depth + 1))
  }
  if (!isObject(json)) return json
  if (depth > maxWrittenDepth) return {}
  return Object.fromEntries(
    Object.entries(json)
      .filter(([key, value]) => key !== 'x-mcp-header' || isObject(value))
      .map(([key, value]) => [key, withoutMirroredParams(value, depth + 1)])
  )
}

/** The same of JSON text. Nobody checks headers against annotations of a legacy upstream. */
export function withoutAnnotations(text: string): string {
  if (!text.includes('x-mcp-header')) return text
  return JSON.stringify(withoutMirroredParams(JSON.parse(text)))
}

/**
 * What is wrong with the Mcp-Param-* headers of a tools/call, or undefined (R60). `headers` has names in lower case, as Node gives
 * them. A value that is absent or null in the body needs no header, integers compare by value ("42.0" is 42), and headers of no
 * annotation are not looked at.
 */
export function paramMismatch(
  declared: readonly MirroredParam[],
  args: unknown,
  headers: Readonly<Record<string, string | string[] | undefined>>
): string | undefined {
  for (const { path, header, numeric } of declared) {
    const expected = valueAt(args, path)
    const text = asHeaderText(expected)
    if (text === undefined) continue
    const sent = headers[header]
    if (typeof sent !== 'string') return `${header} is missing`
    const decoded = decodeHeaderValue(sent)
    if (decoded === undefined) return `${header} is not encoded as it must be`
    const equal =
      numeric && typeof expected === 'number' && /^-?\d+(\.\d+)?$/.test(decoded)
        ? Number(decoded) === expected
        : decoded === text
    if (!equal) return `${header} differs from the body`
  }
  return undefined
}

/** The Mcp-Param-* headers that a tools/call with these arguments needs (R60). */
export function paramHeaders(
  declared: readonly MirroredParam[],
  args: unknown
): Record<string, string> {
  const headers: Record<string, string> = {}
  for (const { path, header } of declared) {
    const text = asHeaderText(valueAt(args, path))
    if (text !== undefined) headers[header] = encodeHeaderValue(text)
  }
  return headers
}

/**
 * The Mcp-Param-* headers that came; undefined where there is none. Whoever does not know what they repeat has to forward them (R60).
 * `headers` has names in lower case.
 */
export function sentParamHeaders(
  headers: Readonly<Record<string, string | string[] | undefined>>
): Record<string, string> | undefined {
  let sent: Record<string, string> | undefined
  for (const name in headers) {
    const value = headers[name]
    if (name.startsWith('mcp-param-') && typeof value === 'string') (sent ??= {})[name] = value
  }
  return sent
}

function valueAt(root: unknown, path: readonly string[]): unknown {
  let value = root
  for (const name of path)
    value = isObject(value) && Object.hasOwn(value, name) ? value[name] : undefined
  return value
}

/** Undefined where no header is expected: for null, for objects and for numbers that no header can stand for exactly. */
function asHeaderText(value: unknown): string | undefined {
  if (typeof value === 'string') return value
  if (typeof value === 'boolean') return String(value)
  if (typeof value !== 'number') return undefined
  return Number.isInteger(value) && !Number.isSafeInteger(value) ? undefined : String(value)
}
