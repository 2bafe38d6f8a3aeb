import t from 'tap'
import { judgeAudience } from '../../src/auth/audience.ts'
import { judgeClaims } from '../../src/auth/claims.ts'
import { decodeJwt } from '../../src/auth/jwt.ts'
import type { Principal } from '../../src/auth/principal.ts'
import type { AudiencePolicy } from '../../src/config/schema.ts'

const now = 1_795_402_900
const resource = 'https://mcp.example/mcp'
const drupal = {
  aud: 'pub-client',
  jti: '3c4f',
  iat: now - 9,
  nbf: now - 9,
  exp: now + 291.695924,
  scope: ['content:read', 'content:write'],
  sub: '2',
  iss: 'https://127.0.0.1/'
}

/** Claims of Drupal with changes; undefined takes one away, as JSON would. */
function judge(changes: Record<string, unknown> = {}, type: unknown = 'JWT', tolerance = 0) {
  const merged = JSON.parse(JSON.stringify({ ...drupal, ...changes })) as Record<string, unknown>
  const verdict = judgeClaims(type, merged, now, tolerance, resource)
  return verdict.ok ? verdict.claims.principal : verdict.reason
}

function principalOf(changes: Record<string, unknown>): Principal {
  const principal = judge(changes)
  if (typeof principal === 'string') throw new Error(`${JSON.stringify(changes)}: ${principal}`)
  return principal
}

t.test('R87 R93 the claims of Drupal become a principal', async t => {
  t.strictSame(judge(), {
    issuer: 'https://127.0.0.1/',
    subject: '2',
    clientId: 'pub-client',
    hasUser: true,
    scopes: ['content:read', 'content:write'],
    expiresAt: now + 291.695924,
    tokenId: '3c4f',
    key: 'rdltH-AXGxzvFeZzwThhqz',
    subjectKey: principalOf({ client_id: 'cli' }).subjectKey
  })
  const keys = [{}, { iss: 'https://other.example/' }, { sub: '3' }, { client_id: 'cli' }]
  t.equal(new Set(keys.map(changes => principalOf(changes).key)).size, 4, 'each is part of the key')
  const subjects = keys.map(changes => principalOf(changes).subjectKey)
  t.equal(new Set(subjects).size, 3, 'but the client of that of the subject')
  for (const key of subjects) t.match(key, /^[\w-]{22}$/)
})

t.test('scope comes as array, string, scopes or scp; the first that is there counts', async t => {
  const table: [Record<string, unknown>, string[]][] = [
    [{ scope: 'a b  a' }, ['a', 'b']],
    [{ scope: ['a', 'b', 'a'] }, ['a', 'b']],
    [{ scope: [] }, []],
    [{ scope: '' }, []],
    [{ scope: undefined, scopes: ['a'] }, ['a']],
    [{ scope: undefined, scopes: 'a b' }, ['a', 'b']],
    [{ scope: undefined, scp: ['a'] }, ['a']],
    [{ scope: undefined, scp: 'a' }, ['a']],
    [{ scope: ['a'], scp: ['b'] }, ['a']],
    [{ scope: null, scp: ['b'] }, ['b']],
    [{ scope: undefined, scp: null }, []],
    [{ scope: undefined }, []]
  ]
  for (const [changes, scopes] of table) {
    t.strictSame(principalOf(changes).scopes, scopes, JSON.stringify(changes))
  }
  for (const scope of [7, {}, [7], ['a', null], [''], true]) {
    t.equal(judge({ scope }), 'claims', JSON.stringify(scope))
  }
})

t.test('R107 a client that acts for itself has no user', async t => {
  t.match(judge({ sub: undefined }), {
    subject: 'pub-client',
    clientId: 'pub-client',
    hasUser: false
  })
  t.match(judge({ sub: 'pub-client' }), { subject: 'pub-client', hasUser: false })
  t.equal(judge({ sub: undefined, aud: 'https://mcp.example/mcp' }), 'claims')
})

t.test('the client is client_id, else azp, else a single aud that is no URL', async t => {
  const table: [Record<string, unknown>, string][] = [
    [{ client_id: 'a', azp: 'b' }, 'a'],
    [{ azp: 'b' }, 'b'],
    [{ aud: ['only'] }, 'only'],
    [{ aud: ['one', 'two'] }, ''],
    [{ aud: 'https://mcp.example/mcp' }, ''],
    [{ aud: undefined }, '']
  ]
  for (const [changes, clientId] of table) {
    t.equal(principalOf(changes).clientId, clientId, JSON.stringify(changes))
  }
})

