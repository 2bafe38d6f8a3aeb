// The gateway behind real proxies: deploy/proxies/* run as they stand, only ports, certificates and time-outs are put in. What a
// client behind them sees, and whom the gateway sees.
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { request } from 'node:https'
import { once } from 'node:events'
import { type AddressInfo, connect } from 'node:net'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { startDrupal } from '../../src/demo/double.ts'
import { EventRelay } from '../../src/mcp/sse.ts'
import { redisMissing, startRedis } from '../fixtures/redis.ts'
import { modern } from '../gateway/fixtures/mcp.ts'
import { startGateway } from '../gateway/fixtures/start.ts'
import { freePort } from '../fixtures/ports.ts'
import { has, needs, root, tools } from './tools.ts'

const HOST = 'mcp.example.org'
/** The proxies' longest silence in most tests; 150 seconds in the files. */
const SILENCE_MS = 1000
const hasIPv6 = Object.values(networkInterfaces()).some(each =>
  each?.some(({ address }) => address === '::1')
)
const certificates = t.testdir()
const paths = { cert: join(certificates, 'cert.pem'), key: join(certificates, 'key.pem') }
execFileSync(
  'openssl',
  `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=${HOST} -keyout ${paths.key} -out ${paths.cert}`.split(
    ' '
  ),
  { stdio: 'ignore' }
)
writeFileSync(
  join(certificates, 'both.pem'),
  readFileSync(paths.cert, 'utf8') + readFileSync(paths.key, 'utf8')
)

/** Replaces every pair in a file's text; throws where one is not there, as the file then says something else than the test thinks. */
function substitute(file: string, pairs: readonly (readonly [string, string])[]): string {
  let text = readFileSync(join(root, 'deploy/proxies', file), 'utf8')
  for (const [from, to] of pairs) {
    if (!text.includes(from)) throw new Error(`${file} has no "${from}"`)
    text = text.replaceAll(from, to)
  }
  return text
}

interface Proxy {
  tool: string
  /** Writes the configuration to a folder and starts the proxy. `check` is what HAProxy's server lines say of checks. */
  start(
    folder: string,
    port: number,
    behind: readonly number[],
    check: string,
    silenceMs: number
  ): ChildProcess
}

const proxies: readonly Proxy[] = [
  {
    tool: tools.nginx,
    start(folder, port, behind, _check, silenceMs) {
      const server = substitute('nginx.conf', [
        ['listen 443 ssl', `listen 127.0.0.1:${port} ssl`],
        hasIPv6
          ? ['listen [::]:443 ssl', `listen [::1]:${port} ssl`]
          : ['    listen [::]:443 ssl;\n', ''],
        [`/etc/letsencrypt/live/${HOST}/fullchain.pem`, paths.cert],
        [`/etc/letsencrypt/live/${HOST}/privkey.pem`, paths.key],
        [
          'server 127.0.0.1:3000 max_fails=0;',
          behind.map(each => `server 127.0.0.1:${each} max_fails=0;`).join('\n')
        ],
        ['150s', `${silenceMs}ms`]
      ])
      const main = `daemon off; pid ${folder}/pid; error_log stderr; events {} http { access_log off;
        client_body_temp_path ${folder}/a; proxy_temp_path ${folder}/b; fastcgi_temp_path ${folder}/c;
        uwsgi_temp_path ${folder}/d; scgi_temp_path ${folder}/e;\n${server}\n}`
      writeFileSync(join(folder, 'nginx.conf'), main)
      return spawn('nginx', ['-e', 'stderr', '-c', join(folder, 'nginx.conf')], options)
    }
  },
  {
    tool: tools.haproxy,
    start(folder, port, behind, check, silenceMs) {
      const servers = behind.map((each, n) => `server gateway${n} 127.0.0.1:${each} ${check}\n`)
      const text = substitute('haproxy.cfg', [
        ['bind :443,:::443 ', `bind 127.0.0.1:${port}${hasIPv6 ? `,::1:${port}` : ''} `],
        [`/etc/haproxy/certs/${HOST}.pem`, join(certificates, 'both.pem')],
        ['server gateway1 127.0.0.1:3000 check inter 5s fastinter 1s', servers.join('')],
        ['150s', `${silenceMs}ms`]
      ])
      writeFileSync(join(folder, 'haproxy.cfg'), text)
      return spawn('haproxy', ['-db', '-f', join(folder, 'haproxy.cfg')], options)
    }
  }
]
const options = {
  stdio: ['ignore', 'ignore', 'inherit'] as ['ignore', 'ignore', 'inherit'],
  env: { PATH: `${process.env['PATH']}:/usr/sbin` }
}

