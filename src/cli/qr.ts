// A QR code (ISO/IEC 18004) for a terminal: bytes, error correction level L, versions 1 to 9. It knows nothing of what it says.

type Grid = number[][]
type Set = (row: number, column: number, dark: boolean) => void

/** For versions 1 to 9 at level L, per block: data words and check words. From version 6 on there are two blocks. */
const dataWords = [19, 34, 55, 80, 108, 68, 78, 97, 116]
const checkWords = [7, 10, 15, 20, 26, 18, 20, 24, 30]
const blockCount = (version: number) => (version < 6 ? 1 : 2)

/**
 * Lines of half blocks with the quiet zone, dark on light; undefined when the text is longer than 230 bytes, or the picture wider
 * than `columns`. Without colours the terminal's own are taken, light on dark as most have them.
 */
export function qrText(text: string, colours = true, columns = Infinity): string | undefined {
  const grid = qrGrid(Buffer.from(text))
  const quiet = 4
  if (grid === undefined || grid.length + 2 * quiet > columns) return undefined
  const lit = (row: number, column: number) => (grid[row - quiet]?.[column - quiet] ?? 0) === 0
  const lines: string[] = []
  for (let row = 0; row < grid.length + 2 * quiet; row += 2) {
    let line = ''
    for (let column = 0; column < grid.length + 2 * quiet; column++) {
      line += [' ', '▄', '▀', '█'][(lit(row, column) ? 2 : 0) + (lit(row + 1, column) ? 1 : 0)]
    }
    lines.push(line)
  }
  if (!colours) return lines.join('\n')
  // White on black whatever the terminal's colours are: readers want light around dark.
  return lines.map(line => `\u001b[97;40m${line}\u001b[0m`).join('\n')
}

/** The modules, 1 is dark; undefined when the bytes do not fit. Mask 0 always: a reader takes any, scoring them is for print. */
export function qrGrid(bytes: Buffer): Grid | undefined {
  const fits = (words: number, at: number) => words * blockCount(at + 1) >= bytes.length + 2
  const version = dataWords.findIndex(fits) + 1
  if (version === 0) return undefined
  const size = 17 + 4 * version
  const grid: Grid = Array.from({ length: size }, () => Array<number>(size).fill(-1))
  drawPatterns(grid, version)
  drawData(grid, interleave(bytes, version))
  return grid
}

/** Byte mode, an 8-bit count (versions 1 to 9), the bytes, padding; then blocks with their check words, interleaved. */
function interleave(bytes: Buffer, version: number): number[] {
  const size = dataWords[version - 1]!
  const total = size * blockCount(version)
  const nibbles = [4, bytes.length >> 4, bytes.length & 15]
  for (const byte of bytes) nibbles.push(byte >> 4, byte & 15)
  nibbles.push(0)
  const words: number[] = []
  for (let at = 0; at < nibbles.length; at += 2) words.push((nibbles[at]! << 4) | nibbles[at + 1]!)
  for (let pad = 0xec; words.length < total; pad ^= 0xec ^ 0x11) words.push(pad)
  const data = [words.slice(0, size), words.slice(size)].slice(0, blockCount(version))
  const checks = data.map(block => remainder(block, checkWords[version - 1]!))
  const columns = (list: number[][]) => list[0]!.flatMap((_, at) => list.map(block => block[at]!))
  return [...columns(data), ...columns(checks)]
}

function multiply(a: number, b: number): number {
  let product = 0
  for (let bit = 7; bit >= 0; bit--) {
    product = (product << 1) ^ ((product >> 7) * 0x11d)
    if ((b >> bit) & 1) product ^= a
  }
  return product
}

/** Reed–Solomon over GF(256), generator (x − 2⁰)(x − 2¹)… */
function remainder(data: number[], degree: number): number[] {
  let generator = [1]
  for (let power = 0, root = 1; power < degree; power++, root = multiply(root, 2)) {
    const next = [...generator, 0]
    for (const [at, factor] of generator.entries()) next[at + 1]! ^= multiply(factor, root)
    generator = next
  }
  const rest = Array<number>(degree).fill(0)
  for (const word of data) {
    const factor = word ^ rest.shift()!
    rest.push(0)
    for (let at = 0; at < degree; at++) rest[at]! ^= multiply(generator[at + 1]!, factor)
  }
  return rest
}

function drawPatterns(grid: Grid, version: number): void {
  const size = grid.length
  const set: Set = (row, column, dark) => {
    if (grid[row]?.[column] !== undefined) grid[row]![column] = dark ? 1 : 0
  }
  const square = (row: number, column: number, reach: number, light: number[]) => {
    for (let y = -reach; y <= reach; y++) {
      for (let x = -reach; x <= reach; x++)
        set(row + y, column + x, !light.includes(Math.max(Math.abs(x), Math.abs(y))))
    }
  }
  for (let at = 0; at < size; at++) {
    set(6, at, at % 2 === 0)
    set(at, 6, at % 2 === 0)
  }
  square(3, 3, 4, [2, 4])
  square(3, size - 4, 4, [2, 4])
  square(size - 4, 3, 4, [2, 4])
  const centres = version === 1 ? [] : version < 7 ? [6, size - 7] : [6, 2 * version + 8, size - 7]
  for (const row of centres) {
    for (const column of centres) {
      // Three corners belong to the finders.
      const isCorner = row + column === 12 || row + column === size - 1
      if (!isCorner || (row !== 6 && column !== 6)) square(row, column, 2, [1])
    }
  }
  drawFormat(set, size)
  if (version >= 7) drawVersion(set, size, version)
}

/** Level L, mask 0, with its BCH code and the fixed pattern: 0x77c4. */
function drawFormat(set: Set, size: number): void {
  for (let bit = 0; bit < 15; bit++) {
    const dark = ((0x77c4 >> bit) & 1) === 1
    const near = bit < 6 ? bit : bit < 8 ? bit + 1 : size - 15 + bit
    set(near, 8, dark)
    const far = bit < 8 ? size - 1 - bit : bit === 8 ? 7 : 14 - bit
    set(8, far, dark)
  }
  set(size - 8, 8, true)
}

function drawVersion(set: Set, size: number, version: number): void {
  let rest = version << 12
  for (let bit = 17; bit >= 12; bit--) if ((rest >> bit) & 1) rest ^= 0x1f25 << (bit - 12)
  const bits = (version << 12) | rest
  for (let bit = 0; bit < 18; bit++) {
    const [a, b] = [Math.floor(bit / 3), size - 11 + (bit % 3)]
    set(a, b, ((bits >> bit) & 1) === 1)
    set(b, a, ((bits >> bit) & 1) === 1)
  }
}

/** Two columns at a time, upwards and downwards, from the right; mask 0 turns every module whose place is even. */
function drawData(grid: Grid, words: number[]): void {
  const size = grid.length
  let bit = 0
  let isUpward = false
  // Column 6 is the timing pattern: the pairs left of it are shifted by one.
  for (let right = size - 1; right > 0; right -= right === 8 ? 3 : 2) {
    isUpward = !isUpward
    for (let step = 0; step < size; step++) {
      const row = isUpward ? size - 1 - step : step
      for (const column of [right, right - 1]) {
        if (grid[row]![column] !== -1) continue
        const word = words[bit >> 3] ?? 0
        grid[row]![column] = ((word >> (7 - (bit & 7))) & 1) ^ ((row + column + 1) % 2)
        bit++
      }
    }
  }
}
