// How a client that knows only the URL finds the sign-in, over real sockets.
import { once } from 'node:events'
import { connect } from 'node:net'
import t from 'tap'
import { startDrupal } from '../../src/demo/double.ts'
import { PUBLIC_URL, read, startGateway } from './fixtures/start.ts'

const RESOURCE = `${PUBLIC_URL}/mcp`
const METADATA_URL = `${PUBLIC_URL}/.well-known/oauth-protected-resource/mcp`
const BASE_CHALLENGE = `Bearer resource_metadata="${METADATA_URL}", scope="read:tutorials"`

t.test('the resource metadata', async t => {
  const { origin, drupal } = await startGateway(t)
  for (const path of ['/mcp', '']) {
    await t.test(`R85 is served at /.well-known/oauth-protected-resource${path}`, async t => {
      const { status, headers, json } = await read(
        await fetch(`${origin}/.well-known/oauth-protected-resource${path}`, {
          headers: { 'mcp-protocol-version': '2025-11-25', origin: 'https://anywhere.example' }
        })
      )
      t.equal(status, 200)
      t.match(headers.get('content-type'), /^application\/json/)
      t.equal(headers.get('access-control-allow-origin'), '*', 'R9')
      t.equal(json.resource, RESOURCE)
      t.equal(json.authorization_servers[0], drupal.issuer, 'R99 byte for byte, slash included')
      t.strictSame(json.bearer_methods_supported, ['header'])
      t.ok(json.scopes_supported.includes('read:tutorials'))
    })
  }

  t.test(
    'R98 the authorization server is described again at the root, for 2025-03-26 clients',
    async t => {
      const { status, json } = await read(
        await fetch(`${origin}/.well-known/oauth-authorization-server`)
      )
      t.equal(status, 200)
      t.equal(json.issuer, drupal.issuer)
      t.equal(json.token_endpoint, `${drupal.url}/oauth/token`)
    }
  )

  for (const path of [
    'openid-configuration',
    'mcp.json',
    'oauth-authorization-server/mcp',
    'x/../y'
  ]) {
    t.test(`/.well-known/${path} is a JSON 404`, async t => {
      const { status, headers, json } = await read(await fetch(`${origin}/.well-known/${path}`))
      t.equal(status, 404)
      t.match(headers.get('content-type'), /^application\/json/)
      t.type(json.error.message, 'string')
    })
  }
})

t.test(
  'a sub-path in MCP_PATH is published and served, in GATEWAY_PUBLIC_URL only published',
  async t => {
    for (const [env, path] of [
      [{ MCP_PATH: '/sub/mcp' }, '/sub/mcp'],
      [{ GATEWAY_PUBLIC_URL: `${PUBLIC_URL}/sub` }, '/mcp']
    ] as const) {
      const { origin } = await startGateway(t, { env })
      for (const suffix of ['/sub/mcp', '']) {
        const where = `/.well-known/oauth-protected-resource${suffix}`
        const { status, json } = await read(await fetch(origin + where))
        t.equal(status, 200, where)
        t.equal(json.resource, `${PUBLIC_URL}/sub/mcp`)
      }
      for (const each of ['/mcp', '/sub/mcp']) {
        const { status } = await fetch(origin + each, { method: 'POST' })
        t.equal(status === 404, each !== path, `${each}: ${status}`)
      }
    }
  }
)

