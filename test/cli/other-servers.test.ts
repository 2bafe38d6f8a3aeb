// The command line before authorization servers that do what the RFCs allow and Drupal does not.
import t from 'tap'
import type { Test } from 'tap'
import { deviceFlow } from '../../src/cli/device-flow.ts'
import { memoryVault, openVault } from '../../src/cli/credentials-vault.ts'
import { openHttp } from '../../src/cli/http.ts'
import { keptTokens } from '../../src/cli/tokens.ts'
import { signIn } from '../../src/cli/sign-in.ts'
import { serve, startSite, terminal } from './fixtures/site.ts'

const { fetch: cliFetch, close } = openHttp()
t.teardown(close)

type Form = URLSearchParams

interface Answer {
  status?: number
  body: object
}

/** What a server says at its endpoints; a test may change it. */
interface Says {
  token: (form: Form) => Answer
  register?: () => Answer
  /** At the registration's own URL; `bearer` is what was sent there. */
  client?: (bearer: string | undefined) => Answer
}

const tokens = { access_token: 'a', token_type: 'Bearer', refresh_token: 'r', expires_in: 300 }

/** A gateway whose authorization server says this, and somebody who signs in there with a browser. */
async function start(t: Pick<Test, 'teardown'>, says: Says) {
  const site = await startSite(t)
  const origin = await serve(t, async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const form = new URLSearchParams(Buffer.concat(chunks).toString())
    const { status = 200, body } =
      request.url === '/register'
        ? says.register!()
        : request.url === '/client'
          ? says.client!(request.headers.authorization)
          : says.token(form)
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
  })
  site.copy = {
    issuer: site.drupal.issuer,
    authorization_endpoint: `${origin}/authorize`,
    token_endpoint: `${origin}/token`,
    code_challenge_methods_supported: ['S256'],
    ...(says.register ? { registration_endpoint: `${origin}/register` } : {})
  }
  const vault = memoryVault()
  const login = (clientId?: string) =>
    signIn({
      url: site.url,
      fetch: cliFetch,
      vault,
      env: {},
      flow: 'browser',
      ...(clientId === undefined ? {} : { clientId }),
      tell(event) {
        if (event.kind !== 'visit') return
        const { searchParams } = new URL(event.url)
        const back = new URL(searchParams.get('redirect_uri') as string)
        back.search = `code=c&state=${searchParams.get('state')}`
        void fetch(back).then(answer => answer.text())
      }
    })
  return { origin, url: site.url, vault, login }
}

t.test('RFC 7592 what the server says of the registration counts', async t => {
  let status = 200
  let registered = 0
  let changes = 0
  let endsAt = 0
  const now = (uri = '') => ({
    client_id: `client-${registered}`,
    client_secret: `secret-${changes}`,
    client_secret_expires_at: endsAt,
    registration_access_token: `token-${changes}`,
    registration_client_uri: uri
  })
  const bearers: unknown[] = []
  const { origin, vault, login } = await start(t, {
    register() {
      registered++
      return { status: 201, body: now(`${origin}/client`) }
    },
    client(bearer) {
      bearers.push(bearer)
      changes++
      const redirect_uris = ['http://127.0.0.1/callback']
      return { status, body: { ...now(), redirect_uris, grant_types: ['authorization_code'] } }
    },
    token: form =>
      form.get('client_secret') === `secret-${changes}`
        ? { body: tokens }
        : { status: 401, body: { error: 'invalid_client' } }
  })
  t.match(await login(), { clientId: 'client-1', clientSecret: 'secret-0' })
  t.match(await login(), { clientId: 'client-1', clientSecret: 'secret-1' }, 'a new secret')
  status = 503
  await t.rejects(login(), /invalid_client/)
  changes--
  status = 200
  await login()
  t.strictSame(bearers.slice(1), ['Bearer token-1', 'Bearer token-1'], 'and a new token')
  t.equal(registered, 1, 'a server in trouble has not forgotten the client')

  endsAt = 1
  await login()
  t.equal(registered, 2, 'a secret that has ended is not used again')
  const [kept] = await vault.list()
  t.match(kept, { clientId: 'client-2', registration: { token: `token-${changes}` } })
})

t.test('a registration whose URL is not to be asked does not stand in the way', async t => {
  let registered = 0
  const { login } = await start(t, {
    register: () => ({
      status: 201,
      body: {
        client_id: `client-${++registered}`,
        registration_access_token: 't',
        registration_client_uri: 'http://cms.example.org/oauth/register/client'
      }
    }),
    token: () => ({ body: tokens })
  })
  t.match(await login(), { clientId: 'client-1' })
  t.match(await login(), { clientId: 'client-2' })
})

t.test('an id_token is nobody’s business here', async t => {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  let number = 0
  const { url, vault, login } = await start(t, {
    token: () => {
      // Signed by ES256 of which no refresh knows, ended for a clock that is fast, and with a nonce.
      const claims = { iss: 'https://127.0.0.1/', aud: 'c', sub: '2', iat: 1, exp: 2, nonce: 'n' }
      const id_token = `${part({ alg: 'ES256' })}.${part(claims)}.AA`
      return { body: { ...tokens, access_token: `a${++number}`, id_token } }
    }
  })
  t.match(await login('c'), { accessToken: 'a1' })
  t.equal(await keptTokens({ vault, url, fetch: cliFetch }).instead('a1'), 'a2')
})

t.test('a token that cannot be sent as a bearer token is no sign-in', async t => {
  const says = { ...tokens }
  const { vault, login } = await start(t, { token: () => ({ body: says }) })
  says.token_type = 'DPoP'
  await t.rejects(login('c'), { exitCode: 3, message: /type dpop.*RFC 9449.*only bearer/ })
  says.token_type = 'bearer'
  says.access_token = 'a\r\nX: y'
  await t.rejects(login('c'), { exitCode: 3, message: /characters that none may have/ })
  t.strictSame(await vault.list(), [])
})

t.test('the largest numbers there are', async t => {
  const life = { ...tokens, expires_in: Number.MAX_SAFE_INTEGER }
  const { login } = await start(t, { token: () => ({ body: life }) })
  t.testdir()
  const person = terminal(t, 'person')
  await (await openVault({ env: person.env })).set(await login('c'))
  t.match(await person.run('status'), { code: 0, stdout: /days left, renewed by itself/ })

  const code = { device_code: 'd', user_code: 'U', verification_uri: 'https://x.example/' }
  const numbers = { expires_in: Number.MAX_SAFE_INTEGER, interval: Number.MAX_SAFE_INTEGER }
  const origin = await serve(t, (_request, response) => {
    response
      .setHeader('content-type', 'application/json')
      .end(JSON.stringify({ ...code, ...numbers }))
  })
  const slept: number[] = []
  const flow = deviceFlow({
    fetch: cliFetch,
    server: { issuer: origin, device_authorization_endpoint: origin },
    client: { clientId: 'c' },
    scopes: [],
    resource: 'r',
    tell: () => {},
    now: () => slept.reduce((sum, ms) => sum + ms, 0),
    sleep: async ms => void slept.push(ms)
  })
  await t.rejects(flow, { exitCode: 3, message: /expired/ })
  t.ok(slept[0]! < 2 ** 31, 'a longer timer would end at once')
})
