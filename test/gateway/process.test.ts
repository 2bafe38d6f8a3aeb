// The gateway as a process: start without Drupal, health, signals, logs, ports that are taken, configuration that is wrong.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import fastify from 'fastify'
import t, { type Test } from 'tap'
import { freePort } from '../fixtures/ports.ts'
import { startDrupal } from '../../src/demo/double.ts'
import { commands } from '../../src/cli/commands.ts'
import { main } from '../../src/cli/main.ts'
import { createHealth } from '../../src/http/health.ts'
import { builtProgram } from '../fixtures/program.ts'
import { read, startGateway } from './fixtures/start.ts'

const INITIALIZE = {
  jsonrpc: '2.0',
  id: 0,
  method: 'initialize',
  params: {
    protocolVersion: '2025-11-25',
    capabilities: {},
    clientInfo: { name: 't', version: '1' }
  }
}

interface Run {
  child: ChildProcess
  stdout: () => string
  stderr: () => string
  exit: Promise<number | null>
}

/** Runs the command line in a process of its own, with nothing of this environment but what is given. */
function run(t: Test, args: string[], env: Record<string, string> = {}): Run {
  const child = spawn(process.execPath, [builtProgram(), ...args], {
    env: { PATH: process.env['PATH'] ?? '', ...env },
    stdio: ['ignore', 'pipe', 'pipe']
  })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', chunk => (stdout += chunk))
  child.stderr.on('data', chunk => (stderr += chunk))
  // 'close': all that it wrote has been read.
  const exit = once(child, 'close').then(([code]) => code as number | null)
  t.teardown(async () => {
    child.kill('SIGKILL')
    await exit
  })
  return { child, stdout: () => stdout, stderr: () => stderr, exit }
}

