// Do the tools and the site fit together: scopes that exist, scopes that survive the device flow, routes that are there?
import type { Answer } from './ask.ts'
import {
  type Check,
  type Context,
  failed,
  type Finding,
  ok,
  skipped,
  strings,
  warning
} from './check.ts'

const MAX_ROUTES = 200
const AT_ONCE = 4

/** Every scope that tools, documents and configuration ask for. */
function wantedScopes({ config, facts }: Context): string[] {
  const all = [
    ...strings(facts.prm?.['scopes_supported']),
    ...(facts.challenge?.['scope'] ?? '').split(' '),
    ...(config?.oauth.scopes ?? []),
    ...(facts.tools ?? []).flatMap(tool => tool.scopes)
  ]
  return [...new Set(all)].filter(Boolean).toSorted()
}

function scopes(context: Context): Finding {
  const wanted = wantedScopes(context)
  if (wanted.length === 0) {
    return warning(
      'no tool and no document names a scope',
      'Name the base scopes in OAUTH_SCOPES, or annotate the tools.'
    )
  }
  const known = context.facts.metadata!.document['scopes_supported']
  if (known === undefined) return skipped('the site publishes no scopes')
  const published = strings(known)
  const missing = wanted.filter(scope => !published.includes(scope))
  if (missing.length === 0) return ok(wanted.join(' '))
  return failed(`the site has no ${missing.join(', ')}`)
}

function deviceScopes(context: Context): Finding {
  if (context.config?.oauth.deviceFlowEnabled === false) {
    return skipped('OAUTH_DEVICE_FLOW_ENABLED is false')
  }
  if (context.facts.metadata!.document['device_authorization_endpoint'] === undefined) {
    return skipped('the site has no device sign-in')
  }
  const dropped = wantedScopes(context).filter(scope => !/^[a-z0-9_]+$/.test(scope))
  if (dropped.length === 0) return ok('all names survive')
  return warning(`the device sign-in of Simple OAuth 2.1 silently drops ${dropped.join(', ')}`)
}

/** The site's base URL: its issuer says in which directory it lives, where the issuer is one that can be asked. */
function siteUrl({ config, facts }: Context): string {
  if (config !== undefined) return config.drupal.url
  const { document, answer } = facts.metadata!
  const { origin } = new URL(answer.url)
  const issuer = document['issuer'] as string
  return issuer.startsWith(`${origin}/`) ? issuer.replace(/\/$/, '') : origin
}

/** Without a query nothing runs: an existing route answers 400, 401 or 403. */
async function routes(context: Context): Promise<Finding> {
  const { config, facts, askDrupal } = context
  if (config?.drupal.upstream === 'mcp') return skipped('DRUPAL_UPSTREAM is mcp: no route per tool')
  const path = siteUrl(context) + (config?.drupal.mcpPath ?? '/mcp/tools')
  const list = await askDrupal(`${path}/list`)
  if (list.status === 404)
    return skipped(`${path}/list is not public, or the site has no jsonrpc_mcp`)
  const names = facts.tools!.map(tool => tool.name).slice(0, MAX_ROUTES)
  const missing: string[] = []
  for (let at = 0; at < names.length; at += AT_ONCE) {
    const some = names.slice(at, at + AT_ONCE)
    const answers: Answer[] = await Promise.all(
      some.map(name => askDrupal(`${path}/${encodeURIComponent(name)}`))
    )
    missing.push(...some.filter((_, index) => answers[index]!.status === 404))
  }
  if (missing.length === 0) return ok(`${names.length} routes`)
  return failed(`listed, and their URL is 404: ${missing.join(', ')}`)
}

export const toolChecks: readonly Check[] = [
  {
    id: 'scopes',
    title: 'Scopes of the tools exist',
    side: 'both',
    needs: ['as-scopes'],
    remedy:
      'Create them with their grants (authorization_code, refresh_token, device code) and a permission or role, at /admin/config/people/simple_oauth/oauth2_scope/dynamic',
    run: scopes
  },
  {
    id: 'device-scopes',
    title: 'Scopes survive the device sign-in',
    side: 'both',
    needs: ['as-metadata'],
    remedy:
      'Name scopes with a–z, 0–9 and _ only (read_tutorials, not read:tutorials), or let people sign in with a browser.',
    run: deviceScopes
  },
  {
    id: 'tool-routes',
    title: 'Listed tools have a route',
    side: 'outside',
    needs: ['tools', 'as-metadata'],
    remedy: `Rebuild the routes as a user who may run every tool: drush php:eval "\\Drupal::service('account_switcher')->switchTo(\\Drupal\\user\\Entity\\User::load(1)); \\Drupal::service('router.builder')->rebuild();" (drush cache:rebuild does it as anonymous, and then privileged tools lose theirs).`,
    run: routes
  }
]
