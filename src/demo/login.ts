// The browser's side: /user/login, the session cookie, and the tokens that protect Drupal's forms. It knows no OAuth.
import { createHash, createHmac, randomBytes } from 'node:crypto'
import { escapeHtml, formPage, page } from './pages.ts'
import { html, redirect, type Reply } from './reply.ts'
import type { DrupalRequest } from './request.ts'
import { userNamed, userWithId } from './site.ts'
import { remember, type State } from './state.ts'

/** The session cookie's name, which Drupal derives from the host. */
function sessionCookieName(request: DrupalRequest): string {
  const host = new URL(request.base).hostname
  return `SESS${createHash('sha256').update(host).digest('hex').slice(0, 32)}`
}

/** The id of the signed-in session that the request's cookie names, or null. */
export function sessionOf(state: State, request: DrupalRequest): string | null {
  const cookies = (request.headers.cookie ?? '').split(/; */)
  const name = sessionCookieName(request)
  const value = cookies.find(cookie => cookie.startsWith(`${name}=`))?.slice(name.length + 1)
  return value !== undefined && state.sessions.has(value) ? value : null
}

/** A Set-Cookie header for a session, new unless given. */
function sessionCookie(request: DrupalRequest, id = randomBytes(32).toString('base64url')): string {
  return `${sessionCookieName(request)}=${id}; Max-Age=2000000; path=/; HttpOnly; SameSite=Lax`
}

/** The hidden fields of a Drupal form shown in this session. */
export function formFields(request: DrupalRequest, formId: string): Record<string, string> {
  return {
    form_build_id: `form-${randomBytes(32).toString('base64url')}`,
    form_token: formToken(request, formId)
  }
}

/** Whether a submission carries this session's token for this form. */
export function isFormGenuine(request: DrupalRequest, formId: string): boolean {
  const { form } = request
  return form.get('form_id') === formId && form.get('form_token') === formToken(request, formId)
}

function formToken(request: DrupalRequest, formId: string): string {
  return createHmac('sha256', request.session ?? '')
    .update(formId)
    .digest('base64url')
}

/** Where an anonymous browser is sent, to come back to this request (parameters in alphabetical order, as Drupal puts them). */
export function toLogin(request: DrupalRequest): Reply {
  const query = [...request.query].toSorted(([a], [b]) => (a < b ? -1 : 1))
  const encoded = query.map(([name, value]) => `${name}=${drupalEncode(value)}`).join('&')
  const target = `${request.prefix}${request.route}${encoded ? `?${encoded}` : ''}`
  const location = `${request.prefix}/user/login?destination=${drupalEncode(target)}`
  return redirect(location, 302, { 'Set-Cookie': sessionCookie(request) })
}

function drupalEncode(value: string): string {
  return encodeURIComponent(value).replaceAll('%2F', '/')
}

/** GET /user/login. */
export function loginPage(state: State, request: DrupalRequest, error?: string): Reply {
  const form = formPage({
    title: `Log in | ${state.site.name}`,
    action: request.path,
    formId: 'user_login_form',
    hidden: { form_build_id: formFields(request, 'user_login_form').form_build_id! },
    content: `<label>Username <input type="text" name="name" required="required" /></label>
<label>Password <input type="password" name="pass" required="required" /></label>`,
    buttons: ['Log in'],
    error
  })
  return html(form)
}

/** POST /user/login: 303 to `destination` with a session, or the form again. */
export function submitLogin(state: State, request: DrupalRequest): Reply {
  const user = userNamed(state.site, request.form.get('name') ?? '')
  if (!user || user.blocked || user.pass !== request.form.get('pass')) {
    return loginPage(state, request, 'Unrecognized username or password. Forgot your password?')
  }
  const id = randomBytes(32).toString('base64url')
  remember(state.sessions, id, user.uid)
  const destination = request.query.get('destination') ?? `/user/${user.uid}`
  // Like Drupal, never to another site.
  const path = /^\/(?![/\\])/.test(destination) ? destination : '/'
  return redirect(`${request.base}${path}`, 303, { 'Set-Cookie': sessionCookie(request, id) })
}

/** GET /: says who is signed in. */
export function frontPage(state: State, request: DrupalRequest): Reply {
  const user = userWithId(state.site, state.sessions.get(request.session ?? '') ?? null)
  const who = user ? `Signed in as ${escapeHtml(user.name)}.` : '<a href="/user/login">Log in</a>'
  return html(page(state.site.name, `<p>${who}</p>`))
}
