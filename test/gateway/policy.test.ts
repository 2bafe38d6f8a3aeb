// Who may call which tool, how often, and what a refusal says: the policy on the whole gateway, with its configuration file.
import t, { type Test } from 'tap'
import type { Tool } from '../../src/demo/site.ts'
import { rpc } from './fixtures/mcp.ts'
import { type Answered, read, type Started, startGateway } from './fixtures/start.ts'

const READ = 'read:tutorials'
const WRITE = 'write:tutorials'

const call = (name: string, args: object = {}) => rpc('tools/call', { name, arguments: args })

const modern = (method: string, params: object = {}) => ({
  ...rpc(method, {
    ...params,
    _meta: {
      'io.modelcontextprotocol/protocolVersion': '2026-07-28',
      'io.modelcontextprotocol/clientInfo': { name: 't', version: '1' },
      'io.modelcontextprotocol/clientCapabilities': {}
    }
  })
})
const modernHeaders = (method: string, name?: string) => ({
  'mcp-protocol-version': '2026-07-28',
  'mcp-method': method,
  ...(name === undefined ? {} : { 'mcp-name': name })
})

const INITIALIZE = rpc('initialize', {
  protocolVersion: '2025-11-25',
  capabilities: {},
  clientInfo: { name: 't', version: '1' }
})

function tool(name: string, auth?: Tool['annotations']['auth'], more: Partial<Tool> = {}): Tool {
  return {
    name,
    title: name,
    description: name,
    permission: 'access content',
    params: {},
    output: { type: 'object' },
    annotations: auth === undefined ? {} : { auth },
    run: (_params, { uid }) => ({ name, uid }),
    ...more
  }
}

const levels = [
  tool('t.none', { level: 'none' }),
  tool('t.optional', { level: 'optional' }),
  tool('t.required', { level: 'required' }),
  tool('t.scoped', { level: 'required', scopes: [WRITE] }),
  tool('t.inferred', { scopes: [WRITE] }),
  tool('t.silent'),
  tool('t.publish', { level: 'required', scopes: [READ, 'publish:tutorials'] })
]

/** The signed-in caller's status, and the challenge's scopes where there is one. */
function scopesOf({ headers }: Answered): string | undefined {
  return /scope="([^"]*)"/.exec(headers.get('www-authenticate') ?? '')?.[1]
}

async function toolNames(gateway: Started, session: Record<string, string>): Promise<string[]> {
  const { json } = await gateway.post(rpc('tools/list'), session)
  return json.result.tools.map(({ name }: { name: string }) => name)
}

