// Which authorization servers are trusted, and what does each say about itself (RFC 8414, then OIDC Discovery)? Answers are
// kept; it refuses to know keys and tokens, and never attaches one: Drupal answers 401 to metadata requests that carry any.
import type { Config } from '../config/schema.ts'
import { type GatewayError, gatewayError } from '../errors.ts'
import type { VerifierEvents } from './events.ts'
import { type Fetch, type FetchFailure, fetchJson } from './fetch-json.ts'
import { keep, type Kept } from './kept.ts'
import { basesOf, endpoint, issuersOf, metadataLocations } from './metadata-location.ts'

export interface AuthorizationServer {
  /** Byte for byte as the document spells it. */
  issuer: string
  /** The document as it came, to publish again (R98). */
  document: Readonly<Record<string, unknown>>
  /** Endpoints as they are to be asked; undefined when absent or not to be trusted. */
  jwksUri: string | undefined
  tokenEndpoint: string | undefined
  introspectionEndpoint: string | undefined
}

export interface Discovery {
  /** The first authorization server. Rejects with GW_AUTHORIZATION_SERVER_UNAVAILABLE when it was never reached. */
  metadata(): Promise<AuthorizationServer>
  /**
   * The server that signs for an accepted issuer: its own metadata; where that cannot be had, the first server, because a
   * listed issuer without metadata is the site's old name or another of its domains. Rejects like `metadata`.
   */
  serverOf(issuer: string): Promise<AuthorizationServer>
  /**
   * The own server of a listed issuer that is not the first, looked for again: undefined where it answers without metadata of this
   * issuer. Rejects like `metadata` while it does not answer, so that nobody knows whose keys count.
   */
  ownServerOf(issuer: string): Promise<AuthorizationServer | undefined>
  /** Whether tokens of this issuer are accepted, compared byte for byte. At once where issuers are configured; rejects like `metadata`. */
  accepts(issuer: string): boolean | Promise<boolean>
  /** Whether `accepts` is known to say yes. Asks nobody: false where that would have to be asked first. */
  acceptsUnasked(issuer: string): boolean
  /** The issuer to publish: configured, else discovered. */
  issuer(): Promise<string>
}

interface Options {
  config: Config
  fetch: Fetch
  /** Milliseconds; only differences count. */
  now: () => number
  events?: VerifierEvents
}

const retryMs = 1000
/** A listed issuer without metadata is looked for once a minute: its tokens must not wait for it on every miss. */
const secondaryRetryMs = 60_000

/** Finds and keeps the metadata of the configured authorization servers. Asks nothing before it is asked. */
export function createDiscovery({ config, fetch, now, events = {} }: Options): Discovery {
  const { drupal, oauth } = config
  const { issuers } = oauth
  const [first] = issuers

  function server(
    bases: readonly string[],
    expected: readonly string[],
    waitMs: number
  ): Kept<AuthorizationServer> {
    return keep({
      now,
      ttlMs: oauth.discoveryCacheTtlSeconds * 1000,
      staleMs: oauth.staleSeconds * 1000,
      retryMs: waitMs,
      outage: error => events.outage?.('metadata', error),
      load: () =>
        discover(bases, expected).catch((error: GatewayError) => {
          events.asFailure?.('metadata')
          throw error
        })
    })
  }

  async function discover(
    bases: readonly string[],
    expected: readonly string[]
  ): Promise<AuthorizationServer> {
    const problems: string[] = []
    let silence: unknown
    const places = bases.flatMap(base => metadataLocations(base).map(url => ({ base, url })))
    for (const { base, url } of places) {
      try {
        const document = await fetchJson({ fetch, url, timeoutMs: oauth.timeoutSeconds * 1000 })
        if (typeof document['issuer'] === 'string' && expected.includes(document['issuer'])) {
          return read(document['issuer'], document, base)
        }
        problems.push(mismatch(url, document['issuer'], expected))
      } catch (error) {
        problems.push((error as Error).message)
        if (isSilent(error as FetchFailure)) silence = error
        // A server that does not answer will not answer at its other names either.
        if ((error as FetchFailure).kind === 'timeout') break
        if ((error as FetchFailure).kind === 'network') break
      }
    }
    throw unavailable(problems.join('; '), silence)
  }

  const primary =
    first === undefined
      ? server([drupal.url], issuersOf(drupal.url), retryMs)
      : server(basesOf(first, drupal.url), [first], retryMs)
  const others = new Map(
    issuers
      .slice(1)
      .map(issuer => [issuer, server(basesOf(issuer, drupal.url), [issuer], secondaryRetryMs)])
  )

  return {
    metadata: () => primary.get(),
    serverOf(issuer) {
      const own = others.get(issuer)
      return own === undefined ? primary.get() : own.get().catch(() => primary.get())
    },
    async ownServerOf(issuer) {
      const own = others.get(issuer) as Kept<AuthorizationServer>
      return own.get(retryMs).catch((error: GatewayError) => {
        if (error.cause !== undefined) throw error
        return undefined
      })
    },
    accepts: issuer =>
      first === undefined
        ? primary.get().then(server => server.issuer === issuer)
        : issuers.includes(issuer),
    acceptsUnasked: issuer =>
      first === undefined ? primary.fresh()?.issuer === issuer : issuers.includes(issuer),
    issuer: async () => first ?? (await primary.get()).issuer
  }
}

/** No answer of the server itself: it may have metadata all the same. */
const isSilent = ({ kind, status = 0 }: FetchFailure) =>
  kind === 'timeout' || kind === 'network' || status === 429 || status >= 500

function read(
  issuer: string,
  document: Readonly<Record<string, unknown>>,
  base: string
): AuthorizationServer {
  return {
    issuer,
    document,
    jwksUri: endpoint(document['jwks_uri'], base),
    tokenEndpoint: endpoint(document['token_endpoint'], base),
    introspectionEndpoint: endpoint(document['introspection_endpoint'], base)
  }
}

function mismatch(url: string, issuer: unknown, expected: readonly string[]): string {
  return (
    `${url} names the issuer ${JSON.stringify(issuer)?.slice(0, 200)}, expected ${expected.join(' or ')}: ` +
    'correct drupal.url, or list the issuer in oauth.issuers (OAUTH_ISSUER)'
  )
}

/** The 503 of everything that needs the authorization server; the reason is for the log. */
export function unavailable(reason: string, cause?: unknown): GatewayError {
  return gatewayError('GW_AUTHORIZATION_SERVER_UNAVAILABLE', {
    reason,
    cause,
    retryAfterSeconds: 2
  })
}
