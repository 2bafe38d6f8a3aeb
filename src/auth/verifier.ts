// What is this bearer token worth? Puts the judges in order (form, claims, audience, issuer, keys, liveness) and remembers what
// they said. It refuses to judge anything itself.
import type { Config } from '../config/schema.ts'
import { gatewayError } from '../errors.ts'
import { judgeAudience } from './audience.ts'
import { type ClaimsVerdict, type JsonObject, judgeClaims, type Refusal } from './claims.ts'
import type { Discovery } from './discovery.ts'
import type { VerifierEvents } from './events.ts'
import type { Introspection, IntrospectionAnswer } from './introspection.ts'
import type { Keys } from './jwks.ts'
import { decodeJwt } from './jwt.ts'
import type { Principal } from './principal.ts'
import { createTokenCache } from './token-cache.ts'
import type { Verdict, Verifier, VerdictSource } from './verdict.ts'

interface Options {
  config: Config
  discovery: Discovery
  keys: Keys
  /** Where given, opaque tokens are asked about; needed for the modes `introspection` and `both`. */
  introspection?: Introspection
  /** This resource's scopes as known now, from configuration and tools. */
  knownScopes: () => ReadonlySet<string> | readonly string[]
  /** Milliseconds since epoch. */
  now?: () => number
  events?: VerifierEvents
}

/** A verdict that may be given again until `freshUntil` (ms); it may be remembered longer, as a token seen before. */
interface Remembered {
  verdict: Verdict
  freshUntil: number
}

/** How long a refusal that cost a key or a server is remembered: long enough to end a loop, short enough to heal. */
const refusedMs = 5000
/** Most unknown tokens judged at once; more are answered 503 at once. */
const maxInFlight = 1000

const refusal = ({ reason, detail }: Refusal, source: VerdictSource): Verdict => ({
  ok: false,
  reason,
  detail,
  source
})

