// GET and POST /mcp/tools/{name} (wire §12): scopes are checked for the tool in the URL, then whatever method the body names is
// run. That confusion is Drupal's, and the gateway's business to close; here it must stay open.
import { permissionsOf, rolesOf, uidOf } from './account.ts'
import { empty, failure, json, type Reply } from './reply.ts'
import type { DrupalRequest } from './request.ts'
import { type Tool, userWithId } from './site.ts'
import type { State } from './state.ts'

interface RpcRequest {
  id?: unknown
  method: string
  params: Record<string, unknown>
}

/** Calls a tool, or whatever the body says. */
export async function invokeTool(state: State, request: DrupalRequest): Promise<Reply> {
  const tool = routedTool(state, request.route.slice('/mcp/tools/'.length))
  if (!tool) return failure(404, request.wantsJson, 'Not found')
  return scopeRefusal(tool, request) ?? (await runBody(state, request))
}

function routedTool(state: State, name: string): Tool | undefined {
  const isUnrouted = state.site.unroutedTools.includes(name) || state.faults.missingRoutes.has(name)
  return isUnrouted ? undefined : state.site.tools.find(tool => tool.name === name)
}

function scopeRefusal(tool: Tool, { account, bearer }: DrupalRequest): Reply | null {
  const { level, scopes = [] } = tool.annotations.auth ?? {}
  const challenge = 'Bearer realm="MCP Tools"'
  const needsUser = level === 'required' && account.kind === 'anonymous'
  if (needsUser || (scopes.length > 0 && bearer === null)) {
    return empty(401, { 'WWW-Authenticate': challenge })
  }
  const granted = account.kind === 'token' ? account.row.scopes : []
  const missing = scopes.filter(scope => !granted.includes(scope))
  if (missing.length === 0) return null
  const error = `error="insufficient_scope", scope="${missing.join(' ')}"`
  return empty(403, { 'WWW-Authenticate': `${challenge}, ${error}` })
}

async function runBody(state: State, request: DrupalRequest): Promise<Reply> {
  const text = request.method === 'GET' ? (request.query.get('query') ?? '') : request.body
  const rpc = parse(text)
  if (!rpc) return rpcError(400, null, -32603, 'Internal Error', UNREADABLE)
  const tool = state.site.tools.find(candidate => candidate.name === rpc.method)
  if (!tool) {
    const data = `The method '${rpc.method}' does not exist/is not available.`
    return rpcError(400, rpc.id, -32601, 'Method Not Found', data)
  }
  const can = permissionsOf(state, request.account)
  if (!can(tool.permission)) {
    // The id is lost, and the status is 200.
    const data = `Access Denied: The '${tool.permission}' permission is required.`
    return rpcError(200, null, -32600, 'Invalid Request', data)
  }
  const problem = paramsProblem(tool, rpc.params)
  if (problem) return rpcError(400, null, -32602, 'Invalid Params', problem)
  if (rpc.id === undefined) return failure(500, false, '')
  try {
    const uid = uidOf(request.account)
    const result = await tool.run(rpc.params, {
      uid,
      name: userWithId(state.site, uid)?.name ?? '',
      roles: rolesOf(state, request.account),
      can,
      signal: request.gone
    })
    return json({ jsonrpc: '2.0', id: rpc.id, result })
  } catch (error) {
    return rpcError(200, rpc.id, -32603, 'Internal Error', String((error as Error).message))
  }
}

function parse(text: string): RpcRequest | null {
  try {
    const given = JSON.parse(text) as Partial<RpcRequest> | null
    if (typeof given?.method !== 'string') return null
    const { id, method, params } = given
    return { id, method, params: params ?? {} }
  } catch {
    return null
  }
}

function rpcError(status: number, id: unknown, code: number, message: string, data: string): Reply {
  return json({ jsonrpc: '2.0', id: id ?? null, error: { code, message, data } }, status)
}

function paramsProblem(tool: Tool, params: Record<string, unknown>): string | null {
  const missing = tool.required?.find(name => params[name] === undefined)
  if (missing) return `Missing required parameter: ${missing}`
  for (const [name, schema] of Object.entries(tool.params)) {
    const value = params[name]
    if (value === undefined || typeOf(value) === schema.type) continue
    const message = `${phpType(value)} value found, but ${article(schema.type)} is required`
    return `The ${name} parameter does not conform to the parameter schema. Adaptor Drupal\\jsonrpc\\ParameterFactory\\RawParameterFactory received invalid input data: ${violations([[message, 'type']])}.`
  }
  return null
}

function typeOf(value: unknown): string {
  if (Array.isArray(value)) return 'array'
  if (Number.isInteger(value)) return 'integer'
  return value === null ? 'null' : typeof value
}

function phpType(value: unknown): string {
  const type = typeOf(value)
  return type === 'null' ? 'NULL' : `${type[0]!.toUpperCase()}${type.slice(1)}`
}

function article(type: string): string {
  return `${/^[aeiou]/.test(type) ? 'an' : 'a'} ${type}`
}

function violations(list: [message: string, constraint: string][]): string {
  return JSON.stringify(
    list.map(([message, constraint]) => ({
      property: '',
      pointer: '',
      message,
      constraint,
      context: 1
    }))
  )
}

const UNREADABLE = `Adaptor Drupal\\jsonrpc\\Shaper\\RpcRequestFactory received invalid input data: ${violations(
  [
    ['NULL value found, but an array is required', 'type'],
    ['NULL value found, but an object is required', 'type'],
    ['Failed to match exactly one schema', 'oneOf']
  ]
)}.`
