// Writes an answer to the socket, well or as badly as the switches want it. It knows bytes, not their meaning.
import type { ServerResponse } from 'node:http'
import { setTimeout as wait } from 'node:timers/promises'
import type { Faults } from './faults.ts'
import type { Reply } from './reply.ts'

/** Sends the reply; the transport faults act when `spoilt` is true. Rejects only when the client has gone. */
export async function send(
  response: ServerResponse,
  reply: Reply,
  faults: Faults | null,
  signal: AbortSignal
): Promise<void> {
  // A large body is not copied: a busy machine would take seconds for it.
  const body = typeof reply.body === 'string' ? Buffer.from(reply.body) : reply.body
  if (faults?.slowHeadersMs) await wait(faults.slowHeadersMs, undefined, { signal })
  response.writeHead(reply.status, { ...reply.headers, ...lengthOf(reply, body) })
  const half = Math.floor(body.length / 2)
  if (faults?.resetAfterFirstByte) return breakOff(response, body.subarray(0, 1))
  if (faults?.halfBody) return breakOff(response, body.subarray(0, half))
  if (faults?.slowBodyMs) {
    response.write(body.subarray(0, half))
    await wait(faults.slowBodyMs, undefined, { signal })
    response.end(body.subarray(half))
    return
  }
  response.end(body)
}

function lengthOf(reply: Reply, body: Buffer): Record<string, string> {
  return reply.status === 204 ? {} : { 'Content-Length': String(body.length) }
}

/** Destroys the socket once these bytes are on their way, so that the peer has read them before the end. */
function breakOff(response: ServerResponse, bytes: Buffer): Promise<void> {
  return new Promise(resolve => {
    response.write(bytes, () => {
      response.socket?.destroy()
      resolve()
    })
  })
}
