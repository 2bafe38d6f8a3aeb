import t from 'tap'
import { createBreaker } from '../../src/drupal/breaker.ts'
import { Stop } from '../../src/drupal/in-flight.ts'
import { createFairQueue } from '../../src/drupal/queue.ts'
import { refused } from './site.ts'

const options = { maxActive: 4, maxQueue: 6, timeoutMs: 60_000 }

t.test('the queue', async t => {
  t.test('gives places at once while there are some, and counts them', async t => {
    const queue = createFairQueue(options)
    t.equal(queue.enter('a'), undefined)
    t.equal(queue.enter('b'), undefined)
    t.strictSame(queue.stats(), { active: 2, queued: 0 })
    queue.leave('a')
    queue.leave('b')
    t.strictSame(queue.stats(), { active: 0, queued: 0 })
    t.throws(() => queue.leave('a'), /leave without enter/)
  })

  t.test('lets no principal hold every place, so that another always gets through', async t => {
    const queue = createFairQueue(options)
    for (let i = 0; i < 3; i++) t.equal(queue.enter('greedy'), undefined)
    const fourth = queue.enter('greedy')
    t.ok(fourth, 'the fourth of four waits')
    t.equal(queue.enter('quiet'), undefined, 'the last place is for somebody else')
    queue.leave('quiet')
    t.strictSame(queue.stats(), { active: 3, queued: 1 }, 'a free place is not for the greedy')
    queue.leave('greedy')
    await fourth
    t.strictSame(queue.stats(), { active: 3, queued: 0 })
  })

  t.test('with fewer than four places one principal may use them all', async t => {
    const queue = createFairQueue({ ...options, maxActive: 3 })
    for (let i = 0; i < 3; i++) t.equal(queue.enter('only'), undefined)
    t.ok(queue.enter('only'))
    t.ok(queue.enter('other'))
    queue.leave('only')
    queue.leave('only')
    t.strictSame(queue.stats(), { active: 3, queued: 0 })
  })

  t.test('goes round the principals: a long line does not delay a short one', async t => {
    const queue = createFairQueue({ ...options, maxActive: 1, maxQueue: 20 })
    queue.enter('first')
    const order: string[] = []
    const lines = ['a', 'a', 'a', 'a', 'b', 'b', 'c'].map((key, index) =>
      (queue.enter(key) as Promise<void>).then(() => order.push(`${key}${index}`))
    )
    let working = 'first'
    for (let i = 0; i < 7; i++) {
      queue.leave(working)
      await new Promise(setImmediate)
      working = (order.at(-1) as string)[0] as string
    }
    await Promise.all(lines)
    t.strictSame(order, ['a0', 'b4', 'c6', 'a1', 'b5', 'a2', 'a3'])
  })

  t.test('a full queue turns the newcomer away, with Retry-After', async t => {
    const queue = createFairQueue({
      maxActive: 1,
      maxQueue: 1,
      timeoutMs: 2500
    })
    queue.enter('a')
    const waiting = queue.enter('b')
    const error = await refused(queue.enter('c') as Promise<void>)
    t.match(error, { code: 'GW_OVERLOADED', statusCode: 503, retryAfterSeconds: 3, reason: /full/ })
    queue.leave('a')
    await waiting
  })

  t.test('a queue that one principal filled makes room for another', async t => {
    const queue = createFairQueue({ ...options, maxActive: 1, maxQueue: 3 })
    queue.enter('x')
    const mine = [queue.enter('hog'), queue.enter('hog'), queue.enter('hog')]
    const other = queue.enter('other')
    const error = await refused(mine[2] as Promise<void>)
    t.match(error, { code: 'GW_OVERLOADED' }, 'the last of the longest line goes')
    t.strictSame(queue.stats(), { active: 1, queued: 3 })
    const again = await refused(queue.enter('other') as Promise<void>)
    t.match(again, { code: 'GW_OVERLOADED' }, 'two lines about as long: the newcomer goes')
    for (const [leaver, next] of [
      ['x', mine[0]],
      ['hog', other],
      ['other', mine[1]]
    ] as const) {
      queue.leave(leaver)
      await next
    }
  })

  t.test('it is the longest line that makes room, wherever it stands', async t => {
    const queue = createFairQueue({ ...options, maxActive: 1, maxQueue: 5 })
    queue.enter('x')
    const keys = ['short', 'hog', 'hog', 'hog', 'short too']
    const lines = keys.map(key => queue.enter(key) as Promise<void>)
    const newcomer = queue.enter('new')
    t.match(await refused(lines[3] as Promise<void>), { code: 'GW_OVERLOADED' })
    for (const [leaver, next] of [
      ['x', lines[0]],
      ['short', lines[1]],
      ['hog', lines[4]],
      ['short too', newcomer],
      ['new', lines[2]]
    ] as const) {
      queue.leave(leaver)
      await next
    }
  })

  t.test('no queue at all: what does not fit is turned away at once', async t => {
    const queue = createFairQueue({ ...options, maxActive: 1, maxQueue: 0 })
    queue.enter('a')
    t.match(await refused(queue.enter('b') as Promise<void>), { code: 'GW_OVERLOADED' })
    t.strictSame(queue.stats(), { active: 1, queued: 0 })
  })

  t.test(
    'thousands of principals, one after the other and beside one that works and one that waits',
    async t => {
      const queue = createFairQueue({ ...options, maxActive: 3 })
      t.equal(queue.enter('works'), undefined)
      t.equal(queue.enter('works'), undefined)
      for (let i = 0; i < 3000; i++) {
        if (queue.enter(`passer-by ${i}`) !== undefined) t.fail('a free place was not given')
        queue.leave(`passer-by ${i}`)
      }
      t.equal(queue.enter('fills'), undefined)
      const waiting = queue.enter('waits')
      queue.leave('works')
      await waiting
      t.strictSame(queue.stats(), { active: 3, queued: 0 })
      for (let i = 0; i < 3000; i++) {
        queue.leave(i === 0 ? 'fills' : `later ${i - 1}`)
        if (queue.enter(`later ${i}`) !== undefined) t.fail('a free place was not given')
      }
      for (const key of ['works', 'waits', 'later 2999']) queue.leave(key)
      t.strictSame(queue.stats(), { active: 0, queued: 0 })
      t.throws(() => queue.leave('passer-by 1'), /leave without enter/)
    }
  )

  t.test('thousands who gave up take nobody with them who still waits', async t => {
    const queue = createFairQueue({ ...options, maxActive: 1 })
    queue.enter('works')
    const waiting = queue.enter('waits')
    for (let i = 0; i < 3000; i++) {
      const stop = new Stop()
      const gone = refused(queue.enter(`gone ${i}`, stop) as Promise<void>)
      stop.stop(new Error('gone'))
      await gone
    }
    queue.leave('works')
    await waiting
    queue.leave('waits')
    t.strictSame(queue.stats(), { active: 0, queued: 0 })
  })

  t.test('who waits too long is turned away and leaves no trace', async t => {
    const queue = createFairQueue({
      maxActive: 1,
      maxQueue: 5,
      timeoutMs: 20
    })
    queue.enter('a')
    const error = await refused(queue.enter('b') as Promise<void>)
    t.match(error, { code: 'GW_OVERLOADED', retryAfterSeconds: 1, reason: /waited too long/ })
    t.strictSame(queue.stats(), { active: 1, queued: 0 })
    queue.leave('a')
    t.equal(queue.enter('b'), undefined)
  })

  t.test('who gives up leaves the line', async t => {
    const queue = createFairQueue({ ...options, maxActive: 1 })
    queue.enter('a')
    const controller = new AbortController()
    const waiting = queue.enter('b', controller.signal) as Promise<void>
    controller.abort(new Error('gave up'))
    t.match(await refused(waiting), { message: 'gave up' })
    t.match(await refused(queue.enter('b', controller.signal) as Promise<void>), {
      message: 'gave up'
    })
    t.strictSame(queue.stats(), { active: 1, queued: 0 })
    const patient = queue.enter('c', new AbortController().signal)
    queue.leave('a')
    await patient
  })
})

