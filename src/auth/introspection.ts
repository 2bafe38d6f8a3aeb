// Is this token alive, according to the server that issued it (RFC 7662)? Speaks the standard and Drupal's dialect. It refuses
// to know what the answer means for the caller, and remembers nothing but the gateway's own token.
import type { Config } from '../config/schema.ts'
import { type GatewayError, gatewayError, isGatewayError } from '../errors.ts'
import { type Member, Roster } from '../roster.ts'
import type { JsonObject } from './claims.ts'
import { type AuthorizationServer, type Discovery, unavailable } from './discovery.ts'
import type { VerifierEvents } from './events.ts'
import { type Fetch, FetchFailure, fetchJson } from './fetch-json.ts'
import { createOwnToken } from './own-token.ts'

export type IntrospectionAnswer =
  | { active: true; claims: JsonObject }
  | { active: false; detail: string }

export interface Introspection {
  /**
   * Asks about a token; `tokenId` is its jti, the only name by which Drupal knows it. One question at a time per token.
   * Rejects with GW_AUTHORIZATION_SERVER_UNAVAILABLE when there is no answer: the caller fails closed.
   */
  ask(token: string, tokenId: string | undefined): Promise<IntrospectionAnswer>
  /** Whether the server is shown the whole token (RFC 7662) or its jti only (Drupal). Rejects with the same. */
  seesToken(): Promise<boolean>
  /** Rejects with the same where the server refuses the gateway's own client; its hint is for the operator. Asks only before the first answer, and where the last question had none. */
  ready(): Promise<void>
}

interface Options {
  config: Config
  discovery: Discovery
  fetch: Fetch
  /** Milliseconds; only differences count. */
  now: () => number
  events?: VerifierEvents
}

interface Asking extends Member {
  token: string
  answer: Promise<IntrospectionAnswer>
}

/** Most questions at once: tokens nobody knows must not become a load on the server. */
const maxConcurrent = 64

