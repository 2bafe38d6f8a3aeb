// Lines in, lines out: the stdio transport of MCP without a thought for what the lines say. Input is bounded, output waits for
// whoever reads it.
import { StringDecoder } from 'node:string_decoder'
import { once } from 'node:events'

const maxLineLength = 32 * 1024 * 1024

/** The lines of a stream, without empty ones; `undefined` stands for a line that was too long to keep. */
export async function* readLines(
  input: AsyncIterable<Buffer | string>,
  maxLength: number = maxLineLength
): AsyncGenerator<string | undefined, void, undefined> {
  const decoder = new StringDecoder('utf8')
  let parts: string[] = []
  let length = 0
  for await (const chunk of input) {
    const pieces = decoder.write(chunk as Buffer).split('\n')
    for (const [index, piece] of pieces.entries()) {
      length += piece.length
      if (length <= maxLength) parts.push(piece)
      else parts = []
      if (index === pieces.length - 1) break
      const line = parts.join('').trim()
      if (length > maxLength) yield undefined
      else if (line !== '') yield line
      parts = []
      length = 0
    }
  }
  const rest = parts.join('').trim()
  if (length > maxLength) yield undefined
  else if (rest !== '') yield rest
}

/** Writes lines to a stream and resolves when the next may follow: a slow reader slows the network down, and no list grows. */
export function lineWriter(
  output: NodeJS.WritableStream,
  signal: AbortSignal
): (line: string) => Promise<void> {
  let drained: Promise<unknown> | undefined
  return async line => {
    if (signal.aborted || output.write(`${line}\n`)) return
    // One wait for all: where each listened for itself, Node would warn of a leak on stderr.
    drained ??= once(output, 'drain', { signal })
      .catch(() => undefined)
      .finally(() => (drained = undefined))
    await drained
  }
}
