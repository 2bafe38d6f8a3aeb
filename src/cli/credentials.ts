// What a sign-in leaves behind, and what a place that keeps it can do. It refuses to know how it is kept.

/** How the token was come by; decides how the next one is. */
export type Grant = 'authorization_code' | 'device_code' | 'client_credentials'

export interface Credential {
  /** The authorization server, byte for byte as it names itself: with `resource`, the key (R105). */
  issuer: string
  /** The protected resource, byte for byte as its metadata names it; sent as `resource` (R103). */
  resource: string
  clientId: string
  /** Only of a client that registered itself and got one; a service account's secret is never kept. */
  clientSecret?: string
  /** Of a client that registered itself: where and with which token it can be taken back (RFC 7592). */
  registration?: { uri: string; token: string }
  grant: Grant
  tokenEndpoint: string
  revocationEndpoint?: string
  accessToken: string
  refreshToken?: string
  /** When this access token was issued and when it ends, in milliseconds since epoch. */
  obtainedAt?: number
  expiresAt: number
  signedInAt: number
  /** What was asked for; what the token says was granted, where it can be read. */
  askedScopes: string[]
  grantedScopes?: string[]
  /** The token's `sub`: Drupal's user id. */
  subject?: string
}

export interface Vault {
  /** Where credentials are kept, in words for `status`. */
  readonly where: string
  /** Every credential that can be opened, newest sign-in first. */
  list(): Promise<Credential[]>
  /** What cannot be opened, each in words that say what to do; with a URL what may be of it. */
  damaged(url?: string): Promise<string[]>
  /** Throws a Failure when there is one that cannot be opened. */
  get(key: CredentialKey): Promise<Credential | undefined>
  set(credential: Credential): Promise<void>
  /** False when there was none. */
  delete(key: CredentialKey): Promise<boolean>
  /** Runs `work` while no other process holds the same key: refresh tokens rotate, so two must never refresh at once. */
  locked<T>(key: CredentialKey, work: () => Promise<T>): Promise<T>
}

export type CredentialKey = Pick<Credential, 'issuer' | 'resource'>

/** Whether a token for `resource` may be sent to `url`: the same origin, and the same path or one below it. Pure. */
export function covers(resource: string, url: string): boolean {
  if (!URL.canParse(resource) || !URL.canParse(url)) return false
  const [wide, narrow] = [new URL(resource), new URL(url)]
  const path = wide.pathname.endsWith('/') ? wide.pathname : `${wide.pathname}/`
  return wide.origin === narrow.origin && `${narrow.pathname}/`.startsWith(path)
}

/** The credential for this URL: of several, the most specific resource, then the newest sign-in. */
export async function credentialFor(vault: Vault, url: string): Promise<Credential | undefined> {
  const fitting = (await vault.list()).filter(({ resource }) => covers(resource, url))
  return fitting.toSorted((a, b) => b.resource.length - a.resource.length)[0]
}
