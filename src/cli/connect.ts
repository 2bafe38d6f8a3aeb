// `connect`: what an MCP client starts that speaks stdio only, or has no OAuth. Protocol on stdin and stdout, people on stderr.
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { chosenUrl, clientSecret, parse, scopeList } from './arguments.ts'
import { type Access, createAccess, type SignInHere } from './connect-access.ts'
import { type Bridge, createBridge } from './connect-bridge.ts'
import { lineWriter, readLines } from './connect-stdio.ts'
import { memoryVault, openVault } from './credentials-vault.ts'
import { exitCodes, Failure } from './failure.ts'
import { type Fetch, openHttp } from './http.ts'
import { narrator } from './narrator.ts'
import { type SignIn, type SignInEvent, signIn } from './sign-in.ts'
import { createTerminal, onEnd, type World } from './terminal.ts'
import { givenToken, keptTokens, type TokenSource } from './tokens.ts'

const help = `Usage: drupal-mcp-gateway connect [options] [URL]

Carries MCP messages between stdin/stdout and the gateway at URL (or DRUPAL_MCP_URL). Tokens come from "login", are refreshed
before they expire, and when there is none, somebody is asked to sign in: the address and the code appear on stderr and as a
message in the client. Nothing but MCP is written to stdout.

Options:
  --token-file FILE          the access token, read anew for each request; or DRUPAL_MCP_TOKEN. Nobody is asked to sign in
  --client-credentials       a service account; nothing is kept on disk
  --client-id ID             DRUPAL_MCP_CLIENT_ID
  --client-secret-file FILE  or DRUPAL_MCP_CLIENT_SECRET
  --device, --browser        how to sign in when it is needed
  --scope SCOPES             what to ask for then; default: what the gateway asks for
  --help                     this text

Examples:
  claude mcp add drupal -- npx drupal-mcp-gateway connect https://mcp.example.org/mcp
  drupal-mcp-gateway connect --token-file /run/secrets/token https://mcp.example.org/mcp

Exit codes: 0 the client ended it, 1 failed, 2 wrong use.
`

const options = {
  'token-file': { type: 'string' },
  'client-credentials': { type: 'boolean' },
  'client-id': { type: 'string' },
  'client-secret-file': { type: 'string' },
  device: { type: 'boolean' },
  browser: { type: 'boolean' },
  scope: { type: 'string' },
  help: { type: 'boolean', short: 'h' }
} as const

/** What still runs when the client hangs up may finish within this. */
const graceMs = 10_000

type Values = ReturnType<typeof parse<typeof options>>['values']

/** Runs until the input ends or a signal comes; answers the exit code. */
export async function run(args: string[], world: World = process): Promise<number> {
  const { values, url: typed } = parse(args, options)
  const { env, stdout, stderr } = world
  if (values.help) {
    stdout.write(help)
    return 0
  }
  const url = await chosenUrl(typed, env)
  const terminal = createTerminal(stderr, env)
  const stop = new AbortController()
  const { signal } = stop
  const end = () => stop.abort(new Failure('Ended.'))
  const output = stdout as unknown as NodeJS.WritableStream
  // A client that died does not read any more.
  output.on('error', end)
  const stopListening = onEnd(end)
  const http = openHttp()
  let bridge: Bridge | undefined
  let access: Access | undefined
  const narrate = narrator(terminal, env)
  let told: [text: string, link: string] | undefined
  const tell = (event: SignInEvent) => {
    narrate(event)
    told = announcement(event) ?? told
    if (event.kind === 'visit' || event.kind === 'code') joined()
  }
  const joined = () => void (told && bridge?.announce(...told))
  try {
    const { tokens, signIn: begin } = await means(values, url, http.fetch, { env, tell, signal })
    const signInHere: SignInHere | undefined =
      begin && ((wish, ended) => begin(wish, ended).finally(() => (told = undefined)))
    access = createAccess({ tokens, joined, ...(signInHere ? { signIn: signInHere } : {}) })
    const write = lineWriter(output, signal)
    bridge = createBridge({ url, fetch: http.fetch, access, write, log: terminal.say, signal })
    await carryAll(bridge, world.stdin ?? process.stdin, signal)
    return 0
  } finally {
    terminal.end()
    // A sign-in that nobody waits for any more would keep the process until its code expires.
    end()
    output.off('error', end)
    stopListening()
    // A refresh has spent the old token: without its answer, somebody would have to sign in again. It is bounded.
    await access?.settled()
    await http.close()
  }
}

/** What the client is told of a sign-in, and what it may open. */
function announcement(event: SignInEvent): [text: string, link: string] | undefined {
  if (event.kind === 'visit') return [`Sign in at ${event.url}`, event.url]
  if (event.kind !== 'code') return undefined
  const { uri, userCode, complete } = event.code
  return [`To sign in, open ${uri} and enter the code ${userCode}`, complete]
}

/** Until the input ends, then until what runs is done; a signal ends both at once. */
async function carryAll(
  bridge: Bridge,
  input: AsyncIterable<Buffer | string>,
  signal: AbortSignal
): Promise<void> {
  const ended = new Promise<void>(resolve => {
    signal.addEventListener('abort', () => resolve(), { once: true })
  })
  const all = async () => {
    for await (const line of readLines(input)) {
      if (signal.aborted) return
      await bridge.accept(line)
    }
    await Promise.race([bridge.settled(), sleep(graceMs, undefined, { ref: false })])
  }
  await Promise.race([all(), ended])
  // An open stdin would keep the process alive after a signal.
  if (input instanceof Readable) input.destroy()
  await bridge.close().catch(() => undefined)
}

/** Where tokens come from, and how somebody signs in when there is none. */
async function means(
  values: Values,
  url: string,
  fetch: Fetch,
  { env, tell, signal }: Pick<SignIn, 'env' | 'tell'> & { signal: AbortSignal }
): Promise<{ tokens: TokenSource; signIn?: SignInHere }> {
  const given = givenToken(env, values['token-file'])
  if (given !== undefined) {
    await given.current()
    return { tokens: given }
  }
  if (values.device && values.browser) {
    throw new Failure('--device and --browser exclude each other.', exitCodes.usage)
  }
  const service = values['client-credentials'] === true
  const vault = service ? memoryVault() : await openVault({ env })
  const clientId = values['client-id'] ?? env['DRUPAL_MCP_CLIENT_ID']
  const secret = await clientSecret(env, values['client-secret-file'])
  const scopes = scopeList(values.scope)
  const withSecret = secret === undefined ? {} : { clientSecret: secret }
  const tokens = keptTokens({ vault, url, fetch, ...withSecret })
  return {
    tokens,
    async signIn({ scopes: named, isStepUp }, ended) {
      const asked = isStepUp
        ? [...new Set([...(scopes ?? []), ...(named ?? [])])]
        : (scopes ?? named)
      await signIn({
        url,
        fetch,
        vault,
        env,
        tell,
        signal: AbortSignal.any([signal, ended]),
        flow: service
          ? 'client_credentials'
          : values.device
            ? 'device'
            : values.browser
              ? 'browser'
              : 'auto',
        ...(clientId ? { clientId, ...withSecret } : {}),
        ...(asked ? { scopes: asked } : {}),
        isStepUp
      })
      const lacking = await tokens.lacking()
      if (lacking !== undefined) tell({ kind: 'note', text: lacking })
    }
  }
}
