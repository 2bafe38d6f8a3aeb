import type { IncomingMessage, ServerResponse } from 'node:http'
import { text } from 'node:stream/consumers'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import t, { type Test } from 'tap'
import { twinOf } from '../../src/auth/jwt.ts'
import { type DrupalDouble, type DrupalOptions, startDrupal } from '../../src/demo/double.ts'
import { isGatewayError } from '../../src/errors.ts'
import { scrub } from '../../src/telemetry/scrub.ts'
import { makeParts, type Parts, resource, type Wishes } from './fixtures/parts.ts'
import { clock, serve } from './fixtures/serve.ts'

const unavailable = 'GW_AUTHORIZATION_SERVER_UNAVAILABLE'

async function judged({ verifier }: Pick<Parts, 'verifier'>, token: string): Promise<string> {
  try {
    const verdict = await verifier.verify(token)
    return verdict.ok ? 'ok' : verdict.reason
  } catch (error) {
    if (isGatewayError(error)) return error.code
    throw error
  }
}

async function reasonOf(promise: Promise<unknown>): Promise<string> {
  const error: unknown = await promise.then(
    () => undefined,
    (failure: unknown) => failure
  )
  return isGatewayError(error) ? (error.reason ?? '') : String(error)
}

/** A Drupal on a clock, and the gateway's parts with its client there. */
async function pair(t: Test, wishes: Wishes = {}, options: DrupalOptions = {}) {
  const time = clock()
  const site = await startDrupal({ now: time.now, accessTokenLifetime: 10_000, ...options })
  t.teardown(() => site.close())
  const parts = makeParts({
    drupalUrl: site.url,
    now: time.now,
    ...wishes,
    oauth: {
      validation: 'introspection',
      clientId: 'gateway',
      clientSecret: 'gateway-secret',
      introspectionScope: 'mcp_introspect',
      ...wishes.oauth
    }
  })
  const asked = (path: string) => site.requests.filter(request => request.path === path)
  return { site, parts, asked, ...time }
}

const formsOf = (site: DrupalDouble) =>
  site.requests.filter(r => r.path === '/oauth/introspect').map(r => new URLSearchParams(r.body))

t.test(
  'the dialect of Drupal: detected; the jti is posted with a bearer token; the JWT names who',
  async t => {
    const events: string[] = []
    const { site, parts, asked } = await pair(t, {
      events: {
        introspection: (ms, outcome) => events.push(`${typeof ms} ${outcome}`),
        verdict: (reason, source) => events.push(`${reason} ${source}`)
      }
    })
    const { token, jti } = site.mint()
    t.match(await parts.verifier.verify(token), {
      ok: true,
      source: 'introspection',
      principal: {
        issuer: 'https://127.0.0.1/',
        subject: '2',
        clientId: 'public',
        scopes: ['read:tutorials', 'write:tutorials'],
        tokenId: jti
      }
    })
    t.strictSame(
      formsOf(site).map(form => form.get('token')),
      [jti]
    )
    t.match(asked('/oauth/introspect')[0]?.headers['authorization'], /^Bearer ey/)
    t.equal(asked('/oauth/token').length, 1)
    t.equal(await judged(parts, token), 'ok')
    t.equal(asked('/oauth/introspect').length, 1, 'known')
    t.strictSame(events, ['number active', 'ok introspection', 'ok cache'])
    t.equal(await judged(parts, 'opaque'), 'inactive', 'no jti, nobody to ask')
    t.equal(asked('/oauth/introspect').length, 1)
  }
)

t.test(
  'the gateway’s own token is shared, renewed before it ends, and replaced when Drupal drops it',
  async t => {
    const { site, parts, asked, advance } = await pair(t, {}, { accessTokenLifetime: 100 })
    const judgeNew = () => judged(parts, site.mint({ expiresIn: 1000 }).token)
    t.strictSame(await Promise.all([judgeNew(), judgeNew(), judgeNew()]), ['ok', 'ok', 'ok'])
    t.equal(asked('/oauth/token').length, 1)
    advance(79)
    t.equal(await judgeNew(), 'ok')
    t.equal(asked('/oauth/token').length, 1)
    advance(2)
    t.equal(await judgeNew(), 'ok')
    t.equal(asked('/oauth/token').length, 2)
    site.saveConsumer('gateway')
    t.strictSame(await Promise.all([judgeNew(), judgeNew()]), ['ok', 'ok'])
    t.equal(asked('/oauth/token').length, 3)
  }
)

