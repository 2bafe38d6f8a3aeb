// Simple OAuth's access token, made and checked: an RS256 JWT without kid whose `aud` is the client, whose `exp` is a float and
// whose `jti` is the key of a stored row (wire §1). It checks what Drupal checks, so neither iss nor aud.
import { createHmac, randomBytes, randomInt, randomUUID, sign, verify } from 'node:crypto'
import { remember, seconds, type AccessTokenRow, type State } from './state.ts'

export interface TokenWish {
  clientId: string
  uid: number | null
  scopes: string[]
  issuer: string
  /** seconds; negative gives a token that expired that long ago */
  expiresIn?: number
  /** merged over the usual claims; undefined removes one */
  claims?: Record<string, unknown>
  header?: Record<string, unknown>
  /** false: no row, so Drupal calls the token revoked */
  stored?: boolean
}

/** A signed access token and its row. */
export function issueAccessToken(state: State, wish: TokenWish): { token: string; jti: string } {
  const jti = randomBytes(40).toString('hex')
  const lifetime = wish.expiresIn ?? state.accessTokenLifetime
  const iat = seconds(state) + Math.min(0, lifetime - 1)
  const fraction = randomInt(1, 1_000_000) / 1_000_000
  const token = signJwt(
    state,
    { typ: 'JWT', alg: 'RS256', jti, ...wish.header },
    {
      aud: wish.clientId,
      jti,
      iat,
      nbf: iat,
      exp: Number((seconds(state) + lifetime + fraction).toFixed(6)),
      scope: wish.scopes,
      ...(wish.uid === null ? {} : { sub: String(wish.uid) }),
      iss: wish.issuer,
      ...wish.claims
    }
  )
  if (wish.stored ?? true) {
    remember(state.accessTokens, jti, {
      uuid: randomUUID(),
      jti,
      clientId: wish.clientId,
      uid: wish.uid,
      scopes: wish.scopes,
      issuedAt: iat,
      expiresAt: seconds(state) + lifetime,
      revoked: false
    })
  }
  return { token, jti }
}

/** A compact JWS by the site's key; `alg` in the header may ask for the forgeries `none` and HS256 with the public key. */
export function signJwt(
  state: State,
  header: Record<string, unknown>,
  claims: Record<string, unknown>
): string {
  const input = [header, claims].map(part => base64url(JSON.stringify(part))).join('.')
  return `${input}.${signature()}`

  function signature(): string {
    if (header.alg === 'none') return ''
    if (header.alg === 'HS256') {
      return createHmac('sha256', state.key.publicPem).update(input).digest('base64url')
    }
    return sign('sha256', Buffer.from(input), state.key.privateKey).toString('base64url')
  }
}

export type BearerVerdict = { row: AccessTokenRow } | { hint: string }

/** What Simple OAuth says to a bearer token: its stored row, or the hint that goes into error_description (wire §9). */
export function checkBearer(state: State, token: string): BearerVerdict {
  const parts = token.split('.')
  if (parts.length !== 3) return { hint: 'The JWT string must have two dots' }
  const claims = parseClaims(parts[1]!)
  if (!claims) return { hint: 'Error while decoding from JSON' }
  const now = state.now() / 1000
  const genuine =
    verify(
      'sha256',
      Buffer.from(`${parts[0]}.${parts[1]}`),
      state.key.publicKey,
      Buffer.from(parts[2]!, 'base64url')
    ) &&
    Number(claims.exp) > now &&
    Number(claims.nbf) <= now
  if (!genuine) return { hint: 'Access token could not be verified' }
  const row = state.accessTokens.get(String(claims.jti))
  if (!row || row.revoked) return { hint: 'Access token has been revoked' }
  const user = state.site.users.find(candidate => candidate.uid === row.uid)
  if (user?.blocked) {
    // Only now does Drupal notice: the refresh token minted a signature-valid JWT.
    row.revoked = true
    return {
      hint: `<em class="placeholder">${user.name}</em> is blocked or has not been activated yet.`
    }
  }
  return { row }
}

function parseClaims(part: string): Record<string, unknown> | null {
  try {
    const claims: unknown = JSON.parse(Buffer.from(part, 'base64url').toString())
    return claims !== null && typeof claims === 'object'
      ? (claims as Record<string, unknown>)
      : null
  } catch {
    return null
  }
}

function base64url(text: string): string {
  return Buffer.from(text).toString('base64url')
}
