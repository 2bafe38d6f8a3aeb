// Is there room for what a large body becomes when it is parsed? One of nothing but small objects takes thirty times its bytes. That
// is asked before it is parsed; it refuses to know what the body says.
import type { IncomingMessage } from 'node:http'
import { type GatewayError, gatewayError } from '../errors.ts'
import { countContainers } from '../mcp/json-scan.ts'
import { buffersAreFull, worthCounting } from './buffers.ts'
import { WholeRequest } from './whole-request.ts'
import { bodyCopies } from './whole-response.ts'

/** What an object or array takes when it is parsed, in bytes of a body, each of which counts three times: `{}` takes 100 (measured). */
const containerBytes = 32

/**
 * Counts a body by what it becomes, until its answer is through. Gives why it is refused, where it is: GW_BODY_TOO_LARGE where even
 * alone it would take more than `maxBufferedBytes`, GW_OVERLOADED while others leave it no room.
 */
export function refuseParsed(
  request: IncomingMessage,
  bytes: Buffer,
  maxBufferedBytes: number
): GatewayError | undefined {
  if (bytes.length < worthCounting || !(request instanceof WholeRequest)) return undefined
  const weight = bytes.length + containerBytes * countContainers(bytes)
  let refusal: GatewayError | undefined
  if (bodyCopies * weight > maxBufferedBytes) {
    refusal = gatewayError('GW_BODY_TOO_LARGE', {
      reason: 'more objects and arrays than server.maxBufferedBytes has room for',
      hint: 'It holds too many objects and arrays.'
    })
  } else {
    request.answer?.countBody(weight, () => {
      refusal = gatewayError('GW_OVERLOADED', { reason: buffersAreFull, retryAfterSeconds: 1 })
    })
  }
  // What is refused is held no longer; what is not cannot be given up any more.
  request.answer?.countBody(refusal === undefined ? weight : 0)
  return refusal
}