async function until(url: string, status: number): Promise<Response> {
  for (;;) {
    const response = await fetch(url).catch(() => undefined)
    if (response?.status === status) return response
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

async function startProcess(t: Test, env: Record<string, string> = {}) {
  const drupal = await startDrupal()
  t.teardown(() => drupal.close())
  const port = await freePort()
  const origin = `http://127.0.0.1:${port}`
  const running = run(t, ['serve'], {
    DRUPAL_URL: drupal.url,
    GATEWAY_PUBLIC_URL: `http://localhost:${port}`,
    MCP_SERVER_PORT: String(port),
    OAUTH_SCOPES: 'read:tutorials',
    LOG_LEVEL: 'trace',
    ...env
  })
  await until(`${origin}/livez`, 200)
  const headers = {
    'content-type': 'application/json',
    accept: 'application/json',
    authorization: `Bearer ${drupal.mint().token}`
  }
  const post = (body: unknown, more: Record<string, string> = {}, signal?: AbortSignal) =>
    fetch(`${origin}/mcp`, {
      method: 'POST',
      headers: { ...headers, ...more },
      body: JSON.stringify(body),
      ...(signal && { signal })
    })
  const opened = await post(INITIALIZE)
  const session = { 'mcp-session-id': opened.headers.get('mcp-session-id') as string }
  /** A call that the site works on for so long, as soon as it does; `cut` when its connection goes. */
  async function beginSlow(ms: number, signal?: AbortSignal) {
    const params = { name: 'demo.slow', arguments: { ms } }
    const call = { jsonrpc: '2.0', id: 1, method: 'tools/call', params }
    const answer = post(call, session, signal).catch(() => 'cut' as const)
    while (!drupal.requests.some(({ path }) => path.endsWith('/demo.slow'))) {
      await new Promise(resolve => setTimeout(resolve, 5))
    }
    return { answer }
  }
  const token = headers.authorization.slice(7)
  return { drupal, origin, running, post, session, token, beginSlow }
}

t.test('starts without Drupal, says why it is not ready, and heals by itself', async t => {
  const drupalPort = await freePort()
  const gateway = await startGateway(t, {
    env: { DRUPAL_URL: `http://127.0.0.1:${drupalPort}`, DRUPAL_BREAKER_OPEN: '0.05' }
  })
  const authorization = `Bearer ${gateway.token()}`
  t.equal((await fetch(`${gateway.origin}/livez`)).status, 200)
  const notReady = await read(await fetch(`${gateway.origin}/readyz`))
  t.equal(notReady.status, 503)
  t.equal(notReady.json.status, 'not ready')
  t.match(notReady.json.checks, {
    'authorization server': /sign-in server cannot be reached/,
    drupal: 'The site could not be reached.',
    store: 'ok'
  })
  t.notMatch(notReady.text, String(drupalPort), 'no internal address')
  const refused = await gateway.post({ jsonrpc: '2.0', id: 1, method: 'ping' }, { authorization })
  t.equal(refused.status, 503)
  t.match(refused.headers.get('retry-after'), /^\d+$/)
  t.equal((await fetch(`${gateway.origin}/.well-known/oauth-protected-resource/mcp`)).status, 503)

  const late = await startDrupal({ port: drupalPort })
  t.teardown(() => late.close())
  await until(`${gateway.origin}/readyz`, 200)
  await until(`${gateway.origin}/.well-known/oauth-protected-resource/mcp`, 200)
  const { status } = await gateway.post(INITIALIZE, {
    authorization: `Bearer ${late.mint().token}`
  })
  t.equal(status, 200)
})

t.test('with issuer and key configured it is ready without the authorization server', async t => {
  const drupal = await startDrupal()
  drupal.faults.metadata = { issuer: 'https://another.example/' }
  const key = join(t.testdir({ 'public.key': drupal.publicKeyPem }), 'public.key')
  const configured = { OAUTH_ISSUER: drupal.issuer, OAUTH_PUBLIC_KEY_FILE: key }
  for (const [env, status] of [
    [configured, 200],
    [{ ...configured, OAUTH_ISSUER: '' }, 503],
    [{ ...configured, OAUTH_PUBLIC_KEY_FILE: '' }, 503]
  ] as const) {
    const { origin, post, token } = await startGateway(t, { drupal, env })
    t.equal((await fetch(`${origin}/readyz`)).status, status)
    const { status: answered } = await post(INITIALIZE, { authorization: `Bearer ${token()}` })
    if (status === 200) t.equal(answered, 200, 'no call needs it')
  }
})

t.test(
  '/readyz?once: 503 until it was ready, then 200 whatever is missing, until it stops',
  async t => {
    const drupalPort = await freePort()
    const { gateway, origin } = await startGateway(t, {
      env: { DRUPAL_URL: `http://127.0.0.1:${drupalPort}`, SHUTDOWN_DELAY: '0.5' }
    })
    const early = await read(await fetch(`${origin}/readyz?once`))
    t.equal(early.status, 503)
    t.match(early.json, {
      status: 'not ready',
      checks: { drupal: 'The site could not be reached.' }
    })
    const drupal = await startDrupal({ port: drupalPort })
    t.teardown(() => drupal.close())
    await until(`${origin}/readyz?once`, 200)
    await drupal.close()
    await until(`${origin}/readyz`, 503)
    t.equal((await fetch(`${origin}/readyz?once`)).status, 200)

    const stopped = gateway.stop()
    const { statusCode, body } = await gateway.app.inject('/readyz?once')
    t.equal(statusCode, 503)
    t.equal(JSON.parse(body).status, 'stopping')
    await stopped
  }
)

t.test('/readyz?once does not wait for a part that hangs', async t => {
  const app = fastify()
  t.teardown(() => app.close())
  let part: Promise<unknown> = Promise.resolve()
  const checks = [{ name: 'drupal', check: () => part }]
  await app.register(createHealth({ log: app.log, checks, stopping: () => false, keepMs: 0 }))
  t.equal((await app.inject('/readyz?once')).statusCode, 200)
  let fail: (reason: Error) => void = () => {}
  part = new Promise((_resolve, reject) => (fail = reject))
  const strict = app.inject('/readyz')
  t.strictSame((await app.inject('/readyz?once')).json(), { status: 'was ready', checks: {} })
  fail(new Error('at last'))
  t.equal((await strict).statusCode, 503)
})

t.test('/readyz waits for no part longer than its time', async t => {
  const app = fastify()
  t.teardown(() => app.close())
  const checks = [{ name: 'store', check: () => new Promise(() => {}) }]
  const stopping = () => false
  await app.register(createHealth({ log: app.log, checks, stopping, timeoutMs: 20 }))
  const alive = setTimeout(() => {}, 10_000)
  t.strictSame((await app.inject('/readyz')).json(), {
    status: 'not ready',
    checks: { store: 'not available' }
  })
  clearTimeout(alive)
})

t.test('known keys go on working while the authorization server is down', async t => {
  const gateway = await startGateway(t)
  await gateway.initialize(gateway.token())
  Object.assign(gateway.drupal.faults, { metadataDown: true, jwksDown: true })
  const session = await gateway.initialize(gateway.token({ uid: 3, scopes: ['read:tutorials'] }))
  t.ok(session['mcp-session-id'])
})

t.test('SIGTERM: calls in flight finish, then the process ends with 0', async t => {
  const { origin, running, beginSlow } = await startProcess(t)
  // The other loopback addresses are somebody else's already.
  await t.rejects(fetch(origin.replace('127.0.0.1', '127.0.0.2')), 'R5 served at 127.0.0.1 alone')
  const { answer } = await beginSlow(500)
  running.child.kill('SIGTERM')
  const { status, json } = await read((await answer) as Response)
  t.equal(status, 200)
  t.match(json.result.structuredContent, { waited: 500 })
  const answered = performance.now()
  t.equal(await running.exit, 0)
  t.ok(
    performance.now() - answered < 10_000,
    'it does not wait for a connection that has become idle'
  )
  await t.rejects(fetch(`${origin}/livez`))
})

t.test('SIGHUP and SIGUSR2 stop nothing, SIGQUIT does as SIGTERM', async t => {
  const { origin, running } = await startProcess(t)
  for (const signal of ['SIGHUP', 'SIGUSR2', 'SIGHUP'] as const) {
    const before = running.stdout().length
    running.child.kill(signal)
    while (!running.stdout().slice(before).includes(`"signal":"${signal}"`))
      await new Promise(resolve => setTimeout(resolve, 5))
    t.match(running.stdout().slice(before), 'going on')
    t.equal((await fetch(`${origin}/readyz`)).status, 200, signal)
  }
  running.child.kill('SIGQUIT')
  t.equal(await running.exit, 0)
  t.match(running.stdout(), '"signal":"SIGQUIT","msg":"stopping"')
})

t.test('what crashes is over at once, for a supervisor to see', async t => {
  const { running: gateway } = await startProcess(t)
  const double = run(t, ['demo', '--only', 'drupal', '--drupal-port', String(await freePort())])
  while (!double.stdout().includes('Ctrl-C')) await once(double.child.stdout!, 'data')
  for (const { child } of [gateway, double]) {
    const ended = once(child, 'exit')
    child.kill('SIGSEGV')
    t.strictSame(await ended, [null, 'SIGSEGV'])
  }
})

t.test(
  'a terminal that is closed stops what was started in it',
  {
    skip:
      process.env['CI'] !== 'true' &&
      spawnSync('script', ['--version']).status !== 0 &&
      'needs script(1), for a terminal'
  },
  async t => {
    const port = await freePort()
    const line = `echo pid $$; exec "${process.execPath}" "${builtProgram()}" serve`
    const terminal = spawn('script', ['-qfc', line, '/dev/null'], {
      env: {
        PATH: process.env['PATH'] ?? '',
        DRUPAL_URL: 'http://127.0.0.1:1',
        GATEWAY_PUBLIC_URL: `http://localhost:${port}`,
        MCP_SERVER_PORT: String(port)
      },
      stdio: ['ignore', 'pipe', 'ignore']
    })
    let shown = ''
    terminal.stdout.on('data', chunk => (shown += chunk))
    await until(`http://127.0.0.1:${port}/livez`, 200)
    t.teardown(() => {
      try {
        process.kill(Number(/pid (\d+)/.exec(shown)?.[1]), 'SIGKILL')
      } catch {}
    })
    terminal.kill('SIGKILL')
    while ((await fetch(`http://127.0.0.1:${port}/livez`).catch(() => undefined)) !== undefined)
      await new Promise(resolve => setTimeout(resolve, 20))
    t.pass('it is gone')
  }
)

t.test('readiness goes before the listener does', async t => {
  const { gateway } = await startGateway(t, { env: { SHUTDOWN_DELAY: '0.5' } })
  t.equal((await gateway.app.inject('/livez')).statusCode, 200)
  const stopped = gateway.stop()
  const { statusCode, body } = await gateway.app.inject('/readyz')
  t.equal(statusCode, 503)
  t.equal(JSON.parse(body).status, 'stopping')
  t.equal((await gateway.app.inject('/livez')).statusCode, 200, 'it still serves')
  await stopped
  t.notOk(gateway.app.server.listening)
})

t.test('a call that outlives SHUTDOWN_TIMEOUT does not keep the process', async t => {
  const { running, beginSlow } = await startProcess(t, { SHUTDOWN_TIMEOUT: '1' })
  const { answer } = await beginSlow(60_000)
  running.child.kill('SIGTERM')
  t.equal(await answer, 'cut')
  t.equal(await running.exit, 0)
  t.match(running.stdout(), /"method":"tools\/call".*"status":499/, 'it leaves its audit line')
})

t.test('a stop does not wait for what is open on the admin listener', async t => {
  const adminPort = await freePort()
  const { running } = await startProcess(t, { ADMIN_PORT: String(adminPort) })
  for (const bytes of ['', 'GET /metrics HTTP/1.1\r\nHost: loc']) {
    const socket = connect(adminPort, '127.0.0.1').on('error', () => {})
    t.teardown(() => socket.destroy())
    await once(socket, 'connect')
    socket.write(bytes)
  }
  await until(`http://127.0.0.1:${adminPort}/livez`, 200)
  const from = performance.now()
  running.child.kill('SIGTERM')
  t.equal(await running.exit, 0)
  t.ok(performance.now() - from < 10_000)
  t.notMatch(running.stdout(), 'did not finish in time')
})

t.test('a client that goes last while the process stops leaves its audit line', async t => {
  const { running, beginSlow } = await startProcess(t)
  const stop = new AbortController()
  const { answer } = await beginSlow(60_000, stop.signal)
  running.child.kill('SIGTERM')
  while (!running.stdout().includes('stopping'))
    await new Promise(resolve => setTimeout(resolve, 5))
  stop.abort()
  t.equal(await answer, 'cut')
  t.equal(await running.exit, 0)
  t.match(running.stdout(), /"method":"tools\/call".*"status":499/)
})

t.test('a second signal ends at once', async t => {
  const { running, beginSlow } = await startProcess(t)
  const { answer } = await beginSlow(60_000)
  running.child.kill('SIGTERM')
  while (!running.stdout().includes('stopping'))
    await new Promise(resolve => setTimeout(resolve, 5))
  running.child.kill('SIGTERM')
  t.equal(await running.exit, 1)
  t.equal(await answer, 'cut')
})

t.test('a session outlives the process: it is sealed, not stored', async t => {
  const env = { SESSION_SECRET: 'a-test-secret-of-enough-characters-0123456789' }
  const first = await startGateway(t, { env })
  const session = await first.initialize(first.token())
  const second = await startGateway(t, { env: { ...env, DRUPAL_URL: first.drupal.url } })
  const { status } = await second.post({ jsonrpc: '2.0', id: 1, method: 'ping' }, session)
  t.equal(status, 200)
})

t.test('logs are JSON with an id, and hold no token at any level', async t => {
  const { drupal, running, post, session, token } = await startProcess(t)
  const minted = [token, session['mcp-session-id']]
  await post(
    { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'demo.fail', arguments: {} } },
    session
  )
  for (const options of [
    { expiresIn: -60 },
    { header: { alg: 'none' } },
    { claims: { iss: 'https://x/' } }
  ]) {
    const bad = drupal.mint(options).token
    minted.push(bad)
    await post(INITIALIZE, { authorization: `Bearer ${bad}` })
  }
  drupal.faults.resetBefore = true
  await post(
    { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'site.info', arguments: {} } },
    session
  )
  await post('{nope', session)
  running.child.kill('SIGTERM')
  await running.exit
  const lines = running.stdout().trim().split('\n')
  t.ok(lines.length > 6)
  for (const line of lines) t.doesNotThrow(() => JSON.parse(line), line)
  const audit = lines.map(line => JSON.parse(line)).filter(({ type }) => type === 'audit')
  t.ok(audit.length >= 6)
  t.equal(new Set(audit.map(({ requestId }) => requestId)).size, audit.length, 'an id per request')
  for (const secret of minted) {
    for (const part of secret.split('.')) {
      if (part.length > 20) t.notOk(running.stdout().includes(part), 'no part of a token')
    }
  }
  t.equal(running.stderr(), '')
})

