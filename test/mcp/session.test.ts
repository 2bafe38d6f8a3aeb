import t from 'tap'
import fc from 'fast-check'
import { gatewayError } from '../../src/errors.ts'
import { createSessions } from '../../src/mcp/session.ts'
import { createMemoryStore } from '../../src/store/memory.ts'
import type { Store } from '../../src/store/store.ts'

const fields = { principal: 'alice-key', version: '2025-11-25', upstream: 'up-1' }
const secret = 'a secret of more than thirty-two bytes'
const lifetimeSeconds = 3600

function recordingStore(now: () => number): Store & { ttls: number[] } {
  const store = createMemoryStore({ now })
  const ttls: number[] = []
  return {
    ...store,
    ttls,
    put(key, value, ttlMs) {
      ttls.push(ttlMs)
      store.put(key, value, ttlMs)
    },
    claim(key, value, ttlMs) {
      ttls.push(ttlMs)
      return store.claim(key, value, ttlMs)
    }
  }
}

function harness(secrets = [secret]) {
  const clock = { ms: 1_800_000_000_000 }
  const now = () => clock.ms
  const store = recordingStore(now)
  const another = (others = secrets) =>
    createSessions({ secrets: others, lifetimeSeconds, store, now, cacheSize: 10 })
  return { clock, store, sessions: another(), another }
}

t.test(
  'R22 R24 a sealed session opens for its owner, on any replica that has the secret',
  async t => {
    const { sessions, another } = harness()
    const { sealed, state } = sessions.seal(fields)
    t.match(sealed, /^[\x21-\x7e]{80,400}$/)
    t.match(state, { ...fields, issuedAt: 1_800_000_000 })
    t.strictSame(sessions.open(sealed, 'alice-key'), state)
    t.strictSame(another().open(sealed, 'alice-key'), state)
    t.strictSame(
      another(['a new secret of thirty-two bytes!!', secret]).open(sealed, 'alice-key'),
      state
    )
    t.equal(another(['a new secret of thirty-two bytes!!']).open(sealed, 'alice-key'), undefined)
    const plain = sessions.seal({ ...fields, upstream: undefined })
    t.strictSame(another().open(plain.sealed, 'alice-key'), plain.state)
  }
)

t.test('R22 replicas of two releases share sessions: what one sealed the next opens', async t => {
  const sealed =
    '9ElZXw0GJgXvHNgiSsvDk3vC84jtWLM9Yunvmj_rePJrHHKtOZsv8RYLEV4StctyIEEQHF81527ogxVmdoNypQTBMmdmqqLu5K-DhrJdYEswGH36a6KlWGjAfLqwbT_vvg'
  t.strictSame(harness().sessions.open(sealed, 'alice-key'), {
    ...fields,
    id: '4rghbQi9hFyJSYpPSPmRig',
    issuedAt: 1_800_000_000
  })
})

t.test('R23 R94 two sessions of the same principal are never equal', async t => {
  const { sessions } = harness()
  const ids = new Set(Array.from({ length: 100 }, () => sessions.seal(fields).state.id))
  t.equal(ids.size, 100)
})

t.test('R93 a session never opens for another principal', async t => {
  const { sessions } = harness()
  const { sealed } = sessions.seal(fields)
  t.equal(sessions.open(sealed, 'mallory-key'), undefined)
  t.ok(sessions.open(sealed, 'alice-key'))
  t.equal(sessions.open(sealed, 'mallory-key'), undefined, 'not from the cache either')
})

t.test('R27 R93 a session begun without a token becomes that of who signs in on it', async t => {
  const { sessions, another, store, clock } = harness()
  const begin = (upstream?: string) => sessions.seal({ ...fields, principal: '', upstream })
  const { sealed, state } = begin()
  t.strictSame(await sessions.open(sealed, ''), state)
  t.strictSame(await sessions.open(sealed, ''), state, 'nobody makes it his')
  t.strictSame(await sessions.open(sealed, 'alice-key'), state)
  for (const replica of [sessions, another()]) {
    t.strictSame(await replica.open(sealed, 'alice-key'), state)
    t.equal(await replica.open(sealed, 'mallory-key'), undefined)
    t.equal(await replica.open(sealed, ''), undefined)
  }
  t.strictSame(
    store.ttls,
    [(lifetimeSeconds + 60) * 1000],
    'claimed once, for as long as it can live'
  )
  await sessions.end(state)
  t.equal(await sessions.open(sealed, 'alice-key'), undefined, 'R28')

  const wanted = begin()
  const signedIn = ['alice-key', 'mallory-key']
  const both = signedIn.map(async key => sessions.open(wanted.sealed, key))
  t.strictSame(
    await Promise.all(both),
    [wanted.state, undefined],
    'two at the same moment: one has it'
  )

  const upstream = begin('up-1')
  await sessions.moveUpstream(upstream.state, 'up-2')
  const own = { ...upstream.state, isAdopted: true as const }
  const opened = await sessions.open(upstream.sealed, 'alice-key')
  t.strictSame(opened, own, 'R31 what was opened in the upstream is told from her own')
  t.equal(await sessions.upstreamOf(own), 'up-1', 'and what was opened anew is not hers either')
  await sessions.moveUpstream(own, 'up-3')
  for (const replica of [sessions, another()]) {
    const again = await replica.open(upstream.sealed, 'alice-key')
    t.equal(again && (await replica.upstreamOf(again)), 'up-3', 'her own is found')
    t.equal(await replica.open(upstream.sealed, 'mallory-key'), undefined)
    t.equal(await replica.open(upstream.sealed, ''), undefined)
  }

  const late = begin()
  clock.ms += lifetimeSeconds * 1000
  t.equal(await sessions.open(late.sealed, 'alice-key'), undefined, 'R26')
  const ended = begin()
  await sessions.end(ended.state)
  t.equal(await sessions.open(ended.sealed, 'alice-key'), undefined, 'R28')
  t.equal(await sessions.open(ended.sealed, ''), undefined)

  const away = createSessions({
    secrets: [secret],
    lifetimeSeconds,
    store: {
      ...store,
      claim: () => Promise.reject(gatewayError('GW_STORE_UNAVAILABLE', { reason: 'away' }))
    },
    now: () => clock.ms
  })
  await t.rejects(
    Promise.resolve(away.open(begin().sealed, 'alice-key')),
    { code: 'GW_STORE_UNAVAILABLE' },
    'what cannot be bound is not opened'
  )
})

