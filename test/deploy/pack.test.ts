// The package as it is published: what is in it, what comes with it under which licence, and that it runs from an empty folder.
import { execFileSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { root } from './tools.ts'

t.setTimeout(300_000)

/** Licences that a product under MIT may carry along without asking anybody. */
const ALLOWED = new Set([
  'MIT',
  'ISC',
  'BSD-2-Clause',
  'BSD-3-Clause',
  'Apache-2.0',
  '0BSD',
  'BlueOak-1.0.0',
  'Python-2.0',
  'CC0-1.0'
])

interface Locked {
  version: string
  license?: string
  integrity?: string
  dev?: boolean
  hasInstallScript?: boolean
}
const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
  packages: Record<string, Locked>
}
const production = Object.entries(lock.packages).filter(
  ([path, { dev }]) => path !== '' && dev !== true
)

/** Whether an SPDX expression can be satisfied from the list: one of its ORs, all of its ANDs. */
function allowed(expression: string): boolean {
  return expression
    .replace(/[()]/g, '')
    .split(' OR ')
    .some(part => part.split(' AND ').every(each => ALLOWED.has(each)))
}

t.test('the dependencies of production', async t => {
  t.ok(production.length > 50)
  t.ok(allowed('(MIT OR GPL-3.0)') && !allowed('GPL-3.0-only') && !allowed('MIT AND AGPL-3.0'))
  for (const [path, { license, integrity, hasInstallScript }] of production) {
    if (!allowed(license ?? '')) t.fail(`${path}: licence ${license} is not in the list`)
    if (!integrity?.startsWith('sha512-')) t.fail(`${path}: no integrity in the lock`)
    if (hasInstallScript) t.fail(`${path}: wants to run a script at install time`)
    // What is installed says the same as the lock.
    const manifest = join(root, path, 'package.json')
    if (!existsSync(manifest)) continue
    const installed = JSON.parse(readFileSync(manifest, 'utf8')) as Locked
    if (installed.license !== license)
      t.fail(`${path}: its own manifest says ${String(installed.license)}`)
  }
  t.match(readFileSync(join(root, '.npmrc'), 'utf8'), 'ignore-scripts=true')
  t.comment(
    `${production.length} packages: ${[...new Set(production.map(([, each]) => each.license))].join(', ')}`
  )
})

/** Runs a command without what tap puts into the environment of every Node; answers its output. */
function run(folder: string, command: string, ...args: string[]): string {
  return execFileSync('env', ['-u', 'NODE_OPTIONS', command, ...args], {
    cwd: folder,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 64 * 1_048_576
  })
}

t.test('packed, installed in an empty folder, it runs', async t => {
  // Not t.testdir: it would be below the project, whose node_modules must not be found from there.
  const folder = mkdtempSync(join(tmpdir(), 'pack-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const [source, empty] = [join(folder, 'source'), join(folder, 'empty')]
  for (const each of [source, empty]) mkdirSync(each)
  // Compiled aside: tests that run at the same time may be reading build/.
  run(root, join(root, 'node_modules/.bin/tsc'), '--outDir', join(source, 'build'))
  for (const name of ['package.json', 'LICENSE', 'README.md', 'config'])
    if (existsSync(join(root, name)))
      cpSync(join(root, name), join(source, name), { recursive: true })
  writeFileSync(join(source, '.env'), 'SESSION_SECRET=must-never-be-published')

  const [packed] = JSON.parse(run(source, 'npm', 'pack', '--json')) as {
    filename: string
    size: number
    files: { path: string; mode: number }[]
  }[]
  await t.test('it holds what "files" names', async t => {
    const paths = packed?.files.map(({ path }) => path) ?? []
    const strange = paths.filter(
      path =>
        !/^(build\/src\/.*\.(js|js\.map)|config\/[\w.]+|package\.json|LICENSE|README\.md)$/.test(
          path
        )
    )
    t.strictSame(strange, [])
    for (const path of [
      'build/src/cli/main.js',
      'config/gateway.example.yaml',
      'config/demo.yaml',
      'LICENSE'
    ])
      t.ok(paths.includes(path), path)
    t.comment(`${paths.length} files, ${Math.round((packed?.size ?? 0) / 1024)} KiB packed`)
    t.ok((packed?.size ?? 0) < 1_048_576, 'less than 1 MiB')
  })

  writeFileSync(join(empty, 'package.json'), '{"name":"empty","version":"1.0.0","private":true}')
  run(
    empty,
    'npm',
    'install',
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
    join(source, packed?.filename ?? '')
  )
  const bin = join(empty, 'node_modules/.bin/drupal-mcp-gateway')

  await t.test('its command is there and can be run', async t => {
    t.ok(statSync(bin).mode & 0o111)
    t.match(run(empty, bin, '--version'), /^\d+\.\d+\.\d+\n$/)
    t.notOk(
      readdirSync(join(empty, 'node_modules')).includes('tap'),
      'no development package came along'
    )
  })
  await t.test('drupal-mcp-gateway demo --once', async t => {
    const output = run(empty, bin, 'demo', '--once', '--gateway-port', '0', '--drupal-port', '0')
    t.match(output, 'Every step went well.')
  })
  await t.test('npm sbom lists what is installed, with licences', async t => {
    const sbom = JSON.parse(
      run(empty, 'npm', 'sbom', '--omit', 'dev', '--sbom-format', 'cyclonedx')
    ) as {
      bomFormat: string
      components: { name: string; licenses?: { license?: { id: string }; expression?: string }[] }[]
    }
    t.equal(sbom.bomFormat, 'CycloneDX')
    const names = sbom.components.map(({ name }) => name)
    for (const name of ['drupal-mcp-gateway', 'fastify', 'jose', 'ioredis'])
      t.ok(names.includes(name), name)
    for (const { name, licenses } of sbom.components) {
      const said = licenses?.[0]?.license?.id ?? licenses?.[0]?.expression ?? 'none'
      if (!allowed(said)) t.fail(`${name}: licence ${said}`)
    }
  })
})
