// The event streams that are open to clients: how many one user may hold, how long they live, and how they end. A stream is
// relayed byte for byte (mcp/sse.ts); here nobody knows what it says.
import type { Readable } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Config } from '../config/schema.ts'
import { type ErrorCode, gatewayError } from '../errors.ts'
import { bytesOf, EventRelay } from '../mcp/sse.ts'
import { type Member, Roster } from '../roster.ts'
import { EventBody, follow, readToEnd } from './event-body.ts'
import { replyWithEvents } from './event-reply.ts'
import type { Expected } from './mcp-answer.ts'
import { mayHaveRun } from './exchange-failure.ts'
import { cancelled } from './in-flight.ts'
import { createJudge, createReplayJudge, guarded, lostAnswers } from './mcp-judge.ts'
import type { Edit } from './mcp-shown.ts'

export interface StreamOptions {
  /** What becomes of the upstream's stream when the client goes: a legacy call is finished (R45), the rest is ended (R69). */
  whenGone: 'finish' | 'abort'
  /** A place from `reserve`, given back when the stream is over: for streams that are no answer to a call. */
  place?: StreamPlace | undefined
  /** The last event when the gateway ends the stream. */
  farewell?: string
  /** Seconds since epoch, after which nobody may listen any more: the token's end. */
  until?: number | undefined
  /** The stream answers these: of answers, only theirs pass, and none of them is left without one. */
  expected?: Expected
  /** The stream answers nothing here, and its messages pass as this leaves them. */
  edit?: Edit | undefined
  /** What comes from the upstream, where `source` is a translation of it: whoever waits for it cannot be ended, it can. */
  origin?: Readable
}

export type StreamPlace = () => void

export interface Streams {
  /** A place for one stream more of this subject, or 429 (R71). Give it to `relay`, or back. */
  reserve(subjectKey: string | undefined): StreamPlace
  /** Answers with the events of `source`; further headers of the reply may be set before. */
  relay(
    request: FastifyRequest,
    reply: FastifyReply,
    source: Readable,
    options: StreamOptions
  ): void
  /** The session is over, and so is the news of it. */
  endSession(sessionId: string): void
  /** Every stream ends: news at once, answers to calls when they are through or after `graceMs`. */
  drain(graceMs: number): void
}

export interface StreamEvents {
  streamOpened?(): void
  streamClosed?(): void
  uncaught?(): void
}

/** Milliseconds for the rest of an event that is going through when the gateway ends a stream. */
const restMs = 1000

interface OpenStream extends Member {
  /** Ends with the answer; else it is a stream for news. */
  isCall: boolean
  sessionId: string | undefined
  end: (code: ErrorCode) => void
}

/** Whether a token is worth nothing any more. Rejects where nobody can be asked. */
export type Refuses = (token: string) => Promise<boolean>

