// One suite for every implementation of the store's contract.
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { createMemoryStore } from '../../src/store/memory.ts'
import { createRedisStore } from '../../src/store/redis.ts'
import type { Store } from '../../src/store/store.ts'
import { take, takeNow } from '../fixtures/draw.ts'
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
      t.strictSame((await take(store, 'a', 2, 60_000)).used, 2)
      const second = await take(other, 'a', 3, 60_000)
      t.equal(second.used, 5)
      t.ok(second.resetMs > 0 && second.resetMs <= 60_000)
      t.equal((await take(store, 'b', 1, 60_000)).used, 1, 'another key is another budget')
    })

    t.test('a draw of nothing only reads, and opens no window', async t => {
      t.strictSame(await take(store, 'unused', 0, window), {
        isDrawn: true,
        used: 0,
        resetMs: window
      })
      await take(store, 'read', 2, 60_000)
      t.equal((await take(store, 'read', 0, 60_000)).used, 2)
      t.equal((await take(store, 'read', 1, 60_000)).used, 3)
    })

    t.test('windows are fixed: draws do not prolong them, and then all is forgotten', async t => {
      const first = await take(store, 'fixed', 1, window)
      await pass(200)
      const second = await take(store, 'fixed', 1, window)
      t.equal(second.used, 2)
      t.ok(second.resetMs <= first.resetMs - 190, `${first.resetMs} then ${second.resetMs}`)
      await pass(second.resetMs + 10)
      t.strictSame(await take(store, 'fixed', 0, window), {
        isDrawn: true,
        used: 0,
        resetMs: window
      })
      t.equal((await take(store, 'fixed', 4, window)).used, 4)
    })

    t.test('makes all draws of a request or none', async t => {
      const draw = (key: string, cost: number, max: number) => ({
        key,
        cost,
        max,
        windowMs: 60_000
      })
      const told = async (from: Store, ...draws: ReturnType<typeof draw>[]) =>
        (await from.take(draws)).map(({ isDrawn, used }) => [isDrawn, used])
      t.strictSame(await told(store, draw('s', 2, 3), draw('p', 2, 9)), [
        [true, 2],
        [true, 2]
      ])
      for (const from of [store, other, store]) {
        t.strictSame(await told(from, draw('p', 2, 9), draw('s', 2, 3), draw('new', 1, 9)), [
          [false, 2],
          [false, 2],
          [false, 0]
        ])
      }
      t.strictSame(
        await told(other, draw('s', 1, 3), draw('p', 1, 9)),
        [
          [true, 3],
          [true, 3]
        ],
        'a lighter request has what is left'
      )
      t.strictSame(await told(store, draw('p', 7, 9)), [[false, 3]])
      t.strictSame(await told(store, draw('p', 6, 9)), [[true, 9]])
      t.strictSame(await told(store, draw('p', 0, 9)), [[true, 9]])
      t.strictSame(await Promise.all([told(store), told(store, draw('p', 0, 9))]), [
        [],
        [[true, 9]]
      ])
    })

    t.test('of many that come at once none goes beyond a budget, and none is lost', async t => {
      const shared = { key: 'shared', cost: 3, max: 300, windowMs: 60_000 }
      const taken = await Promise.all(
        Array.from({ length: 300 }, async (_, i) => {
          const own = { key: `own ${i % 10}`, cost: 1, max: 1000, windowMs: 60_000 }
          return (await (i % 3 ? store : other).take([own, shared]))[0]?.isDrawn
        })
      )
      t.equal(taken.filter(Boolean).length, 100)
      const own = await Promise.all(
        Array.from({ length: 10 }, async (_, i) => (await take(store, `own ${i}`, 0, 60_000)).used)
      )
      t.equal(
        own.reduce((sum, used) => sum + used, 0),
        100,
        'who was refused has drawn nothing'
      )
    })

    t.test('loses no draw when many come at once', async t => {
      const taken = await Promise.all(
        Array.from({ length: 1000 }, async (_, i) =>
          take(i % 3 ? store : other, 'burst', 1, 60_000)
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
      t.equal((await take(store, 'same', 1, 60_000)).used, 1)
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
  takeNow(store, 'first', 5, 60_000)
  for (let i = 0; i < 1000; i++) takeNow(store, `flood ${i}`, 1, 60_000)
  t.equal(store.get('tombstone'), 'gone')
  t.equal(takeNow(store, 'first', 1, 60_000).used, 1, 'the oldest budget was forgotten')
  for (let i = 0; i < 10; i++) store.put(`later ${i}`, 'gone', 60_000)
  t.equal(store.get('tombstone'), undefined)
})

t.test('no window has more left than it lasts, whatever fractions the clock has', async t => {
  let time = 0.1
  const store = createMemoryStore({ now: () => time })
  let longest = 0
  for (; time < 1e7; time = time * 1.01 + 0.3) {
    longest = Math.max(longest, takeNow(store, `at ${time}`, 1, 60_000).resetMs)
  }
  t.equal(longest, 60_000)
})

t.test('the memory store forgets when it is closed', async t => {
  const store = createMemoryStore()
  store.put('v', 'x', 60_000)
  takeNow(store, 'b', 1, 60_000)
  await store.close()
  t.equal(store.get('v'), undefined)
  t.equal(takeNow(store, 'b', 0, 60_000).used, 0)
})
