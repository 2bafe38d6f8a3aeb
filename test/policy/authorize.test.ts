import t from 'tap'
import type { Principal } from '../../src/auth/principal.ts'
import type { Message } from '../../src/mcp/call.ts'
import { authorize, isListed, type Question } from '../../src/policy/authorize.ts'
import type { ToolRule } from '../../src/policy/tools.ts'

const caller = (...scopes: string[]): Principal => ({
  issuer: 'https://site.example/',
  subject: '1',
  clientId: 'client',
  hasUser: true,
  scopes,
  expiresAt: 2_000_000_000,
  tokenId: undefined,
  key: 'key',
  subjectKey: 'subject'
})
const request = (method: string, params?: Record<string, unknown>): Message => ({
  kind: 'request',
  id: 1,
  idText: '1',
  method,
  params
})
const call = request('tools/call', { name: 'x' })
const rule = (level: ToolRule['level'], ...scopes: string[]): ToolRule => ({
  level,
  scopes,
  weight: 1,
  budget: undefined
})
const ask = (question: Partial<Question>) =>
  authorize({
    principal: caller(),
    message: call,
    rule: undefined,
    policy: { anonymous: 'off', missingScope: 'step-up' },
    ...question
  })
const open = { anonymous: 'public-tools', missingScope: 'step-up' } as const
const hide = { anonymous: 'off', missingScope: 'hide' } as const

t.test('a signed-in caller', async t => {
  t.test('may call what asks for no scope, or for scopes that were granted', async t => {
    t.strictSame(ask({ rule: rule('required') }), { allow: true })
    t.strictSame(ask({ rule: rule('none') }), { allow: true })
    t.strictSame(ask({ rule: rule('required', 'a', 'b'), principal: caller('b', 'c', 'a') }), {
      allow: true
    })
  })

  t.test('may send every message that is no tool call: Drupal decides', async t => {
    for (const message of [
      request('tools/list'),
      request('prompts/get', { name: 'x' }),
      { kind: 'notification', method: 'notifications/initialized', params: undefined },
      { kind: 'response', id: 1 }
    ] satisfies Message[]) {
      t.strictSame(ask({ message }), { allow: true })
    }
  })

  t.test(
    'R88 R89 a missing scope is answered with granted and required, the same bytes each time',
    async t => {
      const expected = {
        allow: false,
        code: 'GW_INSUFFICIENT_SCOPE',
        requiredScopes: ['read', 'users', 'write']
      }
      t.strictSame(
        ask({ rule: rule('required', 'write', 'read'), principal: caller('users', 'read') }),
        expected
      )
      t.strictSame(
        ask({
          rule: rule('required', 'read', 'write'),
          principal: caller('read', 'offline_access', 'users')
        }),
        expected,
        'R83 offline_access is not named'
      )
      t.strictSame(ask({ rule: rule('optional', 'write'), principal: caller('read', 'users') }), {
        ...expected,
        requiredScopes: ['read', 'users', 'write']
      })
    }
  )

  t.test('gets the words of an unknown tool for a hidden one', async t => {
    const unknown = ask({ rule: undefined })
    t.strictSame(unknown, { allow: false, code: 'GW_INVALID_PARAMS', hint: 'Unknown tool: x' })
    t.strictSame(ask({ rule: rule('required', 'write'), policy: hide }), unknown)
    t.strictSame(
      ask({ rule: rule('required', 'write'), policy: hide, principal: caller('write') }),
      {
        allow: true
      }
    )
  })

  t.test('learns that a tool has a name, and gets no long one back', async t => {
    const nameless = {
      allow: false,
      code: 'GW_INVALID_PARAMS',
      hint: 'tools/call needs "name", a string.'
    }
    t.strictSame(ask({ message: request('tools/call') }), nameless)
    t.strictSame(ask({ message: request('tools/call', { name: 7 }), rule: rule('none') }), nameless)
    const long = ask({ message: request('tools/call', { name: 'x'.repeat(10_000) }) })
    t.ok('hint' in long && long.hint.length < 150)
  })
})

t.test('a caller without a token', async t => {
  t.test('is asked to sign in for everything where anonymous is off', async t => {
    for (const message of [call, request('initialize'), request('tools/list')]) {
      t.strictSame(ask({ principal: undefined, message, rule: rule('none') }), {
        allow: false,
        code: 'GW_TOKEN_MISSING',
        requiredScopes: []
      })
    }
  })

  t.test('may look around and call tools of level none where public tools are on', async t => {
    const messages: Message[] = [
      request('initialize'),
      request('server/discover'),
      request('ping'),
      request('tools/list'),
      { kind: 'notification', method: 'notifications/initialized', params: undefined }
    ]
    for (const message of messages) {
      t.strictSame(ask({ principal: undefined, message, policy: open }), { allow: true })
    }
    t.strictSame(ask({ principal: undefined, rule: rule('none'), policy: open }), { allow: true })
  })

  t.test('R83 is challenged for everything else, with the scopes of the tool', async t => {
    const challenge = (question: Partial<Question>) =>
      ask({ principal: undefined, policy: open, ...question })
    t.strictSame(challenge({ rule: rule('required', 'b', 'a') }), {
      allow: false,
      code: 'GW_TOKEN_MISSING',
      requiredScopes: ['a', 'b']
    })
    const missing = { allow: false, code: 'GW_TOKEN_MISSING', requiredScopes: [] }
    t.strictSame(challenge({ rule: rule('optional') }), missing)
    t.strictSame(
      challenge({ rule: undefined }),
      missing,
      'also for a tool that only others may see'
    )
    t.strictSame(challenge({ message: request('prompts/list') }), missing)
    t.strictSame(challenge({ message: { kind: 'response', id: 1 } }), missing)
  })
})

t.test('tools/list hides only what the policy hides', async t => {
  t.ok(isListed(rule('required', 'write'), caller(), 'step-up'))
  t.notOk(isListed(rule('required', 'write'), caller('read'), 'hide'))
  t.ok(isListed(rule('required', 'write'), caller('write'), 'hide'))
  t.ok(isListed(rule('none'), caller(), 'hide'))
  t.ok(isListed(rule('required', 'write'), undefined, 'hide'), 'how a stranger learns to sign in')
})