t.test('mode introspection: a revoked token is refused after the TTL at the latest', async t => {
  const { site, parts, asked, advance } = await pair(t, { oauth: { tokenCacheTtlSeconds: 60 } })
  const { token, jti } = site.mint()
  t.equal(await judged(parts, token), 'ok')
  site.revoke(jti)
  advance(59)
  t.equal(await judged(parts, token), 'ok', 'in its bound')
  advance(1)
  t.equal(await judged(parts, token), 'inactive')
  const questions = asked('/oauth/introspect').length
  t.match(parts.verifier.verify(token), { ok: false, reason: 'inactive', source: 'cache' })
  t.equal(asked('/oauth/introspect').length, questions)
  advance(6)
  t.equal(await judged(parts, token), 'inactive', 'asked again')
  t.equal(asked('/oauth/introspect').length, questions + 1)
})

t.test('the jti of a token, shown as a token, gets no share in the answer about it', async t => {
  const time = clock()
  const site = await startDrupal({ now: time.now })
  t.teardown(() => site.close())
  const victim = site.mint()
  const asked: (string | null)[] = []
  let open = () => {}
  const opened = new Promise<void>(resolve => (open = resolve))
  const parts = makeParts({
    drupalUrl: site.url,
    now: time.now,
    oauth: { validation: 'introspection', introspection: 'rfc7662', clientId: 'gateway' },
    async fetch(url, init) {
      if (!url.endsWith('/oauth/introspect')) return fetch(url, init)
      const token = (init.body as URLSearchParams).get('token')
      asked.push(token)
      await opened
      return Response.json(token === victim.token ? active : { active: false })
    }
  })
  const owner = parts.verifier.verify(victim.token)
  while (asked.length === 0) await new Promise(setImmediate)
  const thief = parts.verifier.verify(victim.jti)
  while (asked.length === 1) await new Promise(setImmediate)
  open()
  t.match(await owner, { ok: true })
  t.match(await thief, { ok: false, reason: 'inactive' })
})

t.test('mode jwt: the server is asked about opaque tokens only', async t => {
  const oauth = { validation: 'jwt' } as const
  const { site, parts, asked } = await pair(t, { oauth, introspection: true })
  t.equal(await judged(parts, site.mint().token), 'ok')
  await parts.introspection.ask('x', 'the only question')
  t.equal(asked('/oauth/introspect').length, 1)
})

t.test('mode introspection without keys: the server decides, if it is shown the token', async t => {
  const { parts, state } = await standardServer(t, { oauth: { validation: 'introspection' } })
  const site = await startDrupal()
  t.teardown(() => site.close())
  const issuer = (await parts.discovery.metadata()).issuer
  state.answer = { ...active, token_type: undefined }
  const mint = () => site.mint({ claims: { iss: issuer } }).token
  t.match(await parts.verifier.verify(mint()), { ok: true, source: 'introspection' })
  state.answer = { active: false }
  t.equal(await judged(parts, mint()), 'inactive')

  const { site: drupal, parts: asDrupal } = await pair(t, {}, { oidc: false })
  t.equal(await judged(asDrupal, drupal.mint().token), unavailable, 'Drupal is shown a jti')
})

t.test('mode introspection: a forged JWT costs the server nothing', async t => {
  const { site, parts, asked } = await pair(t)
  const [head, body] = site.mint().token.split('.')
  const forged = `${head}.${body}.${Buffer.alloc(256, 7).toString('base64url')}`
  t.equal(await judged(parts, forged), 'signature')
  t.equal(asked('/oauth/introspect').length, 0)
})

