// What the gateway concluded about a bearer token. The reason is for logs, metrics and the audit line; a client only ever
// sees `invalid_token`.
import type { Principal } from './principal.ts'

/** Why a token was refused. Closed: metrics use it as a label. */
export type RefusalReason =
  | 'malformed'
  | 'too-long'
  | 'algorithm'
  | 'signature'
  | 'unknown-key'
  | 'issuer'
  | 'audience'
  | 'expired'
  | 'not-yet-valid'
  | 'claims'
  | 'type'
  | 'no-scope'
  | 'inactive'
  | 'opaque'
  | 'refused-upstream'

/** Where the verdict came from. */
export type VerdictSource = 'cache' | 'jwt' | 'introspection'

export type Verdict =
  | { ok: true; principal: Principal; source: VerdictSource }
  | { ok: false; reason: RefusalReason; detail: string; source: VerdictSource }

/**
 * Judges bearer tokens. `verify` answers at once (no promise) for a token it knows; otherwise it resolves to a verdict or
 * rejects with GW_AUTHORIZATION_SERVER_UNAVAILABLE when nobody can be asked, with GW_OVERLOADED when too many are being judged.
 * `refuse` drops a verdict because Drupal had the last word: the token is refused from the short negative cache from then on.
 */
export interface Verifier {
  verify(token: string): Verdict | Promise<Verdict>
  /** The verdict that `verify` would give again at once; undefined for a token that has to be judged. */
  recall(token: string): Verdict | undefined
  refuse(token: string): void
}
