// One sign-in from beginning to end: discovery, the client, the flow, and the credential that is kept. It talks to people through
// `tell` alone, so `login` and `connect` share it.
import { booleanWords, readBoolean } from '../config/boolean.ts'
import { codeFlow, defaultRedirectUri } from './code-flow.ts'
import { type Credential, type Grant, type Vault } from './credentials.ts'
import type { Env } from './credentials-home.ts'
import { deviceFlow, type Told } from './device-flow.ts'
import { discover, type Discovered } from './discover.ts'
import { exitCodes, Failure } from './failure.ts'
import { headless } from './headless.ts'
import type { Fetch } from './http.ts'
import { type Client, clientCredentials, deviceGrant, type Tokens } from './oauth.ts'
import { known, register, unregister } from './registration.ts'
import { explainMissing, grantedScopes, missingScopes, peek } from './scopes.ts'

export type SignInEvent =
  | Told
  | { kind: 'visit'; url: string; open: boolean }
  | { kind: 'note'; text: string }

export interface SignIn {
  url: string
  fetch: Fetch
  vault: Vault
  env: Env
  tell: (event: SignInEvent) => void
  /** `auto`: the browser where there is one. */
  flow?: 'auto' | 'device' | 'browser' | 'client_credentials'
  clientId?: string
  /** Of a pre-registered confidential client or a service account; never kept for the latter. */
  clientSecret?: string
  /** Default: what the gateway asks for. */
  scopes?: string[]
  redirectUri?: string
  /** What is kept still works and lacks scopes alone: it is replaced only by what covers more of them. */
  isStepUp?: boolean
  signal?: AbortSignal
  now?: () => number
  sleep?: (ms: number) => Promise<unknown>
}

/** Signs in and keeps the credential. Throws a Failure that says what to do. */
export async function signIn(wish: SignIn): Promise<Credential> {
  const { fetch, url, vault, signal } = wish
  const found = await discover(fetch, url, signal)
  const grant = chooseGrant(wish, found)
  const { client, isNew } = await chooseClient(wish, found, grant)
  try {
    const tokens = await run(wish, found, grant, client)
    const credential = toCredential(wish, found, grant, client, tokens)
    await vault.locked(credential, async () => {
      if (wish.isStepUp) refuseLess(await vault.get(credential), credential)
      await vault.set(credential)
    })
    return credential
  } catch (error) {
    // Nothing here remembers it, so every attempt would leave another client at the site.
    if (isNew && client.registration)
      await unregister(fetch, client.registration).catch(() => undefined)
    throw error
  }
}

function refuseLess(kept: Credential | undefined, made: Credential): void {
  if (kept === undefined) return
  const { askedScopes, grantedScopes, grant } = made
  const missing = missingScopes(askedScopes, grantedScopes)
  // A server that says nothing of scopes granted what it was asked for (RFC 6749 §5.1).
  const before = missingScopes(askedScopes, kept.grantedScopes ?? kept.askedScopes)
  if (missing.length === 0 || missing.length < before.length) return
  throw new Failure(
    `${explainMissing(missing, grant === 'device_code')} The sign-in before, which covers no less, was kept.`,
    exitCodes.fewerScopes
  )
}

/** The client that was named, else the one that registered itself last time, else a new registration. */
async function chooseClient(
  wish: SignIn,
  found: Discovered,
  grant: Grant
): Promise<{ client: Client; isNew: boolean }> {
  const { fetch, vault, clientId, clientSecret, signal, redirectUri = defaultRedirectUri } = wish
  if (clientId !== undefined) {
    const client = { clientId, ...(clientSecret === undefined ? {} : { clientSecret }) }
    return { client, isNew: false }
  }
  const { server, resource } = found
  const key = { issuer: server.issuer, resource }
  const name = grant === 'device_code' ? deviceGrant : grant
  const client = await known(fetch, await vault.get(key), name, redirectUri, signal)
  if (client === undefined) {
    return { client: await register(fetch, server, redirectUri, signal), isNew: true }
  }
  // At once: what it replaces is worth nothing any more, whatever comes of this sign-in.
  await vault.locked(key, async () => {
    const kept = await vault.get(key)
    if (kept?.clientId === client.clientId) await vault.set({ ...kept, ...client })
  })
  return { client, isNew: false }
}

