// What Drupal's answer means: its HTML, 401, 403, 404, 429, 503 and its JSON-RPC errors become a result, a failure of the tool
// or one of the gateway's errors (docs/architecture.md). Pure. Nothing of a page, an exception or a permission's name gets out: those
// go into `reason`, for the log.
import { isUtf8 } from 'node:buffer'
import { type GatewayError, gatewayError } from '../errors.ts'
import { isObject, parseJson } from '../mcp/call.ts'
import { memberText } from '../mcp/json-members.ts'
import { challengeScopes } from '../policy/authorize.ts'
import { mayHaveRun } from './exchange-failure.ts'
import type { Answer } from './exchange.ts'
import { failureText } from './tool-failure.ts'

/** What the translation must know of the request. */
export interface Asked {
  /** The scopes of the token; undefined: the caller is anonymous. */
  scopes: readonly string[] | undefined
  /** A 404 is a listed tool without a route, or else a site without the module. All but `list` may have run when the site broke down. */
  what: 'tool' | 'list' | 'endpoint'
  /** Milliseconds, for a Retry-After that is a date. */
  now: number
}

export type ToolAnswer =
  /** `raw` is the result's JSON text in UTF-8, exactly as Drupal wrote it where it could be cut out: a part of the answer's body. */
  | { ok: true; raw: Buffer; value: unknown }
  /** The tool ran and failed, or did not like its arguments: the model is told `text`. */
  | { ok: false; text: string; reason: string }

const MAX_RETRY_AFTER_SECONDS = 3600
const MAX_REASON = 300

/** Whole seconds from a Retry-After (seconds or a date), at least 1 and at most an hour; undefined when there is none. */
export function retryAfterSeconds(value: string | undefined, now: number): number | undefined {
  if (value === undefined) return undefined
  const seconds = /^\s*\d+\s*$/.test(value) ? Number(value) : (Date.parse(value) - now) / 1000
  if (Number.isNaN(seconds)) return undefined
  return Math.min(MAX_RETRY_AFTER_SECONDS, Math.max(1, Math.ceil(seconds)))
}

/**
 * The scopes of an `insufficient_scope` challenge; undefined when the header is none. Lenient: Drupal puts raw HTML with
 * unescaped quotes into these headers (drupal-wire §9). Only characters that a scope may have pass (RFC 6749 §3.3).
 */
export function challengedScopes(header = ''): string[] | undefined {
  if (!/\berror\s*=\s*"?insufficient_scope\b/i.test(header)) return undefined
  const scope = /(?:^|[\s,])scope\s*=\s*(?:"([^"]*)"|([^\s,"]+))/i.exec(header)
  return (scope?.[1] ?? scope?.[2] ?? '')
    .split(/\s+/)
    .filter(one => /^[\x21\x23-\x5b\x5d-\x7e]{1,200}$/.test(one))
    .slice(0, 64)
}

function isJson(answer: Answer): boolean {
  const type = answer.headers['content-type']
  return type !== undefined && /^application\/(?:[\w.-]+\+)?json\b/i.test(type)
}

/**
 * drupal/mcp answers every lack of permission below /mcp with 401 and this JSON, without a challenge (drupal-wire §13). Simple
 * OAuth never refuses a token without a challenge, so the two can be told apart.
 */
function isDisguisedDenial(answer: Answer): boolean {
  if (answer.headers['www-authenticate'] !== undefined || !isJson(answer)) return false
  const body = parseJson(answer.body.toString())
  return isObject(body) && isObject(body['error']) && body['error']['code'] === -32001
}

/** A lack of permission: to who is signed in, and to who is not yet. */
export function denied(asked: Pick<Asked, 'scopes'>, reason: string): GatewayError {
  return gatewayError(asked.scopes === undefined ? 'GW_TOKEN_MISSING' : 'GW_UPSTREAM_FORBIDDEN', {
    reason
  })
}

