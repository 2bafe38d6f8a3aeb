// Which text is the head of a request to Drupal or another server? Nothing of it may begin another request (RFC 9112 §11.1). It
// refuses to know what the headers mean.

export type Headers = Readonly<Record<string, string>>

/**
 * Headers that many requests have in common: checked and joined once, when the first is sent. Measured: half of what a call made on
 * its way to the site was the head, most of it a token.
 */
export class CommonHeaders {
  readonly #headers: Headers
  #lines: string | undefined

  constructor(headers: Headers) {
    this.#headers = headers
  }

  get lines(): string {
    // One piece, where `+` leaves many that are put together anew for each request.
    this.#lines ??= Object.entries(this.#headers)
      .map(([name, value]) => lineOf(name, value))
      .join('')
    return this.#lines
  }
}

export interface OutgoingRequest {
  method: string
  /** Path and query as sent; never from a client unchecked. */
  path: string
  /** Without those of framing. */
  headers: Headers
  /** Beside them; no name comes twice. */
  common?: readonly CommonHeaders[] | undefined
  body?: string | Buffer | null | undefined
}

/** The head of a request. Throws TypeError for what would be none, or more than one. */
export function headOf({ method, path, headers, common = [], body }: OutgoingRequest): string {
  if (!/^[A-Z]+$/.test(method) || !/^[\x21-\x7e]+$/.test(path)) throw new TypeError('no request')
  let text = `${method} ${path} HTTP/1.1\r\n`
  for (const { lines } of common) text += lines
  for (const name in headers) text += lineOf(name, headers[name] as string)
  if (body === undefined || body === null) {
    return method === 'POST' ? `${text}content-length: 0\r\n\r\n` : `${text}\r\n`
  }
  return `${text}content-length: ${Buffer.byteLength(body)}\r\n\r\n`
}

function lineOf(name: string, value: string): string {
  if (!/^[\t\x20-\x7e\x80-\xff]*$/.test(value))
    throw new TypeError(`unusable value of the header ${name}`)
  return `${name}: ${value}\r\n`
}
