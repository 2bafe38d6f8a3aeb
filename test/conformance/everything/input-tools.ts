// Which fixtures answer with a question (SEP-2322, multi-round-trip)? Each returns `input_required` until it has been told
// enough. The state a client carries back is signed: whoever changes a bit of it is refused.
import { randomBytes } from 'node:crypto'
import {
  acceptedContent,
  CLIENT_CAPABILITIES_META_KEY,
  createRequestStateCodec,
  inputRequired,
  inputResponse,
  type ClientCapabilities,
  type McpServer,
  type ServerContext
} from '@modelcontextprotocol/server'

const codec = createRequestStateCodec<{ step: number; name?: string }>({ key: randomBytes(32) })

/** Verifies and opens the request state; goes into the server's options. */
export const verifyRequestState = codec.verify

const text = (value: string) => ({ content: [{ type: 'text' as const, text: value }] })

const askText = (message: string, field: string) =>
  inputRequired.elicit({
    message,
    requestedSchema: {
      type: 'object',
      properties: { [field]: { type: 'string' } },
      required: [field]
    }
  })

const askModel = (question: string, maxTokens = 100) =>
  inputRequired.createMessage({
    messages: [{ role: 'user', content: { type: 'text', text: question } }],
    maxTokens
  })

const confirm = inputRequired.elicit({
  message: 'Please confirm',
  requestedSchema: { type: 'object', properties: { ok: { type: 'boolean' } }, required: ['ok'] }
})

function answer(ctx: ServerContext, key: string, field: string): string | undefined {
  const value = acceptedContent(ctx.mcpReq.inputResponses, key)?.[field]
  return typeof value === 'string' ? value : undefined
}

function declared(server: McpServer, ctx: ServerContext): ClientCapabilities {
  const envelope: Record<string, unknown> = ctx.mcpReq.envelope ?? {}
  const capabilities = envelope[CLIENT_CAPABILITIES_META_KEY] as ClientCapabilities | undefined
  return capabilities ?? server.server.getClientCapabilities() ?? {}
}

/** Registers the tools and the prompt that need more than one round. */
export function registerInputTools(server: McpServer): void {
  const tool = (
    name: string,
    description: string,
    run: (ctx: ServerContext) => ReturnType<Parameters<typeof register>[2]>
  ) => register(`test_input_required_result_${name}`, description, run)
  const register = (
    name: string,
    description: string,
    run: (ctx: ServerContext) => Promise<ReturnType<typeof text> | ReturnType<typeof inputRequired>>
  ) => server.registerTool(name, { description }, run)

  tool('elicitation', 'Asks for a name', async ctx => {
    const name = answer(ctx, 'user_name', 'name')
    if (name !== undefined) return text(`Hello, ${name}!`)
    return inputRequired({ inputRequests: { user_name: askText('What is your name?', 'name') } })
  })
  tool('sampling', 'Asks the model', async ctx => {
    const reply = inputResponse(ctx.mcpReq.inputResponses, 'capital_question')
    if (reply.kind === 'sampling') return text(JSON.stringify(reply.result.content))
    return inputRequired({
      inputRequests: { capital_question: askModel('What is the capital of France?') }
    })
  })
  tool('list_roots', 'Asks for the roots', async ctx => {
    const reply = inputResponse(ctx.mcpReq.inputResponses, 'client_roots')
    if (reply.kind === 'roots') return text(reply.roots.map(root => root.uri).join(' '))
    return inputRequired({ inputRequests: { client_roots: inputRequired.listRoots() } })
  })
  for (const name of ['request_state', 'tampered_state']) {
    tool(name, 'Asks, and checks the state it gave out', async ctx => {
      const state = ctx.mcpReq.requestState<{ step: number }>()
      if (
        state?.step === 1 &&
        inputResponse(ctx.mcpReq.inputResponses, 'confirm').kind === 'elicit'
      )
        return text('state-ok')
      return inputRequired({
        inputRequests: { confirm },
        requestState: await codec.mint({ step: 1 }, ctx)
      })
    })
  }
  tool('multiple_inputs', 'Asks for three things at once', async ctx => {
    const name = answer(ctx, 'user_name', 'name')
    const greeting = inputResponse(ctx.mcpReq.inputResponses, 'greeting')
    const roots = inputResponse(ctx.mcpReq.inputResponses, 'client_roots')
    if (name !== undefined && greeting.kind === 'sampling' && roots.kind === 'roots')
      return text(
        `${name}: ${JSON.stringify(greeting.result.content)}, ${roots.roots.length} roots`
      )
    return inputRequired({
      inputRequests: {
        user_name: askText('What is your name?', 'name'),
        greeting: askModel('Generate a greeting', 50),
        client_roots: inputRequired.listRoots()
      },
      requestState: await codec.mint({ step: 1 }, ctx)
    })
  })
  tool('multi_round', 'Asks twice', async ctx => {
    const state = ctx.mcpReq.requestState<{ step: number; name?: string }>()
    const name = answer(ctx, 'step1', 'name')
    const color = answer(ctx, 'step2', 'color')
    if (state?.step === 2 && color !== undefined) return text(`${state.name} likes ${color}.`)
    if (state?.step === 1 && name !== undefined)
      return inputRequired({
        inputRequests: { step2: askText('Step 2: What is your favorite color?', 'color') },
        requestState: await codec.mint({ step: 2, name }, ctx)
      })
    return inputRequired({
      inputRequests: { step1: askText('Step 1: What is your name?', 'name') },
      requestState: await codec.mint({ step: 1 }, ctx)
    })
  })
  tool('capabilities', 'Asks only what the client can answer', async ctx => {
    const { sampling, elicitation } = declared(server, ctx)
    return inputRequired({
      inputRequests: {
        ...(sampling && { question: askModel('What is the capital of France?') }),
        ...(elicitation && { user_name: askText('What is your name?', 'name') })
      }
    })
  })
  // A thrown error would become an `isError` result; the SDK refuses the question itself with -32021.
  register('test_missing_capability', 'Needs a client that samples', async () =>
    inputRequired({ inputRequests: { question: askModel('Are you there?') } })
  )

  server.registerPrompt(
    'test_input_required_result_prompt',
    { description: 'Asks for its context' },
    ctx => {
      const context = answer(ctx, 'user_context', 'context')
      if (context === undefined)
        return inputRequired({
          inputRequests: { user_context: askText('What context should the prompt use?', 'context') }
        })
      return { messages: [{ role: 'user', content: { type: 'text', text: context } }] }
    }
  )
}
