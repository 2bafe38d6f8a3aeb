// `doctor`: which link of the chain is broken, and the command that mends it. Checks a live endpoint from outside, a gateway's
// configuration from inside, or both; the checks stand in doctor/.
import { parseArgs } from 'node:util'
import { urlProblem } from '../config/address.ts'
import { type LoadOptions, loadConfig } from '../config/load.ts'
import { version } from '../package.ts'
import { type Ask, createAsk } from './doctor/ask.ts'
import type { Check, Context } from './doctor/check.ts'
import { checksFor } from './doctor/checks.ts'
import { exitCode, renderJson, renderLine, renderSummary } from './doctor/render.ts'
import { keptSignIn } from './doctor/kept-sign-in.ts'
import { runChecks } from './doctor/run-checks.ts'
import { findToken, TOKEN_VARIABLE } from './doctor/token.ts'
import { exitCodes, Failure } from './failure.ts'
import { type Stream, wantsColours } from './terminal.ts'

const help = `Usage: drupal-mcp-gateway doctor [URL] [options]

Checks the chain from a client to the site's tools, link by link, and says for each what was seen and what to do. URL is the MCP
URL as clients type it. Nothing is created or changed, redirects are not followed, and no token or secret is shown.

Without URL, or with --gateway-config, the gateway's configuration is checked from inside: the options, the site behind them, the
gateway's own client, Redis. No gateway has to run for that.

Options:
  --token-file FILE      sign in with the access token in FILE for the last part of the trip; else with
                         ${TOKEN_VARIABLE}, else as whoever "login" has signed in. A token never goes on the
                         command line.
  --gateway-config FILE  the gateway's configuration file; variables of the environment win over it. Without URL the
                         environment alone is enough.
  --only ID,ID           only these checks and those that they rest on
  --json                 one JSON document: schema, version, url, summary, checks (id, title, status, seen, advice)
  --strict               warnings fail too
  --timeout SECONDS      longest time of one request (10)
  --help                 this text

Examples:
  drupal-mcp-gateway doctor https://mcp.example.org/mcp
  drupal-mcp-gateway doctor https://mcp.example.org/mcp --token-file token.txt --json
  DRUPAL_URL=https://cms.example.org GATEWAY_PUBLIC_URL=https://mcp.example.org drupal-mcp-gateway doctor --strict

Colours appear on a terminal only, and never when NO_COLOR is set.

Exit codes: 0 all well (warnings allowed), 1 a check failed (with --strict: or warned), 2 wrong use.
`

/** What a test may bring along. */
export interface Parts {
  env?: LoadOptions['env']
  stdout?: Stream
  /** PEM of the only certificate authority to believe. */
  ca?: string
}

interface Wish {
  url: string | undefined
  configFile: string | undefined
  tokenFile: string | undefined
  timeoutMs: number
}

function contextOf(wish: Wish, env: LoadOptions['env'], parts: Parts): Context {
  const { ca } = parts
  const { url, timeoutMs } = wish
  const ask = createAsk({ timeoutMs, ca, now: Date.now })
  let inner: Ask | undefined
  const context: Context = {
    url,
    config: undefined,
    loadConfig: () =>
      loadConfig({ env, ...(wish.configFile !== undefined && { file: wish.configFile }) }),
    findToken: () =>
      findToken({
        file: wish.tokenFile,
        env,
        kept: () => keptSignIn(env, url!)
      }),
    ask,
    askDrupal(address, question) {
      const { config } = context
      if (config === undefined) return ask(address, question)
      const { drupal, derived } = config
      const via = { from: new URL(drupal.url), to: new URL(derived.drupalConnectUrl) }
      inner ??= createAsk({ timeoutMs, ca, now: Date.now, via })
      return inner(address, question)
    },
    now: Date.now,
    timeoutMs,
    ca,
    facts: {},
    secrets: []
  }
  return context
}

const wrongUse = (message: string) => new Failure(message, exitCodes.usage)

function secondsOf(text: string): number {
  const seconds = Number(text)
  if (seconds > 0 && seconds <= 600) return seconds
  throw wrongUse(`--timeout must be seconds from 0.1 to 600, not "${text}".`)
}

/** The checks named, and what they rest on. */
function chosen(checks: readonly Check[], only: string | undefined): readonly Check[] {
  if (only === undefined) return checks
  const wanted = new Set(only.split(',').map(id => id.trim()))
  for (const id of wanted) {
    if (!checks.some(check => check.id === id)) throw wrongUse(`This run has no check "${id}".`)
  }
  // Where there is a configuration, every check may look into it. What a check rests on stands before it.
  wanted.add('config')
  for (const { id, needs } of checks.toReversed()) {
    if (wanted.has(id)) for (const need of needs) wanted.add(need)
  }
  return checks.filter(({ id }) => wanted.has(id))
}

/** Runs the doctor; answers the exit code. Throws a Failure on wrong use, as parseArgs throws its own. */
export async function run(args: string[], parts: Parts = {}): Promise<number> {
  const { env = process.env, stdout: out = process.stdout } = parts
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      'token-file': { type: 'string' },
      'gateway-config': { type: 'string' },
      json: { type: 'boolean', default: false },
      strict: { type: 'boolean', default: false },
      only: { type: 'string' },
      timeout: { type: 'string', default: '10' },
      help: { type: 'boolean', short: 'h' }
    }
  })
  if (values.help) {
    out.write(help)
    return 0
  }
  const [url, ...more] = positionals
  const configFile = values['gateway-config']
  const hasEnvironment = Boolean(env['GATEWAY_CONFIG'] || env['DRUPAL_URL'])
  const inside = configFile !== undefined || (url === undefined && hasEnvironment)
  if (more.length > 0) throw wrongUse('One URL at a time.')
  if (url === undefined && !inside) {
    throw wrongUse(
      'Give the MCP URL, or --gateway-config FILE, or set DRUPAL_URL as the gateway has it.'
    )
  }
  const problem = url === undefined ? undefined : urlProblem(url)
  if (problem !== undefined) throw wrongUse(`The URL ${problem}.`)

  const wish: Wish = {
    url,
    configFile,
    tokenFile: values['token-file'],
    timeoutMs: secondsOf(values.timeout) * 1000
  }
  const checks = chosen(checksFor({ outside: url !== undefined, inside }), values.only)
  return report(checks, contextOf(wish, env, parts), values, { env, out })
}

async function report(
  checks: readonly Check[],
  context: Context,
  { json, strict }: { json: boolean; strict: boolean },
  { env, out }: { env: LoadOptions['env']; out: Stream }
): Promise<number> {
  const colour = wantsColours(out, env)
  const results = await runChecks(checks, context, result => {
    if (!json) out.write(`${renderLine(result, colour)}\n`)
  })
  if (json) out.write(`${renderJson(results, { version, url: context.url })}\n`)
  else out.write(`\n${renderSummary(results)}\n`)
  return exitCode(results, strict)
}
