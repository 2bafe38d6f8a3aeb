// What does it mean that an exchange failed? An error of the table, with a reason that names no address. It refuses to know connections.
import { type GatewayError, gatewayError } from '../errors.ts'

/** Nothing came within the time to the first byte, or between two pieces. */
export const silence = Object.assign(new Error('silence'), { code: 'SILENCE' })

/** What a client must know when a call was sent and its answer was lost. */
export const mayHaveRun = {
  hint: 'The call may have been carried out all the same: check before repeating it.'
}

/** Not whole in its time. `isCall`: whoever got the request may have acted on it. */
export const tooLate = (timeoutMs: number, isCall: boolean): GatewayError =>
  gatewayError('GW_UPSTREAM_TIMEOUT', {
    reason: `no complete answer within ${timeoutMs} ms`,
    ...(isCall && mayHaveRun)
  })

/** Declared or counted. `isCall` as above. */
export const tooLarge = (maxBytes: number, isCall: boolean): GatewayError =>
  gatewayError('GW_UPSTREAM_TOO_LARGE', {
    reason: `more than ${maxBytes} bytes`,
    ...(isCall && mayHaveRun)
  })

const codeOf = (error: NodeJS.ErrnoException) => error.code ?? error.name

/** Nothing was sent: no name, no way, or a certificate that is not believed, which the system calls by words of many kinds. */
export const unreached = (error: NodeJS.ErrnoException): GatewayError =>
  gatewayError('GW_UPSTREAM_UNAVAILABLE', { reason: `connection failed: ${codeOf(error)}` })

/**
 * What it means that an exchange failed after it was sent. `isCall`: whoever got the request may have acted on it. The reason names
 * the error's code only: its message would tell the internal address.
 */
export function failure(
  error: NodeJS.ErrnoException,
  isCall: boolean,
  status: number,
  received: number
): GatewayError {
  const code = codeOf(error)
  const sent = isCall ? mayHaveRun : {}
  if (error === silence) {
    const reason = `silence of the site, status ${status}, ${received} bytes`
    return gatewayError('GW_UPSTREAM_TIMEOUT', { reason, ...sent })
  }
  if (status !== 0) {
    const reason = `connection lost after status ${status} and ${received} bytes: ${code}`
    return gatewayError('GW_UPSTREAM_INVALID', { reason, ...sent })
  }
  if (code.startsWith('HPE_')) {
    return gatewayError('GW_UPSTREAM_INVALID', { reason: `not an HTTP answer: ${code}`, ...sent })
  }
  const reason =
    code === 'ECONNRESET' || code === 'EPIPE'
      ? 'connection lost before an answer'
      : `connection failed: ${code}`
  return gatewayError('GW_UPSTREAM_UNAVAILABLE', { reason, ...sent })
}
