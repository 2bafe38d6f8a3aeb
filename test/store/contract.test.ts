// One suite for every implementation of the store's contract.
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { createMemoryStore } from '../../src/store/memory.ts'
import { createRedisStore } from '../../src/store/redis.ts'
import type { Store } from '../../src/store/store.ts'
import { redisMissing, startRedis } from '../fixtures/redis.ts'

interface Subject {
  store: Store
  /** Another replica's store; in memory there is but one. */
  other: Store
  /** Lets time pass for the store. */
  pass(ms: number): Promise<void>
}

const subjects: Record<string, { skip?: string | false; make(t: Test): Promise<Subject> }> = {
  memory: {
    async make() {
      let time = 0
      const store = createMemoryStore({ now: () => time })
      return { store, other: store, pass: async ms => void (time += ms) }
    }
  },
  redis: {
    skip: redisMissing(),
    async make(t) {
      const { url } = await startRedis(t)
      const log = { warn: () => t.fail('an outage'), info: () => {} }
      const store = await createRedisStore({ url, log, timeoutMs: 2000 })
      const other = await createRedisStore({ url, log, timeoutMs: 2000 })
      t.teardown(() => Promise.all([store.close(), other.close()]))
      // Redis has a clock of its own.
      return { store, other, pass: ms => delay(ms) }
    }
  }
}
for (const [name, { skip = false, make }] of Object.entries(subjects)) {
  t.test(`the ${name} store`, { skip }, async t => {
    const { store, other, pass } = await make(t)
    const window = 800

    t.test('counts draws of one key in one window', async t => {
      t.strictSame((await store.take('a', 2, 60_000)).used, 2)
      const second = await other.take('a', 3, 60_000)
      t.equal(second.used, 5)
      t.ok(second.resetMs > 0 && second.resetMs <= 60_000)
      t.equal((await store.take('b', 1, 60_000)).used, 1, 'another key is another budget')
    })

    t.test('a draw of nothing only reads, and opens no window', async t => {
      t.strictSame(await store.take('unused', 0, window), { used: 0, resetMs: window })
      await store.take('read', 2, 60_000)
      t.equal((await store.take('read', 0, 60_000)).used, 2)
      t.equal((await store.take('read', 1, 60_000)).used, 3)
    })

    t.test('windows are fixed: draws do not prolong them, and then all is forgotten', async t => {
      const first = await store.take('fixed', 1, window)
      await pass(200)
      const second = await store.take('fixed', 1, window)
      t.equal(second.used, 2)
      t.ok(second.resetMs <= first.resetMs - 190, `${first.resetMs} then ${second.resetMs}`)
      await pass(second.resetMs + 10)
      t.strictSame(await store.take('fixed', 0, window), { used: 0, resetMs: window })
      t.equal((await store.take('fixed', 4, window)).used, 4)
    })

    t.test('loses no draw when many come at once', async t => {
      const taken = await Promise.all(
        Array.from({ length: 1000 }, async (_, i) =>
          (i % 3 ? store : other).take('burst', 1, 60_000)
        )
      )
      t.strictSame(
        taken.map(({ used }) => used).sort((a, b) => a - b),
        Array.from({ length: 1000 }, (_, i) => i + 1)
      )
    })

    t.test('remembers a value for its time, the last one written', async t => {
      t.equal(await other.get('nothing'), undefined)
      t.equal(await store.get('nothing'), undefined)
      await store.put('v', 'one', 60_000)
      await store.put('v', 'two ü', 60_000)
      t.equal(await other.get('v'), 'two ü')
      t.equal(await store.get('v'), 'two ü')
      await store.put('short', 'x', 400.5)
      t.equal(await other.get('short'), 'x')
      await pass(450)
      t.equal(await other.get('short'), undefined)
      t.equal(await other.get('v'), 'two ü')
    })

    t.test('of many who claim a key at once all are told the same one', async t => {
      const claimed = await Promise.all(
        ['alice', 'bob', 'carol'].map(async (who, i) =>
          (i % 2 ? other : store).claim('c', who, 400)
        )
      )
      t.equal(new Set(claimed).size, 1, claimed.join())
      t.equal(await other.get('c'), claimed[0])
      t.equal(await other.claim('c', 'dave', 60_000), claimed[0], 'nor does it live longer')
      await pass(450)
      t.equal(await other.claim('c', 'dave', 60_000), 'dave')
      t.equal(await store.claim('dead', 'x', 0), 'x')
      t.equal(await other.get('dead'), undefined)
    })

    t.test('what another replica wrote last is what is read', async t => {
      await store.put('moved', 'here', 60_000)
      await other.put('moved', 'there', 60_000)
      t.equal(await store.get('moved'), 'there')
    })

    t.test('a value without time is not kept', async t => {
      await store.put('dead', 'x', 0)
      await store.put('dead', 'x', -5)
      t.equal(await other.get('dead'), undefined)
    })

    t.test('a budget and a value of the same name are two things', async t => {
      await store.put('same', 'value', 60_000)
      t.equal((await store.take('same', 1, 60_000)).used, 1)
      t.equal(await other.get('same'), 'value')
    })

    t.test('says that it is well', async t => {
      await t.resolves(store.check())
    })
  })
}

t.test('a flood of budgets never pushes out a tombstone, and both are bounded', async t => {
  const store = createMemoryStore({ maxEntries: 10 })
  store.put('tombstone', 'gone', 60_000)
  store.take('first', 5, 60_000)
  for (let i = 0; i < 1000; i++) store.take(`flood ${i}`, 1, 60_000)
  t.equal(store.get('tombstone'), 'gone')
  t.equal(store.take('first', 1, 60_000).used, 1, 'the oldest budget was forgotten')
  for (let i = 0; i < 10; i++) store.put(`later ${i}`, 'gone', 60_000)
  t.equal(store.get('tombstone'), undefined)
})

t.test('the memory store forgets when it is closed', async t => {
  const store = createMemoryStore()
  store.put('v', 'x', 60_000)
  store.take('b', 1, 60_000)
  await store.close()
  t.equal(store.get('v'), undefined)
  t.equal(store.take('b', 0, 60_000).used, 0)
})