t.test(
  'mode both: the JWT at once, liveness beside it; once seen dead, never at once again',
  async t => {
    const { site, parts, asked, advance } = await pair(t, {
      oauth: { validation: 'both', tokenCacheTtlSeconds: 60 }
    })
    const { token, jti } = site.mint()
    t.match(await parts.verifier.verify(token), { ok: true, source: 'jwt' })
    await introspected(1)
    t.match(parts.verifier.verify(token), { ok: true, source: 'cache' })
    site.revoke(jti)
    advance(60)
    t.equal(await judged(parts, token), 'inactive', 'seen before: waits for the answer')
    t.equal(asked('/oauth/introspect').length, 2)
    advance(6)
    t.equal(await judged(parts, token), 'inactive', 'remembered as dead: waits again')
    t.equal(asked('/oauth/introspect').length, 3)

    const dead = site.mint()
    site.revoke(dead.jti)
    t.match(await parts.verifier.verify(dead.token), { ok: true, source: 'jwt' }, 'first sight')
    await introspected(4)
    t.equal(await judged(parts, dead.token), 'inactive')
    for (const hours of [0.1, 1, 1]) {
      advance(hours * 3600)
      t.equal(await judged(parts, dead.token), 'inactive', 'and not at once until its end')
    }
    const last = site.mint({ expiresIn: 100 })
    t.match(await parts.verifier.verify(last.token), { ok: true, source: 'jwt' })
    await introspected(8)
    site.revoke(last.jti)
    advance(102)
    t.equal(await judged(parts, last.token), 'inactive', 'nor beyond exp, in the tolerance')

    const refused = site.mint()
    t.match(await parts.verifier.verify(refused.token), { ok: true, source: 'jwt' })
    await introspected(10)
    parts.verifier.refuse(refused.token)
    parts.verifier.refuse(refused.token)
    t.equal(await judged(parts, refused.token), 'refused-upstream')
    advance(6)
    t.equal(await judged(parts, refused.token), 'ok', 'the server says that it lives')
    parts.verifier.refuse(refused.token)
    site.revoke(refused.jti)
    advance(3600)
    t.equal(await judged(parts, refused.token), 'inactive', 'nor after Drupal refused it')
    const forgotten = site.mint()
    parts.verifier.refuse(forgotten.token)
    site.revoke(forgotten.jti)
    t.equal(await judged(parts, forgotten.token), 'refused-upstream')
    advance(64)
    t.equal(await judged(parts, forgotten.token), 'inactive', 'nor where it was not remembered')

    async function introspected(times: number) {
      while (asked('/oauth/introspect').length < times) await new Promise(setImmediate)
      // The answer is on its way: the next question about another token comes back after it.
      await parts.introspection.ask('x', `after-${times}`)
      site.requests.splice(
        0,
        site.requests.length,
        ...site.requests.filter(r => !r.body.includes('after-'))
      )
    }
  }
)

t.test('mode both: the other signature of ES256 brings no dead token back', async t => {
  const { privateKey, publicKey } = await generateKeyPair('ES256')
  const keys = [await exportJWK(publicKey)]
  const wishes: Wishes = {
    oauth: { validation: 'both', tokenCacheTtlSeconds: 60 },
    fetch: async (url, init) => (url.endsWith('/jwks') ? Response.json({ keys }) : fetch(url, init))
  }
  const { parts, state, origin, now, advance } = await standardServer(t, wishes)
  state.metadata = { jwks_uri: `${origin}/jwks` }
  state.answer = { active: true }
  const token = await new SignJWT({ scope: 'read:tutorials', client_id: 'c' })
    .setProtectedHeader({ alg: 'ES256', typ: 'at+jwt' })
    .setIssuer(origin)
    .setAudience(resource)
    .setExpirationTime(now() / 1000 + 3600)
    .sign(privateKey)
  const twin = twinOf(token)
  t.equal(twinOf(twin), token)
  const elsewhere = makeParts({ drupalUrl: origin, now, ...wishes })
  t.match(await elsewhere.verifier.verify(twin), { ok: true }, 'the server signed it as well')
  t.match(await parts.verifier.verify(token), { ok: true, source: 'jwt' }, 'first sight')
  state.answer = { active: false }
  advance(60)
  t.equal(await judged(parts, token), 'inactive')
  t.equal(await judged(parts, twin), 'inactive')
  advance(600)
  t.equal(await judged(parts, twin), 'inactive')
})

