// Is this message of the upstream the answer to what was asked? The bytes as they came where they are, else what the client is told
// instead: never another's answer, never one without its id, never the name of a permission or an exception of the site's. It refuses
// to know how the message came.
import { isGatewayError } from '../errors.ts'
import { isObject, type Params, parseJson, type RpcRequest } from '../mcp/call.ts'
import { elementTexts, memberText, setMembers } from '../mcp/json-members.ts'
import { errorFor, resultFrames, rpcResult } from '../mcp/rpc-error.ts'
import { denied, said } from './answers.ts'
import type { Answer } from './exchange.ts'
import { unusable } from './mcp-ask.ts'
import { answerIn, isSameId } from './mcp-read.ts'
import { withoutInside } from './tool-failure.ts'

export interface Expected {
  /** What was asked and is not answered yet. */
  requests: readonly RpcRequest[]
  /** Whether it was asked in one array. */
  batch: boolean
  /** The scopes of the token; undefined: the caller is anonymous. */
  scopes: readonly string[] | undefined
  /** Changes an answer before its client sees it; undefined for requests whose answers stay as they are. */
  edit?: ((request: RpcRequest) => EditAnswer | undefined) | undefined
  /** An error of the upstream's as the client's era has it; undefined: as it is. */
  error?: ((answer: string) => string) | undefined
  /** Whether a message that is no answer may be said beside it; undefined: whatever it is. */
  maySay?: (message: Params) => boolean
}

/** The answer with a result as its client sees it; `result`: what it says, parsed. */
export type EditAnswer = (answer: string, result: unknown) => string

/** `text`: what the client gets where that is not what came. */
export type Found =
  | { kind: 'news'; message: Params }
  | { kind: 'answer'; request: RpcRequest; text?: string }
  | { kind: 'foreign'; reason: string }

const news = ['{"method":', '{"jsonrpc":"2.0","method":']

/** Whether a text is news, as servers write them, by its two ends: they are many, and short. */
export const isNews = (text: string) =>
  text.endsWith('}') && news.some(start => text.startsWith(start))

const foreign = (reason: string): Found => ({ kind: 'foreign', reason })

/**
 * What one message is to those who wait. Throws GW_UPSTREAM_FORBIDDEN (GW_TOKEN_MISSING to an anonymous caller) for an "Access
 * Denied" of jsonrpc's, which comes as HTTP 200 and mostly without the id (drupal-wire §12).
 */
export function findRequest(body: Buffer, expected: Expected): Found {
  const { requests, edit } = expected
  const [first] = requests
  if (requests.length === 1 && first !== undefined && edit?.(first) === undefined) {
    // Of large answers only the two ends are looked at: reading 100 KB costs more than relaying them.
    if (isUsual(body, first.idText)) return { kind: 'answer', request: first }
  }
  const text = body.toString()
  const value = parseJson(text)
  return value === undefined ? foreign('the answer is not JSON') : examine(value, text, expected)
}

/**
 * The answer to one request, or to all of a batch, as the client gets it. Throws GW_UPSTREAM_INVALID, and what `findRequest` does.
 * `answer`: whose body it is, if of an answer that nobody has looked at.
 */
export function checkWhole(body: Buffer, expected: Expected, answer?: Answer): Buffer | string {
  if (expected.batch) return checkBatch(body, expected, answer)
  const [request] = expected.requests
  const own = request === undefined ? body : answerIn(body, request.id)
  const found = findRequest(own, expected)
  if (found.kind === 'answer') return found.text ?? own
  throw unusable(found.kind === 'news' ? 'a message that is no answer' : found.reason, answer)
}

/** The answer that an HTTP status other than 2xx has given already: it belongs to whoever asked, whatever id it names. */
export function withId(
  body: Buffer,
  expected: Pick<Expected, 'requests' | 'error'>
): Buffer | string {
  const [request, ...others] = expected.requests
  const text = body.toString()
  const isOwn = request !== undefined && others.length === 0
  const shown = toldError(isOwn ? named(text, request) : text, expected)
  return shown === text ? body : shown
}

