// In which folder credentials are kept, and how a file is put there: private, and whole or not at all.
import { randomBytes } from 'node:crypto'
import { mkdir, open, rename, rm, stat } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { Failure, systemCode } from './failure.ts'

export type Env = Readonly<Record<string, string | undefined>>

/** What to do where nothing can be kept; containers and CI meet it. */
export const withoutHome =
  'Set DRUPAL_MCP_HOME to a folder that this user may write to. Only connect and doctor can do without, by a token from --token-file or DRUPAL_MCP_TOKEN.'

/**
 * The folder: DRUPAL_MCP_HOME, else drupal-mcp-gateway below XDG_CONFIG_HOME, APPDATA or ~/.config. Throws when none is known,
 * as for a user without an entry in passwd.
 */
export function credentialsHome(env: Env, home: () => string = homedir): string {
  const own = env['DRUPAL_MCP_HOME']
  if (own) return own
  const base = env['XDG_CONFIG_HOME'] || env['APPDATA']
  if (base) return join(base, 'drupal-mcp-gateway')
  let folder = ''
  try {
    folder = env['HOME'] ?? home()
  } catch {}
  if (folder === '') {
    throw new Failure(`There is no home folder to keep credentials in. ${withoutHome}`)
  }
  return join(folder, '.config', 'drupal-mcp-gateway')
}

/** Makes the folder, for this user alone. Throws with what to do when it cannot be made. */
export async function makeHome(folder: string): Promise<void> {
  try {
    await makeFolder(folder)
  } catch (error) {
    throw new Failure(
      `Credentials cannot be kept in ${folder} (${systemCode(error)}). ${withoutHome}`
    )
  }
}

/** As mkdir -p does: Node's own never comes back where a folder exists and cannot hold another, as in /proc. */
async function makeFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { mode: 0o700 })
  } catch (error) {
    const code = systemCode(error)
    if (code === 'ENOENT' && dirname(folder) !== folder) {
      await makeFolder(dirname(folder))
      await mkdir(folder, { mode: 0o700 })
    } else if (!(await stat(folder).catch(() => undefined))?.isDirectory()) throw error
  }
}

/** Writes a file of mode 0600: readers see the old content or the new one, also after a power cut. */
export async function writePrivately(path: string, content: string): Promise<void> {
  const draft = `${path}.${randomBytes(6).toString('hex')}`
  try {
    const file = await open(draft, 'wx', 0o600)
    try {
      await file.writeFile(content)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(draft, path)
  } catch (error) {
    await rm(draft, { force: true }).catch(() => undefined)
    throw new Failure(`${path} cannot be written (${systemCode(error)}). ${withoutHome}`)
  }
}
