// The doctor's checks, in the order of dependence: from the name of the host to a tool's answer.
import { authorizationServerChecks } from './authorization-server.ts'
import { challengeChecks } from './challenge.ts'
import type { Check } from './check.ts'
import { configurationChecks } from './configuration.ts'
import { connectionChecks } from './connection.ts'
import { corsChecks, signInCorsChecks } from './cors.ts'
import { endpointChecks } from './endpoints.ts'
import { keyChecks } from './keys.ts'
import { resourceChecks } from './resource.ts'
import { serviceChecks } from './service.ts'
import { siteChecks } from './site.ts'
import { tokenChecks } from './token.ts'
import { toolChecks } from './tools.ts'
import { tripChecks } from './trip.ts'

/** Every check there is. A check stands after all that it needs. */
export const allChecks: readonly Check[] = [
  ...configurationChecks,
  ...connectionChecks,
  ...resourceChecks,
  ...challengeChecks,
  ...corsChecks,
  ...authorizationServerChecks,
  ...keyChecks,
  ...endpointChecks,
  ...signInCorsChecks,
  ...siteChecks,
  ...serviceChecks,
  ...tokenChecks,
  ...tripChecks,
  ...toolChecks
]

/** The checks of a run from outside (a URL), from inside (a configuration), or both. */
export function checksFor(sides: { outside: boolean; inside: boolean }): Check[] {
  return allChecks.filter(({ side }) => side === 'both' || sides[side])
}
