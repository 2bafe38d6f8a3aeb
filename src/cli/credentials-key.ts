// Which key seals the credentials: one from the environment, else one kept by the operating system's keychain, else a file
// beside them. The keychain holds the key and not the tokens: Windows bounds an entry to 2,560 bytes, a pair of tokens is
// larger, and one sealed file gives one way to lock and to write.
import { randomBytes } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { keyFrom } from './credentials-seal.ts'
import { type Env, writePrivately } from './credentials-home.ts'
import { Failure, systemCode } from './failure.ts'

/** The operating system's keychain, as far as it is needed. Both throw where there is none. */
export interface Keychain {
  get(): Promise<string | undefined>
  set(secret: string): Promise<void>
}

export interface SealingKey {
  key: Buffer
  /** In words, for `status`. */
  where: string
}

const minimumLength = 32

/**
 * The key that is there already: DRUPAL_MCP_KEY or the content of DRUPAL_MCP_KEY_FILE, else `key` in the folder. Nothing is
 * written, so a read-only folder serves. Throws a Failure for a key that is short or cannot be read.
 */
export async function existingKey(env: Env, folder: string): Promise<SealingKey | undefined> {
  const given = env['DRUPAL_MCP_KEY']
  if (given) return { key: checked(given, 'DRUPAL_MCP_KEY'), where: 'key from DRUPAL_MCP_KEY' }
  const file = env['DRUPAL_MCP_KEY_FILE']
  if (file) {
    // Mounted secrets may be read by everybody in their container, and chmod is refused there.
    const read = await readKey(file, 0o002)
    if (read === undefined) throw new Failure(`DRUPAL_MCP_KEY_FILE: ${file} does not exist.`)
    const exposed = read.forOthers === 0 ? '' : ' (which every user of this machine may read)'
    return { key: checked(read.text, file), where: `key from ${file}${exposed}` }
  }
  // Before the keychain: one that appears later must not make unreadable what this key has sealed.
  const path = join(folder, 'key')
  const read = await readKey(path, 0o007)
  return read && { key: checked(read.text, path), where: `key in ${path}` }
}

/** The keychain's key, made at the first use; where there is no keychain, a new key file of mode 0600. To be called locked. */
export async function keptKey(folder: string, keychain: Keychain | undefined): Promise<SealingKey> {
  const kept = await fromKeychain(keychain)
  if (kept !== undefined) return { key: keyFrom(kept), where: "key in the system's keychain" }
  const path = join(folder, 'key')
  const made = randomBytes(32).toString('base64')
  await writePrivately(path, made)
  return { key: keyFrom(made), where: `key in ${path}` }
}

function checked(text: string, source: string): Buffer {
  const secret = text.trim()
  if (secret.length >= minimumLength) return keyFrom(secret)
  throw new Failure(
    `The key from ${source} has ${secret.length} characters; it needs ${minimumLength} or more. Make one with: openssl rand -base64 32`
  )
}

/** `refused`: the bits of the mode that must not be set. */
async function readKey(
  path: string,
  refused: number
): Promise<{ text: string; forOthers: number } | undefined> {
  try {
    const [text, { mode }] = await Promise.all([readFile(path, 'utf8'), stat(path)])
    const forOthers = process.platform === 'win32' ? 0 : mode & 0o007
    if ((forOthers & refused) !== 0) {
      const what = (forOthers & 0o002) !== 0 ? 'changed' : 'read'
      throw new Failure(`${path} may be ${what} by everybody. Run: chmod 600 ${path}`)
    }
    return { text, forOthers }
  } catch (error) {
    if (error instanceof Failure) throw error
    if (systemCode(error) === 'ENOENT') return undefined
    throw new Failure(`${path} cannot be read (${systemCode(error)}).`)
  }
}

async function fromKeychain(keychain: Keychain | undefined): Promise<string | undefined> {
  if (keychain === undefined) return undefined
  try {
    const kept = await keychain.get()
    if (kept !== undefined) return kept
    const made = randomBytes(32).toString('base64')
    await keychain.set(made)
    // Some keychains accept and forget; then the next process could not read what this one seals.
    return (await keychain.get()) === made ? made : undefined
  } catch {
    return undefined
  }
}
