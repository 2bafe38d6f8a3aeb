import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import { type AddressInfo, createServer } from 'node:net'
import t from 'tap'
import { openVault } from '../../src/cli/credentials-vault.ts'
import { main } from '../../src/cli/main.ts'
import { run } from '../../src/cli/doctor.ts'
import { createAsk, objectOf } from '../../src/cli/doctor/ask.ts'
import { allChecks } from '../../src/cli/doctor/checks.ts'
import { judgeAddresses } from '../../src/cli/doctor/connection.ts'
import { metadataUrls } from '../../src/cli/doctor/resource.ts'
import { runChecks } from '../../src/cli/doctor/run-checks.ts'
import { cacheEvidence } from '../../src/cli/doctor/site.ts'
import { startDrupal } from '../../src/demo/double.ts'
import { startGateway } from '../gateway/fixtures/start.ts'
import { createAuthority } from './fixtures/certificate.ts'
import { startChain, startFront } from './fixtures/chain.ts'
import { checkTable } from './fixtures/check-table.ts'
import { rewrite } from './fixtures/spoil.ts'

t.test('names and TLS', async t => {
  const chain = await startChain(t)
  const { authority, gatewayFront } = chain
  const { server } = gatewayFront
  const tls = async (ca?: string) =>
    (await chain.diagnose({ args: ['--only', 'tls'], ...(ca !== undefined && { ca }) })).of('tls')

  t.match(judgeAddresses('https://mcp.example/', ['8.8.8.8', '2001:4860::1']), { status: 'ok' })
  t.match(judgeAddresses('https://mcp.example/', ['8.8.8.8', 'fc00::1']), {
    status: 'warning',
    seen: /not reachable from the Internet/
  })
  t.match(judgeAddresses('https://localhost/', ['::1']), { status: 'ok' })
  const lost = await chain.diagnose({ url: 'https://doctor-probe.invalid/mcp' })
  t.match(lost.of('dns'), { status: 'failed', seen: /not known/, advice: /DNS record/ })
  t.match(lost.of('endpoint'), { status: 'skipped', seen: 'rests on "tls", which was skipped' })

  server.setSecureContext(authority.issue(['localhost'], 5))
  t.match(await tls(), { status: 'warning', seen: /valid for [45] more days/, advice: /Renew/ })
  server.setSecureContext(authority.issue(['localhost'], -1))
  t.match(await tls(), { status: 'failed', seen: /CERT_HAS_EXPIRED/, advice: /Renew/ })
  server.setSecureContext(authority.issue(['other.example']))
  t.match(await tls(), { status: 'failed', seen: /ALTNAME_INVALID/, advice: /names this host/ })
  server.setSecureContext(authority.issue(['localhost']))
  const stranger = createAuthority('Another authority').cert
  t.match(await tls(stranger), { status: 'failed', seen: /VERIFY_LEAF/, advice: /whole chain/ })
  server.setSecureContext({ key: authority.key, cert: authority.cert })
  t.match(await tls(stranger), { status: 'failed', advice: /of a public authority/ })

  const silent = createServer().listen(0, '127.0.0.1')
  await once(silent, 'listening')
  const at = `127.0.0.1:${(silent.address() as AddressInfo).port}`
  const slow = { args: ['--timeout', '0.2'] }
  const noHandshake = await chain.diagnose({ url: `https://${at}/mcp`, ...slow })
  t.match(noHandshake.of('tls'), { status: 'failed', seen: /no answer in time/ })
  const noAnswer = await chain.diagnose({ url: `http://${at}/mcp`, ...slow })
  t.match(noAnswer.of('tls'), { status: 'ok', seen: /plain http.*on this machine/ })
  t.match(noAnswer.of('endpoint'), { status: 'failed', seen: /no answer in time/, advice: /serve/ })
  silent.close()
  const plainPort = createHttpServer().listen(0, '127.0.0.1')
  await once(plainPort, 'listening')
  t.teardown(() => plainPort.close())
  const { port } = plainPort.address() as AddressInfo
  const plain = await chain.diagnose({ url: `https://127.0.0.1:${port}/mcp` })
  t.match(plain.of('tls'), {
    status: 'failed',
    seen: /this port does not speak TLS, but plain http/,
    advice: /http:\/\//
  })
  const noTls = await chain.diagnose({ url: 'https://127.0.0.1/mcp', args: ['--only', 'tls'] })
  t.match(noTls.of('tls'), { status: 'failed' }, 'port 443 when none is named')
  const gone = await chain.diagnose({ url: `https://${at}/` })
  t.match(gone.of('tls'), {
    status: 'failed',
    seen: /nothing listens there/,
    advice: /open its port/
  })
})

