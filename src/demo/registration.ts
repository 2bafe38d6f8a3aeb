// Dynamic client registration, open to anybody, and its management URL (wire §8): 200 instead of 201, and little is echoed.
import { randomBytes, randomUUID } from 'node:crypto'
import { empty, failure, json, type Reply } from './reply.ts'
import type { DrupalRequest } from './request.ts'
import { AUTHORIZATION_CODE, type Client, clientWithId, REFRESH_TOKEN } from './site.ts'
import { seconds, type State } from './state.ts'

const MAX_CLIENTS = 10_000

interface Registration {
  client_name?: unknown
  redirect_uris?: unknown
  grant_types?: unknown
  token_endpoint_auth_method?: unknown
}

/** POST /oauth/register. Public only by `token_endpoint_auth_method: none`. */
export function register(state: State, request: DrupalRequest): Reply {
  const given = readRegistration(request.body)
  if (typeof given === 'string') return invalidMetadata(given)
  const client: Client = {
    clientId: randomBytes(32).toString('base64url'),
    uuid: randomUUID(),
    pkce: false,
    automaticAuthorization: false,
    registrationToken: randomBytes(32).toString('base64url'),
    ...editable(given),
    ...(given.token_endpoint_auth_method === 'none'
      ? {}
      : { secret: randomBytes(32).toString('base64url') })
  }
  state.site.clients.push(client)
  // Registered clients make room for new ones; the site's own, which have no registration token, stay.
  const oldest = state.site.clients.findIndex(known => known.registrationToken !== undefined)
  if (state.site.clients.length > MAX_CLIENTS) state.site.clients.splice(oldest, 1)
  const body = {
    client_id: client.clientId,
    registration_access_token: client.registrationToken,
    registration_client_uri: `${request.base}${request.prefix}/oauth/register/${client.clientId}`,
    client_id_issued_at: seconds(state),
    ...(client.secret ? { client_secret: client.secret, client_secret_expires_at: 0 } : {}),
    ...described(client)
  }
  return json(body, 200, cors('POST'))
}

/** GET, PUT, DELETE /oauth/register/{client_id} with the registration access token; a wrong one is a 400. */
export function manageRegistration(state: State, request: DrupalRequest): Reply {
  const id = request.route.slice('/oauth/register/'.length)
  if (!/^[a-zA-Z0-9_\-/+=]{32,128}$/.test(id)) return failure(404, request.wantsJson, 'Not found')
  const client = clientWithId(state.site, id)
  if (!request.bearer || !client || client.registrationToken !== request.bearer) {
    const error_description = 'Missing or invalid authorization header'
    return json({ error: 'invalid_request', error_description }, 400, cors('POST'))
  }
  if (request.method === 'DELETE') {
    state.site.clients.splice(state.site.clients.indexOf(client), 1)
    const { 'Content-Type': _none, ...headers } = empty(204, cors('DELETE')).headers
    return { status: 204, headers, body: '' }
  }
  if (request.method === 'PUT') {
    const given = readRegistration(request.body)
    if (typeof given === 'string') return invalidMetadata(given)
    Object.assign(client, editable(given))
  }
  return json({ client_id: id, ...described(client) }, 200, cors(request.method))
}

function readRegistration(body: string): Registration | string {
  let given: unknown
  try {
    given = JSON.parse(body)
  } catch {
    return 'Syntax error'
  }
  if (given === null || typeof given !== 'object') return 'Syntax error'
  const { redirect_uris = [] } = given as Registration
  if (!Array.isArray(redirect_uris)) return 'redirect_uris must be an array'
  // PHP's FILTER_VALIDATE_URL wants an authority: com.example.app:/cb has none.
  const bad = redirect_uris.find(uri => !/^[a-z][a-z0-9+.-]*:\/\/[^/\s]+/i.test(String(uri)))
  return bad === undefined ? given : `Invalid redirect URI: ${String(bad)}`
}

function editable(given: Registration): Pick<Client, 'label' | 'redirectUris' | 'grantTypes'> {
  const { client_name, redirect_uris, grant_types } = given
  return {
    label: typeof client_name === 'string' ? client_name : 'OAuth client',
    redirectUris: Array.isArray(redirect_uris) ? redirect_uris.map(String) : [],
    grantTypes: Array.isArray(grant_types)
      ? grant_types.map(String)
      : [AUTHORIZATION_CODE, REFRESH_TOKEN]
  }
}

function described(client: Client): Record<string, unknown> {
  return {
    client_name: client.label,
    redirect_uris: client.redirectUris,
    grant_types: client.grantTypes
  }
}

function cors(methods: string): Record<string, string> {
  return { 'Access-Control-Allow-Origin': '*', 'Access-Control-Allow-Methods': methods }
}

function invalidMetadata(problem: string): Reply {
  const error_description = `Invalid client metadata: ${problem}`
  return json({ error: 'invalid_client_metadata', error_description }, 400, cors('POST'))
}
