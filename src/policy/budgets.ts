// Which budgets does a message draw on, and how is a state of budgets told to a client? It neither counts nor waits: the store
// counts. What it keeps are texts that would be made the same again. Keys come from the verified identity and the validated body,
// never from a header.
import type { Principal } from '../auth/principal.ts'
import type { Budget } from '../config/schema.ts'
import { type GatewayError, gatewayError } from '../errors.ts'
import type { Message, SessionState } from '../mcp/call.ts'
import type { Draw as StoreDraw, Taken } from '../store/store.ts'
import type { ToolRule } from './tools.ts'

export type BudgetName = 'session' | 'principal' | 'client' | 'tool'

/** One draw on one budget. A message never draws more than `max`: a call heavier than its budget waits for a fresh window. */
export interface Draw extends StoreDraw {
  budget: BudgetName
}

/** A draw and what the store answered. */
export type TakenDraw = Draw & Taken

/** A draw with its answer; written out, because spreading two objects costs more than the draw. */
export function takenDraw(draw: Draw, { isDrawn, used, resetMs }: Taken): TakenDraw {
  const { budget, key, cost, max, windowMs } = draw
  return { budget, key, cost, max, windowMs, isDrawn, used, resetMs }
}

export interface Limits {
  readonly session: Budget
  readonly principal: Budget
  readonly client: Budget
}

export interface Drawing {
  /** Undefined before sign-in. */
  principal: Principal | undefined
  session?: Pick<SessionState, 'id'> | undefined
  /** Before sign-in only: the peer's address, so that strangers do not share one budget. */
  address?: string | undefined
  /** Undefined: the end of a session, which is remembered until the session would have ended by itself. */
  message: Message | undefined
  /** The rule of the tool that `tools/call` names. */
  rule: ToolRule | undefined
}

/**
 * Never limited: a 429 on these makes clients take the server for an old or a broken one. Notifications and answers
 * draw nothing either.
 */
const exempt = new Set(['server/discover', 'initialize', 'ping'])

/** Tells the draws of one message; for a batch, ask for each and add them up. A repeated call with a new id draws again (R70). */
export function createDraws(budgets: Limits): (drawing: Drawing) => Draw[] {
  // A key that is joined on each call is hashed on each call: together six times the price of the look-up (measured).
  const sessionKeys = new WeakMap<object, string>()
  const principalKeys = new WeakMap<Principal, { principal: string; client: string }>()

  function keyOfSession(session: { id: string }): string {
    let key = sessionKeys.get(session)
    if (key === undefined) {
      key = `session:${session.id}`
      sessionKeys.set(session, key)
    }
    return key
  }

  function keysOf(principal: Principal) {
    let keys = principalKeys.get(principal)
    if (keys === undefined) {
      const { key, issuer, clientId } = principal
      // An issuer has no space in it, so issuer and client id cannot be mistaken for another pair.
      keys = { principal: `principal:${key}`, client: `client:${issuer} ${clientId}` }
      principalKeys.set(principal, keys)
    }
    return keys
  }

  return function draws({ principal, session, address, message, rule }) {
    if (message !== undefined && (message.kind !== 'request' || exempt.has(message.method)))
      return []
    const weight = rule?.weight ?? 1
    const who = principal?.key ?? `anonymous ${address ?? ''}`
    const keys = principal && keysOf(principal)
    const list: Draw[] = []
    if (message !== undefined && session !== undefined && budgets.session !== null) {
      list.push(drawOn('session', keyOfSession(session), weight, budgets.session))
    }
    if (budgets.principal !== null) {
      const key = keys?.principal ?? `principal:${who}`
      list.push(drawOn('principal', key, weight, budgets.principal))
    }
    if (keys !== undefined && budgets.client !== null) {
      list.push(drawOn('client', keys.client, weight, budgets.client))
    }
    if (rule?.budget !== undefined) {
      list.push(drawOn('tool', `tool:${rule.budget.name}:${who}`, weight, rule.budget))
    }
    return list
  }
}

function drawOn(
  budget: BudgetName,
  key: string,
  weight: number,
  { max, windowMs }: NonNullable<Budget>
): Draw {
  return { budget, key, cost: Math.min(weight, max), max, windowMs }
}

