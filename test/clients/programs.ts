// Do programs that people install get in? MCP Inspector's command line and mcp-remote, each as a process of its own, with a
// stand-in browser for the sign-in and a home directory of its own.
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js'
import { modernNode, programs } from '../conformance/tools.ts'
import { freePort } from '../fixtures/ports.ts'
import { startStandInBrowser } from './fixtures/browser.ts'
import { fetchTrusting } from './fixtures/trust.ts'
import type { Arrival, Journey } from './journey.ts'

const longestMs = 60_000

async function withBrowser(
  { person, dir, trust }: Journey,
  use: (env: NodeJS.ProcessEnv) => Promise<Omit<Arrival, 'signedInAt'>>
): Promise<Arrival> {
  const browser = await startStandInBrowser(person, dir, fetchTrusting(trust))
  try {
    return {
      ...(await use({ ...browser.env, NODE_EXTRA_CA_CERTS: trust })),
      signedInAt: browser.opened[0]
    }
  } catch (error) {
    const [failure] = browser.failures
    throw failure === undefined ? error : new Error('The sign-in failed.', { cause: failure })
  } finally {
    await browser.close()
  }
}

interface ToolResult {
  content: { text?: string }[]
}

/** Inspector's command line: one process per method; the first one signs in, the second finds the stored token. */
export function inspector(era: 'legacy' | 'auto' | 'modern') {
  return (journey: Journey): Promise<Arrival> =>
    withBrowser(journey, async env => {
      const callback = `http://127.0.0.1:${await freePort()}/oauth/callback`
      const run = async (...args: string[]): Promise<unknown> => {
        const { stdout } = await promisify(execFile)(
          modernNode(),
          [
            programs.inspector,
            '--cli',
            '--server-url',
            journey.url,
            '--transport',
            'http',
            '--protocol-era',
            era,
            '--callback-url',
            callback,
            '--format',
            'json',
            '--quiet',
            ...args
          ],
          {
            env: { ...env, MCP_INSPECTOR_SECRET_STORE: 'file', MCP_AUTO_OPEN_ENABLED: 'true' },
            timeout: longestMs
          }
        )
        return (JSON.parse(stdout) as { result: unknown }).result
      }
      const { tools } = (await run('--method', 'tools/list')) as { tools: { name: string }[] }
      const { content } = (await run(
        '--method',
        'tools/call',
        '--tool-name',
        journey.tool,
        '--tool-args-json',
        JSON.stringify(journey.args)
      )) as ToolResult
      return { tools: tools.map(({ name }) => name), text: content[0]?.text ?? '' }
    })
}

/** mcp-remote between a stdio client and the gateway, with its whole OAuth dance; `options` are its own. */
export function mcpRemote(protocol: 'legacy' | 'auto', ...options: string[]) {
  return (journey: Journey): Promise<Arrival> =>
    withBrowser(journey, async env => {
      const transport = new StdioClientTransport({
        command: modernNode(),
        args: [programs.mcpRemote, journey.url, '--protocol', protocol, ...options],
        env: { ...env, MCP_REMOTE_CONFIG_DIR: journey.dir } as Record<string, string>,
        stderr: 'pipe'
      })
      let log = ''
      transport.stderr?.on('data', (chunk: Buffer) => {
        log += chunk.toString()
      })
      const client = new Client({ name: 'client-test', version: '1.0.0' })
      try {
        await client.connect(transport, { timeout: longestMs })
        const { tools } = await client.listTools()
        const call = { name: journey.tool, arguments: journey.args }
        const { content } = (await client.callTool(call)) as ToolResult
        return { tools: tools.map(({ name }) => name), text: content[0]?.text ?? '' }
      } catch (error) {
        throw new Error(`mcp-remote failed:\n${log.slice(-2000)}`, { cause: error })
      } finally {
        await client.close()
      }
    })
}
