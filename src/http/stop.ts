// How the public listener ends: calls in flight finish within a bound, then nothing is left open.
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import type { Config } from '../config/schema.ts'
import { sendAll } from '../end-of-turn.ts'
import { type Member, Roster } from '../roster.ts'

interface OpenConnection extends Member {
  socket: Socket
}

/** All open connections, of a listener that does not yet listen; none of them is closed before what is ready has left on it. */
export function watchConnections(server: Server): Roster<OpenConnection> {
  const open = new Roster<OpenConnection>()
  // Node takes a connection for idle when its answer has been ended, which is before the end of the turn, and long before a slow
  // reader has it. Its own close() and Fastify's come by here.
  const closeIdleConnections = server.closeIdleConnections.bind(server)
  server.closeIdleConnections = () => {
    sendAll()
    // A write that is through says so on the next tick; of one whose connection is closed before, nobody knows.
    process.nextTick(() => {
      const leaving = open
        .all()
        .map(({ socket }) => socket)
        .filter(({ writableLength }) => writableLength > 0)
      for (const socket of leaving) socket.destroy = () => socket
      closeIdleConnections()
      for (const socket of leaving) Reflect.deleteProperty(socket, 'destroy')
    })
  }
  function watch(socket: Socket): void {
    const connection = open.enter({ at: -1, socket })
    socket.once('close', () => open.leave(connection))
    // A client that has said all it has to say still waits for the answer; Node's listener to this ends the connection.
    socket.prependListener('end', sendAll)
  }
  server.on('connection', watch)
  // TLS: the one above is what a handshake runs on, and may never come to its end.
  server.on('secureConnection', watch)
  // CONNECT leads nowhere here; without a listener Node would cut the connection at once, also what is ready to leave on it.
  server.on('connect', (_request, socket: Socket) => {
    sendAll()
    socket.destroySoon()
  })
  return open
}

/**
 * Resolves when every connection of a closed listener has closed as well. Node reports the listener first; only with its connection
 * does a call learn that it was cut, and leave its audit line.
 */
export async function allHaveLeft(open: Roster<OpenConnection>): Promise<void> {
  while (open.size > 0) await nextTurn()
}

/**
 * Closes the listener after `readinessDelaySeconds` (readiness is down already, so balancers have looked away) and waits at most
 * `shutdownTimeoutSeconds` for calls in flight; what is still open then is cut.
 */
export async function stopGracefully(
  app: FastifyInstance,
  config: Config,
  open: Roster<OpenConnection>
): Promise<void> {
  const { readinessDelaySeconds, shutdownTimeoutSeconds } = config.server
  await sleep(readinessDelaySeconds * 1000)
  const late = new AbortController()
  const bound = sleep(shutdownTimeoutSeconds * 1000, 'late', { signal: late.signal })
  // A connection whose last call has finished is idle, but was not when close() looked: without this it would keep the process.
  const sweep = setInterval(() => {
    app.server.closeIdleConnections()
    // Browsers and fetch open some in advance, and to Node they are neither idle nor at work: nobody would end them before they
    // time out. One that has begun to send is a request on its way: the bound holds for it as for any other.
    for (const { socket } of open.all()) if (socket.bytesRead === 0) socket.destroy()
  }, 50)
  const closed = app.close().then(() => 'closed')
  if ((await Promise.race([closed, bound])) === 'late') {
    app.log.warn('calls in flight did not finish in time: closing their connections')
    // Not Node's closeAllConnections(): it knows none that is still in its TLS handshake.
    for (const { socket } of open.all()) socket.destroy()
    await closed
  }
  clearInterval(sweep)
  late.abort()
}
