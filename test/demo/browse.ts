// A browser's and a client's moves against the double, for the tests in this folder: raw requests, forms, PKCE, consent, codes.
import { createHash, randomBytes } from 'node:crypto'
import { request as httpRequest } from 'node:http'
import { type DrupalDouble, type DrupalOptions, startDrupal } from '../../src/demo/double.ts'
import type { Client } from '../../src/demo/site.ts'

export const CALLBACK = 'http://127.0.0.1:4711/callback'
export const READ = 'read:tutorials'
export const WEB = 'https://app.example/cb'

export interface RawAnswer {
  status: number
  /** lower-case names; several of one name joined */
  headers: Record<string, string>
  body: string
}

export interface RawRequest {
  method?: string
  headers?: Record<string, string>
  body?: string
}

/** One request, nothing added but Host: fetch would not let a test set it, nor ask for OPTIONS undisturbed. */
export function raw(url: string, path: string, given: RawRequest = {}): Promise<RawAnswer> {
  const { hostname, port } = new URL(url)
  const { method = 'GET', headers = {}, body } = given
  return new Promise((resolve, reject) => {
    const outgoing = httpRequest({ hostname, port, path, method, headers }, response => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('error', reject)
      response.on('end', () => {
        const entries = Object.entries(response.headers).map(([name, value]) => [
          name,
          String(value)
        ])
        resolve({
          status: response.statusCode!,
          headers: Object.fromEntries(entries) as Record<string, string>,
          body: Buffer.concat(chunks).toString()
        })
      })
    })
    outgoing.on('error', reject)
    outgoing.end(body)
  })
}

/** A form post. */
export function post(
  url: string,
  path: string,
  fields: Record<string, string>,
  headers: Record<string, string> = {}
): Promise<RawAnswer> {
  return raw(url, path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/x-www-form-urlencoded', ...headers },
    body: new URLSearchParams(fields).toString()
  })
}

/** The hidden fields of a page's form. */
export function hiddenFields(page: string): Record<string, string> {
  const inputs = page.matchAll(/<input type="hidden" name="([^"]+)" value="([^"]*)"/g)
  return Object.fromEntries([...inputs].map(([, name, value]) => [name, value])) as Record<
    string,
    string
  >
}

/** Signs in through the login form; gives the Cookie header's value. */
export async function signIn(url: string, name: string, pass = name): Promise<string> {
  const page = await raw(url, '/user/login')
  const fields = { ...hiddenFields(page.body), name, pass, op: 'Log in' }
  const answer = await post(url, '/user/login', fields)
  return answer.headers['set-cookie']!.split(';')[0]!
}

/** A PKCE pair. */
export function pkce(): { verifier: string; challenge: string } {
  const verifier = randomBytes(48).toString('base64url')
  return { verifier, challenge: createHash('sha256').update(verifier).digest('base64url') }
}

/** The header and claims of a JWT, unverified. */
export function decode(token: string): Record<string, unknown>[] {
  return token
    .split('.')
    .slice(0, 2)
    .map(part => JSON.parse(Buffer.from(part, 'base64url').toString()) as Record<string, unknown>)
}

/** A double with the editorial site, closed with the test. */
export async function start(
  t: { teardown(done: () => Promise<void>): void },
  options: DrupalOptions
): Promise<DrupalDouble> {
  const drupal = await startDrupal(options)
  t.teardown(() => drupal.close())
  return drupal
}

/** The answer's JSON object. */
export function json(answer: RawAnswer): Record<string, unknown> {
  return JSON.parse(answer.body) as Record<string, unknown>
}

/** An authorization request's path; fields replace the usual ones. */
export function authorizePath(fields: Record<string, string> = {}): string {
  const query = new URLSearchParams({
    response_type: 'code',
    client_id: 'public',
    redirect_uri: CALLBACK,
    scope: READ,
    state: 'xyz',
    ...fields
  })
  return `/oauth/authorize?${query.toString()}`
}

/** Submits the consent form as it was shown. */
export async function decide(drupal: DrupalDouble, path: string, Cookie: string, op: string) {
  const page = await raw(drupal.url, path, { headers: { Cookie } })
  const answer = await post(drupal.url, path, { ...hiddenFields(page.body), op }, { Cookie })
  return { page, answer, back: new URL(answer.headers.location ?? 'none:').searchParams }
}

/** A code for `client_id`, from sign-in to consent. */
export async function codeFor(
  drupal: DrupalDouble,
  fields: Record<string, string>
): Promise<string> {
  const cookie = await signIn(drupal.url, 'editor')
  const { back } = await decide(drupal, authorizePath(fields), cookie, 'Allow')
  return back.get('code')!
}

/** Exchanges a code. */
export const exchange = (drupal: DrupalDouble, fields: Record<string, string>) =>
  post(drupal.url, '/oauth/token', {
    grant_type: 'authorization_code',
    client_id: 'public',
    redirect_uri: CALLBACK,
    ...fields
  })

/** The header of a bearer token. */
export const bearer = (token: unknown) => ({ Authorization: `Bearer ${String(token)}` })

/** A web client, so that the native rules keep out of the way. */
export function webClient(given: Partial<Client> = {}): Client {
  return {
    clientId: 'web',
    uuid: 'u-web',
    label: 'Web',
    redirectUris: [WEB],
    grantTypes: ['authorization_code', 'refresh_token', 'client_credentials'],
    pkce: false,
    automaticAuthorization: false,
    ...given
  }
}
