// What does the process say about itself? One JSON object a line: time, level, msg and fields. It refuses to write headers,
// bodies and secrets: every finished line passes one gate, so that no call site can forget.
import { writeSync } from 'node:fs'
import { type DestinationStream, type Logger, pino } from 'pino'
import { scrub } from './scrub.ts'

/** Keys whose values are secret whatever they look like. */
const secretKey =
  /(?:authorization|cookie|session-?id|api[_-]?key|private[_-]?key|password|passwd|secrets?|token|assertion|code_verifier|device_code)$/i
/** Keys whose values are a client's or Drupal's content. */
const contentKey = /^(?:raw)?(?:headers|trailers|body|payload|query)$/i
const maxText = 8192
const pieceLength = 32_768
const maxDepth = 10
const maxCauses = 4

/**
 * The stream that log and audit lines share: asynchronous, so that no call waits for a slow terminal; flushed every 250 ms and
 * when the process exits. Past 16 MiB of backlog lines are dropped rather than kept.
 */
export function openLogStream(target: number | string = 1): ReturnType<typeof pino.destination> {
  let failing = false
  let giveUpAt = Infinity
  const stream = pino.destination({
    dest: target,
    retryEAGAIN: () => performance.now() < giveUpAt,
    sync: false,
    minLength: pieceLength,
    maxWrite: 65_536,
    periodicFlush: 250,
    maxLength: 16 * 1024 * 1024,
    contentMode: 'buffer'
  })
  // As text, sonic-boom measures (and so flattens) all that waits with each line, and copies it twice more to write it; a buffer for
  // each line has its price too. Bytes in large pieces save a tenth of what line, measures and trace cost (Node 20 and 24).
  const write = stream.write as unknown as (bytes: Buffer) => boolean
  let waiting = ''
  let unwritten = 0
  function handOver(skip = 0): boolean {
    const bytes = Buffer.from(waiting).subarray(skip)
    waiting = ''
    unwritten += bytes.length
    return bytes.length === 0 || write.call(stream, bytes)
  }
  stream.write = line => {
    waiting += line
    return waiting.length < pieceLength || handOver()
  }
  // All that empties the stream, the timer and the process's exit included, goes through one of these.
  for (const name of ['flush', 'flushSync', 'end'] as const) {
    const act = stream[name] as (...args: unknown[]) => void
    stream[name] = (...args: unknown[]) => {
      handOver()
      act.apply(stream, args)
    }
  }
  // Whoever cannot be written to (a full disk, a reader that hangs) costs lines, not the process: what waits is tried again with
  // the next ones. At the exit sonic-boom would try for ever: what waits there is written without it first, which throws instead.
  const { flushSync } = stream
  stream.flushSync = () => {
    if (failing) return
    giveUpAt = performance.now() + 1000
    try {
      if (unwritten === 0) handOver(writeNow((stream as unknown as { fd: number }).fd, waiting))
      flushSync.call(stream)
    } catch (error) {
      stream.emit('error', error)
    }
    giveUpAt = Infinity
  }
  stream.on('error', ({ code }: NodeJS.ErrnoException) => {
    if (!failing) process.stderr.write(`The log cannot be written (${code}).\n`)
    failing = true
  })
  stream.on('write', (count: number) => {
    failing = false
    unwritten -= count
  })
  return stream
}

/** Answers how many bytes were taken: none by a reader that is too slow. */
function writeNow(file: number, text: string): number {
  try {
    return writeSync(file, text)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return 0
    throw error
  }
}

/**
 * A pino logger (also Fastify's `loggerInstance`) with a fixed schema: `time` ISO 8601 UTC, `level` by name, `msg`; `req`, `res`
 * and `err` by their own serialisers. `destination` takes finished lines; default: standard output.
 */
export function createLogger(options: { level: string; destination?: DestinationStream }): Logger {
  return pino(
    {
      level: options.level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: label => ({ level: label }) },
      serializers: { req: requestView, res: responseView, err: errorView },
      hooks: { streamWrite: gate }
    },
    options.destination ?? openLogStream()
  )
}

/** What tells that the authorization server gives no usable answers, and that it does again: what is kept goes on without a word. */
export function createOutageLog(log: {
  warn(fields: object, text: string): void
  info(fields: object, text: string): void
}): (kind: string, error?: unknown) => void {
  return (kind, error) => {
    if (error === undefined) log.info({ kind }, 'the authorization server answers again')
    else {
      const { reason, message } = error as Error & ErrorFields
      log.warn(
        { kind, reason: reason ?? message },
        'the authorization server gives no usable answer'
      )
    }
  }
}

/** The finished line without what must not be read. */
function gate(line: string): string {
  return `${JSON.stringify(clean('', JSON.parse(line), 0))}\n`
}

function clean(key: string, value: unknown, depth: number): unknown {
  if (typeof value !== 'string' && (typeof value !== 'object' || value === null)) return value
  if (secretKey.test(key)) return '[scrubbed]'
  if (contentKey.test(key) || depth > maxDepth) return '[omitted]'
  if (typeof value === 'string') {
    return scrub(value.length > maxText ? `${value.slice(0, maxText)}…` : value)
  }
  if (Array.isArray(value)) return value.map(item => clean('', item, depth + 1))
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [scrub(name), clean(name, item, depth + 1)])
  )
}

interface RequestLike {
  id?: unknown
  method?: unknown
  url?: unknown
}

/** A request by id, method and path; never its query, headers or body. */
function requestView(request: RequestLike | undefined) {
  const { id, method, url } = request ?? {}
  return { id, method, path: typeof url === 'string' ? url.replace(/[?#].*$/s, '') : undefined }
}

function responseView(response: { statusCode?: unknown } | undefined) {
  return { statusCode: response?.statusCode }
}

interface ErrorFields {
  code?: unknown
  statusCode?: unknown
  reason?: unknown
}

/** An error for whoever operates the gateway: code, reason, message, stack and the chain of causes. No other field. */
function errorView(error: unknown, depth = 1): unknown {
  if (!(error instanceof Error)) return error
  const { code, statusCode, reason } = error as ErrorFields
  return {
    type: error.name,
    code,
    statusCode,
    reason,
    message: error.message,
    stack: error.stack,
    cause:
      error.cause === undefined || depth >= maxCauses
        ? undefined
        : errorView(error.cause, depth + 1)
  }
}
