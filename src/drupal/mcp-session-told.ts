// What does an answer of the upstream tell of the session in which it was asked for? It refuses to know what is done about it.
import { errorTable, type GatewayError, gatewayError } from '../errors.ts'
import type { Answer } from './exchange.ts'
import { isMethodError, rpcCode, typeOf, unusable } from './mcp-ask.ts'
import type { UpstreamSession } from './mcp-kept-session.ts'

const textOf = ({ body }: Answer) => body.subarray(0, 4096).toString()

/** Gives an answer that was asked for in `session`. Throws GW_UPSTREAM_INVALID for one that names another: it is somebody else's. */
export function inSession({ id }: UpstreamSession, answer: Answer): Answer {
  const { 'mcp-session-id': named } = answer.headers
  if (named === undefined || named === id || id === '') return answer
  answer.stream?.destroy()
  throw unusable('an answer in another session', answer)
}

/** Another call holds it: this one was not carried out (drupal-wire §14). A page about a site that is locked says nothing of that. */
export function isLocked(answer: Answer): boolean {
  if (answer.status !== 503 || typeOf(answer) === 'text/html') return false
  return /\bsession lock/i.test(textOf(answer))
}

/** It is lost: 404 (R26), or 400 and a text from servers made after the examples of the SDKs. */
export function isLost(answer: Answer): boolean {
  if (isMethodError(answer)) return false
  if (answer.status === 404) return true
  return (
    answer.status === 400 && /session id|session not found|not initialized/i.test(textOf(answer))
  )
}

/** Throws where the upstream refuses the version that it has agreed on: it was replaced, and the client has to begin anew (R26). */
export function refuseOtherEra(answer: Answer): void {
  const { rpc } = errorTable.GW_UNSUPPORTED_MODERN_VERSION
  if (answer.status === 400 && rpcCode(answer) === rpc) throw otherEra()
}

/** The 404 of a session that began with an upstream of the other era (R26). */
export const otherEra = (): GatewayError =>
  gatewayError('GW_SESSION_NOT_FOUND', { reason: 'begun before the upstream changed its era' })
