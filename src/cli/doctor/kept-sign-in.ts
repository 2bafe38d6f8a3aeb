// The token that an earlier `login` left for a URL, for the doctor's signed-in part. It makes no folder and no key: where nothing
// is kept, there is nothing to find.
import { existsSync } from 'node:fs'
import { credentialsHome, type Env } from '../credentials-home.ts'
import { openVault } from '../credentials-vault.ts'
import { Failure } from '../failure.ts'
import { openHttp } from '../http.ts'
import { keptTokens } from '../tokens.ts'

/** A good token, renewed as `connect` would when it is about to end; undefined when nobody is signed in for the URL. Throws a Failure when what is kept cannot be read. */
export async function keptSignIn(env: Env, url: string): Promise<string | undefined> {
  if (!isKept(env)) return undefined
  const http = openHttp()
  try {
    const vault = await openVault({ env })
    const token = await keptTokens({ vault, url, fetch: http.fetch }).current()
    const [damage] = token === undefined ? await vault.damaged(url) : []
    if (damage !== undefined) throw new Failure(damage)
    return token
  } finally {
    await http.close()
  }
}

function isKept(env: Env): boolean {
  try {
    return existsSync(credentialsHome(env))
  } catch {
    // No home: a container, most likely.
    return false
  }
}
