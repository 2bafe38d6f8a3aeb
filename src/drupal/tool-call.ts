// One tools/call on its way through jsonrpc_mcp: the gateway builds URL and body, Drupal runs the tool, its answer becomes MCP
// content. It refuses to know whether the caller may: that was decided before, and Drupal decides again.
import type { Principal } from '../auth/principal.ts'
import type { Config } from '../config/schema.ts'
import { readToolAnswer, type ToolAnswer } from './answers.ts'
import { isObject } from '../mcp/call.ts'
import { largestGrowth, writeInString } from '../mcp/json-in-string.ts'
import { giveMemoryBack, takeMemory } from './body-memory.ts'
import type { Signal } from './exchange.ts'
import { callHeaders, createCallerHeaders } from './headers.ts'
import type { DrupalPool, Timing } from './pool.ts'
import type { CatalogueTool } from './upstream.ts'

const quote = 0x22

export interface ToolCall {
  /** From the caller's own catalogue: its name is fit for a URL. */
  tool: CatalogueTool
  /** The arguments, an object as JSON text; undefined: none were sent. */
  argsText: string | undefined
  principal: Principal | undefined
  token: string | undefined
  requestId: string
  traceparent: string
  tracestate?: string | undefined
  signal: Signal | undefined
  timing: Timing
}

export interface CallToolOptions {
  pool: DrupalPool
  config: Config
  log?: { warn(details: object, text: string): void }
}

export interface ToolResult {
  /** What stands between the braces of a CallToolResult, and the closing one. Who has sent the bytes gives their memory back. */
  members: string | Buffer
  /** The tool ran and failed, or refused its arguments. */
  isError: boolean
}

export type CallTool = (call: ToolCall) => Promise<ToolResult>

/**
 * Makes the call of tools. Rejects with the GatewayErrors of answers.ts and pool.ts; a tool that ran and failed is a result with
 * `isError`.
 */
export function createCallTool(options: CallToolOptions): CallTool {
  const { pool, config, log } = options
  const commonHeaders = createCallerHeaders({
    host: pool.host,
    accept: 'application/json',
    contentType: 'application/json'
  })
  let calls = 0

  return async function callTool(call) {
    const { tool, argsText, principal, token } = call
    // Drupal checks the scopes of the URL's tool and then runs the method of the body (drupal-wire §12.1): both are this tool.
    const id = `c${++calls}`
    const params = argsText === undefined ? '' : `,"params":${argsText}`
    const answer = await pool.request({
      method: 'POST',
      path: `${config.drupal.mcpPath}/${encodeURIComponent(tool.name)}`,
      headers: callHeaders(call),
      common: [commonHeaders(principal, token)],
      body: `{"jsonrpc":"2.0","id":"${id}","method":"${tool.name}"${params}}`,
      principalKey: principal?.key,
      signal: call.signal,
      timing: call.timing
    })
    const read = readToolAnswer(answer, id, {
      scopes: principal?.scopes,
      what: 'tool',
      now: Date.now()
    })
    if (read.ok) {
      const members = resultMembers(read, tool.listing['outputSchema'] !== undefined)
      giveMemoryBack(answer.body)
      return { members, isError: false }
    }
    log?.warn({ tool: tool.name, requestId: call.requestId, reason: read.reason }, 'a tool failed')
    const members = `"content":[{"type":"text","text":${JSON.stringify(read.text)}}],"isError":true}`
    return { members, isError: true }
  }
}

const beforeText = '"content":[{"type":"text","text":'
const afterText = '}]'
const beforeStructured = ',"structuredContent":'
const frameLength = beforeText.length + afterText.length + beforeStructured.length + 5
/** A result that fits becomes text, as most do; of larger ones the bytes are what is sent. */
const small = Buffer.allocUnsafeSlow(16_384)

/**
 * The result as MCP content. The text is what a model reads, so PHP's `\/` and `\u00e9` are undone; structuredContent keeps
 * Drupal's own bytes. Only objects can be structured; PHP writes an empty one as `[]`.
 */
function resultMembers(
  { raw, value }: Extract<ToolAnswer, { ok: true }>,
  promisesObject: boolean
): string | Buffer {
  const isStructured = isObject(value)
  const most = frameLength + largestGrowth * raw.length + (isStructured ? raw.length : 0)
  const bytes = most <= small.length ? small : takeMemory(most)
  let end = bytes.write(beforeText, 'latin1')
  // A string is a JSON string already.
  if (typeof value === 'string') end += raw.copy(bytes, end)
  else {
    bytes[end++] = quote
    end = writeInString(raw, bytes, end)
    bytes[end++] = quote
  }
  end += bytes.write(afterText, end, 'latin1')
  if (isStructured) {
    end += bytes.write(beforeStructured, end, 'latin1')
    end += raw.copy(bytes, end)
  } else if (promisesObject && Array.isArray(value) && value.length === 0) {
    end += bytes.write(`${beforeStructured}{}`, end, 'latin1')
  }
  end += bytes.write('}', end, 'latin1')
  return bytes === small ? small.toString('utf8', 0, end) : bytes.subarray(0, end)
}
