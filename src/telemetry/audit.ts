// Who called what, and what came of it? One JSON line a call, as docs/audit.schema.json says. It refuses to know values: of
// arguments it writes names and sizes, of sessions and tokens a hash. The line is built by hand, because it is on every call's way.
import { hash } from 'node:crypto'
import type { Principal } from '../auth/principal.ts'
import type { Era, SessionState } from '../mcp/call.ts'
import { scrub, scrubIdentifier, scrubStart, secretName } from './scrub.ts'

/** Never changed once made: what it adds to a line is remembered by the object. */
export type Caller = Readonly<Pick<Principal, 'issuer' | 'subject' | 'clientId' | 'tokenId'>>

/** One call. Leave out what is not known; durations in milliseconds. */
export interface AuditEntry {
  requestId: string
  traceId?: string | undefined
  /** Of `tokenId`, the `jti`, the line has the hash only, because Drupal takes a jti for introspection and revocation. */
  principal?: Caller | undefined
  /** The line has the hash of its id only. */
  session?: Pick<SessionState, 'id'> | undefined
  era?: Era | undefined
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
const thousandths = Array.from({ length: 1000 }, (_, part) => String(part).padStart(3, '0'))
/** As JavaScript writes them behind a whole number: ".5", none for 0. */
const fractions = thousandths.map(part => `.${part}`.replace(/\.?0+$/, ''))
/** Ids, addresses and names that need neither escaping nor scrubbing. */
const plain = new RegExp(
  `^(?!.*(?:ey[JAI]|def50200))(?:[\\w.-]{1,39}|(?!.*(?:bearer|dpop|basic|${secretName}):)[\\w.:-]{1,39})$`,
  'i'
)

/**
 * Gives the function that writes one line (newline included) for an entry. `now` gives milliseconds since epoch. It never
 * throws because of what an entry holds.
 */
export function createAudit(options: {
  write: (line: string) => unknown
  now?: () => number
}): (entry: AuditEntry) => void {
  const { write, now = Date.now } = options
  const time = isoTime()
  // Most strings come again with the next call: scrubbing and escaping them once makes the line cheap.
  const member = (name: string) => memo(value => `,"${name}":${quote(value)}`)
  const version = member('version')
  const method = member('method')
  const tool = member('tool')
  const code = member('code')
  const reason = member('reason')
  const address = member('address')
  const userAgent = member('userAgent')
  const argument = memo(name => `{"name":${quote(name)},"type":`)
  // A person's next token is another principal: who it is comes again by value (measured: 2 % of its first call).
  const identity = (name: string) => memo(value => `,"${name}":${quote(value, scrubIdentifier)}`)
  const issuer = identity('issuer')
  const subject = identity('subject')
  const client = identity('clientId')
  const callerOf = memoByObject((caller: Caller) => {
    const { tokenId } = caller
    const token = tokenId === undefined ? '' : `,"tokenIdHash":${digest(tokenId)}`
    return issuer(caller.issuer) + subject(caller.subject) + client(caller.clientId) + token
  })
  const sessionOf = memoByObject(
    (session: Pick<SessionState, 'id'>) => `,"sessionHash":${digest(session.id)}`
  )

  return entry => {
    const { traceId, principal, session } = entry
    // Not memoised: never the same twice.
    let line = `{"time":"${time(now())}","type":"audit","requestId":${quote(entry.requestId)}`
    if (traceId !== undefined) line += `,"traceId":${quote(traceId)}`
    if (principal !== undefined) line += callerOf(principal)
    if (session !== undefined) line += sessionOf(session)
    if (entry.era !== undefined) line += `,"era":"${entry.era}"`
    if (entry.version !== undefined) line += version(entry.version)
    if (entry.method !== undefined) line += method(entry.method)
    if (entry.tool !== undefined) line += tool(entry.tool)
    if (entry.arguments !== undefined) line += describe(entry.arguments, argument)
    line += `,"decision":"${entry.decision}"`
    if (entry.code !== undefined) line += code(entry.code)
    if (entry.reason !== undefined) line += reason(entry.reason)
    line += `,"status":${number(entry.status)},"durationMs":${number(entry.durationMs)}`
    if (entry.queueMs !== undefined) line += `,"queueMs":${number(entry.queueMs)}`
    if (entry.drupalMs !== undefined) line += `,"drupalMs":${number(entry.drupalMs)}`
    line += `,"bytesIn":${number(entry.bytesIn)},"bytesOut":${number(entry.bytesOut)}`
    if (entry.address !== undefined) line += address(entry.address)
    if (entry.userAgent !== undefined) line += userAgent(entry.userAgent)
    write(`${line}}\n`)
  }
}

function digest(value: string): string {
  return `"${hash('sha256', value, 'base64url').slice(0, 16)}"`
}

/** Names, types and sizes: characters of a string, entries of an array or object. Sizes of the rest would be their values. */
function describe(
  values: Readonly<Record<string, unknown>>,
  argument: (name: string) => string
): string {
  let count = 0
  let list = ',"arguments":['
  for (const name in values) {
    count += 1
    if (count <= maxArguments)
      list += (count === 1 ? '' : ',') + argument(name) + describeValue(values[name])
  }
  const omitted = count - maxArguments
  return omitted > 0 ? `${list}],"argumentsOmitted":${omitted}` : `${list}]`
}

function describeValue(value: unknown): string {
  if (typeof value === 'string') return `"string","size":${value.length}}`
  if (Array.isArray(value)) return `"array","size":${value.length}}`
  if (value === null) return '"null"}'
  if (typeof value === 'object') return `"object","size":${Object.keys(value).length}}`
  return `"${typeof value}"}`
}

/** As a JSON string, without secrets and control characters (a terminal may show the line), at most 256 characters. */
function quote(value: string, clear: (text: string) => string = scrub): string {
  if (value.length < 40 && plain.test(value)) return `"${value}"`
  const shown = scrubStart(value, maxText, clear)
  return JSON.stringify(shown.replace(/[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/gu, ' '))
}

/** Microseconds are precise enough; what is no number is 0, so that the line stays JSON. */
function number(value: number): string {
  if (!Number.isFinite(value)) return '0'
  const thousands = Math.round(value * 1000)
  // Written as a number, each fraction would cost the search for its shortest form. Whole numbers below 1e15 are exact.
  if (thousands < 0 || thousands > 1e15) return `${thousands / 1000}`
  const whole = Math.floor(thousands / 1000)
  return `${whole}${fractions[thousands - whole * 1000]}`
}

/** Gives ISO 8601 UTC for milliseconds since epoch. A second's calls share all but the last digits. */
function isoTime(): (ms: number) => string {
  let second = Number.NaN
  let head = ''
  return ms => {
    const now = Math.floor(ms / 1000)
    if (now !== second) {
      head = new Date(now * 1000).toISOString().slice(0, -4)
      second = now
    }
    return `${head}${thousandths[Math.floor(ms - now * 1000)]}Z`
  }
}

/** Remembers the results for short strings; starts anew when full, so that a flood of new ones stays bounded. */
function memo(make: (value: string) => string): (value: string) => string {
  const known = new Map<string, string>()
  return value => {
    if (value.length > maxText) return make(value)
    let made = known.get(value)
    if (made === undefined) {
      made = inOnePiece(make(value))
      if (known.size >= maxMemo) known.clear()
      known.set(value, made)
    }
    return made
  }
}

/** The same for objects that come again with the next call, for as long as they live. */
function memoByObject<K extends object>(make: (key: K) => string): (key: K) => string {
  const known = new WeakMap<K, string>()
  return key => {
    let made = known.get(key)
    if (made === undefined) {
      made = inOnePiece(make(key))
      known.set(key, made)
    }
    return made
  }
}

/** As it is, but no longer a tree of the pieces that it was joined from, which every line would be gathered from anew. */
function inOnePiece(text: string): string {
  return Buffer.from(text).toString()
}
