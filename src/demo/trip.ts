// The whole trip of a real MCP client: the official SDK finds the sign-in by itself, registers, signs a person in, lists tools,
// calls one, is refused another for want of a scope, and steps up. Nothing here knows the gateway from inside.
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import {
  type OAuthClientProvider,
  UnauthorizedError
} from '@modelcontextprotocol/sdk/client/auth.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import type {
  OAuthClientInformationMixed,
  OAuthTokens
} from '@modelcontextprotocol/sdk/shared/auth.js'
import { type Person, signIn } from './browser.ts'

export interface Trip {
  /** The MCP URL, as a user types it. */
  url: string
  person: Person
  /** Told each step in readable lines. */
  say: (line: string) => void
}

const CALLBACK = 'http://127.0.0.1:47623/callback'

/** Keeps credentials in memory. No refresh token is handed back: with one, the SDK refreshes instead of stepping up. */
class MemoryProvider implements OAuthClientProvider {
  readonly redirectUrl = CALLBACK
  readonly clientMetadata = {
    client_name: 'Demo client',
    redirect_uris: [CALLBACK],
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    token_endpoint_auth_method: 'none'
  }
  authorizationUrl: URL | undefined
  private client: OAuthClientInformationMixed | undefined
  private saved: OAuthTokens | undefined
  private verifier = ''

  clientInformation() {
    return this.client
  }
  saveClientInformation(client: OAuthClientInformationMixed) {
    this.client = client
  }
  tokens() {
    return this.saved
  }
  saveTokens(tokens: OAuthTokens) {
    this.saved = { ...tokens, refresh_token: undefined }
  }
  redirectToAuthorization(url: URL) {
    this.authorizationUrl = url
  }
  saveCodeVerifier(verifier: string) {
    this.verifier = verifier
  }
  codeVerifier() {
    return this.verifier
  }
}

/** A fetch that says what goes over the wire: method, path, status, and what a refusal asks for. */
function narrated(say: Trip['say']): typeof fetch {
  return async (input, init) => {
    const request = new Request(input, init)
    const response = await fetch(input, init)
    const { pathname } = new URL(request.url)
    say(`    ${request.method} ${pathname} → ${response.status}`)
    const challenge = response.headers.get('www-authenticate')
    if (challenge !== null) say(`      WWW-Authenticate: ${challenge}`)
    return response
  }
}

/** Signs the person in at the URL that the SDK asked for, and hands the code to the transport. */
async function authorize(
  provider: MemoryProvider,
  transport: StreamableHTTPClientTransport,
  { person, say }: Trip
): Promise<void> {
  const { authorizationUrl: url } = provider
  if (url === undefined) throw new Error('The SDK asked for no sign-in.')
  say(
    `    ${person.user} signs in at ${url.origin}${url.pathname}, scope "${url.searchParams.get('scope')}", and allows it`
  )
  const back = await signIn(url, person, at => at.href.startsWith(CALLBACK))
  const code = back.searchParams.get('code')
  if (code === null) throw new Error(`The sign-in was refused: ${back.searchParams.get('error')}`)
  await transport.finishAuth(code)
}

function firstText(result: Awaited<ReturnType<Client['callTool']>>): string {
  const [block] = result.content as { type: string; text?: string }[]
  const text = block?.text ?? ''
  return text.length > 160 ? `${text.slice(0, 160)}…` : text
}

/** Runs the trip; throws when a step does not go as it must. */
export async function runTrip(trip: Trip): Promise<void> {
  const { url, say } = trip
  const provider = new MemoryProvider()
  const open = () =>
    new StreamableHTTPClientTransport(new URL(url), {
      authProvider: provider,
      fetch: narrated(say)
    })

  say('1. A client knows nothing but the URL; the refusal tells it where to sign in')
  const stranger = open()
  const refusal = await new Client({ name: 'demo', version: '1.0.0' }).connect(stranger).then(
    () => undefined,
    (error: unknown) => error
  )
  if (!(refusal instanceof UnauthorizedError)) {
    throw new Error('The first call should have asked for a sign-in.', { cause: refusal })
  }

  say('2. It has registered itself; now a person signs in and consents (authorization code, PKCE)')
  await authorize(provider, stranger, trip)

  say('3. initialize')
  const transport = open()
  const client = new Client({ name: 'demo', version: '1.0.0' })
  await client.connect(transport)
  const server = client.getServerVersion()
  say(`    connected to ${server?.title ?? server?.name}, protocol ${transport.protocolVersion}`)

  say('4. tools/list')
  const { tools } = await client.listTools()
  for (const tool of tools) say(`    ${tool.name.padEnd(20)} ${tool.description ?? ''}`)

  say('5. tools/call tutorials.search')
  const found = await client.callTool({ name: 'tutorials.search', arguments: { query: 'drupal' } })
  if (found.isError) throw new Error(`The search failed: ${firstText(found)}`)
  say(`    ${firstText(found)}`)

  say('6. tools/call tutorials.create: refused, the token lacks a scope; the client steps up')
  const create = {
    name: 'tutorials.create',
    arguments: { title: 'Written by the demo', body: 'Hello.' }
  }
  const denied = await client.callTool(create).then(
    () => undefined,
    (error: unknown) => error
  )
  if (!(denied instanceof UnauthorizedError)) {
    throw new Error('The call without the scope should have asked to step up.', { cause: denied })
  }
  await authorize(provider, transport, trip)
  const created = await client.callTool(create)
  if (created.isError) throw new Error(`The call failed after the step-up: ${firstText(created)}`)
  say(`    ${firstText(created)}`)

  say('7. The session ends')
  await transport.terminateSession()
  await client.close()
}
