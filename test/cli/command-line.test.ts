// The command line as a process of its own: signals, pipes, other users, two at once, completion, and what the manual says.
import dns from 'node:dns'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  realpathSync,
  rmSync
} from 'node:fs'
import { readFile, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { text as whole } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { openVault } from '../../src/cli/credentials-vault.ts'
import { commands } from '../../src/cli/commands.ts'
import { listen } from '../../src/cli/serve.ts'
import { buildGateway } from '../../src/app.ts'
import { loadConfig } from '../../src/config/load.ts'
import { version } from '../../src/package.ts'
import { keptTokens } from '../../src/cli/tokens.ts'
import { builtProgram } from '../fixtures/program.ts'
import { openHttp } from '../../src/cli/http.ts'
import { startReal, startSite, terminal, useBrowser } from './fixtures/site.ts'

const script = resolve('src/cli/main.ts')
const hello = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}\n`

interface Child {
  process: ChildProcess
  stdout: () => string
  stderr: () => string
  exit: Promise<number | string | null>
  until: (which: 'stdout' | 'stderr', pattern: RegExp) => Promise<RegExpExecArray>
}

function start(
  t: Pick<Test, 'teardown'>,
  args: string[],
  env: Record<string, string> = {},
  more: { uid?: number; gid?: number; cwd?: string; path?: string } = {}
): Child {
  const { path = script, ...options } = more
  const known = { PATH: process.env['PATH'] ?? '', TS_NODE_TRANSPILE_ONLY: '1', ...env }
  // Another user may not write the test runner's files, which its own variables would have it do.
  const clean = Object.entries(known).map(([name, value]) => `${name}=${value}`)
  const [command, before] =
    options.uid === undefined
      ? [process.execPath, path.endsWith('.js') ? [] : process.execArgv]
      : ['env', ['-i', ...clean, process.execPath]]
  const child = spawn(command, [...before, path, ...args], { env: known, ...options })
  t.teardown(() => child.kill('SIGKILL'))
  const text = { stdout: '', stderr: '' }
  const waiting = new Set<() => void>()
  for (const which of ['stdout', 'stderr'] as const) {
    child[which]!.on('data', (chunk: Buffer) => {
      text[which] += chunk.toString()
      for (const look of waiting) look()
    })
  }
  return {
    process: child,
    stdout: () => text.stdout,
    stderr: () => text.stderr,
    exit: once(child, 'close').then(([code, signal]) => (code ?? signal) as number | string | null),
    until: (which, pattern) =>
      new Promise(done => {
        const look = () => {
          const found = pattern.exec(text[which])
          if (found === null) return
          waiting.delete(look)
          done(found)
        }
        waiting.add(look)
        look()
      })
  }
}

t.test('a reader that hangs up ends a command without a stack', async t => {
  const program = `"${process.execPath}" "${builtProgram()}"`
  const url = 'https://doctor-probe.invalid/mcp'
  const piped = spawnSync('bash', ['-c', `{ ${program} doctor ${url}; echo "$?" >&2; } | true`], {
    encoding: 'utf8'
  })
  t.match(piped.stderr, /^(1|143)\n$/)
  const { url: gateway, drupal } = await startReal(t)
  const deaf = start(t, ['connect', gateway], { DRUPAL_MCP_TOKEN: `${drupal.mint().token}x` })
  deaf.process.stderr!.destroy()
  deaf.process.stdin!.end(`${hello}${hello.replace(':0', ':1')}`)
  t.equal(await deaf.exit, 0, 'a client need not read stderr')
  t.match(deaf.stdout(), /"id":0.*\n.*"id":1/)
})

t.test(
  'a full disk is named',
  { skip: existsSync('/dev/full') ? false : 'no /dev/full' },
  async t => {
    const full = openSync('/dev/full', 'w')
    t.teardown(() => closeSync(full))
    const { stderr } = spawnSync(process.execPath, [builtProgram(), '--help'], {
      encoding: 'utf8',
      stdio: ['ignore', full, 'pipe']
    })
    t.equal(stderr, 'The output cannot be written (ENOSPC).\n')
  }
)

t.test('started through a link, as npm does it', async t => {
  const path = join(t.testdir(), 'drupal-mcp-gateway')
  await symlink(script, path)
  const { exit, stdout } = start(t, ['--version'], {}, { path })
  t.equal(await exit, 0)
  t.equal(stdout(), `${version}\n`)
})

t.test('connect ends cleanly', async t => {
  const { url, drupal } = await startReal(t)
  const env = { DRUPAL_MCP_TOKEN: drupal.mint().token }
  for (const signal of ['SIGTERM', 'SIGHUP'] as const) {
    const child = start(t, ['connect', url], env)
    child.process.stdin!.write(hello)
    await child.until('stdout', /"id":0/)
    child.process.kill(signal)
    t.equal(await child.exit, 0, signal)
  }
  const piped = start(t, ['connect', url], env)
  piped.process.stdin!.end(
    `${hello}{"jsonrpc":"2.0","method":"notifications/initialized"}\n{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
  )
  t.equal(await piped.exit, 0, 'at the end of its input, after the last answer')
  t.match(piped.stdout(), /"id":1/)
  for (const line of piped.stdout().trim().split('\n'))
    t.equal(JSON.parse(line).jsonrpc, '2.0', 'stdout carries protocol only')
  const waiting = start(t, ['connect', url], { DRUPAL_MCP_HOME: t.testdir(), CI: '1' })
  waiting.process.stdin!.write(hello)
  await waiting.until('stderr', /good for 30 min/)
  waiting.process.stdin!.end()
  t.equal(await waiting.exit, 0, 'while a sign-in is under way, which ends with it')
  const gone = start(t, ['connect', url], env)
  gone.process.stdout!.destroy()
  gone.process.stdin!.write(hello)
  t.equal(await gone.exit, 0, 'when nobody reads any more')
})

