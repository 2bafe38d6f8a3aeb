import { generateKeyPairSync } from 'node:crypto'
import t from 'tap'
import { type DrupalDouble, startDrupal } from '../../src/demo/double.ts'
import { tutorialCollection } from '../../src/demo/tutorials.ts'
import { raw, type RawAnswer } from './browse.ts'
import { generatedTools } from './generated-tools.ts'

const key = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey
const READ = 'read:tutorials'

interface Listed {
  name: string
  inputSchema: { properties: unknown; required?: string[] }
}
interface Page {
  tools: Listed[]
  nextCursor: string | null
}

const headersFor = (token?: string) =>
  (token ? { Authorization: `Bearer ${token}` } : {}) as Record<string, string>

async function list(drupal: DrupalDouble, token?: string, cursor?: string): Promise<Page> {
  const path = `/mcp/tools/list${cursor ? `?cursor=${encodeURIComponent(cursor)}` : ''}`
  const answer = await raw(drupal.url, path, { headers: headersFor(token) })
  return JSON.parse(answer.body) as Page
}

function call(
  drupal: DrupalDouble,
  tool: string,
  params: Record<string, unknown> | undefined,
  token?: string,
  body: Record<string, unknown> = {}
): Promise<RawAnswer> {
  return raw(drupal.url, `/mcp/tools/${tool}`, {
    method: 'POST',
    headers: headersFor(token),
    body: JSON.stringify({ jsonrpc: '2.0', id: 7, method: tool, params, ...body })
  })
}

async function result(answer: Promise<RawAnswer>): Promise<unknown> {
  return (JSON.parse((await answer).body) as { result: unknown }).result
}

t.test('who sees which tools follows permissions, not scopes', async t => {
  const drupal = await startDrupal({ key })
  t.teardown(() => drupal.close())
  const names = async (token?: string) => (await list(drupal, token)).tools.map(tool => tool.name)
  const open = ['site.info', 'tutorials.search', 'tutorials.read', 'demo.slow', 'demo.fail']
  t.strictSame(await names(), [...open, 'demo.large'], 'anonymous')
  const reader = drupal.mint({ uid: 3 }).token
  t.strictSame(await names(reader), await names(), 'write:tutorials gives a reader nothing')
  const editor = drupal.mint({ scopes: [READ] }).token
  t.match(await names(editor), [
    'site.info',
    'tutorials.search',
    'tutorials.read',
    'tutorials.create'
  ])
  const machine = drupal.mint({ uid: null, scopes: [READ] }).token
  t.strictSame(await names(machine), await names(editor), 'a client has its scopes’ permissions')
  const admin = drupal.mint({ uid: 1, scopes: [] }).token
  t.strictSame(await names(admin), await names(editor), 'uid 1 ignores scopes')
  const bare = await raw(drupal.url, '/mcp/tools/list', {
    headers: headersFor(drupal.mint({ scopes: ['openid'] }).token)
  })
  t.equal(bare.status, 403, 'openid grants nothing')
  const stranger = drupal.mint({ uid: 99 }).token
  t.strictSame(await names(stranger), await names(), 'an unknown uid is merely authenticated')
})

t.test('the editor searches, reads, writes and publishes', async t => {
  const drupal = await startDrupal({ key })
  t.teardown(() => drupal.close())
  const editor = drupal.mint().token
  const reader = drupal.mint({ uid: 3 }).token
  const search = (params: object, token = editor) =>
    result(call(drupal, 'tutorials.search', { ...params }, token)) as Promise<{ id: number }[]>
  t.equal((await search({})).length, 6)
  t.equal((await search({}, reader)).length, 5, 'a reader sees no draft')
  t.equal((await search({ limit: 2 })).length, 2)
  t.match(await search({ query: 'cache Tags' }), [{ id: 3 }])
  t.match(await search({ tag: 'drush' }, reader), [{ id: 2 }])
  t.match(await result(call(drupal, 'tutorials.read', { id: 1 }, reader)), {
    title: /content type/
  })
  t.match((await call(drupal, 'tutorials.read', { id: 6 }, reader)).body, /There is no tutorial 6/)
  const draft = { title: 'New', body: 'Text', summary: 'S', tags: ['a'] }
  const made = await result(call(drupal, 'tutorials.create', draft, editor))
  t.match(made, { id: 7, status: 'draft', tags: ['a'], summary: 'S' })
  const short = call(drupal, 'tutorials.create', { title: 'T', body: 'B' }, editor)
  t.match(await result(short), { id: 8, tags: [], summary: '' })
  const published = await result(call(drupal, 'tutorials.publish', { id: 7 }, editor))
  t.match(published, { status: 'published' })
  t.match((await call(drupal, 'tutorials.publish', { id: 7 }, editor)).body, /already published/)
  t.match(await result(call(drupal, 'tutorials.read', { id: 7 }, reader)), { author: 'editor' })
  t.match((await call(drupal, 'tutorials.create', { title: ' ', body: '' }, editor)).body, /title/)
  t.match(await result(call(drupal, 'site.info', {})), { published: 6 })

  const collection = tutorialCollection()
  const fields = { title: 'x', summary: '', body: '', tags: [], author: 'a' }
  for (let id = 7; id <= 1000; id += 1) collection.create(fields)
  t.throws(() => collection.create(fields), /full/)
})

