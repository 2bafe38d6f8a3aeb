// What a command writes for people: lines, with a little colour where the stream is a terminal that wants it.
import type { Env } from './credentials-home.ts'

export interface Stream {
  write(text: string): unknown
  isTTY?: boolean
  columns?: number
}

/** What a command touches of its process; a test brings its own. */
export interface World {
  env: Env
  stdout: Stream
  stderr: Stream
  /** Default: the process's own. */
  stdin?: AsyncIterable<Buffer | string>
}

/** Runs `end` when a person or a supervisor ends this process, or the terminal closes; answers how to stop listening. */
export function onEnd(end: () => void): () => void {
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
  for (const signal of signals) process.once(signal, end)
  return () => signals.forEach(signal => process.off(signal, end))
}

export interface Terminal {
  say: (line?: string) => void
  /** Dim, and overwrites itself on a terminal; silent elsewhere, where progress would only fill a log. */
  progress: (line: string) => void
  bold: (text: string) => string
  dim: (text: string) => string
  readonly isTerminal: boolean
  readonly colours: boolean
}

/** Colours: on a terminal. NO_COLOR (set and not empty) and TERM=dumb switch them off, FORCE_COLOR on. */
export function wantsColours(stream: Stream, env: Env): boolean {
  if (env['NO_COLOR']) return false
  if (env['FORCE_COLOR']) return env['FORCE_COLOR'] !== '0'
  return stream.isTTY === true && env['TERM'] !== 'dumb'
}

/**
 * Without what steers a terminal, which servers might put into names and scopes: their words could write to the clipboard. Line
 * breaks and the colours used here stay.
 */
export function harmless(text: string): string {
  // oxlint-disable-next-line no-control-regex -- control characters are the matter here
  return text.replace(/(?!\n|\u001b\[(?:1|2|22|97;40|0)m)\p{Cc}/gu, ' ')
}

/** Lines for people on this stream. */
export function createTerminal(stream: Stream, env: Env): Terminal {
  const isTerminal = stream.isTTY === true
  const colours = wantsColours(stream, env)
  const paint = (on: number) => (text: string) =>
    colours ? `\u001b[${on}m${text}\u001b[22m` : text
  const dim = paint(2)
  let isOpen = false
  const close = () => {
    if (isOpen) stream.write('\r\u001b[K')
    isOpen = false
  }
  return {
    isTerminal,
    colours,
    say(line = '') {
      close()
      stream.write(`${harmless(line)}\n`)
    },
    progress(line) {
      if (!isTerminal || env['TERM'] === 'dumb') return
      close()
      // Painted after the cut, which would take the end of the paint away.
      stream.write(dim(harmless(line).slice(0, (stream.columns ?? 80) - 1)))
      isOpen = true
    },
    bold: paint(1),
    dim
  }
}

/** Milliseconds as a person says them. */
export function duration(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000))
  if (seconds < 60) return `${seconds} s`
  const minutes = Math.round(seconds / 60)
  if (minutes < 60) return `${minutes} min`
  const hours = Math.round(minutes / 60)
  return hours < 48 ? `${hours} h` : `${Math.round(hours / 24)} days`
}
