// What happens when Redis dies, hangs, comes back, or is not what it should be: with a real redis-server.
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay, setImmediate as turn } from 'node:timers/promises'
import { createServer as createTlsServer } from 'node:tls'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { createRedisStore, type RedisStoreOptions } from '../../src/store/redis.ts'
import { take } from '../fixtures/draw.ts'
import { redisMissing, startRedis } from '../fixtures/redis.ts'

const skip = redisMissing()
const unavailable = { code: 'GW_STORE_UNAVAILABLE', statusCode: 503, retryAfterSeconds: 1 }

/** A store whose log lines and events are kept; `outage(down)` resolves at the next change. */
async function openStore(t: Test, url: string, options: Partial<RedisStoreOptions> = {}) {
  const lines: string[] = []
  const unanswered = { take: 0, get: 0, put: 0 }
  let waiting: ((down: boolean) => void)[] = []
  const store = await createRedisStore({
    url,
    log: {
      warn: (fields, text) => void lines.push(`warn ${JSON.stringify(fields)} ${text}`),
      info: (fields, text) => void lines.push(`info ${JSON.stringify(fields)} ${text}`)
    },
    events: {
      outage(down) {
        for (const resolve of waiting) resolve(down)
        waiting = []
      },
      unanswered: operation => void unanswered[operation]++
    },
    probeMs: 100,
    ...options
  })
  t.teardown(() => store.close())
  const change = () => new Promise<boolean>(resolve => waiting.push(resolve))
  return { store, lines, unanswered, change }
}

async function timed<T>(run: () => T | Promise<T>): Promise<[T, number]> {
  const start = performance.now()
  const result = await run()
  return [result, performance.now() - start]
}

t.test('Redis is killed and started again', { skip }, async t => {
  const redis = await startRedis(t)
  const { store, lines, unanswered, change } = await openStore(t, redis.url)
  await store.put('mine', 'deleted', 60_000)
  t.equal((await take(store, 'k', 7, 60_000)).used, 7)

  await redis.kill()
  t.test('draws go on at once, counted by this process', async t => {
    const [taken, ms] = await timed(() => take(store, 'k', 1, 60_000))
    t.equal(taken.used, 1)
    t.ok(ms < 200, `${ms} ms`)
    t.equal((await take(store, 'k', 1, 60_000)).used, 2)
    t.equal(unanswered.take, 2)
  })

  t.test('what cannot be known is refused, never guessed', async t => {
    await t.rejects(async () => store.get('never written'), unavailable)
    await t.rejects(async () => store.put('other', 'x', 60_000), unavailable)
    await t.rejects(async () => store.claim('other', 'x', 60_000), unavailable)
    await t.rejects(async () => store.get('other'), unavailable, 'a put that failed leaves nothing')
    await t.rejects(store.check(), unavailable)
    t.match(unanswered, { get: 2, put: 2 })
  })

  t.test('a tombstone of this process still refuses', async t => {
    t.equal(await store.get('mine'), 'deleted')
  })

  t.test('it is logged once and heals by itself', async t => {
    t.equal(lines.length, 1)
    t.match(lines[0], /^warn .*Redis does not answer: budgets are counted per process/)
    const healed = change()
    await redis.start()
    t.equal(await healed, false)
    t.match(lines[1], /^info .*Redis answers again/)
    t.equal(lines.length, 2)
    t.equal((await take(store, 'k', 1, 60_000)).used, 1, 'Redis counts again')
    t.equal(await store.get('never written'), undefined)
    await t.resolves(store.check())
  })
})

t.test('Redis hangs', { skip }, async t => {
  const redis = await startRedis(t)
  const { store, lines, unanswered, change } = await openStore(t, redis.url)
  await take(store, 'k', 7, 60_000)
  redis.hang()

  t.test('a burst is answered within tens of milliseconds, and nobody waits after it', async t => {
    const [taken, ms] = await timed(() =>
      Promise.all(Array.from({ length: 300 }, async () => take(store, 'k', 1, 60_000)))
    )
    t.equal(Math.max(...taken.map(({ used }) => used)), 300)
    t.ok(ms >= 45 && ms < 200, `${ms} ms for the burst that found out`)
    const next = store.take([{ key: 'k', cost: 1, max: 9, windowMs: 60_000 }])
    t.notOk(next instanceof Promise, 'no promise: this process answers')
    const [error, refusedMs] = await timed(() => Promise.resolve(store.get('x')).catch(e => e))
    t.match(error, unavailable)
    t.ok(refusedMs < 40, `${refusedMs} ms`)
    t.equal(unanswered.take, 301)
    t.equal(lines.length, 1)
    t.match(lines[0], /no answer within 50 ms/)
  })

  t.test('it wakes and serves again', async t => {
    const healed = change()
    redis.wake()
    t.equal(await healed, false)
    t.ok((await take(store, 'k', 0, 60_000)).used >= 7, 'its counts are still there')
    t.equal(lines.length, 2)
  })
})

