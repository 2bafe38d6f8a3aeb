// The page for people: in whose way it never is, what it shows, and what it does in a real Chromium.
import { mkdirSync, readFileSync } from 'node:fs'
import { once } from 'node:events'
import { createServer, request as ask, type IncomingMessage, type ServerResponse } from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import { text as readText } from 'node:stream/consumers'
import type { BrowserContextOptions, Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { loadConfig } from '../../src/config/load.ts'
import { page as landingPage } from '../../src/http/landing/page.ts'
import { clients, serverName, shellWord } from '../../src/http/landing/clients.ts'
import { prefersPage } from '../../src/http/landing.ts'
import { chromiumMissing, startChromium } from '../fixtures/chromium.ts'
import { startDrupalSite } from '../clients/site.ts'
import { PUBLIC_URL, read, startGateway } from '../gateway/fixtures/start.ts'

const BROWSER = 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8'
const MCP = 'application/json, text/event-stream'
const RESOURCE = `${PUBLIC_URL}/mcp`

t.test('who gets the page', async t => {
  const { origin, url, token, audited } = await startGateway(t, {
    env: { SITE_NAME: 'Tutorials' }
  })

  for (const path of ['/', '/mcp']) {
    t.test(`a browser at ${path} does, without a sign-in`, async t => {
      const { status, headers, text } = await read(
        await fetch(`${origin}${path}`, { headers: { accept: BROWSER } })
      )
      t.equal(status, 200)
      t.equal(headers.get('content-type'), 'text/html; charset=utf-8')
      t.match(text, '<h1>Tutorials</h1>')
      t.match(text, RESOURCE)
      t.equal(headers.get('www-authenticate'), null)
      t.match(headers.get('cache-control'), 'private', 'no shared cache hands it to a client')
      t.match(headers.get('vary'), 'Accept')

      const etag = headers.get('etag') ?? ''
      const again = await fetch(`${origin}${path}`, {
        headers: { accept: BROWSER, 'if-none-match': etag }
      })
      t.equal(again.status, 304)
      t.equal(await again.text(), '')
      t.strictSame(audited, [], 'it is no call')
    })
  }

  for (const [what, headers] of Object.entries({
    'the Accept of every MCP client': { accept: MCP },
    'text/html beside an event stream': { accept: 'text/html, text/event-stream' },
    'text/html wanted no more than JSON': { accept: 'text/html, application/json' },
    'any type': { accept: '*/*' },
    'a session id': { accept: BROWSER, 'mcp-session-id': 'x' },
    'a protocol version': { accept: BROWSER, 'mcp-protocol-version': '2025-11-25' }
  })) {
    t.test(`R39 a GET with ${what} does not: it is asked for a token`, async t => {
      const { status, headers: answered } = await read(await fetch(url, { headers }))
      t.equal(status, 401)
      t.match(answered.get('www-authenticate'), 'resource_metadata=')
    })
  }
  t.test('R40 a GET with a good token does not: 405, there is no stream', async t => {
    const headers = { accept: BROWSER, authorization: `Bearer ${token()}` }
    t.equal((await fetch(url, { headers })).status, 405)
  })
  t.test('R81 a GET with a bad token does not: 401', async t => {
    const headers = { accept: BROWSER, authorization: 'Bearer x' }
    t.equal((await fetch(url, { headers })).status, 401)
  })
  for (const method of ['POST', 'DELETE', 'PUT', 'HEAD']) {
    t.test(`R39 ${method} does not, whatever it accepts`, async t => {
      t.equal((await fetch(url, { method, headers: { accept: BROWSER } })).status, 401)
    })
  }
  t.test('a program at / does not: JSON 404', async t => {
    const { status, json } = await read(await fetch(origin, { headers: { accept: MCP } }))
    t.equal(status, 404)
    t.type(json.error.message, 'string')
  })
  t.test('R7 a browser with a foreign Host does not: 403', async t => {
    for (const path of ['/', '/mcp']) {
      const { port } = new URL(origin)
      const headers = { host: 'evil.example', accept: BROWSER }
      const asked = ask({ hostname: '127.0.0.1', port, path, headers }).end()
      const [answer] = (await once(asked, 'response')) as [IncomingMessage]
      t.equal(answer.statusCode, 403, path)
      t.notMatch(await readText(answer), '<html')
    }
  })
  t.test('R3 a browser with a foreign Origin does not: 403', async t => {
    const headers = { accept: BROWSER, origin: 'https://evil.example' }
    t.equal((await fetch(url, { headers })).status, 403)
  })
})

t.test(
  'an Accept prefers a page when it names text/html above JSON and no event stream',
  async t => {
    for (const accept of [
      BROWSER,
      'text/html',
      'TEXT/HTML;level=1',
      'application/json;q=0.9, text/html'
    ]) {
      t.ok(prefersPage(accept), accept)
    }
    for (const accept of [
      undefined,
      '',
      '*/*',
      'text/*',
      'text/html;q=0',
      'text/html;q=x',
      'text/html;q=0.5, application/json',
      'text/html, text/event-stream;q=0.1',
      'application/xhtml+xml'
    ]) {
      t.notOk(prefersPage(accept), String(accept))
    }
  }
)

/** A configuration as `serve` would load it. */
const configured = (env: Record<string, string>) =>
  loadConfig({
    env: {
      DRUPAL_URL: 'https://www.example.org/fr',
      GATEWAY_PUBLIC_URL: 'https://mcp.example.org',
      SESSION_SECRET: 'a-test-secret-of-enough-characters-0123456789',
      ...env
    }
  })

t.test('what the page says', async t => {
  t.test('texts of the configuration cannot break out of it', async t => {
    const { html } = landingPage(configured({ SITE_NAME: `<img src=x onerror=a()>"'&</script>` }))
    t.notMatch(html, '<img')
    t.equal(html.split('</script>').length, 2)
    t.match(html, '<h1>&lt;img src=x onerror=a()&gt;&quot;&#39;&amp;&lt;/script&gt;</h1>')
  })

  t.test('its policy lets in nothing but its own script and style', async t => {
    const { policy } = landingPage(configured({ OAUTH_ISSUER: 'https://login.example.org/a/' }))
    const rules = new Map(
      policy.split('; ').map(rule => [rule.split(' ')[0], rule.split(' ').slice(1)])
    )
    t.strictSame(rules.get('default-src'), ["'none'"])
    t.match(rules.get('script-src')?.join(' '), /^'sha256-[A-Za-z0-9+/]{43}='$/)
    t.match(rules.get('style-src')?.join(' '), /^'sha256-[A-Za-z0-9+/]{43}='$/)
    t.strictSame(rules.get('frame-ancestors'), ["'none'"])
    t.strictSame(rules.get('connect-src'), [
      "'self'",
      'https://mcp.example.org',
      'https://login.example.org'
    ])
    t.match(
      landingPage(configured({})).policy,
      "connect-src 'self' https://mcp.example.org https://www.example.org;",
      'the site, where no issuer is configured'
    )
  })

  t.test('the device flow is named only where it is offered', async t => {
    const command = 'npx drupal-mcp-gateway login https://mcp.example.org/mcp'
    t.match(landingPage(configured({})).html, command)
    t.notMatch(landingPage(configured({ OAUTH_DEVICE_FLOW_ENABLED: 'false' })).html, command)
  })

  t.test('public tools are named only where there are some', async t => {
    const challenged =
      /must answer 401[^]*Without a token it shows|Without a token it shows[^]*must answer 401/
    const { html } = landingPage(configured({}))
    t.notMatch(html, 'before you sign in')
    t.match(html, challenged)
    const lazy = landingPage(configured({ AUTH_ANONYMOUS: 'public-tools' })).html
    t.match(lazy, 'before you sign in')
    t.match(lazy, 'By hand: this must answer with JSON.')
    t.notMatch(lazy, /must answer 401|Without a token it shows/, 'nothing is challenged at once')
  })

  t.test('every client is told the URL byte for byte', async t => {
    const site = { resource: 'https://mcp.example.org/mcp', siteName: 'Été', isPublic: true }
    const all = clients(site)
    t.equal(all.length, 13)
    for (const { id, snippets, install, note } of all) {
      t.ok(
        snippets.some(({ text }) => text.includes(site.resource)),
        id
      )
      t.equal(note, undefined, id)
      for (const { text } of snippets) if (text.startsWith('{')) t.type(JSON.parse(text), 'object')
      if (install !== undefined) t.ok(URL.canParse(install.href), install.href)
    }
    const cursor = new URL(all.find(({ id }) => id === 'cursor')?.install?.href ?? '')
    t.equal(cursor.searchParams.get('name'), 'ete')
    t.strictSame(JSON.parse(atob(cursor.searchParams.get('config') ?? '')), { url: site.resource })
    const code = all.find(({ id }) => id === 'vs-code')?.install?.href ?? ''
    t.strictSame(JSON.parse(decodeURIComponent(code.slice(code.indexOf('?') + 1))), {
      name: 'ete',
      type: 'http',
      url: site.resource
    })
  })

  t.test('Gemini CLI goes by the bridge: its own sign-in refuses that of Drupal', async t => {
    const all = clients({ resource: RESOURCE, siteName: 'x', isPublic: true })
    const texts = all.find(({ id }) => id === 'gemini-cli')?.snippets.map(({ text }) => text) ?? []
    t.equal(texts.length, 1)
    t.match(texts[0], /"args": \["-y", "mcp-remote", /)
  })

  t.test('who connects from a cloud is told that a private address cannot be reached', async t => {
    const all = clients({ resource: RESOURCE, siteName: 'x', isPublic: false })
    t.strictSame(
      all.filter(({ note }) => note !== undefined).map(({ id }) => id),
      ['claude-web', 'claude-desktop']
    )
  })

  t.test('the name in configuration files is short and plain', async t => {
    t.equal(serverName('Été – Tutorials & more!'), 'ete-tutorials-more')
    t.equal(serverName('日本'), 'drupal')
    t.ok(serverName('word '.repeat(40)).length <= 40)
  })

  t.test('a word of a command is quoted when a shell would read it', async t => {
    t.equal(shellWord('https://a.example/mcp'), 'https://a.example/mcp')
    t.equal(shellWord("a'b $(c)"), `'a'\\''b $(c)'`)
  })
})

/** What stands in front of the gateway, and may spoil an answer as proxies do. */
type Spoil = (request: IncomingMessage, response: ServerResponse) => boolean

/** A front on loopback through which the browser reaches the gateway. */
async function startFront(t: Test, origin: string) {
  const front = { port: 0, spoil: undefined as Spoil | undefined }
  const server = createServer((incoming, outgoing) => {
    if (front.spoil?.(incoming, outgoing)) return
    const { method, url: path, headers } = incoming
    const { hostname, port } = new URL(origin)
    const onward = ask({ hostname, port, method, path, headers }, answer => {
      outgoing.writeHead(answer.statusCode as number, answer.headers)
      answer.pipe(outgoing)
    })
    incoming.pipe(onward)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  front.port = (server.address() as AddressInfo).port
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return front
}

t.test('in Chromium', { skip: chromiumMissing() }, async t => {
  const site = await startDrupalSite('jsonrpc')
  t.teardown(() => site.close())
  const { drupal } = site
  const well = await startGateway(t, {
    drupal,
    env: { ...site.env, SITE_NAME: 'Tutorials', ALLOWED_HOSTS: 'alias.example' }
  })
  const open = await startGateway(t, {
    drupal,
    env: {
      ...site.env,
      GATEWAY_PUBLIC_URL: 'http://localhost:3998',
      AUTH_ANONYMOUS: 'public-tools'
    }
  })
  const front = await startFront(t, well.origin)
  const { host } = new URL(site.env['DRUPAL_URL'] as string)
  const browser = await startChromium(t, {
    'localhost:3999': `127.0.0.1:${front.port}`,
    'alias.example:80': `127.0.0.1:${front.port}`,
    'localhost:3998': new URL(open.origin).host,
    [host]: host
  })
  mkdirSync('.artifacts', { recursive: true })

  /** A tab with the page, and what its console complained of. The site's certificate is a test's own. */
  async function visit(t: Test, options: BrowserContextOptions = {}, url = RESOURCE) {
    const context = await browser.newContext({ ignoreHTTPSErrors: true, ...options })
    t.teardown(() => context.close())
    const tab = await context.newPage()
    const complaints: string[] = []
    tab.on('console', message => complaints.push(message.text()))
    tab.on('pageerror', error => complaints.push(String(error)))
    await tab.goto(url)
    return { context, tab, complaints }
  }

  /** The self-test's verdict, when it has one: the summary, and each step's state and text. */
  async function verdict(tab: Page) {
    await tab.waitForSelector('#summary[data-state=passed], #summary[data-state=failed]')
    const steps = await tab.$$eval('[data-check]', items =>
      items.map(item => [
        item.getAttribute('data-check') as string,
        `${item.querySelector('.state')?.textContent}: ${item.querySelector('.found')?.textContent}`
      ])
    )
    return { summary: await tab.textContent('#summary'), steps: Object.fromEntries(steps) }
  }

  t.test('the self-test walks the whole discovery of a gateway that is well', async t => {
    const { tab, complaints } = await visit(t)
    t.strictSame(await verdict(tab), {
      summary: 'Ready: clients can find the sign-in.',
      steps: {
        address: 'Passed: You are at http://localhost:3999.',
        challenge: 'Passed: 401, and it says where to look.',
        metadata: `Passed: Sign-in is at ${drupal.issuer}.`,
        server: 'Passed: PKCE is there.'
      }
    })
    t.strictSame(
      complaints.filter(text => !text.includes('401')),
      [],
      'the policy stops nothing of the page'
    )
  })

  t.test(
    'the self-test takes an answer without sign-in for good where tools are public',
    async t => {
      const { tab } = await visit(t, {}, 'http://localhost:3998/')
      const { steps } = await verdict(tab)
      t.equal(steps.challenge, 'Passed: It answers, and some tools work without sign-in.')
    }
  )

  /** Answers in the gateway's place. */
  const answer =
    (path: string, status: number, headers: Record<string, string>, body = ''): Spoil =>
    (request, response) => {
      if (request.url !== path || request.headers.accept?.includes('text/html')) return false
      response.writeHead(status, headers).end(body)
      return true
    }
  const json = { 'content-type': 'application/json' }
  const known = '/.well-known/oauth-protected-resource/mcp'
  const spoilt: [what: string, spoil: Spoil, step: string, found: RegExp][] = [
    [
      'a proxy that takes the challenge away',
      answer('/mcp', 401, {}),
      'challenge',
      /no WWW-Authenticate header: something in front/
    ],
    [
      'a challenge that points elsewhere',
      answer('/mcp', 401, { 'www-authenticate': 'Bearer resource_metadata="http://x/"' }),
      'challenge',
      /does not name http:\/\/localhost:3999\/\.well-known/
    ],
    [
      'a firewall that refuses programs',
      answer('/mcp', 403, { 'content-type': 'text/html' }, '<h1>Blocked</h1>'),
      'challenge',
      /answered 403 instead of 401\. A firewall/
    ],
    [
      'a redirect',
      answer('/mcp', 301, { location: '/mcp/' }),
      'challenge',
      /answers with a redirect/
    ],
    [
      'a connection that breaks',
      (request, response) => request.url === known && Boolean(response.destroy()),
      'metadata',
      /could not be read from this browser/
    ],
    [
      'a page where JSON is due',
      answer(known, 200, { 'content-type': 'text/html' }, '<h1>Welcome</h1>'),
      'metadata',
      /does not answer with JSON/
    ],
    [
      'a sign-in service that is down',
      answer(known, 503, json, '{}'),
      'metadata',
      /sign-in service of the site cannot be reached just now/
    ],
    ['a 404 of another server', answer(known, 404, json, '{}'), 'metadata', /404 instead of 200/],
    [
      'metadata of another resource',
      answer(known, 200, json, '{"resource":"https://other.example/mcp"}'),
      'metadata',
      /It describes https:\/\/other\.example\/mcp instead of http:\/\/localhost:3999\/mcp/
    ],
    [
      'metadata without an authorization server',
      answer(known, 200, json, JSON.stringify({ resource: RESOURCE })),
      'server',
      /the step before failed/
    ]
  ]
  t.test('the self-test explains what fails, and a test again sees what has changed', async t => {
    const { tab } = await visit(t)
    await verdict(tab)
    t.teardown(() => (front.spoil = undefined))
    for (const [what, spoil, step, found] of spoilt) {
      front.spoil = spoil
      await tab.click('#again')
      const { summary, steps } = await verdict(tab)
      t.match(summary, /of 4 steps failed/, what)
      t.match(steps[step], /^Failed: /, what)
      t.match(steps[step], found, what)
      await tab.screenshot({ path: '.artifacts/page-failed.png', fullPage: true })
    }
    front.spoil = undefined
    await tab.click('#again')
    t.match((await verdict(tab)).summary, 'Ready')
  })

  t.test('the self-test explains an address that is not the configured one', async t => {
    const { tab } = await visit(t, {}, 'http://alias.example/')
    const { steps } = await verdict(tab)
    t.match(
      steps.address,
      /^Failed: You opened http:\/\/alias\.example, but the configured address/
    )
  })

  t.test(
    'the self-test reads the gateway’s copy when the site lets no web page read its own',
    async t => {
      const { tab } = await visit(t, { ignoreHTTPSErrors: false })
      const { steps } = await verdict(tab)
      t.match(steps.server, /^Passed: PKCE is there\. Read from the gateway’s copy/)
    }
  )

  t.test('the keyboard alone copies, opens a client, and skips to the set-up', async t => {
    const { context, tab } = await visit(t)
    await context.grantPermissions(['clipboard-read', 'clipboard-write'])
    await verdict(tab)
    const copied = () => tab.evaluate('navigator.clipboard.readText()')
    const focused = () => tab.evaluate('document.activeElement.textContent.trim()')

    await tab.keyboard.press('Tab')
    t.equal(await focused(), 'Skip to the set-up')
    await tab.keyboard.press('Tab')
    t.equal(await focused(), 'Copy the address')
    await tab.keyboard.press('Enter')
    await tab.waitForFunction("document.getElementById('said').textContent === 'Copied'")
    t.equal(await copied(), RESOURCE)

    await tab.focus('#cursor > summary')
    await tab.keyboard.press('Enter')
    t.ok(await tab.isVisible('#cursor-0'))
    await tab.keyboard.press('Tab')
    t.equal(await focused(), 'Add to Cursor')
    await tab.keyboard.press('Tab')
    await tab.keyboard.press('Space')
    await tab.waitForFunction("document.getElementById('said').textContent === 'Copied'")
    t.strictSame(JSON.parse((await copied()) as string), {
      mcpServers: { tutorials: { url: RESOURCE } }
    })
  })

  t.test('without a clipboard the text is selected', async t => {
    const { tab } = await visit(t, {}, 'http://alias.example/')
    await tab.click('[data-copy=address]')
    await tab.waitForFunction("document.getElementById('said').textContent !== ''")
    t.match(await tab.textContent('#said'), 'Selected')
    t.equal(await tab.evaluate('String(getSelection())'), RESOURCE)
  })

  t.test('without JavaScript everything but buttons and test is there', async t => {
    const { tab } = await visit(t, { javaScriptEnabled: false })
    t.notOk(await tab.isVisible('button'))
    t.ok(await tab.isVisible('noscript'))
    t.match(await tab.textContent('noscript'), 'curl')
    await tab.click('#zed > summary')
    t.match(await tab.textContent('#zed-0'), RESOURCE)
    t.ok(await tab.isVisible('#zed-0'))
  })

  const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
  for (const [name, options] of Object.entries({
    light: { viewport: { width: 1280, height: 900 }, colorScheme: 'light' },
    dark: { viewport: { width: 1280, height: 900 }, colorScheme: 'dark' },
    phone: { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, colorScheme: 'light' },
    narrow: { viewport: { width: 320, height: 640 }, colorScheme: 'dark' }
  } satisfies Record<string, BrowserContextOptions>)) {
    t.test(`axe finds nothing and nothing is wider than the window: ${name}`, async t => {
      const { tab } = await visit(t, options)
      await verdict(tab)
      await tab.screenshot({ path: `.artifacts/page-${name}.png`, fullPage: true })
      await tab.$$eval('details', all => {
        for (const each of all) {
          each.removeAttribute('name')
          each.setAttribute('open', '')
        }
      })
      await tab.evaluate(axe)
      const { violations, passes } = (await tab.evaluate('axe.run()')) as Record<
        string,
        { id: string; nodes: { html: string; failureSummary: string }[] }[]
      >
      t.ok((passes?.length ?? 0) > 20, 'it has looked')
      t.strictSame(
        violations?.map(({ id, nodes }) => ({ id, nodes: nodes.map(node => node.failureSummary) })),
        []
      )
      t.equal(await tab.evaluate('document.documentElement.scrollWidth - innerWidth'), 0)
    })
  }
})
