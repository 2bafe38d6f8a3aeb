// What may this caller see of the upstream's answers? The requests that wait, and of a list of tools only those that the policy
// shows. It refuses to know how an answer comes.
import type { FastifyRequest } from 'fastify'
import type { Principal } from '../auth/principal.ts'
import type { Config } from '../config/schema.ts'
import type { Params, RpcRequest } from '../mcp/call.ts'
import { memberText, setMembers } from '../mcp/json-members.ts'
import { isListed } from '../policy/authorize.ts'
import { readAuthAnnotation, type ToolPolicy } from '../policy/tools.ts'
import type { Expected } from './mcp-answer.ts'

/** What the answer to this request must be; `requests`: other ones than the client's own. */
export type ExpectedOf = (request: FastifyRequest, requests?: readonly RpcRequest[]) => Expected

export function createExpectedOf(config: Config, toolPolicy: ToolPolicy): ExpectedOf {
  const hides = config.policy.missingScope === 'hide'
  return ({ call, principal }, requests) => ({
    requests: requests ?? call.messages.filter(message => message.kind === 'request'),
    batch: requests === undefined && call.batch,
    scopes: principal?.scopes,
    ...(hides && {
      edit: ({ method }: RpcRequest) =>
        method === 'tools/list'
          ? (answer: string) => withoutHidden(answer, principal, toolPolicy)
          : undefined
    })
  })
}

/** The answer to tools/list without the tools whose scope the caller lacks; the same text where none is hidden. */
function withoutHidden(
  answer: string,
  principal: Principal | undefined,
  toolPolicy: ToolPolicy
): string {
  const result = memberText(answer, 'result') as string
  const { tools, cacheScope } = (JSON.parse(result) as Params | null) ?? {}
  if (!Array.isArray(tools)) return answer
  const shown = tools.filter((tool: Params | null) => {
    const rule = toolPolicy.rule(String(tool?.['name']), readAuthAnnotation(tool?.['annotations']))
    return isListed(rule, principal, 'hide')
  })
  if (shown.length === tools.length) return answer
  return setMembers(answer, {
    result: setMembers(result, {
      tools: JSON.stringify(shown),
      // R65: such a list is this caller's own, whatever the upstream said of the whole one.
      ...(cacheScope !== undefined && { cacheScope: '"private"' })
    })
  })
}