t.test(
  'mode both fails closed: the server down, a verdict lives until its bound, then 503',
  async t => {
    const { site, parts, advance } = await pair(t, {
      oauth: { validation: 'both', tokenCacheTtlSeconds: 60 }
    })
    const { token } = site.mint()
    await parts.introspection.ask(token, 'warm')
    site.faults.introspectionDown = true
    t.match(await parts.verifier.verify(token), { ok: true, source: 'jwt' })
    advance(59)
    t.equal(await judged(parts, token), 'ok')
    advance(1)
    t.equal(await judged(parts, token), unavailable)
    site.faults.introspectionDown = false
    t.equal(await judged(parts, token), 'ok')
  }
)

t.test('mode introspection fails closed, with a reason and no verdict', async t => {
  const failures: string[] = []
  const { site, parts, asked } = await pair(t, {
    events: {
      asFailure: kind => failures.push(kind),
      introspection: (_ms, outcome) => failures.push(outcome)
    }
  })
  site.faults.introspectionDown = true
  const { token } = site.mint()
  t.equal(await judged(parts, token), unavailable)
  t.equal(asked('/oauth/introspect').length, 1, 'a server in trouble is not asked twice')
  t.match(await reasonOf(parts.introspection.ask(token, 'x')), /introspect answered 503/)
  t.strictSame(failures, ['failed', 'introspection', 'failed', 'introspection'])
  site.faults.introspectionDown = false
  t.equal(await judged(parts, token), 'ok')
})

t.test(
  'a client without the permission, with a wrong secret or none gets a reason that says what to do',
  async t => {
    const failures: string[] = []
    const events = { asFailure: (kind: string) => void failures.push(kind) }
    const wrong = await pair(t, { oauth: { clientSecret: 'wrong' }, events })
    t.match(
      await reasonOf(wrong.parts.introspection.ask('x', 'y')),
      /own, .*answered 401\. Check OAUTH_CLIENT_ID/
    )
    const none = await pair(t, { oauth: { clientId: '' } })
    t.match(await reasonOf(none.parts.introspection.ask('x', 'y')), /needs OAUTH_CLIENT_ID/)
    const standard = await pair(t, { oauth: { introspection: 'rfc7662' } })
    t.match(
      await reasonOf(standard.parts.introspection.ask('x', 'y')),
      /introspect answered 401: check OAUTH_CLIENT_ID .*OAUTH_INTROSPECTION/
    )
    const noId = await pair(t, { oauth: { introspection: 'rfc7662', clientId: '' } })
    t.match(await reasonOf(noId.parts.introspection.ask('x', 'y')), /needs OAUTH_CLIENT_ID/)
  }
)

t.test(
  'a verifier for introspection without introspection is a mistake of the program',
  async t => {
    t.throws(() => makeParts({ oauth: { validation: 'both' }, introspection: false }), {
      message: /oauth.validation is both/
    })
  }
)

/** An RFC 7662 server whose answers the test decides. */
async function standardServer(t: Test, wishes: Wishes = {}) {
  const time = clock()
  const seen: { request: IncomingMessage; form: URLSearchParams }[] = []
  const state = {
    answer: {} as unknown,
    ownToken: { access_token: 'own', token_type: 'Bearer' } as unknown,
    metadata: {} as Record<string, unknown>,
    status: 200
  }
  const origin = await serve(t, (request, response) => {
    void text(request).then(body => answer(request, response, new URLSearchParams(body)))
  })
  function answer(request: IncomingMessage, response: ServerResponse, form: URLSearchParams) {
    if (request.url === '/introspect') {
      seen.push({ request, form })
      response.writeHead(state.status).end(JSON.stringify(state.answer))
      return
    }
    const metadata = {
      issuer: origin,
      introspection_endpoint: `${origin}/introspect`,
      token_endpoint: `${origin}/token`,
      ...state.metadata
    }
    response.end(JSON.stringify(request.url === '/token' ? state.ownToken : metadata))
  }
  const parts = makeParts({
    drupalUrl: origin,
    now: time.now,
    introspection: true,
    ...wishes,
    oauth: { clientId: 'gate way', clientSecret: 's:%', ...wishes.oauth }
  })
  return { ...time, origin, parts, seen, state }
}

