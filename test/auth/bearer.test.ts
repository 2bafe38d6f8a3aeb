import fc from 'fast-check'
import t, { type Test } from 'tap'
import { maxTokenLength, readBearer } from '../../src/auth/bearer.ts'

function holds<T>(t: Test, property: fc.IProperty<T>): void {
  t.doesNotThrow(() => fc.assert(property))
}

t.test('R80 reads the token of one well-formed header', async t => {
  const table: [string, string][] = [
    ['Bearer abc', 'abc'],
    ['bearer abc', 'abc'],
    ['BEARER abc', 'abc'],
    ['Bearer   abc', 'abc'],
    ['Bearer a-._~+/1==', 'a-._~+/1=='],
    [`Bearer ${'a'.repeat(maxTokenLength)}`, 'a'.repeat(maxTokenLength)]
  ]
  for (const [header, token] of table) t.strictSame(readBearer(header, 1), { kind: 'token', token })
})

t.test('R84 no header, an empty one and another scheme count as no authentication', async t => {
  t.strictSame(readBearer(undefined, 0), { kind: 'none' })
  for (const header of ['', 'Basic YTpi', 'DPoP abc', 'Bearerabc', 'Bearers abc', 'Negotiate']) {
    t.strictSame(readBearer(header, 1), { kind: 'none' }, header)
  }
})

t.test('R81 anything else is malformed and says how', async t => {
  t.strictSame(readBearer('Bearer abc', 2), { kind: 'malformed', reason: 'duplicate header' })
  t.strictSame(readBearer(`Bearer ${'a'.repeat(maxTokenLength + 1)}`, 1), {
    kind: 'malformed',
    reason: 'too long'
  })
  const malformed = [
    'Bearer',
    'Bearer ',
    'bearer',
    'Bearer a b',
    'Bearer a,b',
    'Bearer a ',
    'Bearer\ta',
    ' Bearer a',
    'Bearer "a"',
    'Bearer =',
    'Bearer a=b',
    'Bearer é',
    'Bearer a\n',
    ', Bearer a'
  ]
  for (const header of malformed) {
    t.strictSame(
      readBearer(header, 1),
      { kind: 'malformed', reason: 'not one scheme and one token' },
      JSON.stringify(header)
    )
  }
})

t.test(
  'whatever comes in, only a b64token comes out, and every b64token comes out whole',
  async t => {
    holds(
      t,
      fc.property(fc.string({ unit: 'binary' }), fc.nat(3), (text, count) => {
        for (const header of [text, `Bearer ${text}`]) {
          const bearer = readBearer(header, count)
          if (bearer.kind === 'token') {
            if (count > 1 || !/^[\w\-.~+/]+=*$/.test(bearer.token)) return false
            if (!header.endsWith(` ${bearer.token}`)) return false
          }
        }
        return true
      })
    )
    const character = fc.constantFrom(...'abcXYZ019-._~+/'.split(''))
    holds(
      t,
      fc.property(
        fc.string({ unit: character, minLength: 1 }),
        fc.nat(3),
        fc.mixedCase(fc.constant('bearer')),
        fc.integer({ min: 1, max: 5 }),
        (body, padding, scheme, spaces) => {
          const token = body + '='.repeat(padding)
          const bearer = readBearer(scheme + ' '.repeat(spaces) + token, 1)
          return bearer.kind === 'token' && bearer.token === token
        }
      )
    )
  }
)
