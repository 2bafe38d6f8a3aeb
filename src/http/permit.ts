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
    const { messages } = request.call
    for (let at = index; at < messages.length; at++) {
      const message = messages[at] as Message
      const tool = toolName(message)
      const rule = tool === undefined ? undefined : ruleOf(tool, request.principal, request.token)
      if (rule instanceof Promise) return decideLater(request, at, rule)
      decide(request, message, rule)
    }
  }

  async function decideLater(
    request: FastifyRequest,
    index: number,
    rule: Promise<ToolRule | undefined>
  ): Promise<void> {
    decide(request, request.call.messages[index] as Message, await rule)
    await decideFrom(request, index + 1)
  }

  function decideAll(request: FastifyRequest, next: (error?: Error) => void): void {
    let decided
    try {
      decided = decideFrom(request, 0)
    } catch (error) {
      next(error as Error)
      return
    }
    if (decided instanceof Promise) decided.then(() => next(), next)
    else next()
  }

  function allDraws(request: FastifyRequest): Draw[] {
    const { messages, batch } = request.call
    if (batch) return addUp(messages.flatMap(message => drawsOf(request, message)))
    // The end of a session has none; a stream draws nothing.
    return request.method === 'GET' ? [] : drawsOf(request, messages[0])
  }

  app.addHook('preHandler', function permit(request, reply, next) {
    // First the budgets: to learn a tool's rule Drupal may have to be asked, and that is what they protect.
    const all = allDraws(request)
    if (all.length === 0) decideAll(request, next)
    else
      app.drawBudgets(all, reply, error => {
        if (error === undefined) decideAll(request, next)
        else next(error)
      })
  })
  done()
}

/** Refuses with 429, 401, 403 insufficient_scope or JSON-RPC -32602; else the call goes to the upstream. */
export const permit = fp(plugin, { name: 'permit', dependencies: ['limits'] })
