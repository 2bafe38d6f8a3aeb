import { generateKeyPairSync } from 'node:crypto'
import t from 'tap'
import {
  bearer,
  codeFor,
  decode,
  exchange,
  hiddenFields,
  json,
  post,
  raw,
  READ,
  signIn,
  WEB,
  webClient,
  start
} from './browse.ts'

const key = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey
const DEVICE = 'urn:ietf:params:oauth:grant-type:device_code'

t.test('the token endpoint refuses as Drupal refuses', async t => {
  const now = { ms: Date.now() }
  const drupal = await start(t, { key, now: () => now.ms })
  drupal.site.clients.push(webClient(), webClient({ clientId: 'safe', secret: 'safe-secret' }))
  drupal.site.scopes.push({ name: 'once', grants: ['authorization_code'], grantsRole: 'mcp' })
  const token = async (fields: Record<string, string>, headers: Record<string, string> = {}) =>
    post(drupal.url, '/oauth/token', fields, headers)
  const cc = { grant_type: 'client_credentials', scope: READ }
  const gateway = Buffer.from('gateway:gateway-secret').toString('base64')
  const ok = await token(cc, { Authorization: `Basic ${gateway}` })
  t.equal(decode(String(json(ok).access_token))[1]!.sub, undefined, 'no sub')
  t.match(json(await token({ ...cc, scope: '', client_id: 'gateway' })).hint, /`scope`/)
  t.match(json(await token({ ...cc, client_id: 'gateway' })).hint, /`client_secret`/)
  drupal.site.clients.find(client => client.clientId === 'gateway')!.defaultScopes = [READ]
  const bySetting = await token({ ...cc, scope: '' }, { Authorization: `Basic ${gateway}` })
  t.strictSame(decode(String(json(bySetting).access_token))[1]!.scope, [READ], 'its default scopes')
  t.equal((await token({ ...cc, client_id: 'web' })).status, 401, 'no secret, no credentials')
  t.equal((await token({ ...cc, client_id: 'nobody' })).status, 401)
  t.equal(json(await token({ ...cc, client_id: 'public' })).error, 'unauthorized_client')
  t.match(json(await token(cc, { Authorization: 'Basic Og==' })).hint, /`client_id`/)

  const web = { client_id: 'web', redirect_uri: WEB }
  const both = { ...web, scope: `${READ} write:tutorials` }
  const first = json(await exchange(drupal, { ...web, code: await codeFor(drupal, both) }))
  const refresh = (fields: Record<string, string>) =>
    token({
      grant_type: 'refresh_token',
      client_id: 'web',
      refresh_token: String(first.refresh_token),
      ...fields
    })
  t.match(json(await refresh({ refresh_token: '' })).hint, /`refresh_token`/)
  t.equal(json(await refresh({ scope: 'mcp_introspect' })).error, 'invalid_scope')
  t.equal(json(await refresh({ scope: 'openid' })).hint, 'Check the `openid` scope', 'wider')
  const narrow = json(await refresh({ scope: READ }))
  t.strictSame(decode(String(narrow.access_token))[1]!.scope, [READ])
  now.ms += 1_209_601_000
  const old = await refresh({ refresh_token: String(narrow.refresh_token) })
  t.equal(json(old).hint, 'Token has expired')
  const code = await codeFor(drupal, { ...web, scope: 'once' })
  const once = json(await exchange(drupal, { ...web, code }))
  const stuck = await refresh({ refresh_token: String(once.refresh_token) })
  t.equal(json(stuck).error, 'invalid_scope', 'the scope lacks the refresh_token grant')
})

t.test('the device flow loses scopes, ignores Deny, and works when approved', async t => {
  const now = { ms: Date.now() }
  const drupal = await start(t, { key, now: () => now.ms })
  drupal.site.scopes.push({ name: 'plain', grants: [], grantsRole: 'mcp' })
  drupal.site.clients.push(webClient({ clientId: 'other', grantTypes: [DEVICE] }))
  const begin = async () =>
    json(
      await post(drupal.url, '/oauth/device_authorization', {
        client_id: 'public',
        scope: `${READ} plain nonsense`
      })
    ) as { device_code: string; user_code: string; verification_uri_complete: string }
  const poll = async (device_code: string, client_id = 'public') =>
    json(await post(drupal.url, '/oauth/token', { grant_type: DEVICE, client_id, device_code }))
  const Cookie = await signIn(drupal.url, 'reader')
  const device = await begin()
  const url = new URL(device.verification_uri_complete)
  const path = url.pathname + url.search
  t.match((await raw(drupal.url, path)).headers.location, /^\/user\/login/)
  const page = await raw(drupal.url, path, { headers: { Cookie } })
  t.match(page.body, `value="${device.user_code}"`)
  const submit = (fields: Record<string, string>) =>
    post(drupal.url, path, { ...hiddenFields(page.body), ...fields }, { Cookie })
  t.match((await submit({ user_code: device.user_code, form_token: '' })).body, /outdated/)
  t.match((await submit({ user_code: 'NOPE-NOPE' })).body, /Invalid or expired/)
  t.match((await submit({})).body, /Invalid or expired/)

  await submit({ user_code: device.user_code, op: 'Deny Access' })
  t.equal((await poll(device.device_code)).error, 'authorization_pending', 'Deny does nothing')
  t.equal((await poll(device.device_code)).error, 'slow_down')
  now.ms += 6000
  t.equal((await poll(device.device_code)).error, 'authorization_pending')
  t.match((await poll(device.device_code, 'other')).hint, /not issued to this client/)
  t.match((await poll('')).hint, /`device_code`/)
  await submit({ user_code: device.user_code, op: 'Authorize Device' })
  const tokens = await poll(device.device_code)
  t.strictSame(decode(String(tokens.access_token))[1]!.scope, ['plain'], 'read:tutorials is lost')

  const late = await begin()
  now.ms += 1_801_000
  t.equal((await poll(late.device_code)).error, 'expired_token')
  const none = await post(drupal.url, '/oauth/device_authorization', { client_id: 'public' })
  t.equal(none.status, 200)
  const sent = await raw(drupal.url, '/oauth/device')
  t.equal(sent.headers.location, '/user/login?destination=/oauth/device')
  const blank = await raw(drupal.url, '/oauth/device', { headers: { Cookie } })
  t.match(blank.body, 'name="user_code" value=""')
})

