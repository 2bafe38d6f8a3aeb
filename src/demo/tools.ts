// The list and the description of MCP tools as jsonrpc_mcp gives them (wire §12): filtered by the caller's permissions, not by
// scopes, 50 a page. Calling a tool is invoke.ts.
import { permissionsOf } from './account.ts'
import { failure, json, type Reply } from './reply.ts'
import type { DrupalRequest } from './request.ts'
import type { Tool } from './site.ts'
import type { State } from './state.ts'

const PAGE = 50
const DISCOVERY = 'access mcp tool discovery'

/** GET or POST /mcp/tools/list?cursor= */
export function listTools(state: State, request: DrupalRequest): Reply {
  const can = permissionsOf(state, request.account)
  if (!can(DISCOVERY)) return needsDiscovery(request)
  const visible = state.site.tools.filter(tool => can(tool.permission))
  const offset = offsetOf(request.query.get('cursor') ?? request.form.get('cursor'))
  const next = offset + PAGE
  return json({
    tools: visible.slice(offset, next).map(described),
    nextCursor: next < visible.length ? Buffer.from(String(next)).toString('base64') : null
  })
}

/** GET /mcp/tools/describe?name= — after one failure, everybody with the same permissions gets that failure for every name. */
export function describeTool(state: State, request: DrupalRequest): Reply {
  const can = permissionsOf(state, request.account)
  if (!can(DISCOVERY)) return needsDiscovery(request)
  const visible = state.site.tools.filter(tool => can(tool.permission))
  const cacheKey = visible.map(tool => tool.name).join(' ')
  const poisoned = state.poisonedDescribes.get(cacheKey)
  if (poisoned) return poisoned
  const name = request.query.get('name')
  const tool = visible.find(candidate => candidate.name === name)
  if (tool) return json({ tool: described(tool) })
  const error = name
    ? { code: 'tool_not_found', message: `Tool '${name}' not found or access denied` }
    : { code: 'missing_parameter', message: 'Missing required parameter: name' }
  const refusal = json({ error }, name ? 404 : 400)
  state.poisonedDescribes.set(cacheKey, refusal)
  return refusal
}

function needsDiscovery(request: DrupalRequest): Reply {
  return failure(403, request.wantsJson, `The '${DISCOVERY}' permission is required.`)
}

/** Anything that is no base64 number counts as the beginning. */
function offsetOf(cursor: string | null): number {
  const decoded = Buffer.from(cursor ?? '', 'base64').toString()
  return /^\d{1,9}$/.test(decoded) ? Number(decoded) : 0
}

function described(tool: Tool): Record<string, unknown> {
  return {
    name: tool.name,
    description: tool.description,
    inputSchema: {
      type: 'object',
      // PHP writes an empty map as a list.
      properties: Object.keys(tool.params).length > 0 ? tool.params : [],
      ...(tool.required ? { required: tool.required } : {})
    },
    outputSchema: tool.output,
    title: tool.title,
    annotations: tool.annotations
  }
}
