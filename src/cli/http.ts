// How the commands speak HTTP: through the proxies of the environment, under a name of their own, bounded in time and size, and
// never with a token over a wire that others can read. It knows no OAuth and no MCP.
import {
  Agent,
  EnvHttpProxyAgent,
  fetch as undiciFetch,
  Pool,
  type RequestInit,
  type Response as Answer
} from 'undici'
import { exitCodes, Failure, systemCode } from './failure.ts'

export type { Answer }
export type Fetch = (url: string, init?: RequestInit) => Promise<Answer>

/** Drupal refuses agents that look like an embedded browser; this one does not. */
const userAgent = 'drupal-mcp-gateway-cli'
const maxBytes = 262_144
const timeoutMs = 15_000

export interface Http {
  /** Unbounded in time, for streams. Redirects are not followed. */
  fetch: Fetch
  close(): Promise<void>
}

/**
 * The proxy that the environment names; empty: none. Without a scheme it is asked by http, as curl does. Throws a Failure without
 * the value, which may hold a password.
 */
function proxyOf(name: 'HTTP_PROXY' | 'HTTPS_PROXY'): string {
  const text = (process.env[name.toLowerCase()] ?? process.env[name] ?? '').trim()
  const url = text === '' || text.includes('://') ? text : `http://${text}`
  const kind = URL.canParse(url) ? new URL(url).protocol : undefined
  if (url === '' || ['http:', 'https:', 'socks:', 'socks5:'].includes(kind ?? '')) return url
  const wanted = 'the URL of a proxy, such as http://proxy.example.org:3128'
  throw new Failure(`${name} is not ${wanted}. Correct it, or unset it.`, exitCodes.usage)
}

/** Opens connections; HTTP_PROXY, HTTPS_PROXY and NO_PROXY are obeyed, but for this machine. */
export function openHttp(): Http {
  // A tool may run, and a stream be silent, for longer than undici's 300 s.
  const options = { headersTimeout: 0, bodyTimeout: 0, connect: { timeout: 10_000 } }
  const proxies = { httpProxy: proxyOf('HTTP_PROXY'), httpsProxy: proxyOf('HTTPS_PROXY') }
  const direct = new Agent(options)
  const outward =
    proxies.httpProxy || proxies.httpsProxy
      ? new EnvHttpProxyAgent({ ...options, ...proxies, factory: tunnelledOnce })
      : direct
  return {
    fetch: (url, init) => {
      const headers = new Headers(init?.headers as ConstructorParameters<typeof Headers>[0])
      headers.set('user-agent', userAgent)
      // safeUrl lets secrets over plain http to this machine: through a proxy they would leave it, in clear text.
      const dispatcher = isLoopback(new URL(url)) ? direct : outward
      return undiciFetch(url, { ...init, headers: [...headers], dispatcher, redirect: 'manual' })
    },
    async close() {
      await Promise.all([direct.destroy(), outward.destroy()])
    }
  }
}

/** A proxy that ends the connection instead of answering CONNECT is a failure. undici alone asks it again, without a pause or an end. */
function tunnelledOnce(origin: string | URL, options: object) {
  const { connect } = options as Pool.Options
  if (typeof connect !== 'function') return new Pool(origin, options)
  return new Pool(origin, {
    ...options,
    connect: (to, done) =>
      connect(to, (...[error, socket]) => {
        if (error === null) done(error, socket)
        else done(new Error('the proxy opened no tunnel', { cause: error }), null)
      })
  })
}

/** Whether only this machine can read what is sent there. */
export function isLoopback(url: URL): boolean {
  return /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/.test(url.hostname)
}

/** The URL, when a secret may be sent to it: https, or http to this machine. Throws a Failure that names `what`. */
export function safeUrl(value: unknown, what: string): URL {
  if (typeof value !== 'string' || !URL.canParse(value)) throw new Failure(`${what} is no URL.`)
  const url = new URL(value)
  if (url.username !== '' || url.password !== '') {
    throw new Failure(`${what} must not hold a user name or password.`)
  }
  if (url.protocol === 'https:' || (url.protocol === 'http:' && isLoopback(url))) return url
  // `localhost:8080/mcp` is a URL, of the scheme localhost.
  if (!/^https?:$/.test(url.protocol)) throw new Failure(`${what} must begin with https://.`)
  throw new Failure(
    `${what} is ${url.origin}: secrets are sent over https only (http only to this machine).`
  )
}

/**
 * One bounded exchange: 15 s, 256 KiB, whole. Throws a Failure when there is no answer; `signal` ends it earlier. The global
 * Response is what oauth4webapi takes.
 */
export async function ask(fetch: Fetch, url: string, init: RequestInit = {}): Promise<Response> {
  const timeout = AbortSignal.timeout(timeoutMs)
  const signal = init.signal ? AbortSignal.any([init.signal, timeout]) : timeout
  const chunks: Uint8Array[] = []
  let size = 0
  let answer: Answer
  try {
    answer = await fetch(url, { ...init, signal })
    for await (const chunk of answer.body ?? []) {
      size += chunk.byteLength
      if (size > maxBytes) break
      chunks.push(chunk)
    }
  } catch (error) {
    if (init.signal?.aborted) throw error
    const why = timeout.aborted ? `no answer within ${timeoutMs / 1000} s` : systemCode(error)
    const text = `${new URL(url).origin} cannot be reached (${why ?? 'no connection'}).`
    throw new Failure(text, exitCodes.failed, { cause: error })
  }
  if (size > maxBytes) throw new Failure(`${url} answered more than ${maxBytes} bytes.`)
  if (answer.status > 599) {
    throw new Failure(`${url} answered with ${answer.status}, which is no HTTP status.`)
  }
  const hasBody = ![101, 103, 204, 205, 304].includes(answer.status)
  return new Response(hasBody ? Buffer.concat(chunks) : null, {
    status: answer.status,
    headers: [...answer.headers]
  })
}

/**
 * The same without the challenge: every 401 has to bring one (RFC 9110 §15.5.2), oauth4webapi then reads nothing else, and the error is
 * in the body (RFC 6749 §5.2).
 */
export async function askForBody(fetch: Fetch, url: string, init: RequestInit): Promise<Response> {
  const answer = await ask(fetch, url, init)
  answer.headers.delete('www-authenticate')
  return answer
}
