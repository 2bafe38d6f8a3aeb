// The scripts and recipes of deploy/: linted, and run where that is possible without the platform.
import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { parse } from 'yaml'
import { loadConfig } from '../../src/config/load.ts'
import { serverOptions } from '../../src/http/server.ts'
import { rpc } from '../gateway/fixtures/mcp.ts'
import { startGateway } from '../gateway/fixtures/start.ts'
import { builtProgram } from '../fixtures/program.ts'
import { hasRoom, known } from './agreement.ts'
import { needs, root, tools } from './tools.ts'

const deploy = join(root, 'deploy')
const files = (readdirSync(deploy, { recursive: true }) as string[]).filter(file =>
  /\.\w+$/.test(file)
)
const text = (file: string) => readFileSync(join(deploy, file), 'utf8')

t.test('shellcheck finds nothing', needs(tools.shellcheck), async t => {
  const scripts = files.filter(file => file.endsWith('.sh'))
  t.ok(scripts.length > 0)
  for (const script of scripts) {
    const { status, stdout } = spawnSync('shellcheck', [join(deploy, script)], { encoding: 'utf8' })
    t.equal(status, 0, stdout || script)
  }
})

t.test('drupal/setup.sh', async t => {
  /** Runs it with a composer and a drush that only note what they are asked. */
  const run = (publicKey: string) => {
    const folder = t.testdir({ calls: '' })
    for (const name of ['composer', 'drush']) {
      const program = `#!/bin/sh\necho "${name} $*" >> ${folder}/calls\n[ "$2" != simple_oauth.settings ] || [ "$1" != config:get ] || echo "${publicKey}"\n`
      writeFileSync(join(folder, name), program)
      chmodSync(join(folder, name), 0o755)
    }
    execFileSync(join(deploy, 'drupal/setup.sh'), {
      env: { PATH: `${folder}:${process.env['PATH']}`, DRUSH: join(folder, 'drush') },
      stdio: 'pipe'
    })
    return readFileSync(join(folder, 'calls'), 'utf8')
  }
  const first = run('')
  const inOrder = [
    'composer require',
    'pm:install',
    'simple-oauth:generate-keys ../keys',
    'config:set -y simple_oauth.settings private_key ../keys/private.key',
    'config:set -y simple_oauth_server_metadata.settings registration_endpoint',
    'config:set -y simple_oauth_native_apps.settings webview.detection warn',
    'php:script scopes',
    'cache:rebuild',
    'router.builder'
  ].map(call => first.indexOf(call))
  t.ok(
    inOrder.every(place => place >= 0),
    'every step is taken'
  )
  t.strictSame(
    inOrder,
    [...inOrder].sort((a, b) => a - b),
    'in this order'
  )
  t.notMatch(run('../keys/public.key'), 'generate-keys', 'keys that are there stay')

  const rules = JSON.parse(text('drupal/scopes.json')) as {
    scopes: Record<string, { role: string; permissions: string[] }>
  }
  for (const [name, { role, permissions }] of Object.entries(rules.scopes)) {
    t.ok(permissions.includes('access mcp tool discovery'), `${name} can list tools`)
    t.match(role, /^[a-z0-9_]+$/)
  }
})

