// Against an authorization server that nobody here wrote: oidc-provider, over HTTP.
import t from 'tap'
import { authorizationServer, privateJwk, type Server } from './fixtures/authorization-server.ts'
import { makeParts, type Parts, resource, type Wishes } from './fixtures/parts.ts'
import { clock } from './fixtures/serve.ts'

const partsFor = (server: Server, wishes: Wishes = {}) =>
  makeParts({
    drupalUrl: server.issuer,
    audience: { kind: 'resource' },
    ...wishes,
    oauth: { clientId: 'gateway', clientSecret: 'secret', ...wishes.oauth }
  })

async function judged({ verifier }: Parts, token: string): Promise<string> {
  const verdict = await verifier.verify(token)
  return verdict.ok ? 'ok' : verdict.reason
}

t.test('R86 R87 RFC 9068 tokens bound to this resource by RFC 8707', async t => {
  const server = await authorizationServer(t)
  const parts = partsFor(server)
  const token = await server.token({ scope: 'read:tutorials write:tutorials' })
  const header = JSON.parse(
    Buffer.from(token.split('.')[0] ?? '', 'base64url').toString()
  ) as object
  t.match(header, { typ: 'at+jwt', alg: 'RS256', kid: 'first' })
  t.match(await parts.verifier.verify(token), {
    ok: true,
    principal: {
      issuer: server.issuer,
      subject: 'desktop',
      clientId: 'desktop',
      hasUser: false,
      scopes: ['read:tutorials', 'write:tutorials']
    }
  })
  t.equal(
    await judged(parts, await server.token({ resource: 'https://other.example/mcp' })),
    'audience'
  )
  const drupal = partsFor(server, { audience: { kind: 'drupal' } })
  t.equal(await judged(drupal, await server.token()), 'ok', 'policy drupal takes a true audience')
  t.equal(
    await judged(drupal, await server.token({ resource: 'https://other.example/mcp' })),
    'audience'
  )
})

t.test('RS256, PS256, ES256 and EdDSA, each after a rotation of kid', async t => {
  const { now, advance } = clock()
  const server = await authorizationServer(t)
  const parts = partsFor(server, { now, oauth: { tokenCacheTtlSeconds: 1 } })
  const old = await server.token()
  t.equal(await judged(parts, old), 'ok')
  let keys: object[] = []
  for (const alg of ['PS256', 'ES256', 'EdDSA', 'RS256'] as const) {
    const fresh = privateJwk(alg, `new-${alg}`)
    keys = [fresh]
    server.rotate(alg, ...keys)
    advance(31)
    t.equal(await judged(parts, await server.token()), 'ok', alg)
  }
  t.equal(await judged(parts, old), 'unknown-key', 'the first key is gone')
  t.equal(parts.asked.filter(url => url.endsWith('/jwks')).length, 5)

  const overlap = privateJwk('ES256', 'overlap')
  server.rotate('ES256', overlap, ...keys)
  t.equal(await judged(parts, await server.token()), 'unknown-key', 'within the cooldown')
  advance(31)
  t.equal(await judged(parts, await server.token()), 'ok', 'two keys published at once')
})

t.test(
  'an algorithm that is not on the list is refused, though the server signs with it',
  async t => {
    const server = await authorizationServer(t)
    const parts = partsFor(server, { oauth: { algorithms: ['ES256'] } })
    t.equal(await judged(parts, await server.token()), 'algorithm')
    t.strictSame(parts.asked, [])
  }
)

t.test('two servers: each listed issuer is verified with its own keys', async t => {
  const [first, second] = [await authorizationServer(t), await authorizationServer(t)]
  second.rotate('ES256', privateJwk('ES256', 'second'))
  const parts = partsFor(first, {
    drupalUrl: 'https://cms.example',
    oauth: { issuers: [first.issuer, second.issuer] }
  })
  t.equal(await judged(parts, await first.token()), 'ok')
  t.equal(await judged(parts, await second.token()), 'ok')
  const one = partsFor(first, {
    drupalUrl: 'https://cms.example',
    oauth: { issuers: [first.issuer] }
  })
  t.equal(await judged(one, await second.token()), 'issuer')
})

t.test('opaque tokens by introspection, and their revocation', async t => {
  const { now, advance } = clock()
  const server = await authorizationServer(t)
  const parts = partsFor(server, { now, introspection: true, oauth: { tokenCacheTtlSeconds: 60 } })
  const token = await server.token({ format: 'opaque' })
  t.notMatch(token, '.')
  t.match(await parts.verifier.verify(token), {
    ok: true,
    source: 'introspection',
    principal: { issuer: server.issuer, clientId: 'desktop', scopes: ['read:tutorials'] }
  })
  t.equal((await server.post('/token/revocation', { token })).status, 200)
  t.equal(await judged(parts, token), 'ok', 'within the bound')
  advance(60)
  t.equal(await judged(parts, token), 'inactive')
  t.equal(await judged(parts, 'unheard-of'), 'inactive')
  const elsewhere = await server.token({ format: 'opaque', resource: 'https://other.example/' })
  t.equal(await judged(parts, elsewhere), 'audience')
  t.equal(await judged(partsFor(server), token), 'opaque', 'no introspection is configured')
})

t.test('a person’s token, and the refresh token beside it, which does not pass as one', async t => {
  const server = await authorizationServer(t)
  const { provider } = server
  const parts = partsFor(server, { introspection: true, audience: { kind: 'drupal' } })
  const grant = new provider.Grant({ accountId: 'alice', clientId: 'desktop' })
  ;(grant['addResourceScope'] as (resource: string, scope: string) => void)(
    resource,
    'read:tutorials'
  )
  const common = {
    accountId: 'alice',
    client: await provider.Client.find('desktop'),
    grantId: await grant.save(),
    scope: 'read:tutorials',
    gty: 'authorization_code'
  }
  const access = new provider.AccessToken(common)
  access['resourceServer'] = new provider.ResourceServer(resource, {
    audience: resource,
    scope: 'read:tutorials',
    accessTokenFormat: 'opaque'
  })
  t.match(await parts.verifier.verify(await access.save()), {
    ok: true,
    principal: { subject: 'alice', clientId: 'desktop', hasUser: true }
  })
  const refresh = await new provider.RefreshToken({ ...common, resource, expiresIn: 3600 }).save()
  t.match(await parts.verifier.verify(refresh), {
    ok: false,
    reason: 'inactive',
    detail: /token_type/
  })
})
