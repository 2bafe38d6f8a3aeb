// Sign-in in a browser on this machine: authorization code with PKCE, taken back on a loopback port (RFC 8252 §7.3). It opens no
// browser itself.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import * as oauth from 'oauth4webapi'
import { exitCodes, Failure, inBrackets } from './failure.ts'
import { type Fetch, isLoopback, safeUrl } from './http.ts'
import {
  advice,
  authentication,
  type Client,
  printable,
  requestOptions,
  scopeParameters,
  type Tokens,
  tokensOf
} from './oauth.ts'

/** Registered without a port: a loopback redirect may then use any (RFC 8252 §7.3, wire §5). */
export const defaultRedirectUri = 'http://127.0.0.1/callback'
const defaultPatienceMs = 600_000

export interface CodeFlow {
  fetch: Fetch
  server: oauth.AuthorizationServer
  client: Client
  scopes: string[]
  resource: string
  /** Where the browser comes back to; a free port is taken when it names none. */
  redirectUri?: string
  /** Told the URL to open. */
  visit: (url: string) => void
  signal?: AbortSignal
  /** How long somebody may take, in milliseconds. Default: 10 minutes. */
  patienceMs?: number
}

/** Runs the flow to its end: tokens, or a Failure. Rejects with the signal's reason when aborted. */
export async function codeFlow(flow: CodeFlow): Promise<Tokens> {
  const { fetch, server, client, signal } = flow
  // A server that names no methods may take no notice of the challenge (R100).
  if (!server.code_challenge_methods_supported?.includes('S256')) {
    throw new Failure(
      `${server.issuer} does not offer PKCE with S256 (R100), so a code could be stolen. It has to be switched on there (at Drupal: enable simple_oauth_pkce).`
    )
  }
  const authorizationUrl = safeUrl(server.authorization_endpoint, 'The authorization endpoint')
  const template = loopback(flow.redirectUri ?? defaultRedirectUri)
  const state = oauth.generateRandomState()
  const verifier = oauth.generateRandomCodeVerifier()
  const challenge = await oauth.calculatePKCECodeChallenge(verifier)
  signal?.throwIfAborted()

  const listener = createServer()
  try {
    const redirectUri = await listen(listener, template)
    const back = comingBack(listener, new URL(redirectUri), state, flow)
    const query = {
      response_type: 'code',
      client_id: client.clientId,
      redirect_uri: redirectUri,
      state,
      code_challenge: challenge,
      code_challenge_method: 'S256',
      ...scopeParameters(flow)
    }
    for (const [name, value] of Object.entries(query))
      authorizationUrl.searchParams.set(name, value)
    flow.visit(authorizationUrl.href)
    const parameters = accepted(server, client, await back, state)
    const as = { client_id: client.clientId }
    const answer = await oauth.authorizationCodeGrantRequest(
      server,
      as,
      authentication(client),
      parameters,
      redirectUri,
      verifier,
      {
        ...requestOptions(fetch, server.token_endpoint, 'The token endpoint', signal),
        additionalParameters: { resource: flow.resource }
      }
    )
    return await tokensOf(
      oauth.processAuthorizationCodeResponse(server, as, answer),
      'authorization code'
    )
  } finally {
    listener.close()
    listener.closeAllConnections()
  }
}

/** The redirect URI to come back to; a fragment must not be in it (RFC 6749 §3.1.2). */
function loopback(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined
  const isPlain = url !== undefined && url.hash + url.username + url.password === ''
  if (isPlain && url.protocol === 'http:' && isLoopback(url)) return url
  throw new Failure(
    'The redirect URI cannot be used: here it is http://127.0.0.1/…, without a user name and a fragment.',
    exitCodes.usage
  )
}

/** Listens on the loopback address of the template alone; answers the redirect URI with its port. */
async function listen(listener: Server, template: URL): Promise<string> {
  const { hostname } = template
  const host = hostname === 'localhost' ? '127.0.0.1' : hostname.replace(/^\[(.*)\]$/, '$1')
  await new Promise<void>((resolve, reject) => {
    listener.once('error', reject)
    listener.listen(Number(template.port), host, resolve)
  }).catch((error: unknown) => {
    throw new Failure(
      `Cannot listen on ${template.host} (${(error as NodeJS.ErrnoException).code}). Free the port or choose another with --redirect-uri.`
    )
  })
  const uri = new URL(template)
  uri.port = String((listener.address() as AddressInfo).port)
  return uri.href
}

/** The URL that the browser comes back with. Requests with another state are answered and not taken: any page can send them. */
async function comingBack(
  listener: Server,
  redirect: URL,
  state: string,
  { signal, patienceMs = defaultPatienceMs }: CodeFlow
): Promise<URL> {
  const patience = AbortSignal.timeout(patienceMs)
  const ended = signal ? AbortSignal.any([signal, patience]) : patience
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal?.aborted ? (signal.reason as Error) : nobodyCame())
    ended.addEventListener('abort', abort, { once: true })
    listener.on('request', (request: IncomingMessage, response: ServerResponse) => {
      const target = request.url ?? '/'
      // Not every target that HTTP lets through is a URL: `//` is none.
      const url = URL.canParse(target, redirect.href) ? new URL(target, redirect) : undefined
      if (request.method !== 'GET' || url?.pathname !== redirect.pathname)
        return page(response, 404, 'There is nothing here.')
      if (url.searchParams.get('state') !== state) {
        return page(response, 400, 'This is not the answer to the sign-in that was started here.')
      }
      const text = url.searchParams.has('error')
        ? 'You were not signed in. Your terminal says why.'
        : 'You can close this page and go back to your terminal.'
      page(response, 200, text, () => resolve(url))
    })
  })
}

function nobodyCame(): Failure {
  return new Failure(
    'Nobody came back from the browser in time. Run login again, or use --device.',
    exitCodes.notSignedIn
  )
}

function page(response: ServerResponse, status: number, text: string, sent?: () => void): void {
  response.writeHead(status, {
    'content-type': 'text/html; charset=utf-8',
    'content-security-policy': "default-src 'none'",
    'cache-control': 'no-store',
    // The page's address holds the code.
    'referrer-policy': 'no-referrer',
    connection: 'close'
  })
  response.end(`<!doctype html><html lang="en"><title>Sign-in</title><p>${text}</p></html>\n`, sent)
}

function accepted(
  server: oauth.AuthorizationServer,
  client: Client,
  url: URL,
  state: string
): URLSearchParams {
  try {
    const parameters = oauth.validateAuthResponse(
      server,
      { client_id: client.clientId },
      url,
      state
    )
    // Before the code is spent: none, or two of which the server would take another (RFC 6749 §3.1).
    if (parameters.getAll('code').length !== 1) throw new Error('not one code')
    return parameters
  } catch (error) {
    if (error instanceof oauth.AuthorizationResponseError) {
      const details = inBrackets(error.error_description, error.cause.get('hint'))
      const text =
        error.error === 'access_denied'
          ? `The sign-in was denied${details}.`
          : `The server refused the sign-in: ${error.error}${details}.${advice(error.error)}`
      throw new Failure(printable(text), exitCodes.notSignedIn, { cause: error })
    }
    throw new Failure(
      'The browser came back with an answer that cannot be used.',
      exitCodes.notSignedIn,
      { cause: error }
    )
  }
}
