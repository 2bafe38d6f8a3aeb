// What the judging of tokens may be told about, for metrics and the log. It refuses to know who listens.
import type { RefusalReason, VerdictSource } from './verdict.ts'

/** All optional; none may throw. Nothing passed here holds a token. */
export interface VerifierEvents {
  /** A verdict was given: 'ok' or why not, and where it came from. */
  verdict?(reason: RefusalReason | 'ok', source: VerdictSource): void
  /** Keys were fetched, or could not be. */
  keyRefresh?(outcome: 'ok' | 'failed'): void
  /** One question to the introspection endpoint: milliseconds, and what came of it. */
  introspection?(ms: number, outcome: 'active' | 'inactive' | 'failed'): void
  /** The authorization server gave no usable answer. */
  asFailure?(kind: 'metadata' | 'keys' | 'introspection' | 'token'): void
  /** Once when what was known cannot be fetched or asked any more, with why; once, without, when it can again. */
  outage?(kind: 'metadata' | 'keys' | 'introspection', error?: unknown): void
}
