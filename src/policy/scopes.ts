// Which scopes does this resource know? The configured ones, and those that tools asked for; for `scopes_supported`, the base
// challenge and the audience policy. It does not know tools or callers.

export interface KnownScopes {
  /** Remembers scopes that tools need (ToolRule.scopes). */
  add(scopes: Iterable<string>): void
  /** Configured ones in their order, then learned ones sorted; the same array until something is added. */
  list(): readonly string[]
}

/**
 * Starts with the configured scopes. At most `max` are learned: a site that makes up scopes cannot grow the public document.
 * `offline_access` is never learned (R83), it can only be configured.
 */
export function createKnownScopes(configured: readonly string[], max = 200): KnownScopes {
  const base = new Set(configured)
  const learned = new Set<string>()
  let current: readonly string[] = Object.freeze([...base])

  return {
    add(scopes) {
      const before = learned.size
      for (const scope of scopes) {
        if (learned.size >= max) break
        if (scope !== 'offline_access' && !base.has(scope)) learned.add(scope)
      }
      if (learned.size > before) current = Object.freeze([...base, ...[...learned].sort()])
    },
    list: () => current
  }
}
