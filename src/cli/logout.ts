// `logout`: makes the tokens worthless where the server allows it, and forgets them in any case.
import { covers, type Credential, type Vault } from './credentials.ts'
import { openVault } from './credentials-vault.ts'
import { chosenUrl, parse } from './arguments.ts'
import { exitCodes, Failure } from './failure.ts'
import { type Fetch, openHttp } from './http.ts'
import { signOut } from './sign-out.ts'
import { createTerminal, type World } from './terminal.ts'

const help = `Usage: drupal-mcp-gateway logout [--all] [URL]

Revokes what the site lets anybody revoke (the refresh token by spending it, the access token by its id, the client if it
registered itself) and forgets the tokens kept for URL. When the site cannot be reached they are forgotten all the same.

Options:
  --all   sign out everywhere
  --help  this text

Example:
  drupal-mcp-gateway logout https://mcp.example.org/mcp

Exit codes: 0 signed out, 1 forgotten here, but not everything could be revoked, 2 wrong use, 3 nobody was signed in.
`

/** Answers 0 when everything was revoked and forgotten. */
export async function run(args: string[], { env, stdout }: World = process): Promise<number> {
  const { values, url: typed } = parse(args, {
    all: { type: 'boolean' },
    help: { type: 'boolean', short: 'h' }
  })
  if (values.help) {
    stdout.write(help)
    return 0
  }
  const vault = await openVault({ env })
  const kept = await vault.list()
  const url = values.all || kept.length === 0 ? typed : await chosenUrl(typed, env, vault)
  const chosen = kept.filter(
    ({ resource }) => values.all || (url !== undefined && covers(resource, url))
  )
  if (chosen.length === 0) {
    // Whose sign-in is in a file that cannot be opened, nobody can say.
    const texts = ['Nobody is signed in there.', ...(await vault.damaged(url))]
    throw new Failure(texts.join(' '), exitCodes.notSignedIn)
  }
  const { say } = createTerminal(stdout, env)
  const http = openHttp()
  try {
    let complete = true
    for (const credential of chosen)
      complete = (await leave(credential, vault, http.fetch, say)) && complete
    return complete ? 0 : exitCodes.failed
  } finally {
    await http.close()
  }
}

async function leave(
  key: Credential,
  vault: Vault,
  fetch: Fetch,
  say: (line: string) => void
): Promise<boolean> {
  // Locked: a refresh in another process would otherwise bring the credential back to life.
  const { done, failed } = await vault.locked(key, async () => {
    const credential = (await vault.get(key)) ?? key
    const result = await signOut(fetch, credential)
    await vault.delete(credential)
    return result
  })
  say(`Signed out of ${key.resource}.`)
  if (done.length > 0) say(`Revoked at the site: ${done.join(', ')}.`)
  if (failed.length === 0) return true
  say(
    `Could not be revoked at the site: ${failed.join(', ')}. It runs out by itself; an administrator can end it at once by deleting the client or saving the user in Drupal.`
  )
  return false
}
