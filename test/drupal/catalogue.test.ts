import { setImmediate as nextTurn } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { Ajv2020 } from 'ajv/dist/2020.js'
import t, { type Test } from 'tap'
import type { Principal } from '../../src/auth/principal.ts'
import { createCallerMemory } from '../../src/drupal/caller-memory.ts'
import { type CatalogueOptions, createCatalogue } from '../../src/drupal/catalogue.ts'
import { createMcpCatalogues } from '../../src/drupal/mcp-catalogue.ts'
import { createDrupalPool } from '../../src/drupal/pool.ts'
import { isToolName, readTool } from '../../src/drupal/tool-listing.ts'
import { configFor, html, json, oneTooMany, refused, type Site, startSite } from './site.ts'

const clock = { ms: 0 }
const alice = principal('alice', ['content:read'])
const bob = principal('bob', ['content:read'])

function principal(key: string, scopes: string[]): Principal {
  return {
    issuer: 'https://cms.example/',
    subject: key,
    clientId: 'c',
    hasUser: true,
    scopes,
    expiresAt: 9e9,
    tokenId: undefined,
    key,
    subjectKey: key
  }
}

function catalogueOf(
  t: Test,
  site: Site,
  drupal: object = {},
  more: Partial<CatalogueOptions> = {}
) {
  const config = configFor(site.url, { drupal: { catalogueTtlSeconds: 30, ...drupal } })
  const pool = createDrupalPool(config)
  t.teardown(() => pool.close())
  return createCatalogue({
    config,
    pool,
    now: () => clock.ms,
    ...more
  })
}

/** A site that lists one tool, named after the bearer token. */
const byToken: Site['answer'] = (seen, response) => {
  const name = (seen.headers.authorization ?? 'Bearer nobody').replace('Bearer ', 'tool.')
  json(response, { tools: [{ name, inputSchema: { type: 'object' } }], nextCursor: null })
}

t.test('R65 a list is asked with the caller’s token and is the caller’s own', async t => {
  t.test('also where an answer that is no list has come twice before', async t => {
    const answer = oneTooMany()
    const site = await startSite(t, ({ headers }, response) => {
      const name = headers.authorization?.slice(7)
      answer(response, name === 'first' ? { result: 'of a call' } : { tools: [{ name }] })
    })
    const catalogue = catalogueOf(t, site)
    await t.rejects(async () => catalogue(undefined, 'first'))
    await t.rejects(async () => catalogue(alice, 'alice'))
    const { tools } = await catalogue(bob, 'bob')
    t.strictSame(
      tools.map(({ name }) => name),
      ['bob']
    )
  })
  t.test('two users who race never see each other’s tools', async t => {
    const site = await startSite(t, (seen, response, request) =>
      setTimeout(() => byToken(seen, response, request), Math.random() * 10)
    )
    const catalogue = catalogueOf(t, site)
    const rounds = Array.from({ length: 40 }, (_, i) => i)
    await Promise.all(
      rounds.map(async i => {
        const [who, token] = i % 2 === 0 ? ([alice, 'a'] as const) : ([bob, 'b'] as const)
        const mine = await catalogue(who, token)
        t.strictSame([...mine.byName.keys()], [`tool.${token}`])
      })
    )
    t.equal(site.seen.length, 2, 'and each was asked for once')
  })

  t.test('is kept per principal and scopes for its time', async t => {
    clock.ms = 0
    const site = await startSite(t, byToken)
    const catalogue = catalogueOf(t, site)
    const first = await catalogue(alice, 'a')
    t.equal(await catalogue(alice, 'a2'), first, 'a refreshed token sees the kept list')
    t.equal(await catalogue(principal('alice', ['content:read']), 'a3'), first)
    t.equal(site.seen.length, 1)
    await catalogue(principal('alice', ['content:read', 'content:write']), 'a4')
    t.equal(site.seen.length, 2, 'other scopes, another question')
    t.strictSame([...(await catalogue(undefined, undefined)).byName.keys()], ['tool.nobody'])
    t.equal(site.seen.length, 3)
    t.notOk(site.seen[2]?.headers.authorization)
    clock.ms = 29_999
    await catalogue(alice, 'a')
    t.equal(site.seen.length, 3)
    clock.ms = 30_000
    await catalogue(alice, 'a')
    t.equal(site.seen.length, 4)
  })

  t.test('with a time of 0 nothing is kept', async t => {
    const site = await startSite(t, byToken)
    const catalogue = catalogueOf(t, site, { catalogueTtlSeconds: 0 })
    await catalogue(alice, 'a')
    await catalogue(alice, 'a')
    t.equal(site.seen.length, 2)
  })

  t.test('lists of the same content are one value in memory', async t => {
    const site = await startSite(t, (_seen, response) => json(response, { tools: [{ name: 'x' }] }))
    const learned: number[] = []
    const catalogue = catalogueOf(
      t,
      site,
      {},
      { learned: ({ tools }) => learned.push(tools.length) }
    )
    t.equal(await catalogue(alice, 'a'), await catalogue(bob, 'b'))
    t.equal(site.seen.length, 2, 'each was asked for all the same')
    t.strictSame(learned, [1, 1])
  })
})

