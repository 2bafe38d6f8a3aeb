// May they, and how often? Every message of an admitted call draws on its budgets and is held against its tool's rule, before a
// single byte of the answer (R88, R89). The decisions are policy's; here they become refusals.
import type { FastifyPluginCallback, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { Principal } from '../auth/principal.ts'
import type { Config } from '../config/schema.ts'
import { gatewayError } from '../errors.ts'
import type { Message } from '../mcp/call.ts'
import { authorize, type Question } from '../policy/authorize.ts'
import { addUp, createDraws, type Draw } from '../policy/budgets.ts'
import { type ToolRule, toolName } from '../policy/tools.ts'
import { after } from './after.ts'
import { addressOf } from './limits.ts'

interface Options {
  config: Config
  /** What one call of a tool draws: of its rule, what the operator set, for which nobody need be asked. */
  weigh: (tool: string) => ToolRule
  /** Whether the upstream refuses a tool that is unknown to this caller by itself, in each element of a batch (R48). */
  judgesElements: boolean
  /** The rule of a tool for this caller; undefined when the caller's catalogue does not have it. */
  ruleOf: (
    tool: string,
    principal: Principal | undefined,
    token: string | undefined
  ) => ToolRule | undefined | Promise<ToolRule | undefined>
}

const plugin: FastifyPluginCallback<Options> = function permit(app, options, done) {
  const { config, weigh, judgesElements, ruleOf } = options
  const draws = createDraws(config.derived.budgets)
  const policy: Question['policy'] = {
    anonymous: config.oauth.anonymous,
    missingScope: config.policy.missingScope
  }

  function drawsOf(request: FastifyRequest, message: Message | undefined): Draw[] {
    const tool = message && toolName(message)
    const { session } = request.call
    return draws({
      principal: request.principal,
      session: session?.isSingle ? undefined : session,
      address: request.principal === undefined ? addressOf(request) : undefined,
      message,
      rule: tool === undefined ? undefined : weigh(tool)
    })
  }

  function decide(request: FastifyRequest, message: Message, rule: ToolRule | undefined): void {
    const decision = authorize({ principal: request.principal, message, rule, policy })
    if (decision.allow) return
    const { allow: _, code, ...details } = decision
    // In a batch an unknown tool is one element's error, where the upstream is told of each by itself; what needs a sign-in or a
    // scope refuses the request as a whole.
    if (code === 'GW_INVALID_PARAMS' && request.call.batch && judgesElements) return
    throw gatewayError(code, { ...details, reason: `policy: ${code}` })
  }

  /** One message after the other, from this one on. */
  function decideFrom(request: FastifyRequest, index: number): void | Promise<void> {
    const message = request.call.messages[index]
    if (message === undefined) return
    const tool = toolName(message)
    const rule = tool === undefined ? undefined : ruleOf(tool, request.principal, request.token)
    return after(rule, found => {
      decide(request, message, found)
      return decideFrom(request, index + 1)
    })
  }

  app.addHook('preHandler', function permit(request, reply, next) {
    // First the budgets: to learn a tool's rule Drupal may have to be asked, and that is what they protect.
    const { messages, batch } = request.call
    const asked = request.method === 'DELETE' ? [undefined] : messages
    const each = asked.flatMap(message => drawsOf(request, message))
    const all = batch ? addUp(each) : each
    const drawn = all.length > 0 ? app.drawBudgets(all, reply) : undefined
    const decided = after(drawn, () => decideFrom(request, 0))
    if (decided instanceof Promise) decided.then(() => next(), next)
    else next()
  })
  done()
}

/** Refuses with 429, 401, 403 insufficient_scope or JSON-RPC -32602; else the call goes to the upstream. */
export const permit = fp(plugin, { name: 'permit', dependencies: ['limits'] })
