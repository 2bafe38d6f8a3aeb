// The bridge itself: lines of a stdio client on one side, Streamable HTTP on the other, both eras. It decides what may overtake
// what, and sees to it that every request is answered once. Sessions are connect-session.ts, tokens connect-access.ts.
import { setTimeout as sleep } from 'node:timers/promises'
import { rpcErrorBody } from '../mcp/rpc-error.ts'
import { createAnnouncer } from './connect-announce.ts'
import { eventsOf, isStream, messagesOf, notTheGateway, wholeBody } from './connect-http.ts'
import {
  learnMirrored,
  look,
  type Look,
  type Mirrored,
  oneLine,
  refusalFor
} from './connect-message.ts'
import { type ConnectionOptions, createConnection } from './connect-session.ts'
import { readChallenge } from './discover.ts'
import { Failure, systemCode } from './failure.ts'
import type { Answer } from './http.ts'

export interface Bridge {
  /** Takes one line; resolves when the next may be read. `undefined`: a line that was too long. */
  accept(line: string | undefined): Promise<void>
  /** A message of this program's own to the client: a notification, and an answer is awaited by nobody. */
  announce(text: string, url: string | undefined): Promise<void>
  /** No more comes: resolves when everything accepted was sent and answered. Subscriptions, which have no end, are hung up. */
  settled(): Promise<void>
  /** Ends the session. */
  close(): Promise<void>
}

/** Requests that wait for their answer; more are refused, so that no list grows without bound. */
const maxInFlight = 256
const maxAttempts = 5

