// The one RSA key a Drupal site signs its tokens with. It knows nothing of claims or of where the key is published.
import {
  createPrivateKey,
  createPublicKey,
  generateKeyPair,
  KeyObject,
  type JsonWebKey
} from 'node:crypto'
import { promisify } from 'node:util'

export interface SigningKey {
  privateKey: KeyObject
  publicKey: KeyObject
  privatePem: string
  publicPem: string
  /** bare, as Simple OAuth publishes it: no kid, no alg, no use */
  jwk: JsonWebKey
}

/** A 2048-bit RSA key: the given private one (KeyObject or PEM), or a new one (about 100 ms). */
export async function createSigningKey(given?: KeyObject | string): Promise<SigningKey> {
  const privateKey = given ? asKey(given) : await newKey()
  const publicKey = createPublicKey(privateKey)
  const { n, e } = publicKey.export({ format: 'jwk' })
  return {
    privateKey,
    publicKey,
    privatePem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    publicPem: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
    jwk: { kty: 'RSA', n: n!, e: e! }
  }
}

function asKey(given: KeyObject | string): KeyObject {
  return given instanceof KeyObject ? given : createPrivateKey(given)
}

async function newKey(): Promise<KeyObject> {
  const pair = await promisify(generateKeyPair)('rsa', { modulusLength: 2048 })
  return pair.privateKey
}
