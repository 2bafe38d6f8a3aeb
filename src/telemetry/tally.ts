// How often did something happen? Counts in plain cells, because a labelled prom-client child costs 0.4 µs a time and a cell a
// tenth of that; prom-client is told at scrape time. It refuses label values without bound: past the cap they become `_overflow`.
import { Counter, type Registry } from 'prom-client'

export interface Cell {
  labels: Record<string, string>
  /** Counted since the last scrape. */
  count: number
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
  const cells = new Map<string, Cell>()
  const caps = labelNames.map(() => createLabelCap(max))
  const counter = new Counter({
    name,
    help,
    labelNames,
    registers: [registry],
    collect() {
      for (const cell of cells.values()) {
        if (cell.count === 0) continue
        counter.inc(cell.labels, cell.count)
        cell.count = 0
      }
    }
  })

  function cellOf(values: readonly string[]): Cell {
    const capped = values.map((value, index) => (caps[index] as (value: string) => string)(value))
    const key = keyOf(capped)
    let cell = cells.get(key)
    if (cell === undefined) {
      const labels = Object.fromEntries(capped.map((value, index) => [labelNames[index], value]))
      cell = { labels, count: 0 }
      cells.set(key, cell)
      counter.inc(labels, 0)
    }
    return cell
  }

  for (const values of declared) cellOf(values)
  const cell = (values: readonly string[]) => cells.get(keyOf(values)) ?? cellOf(values)
  return { cell, add: values => void (cell(values).count += 1) }
}

function keyOf(values: readonly string[]): string {
  if (values.length === 1) return values[0] as string
  let key = ''
  for (const value of values) key += `${value}\0`
  return key
}
