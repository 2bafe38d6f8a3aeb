// One exchange with the gateway, with whatever it takes to be let in: the token, one retry after a 401, one after a step-up. It
// knows neither sessions nor messages.
import { readEvents, type ServerSentEvent } from '../mcp/sse-events.ts'
import type { Access } from './connect-access.ts'
import { isMessage, oneLine } from './connect-message.ts'
import { readChallenge } from './discover.ts'
import { Failure } from './failure.ts'
import type { Answer, Fetch } from './http.ts'
import { printable } from './oauth.ts'

export interface Exchange {
  method: 'POST' | 'GET' | 'DELETE'
  headers: Record<string, string>
  body?: string
  signal: AbortSignal
  /** Called when the request is on its way. */
  dispatched?: () => void
}

/** Asks `url` and gives whatever came, after at most two retries. Throws a Failure when nobody is let in, and fetch's errors. */
export async function exchange(
  fetch: Fetch,
  access: Access,
  url: string,
  wish: Exchange
): Promise<Answer> {
  const { method, body, signal } = wish
  const send = (token: string | undefined) =>
    fetch(url, {
      method,
      signal,
      headers: {
        ...wish.headers,
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` })
      },
      ...(body === undefined ? {} : { body })
    })
  let token = await access.token()
  const asked = send(token)
  wish.dispatched?.()
  let answer = await asked
  if (answer.status === 401) {
    const { scope } = readChallenge(answer.headers.get('www-authenticate'))
    await answer.body?.cancel()
    token = await access.replace(token, scope?.split(' ').filter(Boolean))
    answer = await send(token)
  }
  if (answer.status === 403) {
    const { error, scope = '' } = readChallenge(answer.headers.get('www-authenticate'))
    const scopes = error === 'insufficient_scope' ? scope.split(' ').filter(Boolean) : []
    const wider = scopes.length === 0 ? undefined : await access.stepUp(scopes)
    if (wider !== undefined) {
      await answer.body?.cancel()
      answer = await send(wider)
    }
  }
  return answer
}

/** No answer and no event is larger; beyond it something is wrong. */
const maxBytes = 64 * 1024 * 1024

/** Whether the answer is an event stream. */
export function isStream(answer: Answer): boolean {
  return /^text\/event-stream\b/i.test(answer.headers.get('content-type') ?? '')
}

/** A firewall, a sign-in page of the network, a proxy: what answers with something that is no MCP. */
export function notTheGateway({ status, headers }: Answer): Failure {
  const type = headers.get('content-type')?.split(';')[0] || 'no media type'
  return new Failure(
    `Something in front of the gateway answered in its place (status ${status}, ${printable(type)}). Run doctor with the same URL: it finds the broken link.`
  )
}

/** The events of an event stream. Where they hold no message, or say so by another type, their data is left out, as the SDKs do. */
export async function* eventsOf(answer: Answer): AsyncGenerator<ServerSentEvent> {
  const body = (answer.body ?? nothing()) as AsyncIterable<Uint8Array>
  for await (const event of readEvents(body, { maxLength: maxBytes })) {
    yield event.event === 'message' && isMessage(event.data) ? event : { ...event, data: '' }
  }
}

async function* nothing() {}

/** The messages of an answer, stream or not, each on one line. Throws a Failure when its body is none. */
export async function* messagesOf(answer: Answer): AsyncGenerator<string> {
  if (isStream(answer)) {
    for await (const { data } of eventsOf(answer)) if (data !== '') yield oneLine(data)
    return
  }
  const text = oneLine(await wholeBody(answer))
  if (text === '') return
  if (!isMessage(text)) throw notTheGateway(answer)
  yield text
}

/** The whole body as text; throws when it is larger than 64 MiB. */
export async function wholeBody(answer: Answer): Promise<string> {
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of answer.body ?? []) {
    size += chunk.byteLength
    if (size > maxBytes) throw new Error(`the answer is larger than ${maxBytes} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString()
}
