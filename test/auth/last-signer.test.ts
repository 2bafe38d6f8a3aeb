import { KeyObject, sign as sign256 } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { exportJWK, exportSPKI, generateKeyPair, type JWK, SignJWT } from 'jose'
import t, { type Test } from 'tap'
import type { Verdict } from '../../src/auth/verdict.ts'
import { makeParts, type Parts, resource, type Wishes } from './fixtures/parts.ts'
import { clock, serve } from './fixtures/serve.ts'

type Pair = Awaited<ReturnType<typeof generateKeyPair>>

const pairOf = (alg: string) => generateKeyPair(alg, { extractable: true })

/** A server that says what it is told to, the parts around it, and tokens that it did or did not sign. */
async function setUp(t: Test, keys: JWK[], wishes: Wishes = {}) {
  const { now, advance } = clock()
  const says = { keys, issuer: '', down: false }
  const origin = await serve(t, (request, response) => {
    response.statusCode = says.down ? 503 : 200
    const metadata = { issuer: says.issuer, jwks_uri: `${origin}/jwks` }
    response.end(JSON.stringify(request.url === '/jwks' ? { keys: says.keys } : metadata))
  })
  says.issuer = origin
  const parts = makeParts({ drupalUrl: origin, now, ...wishes })
  const sign = ({ privateKey }: Pair, header: object = {}, issuer = origin) =>
    new SignJWT({ scope: 'read:tutorials', jti: Math.random().toString() })
      .setProtectedHeader({ alg: 'RS256', ...header })
      .setIssuer(issuer)
      .setAudience(resource)
      .setSubject('1')
      .setExpirationTime(Math.ceil(now() / 1000) + 100_000)
      .sign(privateKey)
  return { parts, says, sign, advance, origin }
}

const told = (verdict: Verdict) => (verdict.ok ? 'ok' : verdict.reason)

/** The verdict, and whether it came at once. */
async function judge({ verifier }: Pick<Parts, 'verifier'>, token: string): Promise<string> {
  const verdict = verifier.verify(token)
  return verdict instanceof Promise ? `${told(await verdict)}, later` : `${told(verdict)}, at once`
}

t.test('R87 the key that signed the last token is tried first, and at once', async t => {
  const key = await pairOf('RS256')
  const { parts, sign } = await setUp(t, [await exportJWK(key.publicKey)])
  const [first, second] = [await sign(key), await sign(key)]
  t.equal(await judge(parts, first), 'ok, later')
  const cold = makeParts({ ...parts.config, drupalUrl: parts.config.drupal.url })
  const slow = await cold.verifier.verify(second)
  t.strictSame(
    parts.verifier.verify(second),
    slow,
    'the same verdict as without having seen the key'
  )
  t.match(slow, { ok: true, source: 'jwt', principal: { subject: '1', issuer: /127/ } })
  t.match(parts.verifier.verify(second), { source: 'cache' })
  t.equal(parts.asked.length, 2, 'metadata and keys once')
})

