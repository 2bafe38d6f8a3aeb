// Which tools of the published suite need a stream? Log lines, progress, server → client requests, a stream that closes
// in the middle, and changes of the lists. Refuses to know how streams are carried.
import { setTimeout as wait } from 'node:timers/promises'
import {
  fromJsonSchema,
  inputRequired,
  type ElicitRequestFormParams,
  type McpServer,
  type ServerContext
} from '@modelcontextprotocol/server'

/** What a fixture may tell the world outside its own request: that a list has changed. */
export interface Announce {
  toolsChanged(): void
  promptsChanged(): void
}

const text = (value: string) => ({ content: [{ type: 'text' as const, text: value }] })

/** The pause the suite asks for between two notifications, in milliseconds. */
const pauseMs = 50

const defaults: ElicitRequestFormParams['requestedSchema'] = {
  type: 'object',
  properties: {
    name: { type: 'string', default: 'John Doe' },
    age: { type: 'integer', default: 30 },
    score: { type: 'number', default: 95.5 },
    status: { type: 'string', enum: ['active', 'inactive', 'pending'], default: 'active' },
    verified: { type: 'boolean', default: true }
  },
  required: []
}

const titled = [
  { const: 'value1', title: 'First Option' },
  { const: 'value2', title: 'Second Option' },
  { const: 'value3', title: 'Third Option' }
]
const options = ['option1', 'option2', 'option3']

const enums: ElicitRequestFormParams['requestedSchema'] = {
  type: 'object',
  properties: {
    untitledSingle: { type: 'string', enum: options },
    titledSingle: { type: 'string', oneOf: titled },
    legacyEnum: {
      type: 'string',
      enum: ['opt1', 'opt2', 'opt3'],
      enumNames: ['Option One', 'Option Two', 'Option Three']
    },
    untitledMulti: { type: 'array', items: { type: 'string', enum: options } },
    titledMulti: { type: 'array', items: { anyOf: titled } }
  },
  required: []
}

// Without it the SDK asks on the GET stream, and the question is lost when the client has not opened that one yet.
const onThisStream = (ctx: ServerContext) => ({ relatedRequestId: ctx.mcpReq.id })

async function ask(
  ctx: ServerContext,
  message: string,
  requestedSchema: ElicitRequestFormParams['requestedSchema']
): Promise<string> {
  const { action, content } = await ctx.mcpReq.elicitInput(
    { message, requestedSchema },
    onThisStream(ctx)
  )
  return `action=${action}, content=${JSON.stringify(content ?? {})}`
}

/** Registers the tools that say something before, or instead of, their result. */
export function registerStreamTools(server: McpServer, announce: Announce): void {
  server.registerTool('test_tool_with_logging', { description: 'Logs three lines' }, async ctx => {
    await ctx.mcpReq.log('info', 'Tool execution started')
    await wait(pauseMs)
    await ctx.mcpReq.log('info', 'Tool processing data')
    await wait(pauseMs)
    await ctx.mcpReq.log('info', 'Tool execution completed')
    return text('Logged three lines.')
  })
  server.registerTool('test_logging_tool', { description: 'Logs one line' }, async ctx => {
    await ctx.mcpReq.log('info', 'A line for those who asked for log messages')
    return text('Logged one line.')
  })
  server.registerTool('test_tool_with_progress', { description: 'Reports progress' }, async ctx => {
    const progressToken = ctx.mcpReq._meta?.progressToken
    for (const progress of [0, 50, 100]) {
      if (progressToken !== undefined) {
        await ctx.mcpReq.notify({
          method: 'notifications/progress',
          params: { progressToken, progress, total: 100 }
        })
      }
      if (progress < 100) await wait(pauseMs)
    }
    return text('Progress reported.')
  })
  server.registerTool(
    'test_sampling',
    {
      description: 'Asks the client’s model',
      inputSchema: fromJsonSchema<{ prompt: string }>({
        type: 'object',
        properties: { prompt: { type: 'string' } },
        required: ['prompt']
      })
    },
    async ({ prompt }, ctx) => {
      const { content } = await ctx.mcpReq.requestSampling(
        {
          messages: [{ role: 'user', content: { type: 'text', text: prompt } }],
          maxTokens: 100
        },
        onThisStream(ctx)
      )
      return text(`LLM response: ${JSON.stringify(content)}`)
    }
  )
  server.registerTool(
    'test_elicitation',
    {
      description: 'Asks the user for a name and an address',
      inputSchema: fromJsonSchema<{ message: string }>({
        type: 'object',
        properties: { message: { type: 'string' } },
        required: ['message']
      })
    },
    async ({ message }, ctx) => {
      const answer = await ask(ctx, message, {
        type: 'object',
        properties: {
          username: { type: 'string', description: "User's response" },
          email: { type: 'string', description: "User's email address" }
        },
        required: ['username', 'email']
      })
      return text(`User response: ${answer}`)
    }
  )
  server.registerTool(
    'test_elicitation_sep1034_defaults',
    { description: 'Asks with a default for every primitive type' },
    async ctx => text(`Elicitation completed: ${await ask(ctx, 'Please review', defaults)}`)
  )
  server.registerTool(
    'test_elicitation_sep1330_enums',
    { description: 'Asks with every kind of enumeration' },
    async ctx => text(`Elicitation completed: ${await ask(ctx, 'Please choose', enums)}`)
  )
  server.registerTool(
    'test_reconnection',
    { description: 'Closes its own stream and answers on the resumed one (SEP-1699)' },
    async ctx => {
      ctx.http?.closeSSE?.()
      await wait(2 * pauseMs)
      return text('Answered after the reconnection.')
    }
  )
  server.registerTool(
    'test_streaming_elicitation',
    { description: 'Reports progress, then asks by its result' },
    () =>
      inputRequired({
        inputRequests: {
          go_on: inputRequired.elicit({
            message: 'Go on?',
            requestedSchema: { type: 'object', properties: { ok: { type: 'boolean' } } }
          })
        }
      })
  )
  server.registerTool(
    'test_trigger_tool_change',
    { description: 'Announces a change of the tool list' },
    () => {
      announce.toolsChanged()
      return text('Announced.')
    }
  )
  server.registerTool(
    'test_trigger_prompt_change',
    { description: 'Announces a change of the prompt list' },
    () => {
      announce.promptsChanged()
      return text('Announced.')
    }
  )
}