t.test('a registration can be read, changed and deleted with its token', async t => {
  const drupal = await start(t, { key })
  const register = (body: string) => raw(drupal.url, '/oauth/register', { method: 'POST', body })
  const problem = async (body: string) => json(await register(body)).error_description
  t.match(await problem('null'), /Syntax error/)
  t.match(await problem('{"redirect_uris":"x"}'), /must be an array/)
  const made = json(await register('{"grant_types":["implicit"]}'))
  t.match(made, { client_secret: String, redirect_uris: [], grant_types: ['implicit'] })
  const path = `/oauth/register/${String(made.client_id)}`
  const headers = bearer(made.registration_access_token)
  const put = (body: string) => raw(drupal.url, path, { method: 'PUT', headers, body })
  const changed = await put(`{"client_name":"New","redirect_uris":["${WEB}"]}`)
  t.match(json(changed), { client_name: 'New', redirect_uris: [WEB] })
  t.equal((await put('{')).status, 400)
  t.equal((await raw(drupal.url, path, { headers: bearer('wrong') })).status, 400)
  t.equal((await raw(drupal.url, path, { method: 'DELETE', headers })).status, 204)
  t.equal((await raw(drupal.url, path, { headers })).status, 400, 'gone')
  t.equal((await raw(drupal.url, '/oauth/register/short', { headers })).status, 404)
  const filler = webClient({ registrationToken: 'r' })
  drupal.site.clients.push(...Array.from({ length: 10_000 }, () => filler))
  const before = drupal.site.clients.length
  t.equal((await register('{}')).status, 200)
  t.equal(drupal.site.clients.length, before, 'the oldest registration made room')
  t.equal(drupal.site.clients[0]!.clientId, 'gateway', 'the site keeps its own clients')
})

t.test('introspection and revocation know only the jti', async t => {
  const drupal = await start(t, { key })
  const editor = drupal.mint()
  const reader = drupal.mint({ uid: 3 })
  const machine = drupal.mint({ uid: null })
  const gateway = drupal.mint({ clientId: 'gateway', uid: null, scopes: ['mcp_introspect'] })
  const ask = async (token: string, caller: string) =>
    json(await post(drupal.url, '/oauth/introspect', { token }, bearer(caller)))
  t.match(await ask(editor.jti, gateway.token), {
    active: true,
    username: 'editor',
    scope: 'read:tutorials write:tutorials'
  })
  t.equal((await ask(machine.jti, gateway.token)).username, undefined)
  t.strictSame(await ask(editor.token, gateway.token), { active: false }, 'a JWT is never active')
  t.strictSame(await ask(editor.jti, reader.token), { active: false }, 'somebody else’s')
  t.equal((await ask(reader.jti, reader.token)).active, true, 'one’s own')
  const nobody = await post(drupal.url, '/oauth/introspect', { token: editor.jti })
  t.equal(nobody.headers['www-authenticate'], 'Bearer')
  const basic = Buffer.from('gateway:gateway-secret').toString('base64')
  const asClient = await post(
    drupal.url,
    '/oauth/introspect',
    { token: editor.jti },
    { Authorization: `Basic ${basic}` }
  )
  t.equal(asClient.status, 401)

  const revoke = (fields: Record<string, string>) => post(drupal.url, '/oauth/revoke', fields)
  t.equal((await revoke({ client_id: 'gateway', client_secret: 'wrong', token: 'x' })).status, 401)
  t.equal((await revoke({ client_id: 'gateway', token: 'x' })).status, 401)
  t.equal((await revoke({ client_id: 'public' })).status, 400)
  await revoke({ client_id: 'gateway', client_secret: 'gateway-secret', token: editor.jti })
  t.equal((await ask(editor.jti, gateway.token)).active, true, 'another client’s stays')
  await revoke({ client_id: 'public', token: editor.jti })
  t.equal((await ask(editor.jti, gateway.token)).active, false)
  drupal.faults.introspectionDown = true
  const down = await post(drupal.url, '/oauth/introspect', { token: 'x' })
  t.equal(down.status, 503)
  t.equal((await raw(drupal.url, '/oauth/userinfo')).status, 403)
  const machineInfo = await raw(drupal.url, '/oauth/userinfo', { headers: bearer(machine.token) })
  t.strictSame(json(machineInfo), { sub: '0' })
})

t.test('an embedded browser is refused wherever an OAuth parameter turns up', async t => {
  const drupal = await start(t, { key })
  const headers = { 'User-Agent': 'Claude/1.0 Electron/30' }
  const blocked = await post(drupal.url, '/oauth/token', { client_id: 'public' }, headers)
  t.equal(json(blocked).error, 'embedded_webview_blocked')
  t.equal((await raw(drupal.url, '/?scope=x', { headers })).status, 400)
  t.equal((await raw(drupal.url, '/', { headers })).status, 200)
})
