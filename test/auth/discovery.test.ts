import type { IncomingMessage, ServerResponse } from 'node:http'
import { connect } from 'node:net'
import t, { type Test } from 'tap'
import { Agent, fetch as undiciFetch } from 'undici'
import { type FetchFailure, fetchJson } from '../../src/auth/fetch-json.ts'
import { keep } from '../../src/auth/kept.ts'
import {
  basesOf,
  endpoint,
  issuersOf,
  metadataLocations
} from '../../src/auth/metadata-location.ts'
import { type DrupalOptions, startDrupal } from '../../src/demo/double.ts'
import { gatewayError, isGatewayError } from '../../src/errors.ts'
import { makeParts } from './fixtures/parts.ts'
import { clock, serve } from './fixtures/serve.ts'

const { fetch } = globalThis

async function drupal(t: Test, options: DrupalOptions = {}) {
  const site = await startDrupal(options)
  t.teardown(() => site.close())
  return site
}

/** The reason of a rejection with the 503 of the table. */
async function reasonOf(promise: unknown): Promise<string> {
  try {
    await promise
  } catch (error) {
    if (isGatewayError(error) && error.code === 'GW_AUTHORIZATION_SERVER_UNAVAILABLE') {
      return error.reason ?? ''
    }
    throw error
  }
  throw new Error('did not reject')
}

const json = (response: ServerResponse, body: unknown) => {
  response.setHeader('content-type', 'application/json')
  response.end(JSON.stringify(body))
}

t.test('R99 where metadata is looked for', async t => {
  for (const base of ['https://cms.example', 'https://cms.example/']) {
    t.strictSame(metadataLocations(base), [
      'https://cms.example/.well-known/oauth-authorization-server',
      'https://cms.example/.well-known/openid-configuration'
    ])
  }
  for (const base of ['https://cms.example/sub', 'https://cms.example/sub/']) {
    t.strictSame(metadataLocations(base), [
      'https://cms.example/.well-known/oauth-authorization-server/sub',
      'https://cms.example/.well-known/openid-configuration/sub',
      'https://cms.example/sub/.well-known/openid-configuration',
      'https://cms.example/sub/.well-known/oauth-authorization-server'
    ])
  }
})

t.test('R99 which issuers drupal.url may name, and where a listed issuer is asked', async t => {
  t.strictSame(issuersOf('http://cms.example:8080'), [
    'http://cms.example:8080',
    'http://cms.example:8080/',
    'https://cms.example:8080/',
    'https://cms.example/'
  ])
  t.strictSame(
    new Set(issuersOf('https://cms.example/sub/')),
    new Set(['https://cms.example/sub', 'https://cms.example/sub/'])
  )
  const table: [string, string, string[]][] = [
    ['https://cms.example/', 'http://cms.example:8080', ['http://cms.example:8080']],
    ['https://cms.example/sub/', 'https://cms.example/sub', ['https://cms.example/sub']],
    [
      'https://cms.example/realms/site',
      'https://cms.example',
      ['https://cms.example/realms/site', 'https://cms.example']
    ],
    ['https://cms.example:99/', 'https://cms.example', ['https://cms.example:99/']],
    ['https://es.example/', 'http://cms.example:8080', ['https://es.example/']],
    ['urn issuer', 'https://cms.example', ['https://cms.example']]
  ]
  for (const [issuer, drupalUrl, bases] of table)
    t.strictSame(basesOf(issuer, drupalUrl), bases, issuer)
})

t.test(
  'endpoints: wrong scheme on the own host is mended, a way down to http is not taken',
  async t => {
    const table: [unknown, string, string | undefined][] = [
      ['https://cms.example/oauth/jwks', 'https://cms.example', 'https://cms.example/oauth/jwks'],
      [
        'http://cms.example/oauth/jwks?a=1',
        'https://cms.example',
        'https://cms.example/oauth/jwks?a=1'
      ],
      ['https://cms.example/jwks', 'http://cms.example:8080', 'http://cms.example:8080/jwks'],
      ['http://cms.example:8080/jwks', 'http://cms.example:8080', 'http://cms.example:8080/jwks'],
      ['http://cms.example:8443/jwks', 'https://cms.example:8443', 'https://cms.example:8443/jwks'],
      ['https://keys.example/jwks', 'https://cms.example', 'https://keys.example/jwks'],
      ['http://keys.example/jwks', 'http://cms.example', 'http://keys.example/jwks'],
      ['http://keys.example/jwks', 'https://cms.example', undefined],
      ['http://cms.example:99/jwks', 'https://cms.example', undefined],
      ['https://u:p@cms.example/jwks', 'https://cms.example', undefined],
      ['https://u@cms.example/jwks', 'https://cms.example', undefined],
      ['https://:p@cms.example/jwks', 'https://cms.example', undefined],
      ['file:///etc/passwd', 'https://cms.example', undefined],
      ['/oauth/jwks', 'https://cms.example', undefined],
      [7, 'https://cms.example', undefined]
    ]
    for (const [value, base, expected] of table)
      t.equal(endpoint(value, base), expected, String(value))
  }
)

