import t from 'tap'
import type { Config } from '../../src/config/schema.ts'
import type { Message } from '../../src/mcp/call.ts'
import { createKnownScopes } from '../../src/policy/scopes.ts'
import { createToolPolicy, readAuthAnnotation, toolName } from '../../src/policy/tools.ts'

const policyOf = (
  tools: Config['policy']['tools'] = {},
  unannotated: Config['policy']['unannotated'] = 'required'
) => createToolPolicy({ tools, unannotated, missingScope: 'step-up', resultChallenge: [] })

t.test('the annotation', async t => {
  const cases: [string, unknown, ReturnType<typeof readAuthAnnotation>][] = [
    ['no annotations at all', undefined, undefined],
    ['annotations that are a list', [{ auth: { level: 'none' } }], undefined],
    ['annotations without auth', { title: 'x' }, undefined],
    ['auth that is a string', { auth: 'required' }, undefined],
    ['auth that only describes', { auth: { description: 'x', level: null } }, undefined],
    ['an empty list of scopes', { auth: { scopes: [] } }, undefined],
    ['scopes without a name', { auth: { scopes: ['', ' '] } }, undefined],
    [
      'scopes without level mean required',
      { auth: { scopes: ['b', 'a', 'b'] } },
      { level: 'required', scopes: ['a', 'b'] }
    ],
    [
      'an explicit level wins',
      { auth: { level: 'none', scopes: ['a'] } },
      { level: 'none', scopes: ['a'] }
    ],
    ['optional', { auth: { level: 'optional' } }, { level: 'optional', scopes: [] }],
    [
      'a level nobody knows is required',
      { auth: { level: 'admin' } },
      { level: 'required', scopes: [] }
    ],
    [
      'scopes as one spaced string',
      { auth: { scopes: ' b  a ' } },
      { level: 'required', scopes: ['a', 'b'] }
    ],
    [
      'scopes as PHP writes a list with gaps',
      { auth: { scopes: { 0: 'b', 2: 'a' } } },
      { level: 'required', scopes: ['a', 'b'] }
    ],
    [
      'a scope that no header may carry is dropped, the level is not',
      { auth: { scopes: ['a"\r\nx: y', 7, 'ü'] } },
      { level: 'required', scopes: ['x:', 'y'] }
    ]
  ]
  for (const [name, annotations, expected] of cases) {
    t.strictSame(readAuthAnnotation(annotations), expected, name)
  }
})

