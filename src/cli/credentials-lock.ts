// One process at a time: a lock that is a file. It knows nothing of what it guards; whoever dies holding it is found out.
import { randomUUID } from 'node:crypto'
import { open, readFile, readlink, rm, stat } from 'node:fs/promises'
import { hostname } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { Failure, systemCode } from './failure.ts'
import { withoutHome } from './credentials-home.ts'

interface LockOptions {
  /** How long to wait for another process, in milliseconds. Default 30,000. */
  patienceMs?: number
}

const pauseMs = 40
/** A lock older than this was left behind: what it guards is bounded to well below. Milliseconds. */
const staleMs = 60_000

/** Runs `work` while holding the lock file at `path`. Throws a Failure when the lock cannot be had. */
export async function withLock<T>(
  path: string,
  work: () => Promise<T>,
  { patienceMs = 30_000 }: LockOptions = {}
): Promise<T> {
  const place = await processes()
  const mine = JSON.stringify({ pid: process.pid, ...place, id: randomUUID() })
  const until = performance.now() + patienceMs
  while (!(await taken(path, mine))) {
    if (await isLeftBehind(path)) await breakLock(path)
    else if (performance.now() > until) {
      throw new Failure(
        `Another process has held ${path} for ${Math.round(patienceMs / 1000)} s. If none is running, delete that file.`
      )
    }
    await sleep(pauseMs * (0.5 + Math.random()))
  }
  try {
    return await work()
  } finally {
    // Whoever took us for dead holds it now: then it is not ours to remove.
    if ((await content(path)) === mine) await rm(path, { force: true })
  }
}

async function taken(path: string, mine: string): Promise<boolean> {
  const unwritable = (error: unknown) =>
    new Failure(`${path} cannot be written (${systemCode(error)}). ${withoutHome}`)
  const file = await open(path, 'wx', 0o600).catch((error: unknown) => {
    if (systemCode(error) === 'EEXIST') return undefined
    throw unwritable(error)
  })
  if (file === undefined) return false
  try {
    await file.writeFile(mine)
    return true
  } catch (error) {
    // A full disk takes the name and not the content: whose lock it is, nobody could say.
    await rm(path, { force: true })
    throw unwritable(error)
  } finally {
    await file.close()
  }
}

async function content(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').catch(() => undefined)
}

/** Where a process number means something: containers that share the folder may share the host name, too. */
async function processes(): Promise<{ host: string; namespace?: string }> {
  const namespace = await readlink('/proc/self/ns/pid').catch(() => undefined)
  return { host: hostname(), ...(namespace === undefined ? {} : { namespace }) }
}

async function isLeftBehind(path: string): Promise<boolean> {
  const [info, text] = await Promise.all([stat(path).catch(() => undefined), content(path)])
  if (info === undefined) return false
  if (Date.now() - info.mtimeMs > staleMs) return true
  try {
    const holder = JSON.parse(text ?? '') as { pid: number; host: string; namespace?: string }
    const { host, namespace } = await processes()
    // Elsewhere the number says nothing: its lock is judged by its age alone.
    return holder.host === host && holder.namespace === namespace && !isAlive(holder.pid)
  } catch {
    // Just being written.
    return false
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    // EPERM: it lives, and is somebody else's.
    return systemCode(error) !== 'ESRCH'
  }
}

/** Two may find the lock left behind; the second must not remove what the first has taken since, hence a lock to break locks. */
async function breakLock(path: string): Promise<void> {
  const breaking = `${path}.break`
  if (!(await taken(breaking, ''))) {
    const info = await stat(breaking).catch(() => undefined)
    if (info !== undefined && Date.now() - info.mtimeMs > staleMs)
      await rm(breaking, { force: true })
    return
  }
  try {
    if (await isLeftBehind(path)) await rm(path, { force: true })
  } finally {
    await rm(breaking, { force: true })
  }
}
