// A person with a browser, in code: follows a sign-in URL through login and consent by submitting the forms that it meets, and
// stops where the site sends the person back to the client. It knows HTML forms and cookies, no OAuth.

export interface Person {
  user: string
  password: string
  /** Label of the button to press on a form with several, as a pattern. Default: allow, log in, authorize. */
  press?: RegExp
}

interface Form {
  action: string
  fields: Map<string, string>
  buttons: { name: string; value: string }[]
}

const MAX_STEPS = 12

/** Decodes the entities that stand in attributes of ordinary pages. */
function decode(text: string): string {
  return text
    .replace(/&#(\d+);/g, (_, code: string) => String.fromCodePoint(Number(code)))
    .replace(/&#x([0-9a-f]+);/gi, (_, code: string) =>
      String.fromCodePoint(Number.parseInt(code, 16))
    )
    .replaceAll('&quot;', '"')
    .replaceAll('&#039;', "'")
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&amp;', '&')
}

function attribute(tag: string, name: string): string | undefined {
  const found = new RegExp(`\\s${name}\\s*=\\s*(?:"([^"]*)"|'([^']*)')`, 'i').exec(tag)
  return found ? decode(found[1] ?? found[2] ?? '') : undefined
}

/** The first form of a page; undefined when it has none. Pure. */
function readForm(html: string): Form | undefined {
  const found = /<form\b([^>]*)>([\s\S]*?)<\/form>/i.exec(html)
  if (!found) return undefined
  const form: Form = {
    action: attribute(` ${found[1]}`, 'action') ?? '',
    fields: new Map(),
    buttons: []
  }
  for (const [tag] of (found[2] ?? '').matchAll(/<(?:input|button)\b[^>]*>/gi)) {
    const name = attribute(tag, 'name')
    if (name === undefined) continue
    const value = attribute(tag, 'value') ?? ''
    if (/^<button/i.test(tag) || /^submit$/i.test(attribute(tag, 'type') ?? '')) {
      form.buttons.push({ name, value })
    } else form.fields.set(name, value)
  }
  return form
}

function fillIn(form: Form, person: Person): URLSearchParams {
  const body = new URLSearchParams()
  for (const [name, value] of form.fields) {
    if (/^(name|user(name)?|login)$/i.test(name)) body.set(name, person.user)
    else if (/^pass(word)?$/i.test(name)) body.set(name, person.password)
    else body.set(name, value)
  }
  const press = person.press ?? /allow|log in|authorize|continue|yes|sign in/i
  const button = form.buttons.find(({ value }) => press.test(value)) ?? form.buttons[0]
  if (button !== undefined) body.set(button.name, button.value)
  return body
}

/**
 * Walks from `start` until `isBack` says that the URL is the client's own, and answers that URL without visiting it.
 * Throws when the walk ends elsewhere: at a page without a form, a refusal, or after a dozen steps.
 */
export async function signIn(
  start: URL,
  person: Person,
  isBack: (url: URL) => boolean,
  fetchPage: typeof fetch = fetch
): Promise<URL> {
  const cookies = new Map<string, string>()
  let url = start
  let body: URLSearchParams | undefined
  for (let step = 0; step < MAX_STEPS; step++) {
    const response = await fetchPage(url, {
      method: body === undefined ? 'GET' : 'POST',
      redirect: 'manual',
      headers: { cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join('; ') },
      ...(body === undefined ? {} : { body })
    })
    for (const cookie of response.headers.getSetCookie()) {
      const [name = '', value = ''] = (cookie.split(';')[0] ?? '').split(/=(.*)/s)
      cookies.set(name, value)
    }
    const location = response.headers.get('location')
    if (location !== null && response.status >= 300 && response.status < 400) {
      url = new URL(location, url)
      body = undefined
      await response.body?.cancel()
      if (isBack(url)) return url
      continue
    }
    const html = await response.text()
    const form = response.ok ? readForm(html) : undefined
    if (form === undefined)
      throw new Error(`The sign-in stopped at ${url.pathname} with status ${response.status}.`)
    body = fillIn(form, person)
    url = new URL(form.action, url)
  }
  throw new Error(`The sign-in did not come back after ${MAX_STEPS} steps.`)
}
