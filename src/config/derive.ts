// What follows from the options? Canonical URLs, defaults that depend on other options, and the values of Config.derived.
// It refuses to know what is allowed (check.ts).
import { normaliseHost, normaliseOrigin, normaliseUrl } from './address.ts'
import { parseAudience } from './audience.ts'
import { parseBudget } from './budget.ts'
import type { Config, Tree } from './schema.ts'

/** Makes URLs canonical and fills in the defaults that depend on other options, in place. */
export function settle(tree: Tree): void {
  const { server, drupal } = tree
  // Port 0 is not known yet and production must say where it is: there publicUrl stays empty, and check.ts refuses it.
  if (tree.publicUrl === '' && tree.environment !== 'production' && server.port !== 0)
    tree.publicUrl = `${server.tlsCertFile === '' ? 'http' : 'https'}://localhost:${server.port}`
  tree.publicUrl &&= normaliseUrl(tree.publicUrl)
  drupal.url = normaliseUrl(drupal.url)
  drupal.internalUrl &&= normaliseUrl(drupal.internalUrl)
  drupal.mcpPath ||= drupal.upstream === 'jsonrpc' ? '/mcp/tools' : '/mcp'
  // As a request may name it: letters that HTTP does not know are escaped.
  drupal.mcpPath = new URL(`http://site${drupal.mcpPath}`).pathname.replace(/\/+$/, '')
  // The endpoint itself is asked for; of tools, what is below.
  if (drupal.upstream === 'mcp') drupal.mcpPath ||= '/'
  server.allowedHosts = server.allowedHosts.map(normaliseHost)
  server.allowedOrigins = server.allowedOrigins.map(normaliseOrigin)
}

/** Config.derived of a settled and checked tree. */
export function derive(tree: Tree, warnings: readonly string[]): Config['derived'] {
  const resource = tree.publicUrl + tree.mcpPath
  const { origin, pathname } = new URL(resource)
  return {
    resource,
    resourceMetadataUrl: `${origin}/.well-known/oauth-protected-resource${pathname}`,
    audience: parseAudience(tree.oauth.audience),
    budgets: {
      session: parseBudget(tree.limits.session),
      principal: parseBudget(tree.limits.principal),
      client: parseBudget(tree.limits.client),
      failures: parseBudget(tree.limits.failures)
    },
    drupalConnectUrl: tree.drupal.internalUrl || tree.drupal.url,
    warnings
  }
}
