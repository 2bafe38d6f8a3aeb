// Who Drupal takes a request's sender for, and what it lets them do (wire §9: the user's permissions cut by the token's scopes).
// It verifies nothing: a token row is already checked when it gets here.
import type { AccessTokenRow, State } from './state.ts'
import { type Site, userWithId } from './site.ts'

export type Account =
  | { kind: 'anonymous' }
  | { kind: 'session'; uid: number }
  | { kind: 'token'; row: AccessTokenRow }

/** OpenID Connect's own scopes exist without an entity and grant nothing. */
export const OIDC_SCOPES = ['openid', 'profile', 'email', 'phone', 'address']

/** The uid, 0 for anonymous and for a client that acts for nobody. */
export function uidOf(account: Account): number {
  if (account.kind === 'anonymous') return 0
  return account.kind === 'session' ? account.uid : (account.row.uid ?? 0)
}

/** The permission check of one account, computed once. */
export function permissionsOf(state: State, account: Account): (permission: string) => boolean {
  const { site } = state
  if (account.kind === 'anonymous') return has(site.roles.anonymous)
  const ofUser = userPermissions(site, uidOf(account))
  // uid 1 ignores scopes entirely, by Drupal's own rule.
  if (account.kind === 'session' || account.row.uid === 1) return ofUser
  const ofScopes = has(account.row.scopes.flatMap(name => scopePermissions(site, name)))
  if (account.row.uid === null) return ofScopes
  return permission => ofUser(permission) && ofScopes(permission)
}

/** The roles that a tool sees: the user's, cut by the roles that the scopes grant. */
export function rolesOf(state: State, account: Account): string[] {
  if (account.kind === 'anonymous') return ['anonymous']
  const roles = userWithId(state.site, uidOf(account))?.roles ?? []
  if (account.kind === 'session') return ['authenticated', ...roles]
  const granted = state.site.scopes
    .filter(scope => account.row.scopes.includes(scope.name))
    .map(scope => scope.grantsRole)
  return ['authenticated', ...roles.filter(role => granted.includes(role))]
}

/** Whether a token carries a scope without granularity; Drupal 6.1 then answers 500 to anything (wire §11). */
export function hasBrokenScope(state: State, account: Account): boolean {
  if (account.kind !== 'token') return false
  const { scopes } = account.row
  return state.site.scopes.some(
    scope => scopes.includes(scope.name) && !scope.grantsPermission && !scope.grantsRole
  )
}

function userPermissions(site: Site, uid: number): (permission: string) => boolean {
  if (uid === 1) return () => true
  const roles = ['authenticated', ...(userWithId(site, uid)?.roles ?? [])]
  return has(roles.flatMap(role => site.roles[role] ?? []))
}

function scopePermissions(site: Site, name: string): string[] {
  const scope = site.scopes.find(candidate => candidate.name === name)
  if (scope?.grantsPermission) return [scope.grantsPermission]
  return site.roles[scope?.grantsRole ?? ''] ?? []
}

function has(permissions: string[] = []): (permission: string) => boolean {
  return permission => permissions.includes(permission)
}
