// One question over HTTP, bounded in time and size, that follows no redirect. It refuses to know what answers mean.
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { isIP } from 'node:net'
import { userAgent } from '../../drupal/headers.ts'
import { internalUrl } from '../../drupal/internal-url.ts'
import { isObject, parseJson } from '../../mcp/call.ts'

/** A JSON object, of which nothing is known. */
export type Json = Readonly<Record<string, unknown>>

export interface Question {
  method?: string
  /** `host` overrides the Host header; TLS is verified against the name in the URL all the same. */
  headers?: Record<string, string>
  body?: string
  /** Stops reading when the text so far is enough: for streams that stay open. */
  until?: (text: string) => boolean
}

export interface Answer {
  /** What was asked. */
  url: string
  status: number
  headers: Readonly<Record<string, string>>
  text: string
  /** Content-Type in lower case; empty when there is none. */
  type: string
  /** Milliseconds since epoch: the middle of the exchange. */
  at: number
}

export type Ask = (url: string, question?: Question) => Promise<Answer>

/** No answer came. The message names what was asked and the system's word for what happened. */
export class Unreachable extends Error {
  readonly code: string
  /** What mends it, where the code alone says so. */
  readonly advice: string | undefined

  constructor(url: string, code: string) {
    super(`${url}: ${explain(code)}`)
    this.name = 'Unreachable'
    this.code = code
    this.advice = isPlain(code)
      ? 'Give the port that speaks TLS; on this machine alone http:// does, too.'
      : certificateAdvice(code)
  }
}

const MAX_BYTES = 1_048_576

export interface AskOptions {
  timeoutMs: number
  ca?: string | undefined
  now: () => number
  /** Connect elsewhere for the URLs of `from`: with its Host, and TLS is verified against its name. */
  via?: { from: URL; to: URL }
}

/** Makes the function that asks. It rejects with Unreachable and nothing else. */
export function createAsk(options: AskOptions): Ask {
  return (url, question = {}) =>
    new Promise((resolve, reject) => {
      const { method = 'GET', headers = {}, body, until } = question
      const asked = new URL(url)
      const { via } = options
      const inside = via && internalUrl(asked, via.from, via.to)
      const target = inside ?? asked
      let stopped: string | undefined
      const fail = (error: { code?: string }) => {
        clearTimeout(timer)
        reject(new Unreachable(url, String(stopped ?? error.code)))
      }
      const started = options.now()
      const hostname = asked.hostname.replace(/^\[|\]$/g, '')
      const send = target.protocol === 'https:' ? httpsRequest : httpRequest
      const outgoing = send(target, {
        method,
        agent: false,
        ...(options.ca !== undefined && { ca: options.ca }),
        // Else Node would verify the certificate against the Host header.
        ...(target.protocol === 'https:' && { servername: isIP(hostname) === 0 ? hostname : '' }),
        headers: {
          host: inside ? via!.from.host : asked.host,
          'user-agent': userAgent,
          accept: 'application/json',
          'accept-encoding': 'identity',
          ...(body !== undefined && { 'content-length': String(Buffer.byteLength(body)) }),
          ...headers
        }
      })
      const stop = (code: string) => {
        stopped ??= code
        outgoing.destroy(new Error(code))
      }
      const timer = setTimeout(stop, options.timeoutMs, 'ETIMEDOUT')
      outgoing.on('error', fail)
      // Nobody asked for another protocol, and neither an answer nor an error follows.
      outgoing.on('upgrade', (_response, socket) => {
        socket.destroy()
        fail({ code: 'HTTP 101' })
      })
      outgoing.on('response', response => {
        const { statusCode: status = 0 } = response
        response.on('error', fail)
        read(response, until, () => stop('E2BIG')).then(text => {
          clearTimeout(timer)
          const type = (response.headers['content-type'] ?? '').toLowerCase()
          const at = (started + options.now()) / 2
          resolve({ url, status, headers: plain(response), text, type, at })
          outgoing.destroy()
        }, fail)
      })
      outgoing.end(body)
    })
}

async function read(
  response: IncomingMessage,
  until: Question['until'],
  tooLarge: () => void
): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > MAX_BYTES) {
      tooLarge()
      continue
    }
    chunks.push(chunk)
    if (until?.(Buffer.concat(chunks).toString())) break
  }
  return Buffer.concat(chunks).toString()
}

function plain(response: IncomingMessage): Record<string, string> {
  return Object.fromEntries(
    Object.entries(response.headers).map(([name, value]) => [name, String(value)])
  )
}

/** The object in an answer of status 200 and JSON; else undefined. */
export function documentOf(answer: Answer): Json | undefined {
  return answer.status === 200 ? objectOf(answer) : undefined
}

/** The JSON object in an answer of any status; else undefined. */
export function objectOf({ text }: Answer): Json | undefined {
  const value = parseJson(text)
  return isObject(value) ? value : undefined
}

/** The members of the JSON object in an answer; none when it holds no object. */
export const fieldsOf = (answer: Answer): Json => objectOf(answer) ?? {}

/** `503`, `302 to https://…`, `200, an HTML page`: an answer in a few words. */
export function brief({ status, headers, text, type }: Answer): string {
  const { location } = headers
  if (status >= 300 && status < 400 && location !== undefined) return `${status} to ${location}`
  return type.includes('html') && text !== '' ? `${status}, an HTML page` : String(status)
}

/** OpenSSL's words for an answer that is none of TLS. */
const isPlain = (code: string) =>
  /^ERR_SSL_(WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG)$/.test(code)

function explain(code: string): string {
  if (isPlain(code)) return 'this port does not speak TLS, but plain http most likely'
  switch (code) {
    case 'ECONNREFUSED':
      return 'connection refused, nothing listens there'
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return 'the name is not known'
    case 'ETIMEDOUT':
      return 'no answer in time'
    case 'E2BIG':
      return `an answer of more than ${MAX_BYTES} bytes`
    case 'ECONNRESET':
      return 'the connection was cut'
    default:
      return `${isOfCertificate(code) ? 'the certificate is refused' : 'no answer'} (${code})`
  }
}

/** Not where the other side asks for a certificate of ours. */
const isOfCertificate = (text: string) =>
  /CERT|SIGNATURE|ISSUER/.test(text) && !text.includes('ERR_SSL')

/** What mends a certificate that is refused, by a text with the code for it; undefined where the text is of something else. */
export function certificateAdvice(text: string): string | undefined {
  if (text.includes('CERT_HAS_EXPIRED')) return 'Renew the certificate and reload the TLS server.'
  if (text.includes('ALTNAME_INVALID'))
    return 'Get a certificate that names this host, or use the host that it names.'
  if (/UNABLE_TO_(VERIFY_LEAF|GET_ISSUER)/.test(text))
    return 'Serve the whole chain (fullchain.pem, with the intermediate certificate). For an authority of your own set NODE_EXTRA_CA_CERTS.'
  return isOfCertificate(text)
    ? 'Use a certificate of a public authority; for an authority of your own set NODE_EXTRA_CA_CERTS for all that connect there.'
    : undefined
}
