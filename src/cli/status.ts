// `status`: who is signed in where, with what, for how long, and where that is kept. It asks no server.
import { covers, type Credential } from './credentials.ts'
import { openVault } from './credentials-vault.ts'
import { checkedUrl, parse } from './arguments.ts'
import { exitCodes } from './failure.ts'
import { missingScopes } from './scopes.ts'
import { createTerminal, duration, type World } from './terminal.ts'

const help = `Usage: drupal-mcp-gateway status [--json] [URL]

Says who is signed in, with which client and scopes, how long the token is good, and where it is kept; for URL, or for every
gateway. Nothing is sent anywhere, and no secret is shown.

Options:
  --json  for machines: {"where": …, "credentials": [{"resource", "issuer", "clientId", "grant", "subject", "scopes",
          "missingScopes", "signedInAt", "expiresAt", "expired", "renewable"}], "damaged": [what cannot be opened]}
  --help  this text

Examples:
  drupal-mcp-gateway status
  drupal-mcp-gateway status --json https://mcp.example.org/mcp

Exit codes: 0 signed in, 1 failed, 2 wrong use, 3 not signed in, or the token has expired and cannot be renewed.
`

/** Answers 0 when at least one credential can still be used. */
export async function run(args: string[], { env, stdout }: World = process): Promise<number> {
  const { values, url } = parse(args, {
    json: { type: 'boolean' },
    help: { type: 'boolean', short: 'h' }
  })
  if (values.help) {
    stdout.write(help)
    return 0
  }
  if (url !== undefined) checkedUrl(url)
  const vault = await openVault({ env })
  const kept = (await vault.list()).filter(
    ({ resource }) => url === undefined || covers(resource, url)
  )
  const damaged = await vault.damaged()
  const shown = kept.map(credential => describe(credential, Date.now()))
  const usable = shown.some(({ expired, renewable }) => !expired || renewable)
  if (values.json) {
    stdout.write(
      `${JSON.stringify({ where: vault.where, credentials: shown, damaged }, null, 2)}\n`
    )
    return usable ? 0 : exitCodes.notSignedIn
  }
  const { say, bold } = createTerminal(stdout, env)
  if (shown.length === 0) {
    say(url === undefined ? 'Not signed in anywhere.' : `Not signed in for ${url}.`)
    say(`Run: drupal-mcp-gateway login ${url ?? 'URL'}`)
  }
  for (const one of shown) {
    say(bold(one.resource))
    say(
      `  user      ${one.subject ?? (one.grant === 'client_credentials' ? 'none: a service account' : 'unknown')}`
    )
    say(`  site      ${one.issuer}`)
    say(`  client    ${one.clientId} (${one.grant.replaceAll('_', ' ')})`)
    say(`  scopes    ${one.scopes?.join(' ') || (one.scopes ? 'none' : 'unknown')}`)
    if (one.missingScopes.length > 0) say(`  missing   ${one.missingScopes.join(' ')}`)
    const left = Date.parse(one.expiresAt) - Date.now()
    say(
      `  token     ${one.expired ? 'expired' : `${duration(left)} left`}, ${one.renewable ? 'renewed by itself' : 'not renewable: sign in again then'}`
    )
    say(`  since     ${one.signedInAt}`)
  }
  for (const text of damaged) say(text)
  if (shown.length > 0) say(`Kept ${vault.where}.`)
  return usable ? 0 : exitCodes.notSignedIn
}

/** Some servers say the largest number there is for a token that never ends; a date goes so far. */
const lastDate = 8_640_000_000_000_000

/** What may be shown of a credential. */
function describe(credential: Credential, now: number) {
  const { resource, issuer, clientId, grant, subject, grantedScopes, askedScopes } = credential
  return {
    resource,
    issuer,
    clientId,
    grant,
    subject: subject ?? null,
    scopes: grantedScopes ?? null,
    missingScopes: missingScopes(askedScopes, grantedScopes),
    signedInAt: new Date(credential.signedInAt).toISOString(),
    expiresAt: new Date(Math.min(credential.expiresAt, lastDate)).toISOString(),
    expired: credential.expiresAt <= now,
    renewable: credential.refreshToken !== undefined
  }
}
