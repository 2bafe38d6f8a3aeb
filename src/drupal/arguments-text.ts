// Which arguments did the client write? In its own spelling: 1.0 stays a float for PHP, and a 20-digit number keeps its digits. It
// refuses to know what they mean.
import type { Call, RpcRequest } from '../mcp/call.ts'
import { elementTexts, memberText } from '../mcp/json-members.ts'

/** Makes the question, for calls whose `arguments` are there. */
export function createArgumentsText(): (call: Call, message: RpcRequest) => string | undefined {
  // Each element of a batch asks; looked through each time, one of a hundred calls would be read a hundred times.
  const batches = new WeakMap<Call, string[]>()

  function textOf(call: Call, message: RpcRequest): string {
    if (!call.batch) return call.bytes.toString()
    let texts = batches.get(call)
    if (texts === undefined) {
      texts = elementTexts(call.bytes.toString())
      batches.set(call, texts)
    }
    return texts[call.messages.indexOf(message)] as string
  }

  return function argumentsText(call, message) {
    const params = memberText(textOf(call, message), 'params')
    return params && memberText(params, 'arguments')
  }
}
