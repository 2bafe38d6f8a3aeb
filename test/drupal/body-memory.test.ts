// Memory is lent to one answer at a time, and only memory that was lent is taken back.
import t from 'tap'
import { giveMemoryBack, takeMemory } from '../../src/drupal/body-memory.ts'

t.test('what was given back is lent again, once', async t => {
  const first = takeMemory(100_000)
  t.equal(first.length, 100_000)
  giveMemoryBack(first)
  const second = takeMemory(70_000)
  const third = takeMemory(100_000)
  t.equal(second.buffer, first.buffer, 'of the same size class')
  t.equal(second.length, 70_000)
  t.not(third.buffer, first.buffer)
})

t.test('sizes at the bounds', async t => {
  for (const length of [16_384, 16_385, 32_768, 1_048_576]) {
    const bytes = takeMemory(length)
    t.equal(bytes.length, length)
    giveMemoryBack(bytes)
    t.equal(takeMemory(length).buffer, bytes.buffer, `${length}`)
  }
  for (const length of [0, 1, 16_383, 1_048_577]) {
    const bytes = takeMemory(length)
    t.equal(bytes.length, length)
    giveMemoryBack(bytes)
    const next = takeMemory(length)
    // Small ones may share the memory of Node's pool, but no place in it.
    const isSame = next.buffer === bytes.buffer && next.byteOffset === bytes.byteOffset
    if (length > 0) t.notOk(isSame, `${length} is not kept`)
  }
})

t.test('what did not come from here stays with its owner', async t => {
  const own = Buffer.allocUnsafeSlow(100_000)
  giveMemoryBack(own)
  t.not(takeMemory(100_000).buffer, own.buffer)
  // Node's own pool is 64 KiB since Node 24: everything small in the process is in it.
  const pooled = Buffer.from('a small one')
  giveMemoryBack(pooled)
  for (let size = 16_384; size <= 1_048_576; size *= 2)
    t.not(takeMemory(size).buffer, pooled.buffer)
})

t.test('what is given back twice is lent once', async t => {
  const bytes = takeMemory(50_000)
  giveMemoryBack(bytes)
  giveMemoryBack(bytes)
  t.equal(takeMemory(50_000).buffer, bytes.buffer)
  t.not(takeMemory(50_000).buffer, bytes.buffer)
})

t.test('no more than 8 MiB wait for the next answer', async t => {
  const lent = Array.from({ length: 12 }, () => takeMemory(1_000_000))
  for (const bytes of lent) giveMemoryBack(bytes)
  const known = new Set(lent.map(({ buffer }) => buffer))
  const again = Array.from({ length: 12 }, () => takeMemory(1_000_000))
  const reused = again.filter(({ buffer }) => known.has(buffer)).length
  t.ok(reused >= 7 && reused <= 8, `${reused} of 12`)
})
