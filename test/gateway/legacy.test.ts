// The legacy eras end to end: sessions, negotiation, tools and batches, as a client sees them.
import t from 'tap'
import { generatedTools } from '../demo/generated-tools.ts'
import { rpc } from './fixtures/mcp.ts'
import { read, startGateway } from './fixtures/start.ts'

t.test('R32 initialize negotiates', async t => {
  const { post, token } = await startGateway(t)
  const authorization = `Bearer ${token()}`
  for (const [asked, got] of [
    ['2025-03-26', '2025-03-26'],
    ['2025-06-18', '2025-06-18'],
    ['2025-11-25', '2025-11-25'],
    ['2024-11-05', '2025-11-25'],
    ['1999-01-01', '2025-11-25']
  ]) {
    const { status, headers, json } = await post(
      rpc('initialize', {
        protocolVersion: asked,
        capabilities: {},
        clientInfo: { name: 'x', version: '1' }
      }),
      { authorization }
    )
    t.equal(status, 200)
    t.equal(json.result.protocolVersion, got, `${asked} → ${got}`)
    t.strictSame(
      json.result.capabilities,
      { tools: { listChanged: true } },
      'R37 what works is offered'
    )
    t.match(headers.get('mcp-session-id'), /^[\x21-\x7e]{20,1024}$/, 'R22 R24')
  }
})

t.test('R33 R34 R35 R36 the version header', async t => {
  const gateway = await startGateway(t)
  const session = await gateway.initialize(gateway.token())
  const ping = async (version: string | undefined) => {
    const { 'mcp-protocol-version': _, ...rest } = session
    const answer = await gateway.post(rpc('ping'), {
      ...rest,
      ...(version === undefined ? {} : { 'mcp-protocol-version': version })
    })
    return answer.status
  }
  t.equal(await ping(undefined), 200, 'absent: the session knows')
  t.equal(await ping('2025-06-18'), 200, 'supported, though another was negotiated')
  t.equal(await ping('2024-01-01'), 400)
  t.equal(await ping('banana'), 400)
  const { authorization } = session as { authorization: string }
  const initialize = rpc('initialize', { protocolVersion: '2025-11-25' })
  for (const [version, status] of [
    ['2025-06-18', 200],
    ['banana', 400]
  ] as const) {
    const headers = { authorization, 'mcp-protocol-version': version }
    t.equal((await gateway.post(initialize, headers)).status, status, `initialize, ${version}`)
  }
})

t.test('methods', async t => {
  const gateway = await startGateway(t)
  const session = await gateway.initialize(gateway.token())
  t.test('R51 ping', async t => {
    t.strictSame((await gateway.post(rpc('ping', undefined, 'a'), session)).json, {
      jsonrpc: '2.0',
      id: 'a',
      result: {}
    })
  })
  t.test('R15 a notification: 202 and no body', async t => {
    const { status, text } = await gateway.post(
      { jsonrpc: '2.0', method: 'notifications/initialized' },
      session
    )
    t.equal(status, 202)
    t.equal(text, '')
  })
  t.test('R15 a response: 202', async t => {
    const { status, text } = await gateway.post({ jsonrpc: '2.0', id: 1, result: {} }, session)
    t.equal(status, 202)
    t.equal(text, '')
  })
  t.test('R61 an unknown method is 200 with -32601: 404 would mean a lost session', async t => {
    const { status, json } = await gateway.post(rpc('resources/list'), session)
    t.equal(status, 200)
    t.equal(json.error.code, -32601)
    t.equal(json.id, 1)
  })
  t.test('R21 ids come back as they were sent', async t => {
    for (const id of ['0', '"0"', '12345678901234567890', '-7', '"listen:0"', '"é\\n"']) {
      const { text } = await gateway.post(
        `{"jsonrpc": "2.0", "id": ${id}, "method": "ping"}`,
        session
      )
      t.equal(JSON.stringify(JSON.parse(text).result), '{}')
      t.equal(/"id":([^,}]+)[,}]/.exec(text)?.[1], id, text)
    }
  })
  t.test('R20 unknown top-level members are ignored', async t => {
    t.equal((await gateway.post({ ...rpc('ping'), extra: 1 }, session)).status, 200)
  })
})

