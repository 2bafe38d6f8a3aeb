// Tools without end, to fill pages of a list.
import type { Tool } from './site.ts'

/** The tool with this number; it answers its number. */
export function generatedTool(number: number): Tool {
  return {
    name: `generated.tool${number}`,
    title: `Generated ${number}`,
    description: `Generated tool number ${number}; answers its number.`,
    permission: 'access content',
    params: {},
    output: { type: 'object', properties: { number: { type: 'integer' } } },
    annotations: {},
    run: () => ({ number })
  }
}
