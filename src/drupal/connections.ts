// The connections to one origin: opened when needed, the free ones kept for a while, TLS verified. It refuses to know what is asked
// and how many connections are enough.
import { connect as connectTcp, isIP, type OnReadOpts, type Socket } from 'node:net'
import { connect as connectTls, type ConnectionOptions } from 'node:tls'
import { type Connection, KeptConnection, type RequestHandler } from './connection.ts'
import { headOf, type OutgoingRequest } from './request-head.ts'

export interface Connections {
  /** Sends at once where a connection is free, else on a new one. Throws TypeError for what would not be one request. */
  send(request: OutgoingRequest, handler: RequestHandler): Connection
  /** Closes all, and ends what is under way with ERR_CLOSED. */
  close(): void
}

export interface ConnectionsOptions {
  /** Scheme, host and port. */
  origin: string
  /** `Host` as sent: the name that the other side's certificate must be for. */
  host: string
  connectTimeoutMs: number
  /** Longest time that a free connection is kept, unless the other side names a shorter one. */
  keepAliveMs: number
  /** Longest time that a connection is used, however busy: then the name is asked for its address again. Default 60 000. */
  maxAgeMs?: number
}

const sweepMs = 1000

/** Makes them; none is opened before it is needed. */
export function createConnections(options: ConnectionsOptions): Connections {
  const { protocol, hostname, port } = new URL(options.origin)
  const isTls = protocol === 'https:'
  const host = hostname.replace(/^\[|\]$/g, '')
  const { hostname: named } = new URL(`${protocol}//${options.host}`)
  const servername = isIP(named.replace(/^\[|\]$/g, '')) === 0 ? named : ''
  const target = { host, port: Number(port) || (isTls ? 443 : 80), noDelay: true }
  const all = new Set<KeptConnection>()
  // The last one used is the first one taken: the others may close.
  const free: KeptConnection[] = []
  let tlsSession: Buffer | undefined
  let sweeper: NodeJS.Timeout | undefined
  let isOver = false

  function openSocket(onread: OnReadOpts): Socket {
    if (!isTls) return connectTcp({ ...target, onread })
    const wanted: ConnectionOptions & { onread: OnReadOpts } = {
      ...target,
      onread,
      servername,
      ALPNProtocols: ['http/1.1'],
      rejectUnauthorized: true,
      ...(tlsSession !== undefined && { session: tlsSession })
    }
    const socket = connectTls(wanted)
    socket.on('session', session => {
      tlsSession = session
    })
    return socket
  }

  function open(): KeptConnection {
    let socket: Socket | undefined
    const connection = new KeptConnection(
      onread => (socket = openSocket(onread)),
      options.keepAliveMs,
      options.maxAgeMs ?? 60_000,
      onFree,
      forget
    )
    all.add(connection)
    const late = setTimeout(() => connection.close('ETIMEDOUT'), options.connectTimeoutMs)
    socket?.once('close', () => clearTimeout(late))
    socket?.once(isTls ? 'secureConnect' : 'connect', () => {
      clearTimeout(late)
      connection.ready()
    })
    return connection
  }

  function onFree(connection: KeptConnection): void {
    free.push(connection)
    sweeper ??= setTimeout(sweep, sweepMs).unref()
  }

  function forget(connection: KeptConnection): void {
    all.delete(connection)
    const index = free.indexOf(connection)
    if (index !== -1) free.splice(index, 1)
  }

  function sweep(): void {
    const now = performance.now()
    for (const connection of free.filter(each => each.freeUntil <= now)) {
      forget(connection)
      connection.abort()
    }
    sweeper = free.length === 0 ? undefined : setTimeout(sweep, sweepMs).unref()
  }

  function take(): KeptConnection {
    const now = performance.now()
    for (;;) {
      const connection = free.pop()
      if (connection === undefined) return open()
      if (connection.freeUntil > now && !connection.isClosed) return connection
      connection.abort()
    }
  }

  return {
    send(request, handler) {
      const head = headOf(request)
      const connection = take()
      connection.send(request, head, handler)
      if (isOver) connection.close('ERR_CLOSED')
      return connection
    },
    close() {
      isOver = true
      clearTimeout(sweeper)
      for (const connection of all) connection.close('ERR_CLOSED')
    }
  }
}
