// `login`: signs a person, or a service account, in at the Drupal behind a gateway URL, and keeps the tokens.
import type { Credential, Vault } from './credentials.ts'
import { openVault } from './credentials-vault.ts'
import { chosenUrl, clientSecret, parse, scopeList } from './arguments.ts'
import { exitCodes, Failure } from './failure.ts'
import { openHttp } from './http.ts'
import { narrator } from './narrator.ts'
import { explainMissing, missingScopes } from './scopes.ts'
import { signIn } from './sign-in.ts'
import { createTerminal, duration, onEnd, type World } from './terminal.ts'

const help = `Usage: drupal-mcp-gateway login [options] [URL]

Signs in at the Drupal behind the gateway at URL (or DRUPAL_MCP_URL). Everything else is found from the URL. With a browser:
authorization code with PKCE. Without one (SSH, container, CI, no display): a code to enter on another device. The tokens are
kept, sealed, for "connect"; "status" says where.

Options:
  --device                   use the device flow, whatever is here
  --browser                  use the browser, whatever is here
  --scope SCOPES             what to ask for, separated by spaces or commas; default: what the gateway asks for
  --client-id ID             a client that the site's administrator made; default: this program registers itself
                             (DRUPAL_MCP_CLIENT_ID)
  --redirect-uri URI         of that client: http://127.0.0.1/callback (default; any port) or another on this machine
  --client-credentials       a service account signs in with its client id and secret
  --client-secret-file FILE  the secret; or DRUPAL_MCP_CLIENT_SECRET. It is never taken from the command line
  --help                     this text

OAUTH_DEVICE_FLOW_ENABLED=false in the environment switches the device flow off.

Examples:
  drupal-mcp-gateway login https://mcp.example.org/mcp
  drupal-mcp-gateway login --device --scope "content_read content_write" https://mcp.example.org/mcp
  DRUPAL_MCP_CLIENT_SECRET=… drupal-mcp-gateway login --client-credentials --client-id ci https://mcp.example.org/mcp

Exit codes: 0 signed in, 1 failed, 2 wrong use, 3 refused or expired, 4 signed in, but with fewer scopes than asked for.
`

const options = {
  device: { type: 'boolean' },
  browser: { type: 'boolean' },
  scope: { type: 'string' },
  'client-id': { type: 'string' },
  'client-secret-file': { type: 'string' },
  'client-credentials': { type: 'boolean' },
  'redirect-uri': { type: 'string' },
  help: { type: 'boolean', short: 'h' }
} as const

/** Runs until signed in; answers the exit code. */
export async function run(args: string[], { env, stdout }: World = process): Promise<number> {
  const { values, url: typed } = parse(args, options)
  if (values.help) {
    stdout.write(help)
    return 0
  }
  const chosen = [values.device, values.browser, values['client-credentials']].filter(Boolean)
  if (chosen.length > 1) {
    throw new Failure(
      '--device, --browser and --client-credentials exclude each other.',
      exitCodes.usage
    )
  }
  const flow = values.device
    ? 'device'
    : values.browser
      ? 'browser'
      : values['client-credentials']
        ? 'client_credentials'
        : 'auto'
  const terminal = createTerminal(stdout, env)
  const vault = await openVault({ env })
  const url = await chosenUrl(typed, env, vault)
  const http = openHttp()
  const stop = new AbortController()
  const interrupt = () =>
    stop.abort(new Failure('Not signed in: interrupted.', exitCodes.notSignedIn))
  const stopListening = onEnd(interrupt)
  try {
    const clientId = values['client-id'] ?? env['DRUPAL_MCP_CLIENT_ID']
    const secret = clientId ? await clientSecret(env, values['client-secret-file']) : undefined
    const scopes = scopeList(values.scope)
    const credential = await signIn({
      url,
      fetch: http.fetch,
      vault,
      env,
      flow,
      tell: narrator(terminal, env),
      signal: stop.signal,
      ...(clientId ? { clientId } : {}),
      ...(secret === undefined ? {} : { clientSecret: secret }),
      ...(scopes === undefined ? {} : { scopes }),
      ...(values['redirect-uri'] === undefined ? {} : { redirectUri: values['redirect-uri'] })
    })
    return report(credential, vault, terminal.say)
  } catch (error) {
    throw stop.signal.aborted ? stop.signal.reason : error
  } finally {
    terminal.end()
    stopListening()
    await http.close()
  }
}

/** Says what came of it; 4 when scopes are missing. */
function report(credential: Credential, vault: Vault, say: (line?: string) => void): number {
  const { resource, subject, grantedScopes, askedScopes, expiresAt, refreshToken, grant } =
    credential
  const who = subject === undefined ? '' : ` as user ${subject}`
  const life = refreshToken ? 'renewed by itself' : `good for ${duration(expiresAt - Date.now())}`
  say(`Signed in to ${resource}${who}; the token is ${life}.`)
  if (grantedScopes !== undefined) say(`Scopes: ${grantedScopes.join(' ') || 'none'}`)
  say(`Kept ${vault.where}.`)
  const missing = missingScopes(askedScopes, grantedScopes)
  if (missing.length === 0) return 0
  say(explainMissing(missing, grant === 'device_code'))
  return exitCodes.fewerScopes
}