t.test('the admin listener serves metrics apart from the public one, and health', async t => {
  const gateway = await startGateway(t, { env: { ADMIN_PORT: '0' } })
  await gateway.initialize(gateway.token())
  const address = (await gateway.gateway.admin?.listen({ host: '127.0.0.1', port: 0 })) as string
  const { status, text } = await read(await fetch(`${address}/metrics`))
  t.equal(status, 200)
  t.match(
    text,
    /mcp_gateway_requests_total\{method="initialize",era="legacy",outcome="ok",status="200"\} 1/
  )
  t.equal((await fetch(`${gateway.origin}/metrics`)).status, 404)
  t.equal((await fetch(`${address}/livez`)).status, 200)
  const ready = await read(await fetch(`${address}/readyz`))
  t.match(ready, { status: 200, json: { status: 'ready', checks: { drupal: 'ok' } } })
  t.equal((await fetch(`${address}/mcp`)).status, 404, 'and no MCP')
})

t.test('the command line', async t => {
  const print = async (args: string[]) => {
    const out = t.capture(process.stdout, 'write', () => true)
    const err = t.capture(process.stderr, 'write', () => true)
    const code = await main(args)
    const text = (calls: { args: unknown[] }[]) => calls.map(call => String(call.args[0])).join('')
    const printed = { code, stdout: text(out()), stderr: text(err()) }
    out.restore()
    err.restore()
    return printed
  }
  t.match(await print(['--version']), { code: 0, stdout: /^\d+\.\d+\.\d+\n$/ })
  for (const args of [[], ['--help'], ['-h'], ['help']]) {
    const { code, stdout } = await print(args)
    t.equal(code, 0)
    for (const name of Object.keys(commands)) t.match(stdout, name)
  }
  t.match(await print(['nope']), { code: 2, stderr: /"nope" is no command/ })
  for (const name of ['serve', 'demo']) {
    t.match(await print([name, '--help']), { code: 0, stdout: /Usage: drupal-mcp-gateway/ })
    t.match(await print([name, '--nope']), { code: 2, stderr: /--nope/ })
  }
  t.match(await print(['demo', '--only', 'x']), { code: 2, stderr: /--only takes/ })
  t.match(await print(['demo', '--gateway-port', 'x']), { code: 2, stderr: /must be a port/ })
})

