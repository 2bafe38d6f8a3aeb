import t from 'tap'
import type { Principal } from '../../src/auth/principal.ts'
import type { Message } from '../../src/mcp/call.ts'
import {
  addUp,
  createDraws,
  type Drawing,
  type Limits,
  rateLimited,
  rateLimitFields,
  type TakenDraw
} from '../../src/policy/budgets.ts'

const principal: Principal = {
  issuer: 'https://site.example/',
  subject: '1',
  clientId: 'desk app',
  hasUser: true,
  scopes: [],
  expiresAt: 2_000_000_000,
  tokenId: undefined,
  key: 'P',
  subjectKey: 'S'
}
const request = (method: string): Message => ({
  kind: 'request',
  id: 1,
  idText: '1',
  method,
  params: { name: 'x' }
})
const budgets = {
  session: { max: 300, windowMs: 60_000 },
  principal: { max: 600, windowMs: 60_000 },
  client: { max: 5000, windowMs: 3_600_000 }
}
const rule = {
  level: 'required',
  scopes: [],
  weight: 10,
  budget: { name: 'content.*', max: 4, windowMs: 10_000 }
} as const
const draw = (part: Partial<Drawing> = {}, limits: Limits = budgets) =>
  createDraws(limits)({
    principal,
    session: { id: 'S' },
    message: request('tools/call'),
    rule,
    ...part
  })

t.test('a tool call draws its weight on session, principal, client and tool', async t => {
  t.strictSame(draw(), [
    { budget: 'session', key: 'session:S', cost: 10, max: 300, windowMs: 60_000 },
    { budget: 'principal', key: 'principal:P', cost: 10, max: 600, windowMs: 60_000 },
    {
      budget: 'client',
      key: 'client:https://site.example/ desk app',
      cost: 10,
      max: 5000,
      windowMs: 3_600_000
    },
    { budget: 'tool', key: 'tool:content.*:P', cost: 4, max: 4, windowMs: 10_000 }
  ])
})

t.test('a call heavier than a budget takes it whole instead of never passing', async t => {
  const light = draw({}, { ...budgets, session: { max: 3, windowMs: 1000 } })
  t.equal(light[0]?.cost, 3)
})

t.test('every other request weighs one and draws on no tool', async t => {
  t.strictSame(
    draw({ message: request('tools/list'), rule: undefined }).map(d => [d.budget, d.cost]),
    [
      ['session', 1],
      ['principal', 1],
      ['client', 1]
    ]
  )
})

t.test('discover, initialize, ping, notifications and answers draw nothing', async t => {
  for (const message of [
    request('server/discover'),
    request('initialize'),
    request('ping'),
    { kind: 'notification', method: 'notifications/cancelled', params: undefined },
    { kind: 'response', id: 1 }
  ] satisfies Message[]) {
    t.strictSame(draw({ message }), [])
  }
})

t.test('budgets that are off and sessions that are not there draw nothing', async t => {
  const off = { session: null, principal: null, client: null }
  t.strictSame(draw({ rule: undefined }, off), [])
  t.strictSame(
    draw({ session: undefined, rule: undefined }).map(d => d.budget),
    ['principal', 'client']
  )
  t.strictSame(
    draw({ message: undefined, rule: undefined }).map(d => d.budget),
    ['principal', 'client'],
    'R28 nor does the end of a session draw on the session'
  )
})

t.test('before sign-in the address stands for the caller, and no client is charged', async t => {
  const keys = (address?: string) => draw({ principal: undefined, address }).map(d => d.key)
  t.strictSame(keys('192.0.2.1'), [
    'session:S',
    'principal:anonymous 192.0.2.1',
    'tool:content.*:anonymous 192.0.2.1'
  ])
  t.strictSame(keys(), ['session:S', 'principal:anonymous ', 'tool:content.*:anonymous '])
})

const taken = (part: Partial<TakenDraw>): TakenDraw => ({
  budget: 'session',
  key: 'session:S',
  cost: 1,
  max: 300,
  windowMs: 60_000,
  isDrawn: true,
  used: 288,
  resetMs: 29_001,
  ...part
})

const refused = (part: Partial<TakenDraw>) => taken({ isDrawn: false, ...part })