/** Builds the verifier (see Verifier). Modes: `jwt`, `introspection` and `both`, as OAUTH_VALIDATION says. */
export function createVerifier(options: Options): Verifier {
  const { config, discovery, keys, introspection, now = Date.now, events = {} } = options
  const { oauth, derived } = config
  const algorithms: string[] = [...oauth.algorithms]
  if (algorithms.includes('EdDSA')) algorithms.push('Ed25519')
  const ttlMs = oauth.tokenCacheTtlSeconds * 1000
  if (oauth.validation !== 'jwt' && introspection === undefined) {
    throw new Error(`oauth.validation is ${oauth.validation}, but there is no introspection`)
  }

  const known = createTokenCache<Remembered>(
    oauth.tokenCacheEntries,
    oauth.tokenCacheEntries * 2048
  )
  // Three caches, so that a flood of forged tokens evicts neither a good verdict nor one of Drupal's.
  const refused = createTokenCache<Remembered>(2000, 4_194_304)
  const forged = createTokenCache<Remembered>(1000, 2_097_152)
  const inFlight = new Map<string, Promise<Verdict>>()

  function told(verdict: Verdict): Verdict {
    events.verdict?.(verdict.ok ? 'ok' : verdict.reason, verdict.source)
    return verdict
  }

  function verify(token: string): Verdict | Promise<Verdict> {
    const nowMs = now()
    const remembered =
      known.get(token, nowMs) ?? refused.get(token, nowMs) ?? forged.get(token, nowMs)
    if (remembered !== undefined && nowMs < remembered.freshUntil) return told(remembered.verdict)
    const pending = inFlight.get(token)
    if (pending !== undefined) return pending
    const judged = judge(token, remembered !== undefined)
    if (!(judged instanceof Promise)) return told(judged)
    const settled = judged.then(told).finally(() => inFlight.delete(token))
    inFlight.set(token, settled)
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
      if (inFlight.size >= maxInFlight) return Promise.reject(overloaded())
      return judgeJwt(token, decoded, believed.claims.principal, seenBefore)
    }
    if (inFlight.size >= maxInFlight) return Promise.reject(overloaded())
    return judgeOpaque(token)
  }

  async function judgeJwt(
    token: string,
    { header, claims }: { header: JsonObject; claims: JsonObject },
    principal: Principal,
    seenBefore: boolean
  ): Promise<Verdict> {
    if (!(await discovery.accepts(principal.issuer))) {
      return refusal({ reason: 'issuer', detail: `iss ${principal.issuer.slice(0, 200)}` }, 'jwt')
    }
    const unsigned = await keys.check(principal.issuer, token)
    if (unsigned !== undefined) return forget(token, refusal(unsigned, 'jwt'))
    if (introspection === undefined || oauth.validation === 'jwt') {
      return accept(token, { ok: true, principal, source: 'jwt' })
    }
    const live = introspection
      .ask(token, principal.tokenId)
      .then(answer => settle(token, header['typ'], claims, answer))
    // Mode both: a token never seen here is believed by its signature while its liveness is asked; once seen, the answer is
    // waited for, so that a revoked token lives OAUTH_TOKEN_CACHE_TTL at the most, and fails closed.
    if (oauth.validation === 'introspection' || seenBefore) return live
    live.catch(() => {})
    return accept(token, { ok: true, principal, source: 'jwt' })
  }

  /** The verdict on a signed token, after the server was asked: it may shorten a token's life and take scopes, nothing else. */
  function settle(
    token: string,
    type: unknown,
    claims: JsonObject,
    answer: IntrospectionAnswer
  ): Verdict {
    if (!answer.active) {
      return reject(token, refusal({ reason: 'inactive', detail: answer.detail }, 'introspection'))
    }
    const believed = believe(type, narrow(claims, answer.claims))
    if (!believed.ok) return reject(token, refusal(believed, 'introspection'))
    return accept(token, {
      ok: true,
      principal: believed.claims.principal,
      source: 'introspection'
    })
  }

  async function judgeOpaque(token: string): Promise<Verdict> {
    const answer = await (introspection as Introspection).ask(token, undefined)
    if (!answer.active) {
      return forget(token, refusal({ reason: 'inactive', detail: answer.detail }, 'introspection'))
    }
    const { claims } = answer
    const believed = believe('at+jwt', {
      ...claims,
      iss: claims['iss'] ?? (await discovery.issuer()),
      aud: claims['aud'] ?? claims['client_id'],
      exp: claims['exp'] ?? (now() + Math.max(ttlMs, 60_000)) / 1000
    })
    if (!believed.ok) return forget(token, refusal(believed, 'introspection'))
    const { principal } = believed.claims
    if (!(await discovery.accepts(principal.issuer))) {
      const detail = `iss ${principal.issuer.slice(0, 200)}`
      return forget(token, refusal({ reason: 'issuer', detail }, 'introspection'))
    }
    return accept(token, { ok: true, principal, source: 'introspection' })
  }

  function believe(type: unknown, claims: JsonObject): ClaimsVerdict {
    const judged = judgeClaims(type, claims, now() / 1000, oauth.clockToleranceSeconds)
    if (!judged.ok) return judged
    const names = options.knownScopes()
    const scopes = names instanceof Set ? names : new Set(names)
    const unfit = judgeAudience(derived.audience, judged.claims, {
      resource: derived.resource,
      scopes
    })
    return unfit === undefined ? judged : { ok: false, ...unfit }
  }

  function accept(token: string, verdict: Verdict & { ok: true }): Verdict {
    const nowMs = now()
    // Drupal may have refused the token while it was being judged.
    const last = refused.get(token, nowMs)
    if (last !== undefined && nowMs < last.freshUntil) return last.verdict
    const expiresMs = verdict.principal.expiresAt * 1000
    const freshUntil = Math.min(expiresMs, nowMs + ttlMs)
    const keepUntil = oauth.validation === 'both' ? expiresMs : freshUntil
    known.set(token, { verdict: { ...verdict, source: 'cache' }, freshUntil }, keepUntil, nowMs)
    return verdict
  }

  /** The server or Drupal said no: remembered for a while as refused, and longer as seen. */
  function reject(token: string, verdict: Verdict): Verdict {
    const nowMs = now()
    known.delete(token)
    const entry = {
      verdict: { ...verdict, source: 'cache' as const },
      freshUntil: nowMs + refusedMs
    }
    refused.set(token, entry, nowMs + refusedMs + ttlMs, nowMs)
    return verdict
  }

  /** Refused in a way that anybody can cause. */
  function forget(token: string, verdict: Verdict): Verdict {
    const nowMs = now()
    const freshUntil = nowMs + refusedMs
    forged.set(token, { verdict: { ...verdict, source: 'cache' }, freshUntil }, freshUntil, nowMs)
    return verdict
  }

  return {
    verify,
    refuse(token) {
      const detail = 'Drupal refused the token'
      reject(token, refusal({ reason: 'refused-upstream', detail }, 'cache'))
    }
  }
}

/** The claims with what introspection may change: an earlier end, fewer scopes. */
function narrow(claims: JsonObject, answer: JsonObject): JsonObject {
  const narrowed = { ...claims }
  if (typeof answer['exp'] === 'number') {
    narrowed['exp'] = Math.min(answer['exp'], claims['exp'] as number)
  }
  if (typeof answer['scope'] === 'string') {
    const granted = answer['scope'].split(' ')
    const own = claims['scope'] ?? claims['scopes'] ?? claims['scp'] ?? []
    const list = typeof own === 'string' ? own.split(' ') : (own as string[])
    narrowed['scope'] = list.filter(scope => granted.includes(scope))
  }
  return narrowed
}

function overloaded() {
  return gatewayError('GW_OVERLOADED', {
    reason: `${maxInFlight} unknown tokens are being judged`,
    retryAfterSeconds: 1
  })
}
