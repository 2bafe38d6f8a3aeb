import { generateKeyPairSync } from 'node:crypto'
import t from 'tap'
import {
  authorizePath,
  bearer,
  CALLBACK,
  codeFor,
  decide,
  exchange,
  hiddenFields,
  json,
  pkce,
  post,
  raw,
  READ,
  signIn,
  WEB,
  webClient,
  start
} from './browse.ts'

const key = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey

t.test('a newcomer registers, signs in, consents, calls, refreshes', async t => {
  const drupal = await start(t, { key })
  const registered = await raw(drupal.url, '/oauth/register', {
    method: 'POST',
    body: JSON.stringify({ redirect_uris: [CALLBACK], token_endpoint_auth_method: 'none' })
  })
  const client_id = String(json(registered).client_id)
  const { verifier, challenge } = pkce()
  const path = authorizePath({
    client_id,
    code_challenge: challenge,
    code_challenge_method: 'S256'
  })

  const sent = await raw(drupal.url, path)
  t.equal(sent.status, 302)
  t.match(sent.headers.location, /^\/user\/login\?destination=\/oauth\/authorize%3Fclient_id%3D/)
  const login = await raw(drupal.url, sent.headers.location!)
  t.match(login.body, /<title>Log in \| Tutorials/)
  const credentials = { ...hiddenFields(login.body), name: 'editor', pass: 'editor' }
  const wrong = await post(drupal.url, sent.headers.location!, { ...credentials, pass: 'no' })
  t.match(wrong.body, /Unrecognized username or password/)
  const signedIn = await post(drupal.url, sent.headers.location!, credentials)
  t.equal(signedIn.status, 303)
  const back = new URL(signedIn.headers.location!)
  t.equal(back.origin, drupal.url)
  const Cookie = signedIn.headers['set-cookie']!.split(';')[0]!

  const consent = await decide(drupal, back.pathname + back.search, Cookie, 'Allow')
  t.match(consent.page.body, /<li>read:tutorials<\/li>/)
  t.equal(consent.answer.status, 302)
  t.equal(consent.back.get('state'), 'xyz')
  t.notOk(consent.back.has('iss'))

  const code = consent.back.get('code')!
  const first = await exchange(drupal, { client_id, code, code_verifier: verifier })
  const tokens = json(first)
  t.strictSame(Object.keys(tokens), ['token_type', 'expires_in', 'access_token', 'refresh_token'])
  const list = await raw(drupal.url, '/mcp/tools/list', { headers: bearer(tokens.access_token) })
  t.equal(list.status, 200)
  t.equal(list.headers['x-consumer-id'], client_id)

  const replay = await exchange(drupal, { client_id, code, code_verifier: verifier })
  t.equal(json(replay).hint, 'Authorization code has been revoked')

  const refresh = { grant_type: 'refresh_token', client_id, scope: READ }
  const second = await post(drupal.url, '/oauth/token', {
    ...refresh,
    refresh_token: String(tokens.refresh_token)
  })
  t.equal(second.status, 200)
  const dead = await raw(drupal.url, '/mcp/tools/list', { headers: bearer(tokens.access_token) })
  t.equal(dead.status, 401)
  t.match(dead.headers['www-authenticate'], /error="access_denied".*has been revoked/)

  const again = await raw(drupal.url, path, { headers: { Cookie } })
  t.match(again.headers.location, /code=def50200/, 'the approval is remembered')
})

t.test('a person may deny, and a forged form decides nothing', async t => {
  const drupal = await start(t, { key })
  const { challenge } = pkce()
  const path = authorizePath({ code_challenge: challenge, code_challenge_method: 'S256' })
  const Cookie = await signIn(drupal.url, 'editor')
  const denied = await decide(drupal, path, Cookie, 'Deny')
  t.strictSame(
    [...denied.back.entries()].map(([name]) => name),
    ['state', 'error', 'error_description', 'hint']
  )
  const forged = await post(drupal.url, path, { op: 'Allow' }, { Cookie })
  t.equal(forged.status, 200)
  t.match(forged.body, /The form has become outdated/)
  drupal.site.roles.authenticated = ['access content']
  drupal.site.roles.editor = ['access content']
  const { back } = await decide(drupal, path, Cookie, 'Allow')
  t.equal(back.get('error'), 'access_denied', 'needs the permission to grant codes')
  const stranger = await raw(drupal.url, path, { headers: { Cookie: `${Cookie}x` } })
  t.equal(stranger.status, 302, 'an unknown session is no session')
})