async function until(t: Test, what: string, is: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 20_000
  while (!(await is())) {
    if (Date.now() > deadline) throw new Error(`waited in vain: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 5))
  }
  t.pass(what)
}

t.test('R88 R89 scopes per tool, signed in', async t => {
  const gateway = await startGateway(t, { drupal: { extraTools: levels } })
  const reader = await gateway.initialize(gateway.token({ scopes: [READ] }))
  const rows: [string, number, string?][] = [
    ['t.none', 200],
    ['t.optional', 200],
    ['t.required', 200],
    ['t.silent', 200],
    ['t.scoped', 403, `${READ} ${WRITE}`],
    ['t.inferred', 403, `${READ} ${WRITE}`],
    ['t.publish', 403, `publish:tutorials ${READ}`]
  ]
  for (const [name, status, scopes] of rows) {
    const before = gateway.drupal.requests.filter(({ path }) => path.endsWith(name)).length
    const answer = await gateway.post(call(name), reader)
    t.equal(answer.status, status, name)
    t.equal(scopesOf(answer), scopes, `${name}: granted and required`)
    if (scopes !== undefined) t.match(answer.json.error_description, `ask for: ${scopes}`)
    const asked = gateway.drupal.requests.filter(({ path }) => path.endsWith(name)).length - before
    t.equal(asked, status === 200 ? 1 : 0, 'a refused call never gets to Drupal')
  }
  const challenges = new Set<string | null>()
  for (let n = 0; n < 5; n++) {
    challenges.add((await gateway.post(call('t.scoped'), reader)).headers.get('www-authenticate'))
  }
  t.equal(challenges.size, 1, 'byte-stable')
  const stepped = await gateway.initialize(gateway.token({ scopes: [WRITE, READ] }))
  t.equal((await gateway.post(call('t.scoped'), stepped)).status, 200, 'no loop after the step-up')
  t.equal(
    (
      await gateway.post(call('t.scoped'), {
        ...reader,
        authorization: stepped['authorization'] as string
      })
    ).status,
    200,
    'R93 in the same session'
  )

  const { json } = await read(
    await fetch(`${gateway.origin}/.well-known/oauth-protected-resource/mcp`)
  )
  t.strictSame(
    json.scopes_supported.toSorted(),
    ['publish:tutorials', READ, WRITE],
    'what tools ask for is published'
  )
})

t.test('overrides by configuration file: names, patterns, levels', async t => {
  const gateway = await startGateway(t, {
    drupal: { extraTools: levels },
    file: {
      policy: {
        tools: {
          't.*': { scopes: ['cms:use'] },
          't.sc*': { scopes: [READ] },
          't.none': { level: 'none' },
          't.silent': { weight: 2 }
        }
      }
    }
  })
  const reader = await gateway.initialize(gateway.token({ scopes: [READ] }))
  t.equal((await gateway.post(call('t.none'), reader)).status, 200, 'the exact name wins')
  t.equal(scopesOf(await gateway.post(call('t.required'), reader)), `cms:use ${READ}`, 'a pattern')
  t.equal(
    scopesOf(await gateway.post(call('t.silent'), reader)),
    `cms:use ${READ}`,
    'a name that says nothing of scopes leaves the pattern its word'
  )
  const scoped = await gateway.post(call('t.scoped'), reader)
  t.equal(scoped.status, 403, 'Drupal has the last word where an override is too generous')
  t.equal(scopesOf(scoped), `${READ} ${WRITE}`)
  const { json } = await read(
    await fetch(`${gateway.origin}/.well-known/oauth-protected-resource/mcp`)
  )
  t.ok(json.scopes_supported.includes('cms:use'))
})

t.test('policy.missingScope: hide', async t => {
  const gateway = await startGateway(t, {
    drupal: { extraTools: levels },
    env: { POLICY_MISSING_SCOPE: 'hide' }
  })
  const reader = await gateway.initialize(gateway.token({ scopes: [READ] }))
  const writer = await gateway.initialize(gateway.token({ scopes: [READ, WRITE] }))
  const [few, more] = [await toolNames(gateway, reader), await toolNames(gateway, writer)]
  t.notOk(few.includes('t.scoped') || few.includes('t.inferred') || few.includes('t.publish'))
  t.ok(few.includes('t.silent') && more.includes('t.scoped') && more.includes('t.inferred'))
  const hidden = await gateway.post(call('t.scoped'), reader)
  const absent = await gateway.post(call('t.absent'), reader)
  t.equal(hidden.status, 200)
  t.equal(
    hidden.text.replaceAll('t.scoped', 't.absent'),
    absent.text,
    'hidden and unknown are the same words'
  )
  t.notOk(
    gateway.drupal.requests.some(({ path }) => /t\.(?:scoped|absent)$/.test(path)),
    'and Drupal is asked for neither'
  )
  const status = await gateway.post(call('auth_status'), reader)
  t.notMatch(status.text, 't.scoped', 'nor does the status tell of it')
})

t.test('anonymous: public-tools (lazy sign-in)', async t => {
  const gateway = await startGateway(t, {
    drupal: { extraTools: levels },
    env: {
      AUTH_ANONYMOUS: 'public-tools',
      LIMIT_PRINCIPAL: '40/1m',
      TRUSTED_PROXIES: '127.0.0.1'
    }
  })
  const opened = await gateway.post(INITIALIZE)
  t.equal(opened.status, 200, 'initialize without a token')
  const session = { 'mcp-session-id': opened.headers.get('mcp-session-id') as string }
  t.equal((await gateway.post(rpc('ping'), session)).status, 200)
  t.equal(
    (await gateway.post({ jsonrpc: '2.0', method: 'notifications/initialized' }, session)).status,
    202
  )
  const names = await toolNames(gateway, session)
  for (const name of ['t.none', 't.required', 't.scoped', 'auth_status'])
    t.ok(names.includes(name), `${name} is shown: that is how a client learns that it can sign in`)
  const open = await gateway.post(call('t.none'), session)
  t.strictSame(open.json.result.structuredContent, { name: 't.none', uid: 0 })
  const seen = gateway.drupal.requests.findLast(({ path }) => path.endsWith('/t.none'))
  t.notOk(seen?.headers['authorization'], 'without any token')

  for (const [name, scopes] of [
    ['t.optional', READ],
    ['t.required', READ],
    ['t.scoped', `${READ} ${WRITE}`],
    ['t.silent', READ],
    ['t.absent', READ]
  ] as const) {
    const answer = await gateway.post(call(name), session)
    t.equal(answer.status, 401, `${name} challenges`)
    t.match(answer.headers.get('www-authenticate'), /resource_metadata="/)
    t.equal(scopesOf(answer), scopes, 'R83 the base scopes and those of the tool')
  }
  t.equal((await gateway.post(rpc('resources/list'), session)).status, 401)
  t.equal((await gateway.post({ jsonrpc: '2.0', id: 1, result: {} }, session)).status, 401)
  t.equal(
    (await gateway.post(rpc('ping'), { ...session, authorization: 'Bearer x.y.z' })).status,
    401,
    'a bad token is not anonymous'
  )

  const era = await gateway.post(
    modern('tools/call', { name: 't.none' }),
    modernHeaders('tools/call', 't.none')
  )
  t.equal(era.status, 200, 'the modern era too')
  const required = await gateway.post(
    modern('tools/call', { name: 't.required' }),
    modernHeaders('tools/call', 't.required')
  )
  t.equal(required.status, 401)

  const authorization = `Bearer ${gateway.token()}`
  t.equal(
    (await gateway.post(call('t.required'), { ...session, authorization })).status,
    200,
    'R27 after the sign-in the refused call goes on in the session that was begun before'
  )
  const own = await gateway.initialize(gateway.token())
  t.equal(
    (await gateway.post(rpc('ping'), { 'mcp-session-id': own['mcp-session-id'] as string })).status,
    404,
    'R93 but nobody without a token opens the session of a principal'
  )
  const bob = { ...session, authorization: `Bearer ${gateway.token({ uid: 3 })}` }
  const alice = { ...session, authorization }
  const end = async (headers: Record<string, string>) =>
    (await fetch(gateway.url, { method: 'DELETE', headers })).status
  for (const [who, headers] of Object.entries({ nobody: session, bob })) {
    t.equal((await gateway.post(rpc('ping'), headers)).status, 404, `R93 it is not ${who}'s now`)
    t.equal(await end(headers), 404, `R95 ${who} cannot end it`)
  }
  t.equal((await gateway.post(rpc('ping'), alice)).status, 200)
  t.equal(await end(alice), 204)
  t.equal((await gateway.post(rpc('ping'), alice)).status, 404)

  const again = {
    'mcp-session-id': (await gateway.post(INITIALIZE)).headers.get('mcp-session-id') as string
  }
  t.equal(
    (await fetch(gateway.url, { headers: { ...again, accept: 'text/event-stream' } })).status,
    405
  )
  const statuses: number[] = []
  for (let n = 0; n < 45; n++) statuses.push((await gateway.post(call('t.none'), again)).status)
  t.equal(statuses.at(-1), 429, 'strangers of one address share a budget')
  const elsewhere = { ...again, 'x-forwarded-for': '203.0.113.9' }
  t.equal((await gateway.post(call('t.none'), elsewhere)).status, 200, 'another has its own')
  t.equal((await gateway.post(call('t.none'), own)).status, 200, 'which is not that of a principal')
})

