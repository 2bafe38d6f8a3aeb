// A Drupal site's outside, for the demo and for tests: an HTTP server that answers as a recorded Drupal with Simple OAuth and
// jsonrpc_mcp does. It knows sockets and switches; what is answered stands in answer.ts. It stands alone: nothing of the gateway.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { KeyObject } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import { answer } from './answer.ts'
import { editorialSite } from './editorial-site.ts'
import { type Faults, insteadOfDrupal, noFaults, spoil } from './faults.ts'
import { createSigningKey } from './keys.ts'
import { failure } from './reply.ts'
import {
  asDrupalRequest,
  forwarded,
  issuerOf,
  plainHeaders,
  readBody,
  type SeenRequest
} from './request.ts'
import { send } from './send.ts'
import { clientWithId, type Site, type Tool, userNamed } from './site.ts'
import { deleteAccessTokens, type State } from './state.ts'
import { issueAccessToken } from './tokens.ts'

export interface DrupalOptions {
  /** 0, the default, takes a free one */
  port?: number
  /** default 127.0.0.1 */
  host?: string
  /** the RSA private key (KeyObject or PEM); a new one takes about 100 ms */
  key?: KeyObject | string
  /** default: tutorials to search, read, create, publish */
  site?: Site
  siteName?: string
  /** the URL by which the outside knows this Drupal; requests with its Host are taken for its scheme */
  publicUrl?: string
  /**
   * the issuer is this server's own URL with a slash, as on a site without TLS whose hook alters it: real clients fetch metadata
   * from the issuer, and nobody listens at https://127.0.0.1/. Default false: as recorded
   */
  plainIssuer?: boolean
  multilingual?: boolean
  /** OpenID Connect; default true */
  oidc?: boolean
  /** host names, without port; others get 400 */
  trustedHosts?: string[]
  /** seconds; default 300 */
  accessTokenLifetime?: number
  extraTools?: Tool[]
  /** milliseconds since epoch; default Date.now */
  now?: () => number
  /** told one line per answer */
  log?: (line: string) => void
}

export interface MintOptions {
  clientId?: string
  /** null: a client that acts for itself */
  uid?: number | null
  scopes?: string[]
  /** seconds; negative: expired */
  expiresIn?: number
  claims?: Record<string, unknown>
  /** `alg: 'none'` and `alg: 'HS256'` make the two classic forgeries */
  header?: Record<string, unknown>
  stored?: boolean
}

export interface DrupalDouble {
  /** e.g. http://127.0.0.1:8899, no trailing slash */
  url: string
  port: number
  /** what tokens carry when they are issued under `url` (or `publicUrl`): https, no port, a slash */
  issuer: string
  close(): Promise<void>
  /** the newest thousand requests, newest last */
  requests: SeenRequest[]
  load: { active: number; peak: number }
  faults: Faults
  /** every switch off again */
  clearFaults(): void
  /** the site's content, users, clients and scopes; may be changed */
  site: Site
  mint(options?: MintOptions): { token: string; jti: string }
  revoke(jti: string): void
  rotateKey(key?: KeyObject | string): Promise<void>
  /** each deletes access tokens, as saving the entity does in Drupal */
  blockUser(name: string): void
  saveUser(name: string): void
  saveConsumer(clientId: string): void
  /** `drush cache:rebuild`: heals /mcp/tools/describe */
  clearCache(): void
  publicKeyPem: string
  privateKeyPem: string
}

const MAX_SEEN = 1000

