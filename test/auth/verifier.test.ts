import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { exportJWK, generateKeyPair, type JWK, SignJWT } from 'jose'
import t, { type Test } from 'tap'
import { readPinnedKey } from '../../src/auth/pinned-key.ts'
import { createTokenCache } from '../../src/auth/token-cache.ts'
import type { RefusalReason } from '../../src/auth/verdict.ts'
import { createVerdictMemory } from '../../src/auth/verdict-memory.ts'
import { type DrupalOptions, startDrupal } from '../../src/demo/double.ts'
import { isGatewayError } from '../../src/errors.ts'
import { authConfig, makeParts, type Parts, resource } from './fixtures/parts.ts'
import { clock, serve } from './fixtures/serve.ts'

async function drupal(t: Test, options: DrupalOptions = {}) {
  const site = await startDrupal(options)
  t.teardown(() => site.close())
  return site
}

/** 'ok' or the reason of the refusal; a rejection by the table gives its code. */
async function judged({ verifier }: Pick<Parts, 'verifier'>, token: string): Promise<string> {
  try {
    const verdict = await verifier.verify(token)
    return verdict.ok ? 'ok' : verdict.reason
  } catch (error) {
    if (isGatewayError(error)) return error.code
    throw error
  }
}

async function reasonOf(promise: Promise<unknown>): Promise<string | undefined> {
  const error: unknown = await promise.catch((error: unknown) => error)
  return isGatewayError(error) ? error.reason : undefined
}

const unavailable = 'GW_AUTHORIZATION_SERVER_UNAVAILABLE'
const keyRequests = (urls: readonly string[]) => urls.filter(url => url.includes('jwks')).length

t.test('R87 a token of Drupal is accepted, and known at once from then on', async t => {
  const site = await drupal(t)
  const told: string[] = []
  const { verifier, asked } = makeParts({
    drupalUrl: site.url,
    events: { verdict: (reason, source) => told.push(`${reason} ${source}`) }
  })
  const { token, jti } = site.mint()
  t.match(await verifier.verify(token), {
    ok: true,
    source: 'jwt',
    principal: {
      issuer: 'https://127.0.0.1/',
      subject: '2',
      clientId: 'public',
      hasUser: true,
      scopes: ['read:tutorials', 'write:tutorials'],
      tokenId: jti
    }
  })
  const questions = asked.length
  const again = verifier.verify(token)
  t.match(again, { ok: true, source: 'cache' })
  t.equal(verifier.verify(token), again, 'no promise, no new object')
  t.equal(asked.length, questions)
  t.strictSame(
    asked.map(url => new URL(url).pathname),
    ['/.well-known/oauth-authorization-server', '/.well-known/jwks.json']
  )
  t.strictSame(told, ['ok jwt', 'ok cache', 'ok cache'])
})

t.test('the same token at the same time is judged once', async t => {
  const site = await drupal(t)
  const { verifier, asked } = makeParts({ drupalUrl: site.url })
  const { token } = site.mint()
  const first = verifier.verify(token)
  t.equal(verifier.verify(token), first)
  t.match(await first, { ok: true })
  t.equal(asked.length, 2)
})

t.test('R87 a verdict lives no longer than the token and no longer than the TTL', async t => {
  const { now, advance } = clock()
  const site = await drupal(t, { now })
  const parts = makeParts({ drupalUrl: site.url, now, oauth: { tokenCacheTtlSeconds: 60 } })
  const { token } = site.mint({ expiresIn: 100 })
  t.equal(await judged(parts, token), 'ok')
  advance(59)
  t.match(parts.verifier.verify(token), { ok: true, source: 'cache' })
  advance(2)
  t.match(parts.verifier.verify(token), { ok: true, source: 'jwt' }, 'judged again after the TTL')
  t.equal(await judged(parts, token), 'ok')
  advance(50)
  t.equal(await judged(parts, token), 'expired', 'in the cache, and beyond exp with its tolerance')

  const never = makeParts({ drupalUrl: site.url, now, oauth: { tokenCacheTtlSeconds: 0 } })
  const fresh = site.mint().token
  t.equal(await judged(never, fresh), 'ok')
  t.match(never.verifier.verify(fresh), { ok: true, source: 'jwt' }, 'a TTL of 0 keeps nothing')
})