/** The built program where every user may read it: a checkout may lie in a folder that is its owner's alone. */
function readableProgram(t: Pick<Test, 'teardown'>): string {
  builtProgram()
  const folder = mkdtempSync(join(tmpdir(), 'program-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  chmodSync(folder, 0o755)
  for (const part of ['build', 'config', 'package.json', 'node_modules']) {
    // Links where they are possible: node_modules is large.
    const { status } = spawnSync('cp', ['-rlL', realpathSync(part), join(folder, part)])
    if (status !== 0) spawnSync('cp', ['-rL', realpathSync(part), join(folder, part)])
  }
  return join(folder, 'build/src/cli/main.js')
}

t.test('in a container: another user, no HOME, no display, nothing to write to', async t => {
  const { url, drupal } = await startReal(t)
  const other = process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {}
  const at = { ...other, cwd: '/', path: readableProgram(t) }
  const token = start(t, ['connect', url], { DRUPAL_MCP_TOKEN: drupal.mint().token }, at)
  token.process.stdin!.end(hello)
  t.equal(await token.exit, 0, token.stderr())
  t.match(token.stdout(), /"protocolVersion"/)
  const bare = start(t, ['connect', url], { DRUPAL_MCP_HOME: '/proc/nothing/here' }, at)
  t.equal(await bare.exit, 1)
  t.match(bare.stderr(), /Credentials cannot be kept in .*DRUPAL_MCP_HOME.*--token-file/)
  t.notMatch(bare.stderr(), /\n\s+at /, 'no stack')
  if (other.uid !== undefined) {
    const lost = start(t, ['login', url], {}, at)
    t.equal(await lost.exit, 1)
    t.match(lost.stderr(), /--token-file or DRUPAL_MCP_TOKEN/)
  }
})

/** Before a command: it then runs as an unknown user, and nothing can be written anywhere. */
const sealedOff = [
  'unshare',
  '--mount',
  '--propagation',
  'private',
  'sh',
  '-c',
  'mount --bind / / && mount -o remount,ro,bind / && cd / && ! touch /tmp/x 2>/dev/null && exec setpriv --reuid 4242 --regid 4242 --clear-groups env -i "$@"',
  'sh'
]
const cannotSeal =
  spawnSync(sealedOff[0]!, [...sealedOff.slice(1), 'true']).status !== 0 && 'needs root and unshare'

t.test('in a container with a read-only file system', { skip: cannotSeal }, async t => {
  const { url, drupal } = await startReal(t)
  const program = [process.execPath, readableProgram(t)]
  const token = `DRUPAL_MCP_TOKEN=${drupal.mint().token}`
  const runs = (env: string[], ...args: string[]) => {
    const [command = '', ...rest] = [...sealedOff, ...env, ...program, ...args]
    const child = spawn(command, rest, { stdio: 'pipe' })
    t.teardown(() => child.kill('SIGKILL'))
    child.stdin.end(hello)
    return Promise.all([
      once(child, 'close').then(([code]) => code as number),
      whole(child.stdout),
      whole(child.stderr)
    ])
  }
  const [code, stdout, stderr] = await runs([token], 'connect', url)
  t.equal(code, 0, stderr)
  t.match(stdout, /"protocolVersion"/)
  for (const env of [[], ['HOME=/']]) {
    for (const command of ['connect', 'login']) {
      const [failed, , why] = await runs(env, command, url)
      t.equal(failed, 1)
      t.match(why, /(no home folder|EROFS).*DRUPAL_MCP_HOME.*--token-file/)
      t.notMatch(why, /\n\s+at /, 'no stack')
    }
  }
})

t.test('serve listens where it is told, or says what to change', async t => {
  const listening = async (host: string) => {
    const config = loadConfig({
      env: {
        DRUPAL_URL: 'https://cms.example.org',
        GATEWAY_PUBLIC_URL: 'https://mcp.example.org',
        SESSION_SECRET: 'a-test-secret-of-enough-characters-0123456789',
        LOG_LEVEL: 'silent',
        MCP_SERVER_HOST: host,
        MCP_SERVER_PORT: '0'
      }
    })
    const gateway = await buildGateway(config)
    t.teardown(() => gateway.stop())
    const { url } = await listen(gateway, config)
    return { url, addresses: gateway.app.addresses() }
  }
  t.match(await listening('[::1]'), { url: /^http:\/\/\[::1\]:\d+$/ })
  const both = [
    { address: '127.0.0.1', family: 4 },
    { address: '::1', family: 6 }
  ]
  // Machines differ in what they make of the name.
  const { restore } = t.intercept(dns, 'lookup', {
    value: (_host: string, options: unknown, done?: (error: null, found: unknown) => void) =>
      done
        ? done(null, both)
        : (options as (error: null, ...one: unknown[]) => void)(null, '127.0.0.1', 4)
  })
  const { url, addresses } = await listening('localhost')
  restore()
  t.match(url, 'http://127.0.0.1:')
  t.equal(
    addresses.length,
    1,
    'no second server, which nobody would stop or give a new certificate'
  )
  // Reserved for documentation: no machine's own.
  await t.rejects(listening('192.0.2.1'), {
    message: /192\.0\.2\.1:0 \(EADDRNOTAVAIL\)\. Set MCP_SERVER_HOST to an address/
  })
  // As in a container whose name server does not answer.
  const unanswered = Object.assign(new Error('getaddrinfo EAI_AGAIN'), { code: 'EAI_AGAIN' })
  const nameless = t.intercept(dns, 'lookup', {
    value: (_host: string, options: unknown, done = options as (error: Error) => void) =>
      done(unanswered)
  })
  await t.rejects(listening('gateway.internal'), {
    message: /gateway\.internal:0 \(EAI_AGAIN\)\. Set MCP_SERVER_HOST to an address/
  })
  nameless.restore()
})

t.test('login is interrupted without a trace of a stack', async t => {
  const { url, drupal } = await startSite(t)
  const before = drupal.site.clients.length
  // SIGHUP: the terminal was closed, or the SSH connection ended.
  for (const signal of ['SIGINT', 'SIGHUP'] as const) {
    const child = start(t, ['login', url], { DRUPAL_MCP_HOME: t.testdir(), CI: '1' })
    await child.until('stdout', /good for 30 min/)
    child.process.kill(signal)
    t.equal(await child.exit, 3, signal)
    t.equal(child.stderr(), 'drupal-mcp-gateway login: Not signed in: interrupted.\n')
    t.equal(drupal.site.clients.length, before, 'no client is left at the site')
  }
})

t.test('two processes that refresh at once both stay signed in', async t => {
  const { url, drupal } = await startReal(t)
  const person = terminal(t, 'person', { BROWSER: 'true' })
  const running = person.run('login', url)
  const [, address = ''] = await person.sees(/browser at:\s+(http\S+)/)
  await useBrowser(address)
  t.equal((await running).code, 0)
  const vault = await openVault({ env: person.env })
  const [kept] = await vault.list()
  await vault.set({ ...kept!, obtainedAt: Date.now() - 280_000, expiresAt: Date.now() + 20_000 })
  const children = [1, 2].map(() => start(t, ['connect', url], { DRUPAL_MCP_HOME: person.home }))
  for (const { process } of children) process.stdin!.end(hello)
  for (const { exit, stdout, stderr } of children) {
    t.equal(await exit, 0, stderr())
    t.match(stdout(), /"protocolVersion"/)
    t.notMatch(stderr(), /sign in/i)
  }
  const http = openHttp()
  t.teardown(() => http.close())
  const token = await keptTokens({ vault, url, fetch: http.fetch }).current()
  t.not(token, kept!.accessToken, 'refreshed before it expired')
  const refreshes = drupal.requests.filter(({ body }) => body.includes('grant_type=refresh_token'))
  t.equal(refreshes.length, 1, 'by one of them, for both')
})

t.test('completion', async t => {
  const person = terminal(t, 'person')
  const scripts = new Map<string, string>()
  for (const shell of ['bash', 'zsh', 'fish']) {
    const child = start(t, ['completion', shell], {}, { path: builtProgram() })
    t.equal(await child.exit, 0, child.stderr())
    const stdout = child.stdout()
    for (const name of Object.keys(commands)) t.match(stdout, name)
    scripts.set(shell, stdout)
  }
  t.equal((await person.run('completion')).code, 2)
  t.match(await person.run('completion', 'tcsh'), { code: 2, stderr: /One of bash, zsh, fish/ })
  t.match(await person.run('completion', '--help'), { code: 0, stdout: /^Usage/ })
  const complete = (...words: string[]) => {
    const set = `COMP_WORDS=(${words.map(word => `'${word}'`).join(' ')}); COMP_CWORD=${words.length - 1}; _drupal_mcp_gateway; echo "\${COMPREPLY[@]}"`
    const shell = spawnSync('bash', ['-c', `${scripts.get('bash')}\n${set}`], { encoding: 'utf8' })
    return shell.stdout.trim()
  }
  t.equal(complete('drupal-mcp-gateway', 'log'), 'login logout')
  t.equal(complete('drupal-mcp-gateway', 'status', '--j'), '--json')
  t.equal(complete('drupal-mcp-gateway', 'unknown', '--'), '')
})

t.test('help, completion and manual name the same options', async t => {
  const manual = await readFile('docs/command-line.md', 'utf8')
  for (const [command, { options = [] }] of Object.entries(commands)) {
    const child = start(t, [command, '--help'], {}, { path: builtProgram() })
    t.equal(await child.exit, 0)
    t.equal(child.stderr(), '')
    const stdout = child.stdout()
    t.match(stdout, new RegExp(`^Usage: drupal-mcp-gateway ${command}`))
    t.match(stdout, new RegExp(`\\nExamples?:\\n.*drupal-mcp-gateway.* ${command}`))
    t.match(stdout, /\nExit codes: 0 /)
    const section = new RegExp(`\\n## ${command}\\n([^]*?)(\\n## |$)`).exec(manual)?.[1] ?? ''
    t.ok(section, `the manual has ${command}`)
    const inHelp = new Set(stdout.match(/--[a-z][a-z-]+/g))
    const known = [...options, '--help']
    for (const option of known.filter(one => one.startsWith('--'))) {
      t.ok(inHelp.has(option), `${command} --help names ${option}`)
      if (option !== '--help') t.match(section, option, `the manual names ${option} of ${command}`)
    }
    for (const option of inHelp)
      t.ok(known.includes(option), `${option} of ${command} is completed`)
  }
  for (const name of [
    'DRUPAL_MCP_URL',
    'DRUPAL_MCP_TOKEN',
    'DRUPAL_MCP_HOME',
    'DRUPAL_MCP_KEY',
    'DRUPAL_MCP_KEY_FILE',
    'DRUPAL_MCP_CLIENT_ID',
    'DRUPAL_MCP_CLIENT_SECRET',
    'DRUPAL_MCP_CLIENT_SECRET_FILE',
    'OAUTH_DEVICE_FLOW_ENABLED',
    'NO_COLOR',
    'BROWSER'
  ]) {
    t.match(manual, name)
  }
})

t.test('the manual’s commands are run as they stand', async t => {
  const manual = await readFile('docs/command-line.md', 'utf8')
  const { url, drupal } = await startReal(t)
  const home = join(t.testdir(), 'home')
  const person = terminal(t, 'manual', {
    DRUPAL_MCP_HOME: home,
    BROWSER: 'true',
    DRUPAL_MCP_CLIENT_SECRET: 'gateway-secret'
  })
  const blocks = [...manual.matchAll(/```sh (run|not-run)\n([^]*?)```/g)]
  t.ok(blocks.length >= 5)
  t.notMatch(manual, /```sh\n/, 'every block says whether it is run')
  for (const [, mode, block = ''] of blocks) {
    if (mode !== 'run') continue
    for (const line of block.trim().split('\n')) {
      const [, rest = '', expected = '0'] =
        /^drupal-mcp-gateway (.*?)(?:\s+# exit code (\d))?$/.exec(line) ?? []
      t.ok(rest, line)
      const args = [
        ...rest.replaceAll('https://mcp.example.org/mcp', url).matchAll(/"([^"]*)"|(\S+)/g)
      ].map(([, quoted, word]) => quoted ?? word ?? '')
      const running = person.run(...args)
      if (args[0] === 'login' && !args.includes('--client-credentials') && expected === '0') {
        const [, address = ''] = await person.sees(/browser at:\s+(http\S+)/)
        await useBrowser(address)
      }
      const { code, stderr } = await running
      t.equal(code, Number(expected), `${line} ${stderr}`)
    }
  }
  t.ok(drupal.requests.length > 0)
})