t.test('the systemd unit', needs(tools.systemdAnalyze), async t => {
  const unit = join(deploy, 'hosting/plain-vps/drupal-mcp-gateway.service')
  const verified = spawnSync('systemd-analyze', ['verify', unit], { encoding: 'utf8' })
  // Whether node is at /usr/bin is this machine's affair.
  const complaints = verified.stderr
    .split('\n')
    .filter(
      line =>
        line.includes('drupal-mcp-gateway') && !/node.*(not executable|No such file)/.test(line)
    )
  t.strictSame(complaints, [])
  const security = spawnSync(
    'systemd-analyze',
    ['security', '--offline=true', '--threshold=20', unit],
    { encoding: 'utf8' }
  )
  t.equal(security.status, 0, security.stdout.split('\n').slice(-3).join(' '))
  const stop = Number(/^TimeoutStopSec=(\d+)$/m.exec(readFileSync(unit, 'utf8'))?.[1])
  const env = Object.fromEntries(
    [...text('hosting/plain-vps/gateway.env').matchAll(/^([A-Z_]+)=(.*)$/gm)].map(
      ([, name, value]) => [name, value]
    )
  ) as Record<string, string>
  const config = loadConfig({
    env: { ...env, NODE_ENV: 'production', SESSION_SECRET: 'kJ8s0dPq2mXv7ZtR4wYb6NcE1hGf3LuA' }
  })
  t.ok(stop > config.server.shutdownTimeoutSeconds + config.server.readinessDelaySeconds)
  t.match([config.server.adminHost, config.server.adminPort], ['127.0.0.1', 9464], 'runbooks')
  t.match(readFileSync(unit, 'utf8'), /^Environment=SESSION_SECRET_FILE=%d\/session-secret$/m)
})

t.test('the systemd unit: all is started anew but what that does not mend', async t => {
  const { status } = spawnSync(process.execPath, [builtProgram(), 'serve'], {
    env: { SESSION_SECRET_FILE: 'missing' }
  })
  const unit = text('hosting/plain-vps/drupal-mcp-gateway.service')
  t.match(unit, /^Restart=always$/m)
  t.equal(/^RestartPreventExitStatus=(.*)$/m.exec(unit)?.[1], String(status))
})

t.test('the systemd unit has memory for what its options allow', async t => {
  const lines = text('hosting/plain-vps/gateway.env').matchAll(/^([A-Z_]+)=(.*)$/gm)
  const config = loadConfig({ env: Object.fromEntries([...lines].map(([, ...pair]) => pair)) })
  const unit = text('hosting/plain-vps/drupal-mcp-gateway.service')
  t.ok(hasRoom(config, /^MemoryMax=(\d+M)$/m.exec(unit)?.[1] ?? ''))
})

t.test('the systemd unit lets the journal keep every audit line', async t => {
  const unit = text('hosting/plain-vps/drupal-mcp-gateway.service')
  // 0 would be the journal's own limit.
  t.equal(/^LogRateLimitIntervalSec=(.*)$/m.exec(unit)?.[1], '1s')
  t.ok(Number(/^LogRateLimitBurst=(\d+)$/m.exec(unit)?.[1]) >= 100_000)
})

t.test('the systemd unit allows what V8 calls', needs(tools.systemdAnalyze), async t => {
  const sets = execFileSync('systemd-analyze', ['syscall-filter', '--no-pager'], {
    encoding: 'utf8'
  }).split(/^(?=@)/m)
  const lines = new Map(
    sets.map(set => {
      const [name = '', ...members] = set.split('\n').map(line => line.trim())
      return [name, members.filter(line => /^@?\w/.test(line))]
    })
  )
  const calls = (name: string): string[] =>
    name.startsWith('@') ? (lines.get(name) ?? []).flatMap(calls) : [name]
  const allowed = new Set<string>()
  const unit = text('hosting/plain-vps/drupal-mcp-gateway.service')
  for (const [, without, names = ''] of unit.matchAll(/^SystemCallFilter=(~?)(.*)$/gm))
    for (const call of names.split(' ').flatMap(calls))
      if (without) allowed.delete(call)
      else allowed.add(call)
  t.ok(allowed.has('mprotect'), 'the sets were read')
  t.notOk(allowed.has('chroot'), 'the sets were read')
  // Node 20 makes these at start; a call outside the filter kills it.
  for (const call of ['pkey_alloc', 'pkey_mprotect', 'pkey_free']) t.ok(allowed.has(call), call)
})

t.test('the systemd unit allows what listening on 0.0.0.0 calls', async t => {
  const unit = text('hosting/plain-vps/drupal-mcp-gateway.service')
  const families = /^RestrictAddressFamilies=(.*)$/m.exec(unit)?.[1]?.split(' ') ?? []
  t.strictSame(families.sort(), ['AF_INET', 'AF_INET6', 'AF_NETLINK', 'AF_UNIX'])
})