t.test('serve with a wrong configuration: every problem, exit code 2, no stack', async t => {
  const { exit, stderr } = run(t, ['serve'], { MCP_SERVER_PORT: 'abc', OAUTH_VALIDATION: 'maybe' })
  t.equal(await exit, 2)
  for (const name of ['MCP_SERVER_PORT', 'OAUTH_VALIDATION', 'DRUPAL_URL']) t.match(stderr(), name)
  t.notMatch(stderr(), /\bat \w+.*:\d+:\d+/)
})

t.test('serve --check says whether the configuration is good', async t => {
  const { exit, stdout } = run(t, ['serve', '--check'], { DRUPAL_URL: 'http://127.0.0.1:1' })
  t.equal(await exit, 0)
  t.match(stdout(), /The configuration is valid. Resource: http:\/\/localhost:3000\/mcp/)
})

t.test('serve and --check refuse files that are of no use, before anything starts', async t => {
  const pem = (label: string) => `-----BEGIN ${label}-----\nMIIB\n-----END ${label}-----\n`
  const folder = t.testdir({
    'tls.crt': pem('CERTIFICATE'),
    'tls.key': pem('PRIVATE KEY'),
    'public.key': pem('PUBLIC KEY')
  })
  for (const args of [['serve'], ['serve', '--check']]) {
    for (const env of [
      { TLS_CERT_FILE: join(folder, 'tls.crt'), TLS_KEY_FILE: join(folder, 'tls.key') },
      { OAUTH_PUBLIC_KEY_FILE: join(folder, 'public.key') }
    ]) {
      const { exit, stderr } = run(t, args, { DRUPAL_URL: 'http://127.0.0.1:1', ...env })
      t.equal(await exit, 2)
      for (const name of Object.keys(env)) t.match(stderr(), name)
    }
  }
})