t.test(
  'R85 whatever characters the path of the public URL has, its metadata are where they are named',
  async t => {
    const paths = [
      '/über',
      '/my%20site',
      '/%61',
      '/a:b',
      '/a*b',
      '/a(b)',
      '/:x(^z$)',
      '/a%2Fb',
      '/a+b',
      '//x'
    ]
    for (const path of paths) {
      const { origin, url } = await startGateway(t, {
        env: { GATEWAY_PUBLIC_URL: PUBLIC_URL + path }
      })
      const { headers } = await read(await fetch(url))
      const named = /resource_metadata="([^"]*)"/.exec(String(headers.get('www-authenticate')))?.[1]
      const { pathname } = new URL(String(named))
      const { status, headers: found, json } = await read(await fetch(origin + pathname))
      t.equal(status, 200, pathname)
      t.match(found.get('cache-control'), /public/)
      t.equal(`/.well-known/oauth-protected-resource${new URL(json.resource).pathname}`, pathname)
      t.equal((await fetch(origin + pathname, { method: 'HEAD' })).status, 200)
      t.equal((await fetch(origin + pathname, { method: 'POST' })).status, 404)
      for (const other of ['/axx/mcp', '/mcp', '/z/mcp']) {
        const answer = await fetch(`${origin}/.well-known/oauth-protected-resource${other}`)
        t.equal(answer.status, 404, `${other} beside ${path}`)
      }
    }
    const { origin } = await startGateway(t, { env: { GATEWAY_PUBLIC_URL: `${PUBLIC_URL}/%FF` } })
    const { json } = await read(await fetch(`${origin}/.well-known/oauth-protected-resource`))
    t.equal(json.resource, `${PUBLIC_URL}/%FF/mcp`, 'also of one that no router reads')
  }
)

t.test('R85 no URL that is published follows the Host of a request', async t => {
  const { origin } = await startGateway(t, { env: { ALLOWED_HOSTS: 'other.example' } })
  const { hostname, port } = new URL(origin)
  const { request } = await import('node:http')
  const body = await new Promise<string>((resolve, reject) => {
    request(
      {
        hostname,
        port,
        path: '/.well-known/oauth-protected-resource/mcp',
        headers: {
          host: 'other.example',
          'x-forwarded-host': 'evil.example',
          'x-forwarded-proto': 'http'
        }
      },
      response => {
        let text = ''
        response.on('data', chunk => (text += chunk)).on('end', () => resolve(text))
      }
    )
      .on('error', reject)
      .end()
  })
  t.equal(JSON.parse(body).resource, RESOURCE)
  t.notMatch(body, /other\.example|evil\.example/)
})

t.test('R85 a configured issuer is published whether or not its server answers', async t => {
  const issuers = ['https://id.example.org/realms/a', 'https://www.example.org/']
  const drupal = await startDrupal()
  drupal.faults.metadataDown = true
  for (const [env, status] of [
    [{ OAUTH_ISSUER: issuers.join() }, 200],
    [{}, 503]
  ] as const) {
    const { origin } = await startGateway(t, { drupal, env })
    for (const path of ['/mcp', '']) {
      const answer = await read(
        await fetch(`${origin}/.well-known/oauth-protected-resource${path}`)
      )
      t.equal(answer.status, status)
      t.strictSame(answer.json.authorization_servers, status === 200 ? [issuers[0]] : undefined)
    }
  }
})

t.test('R83 scopes_supported is left out when nothing is known, never empty', async t => {
  const { origin, drupal } = await startGateway(t, { env: { OAUTH_SCOPES: '' } })
  drupal.faults.metadataDown = false
  drupal.site.tools.length = 0
  const { json } = await read(await fetch(`${origin}/.well-known/oauth-protected-resource/mcp`))
  t.notOk('scopes_supported' in json)
})

t.test('the challenge', async t => {
  const { url, token, drupal } = await startGateway(t)
  const accept = 'application/json, text/event-stream'
  for (const method of ['POST', 'GET', 'DELETE', 'PUT', 'HEAD', 'PATCH']) {
    t.test(`R39 R82 R84 ${method} without a token: 401, no error, the same challenge`, async t => {
      const { status, headers } = await read(await fetch(url, { method, headers: { accept } }))
      t.equal(status, 401)
      t.equal(headers.get('www-authenticate'), BASE_CHALLENGE)
    })
    t.test(`R81 R84 ${method} with a bad token: 401 invalid_token`, async t => {
      const bad = drupal.mint({ expiresIn: -60 }).token
      const { status, headers } = await read(
        await fetch(url, { method, headers: { accept, authorization: `Bearer ${bad}` } })
      )
      t.equal(status, 401)
      t.match(
        headers.get('www-authenticate'),
        /^Bearer (?=.*error="invalid_token").*resource_metadata="/
      )
    })
  }
  t.test('R8 another method with a good token: 405 and Allow', async t => {
    const { status, headers } = await read(
      await fetch(url, { method: 'PUT', headers: { authorization: `Bearer ${token()}` } })
    )
    t.equal(status, 405)
    t.match(headers.get('allow'), 'POST')
  })
  t.test('R1 R40 GET with a good token: 405 and Allow, Drupal has no stream', async t => {
    const { status, headers } = await read(
      await fetch(url, { headers: { accept, authorization: `Bearer ${token()}` } })
    )
    t.equal(status, 405)
    t.match(headers.get('allow'), 'POST')
  })
})

