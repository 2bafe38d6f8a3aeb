// The body of an answer that is a stream of events: read from the connection no faster than the client takes it. It refuses to know
// what the events say.
import { Readable } from 'node:stream'

/** The events of an answer, taken from the connection no faster than they are read. */
export class EventBody extends Readable {
  readonly #resume: () => void
  readonly #abort: (error?: Error) => void
  #isComplete = false

  constructor(resume: () => void, abort: (error?: Error) => void) {
    super()
    this.#resume = resume
    this.#abort = abort
    // A connection that is lost before anybody reads must not end the process.
    this.on('error', () => {})
  }

  complete(): void {
    this.#isComplete = true
    this.push(null)
  }

  override _read(): void {
    this.#resume()
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    if (!this.#isComplete) this.#abort(error ?? new Error('closed'))
    done(error)
  }
}