t.test('a full disk costs log lines, not the process', async t => {
  const port = await freePort()
  const full = openSync('/dev/full', 'w')
  const child = spawn(process.execPath, [builtProgram(), 'serve'], {
    env: {
      DRUPAL_URL: 'http://127.0.0.1:1',
      GATEWAY_PUBLIC_URL: `http://localhost:${port}`,
      MCP_SERVER_PORT: String(port)
    },
    stdio: ['ignore', full, 'pipe']
  })
  closeSync(full)
  t.teardown(() => child.kill('SIGKILL'))
  let stderr = ''
  child.stderr!.on('data', chunk => (stderr += chunk))
  const exit = once(child, 'exit')
  await once(child.stderr!, 'data')
  const url = `http://127.0.0.1:${port}/readyz`
  // Each look that finds something missing is a line, too.
  await until(url, 503)
  t.equal((await fetch(url)).status, 503)
  child.kill('SIGTERM')
  t.strictSame(await exit, [0, null])
  t.equal(stderr, 'The log cannot be written (ENOSPC).\n')
})

t.test('a reader of the log that hangs does not keep a process that ends', async t => {
  builtProgram()
  const script = `
    import { openLogStream } from ${JSON.stringify(pathToFileURL('build/src/telemetry/log.js').href)}
    process.stdout.on('error', () => {})
    const stream = openLogStream()
    for (let line = 0; line < 10_000; line++) stream.write('x'.repeat(200) + '\\n')
    setTimeout(() => process.exit(3), 300)`
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    stdio: ['ignore', 'pipe', 'pipe']
  })
  t.teardown(() => child.kill('SIGKILL'))
  child.stderr.resume()
  t.strictSame(await once(child, 'exit'), [3, null])
})

