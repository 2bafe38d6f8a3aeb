// The requests that every grant shares: refresh, client credentials, revocation, and the words for what a server refuses.
// oauth4webapi writes and reads them; what is here makes room for Drupal's ways (wire §3, §4).
import * as oauth from 'oauth4webapi'
import { isObject } from '../mcp/call.ts'
import { Failure, exitCodes, inBrackets } from './failure.ts'
import { askForBody, type Fetch, isLoopback, safeUrl } from './http.ts'

export const deviceGrant = 'urn:ietf:params:oauth:grant-type:device_code'

export interface Client {
  clientId: string
  clientSecret?: string
  registration?: { uri: string; token: string }
}

export type Tokens = Pick<
  oauth.TokenEndpointResponse,
  'access_token' | 'refresh_token' | 'expires_in' | 'scope'
>

/** Options of one request to `endpoint`: our fetch, and http where only this machine hears it. */
export function requestOptions(
  fetch: Fetch,
  endpoint: string | undefined,
  what: string,
  signal?: AbortSignal
) {
  const url = safeUrl(endpoint, what)
  return {
    [oauth.customFetch]: async (target: string, init: object) =>
      withoutIdToken(await askForBody(fetch, target, init)),
    [oauth.allowInsecureRequests]: isLoopback(url),
    ...(signal ? { signal } : {})
  }
}

/**
 * Nobody reads an id_token here. oauth4webapi would, and throw away the tokens beside it where this machine's clock is wrong, or where
 * a refresh brings another algorithm than RS256.
 */
async function withoutIdToken(answer: Response): Promise<Response> {
  const body: unknown = await answer
    .clone()
    .json()
    .catch(() => undefined)
  if (!isObject(body) || !('id_token' in body)) return answer
  const { id_token: _unread, ...rest } = body
  return new Response(JSON.stringify(rest), { status: answer.status, headers: answer.headers })
}

/** The secret goes into the body: Drupal answers Basic with a challenge, and only on one of its endpoints. */
export function authentication({ clientSecret }: Client): oauth.ClientAuth {
  return clientSecret === undefined ? oauth.None() : oauth.ClientSecretPost(clientSecret)
}

/** The next pair of tokens (RFC 6749 §6). The refresh token is spent even when the answer gets lost. */
export async function refresh(
  fetch: Fetch,
  server: oauth.AuthorizationServer,
  client: Client,
  refreshToken: string,
  resource: string
): Promise<Tokens> {
  const answer = await oauth.refreshTokenGrantRequest(
    server,
    { client_id: client.clientId },
    authentication(client),
    refreshToken,
    {
      ...requestOptions(fetch, server.token_endpoint, 'The token endpoint'),
      additionalParameters: { resource }
    }
  )
  return tokensOf(
    oauth.processRefreshTokenResponse(server, { client_id: client.clientId }, answer),
    'refresh'
  )
}

/** A token for the client itself (RFC 6749 §4.4). Drupal wants a scope. */
export async function clientCredentials(
  fetch: Fetch,
  server: oauth.AuthorizationServer,
  client: Client,
  wish: { scopes: string[]; resource: string },
  signal?: AbortSignal
): Promise<Tokens> {
  const answer = await oauth.clientCredentialsGrantRequest(
    server,
    { client_id: client.clientId },
    authentication(client),
    scopeParameters(wish),
    requestOptions(fetch, server.token_endpoint, 'The token endpoint', signal)
  )
  return tokensOf(
    oauth.processClientCredentialsResponse(server, { client_id: client.clientId }, answer),
    'client credentials'
  )
}

/** `scope`, where there is one, and always `resource` (R103). */
export function scopeParameters(wish: {
  scopes: string[]
  resource: string
}): Record<string, string> {
  return {
    resource: wish.resource,
    ...(wish.scopes.length === 0 ? {} : { scope: wish.scopes.join(' ') })
  }
}

/** Revokes one token (RFC 7009); true when the server said 200, which at Drupal promises nothing (wire §4.2). */
export async function revoke(
  fetch: Fetch,
  server: oauth.AuthorizationServer,
  client: Client,
  token: string
): Promise<boolean> {
  const { clientId: client_id } = client
  const options = requestOptions(fetch, server.revocation_endpoint, 'The revocation endpoint')
  const answer = await oauth.revocationRequest(
    server,
    { client_id },
    authentication(client),
    token,
    options
  )
  return answer.status === 200
}

/** What the server refused: its error code, to decide by, and a sentence to show. */
export class Refusal extends Failure {
  readonly error: string
  /** 0 where the answer was no OAuth error at all. */
  readonly status: number

  constructor(error: string, status: number, message: string, options?: ErrorOptions) {
    super(message, exitCodes.notSignedIn, options)
    this.name = 'Refusal'
    this.error = error
    this.status = status
  }
}

/** Gives a refusal its words; never repeats a body: it may be a page, or hold a secret. `status`: where another was processed. */
export async function understood<T>(
  processed: Promise<T>,
  what: string,
  status?: number
): Promise<T> {
  try {
    return await processed
  } catch (error) {
    if (error instanceof oauth.ResponseBodyError) {
      const { error: code, error_description: description } = error
      const { hint } = error.cause as Record<string, unknown>
      const text = `The server refused the ${what}: ${code}${inBrackets(description, hint)}.`
      throw new Refusal(code, error.status, printable(`${text}${advice(code)}`), { cause: error })
    }
    const response = (error as { cause?: unknown }).cause
    const found = status ?? (response instanceof Response && response.status)
    const seen = found === false ? '' : ` (status ${found})`
    const text = `The server's answer to the ${what} cannot be used${seen}. Run doctor with the same URL: it finds the broken link.`
    throw new Refusal('unreadable', 0, text, { cause: error })
  }
}

/** Tokens that this program can use: a type that is not understood must not be (RFC 6749 §7.1), and what no header can hold cannot. */
export async function tokensOf(
  processed: Promise<oauth.TokenEndpointResponse>,
  what: string
): Promise<Tokens> {
  const tokens = await understood(processed, what)
  const { token_type: type, access_token: token } = tokens
  if (type === 'bearer' && /^[\x21-\x7e]+$/.test(token)) return tokens
  const why =
    type === 'bearer'
      ? 'holds a token with characters that none may have'
      : `holds a token of the type ${type}, bound to a key (RFC 9449), and only bearer tokens can be used here. Ask the server's administrator for these`
  throw new Refusal('unreadable', 0, `The server's answer to the ${what} ${why}.`)
}

/** Fit for a terminal: no control characters, no endless text. */
export function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, ' ').slice(0, 600)
}

/** What a person can do about an OAuth error code, to stand behind a sentence; empty where only the server knows. */
export function advice(code: string): string {
  switch (code) {
    case 'invalid_client':
      return ' The client id is unknown, disabled, or its secret is wrong.'
    case 'unauthorized_client':
      return ' This client may not use this flow: enable the grant for it in Drupal (Consumers), or try the other flow.'
    case 'invalid_scope':
      return ' The scope does not exist, or its grant type is switched off in Drupal (Simple OAuth scopes). Choose others with --scope.'
    default:
      return ''
  }
}
