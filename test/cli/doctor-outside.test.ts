import { constants, generateKeyPairSync, type KeyPairKeyObjectResult, sign } from 'node:crypto'
import type { SigningOptions as SignOptions } from 'node:crypto'
import t from 'tap'
import { asItIs, type Chain, type Passing, startChain } from './fixtures/chain.ts'
import { eachFault, header, jwk, on, page, PRM, rewrite } from './fixtures/spoil.ts'

t.test('from outside', async t => {
  const chain = await startChain(t)
  const { drupal, gatewayFront, drupalFront } = chain
  const file = (content: string) => `${t.testdir({ token: content })}/token`
  const signedIn = () => ['--token-file', file(chain.token())]
  const faults = drupal.faults
  const ed = generateKeyPairSync('ed25519')
  const ed25519 = ed.publicKey.export({ format: 'jwk' })

  await t.test('a healthy chain is well from name to tool', async t => {
    const { code, checks, text } = await chain.diagnose({ args: [...signedIn(), '--strict'] })
    t.strictSame(
      checks.filter(({ status }) => status !== 'ok'),
      []
    )
    t.equal(code, 0)
    t.ok(checks.length > 35)
    t.notMatch(text, /eyJ[\w-]+\.eyJ/, 'the token is not shown')
    t.ok(checks.every(({ advice }) => advice === null))
  })

  await t.test('without a token the signed-in part is skipped, with the reason', async t => {
    const { code, of } = await chain.diagnose()
    t.match(of('token'), { status: 'skipped', seen: /no token: .* --token-file/ })
    t.match(of('tool-call'), { status: 'skipped', seen: 'rests on "tools", which was skipped' })
    t.equal(of('scopes').status, 'ok', 'what needs no token is checked all the same')
    t.equal(code, 0)
  })

  await t.test('a broken link fails alone; what rests on it is skipped', async t => {
    t.teardown(chain.heal)
    faults.metadataDown = true
    const { of, checks } = await chain.diagnose()
    t.match(of('resource-metadata'), { status: 'ok' }, 'the gateway goes on with what it knows')
    t.match(of('as-metadata'), { status: 'failed', advice: /maintenance_mode 0/ })
    t.match(of('as-pkce'), { status: 'skipped', seen: 'rests on "as-metadata", which failed' })
    t.equal(checks.filter(({ status }) => status === 'failed').length, 1)
  })

  const gateway = (spoil: (answer: Passing) => Passing) => () => void (gatewayFront.spoil = spoil)
  const site = (spoil: (answer: Passing) => Passing) => () => void (drupalFront.spoil = spoil)
  const metadata = (members: Record<string, unknown>) => () => void (faults.metadata = members)
  const mcp = (change: (answer: Passing) => Partial<Passing>) => gateway(on('/mcp', change))

  // biome-ignore format: one fault a line
  await eachFault(t, chain, [
    ['a redirect', 'endpoint', mcp(() => ({ status: 301, headers: { location: 'https://x.example/mcp' } })), 'failed', /301 to https:\/\/x.example/, /give them https:\/\/x.example/],
    ['a redirect to nowhere', 'endpoint', mcp(() => ({ status: 301, headers: {} })), 'failed', /301/, /nowhere/],
    ['another path', 'endpoint', mcp(page(404)), 'failed', /404, an HTML page/, /MCP_PATH/],
    ['no gateway behind the proxy', 'endpoint', mcp(page(502)), 'failed', /502/, /readyz/],
    ['a firewall', 'endpoint', mcp(page(403)), 'failed', /403/, /ALLOWED_HOSTS/],
    ['a password in the proxy', 'endpoint', mcp(() => ({ ...page(401)(), headers: { 'content-type': 'text/html', 'www-authenticate': 'Basic realm="staging"' } })), 'failed', /401, an HTML page and asks for a password/, /reach the gateway without it/],
    ['a web page', 'endpoint', mcp(page(200)), 'failed', /200, an HTML page/, /route this path/],
    ['an HTML page', 'resource-metadata', gateway(on('/.well-known/oauth-protected-resource/mcp', page(200))), 'failed', /HTML page/, /Route \/\.well-known/],
    ['no authorization server known yet', 'resource-metadata', gateway(on(PRM, page(503))), 'failed', /503/, /--gateway-config/],
    ['no issuer', 'resource-metadata', gateway(rewrite(PRM, { authorization_servers: [] })), 'failed', /authorization_servers is \[\]/, /OAUTH_ISSUER/],
    ['Drupal’s document at the root', 'resource-metadata-root', gateway(rewrite('/.well-known/oauth-protected-resource', { resource: 'https://cms.example/', authorization_details_types_supported: [] })), 'failed', /Drupal’s own document/, /not to Drupal/],
    ['another document at the root', 'resource-metadata-root', gateway(rewrite('/.well-known/oauth-protected-resource', { resource: 'https://cms.example/' })), 'failed', /not the URL typed$/, /^Set GATEWAY_PUBLIC_URL .*type what the document says\.$/],
    ['nothing at the root', 'resource-metadata-root', gateway(on('/.well-known/oauth-protected-resource', page(404))), 'failed', /404/, /Route/],
    ['another resource', 'resource', gateway(rewrite(PRM, { resource: 'http://localhost:3000/mcp' })), 'failed', /http:\/\/localhost:3000/, /GATEWAY_PUBLIC_URL/],
    ['a slash too many', 'resource', gateway(rewrite(PRM, { resource: `${chain.typed}/` })), 'failed', /typed was/, /differ by a slash/],
    ['no resource', 'resource', gateway(rewrite(PRM, { resource: undefined })), 'failed', /resource is nothing/, /GATEWAY_PUBLIC_URL/],
    ['the document follows the caller', 'resource-forwarded', gateway(on(PRM, ({ asked, body }) => asked['x-forwarded-host'] ? { body: body.replace('localhost', 'doctor-probe.invalid') } : {})), 'failed', /doctor-probe\.invalid/, /GATEWAY_PUBLIC_URL/],
    ['a page with 200', 'well-known-unknown', gateway(on('/.well-known/doctor-probe', page(200))), 'failed', /200, an HTML page/, /astray/],
    ['the authorization server lives on the same host', 'well-known-unknown', gateway(on(/openid-configuration/, () => ({ status: 200, body: '{"issuer":"https://x/"}' }))), 'ok', /404 in JSON/, /^$/],
    ['a page with 404', 'well-known-unknown', gateway(on('/.well-known/doctor-probe', page(404))), 'warning', /404 in JSON is right/, /astray/]
  ])
  // biome-ignore format: one fault a line
  await eachFault(t, chain, [
    ['GET is not passed', 'challenge', mcp(a => (a.method === 'GET' && a.asked.accept === 'text/event-stream' ? page(405)() : {})), 'failed', /GET answers 405/, /pass GET/],
    ['DELETE is not passed', 'challenge', mcp(a => (a.method === 'DELETE' ? page(403)() : {})), 'failed', /DELETE answers 403/, /bot protection/],
    ['the proxy drops WWW-Authenticate', 'challenge', gateway(header('/mcp', { 'www-authenticate': undefined })), 'failed', /POST answers 401 without a Bearer challenge; GET/, /let.*WWW-Authenticate|WWW-Authenticate/],
    ['another metadata URL', 'challenge', gateway(header('/mcp', { 'www-authenticate': 'Bearer resource_metadata="http://internal:3000/x"' })), 'failed', /internal:3000/, /GATEWAY_PUBLIC_URL/],
    ['too many attempts', 'challenge', mcp(a => (a.method === 'POST' ? { status: 429 } : {})), 'failed', /429/, /wait a minute/],
    ['no sign-in at all', 'challenge', mcp(a => (a.method === 'POST' ? { status: 200 } : {})), 'failed', /POST answers 200/, /AUTH_ANONYMOUS/],
    ['an error although no token was sent', 'challenge', gateway(on('/mcp', a => ({ headers: { ...a.headers, 'www-authenticate': String(a.headers['www-authenticate']).concat(', error="invalid_token"') } }))), 'warning', /although no token/, /gateway answer/],
    ['a bad token is accepted', 'challenge-bad-token', mcp(a => (a.asked.authorization ? { status: 200 } : {})), 'failed', /any token is accepted/, /off the network/],
    ['tokens cannot be checked', 'challenge-bad-token', mcp(a => (a.asked.authorization ? { status: 503 } : {})), 'failed', /503/, /readyz/],
    ['Drupal’s own challenge', 'challenge-bad-token', mcp(a => a.asked.authorization ? { headers: { 'www-authenticate': 'Bearer realm="OAuth", error="access_denied"' } } : {}), 'failed', /access_denied/, /invalid_token/],
    ['the proxy drops Authorization', 'challenge-bad-token', mcp(a => (a.asked.authorization ? { headers: { 'www-authenticate': 'Bearer scope="x"' } } : {})), 'failed', /401, error nothing/, /Authorization does not arrive/],
    ['the preflight must sign in', 'cors-preflight', mcp(a => (a.method === 'OPTIONS' ? { status: 401 } : {})), 'failed', /401/, /carries no token/],
    ['no preflight', 'cors-preflight', mcp(a => (a.method === 'OPTIONS' ? page(405)() : {})), 'failed', /405/, /ALLOWED_ORIGINS/],
    ['another origin', 'cors-preflight', gateway(header('/mcp', { 'access-control-allow-origin': 'https://other.example' })), 'failed', /without Access-Control-Allow-Origin/, /ALLOWED_ORIGINS/],
    ['no Authorization', 'cors-preflight', gateway(header('/mcp', { 'access-control-allow-headers': 'Content-Type, MCP-Protocol-Version, Mcp-Session-Id' })), 'failed', /does not allow authorization/, /OPTIONS/],
    ['no headers allowed', 'cors-preflight', gateway(header('/mcp', { 'access-control-allow-headers': undefined })), 'failed', /does not allow authorization, content-type/, /OPTIONS/],
    ['credentials', 'cors-preflight', gateway(header('/mcp', { 'access-control-allow-credentials': 'true' })), 'warning', /allows credentials/, /cookies/],
    ['WWW-Authenticate is hidden', 'cors-exposed', gateway(header('/mcp', { 'access-control-expose-headers': 'Mcp-Session-Id' })), 'failed', /cannot read www-authenticate/, /Expose-Headers/],
    ['a document for one origin', 'cors-documents', gateway(header(PRM, { 'access-control-allow-origin': undefined })), 'warning', /missing/, /Allow-Origin/]
  ])
  // biome-ignore format: one fault a line
  await eachFault(t, chain, [
    ['an HTML page', 'as-metadata', site(on(/^\/\.well-known\//, page(200))), 'failed', /HTML page/, /drush pm:install/],
    ['the cut connection', 'as-metadata', () => void Object.assign(faults, { resetBefore: true, only: () => true }), 'warning', /connection was cut.*copy answers/, /put TLS in front/],
    ['another issuer', 'as-issuer', site(rewrite('/.well-known/oauth-authorization-server', { issuer: 'https://old.example/' })), 'failed', /old\.example/, /OAUTH_ISSUER/],
    ['a slash less', 'as-issuer', site(rewrite('/.well-known/oauth-authorization-server', { issuer: drupalFront.origin })), 'failed', /only a slash apart/, /byte for byte/],
    ['another issuer in OpenID Connect', 'as-issuer', site(rewrite('/.well-known/openid-configuration', { issuer: 'https://old.example/' })), 'failed', /openid-configuration "https:\/\/old/, /one host name/],
    ['only OpenID Connect', 'as-issuer', site(on('/.well-known/oauth-authorization-server', page(404))), 'ok', /127\.0\.0\.1/, /^$/],
    ['no authorization code', 'as-grants', metadata({ grant_types_supported: ['client_credentials'], token_endpoint: '/oauth/token' }), 'failed', /no authorization_code.*token_endpoint is/, /Enable the grants/],
    ['no refresh token', 'as-grants', metadata({ grant_types_supported: ['authorization_code'] }), 'warning', /no refresh_token/, /Enable the grants/],
    ['no S256', 'as-pkce', () => void (faults.noS256 = true), 'failed', /\["plain"\]/, /s256_enabled 1/],
    ['frozen by drush', 'as-registration', () => void (faults.registrationDefaultHost = true), 'failed', /http:\/\/default\/oauth\/register/, /registration_endpoint "" -y/],
    ['none', 'as-registration', metadata({ registration_endpoint: undefined }), 'warning', /none/, /simple_oauth_client_registration/],
    ['no URL', 'as-registration', metadata({ registration_endpoint: 7 }), 'failed', /is 7/, /config:set/],
    ['advertised and not there', 'as-registration', metadata({ registration_endpoint: `${drupalFront.origin}/oauth/nothing` }), 'failed', /404/, /cache:rebuild/],
    ['endpoints in plain http', 'http-leaks', metadata({ token_endpoint: 'http://127.0.0.1/oauth/token', mtls: { x: ['http://a.example/'] } }), 'failed', /metadata: token_endpoint http:.*mtls\.x\.0 http/, /reverse_proxy/],
    ['advertised and 404', 'keys', () => void (faults.jwks404 = true), 'failed', /404/, /disable_openid_connect 0/],
    ['down', 'keys', () => void (faults.jwksDown = true), 'failed', /503/, /log of the site.*Only where.*generate-keys/],
    ['kept from everybody', 'keys', site(on('/.well-known/jwks.json', page(401))), 'failed', /401/, /New keys would not help/],
    ['empty', 'keys', site(on('/.well-known/jwks.json', () => ({ status: 200, body: '' }))), 'failed', /200/, /New keys would not help/],
    ['no jwks_uri', 'keys', metadata({ jwks_uri: undefined }), 'failed', /nothing/, /OAUTH_PUBLIC_KEY_FILE/],
    ['more than the gateway takes', 'keys', () => void (faults.publishedKeys = Array.from({ length: 33 }, () => ed25519)), 'failed', /holds 33 keys/, /32 at the most/],
    ['no key', 'keys', () => void (faults.publishedKeys = []), 'failed', /no keys/, /generate-keys/],
    ['a short key', 'keys', () => void (faults.publishedKeys = [jwk(1024)]), 'failed', /RSA of 1024 bits/, /generate-keys/],
    ['a private key', 'keys', () => void (faults.publishedKeys = [{ ...jwk(2048), d: 'AQ' }]), 'failed', /private key is published/, /off the network/],
    ['keys that cannot be used', 'keys', () => void (faults.publishedKeys = [jwk(2048), { kty: 'XX' }, null as never, 'x' as never]), 'warning', /kty "XX".*kty nothing/, /generate-keys/],
    ['no key that can be used', 'keys', () => void (faults.publishedKeys = [{ kty: 'XX' }]), 'failed', /no usable key/, /generate-keys/],
    ['several, of other kinds', 'keys', () => void (faults.publishedKeys = [generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'jwk' }), generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' })]), 'ok', /2 keys: prime256v1, ed25519/, /^$/],
    ['an object instead of a list', 'as-scopes', () => void drupal.site.scopes.push({ name: 'profile', grants: [] }), 'failed', /an object, not a list/, /OpenID Connect/]
  ])
  drupal.site.scopes.splice(-1)
  const aMinuteAgo = () => {
    const date = new Date(Date.now() - 60_000).toUTCString()
    gatewayFront.spoil = header('/mcp', { date })
    drupalFront.spoil = header(/./, { date })
  }
  const tokenPath = (status: number) => () => {
    faults.only = path => path === '/oauth/token'
    faults.status = status
  }
  // biome-ignore format: one fault a line
  await eachFault(t, chain, [
    ['none published', 'as-scopes', metadata({ scopes_supported: undefined }), 'warning', /missing/, /cache:rebuild/],
    ['a firewall', 'token-endpoint', tokenPath(403), 'failed', /403, an HTML page/, /firewall/],
    ['no route', 'token-endpoint', tokenPath(404), 'failed', /404/, /pm:install simple_oauth/],
    ['a broken site', 'token-endpoint', tokenPath(500), 'failed', /500/, /watchdog:show --type=simple_oauth/],
    ['every program is an embedded browser', 'token-endpoint', site(on('/oauth/token', () => ({ status: 400, body: '{"error":"embedded_webview_blocked"}' }))), 'failed', /embedded_webview_blocked/, /webview.detection warn/],
    ['Electron is an embedded browser', 'webview', () => void (faults.allowsWebviews = false), 'warning', /embedded_webview_blocked/, /webview.detection warn/],
    ['a browser is a stranger, as Drupal is installed', 'cors-sign-in', site(asItIs), 'warning', /localhost:6274 cannot use: token endpoint, registration endpoint$/, /services\.yml .*cors\.config/],
    ['a browser may not send JSON', 'cors-sign-in', site(header(/./, { 'access-control-allow-origin': 'http://localhost:6274' })), 'warning', /cannot use: registration endpoint$/, /content-type/],
    ['no registration', 'cors-sign-in', metadata({ registration_endpoint: undefined }), 'ok', /^metadata, token endpoint$/, /^$/],
    ['none', 'device', metadata({ device_authorization_endpoint: undefined }), 'warning', /none/, /simple_oauth_device_flow/],
    ['no URL', 'device', metadata({ device_authorization_endpoint: 'x' }), 'failed', /is "x"/, /simple_oauth_device_flow/],
    ['not there', 'device', metadata({ device_authorization_endpoint: `${drupalFront.origin}/oauth/none` }), 'failed', /404/, /simple_oauth_device_flow/],
    ['none', 'introspection', metadata({ introspection_endpoint: undefined }), 'ok', /not needed with OAUTH_VALIDATION=jwt/, /^$/],
    ['down', 'introspection', () => void (faults.introspectionDown = true), 'ok', /503, an HTML page; not needed/, /^$/],
    ['the standard’s dialect', 'introspection', site(on('/oauth/introspect', () => ({ headers: { 'www-authenticate': 'Basic' }, body: '{"error":"invalid_client"}' }))), 'ok', /RFC 7662/, /^$/],
    ['open to everybody', 'introspection', site(on('/oauth/introspect', () => ({ status: 200, body: '{"active":false}' }))), 'warning', /without credentials/, /authenticate its callers/],
    ['no trusted hosts', 'trusted-hosts', site(on(/oauth-authorization-server/, ({ asked }) => ({ status: 200, body: asked.host!.includes('probe') ? 'https://doctor-probe.invalid/' : '{"issuer":"x"}' }))), 'failed', /repeats it/, /trusted_host_patterns/],
    ['a foreign Host gets no answer', 'trusted-hosts', site(on(/oauth-authorization-server/, ({ asked }) => { if (asked.host!.includes('probe')) throw new Error('cut'); return {} })), 'ok', /no answer/, /^$/],
    ['a foreign X-Forwarded-Host is repeated', 'forwarded-hosts', site(on(/oauth-authorization-server/, ({ asked }) => (asked['x-forwarded-host'] ? { body: String(asked['x-forwarded-host']) } : {}))), 'failed', /believes/, /reverse_proxy_addresses/],
    ['a foreign Host breaks it', 'trusted-hosts', site(on(/oauth-authorization-server/, ({ asked }) => asked.host!.includes('probe') ? page(500)() : {})), 'warning', /500/, /trusted_host_patterns/],
    ['a foreign X-Forwarded-Host is believed', 'forwarded-hosts', () => void (faults.believesForwardedHost = true), 'failed', /makes it answer 500/, /reverse_proxy_addresses/],
    ['a foreign X-Forwarded-Host breaks it', 'forwarded-hosts', site(on(/oauth-authorization-server/, ({ asked }) => asked['x-forwarded-host'] ? page(500)() : {})), 'failed', /answer 500/, /reverse_proxy_addresses/],
    ['the MCP endpoint comes from a cache', 'caches-gateway', gateway(header('/mcp', { age: '12', via: '1.1 varnish' })), 'failed', /\/mcp comes from a cache \(age: 12\)/, /return \(pass\)/],
    ['the token endpoint comes from a cache', 'caches-oauth', () => void Object.assign(faults, { only: (path: string) => path === '/oauth/token', headers: { 'X-Cache': 'HIT' } }), 'failed', /^\/oauth\/token comes from a cache \(x-cache: HIT\)$/, /bypass every cache/],
    ['keys may be kept', 'caches-oauth', site(header('/.well-known/jwks.json', { 'cf-cache-status': 'MISS' })), 'warning', /may keep \/\.well-known\/jwks\.json/, /bypass/],
    ['a CDN that only passes on', 'caches-oauth', site(header('/oauth/token', { 'cf-cache-status': 'DYNAMIC', 'cf-ray': 'x' })), 'ok', /on the way: cf-cache-status: DYNAMIC, cf-ray: x/, /^$/],
    ['no keys to ask for', 'caches-oauth', metadata({ jwks_uri: undefined }), 'ok', /fresh/, /^$/],
    ['the site is far ahead', 'clock', () => void (faults.clockSkewSeconds = 60), 'failed', /(59|60|61) s ahead of the gateway/, /timedatectl/],
    ['the site is a little behind', 'clock', () => void (faults.clockSkewSeconds = -5), 'warning', /s behind of the gateway/, /timedatectl/],
    ['no Date from the site', 'clock', site(on(/oauth-authorization-server/, a => ({ headers: { ...a.headers, age: '1' } }))), 'ok', /site sends no Date/, /^$/],
    ['no Date from the gateway', 'clock', mcp(a => ({ headers: { ...a.headers, date: 'never' } })), 'ok', /gateway sends no Date/, /^$/],
    ['this machine is wrong', 'clock', aMinuteAgo, 'warning', /this machine is (59|60|61) s ahead/, /this machine’s clock/],
    ['no such scope at the site', 'scopes', gateway(rewrite(PRM, { scopes_supported: ['read_tutorials', 'gone'] })), 'failed', /the site has no gone/, /Create them/],
    ['no scope at all', 'scopes', () => { gatewayFront.spoil = a => rewrite(PRM, { scopes_supported: undefined })(header('/mcp', { 'www-authenticate': `Bearer resource_metadata="${chain.gatewayFront.origin}/.well-known/oauth-protected-resource/mcp"` })(a)) }, 'warning', /names a scope/, /OAUTH_SCOPES/],
    ['the site publishes none', 'scopes', metadata({ scopes_supported: undefined }), 'skipped', /publishes no scopes/, /^$/],
    ['names with a colon', 'device-scopes', gateway(rewrite(PRM, { scopes_supported: ['read:tutorials', 'plain'] })), 'warning', /drops read:tutorials$/, /read_tutorials, not/],
    ['no device sign-in', 'device-scopes', metadata({ device_authorization_endpoint: undefined }), 'skipped', /no device sign-in/, /^$/]
  ])

  await t.test('signed in', async t => {
    const withToken = (content: string): Parameters<Chain['diagnose']>[0] => ({
      args: ['--token-file', file(content)]
    })
    const noToolScopes = () => drupal.site.tools.filter(tool => !tool.annotations.auth?.scopes)
    // biome-ignore format: one fault a line
    await eachFault(t, chain, [
      ['no file', 'token', () => {}, 'failed', /cannot be read \(ENOENT\)/, /^Correct that, or bring the access token alone/]
    ], { args: ['--token-file', '/none/at/all'] })
    // biome-ignore format: one fault a line
    await eachFault(t, chain, [
      ['no token in the file', 'token', () => {}, 'failed', /holds no bearer token/, /access token alone/]
    ], withToken('two words'))
    // biome-ignore format: one fault a line
    await eachFault(t, chain, [
      ['its time is over', 'token', () => {}, 'failed', /it ended \d+ s ago/, /login/]
    ], withToken(chain.token({ expiresIn: -60 })))
    // biome-ignore format: one fault a line
    await eachFault(t, chain, [
      ['another issuer', 'token-issuer', () => {}, 'failed', /"https:\/\/old\.example\/", metadata/, /OAUTH_ISSUER/]
    ], withToken(chain.token({ claims: { iss: 'https://old.example/' } })))
    // biome-ignore format: one fault a line
    await eachFault(t, chain, [
      ['a key that is not published', 'token-signature', () => void (faults.publishedKeys = [jwk(2048)]), 'failed', /none of the 1 keys/, /purge the CDN/],
      ['another kind of key', 'token-signature', () => void (faults.publishedKeys = [{ ...jwk(2048), kid: 'other' }]), 'failed', /none of the 1/, /sign in again/]
    ], withToken(chain.token()))
    // biome-ignore format: one fault a line
    await eachFault(t, chain, [
      ['it begins later', 'token-time', () => {}, 'failed', /begins in \d+ s/, /timedatectl/]
    ], withToken(chain.token({ claims: { nbf: Math.floor(Date.now() / 1000) + 100 } })))
    // biome-ignore format: one fault a line
    await eachFault(t, chain, [
      ['the URL is its audience', 'token-audience', () => {}, 'ok', /names this resource/, /^$/]
    ], withToken(chain.token({ claims: { aud: ['x', chain.typed] } })))
    // biome-ignore format: one fault a line
    await eachFault(t, chain, [
      ['the device flow dropped them', 'token-scopes', () => {}, 'warning', /^none: OAUTH_AUDIENCE=drupal refuses the token, it has none/, /device code/],
      ['and the gateway refuses it', 'initialize', () => {}, 'failed', /^401/, /compare issuer, audience, scopes and clock/]
    ], withToken(chain.token({ scopes: [] })))
    // biome-ignore format: one fault a line
    await eachFault(t, chain, [
      ['it has no scopes at all', 'token-scopes', () => {}, 'warning', /^none: /, /ask for scopes/]
    ], withToken(chain.token({ claims: { scope: undefined } })))
    // biome-ignore format: one fault a line
    await eachFault(t, chain, [
      ['for another resource', 'token-audience', () => {}, 'warning', /"https:\/\/other\.example\/mcp", not this resource, but another/, /URL of this gateway/],
      ['which the gateway refuses', 'initialize', () => {}, 'failed', /^401/, /audit line/]
    ], withToken(chain.token({ claims: { aud: 'https://other.example/mcp' } })))
    // biome-ignore format: one fault a line
    await eachFault(t, chain, [
      ['for this resource it needs none', 'token-scopes', () => {}, 'warning', /^none$/, /device code/]
    ], withToken(chain.token({ scopes: [], claims: { aud: chain.typed } })))
    // biome-ignore format: one fault a line
    await eachFault(t, chain, [
      ['an opaque token has no claims', 'token-issuer', () => {}, 'ok', /opaque/, /^$/],
      ['an opaque token has no claims', 'token-signature', () => {}, 'ok', /opaque/, /^$/],
      ['an opaque token has no claims', 'token-time', () => {}, 'ok', /no time/, /^$/],
      ['an opaque token has no claims', 'token-audience', () => {}, 'ok', /opaque/, /^$/],
      ['an opaque token has no claims', 'token-scopes', () => {}, 'skipped', /no scopes/, /^$/],
      ['an opaque token is tried all the same', 'initialize', () => {}, 'failed', /401/, /audit line/]
    ], withToken('opaque-token'))
    await eachFault(
      t,
      chain,
      [
        [
          'as the standard writes them',
          'token-scopes',
          () => {},
          'ok',
          /^one read_tutorials$/,
          /^$/
        ]
      ],
      withToken(chain.token({ claims: { scope: 'one read_tutorials' } }))
    )
    // biome-ignore format: one fault a line
    await eachFault(t, chain, [
      ['scopes of something else', 'token-scopes', () => {}, 'warning', /^one two: OAUTH_AUDIENCE=drupal refuses the token, it has none/, /ask for one of read_tutorials write_tutorials\. OAUTH_SCOPES/],
      ['which the gateway refuses, too', 'initialize', () => {}, 'failed', /^401/, /scopes/]
    ], withToken(chain.token({ scopes: ['one', 'two'] })))
    // biome-ignore format: one fault a line
    await eachFault(t, chain, [
      ['the audience matters for them', 'token-scopes', () => {}, 'ok', /^one two$/, /^$/]
    ], withToken(chain.token({ scopes: ['one', 'two'], claims: { aud: chain.typed } })))
    const signing = async (alg: string, pair: KeyPairKeyObjectResult, options: SignOptions) => {
      const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
      const data = `${part({ alg, kid: 'k' })}.${part({ exp: 9_999_999_999 })}`
      const digest = alg.startsWith('Ed') ? null : 'sha256'
      const bytes = sign(digest, Buffer.from(data), { key: pair.privateKey, ...options })
      const published = { ...pair.publicKey.export({ format: 'jwk' }), kid: 'k' }
      const token = `${data}.${bytes.toString('base64url')}`
      await eachFault(
        t,
        chain,
        [
          [
            alg,
            'token-signature',
            () => void (faults.publishedKeys = [published]),
            'ok',
            new RegExp(alg),
            /^$/
          ],
          [
            `${alg}, a key of another kind`,
            'token-signature',
            () => void (faults.publishedKeys = [alg.startsWith('Ed') ? jwk(2048) : ed25519]),
            'failed',
            /none of the 1/,
            /sign in again/
          ]
        ],
        withToken(token)
      )
    }
    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
    await signing('PS256', rsa, { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 })
    await signing('ES256', generateKeyPairSync('ec', { namedCurve: 'P-256' }), {
      dsaEncoding: 'ieee-p1363'
    })
    await signing('EdDSA', ed, {})
    await signing('Ed25519', ed, {})
    const [, claims, bytes] = chain.token().split('.')
    const headed = (header: object) =>
      `${Buffer.from(JSON.stringify(header)).toString('base64url')}.${claims}.${bytes}`
    // biome-ignore format: one fault a line
    await eachFault(t, chain, [
      ['an algorithm that is not accepted', 'token', () => {}, 'failed', /alg "RS512"/, /OAUTH_ALGORITHMS/]
    ], withToken(headed({ alg: 'RS512', typ: 'JWT' })))
    const revoked = drupal.mint()
    drupal.revoke(revoked.jti)
    // biome-ignore format: one fault a line
    await eachFault(t, chain, [
      ['revoked at the site', 'tools', () => {}, 'failed', /401/, /ends their tokens/]
    ], withToken(revoked.token))
    const good = withToken(chain.token())
    const rpc = (method: string, change: (answer: Passing) => Partial<Passing>) =>
      gateway(on('/mcp', answer => (answer.body.includes(method) ? change(answer) : {})))
    const pageOfTools = (sent: string) => {
      const isFirst = !sent.includes('cursor')
      const tools = isFirst ? [null, { name: 'bare' }] : [{ name: 'last' }]
      const result = { tools, ...(isFirst && { nextCursor: '2' }) }
      return { status: 200, body: JSON.stringify({ jsonrpc: '2.0', id: 'list', result }) }
    }
    // biome-ignore format: one fault a line
    await eachFault(t, chain, [
      ['refused by the gateway', 'initialize', mcp(a => a.asked.authorization && a.status === 200 ? { status: 401, headers: { 'www-authenticate': 'Bearer error="invalid_token", error_description="no"' } } : {}), 'failed', /401, "no"/, /compare issuer/],
      ['the site is in maintenance', 'tools', () => void (faults.maintenance = true), 'failed', /503|maintenance/i, /access mcp tool discovery/],
      ['a scope is missing', 'tools', rpc('"tools":[', () => ({ status: 403, headers: { 'www-authenticate': 'Bearer error="insufficient_scope", scope="more"' }, body: '{}' })), 'failed', /needs "more"/, /ask for these scopes/],
      ['the proxy drops the session', 'tools', gateway(header('/mcp', { 'mcp-session-id': undefined })), 'failed', /400, "Mcp-Session-Id is required/, /pass Mcp-Session-Id/],
      ['the proxy drops Authorization', 'initialize', mcp(a => (a.asked.authorization ? { status: 401, headers: { 'www-authenticate': 'Bearer scope="x"' }, body: '' } : {})), 'failed', /^401$/, /Authorization does not arrive/],
      ['a permission is missing', 'tools', rpc('"tools":[', () => ({ status: 403, body: '{}' })), 'failed', /403/, /role:perm:add/],
      ['as an event stream', 'tools', rpc('"tools":[', a => ({ headers: { 'content-type': 'text/event-stream' }, body: `: hello\n\ndata: {"jsonrpc":"2.0","method":"x"}\n\nevent: message\ndata: ${a.body}\n\n` })), 'ok', /8 tools of the site/, /^$/],
      ['an event stream without the answer', 'tools', rpc('"tools":[', () => ({ headers: { 'content-type': 'text/event-stream' }, body: ': hello\n\n' })), 'failed', /200/, /drush/],
      ['no tool', 'tools', rpc('"tools":[', a => ({ body: a.body.replace(/"tools":\[.*\]/, '"tools":[7]') })), 'warning', /0 tools/, /role:perm:add/],
      ['listed without a route', 'tool-routes', () => void faults.missingRoutes.add('demo.slow').add('site.info'), 'failed', /404: site\.info, demo\.slow|404: demo\.slow, site\.info/, /router\.builder/],
      ['not public', 'tool-routes', site(on('/mcp/tools/list', page(404))), 'skipped', /not public/, /^$/],
      ['without a route', 'tool-call', () => void faults.missingRoutes.add('site.info'), 'failed', /site\.info: .*no route/, /audit line/],
      ['it says that it failed', 'tool-call', rpc('"content"', () => ({ body: '{"jsonrpc":"2.0","id":"call","result":{"isError":true}}' })), 'warning', /says that it failed/, /watchdog/],
      ['in pages', 'tools', mcp(a => (a.sent.includes('"tools/list"') ? pageOfTools(a.sent) : {})), 'ok', /2 tools/, /^$/],
      ['no name', 'initialize', rpc('"serverInfo"', a => ({ body: a.body.replace('"serverInfo"', '"other"') })), 'ok', /^nothing, protocol/, /^$/],
      ['without explanation', 'initialize', mcp(a => (a.asked.authorization ? { status: 401, headers: {}, body: '' } : {})), 'failed', /^401$/, /audit line/],
      ['no Date to compare with', 'token-time', gateway(header('/mcp', { date: 'never' })), 'ok', /begun/, /^$/],
      ['DELETE is refused', 'session-end', mcp(a => (a.method === 'DELETE' && a.asked.authorization ? { status: 500 } : {})), 'warning', /500/, /Mcp-Session-Id/],
      ['without sessions', 'session-end', gateway(header('/mcp', { 'mcp-session-id': undefined })), 'skipped', /no session/, /^$/]
    ], good)
    await t.test('tool-call: only what is read-only and covered is called', async t => {
      const { tools } = drupal.site
      t.teardown(() => void (drupal.site.tools = tools))
      drupal.site.tools = noToolScopes().filter(tool => tool.name !== 'site.info')
      // A token of its own, so that no earlier list is shown.
      const args = [
        '--token-file',
        file(chain.token({ scopes: ['read_tutorials'] })),
        '--only',
        'tool-call'
      ]
      t.match((await chain.diagnose({ args })).of('tool-call'), {
        status: 'skipped',
        seen: /no tool/
      })
    })
  })

  await t.test('a URL that is a slash off is not taken for a wrong route', async t => {
    const args = ['--only', 'resource-metadata,resource-metadata-root']
    const { of } = await chain.diagnose({ url: `${chain.typed}/`, args })
    for (const id of ['resource-metadata', 'resource-metadata-root']) {
      t.equal(
        of(id).advice,
        `They differ by a slash, and strict clients compare bytes: give people ${chain.typed}.`
      )
    }
    t.match(of('resource-metadata').seen, /\/mcp\/ answers 404$/)
    gatewayFront.spoil = on(PRM, page(404))
    t.teardown(chain.heal)
    const lost = await chain.diagnose({ url: `${chain.typed}/`, args })
    t.match(lost.of('resource-metadata').advice, /^Route/)
  })

  await t.test('the token is never sent over plain http', async t => {
    const { of } = await chain.diagnose({
      url: 'http://192.0.2.1:1/mcp',
      env: { DRUPAL_MCP_TOKEN: chain.token() },
      args: ['--only', 'token']
    })
    t.match(of('tls'), { status: 'failed', seen: /plain http/ })
    t.equal(of('token').status, 'skipped')
  })
})

t.test('where some tools work before sign-in, the challenge is that of a call', async t => {
  const chain = await startChain(t, { env: { AUTH_ANONYMOUS: 'public-tools' } })
  const { code, of, checks } = await chain.diagnose({ env: { DRUPAL_MCP_TOKEN: chain.token() } })
  t.match(of('challenge'), {
    status: 'warning',
    seen: '401 for a call only, scope "read_tutorials"',
    advice: /Unless that is meant/
  })
  t.equal(code, 0)
  t.strictSame(
    checks.filter(({ status }) => status !== 'ok').map(({ id }) => id),
    ['challenge']
  )
  const args = ['--only', 'challenge', '--gateway-config', `${t.testdir({ file: '{}' })}/file`]
  const known = await chain.diagnose({ args, env: chain.env })
  t.match(known.of('challenge'), { status: 'ok' }, 'whoever has the configuration knows')

  chain.gatewayFront.spoil = header('/mcp', { 'www-authenticate': undefined })
  const { of: spoilt } = await chain.diagnose({ args: ['--only', 'challenge'] })
  t.match(spoilt('challenge'), {
    status: 'failed',
    seen: 'POST answers 401 without a Bearer challenge'
  })
})