t.test('R87 times are seconds with fractions, and the tolerance counts both ways', async t => {
  t.type(judge({ exp: now + 0.001 }), 'object')
  t.equal(judge({ exp: now }), 'expired')
  t.equal(judge({ exp: now - 0.001 }), 'expired')
  t.type(judge({ exp: now - 4.9 }, 'JWT', 5), 'object')
  t.equal(judge({ exp: now - 5 }, 'JWT', 5), 'expired')
  t.type(judge({ nbf: now }), 'object')
  t.equal(judge({ nbf: now + 0.5 }), 'not-yet-valid')
  t.type(judge({ nbf: now + 5 }, 'JWT', 5), 'object')
  t.type(judge({ nbf: undefined, iat: undefined }), 'object')
})

t.test('R87 claims of the wrong kind are refused, not interpreted', async t => {
  const table: Record<string, unknown>[] = [
    { exp: undefined },
    { exp: null },
    { exp: `${now + 300}` },
    { exp: [now + 300] },
    { nbf: 'soon' },
    { iat: {} },
    { iss: undefined },
    { iss: '' },
    { iss: ['https://127.0.0.1/'] },
    { sub: 2 },
    { sub: '' },
    { sub: null },
    { jti: 7 },
    { jti: '' },
    { client_id: 7 },
    { client_id: '' },
    { azp: [] },
    { azp: '' },
    { aud: 7 },
    { aud: '' },
    { aud: ['a', 7] },
    { aud: { a: 1 } }
  ]
  for (const changes of table) t.equal(judge(changes), 'claims', JSON.stringify(changes))
  t.equal(
    (judgeClaims('JWT', { ...drupal, exp: Infinity }, now, 0, resource) as { reason?: string })
      .reason,
    'claims',
    'JSON writes 1e999 as a number'
  )
})

t.test('RFC 9068 typ: JWT, at+jwt in any case and with application/, or none', async t => {
  for (const type of ['JWT', 'jwt', 'at+jwt', 'AT+JWT', 'application/at+jwt', undefined]) {
    t.equal(judgeOf(type), 'ok', String(type))
  }
  for (const type of ['dpop+jwt', 'logout+jwt', 'id_token', '', 7, null]) {
    t.equal(judgeOf(type), 'type', String(type))
  }
  function judgeOf(type: unknown) {
    const verdict = judgeClaims(type, drupal, now, 0, resource)
    return verdict.ok ? 'ok' : verdict.reason
  }
})

t.test('R86 tokens that are no plain access tokens do not pass as one', async t => {
  const table: [string, Record<string, unknown>][] = [
    ['id_token of Drupal', { scope: undefined, jti: undefined, nbf: undefined }],
    ['id_token with a null', { scope: undefined, scp: null, jti: undefined }],
    ['id_token with a nonce', { scope: undefined, nonce: 'n' }],
    ['id_token with at_hash', { at_hash: 'x' }],
    ['id_token with c_hash', { c_hash: 'x' }],
    ['id_token of Keycloak', { typ: 'ID' }],
    ['refresh token of Keycloak', { typ: 'Refresh' }],
    ['refresh token of Hydra', { token_use: 'refresh_token' }],
    ['id_token of Cognito', { token_use: 'id' }],
    ['logout token', { events: { 'http://schemas.openid.net/event/backchannel-logout': {} } }],
    ['DPoP-bound token', { cnf: { jkt: 'x' } }],
    ['certificate-bound token', { cnf: { 'x5t#S256': 'x' } }]
  ]
  for (const [name, changes] of table) t.equal(judge(changes), 'type', name)
  t.type(judge({ typ: 'Bearer' }), 'object', 'access token of Keycloak')
  t.type(judge({ token_use: 'access' }), 'object', 'access token of Cognito')
  t.type(judge({ scope: undefined, jti: undefined }, 'at+jwt'), 'object', 'RFC 9068 without scope')
  t.type(judge({ nonce: 'n' }), 'object', 'what has a scope is no id_token')
  for (const name of ['scope', 'scopes', 'scp']) {
    const changes = { scope: undefined, [name]: 'a', jti: undefined }
    t.type(judge(changes), 'object', `${name} without jti`)
  }
  const bare = { scope: undefined, jti: undefined, client_id: 'c', aud: ['c', resource] }
  t.type(judge(bare), 'object', 'neither scope nor jti, but aud names this resource')
  t.equal(judge({ ...bare, nonce: 'n' }), 'type', 'an id_token that has it in aud too')
  t.equal(judge({ ...bare, aud: ['c', `${resource}/`] }), 'type')
})

