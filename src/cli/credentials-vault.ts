// The credentials on disk: one sealed file per issuer and resource in a private folder. It knows nothing of OAuth.
import { createHash } from 'node:crypto'
import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { covers, type Credential, type CredentialKey, type Vault } from './credentials.ts'
import { type Env, credentialsHome, makeHome, writePrivately } from './credentials-home.ts'
import { existingKey, keptKey, type Keychain } from './credentials-key.ts'
import { withLock } from './credentials-lock.ts'
import { type Envelope, seal, unseal } from './credentials-seal.ts'
import { Failure } from './failure.ts'
import { systemKeychain } from './keychain.ts'

/** `keychain`: undefined takes the system's, null none. */
interface VaultOptions {
  env: Env
  keychain?: Keychain | null
}

/**
 * Opens the vault of this user; the folder and the key are made when they are missing. Throws a Failure where nothing can be
 * kept.
 */
export async function openVault({ env, keychain }: VaultOptions): Promise<Vault> {
  const folder = credentialsHome(env)
  await makeHome(folder)
  const chain = keychain === undefined ? systemKeychain(folder) : (keychain ?? undefined)
  const { key, where } =
    (await existingKey(env, folder)) ??
    (await withLock(join(folder, 'key.lock'), async () => {
      return (await existingKey(env, folder)) ?? keptKey(folder, chain)
    }))

  const pathOf = (which: CredentialKey) => join(folder, `${nameOf(which)}.json`)
  async function read(path: string): Promise<Credential | undefined> {
    const text = await readFile(path, 'utf8').catch(() => undefined)
    if (text === undefined) return undefined
    const envelope = parse(text)
    const opened = envelope ? unseal(key, envelope) : undefined
    if (opened === undefined) {
      throw new Damaged(
        `${path} cannot be opened with the ${where}. Bring back the key that sealed it, or delete the file and sign in again.`,
        envelope?.label?.resource
      )
    }
    return JSON.parse(opened) as Credential
  }

  async function readAll(): Promise<PromiseSettledResult<Credential | undefined>[]> {
    const names = (await readdir(folder)).filter(name => /^[0-9a-f]{32}\.json$/.test(name))
    return Promise.allSettled(names.map(name => read(join(folder, name))))
  }

  return {
    where: `sealed in ${folder}, ${where}`,
    async list() {
      return (await readAll())
        .flatMap(result => (result.status === 'fulfilled' && result.value ? [result.value] : []))
        .toSorted((a, b) => b.signedInAt - a.signedInAt)
    },
    async damaged(url) {
      return (await readAll()).flatMap(result => {
        if (result.status === 'fulfilled') return []
        const { message, resource } = result.reason as Damaged
        return url === undefined || resource === undefined || covers(resource, url) ? [message] : []
      })
    },
    get: which => read(pathOf(which)),
    async set(credential) {
      const label: CredentialKey = { issuer: credential.issuer, resource: credential.resource }
      const envelope = seal(key, label, JSON.stringify(credential))
      await writePrivately(pathOf(credential), `${JSON.stringify(envelope)}\n`)
    },
    async delete(which) {
      const draft = new RegExp(`^${nameOf(which)}\\.json\\.[0-9a-f]+$`)
      for (const name of await readdir(folder)) {
        // Of a process that was killed while it wrote: the tokens in it may be the last that are good.
        if (draft.test(name)) await rm(join(folder, name), { force: true })
      }
      return rm(pathOf(which)).then(
        () => true,
        () => false
      )
    },
    locked: (which, work) => withLock(`${pathOf(which)}.lock`, work)
  }
}

class Damaged extends Failure {
  /** As the label says, which nobody has verified. */
  readonly resource: string | undefined

  constructor(message: string, resource: string | undefined) {
    super(message)
    this.resource = resource
  }
}

/** A file name from the key, the same on every system. */
function nameOf({ issuer, resource }: CredentialKey): string {
  const digest = createHash('sha256').update(JSON.stringify([issuer, resource]))
  return digest.digest('hex').slice(0, 32)
}

function parse(text: string): Envelope<CredentialKey> | undefined {
  try {
    return JSON.parse(text) as Envelope<CredentialKey>
  } catch {
    return undefined
  }
}

/** A vault that forgets with the process: for service accounts in containers where nothing may be written. */
export function memoryVault(): Vault {
  const kept = new Map<string, Credential>()
  const chains = new Map<string, Promise<unknown>>()
  return {
    where: 'nowhere: in memory of this process',
    list: async () => [...kept.values()].toSorted((a, b) => b.signedInAt - a.signedInAt),
    damaged: async () => [],
    get: async which => kept.get(nameOf(which)),
    set: async credential => void kept.set(nameOf(credential), credential),
    delete: async which => kept.delete(nameOf(which)),
    locked(which, work) {
      const name = nameOf(which)
      const next = (chains.get(name) ?? Promise.resolve()).then(work, work)
      chains.set(
        name,
        next.catch(() => undefined)
      )
      return next
    }
  }
}