t.test('login returns to this site only, and the front page says who is there', async t => {
  const drupal = await start(t, { key })
  const login = (destination: string) =>
    post(drupal.url, `/user/login?destination=${encodeURIComponent(destination)}`, {
      name: 'reader',
      pass: 'reader'
    })
  t.equal((await login('//evil.example/')).headers.location, `${drupal.url}/`)
  t.equal((await login('https://evil.example/')).headers.location, `${drupal.url}/`)
  const plain = await post(drupal.url, '/user/login', { name: 'reader', pass: 'reader' })
  t.equal(plain.headers.location, `${drupal.url}/user/3`)
  const headers = { Cookie: await signIn(drupal.url, 'reader') }
  t.match((await raw(drupal.url, '/', { headers })).body, /Signed in as reader/)
  t.match((await raw(drupal.url, '/')).body, /Log in/)
  t.match((await post(drupal.url, '/user/login', {})).body, /role="alert"/)
})

t.test('an authorization request is refused as Drupal refuses it', async t => {
  const drupal = await start(t, { key })
  drupal.site.clients.push(
    webClient(),
    webClient({ clientId: 'strict', pkce: true }),
    webClient({ clientId: 'two', redirectUris: [WEB, `${WEB}?a=1`] }),
    webClient({ clientId: 'none', redirectUris: [], secret: 's' })
  )
  const headers = { Cookie: await signIn(drupal.url, 'editor') }
  const ask = (fields: Record<string, string>, drop = '') => {
    const path = authorizePath({ redirect_uri: WEB, ...fields })
    return raw(drupal.url, path.replace(new RegExp(`&${drop}=[^&]*`), ''), { headers })
  }
  t.equal(
    json(await ask({ client_id: 'web', response_type: 'token' })).error,
    'unsupported_grant_type'
  )
  t.equal(json(await ask({ client_id: 'gateway' })).error, 'invalid_client')
  t.match(json(await ask({ client_id: 'strict' })), { error: 'invalid_request' })
  t.equal((await ask({ client_id: 'web' }, 'redirect_uri')).status, 200, 'the only redirect')
  t.equal((await ask({ client_id: 'two' }, 'redirect_uri')).status, 401)
  t.equal((await ask({ client_id: 'none' }, 'redirect_uri')).status, 401)
  const unknown = await ask({ client_id: 'two', redirect_uri: `${WEB}?a=1`, scope: 'x' }, 'state')
  t.ok(unknown.headers.location!.startsWith(`${WEB}?a=1&error=invalid_scope`))
  t.match(json(await ask({ client_id: 'web' }, 'scope')).hint, /`scope`/)
  const plain = await ask({ client_id: 'public', redirect_uri: CALLBACK, code_challenge: 'x' })
  t.equal(plain.headers['x-oauth-error-type'], 'pkce_validation_failure', 'native needs S256')
  const other = await ask({ client_id: 'public', redirect_uri: CALLBACK, code_challenge: '' })
  t.match(json(other).error_description, /PKCE parameters are mandatory/)
})

t.test('PKCE is checked when the code is exchanged', async t => {
  const drupal = await start(t, { key })
  const now = { ms: Date.now() }
  const clocked = await start(t, { key, now: () => now.ms })
  for (const double of [drupal, clocked]) double.site.clients.push(webClient())
  const web = { client_id: 'web', redirect_uri: WEB }
  const { verifier, challenge } = pkce()
  const s256 = { code_challenge: challenge, code_challenge_method: 'S256' }
  const hint = async (wish: Record<string, string>, given: Record<string, string>) => {
    const code = await codeFor(drupal, { ...web, ...wish })
    return json(await exchange(drupal, { ...web, code, ...given })).hint
  }
  t.equal(await hint(s256, { code_verifier: verifier }), undefined)
  t.equal(await hint({ code_challenge: verifier }, { code_verifier: verifier }), undefined, 'plain')
  t.equal(await hint({}, {}), undefined, 'a web client may do without')
  t.match(await hint({}, { code_verifier: verifier }), /no code_challenge is present/)
  t.match(await hint(s256, {}), /`code_verifier` parameter/)
  t.match(await hint(s256, { code_verifier: 'short' }), /RFC-7636/)
  t.match(await hint(s256, { code_verifier: pkce().verifier }), /Failed to verify/)
  t.match(await hint(s256, { redirect_uri: CALLBACK }), /Invalid redirect URI/)
  t.match(await hint(s256, { code: '' }), /`code` parameter/)
  t.match(await hint(s256, { code: 'nope' }), /Cannot validate/)
  drupal.site.clients.push(webClient({ clientId: 'thief' }))
  t.match(await hint(s256, { client_id: 'thief', code_verifier: verifier }), /not issued to this/)

  const weak = { code: 'x', code_verifier: 'a'.repeat(64) }
  t.match(json(await exchange(drupal, weak)).error_description, /entropy/, 'native rules')
  t.match(json(await exchange(drupal, { code: 'x' })).error_description, /mandatory/)

  const code = await codeFor(clocked, web)
  now.ms += 301_000
  t.equal(json(await exchange(clocked, { ...web, code })).hint, 'Authorization code has expired')
})
