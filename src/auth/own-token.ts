// The gateway's own access token (client credentials, RFC 6749 §4.4), with which it may ask Drupal about others. Kept in memory
// only and renewed before it ends; it refuses to know what it is used for.
import type { Config } from '../config/schema.ts'
import { type Discovery, unavailable } from './discovery.ts'
import type { VerifierEvents } from './events.ts'
import { type Fetch, fetchJson } from './fetch-json.ts'

export interface OwnToken {
  /** A token with some life left; one request at a time. Rejects with GW_AUTHORIZATION_SERVER_UNAVAILABLE. */
  get(): Promise<string>
  /** Forgets this token, because the server refused it (in Drupal: the consumer was saved). */
  drop(token: string): void
}

interface Options {
  config: Config
  discovery: Discovery
  fetch: Fetch
  /** Milliseconds; only differences count. */
  now: () => number
  events: VerifierEvents
}

/** Renewed when a fifth of its life is left; a server that names no life is taken to mean a minute. */
const renewAfter = 0.8
const defaultLifeSeconds = 60

/** Gets, keeps and renews the token. Asks nothing before it is needed. */
export function createOwnToken(options: Options): OwnToken {
  const { config, discovery, fetch, now, events } = options
  const { clientId, clientSecret, introspectionScope: scope, timeoutSeconds } = config.oauth
  let held: { token: string; renewAt: number } | undefined
  let pending: Promise<string> | undefined

  async function obtain(): Promise<string> {
    if (clientId === '') throw unavailable('introspection needs OAUTH_CLIENT_ID and its secret')
    const { tokenEndpoint: url, issuer } = await discovery.metadata()
    if (url === undefined) throw unavailable(`${issuer} names no token_endpoint`)
    const askedAt = now()
    // In the body: Drupal reads Basic at this endpoint only.
    const form = {
      grant_type: 'client_credentials',
      client_id: clientId,
      client_secret: clientSecret,
      ...(scope !== '' && { scope })
    }
    try {
      const answer = await fetchJson({ fetch, url, form, timeoutMs: timeoutSeconds * 1000 })
      const { access_token: token, expires_in: life } = answer
      if (typeof token !== 'string' || token === '') throw new Error('the answer holds no token')
      const seconds = typeof life === 'number' && life > 0 ? life : defaultLifeSeconds
      held = { token, renewAt: askedAt + seconds * 1000 * renewAfter }
      return token
    } catch (error) {
      events.asFailure?.('token')
      throw unavailable(
        `the gateway gets no token of its own, ${(error as Error).message}. Check OAUTH_CLIENT_ID and OAUTH_CLIENT_SECRET; in Drupal the client needs the grant client_credentials, a user and a default scope`,
        error
      )
    }
  }

  return {
    async get() {
      if (held !== undefined && now() < held.renewAt) return held.token
      pending ??= obtain().finally(() => {
        pending = undefined
      })
      return pending
    },
    drop(token) {
      if (held?.token === token) held = undefined
    }
  }
}