t.test('a failed question', async t => {
  t.test('is not kept, and names what is missing', async t => {
    let broken = true
    const site = await startSite(t, (seen, response, request) =>
      broken ? html(response, 403) : byToken(seen, response, request)
    )
    const catalogue = catalogueOf(t, site)
    t.match(await refused(catalogue(alice, 'a')), { code: 'GW_UPSTREAM_FORBIDDEN' })
    broken = false
    t.equal((await catalogue(alice, 'a')).tools.length, 1)
  })

  t.test('of one token does not fail another token of the same principal', async t => {
    const site = await startSite(t, (seen, response, request) =>
      seen.headers.authorization === 'Bearer revoked'
        ? html(response, 401, { 'www-authenticate': 'Bearer realm="OAuth"' })
        : byToken(seen, response, request)
    )
    const catalogue = catalogueOf(t, site)
    const [bad, good] = await Promise.all([
      refused(catalogue(alice, 'revoked')),
      catalogue(alice, 'fresh')
    ])
    t.match(bad, { code: 'GW_INVALID_TOKEN' })
    t.ok(good.byName.has('tool.fresh'))
  })

  for (const [name, body] of [
    ['without tools', {}],
    ['that is an array', []],
    ['that is broken', '{"tools":[']
  ] as const) {
    t.test(`a list ${name} is refused`, async t => {
      const site = await startSite(t, (_seen, response) => json(response, body))
      t.match(await refused(catalogueOf(t, site)(alice, 'a')), { code: 'GW_UPSTREAM_INVALID' })
    })
  }
})

t.test('pages', async t => {
  const pageOf = (from: number, count: number) =>
    Array.from({ length: count }, (_, i) => ({ name: `t.${from + i}` }))

  t.test('all of them are read, with the cursor as Drupal gave it', async t => {
    const site = await startSite(t, (seen, response) => {
      const page = seen.url.includes('cursor') ? 1 : 0
      json(response, { tools: pageOf(page * 50, 50), nextCursor: page === 0 ? 'NTA=' : null })
    })
    const { tools } = await catalogueOf(t, site)(alice, 'a')
    t.equal(tools.length, 100)
    t.strictSame(
      site.seen.map(seen => seen.url),
      ['/mcp/tools/list', '/mcp/tools/list?cursor=NTA%3D']
    )
  })

  t.test('a cursor that no URL can hold is asked for as well as can be', async t => {
    const site = await startSite(t, (seen, response) => {
      const isFirst = !seen.url.includes('cursor')
      json(response, { tools: pageOf(isFirst ? 0 : 50, 50), nextCursor: isFirst ? '\ud800' : null })
    })
    t.equal((await catalogueOf(t, site)(alice, 'a')).tools.length, 100)
  })

  t.test('a site that goes round in a circle, or without end, is left', async t => {
    const lines: object[] = []
    const log = { warn: (details: object) => lines.push(details) }
    const circle = await startSite(t, (_seen, response) =>
      json(response, { tools: [{ name: 'a.b' }], nextCursor: 'MA==' })
    )
    t.equal((await catalogueOf(t, circle, {}, { log })(alice, 'a')).tools.length, 1)
    t.equal(circle.seen.length, 2)
    const wide = await startSite(t, (seen, response) =>
      json(response, { tools: [], nextCursor: seen.url.endsWith('=a') ? 'b' : 'a' })
    )
    await catalogueOf(t, wide, {}, { log })(alice, 'a')
    t.equal(wide.seen.length, 3)
    let number = 0
    const endless = await startSite(t, (_seen, response) => {
      number++
      json(response, { tools: [{ name: `a.${number}` }], nextCursor: String(number) })
    })
    await catalogueOf(t, endless, {}, { log })(alice, 'a')
    t.equal(endless.seen.length, 100)
    const huge = await startSite(t, (_seen, response) => {
      number += 3000
      json(response, { tools: pageOf(number, 3000), nextCursor: String(number) })
    })
    t.equal((await catalogueOf(t, huge, {}, { log })(alice, 'a')).tools.length, 5000)
    const heavy = await startSite(t, (_seen, response) => {
      number++
      const description = 'x'.repeat(40_000)
      json(response, { tools: [{ name: `a.${number}`, description }], nextCursor: String(number) })
    })
    const bound = { maxResponseBytes: 100_000 }
    t.equal((await catalogueOf(t, heavy, bound, { log })(alice, 'a')).tools.length, 3)
    t.match(lines, [
      { skipped: 1, unread: false },
      { skipped: 0, unread: true, pages: 100 },
      { skipped: 1000, unread: true, pages: 2 },
      { skipped: 0, unread: true, pages: 3 }
    ])
  })
})

