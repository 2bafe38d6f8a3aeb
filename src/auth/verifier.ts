// What is this bearer token worth? Puts the judges in order (form, claims, audience, issuer, keys, liveness) and remembers what
// they said. It refuses to judge anything itself.
import type { Config } from '../config/schema.ts'
import { gatewayError } from '../errors.ts'
import { type Member, Roster } from '../roster.ts'
import { judgeAudience } from './audience.ts'
import {
  type ClaimsVerdict,
  type JsonObject,
  judgeClaims,
  narrowClaims,
  type Refusal
} from './claims.ts'
import type { Discovery } from './discovery.ts'
import type { VerifierEvents } from './events.ts'
import type { Introspection, IntrospectionAnswer } from './introspection.ts'
import type { Keys } from './jwks.ts'
import { algorithmNames, decodeJwt, twinOf } from './jwt.ts'
import type { Principal } from './principal.ts'
import type { Verdict, Verifier, VerdictSource } from './verdict.ts'
import { createVerdictMemory } from './verdict-memory.ts'

interface Options {
  config: Config
  discovery: Discovery
  keys: Keys
  /** Where given, opaque tokens are asked about; needed for the modes `introspection` and `both`. */
  introspection?: Introspection
  /** This resource's scopes as known now, from configuration and tools. */
  knownScopes: () => readonly string[]
  /** Milliseconds since epoch. */
  now?: () => number
  events?: VerifierEvents
}

interface Judging extends Member {
  token: string
  verdict: Promise<Verdict>
}

/** Most unknown tokens judged at once; more are answered 503 at once. */
const maxInFlight = 1000

const refusal = ({ reason, detail }: Refusal, source: VerdictSource): Verdict => ({
  ok: false,
  reason,
  detail,
  source
})

const foreign = ({ issuer }: Principal, source: VerdictSource) =>
  refusal({ reason: 'issuer', detail: `iss ${issuer.slice(0, 200)}` }, source)

