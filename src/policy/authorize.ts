// May this caller send this message? A pure decision from the principal, the message and the tool's rule. It does not know
// how a refusal is written: the code goes to the error handler, the scopes into the challenge.
import type { Principal } from '../auth/principal.ts'
import type { Config } from '../config/schema.ts'
import type { Message } from '../mcp/call.ts'
import { sortScopes, type ToolRule, toolName } from './tools.ts'

export interface Question {
  /** Undefined: no token was sent (only reached where `oauth.anonymous` lets it). */
  principal: Principal | undefined
  message: Message
  /** For `tools/call`: the rule of the named tool; undefined when the caller's catalogue does not have it. */
  rule: ToolRule | undefined
  policy: {
    anonymous: Config['oauth']['anonymous']
    missingScope: Config['policy']['missingScope']
  }
}

/** A refusal is ready for `gatewayError(code, { requiredScopes, hint })`. */
export type Decision =
  | { allow: true }
  | {
      allow: false
      code: 'GW_TOKEN_MISSING' | 'GW_INSUFFICIENT_SCOPE'
      /** Every scope that the challenge names, before sign-in beside the base scopes: sorted, byte-stable (R83, R88, R89). */
      requiredScopes: readonly string[]
    }
  | {
      allow: false
      /** The tool is unknown to this caller, or the call names none: JSON-RPC -32602. */
      code: 'GW_INVALID_PARAMS'
      hint: string
    }

const allowed: Decision = { allow: true }

/** What a caller may send before sign-in where `oauth.anonymous` is `public-tools`; notifications beside it. */
const openMethods = new Set(['initialize', 'server/discover', 'ping', 'tools/list'])

/**
 * Decides one message, before any byte is answered (R89). Deny first: a tool that is not in the caller's catalogue is unknown,
 * in the same words as one that is hidden from the caller. An upstream without a catalogue passes the rule of a tool that
 * says nothing, and Drupal has the last word.
 */
export function authorize({ principal, message, rule, policy }: Question): Decision {
  const isCall = message.kind === 'request' && message.method === 'tools/call'
  if (principal === undefined) {
    return policy.anonymous === 'public-tools' && isOpen(message, rule)
      ? allowed
      : {
          allow: false,
          code: 'GW_TOKEN_MISSING',
          requiredScopes: challengeScopes([], rule?.scopes)
        }
  }
  if (!isCall) return allowed
  const name = toolName(message)
  if (name === undefined) {
    return { allow: false, code: 'GW_INVALID_PARAMS', hint: 'tools/call needs "name", a string.' }
  }
  if (rule === undefined) return unknownTool(name)
  if (isSatisfied(rule, principal.scopes)) return allowed
  return policy.missingScope === 'hide'
    ? unknownTool(name)
    : {
        allow: false,
        code: 'GW_INSUFFICIENT_SCOPE',
        requiredScopes: challengeScopes(principal.scopes, rule.scopes)
      }
}

/**
 * Whether tools/list shows the tool to this caller. Hidden are only tools whose scope is missing where the policy says
 * `hide`; before sign-in a tool that would challenge is shown, for that is how a client finds out that it can sign in.
 */
export function isListed(
  rule: ToolRule,
  principal: Principal | undefined,
  missingScope: Config['policy']['missingScope']
): boolean {
  return (
    missingScope === 'step-up' || principal === undefined || isSatisfied(rule, principal.scopes)
  )
}

/** No hierarchies: Drupal compares scopes by name, all of them needed. Level none asks for nothing. */
function isSatisfied(rule: ToolRule, granted: readonly string[]): boolean {
  return rule.level === 'none' || rule.scopes.every(scope => granted.includes(scope))
}

/** Level optional challenges too: it works better signed in, and jsonrpc_mcp answers 401 to it when it has scopes. */
function isOpen(message: Message, rule: ToolRule | undefined): boolean {
  if (message.kind === 'notification') return true
  if (message.kind === 'response') return false
  if (message.method === 'tools/call') return rule?.level === 'none'
  return openMethods.has(message.method)
}

/** Granted ∪ required: a client that replaces its scopes by the challenge's loses nothing (R88). R83: no offline_access. */
export function challengeScopes(
  granted: readonly string[],
  required: readonly string[] = []
): string[] {
  return sortScopes([...granted, ...required]).filter(scope => scope !== 'offline_access')
}

/** What is said of a tool that is not there for a caller: word for word the same of one that exists and is hidden. */
export const unknownToolHint = (name: string) => `Unknown tool: ${name.slice(0, 128)}`

function unknownTool(name: string): Decision {
  return { allow: false, code: 'GW_INVALID_PARAMS', hint: unknownToolHint(name) }
}
