// Preloaded into programs that cannot send a token (`node --import …/preload.mjs`): adds `Authorization: Bearer $BEARER_TOKEN` to
// whatever they send to the origin $BEARER_ORIGIN, by fetch, npm's undici or node:http. Everything else passes untouched, so the
// token reaches no other server. Plain JavaScript, because it is loaded before any TypeScript loader.
import { realpathSync } from 'node:fs'
import http from 'node:http'
import { createRequire, syncBuiltinESMExports } from 'node:module'

const { BEARER_ORIGIN: origin, BEARER_TOKEN: token } = process.env
if (!origin || !token) throw new Error('preload.mjs needs BEARER_ORIGIN and BEARER_TOKEN')
const authorization = `Bearer ${token}`

function authorized(fetch) {
  return function fetchWithToken(input, init) {
    const url = new URL(input instanceof Request ? input.url : String(input))
    if (url.origin !== origin) return fetch(input, init)
    const headers = new Headers(
      init?.headers ?? (input instanceof Request ? input.headers : undefined)
    )
    if (!headers.has('authorization')) headers.set('authorization', authorization)
    return fetch(input, { ...init, headers })
  }
}

globalThis.fetch = authorized(globalThis.fetch)

// npm's undici is another copy than Node's own: the one that the program itself resolves is reached through its dispatcher.
const undici = resolveUndici(process.argv[1])
if (undici) {
  const { getGlobalDispatcher, setGlobalDispatcher } = undici
  setGlobalDispatcher(
    getGlobalDispatcher().compose(dispatch => (options, handler) => {
      if (String(options.origin) !== origin) return dispatch(options, handler)
      return dispatch({ ...options, headers: withAuthorization(options.headers) }, handler)
    })
  )
}

function resolveUndici(program) {
  try {
    return createRequire(realpathSync(program))('undici')
  } catch {
    return undefined
  }
}

function withAuthorization(headers) {
  if (Array.isArray(headers)) {
    const sent = headers.some(
      (name, i) => i % 2 === 0 && String(name).toLowerCase() === 'authorization'
    )
    return sent ? headers : [...headers, 'authorization', authorization]
  }
  const pairs = headers?.[Symbol.iterator] ? [...headers] : Object.entries(headers ?? {})
  const sent = pairs.some(([name]) => name.toLowerCase() === 'authorization')
  return Object.fromEntries(sent ? pairs : [...pairs, ['authorization', authorization]])
}

// The Host header may be forged (that is what the rebinding checks do), so the connection's target is compared, not the header.
const request = http.request
http.request = function requestWithToken(...args) {
  const outgoing = request.apply(this, args)
  const [target] = args
  const url = typeof target === 'string' || target instanceof URL ? new URL(target) : undefined
  const host = url?.hostname ?? target.hostname ?? target.host
  const port = url?.port ?? String(target.port ?? '')
  if (`http://${host}:${port}` === origin && !outgoing.hasHeader('authorization'))
    outgoing.setHeader('authorization', authorization)
  return outgoing
}
syncBuiltinESMExports()
