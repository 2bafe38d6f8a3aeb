// Claims of a token, as any server spells them → what the gateway believes. Pure: no clock, no keys, no configuration.
// It refuses to know whether the claims are true (the signature says) and whom they are for (audience.ts).
import { type Principal, principalKey, subjectKey } from './principal.ts'
import type { RefusalReason } from './verdict.ts'

export type JsonObject = Readonly<Record<string, unknown>>

export interface Claims {
  audience: readonly string[]
  scopes: readonly string[]
  principal: Principal
}

export interface Refusal {
  reason: RefusalReason
  detail: string
}

export type ClaimsVerdict = { ok: true; claims: Claims } | ({ ok: false } & Refusal)

const refuse = (reason: RefusalReason, detail: string): ClaimsVerdict => ({
  ok: false,
  reason,
  detail
})

/** Whether a text is a URL of any scheme with an authority (RFC 3986 §3.2), as a resource is named. */
export const isUrl = (text: string) => /^[a-z][a-z0-9+.-]*:\/\//i.test(text)
const optionalText = (value: unknown) =>
  value === undefined || (typeof value === 'string' && value !== '')
const optionalNumber = (value: unknown) => value === undefined || Number.isFinite(value)

/** Text or a list of texts → the list; anything else → undefined. */
function textList(value: unknown): string[] | undefined {
  const list: unknown[] = Array.isArray(value) ? value : [value]
  return list.every(item => typeof item === 'string' && item !== '')
    ? (list as string[])
    : undefined
}

/** `scope` (array: Drupal; string: RFC 9068), `scopes`, `scp`: the first that is there counts. */
const statedScope = (claims: JsonObject) =>
  claims['scope'] ?? claims['scopes'] ?? claims['scp'] ?? undefined

/** Undefined: none stated; null: not readable. */
function scopesOf(claims: JsonObject): readonly string[] | undefined | null {
  const value = statedScope(claims)
  if (value === undefined) return undefined
  const list = typeof value === 'string' ? value.split(' ').filter(s => s !== '') : textList(value)
  return list === undefined ? null : [...new Set(list)]
}

/** Why these are not the claims of an access token that a plain bearer may use; undefined when they are. */
function wrongKind(
  type: string | undefined,
  claims: JsonObject,
  resource: string
): string | undefined {
  if (type !== undefined && type !== 'jwt' && type !== 'at+jwt') return 'typ is not JWT or at+jwt'
  // RFC 9449 §7.2, RFC 8705 §3: a sender-constrained token shown as a bearer token is a stolen one.
  if (claims['cnf'] !== undefined) return 'sender-constrained token (cnf)'
  if (claims['events'] !== undefined) return 'logout or event token'
  const kind = claims['typ'] ?? claims['token_use']
  if (typeof kind === 'string' && /^(id|refresh|offline|logout)/i.test(kind))
    return 'not an access token'
  if (claims['at_hash'] !== undefined || claims['c_hash'] !== undefined) return 'id_token'
  // Drupal's id_token is an access token without scope and jti: same key, same typ, aud = client id. What names the resource is
  // no id_token: many servers write neither claim nor at+jwt into access tokens.
  if (type !== 'at+jwt' && statedScope(claims) === undefined) {
    const isForUs = [claims['aud']].flat().includes(resource)
    if (claims['nonce'] !== undefined || (claims['jti'] === undefined && !isForUs)) {
      return 'id_token'
    }
  }
  return undefined
}

/** `client_id` (RFC 9068), else `azp`, else Drupal's habit: a single aud that is no URL. Empty when the token names none. */
function clientOf(claims: JsonObject, audience: readonly string[]): string {
  const named = claims['client_id'] ?? claims['azp']
  if (typeof named === 'string') return named
  const [only] = audience
  return audience.length === 1 && only !== undefined && !isUrl(only) ? only : ''
}

/**
 * The claims with what the server's answer about the token may change: a later beginning, an earlier end, fewer scopes, that it is
 * bound to a key. Nothing else: Drupal's sub, aud, iss and client_id are others than those of the token.
 */
export function narrowClaims(claims: JsonObject, answer: JsonObject): JsonObject {
  const { exp, nbf, cnf } = answer
  const granted = scopesOf(answer)
  return {
    ...claims,
    cnf: cnf ?? claims['cnf'],
    ...(typeof nbf === 'number' && { nbf: Math.max(nbf, (claims['nbf'] as number) ?? nbf) }),
    ...(typeof exp === 'number' && { exp: Math.min(exp, claims['exp'] as number) }),
    ...(granted && { scope: scopesOf(claims)?.filter(scope => granted.includes(scope)) ?? [] })
  }
}

/**
 * Reads the claims. `type` is the JOSE header's typ; `nowSeconds` and `toleranceSeconds` are seconds, fractions welcome, as
 * exp, nbf and iat are (Drupal's exp is a float); `resource` is this resource's URL. Refuses with `type`, `claims`, `expired` or `not-yet-valid`.
 */
export function judgeClaims(
  type: unknown,
  claims: JsonObject,
  nowSeconds: number,
  toleranceSeconds: number,
  resource: string
): ClaimsVerdict {
  if (type !== undefined && typeof type !== 'string') return refuse('type', 'typ is no text')
  const wrong = wrongKind(type?.toLowerCase().replace(/^application\//, ''), claims, resource)
  if (wrong !== undefined) return refuse('type', wrong)

  const { iss: issuer, sub, exp, nbf, iat, jti } = claims
  if (typeof issuer !== 'string' || issuer === '') return refuse('claims', 'no iss')
  if (exp === undefined || !optionalNumber(exp)) return refuse('claims', 'exp is no number')
  if (!optionalNumber(nbf) || !optionalNumber(iat))
    return refuse('claims', 'nbf or iat is no number')
  if (!optionalText(sub)) return refuse('claims', 'sub is no text')
  if (!optionalText(jti)) return refuse('claims', 'jti is no text')
  if (!optionalText(claims['client_id']) || !optionalText(claims['azp'])) {
    return refuse('claims', 'client_id or azp is no text')
  }
  const audience = claims['aud'] === undefined ? [] : textList(claims['aud'])
  if (audience === undefined) return refuse('claims', 'aud is neither text nor a list of texts')
  const scopes = scopesOf(claims)
  if (scopes === null) return refuse('claims', 'scope is neither text nor a list of texts')

  if ((exp as number) <= nowSeconds - toleranceSeconds)
    return refuse('expired', `exp ${exp as number}`)
  if (nbf !== undefined && (nbf as number) > nowSeconds + toleranceSeconds) {
    return refuse('not-yet-valid', `nbf ${nbf as number}`)
  }

  const clientId = clientOf(claims, audience)
  const subject = (sub as string | undefined) ?? clientId
  if (subject === '') return refuse('claims', 'neither sub nor client')
  const principal: Principal = {
    issuer,
    subject,
    clientId,
    hasUser: sub !== undefined && sub !== clientId,
    scopes: scopes ?? [],
    expiresAt: exp as number,
    tokenId: jti as string | undefined,
    key: principalKey(issuer, subject, clientId),
    subjectKey: subjectKey(issuer, subject)
  }
  return { ok: true, claims: { audience, scopes: principal.scopes, principal } }
}