/** The draws of several messages: one for each key. Only so do they stand for what the batch asks of a budget. */
export function addUp(draws: readonly Draw[]): Draw[] {
  const byKey = new Map<string, Draw>()
  for (const draw of draws) {
    const cost = (byKey.get(draw.key)?.cost ?? 0) + draw.cost
    byKey.set(draw.key, { ...draw, cost })
  }
  return [...byKey.values()]
}

export interface RateLimitFields {
  'ratelimit-policy'?: string
  ratelimit?: string
  'retry-after'?: string
}

const lastPolicies = new Map<BudgetName, { max: number; windowMs: number; text: string }>()

/** One item of RateLimit-Policy. Of each budget mostly the same is told again (measured: 300 bytes a call). */
function policyOf({ budget, max, windowMs }: Draw): string {
  let last = lastPolicies.get(budget)
  if (last?.max !== max || last.windowMs !== windowMs) {
    last = { max, windowMs, text: `"${budget}";q=${max};w=${seconds(windowMs)}` }
    lastPolicies.set(budget, last)
  }
  return last.text
}

/**
 * The fields of draft-ietf-httpapi-ratelimit-headers-11 §3 and §4 for an answer, refused or not, and `Retry-After` (RFC 9110
 * §10.2.3) when a budget is exceeded. One item per budget: of several (a batch) the one with the least left.
 */
export function rateLimitFields(taken: readonly TakenDraw[]): RateLimitFields {
  const tightest: TakenDraw[] = []
  for (const draw of taken) {
    let at = 0
    while (at < tightest.length && tightest[at]?.budget !== draw.budget) at++
    const other = tightest[at]
    if (other === undefined || remaining(draw) <= remaining(other)) tightest[at] = draw
  }
  if (tightest.length === 0) return {}
  let policies = ''
  let states = ''
  for (const draw of tightest) {
    const comma = policies === '' ? '' : ', '
    policies += comma + policyOf(draw)
    states += `${comma}"${draw.budget}";r=${remaining(draw)};t=${seconds(draw.resetMs)}`
  }
  const fields: RateLimitFields = { 'ratelimit-policy': policies, ratelimit: states }
  const wait = waitSeconds(taken)
  if (wait !== undefined) fields['retry-after'] = String(wait)
  return fields
}

/**
 * The refusal when a budget is exceeded, undefined when none is. The text is for a model: what the limit is, how long to wait,
 * and that the same call may be sent again.
 */
export function rateLimited(taken: readonly TakenDraw[]): GatewayError | undefined {
  const wait = waitSeconds(taken)
  if (wait === undefined) return undefined
  const exceeded = taken.filter(isExceeded)
  // A batch that no window has room for: to wait would be in vain.
  const tooLarge = exceeded.find(({ cost, max }) => cost > max)
  const { budget, cost, max, windowMs } =
    tooLarge ?? exceeded.toSorted((a, b) => b.resetMs - a.resetMs)[0]!
  const todo =
    tooLarge === undefined
      ? `Wait ${plural(wait)}, then send the same call again.`
      : `This batch asks for ${cost} at once: send it in parts.`
  return gatewayError('GW_RATE_LIMITED', {
    retryAfterSeconds: wait,
    hint: `The limit is ${max} per ${plural(seconds(windowMs))} for ${whose[budget]}. ${todo}`,
    data: { retryAfterSeconds: wait, budgets: [...new Set(exceeded.map(draw => draw.budget))] }
  })
}

const whose: Record<BudgetName, string> = {
  session: 'this session',
  principal: 'this user and client',
  client: 'this client, all its users together',
  tool: 'this tool'
}

/** Whether this draw went beyond its budget. */
export function isExceeded(draw: TakenDraw): boolean {
  return !draw.isDrawn && draw.used + draw.cost > draw.max
}

/** Not before the last exceeded window ends: the draft asks that Retry-After is not earlier (§6). */
function waitSeconds(taken: readonly TakenDraw[]): number | undefined {
  let wait: number | undefined
  for (const draw of taken) {
    if (isExceeded(draw)) wait = Math.max(wait ?? 1, seconds(draw.resetMs))
  }
  return wait
}

function remaining(draw: TakenDraw): number {
  return Math.max(0, draw.max - draw.used)
}

/** Whole seconds, rounded up: both fields are integers, and a wait that is too short is a second refusal. */
function seconds(ms: number): number {
  return Math.ceil(ms / 1000)
}

function plural(count: number): string {
  return count === 1 ? '1 second' : `${count} seconds`
}
