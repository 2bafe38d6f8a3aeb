// Do the pages in docs/ say what is there? Links, anchors, files, cited tests, names of variables, codes and metrics, and the
// commands: each block is run, or says that it is not.
import { execFile } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { parse } from 'yaml'
import { freePort } from './fixtures/ports.ts'
import { buildGateway } from '../src/app.ts'
import { run as doctor } from '../src/cli/doctor.ts'
import { main } from '../src/cli/main.ts'
import { loadConfig } from '../src/config/load.ts'
import { options } from '../src/config/options.ts'
import { startDrupal } from '../src/demo/double.ts'
import { errorTable } from '../src/errors.ts'
import { clients, connectConfiguration, loginCommand } from '../src/http/landing/clients.ts'
import { createLogger } from '../src/telemetry/log.ts'

const read = (path: string) => readFileSync(path, 'utf8')
const pages = readdirSync('docs').filter(name => name.endsWith('.md'))
/** Pages whose blocks are held here; the others have tests of their own. */
const ours = [
  'architecture.md',
  'behaviour.md',
  'clients.md',
  'deployment.md',
  'drupal-wire.md',
  'runbooks.md',
  'security.md',
  'stored-keys.md',
  'threat-model.md'
]
const prose = (text: string) => text.replace(/```[^]*?```/g, '')
const oneLine = (text: string) => text.replace(/\s+/g, ' ')

/** The anchors that GitHub gives to the headings of a page. */
function anchors(text: string): string[] {
  return [...prose(text).matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-')
  )
}

/** Why a link from a page leads nowhere; undefined when it does. */
function broken(page: string, link: string): string | undefined {
  if (/^https?:/.test(link)) return undefined
  const [path = '', anchor] = link.split('#')
  const target = path === '' ? page : join(dirname(page), path)
  if (!existsSync(target)) return `${page}: ${link}: no such file`
  if (anchor !== undefined && !anchors(read(target)).includes(anchor)) {
    return `${page}: ${link}: no such heading`
  }
  return undefined
}

t.test('every internal link leads to a file and a heading', async t => {
  t.match(broken('docs/behaviour.md', 'nowhere.md'), /no such file/)
  t.match(broken('docs/behaviour.md', 'runbooks.md#nowhere'), /no such heading/)
  for (const page of ['README.md', ...pages.map(name => `docs/${name}`)]) {
    const links = [...prose(read(page)).matchAll(/\]\(([^)\s]+)\)/g)]
    t.strictSame(links.map(([, link = '']) => broken(page, link)).filter(Boolean), [], page)
  }
})

t.test('every alarm leads to a runbook that names it', async t => {
  const runbooks = read('docs/runbooks.md')
  const { groups } = parse(read('deploy/prometheus/alerts.yaml')) as {
    groups: { rules: { alert: string; annotations: { runbook: string } }[] }[]
  }
  const rules = groups.flatMap(group => group.rules)
  t.ok(rules.length >= 10)
  for (const { alert, annotations } of rules) {
    const [path, anchor = ''] = annotations.runbook.split('#')
    t.equal(path, 'docs/runbooks.md', alert)
    t.ok(anchors(runbooks).includes(anchor), annotations.runbook)
    const section = runbooks
      .split(/^## /m)
      .find(part => anchors(`## ${part.split('\n')[0]}`)[0] === anchor)
    t.ok(section?.includes(`\`${alert}\``), alert)
  }
  for (const section of runbooks.split(/^## /m).slice(1)) {
    for (const step of ['Symptom', 'Look', 'Do', 'Verify']) {
      t.ok(section.includes(`**${step}.**`), `${step}: ${section.slice(0, 40)}`)
    }
  }
})

/** The tests that a text cites: after the name of a file one or more of its tests. */
function citations(text: string): { file: string; name: string }[] {
  const cited = text.matchAll(/`(test\/[^`]+\.ts)`((?:(?:,| and)? “[^”]+”)+)/g)
  return [...cited].flatMap(([, file = '', names = '']) =>
    [...names.matchAll(/“([^”]+)”/g)].map(([, name = '']) => ({ file, name }))
  )
}

t.test('every test that is cited is there', async t => {
  const several = citations('`test/a.test.ts` “one”, “two” and “three”, `test/b.test.ts` “four”')
  t.strictSame(
    several.map(({ name }) => name),
    ['one', 'two', 'three', 'four']
  )
  let cited = 0
  for (const page of ours) {
    for (const { file, name } of citations(oneLine(prose(read(`docs/${page}`))))) {
      cited++
      const source = existsSync(file) ? oneLine(read(file)) : ''
      t.ok(source.includes(name), `${page}: ${file} “${name}”`)
    }
  }
  t.ok(cited > 70, 'they were found')
})

t.test('every reference in a comment of the source leads somewhere', async t => {
  const wire = read('docs/drupal-wire.md')
  const rows = read('test/conformance/README.md')
  const files = readdirSync('src', { recursive: true, encoding: 'utf8' })
  const leadsNowhere = files
    .filter(name => name.endsWith('.ts'))
    .flatMap(name => {
      const text = oneLine(read(`src/${name}`).replaceAll(/^ *(?:\/\/|\*) ?/gm, ''))
      const sections = [...text.matchAll(/wire ((?:(?:, | and )?§[\d.]*\d)+)/g)].flatMap(
        ([, list = '']) => list.match(/[\d.]*\d/g) ?? []
      )
      const requirements = text.match(/\bR\d{1,3}\b/g) ?? []
      const headings = [...text.matchAll(/docs\/([\w-]+\.md) “([^”]+)”/g)]
      return [
        ...sections.filter(number => !new RegExp(`^###? ${number}\\.? `, 'm').test(wire)),
        ...requirements.filter(id => !rows.includes(`| ${id} `)),
        ...headings.flatMap(([all, page, heading]) =>
          read(`docs/${page}`).includes(`\n## ${heading}\n`) ? [] : [all]
        ),
        // Of papers that are not here.
        ...(text.match(/(?:architecture|requirements) §\d*|§A\d+/g) ?? [])
      ].map(reference => `src/${name}: ${reference}`)
    })
  t.strictSame(leadsNowhere, [])
})

