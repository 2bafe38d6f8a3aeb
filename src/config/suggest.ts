// Which known name was probably meant? Pure; it refuses to know what the names stand for.

/** Fewest insertions, deletions, substitutions and swaps of neighbours that turn one text into the other. */
export function editDistance(from: string, to: string): number {
  let beforeLast: number[] = []
  let last = Array.from({ length: to.length + 1 }, (_, column) => column)
  for (let row = 1; row <= from.length; row++) {
    const current = [row]
    for (let column = 1; column <= to.length; column++) {
      const same = from[row - 1] === to[column - 1]
      let best = Math.min(
        at(last, column) + 1,
        at(current, column - 1) + 1,
        at(last, column - 1) + (same ? 0 : 1)
      )
      if (from[row - 1] === to[column - 2] && from[row - 2] === to[column - 1])
        best = Math.min(best, at(beforeLast, column - 2) + 1)
      current.push(best)
    }
    beforeLast = last
    last = current
  }
  return at(last, to.length)
}

// The recurrence never leaves the rows.
const at = (row: readonly number[], column: number): number => row[column] as number

/**
 * The known name nearest to `name`, case not counted, or undefined when none is near: at most two edits, and no more than one
 * in four letters.
 */
export function nearest(name: string, known: Iterable<string>): string | undefined {
  // A longer name cannot be a slip, and the distance costs length × length.
  if (name.length > 64) return undefined
  let best: string | undefined
  let bestDistance = Math.min(2, Math.max(1, Math.floor(name.length / 4))) + 1
  for (const candidate of known) {
    if (Math.abs(candidate.length - name.length) >= bestDistance) continue
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase())
    if (distance < bestDistance) {
      best = candidate
      bestDistance = distance
    }
  }
  return best
}