/** Without `refuses` a token that listens is not judged again before its end. */
export function createStreams(
  config: Config,
  events: StreamEvents = {},
  refuses?: Refuses
): Streams {
  const { heartbeatSeconds, maxPerPrincipal, maxSeconds } = config.streams
  const longestMs = Math.min(maxSeconds * 1000, 2 ** 31 - 1)
  const recheckMs = Math.max(heartbeatSeconds, config.oauth.tokenCacheTtlSeconds) * 1000
  const open = new Roster<OpenStream>()
  const held = new Map<string, number>()
  let isDraining = false

  /** R45: read to its end all the same, for as long as a stream may last, and for no longer than a call while the upstream is silent. */
  const finish = (source: Readable, origin: Readable) =>
    readToEnd(source, origin, longestMs, config.drupal.callTimeoutSeconds * 1000)

  return {
    reserve(subjectKey = '') {
      if (isDraining) throw gatewayError('GW_SHUTTING_DOWN', { retryAfterSeconds: 1 })
      const count = held.get(subjectKey) ?? 0
      if (count >= maxPerPrincipal) {
        throw gatewayError('GW_RATE_LIMITED', {
          reason: 'streams.maxPerPrincipal',
          hint: `At most ${maxPerPrincipal} streams may be open at once: close one.`,
          retryAfterSeconds: Math.ceil(heartbeatSeconds)
        })
      }
      held.set(subjectKey, count + 1)
      let given = false
      return function giveBack() {
        if (given) return
        given = true
        const left = (held.get(subjectKey) as number) - 1
        if (left === 0) held.delete(subjectKey)
        else held.set(subjectKey, left)
      }
    },

    relay(request, reply, source, options) {
      const { whenGone, place, farewell = '', until, expected, edit, origin = source } = options
      if (reply.raw.destroyed) {
        place?.()
        if (whenGone === 'finish') finish(source, origin)
        else origin.destroy()
        void reply.code(499).send()
        return
      }
      const { session } = request.call
      const say = (reason: string, text: string) =>
        request.log.debug({ requestId: request.id, reason }, text)
      const judge = expected
        ? createJudge(
            expected,
            (reason, isForeign) => {
              if (isForeign && source instanceof EventBody) source.discard()
              say(reason, 'an event of the upstream was left out')
            },
            session !== undefined && !session.isSingle
          )
        : edit && createReplayJudge(edit)
      function failed(error: unknown): void {
        events.uncaught?.()
        request.log.error({ requestId: request.id, err: error }, 'uncaught error')
        source.destroy(gatewayError('GW_INTERNAL', { cause: error, ...mayHaveRun }))
      }
      const maxBytes = config.drupal.maxResponseBytes
      const client = replyWithEvents(reply)
      const relay = new EventRelay({
        client,
        heartbeatMs: heartbeatSeconds * 1000,
        ...(judge && {
          judge: guarded(judge, failed),
          bound: {
            maxBytes,
            exceeded: () =>
              source.destroy(
                gatewayError('GW_UPSTREAM_TOO_LARGE', {
                  reason: `an event of more than ${maxBytes} bytes`,
                  ...mayHaveRun
                })
              )
          }
        })
      })
      function tellLost(error: Error | undefined): void {
        relay.cut()
        // No blank line for an event of which a part went out: clients would take it for a whole one, and resume behind it.
        if (error !== undefined) relay.say(bytesOf(lostAnswers(judge, error)))
      }
      let isEnding = false
      function end(code: ErrorCode): void {
        if (isEnding) return
        isEnding = true
        tellLost(gatewayError(code, mayHaveRun))
        relay.drain(bytesOf(farewell))
        // Clients drop an event that does not come to its end.
        clearTimeout(life)
        life = setTimeout(() => {
          relay.end()
          // The response may never finish, where the client takes nothing.
          origin.destroy()
        }, restMs)
      }
      const tokenMs = until === undefined ? Infinity : Math.max(0, until * 1000 - Date.now())
      let life = setTimeout(() => end('GW_UPSTREAM_TIMEOUT'), Math.min(longestMs, tokenMs))
      const { token } = request
      // A verdict is kept no longer for who listens than for who calls.
      const recheck =
        place &&
        token !== undefined &&
        setInterval(() => {
          refuses?.(token).then(
            isRefused => isRefused && end('GW_INVALID_TOKEN'),
            () => {}
          )
        }, recheckMs)
      const isCall = place === undefined
      const stream = open.enter({ at: -1, isCall, sessionId: session?.id, end })
      events.streamOpened?.()
      source.on('error', error => {
        say(error.message, 'event stream of the upstream was lost')
        // There is no answer to what was cancelled (R49).
        tellLost(error === cancelled ? undefined : error)
        relay.end()
      })
      source.once('end', () => {
        tellLost(gatewayError('GW_UPSTREAM_INVALID', mayHaveRun))
        relay.end()
      })
      // Before Fastify's own listener: the audit line is written by it.
      reply.raw.prependOnceListener('finish', () => {
        request.bytesOut = relay.bytes
      })
      reply.raw.once('close', () => {
        clearTimeout(life)
        if (recheck) clearInterval(recheck)
        open.leave(stream)
        events.streamClosed?.()
        place?.()
        const isGone = !reply.raw.writableFinished
        if (isGone && whenGone === 'finish' && !isEnding) finish(source, origin)
        else origin.destroy()
        relay.close()
        client.leave()
      })
      client.onDrain(follow(source, (bytes, hasMore) => relay.take(bytes, hasMore)))
    },

    endSession(ended) {
      for (const { isCall, sessionId, end } of open.all())
        if (!isCall && sessionId === ended) end('GW_SESSION_NOT_FOUND')
    },

    drain(graceMs) {
      isDraining = true
      for (const { isCall, end } of open.all()) if (!isCall) end('GW_SHUTTING_DOWN')
      const late = setTimeout(() => {
        for (const { end } of open.all()) end('GW_SHUTTING_DOWN')
      }, graceMs)
      late.unref()
    }
  }
}