t.test('R86 each audience policy: what it accepts and what it refuses', async t => {
  const self = { resource: 'https://mcp.example/mcp', scopes: new Set(['read:a', 'write:a']) }
  const nothingKnown = { ...self, scopes: new Set<string>() }
  const clients: AudiencePolicy = { kind: 'clients', clientIds: ['desktop', 'cli'] }
  const other = 'https://other.example/mcp'
  type Row = [AudiencePolicy, string[], string[], 'audience' | 'no-scope' | undefined, typeof self?]
  const table: Row[] = [
    [{ kind: 'resource' }, [self.resource], [], undefined],
    [{ kind: 'resource' }, [other, self.resource], [], undefined],
    [{ kind: 'resource' }, ['desktop'], ['read:a'], 'audience'],
    [{ kind: 'resource' }, [other], ['read:a'], 'audience'],
    [{ kind: 'resource' }, [`${self.resource}/`], ['read:a'], 'audience'],
    [{ kind: 'resource' }, ['https://mcp.example'], ['read:a'], 'audience'],
    [{ kind: 'resource' }, [], ['read:a'], 'audience'],

    [{ kind: 'drupal' }, [self.resource], [], undefined],
    [{ kind: 'drupal' }, ['desktop'], ['read:a'], undefined],
    [{ kind: 'drupal' }, ['desktop'], ['x', 'write:a'], undefined],
    [{ kind: 'drupal' }, ['desktop'], [], 'no-scope'],
    [{ kind: 'drupal' }, ['desktop'], ['openid', 'profile'], 'no-scope'],
    [{ kind: 'drupal' }, ['desktop'], ['read', 'READ:A'], 'no-scope'],
    [{ kind: 'drupal' }, [other], ['read:a'], 'audience'],
    [{ kind: 'drupal' }, ['desktop', other], ['read:a'], 'audience'],
    [{ kind: 'drupal' }, ['desktop', 'HTTPS://other.example/mcp'], ['read:a'], 'audience'],
    [{ kind: 'drupal' }, [], ['read:a'], 'audience'],
    [{ kind: 'drupal' }, ['desktop'], ['anything'], undefined, nothingKnown],
    [{ kind: 'drupal' }, ['desktop'], ['openid', 'offline_access'], 'no-scope', nothingKnown],
    [{ kind: 'drupal' }, ['desktop'], [], 'no-scope', nothingKnown],

    [clients, ['desktop'], [], undefined],
    [clients, ['x', 'cli'], [], undefined],
    [clients, ['Desktop'], ['read:a'], 'audience'],
    [clients, [self.resource], ['read:a'], 'audience'],
    [clients, [], ['read:a'], 'audience']
  ]
  for (const [policy, audience, scopes, reason, resource = self] of table) {
    t.equal(
      judgeAudience(policy, { audience, scopes }, resource)?.reason,
      reason,
      `${policy.kind}: aud ${audience.join(' ')} scope ${scopes.join(' ')}`
    )
  }
})

t.test('R87 a JWS is taken apart strictly, before any key is asked', async t => {
  const part = (value: unknown) =>
    Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url')
  const decode = (header: unknown, claims: unknown = drupal, signature = 'AAAA') => {
    const decoded = decodeJwt(`${part(header)}.${part(claims)}.${signature}`, ['RS256'])
    return decoded.kind === 'refused' ? decoded.reason : decoded.kind
  }
  t.equal(decode({ alg: 'RS256' }), 'jwt')
  for (const alg of ['none', 'None', 'HS256', 'RS512', 'ES256', '', undefined, 7, ['RS256']]) {
    t.equal(decode({ alg }), 'algorithm', JSON.stringify(alg))
  }
  t.equal(decode({ alg: 'RS256', crit: ['b64'], b64: false }), 'type')
  t.equal(decode({ alg: 'RS256', kid: 7 }), 'malformed')
  for (const claims of ['[]', 'null', '7', '"a"', '{', '\ufeff{}', '']) {
    t.equal(decode({ alg: 'RS256' }, claims), 'malformed', claims)
  }
  t.equal(decode({ alg: 'RS256' }, drupal, ''), 'malformed')
  t.equal(decode({ alg: 'RS256' }, drupal, 'AAB'), 'malformed', 'bits that do not count')
  t.equal(decode({ alg: 'RS256' }, drupal, 'AA=='), 'malformed')
  const invalidUtf8 = Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]).toString('base64url')
  t.match(decodeJwt(`${part({ alg: 'RS256' })}.${invalidUtf8}.AAAA`, ['RS256']), {
    reason: 'malformed'
  })
  const signed = `${part({ alg: 'RS256' })}.${part(drupal)}`
  const texts = ['', 'opaque', 'a.b', 'a.b.c', 'v4.public.AAAA', 'a.b.c.d.e']
  for (const text of [...texts, signed, `${signed}.AAAA.`, `${signed}.AAAA.AAAA.AAAA`]) {
    t.strictSame(decodeJwt(text, ['RS256']), { kind: 'opaque' }, text)
  }
})