const active = { active: true, token_type: 'Bearer', client_id: 'desktop', scope: 'read:tutorials' }

t.test(
  'RFC 7662: opaque tokens, asked about with Basic, or with post where only that is offered',
  async t => {
    const { origin, parts, seen, state, now } = await standardServer(t)
    state.answer = { ...active, sub: 'alice' }
    t.match(await parts.verifier.verify('opaque-1'), {
      ok: true,
      source: 'introspection',
      principal: {
        issuer: origin,
        subject: 'alice',
        clientId: 'desktop',
        hasUser: true,
        scopes: ['read:tutorials'],
        expiresAt: now() / 1000 + 300
      }
    })
    t.equal(seen[0]?.form.get('token'), 'opaque-1')
    t.equal(
      seen[0]?.request.headers.authorization,
      `Basic ${Buffer.from('gate+way:s%3A%25').toString('base64')}`,
      'RFC 6749 §2.3.1: urlencoded first'
    )
    const post = await standardServer(t)
    post.state.metadata = { introspection_endpoint_auth_methods_supported: ['client_secret_post'] }
    post.state.answer = active
    t.match(await post.parts.verifier.verify('opaque-1'), {
      principal: { subject: 'desktop', hasUser: false }
    })
    t.equal(post.seen[0]?.request.headers.authorization, undefined)
    t.equal(post.seen[0]?.form.get('client_id'), 'gate way')
    t.equal(post.seen[0]?.form.get('client_secret'), 's:%')
    const both = await standardServer(t)
    both.state.metadata = {
      introspection_endpoint_auth_methods_supported: ['client_secret_post', 'client_secret_basic']
    }
    both.state.answer = active
    t.equal(await judged(both.parts, 'opaque-1'), 'ok')
    t.match(both.seen[0]?.request.headers.authorization, /^Basic /, 'the better of the two')
    const like = await standardServer(t)
    like.state.metadata = { token_endpoint_auth_methods_supported: ['client_secret_post'] }
    like.state.answer = active
    t.equal(await judged(like.parts, 'opaque-1'), 'ok')
    t.equal(like.seen[0]?.form.get('client_secret'), 's:%', 'as at the token endpoint')
  }
)

t.test('RFC 7662: what an answer must say, and what it may not', async t => {
  const { parts, state, now, advance } = await standardServer(t)
  const seconds = now() / 1000
  const table: [string, unknown, string][] = [
    ['inactive', { active: false }, 'inactive'],
    ['active as text', { ...active, active: 'true' }, 'inactive'],
    ['nothing', {}, 'inactive'],
    ['a refresh token', { ...active, token_type: undefined }, 'inactive'],
    ['a type that is no text', { ...active, token_type: 7 }, 'inactive'],
    ['a DPoP token', { ...active, token_type: 'DPoP' }, 'inactive'],
    ['a bound token', { ...active, cnf: { jkt: 'x' } }, 'type'],
    ['expired', { ...active, exp: seconds - 60 }, 'expired'],
    ['exp as text', { ...active, exp: 'soon' }, 'claims'],
    ['no scope of ours', { ...active, scope: 'other' }, 'no-scope'],
    ['another resource', { ...active, aud: 'https://other.example/' }, 'audience'],
    ['another issuer', { ...active, iss: 'https://other.example/' }, 'issuer'],
    ['nobody', { ...active, client_id: undefined }, 'claims'],
    ['this resource', { ...active, aud: [resource], scope: undefined }, 'ok'],
    ['lower case', { ...active, token_type: 'bearer' }, 'ok']
  ]
  for (const [name, answer, expected] of table) {
    state.answer = answer
    const verdict = await parts.verifier.verify(name.replaceAll(' ', '-'))
    t.equal(verdict.ok ? 'ok' : verdict.reason, expected, name)
    if (!verdict.ok) t.equal(scrub(verdict.detail), verdict.detail, `${name}: the log says why`)
  }
  state.answer = active
  t.equal(await judged(parts, 'inactive'), 'inactive', 'remembered a few seconds')
  advance(6)
  t.equal(await judged(parts, 'inactive'), 'ok')
})