t.test('anonymous: off, and what unannotated means', async t => {
  const closed = await startGateway(t, { drupal: { extraTools: levels } })
  for (const message of [INITIALIZE, rpc('tools/list'), call('t.none')])
    t.equal((await closed.post(message)).status, 401)

  const open = await startGateway(t, {
    drupal: { extraTools: levels },
    env: { AUTH_ANONYMOUS: 'public-tools', POLICY_UNANNOTATED: 'none' }
  })
  const opened = await open.post(INITIALIZE)
  const session = { 'mcp-session-id': opened.headers.get('mcp-session-id') as string }
  t.equal((await open.post(call('t.silent'), session)).status, 200)
  t.equal((await open.post(call('t.inferred'), session)).status, 401, 'scopes mean required')

  const shy = await startGateway(t, { env: { AUTH_ANONYMOUS: 'public-tools' } })
  shy.drupal.site.roles['anonymous'] = ['access content']
  const begun = await shy.post(INITIALIZE)
  const list = await shy.post(rpc('tools/list'), {
    'mcp-session-id': begun.headers.get('mcp-session-id') as string
  })
  t.equal(list.status, 401, 'a Drupal that lists nothing to strangers: sign in')
})

t.test('R65 tools/list is the caller’s own', async t => {
  const gateway = await startGateway(t, { drupal: { extraTools: levels } })
  const lists = () =>
    gateway.drupal.requests.filter(({ path }) => path.startsWith('/mcp/tools/list'))
  const editor = gateway.token()
  const reader = gateway.token({ uid: 3 })
  const sessions = {
    editor: await gateway.initialize(editor),
    reader: await gateway.initialize(reader)
  }

  t.test('two users and a race', async t => {
    Object.assign(gateway.drupal.faults, { slowHeadersMs: 100 })
    const before = lists().length
    const answers = await Promise.all(
      Array.from({ length: 20 }, async (_, n) => {
        const who = n % 2 === 0 ? 'editor' : 'reader'
        return { who, names: await toolNames(gateway, sessions[who]) }
      })
    )
    gateway.drupal.clearFaults()
    for (const { who, names } of answers) {
      t.equal(names.includes('tutorials.create'), who === 'editor', who)
    }
    const asked = lists().slice(before)
    t.equal(asked.length, 2, 'single-flight: once for each')
    t.strictSame(
      new Set(asked.map(({ headers }) => headers['authorization'])),
      new Set([`Bearer ${editor}`, `Bearer ${reader}`]),
      'each with its own token'
    )
  })
  t.test('a refreshed token is the same caller, other scopes are not', async t => {
    const before = lists().length
    const refreshed = `Bearer ${gateway.token()}`
    await toolNames(gateway, { ...sessions.editor, authorization: refreshed })
    t.equal(lists().length, before, 'kept for the principal')
    const narrower = `Bearer ${gateway.token({ scopes: [READ] })}`
    await toolNames(gateway, { ...sessions.editor, authorization: narrower })
    t.equal(lists().length, before + 1)
  })
  t.test('a failed list is nobody’s', async t => {
    const authorization = `Bearer ${gateway.token({ scopes: [WRITE] })}`
    gateway.drupal.faults.status = 500
    t.equal(
      (await gateway.post(rpc('tools/list'), { ...sessions.editor, authorization })).status,
      502
    )
    gateway.drupal.clearFaults()
    t.equal(
      (await gateway.post(rpc('tools/list'), { ...sessions.editor, authorization })).status,
      200
    )
  })
  t.test('private for the modern era', async t => {
    const { json } = await gateway.post(modern('tools/list'), {
      ...modernHeaders('tools/list'),
      authorization: `Bearer ${editor}`
    })
    t.equal(json.result.cacheScope, 'private')
    t.equal(json.result.ttlMs, 30_000)
  })
  t.test('kept for a configured time', async t => {
    const short = await startGateway(t, { env: { CATALOGUE_TTL: '0' } })
    const session = await short.initialize(short.token())
    await toolNames(short, session)
    short.drupal.site.tools.push(tool('t.new'))
    t.ok((await toolNames(short, session)).includes('t.new'))
  })
})

