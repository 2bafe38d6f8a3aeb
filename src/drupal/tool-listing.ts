// A tool as Drupal lists it → a tool as MCP wants it. Drupal writes empty objects as arrays, result schemas that are no objects,
// and annotations of its own; one such tool would make strict clients refuse the whole list. Pure.
import { isObject } from '../mcp/call.ts'
import { readAuthAnnotation } from '../policy/tools.ts'
import type { CatalogueTool } from './upstream.ts'

/** So much of a list is read: a site may go on for ever. */
export const maxPages = 100
export const maxTools = 5000

type Json = Record<string, unknown>

/** Nested deeper than this, a schema is cut off, and says "anything" there: too deep, it could not be written as JSON. */
const MAX_DEPTH = 32

/** Routes of jsonrpc_mcp itself at the place of a tool's name. */
const reserved = new Set(['list', 'describe', 'invoke'])

/** Members of a schema that hold schemas by name. */
const schemaMaps = new Set(['properties', 'patternProperties', '$defs', 'definitions'])

/** Members of a schema that are a schema themselves. */
const schemaMembers = new Set([
  'additionalProperties',
  'unevaluatedProperties',
  'propertyNames',
  'items',
  'additionalItems',
  'unevaluatedItems',
  'contains',
  'not',
  'if',
  'then',
  'else'
])

/** Members of a schema that hold values: what looks like a schema there is none. */
const valueMembers = new Set(['default', 'const', 'enum', 'examples'])

const hints = new Set(['readOnlyHint', 'destructiveHint', 'idempotentHint', 'openWorldHint'])

/**
 * Whether a name can be a tool: 1–128 of A–Z a–z 0–9 . _ -, and no name that would lead elsewhere when it stands in a URL (`.`
 * and `..`, or a route of jsonrpc_mcp).
 */
export function isToolName(name: unknown): name is string {
  return (
    typeof name === 'string' &&
    /^[A-Za-z0-9._-]{1,128}$/.test(name) &&
    !/^\.+$/.test(name) &&
    !reserved.has(name)
  )
}

const isEmpty = (value: unknown) => Array.isArray(value) && value.length === 0

/**
 * A JSON schema, a map of them or a value, with PHP's `[]` made `{}` where a schema is due, and without `x-mcp-header`: no header
 * mirrors an argument here (R60).
 */
function clean(json: unknown, as: 'schema' | 'map' | 'value', depth = 0): unknown {
  if (Array.isArray(json)) {
    // An array that is a member of the last object that is kept stays.
    if (depth > MAX_DEPTH + 1) return []
    return json.map(item => (as === 'schema' && isEmpty(item) ? {} : clean(item, as, depth + 1)))
  }
  if (!isObject(json)) return json
  if (depth > MAX_DEPTH) return {}
  const cleaned: Json = {}
  for (const [key, value] of Object.entries(json)) {
    if (key === 'x-mcp-header' || key === '__proto__') continue
    const isMap = as === 'schema' && schemaMaps.has(key)
    const isSchema = as === 'map' || (as === 'schema' && schemaMembers.has(key))
    if ((isMap && !isObject(value)) || (isSchema && (value === null || isEmpty(value))))
      cleaned[key] = {}
    else if (as === 'value' || (as === 'schema' && valueMembers.has(key))) {
      cleaned[key] = clean(value, 'value', depth + 1)
    } else cleaned[key] = clean(value, isMap ? 'map' : 'schema', depth + 1)
  }
  return cleaned
}

function inputSchema(schema: unknown): Json {
  if (!isObject(schema) || (schema['type'] ?? 'object') !== 'object') {
    return { type: 'object', properties: {} }
  }
  return { ...(clean(schema, 'schema') as Json), type: 'object' }
}

function annotationsOf(annotations: unknown): Json | undefined {
  if (!isObject(annotations)) return undefined
  const kept = Object.entries(clean(annotations, 'value') as Json).filter(
    ([key, value]) =>
      (!hints.has(key) || typeof value === 'boolean') &&
      (key !== 'title' || typeof value === 'string')
  )
  return Object.fromEntries(kept)
}

/** The normalised tool; undefined when its name cannot be one, by `isName`. Members that MCP does not know are left out. */
export function readTool(tool: unknown, isName = isToolName): CatalogueTool | undefined {
  if (!isObject(tool) || !isName(tool['name'])) return undefined
  const { name, title, description, outputSchema } = tool
  const annotations = annotationsOf(tool['annotations'])
  const listing: Json = { name }
  if (typeof title === 'string') listing['title'] = title
  if (typeof description === 'string') listing['description'] = description
  listing['inputSchema'] = inputSchema(tool['inputSchema'])
  // MCP allows objects only. A result of another type goes as text, so its schema would be a broken promise.
  if (isObject(outputSchema) && outputSchema['type'] === 'object') {
    listing['outputSchema'] = clean(outputSchema, 'schema')
  }
  if (annotations !== undefined) listing['annotations'] = annotations
  return { name, listing, auth: readAuthAnnotation(annotations) }
}
