import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { promisify } from 'node:util'
import t from 'tap'
import { compare, tally } from './compare.ts'
import { relay } from './everything/relay.ts'
import { startEverythingServer } from './everything-server.ts'
import { runServerSuite, type Check, type Checks } from './suite.ts'
import { areToolsInstalled, installHint, modernNode, root } from './tools.ts'

const isMissing = !areToolsInstalled()
if (isMissing && process.env['CI']) t.fail(installHint)
const needsTools = isMissing ? { skip: installHint } : {}

const checks = (...list: [string, Check['status']][]): Checks =>
  new Map([['scenario', list.map(([id, status]) => ({ id, name: id, status }))]])

t.test('comparing the verdicts of two runs', t => {
  const direct = checks(['a', 'SUCCESS'], ['a', 'FAILURE'], ['b', 'WARNING'])
  t.strictSame(compare(direct, direct), [], 'equal runs differ in nothing')
  t.strictSame(tally(direct), { passed: 1, failed: 1 })
  t.match(
    compare(direct, checks(['a', 'SUCCESS'], ['a', 'SUCCESS'], ['b', 'WARNING'])),
    [{ scenario: 'scenario', check: 'a (a) #2', direct: 'FAILURE', gateway: 'SUCCESS' }],
    'a better verdict is a difference, and the second check of an id is not taken for the first'
  )
  t.match(
    compare(direct, new Map()),
    [{ gateway: 'absent' }, { gateway: 'absent' }, { gateway: 'absent' }],
    'a scenario that did not run through the gateway is a difference'
  )
  t.strictSame(
    compare(checks(['seen', 'INFO']), checks()),
    [],
    'what was merely seen is no verdict'
  )
  t.end()
})

/** Refuses whoever brings another token, and relays the rest byte by byte. */
async function startGuard(upstream: URL, token: string) {
  const guard = createServer((incoming, outgoing) => {
    if (incoming.headers.authorization === `Bearer ${token}`) relay(incoming, outgoing, upstream)
    else outgoing.writeHead(401).end()
  })
  guard.listen(0, 'localhost')
  await once(guard, 'listening')
  t.teardown(() => {
    guard.closeAllConnections()
    guard.close()
  })
  return `http://localhost:${(guard.address() as AddressInfo).port}/mcp`
}

t.test('the suite passes a server that demands a token', needsTools, async t => {
  const server = await startEverythingServer()
  t.teardown(() => server.close())
  const url = await startGuard(new URL(server.url), 'open-sesame')
  const dir = t.testdir()
  const run = (scenario: string, token: string) =>
    runServerSuite({ url, token }, ['--scenario', scenario], `${dir}/${scenario}-${token}`)

  // One scenario per way in which the suite sends: fetch, npm's undici with a forged Host, node:http.
  for (const scenario of ['ping', 'dns-rebinding-protection', 'http-header-validation']) {
    const { passed, failed } = tally(await run(scenario, 'open-sesame'))
    t.equal(failed, 0, `${scenario} fails nowhere`)
    t.ok(passed > 0, `${scenario} was run`)
  }
  t.ok(tally(await run('ping', 'wrong')).failed > 0, 'with another token it fails')
})

t.test('the preloaded token reaches no other origin', async t => {
  const seen: IncomingHttpHeaders[] = []
  const other = createServer((incoming, outgoing) => {
    seen.push(incoming.headers)
    outgoing.end()
  })
  other.listen(0, 'localhost')
  await once(other, 'listening')
  t.teardown(() => other.close())
  const { port } = other.address() as AddressInfo
  const script = `
    await fetch('http://localhost:${port}/')
    const { request } = await import('node:http')
    await new Promise(done => request({ hostname: 'localhost', port: ${port}, headers: { host: 'localhost:1' } }, r => r.resume().on('end', done)).end())`
  await promisify(execFile)(
    process.execPath,
    ['--import', `${root}test/conformance/preload.mjs`, '--input-type=module', '-e', script],
    { env: { BEARER_ORIGIN: 'http://localhost:1', BEARER_TOKEN: 'secret' } }
  )
  t.equal(seen.length, 2)
  t.strictSame(
    seen.map(headers => headers.authorization),
    [undefined, undefined]
  )
})

t.test('a Node for the tools is found', needsTools, async t => {
  const { stdout } = await promisify(execFile)(modernNode(), ['--version'])
  t.match(stdout, /^v(2[2-9]|[3-9]\d)\./)
})
