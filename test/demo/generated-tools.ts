// Tools without end, to fill pages of a list.
import type { Tool } from '../../src/demo/site.ts'

/** So many tools; each answers its number, from 1 on. */
export function generatedTools(count: number): Tool[] {
  return Array.from({ length: count }, (_, index) => generatedTool(index + 1))
}

function generatedTool(number: number): Tool {
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
