// Does the authorization server describe itself so that clients can use it (RFC 8414, R98–R103)?
import { reach } from '../../config/address.ts'
import { issuersOf, metadataLocations } from '../../auth/metadata-location.ts'
import { type Answer, type Ask, brief, documentOf, type Json, type Unreachable } from './ask.ts'
import {
  type Check,
  type Context,
  failed,
  type Finding,
  ok,
  quote,
  strings,
  warning,
  worst
} from './check.ts'
import { textsIn } from './resource.ts'

type Found = { document: Json; answer: Answer }

const MODULES = 'drush pm:install simple_oauth_21 simple_oauth_server_metadata'

/** The first location that answers with a document; else what the locations answered. */
async function look(ask: Ask, locations: readonly string[]): Promise<Found | string[]> {
  const seen: string[] = []
  for (const location of locations) {
    try {
      const answer = await ask(location)
      const document = documentOf(answer)
      if (typeof document?.['issuer'] === 'string') return { document, answer }
      seen.push(`${location} answers ${brief(answer)}`)
    } catch (error) {
      seen.push((error as Unreachable).message)
    }
  }
  return seen
}

async function metadata(context: Context): Promise<Finding> {
  const { url, config, facts, ask, askDrupal } = context
  const base = config?.drupal.url ?? strings(facts.prm!['authorization_servers'])[0]!
  const found = await look(askDrupal, metadataLocations(base))
  if (!Array.isArray(found)) {
    facts.metadata = found
    return ok(found.answer.url)
  }
  const seen = found.join('; ')
  // Without configuration the gateway's copy (R98) shows whether a client could go on.
  const copies = config === undefined ? metadataLocations(new URL(url!).origin) : []
  const copy = await look(ask, copies)
  const isSilent = !found.some(line => line.includes(' answers '))
  if (!Array.isArray(copy) && isSilent && reach(base) === 'loopback') {
    // The site itself is asked where the copy says that it is.
    const endpoint = copy.document['token_endpoint']
    const home =
      typeof endpoint === 'string' && URL.canParse(endpoint) ? [new URL(endpoint).origin] : []
    const direct = await look(askDrupal, home.flatMap(metadataLocations))
    facts.metadata = Array.isArray(direct) ? copy : direct
    return warning(
      `${seen}; the gateway’s copy answers`,
      'Drupal names itself https without port: on a development machine put TLS in front of it, or go on with the copy.'
    )
  }
  if (found.some(line => line.includes('answers 503'))) {
    return failed(
      seen,
      'End maintenance mode: drush state:set system.maintenance_mode 0 --input-format=integer && drush cache:rebuild'
    )
  }
  return failed(seen)
}

const slashOnly = (a: string, b: string) => a !== b && a.replace(/\/$/, '') === b.replace(/\/$/, '')

async function issuer({ config, facts, askDrupal }: Context): Promise<Finding> {
  const { document, answer } = facts.metadata!
  const name = document['issuer'] as string
  const problems: Finding[] = []
  const compare = (where: string, other: string, advice: string) => {
    if (other === name) return
    const slash = slashOnly(name, other) ? ', only a slash apart' : ''
    problems.push(failed(`metadata says ${quote(name)}, ${where} ${quote(other)}${slash}`, advice))
  }
  if (facts.prm !== undefined) {
    const [published] = strings(facts.prm['authorization_servers'])
    compare(
      'the resource metadata',
      published!,
      'Remove OAUTH_ISSUER so that the gateway copies it, or set it byte for byte as the site says.'
    )
  }
  if (config !== undefined) {
    const { issuers } = config.oauth
    const expected = issuers.length > 0 ? issuers : issuersOf(config.drupal.url)
    if (!expected.includes(name)) {
      compare(
        'the configuration',
        expected[0]!,
        `Set DRUPAL_URL to the site’s public URL; when the issuer is right all the same, set OAUTH_ISSUER=${name}`
      )
    }
  }
  const openid = answer.url.replace(/oauth-authorization-server/, 'openid-configuration')
  const other = openid === answer.url ? undefined : documentOf(await askDrupal(openid))
  if (typeof other?.['issuer'] === 'string') {
    compare(
      'openid-configuration',
      other['issuer'],
      'Let both documents be asked under one host name.'
    )
  }
  return worst(problems, name)
}

function pkce({ facts }: Context): Finding {
  const methods = facts.metadata!.document['code_challenge_methods_supported']
  return strings(methods).includes('S256')
    ? ok(quote(methods))
    : failed(`offered is ${quote(methods)}`)
}

