// Sealing with AES-256-GCM: text in, an envelope out whose label is readable but cannot be changed. It keeps no key.
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto'

/** What stands in the file: `label` in clear, bound to the rest as associated data. */
export interface Envelope<Label> {
  version: 1
  label: Label
  iv: string
  tag: string
  sealed: string
}

/** 256 bits for AES, from a secret of any length (HKDF, RFC 5869). */
export function keyFrom(secret: string | Uint8Array): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, '', 'drupal-mcp-gateway credentials 1', 32))
}

/** Seals `text` under `key`; every call takes a new nonce. */
export function seal<Label>(key: Buffer, label: Label, text: string): Envelope<Label> {
  const iv = randomBytes(12)
  const cipher = createCipheriv('aes-256-gcm', key, iv)
  cipher.setAAD(Buffer.from(JSON.stringify(label)))
  const sealed = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()])
  return {
    version: 1,
    label,
    iv: iv.toString('base64'),
    tag: cipher.getAuthTag().toString('base64'),
    sealed: sealed.toString('base64')
  }
}

/** The text; undefined when the key is another or anything was changed, the label included. */
export function unseal<Label>(key: Buffer, envelope: Envelope<Label>): string | undefined {
  try {
    // A shorter tag would be accepted by Node, and easier to forge.
    const options = { authTagLength: 16 }
    const cipher = createDecipheriv('aes-256-gcm', key, Buffer.from(envelope.iv, 'base64'), options)
    cipher.setAAD(Buffer.from(JSON.stringify(envelope.label)))
    cipher.setAuthTag(Buffer.from(envelope.tag, 'base64'))
    const bytes = Buffer.from(envelope.sealed, 'base64')
    return Buffer.concat([cipher.update(bytes), cipher.final()]).toString('utf8')
  } catch {
    return undefined
  }
}