/** Starts a double; resolves when it listens. Rejects when the port is taken. */
export async function startDrupal(options: DrupalOptions = {}): Promise<DrupalDouble> {
  const state = await createState(options)
  const requests: SeenRequest[] = []
  const load = { active: 0, peak: 0 }
  const log = options.log ?? (() => {})

  const server = createServer((message, response) => {
    load.active += 1
    load.peak = Math.max(load.peak, load.active)
    const gone = new AbortController()
    response.once('close', () => {
      load.active -= 1
      gone.abort()
    })
    serve(message, response, gone.signal).catch(() => response.destroy())
  })
  server.keepAliveTimeout = 65_000

  async function serve(
    message: IncomingMessage,
    response: ServerResponse,
    gone: AbortSignal
  ): Promise<void> {
    const body = await readBody(message)
    const { method = 'GET', url: path = '/' } = message
    const headers = plainHeaders(message)
    const seen = { method, path, headers, body: body ?? '' }
    requests.push(seen)
    if (requests.length > MAX_SEEN) requests.shift()
    const { faults } = state
    const request = asDrupalRequest(
      faults.believesForwardedHost ? forwarded(seen) : seen,
      state,
      gone
    )
    const isFaulty = faults.only(request.route)
    if (isFaulty && faults.resetBefore) {
      response.destroy()
      return
    }
    const hasBearer = request.bearer !== null
    const reply =
      (body === null ? failure(413, false, '') : null) ??
      insteadOfDrupal(faults, request.route, path, hasBearer) ??
      spoil(faults, request.route, await answer(state, request))
    await send(response, reply, isFaulty ? faults : null, gone)
    log(`${method} ${request.route} ${reply.status}`)
  }

  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(options.port ?? 0, options.host ?? '127.0.0.1', resolve)
  })
  const { port } = server.address() as AddressInfo
  const url = `http://${options.host ?? '127.0.0.1'}:${port}`
  const base = state.publicUrl?.origin ?? url
  const issuer = state.plainIssuer ? `${base}/` : issuerOf(base)

  const forget = (name: string) => {
    const user = userNamed(state.site, name)
    if (!user) throw new Error(`The site has no user ${name}`)
    deleteAccessTokens(state, row => row.uid === user.uid)
    return user
  }
  return {
    url,
    port,
    issuer,
    requests,
    load,
    faults: state.faults,
    site: state.site,
    get publicKeyPem() {
      return state.key.publicPem
    },
    get privateKeyPem() {
      return state.key.privatePem
    },
    close() {
      return new Promise(resolve => {
        server.close(() => resolve())
        server.closeAllConnections()
      })
    },
    clearFaults: () => void Object.assign(state.faults, noFaults()),
    clearCache: () => state.poisonedDescribes.clear(),
    mint: (wish = {}) => issueAccessToken(state, { issuer, ...state.site.mintDefaults, ...wish }),
    revoke: jti => deleteAccessTokens(state, row => row.jti === jti),
    async rotateKey(key) {
      state.key = await createSigningKey(key)
    },
    blockUser(name) {
      forget(name).blocked = true
    },
    saveUser: name => void forget(name),
    saveConsumer(clientId) {
      if (!clientWithId(state.site, clientId)) throw new Error(`The site has no client ${clientId}`)
      deleteAccessTokens(state, row => row.clientId === clientId)
    }
  }
}

async function createState(options: DrupalOptions): Promise<State> {
  const site = siteFor(options)
  const faults = noFaults()
  const now = options.now ?? Date.now
  return {
    site,
    key: await createSigningKey(options.key),
    faults,
    now: () => now() + faults.clockSkewSeconds * 1000,
    accessTokenLifetime: options.accessTokenLifetime ?? 300,
    oidc: options.oidc ?? true,
    multilingual: options.multilingual ?? false,
    trustedHosts: options.trustedHosts ?? null,
    publicUrl: options.publicUrl ? new URL(options.publicUrl) : null,
    plainIssuer: options.plainIssuer ?? false,
    accessTokens: new Map(),
    refreshTokens: new Map(),
    codes: new Map(),
    devices: new Map(),
    sessions: new Map(),
    approvals: new Map(),
    poisonedDescribes: new Map()
  }
}

function siteFor({ site = editorialSite(), siteName, extraTools = [] }: DrupalOptions): Site {
  site.name = siteName ?? site.name
  site.tools.push(...extraTools)
  return site
}