t.test('R87 a key that signed before says yes only for what it signed', async t => {
  const [key, stranger] = [await pairOf('RS256'), await pairOf('RS256')]
  const { parts, sign, origin } = await setUp(t, [await exportJWK(key.publicKey)])
  t.equal(await judge(parts, await sign(key)), 'ok, later')
  const good = await sign(key)
  const [head, body, signature] = good.split('.') as [string, string, string]
  const claims = JSON.parse(Buffer.from(body, 'base64url').toString()) as object
  const raised = Buffer.from(JSON.stringify({ ...claims, sub: '2' })).toString('base64url')
  const lying = `${Buffer.from('{"alg":"ES256"}').toString('base64url')}.${body}`
  const rs256 = sign256('sha256', Buffer.from(lying), KeyObject.from(key.privateKey))
  const table: [string, string, string][] = [
    ['RS256 that says ES256', `${lying}.${rs256.toString('base64url')}`, 'unknown-key'],
    ['another key', await sign(stranger), 'signature'],
    ['other claims under the same signature', `${head}.${raised}.${signature}`, 'signature'],
    ['another header', `${head.slice(0, -4)}fQ.${body}.${signature}`, 'malformed|opaque'],
    ['no signature', `${head}.${body}.`, 'malformed'],
    ['half a signature', `${head}.${body}.${signature.slice(0, 171)}`, 'malformed|signature'],
    ['PS256 with the same key', await sign(await psOf(key), { alg: 'PS256' }), 'ok'],
    ['another issuer', await sign(key, {}, 'https://other.example'), 'issuer'],
    ['a critical extension', await sign(key, { crit: ['b64'], b64: true }), 'type']
  ]
  for (const [name, token, reasons] of table) {
    const verdict = told(await parts.verifier.verify(token))
    t.ok(reasons.split('|').includes(verdict), `${name}: ${verdict}`)
  }
  t.equal(await judge(parts, await sign(key)), 'ok, later', 'PS256 was the last')
  t.equal(await judge(parts, good), 'ok, at once')
  t.equal(await judge(parts, await sign(key, {}, `${origin}/`)), 'issuer, later')
})

/** The same RSA key, for the other padding. */
async function psOf({ privateKey, publicKey }: Pair): Promise<Pair> {
  const { subtle } = globalThis.crypto
  const jwk = await subtle.exportKey('jwk', privateKey)
  const algorithm = { name: 'RSA-PSS', hash: 'SHA-256' }
  const { alg: _, ...bare } = jwk
  return { privateKey: await subtle.importKey('jwk', bare, algorithm, false, ['sign']), publicKey }
}

t.test('R87 a kid binds: the last key is asked for its own name only', async t => {
  const [a, b] = [await pairOf('RS256'), await pairOf('RS256')]
  const named = async (kid: string, { publicKey }: Pair) => ({
    ...(await exportJWK(publicKey)),
    kid
  })
  const { parts, sign } = await setUp(t, [await named('a', a), await named('b', b)])
  t.equal(await judge(parts, await sign(a, { kid: 'a' })), 'ok, later')
  t.equal(await judge(parts, await sign(a, { kid: 'a' })), 'ok, at once')
  t.equal(await judge(parts, await sign(a, { kid: 'b' })), 'signature, later')
  t.equal(await judge(parts, await sign(a, { kid: 'c' })), 'unknown-key, later')
  t.equal(await judge(parts, await sign(b, { kid: 'b' })), 'ok, later')
  t.equal(await judge(parts, await sign(b)), 'ok, later', 'no kid: each key is tried')
  t.equal(await judge(parts, await sign(b)), 'ok, at once')
  t.equal(await judge(parts, await sign(a)), 'ok, later')
})

t.test('R87 a key that the server no longer publishes signs no more', async t => {
  const [old, next] = [await pairOf('RS256'), await pairOf('RS256')]
  const { parts, says, sign, advance } = await setUp(t, [await exportJWK(old.publicKey)])
  t.equal(await judge(parts, await sign(old)), 'ok, later')
  says.keys = [await exportJWK(next.publicKey)]
  t.equal(await judge(parts, await sign(old)), 'ok, at once', 'within OAUTH_DISCOVERY_CACHE_TTL')
  t.equal(await judge(parts, await sign(next)), 'ok, later')
  t.equal(await judge(parts, await sign(old)), 'signature, later', 'from the first new token on')
  says.keys = [await exportJWK(old.publicKey)]
  advance(3600)
  t.equal(
    await judge(parts, await sign(next)),
    'signature, later',
    'or from the end of its time on'
  )
})

