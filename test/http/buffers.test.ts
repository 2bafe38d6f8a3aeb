import t from 'tap'
import { Buffers } from '../../src/http/buffers.ts'

/** Shares of 100 kB for whom their names begin with; those that were given up are told. */
function fill(maxBytes: number, names: string) {
  const given: string[] = []
  let count = 0
  const buffers = new Buffers(maxBytes, () => count++)
  const shares = names.split(' ').map(name => {
    const share = buffers.shareOf(name.charAt(0))
    share.hold(100_000, name.endsWith('!') ? undefined : () => given.push(name))
    return share
  })
  return { buffers, shares, given, count: () => count }
}

t.test('whoever holds most gives up what came last', t => {
  for (const [names, lost] of Object.entries({
    'a1 a2 b1 b2': [],
    'a1 a2 a3 b1 b2': ['a3'],
    'a1 b1 a2 a3 b2': ['a3'],
    'a1 a2 b1 b2 c1': ['b2'],
    'a1 b1 c1 d1 e1': ['e1'],
    'a1 a2 a3 a4 b1 b2': ['a4', 'a3']
  })) {
    const { buffers, given, count } = fill(400_000, names)
    t.strictSame(given, lost, names)
    t.equal(count(), lost.length)
    t.ok(buffers.bytes <= 400_000)
  }
  t.end()
})

t.test('what is at work stays, although it counts', t => {
  const busy = fill(400_000, 'a1! a2! a3! b1 b2')
  t.strictSame(busy.given, ['b2'], 'who has nothing to give up is passed over')
  const full = fill(200_000, 'a1! a2! a3!')
  t.strictSame(full.given, [])
  t.equal(full.buffers.bytes, 300_000)
  full.shares[0]?.hold(100_000, () => full.given.push('a1'))
  t.strictSame(full.given, ['a1'], 'until it can be given up')
  t.end()
})

t.test('a share is what was said last, and freed once', t => {
  const { buffers, shares } = fill(400_000, 'a1 b1')
  const [a, b] = shares
  a?.hold(50_000)
  t.equal(buffers.bytes, 150_000)
  a?.free()
  a?.free()
  t.equal(buffers.bytes, 100_000)
  t.notOk(a?.isHeld)
  b?.hold(10)
  t.equal(buffers.bytes, 10)
  b?.free()
  b?.hold(10)
  t.equal(buffers.bytes, 0, 'what is small is not counted')
  t.notOk(b?.isHeld)
  t.end()
})
