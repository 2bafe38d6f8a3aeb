// The sessions that the upstream itself keeps: opened, opened anew when it has forgotten them (R31), and used by one request at
// a time where it locks them. It refuses to know which client stands behind a session.
import { setTimeout as sleep } from 'node:timers/promises'
import { LRUCache } from 'lru-cache'
import { isObject, type Params } from '../mcp/call.ts'
import { retryAfterSeconds } from './answers.ts'
import type { Answer, Signal } from './exchange.ts'
import {
  type Ask,
  type Caller,
  isOfSite,
  type Question,
  refuseOrPass,
  unusable
} from './mcp-ask.ts'
import { type ReadBounds, readAnswer } from './mcp-read.ts'
import { inSession, isLocked, isLost } from './mcp-session-told.ts'
import {
  type Holder,
  openedSession,
  sessionHeaders,
  type UpstreamSession
} from './mcp-kept-session.ts'
import { createFairQueue, type FairQueue } from './queue.ts'
import { CommonHeaders } from './request-head.ts'

export interface Sent {
  body: Buffer | string
  /** Beside those of the session. */
  headers?: Record<string, string> | undefined
  signal?: Signal | undefined
  /** Passes by those that wait for the session: the answer that a call at work waits for, or its cancellation. */
  isUrgent?: boolean
}

/** The `notifications/cancelled` for the request with this id. */
export const cancellation = (idText: string) =>
  `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":${idText}}}`

export interface UpstreamSessions {
  /** POSTs in a session. The answer is judged by nobody yet, but a lost session was opened anew and a lock waited for. */
  post(holder: Holder, caller: Caller, sent: Sent): Promise<Answer>
  /**
   * Tells an upstream that hears it that nobody waits for a call any more: `body` is the `notifications/cancelled` (R49). Without a
   * session the id could be of anybody's call, and where one call holds the session, the news would wait for that call's end. Gives
   * what the upstream said to it, where it did. Never rejects.
   */
  cancel(holder: Holder, caller: Caller, body: Buffer | string): Promise<Answer | undefined>
  /** Opens a session for a client that says `hello`, the params of `initialize` as JSON; also sends `initialized`. */
  open(hello: string, caller: Caller): Promise<{ session: UpstreamSession; result: Params }>
  /** Opens the holder's session anew, unless that has happened since `lost` was read. */
  reopen(holder: Holder, caller: Caller, lost: UpstreamSession): Promise<void>
}

/** A POST that is not through. */
interface Post {
  holder: Holder
  caller: Caller
  sent: Sent
  /** performance.now() up to which a lock is waited for. */
  deadline: number
}

const maxWaiting = 64

