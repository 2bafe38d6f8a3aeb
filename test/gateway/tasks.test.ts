// Tasks of the 2025-11-25 revision (experimental) between the SDK's client and the SDK's server: the gateway is not seen.
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import {
  InMemoryTaskMessageQueue,
  InMemoryTaskStore
} from '@modelcontextprotocol/sdk/experimental/tasks/stores/in-memory.js'
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'
import { ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js'
import t, { type Test } from 'tap'
import { startBefore } from './fixtures/mcp.ts'

const pollInterval = 20
const text = (what: string) => ({ content: [{ type: 'text' as const, text: what }] })

/** A server whose tools are tasks: `ask` asks the user back, `wait` never ends. */
function buildServer(taskStore: InMemoryTaskStore): McpServer {
  const server = new McpServer(
    { name: 'tasks', version: '1' },
    {
      capabilities: { tasks: { list: {}, cancel: {}, requests: { tools: { call: {} } } } },
      taskStore,
      taskMessageQueue: new InMemoryTaskMessageQueue()
    }
  )
  async function askUser(taskId: string): Promise<void> {
    await taskStore.updateTaskStatus(taskId, 'input_required')
    const answers = server.server.experimental.tasks.elicitInputStream(
      {
        mode: 'form',
        message: 'Who?',
        requestedSchema: { type: 'object', properties: { who: { type: 'string' } } }
      },
      { relatedTask: { taskId } }
    )
    for await (const answer of answers) {
      if (answer.type !== 'result') continue
      const { who } = answer.result.content ?? {}
      await taskStore.storeTaskResult(taskId, 'completed', text(`Hello ${String(who)}`))
    }
  }
  for (const name of ['ask', 'wait']) {
    server.experimental.tasks.registerToolTask(
      name,
      { execution: { taskSupport: 'required' } },
      {
        async createTask({ taskStore: store, taskRequestedTtl = 60_000 }) {
          const task = await store.createTask({ ttl: taskRequestedTtl, pollInterval })
          if (name === 'ask') void askUser(task.taskId)
          return { task }
        },
        getTask: ({ taskId, taskStore: store }) => store.getTask(taskId),
        getTaskResult: async ({ taskId, taskStore: store }) => store.getTaskResult(taskId) as never
      }
    )
  }
  return server
}

async function startTaskServer(t: Test): Promise<string> {
  const taskStore = new InMemoryTaskStore()
  const sessions = new Map<string, StreamableHTTPServerTransport>()
  const http = createServer((request, response) => {
    void (async () => {
      const id = request.headers['mcp-session-id']
      let transport = sessions.get(String(id))
      if (transport === undefined) {
        const opened = new StreamableHTTPServerTransport({
          sessionIdGenerator: randomUUID,
          onsessioninitialized: session => void sessions.set(session, opened)
        })
        transport = opened
        await buildServer(taskStore).connect(transport as Transport)
      }
      await transport.handleRequest(request, response)
    })()
  })
  http.listen(0, '127.0.0.1')
  await once(http, 'listening')
  t.teardown(async () => {
    // What they still wait for holds timers.
    for (const transport of sessions.values()) await transport.close()
    http.close()
    taskStore.cleanup()
  })
  return `http://127.0.0.1:${(http.address() as AddressInfo).port}/mcp`
}

t.test('R53 tasks of an mcp upstream', async t => {
  const gateway = await startBefore(t, await startTaskServer(t))

  async function connect(uid: number): Promise<Client> {
    const client = new Client(
      { name: 'asker', version: '1' },
      { capabilities: { elicitation: { form: {} } } }
    )
    client.setRequestHandler(ElicitRequestSchema, () => ({
      action: 'accept',
      content: { who: 'Ann' }
    }))
    const authorization = gateway.authorization({ uid })
    const transport = new StreamableHTTPClientTransport(new URL(gateway.url), {
      requestInit: { headers: { authorization } }
    })
    await client.connect(transport as Transport)
    t.teardown(() => client.close())
    return client
  }

  const ann = await connect(2)
  const { tasks } = ann.experimental
  const { tools } = await ann.listTools()
  t.equal(tools[0]?.execution?.taskSupport, 'required', 'the list says which tools are tasks')

  const seen: string[] = []
  let taskId = ''
  for await (const told of tasks.callToolStream({ name: 'ask' }, undefined, { task: {} })) {
    if (told.type === 'taskCreated') ({ taskId } = told.task)
    if (told.type === 'taskStatus') seen.push(told.task.status)
    if (told.type === 'result') t.match(told.result, text('Hello Ann'), 'its user was asked back')
    t.not(told.type, 'error')
  }
  t.ok(seen.includes('input_required'), 'its status was told')
  t.match(await tasks.getTask(taskId), { taskId, status: 'completed' })
  t.match(await tasks.listTasks(), { tasks: [{ taskId }] })

  for await (const told of tasks.callToolStream({ name: 'wait' }, undefined, { task: {} })) {
    if (told.type !== 'taskCreated') continue
    t.match(await tasks.cancelTask(told.task.taskId), { status: 'cancelled' })
  }

  const ben = await connect(3)
  await t.rejects(ben.experimental.tasks.getTask(taskId), /not found/, 'nobody else’s')
  t.strictSame((await ben.experimental.tasks.listTasks()).tasks, [])
})
