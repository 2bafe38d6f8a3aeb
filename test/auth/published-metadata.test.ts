import t from 'tap'
import { publishedMetadata } from '../../src/auth/published-metadata.ts'

const options = {
  drupalUrl: 'https://cms.example.org',
  connectUrl: 'http://drupal.internal:8080',
  deviceFlowEnabled: true
}
const document = {
  issuer: 'https://cms.example.org/',
  token_endpoint: 'http://cms.example.org/oauth/token',
  jwks_uri: 'http://drupal.internal:8080/.well-known/jwks.json',
  service_documentation: 'http://docs.example.net/x?y=1',
  device_authorization_endpoint: 'https://cms.example.org/oauth/device_authorization',
  op_policy: 'not a URL',
  grant_types_supported: ['authorization_code', 'urn:ietf:params:oauth:grant-type:device_code'],
  scopes_supported: { 0: 'content:read', 12: 'openid', 13: 7 },
  request_uri_parameter_supported: false
}

t.test('R98 the copy names the canonical site, byte for byte in the issuer', async t => {
  t.strictSame(publishedMetadata(document, options), {
    ...document,
    token_endpoint: 'https://cms.example.org/oauth/token',
    jwks_uri: 'https://cms.example.org/.well-known/jwks.json',
    scopes_supported: ['content:read', 'openid']
  })
})

t.test('a device flow that is switched off is not offered', async t => {
  const off = publishedMetadata(document, { ...options, deviceFlowEnabled: false })
  t.notOk('device_authorization_endpoint' in off)
  t.strictSame(off['grant_types_supported'], ['authorization_code'])
  t.notOk(
    'grant_types_supported' in
      publishedMetadata({ issuer: 'x' }, { ...options, deviceFlowEnabled: false })
  )
})

t.test('a member that cannot be written again is left out', async t => {
  const endless = JSON.parse(`${'['.repeat(50_000)}${']'.repeat(50_000)}`) as unknown
  t.strictSame(publishedMetadata({ issuer: 'x', endless }, options), { issuer: 'x' })
})
