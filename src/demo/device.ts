// The device flow: /oauth/device_authorization and the page where a person types the code (wire §7, with its oddities: scopes
// are never validated but silently dropped, and Deny does nothing).
import { randomBytes, randomInt } from 'node:crypto'
import { formFields, isFormGenuine, toLogin } from './login.ts'
import { OAuthError, unauthorizedClient } from './oauth-error.ts'
import { formPage } from './pages.ts'
import { html, json, redirect, type Reply } from './reply.ts'
import type { DrupalRequest } from './request.ts'
import { clientWithId, DEVICE_CODE } from './site.ts'
import { type DeviceRow, remember, seconds, type State } from './state.ts'

const FORM_ID = 'simple_oauth_device_flow_verification_form'
const LIFETIME = 1800
const ALPHABET = 'ABCDEFGHJKLMNPQRSTUVWXYZ23456789'
const CORS = {
  'Access-Control-Allow-Origin': '*',
  'Access-Control-Allow-Methods': 'POST',
  'Access-Control-Allow-Headers': 'Content-Type'
}

/** POST /oauth/device_authorization. No client authentication, only a client_id in the body. */
export function deviceAuthorization(state: State, request: DrupalRequest): Reply {
  const client = clientWithId(state.site, request.form.get('client_id'))
  if (!client) {
    const body = { error: 'invalid_client', error_description: 'Client identifier is invalid' }
    return withCors(new OAuthError(400, body))
  }
  if (!client.grantTypes.includes(DEVICE_CODE)) {
    return withCors(unauthorizedClient('Client not authorized for device code grant'))
  }
  const deviceCode = randomBytes(32).toString('base64url')
  const userCode = `${fourLetters()}-${fourLetters()}`
  remember(state.devices, deviceCode, {
    clientId: client.clientId,
    userCode,
    scopes: survivingScopes(state, request.form.get('scope') ?? ''),
    expiresAt: seconds(state) + LIFETIME,
    lastPolledAt: 0,
    uid: null,
    used: false
  })
  const page = `${request.base}${request.prefix}/oauth/device`
  const body = {
    device_code: deviceCode,
    user_code: userCode,
    verification_uri: page,
    verification_uri_complete: `${page}?user_code=${userCode}`,
    expires_in: LIFETIME,
    interval: 5
  }
  const headers = { 'Cache-Control': 'no-store, private', Pragma: 'no-cache', ...CORS }
  return json(body, 200, headers)
}

/** Scopes are looked up by machine name, so `content:read` (machine name content_read) is lost without a word. */
function survivingScopes(state: State, parameter: string): string[] {
  return state.site.scopes
    .map(scope => scope.name)
    .filter(name => /^[a-z0-9_]+$/.test(name) && parameter.split(' ').includes(name))
}

function withCors({ reply }: OAuthError): Reply {
  return { ...reply, headers: { ...reply.headers, ...CORS } }
}

function fourLetters(): string {
  return Array.from({ length: 4 }, () => ALPHABET[randomInt(ALPHABET.length)]).join('')
}

/** GET and POST /oauth/device. Neither client nor scopes are shown to the person. */
export function deviceVerification(state: State, request: DrupalRequest): Reply {
  if (request.account.kind !== 'session') return toLogin(request)
  if (request.method !== 'POST') return verificationPage(state, request)
  if (!isFormGenuine(request, FORM_ID)) {
    return verificationPage(state, request, 'The form has become outdated.')
  }
  const row = deviceToApprove(state, request.form.get('user_code') ?? '')
  if (!row) return verificationPage(state, request, 'Invalid or expired user code.')
  if (request.form.get('op') === 'Authorize Device') row.uid = request.account.uid
  return redirect(`${request.base}${request.prefix}/oauth/device`, 303)
}

function deviceToApprove(state: State, userCode: string): DeviceRow | undefined {
  return [...state.devices.values()].find(
    row => row.userCode === userCode && !row.used && row.expiresAt > seconds(state)
  )
}

function verificationPage(state: State, request: DrupalRequest, error?: string): Reply {
  const given = (request.query.get('user_code') ?? '').replace(/[^A-Z0-9-]/g, '')
  const form = formPage({
    title: `Device authorization | ${state.site.name}`,
    action: request.path,
    formId: FORM_ID,
    hidden: formFields(request, FORM_ID),
    content: `<label>Code <input type="text" name="user_code" value="${given}" /></label>`,
    buttons: ['Authorize Device', 'Deny Access'],
    error
  })
  return html(form)
}
