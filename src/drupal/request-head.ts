// Which text is the head of a request to Drupal or another server? Nothing of it may begin another request (RFC 9112 §11.1). It
// refuses to know what the headers mean.

export type Headers = Readonly<Record<string, string>>

/** Headers that many requests have in common: checked and joined once, when the first is sent (measured: 1 KB a call). */
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
  /** The caller's token; undefined: anonymous. Its scheme is spelt `Bearer`: Drupal compares it by case (drupal-wire §6.3). */
  bearer?: string | undefined
  body?: string | Buffer | null | undefined
}

/** The head of a request. Throws TypeError for what would be none, or more than one. */
export function headOf(request: OutgoingRequest): string {
  const { method, path, headers, common = [], bearer, body } = request
  if (!/^[A-Z]+$/.test(method) || !/^[\x21-\x7e]+$/.test(path)) throw new TypeError('no request')
  let text = `${method} ${path} HTTP/1.1\r\n`
  for (const { lines } of common) text += lines
  if (bearer !== undefined) {
    // Apart from its line, which is not put together to be looked at.
    if (!/^[\x21-\x7e]+$/.test(bearer)) throw new TypeError('unusable token')
    text += `authorization: Bearer ${bearer}\r\n`
  }
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