/** Builds the verifier (see Verifier). Modes: `jwt`, `introspection` and `both`, as OAUTH_VALIDATION says. */
export function createVerifier(options: Options): Verifier {
  const { config, discovery, keys, introspection, now = Date.now, events = {} } = options
  const { oauth, derived } = config
  const algorithms = algorithmNames(oauth.algorithms)
  const ttlMs = oauth.tokenCacheTtlSeconds * 1000
  if (oauth.validation !== 'jwt' && introspection === undefined) {
    throw new Error(`oauth.validation is ${oauth.validation}, but there is no introspection`)
  }
  const signatureSuffices = oauth.validation === 'jwt'

  const memory = createVerdictMemory(oauth, now)
  const inFlight = new Roster<Judging>()

  function told(verdict: Verdict): Verdict {
    events.verdict?.(verdict.ok ? 'ok' : verdict.reason, verdict.source)
    return verdict
  }

  function recall(token: string): Verdict | undefined {
    const remembered = memory.find(token)
    return remembered === undefined || remembered === 'seen' ? undefined : told(remembered)
  }

  function verify(token: string): Verdict | Promise<Verdict> {
    const remembered = memory.find(token)
    if (remembered !== undefined && remembered !== 'seen') return told(remembered)
    const pending = inFlight.find(each => each.token === token)
    if (pending !== undefined) return pending.verdict
    const judged = judge(token, remembered === 'seen')
    if (!(judged instanceof Promise)) return told(judged)
    const settled = judged.then(told)
    const judging = inFlight.enter({ at: -1, token, verdict: settled })
    const forget = () => inFlight.leave(judging)
    settled.then(forget, forget)
    return settled
  }

  /** Everything that needs neither key nor server is answered at once. */
  function judge(token: string, seenBefore: boolean): Verdict | Promise<Verdict> {
    const decoded = decodeJwt(token, algorithms)
    if (decoded.kind === 'refused') return refusal(decoded, 'jwt')
    if (decoded.kind === 'opaque' && introspection === undefined) {
      const detail = 'the token is no JWT and no introspection is configured'
      return refusal({ reason: 'opaque', detail }, 'jwt')
    }
    if (decoded.kind === 'jwt') {
      const believed = believe(decoded.header['typ'], decoded.claims)
      if (!believed.ok) return refusal(believed, 'jwt')
      const { principal } = believed.claims
      if (signatureSuffices && keys.recognizes(principal.issuer, token, decoded.header)) {
        return acceptSigned(token, principal)
      }
      if (inFlight.size >= maxInFlight) return Promise.reject(overloaded())
      return judgeJwt(token, decoded, principal, seenBefore)
    }
    if (inFlight.size >= maxInFlight) return Promise.reject(overloaded())
    return judgeOpaque(token)
  }

  const acceptSigned = (token: string, principal: Principal) =>
    memory.accept(token, { ok: true, principal, source: 'jwt' }, principal.expiresAt)

  async function judgeJwt(
    token: string,
    { header, claims }: { header: JsonObject; claims: JsonObject },
    principal: Principal,
    seenBefore: boolean
  ): Promise<Verdict> {
    if (!(await discovery.accepts(principal.issuer))) {
      return foreign(principal, 'jwt')
    }
    const unsigned = await keys.check(principal.issuer, token).catch(withoutKeys)
    if (unsigned !== undefined) return memory.rejectUnknown(token, refusal(unsigned, 'jwt'))
    if (introspection === undefined || signatureSuffices) return acceptSigned(token, principal)
    const live = introspection
      .ask(token, principal.tokenId)
      .then(answer => settle(token, header, claims, answer))
    // Mode both: a token never seen here is believed by its signature while its liveness is asked; once seen, the answer is
    // waited for, so that a revoked token lives OAUTH_TOKEN_CACHE_TTL at the most, and fails closed.
    if (oauth.validation === 'introspection' || seenBefore || isSeenTwin(token, header)) return live
    live.catch(() => {})
    return acceptSigned(token, principal)
  }

  /** Whether the token was seen with the other signature of ES256, which its holder can make: it would be a first sight again. */
  const isSeenTwin = (token: string, { alg }: JsonObject) =>
    alg === 'ES256' && memory.find(twinOf(token)) !== undefined

  /**
   * Who only introspects can do without keys where the server is shown the whole token: then it checks the signature (RFC 7662
   * §4). Drupal is shown a jti, which is no secret.
   */
  async function withoutKeys(error: unknown): Promise<undefined> {
    if (oauth.validation !== 'introspection' || !(await introspection?.seesToken())) throw error
  }

  /** The verdict on a signed token, after the server was asked: it may shorten a token's life and take scopes, nothing else. */
  function settle(
    token: string,
    { typ }: JsonObject,
    claims: JsonObject,
    answer: IntrospectionAnswer
  ): Verdict {
    const expiresAt = claims['exp'] as number
    const believed: ClaimsVerdict = answer.active
      ? believe(typ, narrowClaims(claims, answer.claims))
      : { ok: false, reason: 'inactive', detail: answer.detail }
    if (!believed.ok) {
      return memory.reject(token, refusal(believed, 'introspection'), expiresAt)
    }
    const { principal } = believed.claims
    return memory.accept(token, { ok: true, principal, source: 'introspection' }, expiresAt)
  }

  async function judgeOpaque(token: string): Promise<Verdict> {
    const answer = await (introspection as Introspection).ask(token, undefined)
    if (!answer.active) {
      return memory.rejectUnknown(
        token,
        refusal({ reason: 'inactive', detail: answer.detail }, 'introspection')
      )
    }
    const { claims } = answer
    const believed = believe('at+jwt', {
      ...claims,
      iss: claims['iss'] ?? (await discovery.issuer()),
      aud: claims['aud'] ?? claims['client_id'],
      exp: claims['exp'] ?? (now() + Math.max(ttlMs, 60_000)) / 1000
    })
    if (!believed.ok) return memory.rejectUnknown(token, refusal(believed, 'introspection'))
    const { principal } = believed.claims
    if (!(await discovery.accepts(principal.issuer))) {
      return memory.rejectUnknown(token, foreign(principal, 'introspection'))
    }
    return memory.accept(
      token,
      { ok: true, principal, source: 'introspection' },
      principal.expiresAt
    )
  }

  function believe(type: unknown, claims: JsonObject): ClaimsVerdict {
    const { clockToleranceSeconds } = oauth
    const judged = judgeClaims(type, claims, now() / 1000, clockToleranceSeconds, derived.resource)
    if (!judged.ok) return judged
    const unfit = judgeAudience(derived.audience, judged.claims, {
      resource: derived.resource,
      scopes: new Set(options.knownScopes())
    })
    return unfit === undefined ? judged : { ok: false, ...unfit }
  }

  return {
    verify,
    recall,
    refuse(token) {
      const detail = 'Drupal refused the token'
      memory.refuse(token, refusal({ reason: 'refused-upstream', detail }, 'cache'))
    }
  }
}

function overloaded() {
  return gatewayError('GW_OVERLOADED', {
    reason: `${maxInFlight} unknown tokens are being judged`,
    retryAfterSeconds: 1
  })
}
