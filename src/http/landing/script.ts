// What the page does in a browser: copy buttons, and discovery as a client does it, step by step, with the reason when a step
// fails. It is plain text here because it runs there; it reads everything from the page and writes text only, never HTML.

/** The inline script; its hash stands in the page's policy. */
export const script = `'use strict'
const byId = id => document.getElementById(id)
const said = byId('said')

for (const button of document.querySelectorAll('button[data-copy]')) {
  const word = button.firstElementChild
  let back
  button.hidden = false
  button.addEventListener('click', async () => {
    const source = byId(button.dataset.copy)
    let done = 'Copied'
    try {
      await navigator.clipboard.writeText(source.textContent)
    } catch {
      // Without https there is no clipboard: select, and let the person press the keys.
      getSelection().selectAllChildren(source)
      done = 'Selected: press Ctrl+C'
    }
    word.textContent = done
    said.textContent = done
    clearTimeout(back)
    back = setTimeout(() => {
      word.textContent = 'Copy'
      said.textContent = ''
    }, 2500)
  })
}

const test = byId('self-test')
const { resource, metadata } = test.dataset
const isAnonymous = test.dataset.anonymous === 'true'
const wantsDevice = test.dataset.device === 'true'

class Failed extends Error {}

async function ask(url, init) {
  let answer
  try {
    answer = await fetch(url, {
      cache: 'no-store', credentials: 'omit', redirect: 'manual', referrerPolicy: 'no-referrer',
      signal: AbortSignal.timeout(10000), ...init
    })
  } catch (error) {
    throw new Failed(error.name === 'TimeoutError'
      ? url + ' did not answer within ten seconds.'
      : url + ' could not be read from this browser: no answer, or no permission (CORS).')
  }
  if (answer.type === 'opaqueredirect') {
    throw new Failed(url + ' answers with a redirect. Clients do not follow it: look at the proxy in front.')
  }
  return answer
}

async function askJson(url) {
  const answer = await ask(url, { headers: { accept: 'application/json' } })
  if (answer.status === 503) throw new Failed('The sign-in service of the site cannot be reached just now (503).')
  if (answer.status !== 200) throw new Failed(url + ' answers ' + answer.status + ' instead of 200.')
  try {
    return await answer.json()
  } catch {
    throw new Failed(url + ' does not answer with JSON: something in front answers in its place.')
  }
}

const checks = {
  async address() {
    const { origin } = new URL(resource)
    if (location.origin !== origin) {
      throw new Failed('You opened ' + location.origin + ', but the configured address is ' + origin +
        '. Clients compare the two: they must use the configured one, or GATEWAY_PUBLIC_URL must change.')
    }
    return 'You are at ' + origin + '.'
  },

  async challenge() {
    const answer = await ask(resource, {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream' },
      body: JSON.stringify({
        jsonrpc: '2.0', id: 1, method: 'initialize',
        params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'self-test', version: '1' } }
      })
    })
    if (isAnonymous && answer.status === 200) return 'It answers, and some tools work without sign-in.'
    if (answer.status !== 401) {
      throw new Failed('A call without a token is answered ' + answer.status + ' instead of 401.' +
        (answer.status === 403 ? ' A firewall in front may have stopped it.' : ''))
    }
    const challenge = answer.headers.get('www-authenticate')
    if (challenge === null) {
      throw new Failed('The 401 has no WWW-Authenticate header: something in front removes it or answers itself.')
    }
    const named = /resource_metadata="([^"]*)"/.exec(challenge)
    if (named === null || named[1] !== metadata) {
      throw new Failed('The 401 does not name ' + metadata + '.')
    }
    return '401, and it says where to look.'
  },

  async metadata(known) {
    const document = await askJson(metadata)
    if (document.resource !== resource) {
      throw new Failed('It describes ' + document.resource + ' instead of ' + resource + '.')
    }
    const [issuer] = document.authorization_servers || []
    if (typeof issuer !== 'string') throw new Failed('It names no authorization server.')
    known.issuer = issuer
    return 'Sign-in is at ' + issuer + '.'
  },

  async server(known) {
    if (known.issuer === undefined) throw new Failed('Not known where to look: the step before failed.')
    const { origin, pathname } = new URL(known.issuer)
    let document
    let via = ''
    try {
      document = await askJson(origin + '/.well-known/oauth-authorization-server' + pathname.replace(/\\/$/, ''))
    } catch {
      // Most sites let no other origin read it. Programs are not bound by that; the gateway has a copy for us.
      document = await askJson(new URL(resource).origin + '/.well-known/oauth-authorization-server')
      via = ' Read from the gateway’s copy: this browser may not ask the site itself, which programs may.'
    }
    if (document.issuer !== known.issuer) {
      throw new Failed('It calls itself ' + document.issuer + ', the step before said ' + known.issuer + '. Every character counts.')
    }
    for (const name of ['authorization_endpoint', 'token_endpoint']) {
      if (typeof document[name] !== 'string') throw new Failed('It does not name its ' + name + '.')
    }
    if (!(document.code_challenge_methods_supported || []).includes('S256')) {
      throw new Failed('It does not offer PKCE with S256, without which clients must not sign in.')
    }
    const lacks = []
    if (!document.registration_endpoint) lacks.push('clients cannot register by themselves: ask the administrator for a client id')
    if (wantsDevice && !document.device_authorization_endpoint) lacks.push('there is no sign-in by device code')
    return 'PKCE is there' + (lacks.length > 0 ? '; but ' + lacks.join(', and ') : '') + '.' + via
  }
}

const summary = byId('summary')
const again = byId('again')

function show(item, state, word, text) {
  item.dataset.state = state
  item.querySelector('.state').textContent = word
  item.querySelector('.found').textContent = text
}

async function run() {
  const items = [...test.querySelectorAll('li[data-check]')]
  // Not disabled: a disabled button loses the keyboard's place.
  again.setAttribute('aria-disabled', 'true')
  summary.dataset.state = 'busy'
  summary.textContent = 'Testing…'
  for (const item of items) show(item, 'waiting', 'Waiting', '')
  const known = {}
  let failed = 0
  for (const item of items) {
    show(item, 'busy', 'Testing', '')
    try {
      show(item, 'passed', 'Passed', await checks[item.dataset.check](known))
    } catch (error) {
      failed++
      show(item, 'failed', 'Failed', error instanceof Failed ? error.message : String(error))
    }
  }
  summary.dataset.state = failed === 0 ? 'passed' : 'failed'
  summary.textContent = failed === 0
    ? 'Ready: clients can find the sign-in.'
    : failed + ' of ' + items.length + ' steps failed. See below for the reason.'
  again.removeAttribute('aria-disabled')
}

again.hidden = false
again.addEventListener('click', () => {
  if (!again.hasAttribute('aria-disabled')) run()
})
run()
`