t.test('an opaque token lives no longer than exp, and no longer than the TTL', async t => {
  const { parts, state, now, advance, seen } = await standardServer(t)
  state.answer = { ...active, exp: now() / 1000 + 100 }
  t.equal(await judged(parts, 'opaque'), 'ok')
  advance(99)
  t.equal(await judged(parts, 'opaque'), 'ok')
  t.equal(seen.length, 1)
  advance(4)
  t.equal(await judged(parts, 'opaque'), 'ok', 'within the tolerance, but asked again')
  t.equal(seen.length, 2)
  advance(2)
  t.equal(await judged(parts, 'opaque'), 'expired')
  t.equal(seen.length, 3)
  state.answer = active
  t.equal(await judged(parts, 'endless'), 'ok')
  advance(300)
  t.equal(await judged(parts, 'endless'), 'ok')
  t.equal(seen.length, 5)
})

t.test('an opaque token that has ended is refused for some seconds without a question', async t => {
  for (const validation of ['introspection', 'both'] as const) {
    const { parts, state, now, advance, seen } = await standardServer(t, { oauth: { validation } })
    const alive = { ...active, exp: now() / 1000 + 3600 }
    state.answer = alive
    t.equal(await judged(parts, 'opaque'), 'ok')
    state.answer = { active: false }
    advance(301)
    for (let i = 0; i < 3; i++) t.equal(await judged(parts, 'opaque'), 'inactive', validation)
    t.equal(seen.length, 2, 'asked once')
    state.answer = alive
    advance(6)
    t.equal(await judged(parts, 'opaque'), 'ok', 'and asked again after them')
  }
})

t.test('one question per token at a time, and a bound on all of them', async t => {
  const { parts, seen, state } = await standardServer(t)
  state.answer = active
  await parts.discovery.metadata()
  const asks = Array.from({ length: 64 }, (_, n) => parts.introspection.ask(`t${n}`, undefined))
  const same = parts.introspection.ask('t0', undefined)
  t.match(await reasonOf(parts.introspection.ask('t64', undefined)), /64 introspections/)
  t.equal((await Promise.all([...asks, same])).length, 65)
  t.equal(seen.length, 64)
})

