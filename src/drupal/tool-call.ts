// One tools/call on its way through jsonrpc_mcp: the gateway builds URL and body, Drupal runs the tool, its answer becomes MCP
// content. It refuses to know whether the caller may: that was decided before, and Drupal decides again.
import type { FastifyRequest } from 'fastify'
import type { Config } from '../config/schema.ts'
import { readToolAnswer, type ToolAnswer } from './answers.ts'
import { isObject, type RpcRequest } from '../mcp/call.ts'
import { largestGrowth, writeInString } from '../mcp/json-in-string.ts'
import { traceHeaders } from '../telemetry/tracing.ts'
import { giveMemoryBack, takeMemory } from './body-memory.ts'
import type { Answer, Signal } from './exchange.ts'
import { callHeaders, siteHeaders } from './headers.ts'
import type { DrupalPool } from './pool.ts'
import { CommonHeaders } from './request-head.ts'
import type { CatalogueTool } from './upstream.ts'

const quote = 0x22

export interface ToolCall {
  /** From the caller's own catalogue: its name is fit for a URL. */
  tool: CatalogueTool
  /** The arguments, an object as JSON text; undefined: none were sent. */
  argsText: string | undefined
  /** Whose call it is. */
  request: FastifyRequest
  /** Its outcome is told here where the tool ran and failed, or refused its arguments. */
  message: RpcRequest
  signal: Signal
  /** The answer up to the members of the result, and what closes it. */
  before: string
  behind: string
}

export interface CallToolOptions {
  pool: DrupalPool
  config: Config
  log?: { warn(details: object, text: string): void }
}

/** JSON text; in bytes where they are many, between two texts. Who has sent them gives their memory back. */
export type RpcText = string | { before: string; bytes: Buffer; behind: string }

export type CallTool = (call: ToolCall) => Promise<RpcText>

/**
 * Makes the call of tools. Rejects with the GatewayErrors of answers.ts and pool.ts; a tool that ran and failed is a result with
 * `isError`.
 */
export function createCallTool(options: CallToolOptions): CallTool {
  const { pool, config, log } = options
  const type = 'application/json'
  const common = [
    new CommonHeaders(siteHeaders({ host: pool.host, accept: type, contentType: type }))
  ]
  let calls = 0

  function read(call: ToolCall, id: string, answer: Answer): RpcText {
    const { tool, request } = call
    const scopes = request.principal?.scopes
    const said = readToolAnswer(answer, id, { scopes, what: 'tool', now: Date.now() })
    if (said.ok) {
      const text = write(call, said)
      giveMemoryBack(answer.body)
      return text
    }
    log?.warn({ tool: tool.name, requestId: request.id, reason: said.reason }, 'a tool failed')
    call.message.outcome = 'tool-error'
    const content = `"content":[{"type":"text","text":${JSON.stringify(said.text)}}]`
    return `${call.before}${content},"isError":true}${call.behind}`
  }

  return function callTool(call) {
    const { tool, argsText, request } = call
    const { traceparent, tracestate } = traceHeaders(request.trace)
    // Drupal checks the scopes of the URL's tool and then runs the method of the body (drupal-wire §12.1): both are this tool.
    const id = `c${++calls}`
    const params = argsText === undefined ? '' : `,"params":${argsText}`
    return pool
      .request({
        method: 'POST',
        path: `${config.drupal.mcpPath}/${encodeURIComponent(tool.name)}`,
        headers: callHeaders({ requestId: request.id, traceparent, tracestate }),
        common,
        bearer: request.token,
        body: `{"jsonrpc":"2.0","id":"${id}","method":"${tool.name}"${params}}`,
        subjectKey: request.principal?.subjectKey,
        signal: call.signal,
        timing: request
      })
      .then(answer => read(call, id, answer))
  }
}

const beforeText = '"content":[{"type":"text","text":'
const afterText = '}]'
const beforeStructured = ',"structuredContent":'
const frameLength = beforeText.length + afterText.length + beforeStructured.length + 5
/** An answer that fits becomes text, as most do; of larger ones the bytes are what is sent. */
const small = Buffer.allocUnsafeSlow(16_384)

/**
 * The result as MCP content. The text is what a model reads, so PHP's `\/` and `\u00e9` are undone; structuredContent keeps
 * Drupal's own bytes. Only objects can be structured; PHP writes an empty one as `[]`.
 */
function write(
  { tool, before, behind }: ToolCall,
  { raw, value }: Extract<ToolAnswer, { ok: true }>
): RpcText {
  const isStructured = isObject(value)
  const most = frameLength + largestGrowth * raw.length + (isStructured ? raw.length : 0)
  const around = Buffer.byteLength(before) + behind.length
  // What stands around is written here too: joined to the text later, all would be copied once more when its length is asked for
  // (measured: 2.5 KB a call, which is what an answer of 1 KB leaves as).
  const isSmall = around + most <= small.length
  const bytes = isSmall ? small : takeMemory(most)
  let end = isSmall ? bytes.write(before) : 0
  end += bytes.write(beforeText, end, 'latin1')
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
  } else if (
    Array.isArray(value) &&
    value.length === 0 &&
    tool.listing['outputSchema'] !== undefined
  ) {
    end += bytes.write(`${beforeStructured}{}`, end, 'latin1')
  }
  end += bytes.write('}', end, 'latin1')
  if (!isSmall) return { before, bytes: bytes.subarray(0, end), behind }
  end += bytes.write(behind, end, 'latin1')
  return small.toString('utf8', 0, end)
}