t.test(
  'R86 R87 the classic forgeries of Drupal tokens are refused, each for its reason',
  async t => {
    const site = await drupal(t)
    const parts = makeParts({ drupalUrl: site.url })
    const stranger = await drupal(t)
    const forge = (options: Parameters<typeof site.mint>[0]) => site.mint(options).token
    const table: [string, string, RefusalReason][] = [
      ['alg none', forge({ header: { alg: 'none' } }), 'algorithm'],
      ['HS256 with the public key', forge({ header: { alg: 'HS256' } }), 'algorithm'],
      ['another key, same issuer', stranger.mint().token, 'signature'],
      ['another issuer', forge({ claims: { iss: 'https://evil.example/' } }), 'issuer'],
      ['issuer without the slash', forge({ claims: { iss: 'https://127.0.0.1' } }), 'issuer'],
      ['expired', forge({ expiresIn: -60 }), 'expired'],
      ['not yet valid', forge({ claims: { nbf: Date.now() / 1000 + 60 } }), 'not-yet-valid'],
      ['no scope of this resource', forge({ scopes: ['other'] }), 'no-scope'],
      ['another resource', forge({ claims: { aud: 'https://other.example/' } }), 'audience'],
      ['no audience', forge({ claims: { aud: undefined } }), 'audience'],
      ['id_token', forge({ claims: { scope: undefined, jti: undefined, nbf: undefined } }), 'type'],
      ['opaque', 'def50200abcdef', 'opaque']
    ]
    for (const [name, token, reason] of table) t.equal(await judged(parts, token), reason, name)
    t.equal(await judged(parts, forge({ claims: { aud: resource }, scopes: [] })), 'ok')
    t.equal(await judged(parts, forge({ uid: null })), 'ok', 'client credentials')
  }
)

t.test(
  'R87 Drupal replaced its key: the bad signature asks for the new one, and both sides go on',
  async t => {
    const { now, advance } = clock()
    const site = await drupal(t, { now })
    const refreshed: string[] = []
    const parts = makeParts({
      drupalUrl: site.url,
      now,
      oauth: { tokenCacheTtlSeconds: 1 },
      events: { keyRefresh: outcome => refreshed.push(outcome) }
    })
    const old = site.mint().token
    t.equal(await judged(parts, old), 'ok')
    await site.rotateKey()
    const { token } = site.mint()
    t.equal(await judged(parts, token), 'ok')
    t.equal(keyRequests(parts.asked), 2)
    advance(2)
    t.equal(await judged(parts, old), 'signature', 'the old token died with its key')
    t.equal(keyRequests(parts.asked), 2, 'within the cooldown nobody is asked')

    await site.rotateKey()
    const next = site.mint().token
    t.equal(await judged(parts, next), 'signature', 'a second rotation waits for the cooldown')
    advance(30)
    t.equal(await judged(parts, next), 'ok')
    t.strictSame(refreshed, ['ok', 'ok', 'ok'])
  }
)

t.test('R87 a withdrawn key stays withdrawn, however long the cooldown', async t => {
  const { now, advance } = clock()
  const site = await drupal(t, { now })
  const parts = makeParts({
    drupalUrl: site.url,
    now,
    oauth: { discoveryCacheTtlSeconds: 10, keyCooldownSeconds: 3600, tokenCacheTtlSeconds: 0 }
  })
  t.equal(await judged(parts, site.mint().token), 'ok')
  await site.rotateKey()
  t.equal(await judged(parts, site.mint().token), 'ok', 'fetched because of the new signature')
  const withdrawn = site.mint().token
  await site.rotateKey()
  advance(11)
  t.equal(await judged(parts, site.mint().token), 'ok', 'fetched because of the time')
  t.equal(await judged(parts, withdrawn), 'signature')
})

