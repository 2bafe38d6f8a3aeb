// How is one member of a JSON object or array read or replaced without touching the rest? Numbers beyond a double, spacing and the order of
// members survive, which parsing and writing anew would not give. For text that JSON.parse has accepted; any other throws or gives nonsense.

const quote = 0x22
const backslash = 0x5c

interface Member {
  name: string
  /** Where the name's opening quote stands. */
  start: number
  valueStart: number
  valueEnd: number
}

/** The text of a member's value, or undefined. */
export function memberText(object: string, name: string): string | undefined {
  const member = membersOf(object).findLast(each => each.name === name)
  return member && object.slice(member.valueStart, member.valueEnd)
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
  const members = membersOf(object)
  const last = names.map(name => members.findLastIndex(each => each.name === name))
  let text = ''
  const add = (member: string) => {
    text += text === '' ? member : `,${member}`
  }
  for (const [index, { name, start, valueStart, valueEnd }] of members.entries()) {
    const at = names.indexOf(name)
    if (at === -1) {
      add(object.slice(start, valueEnd))
      continue
    }
    if (last[at] !== index) continue
    const value = changed(changes[name], object.slice(valueStart, valueEnd))
    if (value !== undefined) add(object.slice(start, valueStart) + value)
  }
  for (const [at, name] of names.entries()) {
    if (last[at] !== -1) continue
    const value = changed(changes[name], undefined)
    if (value !== undefined) add(`${JSON.stringify(name)}:${value}`)
  }
  return `{${text}}`
}

function changed(change: Change, value: string | undefined): string | undefined {
  return typeof change === 'function' ? change(value) : change
}

/** The object without the members whose names are not to be kept. */
export function keepMembers(object: string, isKept: (name: string) => boolean): string {
  const members = membersOf(object).filter(({ name }) => isKept(name))
  return `{${members.map(({ start, valueEnd }) => object.slice(start, valueEnd)).join(',')}}`
}

function membersOf(object: string): Member[] {
  const members: Member[] = []
  let at = skipTo(object, skipSpace(object, 0), '{') + 1
  for (;;) {
    at = skipSpace(object, at)
    if (object[at] === '}') return members
    if (object[at] === ',') at = skipSpace(object, at + 1)
    const start = at
    const nameEnd = endOfString(object, start)
    const valueStart = skipSpace(object, skipTo(object, nameEnd, ':') + 1)
    const valueEnd = endOfValue(object, valueStart)
    const name = nameOf(object.slice(start, nameEnd))
    members.push({ name, start, valueStart, valueEnd })
    at = valueEnd
  }
}

/** Most names have nothing to unescape. */
function nameOf(text: string): string {
  return text.includes('\\') ? (JSON.parse(text) as string) : text.slice(1, -1)
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
  while (/[-+.\w]/.test(text.charAt(at))) at += 1
  return at
}

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
