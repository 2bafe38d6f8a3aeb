// What a GET that brought no stream means to the client that asked for one. It refuses to know who asked.
import type { Readable } from 'node:stream'
import { type GatewayError, gatewayError, isGatewayError } from '../errors.ts'

/** Most bytes of a refusal that are read. */
const maxRefusal = 65_536

/** The body of an answer that is no stream, as far as anybody looks at it. Throws GW_UPSTREAM_TIMEOUT and what `failure` makes of a cut. */
export async function readRefusal(stream: Readable, timeoutMs: number): Promise<Buffer> {
  const late = setTimeout(() => {
    stream.destroy(gatewayError('GW_UPSTREAM_TIMEOUT', { reason: 'a refusal without an end' }))
  }, timeoutMs)
  const chunks: Buffer[] = []
  let length = 0
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      length += chunk.length
      if (length > maxRefusal) break
      chunks.push(chunk)
    }
  } catch (error) {
    throw failure(error as NodeJS.ErrnoException)
  } finally {
    clearTimeout(late)
  }
  return Buffer.concat(chunks)
}

/** Upstreams without a stream say so in many ways; a client is told in one (R40). */
export const noStream = (reason: string | undefined) =>
  gatewayError('GW_METHOD_NOT_ALLOWED', { allow: 'POST, DELETE', ...(reason && { reason }) })

/** undici's codes for bytes that it cannot read; where it has none, mcp-proxy.ts takes the name. */
const noAnswer = /^(?:HPE_|HTTPParserError$|UND_ERR_HEADERS_OVERFLOW$)/

/** What it means that @fastify/reply-from got no answer, or that a refusal was cut. */
export function failure(error: NodeJS.ErrnoException): GatewayError {
  if (isGatewayError(error)) return error
  const code = (error.cause as NodeJS.ErrnoException | undefined)?.code ?? error.code
  if (noAnswer.test(String(code))) {
    return gatewayError('GW_UPSTREAM_INVALID', { reason: `not an HTTP answer: ${code}` })
  }
  return error.code === 'FST_REPLY_FROM_GATEWAY_TIMEOUT'
    ? gatewayError('GW_UPSTREAM_TIMEOUT', { reason: 'no answer within the headers time-out' })
    : gatewayError('GW_UPSTREAM_UNAVAILABLE', { reason: `connection failed: ${code}` })
}
