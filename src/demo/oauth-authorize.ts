// GET and POST /oauth/authorize: the authorization request, the consent page and its answer (wire §5). No `iss` comes back.
import { randomBytes } from 'node:crypto'
import { permissionsOf } from './account.ts'
import { isRedirectAllowed, judgeScopes } from './clients.ts'
import { formFields, isFormGenuine, toLogin } from './login.ts'
import { invalidClient, invalidRequest, invalidScope, unsupportedGrant } from './oauth-error.ts'
import { escapeHtml, formPage } from './pages.ts'
import { looksNative, nativeChallengeRefusal } from './pkce.ts'
import { bareRedirect, html, type Reply } from './reply.ts'
import type { DrupalRequest } from './request.ts'
import { AUTHORIZATION_CODE, type Client, clientWithId } from './site.ts'
import { remember, seconds, type State } from './state.ts'

const FORM_ID = 'simple_oauth_authorize_form'

interface Wish {
  client: Client
  redirectUri: string
  scopes: string[]
}

/** The consent page, a code, a redirect to the login page, or a refusal. Throws OAuthError. */
export function authorize(state: State, request: DrupalRequest): Reply {
  const { query } = request
  const known = clientWithId(state.site, query.get('client_id'))
  if (known && looksNative(known)) {
    const method = query.get('code_challenge_method')
    const refusal = nativeChallengeRefusal(query.get('code_challenge'), method)
    if (refusal) return refusal
  }
  if (request.account.kind !== 'session') return toLogin(request)
  const wish = readWish(state, request)
  if ('status' in wish) return wish
  const { uid } = request.account
  const approved = state.approvals.get(`${uid} ${wish.client.clientId}`)
  const isApproved =
    wish.client.automaticAuthorization || wish.scopes.every(scope => approved?.has(scope))
  if (isApproved) return allow(state, request, wish, uid)
  if (request.method !== 'POST') return consentPage(state, request, wish)
  return decide(state, request, wish, uid)
}

function readWish(state: State, { query }: DrupalRequest): Wish | Reply {
  if (query.get('response_type') !== 'code') throw unsupportedGrant()
  const client = clientWithId(state.site, query.get('client_id'))
  if (!client?.grantTypes.includes(AUTHORIZATION_CODE)) throw invalidClient()
  const redirectUri = query.get('redirect_uri') ?? onlyRedirect(client)
  if (!redirectUri || !isRedirectAllowed(client, redirectUri)) throw invalidClient()
  if (client.pkce && client.secret === undefined && !query.get('code_challenge')) {
    throw invalidRequest('code_challenge', 'Code challenge must be provided for public clients')
  }
  const { scopes, unknown, disabled } = judgeScopes(state, query.get('scope'), AUTHORIZATION_CODE)
  if (unknown) {
    const { error, error_description, hint } = invalidScope(unknown).body
    return back(query, redirectUri, { error, error_description, hint })
  }
  // A scope that exists with its grant off is a 400 in the browser; an unknown one goes back to the client.
  if (disabled) throw invalidScope(disabled)
  if (scopes.length === 0) throw invalidRequest('scope')
  return { client, redirectUri, scopes }
}

function onlyRedirect(client: Client): string | null {
  return client.redirectUris.length === 1 ? client.redirectUris[0]! : null
}

function decide(state: State, request: DrupalRequest, wish: Wish, uid: number): Reply {
  if (!isFormGenuine(request, FORM_ID)) {
    return consentPage(state, request, wish, 'The form has become outdated.')
  }
  const isAllowed =
    request.form.get('op') === 'Allow' &&
    permissionsOf(state, request.account)('grant simple_oauth codes')
  if (!isAllowed) {
    return back(request.query, wish.redirectUri, {
      error: 'access_denied',
      error_description: 'The resource owner or authorization server denied the request.',
      hint: 'The user denied the request'
    })
  }
  const key = `${uid} ${wish.client.clientId}`
  const approved = new Set([...(state.approvals.get(key) ?? []), ...wish.scopes])
  remember(state.approvals, key, approved)
  return allow(state, request, wish, uid)
}

function allow(state: State, { query }: DrupalRequest, wish: Wish, uid: number): Reply {
  const code = `def50200${randomBytes(394).toString('hex')}`
  remember(state.codes, code, {
    clientId: wish.client.clientId,
    uid,
    scopes: wish.scopes,
    redirectUri: wish.redirectUri,
    challenge: query.get('code_challenge'),
    challengeMethod: query.get('code_challenge_method') ?? 'plain',
    expiresAt: seconds(state) + state.accessTokenLifetime,
    used: false
  })
  const state_ = query.get('state')
  const parameters = new URLSearchParams({ code, ...(state_ === null ? {} : { state: state_ }) })
  return bareRedirect(withQuery(wish.redirectUri, parameters))
}

/** An error taken back to the client, `state` first as the OAuth library puts it. */
function back(
  query: URLSearchParams,
  redirectUri: string,
  error: Record<string, string | undefined>
): Reply {
  const state = query.get('state')
  const parameters = new URLSearchParams({ ...(state === null ? {} : { state }), ...error })
  return bareRedirect(withQuery(redirectUri, parameters))
}

function withQuery(uri: string, parameters: URLSearchParams): string {
  return `${uri}${uri.includes('?') ? '&' : '?'}${parameters.toString()}`
}

function consentPage(state: State, request: DrupalRequest, wish: Wish, error?: string): Reply {
  const scopes = wish.scopes.map(scope => `<li>${escapeHtml(scope)}</li>`).join('')
  const form = formPage({
    title: `Grant Access to Client | ${state.site.name}`,
    action: request.path,
    formId: FORM_ID,
    hidden: { ...formFields(request, FORM_ID), redirect_uri: wish.redirectUri },
    content: `<p>${escapeHtml(wish.client.label)} wants to:</p><ul>${scopes}</ul>`,
    buttons: ['Allow', 'Deny'],
    error
  })
  return html(form)
}
