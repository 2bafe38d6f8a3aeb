// May they, and how often? Every message of an admitted call draws on its budgets and is held against its tool's rule, before a
// single byte of the answer (R88, R89). The decisions are policy's; here they become refusals.
import { normalizeIP } from '@fastify/rate-limit'
import type { FastifyPluginCallback, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { Principal } from '../auth/principal.ts'
import type { Config } from '../config/schema.ts'
import { gatewayError } from '../errors.ts'
import type { Message } from '../mcp/call.ts'
import { authorize, type Question } from '../policy/authorize.ts'
import { type Draw, draws } from '../policy/budgets.ts'
import { type ToolRule, toolName } from '../policy/tools.ts'

interface Options {
  config: Config
  /** What one call of a tool draws: of its rule, what the operator set, for which nobody need be asked. */
  weigh: (tool: string) => ToolRule
  /** The rule of a tool for this caller; undefined when the caller's catalogue does not have it. */
  ruleOf: (
    tool: string,
    principal: Principal | undefined,
    token: string | undefined
  ) => ToolRule | undefined | Promise<ToolRule | undefined>
}

const plugin: FastifyPluginCallback<Options> = function permit(app, options, done) {
  const { config, weigh, ruleOf } = options
  const { budgets } = config.derived
  const policy: Question['policy'] = {
    anonymous: config.oauth.anonymous,
    missingScope: config.policy.missingScope
  }

  function drawsOf(request: FastifyRequest, message: Message): Draw[] {
    const tool = toolName(message)
    return draws({
      budgets,
      principal: request.principal,
      sessionId: request.call.session?.id,
      address: request.principal === undefined ? normalizeIP(request.ip) : undefined,
      message,
      rule: tool === undefined ? undefined : weigh(tool)
    })
  }

  app.addHook('preHandler', async function permit(request, reply) {
    const { principal, token } = request
    const { messages } = request.call
    if (messages.length === 0) return
    // First the budgets: to learn a tool's rule Drupal may have to be asked, and that is what they protect.
    const all = messages.flatMap(message => drawsOf(request, message))
    if (all.length > 0) await app.drawBudgets(all, reply)
    for (const message of messages) {
      const tool = toolName(message)
      const found = tool === undefined ? undefined : ruleOf(tool, principal, token)
      const rule = found instanceof Promise ? await found : found
      const decision = authorize({ principal, message, rule, policy })
      if (decision.allow) continue
      const { allow: _, code, ...details } = decision
      // In a batch an unknown tool is one element's error; what needs a sign-in or a scope refuses the request as a whole.
      if (code === 'GW_INVALID_PARAMS' && request.call.batch) continue
      throw gatewayError(code, { ...details, reason: `policy: ${code}` })
    }
  })
  done()
}

/** Refuses with 429, 401, 403 insufficient_scope or JSON-RPC -32602; else the call goes to the upstream. */
export const permit = fp(plugin, { name: 'permit', dependencies: ['limits'] })
