// Is the gateway's configuration sound, and does the site answer where it says? From inside, before anything is deployed.
import { reach } from '../../config/address.ts'
import type { ConfigError } from '../../config/load.ts'
import { type Answer, brief, documentOf, Unreachable } from './ask.ts'
import { type Check, type Context, failed, type Finding, ok, quote, warning } from './check.ts'

function load(context: Context): Finding {
  try {
    const config = context.loadConfig()
    context.config = config
    const { oauth, session, redisUrl } = config
    context.secrets.push(oauth.clientSecret, ...session.secrets)
    if (redisUrl !== '') context.secrets.push(decodeURIComponent(new URL(redisUrl).password))
    const { resource } = config.derived
    if (context.url !== undefined && context.url !== resource) {
      return failed(
        `the resource is ${resource}, typed was ${context.url}`,
        'Set GATEWAY_PUBLIC_URL (and MCP_PATH) to the URL that people type.'
      )
    }
    return ok(`valid; the resource is ${resource}`)
  } catch (error) {
    const { problems, hints } = error as ConfigError
    return failed([...problems, ...hints].join(' '))
  }
}

/** The audience has a check of its own. */
function warnings({ config }: Context): Finding {
  const lines = config!.derived.warnings.filter(line => !line.startsWith('oauth.audience '))
  return lines.length === 0 ? ok('none') : warning(lines.join(' '))
}

function audience({ config }: Context): Finding {
  const { kind } = config!.derived.audience
  if (kind === 'resource') return ok('resource: tokens must name this resource')
  const why =
    kind === 'drupal'
      ? 'drupal, weaker than resource: a token counts when it carries one of this resource’s scopes'
      : 'a list of clients, weaker than resource: every token of these clients counts'
  return warning(why)
}

const NO_REDIRECT = 'The gateway follows no redirect'

async function site({ config, askDrupal }: Context): Promise<Finding> {
  const { url } = config!.drupal
  const { drupalConnectUrl } = config!.derived
  const where = drupalConnectUrl === url ? url : `${url} by way of ${drupalConnectUrl}`
  const answer = await askDrupal(`${url}/`).catch((error: Unreachable) => error)
  // The message names drupal.url, and what failed is perhaps the internal address.
  if (answer instanceof Unreachable) return failed(`${where}: ${answer.message}`, answer.advice)
  const seen = `${where} answers ${brief(answer)}`
  if (answer.status === 400) {
    return failed(
      seen,
      `Add the host of DRUPAL_URL to $settings['trusted_host_patterns'] in settings.php.`
    )
  }
  if (answer.status === 503)
    return failed(
      seen,
      'End maintenance mode: drush state:set system.maintenance_mode 0 --input-format=integer && drush cache:rebuild'
    )
  if (answer.status >= 500)
    return failed(seen, 'See the site’s log: drush watchdog:show --severity=Error')
  if (answer.status >= 300 && answer.status < 400) {
    const target = String(answer.headers['location'])
    const away = /^(https?:)?\/\//i.test(target) && !target.startsWith(new URL(url).origin)
    if (away) {
      return failed(
        seen,
        `${NO_REDIRECT}: set DRUPAL_URL to the address the site redirects to, or let the internal address answer without redirect.`
      )
    }
  }
  return ok(seen)
}

const hasTools = (answer: Answer) => Array.isArray(documentOf(answer)?.['tools'])

async function tools({ config, askDrupal }: Context): Promise<Finding> {
  const { url, mcpPath, upstream } = config!.drupal
  const path = upstream === 'jsonrpc' ? `${mcpPath}/list` : mcpPath
  const answer = await askDrupal(url + path)
  const seen = `${path} answers ${brief(answer)} without a token`
  if (answer.status >= 300 && answer.status < 400) {
    return failed(seen, `${NO_REDIRECT}: let the site answer this path itself.`)
  }
  const isPage = answer.status === 200 && answer.type.startsWith('text/html')
  const isNoList = upstream === 'jsonrpc' && answer.status === 200 && !hasTools(answer)
  if (isPage || isNoList) return failed(`${seen}, and that is no answer of an MCP endpoint`)
  if (answer.status !== 404) return answer.status < 500 ? ok(seen) : failed(seen)
  if (upstream === 'jsonrpc') {
    return failed(
      seen,
      'Install the module: composer require e0ipso/jsonrpc_mcp && drush pm:install jsonrpc_mcp; or correct DRUPAL_UPSTREAM and DRUPAL_MCP_PATH.'
    )
  }
  return failed(seen)
}

function publicScheme({ config }: Context): Finding {
  const { resource } = config!.derived
  if (resource.startsWith('https:') || reach(resource) === 'loopback') return ok(quote(resource))
  return warning(`${resource} is plain http`)
}

export const configurationChecks: readonly Check[] = [
  {
    id: 'config',
    title: 'Configuration',
    side: 'inside',
    needs: [],
    remedy: 'Correct the options named; config/gateway.example.yaml explains each.',
    run: load
  },
  {
    id: 'config-warnings',
    title: 'Configuration: risks',
    side: 'inside',
    needs: ['config'],
    remedy: 'Each line names the option and what can go wrong.',
    run: warnings
  },
  {
    id: 'config-public-url',
    title: 'Configuration: public URL',
    side: 'inside',
    needs: ['config'],
    remedy: 'Set GATEWAY_PUBLIC_URL to the https URL that people type.',
    run: publicScheme
  },
  {
    id: 'audience',
    title: 'Audience policy',
    side: 'inside',
    needs: ['config'],
    remedy:
      'Set OAUTH_AUDIENCE=resource once the authorization server honours RFC 8707; today’s Simple OAuth does not.',
    run: audience
  },
  {
    id: 'drupal',
    title: 'The site answers the gateway',
    side: 'inside',
    needs: ['config'],
    remedy:
      'Correct DRUPAL_URL or DRUPAL_INTERNAL_URL; the host that runs the gateway must reach the site.',
    run: site
  },
  {
    id: 'drupal-mcp',
    title: 'The site has the MCP endpoint',
    side: 'inside',
    needs: ['drupal'],
    remedy: 'Correct DRUPAL_UPSTREAM and DRUPAL_MCP_PATH; see drush watchdog:show.',
    run: tools
  }
]
