// Replays every exchange recorded on a real Drupal (recordings.json) against the double, in the recorded order. Tokens, codes,
// cookies and ids of the recording are replaced by the ones the double gave in the same place.
import { readFileSync } from 'node:fs'
import t from 'tap'
import { type DrupalDouble, startDrupal } from '../../src/demo/double.ts'
import { decode, hiddenFields, raw, signIn } from './browse.ts'
import { recordedSite } from './recorded-site.ts'

interface Exchange {
  name: string
  request: { method: string; path: string; headers: Record<string, string>; body: string | null }
  response: { status: number; headers: [string, string][]; body: string | null }
}
interface DecodedToken {
  name: string
  header_claims: Record<string, unknown>[]
}

/** Exchanges that the double deliberately does not model: name → why. The test fails when an entry is stale. */
const NOT_MODELLED: Record<string, string> = {}

/** Headers that are not compared, and why. */
const NOT_COMPARED: Record<string, string> = {
  host: "echoed by PHP's built-in server only",
  connection: "PHP's built-in server closes after every answer",
  'keep-alive': 'as connection',
  date: 'time',
  'content-length': 'follows from the body',
  'transfer-encoding': 'follows from the body',
  'x-drupal-cache': 'says what earlier visitors asked for (present or not, and its value)',
  'x-drupal-dynamic-cache': 'as x-drupal-cache'
}

const RECORDED_HOST = '127.0.0.1:8899'
const recordings = JSON.parse(
  readFileSync(new URL('recordings.json', import.meta.url), 'utf8')
) as (Exchange | DecodedToken)[]

t.test('the double answers every recorded exchange as Drupal did', async t => {
  const drupal = await startDrupal({ site: recordedSite() })
  t.teardown(() => drupal.close())
  const replay = startReplay(drupal, await signIn(drupal.url, 'alice'))
  let played = 0
  for (const recording of recordings) {
    const [expected, actual] = await replay.play(recording)
    const reason = NOT_MODELLED[recording.name]
    if (reason) t.not(actual, expected, `${recording.name} is not modelled: ${reason}`)
    else t.equal(actual, expected, recording.name)
    played += 1
  }
  t.equal(played, 90, 'all 90 exchanges were played')
  const names = new Set(recordings.map(recording => recording.name))
  const unknown = Object.keys(NOT_MODELLED).filter(name => !names.has(name))
  t.strictSame(unknown, [], 'the list of exchanges not modelled names recorded exchanges only')
  t.comment(`not modelled: ${Object.keys(NOT_MODELLED).join(', ') || 'none'}`)
})

t.test('the comparison notices a changed status, header, stable value, key order and form', t => {
  const headers = { 'Content-Type': 'application/json', Vary: 'X-Consumer-ID' }
  const body = '{"client_id":"a","exp":1795404212,"jti":"662ad483-0ee9-4cb4-971c-ec9e842ef315"}'
  const form = comparable(200, headers, body, '')
  t.equal(comparable(200, headers, body.replace('4212', '9999'), ''), form, 'time may differ')
  t.not(comparable(201, headers, body, ''), form)
  t.not(comparable(200, { ...headers, Allow: 'GET' }, body, ''), form)
  t.not(comparable(200, { ...headers, Vary: 'Cookie' }, body, ''), form)
  t.not(comparable(200, headers, body.replace('"a"', '"b"'), ''), form)
  t.not(comparable(200, headers, body.replace('4212', '4212.5'), ''), form, 'float exp')
  t.not(comparable(200, headers, body.replace('662ad483', '662'), ''), form, 'uuid')
  t.not(comparable(200, headers, `{"exp":1795404212,${body.slice(1)}`, ''), form, 'order')
  const quoted = comparable(200, headers, '{"a":"\\""}', '')
  t.not(comparable(200, headers, '{"a":"\\u0022"}', ''), quoted, 'spelling')
  t.end()
})

