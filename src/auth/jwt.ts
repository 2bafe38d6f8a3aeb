// Is this text a JWT that may be looked at further? Pure, strict and cheap, before any key or server is asked. It refuses to
// know whether the signature is right.
import type { JsonObject, Refusal } from './claims.ts'

export type Decoded =
  | { kind: 'jwt'; header: JsonObject; claims: JsonObject }
  | { kind: 'opaque' }
  | ({ kind: 'refused' } & Refusal)

const refused = (reason: Refusal['reason'], detail: string): Decoded => ({
  kind: 'refused',
  reason,
  detail
})

/** What the header of a JWS may call these algorithms: RFC 9864 gives EdDSA over Ed25519 a name of its own; both are the same signature. */
export const algorithmNames = (algorithms: readonly string[]): string[] =>
  algorithms.includes('EdDSA') ? [...algorithms, 'Ed25519'] : [...algorithms]

/**
 * Takes a JWS in compact form apart. Text that is no JWS (not three parts, or no JSON header) is `opaque`. The algorithm must
 * be on the allow-list, which is what refuses "none" and HMAC with the public key (RFC 8725 §3.1).
 */
export function decodeJwt(token: string, algorithms: readonly string[]): Decoded {
  const [head, body, signature, ...more] = token.split('.')
  if (head === undefined || body === undefined || signature === undefined || more.length > 0) {
    return { kind: 'opaque' }
  }
  const header = decodePart(head)
  if (header === undefined) return { kind: 'opaque' }
  const { alg, kid, crit } = header
  // Anything but text is not repeated: lists in lists, as deep as a token has room for, take more stack than there is.
  if (typeof alg !== 'string') return refused('algorithm', 'alg is no text')
  if (!algorithms.includes(alg)) {
    return refused('algorithm', `alg ${JSON.stringify(alg.slice(0, 40))}`)
  }
  // RFC 7515 §4.1.11: an extension that must be understood, and none is.
  if (crit !== undefined) return refused('type', 'crit')
  if (kid !== undefined && typeof kid !== 'string') return refused('malformed', 'kid is no text')
  const claims = decodePart(body)
  if (claims === undefined) return refused('malformed', 'the payload is no JSON object')
  // One signature has one spelling: otherwise a refused token would come back as another text.
  if (signature === '' || bytesOf(signature) === undefined) {
    return refused('malformed', 'the signature is not base64url')
  }
  return { kind: 'jwt', header, claims }
}

/** How many points there are on P-256 (FIPS 186-5, SP 800-186 §3.2.1.3). */
const order = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n

/** Whoever holds a token with the signature (R, S) of ES256 can write the other that is as good: (R, order − S). */
export function twinOf(token: string): string {
  const start = token.lastIndexOf('.') + 1
  const signature = Buffer.from(token.slice(start), 'base64url')
  const other = order - BigInt(`0x${signature.toString('hex', 32)}`)
  signature.write(other.toString(16).padStart(64, '0'), 32, 'hex')
  return token.slice(0, start) + signature.toString('base64url')
}

function bytesOf(part: string): Buffer | undefined {
  const bytes = Buffer.from(part, 'base64url')
  return bytes.toString('base64url') === part ? bytes : undefined
}

// Two readers must see the same text: no replacement of broken UTF-8, no byte-order mark dropped.
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

function decodePart(part: string): JsonObject | undefined {
  try {
    const value: unknown = JSON.parse(utf8.decode(bytesOf(part)))
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
    return isObject ? (value as JsonObject) : undefined
  } catch {
    return undefined
  }
}
