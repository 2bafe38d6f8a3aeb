// JSON text in a JSON string: whoever reads the string and then its content finds the same value, with PHP's escapes undone.
import t from 'tap'
import { largestGrowth, writeInString } from '../../src/mcp/json-in-string.ts'

/** What stands in the string, as bytes that have room for no more than is promised. */
function inString(json: string | Buffer): string {
  const source = Buffer.from(json as string)
  const target = Buffer.alloc(3 + largestGrowth * source.length, '*')
  const end = writeInString(source, target, 3)
  const around = target.toString('latin1', 0, 3) + target.toString('latin1', end)
  if (end > target.length || /[^*]/.test(around))
    throw new Error(`outside its place: ${source.toString()}`)
  return target.toString('utf8', 3, end)
}

/** The text that a model gets to read. */
const textOf = (json: string) => JSON.parse(`"${inString(json)}"`) as string

t.test('what PHP escapes for others is undone, what JSON needs escaped stays', async t => {
  const rows: [json: string, text: string][] = [
    [String.raw`"https:\/\/x"`, '"https://x"'],
    [String.raw`"\u003Cp\u003E \u0026 \u0027"`, `"<p> & '"`],
    [String.raw`"\u00e9\u00E9 \u0416 \u20ac"`, '"éé Ж €"'],
    [String.raw`"\ud83d\ude00\uD83D\uDE00"`, '"😀😀"'],
    [String.raw`"\u2028\u007f"`, '"\u2028\u007f"'],
    [String.raw`"\u0080\u07ff\u0800\uffff"`, '"\u0080\u07ff\u0800\uffff"'],
    [String.raw`"\udbff\udfff"`, '"\u{10ffff}"'],
    [String.raw`"\u0041\udc00"`, String.raw`"A\udc00"`],
    [String.raw`"\ud83d\ndc00"`, String.raw`"\ud83d\ndc00"`],
    [String.raw`"\"\u0022\\\u005c"`, String.raw`"\"\"\\\\"`],
    [String.raw`"\b\f\n\r\t"`, String.raw`"\b\f\n\r\t"`],
    [String.raw`"\u0000\u001F"`, String.raw`"\u0000\u001F"`],
    [String.raw`"\ud83d"`, String.raw`"\ud83d"`],
    [String.raw`"\ude00\ud83d x"`, String.raw`"\ude00\ud83d x"`],
    [String.raw`"\ud83dxude00"`, String.raw`"\ud83dxude00"`],
    [String.raw`"\ud83d\tude00"`, String.raw`"\ud83d\tude00"`],
    [String.raw`"\ud83d\n\ud83d\u0041"`, String.raw`"\ud83d\n\ud83dA"`],
    ['"é Ж € 😀 \u2028"', '"é Ж € 😀 \u2028"'],
    [
      '{"n":12345678901234567890,"p":1.0,"a":1,"a":2}',
      '{"n":12345678901234567890,"p":1.0,"a":1,"a":2}'
    ],
    ['{\r\n\t"a" : [ true, null ]\n}', '{\r\n\t"a" : [ true, null ]\n}'],
    ['', ''],
    ['5', '5']
  ]
  for (const [index, [json, text]] of rows.entries()) t.equal(textOf(json), text, `row ${index}`)
})

t.test('every byte, wherever it stands in a word of four', async t => {
  const pieces = [
    '"',
    '\\/',
    '\\n',
    '\\\\',
    '\\"',
    '\\u003c',
    '\\u00e9',
    '\\ud83d\\ude00',
    'é',
    '€',
    '😀',
    '\x7f'
  ]
  for (const piece of pieces) {
    const strings = Array.from({ length: 81 }, (_, at) => {
      const middle = piece === '"' ? '' : piece
      return `"${'a'.repeat(at % 9)}${middle}${'z'.repeat(Math.floor(at / 9))}"`
    })
    t.strictSame(
      strings.map(string => JSON.parse(textOf(string))),
      strings.map(string => JSON.parse(string)),
      piece
    )
  }
})

t.test('values of every shape come out as they were', async t => {
  // A small generator with a fixed start: a failure comes again.
  let state = 20261126
  const next = (below: number) => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff
    return (state >>> 8) % below
  }
  const characters = [
    'a',
    'Z',
    ' ',
    '/',
    '"',
    '\\',
    '\n',
    '\t',
    '\0',
    '<',
    "'",
    'é',
    'Ж',
    '€',
    '😀',
    '\ud83d',
    '\u2028'
  ]
  const string = () =>
    Array.from({ length: next(12) }, () => characters[next(characters.length)]).join('')
  const value = (depth: number): unknown => {
    const kind = next(depth > 3 ? 4 : 6)
    if (kind === 0) return string()
    if (kind === 1) return next(1_000_000) / 8
    if (kind === 2) return next(2) === 0
    if (kind === 3) return null
    if (kind === 4) return Array.from({ length: next(5) }, () => value(depth + 1))
    return Object.fromEntries(Array.from({ length: next(5) }, () => [string(), value(depth + 1)]))
  }
  const asPhp = (json: string) =>
    json
      .replaceAll('/', '\\/')
      .replaceAll(/[^\0-\x7f]/g, unit => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
  const given = Array.from({ length: 500 }, () => value(0))
  const json = given.map(one => JSON.stringify(one))
  t.strictSame(json.map(textOf), json)
  t.strictSame(
    json.map(one => textOf(asPhp(one))),
    json
  )
  const spaced = given.map((one, index) => textOf(JSON.stringify(one, null, index % 3)))
  t.strictSame(
    spaced.map(text => JSON.parse(text)),
    given
  )
})
