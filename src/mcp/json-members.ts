// How is one member of a JSON object or array read or replaced without touching the rest? Numbers beyond a double, spacing and the order of
// members survive, which parsing and writing anew would not give. For text that JSON.parse has accepted; any other throws or gives nonsense.

const quote = 0x22
const backslash = 0x5c
const comma = 0x2c

/** The members of an object one after the other. A list of them, with their names, would cost twice the memory (measured). */
class Walk {
  /** Where the name's opening quote stands. */
  start = 0
  valueStart = 0
  valueEnd: number
  readonly #object: string
  #nameEnd = 0

  constructor(object: string) {
    this.#object = object
    this.valueEnd = skipTo(object, skipSpace(object, 0), '{') + 1
  }

  /** To the next member; false where there is none. */
  next(): boolean {
    const object = this.#object
    let at = skipSpace(object, this.valueEnd)
    if (object[at] === '}') return false
    if (object[at] === ',') at = skipSpace(object, at + 1)
    this.start = at
    this.#nameEnd = endOfString(object, at)
    this.valueStart = skipSpace(object, skipTo(object, this.#nameEnd, ':') + 1)
    this.valueEnd = endOfValue(object, this.valueStart)
    return true
  }

  get name(): string {
    const text = this.#object.slice(this.start + 1, this.#nameEnd - 1)
    // Most names have nothing to unescape.
    return text.includes('\\') ? (JSON.parse(`"${text}"`) as string) : text
  }
}

/** The text of a member's value, or undefined. */
export function memberText(object: string, name: string): string | undefined {
  let text: string | undefined
  const walk = new Walk(object)
  while (walk.next()) {
    if (walk.name === name) text = object.slice(walk.valueStart, walk.valueEnd)
  }
  return text
}

/** The texts of an array's elements. */
export function elementTexts(array: string): string[] {
  const texts: string[] = []
  let at = skipTo(array, 0, '[') + 1
  for (;;) {
    at = skipSpace(array, at)
    if (array[at] === ']') return texts
    if (array[at] === ',') at = skipSpace(array, at + 1)
    const start = at
    at = endOfValue(array, start)
    texts.push(array.slice(start, at))
  }
}

/** JSON text, undefined for none; or what makes it of the text that is there, undefined where there is none. */
export type Change = string | undefined | ((value: string | undefined) => string | undefined)

/**
 * The object with members set to the given JSON text, each in its place or at the end, or removed where it is undefined. Of a member
 * that stands twice the last one counts, as for JSON.parse.
 */
export function setMembers(object: string, changes: Readonly<Record<string, Change>>): string {
  const names = Object.keys(changes)
  // A bit for each: nobody makes more than 31 changes.
  let found = 0
  let text = ''
  const walk = new Walk(object)
  while (walk.next()) {
    const at = names.indexOf(walk.name)
    if (at === -1) {
      text = joined(text, object.slice(walk.start, walk.valueEnd))
      continue
    }
    // Rare, and to know it beforehand all members would have to be kept.
    if (found & (1 << at)) return setMembers(lastOf(names, object), changes)
    found |= 1 << at
    const value = changed(
      changes[names[at] as string],
      object.slice(walk.valueStart, walk.valueEnd)
    )
    if (value !== undefined) {
      text = joined(text, object.slice(walk.start, walk.valueStart) + value)
    }
  }
  for (let at = 0; at < names.length; at++) {
    if (found & (1 << at)) continue
    const name = names[at] as string
    const value = changed(changes[name], undefined)
    if (value !== undefined) text = joined(text, `${JSON.stringify(name)}:${value}`)
  }
  return `{${text}}`
}

/** The object with the last of each of these members alone. */
function lastOf(names: readonly string[], object: string): string {
  const last = new Map<string, number>()
  const before = new Walk(object)
  while (before.next()) last.set(before.name, before.start)
  let text = ''
  const walk = new Walk(object)
  while (walk.next()) {
    const { name, start, valueEnd } = walk
    const isKept = !names.includes(name) || last.get(name) === start
    if (isKept) text = joined(text, object.slice(start, valueEnd))
  }
  return `{${text}}`
}

const joined = (members: string, member: string) =>
  members === '' ? member : `${members},${member}`

function changed(change: Change, value: string | undefined): string | undefined {
  return typeof change === 'function' ? change(value) : change
}

/** The object without the members whose names are not to be kept. */
export function keepMembers(object: string, isKept: (name: string) => boolean): string {
  let text = ''
  const walk = new Walk(object)
  while (walk.next()) {
    if (isKept(walk.name)) text = joined(text, object.slice(walk.start, walk.valueEnd))
  }
  return `{${text}}`
}

function endOfValue(text: string, start: number): number {
  let depth = 0
  let at = start
  do {
    const char = text.charCodeAt(at)
    if (char === quote) {
      at = endOfString(text, at)
      continue
    }
    // "{" and "[" differ from each other, and "}" from "]", by 0x20 alone.
    const folded = char | 0x20
    if (folded === 0x7b) depth += 1
    else if (folded === 0x7d) depth -= 1
    else if (depth === 0) return endOfScalar(text, at)
    at += 1
  } while (depth > 0 && at < text.length)
  return at
}

function endOfScalar(text: string, start: number): number {
  let at = start
  while (isOfScalar(text.charCodeAt(at))) at += 1
  return at
}

const isOfScalar = (char: number) => char > 0x20 && char !== comma && (char | 0x20) !== 0x7d

/** Looks for quotes instead of at every character: strings are most of a message. */
function endOfString(text: string, start: number): number {
  let at = start + 1
  for (;;) {
    const found = text.indexOf('"', at)
    if (found === -1) return text.length + 1
    let before = found - 1
    while (before > start && text.charCodeAt(before) === backslash) before -= 1
    // An even number of backslashes escapes nothing.
    if ((found - before) % 2 === 1) return found + 1
    at = found + 1
  }
}

function skipSpace(text: string, start: number): number {
  let at = start
  while (text.charCodeAt(at) <= 0x20) at += 1
  return at
}

/** The position of `char`, the next after blanks; throws for text that is no object. */
function skipTo(text: string, start: number, char: string): number {
  const at = skipSpace(text, start)
  if (text[at] !== char) throw new SyntaxError(`expected "${char}" in JSON`)
  return at
}
