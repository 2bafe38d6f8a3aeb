// Who may end a call at work, and what is left of it: cancelled, timed out, or abandoned by its client. MCP upstreams, real sockets.
import { createServer } from 'node:http'
import type { ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { json } from '../drupal/site.ts'
import {
  type Before,
  closed,
  events,
  type LegacyServer,
  type Message,
  messagesOf,
  modern,
  rpc,
  startBefore,
  startLegacyServer
} from './fixtures/mcp.ts'

const call = (id: unknown = 1) => rpc('tools/call', { name: 'echo', arguments: {} }, id)
const cancel = (requestId: unknown) => ({
  jsonrpc: '2.0',
  method: 'notifications/cancelled',
  params: { requestId }
})
const cancelsSeen = ({ messages }: LegacyServer) =>
  messages.filter(({ method }) => method === 'notifications/cancelled')

/** The next `count` calls that reach the server; it answers none of them. */
function hold(server: LegacyServer, count = 1): Promise<[Message, ServerResponse][]> {
  const held: [Message, ServerResponse][] = []
  return new Promise(resolve => {
    server.onRequest = (message, response) => {
      held.push([message, response])
      if (held.length === count) resolve(held)
    }
  })
}

/** Call 7 at work: its answer to be, and when its connection to the server is gone. */
async function held(server: LegacyServer, gateway: Before, session: Record<string, string>) {
  const holding = hold(server)
  const answer = gateway.post(call(7), session)
  const [[, response]] = (await holding) as [[Message, ServerResponse]]
  return { answer, gone: closed(response) }
}

t.test('R49 a cancellation ends the same session’s and principal’s call, no other', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const [mine, other, foreign] = await Promise.all([
    gateway.initialize(gateway.token()),
    gateway.initialize(gateway.token()),
    gateway.initialize(gateway.token({ uid: 3 }))
  ])
  for (const session of [mine, foreign]) await gateway.post(rpc('tools/list'), session)
  const holding = hold(server, 3)
  const answers = [mine, other, foreign].map(session => gateway.post(call(7), session))
  const held = await holding
  t.equal(
    (await gateway.post(cancel(7), { ...mine, authorization: foreign['authorization'] as string }))
      .status,
    404
  )
  t.equal((await gateway.post(cancel('7'), mine)).status, 202, 'another id: "7" is not 7')
  await sleep(30)
  t.notOk(
    held.some(([, response]) => response.destroyed),
    'nothing has ended'
  )
  t.equal((await gateway.post(cancel(7), mine)).status, 202)
  const ended = await answers[0]
  t.strictSame([ended?.status, ended?.text], [202, ''], 'no answer')
  t.match(cancelsSeen(server).at(-1), { params: { requestId: 7 } }, 'the upstream was told')
  const isAlive = ([, response]: [Message, ServerResponse]) => !response.destroyed
  while (held.every(isAlive)) await sleep(5)
  const alive = held.filter(isAlive)
  t.equal(alive.length, 2)
  for (const [{ id }, response] of alive)
    json(response, { jsonrpc: '2.0', id, result: { ok: true } })
  for (const answer of answers.slice(1))
    t.match((await answer).json, { id: 7, result: { ok: true } })
  t.equal((await gateway.post(cancel(7), mine)).status, 202, 'a finished call is no mistake')
})

t.test('R49 an upstream that could take it for anybody’s call is not told', async t => {
  const server = await startLegacyServer(t)
  server.isSessionful = false
  const gateway = await startBefore(t, server.endpoint, { DRUPAL_MCP_PATH: '/mcp' })
  const session = await gateway.initialize(gateway.token())
  await gateway.post(rpc('tools/list'), session)
  const { answer, gone } = await held(server, gateway, session)
  t.equal((await gateway.post(cancel(7), session)).status, 202)
  await gone
  t.strictSame([(await answer).status, (await answer).text], [202, ''])
  t.strictSame(cancelsSeen(server), [])
})