t.test('scopes are checked for the URL, the body’s method is run', async t => {
  const drupal = await startDrupal({ key })
  t.teardown(() => drupal.close())
  const editor = drupal.mint({ scopes: [READ] }).token
  const create = { title: 'T', body: 'B' }
  const refused = await call(drupal, 'tutorials.create', create, editor)
  t.equal(refused.status, 403)
  t.equal(refused.body, '')
  t.match(refused.headers['www-authenticate'], /insufficient_scope", scope="write:tutorials"/)
  const confused = { method: 'tutorials.create' }
  const slipped = await call(drupal, 'tutorials.search', create, editor, confused)
  t.match(slipped.body, '"id":7,"title":"T"', 'the method confusion is there')
  const reader = drupal.mint({ uid: 3 }).token
  const denied = await call(drupal, 'tutorials.create', create, reader)
  t.equal(denied.status, 200)
  t.match(JSON.parse(denied.body), { id: null, error: { code: -32600, data: /Access Denied/ } })
})

t.test('the demo tools are slow, fail and talk as told', async t => {
  const drupal = await startDrupal({ key })
  t.teardown(() => drupal.close())
  t.strictSame(await result(call(drupal, 'demo.slow', { ms: 1 })), { waited: 1 })
  t.match((await call(drupal, 'demo.fail', {})).body, /The tool failed/)
  t.match((await call(drupal, 'demo.fail', { message: 'Ouch' })).body, /Ouch/)
  const large = (await result(call(drupal, 'demo.large', { size: 5000 }))) as { text: string }
  t.equal(large.text.length, 5000)
  const standard = (await result(call(drupal, 'demo.large', {}))) as { text: string }
  t.equal(standard.text.length, 1_000_000)
})

t.test('closing the double ends a slow tool', async t => {
  const drupal = await startDrupal({ key })
  const seen = new Promise<void>(resolve => {
    const { push } = drupal.requests
    drupal.requests.push = function (...all) {
      resolve()
      return push.apply(this, all)
    }
  })
  const slow = call(drupal, 'demo.slow', undefined)
  const refused = t.rejects(slow)
  await seen
  await drupal.close()
  await refused
})

t.test('bad bodies get Drupal’s errors', async t => {
  const drupal = await startDrupal({ key })
  t.teardown(() => drupal.close())
  const token = drupal.mint().token
  const error = async (answer: Promise<RawAnswer>) => {
    const { status, body } = await answer
    return [status, (JSON.parse(body) as { error: { data: string } }).error.data]
  }
  const read = (params: Record<string, unknown>) =>
    error(call(drupal, 'tutorials.read', params, token))
  t.strictSame(await read({}), [400, 'Missing required parameter: id'])
  t.match((await read({ id: null }))[1], /NULL value found, but an integer is required/)
  t.match((await read({ id: [1] }))[1], /Array value found/)
  t.match((await read({ id: 1.5 }))[1], /Number value found/)
  const noMethod = error(call(drupal, 'site.info', {}, token, { method: 5 }))
  t.match((await noMethod)[1], /received invalid input data/)
  const notification = await call(drupal, 'site.info', {}, token, { id: undefined })
  t.equal(notification.status, 500, 'a notification is too much for it')
  const get = await raw(drupal.url, '/mcp/tools/site.info')
  t.equal(get.status, 400)
})

t.test('the list comes in pages of fifty', async t => {
  const extra = {
    name: 'extra.tool',
    title: 'Extra',
    description: '',
    permission: 'access content',
    params: {},
    output: {},
    annotations: {},
    run: () => 'extra'
  }
  const drupal = await startDrupal({ key, extraTools: [extra, ...generatedTools(60)] })
  t.teardown(() => drupal.close())
  const first = await list(drupal)
  t.equal(first.tools.length, 50)
  t.strictSame(first.tools.find(tool => tool.name === 'site.info')!.inputSchema.properties, [])
  const second = await list(drupal, undefined, first.nextCursor!)
  t.equal(second.tools.length, 17)
  t.equal(second.nextCursor, null)
  t.strictSame(await list(drupal, undefined, 'nonsense'), first, 'a bad cursor is the beginning')
  t.strictSame(await result(call(drupal, 'generated.tool60', {})), { number: 60 })
  t.equal(await result(call(drupal, 'extra.tool', {})), 'extra')
  drupal.faults.missingRoutes.add('extra.tool')
  t.equal((await call(drupal, 'extra.tool', {})).status, 404, 'listed, and not there')
})

t.test('one failing describe poisons the next ones', async t => {
  const drupal = await startDrupal({ key })
  t.teardown(() => drupal.close())
  const describe = (query: string, token?: string) =>
    raw(drupal.url, `/mcp/tools/describe${query}`, { headers: headersFor(token) })
  t.equal((await describe('?name=site.info')).status, 200)
  t.match((await describe('?name=nope')).body, /tool_not_found/)
  t.equal((await describe('?name=site.info')).status, 404, 'the cached failure')
  const editor = drupal.mint().token
  t.equal((await describe('?name=site.info', editor)).status, 200, 'other permissions')
  drupal.clearCache()
  t.match((await describe('')).body, /missing_parameter/)
  drupal.site.roles.anonymous = ['access content']
  t.equal((await describe('?name=site.info')).status, 403)
})
