// The closed table of what the gateway may say when it refuses: stable code, HTTP status, JSON-RPC code, OAuth error and the
// public text. What really happened (`reason`, `cause`) goes to the log and the audit line only.
import { createError } from '@fastify/error'

interface Entry {
  status: number
  /** JSON-RPC error code; 429 and other positive codes are ours, outside the reserved range (R74). */
  rpc: number
  /** RFC 6750 / RFC 6749 error; present where the answer is an OAuth error and not a JSON-RPC one. */
  oauth?: string
  text: string
}

export const errorTable = {
  GW_FORBIDDEN_HOST: { status: 403, rpc: -32600, text: 'This host name is not served here.' },
  GW_FORBIDDEN_ORIGIN: {
    status: 403,
    rpc: -32600,
    text: 'Requests from this origin are not allowed.'
  },
  GW_TOO_MANY_FAILURES: {
    status: 429,
    rpc: 429,
    text: 'Too many failed attempts from this address. Wait, then sign in again.'
  },
  GW_TOKEN_MISSING: {
    status: 401,
    rpc: -32600,
    oauth: 'unauthorized',
    text: 'Sign in: send an access token as "Authorization: Bearer …".'
  },
  GW_MALFORMED_AUTHORIZATION: {
    status: 400,
    rpc: -32600,
    oauth: 'invalid_request',
    text: 'The Authorization header must be one "Bearer" and one token.'
  },
  GW_INVALID_TOKEN: {
    status: 401,
    rpc: -32600,
    oauth: 'invalid_token',
    text: 'The access token is expired, revoked or not valid here. Sign in again.'
  },
  GW_INSUFFICIENT_SCOPE: {
    status: 403,
    rpc: -32600,
    oauth: 'insufficient_scope',
    text: 'The access token lacks a scope that this call needs.'
  },
  GW_AUTHORIZATION_SERVER_UNAVAILABLE: {
    status: 503,
    rpc: -32603,
    oauth: 'temporarily_unavailable',
    text: 'The sign-in server cannot be reached, so tokens cannot be checked. Try again soon.'
  },
  GW_PARSE_ERROR: { status: 400, rpc: -32700, text: 'Parse error: the body is not valid JSON.' },
  GW_INVALID_MESSAGE: {
    status: 400,
    rpc: -32600,
    text: 'Invalid Request: the body is not a JSON-RPC 2.0 message that MCP allows here.'
  },
  GW_UNSUPPORTED_MEDIA_TYPE: {
    status: 415,
    rpc: -32600,
    text: 'Content-Type must be application/json.'
  },
  GW_UNSUPPORTED_CODING: {
    status: 415,
    rpc: -32600,
    text: 'The body must not be compressed: send it without Content-Encoding.'
  },
  GW_NOT_ACCEPTABLE: {
    status: 406,
    rpc: -32600,
    text: 'Accept must allow application/json or text/event-stream.'
  },
  GW_BODY_TOO_LARGE: {
    status: 413,
    rpc: -32600,
    text: 'The body is larger than this server accepts.'
  },
  GW_HEADERS_TOO_LARGE: {
    status: 431,
    rpc: -32600,
    text: 'The request headers are larger than this server accepts.'
  },
  GW_BAD_REQUEST: { status: 400, rpc: -32600, text: 'The request could not be read.' },
  GW_REQUEST_TIMEOUT: {
    status: 408,
    rpc: -32600,
    text: 'The request did not come to its end in time.'
  },
  GW_SESSION_REQUIRED: {
    status: 400,
    rpc: -32600,
    text: 'Mcp-Session-Id is required. Send "initialize" first.'
  },
  GW_SESSION_NOT_FOUND: { status: 404, rpc: -32001, text: 'Session not found' },
  GW_UNSUPPORTED_VERSION: {
    status: 400,
    rpc: -32600,
    text: 'This MCP-Protocol-Version is not supported.'
  },
  GW_UNSUPPORTED_MODERN_VERSION: { status: 400, rpc: -32022, text: 'Unsupported protocol version' },
  GW_HEADER_MISMATCH: { status: 400, rpc: -32020, text: 'Header mismatch' },
  GW_INCOMPLETE_META: {
    status: 400,
    rpc: -32602,
    text: 'Invalid params: _meta lacks a required key'
  },
  GW_METHOD_NOT_FOUND: { status: 200, rpc: -32601, text: 'Method not found' },
  GW_INVALID_PARAMS: { status: 200, rpc: -32602, text: 'Invalid params' },
  GW_NOT_FOUND: { status: 404, rpc: -32600, text: 'There is nothing at this address.' },
  GW_METHOD_NOT_ALLOWED: {
    status: 405,
    rpc: -32600,
    text: 'This HTTP method is not supported here.'
  },
  GW_RATE_LIMITED: { status: 429, rpc: 429, text: 'Rate limit reached.' },
  GW_OVERLOADED: { status: 503, rpc: -32603, text: 'The site is busy. Try again shortly.' },
  GW_SHUTTING_DOWN: {
    status: 503,
    rpc: -32603,
    text: 'The gateway is restarting. Try again shortly.'
  },
  GW_UPSTREAM_UNAVAILABLE: { status: 502, rpc: -32603, text: 'The site could not be reached.' },
  GW_UPSTREAM_INVALID: {
    status: 502,
    rpc: -32603,
    text: 'The site gave an answer that could not be used.'
  },
  GW_UPSTREAM_TOO_LARGE: {
    status: 502,
    rpc: -32603,
    text: 'The answer of the site is larger than this gateway relays.'
  },
  GW_UPSTREAM_MAINTENANCE: {
    status: 503,
    rpc: -32603,
    text: 'The site is in maintenance or overloaded. Try again later.'
  },
  GW_UPSTREAM_RATE_LIMITED: {
    status: 429,
    rpc: 429,
    text: 'The site limits how often this may be called. Try again later.'
  },
  GW_UPSTREAM_TIMEOUT: { status: 504, rpc: -32603, text: 'The site did not answer in time.' },
  GW_UPSTREAM_FORBIDDEN: {
    status: 200,
    rpc: 403,
    text: 'Forbidden: the signed-in user may not do this on the site.'
  },
  GW_TOOL_UNREACHABLE: {
    status: 200,
    rpc: -32603,
    text: 'The site lists this tool but has no route for it. Its operator can rebuild the routes.'
  },
  GW_STORE_UNAVAILABLE: {
    status: 503,
    rpc: -32603,
    text: 'Session state cannot be checked right now. Try again shortly.'
  },
  GW_INTERNAL: { status: 500, rpc: -32603, text: 'Internal error' }
} as const satisfies Record<string, Entry>

