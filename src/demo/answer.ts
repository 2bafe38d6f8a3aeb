// What Drupal answers to a request: host, embedded browsers, bearer, then the route table. Read this first to see what the
// double can do; it knows no sockets.
import { hasBrokenScope } from './account.ts'
import { deviceAuthorization, deviceVerification } from './device.ts'
import { refusal } from './faults.ts'
import { introspect, revoke, userinfo } from './introspection.ts'
import { invokeTool } from './invoke.ts'
import { frontPage, loginPage, sessionOf, submitLogin } from './login.ts'
import {
  authorizationServerMetadata,
  keySet,
  openidConfiguration,
  protectedResourceMetadata
} from './metadata.ts'
import { authorize } from './oauth-authorize.ts'
import { OAuthError } from './oauth-error.ts'
import { token } from './oauth-token.ts'
import { manageRegistration, register } from './registration.ts'
import { empty, failure, type Reply } from './reply.ts'
import type { DrupalRequest } from './request.ts'
import { clientWithId } from './site.ts'
import type { State } from './state.ts'
import { describeTool, listTools } from './tools.ts'
import { checkBearer } from './tokens.ts'
import { webviewRefusal } from './webview.ts'

type Handler = (state: State, request: DrupalRequest) => Reply | Promise<Reply>

const ROUTES: Record<string, [methods: string, handler: Handler]> = {
  '/': ['GET', frontPage],
  '/user/login': [
    'GET, POST',
    (s, r) => (r.method === 'POST' ? submitLogin(s, r) : loginPage(s, r))
  ],
  '/.well-known/oauth-authorization-server': ['GET', authorizationServerMetadata],
  '/.well-known/openid-configuration': ['GET', openidConfiguration],
  '/.well-known/oauth-protected-resource': ['GET', protectedResourceMetadata],
  '/.well-known/jwks.json': ['GET', keySet],
  '/oauth/jwks': ['GET', keySet],
  '/oauth/authorize': ['GET, POST', authorize],
  '/oauth/token': ['POST', token],
  '/oauth/introspect': ['GET, POST', introspect],
  '/oauth/revoke': ['POST', revoke],
  '/oauth/userinfo': ['GET, POST', userinfo],
  '/oauth/device_authorization': ['POST', deviceAuthorization],
  '/oauth/device': ['GET, POST', deviceVerification],
  '/oauth/register': ['POST', register],
  '/mcp/tools/list': ['GET, POST', listTools],
  '/mcp/tools/describe': ['GET', describeTool]
}

/** Drupal's answer, with the headers that every answer carries. Never throws. */
export async function answer(state: State, request: DrupalRequest): Promise<Reply> {
  const reply = await answerOrThrow(state, request).catch(asReply)
  return { ...reply, headers: { ...everyHeader(state, request), ...reply.headers } }

  function asReply(error: unknown): Reply {
    return error instanceof OAuthError ? error.reply : failure(500, false, '')
  }
}

async function answerOrThrow(state: State, request: DrupalRequest): Promise<Reply> {
  const { hostname } = new URL(request.base)
  if (state.trustedHosts && !state.trustedHosts.includes(hostname)) {
    // A Host is judged before Drupal runs, one that a proxy forwards within it: there it is an uncaught exception (wire §10).
    if (state.faults.believesForwardedHost && request.headers['x-forwarded-host'] !== undefined) {
      return failure(500, false, '')
    }
    const headers = { 'Content-Type': 'text/plain; charset=UTF-8' }
    const body = 'The provided host name is not valid for this server.'
    return { ...empty(400, headers), body }
  }
  const refused =
    (state.faults.allowsWebviews ? null : webviewRefusal(request)) ?? authenticate(state, request)
  if (refused) return refused
  if (hasBrokenScope(state, request.account)) return failure(500, false, '')
  const [methods, handler] = routeOf(request.route) ?? []
  if (!methods || !handler) return failure(404, request.wantsJson, 'Not found')
  if (methods.includes(request.method === 'HEAD' ? 'GET' : request.method)) {
    return handler(state, request)
  }
  // Core answers OPTIONS for whatever can be read, and CORS nowhere.
  if (request.method === 'OPTIONS' && methods.includes('GET')) return empty(200, { Allow: methods })
  return failure(405, request.wantsJson, 'Method not allowed', { Allow: methods })
}

function routeOf(route: string): [string, Handler] | undefined {
  if (Object.hasOwn(ROUTES, route)) return ROUTES[route]
  if (route.startsWith('/oauth/register/')) return ['GET, PUT, DELETE', manageRegistration]
  if (/^\/mcp\/tools\/[^/]+$/.test(route)) return ['GET, POST', invokeTool]
  return undefined
}

/** Sets the account. A bad bearer is refused on every route, public ones too (wire §6.1); two routes judge bearers themselves. */
function authenticate(state: State, request: DrupalRequest): Reply | null {
  const session = sessionOf(state, request)
  if (session) {
    request.session = session
    request.account = { kind: 'session', uid: state.sessions.get(session)! }
  }
  if (request.bearer === null || request.route.startsWith('/oauth/register/')) return null
  const verdict = checkBearer(state, request.bearer)
  if ('row' in verdict) {
    request.account = { kind: 'token', row: verdict.row }
    return null
  }
  if (request.route === '/oauth/introspect') return null
  const message = 'The resource owner or authorization server denied the request.'
  return failure(401, request.wantsJson, message, { 'WWW-Authenticate': refusal(verdict.hint) })
}

function everyHeader(state: State, request: DrupalRequest): Record<string, string> {
  const { account, headers } = request
  const asked = clientWithId(state.site, headers['x-consumer-id'] ?? null)?.clientId
  const consumer = account.kind === 'token' ? account.row.clientId : asked
  return {
    // By the site's clock, which may be wrong.
    Date: new Date(state.now()).toUTCString(),
    'X-Powered-By': 'PHP/8.2.36',
    'Content-language': 'en',
    'X-Content-Type-Options': 'nosniff',
    'X-Frame-Options': 'SAMEORIGIN',
    Expires: 'Sun, 19 Nov 1978 05:00:00 GMT',
    'X-Generator': 'Drupal 10 (https://www.drupal.org)',
    'X-Drupal-Dynamic-Cache': 'UNCACHEABLE (poor cacheability)',
    'X-Drupal-Cache': 'UNCACHEABLE (request policy)',
    'X-Consumer-ID': consumer ?? 'default_consumer',
    Vary: 'X-Consumer-ID'
  }
}
