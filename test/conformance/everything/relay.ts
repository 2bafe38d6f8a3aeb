// Hands a request on to another server, byte by byte and with the Host it came with, and its answer back. No retries, no
// buffers; a client that goes away takes the onward request with it.
import { request, type IncomingMessage, type ServerResponse } from 'node:http'

/** Relays one exchange to the origin of `to`; answers 502 when nobody is there. */
export function relay(incoming: IncomingMessage, outgoing: ServerResponse, to: URL): void {
  const { method, headers, url } = incoming
  const onward = request(new URL(url ?? '/', to), { method, headers }, answer => {
    outgoing.writeHead(answer.statusCode ?? 502, answer.headers)
    answer.pipe(outgoing)
  })
  incoming.pipe(onward)
  outgoing.once('close', () => onward.destroy())
  onward.once('error', () => {
    if (outgoing.headersSent) outgoing.destroy()
    else outgoing.writeHead(502).end()
  })
}