t.test(
  'R87 the last key is forgotten with the issuer and with the time of both documents',
  async t => {
    const key = await pairOf('RS256')
    const { parts, says, sign, advance } = await setUp(t, [await exportJWK(key.publicKey)])
    const { oauth } = parts.config
    t.equal(await judge(parts, await sign(key)), 'ok, later')
    says.down = true
    advance(oauth.discoveryCacheTtlSeconds)
    t.equal(await judge(parts, await sign(key)), 'ok, later', 'stale documents still serve')
    advance(oauth.staleSeconds)
    const refused = { code: 'GW_AUTHORIZATION_SERVER_UNAVAILABLE' }
    await t.rejects(Promise.resolve(parts.verifier.verify(await sign(key))), refused, 'too old')
    says.down = false
    says.issuer += '/'
    advance(2)
    t.equal(await judge(parts, await sign(key)), 'issuer, later', 'the site has another name now')
  }
)

t.test('R87 a pinned key is tried at once as well, and its issuer is still asked for', async t => {
  const { publicKey, privateKey } = await pairOf('RS256')
  const publicKeyFile = join(t.testdir(), 'public.key')
  writeFileSync(publicKeyFile, await exportSPKI(publicKey))
  const { parts, sign } = await setUp(t, [], { oauth: { publicKeyFile } })
  const key = { publicKey, privateKey }
  t.equal(await judge(parts, await sign(key)), 'ok, later')
  t.equal(await judge(parts, await sign(key)), 'ok, at once')
  t.equal(await judge(parts, await sign(key, {}, 'https://other.example')), 'issuer, later')
  t.equal(await judge(parts, await sign(await pairOf('RS256'))), 'signature, later')
})

t.test(
  'R87 an ES256 key is tried at once, however long the numbers of its signature are',
  async t => {
    const key = await pairOf('ES256')
    const { parts, sign } = await setUp(t, [await exportJWK(key.publicKey)])
    const signed = () => sign(key, { alg: 'ES256' })
    t.equal(await judge(parts, await signed()), 'ok, later')
    const [head, body, signature] = (await signed()).split('.') as [string, string, string]
    const bytes = Buffer.from(signature, 'base64url')
    const [r, s] = [bytes.subarray(0, 32), bytes.subarray(32)]
    const broken = {
      'the halves in the other order': [s, r],
      'a byte less': [r, s.subarray(1)],
      'a byte more': [r, s, Buffer.alloc(1)],
      'a zero before S': [r, Buffer.alloc(1), s],
      'nothing but zeros': [Buffer.alloc(64)],
      'as DER': [Buffer.from([0x30, 68, 0x02, 32]), r, Buffer.from([0x02, 32]), s]
    }
    for (const [name, pieces] of Object.entries(broken)) {
      t.match(await judge(parts, await signed()), /^ok/, 'asked for anew or not, the key is met')
      const token = `${head}.${body}.${Buffer.concat(pieces).toString('base64url')}`
      t.equal(await judge(parts, token), 'signature, later', name)
    }
    t.equal(await judge(parts, await signed()), 'ok, at once', 'none of them took its place')
    // DER has each number without leading zeros, and with one where it would look negative: all four come up within some 1,000 tokens.
    const met = { 'a zero in R': 0, 'a zero in S': 0, 'a high R': 0, 'a high S': 0 }
    for (let n = 0; n < 20_000 && Object.values(met).includes(0); n++) {
      const token = await signed()
      const [, , text = ''] = token.split('.')
      const one = Buffer.from(text, 'base64url')
      if (one[0] === 0) met['a zero in R']++
      if (one[32] === 0) met['a zero in S']++
      if ((one[0] as number) > 0x7f) met['a high R']++
      if ((one[32] as number) > 0x7f) met['a high S']++
      const verdict = await judge(parts, token)
      if (verdict !== 'ok, at once') t.fail(`${verdict}: ${text}`)
    }
    t.notOk(Object.values(met).includes(0), JSON.stringify(met))
  }
)

for (const alg of ['EdDSA', 'PS256']) {
  t.test(`R87 ${alg} is left to other threads`, async t => {
    const key = await pairOf(alg)
    const { parts, sign } = await setUp(t, [await exportJWK(key.publicKey)])
    for (let n = 0; n < 2; n++) t.equal(await judge(parts, await sign(key, { alg })), 'ok, later')
  })
}
