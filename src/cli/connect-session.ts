// What the legacy era needs remembered between messages: the session, its version, the greeting to say again when the gateway has
// forgotten it, and the stream on which the server speaks first. It does not look at what goes over it.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Access } from './connect-access.ts'
import { eventsOf, exchange, isStream, messagesOf } from './connect-http.ts'
import { look, type Look, type Mirrored, modernHeaders, oneLine } from './connect-message.ts'
import { exitCodes, Failure } from './failure.ts'
import type { Answer, Fetch } from './http.ts'

export interface ConnectionOptions {
  url: string
  fetch: Fetch
  access: Access
  /** Takes what the server says first. */
  write: (line: string) => Promise<void>
  /** For people, on stderr. */
  log: (text: string) => void
  /** Ends everything at once. */
  signal: AbortSignal
  /** Milliseconds before a broken stream is opened again; doubled each time up to 30 s. */
  reconnectMs?: number
}

interface Session {
  id: string | undefined
  version: string
}

export interface Connection {
  /** POSTs a line; a forgotten session is opened again and the line sent once more. `dispatched`: it is on its way. */
  post(line: string, seen: Look, ended: AbortSignal, dispatched?: () => void): Promise<Answer>
  /** GETs the rest of a stream that broke after this event. */
  resume(lastEventId: string, ended: AbortSignal): Promise<Answer>
  /** Takes the client's initialize, which begins anew. */
  greet(line: string): void
  /** Remembers the session of an answer to initialize; false when that is an error. */
  open(answer: Answer, text: string): boolean
  /** Whether a legacy session was opened. */
  isOpen(): boolean
  /** Opens the stream on which the server speaks first; 405 says that it never does (R40). */
  listen(): void
  /** Ends the session, when there is one. */
  close(): Promise<void>
}

/** Builds a connection; nothing is sent yet. `mirrored` is read for every modern request. */
export function createConnection(options: ConnectionOptions, mirrored: Mirrored): Connection {
  const { url, fetch, access, write, log, signal, reconnectMs = 1000 } = options
  let session: Session | undefined
  let greeting: string | undefined
  let renewing: Promise<void> | undefined
  let listening: AbortController | undefined

  function headersFor(seen: Look | undefined): Record<string, string> {
    const headers = {
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream'
    }
    if (seen?.modern !== undefined) return { ...headers, ...modernHeaders(seen, mirrored) }
    if (seen?.method === 'initialize' || session === undefined) return headers
    return { ...headers, ...sessionHeaders(session) }
  }

  async function post(
    line: string,
    seen: Look,
    ended: AbortSignal,
    dispatched?: () => void
  ): Promise<Answer> {
    const used = session
    const send = () =>
      exchange(fetch, access, url, {
        method: 'POST',
        headers: headersFor(seen),
        body: line,
        signal: ended,
        ...(dispatched ? { dispatched } : {})
      })
    const answer = await send()
    const isLost = answer.status === 404 && used?.id !== undefined && seen.modern === undefined
    if (!isLost || seen.method === 'initialize') return answer
    await answer.body?.cancel()
    await renew(used)
    return send()
  }

  /** Once for all who find the session gone (R27). */
  async function renew(lost: Session): Promise<void> {
    if (session !== lost) return
    renewing ??= reopen().finally(() => (renewing = undefined))
    await renewing
  }

  async function reopen(): Promise<void> {
    listening?.abort()
    const seen = look(greeting as string) as Look
    const answer = await exchange(fetch, access, url, {
      method: 'POST',
      headers: headersFor(seen),
      body: greeting as string,
      signal
    })
    let opened = false
    for await (const text of messagesOf(answer)) {
      opened = answer.ok && open(answer, text)
      if (opened) break
    }
    if (!opened) {
      throw new Failure(
        `The session was lost and cannot be opened again (status ${answer.status}).`
      )
    }
    const body = '{"jsonrpc":"2.0","method":"notifications/initialized"}'
    const headers = headersFor(look(body) as Look)
    // Not by `post`: where this session is lost as well, it would wait for its own end.
    const told = await exchange(fetch, access, url, { method: 'POST', headers, body, signal })
    await told.body?.cancel()
    if (!told.ok) {
      throw new Failure(
        `The session was lost, and is lost again as soon as it is opened (status ${told.status}).`
      )
    }
    log('The gateway had forgotten the session; it was opened again.')
    listen()
  }

  function open(answer: Answer, text: string): boolean {
    let version: unknown
    try {
      version = (JSON.parse(text) as { result?: { protocolVersion?: unknown } }).result
        ?.protocolVersion
    } catch {}
    if (typeof version !== 'string') return false
    session = { id: answer.headers.get('mcp-session-id') ?? undefined, version }
    return true
  }

  function streamHeaders(): Record<string, string> {
    return {
      accept: 'text/event-stream',
      ...(session === undefined ? {} : sessionHeaders(session))
    }
  }

  function listen(): void {
    listening?.abort()
    const own = new AbortController()
    listening = own
    const ended = AbortSignal.any([signal, own.signal])
    hear(ended).catch((error: unknown) => {
      if (!ended.aborted) log(`The stream of the gateway was lost: ${(error as Error).message}`)
    })
  }

  async function hear(ended: AbortSignal): Promise<void> {
    let last: string | undefined
    let retry = reconnectMs
    let pause = retry
    while (!ended.aborted) {
      const used = session
      try {
        const headers = {
          ...streamHeaders(),
          ...(last === undefined ? {} : { 'last-event-id': last })
        }
        const answer = await exchange(fetch, access, url, { method: 'GET', headers, signal: ended })
        if (answer.ok && isStream(answer)) {
          for await (const event of eventsOf(answer)) {
            last = event.id ?? last
            retry = event.retry ?? retry
            pause = retry
            if (event.data !== '') await write(oneLine(event.data))
          }
        } else {
          await answer.body?.cancel()
          // Renewing listens anew, in place of this.
          if (answer.status === 404 && used?.id !== undefined) return await renew(used)
          if (answer.status < 500 && answer.status !== 429) return
        }
      } catch (error) {
        // Anything else passes: an authorization server that is away for a while, a token file that is just being written.
        const isForPeople = error instanceof Failure && error.exitCode === exitCodes.notSignedIn
        if (ended.aborted || isForPeople) throw error
      }
      await sleep(pause, undefined, { signal: ended })
      pause = Math.min(pause * 2, 30_000)
    }
  }

  return {
    post,
    resume: (last, ended) =>
      exchange(fetch, access, url, {
        method: 'GET',
        headers: { ...streamHeaders(), 'last-event-id': last },
        signal: ended
      }),
    greet(line) {
      greeting = line
      session = undefined
    },
    open,
    isOpen: () => session !== undefined,
    listen,
    async close() {
      listening?.abort()
      if (session?.id === undefined) return
      const headers = sessionHeaders(session)
      // No refresh and no sign-in for this: a session that is not ended runs out.
      const token = access.last()
      const authorization = token === undefined ? {} : { authorization: `Bearer ${token}` }
      const answer = await fetch(url, {
        method: 'DELETE',
        headers: { ...headers, ...authorization },
        signal: AbortSignal.timeout(2000)
      })
      await answer.body?.cancel()
    }
  }
}

function sessionHeaders({ id, version }: Session): Record<string, string> {
  return { 'mcp-protocol-version': version, ...(id === undefined ? {} : { 'mcp-session-id': id }) }
}