t.test('a tool is made fit for MCP', async t => {
  const read = readTool
  const schemaMembers = [
    'additionalProperties',
    'unevaluatedProperties',
    'propertyNames',
    'items',
    'additionalItems',
    'unevaluatedItems',
    'contains',
    'not',
    'if',
    'then',
    'else'
  ]

  t.test('names that could leave their URL are no tools', async t => {
    for (const name of ['a', 'examples.articles.list', 'A-b_c.9', 'x'.repeat(128), '...a', 'a.']) {
      t.ok(isToolName(name), name)
    }
    const bad = ['', '.', '..', '...', '../x', 'a/b', 'a%2fb', 'a?b', 'a#b', 'a\\b', 'a\0b', 'ü']
    for (const name of [...bad, ' a', 'x'.repeat(129), 'x'.repeat(10_000), 5, null, undefined]) {
      t.notOk(isToolName(name), String(name).slice(0, 20))
    }
    for (const name of ['list', 'describe', 'invoke']) t.notOk(isToolName(name), name)
    t.equal(read({ name: '../x' }), undefined)
    t.equal(read('tool'), undefined)
  })

  t.test(
    "PHP's empty arrays become objects, unknown members go, annotations are understood",
    async t => {
      const tool = read({
        name: 'a.b',
        title: 'A',
        description: 'Does it',
        inputSchema: { type: 'object', properties: [] },
        outputSchema: {
          type: 'object',
          properties: { list: { type: 'array', items: { $defs: [] } } }
        },
        annotations: {
          title: 'T',
          readOnlyHint: true,
          idempotentHint: 'yes',
          category: 'content',
          auth: { scopes: ['b:c', 'a:b'] }
        },
        secret: 'x'
      })
      t.strictSame(tool, {
        name: 'a.b',
        listing: {
          name: 'a.b',
          title: 'A',
          description: 'Does it',
          inputSchema: { type: 'object', properties: {} },
          outputSchema: {
            type: 'object',
            properties: { list: { type: 'array', items: { $defs: {} } } }
          },
          annotations: {
            title: 'T',
            readOnlyHint: true,
            category: 'content',
            auth: { scopes: ['b:c', 'a:b'] }
          }
        },
        auth: { level: 'required', scopes: ['a:b', 'b:c'] }
      })
    }
  )

  t.test("PHP's empty arrays are schemas where a schema is due, and values stay", async t => {
    const value = { items: [], properties: [], any: [[]] }
    const schema = (one: unknown) => ({
      type: 'object',
      properties: {
        any: one,
        items: one,
        properties: { type: 'object', required: [] },
        values: { default: value, const: value, enum: [[], value], examples: [[], value] },
        ...Object.fromEntries(schemaMembers.map(name => [name, { [name]: one }]))
      },
      patternProperties: { a: one },
      $defs: { any: one },
      definitions: { any: one },
      required: [],
      allOf: [{ not: { enum: [] }, if: one }]
    })
    for (const written of [[], null]) {
      const tool = { name: 'a', inputSchema: schema(written), outputSchema: schema(written) }
      const { inputSchema, outputSchema } = read(tool)?.listing ?? {}
      t.strictSame([inputSchema, outputSchema], [schema({}), schema({})])
      t.ok(new Ajv2020().validateSchema(inputSchema as object))
    }
    const choice = (one: unknown) => ({
      type: 'object',
      properties: { a: { anyOf: [one, { enum: [[]] }] }, b: { items: [{ type: 'null' }, one] } }
    })
    t.strictSame(read({ name: 'a', inputSchema: choice([]) })?.listing['inputSchema'], choice({}))
    t.strictSame(read({ name: 'a', annotations: { items: [], auth: { not: [] } } })?.listing, {
      name: 'a',
      inputSchema: { type: 'object', properties: {} },
      annotations: { items: [], auth: { not: [] } }
    })
  })

  t.test('what no client could use is replaced or left out', async t => {
    const empty = { type: 'object', properties: {} }
    t.strictSame(
      read({ name: 'a', inputSchema: [], annotations: [], title: 5, description: null }),
      {
        name: 'a',
        listing: { name: 'a', inputSchema: empty },
        auth: undefined
      }
    )
    t.strictSame(read({ name: 'a', inputSchema: { type: 'array' } })?.listing['inputSchema'], empty)
    t.strictSame(read({ name: 'a', inputSchema: { required: ['x'] } })?.listing['inputSchema'], {
      type: 'object',
      required: ['x']
    })
    for (const outputSchema of [{ type: 'array' }, { type: 'string' }, [], null]) {
      t.notOk('outputSchema' in (read({ name: 'a', outputSchema })?.listing ?? {}))
    }
    for (const member of [
      'title',
      'readOnlyHint',
      'destructiveHint',
      'idempotentHint',
      'openWorldHint'
    ]) {
      t.strictSame(
        read({ name: 'a', annotations: { [member]: 5 } })?.listing['annotations'],
        {},
        member
      )
    }
  })

  t.test('R78 a tool that is nested without end does not take the list with it', async t => {
    const arrays = `${'['.repeat(100_000)}${']'.repeat(100_000)}`
    const objects = `${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}`
    const deep = [
      `{"inputSchema":{"type":"object","enum":${arrays}}}`,
      `{"inputSchema":{"type":"object","properties":${objects}}}`,
      `{"outputSchema":{"type":"object","anyOf":${arrays}}}`,
      `{"annotations":{"a":${arrays}}}`,
      `{"annotations":{"a":${objects}}}`,
      `{"_meta":${objects}}`
    ].map((members, index) => `{"name":"deep.${index}",${members.slice(1)}`)
    const site = await startSite(t, (_seen, response) => {
      response.setHeader('content-type', 'application/json')
      response.end(`{"tools":[{"name":"flat"},${deep.join(',')}],"nextCursor":null}`)
    })
    const { tools } = await catalogueOf(t, site)(alice, 'a')
    t.equal(tools.length, 1 + deep.length)
    t.ok(JSON.stringify(tools).length < 4000)
  })

  t.test('R60 no argument is mirrored in a header, R78 depth is bounded', async t => {
    let deep: object = { type: 'string' }
    for (let i = 0; i < 100; i++) deep = { type: 'object', properties: { x: deep } }
    const text = JSON.stringify(
      read({
        name: 'a',
        inputSchema: {
          type: 'object',
          properties: { q: { type: 'string', 'x-mcp-header': 'Query' }, deep },
          anyOf: [{ type: 'object', 'x-mcp-header': 'B' }]
        }
      })
    )
    t.notMatch(text, /x-mcp-header/)
    t.match(text, /"anyOf":\[\{"type":"object"\}\]/)
    t.ok(text.split('"x"').length < 20)
  })
})