t.test('a reader of the log that has gone does not keep a process that ends', async t => {
  builtProgram()
  const script = `
    import { openLogStream } from ${JSON.stringify(pathToFileURL('build/src/telemetry/log.js').href)}
    const stream = openLogStream()
    process.stdin.on('end', () => {
      stream.write('last words')
      process.exit(3)
    }).resume()`
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script])
  t.teardown(() => child.kill('SIGKILL'))
  let stderr = ''
  child.stderr.on('data', chunk => (stderr += chunk))
  child.stdout.destroy()
  await once(child.stdout, 'close')
  child.stdin.end()
  t.strictSame(await once(child, 'close', { signal: AbortSignal.timeout(20_000) }), [3, null])
  t.equal(stderr, 'The log cannot be written (EPIPE).\n')
})

t.test('a port that is taken: a clear error', async t => {
  const drupal = await startDrupal()
  t.teardown(() => drupal.close())
  const port = String(drupal.port)
  const serve = run(t, ['serve'], { DRUPAL_URL: drupal.url, MCP_SERVER_PORT: port })
  t.equal(await serve.exit, 1)
  t.match(serve.stderr(), `Port ${port} on 127.0.0.1 is taken`)
  t.match(serve.stderr(), 'MCP_SERVER_PORT')
  const taken = run(t, ['demo', '--once', '--drupal-port', port, '--gateway-port', '0'])
  t.equal(await taken.exit, 1)
  t.match(taken.stderr(), '--drupal-port')
  const both = run(t, ['demo', '--once', '--drupal-port', '0', '--gateway-port', port])
  t.equal(await both.exit, 1)
  t.match(both.stderr(), '--gateway-port')
})

