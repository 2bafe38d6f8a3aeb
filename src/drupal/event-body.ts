// The body of an answer that is a stream of events: read from the connection no faster than the client takes it. It refuses to know
// what the events say.
import { Readable } from 'node:stream'
import type { Connection } from './connection.ts'

/** The events of an answer, taken from the connection no faster than they are read. */
export class EventBody extends Readable {
  readonly #connection: Connection
  #isComplete = false

  constructor(connection: Connection) {
    super()
    this.#connection = connection
    // A connection that is lost before anybody reads must not end the process.
    this.on('error', () => {})
  }

  complete(): void {
    this.#isComplete = true
    this.push(null)
  }

  override _read(): void {
    this.#connection.resume()
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    if (!this.#isComplete) this.#connection.abort()
    done(error)
  }
}
