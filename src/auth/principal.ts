// Who is calling, as far as the token says: the value every later check is about. It refuses to know the token itself.
import { hash } from 'node:crypto'

export interface Principal {
  issuer: string
  /** `sub`; the client id where a token has none (client credentials). */
  subject: string
  /** `client_id`, else `azp`, else Drupal's habit: a single `aud` that is no URL. Empty when the token names none. */
  clientId: string
  /** True when a person stands behind the token (it had a `sub` other than the client id). */
  hasUser: boolean
  scopes: readonly string[]
  /** Seconds since epoch; may be fractional (Drupal). */
  expiresAt: number
  /** `jti`, for revocation and the audit line. */
  tokenId: string | undefined
  /** Stable, opaque name of (issuer, subject, client id), R93: binds sessions, keys budgets and caches. Survives refresh. */
  key: string
  /** The same of (issuer, subject), whatever client: of a site that registers clients by itself, one user may have any number. */
  subjectKey: string
}

const opaque = (...parts: string[]) =>
  hash('sha256', JSON.stringify(parts), 'base64url').slice(0, 22)

/** The opaque key of (issuer, subject, client id): 22 characters of base64url, safe in logs and as a cache key (R93). */
export function principalKey(issuer: string, subject: string, clientId: string): string {
  return opaque(issuer, subject, clientId)
}

/** The opaque key of (issuer, subject), in the same form. */
export function subjectKey(issuer: string, subject: string): string {
  return opaque(issuer, subject)
}
