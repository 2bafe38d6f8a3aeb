// Do the official SDKs get in? Version 1, and version 2 in each of its modes; each discovers, registers, signs in and calls.
import * as v2 from '@modelcontextprotocol/client'
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport as TransportV1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { UnauthorizedError as UnauthorizedV1 } from '@modelcontextprotocol/sdk/client/auth.js'
import { signIn } from '../../src/demo/browser.ts'
import { fetchTrusting } from './fixtures/trust.ts'
import type { Arrival, Journey } from './journey.ts'

const callback = 'http://127.0.0.1:47631/callback'
const self = { name: 'client-test', version: '1.0.0' }

/** Credentials in memory; the same object serves both SDKs, whose interfaces agree where it matters. */
function createCredentials() {
  let client: v2.StoredOAuthClientInformation | undefined
  let tokens: v2.StoredOAuthTokens | undefined
  let verifier = ''
  let discovered: v2.OAuthDiscoveryState | undefined
  return {
    authorizationUrl: undefined as URL | undefined,
    redirectUrl: callback,
    clientMetadata: {
      client_name: 'Client test',
      redirect_uris: [callback],
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      token_endpoint_auth_method: 'none'
    },
    clientInformation: () => client,
    saveClientInformation(saved: v2.StoredOAuthClientInformation) {
      client = saved
    },
    tokens: () => tokens,
    saveTokens(saved: v2.StoredOAuthTokens) {
      tokens = saved
    },
    redirectToAuthorization(url: URL) {
      this.authorizationUrl = url
    },
    saveCodeVerifier(saved: string) {
      verifier = saved
    },
    codeVerifier: () => verifier,
    saveDiscoveryState(saved: v2.OAuthDiscoveryState) {
      discovered = saved
    },
    discoveryState: () => discovered
  }
}

interface Connection {
  connect(): Promise<void>
  finishAuth(parameters: URLSearchParams): Promise<void>
}

/** Connects; where a sign-in is asked for, signs in and connects again. */
async function connectSignedIn(
  open: () => Connection,
  credentials: ReturnType<typeof createCredentials>,
  isUnauthorized: (error: unknown) => boolean,
  { person, trust }: Journey
): Promise<void> {
  const stranger = open()
  try {
    await stranger.connect()
    return
  } catch (error) {
    if (!isUnauthorized(error) || !credentials.authorizationUrl) throw error
  }
  const back = await signIn(
    credentials.authorizationUrl,
    person,
    url => url.href.startsWith(callback),
    fetchTrusting(trust)
  )
  await stranger.finishAuth(back.searchParams)
  await open().connect()
}

function textOf(result: Record<string, unknown>): string {
  const [block] = result['content'] as { text?: string }[]
  return block?.text ?? ''
}

/** The SDK of version 1: 2025-11-25 and older. */
export async function sdkV1(journey: Journey): Promise<Arrival> {
  const credentials = createCredentials()
  let client = new ClientV1(self)
  let revision: string | undefined
  await connectSignedIn(
    () => {
      client = new ClientV1(self)
      const transport = new TransportV1(new URL(journey.url), {
        authProvider: credentials,
        fetch: fetchTrusting(journey.trust)
      })
      return {
        async connect() {
          await client.connect(transport as Parameters<typeof client.connect>[0])
          revision = transport.protocolVersion
        },
        finishAuth: parameters => transport.finishAuth(parameters.get('code') ?? '')
      }
    },
    credentials,
    error => error instanceof UnauthorizedV1,
    journey
  )
  const { tools } = await client.listTools()
  const result = await client.callTool({ name: journey.tool, arguments: journey.args })
  await client.close()
  return {
    revision,
    tools: tools.map(({ name }) => name),
    text: textOf(result),
    signedInAt: credentials.authorizationUrl
  }
}

/** The SDK of version 2. Legacy: sessions; auto: asks which era; pin: 2026-07-28 or nothing. */
export function sdkV2(mode: v2.VersionNegotiationMode) {
  return async (journey: Journey): Promise<Arrival> => {
    const credentials = createCredentials()
    const create = () => new v2.Client(self, { versionNegotiation: { mode } })
    let client = create()
    await connectSignedIn(
      () => {
        client = create()
        const transport = new v2.StreamableHTTPClientTransport(new URL(journey.url), {
          authProvider: credentials,
          fetch: fetchTrusting(journey.trust)
        })
        return {
          connect: () => client.connect(transport),
          finishAuth: parameters => transport.finishAuth(parameters)
        }
      },
      credentials,
      error => error instanceof v2.UnauthorizedError,
      journey
    )
    const { tools } = await client.listTools()
    const result = await client.callTool({ name: journey.tool, arguments: journey.args })
    const revision = client.getNegotiatedProtocolVersion()
    await client.close()
    return {
      revision,
      tools: tools.map(({ name }) => name),
      text: textOf(result),
      signedInAt: credentials.authorizationUrl
    }
  }
}