function forbidden(answer: Answer, asked: Asked): GatewayError {
  const missing = challengedScopes(answer.headers['www-authenticate'])
  if (missing === undefined) {
    return denied(asked, 'Drupal: 403, the user or the token lacks a permission')
  }
  const { scopes: granted } = asked
  if (granted === undefined) {
    // There is no token that could lack it (RFC 6750 §3.1): whoever signs in asks for it beside the base scopes.
    const reason = `Drupal: insufficient_scope "${missing.join(' ')}" without a token`
    const requiredScopes = challengeScopes([], missing)
    return gatewayError('GW_TOKEN_MISSING', { reason, requiredScopes })
  }
  // A challenge for what the token already has would send the client round in a loop.
  if (missing.every(scope => granted.includes(scope))) {
    return denied(asked, `Drupal: insufficient_scope for granted scopes "${missing.join(' ')}"`)
  }
  return gatewayError('GW_INSUFFICIENT_SCOPE', {
    reason: `Drupal: insufficient_scope "${missing.join(' ')}"`,
    requiredScopes: challengeScopes(granted, missing)
  })
}

const waitHint = (seconds: number) => ({
  hint: `Wait ${seconds} s before the next call.`,
  data: { retryAfterSeconds: seconds }
})

/** What PHP programs write where there is none: so that no server compresses what they stream, or meaning the encoding of characters. */
const noCoding = /^(?:identity|none|utf-8)?$/i

/** Whether what an answer says is in a coding: nobody asks for one. */
export function isCoded({ headers }: Pick<Answer, 'headers'>): boolean {
  const coding = headers['content-encoding']
  return coding !== undefined && !noCoding.test(coding)
}

/** The refusal of an answer in a content coding: nobody asked for one, and the client would not be told. Undefined where it has none. */
export function codingRefusal(answer: Answer, isCall = true): GatewayError | undefined {
  const { headers, body, stream } = answer
  if (!isCoded(answer)) return undefined
  if (body.length === 0 && stream === undefined) return undefined
  const reason = `Drupal: an answer in the coding ${headers['content-encoding']?.slice(0, 30)}`
  return gatewayError('GW_UPSTREAM_INVALID', { reason, ...(isCall && mayHaveRun) })
}

/** The error that a status or a coding stands for, whoever was asked for what; undefined: the body decides. */
export function refusal(answer: Answer, asked: Asked): GatewayError | undefined {
  const { status } = answer
  if (status === 200) return codingRefusal(answer, asked.what !== 'list')
  const retry = retryAfterSeconds(answer.headers['retry-after'], asked.now)
  const details = {
    reason: `Drupal: status ${status}`,
    ...(retry === undefined ? {} : { retryAfterSeconds: retry })
  }
  if (status === 401) {
    if (asked.scopes === undefined) return gatewayError('GW_TOKEN_MISSING', details)
    if (isDisguisedDenial(answer)) return denied(asked, 'Drupal: 401 that means no permission')
    return gatewayError('GW_INVALID_TOKEN', { reason: 'Drupal refused the token' })
  }
  if (status === 403) return forbidden(answer, asked)
  if (status === 404 && asked.what === 'tool') return gatewayError('GW_TOOL_UNREACHABLE', details)
  if (status === 429 || status === 503) {
    // A model sees no header.
    if (retry !== undefined) Object.assign(details, waitHint(retry))
    return gatewayError(
      status === 429 ? 'GW_UPSTREAM_RATE_LIMITED' : 'GW_UPSTREAM_MAINTENANCE',
      details
    )
  }
  // A success without an answer; an error of PHP that failed half-way; one of a proxy that gave up while PHP works on.
  if ((status < 300 || status >= 500) && asked.what !== 'list') Object.assign(details, mayHaveRun)
  if (status === 502) return gatewayError('GW_UPSTREAM_UNAVAILABLE', details)
  if (status === 504) return gatewayError('GW_UPSTREAM_TIMEOUT', details)
  // Drupal's JSON-RPC errors come with 400.
  if (status === 400 && isJson(answer)) return undefined
  if (status >= 300 && status < 400) details.reason += ', a redirect: not followed'
  if (status === 400) details.reason += ': is the host in trusted_host_patterns?'
  if (status === 404) details.reason += ': is the MCP module installed, is drupal.mcpPath right?'
  return gatewayError('GW_UPSTREAM_INVALID', details)
}