t.test(
  'a flood of forged tokens costs one key request a cooldown, and evicts no good verdict',
  async t => {
    const { now, advance } = clock()
    const site = await drupal(t, { now })
    const parts = makeParts({
      drupalUrl: site.url,
      now,
      oauth: { tokenCacheEntries: 10 }
    })
    const good = site.mint().token
    t.equal(await judged(parts, good), 'ok')
    const [head, body] = good.split('.')
    const forged = (n: number) =>
      `${head}.${body}.${Buffer.alloc(256, n % 251)
        .fill(n >> 8, 0, 2)
        .toString('base64url')}`
    const flood = await Promise.all(Array.from({ length: 600 }, (_, n) => judged(parts, forged(n))))
    t.strictSame(new Set(flood), new Set(['signature']))
    t.equal(keyRequests(parts.asked), 2)
    t.match(parts.verifier.verify(good), { ok: true, source: 'cache' })
    t.match(parts.verifier.verify(forged(599)), { ok: false, source: 'cache' })
    advance(31)
    await Promise.all([judged(parts, forged(1)), judged(parts, forged(2))])
    t.equal(keyRequests(parts.asked), 3)
    t.equal(parts.asked.length, 4, 'metadata once')
  }
)

t.test('more unknown tokens at once than can be judged are turned away', async t => {
  const silent = await serve(t, () => {})
  const { token } = (await drupal(t)).mint()
  const { verifier } = makeParts({
    drupalUrl: silent,
    oauth: { timeoutSeconds: 0.3 },
    introspection: true
  })
  const waiting = Array.from({ length: 1000 }, (_, n) =>
    Promise.resolve(verifier.verify(`opaque-${n}`)).catch((error: { code: string }) => error.code)
  )
  const more = ['opaque-1001', token].map(one => Promise.resolve(verifier.verify(one)))
  for (const one of more) await t.rejects(one, { code: 'GW_OVERLOADED' })
  t.strictSame(new Set(await Promise.all(waiting)), new Set([unavailable]))
})

t.test(
  'keys: stale ones serve while the server is down, up to the bound; it heals by itself',
  async t => {
    const { now, advance } = clock()
    const site = await drupal(t, { now, accessTokenLifetime: 100_000 })
    const parts = makeParts({
      drupalUrl: site.url,
      now,
      scopes: ['read:tutorials'],
      oauth: { discoveryCacheTtlSeconds: 60, staleSeconds: 600 },
      events: {
        keyRefresh: outcome => failures.push(outcome),
        asFailure: kind => failures.push(kind)
      }
    })
    const failures: string[] = []
    site.faults.jwksDown = true
    t.equal(await judged(parts, site.mint().token), unavailable, 'down from the start')
    t.strictSame(failures, ['failed', 'keys'])
    t.match(await reasonOf(parts.keys.ready()), /answered 503/)
    site.faults.jwksDown = false
    advance(1)
    await parts.keys.ready()
    t.equal(await judged(parts, site.mint().token), 'ok')
    site.faults.jwksDown = true
    site.faults.metadataDown = true
    advance(120)
    t.equal(await judged(parts, site.mint().token), 'ok')
    t.equal(failures.at(-1), 'keys')
    const stranger = await drupal(t, { now })
    t.equal(await judged(parts, stranger.mint().token), 'signature', 'a forged one gets no 503')
    advance(600)
    t.equal(await judged(parts, site.mint().token), unavailable, 'too stale')
    site.clearFaults()
    advance(1)
    t.equal(await judged(parts, site.mint().token), 'ok')
    t.equal(failures.at(-1), 'ok')
  }
)

t.test('the server down for good: a token gets 503, not 401', async t => {
  const parts = makeParts({ drupalUrl: 'http://127.0.0.1:9' })
  t.match(await reasonOf(parts.keys.ready()), /cannot be reached/)
  const site = await drupal(t)
  t.equal(await judged(parts, site.mint().token), unavailable)
  t.equal(await judged(parts, 'rubbish'), 'opaque', 'rubbish is refused all the same')
})