/** Starts a proxy in front of a port; answers its own port once it takes connections. */
async function inFront(
  t: Test,
  proxy: Proxy,
  behind: readonly number[],
  // None: most servers here have no /readyz.
  check = '',
  silenceMs = SILENCE_MS
): Promise<number> {
  const port = await freePort()
  const child = proxy.start(t.testdir(), port, behind, check, silenceMs)
  t.teardown(async () => {
    child.kill('SIGTERM')
    if (child.exitCode === null) await once(child, 'exit')
  })
  for (;;) {
    const socket = connect(port, '127.0.0.1')
    if (
      await new Promise(resolve =>
        socket.on('connect', () => resolve(true)).on('error', () => resolve(false))
      )
    ) {
      socket.destroy()
      return port
    }
    if (child.exitCode !== null) throw new Error(`${proxy.tool} ended with ${child.exitCode}`)
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}

interface Seen {
  status: number
  headers: Record<string, string | string[] | undefined>
  text: string
  /** What came, and when, in milliseconds after the first byte. */
  chunks: { text: string; at: number }[]
  /** False: the connection was cut. */
  whole: boolean
}

function ask(
  port: number,
  path: string,
  { method = 'GET', headers = {}, body = '', host = '127.0.0.1', localAddress = '127.0.0.1' } = {}
): Promise<Seen> {
  return new Promise((resolve, reject) => {
    const asked = request(
      {
        host,
        port,
        path,
        method,
        localAddress,
        agent: false,
        servername: HOST,
        rejectUnauthorized: false,
        headers: { host: HOST, ...headers }
      },
      response => {
        const chunks: Seen['chunks'] = []
        const started = performance.now()
        response.setEncoding('utf8')
        response.on('data', (text: string) =>
          chunks.push({ text, at: performance.now() - started })
        )
        const done = (whole: boolean) => () =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            text: chunks.map(({ text }) => text).join(''),
            chunks,
            whole
          })
        response.on('end', done(true)).on('error', done(false))
      }
    )
    asked.on('error', reject).end(body)
  })
}

/** The status of an answer by HTTP/2, which no client of Node's speaks in as many small pieces as curl. */
async function statusByCurl(port: number, ...options: string[]): Promise<string> {
  const to = ['--http2', '--connect-to', `::127.0.0.1:${port}`, `https://${HOST}/mcp`]
  const quiet = ['-sk', '--max-time', '5', '-o', '/dev/null', '-w', '%{http_code}']
  return (await promisify(execFile)('curl', [...quiet, ...options, ...to])).stdout
}

const portOf = (origin: string) => Number(new URL(origin).port)

/** An event stream as the gateway relays it: our own relay with a heartbeat; /silent: a stream that nobody keeps alive. */
async function startStreams(t: Test): Promise<number> {
  const server = createServer((incoming, response: ServerResponse) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    if (incoming.url === '/silent') {
      response.write('data: first\n\n')
      setTimeout(() => response.end('data: last\n\n'), 3 * SILENCE_MS)
      return
    }
    const client = {
      isFull: false,
      cork() {},
      write: (bytes: string) => void response.write(bytes, 'latin1'),
      end: () => void response.end()
    }
    const relay = new EventRelay({ client, heartbeatMs: SILENCE_MS / 4 })
    response.once('close', () => relay.close())
    if (incoming.url === '/quiet') {
      setTimeout(() => {
        relay.take('data: last\n\n')
        relay.end()
      }, 3 * SILENCE_MS)
      return
    }
    let count = 0
    const timer = setInterval(() => {
      relay.take(`data: ${++count}\n\n`)
      if (count === 5) {
        clearInterval(timer)
        relay.end()
      }
    }, 150)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => void server.close())
  return (server.address() as AddressInfo).port
}