/** Builds a bridge; nothing is sent before the first line. */
export function createBridge(options: ConnectionOptions): Bridge {
  const { write, log, signal, reconnectMs = 1000 } = options
  const mirrored: Mirrored = new Map()
  const connection = createConnection(options, mirrored)
  const inFlight = new Map<string, { own: AbortController; waiting: Set<string> }>()
  const running = new Set<Promise<void>>()
  const audience = new AbortController()
  const announcer = createAnnouncer(write, () => connection.isOpen())
  /** Messages leave in the order in which they came: each waits until the one before is on its way. */
  let departure: Promise<void> = Promise.resolve()

  /** Sends one line and passes on what comes back. `sent` is called when the next line may leave. */
  async function carry(line: string, seen: Look, sent: () => void): Promise<void> {
    const { method, requests } = seen
    const waiting = new Set(requests)
    const own = new AbortController()
    const isEndless = method === 'subscriptions/listen'
    const ended = AbortSignal.any([signal, own.signal, ...(isEndless ? [audience.signal] : [])])
    for (const id of requests) inFlight.set(id, { own, waiting })
    const fail = async (text: string) => {
      log(`${method ?? 'message'}: ${text}`)
      for (const idText of waiting) {
        await write(rpcErrorBody({ idText, code: -32603, message: text }))
      }
    }
    try {
      // Requests may take long and are answered in any order; nothing may overtake a greeting or a notification.
      const dispatched = requests.length > 0 && method !== 'initialize' ? sent : undefined
      const answer = await connection.post(line, seen, ended, dispatched)
      if (seen.kind === 'notification' || seen.kind === 'response') sent()
      if (!answer.ok) return await refuse(answer, waiting, fail)
      await passOn(answer, seen, waiting, ended)
      if (waiting.size > 0) await fail('The gateway ended its answer before the result.')
    } catch (error) {
      // Cancelled by the client (modern era), or this program ends: nobody waits for an answer.
      if (ended.aborted) return
      await fail(
        error instanceof Failure
          ? error.message
          : `The gateway cannot be reached (${systemCode(error) ?? 'connection lost'}).`
      )
    } finally {
      for (const id of requests) if (inFlight.get(id)?.own === own) inFlight.delete(id)
      sent()
    }
  }

  async function refuse(
    answer: Answer,
    waiting: Set<string>,
    fail: (text: string) => Promise<void>
  ): Promise<void> {
    const { status } = answer
    if (status >= 300 && status < 400) {
      await answer.body?.cancel()
      return fail(
        `The gateway sends elsewhere (status ${status}); a token is never sent after a redirect. Use the final URL.`
      )
    }
    const body = await wholeBody(answer)
    const [id] = waiting
    const refusal = id !== undefined && waiting.size === 1 ? refusalFor(id, body) : undefined
    if (refusal !== undefined) return write(refusal)
    if (/\bhtml\b/i.test(answer.headers.get('content-type') ?? ''))
      return fail(notTheGateway(answer).message)
    const { error, scope, description } = readChallenge(answer.headers.get('www-authenticate'))
    const why = description === undefined ? '.' : `: ${description}`
    const scopes = error === 'insufficient_scope' && scope ? ` Scopes to ask for: ${scope}` : ''
    const lacking = status === 401 || status === 403 ? await options.access.lacking() : undefined
    const missing = lacking === undefined ? '' : ` ${lacking}`
    await fail(`The gateway answered with status ${status}${why}${scopes}${missing}`)
  }

  /** Passes messages on until the stream ends; a stream with event ids is taken up again where it broke (R42, R43). */
  async function passOn(
    first: Answer,
    seen: Look,
    waiting: Set<string>,
    ended: AbortSignal
  ): Promise<void> {
    let answer = first
    let last: string | undefined
    for (let attempt = 0; attempt < maxAttempts; attempt++) {
      let pause = reconnectMs
      try {
        if (isStream(answer)) {
          for await (const event of eventsOf(answer)) {
            last = event.id ?? last
            pause = event.retry ?? pause
            // Whoever gets on may go on: only attempts in vain are counted.
            attempt = 0
            if (event.data !== '') await pass(oneLine(event.data), seen, waiting, first)
          }
        } else for await (const text of messagesOf(answer)) await pass(text, seen, waiting, first)
      } catch (error) {
        if (last === undefined || ended.aborted) throw error
      }
      if (waiting.size === 0 || last === undefined || seen.modern !== undefined) return
      await sleep(pause, undefined, { signal: ended })
      answer = await connection.resume(last, ended)
      if (!answer.ok || !isStream(answer)) {
        await answer.body?.cancel()
        return
      }
    }
  }

  async function pass(
    text: string,
    seen: Look,
    waiting: Set<string>,
    answer: Answer
  ): Promise<void> {
    if (seen.method === 'initialize' && waiting.size > 0) connection.open(answer, text)
    settle(text, seen, waiting)
    await write(text)
  }

  /** Ticks off the requests that this text answers. */
  function settle(text: string, seen: Look, waiting: Set<string>): void {
    const told = look(text)
    if (told?.kind === 'response' && told.answers !== undefined) {
      if (seen.method === 'tools/list' && seen.modern !== undefined) {
        learnMirrored((JSON.parse(text) as { result?: unknown }).result, mirrored)
      }
      // Ids are compared as written; a server that writes 1.0 for 1 has answered all the same.
      if (!waiting.delete(told.answers) && waiting.size === 1) waiting.clear()
    } else if (told?.kind === 'other' && told.requests.length === 0) waiting.clear()
  }

  async function accept(line: string | undefined): Promise<void> {
    const seen = line === undefined ? undefined : look(line)
    if (line === undefined || seen === undefined) {
      const why = line === undefined ? 'the message is too long' : 'the line is not JSON'
      return write(rpcErrorBody({ idText: 'null', code: -32700, message: `Parse error: ${why}.` }))
    }
    // The answer to what was asked of the client here is for nobody else.
    const said = seen.kind === 'response' ? announcer.answered(seen.answers, line) : undefined
    if (said === 'declined') options.access.decline()
    if (said !== undefined) return
    if (seen.method === 'notifications/cancelled') {
      const id = JSON.stringify(seen.params?.['requestId'])
      const cancelled = inFlight.get(id)
      // Nobody waits for it any more. In the modern era hanging up is how one cancels (R69); a session has to be told.
      cancelled?.waiting.delete(id)
      if (cancelled !== undefined && !connection.isOpen()) return cancelled.own.abort()
    }
    if (inFlight.size + seen.requests.length > maxInFlight) {
      const message = `More than ${maxInFlight} requests wait for their answer. Try again later.`
      for (const idText of seen.requests) await write(rpcErrorBody({ idText, code: 429, message }))
      if (seen.requests.length > 0) return
    }
    if (seen.method === 'initialize') {
      announcer.greet(seen.params)
      connection.greet(line)
    }
    const before = departure
    const work = new Promise<void>(leave => {
      departure = new Promise<void>(sent => {
        void before.then(() => carry(line, seen, sent)).then(leave)
      })
    })
    running.add(work)
    void work.finally(() => running.delete(work))
    if (seen.method === 'notifications/initialized') {
      void departure.then(() => connection.isOpen() && !signal.aborted && connection.listen())
    }
    // Beyond this the client waits too: what is queued is kept in memory.
    if (running.size > 2 * maxInFlight) await Promise.race(running)
  }

  return {
    accept,
    announce: announcer.announce,
    async settled() {
      audience.abort()
      while (running.size > 0) await Promise.all(running)
    },
    close: () => connection.close()
  }
}
