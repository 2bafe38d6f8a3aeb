// The errors of Simple OAuth's OAuth library (league/oauth2-server), with its statuses and hints (wire §3).
// Thrown by the grants, answered in one place.
import { json, phpJson, type Reply } from './reply.ts'

/** Carries the answer that ends a request. */
export class OAuthError extends Error {
  readonly reply: Reply
  readonly body: Record<string, string>

  constructor(status: number, body: Record<string, string>, headers: Record<string, string> = {}) {
    super(body.error)
    this.body = body
    // The library writes its errors itself.
    this.reply = { ...json(body, status, headers), body: phpJson(body, false) }
  }
}

const MALFORMED =
  'The request is missing a required parameter, includes an invalid parameter value, includes a parameter more than once, or is otherwise malformed.'
const BAD_GRANT =
  'The provided authorization grant (e.g., authorization code, resource owner credentials) or refresh token is invalid, expired, revoked, does not match the redirection URI used in the authorization request, or was issued to another client.'

/** 400 invalid_request about one parameter. */
export function invalidRequest(
  parameter: string,
  hint = `Check the \`${parameter}\` parameter`
): OAuthError {
  return new OAuthError(400, { error: 'invalid_request', error_description: MALFORMED, hint })
}

/** 401 invalid_client; the challenge only when an Authorization header was sent. */
export function invalidClient(hadAuthorization = false): OAuthError {
  return new OAuthError(
    401,
    { error: 'invalid_client', error_description: 'Client authentication failed' },
    hadAuthorization ? { 'WWW-Authenticate': 'Basic realm="OAuth"' } : {}
  )
}

/** 400 invalid_scope naming the scope. */
export function invalidScope(name: string): OAuthError {
  return new OAuthError(400, {
    error: 'invalid_scope',
    error_description: 'The requested scope is invalid, unknown, or malformed',
    hint: `Check the \`${name}\` scope`
  })
}

/** 400 invalid_grant for a code or a device code. */
export function invalidGrant(hint: string): OAuthError {
  return new OAuthError(400, { error: 'invalid_grant', error_description: BAD_GRANT, hint })
}

/** 400 invalid_grant for a refresh token. */
export function invalidRefreshToken(hint: string): OAuthError {
  return new OAuthError(400, {
    error: 'invalid_grant',
    error_description: 'The refresh token is invalid.',
    hint
  })
}

/** 400 unauthorized_client: the consumer lacks the grant type. */
export function unauthorizedClient(hint?: string): OAuthError {
  return new OAuthError(400, {
    error: 'unauthorized_client',
    error_description:
      'The authenticated client is not authorized to use this authorization grant type.',
    ...(hint ? { hint } : {})
  })
}

/** 400 unsupported_grant_type. */
export function unsupportedGrant(): OAuthError {
  return new OAuthError(400, {
    error: 'unsupported_grant_type',
    error_description: 'The authorization grant type is not supported by the authorization server.',
    hint: 'Check that all required parameters have been provided'
  })
}

/** 400 with a device-flow code (authorization_pending, slow_down, expired_token). */
export function devicePending(error: string, error_description: string): OAuthError {
  return new OAuthError(400, { error, error_description, hint: '' })
}
