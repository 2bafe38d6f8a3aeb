// Is this a secret that cannot be guessed? It refuses to know what is sealed with it.
import { randomBytes } from 'node:crypto'

/** Stands in the example and in the documentation; refused as a secret. */
export const placeholderSecret = 'replace-me-by-the-output-of-openssl-rand-base64-48'

/** Why a session secret is weak, in words that follow "must"; undefined when it is not. The secret is not in it. */
export function weakness(secret: string): string | undefined {
  if (secret === placeholderSecret) return 'not be the placeholder of the example'
  if (secret.length < 32) return 'have at least 32 characters'
  if (new Set(secret).size < 10) return 'have at least 10 different characters'
  // A text that is one part again and again occurs in its own double before its end.
  if (`${secret}${secret}`.indexOf(secret, 1) < secret.length) return 'not repeat one part'
  return undefined
}

/** A secret for one process: 256 random bits. */
export function randomSecret(): string {
  return randomBytes(32).toString('base64url')
}
