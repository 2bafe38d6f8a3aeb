// Shares budgets and tombstones between replicas through one Redis 7 or Valkey, and says what happens without it: budgets are
// counted by this process, tombstones fail closed. It knows nothing of sessions or limits. Not for Redis Cluster.
import { Redis } from 'ioredis'
import { gatewayError } from '../errors.ts'
import { type Answer, askArguments, askScript, type Question, takenOf } from './ask-script.ts'
import { createBatch } from './batch.ts'
import { createMemoryStore } from './memory.ts'
import type { Draw, Store, Taken } from './store.ts'

export interface StoreEvents {
  /** Once when Redis stops answering (true), once when it is back (false). */
  outage?(down: boolean): void
  /** What Redis did not answer: a draw that this process counted, or a get or put that was refused. */
  unanswered?(operation: 'take' | 'get' | 'put'): void
}

/** Milliseconds that one command may take before Redis counts as gone: a call waits no longer for it. */
export const redisPatienceMs = 50

export interface RedisStoreOptions {
  /** redis:// or rediss:// (TLS, always verified; NODE_EXTRA_CA_CERTS names a private authority). */
  url: string
  log: { warn(fields: object, text: string): void; info(fields: object, text: string): void }
  events?: StoreEvents
  /** Default `redisPatienceMs`. */
  timeoutMs?: number
  /** Milliseconds between two looks whether Redis is back; default 250. */
  probeMs?: number
}

type Scripted = Redis & { ask(...args: (string | number)[]): Promise<Answer[]> }

/**
 * Connects, and resolves also when Redis is away: the store then begins in outage and heals by itself. Rejects only for a URL
 * that is no Redis URL.
 *
 * During an outage `take` answers from memory at once, the others reject with GW_STORE_UNAVAILABLE. A value that this process has
 * written is still answered: a tombstone can only refuse. That one was absent a moment ago is never believed, because another
 * replica may have written it since.
 */
