// What a call makes dies with it: hardly anything of it becomes old. V8 removes old objects only by marking the whole heap, which
// stops all calls for a tenth of a second on one core: it was the p99 (src/roster.ts, src/cli/serve.ts).
import { Agent, request } from 'node:http'
import t from 'tap'
import { startDrupal } from '../../src/demo/double.ts'
import { freePort } from '../fixtures/ports.ts'
import { echo } from '../faults/fixtures/load.ts'
import { type GatewayProcess, gatewayProcess } from './fixtures/process.ts'

const CALLS = 4000
/** Until then machine code, feedback and caches have been made. */
const MOST_ROUNDS = 8
const AT_ONCE = 24
/** Collections that come often, on any Node. */
const nodeArgs = ['--trace-gc', '--max-semi-space-size=16']

/** The bytes by which what survives its collections grew between them; what a marking of the heap removes is not known. */
function grown(lines: string[]): { bytes: number; collections: number } {
  let bytes = 0
  let collections = 0
  let after: number | undefined
  for (const line of lines) {
    const [, kind, left] = /ms: (Scavenge|Mark-Compact).* -> ([\d.]+) \(/.exec(line) ?? []
    if (kind === undefined) continue
    const now = kind === 'Scavenge' ? Number(left) * 1_048_576 : undefined
    if (now !== undefined && after !== undefined) {
      bytes += now - after
      collections++
    }
    after = now
  }
  return { bytes, collections }
}

type Message = (id: number) => { body: string; headers: Record<string, string> }

const params = { name: echo.name, arguments: { text: 'a text of some length '.repeat(20) } }

function legacy(id: number) {
  const body = JSON.stringify({ jsonrpc: '2.0', id, method: 'tools/call', params })
  return { body, headers: { 'mcp-protocol-version': '2025-11-25' } }
}

function modern(id: number) {
  const version = '2026-07-28'
  const _meta = {
    'io.modelcontextprotocol/protocolVersion': version,
    'io.modelcontextprotocol/clientInfo': { name: 't', version: '1' },
    'io.modelcontextprotocol/clientCapabilities': {}
  }
  const rpc = { jsonrpc: '2.0', id, method: 'tools/call', params: { ...params, _meta } }
  return {
    body: JSON.stringify(rpc),
    headers: {
      'mcp-protocol-version': version,
      'mcp-method': 'tools/call',
      'mcp-name': echo.name
    }
  }
}

interface Caller {
  gateway: GatewayProcess
  headers: Record<string, string>
  agent: Agent
}

function send({ gateway, headers, agent }: Caller, body: string, more: Record<string, string>) {
  return new Promise<{ status: number | undefined; session: string }>((resolve, reject) => {
    const sent = request(
      gateway.url,
      { agent, method: 'POST', headers: { ...headers, ...more } },
      answer => {
        const session = String(answer.headers['mcp-session-id'] ?? '')
        answer.resume().once('end', () => resolve({ status: answer.statusCode, session }))
      }
    )
    sent.once('error', reject).end(body)
  })
}

/** Calls, so many at once; all of them succeed. */
async function callAll(caller: Caller, message: Message, count: number): Promise<void> {
  let next = 0
  async function one(): Promise<void> {
    while (next < count) {
      const { body, headers } = message(next++)
      const { status } = await send(caller, body, headers)
      if (status !== 200) throw new Error(`status ${status}`)
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, one))
}

const rows: {
  name: string
  message: Message
  env?: Record<string, string>
  keepAlive?: boolean
}[] = [
  { name: 'a legacy client', message: legacy },
  { name: 'a modern client', message: modern },
  { name: 'tokens unknown each time', message: legacy, env: { OAUTH_TOKEN_CACHE_TTL: '0' } },
  { name: 'a connection for each call', message: legacy, keepAlive: false }
]

for (const { name, message, env = {}, keepAlive = true } of rows) {
  t.test(`${name}: a call leaves less than 1 KB behind`, { timeout: 110_000 }, async t => {
    const drupal = await startDrupal({ extraTools: [echo] })
    t.teardown(() => drupal.close())
    const limits = { LIMIT_SESSION: 'off', LIMIT_PRINCIPAL: 'off' }
    const settings = { DRUPAL_URL: drupal.url, ...limits, ...env }
    const gateway = gatewayProcess(t, await freePort(), settings, nodeArgs)
    await gateway.start()
    const agent = new Agent({ keepAlive, maxSockets: AT_ONCE })
    t.teardown(() => agent.destroy())
    const headers: Record<string, string> = {
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      authorization: `Bearer ${drupal.mint().token}`
    }
    const caller = { gateway, headers, agent }
    if (message === legacy) {
      const clientInfo = { name: 't', version: '1' }
      const hello = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo }
      const rpc = { jsonrpc: '2.0', id: 0, method: 'initialize', params: hello }
      const { session } = await send(caller, JSON.stringify(rpc), {})
      headers['mcp-session-id'] = session
    }
    const left: number[] = []
    do {
      const before = gateway.lines().length
      await callAll(caller, message, CALLS)
      const { bytes, collections } = grown(gateway.lines().slice(before))
      if (collections > 1) left.push(Math.round(bytes / CALLS))
    } while (left.length < MOST_ROUNDS && !((left.at(-1) ?? Infinity) < 1024))
    t.ok((left.at(-1) as number) < 1024, `bytes a call, round by round: ${left.join(', ')}`)
  })
}