t.test('Host, Origin and CORS', async t => {
  const { url, origin, token, initialize } = await startGateway(t, {
    env: {
      GATEWAY_PUBLIC_URL: 'https://mcp.example.org',
      ALLOWED_HOSTS: '127.0.0.1',
      ALLOWED_ORIGINS: 'https://app.example'
    }
  })
  const preflight = (requestOrigin: string, path = '/mcp', asked = 'authorization') =>
    fetch(`${origin}${path}`, {
      method: 'OPTIONS',
      headers: {
        origin: requestOrigin,
        'access-control-request-method': 'POST',
        'access-control-request-headers': asked
      }
    })

  t.test('R9 a preflight is answered before any token is asked for', async t => {
    const { status, headers } = await preflight(
      'https://app.example',
      '/mcp',
      "authorization, mcp-param-city, Mcp-Param-Day,mcp-param-a.b!#$%&'*+^_`|~9, mcp-param-(a), x-evil"
    )
    t.equal(status, 204)
    t.equal(headers.get('access-control-allow-origin'), 'https://app.example')
    const allowed = headers.get('access-control-allow-headers')
    const names = allowed?.split(/, */)
    for (const name of [
      'Authorization',
      'Content-Type',
      'Accept',
      'Mcp-Session-Id',
      'MCP-Protocol-Version',
      'Last-Event-ID',
      'Mcp-Method',
      'Mcp-Name',
      'mcp-param-city',
      'Mcp-Param-Day',
      "mcp-param-a.b!#$%&'*+^_`|~9"
    ]) {
      t.ok(names?.includes(name), name)
    }
    for (const method of ['GET', 'POST', 'DELETE'])
      t.match(headers.get('access-control-allow-methods'), method)
    t.notMatch(allowed, /x-evil|\(a\)/)
  })
  t.test('R9 preflights of the public documents are open to every origin', async t => {
    const { status, headers } = await preflight(
      'https://x.example',
      '/.well-known/oauth-protected-resource/mcp'
    )
    t.equal(status, 204)
    t.equal(headers.get('access-control-allow-origin'), '*')
  })
  t.test('R9 what a browser must read is exposed, also on a refusal and on a stream', async t => {
    const session = await initialize(token())
    for (const [init, expected] of [
      [{ method: 'POST' }, 401],
      [{ headers: { ...session, accept: 'text/event-stream' } }, 200]
    ] as [RequestInit, number][]) {
      const sent = { origin: 'https://app.example', ...(init.headers as object) }
      const { status, headers, body } = await fetch(url, { ...init, headers: sent })
      await body?.cancel()
      t.equal(status, expected)
      t.equal(headers.get('access-control-allow-origin'), 'https://app.example')
      const exposed = headers.get('access-control-expose-headers')?.split(/, */)
      for (const name of [
        'Mcp-Session-Id',
        'WWW-Authenticate',
        'MCP-Protocol-Version',
        'Retry-After'
      ])
        t.ok(exposed?.includes(name), name)
      t.match(headers.get('vary'), 'Origin')
    }
  })
  for (const bad of [
    'https://evil.example',
    'null',
    'garbage',
    'http://localhost:3000',
    'https://app.example.evil.example'
  ]) {
    for (const method of ['POST', 'GET', 'DELETE', 'OPTIONS']) {
      t.test(`R3 R4 Origin ${bad} on ${method}: 403 without an id`, async t => {
        const { status, json } = await read(
          await fetch(url, { method, headers: { origin: bad, authorization: `Bearer ${token()}` } })
        )
        t.equal(status, 403)
        t.equal(json.error.code, -32600)
        t.notOk('id' in json)
      })
    }
  }
  t.test('R4 without an Origin a request passes: no client but a browser sends one', async t => {
    t.equal((await fetch(url, { method: 'POST' })).status, 401)
  })
  t.test('R7 a foreign Host: 403', async t => {
    const { request } = await import('node:http')
    const { port } = new URL(origin)
    for (const host of ['evil.example', 'localhost', 'mcp.example.org.evil.example', 'a b']) {
      const status = await new Promise(resolve => {
        const asked = request(
          { hostname: '127.0.0.1', port, path: '/mcp', headers: { host } },
          response => {
            response.resume()
            resolve(response.statusCode)
          }
        )
        asked.end()
      })
      t.equal(status, 403, host)
    }
  })
  t.test('R7 two Hosts: 403, whichever is first', async t => {
    const { hostname, port } = new URL(origin)
    const own = 'mcp.example.org'
    for (const hosts of [
      [own, 'evil.example'],
      ['evil.example', own],
      [own, own]
    ]) {
      const socket = connect(Number(port), hostname)
      const lines = hosts.map(host => `Host: ${host}\r\n`).join('')
      socket.write(`POST /mcp HTTP/1.1\r\n${lines}Content-Length: 0\r\n\r\n`)
      const [answer] = (await once(socket, 'data')) as [Buffer]
      t.match(answer.toString(), /^HTTP\/1\.1 403 /, hosts.join(', '))
      socket.destroy()
    }
  })
  t.test('R7 HTTP/1.1 without a Host: 400 that says so, on probes too', async t => {
    const { hostname, port } = new URL(origin)
    for (const path of ['/mcp', '/livez']) {
      const socket = connect(Number(port), hostname)
      socket.write(`GET ${path} HTTP/1.1\r\n\r\n`)
      const [answer] = (await once(socket, 'data')) as [Buffer]
      t.match(answer.toString(), /^HTTP\/1\.1 400 .*HTTP\/1\.1 needs a Host header\./s, path)
      socket.destroy()
    }
  })
  t.test('R7 a whole URL as the target: its host counts too', async t => {
    const { hostname, port } = new URL(origin)
    const own = 'mcp.example.org'
    for (const [target, host, status] of [
      [`http://${own}`, own, 401],
      [`HTTPS://${own.toUpperCase()}:443`, own, 401],
      ['http://evil.example', own, 403],
      [`http://${own}@evil.example`, own, 403],
      [`http://evil.example@${own}`, own, 403],
      [`http://${own}`, 'evil.example', 403]
    ] as const) {
      const socket = connect(Number(port), hostname)
      socket.write(`POST ${target}/mcp HTTP/1.1\r\nHost: ${host}\r\nContent-Length: 0\r\n\r\n`)
      const [answer] = (await once(socket, 'data')) as [Buffer]
      t.match(answer.toString(), new RegExp(`^HTTP/1.1 ${status} `), `${target}, Host: ${host}`)
      socket.destroy()
    }
  })
  t.test('what can be read by GET can be asked for by HEAD', async t => {
    for (const path of [
      '/livez',
      '/readyz',
      '/.well-known/oauth-protected-resource',
      '/.well-known/oauth-protected-resource/mcp',
      '/.well-known/oauth-authorization-server'
    ]) {
      const { status, text } = await read(await fetch(`${origin}${path}`, { method: 'HEAD' }))
      t.equal(status, 200, path)
      t.equal(text, '')
    }
    const unknown = await fetch(`${origin}/.well-known/nothing`, { method: 'HEAD' })
    t.equal(unknown.status, 404)
  })
  t.test('probes come by address: health answers any Host', async t => {
    const { request } = await import('node:http')
    const { port } = new URL(origin)
    const status = await new Promise(resolve => {
      request(
        { hostname: '127.0.0.1', port, path: '/livez', headers: { host: '10.1.2.3:8080' } },
        response => {
          response.resume()
          resolve(response.statusCode)
        }
      ).end()
    })
    t.equal(status, 200)
  })
})
