// The key that signed the last token: did it sign this one too? It only ever says yes, and only where jose has chosen that key for
// the same header before; whom to refuse, and why, is for jose to say.
import { KeyObject, verify } from 'node:crypto'
import type { CompactJWSHeaderParameters, CryptoKey } from 'jose'
import type { JsonObject } from './claims.ts'

export interface LastSigner {
  /** Whether the key signed this JWS in compact form (RFC 7515 §5.2) whose protected header says `header`. */
  signed(token: string, header: JsonObject): boolean
}

/**
 * Takes the header of a token that jose verified, and the key it did so with. Undefined but for RS256: at once and in this thread
 * such a token costs a quarter less (measured), while elliptic curves cost several times as much, and are better left to threads.
 */
export function lastSigner(
  { alg, kid }: CompactJWSHeaderParameters,
  key: CryptoKey | Uint8Array
): LastSigner | undefined {
  if (alg !== 'RS256' || key instanceof Uint8Array) return undefined
  const keyObject = KeyObject.from(key)
  return {
    signed(token, header) {
      if (header['alg'] !== alg || header['kid'] !== kid) return false
      const end = token.lastIndexOf('.')
      const signature = Buffer.from(token.slice(end + 1), 'base64url')
      return verify('sha256', Buffer.from(token.slice(0, end), 'latin1'), keyObject, signature)
    }
  }
}
