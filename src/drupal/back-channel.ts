// How the gateway itself talks to the authorization server (metadata, keys, introspection): a `fetch` that finds Drupal at its
// internal address under its canonical name, follows no redirect and has bounds of its own. No caller's call waits behind it.
import { type GatewayError, gatewayError, isGatewayError } from '../errors.ts'
import type { Connections } from './connections.ts'
import { type ExchangeOptions, exchange } from './exchange.ts'
import { userAgent } from './headers.ts'
import { internalUrl } from './internal-url.ts'
import { createFairQueue } from './queue.ts'

const MAX_BYTES = 1_048_576
const MAX_ACTIVE = 8
const MAX_QUEUE = 64

export interface BackChannelOptions {
  /** Connections to Drupal. */
  drupal: Connections
  /** Connections to the origin of any other URL. */
  others: (url: URL) => Connections
  /** drupal.url: the canonical name. */
  canonicalUrl: string
  /** Where to connect instead; may be the same. */
  connectUrl: string
  timeoutMs: number
}

/**
 * Makes the fetch. It rejects with GW_AUTHORIZATION_SERVER_UNAVAILABLE when no whole answer came (or with the signal's reason);
 * redirects come back as they are.
 */
export function createBackChannel(options: BackChannelOptions): typeof fetch {
  const canonical = new URL(options.canonicalUrl)
  const connect = new URL(options.connectUrl)
  const queue = createFairQueue({
    maxActive: MAX_ACTIVE,
    maxQueue: MAX_QUEUE,
    timeoutMs: options.timeoutMs
  })

  function unavailable(error: GatewayError): GatewayError {
    const reason = `${error.code}: ${error.reason}`
    return gatewayError('GW_AUTHORIZATION_SERVER_UNAVAILABLE', { reason, retryAfterSeconds: 5 })
  }

  return async (input, init) => {
    const request = new Request(input, init)
    const url = new URL(request.url)
    if (url.protocol !== 'https:' && url.protocol !== 'http:') throw new TypeError('http(s) only')
    const inside = internalUrl(url, canonical, connect)
    const headers = Object.fromEntries(request.headers)
    headers['host'] = inside ? canonical.host : url.host
    headers['user-agent'] = userAgent
    const connections = inside ? options.drupal : options.others(url)
    const { origin, pathname, search } = inside ?? url
    const exchangeOptions: ExchangeOptions = {
      method: request.method,
      path: pathname + search,
      headers,
      body: request.body === null ? null : Buffer.from(await request.arrayBuffer()),
      maxBytes: MAX_BYTES,
      headersTimeoutMs: options.timeoutMs,
      callTimeoutMs: options.timeoutMs,
      signal: request.signal
    }
    try {
      await queue.enter(origin, request.signal)
      try {
        const { status, headers: received, body } = await exchange(connections, exchangeOptions)
        return new Response(body.length === 0 ? null : new Uint8Array(body), {
          status,
          headers: received as Record<string, string>
        })
      } finally {
        queue.leave(origin)
      }
    } catch (error) {
      throw isGatewayError(error) ? unavailable(error) : error
    }
  }
}
