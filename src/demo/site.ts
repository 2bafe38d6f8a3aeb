// What a Drupal site is made of, as far as its OAuth server and its MCP tools can tell: roles, users, consumers, scopes, tools.
// Plain data; it knows neither HTTP nor tokens. A site is built afresh for every double, so a test may change it.

export interface User {
  uid: number
  uuid: string
  name: string
  pass: string
  roles: string[]
  blocked: boolean
}

export interface Client {
  clientId: string
  /** the consumer entity's uuid: what introspection calls client_id */
  uuid: string
  label: string
  /** a client with a secret is confidential */
  secret?: string
  redirectUris: string[]
  grantTypes: string[]
  /** the consumer field "Use PKCE?": then a public client must */
  pkce: boolean
  automaticAuthorization: boolean
  /** the consumer field "Scopes": what client_credentials gets when it asks for none */
  defaultScopes?: string[]
  registrationToken?: string
}

export interface Scope {
  name: string
  grants: string[]
  /** what the scope grants: one permission, a role's permissions, or, misconfigured, nothing (then Drupal 6.1 answers 500) */
  grantsPermission?: string
  grantsRole?: string
}

export interface ToolCaller {
  uid: number
  name: string
  roles: string[]
  can(permission: string): boolean
  /** aborted when the client has gone */
  signal: AbortSignal
}

export interface Tool {
  name: string
  title: string
  description: string
  /** the Drupal permission of the JSON-RPC method; without it the tool is not listed */
  permission: string
  /** JSON Schema of each parameter; `required` names those that must be there */
  params: Record<string, { type: string; [keyword: string]: unknown }>
  required?: string[]
  output: Record<string, unknown>
  annotations: {
    auth?: { level?: 'none' | 'optional' | 'required'; scopes?: string[]; description?: string }
    [name: string]: unknown
  }
  run(params: Record<string, unknown>, caller: ToolCaller): unknown
}

export interface Site {
  name: string
  /** permissions by role; every account also has `anonymous` or `authenticated` */
  roles: Record<string, string[]>
  users: User[]
  clients: Client[]
  scopes: Scope[]
  tools: Tool[]
  /** core's basic_auth module: changes who answers a Basic header */
  basicAuth: boolean
  /** tools that are listed although their URL was never routed (the router was rebuilt by somebody without the permission) */
  unroutedTools: string[]
  /** whom `mint` speaks for when the caller does not say */
  mintDefaults: { clientId: string; uid: number; scopes: string[] }
}

export const AUTHORIZATION_CODE = 'authorization_code'
export const REFRESH_TOKEN = 'refresh_token'
export const CLIENT_CREDENTIALS = 'client_credentials'
export const DEVICE_CODE = 'urn:ietf:params:oauth:grant-type:device_code'

/** The user who signs in under this name. */
export function userNamed(site: Site, name: string): User | undefined {
  return site.users.find(user => user.name === name)
}

/** The user with this uid; 0 (anonymous) is nobody. */
export function userWithId(site: Site, uid: number | null): User | undefined {
  return site.users.find(user => user.uid === uid)
}

/** The consumer with this client_id. */
export function clientWithId(site: Site, clientId: string | null): Client | undefined {
  return site.clients.find(client => client.clientId === clientId)
}