export type ErrorCode = keyof typeof errorTable

/**
 * What travels with a refusal. Only `retryAfterSeconds`, `requiredScopes`, `idText`, `data`, `allow`, `acceptEncoding` and `hint` may
 * reach the client.
 */
export interface ErrorDetails {
  /** For the log and the audit line: what really happened. Never a token, never a body. */
  reason?: string
  cause?: unknown
  /** Seconds, whole; becomes Retry-After. */
  retryAfterSeconds?: number
  /** For GW_INSUFFICIENT_SCOPE: every scope that the challenge must name (R88). For GW_TOKEN_MISSING: those beside the base scopes (R83). */
  requiredScopes?: readonly string[]
  /** For GW_INVALID_TOKEN: its time is over, which is no attempt at guessing one. */
  isExpired?: boolean
  /** The request's id exactly as JSON text, so that the answer carries it unchanged. */
  idText?: string
  /** JSON-RPC error `data`. */
  data?: unknown
  /** Public: appended to the table's text; must say what to do and hold nothing from inside. */
  hint?: string
  /** Overrides the table's status (modern -32601 is 404, legacy 200). */
  status?: number
  /** For GW_METHOD_NOT_ALLOWED: the Allow header. */
  allow?: string
  /** For GW_UNSUPPORTED_CODING: the Accept-Encoding header (RFC 9110 §15.5.16). */
  acceptEncoding?: string
}

const factories = Object.fromEntries(
  Object.entries(errorTable).map(([code, entry]) => [
    code,
    createError(code, entry.text, entry.status)
  ])
)

export interface GatewayError extends Error, ErrorDetails {
  code: ErrorCode
  statusCode: number
}

/**
 * Makes the error for a code of the table. Throw it: the only error handler (http/errors.ts) decides what leaves.
 * `details.hint` is public, `details.reason` and `details.cause` are not.
 */
export function gatewayError(code: ErrorCode, details: ErrorDetails = {}): GatewayError {
  const factory = factories[code] as new (options?: object) => Error
  const { stackTraceLimit } = Error
  // Code and reason say what a refusal is; to find out where it was thrown is a twelfth of its cost (measured), in a flood of them.
  if (code !== 'GW_INTERNAL') Error.stackTraceLimit = 0
  const error = details.cause === undefined ? new factory() : new factory({ cause: details.cause })
  Error.stackTraceLimit = stackTraceLimit
  Object.assign(error, details)
  if (details.hint !== undefined) {
    error.message += `${error.message.endsWith('.') ? '' : ':'} ${details.hint}`
  }
  // For clients that show the body and take no notice of the challenge.
  if (code === 'GW_INSUFFICIENT_SCOPE' && details.requiredScopes !== undefined) {
    error.message += ` Sign in again and ask for: ${details.requiredScopes.join(' ')}`
  }
  if (details.status !== undefined) Object.assign(error, { statusCode: details.status })
  return error as GatewayError
}

/** True when the value was made by `gatewayError`. */
export function isGatewayError(value: unknown): value is GatewayError {
  return (
    value instanceof Error && Object.hasOwn(errorTable, (value as { code?: string }).code ?? '')
  )
}