t.test('a process that cannot listen ends, whatever it holds open already', async t => {
  const drupal = await startDrupal()
  t.teardown(() => drupal.close())
  const port = String(drupal.port)
  const cases: Record<string, string>[] = [
    { MCP_SERVER_PORT: '0', ADMIN_PORT: port },
    { MCP_SERVER_PORT: port, REDIS_URL: 'redis://127.0.0.1:9' }
  ]
  for (const env of cases) {
    const serve = run(t, ['serve'], {
      DRUPAL_URL: drupal.url,
      GATEWAY_PUBLIC_URL: 'http://localhost:3000',
      ...env
    })
    t.equal(await serve.exit, 1)
    t.match(serve.stderr(), `Port ${port} on 127.0.0.1 is taken`)
  }
})

t.test('the demo', async t => {
  t.test('--once makes the whole trip and ends with 0', async t => {
    const { exit, stdout, stderr } = run(t, [
      'demo',
      '--once',
      '--gateway-port',
      '0',
      '--drupal-port',
      '0'
    ])
    t.equal(await exit, 0, stderr())
    for (const step of [
      'WWW-Authenticate',
      '/oauth/register',
      'signs in at',
      'initialize',
      'tools/list',
      'steps up',
      'Every step went well.'
    ]) {
      t.match(stdout(), step)
    }
  })
  t.test('stays up, says what to paste, and ends on a signal', async t => {
    const { child, exit, stdout } = run(t, ['demo', '--gateway-port', '0', '--drupal-port', '0'])
    while (!stdout().includes('Ctrl-C ends it.'))
      await new Promise(resolve => setTimeout(resolve, 20))
    t.match(stdout(), /npx @modelcontextprotocol\/inspector/)
    t.match(stdout(), /claude mcp add/)
    const [url = ''] = /http:\/\/localhost:\d+\/mcp/.exec(stdout()) ?? []
    t.equal((await fetch(url, { method: 'POST' })).status, 401)
    child.kill('SIGINT')
    t.equal(await exit, 0)
  })
  t.test('--only starts one of the two', async t => {
    const drupal = run(t, ['demo', '--only', 'drupal', '--drupal-port', '0'])
    while (!drupal.stdout().includes('Ctrl-C'))
      await new Promise(resolve => setTimeout(resolve, 20))
    const [url = ''] = /http:\/\/127\.0\.0\.1:\d+/.exec(drupal.stdout()) ?? []
    const port = new URL(url).port
    const gateway = run(t, [
      'demo',
      '--only',
      'gateway',
      '--gateway-port',
      '0',
      '--drupal-port',
      port
    ])
    while (!gateway.stdout().includes('Ctrl-C'))
      await new Promise(resolve => setTimeout(resolve, 20))
    const [mcp = ''] = /http:\/\/localhost:\d+\/mcp/.exec(gateway.stdout()) ?? []
    const { json } = await read(
      await fetch(mcp.replace('/mcp', '/.well-known/oauth-protected-resource'))
    )
    t.equal(json.authorization_servers[0], `${url}/`)
  })
})
