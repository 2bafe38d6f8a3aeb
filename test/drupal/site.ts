// A site for the tests of this folder: a real HTTP server whose answers a test writes by hand, and a configuration for it.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net'
import type { Test } from 'tap'
import { loadConfig } from '../../src/config/load.ts'
import type { Config } from '../../src/config/schema.ts'

export interface Seen {
  method: string
  url: string
  headers: IncomingMessage['headers']
  body: string
}

export interface Site {
  url: string
  port: number
  /** Every request whose body has arrived, in order. */
  seen: Seen[]
  /** Requests at work now, and the most there ever were. */
  active: number
  peak: number
  answer: (seen: Seen, response: ServerResponse, request: IncomingMessage) => void
}

/** Starts a site on a free port. By default it answers 200 with `{}`. */
export async function startSite(t: Test, answer?: Site['answer']): Promise<Site> {
  const site: Site = {
    url: '',
    port: 0,
    seen: [],
    active: 0,
    peak: 0,
    answer: answer ?? ((_seen, response) => json(response, {}))
  }
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const seen = {
        method: request.method ?? '',
        url: request.url ?? '',
        headers: request.headers,
        body: Buffer.concat(chunks).toString()
      }
      site.seen.push(seen)
      site.active++
      site.peak = Math.max(site.peak, site.active)
      response.on('close', () => site.active--)
      site.answer(seen, response, request)
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  site.port = (server.address() as AddressInfo).port
  site.url = `http://127.0.0.1:${site.port}`
  t.teardown(() => {
    server.closeAllConnections()
    return new Promise(resolve => server.close(resolve))
  })
  return site
}

/** A server below HTTP: what it does with a connection is the test's affair. */
export async function startTcp(t: Test, onData: (socket: Socket) => void): Promise<string> {
  const sockets = new Set<Socket>()
  const server = createTcpServer(socket => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.once('data', () => onData(socket))
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    return new Promise(resolve => server.close(resolve))
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

export function json(response: ServerResponse, body: unknown, status = 200, headers = {}): void {
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(text)
}

export function html(response: ServerResponse, status: number, headers = {}): void {
  response
    .writeHead(status, { 'content-type': 'text/html; charset=UTF-8', ...headers })
    .end('<!DOCTYPE html><html><body>Secret internals of the site at /var/www/html</body></html>')
}

/**
 * Writes answers of which the first comes twice: the second time it takes the place of the next one on its connection, and each of
 * them comes when one more is asked for.
 */
export function oneTooMany() {
  let first = ''
  let shifted: Socket | undefined
  let held = () => {}
  return (response: ServerResponse, body: unknown, headers: Record<string, unknown> = {}) => {
    const { socket } = response.req
    const text = JSON.stringify(body)
    const answer = () => json(response, text, 200, headers)
    if (first === '') {
      const lines = Object.entries({ 'content-length': text.length, ...headers })
      const head = lines.map(([name, value]) => `${name}: ${String(value)}\r\n`).join('')
      first = `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n${head}\r\n${text}`
      answer()
    } else if (shifted === undefined || shifted === socket) {
      if (shifted === undefined) socket.write(first)
      shifted = socket
      held()
      held = answer
    } else answer()
  }
}

/** A whole configuration, as the gateway loads it, with the overrides of a test. */
export function configFor(
  url: string,
  overrides: { drupal?: object; [group: string]: object | undefined } = {}
): Config {
  const tree = { ...overrides, drupal: { url, ...overrides.drupal } }
  return loadConfig({ env: {}, file: 'test.json', readFile: () => JSON.stringify(tree) })
}

/** The code and the details that a promise is rejected with. */
export async function refused<T>(promise: T | Promise<T>): Promise<Record<string, unknown>> {
  try {
    await promise
  } catch (error) {
    return error as Record<string, unknown>
  }
  throw new Error('was not refused')
}
