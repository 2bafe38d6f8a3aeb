// Which tools of the published suite answer at once? Text, pictures, sound, embedded resources, an error, and two schemas
// that a relay could damage. Knows nothing of streams, sessions or questions to the client.
import { fromJsonSchema, type McpServer } from '@modelcontextprotocol/server'

/** A red pixel, the smallest PNG that decodes. */
export const redPixel =
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=='

/** A WAV header with no samples: valid, and silent. */
const silence = 'UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA='

const text = (value: string) => ({ type: 'text' as const, text: value })
const image = { type: 'image' as const, data: redPixel, mimeType: 'image/png' }

/** JSON Schema 2020-12 words which a relay that re-serialises by a fixed list of keywords would lose (SEP-1613, SEP-2106). */
const contactSchema = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  type: 'object',
  $defs: {
    address: {
      $anchor: 'addressDef',
      type: 'object',
      properties: { street: { type: 'string' }, city: { type: 'string' } }
    }
  },
  properties: {
    name: { type: 'string' },
    address: { $ref: '#/$defs/address' },
    contactMethod: { type: 'string', enum: ['phone', 'email'] },
    phone: { type: 'string' },
    email: { type: 'string' }
  },
  allOf: [{ anyOf: [{ required: ['phone'] }, { required: ['email'] }] }],
  if: { properties: { contactMethod: { const: 'phone' } }, required: ['contactMethod'] },
  // oxlint-disable-next-line unicorn/no-thenable -- a JSON Schema keyword
  then: { required: ['phone'] },
  else: { required: ['email'] },
  additionalProperties: false
}

/** A parameter to be repeated in `Mcp-Param-Region`; a variable, because the SDK's schema type knows no extension keywords. */
const mirrored = { type: 'string', 'x-mcp-header': 'Region' } as const

/** Registers the tools that only return content. */
export function registerContentTools(server: McpServer): void {
  server.registerTool('test_simple_text', { description: 'Returns one line of text' }, () => ({
    content: [text('This is a simple text response for testing.')]
  }))
  server.registerTool('test_image_content', { description: 'Returns a picture' }, () => ({
    content: [image]
  }))
  server.registerTool('test_audio_content', { description: 'Returns a sound' }, () => ({
    content: [{ type: 'audio', data: silence, mimeType: 'audio/wav' }]
  }))
  server.registerTool('test_embedded_resource', { description: 'Returns a resource' }, () => ({
    content: [
      {
        type: 'resource',
        resource: {
          uri: 'test://embedded-resource',
          mimeType: 'text/plain',
          text: 'This is an embedded resource content.'
        }
      }
    ]
  }))
  server.registerTool(
    'test_multiple_content_types',
    { description: 'Returns text, a picture and a resource' },
    () => ({
      content: [
        text('Multiple content types test:'),
        image,
        {
          type: 'resource',
          resource: {
            uri: 'test://mixed-content-resource',
            mimeType: 'application/json',
            text: JSON.stringify({ test: 'data', value: 123 })
          }
        }
      ]
    })
  )
  server.registerTool('test_error_handling', { description: 'Always fails' }, () => ({
    isError: true,
    content: [text('This tool intentionally returns an error for testing')]
  }))
  server.registerTool(
    'json_schema_2020_12_tool',
    {
      description: 'Has an input schema with rare JSON Schema 2020-12 keywords',
      inputSchema: fromJsonSchema(contactSchema)
    },
    () => ({ content: [text('ok')] })
  )
  server.registerTool(
    'test_header_parameter',
    {
      description: 'Mirrors a parameter in a request header (SEP-2243)',
      inputSchema: fromJsonSchema<{ region: string }>({
        type: 'object',
        properties: { region: mirrored },
        required: ['region']
      })
    },
    ({ region }) => ({ content: [text(`region: ${region}`)] })
  )
}