t.test(
  'policy.resultChallenge: clients that look for the challenge within the result of a call',
  async t => {
    const chatgpt = { 'user-agent': 'openai-mcp/1.0.0' }
    const lazy = { AUTH_ANONYMOUS: 'public-tools', POLICY_RESULT_CHALLENGE: 'other/2, openai-mcp' }
    const gateway = await startGateway(t, { drupal: { extraTools: levels }, env: lazy })
    const opened = await gateway.post(INITIALIZE)
    const stranger = { 'mcp-session-id': opened.headers.get('mcp-session-id') as string }
    const reader = await gateway.initialize(gateway.token({ scopes: [READ] }))

    t.test(
      'a sign-in that is missing, and a scope: the text and the challenge of the refusal',
      async t => {
        for (const [who, name, status] of [
          [stranger, 't.scoped', 401],
          [reader, 't.scoped', 403]
        ] as const) {
          const plain = await gateway.post(call(name), {
            ...who,
            'user-agent': 'claude/1 openai-mcp'
          })
          t.equal(plain.status, status, 'everybody else is answered as the specification asks')
          const told = await gateway.post(call(name), { ...who, ...chatgpt })
          t.equal(told.status, 200)
          t.equal(told.headers.get('www-authenticate'), null)
          t.equal(told.headers.get('cache-control'), 'no-store')
          t.strictSame(told.json, {
            jsonrpc: '2.0',
            id: 1,
            result: {
              content: [{ type: 'text', text: plain.json.error_description }],
              isError: true,
              _meta: { 'mcp/www_authenticate': [plain.headers.get('www-authenticate')] }
            }
          })
        }
        t.notOk(gateway.drupal.requests.some(({ path }) => path.endsWith('t.scoped')))
      }
    )

    t.test('R62 R63 in the modern era with what a result must have', async t => {
      const told = await gateway.post(modern('tools/call', { name: 't.required' }), {
        ...modernHeaders('tools/call', 't.required'),
        ...chatgpt
      })
      t.equal(told.status, 200)
      t.match(told.json.result, {
        resultType: 'complete',
        isError: true,
        _meta: {
          'mcp/www_authenticate': [/^Bearer resource_metadata="http/],
          'io.modelcontextprotocol/serverInfo': { name: 'drupal-mcp-gateway' }
        }
      })
    })

    t.test('what is no call, and a token that is bad, are refused by their status', async t => {
      const asks = { ...stranger, ...chatgpt }
      t.equal((await gateway.post(rpc('resources/list'), asks)).status, 401)
      t.equal(
        (await gateway.post(call('t.none'), { ...asks, authorization: 'Bearer x.y.z' })).status,
        401
      )
      const old = (
        await gateway.post(
          rpc('initialize', { ...INITIALIZE.params, protocolVersion: '2025-03-26' })
        )
      ).headers.get('mcp-session-id') as string
      const batch = [call('t.none'), { ...call('t.required'), id: 2 }]
      t.equal((await gateway.post(batch, { 'mcp-session-id': old, ...chatgpt })).status, 401)
      const one = await gateway.post([call('t.required')], { 'mcp-session-id': old, ...chatgpt })
      t.equal(one.status, 401, 'nor in a batch of one')
      const closed = await startGateway(t, { env: { ...lazy, AUTH_ANONYMOUS: 'off' } })
      t.equal(
        (await closed.post(call('t.none'), chatgpt)).status,
        401,
        'nor where all must sign in'
      )
    })

    t.test('the list says what each tool needs', async t => {
      const { json } = await gateway.post(rpc('tools/list'), stranger)
      const schemes = new Map(
        json.result.tools.map(
          (each: { name: string; securitySchemes: object[]; _meta: object }) => {
            t.strictSame(each._meta, { securitySchemes: each.securitySchemes }, each.name)
            return [each.name, each.securitySchemes]
          }
        )
      )
      t.strictSame(schemes.get('t.none'), [{ type: 'noauth' }])
      t.strictSame(schemes.get('auth_status'), [{ type: 'noauth' }])
      t.strictSame(schemes.get('t.optional'), [{ type: 'oauth2', scopes: [] }])
      t.strictSame(schemes.get('t.scoped'), [{ type: 'oauth2', scopes: [WRITE] }])
      const usual = await startGateway(t, { drupal: { extraTools: levels } })
      const session = await usual.initialize(usual.token())
      t.notMatch((await usual.post(rpc('tools/list'), session)).text, 'securitySchemes')
    })

    t.test('the audit line still says that it was refused', async t => {
      const lines = gateway.audited
        .map(line => JSON.parse(line))
        .filter(line => line.tool === 't.scoped' && line.status === 200)
      t.match(lines, [
        { decision: 'refused', code: 'GW_TOKEN_MISSING' },
        { decision: 'refused', code: 'GW_INSUFFICIENT_SCOPE' }
      ])
    })
  }
)

t.test('budgets', async t => {
  t.test('tools and patterns with weights, told in the RateLimit fields', async t => {
    const gateway = await startGateway(t, {
      drupal: { extraTools: levels },
      env: { LIMIT_SESSION: '100/1m', LIMIT_PRINCIPAL: '200/1m', LIMIT_CLIENT: '300/1m' },
      file: {
        policy: {
          tools: { 't.*': { budget: '6/1m' }, 't.none': { weight: 3 }, 'site.info': { weight: 50 } }
        }
      }
    })
    const session = await gateway.initialize(gateway.token({ scopes: [READ] }))
    const first = await gateway.post(call('t.none'), session)
    t.equal(
      first.headers.get('ratelimit-policy'),
      '"session";q=100;w=60, "principal";q=200;w=60, "client";q=300;w=60, "tool";q=6;w=60'
    )
    t.match(
      first.headers.get('ratelimit'),
      /^"session";r=97;t=\d+, "principal";r=197;t=\d+, "client";r=297;t=\d+, "tool";r=3;t=\d+$/
    )
    t.match((await gateway.post(call('t.silent'), session)).headers.get('ratelimit'), '"tool";r=2')
    const asked = gateway.drupal.requests.length
    const refused = await gateway.post(call('t.none'), session)
    t.equal(refused.status, 429, 'the pattern’s budget is shared by its tools')
    t.match(refused.headers.get('ratelimit'), '"tool";r=2', 'a refusal tells its state too')
    t.match(refused.headers.get('retry-after'), /^\d+$/)
    t.match(refused.json, {
      id: 1,
      error: {
        code: 429,
        message: /The limit is 6 per 60 seconds for this tool\. Wait \d+ seconds?/
      }
    })
    t.strictSame(refused.json.error.data.budgets, ['tool'])
    t.equal(gateway.drupal.requests.length, asked, 'and Drupal is not asked')
    t.equal((await gateway.post(call('site.info'), session)).status, 200, 'other tools go on')
    t.equal(
      (await gateway.post(call('site.info'), session)).status,
      429,
      'until the session is spent'
    )

    const colleague = await gateway.initialize(gateway.token({ uid: 3, scopes: [READ] }))
    const theirs = await gateway.post(call('t.none'), colleague)
    t.match(theirs.headers.get('ratelimit'), '"tool";r=3', 'per principal')
    t.match(theirs.headers.get('ratelimit'), '"principal";r=197')
    t.notMatch(
      theirs.headers.get('ratelimit'),
      '"client";r=297',
      'but all users of one client together'
    )
  })
  t.test('who is over the budget makes Drupal no work, not even for the list', async t => {
    const gateway = await startGateway(t, { env: { LIMIT_SESSION: '2/1m', CATALOGUE_TTL: '0' } })
    const session = await gateway.initialize(gateway.token())
    for (let n = 0; n < 2; n++)
      t.equal((await gateway.post(call('site.info'), session)).status, 200)
    const asked = gateway.drupal.requests.length
    for (let n = 0; n < 5; n++)
      t.equal((await gateway.post(call('site.info'), session)).status, 429)
    t.equal(gateway.drupal.requests.length, asked)
  })
  t.test('the key is the verified identity, whatever headers say', async t => {
    const gateway = await startGateway(t, {
      env: { LIMIT_SESSION: 'off', LIMIT_PRINCIPAL: '3/1m' }
    })
    const statuses: number[] = []
    for (let n = 0; n < 4; n++) {
      const session = await gateway.initialize(gateway.token())
      const { status } = await gateway.post(rpc('tools/list'), {
        ...session,
        'x-forwarded-for': `203.0.113.${n}`,
        'user-agent': `client/${n}`,
        'x-consumer-id': String(n)
      })
      statuses.push(status)
    }
    t.strictSame(statuses, [200, 200, 200, 429])
  })
  t.test('a window ends', async t => {
    const gateway = await startGateway(t, { env: { LIMIT_SESSION: '1/1s' } })
    const session = await gateway.initialize(gateway.token())
    t.equal((await gateway.post(rpc('tools/list'), session)).status, 200)
    await until(t, 'the next window', async () => {
      return (await gateway.post(rpc('tools/list'), session)).status === 200
    })
  })
})

t.test('auth_status', async t => {
  const gateway = await startGateway(t, { drupal: { extraTools: levels } })
  const reader = await gateway.initialize(gateway.token({ scopes: [READ], expiresIn: 100 }))
  t.test('who, by which client, with what, for how long, and what is missing', async t => {
    const asked = gateway.drupal.requests.length
    const { json } = await gateway.post(call('auth_status'), reader)
    const said = json.result.structuredContent
    t.strictSame(JSON.parse(json.result.content[0].text), said)
    t.match(said, {
      signedIn: true,
      issuer: gateway.drupal.issuer,
      user: '2',
      client: 'public',
      scopes: [READ]
    })
    t.ok(said.secondsLeft > 50 && said.secondsLeft <= 100)
    t.strictSame(
      said.toolsThatNeedMore.filter(({ name }: { name: string }) => name.startsWith('t.')),
      [
        { name: 't.scoped', missingScopes: [WRITE] },
        { name: 't.inferred', missingScopes: [WRITE] },
        { name: 't.publish', missingScopes: ['publish:tutorials'] }
      ]
    )
    t.ok(
      gateway.drupal.requests.slice(asked).every(({ path }) => path.startsWith('/mcp/tools/list')),
      'Drupal is not asked for it'
    )
    t.notMatch(
      JSON.stringify(json),
      (reader['authorization'] as string).slice(7),
      'never the token'
    )
  })
  t.test('a client that acts for itself', async t => {
    const session = await gateway.initialize(
      gateway.token({ uid: null, clientId: 'gateway', scopes: [READ] })
    )
    const { json } = await gateway.post(call('auth_status'), session)
    t.match(json.result.structuredContent, { service: 'gateway', client: 'gateway' })
  })
  t.test('in the modern era', async t => {
    const { json } = await gateway.post(modern('tools/call', { name: 'auth_status' }), {
      ...modernHeaders('tools/call', 'auth_status'),
      authorization: reader['authorization'] as string
    })
    t.match(json.result, { resultType: 'complete', structuredContent: { signedIn: true } })
  })
  t.test('listed so that strict clients take it', async t => {
    const { json } = await gateway.post(rpc('tools/list'), reader)
    const { ListToolsResultSchema } = await import('@modelcontextprotocol/sdk/types.js')
    t.ok(ListToolsResultSchema.safeParse(json.result).success)
    t.match(json.result.tools.at(-1), { name: 'auth_status', annotations: { readOnlyHint: true } })
  })
  t.test('before sign-in', async t => {
    const open = await startGateway(t, {
      drupal: { extraTools: levels },
      env: { AUTH_ANONYMOUS: 'public-tools' }
    })
    const opened = await open.post(INITIALIZE)
    const { json } = await open.post(call('auth_status'), {
      'mcp-session-id': opened.headers.get('mcp-session-id') as string
    })
    const said = json.result.structuredContent
    t.equal(said.signedIn, false)
    const byName = new Map(
      said.toolsThatNeedMore.map((one: { name: string; missingScopes: string[] }) => [
        one.name,
        one.missingScopes
      ])
    )
    t.notOk(byName.has('t.none'))
    t.strictSame(byName.get('t.required'), [], 'a sign-in, whatever its scopes')
    t.strictSame(byName.get('t.scoped'), [WRITE])
  })
  t.test('another name, or off', async t => {
    const renamed = await startGateway(t, { env: { AUTH_STATUS_TOOL: 'whoami' } })
    const session = await renamed.initialize(renamed.token())
    const names = await toolNames(renamed, session)
    t.ok(names.includes('whoami') && !names.includes('auth_status'))
    const off = await startGateway(t, { env: { AUTH_STATUS_TOOL: 'off' } })
    const other = await off.initialize(off.token())
    t.notOk((await toolNames(off, other)).includes('auth_status'))
    t.equal((await off.post(call('auth_status'), other)).json.error.code, -32602)
  })
  t.test('a tool of the site with that name is never shadowed', async t => {
    const taken = await startGateway(t, { drupal: { extraTools: [tool('auth_status')] } })
    const session = await taken.initialize(taken.token())
    t.equal((await toolNames(taken, session)).filter(name => name === 'auth_status').length, 1)
    const { json } = await taken.post(call('auth_status'), session)
    t.strictSame(json.result.structuredContent, { name: 'auth_status', uid: 2 })
  })
})

t.test('what is counted', async t => {
  const gateway = await startGateway(t, {
    env: { ADMIN_PORT: '0', DRUPAL_MAX_CONCURRENCY: '1', DRUPAL_QUEUE_TIMEOUT: '0.05' }
  })
  const session = await gateway.initialize(gateway.token())
  await gateway.post(call('site.info'), session)
  const slow = gateway.post(call('demo.slow', { ms: 600 }), session)
  await until(t, 'Drupal is at work', () => gateway.drupal.load.active > 0)
  t.equal((await gateway.post(call('site.info'), session)).status, 503)
  await slow
  await fetch(gateway.url, { method: 'DELETE', headers: session })
  const refused = gateway.audited
    .map(line => JSON.parse(line))
    .find(({ code }) => code === 'GW_OVERLOADED')
  t.ok(refused.queueMs >= 40, 'the wait of a call that was turned away')
  t.notOk('drupalMs' in refused)

  const address = (await gateway.gateway.admin?.listen({ host: '127.0.0.1', port: 0 })) as string
  const { text } = await read(await fetch(`${address}/metrics`))
  const value = (series: string) =>
    Number(
      text
        .split('\n')
        .find(line => line.startsWith(`${series} `))
        ?.split(' ')[1]
    )
  t.equal(value('mcp_gateway_sessions_opened_total'), 1)
  t.equal(value('mcp_gateway_sessions_ended_total'), 1)
  t.equal(value('mcp_gateway_token_cache_events_total{event="miss"}'), 1)
  t.equal(value('mcp_gateway_token_cache_events_total{event="hit"}'), 4)
  t.equal(value('mcp_gateway_tool_calls_total{tool="site.info",outcome="ok"}'), 1, 'tools by name')
  t.equal(value('mcp_gateway_queue_duration_seconds_count{method="tools/call"}'), 3)
})
