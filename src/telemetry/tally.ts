// How often did something happen? Counts in plain cells, because a labelled prom-client child costs 0.4 µs a time and a cell a
// tenth of that; prom-client is told at scrape time. It refuses label values without bound: past the cap they become `_overflow`.
import { Counter, type Registry } from 'prom-client'

export interface Cell {
  labels: Record<string, string>
  /** Counted since the last scrape. */
  count: number
}

/** The series whose label values begin with the same ones. */
interface Branch {
  next: Map<string, Branch>
  /** The one that has no more of them. */
  cell: Cell | undefined
}

/** Label values are in the order of the label names. */
export interface Tally {
  /** One more in the series that the label values name. */
  add: (values: readonly string[]) => void
  /** The series itself, for whoever counts on every call's way. It exists from now on. */
  cell: (values: readonly string[]) => Cell
}

/** What stands for label values beyond the cap. */
export const overflowLabel = '_overflow'
/** What stands for client-controlled strings outside a known set. */
export const otherLabel = 'other'

/** Lets the first `max` distinct values pass (and `other`, always); every later one becomes `_overflow`. */
export function createLabelCap(max: number): (value: string) => string {
  const seen = new Set<string>()
  return value => {
    if (seen.has(value) || value === otherLabel) return value
    if (seen.size >= max) return overflowLabel
    seen.add(value)
    return value
  }
}

/**
 * A counter whose label values are capped at `max` each. `declared` series exist with the value 0 from the first scrape on, so
 * that `increase()` sees the first event.
 */
export function createTally(
  registry: Registry,
  options: {
    name: string
    help: string
    labelNames?: readonly string[]
    max: number
    declared?: readonly (readonly string[])[]
  }
): Tally {
  const { name, help, labelNames = [], max, declared = [] } = options
  const cells: Cell[] = []
  // By one label value after the other: a joined key would be made and hashed for each count.
  const root: Branch = { next: new Map(), cell: undefined }
  const caps = labelNames.map(() => createLabelCap(max))
  const counter = new Counter({
    name,
    help,
    labelNames,
    registers: [registry],
    collect() {
      for (const cell of cells) {
        if (cell.count === 0) continue
        counter.inc(cell.labels, cell.count)
        cell.count = 0
      }
    }
  })

  function cellOf(values: readonly string[]): Cell {
    const capped = values.map((value, index) => (caps[index] as (value: string) => string)(value))
    let branch = root
    for (const value of capped) {
      let next = branch.next.get(value)
      if (next === undefined) branch.next.set(value, (next = { next: new Map(), cell: undefined }))
      branch = next
    }
    if (branch.cell === undefined) {
      const labels = Object.fromEntries(capped.map((value, index) => [labelNames[index], value]))
      branch.cell = { labels, count: 0 }
      cells.push(branch.cell)
      counter.inc(labels, 0)
    }
    return branch.cell
  }

  for (const values of declared) cellOf(values)
  const cell = (values: readonly string[]) => cellAt(root, values) ?? cellOf(values)
  return { cell, add: values => void (cell(values).count += 1) }
}

function cellAt(root: Branch, values: readonly string[]): Cell | undefined {
  let branch: Branch | undefined = root
  for (const value of values) branch = branch?.next.get(value)
  return branch?.cell
}
