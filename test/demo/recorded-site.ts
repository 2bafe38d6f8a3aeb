// The site the exchanges in test/demo/recordings.json were recorded on, so that they can be played back. Nothing here is meant
// as an example: half of its scopes are deliberately misconfigured, as they were.
import {
  AUTHORIZATION_CODE,
  CLIENT_CREDENTIALS,
  DEVICE_CODE,
  REFRESH_TOKEN,
  type Client,
  type Site,
  type Tool,
  type ToolCaller
} from '../../src/demo/site.ts'

/** Alice, the pub-/conf-/gw-clients, the demo.* and examples.* tools, and the scopes of jsonrpc_mcp's installer. */
export function recordedSite(): Site {
  const usable = [AUTHORIZATION_CODE, REFRESH_TOKEN, CLIENT_CREDENTIALS]
  return {
    name: 'Recorded',
    roles: {
      anonymous: ['access content'],
      authenticated: ['access content', 'grant simple_oauth codes'],
      writer: ['access content', 'access mcp tool discovery', 'bypass node access']
    },
    users: [
      {
        uid: 1,
        uuid: '0d3c1a52-66f5-4a27-8c8e-6c1d4c8c1f01',
        name: 'admin',
        pass: 'admin',
        roles: [],
        blocked: false
      },
      {
        uid: 2,
        uuid: 'e0921acb-5f0e-4087-bde5-2075a7b8de23',
        name: 'alice',
        pass: 'alice',
        roles: ['writer'],
        blocked: false
      }
    ],
    clients: [
      client('pub-client', '3ab54f30-e5d1-47b8-9381-d5d2febcef76', {
        redirectUris: ['http://localhost:9999/cb', 'http://127.0.0.1/cb'],
        grantTypes: [AUTHORIZATION_CODE, REFRESH_TOKEN, DEVICE_CODE],
        pkce: true
      }),
      client('pub-nopkce', '7c1e19d4-7d0c-4d5c-9a9b-0a4f7d1f2b02', {
        redirectUris: ['http://localhost:9999/cb'],
        grantTypes: [AUTHORIZATION_CODE, REFRESH_TOKEN]
      }),
      client('conf-client', '5b7a2e91-91d4-4f0d-8a55-3e1d0c7a9b03', {
        secret: 'conf-secret',
        grantTypes: [CLIENT_CREDENTIALS, AUTHORIZATION_CODE, REFRESH_TOKEN]
      }),
      client('gw-client', '9e4d6c30-2a3b-4b61-b0f4-71c2a5d8ee04', {
        secret: 'gw-secret',
        grantTypes: [CLIENT_CREDENTIALS]
      })
    ],
    scopes: [
      { name: 'admin:access', grants: [] },
      {
        name: 'authonly:scope',
        grants: [AUTHORIZATION_CODE],
        grantsPermission: 'access content'
      },
      { name: 'content:read', grants: usable, grantsPermission: 'access content' },
      { name: 'content_type:read', grants: [] },
      { name: 'content:write', grants: usable, grantsRole: 'writer' },
      {
        name: 'mcp_introspect',
        grants: [CLIENT_CREDENTIALS],
        grantsPermission: 'bypass token introspection restrictions'
      },
      {
        name: 'plain_scope',
        grants: [AUTHORIZATION_CODE, REFRESH_TOKEN, DEVICE_CODE],
        grantsPermission: 'access content'
      },
      { name: 'profile', grants: [] },
      { name: 'user:read', grants: [] },
      { name: 'user:write', grants: [] }
    ],
    tools: [...examples(), ...demos()],
    basicAuth: true,
    unroutedTools: ['demo.write'],
    mintDefaults: { clientId: 'pub-client', uid: 2, scopes: ['content:read', 'content:write'] }
  }
}

function client(clientId: string, uuid: string, rest: Partial<Client>): Client {
  return {
    clientId,
    uuid,
    label: clientId,
    redirectUris: [],
    grantTypes: [],
    pkce: false,
    automaticAuthorization: true,
    ...rest
  }
}

function examples(): Tool[] {
  const articles = [{ nid: 1, title: 'First article', created: 1795400000 }]
  const tool = { permission: 'access content' }
  return [
    {
      ...tool,
      name: 'examples.articles.list',
      title: 'List Articles',
      description: 'Lists article nodes with optional pagination',
      params: {
        page: {
          type: 'object',
          properties: {
            limit: { type: 'integer', minimum: 0 },
            offset: { type: 'integer', minimum: 0 }
          },
          description: 'Pagination parameters (offset and limit)'
        }
      },
      output: list({
        nid: ['integer', 'Node ID'],
        title: ['string', 'Article title'],
        created: ['integer', 'Creation timestamp']
      }),
      annotations: { category: 'content', supports_pagination: true },
      run: () => articles
    },
    {
      ...tool,
      name: 'examples.contentTypes.list',
      title: 'List Content Types',
      description: 'Lists all available content types',
      params: {},
      output: list({
        id: ['string', 'Content type machine name'],
        label: ['string', 'Content type human-readable label']
      }),
      annotations: {
        category: 'discovery',
        auth: {
          scopes: ['tutorial:read', 'tutorial:search'],
          description: 'Requires content read and write access',
          level: 'required'
        }
      },
      run: () => [{ id: 'article', label: 'Article' }]
    },
    {
      ...tool,
      name: 'examples.article.toMarkdown',
      title: 'Get Article as Markdown',
      description: 'Retrieves an article node and formats it as markdown',
      params: { nid: { type: 'integer', minimum: 1, description: 'The node ID of the article' } },
      required: ['nid'],
      output: { type: 'string', description: 'Article content formatted as markdown' },
      annotations: { category: 'content', returns: 'markdown' },
      run: () => '# First article'
    }
  ]
}

function list(properties: Record<string, [string, string]>): Record<string, unknown> {
  const described = Object.entries(properties).map(([name, [type, description]]) => [
    name,
    { type, description }
  ])
  return {
    type: 'array',
    items: {
      type: 'object',
      properties: Object.fromEntries(described),
      required: Object.keys(properties)
    }
  }
}

function demos(): Tool[] {
  const echo = (params: Record<string, unknown>, caller: ToolCaller) => ({
    echo: params.text,
    uid: caller.uid,
    roles: caller.roles
  })
  const demo = (name: string, annotations: Tool['annotations'], more: Partial<Tool> = {}) => ({
    name,
    title: `T ${name}`,
    description: `Usage of ${name}`,
    permission: 'access content',
    params: { text: { type: 'string', description: 'Text' } },
    output: { type: 'object' },
    annotations,
    run: echo,
    ...more
  })
  const needsRead = {
    scopes: ['content:read'],
    level: 'required' as const,
    description: 'Needs read'
  }
  return [
    demo('demo.optional', { auth: { level: 'optional' } }),
    demo('demo.public', { category: 'x' }),
    demo('demo.read', { auth: needsRead }),
    demo(
      'demo.write',
      { auth: { scopes: ['content:write'], level: 'required' } },
      { permission: 'bypass node access' }
    ),
    demo(
      'demo.boom',
      { category: 'x' },
      {
        run() {
          throw new Error('kaboom')
        }
      }
    )
  ]
}
