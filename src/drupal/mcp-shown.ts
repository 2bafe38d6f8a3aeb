// What may this caller see of the upstream's answers? The requests that wait, of a list of tools only those that the policy shows,
// and of what the upstream says of itself only what holds here. It refuses to know how an answer comes.
import type { FastifyRequest } from 'fastify'
import type { Principal } from '../auth/principal.ts'
import type { Config } from '../config/schema.ts'
import { isObject, type Params, parseJson, type RpcRequest } from '../mcp/call.ts'
import { elementTexts, memberText, setMembers } from '../mcp/json-members.ts'
import { isSupportedLegacy, isSupportedModern } from '../mcp/version.ts'
import { isListed } from '../policy/authorize.ts'
import { readAuthAnnotation, type ToolPolicy } from '../policy/tools.ts'
import type { Expected } from './mcp-answer.ts'
import { withoutInside } from './tool-failure.ts'

/** What the answer to this request must be; `requests`: other ones than the client's own. */
export type ExpectedOf = (request: FastifyRequest, requests?: readonly RpcRequest[]) => Expected

/** Gives what tells, under this policy, what the answer to a request must be and what of it is shown. */
export function createExpectedOf(config: Config, toolPolicy: ToolPolicy): ExpectedOf {
  const hides = config.policy.missingScope === 'hide'
  const hasStrangers = config.oauth.anonymous !== 'off'
  const editFor = (principal: Principal | undefined) => (request: RpcRequest) => {
    if (hides && request.method === 'tools/list') {
      return (answer: string) => withoutHidden(answer, principal, toolPolicy)
    }
    if (request.method !== 'server/discover') return undefined
    return (answer: string) => {
      const served = withServedVersions(answer)
      if (!hasStrangers) return served
      return asOwn(principal === undefined ? withoutNews(served) : served)
    }
  }
  const isEdited = ({ method }: RpcRequest) =>
    method === 'server/discover' || (hides && method === 'tools/list')
  return ({ call, principal }, others) => {
    const requests = others ?? call.messages.filter(message => message.kind === 'request')
    return {
      requests,
      batch: others === undefined && call.batch,
      scopes: principal?.scopes,
      edit: requests.some(isEdited) ? editFor(principal) : undefined
    }
  }
}

/** R62: what is refused here is not offered, however new the upstream is. */
function withServedVersions(answer: string): string {
  const result = memberText(answer, 'result') as string
  const { supportedVersions } = (JSON.parse(result) as Params | null) ?? {}
  const isServed = (version: unknown) => isSupportedModern(version) || isSupportedLegacy(version)
  if (!Array.isArray(supportedVersions) || supportedVersions.every(isServed)) return answer
  const served = JSON.stringify(supportedVersions.filter(isServed))
  return setMembers(answer, { result: setMembers(result, { supportedVersions: served }) })
}

/** Who is not signed in may not listen: clients that are promised news ask for them at once, and would be sent to sign in (R62). */
function withoutNews(answer: string): string {
  const result = memberText(answer, 'result') as string
  const { capabilities } = (JSON.parse(result) as Params | null) ?? {}
  if (!isObject(capabilities)) return answer
  const isNews = (name: string) => name === 'listChanged' || name === 'subscribe'
  return setMembers(answer, {
    result: setMembers(result, {
      capabilities: JSON.stringify(capabilities, (name, value: unknown) =>
        isNews(name) ? undefined : value
      )
    })
  })
}

/** R65: where others are answered otherwise, no answer is for everybody, whatever the upstream said of it. */
function asOwn(answer: string): string {
  const result = memberText(answer, 'result') as string
  const { cacheScope } = (JSON.parse(result) as Params | null) ?? {}
  if (cacheScope === undefined || cacheScope === 'private') return answer
  return setMembers(answer, { result: setMembers(result, { cacheScope: '"private"' }) })
}

/** A message as this caller may see it; the same text where nothing of it is hidden. */
export type Edit = (message: string) => string

/** A member of this name may be there. */
const errorName = /"error"\s*:/

/**
 * For streams on which nobody waits for an answer, although one may come: what was answered elsewhere, again (R43), or the refusal
 * to listen. Undefined for news alone, which pass as they come unless the policy hides tools.
 */
export function createReplayEdit(
  config: Config,
  toolPolicy: ToolPolicy
): (request: FastifyRequest) => Edit | undefined {
  const hides = config.policy.missingScope === 'hide'
  return ({ method, headers, principal }) => {
    if (!hides && method === 'GET' && headers['last-event-id'] === undefined) return undefined
    function editOne(text: string): string {
      const message = parseJson(text)
      if (!isObject(message)) return text
      const { result, error } = message
      if (isObject(error)) return withoutInside(text)
      const isList = hides && isObject(result) && 'tools' in result
      return isList ? withoutHidden(text, principal, toolPolicy) : text
    }
    return text => {
      // Of large answers, which are no errors mostly, reading costs more than relaying.
      if (!hides && !errorName.test(text)) return text
      if (!Array.isArray(parseJson(text))) return editOne(text)
      const texts = elementTexts(text)
      const shown = texts.map(editOne)
      return shown.every((each, index) => each === texts[index]) ? text : `[${shown.join(',')}]`
    }
  }
}

/** The answer to tools/list without the tools whose scope the caller lacks, and for the caller alone; the same text where it is both. */
function withoutHidden(
  answer: string,
  principal: Principal | undefined,
  toolPolicy: ToolPolicy
): string {
  const result = memberText(answer, 'result') as string
  const { tools, cacheScope } = (JSON.parse(result) as Params | null) ?? {}
  if (!Array.isArray(tools)) return answer
  const isShown = (tool: Params | null) => {
    const rule = toolPolicy.rule(String(tool?.['name']), readAuthAnnotation(tool?.['annotations']))
    return isListed(rule, principal, 'hide')
  }
  // As they were written: one that is nested without end could not be written anew.
  const texts = elementTexts(memberText(result, 'tools') as string)
  const shown = texts.filter((_text, index) => isShown(tools[index] as Params | null))
  const isWhole = shown.length === tools.length
  // R64, R65: also where nothing of it is hidden, for on another page, and from another caller, something is.
  const isShared = cacheScope !== undefined && cacheScope !== 'private'
  if (isWhole && !isShared) return answer
  return setMembers(answer, {
    result: setMembers(result, {
      ...(!isWhole && { tools: `[${shown.join(',')}]` }),
      ...(isShared && { cacheScope: '"private"' })
    })
  })
}
