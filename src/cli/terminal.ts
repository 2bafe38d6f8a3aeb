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

/**
 * What a process gets that has crashed. For close-with-grace to skip: with a listener on them the process would fail at the same place for
 * ever, on a whole core and deaf to all but SIGKILL, and no supervisor would start it anew.
 */
export const crashSignals = ['SIGILL', 'SIGTRAP', 'SIGABRT', 'SIGBUS', 'SIGFPE', 'SIGSEGV'] as const

export interface Terminal {
  say: (line?: string) => void
  /** Dim, and overwrites itself on a terminal; silent elsewhere, where progress would only fill a log. */
  progress: (line: string) => void
  /** Takes progress away: others may write to the terminal now. */
  end: () => void
  bold: (text: string) => string
  dim: (text: string) => string
  /** 0: no terminal. */
  readonly columns: number
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
  // A terminal that does not know its width says 0.
  const columns = stream.isTTY === true ? stream.columns || 80 : 0
  const colours = wantsColours(stream, env)
  const paint = (on: number) => (text: string) =>
    colours ? `\u001b[${on}m${text}\u001b[22m` : text
  const dim = paint(2)
  let isOpen = false
  const end = () => {
    if (isOpen) stream.write('\r\u001b[K')
    isOpen = false
  }
  return {
    columns,
    colours,
    say(line = '') {
      end()
      stream.write(`${harmless(line)}\n`)
    },
    progress(line) {
      if (columns === 0 || env['TERM'] === 'dumb') return
      end()
      // Painted after the cut, which would take the end of the paint away.
      stream.write(dim(harmless(line).slice(0, columns - 1)))
      isOpen = true
    },
    end,
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
