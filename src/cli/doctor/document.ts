// The table of checks for docs/doctor.md, from the checks themselves, so that the page cannot grow stale.
import { allChecks } from './checks.ts'
import type { Check } from './check.ts'

const SIDES: Readonly<Record<Check['side'], string>> = {
  outside: 'URL',
  inside: 'configuration',
  both: 'both'
}
const cell = (text: string) => text.replaceAll('|', '\\|')

/** A Markdown table: id, what is checked, in which run, what it rests on, the usual remedy. */
export function checkTable(): string {
  const rows = allChecks.map(({ id, title, side, needs, remedy }) => {
    const cells = [`\`${id}\``, cell(title), SIDES[side], needs.join(', '), cell(remedy)]
    return `| ${cells.join(' | ')} |`
  })
  return ['| id | what | run | rests on | what to do |', '|---|---|---|---|---|', ...rows].join(
    '\n'
  )
}