t.test('a development machine: plain http, and an issuer that Drupal invents', async t => {
  const front = await startFront(t, undefined, 'localhost')
  const drupal = await startDrupal({ trustedHosts: ['127.0.0.1'] })
  const { origin, token } = await startGateway(t, {
    drupal,
    env: { GATEWAY_PUBLIC_URL: front.origin }
  })
  front.target = origin
  let text = ''
  const stdout = { write: (part: string) => (text += part) }
  const env = { DRUPAL_MCP_TOKEN: `Bearer ${token()}` }
  const code = await run([`${front.origin}/mcp`], { env, stdout })
  t.equal(code, 0, text)
  t.match(text, /^warning +Authorization server metadata .*the gateway’s copy answers\n +→ /m)
  t.match(text, /^ok +Signed in: tools\/call/m)
  t.match(text, /^ok +Listed tools have a route +8 routes/m)
  front.spoil = rewrite(/oauth-authorization-server/, { token_endpoint: undefined })
  text = ''
  await run([`${front.origin}/mcp`, '--only', 'as-grants'], {
    env: { DRUPAL_MCP_HOME: '/none' },
    stdout
  })
  t.match(text, /^failed +Grants and endpoints +token_endpoint is nothing/m, 'of the copy')
  front.spoil = answer => answer
  text = ''
  const signedIn = { DRUPAL_MCP_HOME: t.testdir(), DRUPAL_MCP_KEY: 'k'.repeat(64) }
  const vault = await openVault({ env: signedIn })
  await vault.set({
    issuer: drupal.issuer,
    resource: `${front.origin}/mcp`,
    clientId: 'public',
    grant: 'device_code',
    tokenEndpoint: `${drupal.url}/oauth/token`,
    accessToken: token(),
    expiresAt: Date.now() + 300_000,
    signedInAt: Date.now(),
    askedScopes: []
  })
  await run([`${front.origin}/mcp`], { env: signedIn, stdout })
  t.match(text, /^ok +A token to sign in with +from the kept sign-in/m)
  const summary = text
  const tokenLine = async (env: Record<string, string>) => {
    text = ''
    await run([`${front.origin}/mcp`, '--only', 'token'], { env, stdout })
    return text
  }
  t.match(
    await tokenLine({ ...signedIn, DRUPAL_MCP_KEY: 'other'.repeat(20) }),
    /^failed +A token to sign in with +\S+ cannot be opened with .*\.\n +→ Bring back the key that sealed it, or delete/m
  )
  t.match(
    await tokenLine({ ...signedIn, DRUPAL_MCP_KEY: 'short' }),
    /has 5 characters; it needs 32 or more\.\n +→ Make one with: openssl/
  )
  text = ''
  await run([`${front.origin}/mcp`, '--only', 'token'], { env: { HOME: '' }, stdout })
  t.match(text, /^skipped +A token to sign in with/m, 'a container without a home keeps nothing')
  t.match(summary, /^\d+ ok, \d warnings, 0 failed, \d skipped\n$/m)
})