/** Plays recordings one after another; each gives the expected and the actual answer in comparable form. */
function startReplay(drupal: DrupalDouble, cookie: string) {
  const host = drupal.url.slice('http://'.length)
  /** a recording's random value → the double's */
  const ours = new Map<string, string>([[RECORDED_HOST, host]])
  let lastToken = ''

  return {
    async play(recording: Exchange | DecodedToken): Promise<[string, string]> {
      if (!('request' in recording)) {
        return [lines(masked(recording.header_claims)), lines(masked(decode(lastToken)))]
      }
      const { request, response } = recording
      await prepare(request)
      const answer = await raw(drupal.url, translated(request.path), {
        method: request.method,
        headers: Object.fromEntries(
          Object.entries(request.headers).map(([name, value]) => [name, translated(value)])
        ),
        ...(request.body === null ? {} : { body: translated(request.body) })
      })
      learn(response.body ?? '', answer.body)
      const recorded = translated(response.body ?? '')
      const headers = response.headers.map(([name, value]) => [name, translated(value)])
      const shown = recorded.endsWith('…[HTML page truncated]')
        ? recorded.indexOf('…[HTML page truncated]')
        : undefined
      return [
        comparable(
          response.status,
          Object.fromEntries(headers) as Record<string, string>,
          recorded.slice(0, shown),
          host
        ),
        comparable(answer.status, answer.headers, answer.body.slice(0, shown), host)
      ]
    }
  }

  function translated(text: string): string {
    let result = text
    for (const [theirs, own] of ours) {
      result = result.replaceAll(theirs, own)
      result = result.replaceAll(theirs.replaceAll('/', '\\/'), own.replaceAll('/', '\\/'))
    }
    return result
  }

  /** Gets what the recorded request carries although no recorded answer handed it out. */
  async function prepare({ path, headers, body }: Exchange['request']): Promise<void> {
    const recordedCookie = headers.Cookie
    if (recordedCookie) ours.set(recordedCookie, cookie)
    for (const [token] of `${headers.Authorization ?? ''} ${body ?? ''}`.matchAll(JWT)) {
      if (ours.has(token)) continue
      const { aud, scope, sub } = decode(token)[1] as { aud: string; scope: string[]; sub?: string }
      const uid = sub === undefined ? null : Number(sub)
      ours.set(token, drupal.mint({ clientId: aud, scopes: scope, uid }).token)
    }
    const fields = new URLSearchParams(body ?? '')
    const code = fields.get('code')
    if (code && !ours.has(code)) ours.set(code, await newCode(fields))
    if (path === '/oauth/device') {
      const page = await raw(drupal.url, path, { headers: { Cookie: cookie } })
      const own = hiddenFields(page.body)
      for (const name of ['form_build_id', 'form_token']) ours.set(fields.get(name)!, own[name]!)
    }
  }

  /** The recorded code was asked for off the record; the answer to its exchange tells with which scopes. */
  async function newCode(fields: URLSearchParams): Promise<string> {
    const exchange = recordings.find(
      recording => 'request' in recording && recording.request.body?.includes(fields.get('code')!)
    ) as Exchange
    const issued = JSON.parse(exchange.response.body!) as { access_token: string }
    const query = new URLSearchParams({
      response_type: 'code',
      client_id: fields.get('client_id')!,
      redirect_uri: fields.get('redirect_uri')!,
      scope: (decode(issued.access_token)[1]!.scope as string[]).join(' '),
      code_challenge: 'jHrbyuM4-amYFM_IeGNx6Kk5l2AeKY8P5AeNowrO3dc',
      code_challenge_method: 'S256'
    })
    const answer = await raw(drupal.url, `/oauth/authorize?${query.toString()}`, {
      headers: { Cookie: cookie }
    })
    return new URL(answer.headers.location!).searchParams.get('code')!
  }

  /** Pairs the random values that both answers handed out. */
  function learn(theirs: string, own: string): void {
    const [recorded, actual] = [asObject(theirs), asObject(own)]
    for (const [name, value] of Object.entries(recorded ?? {})) {
      const mine = actual?.[name]
      if (typeof value !== 'string' || typeof mine !== 'string') continue
      if (!HANDED_OUT.has(name)) continue
      ours.set(value, mine)
      if (name !== 'access_token') continue
      ours.set(String(decode(value)[1]!.jti), String(decode(mine)[1]!.jti))
    }
    const newest = actual?.id_token ?? actual?.access_token
    if (typeof newest === 'string') lastToken = newest
  }
}

const JWT = /eyJ[\w-]+\.[\w-]+\.[\w-]+/g
const HANDED_OUT = new Set([
  'access_token',
  'refresh_token',
  'id_token',
  'device_code',
  'user_code',
  'client_id',
  'client_secret',
  'registration_access_token'
])

/** An answer with everything random or time-bound replaced by its form. */
function comparable(
  status: number,
  headers: Record<string, string>,
  body: string,
  host: string
): string {
  const compared = Object.entries(headers)
    .map(([name, value]) => [name.toLowerCase(), maskedText(value)] as const)
    .filter(([name]) => !Object.hasOwn(NOT_COMPARED, name))
    .map(([name, value]) => `${name}: ${value}`)
    .toSorted()
  const document = asObject(body)
  const content = document ? `${lines(masked(document))}\n${spelling(body)}` : maskedText(body)
  return [status, ...compared, '', content].join('\n').replaceAll(host || RECORDED_HOST, '<host>')
}

/** What JSON may write in several ways, as it stands in the text. */
function spelling(body: string): string {
  return (body.match(/\\.(?:(?<=u)\w{4})?|[/<>&']|[\u0080-\uffff]/g) ?? []).join(' ')
}

function asObject(body: string): Record<string, unknown> | null {
  return body.startsWith('{') ? (JSON.parse(body) as Record<string, unknown>) : null
}

function masked(value: unknown, name = ''): unknown {
  if (Array.isArray(value)) return value.map(item => masked(item, name))
  if (value !== null && typeof value === 'object') {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, masked(item, key)]))
  }
  if (typeof value === 'number' && value > 1_700_000_000) {
    return Number.isInteger(value) ? '<whole seconds>' : '<fractional seconds>'
  }
  if (typeof value !== 'string') return value
  if (name === 'n') return `<modulus of ${value.length} characters>`
  if (name === 'user_code') return value.replace(/^[A-Z0-9]{4}-[A-Z0-9]{4}$/, '<user code>')
  if (name === 'jti') return maskedText(value).replace(/^[0-9a-f-]{36}$/, '<uuid>')
  if (value.startsWith('eyJ')) return { jwt: masked(decode(value)) }
  return maskedText(value)
}

function maskedText(text: string): string {
  return text
    .replace(/def50200[0-9a-f]{690,}/g, '<opaque>')
    .replace(/(?<![0-9a-f])[0-9a-f]{80}(?![0-9a-f])/g, '<jti>')
    .replace(/user_code=[A-Z0-9]{4}-[A-Z0-9]{4}/g, 'user_code=<user code>')
    .replace(/(?<![\w-])SESS[0-9a-f]{32}=[\w%-]+/g, '<session cookie>')
    .replace(/ expires=[^;]+;/g, '')
    .replace(/(?<![\w-])[\w-]{43}(?![\w-])/g, '<random>')
}

function lines(value: unknown): string {
  return JSON.stringify(value, null, 1)
}