export async function createRedisStore(options: RedisStoreOptions): Promise<Store> {
  const { url, log, events = {}, timeoutMs = redisPatienceMs, probeMs = 250 } = options
  if (!/^rediss?:\/\//.test(url)) {
    throw new Error('REDIS_URL must begin with redis:// or rediss://.')
  }
  const local = createMemoryStore()
  const redis = new Redis(url, {
    lazyConnect: true,
    keyPrefix: 'dmg:',
    connectTimeout: 2000,
    // A connection that went silent (a lost host sends no FIN) is given up, or nothing would ever heal.
    socketTimeout: 4 * probeMs,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 1,
    retryStrategy: attempt => Math.min(attempt * 50, probeMs),
    // After a failover the old primary refuses writes: connect again and find the new one.
    reconnectOnError: error => error.message.startsWith('READONLY'),
    scripts: { ask: { lua: askScript } },
    ...(url.startsWith('rediss:') && { tls: { rejectUnauthorized: true } })
  }) as Scripted

  let down = false
  let closed = false
  let lastError: unknown
  let probing: NodeJS.Timeout | undefined

  /** Only a text leaves: an ioredis error carries its command, and that of AUTH holds the password. */
  function reasonOf(error: unknown): string {
    const { code, message } = (lastError ?? error) as NodeJS.ErrnoException
    return code ?? message.split(password(url)).join('***')
  }

  function fail(error: unknown) {
    if (down || closed) return
    down = true
    probing = setInterval(probe, probeMs).unref()
    log.warn(
      { reason: reasonOf(error) },
      'Redis does not answer: budgets are counted per process and sessions cannot be checked until it does.'
    )
    events.outage?.(true)
    // A short stall (of Redis, or of this process) must not cost a whole interval.
    setImmediate(probe)
  }

  function heal() {
    if (!down) return
    down = false
    clearInterval(probing)
    log.info({}, 'Redis answers again.')
    events.outage?.(false)
  }

  /** Resolves when Redis takes all that is asked of it: one that only reads, or may run no script, is of no use here. */
  async function check() {
    try {
      // Two keys, as a call may have: a cluster, where they lie in different slots, would refuse those.
      const asked = redis.ask(2, 'probe', 'value:probe', 1, 1, Number.MAX_SAFE_INTEGER, 1000, 0)
      await within(Promise.all([asked, redis.psetex('probe', 1000, '1')]))
    } catch (error) {
      throw unavailable('a probe', error)
    }
    heal()
  }

  function probe() {
    check().catch(() => {})
  }

  function within<T>(answer: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const expire = () => reject(new Error(`no answer within ${timeoutMs} ms`))
      // One more turn: when this process was the slow one, the answer already lies in the socket.
      const timer = setTimeout(() => setImmediate(expire), timeoutMs)
      answer.then(resolve, reject).finally(() => clearTimeout(timer))
    })
  }

  function unavailable(what: string, error: unknown) {
    fail(error)
    const reason = `Redis did not answer ${what}: ${reasonOf(error)}`
    return gatewayError('GW_STORE_UNAVAILABLE', { reason, retryAfterSeconds: 1 })
  }

  function refuse(operation: 'get' | 'put', error: unknown) {
    events.unanswered?.(operation)
    return unavailable(operation, error)
  }

  function takeHere(draws: readonly Draw[]): Taken[] {
    events.unanswered?.('take')
    return local.take(draws)
  }

  /** Rejects at once while Redis is known to be away: only probes wait for it. */
  async function ask<T>(send: () => Promise<T>): Promise<T> {
    if (down) throw new Error('it has not been answering')
    return within(send())
  }

  const askBatched = createBatch((questions: Question[]) =>
    ask(() => redis.ask(...askArguments(questions)))
  )

  redis.on('error', (error: Error & { command?: { name: string } }) => {
    // Nor code nor command: what ioredis itself could not ask on a connection that we had given up.
    if ('code' in error || error.command !== undefined) lastError = error
    if (error.command?.name !== 'select') return
    // ioredis would go on in database 0.
    fail(error)
    redis.disconnect(true)
  })
  redis.on('close', () => fail(new Error('the connection was closed')))
  // No probe here: a Redis that refuses writes is connected to anew after each, and the two would chase each other.
  redis.on('ready', () => {
    lastError = undefined
  })
  await redis.connect().catch(fail)

  return {
    take(draws) {
      // To the script, no draws would be the key of a value.
      if (draws.length === 0) return []
      if (down) return takeHere(draws)
      return askBatched(draws).then(
        answer => takenOf(draws, answer as number[]),
        error => {
          fail(error)
          return takeHere(draws)
        }
      )
    },
    async put(key, value, ttlMs) {
      if (ttlMs <= 0) return
      try {
        await ask(() => redis.psetex(`value:${key}`, Math.ceil(ttlMs), value))
      } catch (error) {
        throw refuse('put', error)
      }
      local.put(key, value, ttlMs)
    },
    async claim(key, value, ttlMs) {
      if (ttlMs <= 0) return value
      try {
        const args = [`value:${key}`, value, 'PX', Math.ceil(ttlMs), 'NX', 'GET'] as const
        const known = (await ask(() => redis.set(...args))) ?? value
        local.put(key, known, ttlMs)
        return known
      } catch (error) {
        throw refuse('put', error)
      }
    },
    async get(key) {
      // What Redis says comes first: another replica may have written since.
      const own = local.get(key)
      try {
        return ((await askBatched(key)) as string | null) ?? own
      } catch (error) {
        if (own === undefined) throw refuse('get', error)
        fail(error)
        return own
      }
    },
    check,
    async close() {
      closed = true
      clearInterval(probing)
      redis.disconnect()
      await local.close()
    }
  }
}

/** The URL's password as it is sent; a text that occurs nowhere when there is none. */
function password(url: string): string {
  return decodeURIComponent(new URL(url).password) || '\0'
}
