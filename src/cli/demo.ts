// `demo`: the whole thing on one machine. A Drupal double, the gateway in front of it, and the trip of a real client; then it
// stays up and says what to paste where.
import { randomBytes } from 'node:crypto'
import { type AddressInfo, createServer } from 'node:net'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import closeWithGrace from 'close-with-grace'
import { buildGateway, type Gateway } from '../app.ts'
import { loadConfig } from '../config/load.ts'
import { type DrupalDouble, startDrupal } from '../demo/double.ts'
import { runTrip } from '../demo/trip.ts'
import { packageRoot } from '../package.ts'
import { exitCodes, Failure } from './failure.ts'
import { listen } from './serve.ts'
import { crashSignals } from './terminal.ts'

const help = `Usage: drupal-mcp-gateway demo [options]

Starts a Drupal double and the gateway in front of it, lets a real MCP client make its whole trip (discovery, registration,
sign-in, tools/list, tools/call, a refused call that steps up), then stays up. Nothing of it is for production.

Options:
  --once                 end after the trip: exit code 0 when every step went well
  --gateway-port PORT    default 3000; 0 takes a free one
  --drupal-port PORT     default 8080; 0 takes a free one
  --only drupal|gateway  start one of the two, without the trip
  --help                 this text

Examples:
  drupal-mcp-gateway demo
  drupal-mcp-gateway demo --once --gateway-port 0 --drupal-port 0

Exit codes: 0 done, 1 failed, 2 wrong use.
`

const say = (line: string) => process.stdout.write(`${line}\n`)

/** A port that was free a moment ago: the gateway must know its public URL before it listens. */
async function freePort(): Promise<number> {
  const probe = createServer()
  await new Promise<void>(resolve => probe.listen(0, '127.0.0.1', resolve))
  const { port } = probe.address() as AddressInfo
  await new Promise(resolve => probe.close(resolve))
  return port
}

function portOf(text: string, option: string): number {
  const port = Number(text)
  if (!/^\d{1,5}$/.test(text) || port > 65535) {
    throw new Failure(`${option} must be a port from 0 to 65535, not "${text}".`, exitCodes.usage)
  }
  return port
}

async function openDrupal(port: number): Promise<DrupalDouble> {
  try {
    return await startDrupal({
      port,
      accessTokenLifetime: 3600,
      plainIssuer: true,
      trustedHosts: ['127.0.0.1', 'localhost']
    })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error
    throw new Error(
      `Port ${port} on 127.0.0.1 is taken. Stop what listens there or choose another with --drupal-port.`
    )
  }
}

async function openGateway(
  port: number,
  drupalUrl: string,
  audit: (line: string) => void
): Promise<Gateway> {
  const config = loadConfig({
    env: {
      DRUPAL_URL: drupalUrl,
      GATEWAY_PUBLIC_URL: `http://localhost:${port}`,
      MCP_SERVER_PORT: String(port),
      SESSION_SECRET: randomBytes(32).toString('hex'),
      LOG_LEVEL: process.env['LOG_LEVEL'] ?? 'error'
    },
    file: fileURLToPath(new URL('config/demo.yaml', packageRoot))
  })
  const gateway = await buildGateway(config, { audit })
  try {
    await listen(gateway, config)
  } catch (error) {
    await gateway.stop()
    throw new Error((error as Error).message.replace('MCP_SERVER_PORT', '--gateway-port'))
  }
  return gateway
}

function instructions(url: string, drupalUrl: string): string {
  return `
The gateway serves ${url} in front of ${drupalUrl}.
People: editor/editor (may write), reader/reader (may read).

MCP Inspector   npx @modelcontextprotocol/inspector --transport http --server-url ${url}
Claude Code     claude mcp add --transport http tutorials ${url}
curl            curl -i -X POST ${url} -H 'Content-Type: application/json' -H 'Accept: application/json, text/event-stream' \\
                  -d '{"jsonrpc":"2.0","id":1,"method":"ping"}'

Ctrl-C ends it.`
}

/** Runs the demo; answers the exit code. */
export async function run(args: string[]): Promise<number> {
  const { values } = parseArgs({
    args,
    options: {
      once: { type: 'boolean' },
      'gateway-port': { type: 'string', default: '3000' },
      'drupal-port': { type: 'string', default: '8080' },
      only: { type: 'string' },
      help: { type: 'boolean', short: 'h' }
    }
  })
  if (values.help) {
    say(help)
    return 0
  }
  const { only } = values
  if (only !== undefined && only !== 'drupal' && only !== 'gateway') {
    process.stderr.write(`--only takes "drupal" or "gateway", not "${only}".\n`)
    return 2
  }
  const drupalPort = portOf(values['drupal-port'], '--drupal-port')
  const wanted = portOf(values['gateway-port'], '--gateway-port')
  const gatewayPort = wanted === 0 ? await freePort() : wanted

  const drupal = only === 'gateway' ? undefined : await openDrupal(drupalPort)
  const drupalUrl = drupal?.url ?? `http://127.0.0.1:${drupalPort}`
  let gateway: Gateway | undefined
  let visitors = false
  const stop = async () => {
    await gateway?.stop()
    await drupal?.close()
  }
  try {
    if (only !== 'drupal')
      gateway = await openGateway(gatewayPort, drupalUrl, line => {
        // The trip tells its own story; afterwards the audit lines show what visitors do.
        if (visitors) process.stdout.write(line)
      })
    const url = `http://localhost:${gatewayPort}/mcp`
    if (drupal !== undefined && gateway !== undefined) {
      await runTrip({ url, person: { user: 'editor', password: 'editor' }, say })
      say('\nEvery step went well.')
    }
    if (values.once) {
      await stop()
      return 0
    }
    say(
      gateway === undefined
        ? `The Drupal double serves ${drupalUrl}. Ctrl-C ends it.`
        : instructions(url, drupalUrl)
    )
  } catch (error) {
    await stop()
    throw error
  }
  visitors = true
  return new Promise(resolve => {
    closeWithGrace({ delay: 30_000, logger: false, skip: [...crashSignals] }, async () => {
      await stop()
      resolve(0)
    })
  })
}