t.test('the RateLimit fields of draft-11', async t => {
  t.test('one item per budget, whole seconds rounded up', async t => {
    t.strictSame(
      rateLimitFields([
        taken({}),
        taken({ budget: 'tool', max: 5, used: 5, windowMs: 10_000, resetMs: 1 })
      ]),
      {
        'ratelimit-policy': '"session";q=300;w=60, "tool";q=5;w=10',
        ratelimit: '"session";r=12;t=30, "tool";r=0;t=1'
      }
    )
  })

  t.test('no field where nothing is limited', async t => {
    t.strictSame(rateLimitFields([]), {})
  })

  t.test('of a batch the state with the least left is told', async t => {
    const fields = rateLimitFields([taken({ used: 10 }), taken({ used: 12 }), taken({ used: 11 })])
    t.equal(fields.ratelimit, '"session";r=288;t=30')
  })

  t.test('Retry-After is not earlier than the end of the last exceeded window', async t => {
    const fields = rateLimitFields([
      refused({ used: 300, resetMs: 4000 }),
      refused({ budget: 'principal', max: 600, used: 700, resetMs: 11_500 }),
      refused({ budget: 'client', used: 1, resetMs: 99_000 })
    ])
    t.equal(fields['retry-after'], '12')
    t.match(fields.ratelimit, /"session";r=0;t=4, "principal";r=0;t=12/)
    const last = [refused({ used: 300, resetMs: 9000 }), refused({ used: 300, resetMs: 4000 })]
    t.equal(rateLimitFields(last)['retry-after'], '9', 'in whatever order they stand')
    t.equal(rateLimitFields([refused({ used: 300, resetMs: 0 })])['retry-after'], '1', 'never zero')
  })

  t.test('a call that is too heavy for what is left is told how much that is', async t => {
    const fields = rateLimitFields([
      refused({ used: 295, cost: 10 }),
      refused({ budget: 'principal', max: 600, used: 290, cost: 10 })
    ])
    t.match(fields, {
      ratelimit: '"session";r=5;t=30, "principal";r=310;t=30',
      'retry-after': '30'
    })
  })
})

t.test('the refusal tells a model what to wait for', async t => {
  t.equal(rateLimited([taken({ used: 300 })]), undefined, 'the last unit is still allowed')
  const error = rateLimited([
    refused({ budget: 'client', used: 1, resetMs: 99_000 }),
    refused({ used: 300, resetMs: 400 }),
    refused({ budget: 'tool', max: 1, used: 1, windowMs: 1000, resetMs: 1000 }),
    refused({
      budget: 'tool',
      key: 'tool:other:P',
      max: 9,
      used: 9,
      windowMs: 3_600_000,
      resetMs: 90_000
    })
  ])
  t.match(error, {
    code: 'GW_RATE_LIMITED',
    statusCode: 429,
    retryAfterSeconds: 90,
    data: { retryAfterSeconds: 90, budgets: ['session', 'tool'] },
    message:
      'Rate limit reached. The limit is 9 per 3600 seconds for this tool. Wait 90 seconds, then send the same call again.'
  })
  const short = rateLimited([
    refused({ budget: 'client', max: 1, used: 1, windowMs: 1000, resetMs: 5 })
  ])
  t.match(
    short?.message,
    /1 per 1 second for this client, all its users together. Wait 1 second, then/
  )
})

t.test('a batch draws once on each budget what its messages draw together', async t => {
  const tool = (name: string) => ({ ...rule, weight: 1, budget: { ...rule.budget, name } })
  const each = [draw({ rule: tool('a') }), draw({ rule: tool('b') }), draw({ rule: tool('a') })]
  t.strictSame(
    addUp(each.flat()).map(({ budget, key, cost }) => [budget, key, cost]),
    [
      ['session', 'session:S', 3],
      ['principal', 'principal:P', 3],
      ['client', 'client:https://site.example/ desk app', 3],
      ['tool', 'tool:a:P', 2],
      ['tool', 'tool:b:P', 1]
    ]
  )
})

t.test('a batch that no window has room for is told so, and not to wait', async t => {
  const error = rateLimited([
    refused({ budget: 'principal', max: 600, used: 600, resetMs: 9000 }),
    refused({ max: 3, cost: 7, used: 0 })
  ])
  t.equal(
    error?.message,
    'Rate limit reached. The limit is 3 per 60 seconds for this session. This batch asks for 7 at once: send it in parts.'
  )
})