t.test('every file that is named is there', async t => {
  for (const page of ours) {
    const named = [
      ...prose(read(`docs/${page}`)).matchAll(/`((?:src|test|deploy|config|docs)\/[^`*<]+)`/g)
    ].map(([, path = '']) => path)
    t.strictSame(
      named.filter(path => !existsSync(path)),
      [],
      page
    )
  }
})

t.test('every variable and error code that is named exists', async t => {
  const known = new Set<string>(Object.keys(errorTable))
  for (const [, name = ''] of read('Dockerfile').matchAll(/^ARG (\w+)/gm)) known.add(name)
  for (const { schema } of options) {
    if (schema.env === undefined) continue
    known.add(schema.env)
    if (schema.secret) known.add(`${schema.env}_FILE`)
  }
  for (const page of ours) {
    const code = [...read(`docs/${page}`).matchAll(/`[^`\n]+`/g)].map(([span]) => span).join(' ')
    const named = [...code.matchAll(/\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b/g)].map(([name]) => name)
    t.strictSame(
      named.filter(name => !known.has(name)),
      [],
      page
    )
  }
})

t.test('docs/clients.md and the page for people say the same', async t => {
  const page = read('docs/clients.md')
  const site = { resource: 'https://mcp.example.org/mcp', siteName: 'Example', isPublic: true }
  for (const { name, snippets } of clients(site)) {
    t.match(page, new RegExp(`^## ${name}`, 'm'))
    for (const { text } of snippets) t.ok(page.includes(text), `${name}: ${text}`)
  }
  t.ok(page.includes(loginCommand(site.resource)))
  t.ok(page.includes(connectConfiguration(site)))
})

/** Runs a command line of ours in this process: loading the sources anew costs many seconds. */
async function program(t: Test, args: string[], env: Record<string, string>) {
  const [name, ...rest] = args
  if (name === 'doctor') {
    let stdout = ''
    const out = { write: (text: string) => (stdout += text) }
    return { code: await doctor(rest, { env, stdout: out }), stdout }
  }
  const kept = process.env
  process.env = { ...kept, ...env }
  const written = t.capture(process.stdout, 'write', () => true)
  try {
    const code = await main(args)
    return {
      code,
      stdout: written()
        .map(({ args: [text] }) => String(text))
        .join('')
    }
  } finally {
    written.restore()
    process.env = kept
  }
}

async function shell(command: string, cwd: string) {
  const run = promisify(execFile)('sh', ['-c', command], { cwd })
  return run.then(
    ({ stdout }) => ({ stdout, code: 0 }),
    ({ stdout, code }: { stdout: string; code: number }) => ({ stdout, code })
  )
}

