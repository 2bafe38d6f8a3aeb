// What does it mean that an exchange failed? An error of the table, with a reason that names no address. It refuses to know connections.
import { type GatewayError, gatewayError } from '../errors.ts'

const connectionCodes = /^(E[A-Z]+|ERR_CLOSED)$/
/** Nothing came within the time to the first byte, or between two pieces. */
export const silence = Object.assign(new Error('silence'), { code: 'SILENCE' })

/** What a client must know when a call was sent and its answer was lost. */
export const mayHaveRun = {
  hint: 'The call may have been carried out all the same: check before repeating it.'
}

/**
 * What a failed exchange means. `isCall`: whoever got the request may have acted on it. The reason names the error's code only: its
 * message would tell the internal address.
 */
export function failure(
  error: NodeJS.ErrnoException,
  isCall: boolean,
  status: number,
  received: number
): GatewayError {
  const code = error.code ?? error.name
  const sent = isCall ? mayHaveRun : {}
  if (error === silence) {
    const reason = `silence of the site, status ${status}, ${received} bytes`
    return gatewayError('GW_UPSTREAM_TIMEOUT', { reason, ...sent })
  }
  if (status !== 0) {
    const reason = `connection lost after status ${status} and ${received} bytes: ${code}`
    return gatewayError('GW_UPSTREAM_INVALID', { reason, ...sent })
  }
  if (code === 'ECONNRESET' || code === 'EPIPE') {
    const reason = 'connection lost before an answer'
    return gatewayError('GW_UPSTREAM_UNAVAILABLE', { reason, ...sent })
  }
  if (connectionCodes.test(code) || /CERT|TLS|SSL/.test(code)) {
    return gatewayError('GW_UPSTREAM_UNAVAILABLE', { reason: `connection failed: ${code}` })
  }
  return gatewayError('GW_UPSTREAM_INVALID', { reason: `not an HTTP answer: ${code}`, ...sent })
}