t.test('OpenID Connect is off in Drupal: JWKS 404 gives a reason with a hint', async t => {
  const site = await drupal(t, { oidc: false })
  const parts = makeParts({ drupalUrl: site.url })
  t.equal(await judged(parts, site.mint().token), unavailable)
  const reason = await reasonOf(parts.keys.ready())
  t.match(reason, /answered 404 although the metadata names it.*OpenID Connect/)
  t.match(reason, /OAUTH_PUBLIC_KEY_FILE/)
})

t.test('a pinned public key works without any JWKS', async t => {
  const site = await drupal(t, { oidc: false })
  const file = join(t.testdir({}), 'public.key')
  writeFileSync(file, site.publicKeyPem)
  const parts = makeParts({
    drupalUrl: 'http://127.0.0.1:9',
    oauth: { publicKeyFile: file, issuers: [site.issuer] }
  })
  await parts.keys.ready()
  t.equal(await judged(parts, site.mint().token), 'ok')
  t.equal(await judged(parts, site.mint({ header: { kid: 'any' } }).token), 'ok')
  await site.rotateKey()
  t.equal(await judged(parts, site.mint().token), 'signature')
  t.strictSame(parts.asked, [])
})

t.test('a pinned key file that is not usable is said at start, with what to do', async t => {
  const pem = (key: KeyObject, type: 'spki' | 'pkcs8' = 'spki') =>
    key.export({ type, format: 'pem' }) as string
  const weak = generateKeyPairSync('rsa', { modulusLength: 1024 })
  const pss = generateKeyPairSync('rsa-pss', { modulusLength: 2048 })
  const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' })
  const p256 = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const ed = generateKeyPairSync('ed25519')
  const folder = t.testdir({
    private: pem(p256.privateKey, 'pkcs8'),
    weak: pem(weak.publicKey),
    pss: pem(pss.publicKey),
    p384: pem(p384.publicKey),
    text: 'not a key',
    p256: pem(p256.publicKey),
    ed: pem(ed.publicKey)
  })
  const read = (name: string) => () => readPinnedKey(join(folder, name))
  t.throws(read('missing'), { message: /OAUTH_PUBLIC_KEY_FILE.*cannot be read \(ENOENT\)/ })
  t.throws(read('private'), { message: /holds a private key/ })
  t.throws(read('text'), { message: /holds no PEM public key/ })
  t.throws(read('weak'), { message: /2048 bits/ })
  t.throws(read('pss'), { message: /must hold RSA/ })
  t.throws(read('p384'), { message: /P-256/ })
  t.match(read('p256')(), { keys: [{ kty: 'EC', crv: 'P-256' }] })
  t.match(read('ed')(), { keys: [{ kty: 'OKP', crv: 'Ed25519' }] })
  t.throws(() => makeParts({ oauth: { publicKeyFile: join(folder, 'text') } }), { message: /PEM/ })
})

