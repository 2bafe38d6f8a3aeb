import { generateKeyPairSync } from 'node:crypto'
import t from 'tap'
import { decode, json, raw, start } from './browse.ts'

const key = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey
const AS = '/.well-known/oauth-authorization-server'

t.test('everything published follows the Host, the issuer without port', async t => {
  const drupal = await start(t, {
    key,
    siteName: 'News',
    publicUrl: 'https://cms.example:8443',
    trustedHosts: ['127.0.0.1', 'cms.example'],
    accessTokenLifetime: 60
  })
  t.equal(drupal.issuer, 'https://cms.example:8443/')
  t.equal(decode(drupal.mint().token)[1]!.iss, drupal.issuer)
  const shown = await raw(drupal.url, AS, { headers: { Host: 'cms.example:8443' } })
  t.match(json(shown), {
    issuer: drupal.issuer,
    token_endpoint: 'https://cms.example:8443/oauth/token',
    scopes_supported: ['read:tutorials', 'write:tutorials']
  })
  t.match(json(await raw(drupal.url, AS)), { issuer: 'https://127.0.0.1/' })
  const foreign = await raw(drupal.url, AS, { headers: { Host: 'evil.example' } })
  t.match(foreign, { status: 400, headers: { 'content-type': /^text\/plain/ } })
  t.equal((await raw(drupal.url, AS, { headers: { Host: 'a b' } })).status, 500)
  drupal.faults.believesForwardedHost = true
  const forwarded = { headers: { 'X-Forwarded-Host': 'evil.example' } }
  t.match(await raw(drupal.url, AS, forwarded), { status: 500, body: /unexpected error/ })
  t.match((await raw(drupal.url, '/')).body, '<h1>News</h1>')
})

t.test('the metadata switches act on their own documents', async t => {
  const drupal = await start(t, { key })
  const keys = '/.well-known/jwks.json'
  const status = async (path: string) => (await raw(drupal.url, path)).status
  drupal.faults.registrationDefaultHost = true
  drupal.faults.noS256 = true
  t.match(json(await raw(drupal.url, AS)), {
    registration_endpoint: 'http://default/oauth/register',
    code_challenge_methods_supported: ['plain']
  })
  drupal.faults.jwks404 = true
  t.equal(await status(keys), 404)
  drupal.clearFaults()
  drupal.faults.jwksDown = true
  t.strictSame([await status(keys), await status('/oauth/jwks'), await status(AS)], [503, 503, 200])
  drupal.clearFaults()
  drupal.faults.metadataDown = true
  t.strictSame([await status(AS), await status('/.well-known/openid-configuration')], [503, 503])
  t.equal(await status(keys), 200)
  drupal.clearFaults()
  drupal.faults.clockSkewSeconds = 3600
  const { iat } = decode(drupal.mint().token)[1] as { iat: number }
  t.ok(iat > Date.now() / 1000 + 3000)
  const { date } = (await raw(drupal.url, AS)).headers
  t.ok(Date.parse(date!) > Date.now() + 3_000_000, 'the Date header tells that clock')
})

t.test('a site can be made to publish, believe and let pass what it should not', async t => {
  const drupal = await start(t, { key })
  Object.assign(drupal.faults, {
    metadata: { issuer: 'https://old.example/', registration_endpoint: undefined },
    publishedKeys: [],
    believesForwardedHost: true,
    allowsWebviews: true,
    headers: { Age: '7' },
    only: (path: string) => path === '/oauth/jwks'
  })
  const document = json(
    await raw(drupal.url, AS, { headers: { 'X-Forwarded-Host': 'evil.example' } })
  )
  t.equal(document.issuer, 'https://old.example/')
  t.notOk('registration_endpoint' in document)
  t.equal(document.token_endpoint, 'http://evil.example/oauth/token')
  t.match(json(await raw(drupal.url, AS)).token_endpoint, drupal.url)
  t.match(await raw(drupal.url, '/oauth/jwks'), { headers: { age: '7' }, body: '{"keys":[]}' })
  const electron = { headers: { 'User-Agent': 'Electron/30' } }
  t.match(await raw(drupal.url, '/oauth/authorize?client_id=none', electron), { status: 302 })
})

t.test('without OpenID Connect the keys are gone, though still advertised', async t => {
  const drupal = await start(t, { key, oidc: false })
  const metadata = json(await raw(drupal.url, AS))
  t.strictSame(metadata.response_types_supported, ['code'])
  t.notOk('claims_supported' in metadata)
  for (const path of ['/oauth/jwks', '/.well-known/openid-configuration']) {
    t.equal((await raw(drupal.url, path)).status, 404)
  }
  t.match(metadata.jwks_uri, '/.well-known/jwks.json')
})

t.test('a multilingual site prefixes endpoints, not the issuer', async t => {
  const drupal = await start(t, { key, multilingual: true })
  const spanish = json(await raw(drupal.url, `/es${AS}`))
  t.equal(spanish.issuer, drupal.issuer)
  t.equal(spanish.token_endpoint, `${drupal.url}/es/oauth/token`)
  t.equal(spanish.jwks_uri, `${drupal.url}/es/oauth/jwks`)
  t.match(json(await raw(drupal.url, `/en${AS}`)).jwks_uri, '/en/.well-known/jwks.json')
  t.equal((await raw(drupal.url, '/es')).status, 200)
  t.equal((await raw(drupal.url, '/essay')).status, 404)
})
