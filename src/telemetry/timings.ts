// How long did something take? A histogram in plain arrays, for the same reason as tally.ts: an observation on the way of every
// call costs a few nanoseconds instead of prom-client's 0.4 µs. It refuses more than a bounded number of label values.
import type { Metric, Registry } from 'prom-client'
import { createLabelCap } from './tally.ts'

/** Takes milliseconds; undefined, negative and not-a-number are no observation. */
export type Observe = (ms: number | undefined) => void

interface Cell {
  /** One count a bucket, not cumulative; the last is +Inf. */
  counts: number[]
  /** Seconds. */
  sum: number
  observe: Observe
}

/**
 * Registers a Prometheus histogram of seconds with one label of at most `max` values, and gives what observes for a value of
 * that label. `buckets` are upper bounds in seconds, ascending.
 */
export function createTimings(
  registry: Registry,
  options: {
    name: string
    help: string
    labelName: string
    buckets: readonly number[]
    max: number
  }
): (label: string) => Observe {
  const { name, help, labelName, buckets, max } = options
  const cells = new Map<string, Cell>()
  const cap = createLabelCap(max)

  registry.registerMetric({
    name,
    get: async () => ({ name, help, type: 'histogram', values: values() })
  } as unknown as Metric)

  function values() {
    const lines: { labels: Record<string, string | number>; value: number; metricName: string }[] =
      []
    for (const [label, { counts, sum }] of cells) {
      let total = 0
      for (const [index, count] of counts.entries()) {
        total += count
        const le = buckets[index] ?? '+Inf'
        lines.push({
          labels: { [labelName]: label, le },
          value: total,
          metricName: `${name}_bucket`
        })
      }
      const labels = { [labelName]: label }
      lines.push({ labels, value: sum, metricName: `${name}_sum` })
      lines.push({ labels, value: total, metricName: `${name}_count` })
    }
    return lines
  }

  return label => {
    const capped = cap(label)
    const known = cells.get(capped)
    if (known !== undefined) return known.observe
    const cell: Cell = {
      counts: Array.from({ length: buckets.length + 1 }, () => 0),
      sum: 0,
      observe
    }
    cells.set(capped, cell)
    return observe

    function observe(ms: number | undefined): void {
      if (ms === undefined || !(ms >= 0 && ms < Number.POSITIVE_INFINITY)) return
      const seconds = ms / 1000
      let index = 0
      while (index < buckets.length && seconds > (buckets[index] as number)) index += 1
      cell.counts[index] = (cell.counts[index] as number) + 1
      cell.sum += seconds
    }
  }
}
