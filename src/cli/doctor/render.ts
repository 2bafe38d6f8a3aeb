// The doctor's findings for people and for machines. It judges nothing but the exit code.
import type { Status } from './check.ts'
import type { Result } from './run-checks.ts'

const COLOURS: Readonly<Record<Status, string>> = {
  ok: '32',
  warning: '33',
  failed: '31',
  skipped: '2'
}

/** One result for people: the line, and below it what to do. */
export function renderLine({ title, status, seen, advice }: Result, colour: boolean): string {
  const word = status.padEnd(7)
  const mark = colour ? `\u001b[${COLOURS[status]}m${word}\u001b[0m` : word
  const line = `${mark}  ${title.padEnd(36)} ${seen}`
  return advice === undefined ? line : `${line}\n         → ${advice}`
}

/** How many results have each status. */
function count(results: readonly Result[]): Record<Status, number> {
  const counts: Record<Status, number> = { ok: 0, warning: 0, failed: 0, skipped: 0 }
  for (const { status } of results) counts[status] += 1
  return counts
}

/** The last line for people. */
export function renderSummary(results: readonly Result[]): string {
  const { ok, warning, failed, skipped } = count(results)
  return `${ok} ok, ${warning} ${warning === 1 ? 'warning' : 'warnings'}, ${failed} failed, ${skipped} skipped`
}

/** For machines. Members are only ever added; a change that breaks readers raises `schema`. */
export function renderJson(
  results: readonly Result[],
  about: { version: string; url: string | undefined }
): string {
  const checks = results.map(({ id, title, status, seen, advice }) => ({
    id,
    title,
    status,
    seen,
    advice: advice ?? null
  }))
  const head = { schema: 1, version: about.version, url: about.url ?? null }
  return JSON.stringify({ ...head, summary: count(results), checks }, null, 2)
}

/** 0 or 1. */
export function exitCode(results: readonly Result[], strict: boolean): number {
  const { failed, warning } = count(results)
  return failed > 0 || (strict && warning > 0) ? 1 : 0
}