t.test('a signed JWT: the answer may take from what it says, and nothing else', async t => {
  const time = clock()
  const site = await startDrupal({ now: time.now })
  t.teardown(() => site.close())
  let answer: Record<string, unknown> = {}
  const parts = makeParts({
    drupalUrl: site.url,
    now: time.now,
    oauth: { validation: 'introspection', introspection: 'rfc7662', clientId: 'gateway' },
    fetch: async (url, init) =>
      url.endsWith('/oauth/introspect') ? Response.json(answer) : fetch(url, init)
  })
  const seconds = time.now() / 1000
  answer = {
    active: true,
    scope: 'write:tutorials admin',
    exp: seconds + 10,
    sub: 'root',
    client_id: 'other',
    aud: 'https://other.example/',
    iss: 'https://other.example/'
  }
  const verdict = await parts.verifier.verify(site.mint().token)
  t.match(verdict, {
    ok: true,
    principal: {
      issuer: site.issuer,
      subject: '2',
      clientId: 'public',
      scopes: ['write:tutorials'],
      expiresAt: seconds + 10
    }
  })
  t.equal(verdict.ok && verdict.principal.scopes.length, 1)
  const scopesOf = async (claims: Record<string, unknown> = {}) => {
    const judged = await parts.verifier.verify(site.mint({ claims }).token)
    return judged.ok && judged.principal.scopes
  }
  t.strictSame(await scopesOf({ scope: 'read:tutorials write:tutorials' }), ['write:tutorials'])
  t.strictSame(await scopesOf({ scope: undefined, aud: resource }), [], 'it gives none')
  answer = { active: true, scope: ['write:tutorials', 'admin'] }
  t.strictSame(await scopesOf(), ['write:tutorials'])
  answer = { active: true, scope: 'other' }
  t.equal(await judged(parts, site.mint().token), 'no-scope')
  answer = { active: true, exp: seconds - 60 }
  t.equal(await judged(parts, site.mint().token), 'expired')
  answer = { active: true, nbf: seconds + 60 }
  t.equal(await judged(parts, site.mint().token), 'not-yet-valid')
  t.equal(await judged(parts, site.mint({ claims: { nbf: undefined } }).token), 'not-yet-valid')
  answer = { active: true, nbf: 0 }
  const early = site.mint({ claims: { nbf: seconds + 60 } }).token
  t.equal(await judged(parts, early), 'not-yet-valid', 'never earlier')
  answer = { active: true, cnf: { jkt: 'x' } }
  t.equal(await judged(parts, site.mint().token), 'type', 'bound to a key: RFC 9449 §6.2')
  answer = { active: true, nbf: null, cnf: null }
  t.equal(await judged(parts, site.mint().token), 'ok')
  answer = { active: true, exp: seconds + 1e6 }
  const late = await parts.verifier.verify(site.mint({ expiresIn: 50 }).token)
  t.ok(late.ok && late.principal.expiresAt < seconds + 60, 'never later')
})

t.test(
  'a server without the endpoints, or with a token endpoint that gives no token, says so',
  async t => {
    const { parts, state } = await standardServer(t)
    state.metadata = { introspection_endpoint: undefined }
    t.match(await parts.introspection.ask('x', undefined), {
      active: false,
      detail: /names no introspection_endpoint/
    })
    t.match(await reasonOf(parts.introspection.ask('x', 'y')), /names no introspection_endpoint/)
    const drupal = { oauth: { introspection: 'drupal' as const } }
    const noToken = await standardServer(t, drupal)
    noToken.state.ownToken = { token_type: 'Bearer' }
    t.match(await reasonOf(noToken.parts.introspection.ask('x', 'y')), /the answer holds no token/)
    noToken.state.ownToken = { access_token: '' }
    t.match(await reasonOf(noToken.parts.introspection.ask('x', 'y')), /the answer holds no token/)
    for (const life of [undefined, 0, 'long']) {
      const lasting = await standardServer(t, drupal)
      Object.assign(lasting.state, {
        answer: active,
        ownToken: { access_token: 'own', expires_in: life }
      })
      const tokens = () => lasting.parts.asked.filter(url => url.endsWith('/token')).length
      for (const [wait, count] of [
        [0, 1],
        [47, 1],
        [1, 2]
      ] as const) {
        lasting.advance(wait)
        await lasting.parts.introspection.ask('x', 'y')
        t.equal(tokens(), count, `${life} seconds: asked for once a minute`)
      }
    }
    const noEndpoint = await standardServer(t, drupal)
    noEndpoint.state.metadata = { token_endpoint: undefined }
    t.match(await reasonOf(noEndpoint.parts.introspection.ask('x', 'y')), /names no token_endpoint/)
    const refused = await standardServer(t, drupal)
    refused.state.answer = active
    t.match(await refused.parts.introspection.ask('x', 'y'), { active: true })
    refused.state.status = 401
    t.match(await reasonOf(refused.parts.introspection.ask('x', 'y')), /answered 401: check/)
    refused.state.status = 403
    t.match(await reasonOf(refused.parts.introspection.ask('x', 'y')), /answered 403: check/)
    refused.seen.pop()
    t.equal(refused.seen.length, 3, 'one more try with a new token, no loop')
  }
)
