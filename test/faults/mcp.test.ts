// The fault suite before a site that speaks MCP itself: the site and the network to it fail in every way while callers of both eras
// call. Prints a table and writes it to .artifacts/faults-mcp.txt.
import t from 'tap'
import { startBefore } from '../gateway/fixtures/mcp.ts'
import { startFaultProxy } from './fixtures/fault-proxy.ts'
import { newTally } from './fixtures/load.ts'
import { type McpFaults, startMcpSite } from './fixtures/mcp-site.ts'
import {
  callersOf,
  env,
  type Expected,
  isQuiet,
  isRefusedAs,
  patient,
  play,
  playNetwork,
  reportFaults
} from './fixtures/play.ts'

reportFaults(t, 'faults-mcp')

/** Callers whose sessions are open: the faults are for calls. On a busy machine the first may take longer than a call may. */
async function callersBefore(gateway: Awaited<ReturnType<typeof startBefore>>) {
  const callers = callersOf(gateway, gateway.drupal)
  for (const caller of callers) {
    const warm = newTally()
    while (warm.answered === 0) {
      await caller.call(warm)
      if (warm.lost.length > 0) throw new Error(`not warm: ${warm.lost.join()}`)
    }
  }
  return callers
}

const prompt: [string, Partial<McpFaults>, Expected][] = [
  ['maintenance mode', { maintenance: true }, ['503']],
  ['flood control', { flood: 1 }, ['429']],
  ['HTML instead of JSON', { html200: true }, ['502']],
  ['redirect to the login', { redirectLogin: true }, ['502']],
  ['redirect to another host', { redirectHost: true }, ['502']],
  ['401 for every token', { unauthorized: true }, ['401']],
  ['403', { status: 403 }, ['200 403']],
  ['permission denied as 200', { denied: true }, ['200 403']],
  ['the route is missing', { status: 404 }, ['502']],
  ['500', { status: 500 }, ['502']],
  ['502', { status: 502 }, ['502', '503']],
  ['504', { status: 504 }, ['504', '503']],
  ['no body', { emptyBody: true }, ['502']],
  ['half a body', { halfBody: true }, ['502', '503']],
  ['reset before the first byte', { resetBefore: true }, ['502', '503']],
  ['reset after the first byte', { resetAfterFirstByte: true }, ['502', '503']],
  ['a huge body', { hugeBody: 1_000_000 }, ['502']],
  ['wrong content type', { wrongContentType: true }, ['502']],
  ['no JSON-RPC', { invalidJsonRpc: true }, ['502']],
  ['an answer for another id', { otherId: true }, ['502']],
  ['a stream without an answer', { stream: 'ends' }, ['200 -32603', '502']],
  ['a stream with another’s answer', { stream: 'other id' }, ['200 -32603', '502']],
  ['a stream that is reset', { stream: 'reset' }, ['200 -32603', '502']]
]
const slow: [string, Partial<McpFaults>, Expected][] = [
  ['slow headers', { slowHeadersMs: 2000 }, ['504', '503']],
  ['slow body', { slowBodyMs: 2000 }, ['504', '503']]
]

for (const [title, timeouts, faults] of [
  ['the site', patient, prompt],
  ['the site is slow', env, slow]
] as const)
  t.test(title, async t => {
    const site = await startMcpSite(t)
    const gateway = await startBefore(t, site.endpoint, timeouts)
    const callers = await callersBefore(gateway)
    for (const [name, switches, expected] of faults) {
      const begin = () => void Object.assign(site.faults, switches)
      isRefusedAs(t, name, await play(t, name, callers, begin, site.clearFaults), expected)
    }
    isQuiet(t, gateway)
  })

for (const [title, timeouts] of [
  ['the network is odd', patient],
  ['the network breaks', env]
] as const)
  t.test(title, async t => {
    const site = await startMcpSite(t)
    const proxy = await startFaultProxy(t, Number(new URL(site.endpoint).port))
    const gateway = await startBefore(t, `${proxy.url}/mcp`, timeouts)
    await playNetwork(t, proxy, await callersBefore(gateway), timeouts)
    isQuiet(t, gateway)
  })
