// What does a call of this tool need, and what does it weigh? Joins the tool's own annotation with the operator's overrides.
// It does not know who calls.
import { parseBudget } from '../config/budget.ts'
import type { Config } from '../config/schema.ts'
import { isObject, type Message } from '../mcp/call.ts'

export type Level = 'none' | 'optional' | 'required'

/** What `annotations.auth` of a tool says, understood (drupal-wire: scopes without a level mean required). */
export interface AuthAnnotation {
  level: Level
  scopes: readonly string[]
}

export interface ToolRule {
  level: Level
  /** Sorted, without duplicates; empty for level none. All of them are needed. */
  scopes: readonly string[]
  /** Units that one call draws from every budget. */
  weight: number
  /** The budget of the tool, or the one that all tools of a pattern share; `name` is the configured name or pattern. */
  budget: { name: string; max: number; windowMs: number } | undefined
}

export interface ToolPolicy {
  /** The rule of a tool. `annotation`: undefined when the tool says nothing or nobody knows its listing. */
  rule(name: string, annotation: AuthAnnotation | undefined): ToolRule
}

/** Most names whose overrides are kept. */
const maxNames = 2000

type Override = Config['policy']['tools'][string]
type Overrides = {
  level: Level | undefined
  scopes: readonly string[] | undefined
  weight: number
  budget: ToolRule['budget']
  /** The rule without an annotation, and the one of the annotation that was asked for last: catalogues mostly say the same. */
  bare: ToolRule | undefined
  last: { annotation: AuthAnnotation; rule: ToolRule } | undefined
}

/** RFC 6749 §3.3 scope-token: whatever else a site writes can neither be asked for nor stand in a header. */
const scopeToken = /^[\x21\x23-\x5B\x5D-\x7E]{1,256}$/

/** The tool that a `tools/call` names; undefined for every other message and when the name is no string. */
export function toolName(message: Message): string | undefined {
  if (message.kind !== 'request' || message.method !== 'tools/call') return undefined
  const name = message.params?.name
  return typeof name === 'string' ? name : undefined
}

/**
 * Understands a tool's `annotations` as Drupal lists them. Lenient in form, strict in doubt: scopes may be an array, PHP's object in
 * place of one, or one spaced string, a level that nobody knows counts as required. Undefined when neither level nor scopes are stated.
 */
export function readAuthAnnotation(annotations: unknown): AuthAnnotation | undefined {
  const auth = isObject(annotations) ? annotations.auth : undefined
  if (!isObject(auth)) return undefined
  // PHP writes a list with gaps as an object.
  const listed = isObject(auth.scopes) ? Object.values(auth.scopes) : [auth.scopes].flat()
  const stated = listed.filter(
    (scope): scope is string => typeof scope === 'string' && scope.trim() !== ''
  )
  const hasLevel = auth.level !== undefined && auth.level !== null
  if (!hasLevel && stated.length === 0) return undefined
  return {
    level: auth.level === 'none' || auth.level === 'optional' ? auth.level : 'required',
    scopes: sortScopes(stated.flatMap(scope => scope.split(/\s+/)).filter(s => scopeToken.test(s)))
  }
}

/** Unique and in code-unit order, so that the same need is the same bytes in every challenge (R89). */
export function sortScopes(scopes: Iterable<string>): string[] {
  return [...new Set(scopes)].sort()
}

/**
 * Compiles `config.policy`. For each field the most exact name or pattern that states it wins: a pattern's scopes still hold
 * for a tool whose own entry only gives a weight.
 */
export function createToolPolicy(policy: Config['policy']): ToolPolicy {
  const rules = Object.entries(policy.tools)
    // The one with the most literal characters first; of two with as many, the one with fewer stars: a name has none.
    .sort(([a], [b]) => literals(b) - literals(a) || a.length - b.length || (a < b ? -1 : 1))
    .map(([pattern, override]) => ({ pattern, override, matches: matcher(pattern) }))
  const memo = new Map<string, Overrides>()

  function overridesOf(name: string): Overrides {
    const known = memo.get(name)
    if (known !== undefined) return known
    const matching = rules.filter(rule => rule.matches(name))
    const stated = <K extends keyof Override>(field: K) =>
      matching.find(rule => rule.override[field] !== undefined)
    const limited = stated('budget')
    const budget = limited === undefined ? null : parseBudget(limited.override.budget!)
    const found: Overrides = {
      level: stated('level')?.override.level,
      scopes: stated('scopes')?.override.scopes,
      weight: stated('weight')?.override.weight ?? 1,
      budget: budget === null ? undefined : { name: limited!.pattern, ...budget },
      bare: undefined,
      last: undefined
    }
    // A name longer than MCP allows is not worth its memory.
    if (name.length > 128) return found
    // Names may be made up: the map starts anew when it is full.
    if (memo.size >= maxNames) memo.clear()
    memo.set(name, found)
    return found
  }

  function join(override: Overrides, annotation: AuthAnnotation | undefined): ToolRule {
    const scopes = override.scopes ?? annotation?.scopes ?? []
    // Configured scopes without a configured level mean required, also over an annotation that says none.
    const inferred = override.scopes?.length ? 'required' : annotation?.level
    const level = override.level ?? inferred ?? policy.unannotated
    return {
      level,
      scopes: level === 'none' ? [] : sortScopes(scopes),
      weight: override.weight,
      budget: override.budget
    }
  }

  return {
    rule(name, annotation) {
      const override = overridesOf(name)
      if (annotation === undefined) return (override.bare ??= join(override, undefined))
      const { last } = override
      if (last !== undefined && saysTheSame(last.annotation, annotation)) return last.rule
      const rule = join(override, annotation)
      override.last = { annotation, rule }
      return rule
    }
  }
}

/** What a listed tool says of itself to clients that look there before they sign in, in the words of ChatGPT. */
export function securitySchemes(
  { level, scopes }: ToolRule,
  anonymous: Config['oauth']['anonymous']
): object[] {
  // Level optional challenges too (authorize.ts).
  return anonymous === 'public-tools' && level === 'none'
    ? [{ type: 'noauth' }]
    : [{ type: 'oauth2', scopes }]
}

/** Each caller's catalogue has annotations of its own, and most of them are alike. */
function saysTheSame(one: AuthAnnotation, other: AuthAnnotation): boolean {
  return (
    one === other ||
    (one.level === other.level &&
      one.scopes.length === other.scopes.length &&
      one.scopes.every((scope, index) => scope === other.scopes[index]))
  )
}

/** Length without stars. */
function literals(pattern: string): number {
  return pattern.replaceAll('*', '').length
}

/** No regular expression: tool names are a stranger's input, and several stars would backtrack. */
function matcher(pattern: string): (name: string) => boolean {
  const [head, ...rest] = pattern.split('*') as [string, ...string[]]
  const tail = rest.pop()
  if (tail === undefined) return name => name === pattern
  return name => {
    if (!name.startsWith(head)) return false
    let at = head.length
    for (const part of rest) {
      const found = name.indexOf(part, at)
      if (found < 0) return false
      at = found + part.length
    }
    return name.endsWith(tail) && name.length - tail.length >= at
  }
}
