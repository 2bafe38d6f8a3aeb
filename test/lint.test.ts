// The direction of imports is held by the linter: each violation is planted in a copy of the rules' own tree and must be found.
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import t from 'tap'

const planted: [file: string, line: string][] = [
  ['src/auth/x.ts', "import { createHealth } from '../http/health.ts'"],
  ['src/auth/x.ts', "import { readMessage } from '../mcp/message.ts'"],
  ['src/mcp/x.ts', "import { readBearer } from '../auth/bearer.ts'"],
  ['src/http/x.ts', "import { createDrupalPool } from '../drupal/pool.ts'"],
  ['src/drupal/x.ts', "import { admit } from '../http/admit.ts'"],
  ['src/policy/x.ts', "import { createMetrics } from '../telemetry/metrics.ts'"],
  ['src/policy/x.ts', "import { buildGateway } from '../app.ts'"],
  ['src/store/x.ts', "import { loadConfig } from '../config/load.ts'"],
  ['src/config/x.ts', "import { run } from '../cli/serve.ts'"],
  ['src/errors.ts', "import { loadConfig } from './config/load.ts'"],
  ['src/package.ts', "import { gatewayError } from './errors.ts'"],
  ['src/roster.ts', "import { gatewayError } from './errors.ts'"],
  ['src/end-of-turn.ts', "import { Roster } from './roster.ts'"],
  ['src/app.ts', "import { startDrupal } from './demo/double.ts'"],
  ['src/cli/serve.ts', "import { startDrupal } from '../demo/double.ts'"],
  ['src/demo/x.ts', "import { readMessage } from '../mcp/message.ts'"],
  ['src/auth/x.ts', "import fastify from 'fastify'"],
  ['src/mcp/x.ts', "import rateLimit from '@fastify/rate-limit'"],
  ['src/http/x.ts', "import { jwtVerify } from 'jose'"],
  ['src/http/x.ts', "import { Redis } from 'ioredis'"],
  ['src/auth/x.ts', "import { Client } from '@modelcontextprotocol/sdk/client/index.js'"],
  ['src/mcp/x.ts', "import { Client } from '@modelcontextprotocol/sdk/client/index.js'"],
  ['src/drupal/x.ts', "import { Registry } from 'prom-client'"],
  ['src/cli/x.ts', "import { jwtVerify } from 'jose'"],
  ['src/demo/x.ts', "import { SignJWT } from 'jose'"]
]
const allowed: [file: string, line: string][] = [
  ['src/http/x.ts', "import { readBearer } from '../auth/bearer.ts'"],
  ['src/auth/x.ts', "import { gatewayError } from '../errors.ts'"],
  ['src/auth/x.ts', "import { jwtVerify } from 'jose'"],
  ['src/cli/demo.ts', "import { startDrupal } from '../demo/double.ts'"],
  ['src/cli/x.ts', "import { loadConfig } from '../config/load.ts'"],
  ['src/demo/x.ts', "import { Client } from '@modelcontextprotocol/sdk/client/index.js'"]
]

t.test('an import against the direction fails the linter', async t => {
  // Not t.testdir: that lies under an ignored folder, which the linter would pass over.
  const folder = mkdtempSync(join(tmpdir(), 'lint-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  // Type-aware rules need a whole project; the direction needs none.
  const rules = JSON.parse(readFileSync('.oxlintrc.json', 'utf8'))
  writeFileSync(join(folder, '.oxlintrc.json'), JSON.stringify({ ...rules, options: {} }))
  const plant = (file: string, line: string, index: number) => {
    const name = /import (?:{ (\w+) }|(\w+))/.exec(line)
    const path = file.replace('/x.ts', `/x${index}.ts`)
    mkdirSync(join(folder, dirname(path)), { recursive: true })
    writeFileSync(join(folder, path), `${line}\nexport const used = ${name?.[1] ?? name?.[2]}\n`)
    return path
  }
  const all = [...planted, ...allowed]
  const paths = all.map(([file, line], index) => plant(file, line, index))
  // A clean environment: the loader of the tests has no business in the linter's process.
  const oxlint = [process.execPath, resolve('node_modules/oxlint/bin/oxlint'), '-f', 'json', '.']
  const { status, stdout, stderr } = spawnSync('env', ['-i', ...oxlint], {
    cwd: folder,
    encoding: 'utf8'
  })
  t.equal(status, 1, stderr)
  const { diagnostics } = JSON.parse(stdout) as {
    diagnostics: { code: string; filename: string }[]
  }
  for (const [index, [file, line]] of all.entries()) {
    const found = diagnostics.filter(({ filename }) => filename === paths[index])
    t.strictSame(
      found.map(({ code }) => code),
      index < planted.length ? ['eslint(no-restricted-imports)'] : [],
      `${file}: ${line}`
    )
  }
})
