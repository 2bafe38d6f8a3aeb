// Signing in, staying signed in and signing out, end to end against the Drupal double: login, status, logout and the flows below.
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { access, chmod, readdir, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { codeFlow } from '../../src/cli/code-flow.ts'
import type { Credential } from '../../src/cli/credentials.ts'
import { memoryVault, openVault } from '../../src/cli/credentials-vault.ts'
import { deviceFlow } from '../../src/cli/device-flow.ts'
import { discover, readChallenge } from '../../src/cli/discover.ts'
import { browserCommand, headless, openBrowser } from '../../src/cli/headless.ts'
import { ask, openHttp, safeUrl } from '../../src/cli/http.ts'
import { narrator } from '../../src/cli/narrator.ts'
import { qrGrid, qrText } from '../../src/cli/qr.ts'
import { printable } from '../../src/cli/oauth.ts'
import { register } from '../../src/cli/registration.ts'
import { explainMissing, grantedScopes, missingScopes, peek } from '../../src/cli/scopes.ts'
import { type SignIn, type SignInEvent, signIn } from '../../src/cli/sign-in.ts'
import { signOut } from '../../src/cli/sign-out.ts'
import { createTerminal, duration } from '../../src/cli/terminal.ts'
import { givenToken, keptTokens } from '../../src/cli/tokens.ts'
import type { DrupalDouble } from '../../src/demo/double.ts'
import { enterCode, reader, serve, startSite, terminal, useBrowser } from './fixtures/site.ts'

const http = openHttp()
t.teardown(() => http.close())
const { fetch: cliFetch } = http

/** The gateway's own question: does Drupal take this token? */
async function isGood(drupal: DrupalDouble, token: string): Promise<boolean> {
  const headers = { authorization: `Bearer ${token}` }
  return (await fetch(`${drupal.url}/mcp/tools/list`, { headers })).status === 200
}

/** A clock that sleeping moves, shared with the double: the device flow's waits take no time. */
function clock() {
  let at = Date.now()
  return {
    now: () => at,
    sleep: async (ms: number) => void (at += ms),
    pass: (ms: number) => (at += ms)
  }
}

const browser = { BROWSER: 'true' }
const shown = /browser at:\s+(http\S+)/

t.test('login with a browser, status, logout', async t => {
  const { drupal, url } = await startSite(t)
  const person = terminal(t, 'person', browser)
  const running = person.run('login', url)
  const [, address = ''] = await person.sees(shown)
  t.match(address, `resource=${encodeURIComponent(url)}`, 'R103')
  t.match(address, 'code_challenge_method=S256')
  t.match(await useBrowser(address), 'go back to your terminal')
  const login = await running
  t.equal(login.code, 0, login.stderr)
  t.match(login.stdout, /Signed in to http.*as user 2; the token is renewed by itself/)
  t.match(login.stdout, 'Scopes: read:tutorials')

  const client = drupal.site.clients.at(-1)
  t.ok(
    client?.grantTypes.includes('urn:ietf:params:oauth:grant-type:device_code'),
    'the registration asks for every grant'
  )
  t.equal(client?.secret, undefined, 'as a public client')
  t.strictSame(client?.redirectUris, ['http://127.0.0.1/callback'])

  const status = await person.run('status', '--json', url)
  t.equal(status.code, 0)
  const [one] = JSON.parse(status.stdout).credentials
  t.match(one, {
    resource: url,
    issuer: drupal.issuer,
    subject: '2',
    scopes: ['read:tutorials'],
    expired: false,
    renewable: true
  })
  const [kept] = await (await openVault({ env: person.env })).list()
  t.ok(await isGood(drupal, kept!.accessToken))
  for (const text of [
    login.stdout,
    login.stderr,
    status.stdout,
    (await person.run('status')).stdout
  ]) {
    for (const secret of [kept!.accessToken, kept!.refreshToken!, kept!.registration!.token]) {
      t.notOk(text.includes(secret), 'no secret is shown')
    }
  }

  const logout = await person.run('logout')
  t.equal(logout.code, 0, logout.stderr)
  t.match(
    logout.stdout,
    'Revoked at the site: the refresh token, the access token, the registered client.'
  )
  t.notOk(await isGood(drupal, kept!.accessToken), 'the access token is worth nothing')
  t.notOk(
    drupal.site.clients.includes(client!),
    'the client is gone, and with it every refresh token'
  )
  t.equal((await person.run('status')).code, 3)
  t.match((await person.run('status', url)).stdout, `login ${url}`)
  t.match(await person.run('logout', url), { code: 3, stderr: /Nobody is signed in/ })
  t.strictSame(
    (await readdir(person.home)).filter(name => name !== 'key'),
    [],
    'nothing is left'
  )
})

t.test('login --device, as a person sees it', async t => {
  const { drupal, url, metadata } = await startSite(t)
  metadata['scopes_supported'] = []
  const person = terminal(t, 'person')
  const running = person.run('login', '--scope', 'read:tutorials', url)
  const [, userCode = ''] = await person.sees(/code\n\s+(\S+)/)
  t.match(person.written.stdout, /No browser is opened: .*\n.*address on any device/)
  await enterCode(drupal, userCode, reader)
  const { code, stdout } = await running
  t.equal(code, 4, 'signed in, but Drupal dropped the scope')
  t.match(stdout, /as user 3/)
  t.match(stdout, /Not granted: read:tutorials\. Drupal's device flow drops.*--browser/)
  t.match((await person.run('status')).stdout, /missing   read:tutorials/)
})

t.test('a refusal does not stand behind the progress', async t => {
  const site = await startSite(t)
  const errors = ['authorization_pending', 'expired_token']
  const origin = await serve(t, (request, response) => {
    response.setHeader('content-type', 'application/json')
    const code = { device_code: 'd', user_code: 'A', expires_in: 60, interval: 0.01 }
    if (request.url === '/device')
      return void response.end(JSON.stringify({ ...code, verification_uri: 'https://x.example/' }))
    response.writeHead(400).end(JSON.stringify({ error: errors.shift() }))
  })
  site.copy = {
    issuer: site.drupal.issuer,
    token_endpoint: `${origin}/token`,
    device_authorization_endpoint: `${origin}/device`
  }
  const person = terminal(t, 'person', { TERM: 'xterm' })
  Object.assign(person.stdout, { isTTY: true })
  const { code, stdout } = await person.run('login', '--device', '--client-id', 'x', site.url)
  t.equal(code, 3)
  t.match(stdout, 'Waiting …')
  t.ok(stdout.endsWith('\r\u001b[K'), 'its line is empty again')
})

t.test('the device flow', async t => {
  const plain = 'plain_scope'
  async function start(options: Partial<SignIn> = {}) {
    const time = clock()
    const site = await startSite(t, { now: time.now })
    const [scope] = site.drupal.site.scopes
    site.drupal.site.scopes.push({ ...scope!, name: plain })
    const told: SignInEvent[] = []
    const wish: SignIn = {
      url: site.url,
      fetch: cliFetch,
      vault: memoryVault(),
      env: {},
      flow: 'device',
      scopes: [plain],
      tell: event => void told.push(event),
      ...time,
      ...options
    }
    return { ...site, time, told, wish }
  }
  const userCode = (told: SignInEvent[]) =>
    told.flatMap(event => (event.kind === 'code' ? [event.code.userCode] : []))[0]!

  t.test('waits, says so, and goes on after a while', async t => {
    const { drupal, told, wish, time } = await start()
    let polls = 0
    const credential = await signIn({
      ...wish,
      async sleep(ms) {
        time.pass(ms)
        if (++polls === 20) await enterCode(drupal, userCode(told))
      }
    })
    t.strictSame(credential.grantedScopes, [plain])
    t.equal(credential.grant, 'device_code')
    t.match(credential, { subject: '2', resource: wish.url, issuer: drupal.issuer })
    t.equal(
      told.filter(({ kind }) => kind === 'long').length,
      1,
      'Drupal passes no denial on: a hint, once'
    )
    t.ok(told.some(event => event.kind === 'waiting' && event.remainingMs < 1_790_000))
    t.notOk(
      told.some(({ kind }) => kind === 'slower'),
      'never faster than the server wants'
    )
  })
  t.test('a step-up that brings fewer scopes does not cost the sign-in before it', async t => {
    const { drupal, told, wish, time } = await start({ clientId: 'public' })
    const sleep = async (ms: number) => {
      time.pass(ms)
      await enterCode(drupal, userCode(told.splice(0)))
    }
    const stepUp = { ...wish, sleep, isStepUp: true }
    await signIn({ ...stepUp, scopes: [plain] })
    const before = await wish.vault.list()
    t.match(before, [{ grantedScopes: [plain] }], 'with nothing before it, it is kept')
    const clients = drupal.site.clients.length
    for (const scopes of [[plain, 'read:tutorials'], ['read:tutorials']]) {
      await t.rejects(signIn({ ...stepUp, scopes }), {
        exitCode: 4,
        message: /^Not granted: .*device flow drops.*--browser.*was kept\.$/
      })
      t.strictSame(await wish.vault.list(), before)
    }
    t.equal(drupal.site.clients.length, clients)
    await signIn({ ...wish, sleep, scopes: ['read:tutorials'] })
    t.match(await wish.vault.list(), [{ grantedScopes: [] }], 'whoever signs in anew gets that')
  })
  t.test('RFC 8628 slow_down lengthens the interval by five seconds for good', async t => {
    const { drupal, told, wish, time } = await start()
    const slept: number[] = []
    await signIn({
      ...wish,
      async sleep(ms) {
        slept.push(ms)
        // The first three polls come too early for the server.
        time.pass(slept.length < 4 ? 1000 : ms)
        if (slept.length === 5) await enterCode(drupal, userCode(told))
      }
    })
    t.strictSame(slept, [5250, 5250, 10250, 15250, 15250])
  })
  t.test('goes on when the server cannot be reached for a while', async t => {
    const { drupal, told, wish, time } = await start()
    drupal.faults.only = path => path === '/oauth/token'
    let polls = 0
    await signIn({
      ...wish,
      async sleep(ms) {
        time.pass(ms)
        polls++
        drupal.faults.resetBefore = polls === 1
        drupal.faults.status = polls === 2 ? 503 : false
        if (polls === 3) await enterCode(drupal, userCode(told))
      }
    })
    t.equal(told.filter(({ kind }) => kind === 'slower').length, 2)
  })
  t.test('ends when the code has expired', async t => {
    const { wish, time, drupal } = await start()
    const before = drupal.site.clients.length
    const sleep = async () => void time.pass(400_000)
    await t.rejects(signIn({ ...wish, sleep }), {
      exitCode: 3,
      message: /expired.*Deny.*login again/
    })
    t.ok(drupal.requests.some(({ path }) => path === '/oauth/register'))
    t.equal(drupal.site.clients.length, before, 'and leaves no client behind')
  })
  t.test('does not blame who enters the code when the server fails to the end', async t => {
    const { wish, time, drupal } = await start()
    drupal.faults.only = path => path === '/oauth/token'
    drupal.faults.status = 500
    const sleep = async () => void time.pass(400_000)
    const failed: unknown = await signIn({ ...wish, sleep }).catch((error: unknown) => error)
    t.match(failed, { exitCode: 3, message: /expired.*in trouble.*doctor.*login again/ })
    t.notMatch((failed as Error).message, /Deny|nobody/)
  })
  t.test('RFC 8628 ends at expires_in, not an interval later', async t => {
    const { wish, time } = await start()
    const slept: number[] = []
    const before = time.now()
    const sleep = async (ms: number) => {
      slept.push(ms)
      time.pass(slept.length === 1 ? 1_790_000 : ms)
    }
    await t.rejects(signIn({ ...wish, sleep }), { exitCode: 3, message: /expired/ })
    t.strictSame(slept, [5250, 5250, 4750])
    t.equal(time.now() - before, 1_800_000)
  })
  t.test('RFC 8628 slow_down lengthens a long interval, too', async t => {
    const slept: number[] = []
    const { wish, time } = await start()
    const origin = await serve(t, (request, response) => {
      const body =
        request.url === '/token'
          ? { error: 'slow_down' }
          : {
              device_code: 'd',
              user_code: 'U',
              verification_uri: 'https://cms.example.org/device',
              expires_in: 600,
              interval: 120
            }
      response.writeHead(request.url === '/token' ? 400 : 200, {
        'content-type': 'application/json'
      })
      response.end(JSON.stringify(body))
    })
    await t.rejects(
      deviceFlow({
        ...wish,
        client: { clientId: 'x' },
        server: {
          issuer: origin,
          token_endpoint: `${origin}/token`,
          device_authorization_endpoint: `${origin}/device`
        },
        scopes: [],
        resource: wish.url,
        async sleep(ms) {
          slept.push(ms)
          time.pass(ms)
        }
      }),
      /expired/
    )
    t.strictSame(slept, [120_250, 125_250, 130_250, 135_250, 89_000])
  })
  t.test('ends at once when it is interrupted', async t => {
    const stop = new AbortController()
    const { sleep: _, ...wish } = (await start({ signal: stop.signal })).wish
    const { promise: asked, tell } = await new Promise<{
      promise: Promise<void>
      tell: SignIn['tell']
    }>(resolve => {
      let done = () => {}
      const promise = new Promise<void>(ready => (done = ready))
      resolve({ promise, tell: event => event.kind === 'code' && done() })
    })
    const running = signIn({ ...wish, tell })
    await asked
    stop.abort(new Error('interrupted'))
    await t.rejects(running, /abort/i)
  })
  t.test('ends at once also while it asks', async t => {
    const stop = new AbortController()
    const { wish } = await start({ signal: stop.signal, clientId: 'x' })
    const origin = await serve(t, (request, response) => {
      if (request.url === '/token') return stop.abort(new Error('interrupted'))
      const body = {
        device_code: 'd',
        user_code: 'A',
        verification_uri: 'https://x.example/',
        expires_in: 60
      }
      response.setHeader('content-type', 'application/json').end(JSON.stringify(body))
    })
    const other = await startSite(t)
    other.copy = {
      issuer: other.drupal.issuer,
      token_endpoint: `${origin}/token`,
      device_authorization_endpoint: `${origin}/d`
    }
    await t.rejects(signIn({ ...wish, url: other.url }), /interrupted/)
  })
  t.test('can be switched off, and says so', async t => {
    const off = { OAUTH_DEVICE_FLOW_ENABLED: 'off ' }
    const { wish } = await start({ env: off })
    await t.rejects(signIn(wish), {
      exitCode: 2,
      message: /switched off.*OAUTH_DEVICE_FLOW_ENABLED=false.*--browser/
    })
    const { url } = await startSite(t)
    const person = terminal(t, 'off', { ...off, CI: '1' })
    const running = person.run('login', url)
    const [, address = ''] = await person.sees(shown)
    await useBrowser(address)
    const { code, stdout } = await running
    t.equal(code, 0, 'without a browser here, the address is shown')
    t.match(stdout, /switched off here.*this is CI.*ssh -L/)
  })
  t.test('is not switched off by a word that is neither yes nor no, which is said', async t => {
    const { wish } = await start({ env: { OAUTH_DEVICE_FLOW_ENABLED: 'maybe' } })
    await t.rejects(signIn(wish), {
      exitCode: 2,
      message: /OAUTH_DEVICE_FLOW_ENABLED must be true or false.*yes, no/
    })
  })
  t.test('can be switched off by the gateway’s operator', async t => {
    const own = await serve(t, (request, response) => {
      const issuer = `http://${request.headers.host}`
      response.end(JSON.stringify({ issuer, device_authorization_endpoint: `${issuer}/device` }))
    })
    const { wish } = await start()
    const other = await startSite(t)
    other.metadata['authorization_servers'] = [own]
    other.copy = { issuer: own }
    await t.rejects(signIn({ ...wish, url: other.url }), {
      exitCode: 2,
      message: /operator of the gateway has switched.*OAUTH_DEVICE_FLOW_ENABLED=false.*--browser/
    })
    other.copy = { issuer: own, device_authorization_endpoint: `${own}/device` }
    await t.rejects(signIn({ ...wish, url: other.url }), { message: /--client-id/ })
  })
  t.test('is not offered everywhere', async t => {
    const { wish, drupal, copy: _, ...site } = await start()
    const real = await (await fetch(`${drupal.url}/.well-known/oauth-authorization-server`)).json()
    const { device_authorization_endpoint: _gone, ...rest } = real as Record<string, unknown>
    Object.assign(site, { copy: rest })
    const other = await startSite(t)
    other.copy = { ...rest, issuer: other.drupal.issuer }
    await t.rejects(signIn({ ...wish, url: other.url }), {
      exitCode: 2,
      message: /offers no device flow.*simple_oauth_device_flow/
    })
  })
  t.test('refusals are told in words', async t => {
    for (const [error, expected, status = 400, headers = {}] of [
      ['access_denied', /denied on the other device/],
      ['access_denied', /denied on the other device/, 401, { 'www-authenticate': 'Basic' }],
      ['invalid_client', /id is unknown/, 401, { 'www-authenticate': 'Basic realm="OAuth"' }],
      ['expired_token', /expired/],
      ['invalid_grant', /refused the device code: invalid_grant \(why\. because\)/],
      ['unauthorized_client', /enable the grant/]
    ] as const) {
      const { wish, origin } = await start()
      const origin2 = await serve(t, (request, response) => {
        response.setHeader('content-type', 'application/json')
        if (request.url === '/device') {
          const body = {
            device_code: 'd',
            user_code: 'A\u001b[31mB',
            verification_uri: `${origin}/x`,
            expires_in: 60
          }
          return void response.end(JSON.stringify(body))
        }
        response
          .writeHead(status, headers)
          .end(JSON.stringify({ error, error_description: 'why', hint: 'because' }))
      })
      const other = await startSite(t)
      other.copy = {
        issuer: other.drupal.issuer,
        token_endpoint: `${origin2}/token`,
        device_authorization_endpoint: `${origin2}/device`
      }
      const told: SignInEvent[] = []
      const running = signIn({
        ...wish,
        url: other.url,
        clientId: 'x',
        tell: event => void told.push(event)
      })
      await t.rejects(running, { exitCode: 3, message: expected })
      t.equal(userCode(told), 'A [31mB', 'no control character reaches the terminal')
    }
  })
  t.test('only web pages are shown as the place to enter the code', async t => {
    const { wish } = await start()
    const origin = await serve(t, (_request, response) => {
      const body = {
        device_code: 'd',
        user_code: 'A',
        verification_uri: 'file:///etc/passwd',
        expires_in: 60
      }
      response.setHeader('content-type', 'application/json').end(JSON.stringify(body))
    })
    const other = await startSite(t)
    other.copy = {
      issuer: other.drupal.issuer,
      token_endpoint: `${origin}/t`,
      device_authorization_endpoint: `${origin}/d`
    }
    await t.rejects(signIn({ ...wish, url: other.url, clientId: 'x' }), { message: /no web page/ })
  })
})

t.test('the code flow', async t => {
  t.test('is refused in words', async t => {
    const { url } = await startSite(t)
    const person = terminal(t, 'person', browser)
    const running = person.run('login', url)
    const [, address = ''] = await person.sees(shown)
    const page = await useBrowser(address, { ...reader, press: /deny|log in/i })
    t.match(page, 'You were not signed in')
    t.match(await running, { code: 3, stderr: /The sign-in was denied \(.+\)\.\n$/ })
  })
  t.test('takes no answer but its own', async t => {
    const { url } = await startSite(t)
    const person = terminal(t, 'person', browser)
    const running = person.run('login', url)
    const [, address = ''] = await person.sees(shown)
    const redirect = new URL(address).searchParams.get('redirect_uri')!
    t.equal((await fetch(`${redirect}?code=stolen&state=guessed`)).status, 400)
    t.equal((await fetch(`${redirect}?error=access_denied`)).status, 400, 'nor can a page end it')
    t.equal((await fetch(redirect, { method: 'POST' })).status, 404)
    t.equal((await fetch(new URL('/favicon.ico', redirect))).status, 404)
    // fetch would not send it as it stands.
    const odd = request(redirect, { path: '//' }).end()
    const [refused] = (await once(odd, 'response')) as [IncomingMessage]
    t.equal(refused.resume().statusCode, 404, 'a target that is no URL')
    await useBrowser(address)
    t.equal((await running).code, 0)
  })
  t.test('invalid_scope is explained', async t => {
    const { url } = await startSite(t)
    const person = terminal(t, 'person', browser)
    const running = person.run('login', '--scope', 'no:such', url)
    const [, address = ''] = await person.sees(shown)
    await useBrowser(address)
    t.match(await running, {
      code: 3,
      stderr: /invalid_scope \(.*malformed\. Check the `no:such` scope\)\. .*--scope/
    })
  })
  const server = {
    issuer: 'https://x.example/',
    authorization_endpoint: 'https://x.example/a',
    code_challenge_methods_supported: ['S256']
  }
  t.test('R100 needs S256, a loopback redirect and a free port', async t => {
    const flow = {
      fetch: cliFetch,
      client: { clientId: 'c' },
      scopes: [],
      resource: 'r',
      visit: () => {}
    }
    for (const offered of [['plain'], [], undefined]) {
      const weak = { ...server, code_challenge_methods_supported: offered }
      await t.rejects(codeFlow({ ...flow, server: weak as typeof server }), { message: /S256/ })
    }
    for (const redirectUri of [
      'https://127.0.0.1/callback',
      'http://elsewhere.example/callback',
      'http://127.0.0.1/callback#fragment',
      'http://user:password@127.0.0.1/callback',
      '127.0.0.1/callback'
    ]) {
      await t.rejects(codeFlow({ ...flow, server, redirectUri }), {
        exitCode: 2,
        message: /redirect URI cannot be used: here it is http:..127.0.0.1/
      })
    }
    const taken = await serve(t, () => {})
    await t.rejects(codeFlow({ ...flow, server, redirectUri: `${taken}/callback` }), {
      message: /Cannot listen on .*EADDRINUSE.*--redirect-uri/
    })
    const noServer = { ...server, authorization_endpoint: undefined } as unknown as typeof server
    await t.rejects(codeFlow({ ...flow, server: noServer }), {
      message: /authorization endpoint is no URL/
    })
    const stop = new AbortController()
    const visit = () => stop.abort(new Error('interrupted'))
    await t.rejects(
      codeFlow({
        ...flow,
        server,
        visit,
        signal: stop.signal,
        redirectUri: 'http://[::1]/callback'
      }),
      /interrupted/
    )
  })
  // Elsewhere 127.0.0.1 is often the only address of its kind.
  const skip = process.platform !== 'linux'
  t.test('listens where the redirect URI says', { skip }, async t => {
    const stop = new AbortController()
    let status: number | undefined
    const running = codeFlow({
      fetch: cliFetch,
      server,
      client: { clientId: 'c' },
      scopes: [],
      resource: 'r',
      redirectUri: 'http://127.0.0.2/callback',
      signal: stop.signal,
      visit: url =>
        void fetch(new URL(url).searchParams.get('redirect_uri')!)
          .then(answer => (status = answer.status))
          .catch(() => undefined)
          .finally(() => stop.abort(new Error('seen')))
    })
    await t.rejects(running, /seen/)
    t.equal(status, 400)
  })
  t.test('nobody is waited for without end', async t => {
    const flow = {
      fetch: cliFetch,
      client: { clientId: 'c' },
      scopes: [],
      resource: 'r',
      visit: () => {}
    }
    await t.rejects(codeFlow({ ...flow, server, patienceMs: 1 }), {
      exitCode: 3,
      message: /in time.*--device/
    })
  })
  t.test('R104 a mixed-up answer is not used (RFC 9207)', async t => {
    const naming = {
      ...server,
      authorization_response_iss_parameter_supported: true
    }
    const visit = (url: string) => {
      const { searchParams } = new URL(url)
      const back = `${searchParams.get('redirect_uri')}?code=c&state=${searchParams.get('state')}&iss=https://evil.example/`
      fetch(back).then(answer => answer.text())
    }
    const flow = {
      fetch: cliFetch,
      server: naming,
      client: { clientId: 'c' },
      scopes: [],
      resource: 'r',
      visit
    }
    await t.rejects(codeFlow(flow), { exitCode: 3, message: /cannot be used/ })
  })
  t.test('RFC 6749 an answer with no code, or with two, is not used', async t => {
    for (const codes of ['', '&code=a&code=b']) {
      const visit = (url: string) => {
        const { searchParams } = new URL(url)
        const back = `${searchParams.get('redirect_uri')}?state=${searchParams.get('state')}`
        fetch(back + codes).then(answer => answer.text())
      }
      const flow = { fetch: cliFetch, server, client: { clientId: 'c' }, scopes: [], resource: 'r' }
      const token_endpoint = 'https://x.example/t'
      await t.rejects(codeFlow({ ...flow, server: { ...server, token_endpoint }, visit }), {
        exitCode: 3,
        message: /cannot be used/
      })
    }
  })
})

t.test('a client that an administrator made', async t => {
  const { drupal, url } = await startSite(t)
  const person = terminal(t, 'person', browser)
  const before = drupal.site.clients.length
  const running = person.run('login', '--client-id', 'public', '--browser', url)
  const [, address = ''] = await person.sees(shown)
  await useBrowser(address)
  t.equal((await running).code, 0)
  t.equal(drupal.site.clients.length, before, 'nothing is registered')
  const [kept] = await (await openVault({ env: person.env })).list()
  const { code, stdout } = await person.run('logout', url)
  t.equal(code, 0)
  t.notMatch(stdout, 'registered client')
  t.notOk(await isGood(drupal, kept!.accessToken))
  const spent = await fetch(`${drupal.url}/oauth/token`, {
    method: 'POST',
    body: new URLSearchParams({
      grant_type: 'refresh_token',
      client_id: 'public',
      refresh_token: kept!.refreshToken!
    })
  })
  t.equal(spent.status, 400, 'a stolen copy of the refresh token is worth nothing')
})

t.test('the registration is used again, until the site has forgotten it', async t => {
  const { drupal, url } = await startSite(t)
  const person = terminal(t, 'person', browser)
  const login = async (...more: string[]) => {
    const running = person.run('login', ...more, url)
    const [, address = ''] = await person.sees(shown)
    await useBrowser(address)
    t.equal((await running).code, 0)
    return (await (await openVault({ env: person.env })).list())[0]!.clientId
  }
  const first = await login()
  t.equal(await login(), first)
  drupal.site.clients.splice(
    drupal.site.clients.findIndex(({ clientId }) => clientId === first),
    1
  )
  const second = await login()
  t.not(second, first)
  t.not(
    await login('--redirect-uri', 'http://127.0.0.1/callback?other'),
    second,
    'another redirect URI needs another'
  )
})

t.test('people who sign in at once stay apart', async t => {
  const { drupal, url } = await startSite(t)
  const people = [
    { user: 'editor', password: 'editor', uid: '2' },
    { user: 'reader', password: 'reader', uid: '3' },
    { user: 'admin', password: 'admin', uid: '1' }
  ]
  drupal.site.users.find(({ name }) => name === 'admin')!.roles.push('editor')
  const kept = await Promise.all(
    people.map(async one => {
      const own = terminal(t, one.user, browser)
      const running = own.run('login', url)
      const [, address = ''] = await own.sees(shown)
      await useBrowser(address, one)
      t.equal((await running).code, 0, own.written.stderr)
      const [credential] = await (await openVault({ env: own.env })).list()
      t.equal(credential?.subject, one.uid)
      return { own, credential: credential! }
    })
  )
  t.equal(new Set(kept.map(({ credential }) => credential.accessToken)).size, 3)
  t.equal(new Set(kept.map(({ credential }) => credential.clientId)).size, 3)
  const [first, ...others] = kept
  t.equal((await first!.own.run('logout')).code, 0)
  t.notOk(await isGood(drupal, first!.credential.accessToken))
  for (const { own, credential } of others) {
    t.ok(await isGood(drupal, credential.accessToken))
    t.equal((await own.run('status')).code, 0)
  }
})

t.test('a service account', async t => {
  const { drupal, url } = await startSite(t)
  const secret = 'gateway-secret'
  const robot = terminal(t, 'robot', {
    DRUPAL_MCP_CLIENT_SECRET: secret,
    // As everywhere, an empty variable is none.
    DRUPAL_MCP_CLIENT_SECRET_FILE: '',
    DRUPAL_MCP_URL: url
  })
  const login = [
    'login',
    '--client-credentials',
    '--client-id',
    'gateway',
    '--scope',
    'read:tutorials'
  ]
  const done = await robot.run(...login)
  t.equal(done.code, 0, done.stderr)
  t.match(done.stdout, /token is good for 5 min/)
  const vault = await openVault({ env: robot.env })
  const [kept] = await vault.list()
  t.equal(kept?.clientSecret, undefined, 'the secret is not kept')
  t.match((await robot.run('status')).stdout, /user {6}none: a service account/)

  const late = keptTokens({
    vault,
    url,
    fetch: cliFetch,
    clientSecret: secret,
    now: () => Date.now() + 280_000
  })
  const next = await late.current()
  t.not(next, kept!.accessToken, 'the next token is fetched with the secret')
  t.ok(await isGood(drupal, next!))
  const without = keptTokens({ vault, url, fetch: cliFetch, now: () => Date.now() + 900_000 })
  t.equal(await without.current(), undefined)

  const file = join(robot.home, 'secret')
  await writeFile(file, `${secret}\n`)
  const { DRUPAL_MCP_CLIENT_SECRET: _, ...bare } = robot.env
  Object.assign(robot.env, { DRUPAL_MCP_CLIENT_SECRET: '' })
  t.equal((await robot.run(...login, '--client-secret-file', file)).code, 0)
  t.ok(bare)
  t.match(await robot.run(...login), {
    code: 2,
    stderr: /DRUPAL_MCP_CLIENT_SECRET or --client-secret-file/
  })
  t.match(await robot.run(...login, '--client-secret-file', `${file}x`), {
    code: 1,
    stderr: /secret file .* cannot be read \(ENOENT\)/
  })
  await writeFile(`${file}-empty`, '\n')
  t.match(await robot.run(...login, '--client-secret-file', `${file}-empty`), {
    code: 1,
    stderr: /secret file .*-empty is empty/
  })
  Object.assign(robot.env, { DRUPAL_MCP_CLIENT_SECRET: secret })
  t.match(await robot.run(...login.slice(0, -1), 'no:such'), {
    code: 3,
    stderr: /invalid_scope \(.*malformed\. Check the `no:such` scope\)\. .*--scope/
  })
  Object.assign(robot.env, { DRUPAL_MCP_CLIENT_SECRET: 'wrong' })
  const refused = await robot.run(...login)
  t.match(refused, { code: 3, stderr: /invalid_client.*its secret is wrong/ })
  t.notMatch(refused.stderr, 'wrong"')
  t.match(await robot.run('logout'), { code: 0, stdout: /Signed out/ })
})

t.test('a server with opaque tokens that says little', async t => {
  const site = await startSite(t)
  let number = 0
  const origin = await serve(t, (_request, response) => {
    const body = { access_token: `opaque-${++number}`, token_type: 'Bearer' }
    response.setHeader('content-type', 'application/json').end(JSON.stringify(body))
  })
  site.copy = { issuer: site.drupal.issuer, token_endpoint: origin }
  const vault = memoryVault()
  const client = { clientId: 'c', clientSecret: 's' }
  const wish = { url: site.url, fetch: cliFetch, vault, env: {}, tell: () => {} }
  const kept = await signIn({ ...wish, ...client, flow: 'client_credentials', now: () => 0 })
  t.match(kept, { accessToken: 'opaque-1', expiresAt: 300_000 })
  t.notOk('grantedScopes' in kept || 'subject' in kept || 'revocationEndpoint' in kept)
  const tokens = keptTokens({ vault, url: site.url, fetch: cliFetch, clientSecret: 's' })
  t.equal(await tokens.current(), 'opaque-2')
  t.equal(await tokens.instead('opaque-2'), 'opaque-3')
})

t.test('refreshing', async t => {
  async function signedIn(options: Parameters<typeof startSite>[1] = {}) {
    const time = clock()
    const site = await startSite(t, { now: time.now, ...options })
    const { drupal, url } = site
    const env = { DRUPAL_MCP_HOME: join(t.testdir(), 'home') }
    const vault = await openVault({ env })
    await signIn({
      url,
      fetch: cliFetch,
      vault,
      env,
      flow: 'browser',
      now: time.now,
      tell: event => event.kind === 'visit' && void useBrowser(event.url)
    })
    const source = async () =>
      keptTokens({ vault: await openVault({ env }), url, fetch: cliFetch, now: time.now })
    const refreshes = () =>
      drupal.requests.filter(({ body }) => body.includes('grant_type=refresh_token')).length
    return { ...site, time, vault, source, refreshes }
  }

  t.test('two processes at once refresh once, and neither is signed out', async t => {
    const { drupal, time, source, refreshes } = await signedIn()
    const sources = await Promise.all(Array.from({ length: 5 }, source))
    const first = await sources[0]!.current()
    t.equal(await sources[1]!.current(), first)
    time.pass(280_000)
    const tokens = await Promise.all(sources.map(one => one.current()))
    t.equal(new Set(tokens).size, 1)
    t.not(tokens[0], first)
    t.ok(await isGood(drupal, tokens[0]!))
    t.equal(refreshes(), 1)
    const again = await Promise.all(sources.map(one => one.instead(tokens[0]!)))
    t.equal(new Set(again).size, 1)
    t.equal(refreshes(), 2, 'a refused token is replaced once, for all')
    t.equal(await sources[0]!.instead('an older one'), again[0])
  })
  t.test('tokens of a short life are used for most of it', async t => {
    const { time, source, refreshes, vault } = await signedIn({ accessTokenLifetime: 20 })
    const one = await source()
    const token = await one.current()
    time.pass(14_000)
    t.equal(await one.current(), token, 'requests at once do not take it from each other')
    t.equal(refreshes(), 0)
    time.pass(2000)
    t.not(await one.current(), token)
    const { obtainedAt: _, ...older } = (await vault.list())[0]!
    await vault.set(older)
    t.ok(await one.current(), 'what an earlier version kept can be read')
    t.equal(refreshes(), 2)
  })
  t.test('what only a person can mend is told apart from what passes', async t => {
    const { drupal, time, source, vault, url, refreshes } = await signedIn()
    const one = await source()
    const token = await one.current()
    time.pass(280_000)
    drupal.faults.only = path => path === '/oauth/token'
    drupal.faults.resetBefore = true
    await t.rejects(one.current(), { message: /cannot be reached/ })
    drupal.clearFaults()
    drupal.faults.only = path => path === '/oauth/token'
    drupal.faults.status = 503
    await t.rejects(one.current(), { message: /cannot be used \(status 503\)/ })
    drupal.clearFaults()
    t.not(await one.current(), token, 'and the credential still works')
    const [kept] = await vault.list()
    await vault.set({ ...kept!, refreshToken: 'def50200spent' })
    time.pass(280_000)
    const asked = refreshes()
    t.equal(await one.current(), kept!.accessToken, 'the last seconds are used')
    t.equal(await one.current(), kept!.accessToken)
    time.pass(30_000)
    t.equal(await one.current(), undefined)
    t.equal(await (await source()).current(), undefined, 'in another process, too')
    t.equal(refreshes(), asked + 1, 'a refresh token that the server calls dead is sent once')
    const { refreshToken: _, ...without } = kept!
    await vault.set(without)
    const before = refreshes()
    t.equal(await one.current(), undefined)
    t.equal(refreshes(), before)
    await vault.delete(kept!)
    t.equal(await one.current(), undefined)
    t.ok(url)
  })
  t.test('a credential that is deleted meanwhile is not brought back', async t => {
    const { time, vault, source } = await signedIn()
    const [kept] = await vault.list()
    const one = await source()
    time.pass(280_000)
    const [token] = await Promise.all([
      new Promise<void>(resolve => setImmediate(resolve)).then(() => one.current()),
      vault.locked(kept!, async () => {
        await new Promise(resolve => setTimeout(resolve, 100))
        await vault.delete(kept!)
      })
    ])
    t.equal(token, undefined)
    t.strictSame(await vault.list(), [])
  })
})

t.test('logout when the site is away, or several are kept', async t => {
  const person = terminal(t, 'person')
  const vault = await openVault({ env: person.env })
  const credential = (resource: string): Credential => ({
    issuer: 'https://127.0.0.1/',
    resource,
    clientId: 'c',
    grant: 'device_code',
    tokenEndpoint: 'http://127.0.0.1:1/token',
    revocationEndpoint: 'http://127.0.0.1:1/revoke',
    accessToken: 'opaque',
    refreshToken: 'r',
    expiresAt: 0,
    signedInAt: 0,
    askedScopes: []
  })
  await vault.set(credential('http://127.0.0.1:2/mcp'))
  await vault.set(credential('http://127.0.0.1:3/mcp'))
  t.match(
    (await person.run('status')).stdout,
    /user {6}unknown[^]*scopes {4}unknown[^]*expired, renewed by itself/
  )
  t.match(await person.run('logout'), {
    code: 2,
    stderr: /Which one\?.*:2\/mcp.*:3\/mcp|Which one\?.*:3\/mcp.*:2\/mcp/
  })
  const gone = await person.run('logout', 'http://127.0.0.1:2/mcp')
  t.match(gone, { code: 1, stdout: /Could not be revoked.*: the refresh token, the access token/ })
  t.equal((await vault.list()).length, 1, 'forgotten all the same')
  t.equal((await person.run('logout', '--all')).code, 1)
  t.strictSame(await vault.list(), [])
  const { drupal } = await startSite(t)
  const late = {
    ...credential('http://127.0.0.1:5/mcp'),
    clientId: 'public',
    tokenEndpoint: `${drupal.url}/oauth/token`,
    revocationEndpoint: `${drupal.url}/oauth/revoke`
  }
  t.strictSame(
    await signOut(cliFetch, late),
    { done: ['the refresh token', 'the access token'], failed: [] },
    'a refresh token that has ended needs no revoking'
  )
  const { revocationEndpoint: _, refreshToken: __, ...bare } = credential('http://127.0.0.1:4/mcp')
  t.strictSame(await signOut(cliFetch, bare), { done: [], failed: [] })
})

t.test('discovery', async t => {
  t.test('finds its way with and without a challenge', async t => {
    const site = await startSite(t)
    const found = await discover(cliFetch, site.url)
    t.equal(found.resource, site.url)
    t.equal(found.server.issuer, site.drupal.issuer, 'R99 byte for byte')
    t.strictSame(found.scopes, ['read:tutorials'])
    site.challenge = undefined
    // PHP makes an object of a list with holes.
    site.metadata['scopes_supported'] = { 0: 'a', 2: 'b', 3: 4 }
    t.strictSame((await discover(cliFetch, site.url)).scopes, ['a', 'b'])
    site.metadata['scopes_supported'] = undefined
    t.strictSame((await discover(cliFetch, site.url)).scopes, [])
  })
  t.test('names the link that is broken', async t => {
    const site = await startSite(t)
    const { issuer } = site.drupal
    await t.rejects(discover(cliFetch, `${site.origin}/elsewhere`), {
      message: /calls itself .*\/mcp.*GATEWAY_PUBLIC_URL/
    })
    const { resource } = site.metadata
    delete site.metadata['resource']
    await t.rejects(discover(cliFetch, site.url), { message: /metadata without a resource/ })
    site.metadata['resource'] = `${site.url}#fragment`
    await t.rejects(discover(cliFetch, site.url), { message: /calls itself .*#fragment/ })
    site.metadata['resource'] = resource
    site.metadata['authorization_servers'] = []
    await t.rejects(discover(cliFetch, site.url), { message: /names no authorization server/ })
    site.metadata['authorization_servers'] = 'x'
    await t.rejects(discover(cliFetch, site.url), { message: /names no authorization server/ })
    site.metadata['authorization_servers'] = [issuer]
    site.copy = { issuer: issuer.slice(0, -1) }
    await t.rejects(discover(cliFetch, site.url), {
      message: /calls itself https:\/\/127\.0\.0\.1, but.*OAUTH_ISSUER/
    })
    site.copy = null
    await t.rejects(discover(cliFetch, site.url), {
      message: /cannot be found.*simple_oauth_server_metadata/
    })
    const closed = await new Promise<string>(resolve => {
      const server = createServer().listen(0, '127.0.0.1', () => {
        const { port } = server.address() as AddressInfo
        server.close(() => resolve(`http://127.0.0.1:${port}/mcp`))
      })
    })
    await t.rejects(discover(cliFetch, closed), {
      message: /127\.0\.0\.1:\d+ cannot be reached \(ECONNREFUSED\)/
    })
    const empty = await serve(t, (_request, response) => void response.end('<html>'))
    await t.rejects(discover(cliFetch, `${empty}/`), {
      message: /does not say where to sign in \(it answered 200/
    })
    const odd = await serve(t, (_request, response) => void response.writeHead(999).end())
    await t.rejects(discover(cliFetch, `${odd}/`), { message: /999, which is no HTTP status/ })
    const abort = AbortSignal.abort(new Error('stop'))
    await t.rejects(discover(cliFetch, site.url, abort), /stop/)
    let asked = 0
    const stop = new AbortController()
    const late = await serve(t, (_request, response) => {
      if (++asked === 1) return void response.writeHead(401).end()
      stop.abort(new Error('stop later'))
    })
    await t.rejects(discover(cliFetch, `${late}/mcp`, stop.signal), /stop later/)
  })
  t.test('asks for what a call is refused for, whatever other requests get', async t => {
    const origin = await serve(t, ({ method, url, headers }, response) => {
      const own = `http://${headers.host}`
      if (url?.startsWith('/.well-known/')) {
        const resource = { resource: `${own}/mcp`, authorization_servers: [own] }
        const scopes_supported = ['read:tutorials', 'and', 'all', 'others']
        const document = { ...resource, scopes_supported, issuer: own, token_endpoint: 'x' }
        response.end(JSON.stringify(document))
      } else if (method === 'POST') {
        response.writeHead(401, { 'www-authenticate': 'Bearer scope="read:tutorials"' }).end()
      }
      // So a GET is answered before an mcp upstream, where some tools work before sign-in.
      else response.writeHead(400).end()
    })
    t.strictSame((await discover(cliFetch, `${origin}/mcp`)).scopes, ['read:tutorials'])
  })
  t.test('who is in trouble is not taken for a mistyped URL', async t => {
    const site = await startSite(t)
    let status = 503
    let location: string | undefined
    const origin = await serve(t, (request, response) => {
      const isDocument = request.url?.startsWith('/.well-known/oauth-protected-resource')
      if (isDocument && status === 401) return void response.writeHead(502).end()
      response.writeHead(status, location === undefined ? {} : { location }).end()
    })
    const message = async (url: string) =>
      (
        await discover(cliFetch, url).then(
          () => undefined,
          error => error as Error
        )
      )?.message
    const again = 'try again later, or run doctor with the URL of the gateway.'
    t.equal(await message(`${origin}/mcp`), `${origin}/mcp answered 503: ${again}`)
    status = 429
    t.equal(await message(`${origin}/mcp`), `${origin}/mcp answered 429: ${again}`)
    status = 401
    const document = `${origin}/.well-known/oauth-protected-resource`
    t.equal(await message(`${origin}/mcp`), `${document}/mcp answered 502: ${again}`)
    status = 302
    location = site.url
    t.equal(
      await message(`${origin}/mcp`),
      `${origin}/mcp answered 302: it sends to ${site.url}. Use the URL of the gateway itself.`
    )
    location = undefined
    t.match(await message(`${origin}/mcp`), 'it sends to nowhere')

    status = 503
    site.copy = null
    site.metadata['authorization_servers'] = [origin]
    t.match(await message(site.url), `${origin}/.well-known/`)
    t.match(await message(site.url), ` answered 503: ${again}`)
    site.metadata['authorization_servers'] = [site.drupal.issuer]
    site.copy = undefined
    t.equal(await message(site.url), undefined)
  })
  t.test('an issuer that answers for itself is asked itself', async t => {
    const site = await startSite(t)
    const own = await serve(t, (request, response) => {
      response.end(
        JSON.stringify({ issuer: `http://${request.headers.host}`, token_endpoint: 'x' })
      )
    })
    site.metadata['authorization_servers'] = [own]
    site.copy = null
    t.equal((await discover(cliFetch, site.url)).server.issuer, own)
  })
  t.test('a challenge is read wherever its parameters stand', t => {
    t.strictSame(
      readChallenge('Bearer error="invalid_token", scope="a b", resource_metadata="u"'),
      {
        metadata: 'u',
        scope: 'a b',
        error: 'invalid_token'
      }
    )
    t.strictSame(readChallenge('Bearer realm="x", error_description="scope=none"'), {
      description: 'scope=none'
    })
    t.strictSame(readChallenge(null), {})
    t.end()
  })
})

t.test('registration', async t => {
  const { drupal, url } = await startSite(t)
  const { server } = await discover(cliFetch, url)
  const { registration_endpoint: _, ...closed } = server
  const redirect = 'http://127.0.0.1/callback'
  await t.rejects(register(cliFetch, closed, redirect), { message: /--client-id/ })
  drupal.faults.registrationDefaultHost = true
  const frozen = await discover(cliFetch, url)
  await t.rejects(register(cliFetch, frozen.server, redirect), {
    message: /drush config:set simple_oauth_server_metadata/
  })
  await t.rejects(register(cliFetch, server, 'no-uri'), {
    message: /invalid_client_metadata \(Invalid client metadata/
  })
  const standard = await serve(t, (_request, response) => {
    response
      .writeHead(201, { 'content-type': 'application/json' })
      .end('{"client_id":"c","client_secret":"s","client_secret_expires_at":0}')
  })
  t.strictSame(
    await register(cliFetch, { issuer: 'x', registration_endpoint: standard }, redirect),
    {
      clientId: 'c',
      clientSecret: 's'
    }
  )
  const page = await serve(t, (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/html' }).end('<html>')
  })
  await t.rejects(register(cliFetch, { issuer: 'x', registration_endpoint: page }, redirect), {
    message: /cannot be used \(status 200\)\. Run doctor/
  })
  const insecure = { ...server, registration_endpoint: 'http://cms.example.org/oauth/register' }
  await t.rejects(register(cliFetch, insecure, redirect), { message: /over https only/ })
})

t.test('what is sent, and to whom', async t => {
  for (const good of [
    'https://a.example/mcp',
    'http://localhost:3000/mcp',
    'http://127.0.0.2/',
    'http://[::1]:1/'
  ]) {
    t.equal(safeUrl(good, 'It').href, new URL(good).href)
  }
  for (const [bad, why] of [
    ['http://a.example/mcp', /https only/],
    ['ftp://localhost/', /must begin with https/],
    ['http://localhost.evil.example/', /https only/],
    ['https://user:pw@a.example/', /user name/],
    ['mcp.example.org', /no URL/],
    [undefined, /no URL/]
  ] as const) {
    t.throws(() => safeUrl(bad, 'It'), { message: why }, String(bad))
  }
  const origin = await serve(t, (request, response) => {
    if (request.url === '/large') return void response.end(Buffer.alloc(300_000))
    if (request.url === '/none') return void response.writeHead(204).end()
    if (request.url === '/hop')
      return void response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end()
    response.end(request.headers['user-agent'])
  })
  t.equal(await (await ask(cliFetch, origin)).text(), 'drupal-mcp-gateway-cli')
  t.equal((await ask(cliFetch, `${origin}/none`)).status, 204)
  t.equal((await ask(cliFetch, `${origin}/hop`)).status, 302, 'redirects are not followed')
  await t.rejects(ask(cliFetch, `${origin}/large`), { message: /more than 262144 bytes/ })
  let tunnel: string | undefined
  let silent = 0
  const proxy = createServer().on('connect', (request, socket) => {
    tunnel = request.url
    if (tunnel === 'silent.example.org:443') {
      silent++
      socket.end()
    } else socket.end('HTTP/1.1 502 No\r\n\r\n')
  })
  await new Promise<void>(resolve => proxy.listen(0, '127.0.0.1', resolve))
  t.teardown(() => proxy.close())
  const names = ['https_proxy', 'http_proxy']
  for (const name of names)
    process.env[name] = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`
  const proxied = openHttp()
  for (const name of names) delete process.env[name]
  await t.rejects(ask(proxied.fetch, 'https://cms.example.org/'), { message: /cannot be reached/ })
  t.equal(tunnel, 'cms.example.org:443', 'proxies are obeyed')
  const unanswered = ask(proxied.fetch, 'https://silent.example.org/')
  await t.rejects(unanswered, { message: /cannot be reached \(no connection\)/ })
  t.equal(silent, 1, 'a proxy that does not answer is asked once')
  tunnel = undefined
  t.equal((await ask(proxied.fetch, origin)).status, 200, 'what is for this machine')
  t.equal(tunnel, undefined, 'goes through no proxy')
  await proxied.close()
})

t.test('a proxy of the environment needs no scheme, and what is none is said', async t => {
  let tunnel: string | undefined
  const proxy = createServer().on('connect', (request, socket) => {
    tunnel = request.url
    socket.end('HTTP/1.1 502 No\r\n\r\n')
  })
  await new Promise<void>(resolve => proxy.listen(0, '127.0.0.1', resolve))
  t.teardown(() => proxy.close())
  t.teardown(() => delete process.env['https_proxy'])
  const { port } = proxy.address() as AddressInfo
  for (const [host, value] of [
    ['a.example.org:443', `127.0.0.1:${port}`],
    ['b.example.org:443', ` localhost:${port} `],
    ['c.example.org:443', `user:secret@127.0.0.1:${port}`]
  ] as const) {
    process.env['https_proxy'] = value
    const proxied = openHttp()
    await t.rejects(ask(proxied.fetch, `https://${host}/`), { message: /cannot be reached/ })
    t.equal(tunnel, host, value)
    await proxied.close()
  }
  for (const value of ['://proxy', 'ftp://user:secret@proxy', 'proxy:3128:', 'a b']) {
    process.env['https_proxy'] = value
    t.throws(() => openHttp(), {
      exitCode: 2,
      message:
        'HTTPS_PROXY is not the URL of a proxy, such as http://proxy.example.org:3128. Correct it, or unset it.'
    })
  }
  process.env['https_proxy'] = ' '
  await openHttp().close()
})

t.test('tokens that are brought along', async t => {
  t.equal(givenToken({}, undefined), undefined)
  const env = { DRUPAL_MCP_TOKEN: ' abc \n' }
  t.equal(await givenToken(env, undefined)!.current(), 'abc')
  const file = join(t.testdir({ token: 'one\n' }), 'token')
  const source = givenToken(env, file)!
  t.equal(await source.current(), 'one')
  await t.rejects(source.instead('one'), { exitCode: 3, message: /was refused.*Bring a new one/ })
  await writeFile(file, 'two')
  t.equal(await source.instead('one'), 'two', 'whoever writes the file may rotate it')
  for (const bad of ['', 'a b', 'a\nb']) {
    await writeFile(file, bad)
    await t.rejects(source.current(), { exitCode: 2, message: /does not hold one token/ })
  }
  await t.rejects(givenToken(env, `${file}x`)!.current(), { message: /cannot be read \(ENOENT\)/ })
  await t.rejects(givenToken({ DRUPAL_MCP_TOKEN: 'a\nb' }, undefined)!.instead('x'), {
    message: /DRUPAL_MCP_TOKEN does not/
  })
})

t.test('where there is no browser', async t => {
  const none = () => false
  const cases: [Record<string, string>, NodeJS.Platform, string | undefined][] = [
    [{ DISPLAY: ':0' }, 'linux', undefined],
    [{ WAYLAND_DISPLAY: 'w' }, 'linux', undefined],
    [{}, 'darwin', undefined],
    [{}, 'win32', undefined],
    [{}, 'linux', 'there is no display'],
    [{ DISPLAY: ':0', SSH_CONNECTION: 'x' }, 'linux', 'this is an SSH session'],
    [{ SSH_TTY: 'x' }, 'darwin', 'this is an SSH session'],
    [{ DISPLAY: ':0', CI: 'true' }, 'linux', 'this is CI'],
    [{ DISPLAY: ':0', CI: 'false' }, 'linux', undefined],
    [{ container: 'podman', DISPLAY: ':0' }, 'linux', 'this is a container'],
    [{ KUBERNETES_SERVICE_HOST: 'x', DISPLAY: ':0' }, 'linux', 'this is a container'],
    [{ BROWSER: 'none', DISPLAY: ':0' }, 'linux', 'BROWSER is none'],
    [{ BROWSER: '/vscode/browser.sh', SSH_CONNECTION: 'x' }, 'linux', undefined]
  ]
  for (const [env, platform, expected] of cases)
    t.equal(headless(env, platform, none), expected, JSON.stringify(env))
  for (const path of ['/.dockerenv', '/run/.containerenv']) {
    t.equal(
      headless({ DISPLAY: ':0' }, 'linux', at => at === path),
      'this is a container'
    )
  }
  const url = 'https://x.example/?a=b&c'
  t.strictSame(browserCommand(url, {}, 'linux'), ['xdg-open', [url]])
  t.strictSame(browserCommand(url, {}, 'darwin'), ['open', [url]])
  t.strictSame(browserCommand(url, {}, 'win32'), ['rundll32', ['url.dll,FileProtocolHandler', url]])
  t.strictSame(browserCommand(url, { BROWSER: 'firefox' }), ['firefox', [url]])
  t.equal(await openBrowser(url, { BROWSER: '/no/such/browser' }), false)
  t.equal(await openBrowser(url, { BROWSER: 'true' }), true)
})

t.test('what a person reads', async t => {
  const lines: string[] = []
  const stream = { isTTY: true, columns: 30, write: (text: string) => void lines.push(text) }
  const colourful = createTerminal(stream, { TERM: 'xterm' })
  t.equal(colourful.bold('x'), '\u001b[1mx\u001b[22m')
  t.equal(createTerminal(stream, { NO_COLOR: '1' }).bold('x'), 'x')
  t.equal(createTerminal(stream, { TERM: 'dumb' }).bold('x'), 'x')
  t.equal(createTerminal({ ...stream, isTTY: false }, {}).bold('x'), 'x')
  t.equal(
    createTerminal({ ...stream, isTTY: false }, { FORCE_COLOR: '1' }).dim('x'),
    '\u001b[2mx\u001b[22m'
  )
  colourful.progress('a line that is longer than the terminal')
  colourful.say('done')
  t.strictSame(
    lines,
    ['\u001b[2ma line that is longer than th\u001b[22m', '\r\u001b[K', 'done\n'],
    'a narrow terminal does not stay dim'
  )
  colourful.progress('waiting')
  colourful.end()
  t.equal(lines.at(-1), '\r\u001b[K', 'what main.ts says next begins a line')
  createTerminal({ ...stream, columns: 0 }, { TERM: 'xterm' }).progress('no width')
  t.match(lines.at(-1), 'no width', 'a terminal that does not know its width')
  colourful.say(colourful.bold('a\u001b]52;c;eA==\u0007\u009b2J\r\nb'))
  t.equal(lines.at(-1), '\u001b[1ma ]52;c;eA==  2J \nb\u001b[22m\n')
  createTerminal({ write: text => void lines.push(text) }, {}).progress('not in a log')
  t.notMatch(lines.join(''), 'not in a log')
  t.equal(duration(-5), '0 s')
  t.equal(duration(59_000), '59 s')
  t.equal(duration(300_000), '5 min')
  t.equal(duration(7_200_000), '2 h')
  t.equal(duration(1_209_600_000), '14 days')
  t.equal(printable('a\u0007\u001b[2Jb'), 'a  [2Jb')

  const told: string[] = []
  const plain = createTerminal({ write: text => void told.push(text) }, {})
  const failing = narrator(plain, {}, async () => false)
  failing({ kind: 'visit', url: 'https://x.example/', open: true })
  failing({ kind: 'slower', seconds: 10 })
  const code = {
    userCode: 'A',
    uri: 'https://x.example/d',
    complete: 'https://x.example/d',
    expiresAt: 0
  }
  failing({ kind: 'waiting', code, remainingMs: 1000 })
  failing({ kind: 'long' })
  await new Promise(resolve => setImmediate(resolve))
  t.match(told.join(''), /https:\/\/x\.example[^]*Deny[^]*open the address yourself/)
})

t.test('what a server says steers no terminal', async t => {
  const steering = '\u001b]52;c;eA==\u0007'
  const { url, origin, metadata, drupal } = await startSite(t)
  const person = terminal(t, 'person', browser)
  const vault = await openVault({ env: person.env })
  await vault.set({
    issuer: drupal.issuer,
    resource: url,
    clientId: 'c',
    grant: 'device_code',
    tokenEndpoint: origin,
    accessToken: 'opaque',
    expiresAt: Date.now() + 60_000,
    signedInAt: 0,
    askedScopes: [],
    grantedScopes: [`read${steering}`],
    subject: `2${steering}`
  })
  const shown = await person.run('status')
  t.match(shown.stdout, /scopes {4}read ]52/)
  t.notMatch(shown.stdout, /\p{Cc}(?<!\n)/u)
  metadata['resource'] = `http://x/${steering}`
  const refused = await person.run('login', url)
  t.match(refused, { code: 1, stderr: /calls itself/ })
  t.notMatch(refused.stderr, /\p{Cc}(?<!\n)/u)
})

t.test('scopes', t => {
  const token = (claims: unknown) =>
    `h.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.s`
  t.strictSame(grantedScopes(token({ scope: ['a', 1, 'b'] })), ['a', 'b'])
  t.strictSame(grantedScopes(token({ scope: 'a b' })), ['a', 'b'])
  t.strictSame(grantedScopes(token({}), 'said'), ['said'])
  t.equal(grantedScopes('opaque'), undefined)
  t.equal(peek('a.!.c'), undefined)
  t.equal(peek(token(1)), undefined)
  t.strictSame(missingScopes(['a'], undefined), [])
  t.strictSame(missingScopes(['a', 'b'], ['b']), ['a'])
  t.match(explainMissing(['a:b'], true), /device flow drops/)
  t.match(explainMissing(['a:b'], false), /grant type is switched off/)
  t.match(explainMissing(['plain'], true), /grant type is switched off/)
  t.end()
})

t.test('wrong use is told in a sentence', async t => {
  const person = terminal(t, 'person')
  for (const [args, why] of [
    [['login'], /Which gateway\?/],
    [['login', 'mcp.example.org'], /no URL.*looks like https/],
    [['login', 'http://mcp.example.org/mcp'], /https only/],
    [['login', 'localhost:3402/mcp'], /The URL must begin with https:\/\/\. It looks like https/],
    [['login', 'a', 'b'], /One URL/],
    [['login', '--device', '--browser', 'https://x.example/'], /exclude each other/],
    [['login', '--colour'], /Unknown option '--colour'/],
    [['status', 'nonsense'], /no URL/],
    [['nonsense'], /"nonsense" is no command/]
  ] as const) {
    const { code, stderr, stdout } = await person.run(...args)
    t.equal(code, 2, args.join(' '))
    t.match(stderr, why)
    t.notMatch(stderr, /\n\s+at /, 'no stack')
    t.equal(stdout, '')
  }
  for (const args of [[], ['--help'], ['-h'], ['help']]) {
    t.match(await person.run(...args), { code: 0, stdout: /Commands:[^]*login .*[^]*Exit codes/ })
  }
  t.match(await person.run('help', 'login'), { code: 0, stdout: /^Usage: .* login/ })
  await access(person.home)
  await chmod(person.home, 0o700)
})

t.test('QR codes', t => {
  const text = (length: number) =>
    'https://x.example/'.padEnd(length, 'abcDEF123-?=').slice(0, length)
  // Compared, module by module, with those of qrcode-generator 2.0.4: one length for each version.
  for (const [length, version, digest] of [
    [1, 1, '9618907180ca58f4'],
    [18, 2, '91e6fe39dc1c256a'],
    [53, 3, '649b689646c346d2'],
    [54, 4, 'bef473fc530f7e22'],
    [79, 5, 'c666d301c28641b9'],
    [107, 6, '7f89959f23541e22'],
    [135, 7, '9f781a193148b9dc'],
    [155, 8, '62c0a2704c14eee7'],
    [230, 9, 'd21b46e052bad761']
  ] as const) {
    const grid = qrGrid(Buffer.from(text(length)))!
    t.equal(grid.length, 17 + 4 * version)
    t.equal(createHash('sha256').update(grid.flat().join('')).digest('hex').slice(0, 16), digest)
  }
  t.equal(qrText(text(231)), undefined, 'too long')
  const lines = qrText('https://cms.example.org/oauth/device')!.split('\n')
  t.equal(lines.length, 19, 'two rows of modules a line')
  t.match(lines[0], /\[97;40m█{37}.\[0m$/, 'a quiet zone, light on every background')
  const told: string[] = []
  const screen = createTerminal({ isTTY: true, write: part => void told.push(part) }, {})
  const code = {
    userCode: 'A',
    uri: 'https://x.example/d',
    complete: 'https://x.example/d?c',
    expiresAt: 0
  }
  narrator(screen, {})({ kind: 'code', code })
  t.match(told.join(''), /or scan:\n.*█/)
  told.length = 0
  const narrow = { isTTY: true, columns: 32, write: (part: string) => void told.push(part) }
  narrator(createTerminal(narrow, {}), {})({ kind: 'code', code })
  t.notMatch(told.join(''), '█', 'broken lines are no picture')
  narrow.columns = 33
  narrator(createTerminal(narrow, {}), {})({ kind: 'code', code })
  t.match(told.join(''), '█')
  told.length = 0
  const plain = createTerminal(
    { isTTY: true, write: part => void told.push(part) },
    { NO_COLOR: '1' }
  )
  narrator(plain, {})({ kind: 'code', code })
  t.match(told.join(''), /or scan:\n.*█/)
  t.notOk(told.join('').includes('\u001b['), 'nor has the picture colours with NO_COLOR')
  t.end()
})
