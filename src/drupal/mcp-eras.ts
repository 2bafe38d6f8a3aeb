// Which era does the upstream speak? Asked once by server/discover, kept for a while, asked again when an answer contradicts.
// It refuses to know what is done about it.
import { randomUUID } from 'node:crypto'
import type { Params, RequestId } from '../mcp/call.ts'
import { metaKey } from '../mcp/envelope.ts'
import { gatewayInfo } from '../mcp/server-info.ts'
import { isSupportedModern, MODERN_VERSIONS } from '../mcp/version.ts'
import type { Answer } from './exchange.ts'
import { type Ask, type Caller, refuseOrPass, rpcCode } from './mcp-ask.ts'
import { type ReadAnswer, type ReadBounds, readAnswer } from './mcp-read.ts'

export interface Probed {
  isModern: boolean
  /** What it says of itself; undefined also where a modern upstream refused. */
  found: Params | undefined
  answer: Answer
  read: ReadAnswer
}

export interface Eras {
  /** Whether the upstream speaks 2026-07-28. Asks when nobody knows. */
  isModern(caller: Caller): Promise<boolean>
  /** The same without asking; undefined where nobody knows. */
  known(): boolean | undefined
  /**
   * What the upstream says of itself to this caller; undefined where it does not speak 2026-07-28. Always asks: it may say
   * something else to the next one (R65).
   */
  discover(caller: Caller): Promise<Params | undefined>
  /**
   * Asks with a client's own server/discover, so that a modern upstream is asked once. The answer is that client's: a refusal
   * may be for what that client sent, and leaves the era unknown.
   */
  probe(
    caller: Caller,
    question: { body: Buffer | string; headers: Record<string, string>; id: RequestId }
  ): Promise<Probed>
  /** An answer in the modern era: after a refusal that the envelope cannot have earned, nobody knows until it is asked again. */
  judge(answer: Answer): void
  /** The upstream refuses what its era has to take: nobody knows it until it is asked again. */
  doubt(): void
}

/** How long a verdict is believed. */
const trustMs = 300_000

/**
 * What a modern upstream may answer to an envelope that was checked here; -32020 and -32021 depend on the tool. -32600 can be
 * earned too, but is also how older servers ask for a session: it costs one question of the gateway's own.
 */
const earned: ReadonlySet<number> = new Set([-32601, -32602, -32603, -32700, -32020, -32021])

const version = MODERN_VERSIONS[0]

/** The envelope of the gateway's own modern requests. */
const ownEnvelope = {
  [metaKey.protocolVersion]: version,
  [metaKey.clientCapabilities]: {},
  [metaKey.clientInfo]: gatewayInfo
}

/** A request of the gateway's own, in the modern era; under another id each time: what somebody else is answered is no answer here. */
export function modernRequest(method: string, params: Params = {}) {
  const id = `gateway-${randomUUID()}`
  return {
    id,
    body: JSON.stringify({
      jsonrpc: '2.0',
      id,
      method,
      params: { ...params, _meta: ownEnvelope }
    }),
    headers: { 'mcp-protocol-version': version, 'mcp-method': method } as Record<string, string>
  }
}

/** Gives the upstream's era, of which nothing is known yet; nothing is asked before somebody wants to know. */
export function createEras(ask: Ask, bounds: ReadBounds): Eras {
  let verdict: { isModern: boolean; until: number } | undefined
  let asking: Promise<boolean> | undefined

  function known(): boolean | undefined {
    if (verdict === undefined || performance.now() >= verdict.until) return undefined
    return verdict.isModern
  }

  function keep(isModern: boolean): void {
    verdict = { isModern, until: performance.now() + trustMs }
  }

  async function probe(
    caller: Caller,
    question: { body: Buffer | string; headers: Record<string, string>; id: RequestId }
  ): Promise<Probed> {
    const { body, headers, id } = question
    const answer = await ask(caller, { method: 'POST', body, headers })
    // Only an answer about the protocol says anything about it.
    refuseUnlessProtocol(answer, caller)
    const read: ReadAnswer = await readAnswer(answer, bounds, id).catch(() => ({
      message: {},
      text: '',
      bytes: answer.body
    }))
    const { message } = read
    const result = message['result'] as Params | undefined
    if (lists(result?.['supportedVersions'])) {
      keep(true)
      return { isModern: true, found: result, answer, read }
    }
    // Such a refusal is itself of the modern era: whoever asked may try again (R56).
    const { code, data } = (message['error'] ?? {}) as { code?: unknown; data?: Params }
    const isModern = code === -32022 && lists(data?.['supported'])
    return { isModern, found: undefined, answer, read }
  }

  async function discover(caller: Caller): Promise<Params | undefined> {
    const question = modernRequest('server/discover')
    let { isModern, found } = await probe(caller, question)
    if (isModern && found === undefined) ({ isModern, found } = await probe(caller, question))
    // Said to the gateway's own question only: what one client sends must not decide the era of all.
    if (!isModern) keep(false)
    return found
  }

  function doubt(): void {
    verdict = undefined
  }

  const findsModern = async (caller: Caller) => (await discover(caller)) !== undefined

  return {
    known,
    probe,
    discover,
    isModern(caller) {
      const isModern = known()
      if (isModern !== undefined) return Promise.resolve(isModern)
      // A refusal may be for the token of who asked: whoever waited for it asks for himself.
      if (asking !== undefined) return asking.catch(() => findsModern(caller))
      asking = findsModern(caller).finally(() => {
        asking = undefined
      })
      return asking
    },
    doubt,
    judge(answer) {
      const code = answer.status >= 400 ? rpcCode(answer) : undefined
      if (code !== undefined && !earned.has(code)) doubt()
    }
  }
}

const lists = (versions: unknown): boolean =>
  Array.isArray(versions) && versions.some(isSupportedModern)

/** A 4xx is how an older server says that it does not understand, in whatever form; the rest is about something else. */
function refuseUnlessProtocol(answer: Answer, caller: Caller): void {
  const { status } = answer
  const isAnswer = status < 300 || [400, 404, 405, 406, 415, 422].includes(status)
  if (!isAnswer) refuseOrPass(answer, caller)
}
