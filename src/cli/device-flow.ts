// Sign-in by a code that is typed on another device (RFC 8628), with Drupal's oddities in mind (wire §7). It shows nothing
// itself: what a person must see goes to `tell`.
import { setTimeout as wait } from 'node:timers/promises'
import * as oauth from 'oauth4webapi'
import { exitCodes, Failure } from './failure.ts'
import type { Fetch } from './http.ts'
import {
  authentication,
  type Client,
  printable,
  Refusal,
  requestOptions,
  scopeParameters,
  type Tokens,
  tokensOf,
  understood
} from './oauth.ts'

export interface Code {
  userCode: string
  uri: string
  /** With the code in it; where the server has none, the same as `uri`. */
  complete: string
  /** Milliseconds since epoch. */
  expiresAt: number
}

export type Told =
  | { kind: 'code'; code: Code }
  | { kind: 'waiting'; code: Code; remainingMs: number }
  | { kind: 'slower'; seconds: number }
  | { kind: 'long' }

export interface DeviceFlow {
  fetch: Fetch
  server: oauth.AuthorizationServer
  client: Client
  scopes: string[]
  resource: string
  tell: (told: Told) => void
  signal?: AbortSignal
  now?: () => number
  sleep?: (ms: number) => Promise<unknown>
}

const defaultIntervalSeconds = 5
/** RFC 8628 §3.5. */
const slowDownSeconds = 5
/** Drupal measures the interval too: an answer just before its end would be told to slow down. */
const graceMs = 250
const maxIntervalSeconds = 60
const longAfterMs = 90_000
/** A code lives some minutes. Timers end at 25 days, and one that is longer would not wait at all. */
const longestLifeSeconds = 86_400

/** Runs the flow to its end: tokens, or a Failure that says why not. Rejects with the signal's reason when aborted. */
export async function deviceFlow(flow: DeviceFlow): Promise<Tokens> {
  const { fetch, server, client, signal, tell } = flow
  const { now = Date.now, sleep = ms => wait(ms, undefined, signal ? { signal } : {}) } = flow
  const as = { client_id: client.clientId }
  const options = requestOptions(
    fetch,
    server.device_authorization_endpoint,
    'The device endpoint',
    signal
  )
  const asked = await oauth.deviceAuthorizationRequest(
    server,
    as,
    authentication(client),
    scopeParameters(flow),
    options
  )
  const given = await understood(
    oauth.processDeviceAuthorizationResponse(server, as, asked),
    'device code'
  )
  const started = now()
  const code: Code = {
    userCode: printable(given.user_code),
    uri: webUrl(given.verification_uri),
    complete: webUrl(given.verification_uri_complete ?? given.verification_uri),
    expiresAt: started + Math.min(given.expires_in, longestLifeSeconds) * 1000
  }
  tell({ kind: 'code', code })

  let seconds = given.interval ?? defaultIntervalSeconds
  let toldLong = false
  let isAway = false
  for (;;) {
    await sleep(Math.min(seconds * 1000 + graceMs, Math.max(0, code.expiresAt - now())))
    if (now() >= code.expiresAt) throw expired(isAway)
    const verdict = await poll(flow, given.device_code)
    if (typeof verdict !== 'string') return verdict
    isAway = verdict === 'unreachable'
    if (verdict !== 'authorization_pending') {
      // What the server asks for has no bound; the pause for one that is away has.
      if (verdict === 'slow_down' || seconds < maxIntervalSeconds) seconds += slowDownSeconds
      tell({ kind: 'slower', seconds })
    }
    tell({ kind: 'waiting', code, remainingMs: code.expiresAt - now() })
    if (!toldLong && now() - started > longAfterMs) {
      toldLong = true
      tell({ kind: 'long' })
    }
  }
}

/** Tokens, or what to do: go on, or go on more slowly. Everything else is thrown. */
async function poll(
  { fetch, server, client, resource, signal }: DeviceFlow,
  deviceCode: string
): Promise<Tokens | 'authorization_pending' | 'slow_down' | 'unreachable'> {
  const as = { client_id: client.clientId }
  const options = requestOptions(fetch, server.token_endpoint, 'The token endpoint', signal)
  let answer: Response
  try {
    answer = await oauth.deviceCodeGrantRequest(server, as, authentication(client), deviceCode, {
      ...options,
      additionalParameters: { resource }
    })
  } catch (error) {
    // A lost packet is no refusal: the code is good until it expires.
    if (error instanceof Failure) return 'unreachable'
    throw error
  }
  if (answer.status >= 500 || answer.status === 429) return 'unreachable'
  try {
    return await tokensOf(oauth.processDeviceCodeResponse(server, as, answer), 'device code')
  } catch (error) {
    const { error: code } = error as Refusal
    switch (code) {
      case 'authorization_pending':
      case 'slow_down':
        return code
      case 'expired_token':
        throw expired()
      case 'access_denied':
        throw new Failure('The sign-in was denied on the other device.', exitCodes.notSignedIn)
      default:
        throw error
    }
  }
}

/** `isAway`: at the end the server could not be asked. */
function expired(isAway = false): Failure {
  const why = isAway
    ? 'the server was in trouble and did not say whether anybody entered it. Run doctor with the same URL, then login again'
    : 'nobody entered it in time, or Deny was pressed (Drupal does not pass that on). Run login again'
  return new Failure(`The code has expired: ${why} for a new one.`, exitCodes.notSignedIn)
}

/** Only such a URL is shown and opened: it comes from a server. */
function webUrl(value: string): string {
  const url = URL.canParse(value) ? new URL(value) : undefined
  if (url !== undefined && /^https?:$/.test(url.protocol)) return url.href
  throw new Refusal(
    'unreadable',
    0,
    'The server names no web page where the code could be entered.'
  )
}
