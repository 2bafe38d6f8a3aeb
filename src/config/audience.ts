// What does the option oauth.audience mean? It refuses to know tokens: src/auth judges by the policy that this gives.
import type { AudiencePolicy } from './schema.ts'

/**
 * Reads `drupal`, `resource` or `clients:id,id` (spaces around ids do not count).
 * Throws an Error that says what is accepted; a list without an id is refused, as it would refuse every token.
 */
export function parseAudience(text: string): AudiencePolicy {
  if (text === 'drupal' || text === 'resource') return { kind: text }
  const clientIds = text.startsWith('clients:')
    ? text
        .slice('clients:'.length)
        .split(',')
        .map(id => id.trim())
        .filter(id => id !== '')
    : []
  if (clientIds.length === 0)
    throw new Error('An audience must be drupal, resource or clients:<client id>,<client id>.')
  return { kind: 'clients', clientIds }
}