/** Each request of a batch is answered once: what is missing or lost its id is told, what nobody asked for is left out. */
function checkBatch(body: Buffer, expected: Expected, answer?: Answer): string {
  const whole = body.toString()
  const value = parseJson(whole)
  if (value === undefined) throw unusable('the answer is not JSON', answer)
  const elements = Array.isArray(value) ? elementTexts(whole) : [whole]
  const answers = new Map<RpcRequest, string>()
  let refused: ((request: RpcRequest) => string) | undefined
  for (const text of elements) {
    const requests = expected.requests.filter(request => !answers.has(request))
    const element = parseJson(text)
    const error = isObject(element) ? element['error'] : undefined
    try {
      const found = examine(element, text, { ...expected, requests })
      if (found.kind === 'answer') answers.set(found.request, found.text ?? text)
      else if (isObject(error) && hasNoId(element as Params)) {
        refused = request => withoutInside(named(text, request))
      }
    } catch (thrown) {
      if (!isGatewayError(thrown) || thrown.code !== 'GW_UPSTREAM_FORBIDDEN') throw thrown
      refused = request => errorFor(request, thrown)
    }
  }
  const missing = (request: RpcRequest) =>
    errorFor(request, unusable('no answer in the batch', answer))
  const texts = expected.requests.map(request => {
    // Never the upstream's, as where it comes alone: drupal/mcp 1.x does not know it (R51).
    if (request.method === 'ping') return rpcResult(request.idText, '{}')
    return answers.get(request) ?? (refused ?? missing)(request)
  })
  return `[${texts.join(',')}]`
}

function examine(value: unknown, text: string, expected: Expected): Found {
  const { requests, scopes, batch, edit } = expected
  if (!isObject(value) || value['jsonrpc'] !== '2.0') return foreign('JSON, but no JSON-RPC')
  const { id, method, result, error } = value
  if (typeof method === 'string' && result === undefined && error === undefined) {
    return { kind: 'news', message: value }
  }
  if ((result === undefined) === (error === undefined)) {
    return foreign('JSON-RPC with neither a result nor an error, or both')
  }
  if (error !== undefined && !(isObject(error) && Number.isInteger(error['code']))) {
    return foreign('an error that is none')
  }
  const isLost = hasNoId(value) && error !== undefined
  const found = isLost ? requests[0] : ownerOf(id, text, requests)
  if (found !== undefined && isDenial(error)) {
    throw denied({ scopes }, `Drupal: ${said((error as Params)['data'])}`.slice(0, 300))
  }
  // Of a batch nobody knows which one it refuses.
  const request = isLost && batch ? undefined : found
  if (request === undefined) return foreign('an answer for another id')
  const own = named(text, request)
  const shown =
    result === undefined ? toldError(own, expected) : (edit?.(request)?.(own, result) ?? own)
  return { kind: 'answer', request, ...(shown !== text && { text: shown }) }
}

function toldError(own: string, { error }: Pick<Expected, 'error'>): string {
  const cleaned = withoutInside(own)
  return error?.(cleaned) ?? cleaned
}

/** Whose answer a message with this id is. `1` and `"1"` are two ids, unless the server wrote the one for the other. */
export function ownerOf(
  id: unknown,
  text: string,
  requests: readonly RpcRequest[]
): RpcRequest | undefined {
  const written = memberText(text, 'id')
  return (
    requests.find(({ idText }) => idText === written) ??
    requests.find(each => isSameId(id, each.id))
  )
}

const named = (text: string, { idText }: RpcRequest) =>
  memberText(text, 'id') === idText ? text : setMembers(text, { id: idText })

function isDenial(error: unknown): boolean {
  return (
    isObject(error) && error['code'] === -32600 && said(error['data']).startsWith('Access Denied')
  )
}

/** As far from the end as an error behind a result is looked for: to look at all of 100 KB is an eighth of its cost (measured). */
const furthest = 4096

/** A result in one of the orders in which servers write it, by its first and last bytes; what may hold an error as well is none. */
function isUsual(body: Buffer, idText: string): boolean {
  if (body.includes('"error":', Math.max(0, body.length - furthest))) return false
  let end = body.length
  while ((body[end - 1] as number) <= 0x20) end -= 1
  if (isMixed(body, end)) return false
  return resultFrames.some(frame => {
    const [head, tail] = frame(idText)
    return (
      body.toString('latin1', 0, head.length + 1) === `${head}{` &&
      body.toString('latin1', end - tail.length - 1, end) === `}${tail}`
    )
  })
}

const lineFeed = 0x0a
const meeting = Buffer.from('}{')
/** Where two bytes are looked for in a larger answer, it is a tenth of its cost; one is 1 % (measured, 100 KB). */
const longestSearched = 16_384

/**
 * Whether something else may have been written into it, so that it must be parsed: a warning of PHP's has line feeds, which its JSON
 * has not, and of two bodies one begins where the other ends. 0.3 µs for an answer of 1 KB, and parsing it up to 6 µs (measured).
 */
function isMixed(body: Buffer, end: number): boolean {
  const at = body.indexOf(lineFeed)
  if ((at !== -1 && at < end) || body.includes(0)) return true
  return body.length <= longestSearched && body.includes(meeting)
}

const hasNoId = ({ id }: Params) => id === null || id === undefined
