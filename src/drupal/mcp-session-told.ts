// What does an answer of the upstream tell of the session in which it was asked for? It refuses to know what is done about it.
import type { Answer } from './exchange.ts'
import { isMethodError } from './mcp-ask.ts'

const textOf = ({ body }: Answer) => body.subarray(0, 4096).toString()

/** Another call holds it: this one was not carried out. */
export function isLocked(answer: Answer): boolean {
  return answer.status === 503 && /\block/i.test(textOf(answer))
}

/** It is lost: 404 (R26), or 400 and a text from servers made after the examples of the SDKs. */
export function isLost(answer: Answer): boolean {
  if (isMethodError(answer)) return false
  if (answer.status === 404) return true
  return (
    answer.status === 400 && /session id|session not found|not initialized/i.test(textOf(answer))
  )
}
