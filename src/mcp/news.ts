// What a legacy upstream says beside its answer, as a modern client gets it: its own progress, and what it asked for. Text to text.
import { isObject, type Message, type Params, type RpcRequest } from './call.ts'
import { memberText, setMembers } from './json-members.ts'

function metaOf(params: Params | undefined): Params {
  const meta = params?.['_meta']
  return isObject(meta) ? meta : {}
}

/** The progress token of a modern request as it was written, beyond a double's precision too. `text`: its own. */
export function progressToken({ params }: RpcRequest, text: () => string): string | undefined {
  const token = metaOf(params)['progressToken']
  if (typeof token !== 'string' && typeof token !== 'number') return undefined
  const path = ['params', '_meta', 'progressToken']
  return path.reduce((object, name) => memberText(object, name) as string, text())
}

const logLevel = 'io.modelcontextprotocol/logLevel'

/**
 * R68: whether a modern upstream may say this on the stream of `request`, beside its answer: no questions, and log lines only where the
 * request asked for them.
 */
export function maySay(message: Params, request: RpcRequest): boolean {
  if ('id' in message) return false
  return message['method'] !== 'notifications/message' || logLevel in metaOf(request.params)
}

/** From the least to the most severe (RFC 5424). */
const levels = ['debug', 'info', 'notice', 'warning', 'error', 'critical', 'alert', 'emergency']
const severity = (level: unknown) => levels.indexOf(level as string)

export interface NewsOptions {
  /** The request on whose stream it is said. */
  request: RpcRequest
  /** The id under which the upstream was asked, and the progress token that it was given. */
  asked: string
  /** The client's own, as it was written. */
  progressToken: string | undefined
}

/**
 * What a legacy upstream says on the stream of a request, as a modern client gets it; undefined: not at all. No requests, log lines
 * only from the level on that the request asked for (R68), no news of lists, which have streams of their own (R71), and nobody
 * else's progress: some servers say all that is said in a session on whichever of its streams comes first (R50).
 */
export function toModernNews(
  news: Message,
  text: string,
  { request, asked: id, progressToken: own }: NewsOptions
): string | undefined {
  if (news.kind !== 'notification') return undefined
  if (news.method === 'notifications/message') {
    const asked = severity(metaOf(request.params)[logLevel])
    // The upstream has a level for the whole session, if any.
    return asked >= 0 && severity(news.params?.['level']) >= asked ? text : undefined
  }
  if (news.method !== 'notifications/progress' || own === undefined) return undefined
  if (news.params?.['progressToken'] !== id) return undefined
  return setMembers(text, {
    params: params => setMembers(params as string, { progressToken: own })
  })
}
