// Which test holds which requirement? Reads the table of README.md and the titles and messages of all tests. Knows nothing of
// what a requirement means. `requirements.ts --write` fills the table's third column
// in; `npm run format` pads it.
import { readFile, readdir, writeFile } from 'node:fs/promises'
import { root } from './tools.ts'

/** How many requirements there are: R1 to R107. */
export const count = 107

export interface Row {
  id: string
  requirement: string
  /** Test files below test/ which cite the id. */
  tests: string[]
  /** `suite: …`, `relayed: …`, `not ours: …` or `open: …`; empty when tests say it all. */
  otherwise: string
}

const readme = `${root}test/conformance/README.md`
// The formatter pads the cells.
const rowPattern = /^\| (R\d{1,3}) *\| *(.*?) *\| *(.*?) *\| *(.*?) *\|$/gm

/** The rows of the table, as they stand. */
export async function readRows(): Promise<Row[]> {
  const text = await readFile(readme, 'utf8')
  return [...text.matchAll(rowPattern)].map(
    ([, id = '', requirement = '', tests, otherwise = '']) => ({
      id,
      requirement,
      tests: [...(tests ?? '').matchAll(/`([^`]+)`/g)].map(([, file = '']) => file),
      otherwise
    })
  )
}

/** Requirement ids that a test file names in its titles and messages, comments not counted. Pure. */
export function citedIn(source: string): Set<string> {
  const ids = new Set<string>()
  for (const line of source.split('\n')) {
    if (/^\s*(\/\/|\*|\/\*)/.test(line)) continue
    for (const [, , quoted = ''] of line.matchAll(/(['"`])((?:\\.|(?!\1).)*)\1/g))
      for (const [id] of quoted.matchAll(/\bR\d{1,3}\b/g)) ids.add(id)
  }
  return ids
}

/** Requirement id → the test files that cite it, sorted. */
export async function readCitations(): Promise<Map<string, string[]>> {
  const citations = new Map<string, string[]>()
  const files = await readdir(`${root}test`, { recursive: true })
  const tests = files.filter(
    file =>
      file.endsWith('.test.ts') &&
      !file.includes('node_modules') &&
      file !== 'conformance/requirements.test.ts'
  )
  for (const file of tests.sort()) {
    for (const id of citedIn(await readFile(`${root}test/${file}`, 'utf8')))
      citations.set(id, [...(citations.get(id) ?? []), file])
  }
  return citations
}

/** Scenarios that a row leaves to the published suite. */
export function scenariosOf({ otherwise }: Row): string[] {
  if (!otherwise.startsWith('suite: ')) return []
  return [...otherwise.matchAll(/`([^`]+)`/g)].map(([, scenario = '']) => scenario)
}

/** Writes the test files of every requirement into the table; a row that was open and is cited now, is open no more. */
async function fillIn(): Promise<void> {
  const citations = await readCitations()
  const text = await readFile(readme, 'utf8')
  const filled = text.replace(rowPattern, (_row, id: string, what: string, _tests, why: string) => {
    const tests = citations.get(id) ?? []
    const otherwise = tests.length > 0 && why.startsWith('open: ') ? '' : why
    return `| ${id} | ${what} | ${tests.map(file => `\`${file}\``).join(' ')} | ${otherwise} |`
  })
  await writeFile(readme, filled)
}

/** How many requirements are held by a test or a scenario, and how many are not, by reason. Pure. */
export function tallyRows(rows: Row[]): Record<string, number> {
  const tally: Record<string, number> = { held: 0, relayed: 0, 'not ours': 0, open: 0 }
  for (const { tests, otherwise } of rows) {
    const [reason = ''] = otherwise.split(':')
    const kind = tests.length > 0 || reason === 'suite' ? 'held' : reason
    tally[kind] = (tally[kind] ?? 0) + 1
  }
  return tally
}

if (process.argv[2] === '--write') {
  await fillIn()
  console.log(tallyRows(await readRows()))
}
