// The well-known documents and the key set, quirks included (wire §2 and §6): everything follows the request's Host, the issuer
// is https, portless and slashed, the endpoints are not. It issues nothing.
import { OIDC_SCOPES, permissionsOf } from './account.ts'
import { failure, json, type Reply } from './reply.ts'
import type { DrupalRequest } from './request.ts'
import { AUTHORIZATION_CODE, CLIENT_CREDENTIALS, DEVICE_CODE, REFRESH_TOKEN } from './site.ts'
import type { State } from './state.ts'

const CORS = { 'Access-Control-Allow-Origin': '*', 'Access-Control-Allow-Methods': 'GET' }
const CLAIMS =
  'sub iss aud exp iat auth_time name given_name family_name preferred_username email email_verified'
const GRANTS = [
  REFRESH_TOKEN,
  AUTHORIZATION_CODE,
  CLIENT_CREDENTIALS,
  DEVICE_CODE,
  'native_app_authorization_code'
]

/** RFC 8414 document. */
export function authorizationServerMetadata(state: State, request: DrupalRequest): Reply {
  const at = endpoints(request)
  const document = {
    issuer: request.issuer,
    response_types_supported: state.oidc ? ['code', 'id_token'] : ['code'],
    response_modes_supported: ['query', 'fragment', 'form_post'],
    authorization_endpoint: at('/oauth/authorize'),
    token_endpoint: at('/oauth/token'),
    jwks_uri: jwksUri(request),
    userinfo_endpoint: at('/oauth/userinfo'),
    registration_endpoint: registrationEndpoint(state, request),
    revocation_endpoint: at('/oauth/revoke'),
    introspection_endpoint: at('/oauth/introspect'),
    device_authorization_endpoint: at('/oauth/device_authorization'),
    oauth_authorization_server_metadata_endpoint: at('/.well-known/oauth-authorization-server'),
    grant_types_supported: GRANTS,
    scopes_supported: scopesSupported(state),
    ...clientCapabilities(state),
    ...(state.oidc
      ? {
          claims_supported: CLAIMS.split(' '),
          subject_types_supported: ['public'],
          id_token_signing_alg_values_supported: ['RS256']
        }
      : {}),
    service_documentation: 'https://www.drupal.org/project/simple_oauth',
    ui_locales_supported: ['en-US'],
    ...state.faults.metadata
  }
  return json(document, 200, CORS)
}

/** OpenID Connect discovery; 404 when OpenID Connect is off. */
export function openidConfiguration(state: State, request: DrupalRequest): Reply {
  if (!state.oidc) return failure(404, request.wantsJson, 'Not found')
  const at = endpoints(request)
  const document = {
    issuer: request.issuer,
    authorization_endpoint: at('/oauth/authorize'),
    token_endpoint: at('/oauth/token'),
    userinfo_endpoint: at('/oauth/userinfo'),
    jwks_uri: jwksUri(request),
    scopes_supported: scopesSupported(state),
    response_types_supported: [
      'code',
      'token',
      'id_token',
      'code id_token',
      'code token',
      'id_token token',
      'code id_token token'
    ],
    subject_types_supported: ['public'],
    id_token_signing_alg_values_supported: ['RS256'],
    claims_supported: `${CLAIMS} nonce acr amr azp`.split(' '),
    response_modes_supported: ['query', 'fragment', 'form_post'],
    grant_types_supported: GRANTS,
    ...clientCapabilities(state),
    request_parameter_supported: false,
    claims_parameter_supported: true,
    scopes_parameter_supported: true,
    authorization_code_flow_enabled: true,
    implicit_flow_enabled: true,
    oauth_authorization_server_metadata_endpoint: at('/.well-known/oauth-authorization-server'),
    registration_endpoint: registrationEndpoint(state, request),
    service_documentation: 'https://www.drupal.org/project/simple_oauth',
    ui_locales_supported: ['en-US'],
    ...state.faults.metadata
  }
  return json(document, 200, CORS)
}

/** RFC 9728 document of the site root; its lists hold only what the requesting account may run. */
export function protectedResourceMetadata(state: State, request: DrupalRequest): Reply {
  const can = permissionsOf(state, request.account)
  const tools = state.site.tools.filter(tool => can(tool.permission))
  const scopes = new Set(tools.flatMap(tool => tool.annotations.auth?.scopes ?? []))
  const document = {
    resource: request.issuer,
    authorization_servers: [request.issuer],
    bearer_methods_supported: ['header'],
    scopes_supported: [...scopes].toSorted(),
    authorization_details_types_supported: tools.map(tool => tool.name).toSorted()
  }
  return json(document, 200, CORS)
}

/** The bare key set; 404 when OpenID Connect is off, though metadata goes on advertising it. */
export function keySet(state: State, request: DrupalRequest): Reply {
  if (!state.oidc) return failure(404, request.wantsJson, 'Not found')
  return json({ keys: state.faults.publishedKeys ?? [state.key.jwk] })
}

function endpoints(request: DrupalRequest): (path: string) => string {
  return path => `${request.base}${request.prefix}${path}`
}

function jwksUri(request: DrupalRequest): string {
  // The alias exists in English only.
  const path = request.prefix === '/es' ? '/oauth/jwks' : '/.well-known/jwks.json'
  return endpoints(request)(path)
}

function registrationEndpoint(state: State, request: DrupalRequest): string {
  if (state.faults.registrationDefaultHost) return 'http://default/oauth/register'
  return endpoints(request)('/oauth/register')
}

function clientCapabilities(state: State): Record<string, unknown> {
  return {
    token_endpoint_auth_methods_supported: ['client_secret_post', 'client_secret_basic'],
    token_endpoint_auth_signing_alg_values_supported: ['RS256'],
    code_challenge_methods_supported: state.faults.noS256 ? ['plain'] : ['S256', 'plain'],
    request_uri_parameter_supported: false,
    require_request_uri_registration: false
  }
}

/** PHP's array_unique keeps the keys: a site scope called like one of OpenID Connect's leaves a hole, and the list becomes an object. */
function scopesSupported(state: State): string[] | Record<string, string> {
  const names = state.site.scopes.map(scope => scope.name)
  const all = state.oidc ? [...names, ...OIDC_SCOPES] : names
  const unique = [...all.entries()].filter(([index, name]) => all.indexOf(name) === index)
  return unique.length === all.length ? all : Object.fromEntries(unique)
}