t.test('what is too old to be used is not held in memory', async t => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  let ms = 0
  const ask = async (asker: Principal | undefined) => ({ asker })
  const memory = createCallerMemory({ ask, ttlSeconds: 1, now: () => ms, sizeOf: () => 1 })
  const lists = new Map<Principal, WeakRef<object>>()
  const look = async (asker: Principal) =>
    void lists.set(asker, new WeakRef(await memory.get(asker, 'token')))
  await look(alice)
  ms = 1000
  await look(bob)
  await nextTurn()
  collect()
  t.equal(lists.get(alice)?.deref(), undefined)
  t.ok(lists.get(bob)?.deref(), 'the other is kept')
})

t.test(
  'values are kept by how much they take: a shared one takes it once, the longest unused goes first',
  async t => {
    const shared = { size: 6 }
    const asked: string[] = []
    const memory = createCallerMemory({
      ask: async asker => {
        asked.push(asker?.key ?? '')
        return asker?.key.startsWith('own') ? { size: 2 } : shared
      },
      ttlSeconds: 1,
      now: () => 0,
      sizeOf: ({ size }) => size,
      maxSize: 10
    })
    const look = async (...keys: string[]) => {
      asked.length = 0
      for (const key of keys) await memory.get(principal(key, []), 'token')
      return asked
    }
    t.strictSame(await look('a', 'b', 'own 1', 'own 2'), ['a', 'b', 'own 1', 'own 2'])
    t.strictSame(await look('a', 'b', 'own 1', 'own 2'), [], '6 + 2 + 2, and all are kept')
    t.strictSame(await look('own 3', 'own 2', 'own 1'), ['own 3'], 'those of a and b made room')
    t.strictSame(await look('own 4', 'own 5', 'own 1', 'own 2'), ['own 4', 'own 5'])
    t.strictSame(await look('own 6', 'own 3'), ['own 6', 'own 3'], 'more than 10 are not kept')
    memory.keep(principal('large', []), { size: 11 })
    t.strictSame(await look('large', 'large'), ['large'], 'what has no room is asked for again')
  }
)