t.test('R49 an upstream that locks is not told: the news would wait for the call', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token())
  await gateway.post(rpc('tools/list'), session)
  let isLocked = true
  server.onRequest = ({ id }, response) => {
    if (!isLocked) json(response, { jsonrpc: '2.0', id, result: {} })
    else response.writeHead(503, { 'retry-after': '1' }).end('MCP session lock timeout')
    isLocked = false
  }
  t.equal((await gateway.post(call(), session)).status, 200, 'the lock was met')
  const holding = hold(server)
  const [first, second] = [7, 8].map(id => gateway.post(call(id), session))
  const [[{ id }, response]] = (await holding) as [[Message, ServerResponse]]
  const waiting = id === 7 ? 8 : 7
  await gateway.post(cancel(waiting), session)
  const answers = { 7: first, 8: second } as Record<number, typeof first>
  t.equal((await answers[waiting])?.status, 202, 'who waits for the lock can be cancelled too')
  const gone = closed(response)
  await gateway.post(cancel(id), session)
  await gone
  t.equal((await answers[id as number])?.status, 202)
  t.strictSame(cancelsSeen(server), [])
})

t.test('R49 a call ends at once, also where its upstream takes the news after it only', async t => {
  const locked = (response: ServerResponse) =>
    void response.writeHead(503, { 'retry-after': '1' }).end('MCP session lock timeout')
  const rows: [string, Record<string, string>, (response: ServerResponse) => void][] = [
    ['a lock that nobody has met yet', {}, locked],
    ['a lock that is waited for', {}, () => {}],
    ['no place for more than the call', { DRUPAL_MAX_CONCURRENCY: '1' }, locked]
  ]
  for (const [name, env, hear] of rows) {
    const server = await startLegacyServer(t)
    const { answer: usual } = server
    server.answer = (seen, response, ...rest) => {
      if (seen.body.includes('notifications/cancelled')) hear(response)
      else usual(seen, response, ...rest)
    }
    const gateway = await startBefore(t, server.endpoint, env)
    const session = await gateway.initialize(gateway.token())
    await gateway.post(rpc('tools/list'), session)
    const { answer, gone } = await held(server, gateway, session)
    const stop = new AbortController()
    const cancelling = gateway.open(cancel(7), session, stop.signal)
    await gone
    t.strictSame([(await answer).status, (await answer).text], [202, ''], name)
    if (hear === locked) t.equal((await cancelling).status, 202, `${name}: is not waited for`)
    stop.abort()
    await cancelling.catch(() => {})
  }
})

t.test('R49 R84 what Drupal says of the token counts on a cancellation, too', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token())
  await gateway.post(rpc('tools/list'), session)
  const { answer, gone } = await held(server, gateway, session)
  server.answer = (_seen, response) => void response.writeHead(401).end()
  const refused = await gateway.post(cancel(7), session)
  t.equal(refused.status, 401)
  t.match(refused.headers.get('www-authenticate'), /error="invalid_token"/)
  await gone
  t.equal((await answer).status, 202, 'the call has ended all the same')
})

t.test('R19 R49 an id beyond a double’s precision is not cancelled by its neighbour', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token())
  await gateway.post(rpc('tools/list'), session)
  const holding = hold(server)
  const text = JSON.stringify(call('ID')).replace('"ID"', '9007199254740992')
  const answer = gateway.post(text, session)
  const [held] = await holding
  const neighbour = JSON.stringify(cancel('ID')).replace('"ID"', '9007199254740993')
  t.equal((await gateway.post(neighbour, session)).status, 202)
  json(held![1], '{"jsonrpc":"2.0","id":9007199254740992,"result":{}}')
  t.equal((await answer).text, '{"jsonrpc":"2.0","id":9007199254740992,"result":{}}')
})

t.test(
  'R49 a cancelled call on a stream ends without an answer and gives its place back',
  async t => {
    const server = await startLegacyServer(t)
    const gateway = await startBefore(t, server.endpoint, { DRUPAL_MAX_CONCURRENCY: '2' })
    const session = await gateway.initialize(gateway.token())
    await gateway.post(rpc('tools/list'), session)
    for (const id of [1, 2, 3, 4]) {
      const holding = hold(server)
      const opening = gateway.open(call(id), session)
      const [[, response]] = (await holding) as [[Message, ServerResponse]]
      events(response)({ jsonrpc: '2.0', method: 'notifications/progress', params: {} })
      const stream = await opening
      const gone = closed(response)
      await gateway.post(cancel(id), session)
      await gone
      const messages = []
      for await (const message of messagesOf(stream)) messages.push(message)
      t.match(messages, [{ method: 'notifications/progress' }])
      t.equal(messages.length, 1)
    }
  }
)

