// One question to the authorization server, bounded in time, size and redirects. It refuses to know what the answer means.
// Reasons name no address but the one asked, and never repeat a body: they go to the log.
import { isGatewayError } from '../errors.ts'

/** What the parts of auth/ need of fetch; app.ts passes one that connects to drupal.internalUrl. */
export type Fetch = (url: string, init: RequestInit) => Promise<Response>

export type FailureKind = 'timeout' | 'network' | 'redirect' | 'status' | 'too-large' | 'not-json'

/** Why there is no answer to use. `status` is set when the server did answer. */
export class FetchFailure extends Error {
  readonly kind: FailureKind
  readonly status: number | undefined

  constructor(kind: FailureKind, message: string, response?: Response) {
    super(message)
    this.name = 'FetchFailure'
    this.kind = kind
    this.status = response?.status
  }
}

/** Metadata and key sets are a few KiB; nothing an authorization server says is larger than this. */
const maxBytes = 262_144
/** Drupal's Redirect module may add a language prefix; a longer chain is a loop. */
const maxRedirects = 3

interface Question {
  fetch: Fetch
  url: string
  timeoutMs: number
  /** When present, the question is a POST of this form. */
  form?: Record<string, string>
  headers?: Record<string, string>
}

/**
 * Asks and gives the JSON object of a 2xx answer; throws FetchFailure. A GET follows at most three redirects, and only within
 * its origin; a POST follows none: it carries a token or a secret.
 */
export async function fetchJson(question: Question): Promise<Record<string, unknown>> {
  const signal = AbortSignal.timeout(question.timeoutMs)
  try {
    return await ask(question, question.url, signal, 0)
  } catch (error) {
    if (error instanceof FetchFailure) throw error
    const { url, timeoutMs } = question
    throw signal.aborted
      ? new FetchFailure('timeout', `${url} did not answer within ${timeoutMs} ms`)
      : new FetchFailure('network', `${url} cannot be reached (${systemCode(error)})`)
  }
}

async function ask(
  question: Question,
  url: string,
  signal: AbortSignal,
  redirects: number
): Promise<Record<string, unknown>> {
  const { fetch, form, headers } = question
  const response = await fetch(url, {
    method: form === undefined ? 'GET' : 'POST',
    headers: { accept: 'application/json', ...headers },
    body: form === undefined ? null : new URLSearchParams(form),
    redirect: 'manual',
    signal
  })
  if (response.ok) return parse(await read(response, url), url)
  await response.body?.cancel()
  if (response.status < 300 || response.status > 399) {
    throw new FetchFailure('status', `${url} answered ${response.status}`, response)
  }
  const next = target(response, url)
  if (form !== undefined || redirects === maxRedirects || next === undefined) {
    throw new FetchFailure('redirect', `${url} redirects, which is not followed`, response)
  }
  return ask(question, next, signal, redirects + 1)
}

/** Where a redirect leads, when it stays within the origin of `url`. */
function target(response: Response, url: string): string | undefined {
  const location = response.headers.get('location') ?? ''
  if (!URL.canParse(location, url)) return undefined
  const next = new URL(location, url)
  return next.origin === new URL(url).origin ? next.href : undefined
}

/** Why there was no answer, without the address that a message of the system would name: its code (ECONNREFUSED …), or our own reason. */
function systemCode(error: unknown): string {
  if (isGatewayError(error)) return error.reason ?? error.code
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    const { code } = cause as { code?: unknown }
    if (typeof code === 'string') return code
  }
  return 'no connection'
}

async function read(response: Response, url: string): Promise<string> {
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of response.body ?? []) {
    size += chunk.byteLength
    if (size > maxBytes) {
      throw new FetchFailure('too-large', `${url} answered more than ${maxBytes} bytes`, response)
    }
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString()
}

function parse(text: string, url: string): Record<string, unknown> {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    value = undefined
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>
  }
  throw new FetchFailure('not-json', `${url} did not answer with a JSON object`)
}