t.test(
  'key sets of every shape: kid, no kid, several that fit, and none that is usable',
  async t => {
    const algorithms = ['RS256', 'PS256', 'ES256', 'EdDSA'] as const
    const pairs = await Promise.all(
      algorithms.map(alg => generateKeyPair(alg, { extractable: true }))
    )
    const jwks: JWK[] = await Promise.all(pairs.map(({ publicKey }) => exportJWK(publicKey)))
    const { now, advance } = clock()
    let keys: unknown = []
    const origin = await serve(t, (request, response) => {
      const body =
        request.url === '/jwks' ? { keys } : { issuer: origin, jwks_uri: `${origin}/jwks` }
      response.end(JSON.stringify(body))
    })
    const parts = makeParts({ drupalUrl: origin, now, oauth: { keyCooldownSeconds: 0 } })
    const sign = (index: number, header: object = {}) =>
      new SignJWT({ scope: 'read:tutorials', client_id: 'c', jti: Math.random().toString() })
        .setProtectedHeader({ alg: algorithms[index] as string, typ: 'at+jwt', ...header })
        .setIssuer(origin)
        .setAudience(resource)
        .setSubject('1')
        .setExpirationTime(Math.ceil(now() / 1000) + 100_000)
        .sign(pairs[index]!.privateKey)

    const broken = [
      null,
      'x',
      [],
      {},
      { kty: 'RSA', kid: 'k0' },
      { kty: 'EC', crv: 'P-256', x: 'a' }
    ]
    for (const unusable of [[], 'none', broken, Array.from({ length: 33 }, () => jwks[0])]) {
      keys = unusable
      advance(1)
      t.equal(
        await judged(parts, await sign(0)),
        unavailable,
        JSON.stringify(unusable).slice(0, 40)
      )
      t.match(await reasonOf(parts.keys.ready()), `${origin}/jwks: `)
    }
    keys = jwks
    advance(1)
    for (const index of algorithms.keys()) t.equal(await judged(parts, await sign(index)), 'ok')
    t.equal(await judged(parts, await sign(3, { alg: 'Ed25519' })), 'ok', 'RFC 9864 name of EdDSA')
    t.equal(await judged(parts, await sign(0, { kid: 'any' })), 'ok', 'no key has a kid')

    keys = [...broken, ...jwks]
    advance(3600)
    for (const index of algorithms.keys())
      t.equal(await judged(parts, await sign(index)), 'ok', 'what is no key is passed over')
    t.equal(await judged(parts, await sign(0, { kid: 'any' })), 'ok', 'and its kid is none')

    keys = jwks.map((key, index) => ({ ...key, kid: `k${index}`, use: 'sig' }))
    advance(3600)
    t.equal(await judged(parts, await sign(2, { kid: 'k2' })), 'ok')
    t.equal(await judged(parts, await sign(0, { kid: 'new' })), 'unknown-key')
    t.equal(
      await judged(parts, await sign(0, { kid: 'k1' })),
      'signature',
      'kid of another RSA key'
    )
    t.equal(await judged(parts, await sign(1)), 'ok', 'no kid: both RSA keys are tried')
    const before = keyRequests(parts.asked)
    const other = await generateKeyPair('RS256')
    const forge = (header: object) =>
      new SignJWT({ scope: 'read:tutorials', jti: '1' })
        .setProtectedHeader({ alg: 'RS256', ...header })
        .setIssuer(origin)
        .setAudience(resource)
        .setSubject('1')
        .setExpirationTime(Math.ceil(now() / 1000) + 100_000)
        .sign(other.privateKey)
    t.equal(await judged(parts, await forge({ kid: 'k0' })), 'signature')
    t.equal(keyRequests(parts.asked), before, 'token and key have a kid: nobody is asked')

    // A server may replace its keys and name them, and yet name none in its tokens.
    keys = [{ ...(await exportJWK(other.publicKey)), kid: 'next' }]
    t.equal(await judged(parts, await forge({})), 'ok', 'no kid in the token: the new key is found')
    t.equal(keyRequests(parts.asked), before + 1)

    keys = [{ ...jwks[2], kid: 'enc', use: 'enc' }]
    t.equal(await judged(parts, await sign(2, { kid: 'enc' })), 'unknown-key')
    keys = [{ ...jwks[2], kid: null, use: null, alg: null, key_ops: null }]
    t.equal(await judged(parts, await sign(2)), 'ok', 'PHP’s nulls say nothing')
    keys = [{ kty: 'RSA', n: 'AQAB', e: 'AQAB' }]
    t.equal(await judged(parts, await sign(0, { kid: 'x' })), 'signature', 'an RSA key of 24 bits')

    keys = Array.from({ length: 32 }, () => jwks[0])
    t.equal(await judged(parts, await sign(0, { kid: 'any' })), 'ok', 'as many as a set may hold')
    keys = [await exportJWK(other.publicKey)]
    t.equal(await judged(parts, await forge({ kid: 'any' })), 'ok', 'replaced, and still no kid')
    keys = [{ ...jwks[0], kid: 'k0' }, jwks[2]]
    t.equal(await judged(parts, await sign(0, { kid: 'any' })), 'unknown-key', 'one key has a kid')
    t.equal(await judged(parts, await sign(0, { kid: 'k0' })), 'ok')
  }
)