t.test('a command that hangs alone refuses get and put within its bound', { skip }, async t => {
  for (const [name, run] of [
    ['get', (store: Store) => store.get('x')],
    ['put', (store: Store) => store.put('x', 'y', 1000)],
    ['claim', (store: Store) => store.claim('x', 'y', 1000)]
  ] as const) {
    const redis = await startRedis(t)
    const { store } = await openStore(t, redis.url)
    redis.hang()
    const [error, ms] = await timed(async () => {
      try {
        return await run(store)
      } catch (e) {
        return e
      }
    })
    t.match(error, unavailable, name)
    t.ok(ms < 200, `${name}: ${ms} ms`)
  }
})
type Store = Awaited<ReturnType<typeof createRedisStore>>

t.test('a connection that went silent is replaced', { skip }, async t => {
  // A lost host sends no FIN: the proxy swallows what comes on old connections and serves new ones.
  const redis = await startRedis(t)
  const old = new Set<Socket>()
  const proxy = createServer(client => {
    const server = connect(redis.port, '127.0.0.1')
    client.pipe(server).pipe(client)
    old.add(client)
    for (const socket of [client, server]) {
      socket.on('error', () => {})
      t.teardown(() => socket.destroy())
    }
  }).listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  t.teardown(() => proxy.close())
  const { store, change } = await openStore(
    t,
    `redis://127.0.0.1:${(proxy.address() as AddressInfo).port}`
  )
  for (const client of old) client.unpipe().resume()
  const down = change()
  await take(store, 'k', 1, 60_000)
  t.equal(await down, true)
  t.equal(await change(), false)
  t.equal((await take(store, 'k', 1, 60_000)).used, 1)
})

t.test('a stall of this process is not taken for an outage', { skip }, async t => {
  const redis = await startRedis(t)
  const { store, lines } = await openStore(t, redis.url)
  const taken = take(store, 'k', 3, 60_000)
  await turn()
  for (const end = performance.now() + 200; performance.now() < end; );
  t.equal((await taken).used, 3)
  t.strictSame(lines, [])
})

t.test('it starts without Redis and heals', { skip }, async t => {
  const redis = await startRedis(t)
  await redis.kill()
  const { store, lines, change } = await openStore(t, redis.url)
  t.equal(lines.length, 1)
  t.match(lines[0], /ECONNREFUSED/)
  t.notMatch(lines[0], /127\.0\.0\.1/, 'no address in the log')
  t.equal((await take(store, 'k', 1, 60_000)).used, 1)
  const quiet = await createRedisStore({ url: redis.url, log: { warn() {}, info() {} } })
  t.equal((await take(quiet, 'k', 1, 60_000)).used, 1, 'events are optional')
  await quiet.close()
  const healed = change()
  await redis.start()
  t.equal(await healed, false)
  t.equal((await take(store, 'k', 4, 60_000)).used, 4)
})

t.test('a Redis that only reads is an outage, until it takes writes', { skip }, async t => {
  const redis = await startRedis(t)
  const { store, lines, change } = await openStore(t, redis.url)
  const tell = async (line: string) => {
    const socket = connect(redis.port, '127.0.0.1').end(`${line}\r\n`)
    t.match(String(await once(socket, 'data')), /OK/)
  }
  await tell('REPLICAOF 127.0.0.1 1')
  t.equal((await take(store, 'k', 1, 60_000)).used, 1)
  t.match(lines[0], /READONLY/)
  await delay(400)
  t.equal(lines.length, 1, 'several probes later it is still an outage')
  const healed = change()
  await tell('REPLICAOF NO ONE')
  t.equal(await healed, false)
})

t.test('a database that is not there is an outage, not database 0', { skip }, async t => {
  const redis = await startRedis(t, '--databases', '2')
  const { store, lines } = await openStore(t, `${redis.url}/2`)
  t.match(lines[0], /DB index is out of range/)
  await t.rejects(async () => store.put('x', 'y', 60_000), unavailable)
  await t.rejects(store.check(), { ...unavailable, reason: /DB index is out of range/ })
  await delay(400)
  t.equal(lines.length, 1, 'several probes later it is still an outage')
  const zero = await openStore(t, redis.url)
  t.equal(await zero.store.get('x'), undefined)
  const one = await openStore(t, `${redis.url}/1`)
  await one.store.put('x', 'y', 60_000)
  t.equal(await zero.store.get('x'), undefined)
  t.strictSame(one.lines, [])
})

