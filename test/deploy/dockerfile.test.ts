// The Dockerfile, carried out: its steps in order in isolated roots, then the result as an unprivileged user on a read-only tree.
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync
} from 'node:fs'
import { createServer as createHttp, type RequestListener, type Server } from 'node:http'
import { createServer as createHttps } from 'node:https'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { builtProgram } from '../fixtures/program.ts'
import { buildImage, isolationProblem, parseDockerfile, runImage } from './image.ts'
import { freePort } from '../fixtures/ports.ts'
import { needs, root, tools } from './tools.ts'

const dockerfile = join(root, 'Dockerfile')

t.test('the Dockerfile says what production needs', async t => {
  const { args, stages } = parseDockerfile(readFileSync(dockerfile, 'utf8'))
  t.strictSame(args, [{ name: 'ARG', args: 'NODE_DIGEST=' }])
  for (const { base } of stages) t.equal(base, 'node:24-slim${NODE_DIGEST}')
  const last = stages.at(-1)?.steps ?? []
  const of = (name: string) => last.filter(step => step.name === name).map(step => step.args)
  t.match(of('USER'), [/^[1-9]\d*:[1-9]\d*$/], 'a number that is not root')
  t.match(of('ENTRYPOINT'), [/^\["node", /], 'no shell between the signal and node')
  t.match(of('CMD'), [/^\[/])
  t.match(of('HEALTHCHECK'), [/ CMD \["node", "/])
  t.strictSame(of('RUN'), [], 'nothing is installed into what is shipped')
})

t.test('the HEALTHCHECK asks the listener that is configured', async t => {
  const last = parseDockerfile(readFileSync(dockerfile, 'utf8')).stages.at(-1)?.steps ?? []
  const args = last.find(step => step.name === 'HEALTHCHECK')?.args ?? ''
  const [, ...command] = JSON.parse(args.slice(args.indexOf('['))) as string[]
  builtProgram()
  const folder = t.testdir()
  const [cert, key] = [join(folder, 'tls.crt'), join(folder, 'tls.key')]
  const pair = `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=x -keyout ${key} -out ${cert}`
  execFileSync('openssl', pair.split(' '), { stdio: 'ignore' })
  const asked: (string | undefined)[] = []
  let status = 200
  const answer: RequestListener = ({ url }, response) => {
    asked.push(url)
    response.writeHead(status).end()
  }
  const plain = createHttp(answer)
  const secure = createHttps({ cert: readFileSync(cert), key: readFileSync(key) }, answer)
  for (const server of [plain, secure]) {
    await once(server.listen(0, '127.0.0.1'), 'listening')
    t.teardown(() => server.close())
  }
  const portOf = (server: Server) => (server.address() as AddressInfo).port
  const file = join(folder, 'gateway.yaml')
  /** The exit code with this configuration file, which says only what a listener is. */
  const check = async (server: object, env: Record<string, string> = {}) => {
    writeFileSync(file, JSON.stringify({ drupal: { url: 'https://www.example.org' }, server }))
    const given = { PATH: process.env['PATH'], MCP_SERVER_HOST: '0.0.0.0', GATEWAY_CONFIG: file }
    const child = spawn(process.execPath, command, { cwd: root, env: { ...given, ...env } })
    const [code] = await once(child, 'exit')
    return code as number
  }
  t.equal(await check({ port: portOf(plain) }), 0, 'the port of the file')
  const tls = { port: portOf(secure), tlsCertFile: cert, tlsKeyFile: key }
  t.equal(await check(tls), 0, 'TLS by the file')
  const listener = { MCP_SERVER_PORT: String(portOf(plain)) }
  t.equal(await check({ port: 9 }, listener), 0, 'the environment over the file')
  t.equal(await check({}, { ...listener, GATEWAY_CONFIG: '' }), 0, 'no file, as with `demo`')
  const brackets = {
    MCP_SERVER_HOST: '[::ffff:127.0.0.1]',
    MCP_SERVER_PORT: listener.MCP_SERVER_PORT
  }
  t.equal(await check({}, brackets), 0, 'an address in brackets')
  t.strictSame(asked, Array(5).fill('/livez'))
  t.equal(await check({ port: 9 }), 1, 'nothing listens')
  status = 503
  t.equal(await check({ port: portOf(plain) }), 1, 'another answer')
})

t.test('the HEALTHCHECK is cheap: without a file it loads no package', async t => {
  builtProgram()
  const alone = mkdtempSync(join(tmpdir(), 'health-'))
  t.teardown(() => rmSync(alone, { recursive: true }))
  cpSync(join(root, 'build/src'), join(alone, 'src'), { recursive: true })
  writeFileSync(join(alone, 'package.json'), '{"type":"module"}')
  const server = createHttp((_asked, response) => response.end())
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => server.close())
  const env = { MCP_SERVER_PORT: String((server.address() as AddressInfo).port) }
  const child = spawn(process.execPath, [join(alone, 'src/cli/health.js')], { env })
  t.strictSame(await once(child, 'exit'), [0, null])
})

t.test('a linter for Dockerfiles finds nothing', needs(tools.dockerfilelint), async t => {
  const { status, stdout } = spawnSync(process.execPath, [tools.dockerfilelint, dockerfile], {
    encoding: 'utf8'
  })
  t.equal(status, 0, stdout)
  t.match(stdout, 'Issues: None found')
})

// Not t.testdir: it would be below the project, whose node_modules must not be found from there.
const folder = mkdtempSync(join(tmpdir(), 'image-'))
// Never across a mount: system folders are mounted below it, in name spaces of their own.
t.teardown(() => execFileSync('rm', ['-rf', '--one-file-system', folder]))
const problem = process.env['CI'] === 'true' ? undefined : isolationProblem(folder)
const isolated = problem === undefined ? {} : { skip: problem }
t.setTimeout(300_000)

t.test('the HEALTHCHECK finds the file that --config names', isolated, async t => {
  const file = join(t.testdir(), 'gateway.yaml')
  const port = await freePort()
  const drupal = { url: 'http://127.0.0.1:9' }
  writeFileSync(file, JSON.stringify({ server: { port }, drupal }))
  const serve = [process.execPath, builtProgram(), 'serve', '--config', file]
  const space = ['--mount', '--mount-proc', '--pid', '--fork', '--kill-child']
  const env = { PATH: process.env['PATH'] }
  const container = spawn('unshare', [...space, ...serve], { env, stdio: 'ignore' })
  t.teardown(() => container.kill('SIGKILL'))
  const url = `http://127.0.0.1:${port}/livez`
  while (!(await fetch(url).catch(() => undefined))?.ok) {
    if (container.exitCode !== null) return t.fail(`it ended with ${container.exitCode}`)
    await new Promise(resolve => setTimeout(resolve, 50))
  }
  // As a container engine does it: beside process 1, in its name spaces.
  const inside = execFileSync('pgrep', ['-P', String(container.pid)], { encoding: 'utf8' }).trim()
  const health = [process.execPath, join(root, 'build/src/cli/health.js')]
  const check = spawn('nsenter', ['--target', inside, '--mount', '--pid', '--', ...health], { env })
  t.strictSame(await once(check, 'exit'), [0, null])
})

t.test('a stop that comes while process 1 still starts', isolated, async t => {
  // A Redis that says nothing: the program waits a second for it before it listens.
  const silent = createServer().listen(0, '127.0.0.1')
  await once(silent, 'listening')
  t.teardown(() => silent.close())
  const env = {
    PATH: process.env['PATH'],
    DRUPAL_URL: 'http://127.0.0.1:9',
    MCP_SERVER_PORT: String(await freePort()),
    REDIS_URL: `redis://127.0.0.1:${(silent.address() as AddressInfo).port}`
  }
  const space = ['--mount', '--mount-proc', '--pid', '--fork', '--kill-child']
  // What tap puts into it would wait for signals.
  const serve = ['env', '-u', 'NODE_OPTIONS', process.execPath, builtProgram(), 'serve']
  const container = spawn('unshare', [...space, ...serve], { env, stdio: 'ignore' })
  t.teardown(() => container.kill('SIGKILL'))
  silent.on('connection', socket => socket.on('error', () => {}))
  await once(silent, 'connection')
  const ended = once(container, 'exit')
  const inside = execFileSync('pgrep', ['-P', String(container.pid)], { encoding: 'utf8' }).trim()
  process.kill(Number(inside), 'SIGTERM')
  const [code] = await Promise.race([ended, delay(10_000, ['it runs on'], { ref: false })])
  t.ok(code === 143 || code === 0, `${code}: at once, or as a stop that comes later`)
})

t.test('built step by step, it runs unprivileged on a read-only tree', isolated, async t => {
  // As somebody has it who cloned it under umask 077.
  const context = join(folder, 'context')
  const names = readFileSync(join(root, '.dockerignore'), 'utf8').matchAll(/^!(.+)$/gm)
  for (const name of ['Dockerfile', '.dockerignore', ...[...names].map(([, each = '']) => each)])
    cpSync(join(root, name), join(context, name), { recursive: true })
  execFileSync('chmod', ['-R', 'go-rwx', context])
  const image = buildImage(context, folder)
  const app = join(image.root, 'app')

  await t.test('it holds production packages and compiled code, and nothing else', async t => {
    t.strictSame(readdirSync(app).sort(), [
      'LICENSE',
      'build',
      'config',
      'node_modules',
      'package.json'
    ])
    for (const name of ['tap', 'typescript', 'playwright-core', 'oidc-provider', '@types/node'])
      t.notOk(existsSync(join(app, 'node_modules', name)), name)
    const files = execFileSync('find', [app, '-type', 'f'], { encoding: 'utf8' }).split('\n')
    t.strictSame(
      files.filter(
        file =>
          /\.(ts|map)$|(^|\/)\.npmrc$|\/test\/.*\.test\.js$/.test(file) &&
          !file.includes('node_modules')
      ),
      []
    )
    const megabytes = Number(execFileSync('du', ['-sm', app], { encoding: 'utf8' }).split('\t')[0])
    t.comment(`what is added to the base image: ${megabytes} MB`)
    t.ok(megabytes < 50, `${megabytes} MB is less than 50`)
    t.match(image.labels, 'org.opencontainers.image.version="0.1.0"')
  })

  const port = await freePort()
  const env = {
    DRUPAL_URL: 'http://127.0.0.1:9',
    GATEWAY_PUBLIC_URL: 'https://mcp.example.org',
    SESSION_SECRET: 'kJ8s0dPq2mXv7ZtR4wYb6NcE1hGf3LuA',
    MCP_SERVER_PORT: String(port)
  }
  const running = runImage(image, [...image.entrypoint, ...image.command], env)
  t.teardown(() => running.kill('SIGKILL'))
  let output = ''
  running.stdout.on('data', chunk => (output += chunk))
  running.stderr.on('data', chunk => (output += chunk))
  const ended = once(running, 'exit')

  await t.test('/livez answers', async t => {
    for (;;) {
      const answer = await fetch(`http://127.0.0.1:${port}/livez`).catch(() => undefined)
      if (answer !== undefined) {
        t.equal(answer.status, 200)
        break
      }
      if (running.exitCode !== null) return t.fail(output)
      await new Promise(resolve => setTimeout(resolve, 100))
    }
    // Lines leave the process in pieces, a quarter of a second apart.
    while (!output.includes('Server listening')) await once(running.stdout, 'data')
  })

  await t.test('its own HEALTHCHECK holds, and does not when nothing listens', async t => {
    for (const [where, expected] of [
      [env.MCP_SERVER_PORT, 0],
      ['9', 1]
    ] as const) {
      const check = runImage(image, image.healthcheck, { MCP_SERVER_PORT: where })
      const [code] = await once(check, 'exit')
      t.equal(code, expected, `port ${where}`)
    }
  })

  await t.test('it cannot write anywhere, nor be root', async t => {
    const write = runImage(image, ['sh', '-c', 'id -u; touch /app/x /tmp/x /x; echo "$?"'], {})
    let text = ''
    write.stdout.on('data', chunk => (text += chunk))
    await once(write, 'close')
    t.equal(text, '65532\n1\n')
  })

  await t.test('SIGTERM reaches node, process 1, which stops cleanly', async t => {
    const inside = execFileSync('pgrep', ['-P', String(running.pid)], { encoding: 'utf8' }).trim()
    t.match(readFileSync(`/proc/${inside}/status`, 'utf8'), /^NSpid:\t\d+\t1$/m, 'process 1')
    t.match(readFileSync(`/proc/${inside}/cmdline`, 'utf8'), /^node\0build/)
    process.kill(Number(inside), 'SIGTERM')
    const [code] = await ended
    t.equal(code, 0, output)
  })
})
