// PKCE as Drupal enforces it: the OAuth library's rules for everybody, simple_oauth_native_apps' stricter ones for clients that
// look native (wire §5). It compares strings; it knows no codes.
import { createHash } from 'node:crypto'
import { json, type Reply } from './reply.ts'
import type { Client } from './site.ts'

const MISSING = 'PKCE parameters are mandatory for native clients'
const ADVICE: Record<string, string> = {
  [MISSING]: 'Include code_challenge in authorization requests and code_verifier in token requests.'
}
const MIN_ENTROPY_BITS = 128

/** Public, and every redirect goes to this machine or to a private scheme. */
export function looksNative(client: Client): boolean {
  return (
    client.secret === undefined &&
    client.redirectUris.length > 0 &&
    client.redirectUris.every(uri =>
      /^(?!https?:)|^http:\/\/(?:localhost|127\.0\.0\.1|\[::1\])(?:[:/]|$)/.test(uri)
    )
  )
}

/** The refusal of a native client's authorization request, or null. */
export function nativeChallengeRefusal(
  challenge: string | null,
  method: string | null
): Reply | null {
  if (!challenge) return refuse('authorization', 'invalid_request', MISSING)
  if (method === 'S256') return null
  return refuse(
    'authorization',
    'invalid_request',
    'Native clients must use the S256 code challenge method'
  )
}

/** The refusal of a native client's token request, or null. */
export function nativeVerifierRefusal(verifier: string | null): Reply | null {
  if (!verifier) return refuse('token', 'invalid_request', MISSING)
  if (entropyBits(verifier) >= MIN_ENTROPY_BITS) return null
  return refuse(
    'token',
    'invalid_grant',
    'The code_verifier does not have enough entropy for a native client'
  )
}

/** Whether a verifier answers a challenge. */
export function verifierMatches(verifier: string, challenge: string, method: string): boolean {
  if (method === 'plain') return verifier === challenge
  return createHash('sha256').update(verifier).digest('base64url') === challenge
}

function entropyBits(text: string): number {
  const counts = new Map<string, number>()
  for (const character of text) counts.set(character, (counts.get(character) ?? 0) + 1)
  return [...counts.values()].reduce((bits, n) => bits - n * Math.log2(n / text.length), 0)
}

function refuse(flow: 'authorization' | 'token', error: string, problem: string): Reply {
  const body = {
    error,
    error_description: `PKCE validation failed: ${problem}`,
    error_context: {
      flow_type: flow,
      client_type: 'native',
      enhanced_pkce_applied: true,
      validation_errors: [problem],
      security_reference: 'https://tools.ietf.org/html/rfc7636'
    },
    developer_guidance: {
      general: 'Native clients must implement RFC 7636 PKCE with enhanced security requirements.',
      specific_issues: [`${problem}. ${ADVICE[problem] ?? ''}`.trim()],
      resources: {
        rfc_7636: 'https://tools.ietf.org/html/rfc7636',
        rfc_8252: 'https://tools.ietf.org/html/rfc8252',
        oauth_security_best_practices:
          'https://tools.ietf.org/html/draft-ietf-oauth-security-topics'
      },
      next_steps: [
        '1. Generate cryptographically secure code_verifier (43-128 characters)',
        '2. Calculate code_challenge = base64url(sha256(code_verifier))',
        '3. Include code_challenge and code_challenge_method=S256 in authorization request'
      ]
    }
  }
  return json(body, 400, {
    'Cache-Control': 'no-store, private',
    Pragma: 'no-cache',
    'X-OAuth-Error-Type': 'pkce_validation_failure',
    'X-OAuth-Flow-Type': flow
  })
}
