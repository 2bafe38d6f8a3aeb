// The one key that an operator pinned in a file (OAUTH_PUBLIC_KEY_FILE), as a key set. It refuses to know where tokens come from.
import { type AsymmetricKeyDetails, createPublicKey, type KeyObject } from 'node:crypto'
import { readFileSync } from 'node:fs'

const option = 'oauth.publicKeyFile (OAUTH_PUBLIC_KEY_FILE)'

/** Reads a PEM public key (SPKI, as Simple OAuth writes it) as a JWK set of one key. Throws an Error that says what to do. */
export function readPinnedKey(file: string): { keys: Record<string, unknown>[] } {
  let pem: string
  try {
    pem = readFileSync(file, 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new Error(`${option}: ${file} cannot be read (${code}). Give the path of a PEM file.`)
  }
  // createPublicKey would quietly derive the public half: a private key has no business on the gateway.
  if (pem.includes('PRIVATE KEY')) {
    throw new Error(
      `${option}: ${file} holds a private key. Give the public key, e.g. public.key of Simple OAuth.`
    )
  }
  let key: KeyObject
  try {
    key = createPublicKey(pem)
  } catch {
    throw new Error(`${option}: ${file} holds no PEM public key.`)
  }
  const type = key.asymmetricKeyType
  const details = key.asymmetricKeyDetails as AsymmetricKeyDetails
  const strong = type === 'rsa' && (details.modulusLength as number) >= 2048
  if (!strong && details.namedCurve !== 'prime256v1' && type !== 'ed25519') {
    throw new Error(`${option}: ${file} must hold RSA of at least 2048 bits, EC P-256 or Ed25519.`)
  }
  return { keys: [key.export({ format: 'jwk' }) as Record<string, unknown>] }
}
