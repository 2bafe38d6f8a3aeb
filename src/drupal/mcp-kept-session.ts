// What is kept of a session of the upstream's, and how it is written: in the sealed id of the client's session, and in headers. It
// refuses to know when a session is opened and used.
import { isObject, type Params, type SessionState } from '../mcp/call.ts'
import type { Sessions } from '../mcp/session.ts'
import type { Answer } from './exchange.ts'
import { unusable } from './mcp-ask.ts'

/** What must be known to use a session of the upstream, and to open it anew. */
export interface UpstreamSession {
  /** Empty where the upstream has no sessions (drupal/mcp 1.x). */
  id: string
  /** The version that the upstream negotiated: this is what it is told (R38), whatever the client was. */
  version: string
  /** The client's params of `initialize` in short, as JSON. */
  hello: string
}

/** Whoever keeps an upstream session between requests. */
export interface Holder {
  /** Names the one who keeps it; one re-opening at a time. */
  key: string
  get(): UpstreamSession | Promise<UpstreamSession>
  /** `result`: what the upstream said to it. */
  move(session: UpstreamSession, result: Params): void | Promise<void>
}

/** As one text, for the sealed session id: versions and ids have no blanks. */
export function writeSession({ id, version, hello }: UpstreamSession): string {
  return `${version} ${id} ${hello}`
}

/** What writeSession wrote. */
export function readSession(text: string): UpstreamSession {
  const [version = '', id = ''] = text.split(' ', 2)
  return { id, version, hello: text.slice(version.length + id.length + 2) }
}

/** What an answer to `initialize` says of the session that it opens. Throws GW_UPSTREAM_INVALID for an id or a version with blanks. */
export function openedSession({ headers }: Answer, result: Params): Omit<UpstreamSession, 'hello'> {
  const id = headers['mcp-session-id'] ?? ''
  const version = result['protocolVersion']
  const isUsable = (text: string) => /^[\x21-\x7e]*$/.test(text)
  if (typeof version !== 'string' || !isUsable(version) || !isUsable(id)) {
    throw unusable('the upstream initialized with an unusable session id or version')
  }
  return { id, version }
}

/** Bytes in the sealed id, which may have 1024 characters in all. */
const maxHello = 400

/**
 * What is kept of a client's `initialize` for the day on which the upstream forgets the session: capabilities and name. Where
 * they are long, the capabilities are kept by name only.
 */
export function shortHello(params: Params): string {
  const { protocolVersion } = params
  const capabilities = isObject(params['capabilities']) ? params['capabilities'] : {}
  const info = isObject(params['clientInfo']) ? params['clientInfo'] : {}
  const clientInfo = { name: cut(info['name']), version: cut(info['version']) }
  const names = ['roots', 'sampling', 'elicitation', 'tasks'].filter(name => name in capabilities)
  const short = Object.fromEntries(names.map(name => [name, {}]))
  const whole = JSON.stringify({ protocolVersion, capabilities, clientInfo })
  return Buffer.byteLength(JSON.stringify(whole)) <= maxHello
    ? whole
    : JSON.stringify({ protocolVersion: cut(protocolVersion), capabilities: short, clientInfo })
}

const cut = (text: unknown) => (typeof text === 'string' ? text.slice(0, 24) : '')

/** The headers that name a session to the upstream. */
export function sessionHeaders({ id, version }: UpstreamSession): Record<string, string> {
  const headers: Record<string, string> = { 'mcp-protocol-version': version }
  if (id !== '') headers['mcp-session-id'] = id
  return headers
}

/** Keeps an upstream session in the sealed id of a client's: only sessions that were sealed with one have a holder. */
function createHolder(sessions: Sessions, state: SessionState): Holder {
  let known: string | undefined
  let session: UpstreamSession
  // The same text until the session is opened anew, and the same session: its headers are kept by it.
  function read(text: string): UpstreamSession {
    if (text !== known) session = readSession(text)
    known = text
    return session
  }
  return {
    key: state.id,
    get() {
      const text = sessions.upstreamOf(state) as string | Promise<string>
      return text instanceof Promise ? text.then(read) : read(text)
    },
    move: moved => sessions.moveUpstream(state, writeSession(moved))
  }
}

/** The holders of clients' sessions. */
export function createHolders(sessions: Sessions): (state: SessionState) => Holder {
  const holders = new WeakMap<SessionState, Holder>()
  return state => {
    let holder = holders.get(state)
    if (holder === undefined) {
      holder = createHolder(sessions, state)
      holders.set(state, holder)
    }
    return holder
  }
}