t.test('a server that names no usable jwks_uri says so', async t => {
  const origin = await serve(t, (_request, response) => {
    response.end(JSON.stringify({ issuer: origin, jwks_uri: 'file:///etc/passwd' }))
  })
  const parts = makeParts({ drupalUrl: origin })
  const site = await drupal(t)
  t.equal(await judged(parts, site.mint({ claims: { iss: origin } }).token), unavailable)
  t.match(await reasonOf(parts.keys.ready()), /names no usable jwks_uri.*OAUTH_PUBLIC_KEY_FILE/)
})

t.test(
  'several issuers: an old name of the site is verified with the keys of the first',
  async t => {
    const site = await drupal(t)
    const parts = makeParts({
      drupalUrl: site.url,
      oauth: { issuers: [site.issuer, 'http://localhost:9/'] }
    })
    t.equal(await judged(parts, site.mint().token), 'ok')
    t.equal(await judged(parts, site.mint({ claims: { iss: 'http://localhost:9/' } }).token), 'ok')
    t.equal(
      await judged(parts, site.mint({ claims: { iss: 'http://localhost:8/' } }).token),
      'issuer'
    )
    t.equal(keyRequests(parts.asked), 1)
  }
)

/** An authorization server of one's own, that may be down; its keys can be replaced, and its key set be down alone. */
async function issuing(t: Test) {
  const state = { isDown: false, keysDown: false, kid: 'first', status: 503 }
  const pairs = new Map<string, Awaited<ReturnType<typeof generateKeyPair>>>()
  for (const kid of ['first', 'second', 'foreign']) pairs.set(kid, await generateKeyPair('ES256'))
  const origin = await serve(t, async (request, response) => {
    const asksKeys = request.url === '/jwks'
    if (state.isDown || (asksKeys && state.keysDown)) {
      response.writeHead(state.status).end()
      return
    }
    const { kid } = state
    const key = { ...(await exportJWK(pairs.get(kid)!.publicKey)), kid }
    const metadata = { issuer: origin, jwks_uri: `${origin}/jwks` }
    response.end(JSON.stringify(asksKeys ? { keys: [key] } : metadata))
  })
  const sign = (kid: string, claimed = kid) =>
    new SignJWT({ scope: 'read:tutorials', client_id: 'c', jti: Math.random().toString() })
      .setProtectedHeader({ alg: 'ES256', typ: 'at+jwt', kid: claimed })
      .setIssuer(origin)
      .setAudience(resource)
      .setSubject('1')
      .setExpirationTime('1h')
      .sign(pairs.get(kid)!.privateKey)
  return { origin, state, sign }
}

t.test(
  'a second issuer that is down: 503, not 401, and its tokens work once it is back',
  async t => {
    const { now, advance } = clock()
    const site = await drupal(t, { now })
    const second = await issuing(t)
    const oauth = { issuers: [site.issuer, second.origin] }
    const parts = makeParts({ drupalUrl: site.url, now, oauth })
    second.state.isDown = true
    const token = await second.sign('first')
    t.equal(await judged(parts, token), unavailable)
    const questions = parts.asked.length
    for (let n = 0; n < 20; n++)
      t.equal(await judged(parts, await second.sign('foreign')), unavailable)
    t.equal(
      parts.asked.filter(url => url.startsWith(second.origin)).length,
      2,
      'once a second, at two places'
    )
    t.ok(parts.asked.length <= questions + 1, 'and the keys of the first once a cooldown')
    const old = site.mint({ claims: { iss: second.origin } }).token
    t.equal(await judged(parts, old), 'ok', 'it may be another name of the first')
    second.state.isDown = false
    advance(1)
    t.equal(await judged(parts, token), 'ok', 'within a second, not a minute')
    t.equal(await judged(parts, await second.sign('foreign', 'first')), 'signature')

    second.state.status = 404
    second.state.isDown = true
    const absent = makeParts({ drupalUrl: site.url, now, oauth })
    t.equal(await judged(absent, token), 'unknown-key', 'it answers, and has no metadata')
  }
)