t.test('tools', async t => {
  const gateway = await startGateway(t, { drupal: { extraTools: generatedTools(120) } })
  const session = await gateway.initialize(gateway.token())
  await t.test('tools/list gives all of Drupal’s pages, normalised', async t => {
    const { status, json, text } = await gateway.post(rpc('tools/list'), session)
    t.equal(status, 200)
    const another = await gateway.initialize(gateway.token())
    t.equal((await gateway.post(rpc('tools/list'), another)).text, text, 'R66 on each connection')
    const named = await gateway.post(rpc('tools/list', undefined, 'ü-☃'), session)
    t.strictSame(named.json, { ...json, id: 'ü-☃' }, 'the kept list goes out under each id')
    t.equal(named.headers.get('content-length'), `${Buffer.byteLength(named.text)}`)
    t.match(named.headers.get('content-type'), /^application\/json/)
    const { tools } = json.result
    t.ok(tools.length > 120)
    t.notOk('nextCursor' in json.result)
    for (const tool of tools) {
      t.match(tool.name, /^[A-Za-z0-9._-]{1,128}$/)
      t.equal(tool.inputSchema.type, 'object')
      t.notOk(Array.isArray(tool.inputSchema.properties), `${tool.name}: properties is an object`)
      if (tool.outputSchema !== undefined) t.equal(tool.outputSchema.type, 'object')
    }
    const { ListToolsResultSchema } = await import('@modelcontextprotocol/sdk/types.js')
    t.ok(ListToolsResultSchema.safeParse(json.result).success, 'the SDK accepts the list')
  })
  t.test('tools/call: an object becomes text and structuredContent', async t => {
    const { status, json } = await gateway.post(
      rpc('tools/call', { name: 'site.info', arguments: {} }),
      session
    )
    t.equal(status, 200)
    t.equal(json.result.content[0].type, 'text')
    t.strictSame(JSON.parse(json.result.content[0].text), json.result.structuredContent)
    t.equal(json.result.structuredContent.software, 'Drupal 10')
    t.notOk(json.result.isError)
  })
  t.test('tools/call: a list becomes text; MCP has no structure for it', async t => {
    const { json } = await gateway.post(
      rpc('tools/call', { name: 'tutorials.search', arguments: { query: '' } }),
      session
    )
    t.ok(Array.isArray(JSON.parse(json.result.content[0].text)))
    t.notOk('structuredContent' in json.result)
  })
  t.test('a tool that fails is a result with isError, not a protocol error', async t => {
    const { status, json } = await gateway.post(
      rpc('tools/call', { name: 'demo.fail', arguments: {} }),
      session
    )
    t.equal(status, 200)
    t.equal(json.result.isError, true)
    t.type(json.result.content[0].text, 'string')
  })
  t.test('Drupal gets a body that the gateway built: method and URL are the tool', async t => {
    await gateway.post(
      rpc(
        'tools/call',
        { name: 'site.info', arguments: {}, method: 'tutorials.create', jsonrpc: 'x' },
        'mine'
      ),
      session
    )
    const seen = gateway.drupal.requests.findLast(({ path }) => path === '/mcp/tools/site.info')
    const body = JSON.parse(seen?.body ?? '')
    t.equal(body.method, 'site.info')
    t.strictSame(body.params ?? {}, {})
  })
  t.test(
    'arguments reach Drupal as they were written: number forms, digits and spacing',
    async t => {
      const args =
        '{ "size": 10, "n": 1.0,  "big": 12345678901234567890, "e": 1E2, "é": "\\u00e9" }'
      await gateway.post(
        `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"demo.large","arguments":${args}}}`,
        session
      )
      const seen = gateway.drupal.requests.findLast(({ path }) => path === '/mcp/tools/demo.large')
      t.match(seen?.body, `"params":${args}}`)
    }
  )
  t.test('R65 large results of concurrent calls are each the caller’s own', async t => {
    const sizes = Array.from({ length: 30 }, (_, n) => 40_000 + ((n * 7919) % 90_000))
    await Promise.all(
      sizes.map(async size => {
        const large = rpc('tools/call', { name: 'demo.large', arguments: { size } })
        const { json } = await gateway.post(large, session)
        t.ok(json.result.structuredContent.text === 'x'.repeat(size), `${size}`)
      })
    )
  })
  t.test('R91 the caller’s token and nothing else of the caller reaches Drupal', async t => {
    await gateway.post(rpc('tools/call', { name: 'site.info', arguments: {} }), {
      ...session,
      cookie: 'a=b',
      'x-consumer-id': 'admin',
      'x-forwarded-for': '1.2.3.4',
      'x-forwarded-host': 'evil.example',
      forwarded: 'for=1.2.3.4',
      'user-agent': 'Electron/1'
    })
    const seen = gateway.drupal.requests.findLast(({ path }) => path === '/mcp/tools/site.info')
    const { headers } = seen as { headers: Record<string, string> }
    t.equal(headers['authorization'], session['authorization'])
    t.equal(headers['host'], new URL(gateway.drupal.url).host)
    t.match(headers['user-agent'], /^drupal-mcp-gateway\//)
    t.type(headers['x-request-id'], 'string')
    for (const name of [
      'cookie',
      'x-consumer-id',
      'x-forwarded-for',
      'x-forwarded-host',
      'forwarded',
      'mcp-session-id'
    ]) {
      t.notOk(name in headers, name)
    }
    const [line] = gateway.audited.slice(-1)
    t.equal(
      JSON.parse(line as string).requestId,
      headers['x-request-id'],
      'both hops log the same id'
    )
  })
  t.test('R88 R89 a missing scope: 403 with one complete, byte-stable challenge', async t => {
    const authorization = `Bearer ${gateway.token({ scopes: ['read:tutorials'] })}`
    const body = rpc('tools/call', {
      name: 'tutorials.create',
      arguments: { title: 'x', body: 'y' }
    })
    const first = await gateway.post(body, { ...session, authorization })
    const second = await gateway.post(body, { ...session, authorization })
    t.equal(first.status, 403)
    t.equal(first.json.error, 'insufficient_scope')
    const challenge = first.headers.get('www-authenticate')
    t.match(challenge, /error="insufficient_scope"/)
    t.match(challenge, /scope="read:tutorials write:tutorials"/, 'granted and required')
    t.match(challenge, /resource_metadata="/)
    t.equal(second.headers.get('www-authenticate'), challenge)
  })
  t.test('R65 each caller sees their own tools', async t => {
    const names = async (uid: number) => {
      const own = await gateway.initialize(gateway.token({ uid }))
      const { json } = await gateway.post(rpc('tools/list'), own)
      return json.result.tools.map(({ name }: { name: string }) => name)
    }
    const [editor, reader] = await Promise.all([names(2), names(3)])
    t.ok(editor.includes('tutorials.create'))
    t.notOk(reader.includes('tutorials.create'))
  })
})

t.test('R46 R47 R48 batches of 2025-03-26', async t => {
  const gateway = await startGateway(t)
  const session = await gateway.initialize(gateway.token(), '2025-03-26')
  t.test('requests and notifications mixed: an array of answers', async t => {
    const { status, json } = await gateway.post(
      [
        rpc('ping', undefined, 1),
        { jsonrpc: '2.0', method: 'notifications/initialized' },
        rpc('tools/call', { name: 'site.info', arguments: {} }, 'two'),
        rpc('nope', undefined, 3),
        rpc('tools/call', { name: 'nope', arguments: {} }, 4)
      ],
      session
    )
    t.equal(status, 200)
    const byId = new Map(json.map((answer: { id: unknown }) => [answer.id, answer]))
    t.equal(byId.size, 4)
    t.match(byId.get(1), { result: {} })
    t.match(byId.get('two'), { result: { structuredContent: { software: 'Drupal 10' } } })
    t.match(byId.get(3), { error: { code: -32601 } })
    t.match(byId.get(4), { error: { code: -32602 } })
  })
  t.test('arguments reach Drupal in the client’s own spelling', async t => {
    const before = gateway.drupal.requests.length
    const calls = ['9007199254740993', '1.0', '[1, {"a":"]}\\""}]'].map(
      (value, id) =>
        `{"jsonrpc":"2.0","id":${id},"method":"tools/call","params":{"name":"site.info","arguments":{"n": ${value} }}}`
    )
    const { status } = await gateway.post(`[ ${calls.join(' , ')} ]`, session)
    t.equal(status, 200)
    const relayed = gateway.drupal.requests.slice(before).filter(({ method }) => method === 'POST')
    t.strictSame(relayed.map(({ body }) => body.slice(body.indexOf('"params":'))).sort(), [
      '"params":{"n": 1.0 }}',
      '"params":{"n": 9007199254740993 }}',
      '"params":{"n": [1, {"a":"]}\\""}] }}'
    ])
  })
  t.test('a name that is no string is its element’s error, whatever it is', async t => {
    for (const name of [{ toString: 1 }, null, ['site.info'], undefined]) {
      const call = { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name } }
      const { status, json } = await gateway.post([call, rpc('ping', undefined, 2)], session)
      t.equal(status, 200)
      t.match(json, [
        { id: 1, error: { code: -32602, message: /needs "name", a string/ } },
        { id: 2, result: {} }
      ])
    }
  })
  t.test('notifications only: 202', async t => {
    const { status, text } = await gateway.post(
      [{ jsonrpc: '2.0', method: 'notifications/initialized' }],
      session
    )
    t.equal(status, 202)
    t.equal(text, '')
  })
  t.test('initialize in a batch: 400', async t => {
    const { authorization } = session as { authorization: string }
    const initialize = rpc('initialize', { protocolVersion: '2025-03-26' })
    for (const [batch, headers] of [
      [[initialize], { authorization }],
      [[rpc('ping', undefined, 'a'), initialize], session]
    ] as const) {
      const { status, json } = await gateway.post(batch, headers)
      t.equal(status, 400)
      t.equal(json.error.code, -32600)
    }
  })
  t.test('over the limit of messages: 400', async t => {
    const { status } = await gateway.post(
      Array.from({ length: 101 }, (_, id) => rpc('ping', undefined, id)),
      session
    )
    t.equal(status, 400)
  })
  t.test('one element without the scope refuses the whole request', async t => {
    const authorization = `Bearer ${gateway.token({ scopes: ['read:tutorials'] })}`
    const { status } = await gateway.post(
      [
        rpc('tools/call', { name: 'site.info', arguments: {} }),
        rpc('tools/call', { name: 'tutorials.create', arguments: { title: 'x', body: 'y' } }, 2)
      ],
      { ...session, authorization }
    )
    t.equal(status, 403)
    const last = gateway.drupal.requests.at(-1)
    t.match(last?.path, '/mcp/tools/list', 'Drupal is asked for the rules and for no call')
  })
})

t.test('R19 two clients with the same ids never cross', async t => {
  const gateway = await startGateway(t)
  const sessions = await Promise.all(
    [2, 3, 2, 3].map(uid => gateway.initialize(gateway.token({ uid, scopes: ['read:tutorials'] })))
  )
  const answers = await Promise.all(
    Array.from({ length: 80 }, (_, index) =>
      gateway.post(
        rpc('tools/call', { name: 'tutorials.read', arguments: { id: (index % 4) + 1 } }, 5),
        sessions[index % 4]
      )
    )
  )
  for (const [index, { json }] of answers.entries()) {
    t.equal(json.result.structuredContent.id, (index % 4) + 1)
  }
})

t.test('R45 a legacy client that goes away does not stop the work', async t => {
  const gateway = await startGateway(t)
  const session = await gateway.initialize(gateway.token())
  const gone = new AbortController()
  const asked = fetch(gateway.url, {
    method: 'POST',
    signal: gone.signal,
    headers: { ...session, 'content-type': 'application/json', accept: 'application/json' },
    body: JSON.stringify(rpc('tools/call', { name: 'demo.slow', arguments: { ms: 300 } }))
  })
  while (gateway.drupal.load.active === 0) await new Promise(resolve => setImmediate(resolve))
  gone.abort()
  await t.rejects(asked)
  const before = performance.now()
  while (gateway.drupal.load.active > 0) await new Promise(resolve => setTimeout(resolve, 5))
  t.ok(performance.now() - before > 100, 'Drupal finished its work')
})

t.test('budgets', async t => {
  t.test('a session over its budget: 429, Retry-After, a text for a model', async t => {
    const gateway = await startGateway(t, { env: { LIMIT_SESSION: '3/1m' } })
    const session = await gateway.initialize(gateway.token())
    const other = await gateway.initialize(gateway.token())
    for (let i = 0; i < 3; i++) {
      const { status, headers } = await gateway.post(rpc('tools/list'), session)
      t.equal(status, 200)
      t.match(headers.get('ratelimit'), new RegExp(`"session";r=${2 - i};t=\\d+`))
      t.match(headers.get('ratelimit-policy'), '"session";q=3;w=60')
    }
    const { status, headers, json } = await gateway.post(rpc('tools/list', undefined, 'x'), session)
    t.equal(status, 429)
    t.match(headers.get('retry-after'), /^\d+$/)
    t.equal(json.id, 'x')
    t.equal(json.error.code, 429)
    t.match(json.error.message, /Wait \d+ seconds/)
    t.equal(
      (await gateway.post(rpc('tools/list'), other)).status,
      200,
      'another session has its own'
    )
    t.equal((await gateway.post(rpc('ping'), session)).status, 200, 'ping draws nothing')
    t.equal(
      (await gateway.post({ jsonrpc: '2.0', method: 'notifications/initialized' }, session)).status,
      202
    )
  })
  t.test('a principal over the budget, over all sessions, batches by element', async t => {
    const gateway = await startGateway(t, { env: { LIMIT_PRINCIPAL: '5/1m' } })
    const token = gateway.token()
    const session = await gateway.initialize(token, '2025-03-26')
    const batch = [1, 2, 3].map(id => rpc('tools/list', undefined, id))
    t.equal((await gateway.post(batch, session)).status, 200)
    const again = await gateway.initialize(token, '2025-03-26')
    t.equal((await gateway.post(batch, again)).status, 429)
    const somebody = await gateway.initialize(gateway.token({ uid: 3, scopes: ['read:tutorials'] }))
    t.equal((await gateway.post(rpc('tools/list'), somebody)).status, 200)
    t.equal(
      (await gateway.post(batch.slice(1), session)).status,
      200,
      'a smaller one has what is left'
    )
    const large = await gateway.post(batch.concat(batch, batch), session)
    t.equal(large.status, 429)
    t.match(large.json.error.message, /limit is 5 .* asks for 9 at once: send it in parts\.$/)
  })
  t.test(
    'a session that ignores its 429s uses up nothing of its user’s and its client’s',
    async t => {
      const gateway = await startGateway(t, {
        env: {
          LIMIT_SESSION: '2/1m',
          LIMIT_PRINCIPAL: '5/1m',
          LIMIT_CLIENT: '6/1m',
          ADMIN_PORT: '0'
        }
      })
      const token = gateway.token()
      const session = await gateway.initialize(token)
      const statuses: number[] = []
      for (let n = 0; n < 20; n++)
        statuses.push((await gateway.post(rpc('tools/list'), session)).status)
      t.strictSame(statuses, [200, 200, ...Array.from({ length: 18 }, () => 429)])
      const calm = await gateway.initialize(token)
      const next = await gateway.post(rpc('tools/list'), calm)
      t.equal(next.status, 200)
      t.match(next.headers.get('ratelimit'), /"session";r=1.*"principal";r=2.*"client";r=3/)
      const { body } = await gateway.gateway.admin!.inject('/metrics')
      const drawn = (budget: string, outcome: string) =>
        new RegExp(`draws_total\\{budget="${budget}",outcome="${outcome}"\\} (\\d+)`).exec(
          body
        )?.[1]
      t.strictSame(
        [drawn('session', 'refused'), drawn('principal', 'allowed'), drawn('principal', 'refused')],
        ['18', '3', undefined],
        'and the metrics name the budget that refused'
      )
    }
  )
  t.test('sessions cannot be ended without end: each end is remembered for long', async t => {
    const gateway = await startGateway(t, {
      env: { LIMIT_PRINCIPAL: '3/1m', LIMIT_SESSION: '1/1m' }
    })
    const token = gateway.token()
    const end = async () =>
      fetch(gateway.url, { method: 'DELETE', headers: await gateway.initialize(token) })
    const session = await gateway.initialize(token)
    t.equal((await gateway.post(rpc('tools/list'), session)).status, 200)
    const used = await fetch(gateway.url, { method: 'DELETE', headers: session })
    t.equal(used.status, 204, 'although its own budget is used up')
    t.equal((await end()).status, 204)
    const refused = await end()
    t.equal(refused.status, 429)
    t.match(refused.headers.get('retry-after'), /^\d+$/)
  })
  t.test('the address budget counts failures only', async t => {
    const gateway = await startGateway(t, { env: { LIMIT_FAILURES: '3/1m', ADMIN_PORT: '0' } })
    const good = gateway.token()
    const session = await gateway.initialize(good)
    for (let i = 0; i < 10; i++) {
      t.equal((await gateway.post(rpc('ping'), session)).status, 200)
      t.equal((await gateway.post(rpc('ping'))).status, 401, 'a missing token is no failure')
    }
    const expired = gateway.token({ expiresIn: -60 })
    for (const token of [expired, expired, 'bad0', 'bad1', expired, 'bad2']) {
      t.equal((await gateway.post(rpc('ping'), { authorization: `Bearer ${token}` })).status, 401)
    }
    const asked = gateway.drupal.requests.length
    const { status, headers, json } = await gateway.post(rpc('ping'), {
      authorization: 'Bearer bad9'
    })
    t.equal(status, 429)
    const seconds = Number(headers.get('retry-after'))
    t.ok(seconds > 40 && seconds <= 60, 'what is left of the minute')
    t.equal(json.error.code, 429)
    t.equal(gateway.drupal.requests.length, asked, 'nobody was asked')
    t.equal((await gateway.post(rpc('ping'), session)).status, 429, 'the address is held back')
    const { body } = await gateway.gateway.admin!.inject('/metrics')
    t.match(body, '\nmcp_gateway_budget_draws_total{budget="address",outcome="refused"} 2\n')
    t.equal(
      (await read(await fetch(`${gateway.origin}/livez`))).status,
      200,
      'probes are not: they may come through the same proxy'
    )
  })
  t.test('an address is the same with and without the port that a proxy writes', async t => {
    const gateway = await startGateway(t, {
      env: { LIMIT_FAILURES: '3/1m', TRUSTED_PROXIES: '127.0.0.1, 10.0.0.0/8' }
    })
    const forged = (forwarded: string) =>
      gateway.post(rpc('ping'), {
        authorization: 'Bearer forged',
        'x-forwarded-for': forwarded
      })
    for (const [address, forms] of [
      [
        '203.0.113.9',
        ['203.0.113.9:1', '203.0.113.9:2, 10.0.0.7:81', '203.0.113.9 , [10.0.0.7]:9']
      ],
      ['2001:db8::9', ['[2001:db8::9]:1', '2001:db8::9', '[2001:db8::9],10.0.0.7:82']]
    ] as const) {
      for (const form of forms) {
        t.equal((await forged(form)).status, 401, form)
        t.equal(JSON.parse(gateway.audited.at(-1) as string).address, address, form)
      }
      t.equal((await forged(`${forms[0]}1`)).status, 429, 'another port is not another caller')
    }
    t.equal((await forged('203.0.113.90:1')).status, 401, 'another address is')
  })
  t.test(
    'what a proxy passes on and is no address is nobody: the nearest address counts',
    async t => {
      const gateway = await startGateway(t, {
        env: { LIMIT_FAILURES: '6/1m', TRUSTED_PROXIES: '127.0.0.1, 10.0.0.0/8' }
      })
      const forged = async (forwarded: string) => {
        const { status } = await gateway.post(rpc('ping'), {
          authorization: 'Bearer forged',
          'x-forwarded-for': forwarded
        })
        return `${status} ${JSON.parse(gateway.audited.at(-1) as string).address}`
      }
      for (const form of [
        'foo',
        'unknown',
        '_hidden, ',
        '203.0.113.7, 1',
        '010.0.0.1:1',
        'foo,,::1%'
      ]) {
        t.equal(await forged(form), '401 127.0.0.1', form)
      }
      t.equal(await forged('another'), '429 127.0.0.1', 'another name is not another caller')
      t.equal(await forged('unknown, 10.0.0.7'), '401 10.0.0.7', 'that of the last proxy known')
      t.equal(await forged('unknown, 203.0.113.8, 10.0.0.7'), '401 203.0.113.8')
      t.equal(await forged('203.0.113.9,'), '401 203.0.113.9')
    }
  )
})

t.test('R40 R71 news of tools reach listening clients of either era', async t => {
  // What is kept of the tools for calls is not what listeners are told by.
  const gateway = await startGateway(t, { env: { STREAM_WATCH: '0.05', CATALOGUE_TTL: '3600' } })
  const session = await gateway.initialize(gateway.token())
  const authorization = session['authorization'] as string
  const legacy = await fetch(gateway.url, { headers: { ...session, accept: 'text/event-stream' } })
  t.equal(legacy.headers.get('content-type'), 'text/event-stream')
  const modern = await fetch(gateway.url, {
    method: 'POST',
    headers: {
      authorization,
      'content-type': 'application/json',
      'mcp-protocol-version': '2026-07-28',
      'mcp-method': 'subscriptions/listen'
    },
    body: JSON.stringify(
      rpc('subscriptions/listen', {
        notifications: { toolsListChanged: true },
        _meta: {
          'io.modelcontextprotocol/protocolVersion': '2026-07-28',
          'io.modelcontextprotocol/clientCapabilities': {}
        }
      })
    )
  })
  const lists = () =>
    gateway.drupal.requests.filter(({ path }) => path === '/mcp/tools/list').length
  const asked = lists()
  while (lists() < asked + 3) await new Promise(resolve => setTimeout(resolve, 20))
  const editor = gateway.drupal.site.users.find(({ uid }) => uid === 2)
  editor?.roles.splice(0)
  const changedAt = lists()
  while (lists() < changedAt + 3) await new Promise(resolve => setTimeout(resolve, 20))
  await gateway.gateway.stop()
  t.match(await legacy.text(), /"notifications\/tools\/list_changed"/)
  const text = await modern.text()
  t.match(text, /subscriptions\/acknowledged.*\n[^]*tools\/list_changed[^]*"resultType":"complete"/)
  const refused = await startGateway(t, { env: { STREAM_WATCH: '0' } })
  const third = await startGateway(t)
  const reader = await third.initialize(third.token())
  for (const accept of ['application/json', 'text/html']) {
    const { status } = await fetch(third.url, { headers: { ...reader, accept } })
    t.equal(status, 406, `R39 ${accept} is no wish for a stream`)
  }
  const other = await refused.initialize(refused.token())
  t.equal((await fetch(refused.url, { headers: other })).status, 405)
})

t.test('R41 a token that ends takes no stream of another token with it', async t => {
  const gateway = await startGateway(t, { env: { STREAM_WATCH: '0.05' } })
  const { token, jti } = gateway.drupal.mint()
  const listen = async (bearer: string) => {
    const headers = { ...(await gateway.initialize(bearer)), accept: 'text/event-stream' }
    return fetch(gateway.url, { headers })
  }
  const [first, newest] = [await listen(gateway.token()), await listen(token)]
  const after = async (count: number) => {
    const lists = () =>
      gateway.drupal.requests.filter(({ path }) => path === '/mcp/tools/list').length
    const asked = lists()
    while (lists() < asked + count) await new Promise(resolve => setTimeout(resolve, 20))
  }
  await after(2)
  gateway.drupal.revoke(jti)
  await newest.text()
  await after(2)
  gateway.drupal.site.users.find(({ uid }) => uid === 2)?.roles.splice(0)
  await after(2)
  await gateway.gateway.stop()
  t.match(await first.text(), 'notifications/tools/list_changed')
})

t.test('R41 news travel on one stream of a session, and end with it', async t => {
  const gateway = await startGateway(t, { env: { STREAM_WATCH: '0.05' } })
  const [session, other] = await Promise.all([
    gateway.initialize(gateway.token()),
    gateway.initialize(gateway.token())
  ])
  const listen = async (headers: Record<string, string>) => {
    const response = await fetch(gateway.url, {
      headers: { ...headers, accept: 'text/event-stream' }
    })
    t.equal(response.status, 200)
    return response
  }
  const [first, second, third] = [await listen(session), await listen(session), await listen(other)]
  const lists = () =>
    gateway.drupal.requests.filter(({ path }) => path === '/mcp/tools/list').length
  const after = async (count: number) => {
    const asked = lists()
    while (lists() < asked + count) await new Promise(resolve => setTimeout(resolve, 20))
  }
  await after(3)
  gateway.drupal.site.users.find(({ uid }) => uid === 2)?.roles.splice(0)
  await after(3)
  for (const headers of [session, other]) {
    t.equal((await fetch(gateway.url, { method: 'DELETE', headers })).status, 204)
  }
  const told = async (response: Response) =>
    (await response.text()).split('notifications/tools/list_changed').length - 1
  t.strictSame([await told(first), await told(second), await told(third)], [0, 1, 1])
  const asked = lists()
  await new Promise(resolve => setTimeout(resolve, 200))
  t.ok(lists() <= asked + 1, 'nobody listens: Drupal is not asked, but for what was on its way')
})