t.test('R49 a client that was cut off and came back can still cancel', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token())
  await gateway.post(rpc('tools/list'), session)
  for (const isStream of [false, true]) {
    const holding = hold(server)
    const stop = new AbortController()
    const opening = gateway.open(call(7), session, stop.signal)
    const [[, response]] = (await holding) as [[Message, ServerResponse]]
    if (isStream) {
      events(response)({ jsonrpc: '2.0', method: 'notifications/progress', params: {} })
      await opening
    }
    stop.abort()
    if (!isStream) await t.rejects(opening)
    await sleep(30)
    t.notOk(response.destroyed, 'R45 being cut off is no cancellation')
    const gone = closed(response)
    t.equal((await gateway.post(cancel(7), session)).status, 202)
    await gone
  }
})

t.test('R52 an upstream whose answer nobody waits for any more is told', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint, {
    DRUPAL_CONNECT_TIMEOUT: '0.3',
    DRUPAL_HEADERS_TIMEOUT: '0.3',
    DRUPAL_CALL_TIMEOUT: '0.3'
  })
  const session = await gateway.initialize(gateway.token())
  server.onRequest = () => {}
  const told = async (id: unknown) => {
    while (!cancelsSeen(server).some(({ params }) => params.requestId === id)) await sleep(10)
  }
  t.equal((await gateway.post(rpc('prompts/list', {}, 'l'), session)).status, 504)
  await told('l')
  const { body, headers } = modern('prompts/list')
  const authorization = gateway.authorization()
  t.equal((await gateway.post(body, { authorization, ...headers })).status, 504)
  await told(server.messages.findLast(({ method }) => method === 'prompts/list')?.id)
  server.answer = (_seen, response) => response.destroy()
  t.equal((await gateway.post(rpc('prompts/list'), session)).status, 502, 'a lost upstream is not')
})

t.test('R45 R52 a call without its client is finished, but does not last for ever', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint, { STREAM_MAX: '1', STREAM_HEARTBEAT: '1' })
  const session = await gateway.initialize(gateway.token())
  await gateway.post(rpc('tools/list'), session)
  const holding = hold(server)
  const stop = new AbortController()
  const opening = gateway.open(call(), session, stop.signal)
  const [[, response]] = (await holding) as [[Message, ServerResponse]]
  events(response)({ jsonrpc: '2.0', method: 'notifications/progress', params: {} })
  await opening
  const gone = closed(response)
  stop.abort()
  await sleep(300)
  t.notOk(response.destroyed)
  await gone
})

t.test('a stream that is over leaves nothing behind', { timeout: 20_000 }, async t => {
  const timers = () => process.getActiveResourcesInfo().filter(kind => kind === 'Timeout').length
  const server = await startLegacyServer(t)
  const { answer } = server
  const news = { jsonrpc: '2.0', method: 'notifications/progress', params: {} }
  server.answer = (seen, response, request) => {
    if (seen.method === 'GET') events(response)(news)
    else if (/"(tools\/list|initialize)"/.test(seen.body)) {
      const { id, method } = JSON.parse(seen.body) as Message
      response.setHeader('mcp-session-id', 'one')
      const result = method === 'initialize' ? server.initializeResult : { tools: server.tools }
      events(response)({ jsonrpc: '2.0', id, result })
    } else answer(seen, response, request)
  }
  server.sessions.add('one')
  const before = timers()
  const gateway = await startBefore(t, server.endpoint)
  const session = await gateway.initialize(gateway.token())
  const authorization = gateway.authorization()
  const inModern = modern('tools/call', { name: 'echo', _meta: { progressToken: 1 } })
  const idle = timers()
  const settled = async (name: string) => {
    while (timers() > idle) await sleep(5)
    t.pass(name)
  }
  server.onRequest = ({ id, params }, response) => {
    const send = events(response)
    send({ ...news, params: params._meta ?? {} })
    send({ jsonrpc: '2.0', id, result: { content: [] } })
    response.end()
  }
  // One after the other, on very few connections.
  for (let n = 0; n < 30; n++) await (await gateway.open(call(), session)).text()
  await settled('an answer')
  await (await gateway.open(inModern.body, { authorization, ...inModern.headers })).text()
  await settled('one of the other era')
  for (const body of [call(), inModern.body]) {
    const holding = hold(server)
    const stop = new AbortController()
    const headers = body === inModern.body ? { authorization, ...inModern.headers } : session
    const opening = gateway.open(body, headers, stop.signal)
    const [[{ params }, response]] = (await holding) as [[Message, ServerResponse]]
    events(response)({ ...news, params: params._meta ?? {} })
    await opening
    stop.abort()
    await settled('one whose client has gone')
    response.end()
  }
  for (let n = 0; n < 2; n++) {
    const stop = new AbortController()
    await gateway.listen(session, stop.signal)
    stop.abort()
    await settled('news')
  }
  await gateway.gateway.stop()
  t.ok(timers() <= before, 'and the gateway knows none of them any more when it stops')
})