t.test('the rule of a tool', async t => {
  t.test('a tool that says nothing follows policy.unannotated', async t => {
    t.match(policyOf().rule('x', undefined), {
      level: 'required',
      scopes: [],
      weight: 1,
      budget: undefined
    })
    t.equal(policyOf({}, 'none').rule('x', undefined).level, 'none')
  })

  t.test("callers' annotations are told apart by what they say", async t => {
    const policy = policyOf()
    const rule = policy.rule('x', { level: 'required', scopes: ['a'] })
    t.equal(policy.rule('x', { level: 'required', scopes: ['a'] }), rule, 'made once')
    t.match(policy.rule('x', { level: 'optional', scopes: ['a'] }), { level: 'optional' })
    t.strictSame(policy.rule('x', { level: 'optional', scopes: ['b'] }).scopes, ['b'])
    t.strictSame(policy.rule('x', { level: 'optional', scopes: ['b', 'c'] }).scopes, ['b', 'c'])
    t.strictSame(policy.rule('x', { level: 'optional', scopes: ['b', 'd'] }).scopes, ['b', 'd'])
  })

  t.test('made-up names end no rule, and are not kept for good', async t => {
    const policy = policyOf({ 'a*': { weight: 3 } })
    const kept = policy.rule('a1', undefined)
    for (let n = 0; n < 1999; n++) policy.rule(`made-up-${n}`, undefined)
    t.equal(policy.rule('a1', undefined), kept)
    policy.rule('one more', undefined)
    t.not(policy.rule('a1', undefined), kept)
    t.strictSame(policy.rule('a1', undefined), kept)
    const [longest, longer] = ['a'.repeat(128), 'a'.repeat(129)]
    t.equal(policy.rule(longest, undefined), policy.rule(longest, undefined))
    t.not(policy.rule(longer, undefined), policy.rule(longer, undefined))
  })

  t.test('level none asks for no scope', async t => {
    t.strictSame(policyOf().rule('x', { level: 'none', scopes: ['a'] }).scopes, [])
  })

  t.test('overrides of level and scopes stand above the annotation', async t => {
    const policy = policyOf({
      raised: { level: 'required' },
      scoped: { scopes: ['z', 'a'] },
      freed: { scopes: [] },
      opened: { level: 'none' }
    })
    const open = { level: 'none', scopes: ['own'] } as const
    t.match(policy.rule('raised', open), { level: 'required', scopes: ['own'] })
    t.match(policy.rule('scoped', open), { level: 'required', scopes: ['a', 'z'] })
    t.match(policy.rule('freed', { level: 'required', scopes: ['own'] }), { level: 'required' })
    t.match(policy.rule('freed', open), { level: 'none' })
    t.strictSame(policy.rule('freed', { level: 'required', scopes: ['own'] }).scopes, [])
    t.match(policy.rule('opened', { level: 'required', scopes: ['own'] }), { level: 'none' })
  })

  t.test(
    'for each field the most exact name or pattern wins, in whatever order they stand',
    async t => {
      const policy = policyOf({
        '*': { weight: 2, budget: '100/1m', scopes: ['any'] },
        'content.*': { scopes: ['content'], weight: 3 },
        'content.*.delete': { budget: '5/1h' },
        'content.page.delete': { weight: 9 },
        'content.page.read': { budget: 'off' }
      })
      t.match(policy.rule('other', undefined), {
        weight: 2,
        scopes: ['any'],
        budget: { name: '*', max: 100, windowMs: 60_000 }
      })
      t.match(policy.rule('content.page.delete', undefined), {
        weight: 9,
        scopes: ['content'],
        budget: { name: 'content.*.delete', max: 5, windowMs: 3_600_000 }
      })
      t.match(policy.rule('content.page.read', undefined), { weight: 3, budget: undefined })
      t.strictSame(
        policy.rule('content.page.delete', undefined),
        policy.rule('content.page.delete', undefined),
        'the second time it comes from memory'
      )
    }
  )

  t.test('patterns of equal exactness are ordered, so that replicas agree', async t => {
    const one = policyOf({ 'ab*': { weight: 2 }, '*ab': { weight: 3 }, 'a*b*': { weight: 4 } })
    const two = policyOf({ 'a*b*': { weight: 4 }, '*ab': { weight: 3 }, 'ab*': { weight: 2 } })
    t.equal(one.rule('abab', undefined).weight, 3)
    t.equal(two.rule('abab', undefined).weight, 3)
    const stars = policyOf({ '*a*b': { weight: 2 }, 'ab*': { weight: 3 } })
    t.equal(stars.rule('ab', undefined).weight, 3, 'fewer stars are more exact')
    const named = policyOf({ '*ab': { weight: 2 }, ab: { weight: 3 }, 'ab*': { weight: 4 } })
    t.equal(named.rule('ab', undefined).weight, 3, 'a name is the most exact')
  })

  t.test('"*" matches any run of characters, also none', async t => {
    const cases: [pattern: string, matches: string[], not: string[]][] = [
      ['a*', ['a', 'ab', 'a.b.c'], ['b', 'ba', '']],
      ['*a', ['a', 'ba'], ['ab']],
      ['a*a', ['aa', 'aba'], ['a', 'ab']],
      ['a*b*c', ['abc', 'axbxc', 'abbc'], ['acb', 'ac', 'abcd']],
      ['a*bc*c', ['abcc', 'abcbcc'], ['abc']],
      ['*a*', ['a', 'ab', 'ba', 'bab'], ['b', '']],
      ['a.b', ['a.b'], ['axb', 'a.bc']]
    ]
    for (const [pattern, matches, not] of cases) {
      const policy = policyOf({ [pattern]: { weight: 5 } })
      for (const name of matches)
        t.equal(policy.rule(name, undefined).weight, 5, `${pattern} ${name}`)
      for (const name of not)
        t.equal(policy.rule(name, undefined).weight, 1, `${pattern} not ${name}`)
    }
  })

  t.test('a hostile name against a hostile pattern costs no time to speak of', async t => {
    const policy = policyOf({ [`${'a*'.repeat(60)}b`]: { weight: 5 } })
    const start = performance.now()
    t.equal(policy.rule('a'.repeat(10_000), undefined).weight, 1)
    t.ok(performance.now() - start < 100)
  })
})

t.test('R72 the tool is named by the body of tools/call only', async t => {
  const call = (params: Record<string, unknown> | undefined, method = 'tools/call'): Message => ({
    kind: 'request',
    id: 1,
    idText: '1',
    method,
    params
  })
  t.equal(toolName(call({ name: 'x' })), 'x')
  t.equal(toolName(call({ name: 7 })), undefined)
  t.equal(toolName(call(undefined)), undefined)
  t.equal(toolName(call({ name: 'x' }, 'prompts/get')), undefined)
  t.equal(
    toolName({ kind: 'notification', method: 'tools/call', params: { name: 'x' } }),
    undefined
  )
})

t.test('the scopes that this resource knows', async t => {
  t.test('configured ones first, learned ones sorted, whatever order they came in', async t => {
    const known = createKnownScopes(['read', 'write', 'read', 'offline_access'])
    known.add(['z', 'read'])
    known.add(['a'])
    t.strictSame(known.list(), ['read', 'write', 'offline_access', 'a', 'z'])
  })

  t.test('R83 offline_access is never learned', async t => {
    const known = createKnownScopes([])
    known.add(['offline_access'])
    t.strictSame(known.list(), [])
  })

  t.test('the list is the same array until something is new, and nobody can change it', async t => {
    const known = createKnownScopes(['a'])
    const before = known.list()
    known.add(['a'])
    t.equal(known.list(), before)
    t.throws(() => (before as string[]).push('x'), TypeError)
    known.add(['b'])
    t.not(known.list(), before)
  })

  t.test('learning stops at the bound', async t => {
    const known = createKnownScopes(['a'], 2)
    known.add(['b', 'c', 'd'])
    known.add(['e'])
    t.strictSame(known.list(), ['a', 'b', 'c'])
  })
})
