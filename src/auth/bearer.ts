// What did the Authorization header bring? A pure parser of RFC 6750 §2.1; it refuses to know whether the token is any good.

/** Longest token that is looked at, in characters. Drupal's are about 840; RFC 9068 tokens rarely pass 4 KiB. */
export const maxTokenLength = 16_384

export type Bearer =
  | { kind: 'none' }
  | { kind: 'malformed'; reason: 'duplicate header' | 'not one scheme and one token' | 'too long' }
  | { kind: 'token'; token: string }

const none: Bearer = { kind: 'none' }
const b64token = /^[A-Za-z0-9\-._~+/]+=*$/
const scheme = /^[A-Za-z0-9!#$%&'*+.^_`|~-]+(?= |$)/

/**
 * Reads the value of Authorization; `headerCount` says how many such headers came. Never throws.
 * The scheme is compared without case, as RFC 9110 §11.1 demands (Drupal wants "Bearer" exactly: the gateway writes it anew).
 * A missing or empty header and any other scheme are `none`: RFC 6750 §3.1 counts an unsupported method as no
 * authentication, so the answer is the bare challenge. Two headers, even equal ones, are malformed: another hop might read
 * the other one.
 */
export function readBearer(header: string | undefined, headerCount: number): Bearer {
  if (headerCount > 1) return { kind: 'malformed', reason: 'duplicate header' }
  if (header === undefined || header === '') return none
  if (!header.startsWith('Bearer ')) {
    const name = scheme.exec(header)?.[0]
    if (name === undefined) return { kind: 'malformed', reason: 'not one scheme and one token' }
    if (name.toLowerCase() !== 'bearer') return none
  }
  let start = 6
  while (header.charCodeAt(start) === 0x20) start++
  if (header.length - start > maxTokenLength) return { kind: 'malformed', reason: 'too long' }
  const token = header.slice(start)
  return b64token.test(token)
    ? { kind: 'token', token }
    : { kind: 'malformed', reason: 'not one scheme and one token' }
}
