// What did the token really get, and why is something missing? It reads tokens to inform people, and decides nothing by them.

type Claims = Record<string, unknown>

/** The claims of a JWT; undefined for anything else. Not verified: that is the gateway's work. */
export function peek(token: string): Claims | undefined {
  const [, payload = '', signature] = token.split('.')
  if (signature === undefined) return undefined
  try {
    const claims: unknown = JSON.parse(Buffer.from(payload, 'base64url').toString())
    return typeof claims === 'object' && claims !== null ? (claims as Claims) : undefined
  } catch {
    return undefined
  }
}

/** The scopes of a token: from the answer, where it says so, else from the JWT, where Drupal has a list. */
export function grantedScopes(token: string, said?: string): string[] | undefined {
  const scope = said ?? peek(token)?.['scope']
  if (typeof scope === 'string') return scope.split(' ').filter(Boolean)
  return Array.isArray(scope) ? scope.filter(item => typeof item === 'string') : undefined
}

/** What was asked for and not granted. */
export function missingScopes(
  asked: readonly string[],
  granted: readonly string[] | undefined
): string[] {
  return granted === undefined ? [] : asked.filter(scope => !granted.includes(scope))
}

/** Says what is missing and what to do; `flow` decides what the reason may be (wire §7). */
export function explainMissing(missing: readonly string[], byDevice: boolean): string {
  const names = missing.join(' ')
  const dropped = missing.filter(scope => /[^a-z0-9_]/.test(scope))
  if (byDevice && dropped.length > 0) {
    return `Not granted: ${names}. Drupal's device flow drops, without a word, every scope whose name has anything but a–z, 0–9 and _ (here: ${dropped.join(' ')}). Sign in with --browser, or ask the site to name its scopes without colons.`
  }
  return `Not granted: ${names}. The site gives these scopes to other users or clients only, or their grant type is switched off in Drupal.`
}