function grants({ facts }: Context): Finding {
  const { document } = facts.metadata!
  const offered = strings(document['grant_types_supported'])
  const problems: Finding[] = []
  const lacks = ['authorization_code', 'refresh_token'].filter(grant => !offered.includes(grant))
  if (
    lacks.includes('authorization_code') ||
    !strings(document['response_types_supported']).includes('code')
  ) {
    problems.push(failed(`no authorization_code in ${quote(offered)}`))
  }
  if (lacks.includes('refresh_token')) {
    problems.push(warning('no refresh_token: people sign in again whenever a token ends'))
  }
  for (const name of ['authorization_endpoint', 'token_endpoint']) {
    const value = document[name]
    if (typeof value !== 'string' || !URL.canParse(value))
      problems.push(failed(`${name} is ${quote(value)}`))
  }
  return worst(problems, 'authorization_code and refresh_token')
}

async function registration({ facts, askDrupal }: Context): Promise<Finding> {
  const { document } = facts.metadata!
  const endpoint = document['registration_endpoint']
  if (endpoint === undefined) {
    return warning(
      'none: clients that bring no client id cannot sign in',
      `${MODULES} simple_oauth_client_registration; or register clients by hand and tell people their ids.`
    )
  }
  if (typeof endpoint !== 'string' || !URL.canParse(endpoint))
    return failed(`is ${quote(endpoint)}`)
  const { hostname } = new URL(endpoint)
  const home = new URL(document['token_endpoint'] as string).hostname
  if (hostname !== home) return failed(`is ${endpoint}, and the token endpoint is on ${home}`)
  // Only a look: a POST, even an empty one, would register a client.
  const answer = await askDrupal(endpoint)
  const seen = `${endpoint} answers ${brief(answer)} to GET`
  if (answer.status === 404 || answer.status >= 500) {
    return failed(seen, `${MODULES} simple_oauth_client_registration && drush cache:rebuild`)
  }
  return ok(endpoint)
}

function leaks({ url, facts }: Context): Finding {
  const onlyLoopback = url!.startsWith('http:')
  const documents: [string, Json][] = [
    ['resource metadata', facts.prm!],
    ['metadata', facts.metadata!.document],
    ['challenge', facts.challenge ?? {}]
  ]
  const found = documents.flatMap(([where, document]) =>
    textsIn(document)
      .filter(([, text]) => /^http:\/\//i.test(text) && URL.canParse(text))
      // The check of the registration endpoint says more about this one.
      .filter(
        ([name, text]) => name !== 'registration_endpoint' || !text.startsWith('http://default/')
      )
      .filter(([, text]) => !onlyLoopback || reach(text) !== 'loopback')
      .map(([name, text]) => `${where}: ${name} ${text}`)
  )
  return found.length === 0 ? ok('none') : failed(found.join('; '))
}

export const authorizationServerChecks: readonly Check[] = [
  {
    id: 'as-metadata',
    title: 'Authorization server metadata',
    side: 'both',
    needs: ['resource-metadata', 'drupal'],
    remedy: `Make the site answer there with JSON: ${MODULES} && drush cache:rebuild; in Varnish, CDN and web server let /.well-known/ reach Drupal.`,
    run: metadata
  },
  {
    id: 'as-issuer',
    title: 'One issuer, byte for byte',
    side: 'both',
    needs: ['as-metadata'],
    remedy: 'Let every document be asked under the site’s one public name.',
    run: issuer
  },
  {
    id: 'as-grants',
    title: 'Grants and endpoints',
    side: 'both',
    needs: ['as-metadata'],
    remedy: `Enable the grants of Simple OAuth, and ${MODULES}`,
    run: grants
  },
  {
    id: 'as-pkce',
    title: 'PKCE with S256',
    side: 'both',
    needs: ['as-metadata'],
    remedy:
      'Clients refuse to sign in without it: drush pm:install simple_oauth_pkce && drush config:set simple_oauth_pkce.settings s256_enabled 1 -y',
    run: pkce
  },
  {
    id: 'as-registration',
    title: 'Registration endpoint',
    side: 'both',
    needs: ['as-grants'],
    remedy:
      'It was frozen when the module was installed: drush config:set simple_oauth_server_metadata.settings registration_endpoint "" -y && drush cache:rebuild',
    run: registration
  },
  {
    id: 'http-leaks',
    title: 'No http:// in any document',
    side: 'outside',
    needs: ['as-metadata'],
    remedy:
      "Tell Drupal that TLS ends in front of it: the proxy sends X-Forwarded-Proto, and settings.php has $settings['reverse_proxy'] = TRUE with the proxy in reverse_proxy_addresses. For the gateway set GATEWAY_PUBLIC_URL.",
    run: leaks
  }
]
