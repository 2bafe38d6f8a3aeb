// What does every real client have to do? Sign in as a person and call one tool; this is the shape of it. Knows no client.
import type { Person } from '../../src/demo/browser.ts'

export interface Journey {
  /** The MCP URL, as a user types it. */
  url: string
  person: Person
  /** Certificate file that the client is to trust besides the usual ones. */
  trust: string
  tool: string
  args: Record<string, string>
  /** A directory of its own, for whatever the client keeps. */
  dir: string
}

export interface Arrival {
  tools: string[]
  /** The text of the tool's answer. */
  text: string
  /** The revision of MCP that was agreed on, where the client tells. */
  revision?: string | undefined
  /** The authorization URL that was opened; undefined when the client asked nobody. */
  signedInAt: URL | undefined
}
