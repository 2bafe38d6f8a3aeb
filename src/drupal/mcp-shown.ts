// What may this caller see of the upstream's answers? The requests that wait, of a list of tools only those that the policy shows,
// and of what the upstream says of itself only what holds here. It refuses to know how an answer comes.
import type { FastifyRequest } from 'fastify'
import type { Principal } from '../auth/principal.ts'
import type { Config } from '../config/schema.ts'
import { toKnownError } from '../mcp/bridge.ts'
import { isObject, type Params, parseJson, type RpcRequest } from '../mcp/call.ts'
import { type Change, elementTexts, keepMembers, setMembers } from '../mcp/json-members.ts'
import { maySay } from '../mcp/news.ts'
import { isSupportedLegacy, isSupportedModern } from '../mcp/version.ts'
import { isListed } from '../policy/authorize.ts'
import { readAuthAnnotation, type ToolPolicy } from '../policy/tools.ts'
import { type EditAnswer, type Expected, isNews } from './mcp-answer.ts'
import { withoutInside } from './tool-failure.ts'

/** What the answer to this request must be; `requests`: other ones than the client's own. */
export type ExpectedOf = (request: FastifyRequest, requests?: readonly RpcRequest[]) => Expected

/** Gives what tells, under this policy, what the answer to a request must be and what of it is shown. */
export function createExpectedOf(config: Config, toolPolicy: ToolPolicy): ExpectedOf {
  const hides = config.policy.missingScope === 'hide'
  const hasStrangers = config.oauth.anonymous !== 'off'
  const editFor =
    (principal: Principal | undefined) =>
    (request: RpcRequest): EditAnswer | undefined => {
      if (hides && request.method === 'tools/list') {
        return (answer, result) => withoutHidden(answer, result, principal, toolPolicy)
      }
      if (request.method !== 'server/discover') return undefined
      return (answer, result) => {
        const served = withServedVersions(answer, result)
        if (!hasStrangers) return served
        return asOwn(principal === undefined ? withoutNews(served, result) : served, result)
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

/** The answer with these members of its result. */
const withResult = (answer: string, members: Readonly<Record<string, Change>>) =>
  setMembers(answer, { result: result => setMembers(result as string, members) })

/** What is expected, and `learn` is told what the answer says, before anything of it is hidden. */
export function learned(expected: Expected, learn: (result: Params) => void): Expected {
  const { edit } = expected
  return {
    ...expected,
    edit: request => (answer, result) => {
      if (isObject(result)) learn(result)
      return edit?.(request)?.(answer, result) ?? answer
    }
  }
}

/** R62: what is refused here is not offered, however new the upstream is. */
function withServedVersions(answer: string, result: unknown): string {
  const { supportedVersions } = (result as Params | null) ?? {}
  const isServed = (version: unknown) => isSupportedModern(version) || isSupportedLegacy(version)
  if (!Array.isArray(supportedVersions) || supportedVersions.every(isServed)) return answer
  const served = JSON.stringify(supportedVersions.filter(isServed))
  return withResult(answer, { supportedVersions: served })
}

/** Who is not signed in may not listen: clients that are promised news ask for them at once, and would be sent to sign in (R62). */
function withoutNews(answer: string, result: unknown): string {
  const { capabilities } = (result as Params | null) ?? {}
  if (!isObject(capabilities)) return answer
  const isOfNews = (name: string) => name === 'listChanged' || name === 'subscribe'
  return withResult(answer, {
    capabilities: JSON.stringify(capabilities, (name, value: unknown) =>
      isOfNews(name) ? undefined : value
    )
  })
}

/** R65: where others are answered otherwise, no answer is for everybody, whatever the upstream said of it. */
function asOwn(answer: string, result: unknown): string {
  const { cacheScope } = (result as Params | null) ?? {}
  if (cacheScope === undefined || cacheScope === 'private') return answer
  return withResult(answer, { cacheScope: '"private"' })
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
  return ({ principal, call: { era, messages } }) => {
    const isModern = era === 'modern'
    const told = (error: string) => {
      const cleaned = withoutInside(error)
      return isModern ? toKnownError(cleaned).body : cleaned
    }
    function editOne(text: string, message: unknown): string | undefined {
      if (!isObject(message) || message['jsonrpc'] !== '2.0') return undefined
      const { method, result, error } = message
      if (isModern && method !== undefined) {
        return maySay(message, messages[0] as RpcRequest) ? text : undefined
      }
      if (isObject(error)) return Number.isInteger(error['code']) ? told(text) : undefined
      const isList = hides && isObject(result) && 'tools' in result
      return isList ? withoutHidden(text, result, principal, toolPolicy) : text
    }
    return text => {
      if (!isModern && isNews(text)) return text
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

/** The answer to tools/list without the tools whose scope the caller lacks, and private; the same text where nothing changes. */
function withoutHidden(
  answer: string,
  result: unknown,
  principal: Principal | undefined,
  toolPolicy: ToolPolicy
): string {
  const { tools, cacheScope } = (result as Params | null) ?? {}
  if (typeof tools !== 'object' || tools === null) return answer
  const listed = tools as Readonly<Record<string, Params | null>>
  const isShown = (at: string | number) => {
    const { name, annotations } = listed[at] ?? {}
    return (
      typeof name === 'string' &&
      isListed(toolPolicy.rule(name, readAuthAnnotation(annotations)), principal, 'hide')
    )
  }
  const isWhole = Object.keys(listed).every(isShown)
  // R64, R65: also where nothing of it is hidden, for on another page, and from another caller, something is.
  const isShared = cacheScope !== undefined && cacheScope !== 'private'
  if (isWhole && !isShared) return answer
  // As they were written: nested too deep, one could not be written anew.
  const shown = (text = '[]') =>
    // PHP writes a list with gaps as an object.
    Array.isArray(tools)
      ? `[${elementTexts(text)
          .filter((_text, index) => isShown(index))
          .join(',')}]`
      : keepMembers(text, isShown)
  return withResult(answer, {
    ...(!isWhole && { tools: shown }),
    ...(isShared && { cacheScope: '"private"' })
  })
}
