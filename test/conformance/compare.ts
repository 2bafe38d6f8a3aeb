// Is every check the same? Compares the suite's verdicts on a server with those on the gateway in front of it. Pure: it
// neither runs nor prints anything. A better verdict through the gateway is a difference too.
import type { Check, Checks } from './suite.ts'

export interface Difference {
  scenario: string
  check: string
  direct: string
  gateway: string
  /** Why it failed, from the side that did. */
  reason: string
}

export interface Tally {
  passed: number
  failed: number
}

/** Passed and failed checks, counted as the suite counts them (warnings and skipped checks are neither). */
export function tally(checks: Checks): Tally {
  const all = [...checks.values()].flat()
  const count = (status: Check['status']) => all.filter(check => check.status === status).length
  return { passed: count('SUCCESS'), failed: count('FAILURE') }
}

// Ids repeat within a scenario, so a check is known by id, name and how many of that kind went before it. INFO lines tell
// what was seen, not whether it was right.
function byKey(checks: Check[] = []): Map<string, Check> {
  const keyed = new Map<string, Check>()
  for (const check of checks) {
    if (check.status === 'INFO') continue
    const kind = `${check.id} (${check.name})`
    let nth = 1
    while (keyed.has(`${kind} #${nth}`)) nth += 1
    keyed.set(`${kind} #${nth}`, check)
  }
  return keyed
}

/** Every check whose verdict differs, or that one side does not have. Empty: the suite cannot tell the two apart. */
export function compare(direct: Checks, gateway: Checks): Difference[] {
  const differences: Difference[] = []
  for (const scenario of new Set([...direct.keys(), ...gateway.keys()])) {
    const here = byKey(direct.get(scenario))
    const there = byKey(gateway.get(scenario))
    for (const check of new Set([...here.keys(), ...there.keys()])) {
      const before = here.get(check)?.status ?? 'absent'
      const after = there.get(check)?.status ?? 'absent'
      if (before === after) continue
      const reason = there.get(check)?.errorMessage ?? here.get(check)?.errorMessage ?? ''
      differences.push({ scenario, check, direct: before, gateway: after, reason })
    }
  }
  return differences
}
