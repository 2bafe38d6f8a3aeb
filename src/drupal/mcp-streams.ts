// The event streams that are open to clients: how many one principal may hold, how long they live, and how they end. A stream is
// relayed byte for byte (mcp/sse.ts); here nobody knows what it says.
import type { Readable } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Config } from '../config/schema.ts'
import { errorTable, gatewayError, isGatewayError } from '../errors.ts'
import { rpcErrorBody } from '../mcp/rpc-error.ts'
import { EventRelay } from '../mcp/sse.ts'
import { writeEvent } from '../mcp/sse-events.ts'
import { cancelled } from './in-flight.ts'
import { finish } from './mcp-ask.ts'

export interface StreamOptions {
  /** What becomes of the upstream's stream when the client goes: a legacy call is finished (R45), the rest is ended (R69). */
  whenGone: 'finish' | 'abort'
  /** A place from `reserve`, given back when the stream is over: for streams that are no answer to a call. */
  place?: Place | undefined
  /** Written last when the gateway ends the stream. */
  farewell?: string
  /** Seconds since epoch, after which nobody may listen any more: the token's end. */
  until?: number | undefined
}

export type Place = () => void

export interface Streams {
  /** A place for one stream more, or 429 (R71). Give it to `relay`, or back. */
  reserve(principalKey: string | undefined): Place
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
  count(): number
}

/** Headers of every event stream (R44). */
export const streamHeaders = {
  'content-type': 'text/event-stream',
  'cache-control': 'no-cache, no-transform',
  'x-accel-buffering': 'no'
}

/** What a client is told when the upstream was lost in the middle of its answer. */
function lostAnswer(request: FastifyRequest, error: Error): string {
  const { text, rpc } = errorTable[isGatewayError(error) ? error.code : 'GW_UPSTREAM_INVALID']
  const waiting = request.call.messages.filter(message => message.kind === 'request')
  return waiting
    .map(({ idText }) => writeEvent(rpcErrorBody({ idText, code: rpc, message: text })))
    .join('')
}

export function createStreams(config: Config, now: () => number = Date.now): Streams {
  const { heartbeatSeconds, maxPerPrincipal, maxSeconds } = config.streams
  const longestMs = Math.min(maxSeconds * 1000, 2 ** 31 - 1)
  const open = new Map<
    EventRelay,
    { isCall: boolean; sessionId: string | undefined; end: () => void }
  >()
  const held = new Map<string, number>()
  let isDraining = false

  return {
    reserve(principalKey = '') {
      if (isDraining) throw gatewayError('GW_SHUTTING_DOWN', { retryAfterSeconds: 1 })
      const count = held.get(principalKey) ?? 0
      if (count >= maxPerPrincipal) {
        throw gatewayError('GW_RATE_LIMITED', {
          reason: 'streams.maxPerPrincipal',
          hint: `At most ${maxPerPrincipal} streams may be open at once: close one.`,
          retryAfterSeconds: Math.ceil(heartbeatSeconds)
        })
      }
      held.set(principalKey, count + 1)
      let given = false
      return function giveBack() {
        if (given) return
        given = true
        const left = (held.get(principalKey) as number) - 1
        if (left === 0) held.delete(principalKey)
        else held.set(principalKey, left)
      }
    },

    relay(request, reply, source, { whenGone, place, farewell, until }) {
      if (reply.raw.destroyed) {
        place?.()
        request.outcome = 'aborted'
        if (whenGone === 'finish') finish(source, longestMs)
        else source.destroy()
        void reply.code(499).send()
        return
      }
      const relay = new EventRelay({ heartbeatMs: heartbeatSeconds * 1000 })
      let isEnding = false
      function end(): void {
        if (isEnding) return
        isEnding = true
        if (farewell !== undefined) relay.write(farewell)
        relay.drain()
      }
      const tokenMs = until === undefined ? Infinity : Math.max(0, until * 1000 - now())
      const life = setTimeout(end, Math.min(longestMs, tokenMs))
      const sessionId = request.call.session?.id
      open.set(relay, { isCall: place === undefined, sessionId, end })
      source.on('error', error => {
        request.log.debug(
          { requestId: request.id, reason: error.message },
          'event stream of the upstream was lost'
        )
        if (relay.writableEnded) return
        // There is no answer to what was cancelled (R49), nor to no question. The blank line closes an event that was cut.
        const isAnswered = place === undefined && error !== cancelled
        relay.end(`\n\n${isAnswered ? lostAnswer(request, error) : ''}`)
      })
      // Before Fastify's own listeners: the audit line is written by them.
      reply.raw.once('close', () => {
        clearTimeout(life)
        open.delete(relay)
        place?.()
        request.bytesOut = relay.bytes
        const isGone = !reply.raw.writableFinished
        if (isGone) request.outcome = 'aborted'
        if (isGone && whenGone === 'finish' && !isEnding) finish(source, longestMs)
        else source.destroy()
        relay.destroy()
      })
      source.pipe(relay)
      void reply.headers(streamHeaders).send(relay)
    },

    endSession(ended) {
      for (const { isCall, sessionId, end } of open.values())
        if (!isCall && sessionId === ended) end()
    },

    drain(graceMs) {
      isDraining = true
      for (const { isCall, end } of open.values()) if (!isCall) end()
      const late = setTimeout(() => {
        for (const { end } of open.values()) end()
      }, graceMs)
      late.unref()
    },
    count: () => open.size
  }
}