t.test('the breaker', async t => {
  function breakerAt() {
    const clock = { ms: 0 }
    const states: string[] = []
    const breaker = createBreaker({
      failures: 3,
      openMs: 1000,
      now: () => clock.ms,
      onChange: state => states.push(state)
    })
    return { breaker, clock, states }
  }
  function open() {
    const all = breakerAt()
    for (let i = 0; i < 3; i++) all.breaker.report('call', 'failure')
    return all
  }

  t.test('opens on failures in a row, not on failures alone', async t => {
    const { breaker, states } = breakerAt()
    for (let i = 0; i < 5; i++) {
      breaker.report('call', 'failure')
      breaker.report('call', 'failure')
      breaker.report('call', 'unknown')
      breaker.report('call', 'success')
    }
    t.equal(breaker.state(), 'closed')
    t.equal(breaker.enter(), 'call')
    t.equal(breaker.waitMs(), 0)
    for (let i = 0; i < 3; i++) breaker.report('call', 'failure')
    t.equal(breaker.state(), 'open')
    t.equal(breaker.enter(), undefined)
    t.equal(breaker.waitMs(), 1000)
    t.strictSame(states, ['open'], 'nothing else is news')
  })

  t.test('lets one probe through after the pause; its success closes', async t => {
    const { breaker, clock, states } = open()
    clock.ms = 999
    t.equal(breaker.enter(), undefined)
    breaker.report('call', 'failure')
    t.equal(breaker.waitMs(), 1, 'a late failure does not lengthen the pause')
    clock.ms = 1000
    t.equal(breaker.waitMs(), 0)
    t.equal(breaker.enter(), 'probe')
    t.equal(breaker.enter(), undefined, 'one only')
    t.equal(breaker.waitMs(), 1000)
    for (const late of ['failure', 'success'] as const) breaker.report('call', late)
    t.equal(breaker.state(), 'half-open', 'a late answer decides nothing')
    breaker.report('probe', 'success')
    t.strictSame(states, ['open', 'half-open', 'closed'])
    t.equal(breaker.enter(), 'call')
  })

  t.test('a probe that fails opens again; one that gave up hands the probe on', async t => {
    const { breaker, clock } = open()
    clock.ms = 1000
    breaker.enter()
    breaker.report('probe', 'failure')
    t.equal(breaker.waitMs(), 1000)
    clock.ms = 2000
    t.equal(breaker.enter(), 'probe')
    breaker.report('probe', 'unknown')
    t.equal(breaker.enter(), 'probe')
  })
})

t.test('a stop tells each listener once, and none that has gone', t => {
  const stop = new Stop()
  const told: string[] = []
  const stays = () => {
    told.push('stays')
    stop.removeEventListener('abort', stays)
  }
  const goes = () => told.push('goes')
  for (const listener of [goes, stays]) stop.addEventListener('abort', listener)
  stop.removeEventListener('abort', goes)
  stop.removeEventListener('abort', goes)
  t.equal(stop.aborted, false)
  for (const reason of ['first', 'second']) stop.stop(reason)
  t.strictSame([stop.aborted, stop.reason, told], [true, 'first', ['stays']])
  t.end()
})
