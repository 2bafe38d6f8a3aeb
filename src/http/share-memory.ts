// Whose memory is it that a body and its answer take? From here on they are counted to their caller (buffers.ts). It refuses to know
// how much that is.
import type { FastifyPluginCallback } from 'fastify'
import fp from 'fastify-plugin'
import type { Config } from '../config/schema.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { Buffers } from './buffers.ts'
import { addressOf } from './limits.ts'
import { WholeResponse } from './whole-response.ts'

interface Options {
  config: Config
  metrics: Metrics
}

const plugin: FastifyPluginCallback<Options> = function shareMemory(app, options, done) {
  const { config, metrics } = options
  const buffers = new Buffers(config.server.maxBufferedBytes, metrics.givenUp)
  metrics.buffered(() => buffers.bytes)
  // preParsing: it is known who calls, and the body is still unread.
  app.addHook('preParsing', function shareMemory(request, reply, payload, next) {
    const { raw } = reply
    if (raw instanceof WholeResponse)
      raw.share = buffers.shareOf(request.principal?.subjectKey ?? addressOf(request))
    next(null, payload)
  })
  done()
}

/** Counts the memory of every request in its scope. */
export const shareMemory = fp(plugin, { name: 'share-memory', dependencies: ['authenticate'] })