t.test('a site that shows every caller a large list of its own fills no memory', async t => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const lists: WeakRef<object>[] = []
  const text = 'x'.repeat(1024 * 1024)
  const { get } = createMcpCatalogues({
    list: async asker => ({ tools: [{ name: asker?.key, description: text + asker?.key }] }),
    ttlSeconds: 30,
    learned: () => {},
    now: () => 0
  })
  for (let i = 0; i < 40; i++) {
    const mine = await get(principal(`caller-${i}`, []), 'token')
    t.ok(mine.byName.has(`caller-${i}`), 'R65')
    lists.push(new WeakRef(mine))
  }
  await nextTurn()
  collect()
  const held = lists.filter(list => list.deref() !== undefined).length
  t.ok(held > 10 && held < 18, `${held} lists of 1 MB are held`)
})

t.test('a list that is longer than any does not fail', async t => {
  const { get } = createMcpCatalogues({
    list: async () => ({ tools: [{ name: 'a' }, ...Array<string>(500_000).fill('x')] }),
    ttlSeconds: 0,
    learned: () => {},
    now: () => 0
  })
  const { tools } = await get(undefined, undefined)
  t.strictSame(
    tools.map(({ name }) => name),
    ['a']
  )
})

t.test('of an mcp upstream, too, equal lists of many callers are one value in memory', async t => {
  let deep: unknown = {}
  for (let depth = 0; depth < 20_000; depth++) deep = { deep }
  const lists: Record<string, unknown[]> = { carol: [{ name: 'a' }, { name: 'b' }] }
  const { get, learn } = createMcpCatalogues({
    list: async asker => ({ tools: lists[asker?.key ?? ''] ?? [{ name: 'a' }] }),
    ttlSeconds: 30,
    learned: () => {},
    now: () => 0
  })
  const carol = principal('carol', [])
  t.equal(await get(alice, 'one'), await get(bob, 'two'))
  t.equal((await get(carol, 'three')).tools.length, 2, 'R65 another list is its own')
  learn(carol, { tools: [{ name: 'a' }] })
  t.equal(await get(carol, 'three'), await get(bob, 'two'))
  learn(carol, { tools: [{ name: 'c', description: deep }] })
  t.ok((await get(carol, 'three')).byName.has('c'), 'nested without end')
})
