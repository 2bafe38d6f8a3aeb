// What a check of the doctor is, and what it may say. It knows no particular check.
import type { Config } from '../../config/schema.ts'
import type { Answer, Ask, Json } from './ask.ts'

export type Status = 'ok' | 'warning' | 'failed' | 'skipped'

export interface Finding {
  status: Status
  /** What was seen, in one line. */
  seen: string
  /** What to do; where absent, the check's remedy. */
  advice?: string
}

export interface Check {
  /** Stable: the name of the check in --json and in the documentation. */
  id: string
  title: string
  /** `outside` needs a URL, `inside` a gateway's configuration, `both` either. */
  side: 'outside' | 'inside' | 'both'
  /** Ids of earlier checks it rests on; those that are not part of a run do not count. */
  needs: readonly string[]
  /** What to do when it fails and the finding has no better advice. */
  remedy: string
  /** May throw Unreachable: that is a failure. */
  run(context: Context): Finding | Promise<Finding>
}

export interface Token {
  text: string
  header: Json
  /** Empty for an opaque token. */
  claims: Json
  /** Why no gateway would believe it, whatever its claims. */
  problem?: string
}

export interface Tool {
  name: string
  scopes: readonly string[]
  readOnly: boolean
  required: readonly string[]
}

/** What checks learned for those after them. */
export interface Facts {
  /** Unauthenticated answers of the MCP endpoint. */
  endpoint?: Answer
  challenges?: readonly Answer[]
  challenge?: Readonly<Record<string, string>>
  prm?: Json
  metadata?: { document: Json; answer: Answer }
  /** Usable ones, as JWK. */
  keys?: readonly Json[]
  token?: Token
  serviceToken?: Token
  session?: Record<string, string>
  tools?: readonly Tool[]
}

export interface Context {
  /** The MCP URL exactly as it was typed. */
  url: string | undefined
  /** Set by the check `config`. */
  config: Config | undefined
  /** Loads the configuration; throws ConfigError. */
  loadConfig: () => Config
  /** A token to sign in with, if one can be found; throws an Error that says what is wrong with it. */
  findToken: () => Promise<{ text: string; from: string } | undefined>
  /** Asks the public side. */
  ask: Ask
  /** Asks Drupal: with a configuration at its internal address, under its canonical name. */
  askDrupal: Ask
  /** Milliseconds since epoch. */
  now: () => number
  timeoutMs: number
  /** Certificate authorities instead of the system's. */
  ca: string | undefined
  facts: Facts
  /** Texts that no line may show. */
  secrets: string[]
}

export const ok = (seen: string): Finding => ({ status: 'ok', seen })
export const skipped = (seen: string): Finding => ({ status: 'skipped', seen })
export const warning = (seen: string, advice?: string): Finding =>
  advice === undefined ? { status: 'warning', seen } : { status: 'warning', seen, advice }
export const failed = (seen: string, advice?: string): Finding =>
  advice === undefined ? { status: 'failed', seen } : { status: 'failed', seen, advice }

/** Several findings as one: the worst status, what was seen in all that are as bad or worse than ok; `fine` when there is none. */
export function worst(findings: readonly Finding[], fine: string): Finding {
  if (findings.length === 0) return ok(fine)
  const status = findings.some(finding => finding.status === 'failed') ? 'failed' : 'warning'
  const advice = [...new Set(findings.flatMap(finding => finding.advice ?? []))].join(' ')
  return {
    status,
    seen: [...new Set(findings.map(finding => finding.seen))].join('; '),
    ...(advice !== '' && { advice })
  }
}

/** A value of a document or header as it may stand in a line. */
export function quote(value: unknown): string {
  return value === undefined ? 'nothing' : JSON.stringify(value).slice(0, 200)
}

/** The strings of a list; empty when it is none. */
export function strings(value: unknown): string[] {
  return Array.isArray(value) ? value.filter(entry => typeof entry === 'string') : []
}

/** A name that cannot exist: RFC 6761 keeps .invalid free. */
export const PROBE_HOST = 'doctor-probe.invalid'
/** A client that no site has. */
export const PROBE_CLIENT = 'doctor-probe'
