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
import { type Expected, isNews } from './mcp-answer.ts'
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

/** What came as an event's data as this caller may see it: the same text where nothing of it is hidden, undefined for what is no message. */
export type Edit = (text: string) => string | undefined

/**
 * For streams on which nobody waits for an answer, although one may come: what was answered elsewhere, again (R43), or the refusal
 * to listen.
 */
export function createReplayEdit(
  config: Config,
  toolPolicy: ToolPolicy
): (request: FastifyRequest) => Edit {
  const hides = config.policy.missingScope === 'hide'
  return ({ principal }) => {
    function editOne(text: string, message: unknown): string | undefined {
      if (!isObject(message) || message['jsonrpc'] !== '2.0') return undefined
      const { result, error } = message
      if (isObject(error)) return Number.isInteger(error['code']) ? withoutInside(text) : undefined
      const isList = hides && isObject(result) && 'tools' in result
      return isList ? withoutHidden(text, principal, toolPolicy) : text
    }
    return text => {
      if (isNews(text)) return text
      const value = parseJson(text)
      if (!Array.isArray(value)) return editOne(text, value)
      const texts = elementTexts(text)
      const shown = texts.map((each, index) => editOne(each, value[index]))
      if (shown.every((each, index) => each === texts[index])) return text
      const passing = shown.filter(each => each !== undefined)
      return passing.length === 0 ? undefined : `[${passing.join(',')}]`
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
