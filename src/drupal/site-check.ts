// Does the site answer at all? Asked by /readyz, without a token. It refuses to know what the answer says.
import { type GatewayError, gatewayError } from '../errors.ts'

/** Rejects with GW_UPSTREAM_UNAVAILABLE when the site cannot be reached or answers 5xx, or with the signal's reason. */
export async function checkSite(
  fetch: typeof globalThis.fetch,
  drupalUrl: string,
  signal: AbortSignal
): Promise<void> {
  const url = `${drupalUrl}/.well-known/oauth-authorization-server`
  const { status } = await fetch(url, { method: 'HEAD', signal }).catch((error: GatewayError) => {
    // The back channel speaks of the sign-in server; here it is the site that is asked for.
    if (signal.aborted) throw error
    throw gatewayError('GW_UPSTREAM_UNAVAILABLE', { reason: error.reason ?? error.message })
  })
  if (status >= 500) {
    throw gatewayError('GW_UPSTREAM_UNAVAILABLE', {
      reason: `Drupal answers ${status}${status === 503 ? ': maintenance or overload' : ''}`
    })
  }
}