/** Which flow: what was asked for, else the one that can work here. */
function chooseGrant(wish: SignIn, { server, deviceFlowIsOff }: Discovered): Grant {
  const { flow = 'auto', env, tell } = wish
  if (flow === 'client_credentials') {
    if (wish.clientId !== undefined && wish.clientSecret !== undefined) return 'client_credentials'
    throw new Failure(
      'A service account needs --client-id (or DRUPAL_MCP_CLIENT_ID) and its secret in DRUPAL_MCP_CLIENT_SECRET or --client-secret-file.',
      exitCodes.usage
    )
  }
  const isEnabled = readBoolean(env['OAUTH_DEVICE_FLOW_ENABLED']?.trim() || 'true')
  if (isEnabled === undefined) {
    throw new Failure(`OAUTH_DEVICE_FLOW_ENABLED must be ${booleanWords}.`, exitCodes.usage)
  }
  const obstacle = !isEnabled
    ? 'The device flow is switched off here (OAUTH_DEVICE_FLOW_ENABLED=false).'
    : deviceFlowIsOff
      ? 'The operator of the gateway has switched the device flow off (OAUTH_DEVICE_FLOW_ENABLED=false).'
      : server.device_authorization_endpoint === undefined
        ? `${server.issuer} offers no device flow (at Drupal: enable simple_oauth_device_flow).`
        : undefined
  if (flow === 'device') {
    if (obstacle === undefined) return 'device_code'
    throw new Failure(`${obstacle} Use --browser.`, exitCodes.usage)
  }
  if (flow === 'browser') return 'authorization_code'
  const why = headless(env)
  if (why === undefined) return 'authorization_code'
  if (obstacle === undefined) {
    tell({
      kind: 'note',
      text: `No browser is opened: ${why}. With --browser one is used all the same.`
    })
    return 'device_code'
  }
  tell({
    kind: 'note',
    text: `${obstacle} Since ${why}, open the URL below in a browser that reaches this machine's loopback, for example through "ssh -L".`
  })
  return 'authorization_code'
}

async function run(wish: SignIn, found: Discovered, grant: Grant, client: Client): Promise<Tokens> {
  const { fetch, env, tell, signal } = wish
  const { server, resource } = found
  const scopes = wish.scopes ?? found.scopes
  const flow = { fetch, server, client, scopes, resource, ...(signal ? { signal } : {}) }
  switch (grant) {
    case 'client_credentials':
      return clientCredentials(fetch, server, client, { scopes, resource }, signal)
    case 'device_code':
      return deviceFlow({
        ...flow,
        tell,
        ...(wish.now ? { now: wish.now } : {}),
        ...(wish.sleep ? { sleep: wish.sleep } : {})
      })
    case 'authorization_code':
      return codeFlow({
        ...flow,
        ...(wish.redirectUri === undefined ? {} : { redirectUri: wish.redirectUri }),
        visit: url =>
          tell({ kind: 'visit', url, open: wish.flow === 'browser' || headless(env) === undefined })
      })
  }
}

function toCredential(
  { scopes, now = Date.now }: SignIn,
  found: Discovered,
  grant: Grant,
  client: Client,
  tokens: Tokens
): Credential {
  const { server, resource } = found
  const { clientId, clientSecret, registration } = client
  const granted = grantedScopes(tokens.access_token, tokens.scope)
  const subject = peek(tokens.access_token)?.['sub']
  return {
    issuer: server.issuer,
    resource,
    clientId,
    // A service account's secret stays where the administrator put it.
    ...(clientSecret === undefined || grant === 'client_credentials' ? {} : { clientSecret }),
    ...(registration === undefined ? {} : { registration }),
    grant,
    tokenEndpoint: String(server.token_endpoint),
    ...(server.revocation_endpoint === undefined
      ? {}
      : { revocationEndpoint: server.revocation_endpoint }),
    askedScopes: scopes ?? found.scopes,
    signedInAt: now(),
    ...(granted === undefined ? {} : { grantedScopes: granted }),
    ...(typeof subject === 'string' ? { subject } : {}),
    ...lifetime(tokens, now())
  }
}

const fallbackLifetimeSeconds = 300

/** The part of a credential that changes with every refresh. */
export function lifetime(
  tokens: Tokens,
  now: number
): Pick<Credential, 'accessToken' | 'refreshToken' | 'obtainedAt' | 'expiresAt'> {
  const seconds = tokens.expires_in ?? fallbackLifetimeSeconds
  return {
    accessToken: tokens.access_token,
    ...(tokens.refresh_token === undefined ? {} : { refreshToken: tokens.refresh_token }),
    obtainedAt: now,
    expiresAt: now + seconds * 1000
  }
}
