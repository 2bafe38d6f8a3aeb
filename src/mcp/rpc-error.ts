// How a JSON-RPC answer is written. The id is JSON text from the request and goes back character by character; it is never
// parsed and written anew.
import { errorTable, type GatewayError } from '../errors.ts'
import type { RpcRequest } from './call.ts'

/** What stands before a result for the request with this id, and behind it. */
export function rpcFrame(idText: string): [head: string, tail: string] {
  return [`{"jsonrpc":"2.0","id":${idText},"result":`, '}']
}

/** The orders in which servers write a result: what stands before and behind it. */
export const resultFrames: readonly ((idText: string) => [head: string, tail: string])[] = [
  rpcFrame,
  idText => ['{"result":', `,"jsonrpc":"2.0","id":${idText}}`],
  idText => ['{"jsonrpc":"2.0","result":', `,"id":${idText}}`]
]

/** A result for the request with this id; `resultJson` is JSON text. */
export function rpcResult(idText: string, resultJson: string): string {
  const [head, tail] = rpcFrame(idText)
  return head + resultJson + tail
}

export interface RpcErrorParts {
  /** Undefined when the id could not be read: then the answer has none, and not null (R21). */
  idText?: string | undefined
  code: number
  message: string
  data?: unknown
}

/** An error answer. */
export function rpcErrorBody({ idText, code, message, data }: RpcErrorParts): string {
  const id = idText === undefined ? '' : `"id":${idText},`
  // JSON.stringify leaves `data` out when it is undefined.
  return `{"jsonrpc":"2.0",${id}"error":${JSON.stringify({ code, message, data })}}`
}

/** A refusal as the JSON-RPC answer to this request, which keeps it for the audit line. */
export function errorFor(request: RpcRequest, error: GatewayError): string {
  const { code, message, data, reason } = error
  request.refusal = { code, reason }
  return rpcErrorBody({ idText: request.idText, code: errorTable[code].rpc, message, data })
}
