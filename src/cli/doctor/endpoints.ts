// Do the authorization server's endpoints answer the programs that will call them? Every question is one that the server must
// refuse: nothing is created, no secret is sent.
import { type Answer, type Ask, brief, fieldsOf } from './ask.ts'
import {
  type Check,
  type Context,
  failed,
  type Finding,
  ok,
  PROBE_CLIENT,
  quote,
  skipped,
  strings,
  warning
} from './check.ts'

const ELECTRON =
  'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Claude/1.0 Chrome/130.0 Electron/33.0 Safari/537.36'
const FIREWALL =
  'Something in front of Drupal answers: let POST requests of programs pass on /oauth/ in the firewall, CDN and bot protection.'

/** POSTs a form. */
export function postForm(
  ask: Ask,
  url: string,
  form: Record<string, string>,
  headers: Record<string, string> = {}
): Promise<Answer> {
  return ask(url, {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
    body: new URLSearchParams(form).toString()
  })
}

/** Asks for a token with a code and a client that are none. */
export const PROBE = {
  grant_type: 'authorization_code',
  client_id: PROBE_CLIENT,
  code: 'doctor-probe',
  redirect_uri: 'http://127.0.0.1/doctor-probe'
}

const errorOf = (answer: Answer) => fieldsOf(answer)['error']
const refusedProperly = (answer: Answer) =>
  (answer.status === 400 || answer.status === 401) && typeof errorOf(answer) === 'string'

async function token({ facts, askDrupal }: Context): Promise<Finding> {
  const url = facts.metadata!.document['token_endpoint'] as string
  const answer = await postForm(askDrupal, url, PROBE)
  const seen = `${url} answers ${brief(answer)}`
  if (!refusedProperly(answer)) return failed(seen, adviceFor(answer))
  const error = errorOf(answer)
  if (error === 'embedded_webview_blocked') {
    return failed(`${seen}, ${quote(error)}`, WEBVIEW)
  }
  return ok(`${seen}, ${quote(error)} for a client that is none`)
}

function adviceFor({ status }: Answer): string {
  if (status === 404 || status === 405)
    return 'Route /oauth/ to Drupal: drush pm:install simple_oauth && drush cache:rebuild'
  if (status >= 500)
    return 'See the site’s log: drush watchdog:show --type=simple_oauth. The web server’s user must be able to read the key files.'
  return FIREWALL
}

const WEBVIEW =
  'Desktop clients built on Electron (Claude, Cursor, VS Code) are taken for embedded browsers and cannot get a token: drush config:set simple_oauth_native_apps.settings webview.detection warn -y'

async function webview({ facts, askDrupal }: Context): Promise<Finding> {
  const url = facts.metadata!.document['token_endpoint'] as string
  const answer = await postForm(askDrupal, url, PROBE, { 'user-agent': ELECTRON })
  if (refusedProperly(answer) && errorOf(answer) !== 'embedded_webview_blocked') {
    return ok('an Electron program is answered like any other')
  }
  return warning(`an Electron program gets ${brief(answer)}, ${quote(errorOf(answer))}`)
}

async function device({ config, facts, askDrupal }: Context): Promise<Finding> {
  const url = facts.metadata!.document['device_authorization_endpoint']
  const isOff = config?.oauth.deviceFlowEnabled === false
  if (isOff) return skipped('OAUTH_DEVICE_FLOW_ENABLED is false')
  if (url === undefined) return warning('none: no sign-in from a terminal without a browser')
  if (typeof url !== 'string' || !URL.canParse(url)) return failed(`is ${quote(url)}`)
  const answer = await postForm(askDrupal, url, { client_id: PROBE_CLIENT })
  const seen = `${url} answers ${brief(answer)}`
  return refusedProperly(answer) ? ok(`${seen}, ${quote(errorOf(answer))}`) : failed(seen)
}

/** Which dialect the endpoint speaks: Drupal's (a bearer asks about a jti) or RFC 7662. */
function dialectOf(answer: Answer): 'drupal' | 'rfc7662' {
  return /^Bearer/i.test(String(answer.headers['www-authenticate'])) ? 'drupal' : 'rfc7662'
}

async function introspection({ config, facts, askDrupal }: Context): Promise<Finding> {
  const { document } = facts.metadata!
  const url = document['introspection_endpoint']
  const isUsed = config !== undefined && config.oauth.validation !== 'jwt'
  const without = (seen: string) =>
    isUsed
      ? failed(
          seen,
          'Set OAUTH_VALIDATION=jwt, or install the module: drush pm:install simple_oauth_server_metadata'
        )
      : ok(`${seen}; not needed with OAUTH_VALIDATION=jwt`)
  if (typeof url !== 'string' || !URL.canParse(url)) return without('none')
  const answer = await postForm(askDrupal, url, { token: 'doctor-probe' })
  const seen = `${url} answers ${brief(answer)}`
  if (fieldsOf(answer)['active'] !== undefined) {
    return warning(
      `${seen} to a caller without credentials`,
      'Anybody may ask about tokens: let the endpoint authenticate its callers.'
    )
  }
  if (answer.status !== 401 && !refusedProperly(answer)) return without(seen)
  const dialect = dialectOf(answer)
  const wanted = config?.oauth.introspection ?? 'auto'
  if (isUsed && wanted !== 'auto' && wanted !== dialect) {
    return failed(
      `it speaks ${dialect}, OAUTH_INTROSPECTION is ${wanted}`,
      `Set OAUTH_INTROSPECTION=${dialect}.`
    )
  }
  return ok(
    dialect === 'drupal'
      ? 'Drupal’s dialect: a bearer token asks, tokens are known by their jti'
      : 'RFC 7662'
  )
}

function publishedScopes({ facts }: Context): Finding {
  const value = facts.metadata!.document['scopes_supported']
  if (Array.isArray(value)) return ok(`${strings(value).length} scopes`)
  if (value === undefined) return warning('scopes_supported is missing')
  return failed(
    'scopes_supported is an object, not a list: strict clients refuse the whole document',
    'A scope of the site has the name of an OpenID Connect scope (openid, profile, email, phone, address), often profile from jsonrpc_mcp: rename or delete it at /admin/config/people/simple_oauth/oauth2_scope/dynamic, then drush cache:rebuild'
  )
}

export const endpointChecks: readonly Check[] = [
  {
    id: 'as-scopes',
    title: 'List of scopes',
    side: 'both',
    needs: ['as-metadata'],
    remedy:
      'Publish the scopes: drush cache:rebuild, and see /admin/config/people/simple_oauth/oauth2_scope/dynamic',
    run: publishedScopes
  },
  {
    id: 'token-endpoint',
    title: 'Token endpoint',
    side: 'both',
    needs: ['as-grants'],
    remedy: FIREWALL,
    run: token
  },
  {
    id: 'webview',
    title: 'Desktop clients (Electron)',
    side: 'both',
    needs: ['token-endpoint'],
    remedy: WEBVIEW,
    run: webview
  },
  {
    id: 'device',
    title: 'Device sign-in',
    side: 'both',
    needs: ['as-metadata'],
    remedy: 'drush pm:install simple_oauth_device_flow && drush cache:rebuild',
    run: device
  },
  {
    id: 'introspection',
    title: 'Introspection dialect',
    side: 'both',
    needs: ['as-metadata'],
    remedy: 'drush pm:install simple_oauth_server_metadata, or set OAUTH_VALIDATION=jwt',
    run: introspection
  }
]
