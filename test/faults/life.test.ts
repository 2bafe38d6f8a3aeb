// The life of the process under load: a signal loses no admitted call, an error that nobody foresaw costs one answer at most and
// is logged with its request id; what ends the process lets the calls at work finish.
import { writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { buildGateway } from '../../src/app.ts'
import { loadConfig } from '../../src/config/load.ts'
import { startDrupal } from '../../src/demo/double.ts'
import { createLogger } from '../../src/telemetry/log.ts'
import { freePort } from '../fixtures/ports.ts'
import { gatewayProcess } from '../gateway/fixtures/process.ts'
import { read } from '../gateway/fixtures/start.ts'
import { echo } from './fixtures/load.ts'

const headers = { 'content-type': 'application/json', accept: 'application/json' }
const modern = (method: string, params: object, id: string) =>
  JSON.stringify({
    jsonrpc: '2.0',
    id,
    method,
    params: {
      ...params,
      _meta: {
        'io.modelcontextprotocol/protocolVersion': '2026-07-28',
        'io.modelcontextprotocol/clientInfo': { name: 't', version: '1' },
        'io.modelcontextprotocol/clientCapabilities': {}
      }
    }
  })
const mirrored = (method: string, name?: string) => ({
  'mcp-protocol-version': '2026-07-28',
  'mcp-method': method,
  ...(name === undefined ? {} : { 'mcp-name': name })
})

/** A gateway process and a Drupal whose echo takes its time and remembers what it ran. */
async function start(t: Test, env: Record<string, string> = {}, nodeArgs: string[] = []) {
  const ran: string[] = []
  const slowEcho = {
    ...echo,
    async run(params: Record<string, unknown>, caller: Parameters<typeof echo.run>[1]) {
      ran.push(String(params['text']))
      await new Promise(resolve => setTimeout(resolve, 100))
      return echo.run(params, caller)
    }
  }
  const drupal = await startDrupal({ extraTools: [slowEcho] })
  t.teardown(() => drupal.close())
  const gateway = gatewayProcess(
    t,
    await freePort(),
    { DRUPAL_URL: drupal.url, LIMIT_PRINCIPAL: 'off', ...env },
    nodeArgs
  )
  await gateway.start()
  const authorization = `Bearer ${drupal.mint().token}`

  /** Its text when it came back right; undefined when the call did not get in. */
  async function call(text: string): Promise<string | undefined> {
    const params = { name: echo.name, arguments: { text } }
    const response = await fetch(gateway.url, {
      method: 'POST',
      headers: { ...headers, ...mirrored('tools/call', echo.name), authorization },
      body: modern('tools/call', params, text)
    })
    const { status, json } = await read(response)
    if (status !== 200) throw new Error(`${status}`)
    return json.id === text ? (json.result.structuredContent.text as string) : 'crossed'
  }

  /** Callers that go on until they are not let in any more. */
  async function load(callers: number) {
    const answered = new Set<string>()
    const crossed: string[] = []
    let over = false
    const running = Array.from({ length: callers }, async (_, who) => {
      for (let n = 0; !over; n++) {
        const text = `${who}-${n}`
        try {
          const back = await call(text)
          if (back === text) answered.add(text)
          else crossed.push(`${text}: ${back}`)
        } catch {
          return
        }
      }
    })
    while (answered.size < callers * 2) await new Promise(resolve => setTimeout(resolve, 5))
    return {
      answered,
      crossed,
      end: async () => {
        over = true
        await Promise.all(running)
      }
    }
  }
  return { drupal, gateway, ran, authorization, call, load }
}

t.test('SIGTERM under load loses no admitted call', async t => {
  const { gateway, ran, load } = await start(t)
  const { answered, crossed, end } = await load(12)
  const before = answered.size
  gateway.signal('SIGTERM')
  t.equal(await gateway.exit, 0)
  await end()
  t.strictSame(
    ran.filter(text => !answered.has(text)),
    [],
    `each of the ${ran.length} calls that Drupal ran was answered`
  )
  t.strictSame(crossed, [])
  t.ok(answered.size >= before + 1, `${answered.size - before} of them after the signal`)
  t.notOk(gateway.lines().some(line => line.includes('GW_INTERNAL')))
  t.equal(gateway.stderr(), '')
})

t.test('a connection that is open is served once more while the process ends', async t => {
  const { gateway, ran, authorization, call } = await start(t, { SHUTDOWN_DELAY: '0' })
  const long = call('long')
  while (!ran.includes('long')) await new Promise(resolve => setTimeout(resolve, 5))
  const { hostname, port } = new URL(gateway.origin)
  const socket = connect(Number(port), hostname)
  let text = ''
  socket.on('data', chunk => (text += chunk.toString()))
  const closed = new Promise<void>(resolve => socket.on('close', () => resolve()))
  const body = modern('tools/call', { name: echo.name, arguments: { text: 'late' } }, 'late')
  const head = [
    'POST /mcp HTTP/1.1',
    'Host: localhost',
    ...Object.entries({
      ...headers,
      ...mirrored('tools/call', echo.name),
      authorization,
      'content-length': String(Buffer.byteLength(body))
    }).map(([name, value]) => `${name}: ${value}`)
  ]
  // Half of the head is there when the signal comes: a connection at work, not an idle one.
  socket.write(`${head.slice(0, 3).join('\r\n')}\r\n`)
  await new Promise(resolve => setTimeout(resolve, 50))
  gateway.signal('SIGTERM')
  while (!gateway.lines().some(line => line.includes('stopping'))) {
    await new Promise(resolve => setTimeout(resolve, 5))
  }
  // Longer than the gateway looks for connections that nobody uses: this one is in use since its first byte.
  await new Promise(resolve => setTimeout(resolve, 200))
  socket.write(`${head.slice(3).join('\r\n')}\r\n\r\n${body}`)
  await closed
  t.match(text, /^HTTP\/1\.1 200 /)
  t.match(text, /connection: close/i)
  t.match(text, '"id":"late"')
  t.equal(await long, 'long')
  t.equal(await gateway.exit, 0)
})

t.test(
  'an error that nobody foresaw is answered 500, logged with its id, and survived',
  async t => {
    const drupal = await startDrupal({ extraTools: [echo] })
    t.teardown(() => drupal.close())
    const loaded = loadConfig({
      env: { DRUPAL_URL: drupal.url, GATEWAY_PUBLIC_URL: 'http://localhost:3999', ADMIN_PORT: '0' }
    })
    let broken = false
    // Read again with every call of a tool.
    const config = {
      ...loaded,
      drupal: {
        ...loaded.drupal,
        get mcpPath(): string {
          if (broken) throw new TypeError('a secret from inside')
          return loaded.drupal.mcpPath
        }
      }
    }
    const logged: string[] = []
    const audited: string[] = []
    const gateway = await buildGateway(config, {
      logger: createLogger({
        level: 'info',
        destination: { write: (line: string) => logged.push(line) }
      }),
      audit: line => audited.push(line)
    })
    t.teardown(() => gateway.stop())
    const origin = await gateway.app.listen({ host: '127.0.0.1', port: 0 })
    const call = async () =>
      read(
        await fetch(`${origin}/mcp`, {
          method: 'POST',
          headers: {
            ...headers,
            ...mirrored('tools/call', echo.name),
            authorization: `Bearer ${drupal.mint().token}`
          },
          body: modern('tools/call', { name: echo.name, arguments: { text: 'x' } }, 'mine')
        })
      )
    t.equal((await call()).status, 200)
    broken = true
    const { status, json, text } = await call()
    broken = false
    t.equal(status, 500)
    t.strictSame(json, {
      jsonrpc: '2.0',
      id: 'mine',
      error: { code: -32603, message: 'Internal error' }
    })
    t.notMatch(text, /secret|TypeError|\.ts/)
    const { requestId } = JSON.parse(audited.at(-1) as string) as { requestId: string }
    const said = logged.filter(line => line.includes('uncaught error'))
    t.equal(said.length, 1)
    t.match(said[0], requestId, 'under the id of the audit line')
    t.match(said[0], /a secret from inside[\s\S]*life\.test\.ts/, 'with what happened and where')
    t.equal((await call()).status, 200, 'and the gateway lives on')
    const metrics = (await gateway.admin?.listen({ host: '127.0.0.1', port: 0 })) as string
    t.match(
      (await read(await fetch(`${metrics}/metrics`))).text,
      /^mcp_gateway_uncaught_errors_total 1$/m
    )
  }
)

t.test('an error outside of every request ends the process, but not the calls at work', async t => {
  const broken = join(t.testdir(), 'broken.mjs')
  writeFileSync(
    broken,
    `process.on('SIGWINCH', () => setTimeout(() => { throw new Error('out of the blue') }))`
  )
  const { gateway, ran, load } = await start(t, {}, ['--import', broken])
  const { answered, crossed, end } = await load(6)
  gateway.signal('SIGWINCH')
  t.equal(await gateway.exit, 1, 'so that whoever watches starts it again')
  await end()
  t.strictSame(
    ran.filter(text => !answered.has(text)),
    [],
    'what Drupal ran was answered'
  )
  t.strictSame(crossed, [])
  t.match(
    gateway.lines().find(line => line.includes('"level":60') || line.includes('fatal')),
    /out of the blue/
  )
})

t.test('a crash loses no session: it is sealed, not stored', async t => {
  const { drupal, gateway } = await start(t)
  const authorization = `Bearer ${drupal.mint().token}`
  const post = async (body: object, more: Record<string, string> = {}) =>
    read(
      await fetch(gateway.url, {
        method: 'POST',
        headers: { ...headers, authorization, ...more },
        body: JSON.stringify({ jsonrpc: '2.0', id: 1, ...body })
      })
    )
  const opened = await post({
    method: 'initialize',
    params: {
      protocolVersion: '2025-11-25',
      capabilities: {},
      clientInfo: { name: 't', version: '1' }
    }
  })
  const session = { 'mcp-session-id': opened.headers.get('mcp-session-id') as string }
  gateway.signal('SIGKILL')
  await gateway.exit
  await gateway.start()
  t.equal((await post({ method: 'ping' }, session)).status, 200)
})
