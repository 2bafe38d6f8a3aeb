// Was this token meant for this resource (R86)? Pure. It refuses to know who signed the token: the issuer
// is pinned and the signature checked elsewhere, always.
import type { AudiencePolicy } from '../config/schema.ts'
import { isUrl } from './claims.ts'
import type { RefusalReason } from './verdict.ts'

/** The claims that decide. */
export interface AudienceClaims {
  audience: readonly string[]
  scopes: readonly string[]
}

export interface ThisResource {
  /** Public URL of the MCP endpoint, byte for byte. */
  resource: string
  /** Scopes that the configuration and the tools name. */
  scopes: ReadonlySet<string>
}

/** Scopes about the person, not about this resource: they prove no permission here. */
const identityScopes = new Set(['openid', 'profile', 'email', 'phone', 'address', 'offline_access'])

/** Undefined when the policy accepts the token; otherwise why not. A token without any audience is refused by every policy (R86). */
export function judgeAudience(
  policy: AudiencePolicy,
  claims: AudienceClaims,
  self: ThisResource
): { reason: RefusalReason & ('audience' | 'no-scope'); detail: string } | undefined {
  const { audience, scopes } = claims
  if (audience.length === 0) return { reason: 'audience', detail: 'no aud' }
  switch (policy.kind) {
    case 'resource':
      return audience.includes(self.resource) ? undefined : other(audience)
    case 'clients':
      return audience.some(name => policy.clientIds.includes(name)) ? undefined : other(audience)
    case 'drupal':
      if (audience.includes(self.resource)) return undefined
      // A URL in aud names a resource (RFC 8707): a token for another one stays refused, whatever scopes it has.
      if (audience.some(isUrl)) return other(audience)
      return scopes.some(belongsHere(self.scopes)) ? undefined : noScope(self.scopes)
  }
}

/**
 * Nothing known yet (a site whose tools name no scopes, or before the first catalogue was read): any scope counts but those of
 * identity. Refusing here would lock out everybody for good, since the catalogue is read with a caller's token; and Drupal
 * judges the permission itself.
 */
function belongsHere(known: ReadonlySet<string>): (scope: string) => boolean {
  return known.size > 0 ? scope => known.has(scope) : scope => !identityScopes.has(scope)
}

function other(audience: readonly string[]) {
  return { reason: 'audience' as const, detail: `aud is ${JSON.stringify(audience).slice(0, 200)}` }
}

function noScope(known: ReadonlySet<string>) {
  const names = JSON.stringify([...known].sort()).slice(0, 200)
  return { reason: 'no-scope' as const, detail: `none of this resource's scopes ${names}` }
}