t.test('one question is bounded in time, size, form and redirects', async t => {
  const elsewhere: string[] = []
  const other = await serve(t, (request, response) => {
    elsewhere.push(request.url ?? '')
    json(response, { stolen: true })
  })
  const answers: Record<string, (request: IncomingMessage, response: ServerResponse) => void> = {
    '/ok': (_request, response) => json(response, { ok: 1 }),
    '/silent': () => {},
    '/half': (_request, response) => {
      response.writeHead(200, { 'content-length': 100 })
      response.write('{')
    },
    '/huge': (_request, response) => void response.end(`"${'a'.repeat(300_000)}"`),
    '/html': (_request, response) => void response.end('<!DOCTYPE html>'),
    '/list': (_request, response) => json(response, []),
    '/null': (_request, response) => json(response, null),
    '/empty': (_request, response) => void response.writeHead(204).end(),
    '/503': (_request, response) => void response.writeHead(503).end('secret page'),
    '/401': (_request, response) =>
      void response.writeHead(401, { 'www-authenticate': 'Bearer' }).end(),
    '/reset': request => void request.socket.destroy(),
    '/loop': (_request, response) => void response.writeHead(302, { location: '/loop' }).end(),
    '/moved': (_request, response) => void response.writeHead(302, { location: '/es/moved' }).end(),
    '/es/moved': (_request, response) => json(response, { moved: 1 }),
    '/away': (_request, response) =>
      void response.writeHead(302, { location: `${other}/away` }).end(),
    '/nowhere': (_request, response) => void response.writeHead(302).end(),
    '/broken': (_request, response) => void response.writeHead(302, { location: 'http://[' }).end()
  }
  const origin = await serve(t, (request, response) =>
    answers[request.url ?? '']?.(request, response)
  )
  const ask = (path: string, form?: Record<string, string>, timeoutMs = 2000) =>
    fetchJson({ fetch, url: origin + path, timeoutMs, ...(form && { form }) })
  const fail = (path: string, form?: Record<string, string>, timeoutMs?: number) =>
    ask(path, form, timeoutMs).then(
      () => t.fail('answered'),
      (error: FetchFailure) => error
    )

  t.strictSame(await ask('/ok'), { ok: 1 })
  t.strictSame(await ask('/moved'), { moved: 1 }, 'a redirect within the origin')
  t.match(await fail('/moved', { secret: '1' }), { kind: 'redirect', status: 302 })
  t.match(await fail('/silent', undefined, 50), { kind: 'timeout', status: undefined })
  t.match(await fail('/half', undefined, 50), { kind: 'timeout' })
  t.match(await fail('/huge'), { kind: 'too-large' })
  for (const path of ['/html', '/list', '/null', '/empty']) {
    t.match(await fail(path), { kind: 'not-json' }, path)
  }
  t.match(await fail('/503'), {
    kind: 'status',
    status: 503,
    message: `${origin}/503 answered 503`
  })
  t.match(await fail('/401'), { kind: 'status', status: 401 })
  t.match(await fail('/reset'), { kind: 'network' })
  for (const path of ['/loop', '/away', '/nowhere', '/broken']) {
    t.match(await fail(path), { kind: 'redirect' }, path)
  }
  t.strictSame(elsewhere, [], 'never across origins')
  const closed = await fetchJson({ fetch, url: 'http://127.0.0.1:9/x', timeoutMs: 2000 }).catch(
    String
  )
  t.match(closed, /^FetchFailure: http:\/\/127\.0\.0\.1:9\/x cannot be reached \(/)
  const odd = await fetchJson({
    fetch: () => Promise.reject(new Error('10.0.0.7 said no')),
    url: 'https://cms.example/x',
    timeoutMs: 1000
  }).catch((error: Error) => error.message)
  t.equal(odd, 'https://cms.example/x cannot be reached (no connection)', 'no inner address')
  const refused = gatewayError('GW_AUTHORIZATION_SERVER_UNAVAILABLE', {
    reason: 'GW_UPSTREAM_UNAVAILABLE: connection failed: ECONNREFUSED'
  })
  const own = await fetchJson({
    fetch: () => Promise.reject(refused),
    url: 'https://cms.example/x',
    timeoutMs: 1000
  }).catch((error: Error) => error.message)
  t.match(own, /cannot be reached \(GW_UPSTREAM_UNAVAILABLE: connection failed: ECONNREFUSED\)/)
})

t.test(
  'a kept document: fresh, single flight, stale up to a bound, one attempt a second',
  async t => {
    const { now, advance } = clock()
    let loads = 0
    let isDown = false
    let silence = Promise.resolve()
    const kept = keep({
      now,
      ttlMs: 10_000,
      staleMs: 60_000,
      retryMs: 1000,
      load: async () => {
        loads++
        await silence
        if (isDown) throw new Error('down')
        return { load: loads }
      }
    })
    isDown = true
    await t.rejects(kept.get(), { message: 'down' })
    await t.rejects(kept.get(), { message: 'down' })
    t.equal(loads, 1, 'a failure is remembered')
    advance(1)
    isDown = false
    const [one, two] = await Promise.all([kept.get(), kept.get()])
    t.equal(one, two)
    t.equal(loads, 2, 'single flight')
    advance(9)
    t.equal(await kept.get(), one)
    t.equal(loads, 2, 'fresh')
    advance(1)
    isDown = true
    t.equal(await kept.get(), one, 'the first waits, then gets the stale one')
    t.equal(loads, 3)
    t.equal(await kept.get(), one)
    t.equal(loads, 3, 'not hammered')
    advance(1)
    let end = () => {}
    silence = new Promise(resolve => {
      end = resolve
    })
    t.equal(await kept.get(), one)
    t.equal(loads, 4, 'tried again beside the caller')
    end()
    // A failure that nobody waits for ends no process.
    await new Promise(setImmediate)
    await t.rejects(kept.reload())
    advance(60)
    await t.rejects(kept.get(), { message: 'down' }, 'too stale')
    isDown = false
    advance(1)
    t.strictSame(await kept.get(), { load: loads })
  }
)

t.test(
  'R99 Drupal names an issuer without port: derived from drupal.url, published byte for byte',
  async t => {
    const site = await drupal(t)
    const { discovery, asked } = makeParts({ drupalUrl: site.url })
    const server = await discovery.metadata()
    t.equal(server.issuer, 'https://127.0.0.1/')
    t.equal(await discovery.issuer(), 'https://127.0.0.1/')
    t.equal(server.document['issuer'], server.issuer)
    t.equal(server.jwksUri, `${site.url}/.well-known/jwks.json`)
    t.equal(server.tokenEndpoint, `${site.url}/oauth/token`)
    t.equal(server.introspectionEndpoint, `${site.url}/oauth/introspect`)
    t.equal(await discovery.accepts('https://127.0.0.1/'), true)
    for (const issuer of ['https://127.0.0.1', site.url, 'https://other.example/']) {
      t.equal(await discovery.accepts(issuer), false, issuer)
    }
    t.equal(asked.length, 1)
    t.equal(site.requests[0]?.headers['authorization'], undefined, 'no token on metadata')
  }
)

t.test(
  'drupal.internalUrl: the public host is asked, and believed, over another connection',
  async t => {
    const site = await drupal(t, { publicUrl: 'https://cms.example' })
    // As app.ts does for drupal.internalUrl: another address, the same Host.
    const dispatcher = new Agent({
      connect: (_options, callback) => {
        const socket = connect(site.port, '127.0.0.1', () => callback(null, socket))
      }
    })
    t.teardown(() => dispatcher.close())
    const { discovery, asked } = makeParts({
      drupalUrl: 'http://cms.example',
      fetch: (url, init) =>
        undiciFetch(url, { ...init, dispatcher } as object) as unknown as Promise<Response>
    })
    t.match(await discovery.metadata(), {
      issuer: 'https://cms.example/',
      jwksUri: 'http://cms.example/.well-known/jwks.json'
    })
    t.strictSame(asked, ['http://cms.example/.well-known/oauth-authorization-server'])
  }
)

t.test(
  'R99 metadata that names another issuer is not believed, and the reason says what to do',
  async t => {
    const site = await drupal(t)
    const { discovery } = makeParts({
      drupalUrl: site.url,
      oauth: { issuers: ['https://127.0.0.1/other/'] }
    })
    const reason = await reasonOf(discovery.metadata())
    t.match(
      reason,
      /names the issuer "https:\/\/127\.0\.0\.1\/", expected https:\/\/127\.0\.0\.1\/other\//
    )
    t.match(reason, /OAUTH_ISSUER/)
    t.equal(await discovery.issuer(), 'https://127.0.0.1/other/', 'the configured one is published')
    t.equal(discovery.accepts('https://127.0.0.1/other/'), true, 'at once')
    t.equal(discovery.accepts('https://127.0.0.1/'), false)
  }
)

t.test(
  'OIDC metadata is the second place; a server that is down is asked at one place only',
  async t => {
    const paths: string[] = []
    const origin = await serve(t, (request, response) => {
      paths.push(request.url ?? '')
      if (request.url !== '/realm/.well-known/openid-configuration') {
        response.writeHead(404).end()
        return
      }
      json(response, { issuer: `${origin}/realm`, jwks_uri: 'ftp://x' })
    })
    const { discovery } = makeParts({ drupalUrl: `${origin}/realm` })
    t.match(await discovery.metadata(), { issuer: `${origin}/realm`, jwksUri: undefined })
    t.strictSame(paths, [
      '/.well-known/oauth-authorization-server/realm',
      '/.well-known/openid-configuration/realm',
      '/realm/.well-known/openid-configuration'
    ])
    const down = makeParts({ drupalUrl: 'http://127.0.0.1:9' })
    t.match(await reasonOf(down.discovery.metadata()), /cannot be reached/)
    t.match(await reasonOf(down.discovery.accepts('https://127.0.0.1/')), /cannot be reached/)
    t.equal(down.asked.length, 1)
    const silent = await serve(t, () => {})
    const slow = makeParts({ drupalUrl: silent, oauth: { timeoutSeconds: 0.05 } })
    t.match(await reasonOf(slow.discovery.metadata()), /did not answer within 50 ms/)
    t.equal(slow.asked.length, 1)
  }
)

t.test('R99 a server beside Drupal, on the same host below a path, is found there', async t => {
  const origin = await serve(t, (request, response) => {
    const issuer = {
      '/.well-known/oauth-authorization-server': 'https://127.0.0.1/',
      '/realms/site/.well-known/openid-configuration': `${origin}/realms/site`
    }[request.url ?? '']
    if (issuer === undefined) response.writeHead(404).end()
    else json(response, { issuer, jwks_uri: `${origin}/keys` })
  })
  const beside = makeParts({ drupalUrl: origin, oauth: { issuers: [`${origin}/realms/site`] } })
  t.match(await beside.discovery.metadata(), {
    issuer: `${origin}/realms/site`,
    jwksUri: `${origin}/keys`
  })
  const drupal = makeParts({ drupalUrl: origin })
  t.equal((await drupal.discovery.metadata()).issuer, 'https://127.0.0.1/')
})

t.test('metadata is kept, served stale while the server is down, and heals', async t => {
  const { now, advance } = clock()
  const failures: string[] = []
  const site = await drupal(t)
  const { discovery, asked } = makeParts({
    drupalUrl: site.url,
    now,
    oauth: { discoveryCacheTtlSeconds: 60, staleSeconds: 600 },
    events: { asFailure: kind => failures.push(kind) }
  })
  site.faults.metadataDown = true
  t.match(await reasonOf(discovery.metadata()), /answered 503/)
  t.strictSame(failures, ['metadata'])
  site.faults.metadataDown = false
  t.match(await reasonOf(discovery.metadata()), /answered 503/, 'remembered for a second')
  advance(1)
  const server = await discovery.metadata()
  site.faults.metadataDown = true
  advance(60)
  t.equal(await discovery.metadata(), server)
  t.strictSame(failures, ['metadata', 'metadata'])
  const questions = asked.length
  t.equal(await discovery.metadata(), server)
  t.equal(asked.length, questions)
  advance(700)
  t.match(await reasonOf(discovery.metadata()), /answered 503/)
})

t.test(
  'several issuers: each at its own place; one without metadata is an old name of the first',
  async t => {
    const { now, advance } = clock()
    const site = await drupal(t)
    const second = await serve(t, (_request, response) =>
      json(response, { issuer: `${second}/as` })
    )
    const own = `${second}/as`
    const listed = ['https://127.0.0.1/', own.replace('127.0.0.1', 'localhost'), own]
    const old = 'http://localhost:9/'
    const { discovery, asked } = makeParts({
      drupalUrl: site.url,
      now,
      oauth: { issuers: [...listed, old] },
      fetch: (url, init) => fetch(url, init)
    })
    const primary = await discovery.metadata()
    t.equal(primary.issuer, 'https://127.0.0.1/')
    t.equal(await discovery.serverOf('https://127.0.0.1/'), primary)
    // The second names itself by another host than it is listed under, so it is not believed.
    t.equal(await discovery.serverOf(listed[1] as string), primary)
    t.equal((await discovery.serverOf(own)).issuer, own)
    t.equal(await discovery.serverOf(old), primary)
    const questions = asked.length
    t.equal(await discovery.serverOf(old), primary)
    t.equal(asked.length, questions, 'not looked for again at once')
    advance(61)
    t.equal(await discovery.serverOf(old), primary)
    t.ok(asked.length > questions)
    for (const issuer of [...listed, old]) t.equal(discovery.accepts(issuer), true)
    t.equal(discovery.accepts('http://localhost:9'), false)
  }
)
