// Who called what, and what came of it? One JSON line a call, as docs/audit.schema.json says. It refuses to know values: of
// arguments it writes names and sizes, of sessions and tokens a hash. The line is built by hand, because it is on every call's way.
import { createHash } from 'node:crypto'
import { scrub, scrubIdentifier } from './scrub.ts'

/** One call. Leave out what is not known; durations in milliseconds. */
export interface AuditEntry {
  requestId: string
  traceId?: string | undefined
  issuer?: string | undefined
  subject?: string | undefined
  clientId?: string | undefined
  /** `jti`; the line has its hash only, because Drupal takes a jti for introspection and revocation. */
  tokenId?: string | undefined
  /** SessionState.id; the line has its hash only. */
  sessionId?: string | undefined
  era?: 'legacy' | 'modern' | undefined
  /** MCP protocol version. */
  version?: string | undefined
  /** JSON-RPC method; for a request without a message the HTTP method. */
  method?: string | undefined
  tool?: string | undefined
  /** The call's own arguments: only names, types and sizes are read. */
  arguments?: Readonly<Record<string, unknown>> | undefined
  /** `allowed`: Drupal was asked or the gateway answered. `refused`: a check said no. `failed`: it could not be done. */
  decision: 'allowed' | 'refused' | 'failed'
  /** Code of the gateway error. */
  code?: string | undefined
  /** Why, from inside: a RefusalReason, GatewayError.reason, the permission that Drupal named. */
  reason?: string | undefined
  /** HTTP status. */
  status: number
  durationMs: number
  queueMs?: number | undefined
  drupalMs?: number | undefined
  bytesIn: number
  bytesOut: number
  address?: string | undefined
  userAgent?: string | undefined
}

/** Most arguments that are named; the rest is counted in `argumentsOmitted`. */
const maxArguments = 32
const maxText = 256
const maxMemo = 2048
/** Ids, addresses and names that need neither escaping nor scrubbing. */
const plain = /^(?!.*(?:ey[JAI]|def50200))[\w.:-]{1,39}$/i

/**
 * Gives the function that writes one line (newline included) for an entry. `now` gives milliseconds since epoch. It never
 * throws because of what an entry holds.
 */
export function createAudit(options: {
  write: (line: string) => unknown
  now?: () => number
}): (entry: AuditEntry) => void {
  const { write, now = Date.now } = options
  // Most strings come again with the next call: scrubbing and escaping them once makes the line cheap.
  const text = memo(value => quote(value))
  const identifier = memo(value => quote(value, scrubIdentifier))
  const hash = memo(value =>
    JSON.stringify(createHash('sha256').update(value).digest('base64url').slice(0, 16))
  )

  return entry => {
    let line = `{"time":"${new Date(now()).toISOString()}","type":"audit"`
    // Not memoised: never the same twice.
    line += `,"requestId":${quote(entry.requestId)}`
    if (entry.traceId !== undefined) line += `,"traceId":${quote(entry.traceId)}`
    if (entry.issuer !== undefined) line += `,"issuer":${identifier(entry.issuer)}`
    if (entry.subject !== undefined) line += `,"subject":${identifier(entry.subject)}`
    if (entry.clientId !== undefined) line += `,"clientId":${identifier(entry.clientId)}`
    if (entry.tokenId !== undefined) line += `,"tokenIdHash":${hash(entry.tokenId)}`
    if (entry.sessionId !== undefined) line += `,"sessionHash":${hash(entry.sessionId)}`
    if (entry.era !== undefined) line += `,"era":${text(entry.era)}`
    if (entry.version !== undefined) line += `,"version":${text(entry.version)}`
    if (entry.method !== undefined) line += `,"method":${text(entry.method)}`
    if (entry.tool !== undefined) line += `,"tool":${text(entry.tool)}`
    if (entry.arguments !== undefined) line += describe(entry.arguments, text)
    line += `,"decision":${text(entry.decision)}`
    if (entry.code !== undefined) line += `,"code":${text(entry.code)}`
    if (entry.reason !== undefined) line += `,"reason":${text(entry.reason)}`
    line += `,"status":${number(entry.status)},"durationMs":${number(entry.durationMs)}`
    if (entry.queueMs !== undefined) line += `,"queueMs":${number(entry.queueMs)}`
    if (entry.drupalMs !== undefined) line += `,"drupalMs":${number(entry.drupalMs)}`
    line += `,"bytesIn":${number(entry.bytesIn)},"bytesOut":${number(entry.bytesOut)}`
    if (entry.address !== undefined) line += `,"address":${text(entry.address)}`
    if (entry.userAgent !== undefined) line += `,"userAgent":${text(entry.userAgent)}`
    write(`${line}}\n`)
  }
}

/** Names, types and sizes: characters of a string, entries of an array or object. Sizes of the rest would be their values. */
function describe(
  values: Readonly<Record<string, unknown>>,
  text: (value: string) => string
): string {
  const names = Object.keys(values)
  const described = names.slice(0, maxArguments).map(name => {
    const value = values[name]
    const head = `{"name":${text(name)},"type":`
    if (typeof value === 'string') return `${head}"string","size":${value.length}}`
    if (Array.isArray(value)) return `${head}"array","size":${value.length}}`
    if (value === null) return `${head}"null"}`
    if (typeof value === 'object') return `${head}"object","size":${Object.keys(value).length}}`
    return `${head}"${typeof value}"}`
  })
  const omitted = names.length - described.length
  return `,"arguments":[${described.join()}]${omitted > 0 ? `,"argumentsOmitted":${omitted}` : ''}`
}

/** As a JSON string, without secrets and control characters (a terminal may show the line), at most 256 characters. */
function quote(value: string, clear: (text: string) => string = scrub): string {
  if (plain.test(value)) return `"${value}"`
  const clean = clear(value).replace(/[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/gu, ' ')
  return JSON.stringify(clean.length > maxText ? `${clean.slice(0, maxText - 1)}…` : clean)
}

/** Microseconds are precise enough; what is no number is 0, so that the line stays JSON. */
function number(value: number): number {
  return Number.isFinite(value) ? Math.round(value * 1000) / 1000 : 0
}

/** Remembers the results for short strings; starts anew when full, so that a flood of new ones stays bounded. */
function memo(make: (value: string) => string): (value: string) => string {
  const known = new Map<string, string>()
  return value => {
    let made = known.get(value)
    if (made === undefined) {
      made = make(value)
      if (value.length > maxText) return made
      if (known.size >= maxMemo) known.clear()
      known.set(value, made)
    }
    return made
  }
}
