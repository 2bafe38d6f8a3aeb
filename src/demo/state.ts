// What one running double remembers: the site, its key, and every token, code, session and form it handed out.
// Every map is bounded; it knows nothing of HTTP.
import type { Faults } from './faults.ts'
import type { SigningKey } from './keys.ts'
import type { Reply } from './reply.ts'
import type { Site } from './site.ts'

export interface AccessTokenRow {
  /** the oauth2_token entity's uuid: what introspection calls jti */
  uuid: string
  jti: string
  clientId: string
  /** null for client credentials */
  uid: number | null
  scopes: string[]
  /** seconds since epoch */
  issuedAt: number
  expiresAt: number
  revoked: boolean
}

export interface RefreshTokenRow {
  accessJti: string
  clientId: string
  uid: number
  scopes: string[]
  expiresAt: number
  revoked: boolean
}

export interface CodeRow {
  clientId: string
  uid: number
  scopes: string[]
  redirectUri: string
  challenge: string | null
  challengeMethod: string
  expiresAt: number
  used: boolean
}

export interface DeviceRow {
  clientId: string
  userCode: string
  scopes: string[]
  expiresAt: number
  lastPolledAt: number
  /** who approved; null while nobody did */
  uid: number | null
  used: boolean
}

export interface State {
  site: Site
  key: SigningKey
  faults: Faults
  /** milliseconds since epoch, the skew fault included */
  now(): number
  accessTokenLifetime: number
  oidc: boolean
  multilingual: boolean
  trustedHosts: string[] | null
  publicUrl: URL | null
  plainIssuer: boolean
  accessTokens: Map<string, AccessTokenRow>
  refreshTokens: Map<string, RefreshTokenRow>
  codes: Map<string, CodeRow>
  devices: Map<string, DeviceRow>
  /** session id → uid */
  sessions: Map<string, number>
  /** `uid client_id` → scopes once allowed (simple_oauth's remembered approvals) */
  approvals: Map<string, Set<string>>
  /** permissions → the error that Drupal's dynamic page cache keeps serving (§12, describe) */
  poisonedDescribes: Map<string, Reply>
}

const MAX_ROWS = 20_000

/** Stores a row and drops the oldest one when the map is full. */
export function remember<Row>(map: Map<string, Row>, key: string, row: Row): void {
  map.set(key, row)
  if (map.size <= MAX_ROWS) return
  const [oldest] = map.keys()
  map.delete(oldest!)
}

/** Seconds since epoch by the site's clock. */
export function seconds(state: State): number {
  return Math.floor(state.now() / 1000)
}

/** Deletes the access tokens that match; refresh tokens stay, as Drupal leaves them. */
export function deleteAccessTokens(state: State, matches: (row: AccessTokenRow) => boolean): void {
  for (const row of state.accessTokens.values()) {
    if (matches(row)) state.accessTokens.delete(row.jti)
  }
}