/** Gives the upstream's sessions, whose requests go out by `ask`: none is open yet (R31). */
export function createUpstreamSessions(ask: Ask, bounds: ReadBounds): UpstreamSessions {
  const longestMs = bounds.timeoutMs
  let opened = 0
  const reopening = new Map<string, { token: string | undefined; done: Promise<void> }>()
  // Learned from the first 503 that says so: from then on nobody runs into the lock.
  let locks = false
  const queues = new LRUCache<string, FairQueue>({ max: 10_000 })

  function queueOf(id: string): FairQueue {
    let queue = queues.get(id)
    if (queue === undefined) {
      queue = createFairQueue({ maxActive: 1, maxQueue: maxWaiting, timeoutMs: longestMs })
      queues.set(id, queue)
    }
    return queue
  }

  // A holder gives the same session until it is opened anew.
  const headers = new WeakMap<UpstreamSession, CommonHeaders>()
  function headersOf(session: UpstreamSession): CommonHeaders {
    let known = headers.get(session)
    if (known === undefined) {
      known = new CommonHeaders(sessionHeaders(session))
      headers.set(session, known)
    }
    return known
  }

  /** One request in the session; where the upstream locks, alone in it until its last byte. */
  function inTurn(session: UpstreamSession, caller: Caller, sent: Sent): Promise<Answer> {
    const { body, headers: own, signal } = sent
    const inSession = headersOf(session)
    const question: Question = { method: 'POST', body, headers: own, signal, inSession }
    if (!locks || sent.isUrgent || session.id === '') return ask(caller, question)
    return alone(session, caller, question)
  }

  async function alone(
    session: UpstreamSession,
    caller: Caller,
    question: Question
  ): Promise<Answer> {
    const queue = queueOf(session.id)
    await queue.enter('', question.signal)
    const leave = () => queue.leave('')
    try {
      const answer = await ask(caller, question)
      if (answer.stream === undefined) leave()
      else answer.stream.once('close', leave)
      return answer
    } catch (error) {
      leave()
      throw error
    }
  }

  async function open(
    hello: string,
    caller: Caller
  ): Promise<{ session: UpstreamSession; result: Params }> {
    // Another one each time: what somebody else is answered is no answer here.
    const id = `gateway-initialize-${opened++}`
    const answer = await ask(caller, {
      method: 'POST',
      body: `{"jsonrpc":"2.0","id":"${id}","method":"initialize","params":${hello}}`
    })
    refuseOrPass(answer, caller)
    const { message } = await readAnswer(answer, bounds, id)
    const { result } = message
    if (!isObject(result)) throw unusable('the upstream refused to initialize a session')
    const session = { ...openedSession(answer, result), hello }
    const initialized = await ask(caller, {
      method: 'POST',
      body: '{"jsonrpc":"2.0","method":"notifications/initialized"}',
      headers: sessionHeaders(session)
    })
    initialized.stream?.destroy()
    return { session, result }
  }

  async function openAnew(holder: Holder, caller: Caller, lost: UpstreamSession): Promise<void> {
    // Another request of the same client may have done it already.
    const current = await holder.get()
    if (current.id !== lost.id) return
    const { session, result } = await open(current.hello, caller)
    await holder.move(session, result)
  }

  function reopen(holder: Holder, caller: Caller, lost: UpstreamSession): Promise<void> {
    const { token } = caller
    const under = reopening.get(holder.key)
    if (under !== undefined) {
      if (under.token === token) return under.done
      // A refusal may be for the token of who asked: whoever waited for it with another one asks for himself.
      return under.done.catch((error: unknown) => {
        if (isOfSite(error)) throw error
        return reopen(holder, caller, lost)
      })
    }
    const done = openAnew(holder, caller, lost).finally(() => reopening.delete(holder.key))
    reopening.set(holder.key, { token, done })
    return done
  }

  function postIn(
    session: UpstreamSession,
    holder: Holder,
    caller: Caller,
    sent: Sent
  ): Promise<Answer> {
    const deadline = performance.now() + longestMs
    return inTurn(session, caller, sent).then(answer =>
      isLocked(answer) || isLost(answer)
        ? postAgain({ holder, caller, sent, deadline }, session, answer)
        : inSession(session, answer)
    )
  }

  /** The session was locked or lost. Neither was carried out: these two are safe to send again. */
  async function postAgain(post: Post, first: UpstreamSession, told: Answer): Promise<Answer> {
    const { holder, caller, sent, deadline } = post
    let session = first
    let answer = told
    let isReopened = false
    for (;;) {
      if (isLocked(answer)) {
        locks = true
        const seconds = retryAfterSeconds(answer.headers['retry-after'], Date.now()) ?? 1
        // The call that holds the session may be as long as a call may be.
        if (performance.now() + seconds * 1000 > deadline) return inSession(session, answer)
        await sleep(Math.min(seconds, 5) * 1000)
      } else {
        if (!isLost(answer) || session.id === '' || isReopened) return inSession(session, answer)
        isReopened = true
        await reopen(holder, caller, session)
      }
      session = await holder.get()
      answer = await inTurn(session, caller, sent)
    }
  }

  return {
    open,
    reopen,
    async cancel(holder, caller, body) {
      try {
        const session = await holder.get()
        if (locks || session.id === '') return undefined
        const answer = await inTurn(session, caller, { body })
        locks ||= isLocked(answer)
        answer.stream?.destroy()
        return answer
      } catch {
        // Whoever cannot be told works on for nobody.
        return undefined
      }
    },
    post(holder, caller, sent) {
      const current = holder.get()
      return current instanceof Promise
        ? current.then(session => postIn(session, holder, caller, sent))
        : postIn(current, holder, caller, sent)
    }
  }
}