for (const proxy of proxies) {
  t.test(`behind ${proxy.tool}`, needs(proxy.tool), async t => {
    if (!has(proxy.tool)) return t.fail(`install ${proxy.tool}`)

    await t.test('event streams', async t => {
      const port = await inFront(t, proxy, [await startStreams(t)])
      await t.test('arrive event by event', async t => {
        const { status, chunks, text } = await ask(port, '/events')
        t.equal(status, 200)
        for (const number of [1, 2, 3, 4, 5]) t.match(text, `data: ${number}\n\n`)
        const events = chunks.filter(chunk => chunk.text.includes('data:'))
        t.equal(events.length, 5, 'each in a chunk of its own')
        const [first, last] = [events[0]?.at ?? 0, events[4]?.at ?? 0]
        t.ok(last - first > 400, `spread over ${Math.round(last - first)} ms`)
      })
      await t.test(`that are quiet outlive the proxy's time-outs, by the heartbeat`, async t => {
        const { text, whole } = await ask(port, '/quiet')
        t.match(text, /(: keepalive\n\n){5,}/)
        t.match(text, 'data: last')
        t.ok(whole)
      })
      await t.test(
        'that nobody keeps alive are cut: the time-outs are really that short',
        async t => {
          const { text, whole } = await ask(port, '/silent')
          t.match(text, 'data: first')
          t.notMatch(text, 'data: last')
          t.notOk(whole)
        }
      )
    })

    await t.test('R69 a client that goes takes its call and its stream with it', async t => {
      const begun: ServerResponse[] = []
      const server = createServer((incoming, response) => {
        if (incoming.url === '/stream') {
          response.writeHead(200, { 'content-type': 'text/event-stream' }).write(': quiet\n\n')
        }
        begun.push(response)
        server.emit('begun')
      })
      t.teardown(() => void server.close())
      await once(server.listen(0, '127.0.0.1'), 'listening')
      const { port: behind } = server.address() as AddressInfo
      const port = await inFront(t, proxy, [behind], '', 600_000)
      for (const path of ['/call', '/stream']) {
        const isBegun = once(server, 'begun')
        const headers = { host: HOST }
        const to = { host: '127.0.0.1', port, servername: HOST, rejectUnauthorized: false }
        const asked = request({ ...to, path, method: 'POST', agent: false, headers })
        asked.on('error', () => {}).end('{}')
        if (path === '/stream') await once(asked, 'response')
        await isBegun
        asked.destroy()
        await once(begun.pop() as ServerResponse, 'close')
        t.pass(path)
      }
    })

    await t.test('the gateway', async t => {
      const { origin, token, logged } = await startGateway(t, {
        env: {
          GATEWAY_PUBLIC_URL: `https://${HOST}`,
          TRUSTED_PROXIES: '127.0.0.1',
          LIMIT_FAILURES: '3/1m'
        }
      })
      const port = await inFront(t, proxy, [portOf(origin)])

      await t.test('R85 no URL turns to http', async t => {
        const metadata = await ask(port, '/.well-known/oauth-protected-resource/mcp')
        t.equal(metadata.status, 200)
        t.equal(JSON.parse(metadata.text).resource, `https://${HOST}/mcp`)
        const refused = await ask(port, '/mcp', { method: 'POST' })
        t.equal(refused.status, 401)
        const challenge = String(refused.headers['www-authenticate'])
        t.match(
          challenge,
          `resource_metadata="https://${HOST}/.well-known/oauth-protected-resource/mcp"`
        )
        t.notMatch(challenge + JSON.stringify(refused.headers), 'http://')
        t.equal(
          (await ask(port, '/.well-known/oauth-protected-resource')).headers.location,
          undefined
        )
      })

      if (proxy.tool === tools.haproxy) {
        const name = 'who is refused before the body was passed on costs nobody a request'
        await t.test(name, needs('curl'), async t => {
          for (let n = 0; n < 50; n++) {
            t.equal(await statusByCurl(port, '-d', '{}'), '401')
            t.equal(await statusByCurl(port), '401')
          }
          // Whoever refuses these, proxy or gateway, by router or by Node.
          for (const odd of [
            ['--request-target', '/%'],
            ['-H', 'Expect: the-unexpected']
          ]) {
            for (let n = 0; n < 12; n++) {
              await statusByCurl(port, '-d', '{}', ...odd)
              t.equal(await statusByCurl(port), '401', odd.join(' '))
            }
          }
        })
      }

      await t.test('a call goes through', async t => {
        const { status, text } = await ask(port, '/mcp', {
          method: 'POST',
          headers: {
            'content-type': 'application/json',
            accept: 'application/json, text/event-stream',
            authorization: `Bearer ${token()}`
          },
          body: JSON.stringify({
            jsonrpc: '2.0',
            id: 1,
            method: 'initialize',
            params: {
              protocolVersion: '2025-11-25',
              capabilities: {},
              clientInfo: { name: 'test', version: '1' }
            }
          })
        })
        t.equal(status, 200, text)
        t.equal(JSON.parse(text).id, 1)
      })

      await t.test('the client, not the proxy, draws on the address budget', async t => {
        const attempt = (localAddress: string, claimed: string) =>
          ask(port, '/mcp', {
            method: 'POST',
            localAddress,
            headers: { authorization: 'Bearer forged.token.x', 'x-forwarded-for': claimed }
          })
        const statuses: number[] = []
        // Claims another address each time.
        for (let n = 1; n <= 5; n++)
          statuses.push((await attempt('127.0.0.2', `192.0.2.${n}`)).status)
        t.strictSame(statuses, [401, 401, 401, 429, 429])
        t.equal(
          (await attempt('127.0.0.3', '127.0.0.2')).status,
          401,
          'a neighbour is not held back'
        )
        t.notMatch(logged.join(''), 'forged.token')
      })
    })

    await t.test('each caller by its own address, of either family', async t => {
      const server = createServer((incoming, response) => {
        incoming.resume()
        response.end(incoming.headers['x-forwarded-for'])
      })
      t.teardown(() => void server.close())
      await once(server.listen(0, '127.0.0.1'), 'listening')
      const port = await inFront(t, proxy, [(server.address() as AddressInfo).port])
      for (const host of hasIPv6 ? ['127.0.0.1', '::1'] : ['127.0.0.1'])
        t.equal((await ask(port, '/', { host, localAddress: host })).text, host)
    })

    await t.test('what all replicas share is gone', { skip: redisMissing() }, async t => {
      const redis = await startRedis(t)
      const drupal = await startDrupal()
      const env = {
        GATEWAY_PUBLIC_URL: `https://${HOST}`,
        TRUSTED_PROXIES: '127.0.0.1',
        REDIS_URL: redis.url
      }
      const replicas = [
        await startGateway(t, { env, drupal }),
        await startGateway(t, { env, drupal })
      ] as const
      const port = await inFront(
        t,
        proxy,
        replicas.map(({ origin }) => portOf(origin)),
        'check inter 200ms'
      )
      /** HAProxy has asked each replica more often than it needs to judge it; nginx asks nothing. */
      const judged = async () => {
        if (proxy.tool !== tools.haproxy) return
        const often = replicas.map(async ({ gateway: { app } }) => {
          for (let asked = 0; asked < 5; ) {
            const [{ url }] = (await once(app.server, 'request')) as [IncomingMessage]
            if (url?.startsWith('/readyz')) asked++
          }
        })
        await Promise.all(often)
      }
      await judged()
      const { body, headers } = modern('tools/call', { name: 'site.info', arguments: {} })
      const authorization = `Bearer ${replicas[0].token()}`
      const call = () =>
        ask(port, '/mcp', {
          method: 'POST',
          body: JSON.stringify(body),
          headers: {
            'content-type': 'application/json',
            accept: 'application/json, text/event-stream',
            authorization,
            ...headers
          }
        })
      t.equal((await call()).status, 200)

      await redis.kill()
      await judged()
      t.equal((await fetch(`${replicas[0].origin}/readyz`)).status, 503)
      for (let n = 0; n < 4; n++)
        t.equal((await call()).status, 200, 'Redis: calls without a session go on')

      await drupal.close()
      await judged()
      for (let n = 0; n < 4; n++) {
        const answer = await call()
        t.equal(answer.status, 502, answer.text)
        t.match(JSON.parse(answer.text), { jsonrpc: '2.0', id: 1, error: {} })
      }
    })

    await t.test('one replica is gone: no request finds out', async t => {
      const { origin } = await startGateway(t, { env: { GATEWAY_PUBLIC_URL: `https://${HOST}` } })
      const port = await inFront(t, proxy, [await freePort(), portOf(origin), await freePort()])
      for (let n = 0; n < 4; n++) {
        const { status } = await ask(port, '/mcp', { method: 'POST', body: '{}' })
        t.equal(status, 401, 'the one that is there')
      }
    })

    await t.test('replicas are replaced one after the other: no request finds out', async t => {
      const replicas = [await freePort(), await freePort()].map(port => {
        const server = createServer((incoming, response) => {
          incoming.resume()
          response.writeHead(200, { connection: 'close' }).end()
        })
        t.teardown(() => void server.close())
        const start = () => once(server.listen(port, '127.0.0.1'), 'listening')
        return { port, start, stop: () => once(server.close(), 'close') }
      })
      for (const { start } of replicas) await start()
      const port = await inFront(
        t,
        proxy,
        replicas.map(replica => replica.port)
      )
      for (const { start, stop } of replicas) {
        await stop()
        for (let n = 0; n < 4; n++)
          t.equal((await ask(port, '/mcp', { method: 'POST', body: '{}' })).status, 200)
        await start()
      }
    })

    await t.test('a call whose answer is lost is not sent twice', async t => {
      for (const [status, lose] of [
        [502, (response: ServerResponse) => void response.destroy()],
        [504, () => {}]
      ] as const) {
        let seen = 0
        const replica = async () => {
          const server = createServer((incoming, response) => {
            seen++
            incoming.resume().once('end', () => lose(response))
          })
          server.listen(0, '127.0.0.1')
          await once(server, 'listening')
          t.teardown(() => {
            server.close()
            server.closeAllConnections()
          })
          return (server.address() as AddressInfo).port
        }
        const port = await inFront(t, proxy, [await replica(), await replica()])
        t.equal((await ask(port, '/mcp', { method: 'POST', body: '{}' })).status, status)
        t.equal(seen, 1)
      }
    })
  })
}