t.test('a question is bounded, and finds Drupal at its internal address', async t => {
  const seen: string[] = []
  const server = createHttpServer((request, response) => {
    seen.push(`${request.headers.host} ${request.url}`)
    if (request.url === '/huge') response.end(Buffer.alloc(2_000_000, 'x'))
    else if (request.url === '/slow') response.write('some')
    else if (request.url === '/broken') request.socket.end('what?')
    else if (request.url === '/cut') request.socket.destroy()
    else if (request.url === '/other-protocol')
      request.socket.write('HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n')
    else response.end('fine')
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close().closeAllConnections())
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const ask = createAsk({ timeoutMs: 200, now: Date.now })
  await t.rejects(ask(`${url}/huge`), { name: 'Unreachable', message: /more than 1048576 bytes/ })
  await t.rejects(ask(`${url}/slow`), { code: 'ETIMEDOUT' }, 'headers are no answer yet')
  await t.rejects(ask(`${url}/broken`), { message: /no answer \(HPE_/ })
  await t.rejects(ask(`${url}/cut`), { message: /the connection was cut/ })
  await t.rejects(ask(`${url}/other-protocol`), { message: /no answer \(HTTP 101\)/ })
  t.match(await ask(`${url}/`), { status: 200, type: '', text: 'fine' })

  const via = { from: new URL('https://cms.example:8443/sub'), to: new URL(`${url}/inner/`) }
  const inner = createAsk({ timeoutMs: 1000, now: Date.now, via })
  seen.length = 0
  await inner('https://cms.example:8443/sub/oauth?x=1')
  await inner('http://cms.example/sub')
  await inner('https://cms.example/.well-known/x')
  await inner(`${url}/other`)
  t.strictSame(seen, [
    'cms.example:8443 /inner/oauth?x=1',
    'cms.example:8443 /inner',
    'cms.example:8443 /.well-known/x',
    `${url.slice(7)} /other`
  ])
  const answer = await ask(`${url}/`)
  for (const text of ['null', '[]', '"x"', '{'])
    t.strictSame(objectOf({ ...answer, text }), undefined)
  t.strictSame(objectOf({ ...answer, text: '{"a":1}' }), { a: 1 })
  t.strictSame(metadataUrls('https://mcp.example/'), {
    suffixed: 'https://mcp.example/.well-known/oauth-protected-resource',
    root: 'https://mcp.example/.well-known/oauth-protected-resource'
  })
})

t.test('the command line', async t => {
  async function said(args: string[], env: Record<string, string> = {}, isTTY = false) {
    let text = ''
    const stdout = { write: (part: string) => (text += part), isTTY }
    return { code: await run(args, { env, stdout }), text }
  }
  const help = await said(['--help'])
  t.equal(help.code, 0)
  t.match(
    help.text,
    /Exit codes: 0 all well.*1 a check failed \(with --strict: or warned\), 2 wrong use/
  )
  t.match(help.text, /Examples:/)

  const wrong: [args: string[], message: RegExp][] = [
    [[], /Give the MCP URL, or --gateway-config FILE/],
    [['ftp://x'], /The URL must be an absolute URL/],
    [['https://user:pw@x/mcp'], /user name or password/],
    [['https://x/mcp', 'https://y/mcp'], /One URL at a time/],
    [['https://x/mcp', '--timeout', '0'], /--timeout must be seconds/],
    [['https://x/mcp', '--timeout', 'soon'], /--timeout must be seconds/],
    [['https://x/mcp', '--only', 'dns,redis'], /no check "redis"/],
    [['https://x/mcp', '--token', 'abc'], /Unknown option '--token'/]
  ]
  for (const [args, message] of wrong) {
    let text = ''
    const stream = { write: (part: string) => (text += part) }
    const world = { env: {}, stdout: stream, stderr: stream }
    t.equal(await main(['doctor', ...args], world), 2, String(message))
    t.match(text, message)
  }
  const written = t.capture(process.stderr, 'write', () => true)
  t.equal(await main(['doctor', 'ftp://x']), 2)
  const lines = written().map(({ args }) => String(args[0]))
  t.match(lines.join(''), /^drupal-mcp-gateway doctor: The URL must be/)
  t.notMatch(lines.join(''), /\bat .*:\d+:\d+/, 'no stack')

  const lost = ['https://doctor-probe.invalid/mcp', '--only', 'tls']
  const plain = await said(lost)
  t.equal(plain.code, 1)
  t.match(plain.text, /^failed +Name .*\n +→ Create the DNS record.*\nskipped +TLS/)
  t.notOk(plain.text.includes('\u001b'))
  t.ok((await said(lost, {}, true)).text.startsWith('\u001b[31mfailed \u001b[0m'))
  t.notOk((await said(lost, { TERM: 'dumb' }, true)).text.includes('\u001b'))
  t.notOk((await said(lost, { NO_COLOR: '1' }, true)).text.includes('\u001b'))
  t.ok((await said(lost, { FORCE_COLOR: '1' })).text.includes('\u001b'), 'as the other commands')

  const { text } = await said([...lost, '--json'])
  t.match(JSON.parse(text), {
    schema: 1,
    version: /^\d/,
    url: 'https://doctor-probe.invalid/mcp',
    summary: { ok: 0, warning: 0, failed: 1, skipped: 1 },
    checks: [
      { id: 'dns', title: 'Name', status: 'failed', seen: /not known/, advice: /DNS/ },
      { id: 'tls', status: 'skipped', seen: 'rests on "dns", which failed', advice: null }
    ]
  })
  const bad = await said(['--only', 'config', '--json'], { DRUPAL_URL: 'nonsense' })
  t.match(JSON.parse(bad.text), { url: null, checks: [{ status: 'failed', seen: /drupal\.url/ }] })
  const inside = { DRUPAL_URL: 'https://cms.example.org' }
  const warned = await said(['--only', 'audience'], inside)
  t.equal(warned.code, 0)
  t.match(warned.text, /1 ok, 1 warning, 0 failed/)
  t.equal((await said(['--only', 'audience', '--strict'], inside)).code, 1)
})

t.test('the runner', async t => {
  const chain = { id: 'a', title: 'A', side: 'both', needs: [], remedy: 'Mend it.' } as const
  const context = { secrets: ['hush', ''] } as unknown as Parameters<typeof runChecks>[1]
  const [dirty, broken, silent] = await runChecks(
    [
      {
        ...chain,
        run: () => ({ status: 'failed', seen: `hush\u001b[2J\u202e\n${'x'.repeat(999)}` })
      },
      {
        ...chain,
        id: 'b',
        run() {
          throw new TypeError('x is not a function')
        }
      },
      { ...chain, id: 'c', needs: ['not-of-this-run'], run: () => ({ status: 'ok', seen: 'y' }) }
    ],
    context
  )
  t.match(dirty!.seen, /^\*\*\* \[2J x{500,}…$/, 'no secret, no control character, no endless line')
  t.equal(dirty!.advice, 'Mend it.')
  t.match(broken, { status: 'failed', seen: 'the check itself broke: x is not a function' })
  t.strictSame(silent, { id: 'c', title: 'A', status: 'ok', seen: 'y' })
})

t.test('checks stand after what they rest on, with ids of their own', async t => {
  const before = new Set<string>()
  for (const { id, needs, remedy } of allChecks) {
    t.notOk(before.has(id), `${id} is new`)
    for (const need of needs) t.ok(before.has(need), `${id} after ${need}`)
    t.match(remedy, /.{20}/)
    before.add(id)
  }
})

t.test('what headers say about caches', async t => {
  const cases: [headers: Record<string, string>, kind: string][] = [
    [{ age: '3' }, 'hits'],
    [{ 'x-cache': 'Hit from cloudfront' }, 'hits'],
    [{ 'cf-cache-status': 'HIT' }, 'hits'],
    [{ 'x-drupal-cache': 'HIT' }, 'hits'],
    [{ 'x-varnish': '32770 3' }, 'hits'],
    [{ 'cache-status': 'Edge; hit' }, 'hits'],
    [{ 'x-cache': 'MISS' }, 'stores'],
    [{ via: '1.1 varnish' }, 'passes'],
    [{ 'cf-cache-status': 'BYPASS' }, 'passes'],
    [{ age: '0', 'x-varnish': '3', 'x-drupal-cache': 'UNCACHEABLE (request policy)' }, 'none']
  ]
  for (const [headers, kind] of cases) {
    const found = Object.entries(cacheEvidence(headers)).filter(([, lines]) => lines.length > 0)
    t.strictSame(
      found.map(([name]) => name),
      kind === 'none' ? [] : [kind],
      JSON.stringify(headers)
    )
  }
})

t.test('docs/doctor.md lists every check', t => {
  const page = readFileSync(new URL('../../docs/doctor.md', import.meta.url), 'utf8')
  const table = page.slice(page.indexOf('| id | what |')).trimEnd()
  t.equal(
    table,
    checkTable(),
    'replace the table at the end of the page by checkTable() of test/cli/fixtures/check-table.ts'
  )
  const { summary } = JSON.parse(/```json\n([^]*?)```/.exec(page)?.[1] ?? '')
  const ofUrl = table.split('\n').filter(line => /\| (URL|both) \|/.test(line)).length
  t.equal(
    Object.values(summary as Record<string, number>).reduce((sum, count) => sum + count),
    ofUrl,
    'the example has as many checks as a URL gets'
  )
  t.end()
})