/** For the log. Of what is no text only the type is told: a stranger's object may throw where it is made one. */
export const said = (value: unknown) => (typeof value === 'string' ? value : typeof value)

/** No answer to what was asked. It may be somebody else's, and so may the next on its connection: that is used no further. */
export function invalid({ source }: Answer, reason: string, hint = {}): GatewayError {
  source?.discard()
  return gatewayError('GW_UPSTREAM_INVALID', { reason, ...hint })
}
/** Of a call: there was an answer, so the site has done something. */
const unread = (answer: Answer, reason: string) => invalid(answer, reason, mayHaveRun)

/** A 200 with a JSON object, as the list of tools is. Throws the GatewayError of everything else. */
export function readObject(answer: Answer, asked: Asked): Record<string, unknown> {
  const refused = refusal(answer, asked)
  if (refused !== undefined) throw refused
  if (answer.status !== 200) throw invalid(answer, `Drupal: status ${answer.status}`)
  if (!isJson(answer)) throw invalid(answer, 'Drupal: 200, but no JSON')
  const body = parseJson(answer.body.toString())
  if (!isObject(body)) throw invalid(answer, 'Drupal: 200, but the JSON is broken or no object')
  return body
}

/** The result cut out of Drupal's usual spelling; undefined when it is spelt otherwise. Parsing the cut proves it whole. */
function cutResult(body: Buffer, text: string, prefix: string): ToolAnswer | undefined {
  if (!text.startsWith(prefix) || !text.endsWith('}')) return undefined
  const cut = text.slice(prefix.length, -1)
  const value = parseJson(cut)
  if (value === undefined) return undefined
  // What is no UTF-8 became U+FFFD in the text that was judged.
  const raw = isUtf8(body) ? body.subarray(prefix.length, -1) : Buffer.from(cut)
  return { ok: true, raw, value }
}

/**
 * The answer of a tool that was called with the JSON-RPC id `id` (a string that needs no escape). Throws GatewayErrors for every
 * refusal and for what is no answer to that call.
 */
export function readToolAnswer(answer: Answer, id: string, asked: Asked): ToolAnswer {
  const refused = refusal(answer, asked)
  if (refused !== undefined) throw refused
  if (!isJson(answer)) throw unread(answer, 'Drupal: 200, but no JSON')
  const text = answer.body.toString('utf8')
  const cut = cutResult(answer.body, text, `{"jsonrpc":"2.0","id":"${id}","result":`)
  if (cut !== undefined && answer.status === 200) return cut

  const body = parseJson(text)
  if (!isObject(body)) throw unread(answer, 'Drupal: the JSON is broken or no object')
  const { error, result } = body
  if (body['jsonrpc'] !== '2.0' || (error === undefined) === (result === undefined)) {
    throw unread(answer, 'Drupal: JSON, but no JSON-RPC answer')
  }
  if (result !== undefined) {
    if (body['id'] !== id) throw unread(answer, 'Drupal: an answer for another id')
    return { ok: true, raw: Buffer.from(memberText(text, 'result') as string), value: result }
  }
  // Drupal loses the id of a request that it refuses.
  if (body['id'] !== id && body['id'] !== null)
    throw unread(answer, 'Drupal: an answer for another id')
  if (!isObject(error) || !Number.isInteger(error['code'])) {
    throw unread(answer, 'Drupal: an error that is none of JSON-RPC')
  }
  const { code, message, data } = error
  const reason = `Drupal: ${String(code)} ${said(message)}: ${said(data)}`.slice(0, MAX_REASON)
  if (code === -32600 && said(data).startsWith('Access Denied')) throw denied(asked, reason)
  if (code === -32601) throw gatewayError('GW_TOOL_UNREACHABLE', { reason })
  return { ok: false, text: failureText(code as number, message, data), reason }
}
