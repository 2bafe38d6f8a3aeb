// TLS by the gateway itself: real certificates by openssl, real handshakes, and new certificates while connections are open.
import { EventEmitter, once } from 'node:events'
import { cpSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { Agent, request } from 'node:https'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import fastify from 'fastify'
import t from 'tap'
import { loadConfig } from '../../src/config/load.ts'
import { serverOptions } from '../../src/http/server.ts'
import { tls, tlsOptions } from '../../src/http/tls.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { echo } from '../faults/fixtures/load.ts'
import { pair, pairOfYears } from '../fixtures/certificate.ts'
import { startGateway } from '../gateway/fixtures/start.ts'

/** Whose certificate answers, and what. Without an agent every request is a new connection. */
function get(origin: string, agent: Agent | false = false) {
  return new Promise<{ status: number | undefined; subject: string; text: string; port: number }>(
    (resolve, reject) => {
      // Self-signed on purpose: whose certificate it is, is what the tests compare.
      request(`${origin}/livez`, { agent, rejectUnauthorized: false }, response => {
        const socket = response.socket as TLSSocket
        const subject = String(socket.getPeerCertificate().subject.CN)
        const port = Number(socket.localPort)
        let text = ''
        response.on('data', chunk => (text += chunk))
        response.on('end', () => resolve({ status: response.statusCode, subject, text, port }))
      })
        .on('error', reject)
        .end()
    }
  )
}

/** A line of the log, as soon as it is there. */
async function line(logged: string[], about: RegExp, after = 0) {
  for (;;) {
    const found = logged.slice(after).find(each => about.test(each))
    if (found !== undefined) return found
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

t.test('a certificate is replaced while the gateway runs', async t => {
  const folder = t.testdir()
  const first = pair(folder, 'first')
  const second = pair(folder, 'second')
  const live = { cert: join(folder, 'tls.crt'), key: join(folder, 'tls.key') }
  cpSync(first.cert, live.cert)
  cpSync(first.key, live.key)
  const { origin, logged } = await startGateway(t, {
    env: {
      GATEWAY_PUBLIC_URL: 'https://localhost:3999',
      TLS_CERT_FILE: live.cert,
      TLS_KEY_FILE: live.key
    }
  })
  const kept = new Agent({ keepAlive: true, maxSockets: 1 })
  t.teardown(() => kept.destroy())

  const opened = await get(origin, kept)
  t.match(opened, { status: 200, subject: 'first', text: '{"status":"ok"}' })
  await t.rejects(fetch(origin.replace('https:', 'http:')), 'plain HTTP is not answered')

  await t.test(
    'a pair that does not belong together is logged once, the old one stays',
    async t => {
      cpSync(second.cert, live.cert)
      const refusal = await line(logged, /cannot be used: serving the old one/)
      t.notMatch(refusal, /PRIVATE KEY|BEGIN/)
      t.match(await get(origin), { status: 200, subject: 'first' })
    }
  )

  await t.test(
    'its key arrives: new connections get the new certificate, open ones stay',
    async t => {
      const before = logged.length
      cpSync(second.key, live.key)
      t.match(await line(logged, /serving this TLS certificate/, before), 'validTo')
      t.match(await get(origin), { status: 200, subject: 'second' })
      const again = await get(origin, kept)
      t.equal(again.port, opened.port, 'the connection from before is still open and used')
      t.equal(again.subject, 'first')
    }
  )

  t.notMatch(logged.join(''), /PRIVATE KEY/)
})

t.test(
  'one that has ended or has not begun is served with a warning, and when it ends is a metric',
  async t => {
    const folder = t.testdir()
    const live = pairOfYears(folder, 'ended', [2020, 2021])
    const { gateway, origin, logged } = await startGateway(t, {
      env: {
        GATEWAY_PUBLIC_URL: 'https://localhost:3999',
        TLS_CERT_FILE: live.cert,
        TLS_KEY_FILE: live.key,
        ADMIN_PORT: '0'
      }
    })
    const level = (text: string) => (JSON.parse(text) as { level: string }).level
    async function ends() {
      const { body } = await gateway.admin!.inject('/metrics')
      return Number(/^mcp_gateway_tls_certificate_expiry_timestamp_seconds (.+)$/m.exec(body)?.[1])
    }
    async function replace({ cert, key }: typeof live) {
      const before = logged.length
      cpSync(cert, live.cert)
      cpSync(key, live.key)
      return line(logged, /serving this TLS certificate/, before)
    }
    t.equal(level(await line(logged, /serving this TLS certificate/)), 'warn')
    t.match(await get(origin), { status: 200, subject: 'ended' })
    t.equal(await ends(), Date.UTC(2021) / 1000)

    t.equal(level(await replace(pair(folder, 'valid'))), 'info')
    t.ok(Math.abs((await ends()) - (Date.now() / 1000 + 2 * 86_400)) < 60)

    t.equal(level(await replace(pairOfYears(folder, 'future', [2098, 2099]))), 'warn')
    t.match(await get(origin), { status: 200, subject: 'future' })
    t.equal(await ends(), Date.UTC(2099) / 1000)
  }
)

t.test('a folder swapped by symbolic link is seen, as Kubernetes mounts Secrets', async t => {
  const folder = t.testdir({ one: {}, two: {} })
  for (const [version, name] of [
    ['one', 'first'],
    ['two', 'second']
  ] as const) {
    const { cert, key } = pair(folder, name)
    renameSync(cert, join(folder, version, 'tls.crt'))
    renameSync(key, join(folder, version, 'tls.key'))
  }
  symlinkSync('one', join(folder, '..data'))
  for (const file of ['tls.crt', 'tls.key']) symlinkSync(`..data/${file}`, join(folder, file))
  const { origin, logged } = await startGateway(t, {
    env: {
      GATEWAY_PUBLIC_URL: 'https://localhost:3999',
      TLS_CERT_FILE: join(folder, 'tls.crt'),
      TLS_KEY_FILE: join(folder, 'tls.key')
    }
  })
  t.match(await get(origin), { subject: 'first' })
  const before = logged.length
  symlinkSync('two', join(folder, '..data_tmp'))
  renameSync(join(folder, '..data_tmp'), join(folder, '..data'))
  await line(logged, /serving this TLS certificate/, before)
  t.match(await get(origin), { subject: 'second' })
})

t.test('without a notice from the file system the files are looked at now and then', async t => {
  const folder = t.testdir({ watched: {}, far: {} })
  const { cert, key } = pair(join(folder, 'far'), 'first')
  // The watched folder holds links only, so what happens behind them gives no notice.
  const [certFile, keyFile] = [
    join(folder, 'watched', 'tls.crt'),
    join(folder, 'watched', 'tls.key')
  ]
  symlinkSync(cert, certFile)
  symlinkSync(key, keyFile)
  const config = loadConfig({
    env: { DRUPAL_URL: 'http://127.0.0.1:1', TLS_CERT_FILE: certFile, TLS_KEY_FILE: keyFile }
  })
  const app = fastify(serverOptions(config))
  t.teardown(() => app.close())
  await app.register(tls, { config, metrics: createMetrics(), pollMs: 20 })
  app.get('/livez', async () => 'ok')
  const origin = await app.listen({ host: '127.0.0.1', port: 0 })
  t.match(await get(origin), { subject: 'first' })
  // A few looks at files that have not changed.
  await new Promise(resolve => setTimeout(resolve, 80))
  t.match(await get(origin), { subject: 'first' })
  const other = pair(folder, 'second')
  writeFileSync(cert, readFileSync(other.cert))
  writeFileSync(key, readFileSync(other.key))
  for (;;) if ((await get(origin)).subject === 'second') break
  t.pass('the new certificate is served')
})

t.test(
  'shutdown: a call at work finishes, a connection opened in advance does not delay it',
  async t => {
    const { cert, key } = pair(t.testdir(), 'only')
    const begun = new EventEmitter()
    const finish = new EventEmitter()
    const slow: typeof echo = {
      ...echo,
      async run(params, caller) {
        const finished = once(finish, 'now')
        begun.emit('call')
        await finished
        return echo.run(params, caller)
      }
    }
    const { gateway, origin, token } = await startGateway(t, {
      drupal: { extraTools: [slow] },
      env: { GATEWAY_PUBLIC_URL: 'https://localhost:3999', TLS_CERT_FILE: cert, TLS_KEY_FILE: key }
    })
    const { hostname, port } = new URL(origin)
    const inAdvance = connectTls({ host: hostname, port: Number(port), rejectUnauthorized: false })
    await once(inAdvance, 'secureConnect')

    const message = {
      jsonrpc: '2.0',
      id: 1,
      method: 'tools/call',
      params: {
        name: slow.name,
        arguments: { text: 'late' },
        _meta: {
          'io.modelcontextprotocol/protocolVersion': '2026-07-28',
          'io.modelcontextprotocol/clientInfo': { name: 't', version: '1' },
          'io.modelcontextprotocol/clientCapabilities': {}
        }
      }
    }
    const call = request(`${origin}/mcp`, {
      agent: false,
      rejectUnauthorized: false,
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        authorization: `Bearer ${token()}`,
        'mcp-protocol-version': '2026-07-28',
        'mcp-method': 'tools/call',
        'mcp-name': slow.name
      }
    })
    const answered = once(call, 'response') as Promise<[IncomingMessage]>
    const atWork = once(begun, 'call')
    call.end(JSON.stringify(message))
    await atWork

    const gone = once(inAdvance.resume(), 'close')
    const stopped = gateway.stop()
    await gone
    finish.emit('now')
    const [answer] = await answered
    t.equal(answer.statusCode, 200)
    t.match(await text(answer), /late/)
    await stopped
  }
)

t.test('shutdown: nobody who has not come through the handshake keeps the process', async t => {
  const { cert, key } = pair(t.testdir(), 'only')
  const { gateway, origin } = await startGateway(t, {
    env: {
      GATEWAY_PUBLIC_URL: 'https://localhost:3999',
      TLS_CERT_FILE: cert,
      TLS_KEY_FILE: key,
      SHUTDOWN_TIMEOUT: '1'
    }
  })
  const { hostname, port } = new URL(origin)
  async function open(bytes: number[]) {
    const accepted = once(gateway.app.server, 'connection') as Promise<[Socket]>
    const socket = connect(Number(port), hostname)
    const [seen] = await accepted
    socket.on('error', () => {}).write(Buffer.from(bytes))
    while (seen.bytesRead < bytes.length) await new Promise(resolve => setTimeout(resolve, 10))
    return { closed: once(socket.resume(), 'close').then(() => performance.now()) }
  }
  const silent = await open([])
  const midst = await open([0x16, 3, 1, 2, 0, 1])
  const begun = performance.now()
  await gateway.stop()
  t.ok((await silent.closed) - begun < 900, 'one that has sent nothing is ended at once')
  t.ok((await midst.closed) - begun > 900, 'one that has begun to send has SHUTDOWN_TIMEOUT')
})

t.test('a pair that does not belong together: the gateway does not start and says why', async t => {
  const folder = t.testdir()
  const { cert } = pair(folder, 'first')
  const { key } = pair(folder, 'second')
  t.throws(() => tlsOptions({ tlsCertFile: cert, tlsKeyFile: key }), {
    message: /TLS_CERT_FILE and TLS_KEY_FILE do not belong together.*one certificate/
  })
})

t.test('none configured: the listener speaks plain HTTP', async t => {
  t.equal(tlsOptions({ tlsCertFile: '', tlsKeyFile: '' }), null)
  const { gateway, origin } = await startGateway(t, { env: { ADMIN_PORT: '0' } })
  t.equal((await fetch(`${origin}/livez`)).status, 200)
  const { body } = await gateway.admin!.inject('/metrics')
  t.notMatch(body, /^mcp_gateway_tls_certificate/m, 'no certificate, no sample')
})
