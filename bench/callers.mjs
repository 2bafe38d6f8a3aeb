// Many callers at once: sessions and tokens by the thousand, made here instead of asked for.
import { root } from './machine.mjs'
import { message } from './requests.mjs'
import { sessionSecret } from './targets.mjs'

/** Calls in `count` sessions of one caller. The ids are sealed here, with the gateway's own code and secret. */
export async function sessionCalls(site, port, count, tool = 'article_1k') {
  const { createSessions } = await import(`${root}build/src/mcp/session.js`)
  const { principalKey } = await import(`${root}build/src/auth/principal.js`)
  const store = { get: () => undefined }
  const sessions = createSessions({ secrets: [sessionSecret], lifetimeSeconds: 604_800, store })
  const token = site.token({ user: '2' })
  const principal = principalKey(site.url, '2', 'bench-client')
  const call = { port, token, era: 'legacy', method: 'tools/call', name: tool }
  const list = []
  for (let id = 0; id < count; id++) {
    const { sealed } = sessions.seal({ principal, version: '2025-11-25', upstream: undefined })
    list.push(message({ ...call, id, session: sealed }))
  }
  return list
}

/** Calls of `count` users, each with a token of its own. ES256, because it signs ten times as fast; a little shorter than RS256. */
export function tokenCalls(site, port, count, tool = 'article_1k') {
  const list = []
  for (let id = 0; id < count; id++) {
    const token = site.token({ algorithm: 'ES256', user: String(id + 2) })
    list.push(message({ port, token, id, era: 'modern', method: 'tools/call', name: tool }))
  }
  return list
}
