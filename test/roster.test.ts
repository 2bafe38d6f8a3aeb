import t from 'tap'
import { Roster } from '../src/roster.ts'

t.test('a roster knows who is here, whoever leaves first', async t => {
  const roster = new Roster<{ at: number; name: string }>()
  const names = () =>
    roster
      .all()
      .map(({ name }) => name)
      .sort()
  const [a, b, c] = ['a', 'b', 'c'].map(name => roster.enter({ at: -1, name })) as [
    { at: number; name: string },
    { at: number; name: string },
    { at: number; name: string }
  ]
  t.strictSame([names(), roster.size], [['a', 'b', 'c'], 3])
  t.equal(
    roster.find(({ name }) => name === 'b'),
    b
  )
  roster.leave(a)
  t.strictSame([names(), roster.size], [['b', 'c'], 2])
  roster.leave(a)
  t.strictSame(names(), ['b', 'c'], 'leaving twice takes nobody else along')
  t.equal(
    roster.find(({ name }) => name === 'c'),
    c
  )
  roster.leave(c)
  roster.leave(b)
  t.strictSame([names(), roster.size], [[], 0])
  roster.enter(a)
  t.strictSame(names(), ['a'], 'who has left may come again')
})

t.test('members may leave while all of them are walked', async t => {
  const roster = new Roster<{ at: number }>()
  for (let i = 0; i < 10; i++) roster.enter({ at: -1 })
  let walked = 0
  for (const member of roster.all()) {
    roster.leave(member)
    walked++
  }
  t.strictSame([walked, roster.size], [10, 0])
})