t.test('every option that a recipe sets is one', async t => {
  const others = /^(NODE_EXTRA_CA_CERTS|VIRTUAL_HOST|HTTPS?_EXPOSE|DDEV_\w+)$/
  let seen = 0
  const judge = (file: string, name: string) => {
    seen++
    t.ok(known.has(name) || others.test(name), `${file}: ${name}`)
  }
  for (const file of files.filter(each => each.startsWith('hosting/'))) {
    // NAME=value and NAME: value at the beginning of a line, commented out or not.
    for (const [, name] of text(file).matchAll(
      /^[ #-]*(?:Environment=)?([A-Z][A-Z]+_[A-Z_]+)[=:]/gm
    ))
      judge(file, name as string)
    if (file.endsWith('.yaml')) t.type(parse(text(file)), 'object')
  }
  const page = readFileSync(join(root, 'docs/deployment.md'), 'utf8')
  for (const [, name] of `${page}${text('hosting/README.md')}${text('drupal/README.md')}`.matchAll(
    /`([A-Z]+_[A-Z_]+)(?:=\S*)?`/g
  ))
    if (name !== 'NODE_DIGEST') judge('docs', name as string)
  t.ok(seen > 50)
})

t.test('every recipe says which scopes to name', async t => {
  const { scopes } = JSON.parse(text('drupal/scopes.json')) as { scopes: object }
  const recipes = files.filter(file => /^ *DRUPAL_URL[=:]/m.test(text(file)))
  t.equal(recipes.length, 7)
  for (const file of recipes) {
    t.match(text(file), 'Every scope that a token may carry alone', file)
    const [, named = ''] = /(?:OAUTH_SCOPES[=:] ?|Such as )(\w[\w:,]+)/.exec(text(file)) ?? []
    t.strictSame(named.split(','), Object.keys(scopes), file)
  }
  t.match(
    readFileSync(join(root, 'docs/runbooks.md'), 'utf8'),
    /^`no-scope`: .*\n.*`OAUTH_SCOPES` every scope that a token may carry alone/m
  )
})

t.test('on Upsun callers have an address each', async t => {
  const { applications } = parse(text('hosting/upsun.yaml'))
  const given = applications['mcp-gateway'].variables.env as Record<string, string>
  // Where it listens there only this machine connects, and so the router in front.
  t.equal(loadConfig({ env: { ...given, NODE_ENV: 'test' } }).server.host, '127.0.0.1')
  const env = { TRUSTED_PROXIES: given['TRUSTED_PROXIES'] as string }
  const { post, audited } = await startGateway(t, { env })
  await post(rpc('ping'), { 'x-forwarded-for': '203.0.113.7, 10.0.0.5' })
  t.match(JSON.parse(audited.at(-1) ?? ''), { address: '203.0.113.7' })
})

t.test('the numbers that the pages name are those of the program', async t => {
  const config = loadConfig({ env: { DRUPAL_URL: 'https://www.example.org' } })
  const page = text('hosting/README.md')
  t.match(page, `every ${config.streams.heartbeatSeconds} (\`STREAM_HEARTBEAT\`)`)
  const longest = config.drupal.queueTimeoutSeconds + config.drupal.callTimeoutSeconds
  t.match(page, `longer than ${longest} seconds`)
  const { keepAliveTimeout = 0 } = serverOptions(config)
  t.match(page, `before the gateway does, after ${keepAliveTimeout / 1000} seconds`)
  for (const file of ['nginx.conf', 'haproxy.cfg'])
    t.match(text(`proxies/${file}`), `the gateway's own ${keepAliveTimeout / 1000} seconds`)
  t.match(readFileSync(join(root, 'package.json'), 'utf8'), '>=20.19')
  t.match(page, 'Node 20.19 or newer')
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  for (const text of [page, readFileSync(join(root, 'docs/deployment.md'), 'utf8')])
    t.match(text, new RegExp(`drupal-mcp-gateway[-:]${version}`))
  t.match(page, /^umask 022 .*\nsudo npm install /m)
})
