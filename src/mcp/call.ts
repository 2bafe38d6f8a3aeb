// The vocabulary of one MCP exchange: messages as read from the bytes, the session they belong to, and the call that the
// checks hand to the upstream. How they come to be is message.ts, version.ts and session.ts.

/** JSON-RPC request id (R18). */
export type RequestId = string | number
export type Params = Record<string, unknown>

/** The value of a JSON text; undefined where it is none. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Whether a JSON value is an object. */
export function isObject(value: unknown): value is Params {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

export interface RpcRequest {
  kind: 'request'
  id: RequestId
  /** The id as JSON text, for the answer: a 20-digit number survives, escapes in a string are undone. */
  idText: string
  method: string
  /** Parsed copy, to look at only; undefined when absent. */
  params: Params | undefined
  /** Why it was refused where the rest of its request was not, for the audit line: as an element of a batch, or on a stream. */
  refusal?: { code: string; reason: string | undefined }
  /** How it went where others of its batch may have gone otherwise. */
  outcome?: 'tool-error'
}
export interface RpcNotification {
  kind: 'notification'
  method: string
  params: Params | undefined
}
export interface RpcResponse {
  kind: 'response'
  /** Undefined for an error about a request whose id the client could not read (schema 2025-11-25). */
  id: RequestId | undefined
}
export type Message = RpcRequest | RpcNotification | RpcResponse

/** `modern` is 2026-07-28 and later (stateless); `legacy` is 2025-03-26 to 2025-11-25 (sessions). */
export type Era = 'legacy' | 'modern'

/** What a sealed session id holds (R93): nothing else is remembered of a session. */
export interface SessionState {
  /** 16 random bytes, base64url: names the tombstone and the session's budget. */
  id: string
  /** Principal.key of the owner; '' for a session begun without a token, whoever it is now. */
  principal: string
  /** The protocol version that initialize negotiated. */
  version: string
  /** The upstream's own session id, where it has one. */
  upstream: string | undefined
  /** Seconds since epoch. */
  issuedAt: number
  /** Begun without a token, now its first principal's, and what `upstream` names was opened for nobody. */
  isAdopted?: true
  /** Of one request alone, whose client sends no id: it was never sealed, and nobody can name it. */
  isSingle?: true
}

/** An admitted request: what http/admit.ts hands to the upstream. */
export interface Call {
  era: Era
  /** One message, or several for a 2025-03-26 batch; none for GET and DELETE. */
  messages: readonly Message[]
  batch: boolean
  /** The bytes as received: these are what an upstream that speaks MCP is sent. */
  bytes: Buffer
  /** Negotiated (legacy) or claimed and checked (modern). For `initialize`: what the one asked for comes to (R32), then what is answered. */
  version: string
  /** Undefined for `initialize` until it is answered, for a GET that names none, and for the modern era. */
  session: SessionState | undefined
}
