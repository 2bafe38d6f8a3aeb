// Which prompts and resources does the published suite read? Fixed ones, one template, completions, and a resource to
// subscribe to. Knows nothing of tools.
import {
  fromJsonSchema,
  ResourceTemplate,
  type McpServer,
  type ServerContext
} from '@modelcontextprotocol/server'
import { redPixel } from './content-tools.ts'

const user = 'user' as const

function registerPrompts(server: McpServer): void {
  server.registerPrompt('test_simple_prompt', { description: 'One message' }, () => ({
    messages: [
      { role: user, content: { type: 'text', text: 'This is a simple prompt for testing.' } }
    ]
  }))
  server.registerPrompt(
    'test_prompt_with_arguments',
    {
      description: 'One message made of two arguments',
      argsSchema: fromJsonSchema<{ arg1: string; arg2: string }>({
        type: 'object',
        properties: {
          arg1: { type: 'string', description: 'First test argument' },
          arg2: { type: 'string', description: 'Second test argument' }
        },
        required: ['arg1', 'arg2']
      })
    },
    ({ arg1, arg2 }) => ({
      messages: [
        {
          role: user,
          content: { type: 'text', text: `Prompt with arguments: arg1='${arg1}', arg2='${arg2}'` }
        }
      ]
    })
  )
  server.registerPrompt(
    'test_prompt_with_embedded_resource',
    {
      description: 'A message with a resource inside',
      argsSchema: fromJsonSchema<{ resourceUri: string }>({
        type: 'object',
        properties: {
          resourceUri: { type: 'string', description: 'URI of the resource to embed' }
        },
        required: ['resourceUri']
      })
    },
    ({ resourceUri }) => ({
      messages: [
        {
          role: user,
          content: {
            type: 'resource',
            resource: {
              uri: resourceUri,
              mimeType: 'text/plain',
              text: 'Embedded resource content for testing.'
            }
          }
        },
        {
          role: user,
          content: { type: 'text', text: 'Please process the embedded resource above.' }
        }
      ]
    })
  )
  server.registerPrompt(
    'test_prompt_with_image',
    { description: 'A message with a picture' },
    () => ({
      messages: [
        { role: user, content: { type: 'image', data: redPixel, mimeType: 'image/png' } },
        { role: user, content: { type: 'text', text: 'Please analyze the image above.' } }
      ]
    })
  )
}

function registerResources(server: McpServer): void {
  const fixed = (name: string, mimeType: string, description: string, body: object) => {
    const uri = `test://${name}`
    server.registerResource(name, uri, { description, mimeType }, () => ({
      contents: [{ uri, mimeType, ...(body as { text: string }) }]
    }))
  }
  fixed('static-text', 'text/plain', 'A text that never changes', {
    text: 'This is the content of the static text resource.'
  })
  fixed('static-binary', 'image/png', 'A picture that never changes', { blob: redPixel })
  fixed('watched-resource', 'text/plain', 'A text to subscribe to', { text: 'Watched.' })
  server.registerResource(
    'template',
    new ResourceTemplate('test://template/{id}/data', { list: undefined }),
    { description: 'Data of one id', mimeType: 'application/json' },
    (uri, { id }) => ({
      contents: [
        {
          uri: uri.href,
          mimeType: 'application/json',
          text: JSON.stringify({ id, templateTest: true, data: `Data for ID: ${String(id)}` })
        }
      ]
    })
  )
}

/** Registers prompts, resources, completions and the (legacy) subscription methods. */
export function registerPromptsAndResources(server: McpServer): void {
  registerPrompts(server)
  registerResources(server)
  server.server.registerCapabilities({ completions: {}, resources: { subscribe: true } })
  server.server.setRequestHandler('completion/complete', ({ params }) => {
    const values = ['paris', 'park', 'party'].filter(word => word.startsWith(params.argument.value))
    return { completion: { values, total: values.length, hasMore: false } }
  })
  const accept = (_request: unknown, _ctx: ServerContext) => ({})
  server.server.setRequestHandler('resources/subscribe', accept)
  server.server.setRequestHandler('resources/unsubscribe', accept)
}