t.test('R51 to a legacy upstream the gateway is a client that answers pings', async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const answers: unknown[] = []
  const both = new Promise<void>(resolve => {
    const { answer } = server
    server.answer = (seen, response, request) => {
      const message = seen.body === '' ? {} : (JSON.parse(seen.body) as Message)
      if (message.method !== undefined) answer(seen, response, request)
      else {
        answers.push(message)
        response.writeHead(202).end()
        if (answers.length === 2) resolve()
      }
    }
  })
  server.onRequest = ({ id }, response) => {
    const send = events(response)
    send(rpc('ping', undefined, 'p'))
    send(rpc('sampling/createMessage', {}, 12))
    void both.then(() => {
      send({ jsonrpc: '2.0', id, result: {} })
      response.end()
    })
  }
  const { body, headers } = modern('tools/call', { name: 'echo' })
  const { status } = await gateway.post(body, {
    authorization: gateway.authorization(),
    ...headers
  })
  t.equal(status, 200)
  const to = (id: unknown) => answers.find(answer => (answer as Message).id === id)
  t.match(to('p'), { result: {} })
  t.match(to(12), { error: { code: -32601 } })
})

t.test('R51 R52 streams that nobody reads are closed', { timeout: 10_000 }, async t => {
  const server = await startLegacyServer(t)
  const gateway = await startBefore(t, server.endpoint)
  const { answer } = server
  const unread: ServerResponse[] = []
  const closedAgain = (wanted: RegExp) =>
    new Promise<void>(resolve => {
      const before = server.answer
      server.answer = (seen, response, request) => {
        if (!wanted.test(seen.body)) return before(seen, response, request)
        unread.push(response)
        response.once('close', resolve)
        events(response)
      }
    })
  const pong = closedAgain(/"id":"p"/)
  const cancellation = closedAgain(/"notifications\/cancelled"/)
  server.onRequest = (_message, response) => events(response)(rpc('ping', undefined, 'p'))
  const { body, headers } = modern('tools/call', { name: 'echo' })
  const stop = new AbortController()
  const authorization = gateway.authorization()
  const opening = gateway.open(body, { authorization, ...headers }, stop.signal)
  await pong
  stop.abort()
  await t.rejects(opening)
  await cancellation
  t.equal(unread.length, 2)
  server.answer = answer
})

t.test(
  'R49 legacy on modern: a cancelled stream has no answer, whenever it is cancelled',
  async t => {
    const held: ((text?: string) => void)[] = []
    const server = createServer((incoming, outgoing) => {
      let body = ''
      incoming.on('data', chunk => (body += String(chunk)))
      incoming.on('end', () => {
        const { id, method } = JSON.parse(body) as Message
        if (method === 'server/discover') {
          const result = { supportedVersions: ['2026-07-28'], capabilities: { tools: {} } }
          json(outgoing, { jsonrpc: '2.0', id, result })
        } else if (method === 'initialize') {
          json(outgoing, { jsonrpc: '2.0', id, error: { code: -32601, message: 'no' } }, 404)
        } else if (method === 'tools/list')
          json(outgoing, { jsonrpc: '2.0', id, result: { tools: [] } })
        else {
          const send = events(outgoing)
          held.push(() => send({ jsonrpc: '2.0', method: 'notifications/progress', params: {} }))
        }
      })
    })
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    t.teardown(() => {
      server.closeAllConnections()
      server.close()
    })
    const { port } = server.address() as AddressInfo
    const gateway = await startBefore(t, `http://127.0.0.1:${port}/mcp`)
    const session = await gateway.initialize(gateway.token())
    const begin = async (id: unknown) => {
      const count = held.length
      const opening = gateway.open(call(id), session)
      while (held.length === count) await sleep(5)
      await sleep(20)
      return { opening, progress: held.at(-1) as () => void }
    }
    const silent = await begin(1)
    await gateway.post(cancel(1), session)
    const answer = await silent.opening
    t.strictSame([answer.status, await answer.text()], [202, ''], 'before its first event')
    const speaking = await begin(2)
    speaking.progress()
    const stream = await speaking.opening
    await gateway.post(cancel(2), session)
    const text = await stream.text()
    t.match(text, /notifications\/progress/)
    t.notMatch(text, /"id":2/, 'after it')
    t.notOk(gateway.logged.some(line => line.includes('uncaught')))
  }
)