t.test('R26 a session ends with its lifetime', async t => {
  const { sessions, clock } = harness()
  const { sealed } = sessions.seal(fields)
  clock.ms += lifetimeSeconds * 1000 - 1
  t.ok(sessions.open(sealed, 'alice-key'))
  clock.ms += 1
  t.equal(sessions.open(sealed, 'alice-key'), undefined)
})

t.test('R28 an ended session stays ended on every replica until it would have expired', async t => {
  const { sessions, another, clock, store } = harness()
  const { sealed, state } = sessions.seal(fields)
  const other = another()
  t.ok(other.open(sealed, 'alice-key'), 'opened and cached on the other replica')
  sessions.end(state)
  t.equal(sessions.open(sealed, 'alice-key'), undefined)
  t.equal(other.open(sealed, 'alice-key'), undefined)
  clock.ms += lifetimeSeconds * 1000 - 1
  t.equal(other.open(sealed, 'alice-key'), undefined)
  clock.ms += 1e9
  sessions.end(state)
  t.equal(store.ttls.at(-1), 0, 'a session long gone needs no tombstone')
})

t.test('a session whose tombstone cannot be known is not opened: fails closed', async t => {
  const { store } = harness()
  const down = gatewayError('GW_STORE_UNAVAILABLE')
  const open = (get: Store['get']) => {
    const sessions = createSessions({
      secrets: [secret],
      lifetimeSeconds,
      store: { ...store, get }
    })
    return sessions.open(sessions.seal(fields).sealed, 'alice-key')
  }
  await t.rejects(async () => open(() => Promise.reject(down)), { code: 'GW_STORE_UNAVAILABLE' })
  t.throws(
    () =>
      open(() => {
        throw down
      }),
    { code: 'GW_STORE_UNAVAILABLE' }
  )
  t.match(await open(async () => undefined), fields, 'and an asynchronous store opens it')
  t.equal(await open(async () => '1'), undefined)
})

t.test('R31 an upstream session opened anew is found under the same sealed id', async t => {
  const { sessions, store } = harness()
  const { state } = sessions.seal(fields)
  t.equal(sessions.upstreamOf(state), 'up-1')
  sessions.moveUpstream(state, 'up-2')
  t.equal(sessions.upstreamOf(state), 'up-2')
  const slow = createSessions({
    secrets: [secret],
    lifetimeSeconds,
    store: { ...store, get: async key => store.get(key) }
  })
  t.equal(await slow.upstreamOf(state), 'up-2')
  t.equal(await slow.upstreamOf(slow.seal(fields).state), 'up-1')
})

t.test('R23 an id never opens when any bit is flipped, when cut or when respelled', async t => {
  const { sessions } = harness()
  const { sealed } = sessions.seal(fields)
  const bytes = Buffer.from(sealed, 'base64url')
  const stillOpens = []
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const flipped = Buffer.from(bytes)
    flipped[bit >> 3]! ^= 1 << (bit & 7)
    if (sessions.open(flipped.toString('base64url'), 'alice-key')) stillOpens.push(bit)
  }
  t.strictSame(stillOpens, [], `none of ${bytes.length * 8} bits`)
  for (let length = 0; length < sealed.length; length++)
    if (sessions.open(sealed.slice(0, length), 'alice-key')) t.fail(`opens cut to ${length}`)
  const respelled = [
    `${sealed}=`,
    `${sealed}A`,
    ` ${sealed}`,
    `${sealed}\n`,
    `.${sealed}`,
    bytes.toString('base64'),
    'x'.repeat(1025)
  ]
  for (const id of respelled.filter(id => id !== sealed))
    t.equal(sessions.open(id, 'alice-key'), undefined, id.slice(0, 20))
})

t.test('R23 no text and no changed character opens', async () => {
  const { sessions } = harness()
  const { sealed } = sessions.seal(fields)
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
  const changed = fc
    .tuple(fc.nat(sealed.length - 1), fc.constantFrom(...alphabet.split('')))
    .map(([at, char]) => sealed.slice(0, at) + char + sealed.slice(at + 1))
  fc.assert(
    fc.property(fc.oneof(changed, fc.string({ maxLength: 1200 })), id => {
      fc.pre(id !== sealed)
      return sessions.open(id, 'alice-key') === undefined
    }),
    { numRuns: 3000 }
  )
})

t.test(
  'refuses an upstream id that would make the sealed one too long, and a start without a secret',
  async t => {
    const { sessions, another } = harness()
    t.throws(() => sessions.seal({ ...fields, upstream: 'x'.repeat(1000) }), {
      code: 'GW_UPSTREAM_INVALID'
    })
    t.ok(sessions.seal({ ...fields, upstream: 'x'.repeat(600) }))
    t.throws(() => another([]), { message: 'createSessions needs at least one secret' })
    t.ok(
      createSessions({ secrets: [secret], lifetimeSeconds, store: recordingStore(Date.now) }).seal(
        fields
      )
    )
  }
)
