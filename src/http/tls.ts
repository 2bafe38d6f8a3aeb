// How does the listener get its certificate where no proxy ends TLS in front, and a new one while it runs? It refuses to know who
// issues certificates: it reads two files and watches them.
import { X509Certificate } from 'node:crypto'
import { type FSWatcher, readFileSync, watch } from 'node:fs'
import type { Server as HttpsServer } from 'node:https'
import { dirname } from 'node:path'
import { createSecureContext } from 'node:tls'
import type { FastifyPluginCallback } from 'fastify'
import fp from 'fastify-plugin'
import type { Config } from '../config/schema.ts'
import type { Metrics } from '../telemetry/metrics.ts'

type Files = Pick<Config['server'], 'tlsCertFile' | 'tlsKeyFile'>

interface Pair {
  cert: string
  key: string
}

const read = ({ tlsCertFile, tlsKeyFile }: Files): Pair => ({
  cert: readFileSync(tlsCertFile, 'utf8'),
  key: readFileSync(tlsKeyFile, 'utf8')
})

/** The gateway's own certificate, the first of the chain. Throws where the two files are no pair. */
function prove({ cert, key }: Pair): X509Certificate {
  createSecureContext({ cert, key })
  return new X509Certificate(cert)
}

/**
 * The pair for Fastify's `https` option, or null where no certificate is configured and the listener speaks plain HTTP.
 * Throws with the names of the two variables where the files are no pair.
 */
export function tlsOptions(files: Files): (Pair & { minVersion: 'TLSv1.2' }) | null {
  if (files.tlsCertFile === '') return null
  const pair = read(files)
  try {
    prove(pair)
  } catch (cause) {
    throw new Error(
      `The files of TLS_CERT_FILE and TLS_KEY_FILE do not belong together or cannot be used (${(cause as Error).message}): give the chain and the private key of one certificate.`,
      { cause }
    )
  }
  return { ...pair, minVersion: 'TLSv1.2' }
}

interface Options {
  config: Config
  metrics: Pick<Metrics, 'certificateExpiry'>
  /** Milliseconds between two looks without any notice from the file system. Default 60 000. */
  pollMs?: number
}

const plugin: FastifyPluginCallback<Options> = function tls(
  app,
  { config, metrics, pollMs = 60_000 },
  done
) {
  const files = config.server
  if (files.tlsCertFile === '') return done()
  const server = app.server as unknown as HttpsServer
  let last = ''

  function look(): void {
    try {
      const pair = read(files)
      const text = pair.cert + pair.key
      if (text === last) return
      // Kept even when it is refused, so that one broken pair is one line in the log.
      last = text
      const { validFrom, validTo } = prove(pair)
      // New handshakes only: connections that are open go on with the old certificate until they end.
      server.setSecureContext({ ...pair, minVersion: 'TLSv1.2' })
      const [from, until, now] = [Date.parse(validFrom), Date.parse(validTo), Date.now()]
      metrics.certificateExpiry(until / 1000)
      if (from <= now && now <= until) app.log.info({ validTo }, 'serving this TLS certificate')
      else
        app.log.warn(
          { validFrom, validTo },
          'serving this TLS certificate, which is not valid now: clients refuse it'
        )
    } catch (error) {
      // The code only: it names what is wrong and holds neither a path nor a key.
      const { code } = error as NodeJS.ErrnoException
      app.log.error({ reason: code }, 'the new TLS certificate cannot be used: serving the old one')
    }
  }

  look()

  // Two files are written one after the other: look when it has been quiet for a moment.
  let soon: NodeJS.Timeout | undefined
  const notice = () => {
    clearTimeout(soon)
    soon = setTimeout(look, 100)
  }
  // The folders, not the files: Kubernetes and certbot replace symbolic links, which a watch on the file would not see.
  const folders = new Set([dirname(files.tlsCertFile), dirname(files.tlsKeyFile)])
  const watchers: FSWatcher[] = []
  /* c8 ignore next 2 -- only where the machine has no inotify watches left */
  const unwatched = ({ code }: NodeJS.ErrnoException) =>
    app.log.warn({ reason: code }, 'cannot watch the TLS files: looking at them once a minute')
  for (const folder of folders) {
    try {
      watchers.push(watch(folder, { persistent: false }, notice).on('error', unwatched))
      /* c8 ignore next 3 -- only where the machine has no inotify watches left */
    } catch (error) {
      unwatched(error as NodeJS.ErrnoException)
    }
  }
  // Network file systems and exhausted inotify limits give no notice.
  const poll = setInterval(look, pollMs).unref()

  app.addHook('onClose', async () => {
    clearInterval(poll)
    clearTimeout(soon)
    for (const watcher of watchers) watcher.close()
  })
  done()
}

/** Takes a new pair of TLS_CERT_FILE and TLS_KEY_FILE into use without dropping a connection; nothing where none is set. */
export const tls = fp(plugin, { name: 'tls' })
