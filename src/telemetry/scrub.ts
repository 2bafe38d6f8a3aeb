// Which parts of a text must nobody read? Tokens, secrets, passwords and session ids, recognised by their shape or by the word
// before them. It refuses to guess at JSON: give it strings before they are serialised.

/** Names whose values are secret, as `name=value`, `name: value`, `"name":"value"`. */
export const secretName =
  'authorization|password|passwd|cookie|mcp-session-id|api[_-]?key|private[_-]?key|device_code|code_verifier' +
  '|token|secret|assertion'

/** Cheap: true wherever a pattern below could match. A pattern that this does not announce is never tried. */
const suspicious = new RegExp(
  `${secretName}|bearer|dpop|basic|://|code=|ey[JAI]|def50200|[\\w-]{40}`,
  'i'
)

const space = '(?:\\s|\\\\[nrt]|%20|\\+)'
const patterns: readonly (readonly [RegExp, string])[] = [
  // A quoted secret takes the rest of the text along: where it ends cannot be known when quotes are escaped, cut off or nested.
  [new RegExp(`((?:${secretName})\\\\*["']?\\s*[:=]\\s*)\\\\*["'].*`, 'gis'), '$1[scrubbed]'],
  [new RegExp(`(Bearer|DPoP|Basic)${space}+\\\\*["'].*`, 'gis'), '$1 [scrubbed]'],
  // Header lines whole: a scheme that nobody knows here, the second cookie.
  [/((?:authorization|cookie)\s*[:=]\s*)[^\r\n]+/gi, '$1[scrubbed]'],
  // No word boundary before: in escaped JSON ("…\nBearer x") a letter may stand there.
  [new RegExp(`(Bearer|DPoP|Basic)(?:${space}+|\\s*:\\s*)[^\\s,;]+`, 'gi'), '$1 [scrubbed]'],
  [new RegExp(`((?:${secretName})\\\\*["']?\\s*[:=]\\s*)[^\\s&,;}]+`, 'gi'), '$1[scrubbed]'],
  // An authorization code in a redirect's query; "code" elsewhere is an error's.
  [/([?&]code=)[^\s&]+/gi, '$1[scrubbed]'],
  // User and password of a URL. Greedy to the last @: passwords hold what they like. Bounded: ://://:// would be quadratic.
  [/:\/\/[^\s"'<>]{0,256}@/g, '://[scrubbed]@'],
  // A JSON Web Token by its first bytes ({" or { or a newline, in base64url), also when its end was cut off.
  [/ey[JAI][\w-]{6,}(?:\.[\w-]*){0,4}/g, '[scrubbed]'],
  // Drupal's refresh tokens and authorization codes (defuse-encrypted hex).
  [/def50200[0-9a-f]*/gi, '[scrubbed]']
]

// Any long run of base64url: opaque tokens, sealed session ids, other makes of JWT. UUIDs (36), principal keys (22) and error codes
// of the system (ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED) pass. The look-behind keeps it linear.
const longRun = /(?<![\w-])(?!ERR_[A-Z0-9_]{1,60}(?![\w-]))[\w-]{40,}(?:\.[\w-]+)*/g

/**
 * The text without tokens, secrets, passwords and session ids, each replaced by `[scrubbed]`. What it cannot know is a short
 * opaque token that stands alone: no log call may be given one.
 */
export function scrub(text: string): string {
  return suspicious.test(text) ? scrubIdentifier(text).replace(longRun, '[scrubbed]') : text
}

/** The same for an identifier out of a verified token: pairwise subjects are long runs themselves, and stay. */
export function scrubIdentifier(text: string): string {
  let clean = text
  for (const [pattern, replacement] of patterns) clean = clean.replace(pattern, replacement)
  return clean
}

/**
 * The beginning of the scrubbed text, of at most `most` characters, the last an ellipsis where there is more. For what a client chose:
 * only what could be shown is looked at, since a whole megabyte may take seconds.
 */
export function scrubStart(text: string, most: number, clear: typeof scrub = scrub): string {
  const looked = 2 * most
  // A run that is cut in two might no longer be known for a secret.
  const start =
    text.length > looked ? `${text.slice(0, looked).replace(/(?<![\w-])[\w-]{1,39}$/, '')}…` : text
  const clean = clear(start)
  return clean.length > most ? `${clean.slice(0, most - 1)}…` : clean
}