const curlMissing =
  process.env['CI'] === 'true' ||
  (process.env['PATH'] ?? '').split(':').some(folder => existsSync(join(folder, 'curl')))
    ? false
    : 'curl is not installed (Debian: apt-get install curl)'

t.test(
  'every command is run as it stands, or says that it is not',
  { skip: curlMissing },
  async t => {
    const drupal = await startDrupal()
    t.teardown(() => drupal.close())
    const ports = [await freePort('localhost'), await freePort('localhost')] as const
    const publicUrl = `http://localhost:${ports[0]}`
    const env = {
      DRUPAL_URL: drupal.url,
      GATEWAY_PUBLIC_URL: publicUrl,
      MCP_SERVER_PORT: String(ports[0]),
      ADMIN_PORT: String(ports[1]),
      OAUTH_SCOPES: 'read:tutorials',
      SESSION_SECRET: 'a-test-secret-of-enough-characters-0123456789'
    }
    const lines: string[] = []
    const destination = { write: (line: string) => lines.push(line) }
    const gateway = await buildGateway(loadConfig({ env }), {
      logger: createLogger({ level: 'info', destination }),
      audit: line => lines.push(line)
    })
    t.teardown(() => gateway.stop())
    await gateway.app.listen({ host: 'localhost', port: ports[0] })
    await gateway.admin?.listen({ host: '127.0.0.1', port: ports[1] })

    // What the commands look for: a call that works, and tokens that are refused.
    const post = (token: string, session: Record<string, string>, body: object) =>
      fetch(`${publicUrl}/mcp`, {
        method: 'POST',
        headers: {
          authorization: `Bearer ${token}`,
          'content-type': 'application/json',
          ...session
        },
        body: JSON.stringify({ jsonrpc: '2.0', id: 1, ...body })
      })
    const { token } = drupal.mint()
    const opened = await post(
      token,
      {},
      {
        method: 'initialize',
        params: {
          protocolVersion: '2025-11-25',
          capabilities: {},
          clientInfo: { name: 't', version: '1' }
        }
      }
    )
    const session = { 'mcp-session-id': opened.headers.get('mcp-session-id') ?? '' }
    const call = { method: 'tools/call', params: { name: 'site.info', arguments: {} } }
    t.equal((await post(token, session, call)).status, 200)
    t.equal((await post(drupal.mint({ expiresIn: -60 }).token, session, call)).status, 401)

    const folder = t.testdir({ 'gateway.log': lines.join('') })

    const metrics = await (await fetch(`http://127.0.0.1:${ports[1]}/metrics`)).text()
    const ran = new Set<string>()
    for (const page of ours) {
      const text = read(`docs/${page}`)
      for (const [metric] of text.matchAll(/mcp_gateway_\w+/g))
        t.ok(metrics.includes(metric), metric)
      for (const [, before = '', kind = '', block = ''] of text.matchAll(
        /([^\n]*)\n\n```(\w* ?[\w-]*)\n([^]*?)```/g
      )) {
        if (['json', 'mermaid', 'text'].includes(kind)) continue
        if (kind === 'sh not-run') {
          t.match(
            oneLine(text.slice(0, text.indexOf(block))).slice(-400),
            'not run by a test',
            block
          )
          continue
        }
        t.equal(kind, 'sh run', `${page}: ${before}`)
        const commands = block.replaceAll('\\\n', ' ').trim().split('\n')
        for (const command of commands) {
          if (ran.has(command)) continue
          ran.add(command)
          const here = command
            .replaceAll('https://mcp.example.org', publicUrl)
            .replaceAll('http://127.0.0.1:9464', `http://127.0.0.1:${ports[1]}`)
          const { stdout, code } = here.startsWith('drupal-mcp-gateway ')
            ? await program(t, here.split(' ').slice(1), env)
            : await shell(here, folder)
          // The double repeats a foreign Host, as a Drupal without trusted hosts does: the doctor says so.
          const failed = [...stdout.matchAll(/^failed +(.*?) {2,}/gm)].map(([, check]) => check)
          t.strictSame(
            failed,
            command.includes(' doctor ') ? ['Foreign Host at the site'] : [],
            stdout
          )
          t.equal(code, failed.length === 0 ? 0 : 1, `${page}: ${command}`)
          t.not(stdout.trim(), '', `${page}: ${command}`)
        }
      }
    }
    t.ok(ran.size > 15)
  }
)
