import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import t from 'tap'
import { citedIn, count, readCitations, readRows, scenariosOf, tallyRows } from './requirements.ts'
import { areToolsInstalled, installHint, modernNode, programs, root } from './tools.ts'

const isMissing = !areToolsInstalled()
if (isMissing && process.env['CI']) t.fail(installHint)

const rows = await readRows()
const toDo = 'run test/conformance/requirements.ts --write with Node 24, then read the row'

t.test('every requirement has one row, in order', t => {
  const expected = Array.from({ length: count }, (_, index) => `R${index + 1}`)
  t.strictSame(
    rows.map(({ id }) => id),
    expected
  )
  const tally = tallyRows(rows)
  t.comment(tally)
  t.equal(
    Object.values(tally).reduce((sum, number) => sum + number),
    count,
    'each is counted once'
  )
  t.end()
})

t.test('every row names a test, a scenario of the suite, or a reason', async t => {
  const citations = await readCitations()
  for (const { id, tests, otherwise } of rows) {
    const cited = citations.get(id) ?? []
    t.strictSame(
      tests.filter(file => !cited.includes(file)),
      [],
      `${id}: the tests it names cite it; else ${toDo}`
    )
    const hasReason = /^(suite|relayed|not ours|open): \S/.test(otherwise)
    t.ok(tests.length > 0 || hasReason, `${id} is held, or says why not`)
    t.ok(otherwise === '' || hasReason, `${id}: a reason is of one of the four kinds`)
    t.notOk(
      cited.length > 0 && otherwise.startsWith('open: '),
      `${id} is not open: tests cite it; ${toDo}`
    )
  }
})

t.test('the scenarios it names are run', isMissing ? { skip: installHint } : {}, async t => {
  const { stdout } = await promisify(execFile)(modernNode(), [programs.conformance, 'list'])
  const [servers = ''] = stdout.split('Client scenarios')
  // `--suite all` runs those of servers; of those of clients run.ts has a list.
  const clients = await readFile(`${root}test/conformance/run.ts`, 'utf8')
  for (const row of rows)
    for (const scenario of scenariosOf(row))
      t.ok(
        new RegExp(`^ +- ${scenario} \\[\\d`, 'm').test(servers) ||
          clients.includes(`['${scenario}', '`),
        `${row.id}: ${scenario}`
      )
})

t.test('a citation is what stands in a title or a message', t => {
  const source = [
    "t.test('R1 holds', t => {",
    '// R2 is only a comment',
    "t.ok(x, 'and R3 (with R40)')",
    'const R5 = 5'
  ]
  t.strictSame([...citedIn(source.join('\n'))], ['R1', 'R3', 'R40'])
  t.end()
})