t.test(
  'a key that could not be fetched: 503 until a fetch succeeds, then unknown is unknown',
  async t => {
    const { now, advance } = clock()
    const server = await issuing(t)
    const parts = makeParts({ drupalUrl: server.origin, now })
    t.equal(await judged(parts, await server.sign('first')), 'ok')
    server.state.kid = 'second'
    server.state.keysDown = true
    const token = await server.sign('second')
    t.equal(await judged(parts, token), unavailable)
    t.equal(await judged(parts, await server.sign('first')), 'ok', 'what is known goes on')
    t.equal(await judged(parts, await server.sign('foreign', 'first')), 'signature')
    const fetched = keyRequests(parts.asked)
    for (let n = 0; n < 20; n++)
      t.equal(await judged(parts, await server.sign('foreign', `k${n}`)), unavailable)
    t.equal(keyRequests(parts.asked), fetched, 'one fetch a cooldown, however many ask')
    server.state.keysDown = false
    advance(31)
    t.equal(await judged(parts, token), 'ok')
    t.equal(
      await judged(parts, await server.sign('foreign')),
      'unknown-key',
      'no 503 while it is up'
    )
    t.equal(keyRequests(parts.asked), fetched + 1)
  }
)

t.test('Drupal has the last word: refuse() ends a token at once, and nobody is asked', async t => {
  const { now, advance } = clock()
  const site = await drupal(t, { now })
  const parts = makeParts({ drupalUrl: site.url, now })
  const { token } = site.mint()
  t.equal(await judged(parts, token), 'ok')
  parts.verifier.refuse(token)
  const questions = parts.asked.length
  t.match(parts.verifier.verify(token), { ok: false, reason: 'refused-upstream', source: 'cache' })
  t.equal(parts.asked.length, questions)
  advance(6)
  t.equal(await judged(parts, token), 'ok', 'asked again after a few seconds')

  const cold = makeParts({ drupalUrl: site.url, now }).verifier
  const other = site.mint().token
  const pending = cold.verify(other)
  t.ok(pending instanceof Promise)
  cold.refuse(other)
  t.match(await pending, { ok: false, reason: 'refused-upstream' }, 'also while being judged')
})

t.test(
  'the cache is bounded by entries and bytes, and swept of what nobody may use any more',
  async t => {
    const cache = createTokenCache<number>(3, 5000)
    for (const n of [1, 2, 3, 4]) cache.set(`t${n}`, n, 1000, 0)
    t.strictSame(
      [1, 2, 3, 4].map(n => cache.get(`t${n}`, 0)),
      [undefined, 2, 3, 4]
    )
    cache.set('x'.repeat(2900), 5, 1000, 0)
    t.equal(cache.get('t2', 0), undefined, 'bytes')
    cache.set('late', 1, 1000, 1000)
    t.equal(cache.get('late', 0), undefined, 'nothing is kept for no time')
    t.equal(cache.get('t4', 999), 4)
    t.equal(cache.get('t4', 1000), undefined)
    cache.set('new', 1, 100_000, 61_000)
    t.equal(cache.get('t4', 999), undefined, 'swept')
    cache.delete('new')
    t.equal(cache.get('new', 61_000), undefined)
  }
)

t.test('a refusal of Drupal ends in its time although the wall clock steps back', async t => {
  const wall = clock()
  const steady = clock()
  const memory = createVerdictMemory(authConfig().oauth, wall.now, steady.now)
  const detail = 'Drupal refused the token'
  memory.refuse('a-token', { ok: false, reason: 'refused-upstream', detail, source: 'cache' })
  wall.advance(-3600)
  steady.advance(4)
  t.match(memory.find('a-token'), { ok: false })
  steady.advance(2)
  t.equal(memory.find('a-token'), 'seen', 'it is judged anew')
})

t.test('tokens with the same end are never taken for each other', async t => {
  const cache = createTokenCache<number>(10, 50_000)
  const end = 'e'.repeat(100)
  cache.set(`a${end}`, 1, 1000, 0)
  t.equal(cache.get(`b${end}`, 0), undefined)
  cache.delete(`b${end}`)
  t.equal(cache.get(`a${end}`, 0), 1, 'and one is not forgotten for the other')
  cache.set(`b${end}`, 2, 1000, 0)
  t.equal(cache.get(`a${end}`, 0), undefined)
  t.equal(cache.get(`b${end}`, 0), 2)
})