/** Asks the first authorization server. Claims of an active answer are as the server gave them. */
export function createIntrospection(options: Options): Introspection {
  const { config, discovery, fetch, now, events = {} } = options
  const { oauth } = config
  const timeoutMs = oauth.timeoutSeconds * 1000
  const pending = new Roster<Asking>()
  const ownToken = createOwnToken({ config, discovery, fetch, now, events })
  let last: 'answered' | 'failed' | undefined
  let isOut = false

  async function post(
    url: string,
    form: Record<string, string>,
    authorization: string | undefined
  ): Promise<JsonObject> {
    const headers = authorization === undefined ? {} : { authorization }
    return fetchJson({ fetch, url, timeoutMs, form, headers })
  }

  /** RFC 7662 §2.1 with client authentication. */
  async function standard(server: AuthorizationServer, url: string, token: string) {
    const form = { token, token_type_hint: 'access_token' }
    const { clientId, clientSecret } = oauth
    if (clientId === '') throw unavailable('introspection needs OAUTH_CLIENT_ID and its secret')
    const { document } = server
    const methods =
      document['introspection_endpoint_auth_methods_supported'] ??
      document['token_endpoint_auth_methods_supported']
    if (Array.isArray(methods) && !methods.includes('client_secret_basic')) {
      return post(url, { ...form, client_id: clientId, client_secret: clientSecret }, undefined)
    }
    return post(url, form, basic(clientId, clientSecret))
  }

  /** Drupal's: the jti, and the gateway's own bearer token; one more try with a new one when Drupal has dropped it. */
  async function drupal(url: string, tokenId: string) {
    const form = { token: tokenId, token_type_hint: 'access_token' }
    const bearer = await ownToken.get()
    try {
      return await post(url, form, `Bearer ${bearer}`)
    } catch (error) {
      if (!(error instanceof FetchFailure) || error.status !== 401) throw error
      ownToken.drop(bearer)
      return post(url, form, `Bearer ${await ownToken.get()}`)
    }
  }

  /** Why nobody can be asked about an opaque token, now or later: 503 would have its owner come again with it. */
  function unaskable(server: AuthorizationServer): string | undefined {
    if (server.introspectionEndpoint === undefined) return noEndpoint(server)
    return speaksDrupal(oauth.introspection, server)
      ? 'Drupal knows tokens by their jti, and this one has none'
      : undefined
  }

  async function question(
    server: AuthorizationServer,
    token: string,
    tokenId: string | undefined
  ): Promise<IntrospectionAnswer> {
    const url = server.introspectionEndpoint
    if (url === undefined) throw unavailable(noEndpoint(server))
    const claims = speaksDrupal(oauth.introspection, server)
      ? await drupal(url, tokenId as string)
      : await standard(server, url, token)
    if (claims['active'] !== true) return { active: false, detail: 'the server says inactive' }
    // Servers answer "active" for refresh tokens too, then without a token_type; a JWT says itself what it is.
    const type = claims['token_type'] ?? (tokenId === undefined ? 'none' : 'bearer')
    if (typeof type !== 'string' || type.toLowerCase() !== 'bearer') {
      return { active: false, detail: 'the server gives it no token_type Bearer' }
    }
    return { active: true, claims }
  }

  async function measured(token: string, tokenId: string | undefined) {
    const start = now()
    try {
      const server = await discovery.metadata()
      const detail = tokenId === undefined ? unaskable(server) : undefined
      if (detail !== undefined) return { active: false as const, detail }
      const answer = await question(server, token, tokenId)
      if (isOut) events.outage?.('introspection')
      isOut = false
      last = 'answered'
      events.introspection?.(now() - start, answer.active ? 'active' : 'inactive')
      return answer
    } catch (error) {
      const failure = isGatewayError(error)
        ? error
        : unavailable(explain(error as FetchFailure), error)
      if (last === 'answered') {
        isOut = true
        events.outage?.('introspection', failure)
      }
      last = 'failed'
      events.introspection?.(now() - start, 'failed')
      events.asFailure?.('introspection')
      throw failure
    }
  }

  async function seesToken(): Promise<boolean> {
    return !speaksDrupal(oauth.introspection, await discovery.metadata())
  }

  async function ask(token: string, tokenId: string | undefined): Promise<IntrospectionAnswer> {
    // Never by the jti: it is no secret, and whoever posts one as a token would share the answer to the owner's question.
    const asked = pending.find(each => each.token === token)
    if (asked !== undefined) return asked.answer
    if (pending.size >= maxConcurrent) {
      throw unavailable(`${maxConcurrent} introspections are under way`)
    }
    const asking: Asking = pending.enter({
      at: -1,
      token,
      answer: measured(token, tokenId).finally(() => pending.leave(asking))
    })
    return asking.answer
  }

  /** An outage is no refusal: what is remembered goes on being served. */
  async function ready(): Promise<void> {
    if (last === 'answered') return
    const isStandard = await seesToken()
    // Drupal answers 400 to a wrong secret; others may do so to a token that is none of theirs.
    const refusals = isStandard ? [401, 403] : [400, 401, 403]
    // Drupal gives the gateway a token of its own, or not; of others nothing is known without a question.
    const asking: Promise<unknown> =
      isStandard || last === 'failed' ? ask('readiness', 'readiness') : ownToken.get()
    await asking.catch(({ code, reason = '', cause }: GatewayError) => {
      if (!(cause instanceof FetchFailure) || !refusals.includes(cause.status ?? 0)) return
      const hint = 'It refuses the client of this gateway; the log says why.'
      throw gatewayError(code, { reason, hint })
    })
  }

  return { ask, seesToken, ready }
}

const noEndpoint = ({ issuer }: AuthorizationServer) => `${issuer} names no introspection_endpoint`

/** Drupal's metadata carries a member that no standard has; nothing else tells its dialect. */
function speaksDrupal(option: Config['oauth']['introspection'], server: AuthorizationServer) {
  return option === 'auto'
    ? 'oauth_authorization_server_metadata_endpoint' in server.document
    : option === 'drupal'
}

/** RFC 6749 §2.3.1: both halves form-urlencoded, then base64. */
function basic(id: string, secret: string): string {
  const encode = (text: string) => new URLSearchParams({ '': text }).toString().slice(1)
  return `Basic ${Buffer.from(`${encode(id)}:${encode(secret)}`).toString('base64')}`
}

function explain(error: FetchFailure): string {
  const { status } = error
  if (status !== 401 && status !== 403) return error.message
  return `${error.message}: check OAUTH_CLIENT_ID and OAUTH_CLIENT_SECRET, and OAUTH_INTROSPECTION (rfc7662 or drupal); in Drupal the gateway's client needs a user and a scope with the permission "bypass token introspection restrictions"`
}