t.test('a Redis that may be written to but runs no script is an outage', { skip }, async t => {
  const user = ['limited', 'on', '>pw', '~*', '+@all', '-eval', '-evalsha']
  const { port } = await startRedis(t, '--user', ...user)
  const { store, lines } = await openStore(t, `redis://limited:pw@127.0.0.1:${port}`)
  await t.rejects(store.check(), unavailable)
  t.match(lines[0], /NOPERM/)
  await delay(400)
  t.equal(lines.length, 1, 'several probes later it is still an outage')
})

t.test('a user with the rights that docs/deployment.md names is enough', { skip }, async t => {
  const docs = readFileSync('docs/deployment.md', 'utf8')
  const [, named] = /^ACL SETUSER (.*)$/m.exec(docs) as unknown as [string, string]
  const { port } = await startRedis(
    t,
    '--user',
    ...named.split(' '),
    '--user',
    ...'default on nopass +@all'.split(' ')
  )
  const { store, lines } = await openStore(t, `redis://gateway:PASSWORD@127.0.0.1:${port}`)
  await store.check()
  t.equal((await take(store, 'k', 2, 60_000)).used, 2)
  const [over] = await store.take([{ key: 'k', cost: 2, max: 3, windowMs: 60_000 }])
  t.match(over, { isDrawn: false, used: 2 })
  await store.put('x', 'y', 60_000)
  t.equal(await store.get('x'), 'y')
  t.equal(await store.claim('owner', 'first', 60_000), 'first')
  t.strictSame(lines, [])
  const redis = new Redis(`redis://127.0.0.1:${port}`)
  t.teardown(() => redis.disconnect())
  t.strictSame(await redis.acl('LOG'), [], 'nothing was refused')
})

t.test('a cluster is an outage, even of one server', { skip }, async t => {
  const folder = t.testdir()
  const redis = await startRedis(t, '--cluster-enabled', 'yes', '--dir', folder)
  const slots = connect(redis.port, '127.0.0.1').end('CLUSTER ADDSLOTSRANGE 0 16383\r\n')
  t.match(String(await once(slots, 'data')), /OK/)
  const { store, lines } = await openStore(t, redis.url)
  // It says CLUSTERDOWN until it has seen that all slots are served.
  let reason = ''
  do {
    reason = String((await store.check().catch(error => error))?.reason)
    // Until it has seen that all slots are served.
  } while (/CLUSTERDOWN|no answer/.test(reason))
  t.match(reason, /CROSSSLOT/)
  t.equal(lines.length, 1)
})

t.test('the password never reaches the log', { skip }, async t => {
  // Without the commands HELLO and AUTH Redis quotes what it was sent in its error.
  const cases: [string, RegExp, string[]][] = [
    ['a wrong one', /WRONGPASS/, []],
    [
      'one that is quoted back',
      /unknown command.*\*\*\*/i,
      ['--rename-command', 'HELLO', '', '--rename-command', 'AUTH', '']
    ]
  ]
  for (const [name, reason, args] of cases) {
    const { port } = await startRedis(t, '--requirepass', 'right', ...args)
    const { store, lines } = await openStore(t, `redis://:wrong%2Fsecret@127.0.0.1:${port}`)
    const error = await Promise.resolve(store.get('x')).catch(e => e)
    t.match(lines[0], reason, name)
    t.notMatch(lines.join() + JSON.stringify(error), /wrong.{1,3}secret/)
  }
})

t.test('rediss:// speaks TLS to a server it can trust, and to no other', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'gateway-'))
  const [key, cert] = [join(folder, 'key'), join(folder, 'cert')]
  const made =
    '-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost -days 1'
  execFileSync('openssl', ['req', ...made.split(' '), '-keyout', key, '-out', cert], {
    stdio: 'ignore'
  })
  const server = createTlsServer({ key: readFileSync(key), cert: readFileSync(cert) }, socket =>
    socket.on('data', () => t.fail('a command was sent to a stranger'))
  ).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const { lines } = await openStore(t, `rediss://:secret@127.0.0.1:${port}`)
  t.match(lines[0], /DEPTH_ZERO_SELF_SIGNED_CERT/)
})

t.test('a URL of another scheme is refused by name, and not repeated', async t => {
  const log = { warn() {}, info() {} }
  await t.rejects(createRedisStore({ url: 'http://:secret@h', log }), {
    message: 'REDIS_URL must begin with redis:// or rediss://.'
  })
})
