// The demo's site: an editorial office with tutorials, two people, two scopes, and a few tools that are slow, fail or talk too
// much on purpose. Data and tools only.
import { setTimeout as wait } from 'node:timers/promises'
import {
  AUTHORIZATION_CODE,
  CLIENT_CREDENTIALS,
  type Client,
  DEVICE_CODE,
  REFRESH_TOKEN,
  type Site,
  type Tool
} from './site.ts'
import { type Tutorial, tutorialCollection } from './tutorials.ts'

const READ = 'read:tutorials'
const WRITE = 'write:tutorials'
const MAX_LARGE = 256 * 1024 * 1024
const MAX_SLOW_MS = 600_000

/** Users editor/editor and reader/reader, clients `gateway` (secret gateway-secret) and `public`, scopes read:tutorials and write:tutorials. */
export function editorialSite(): Site {
  const grants = [AUTHORIZATION_CODE, REFRESH_TOKEN, CLIENT_CREDENTIALS, DEVICE_CODE]
  const reading = ['access content', 'access mcp tool discovery', 'grant simple_oauth codes']
  const writing = ['create tutorial content', 'publish tutorial content', 'view draft tutorials']
  const bypass = 'bypass token introspection restrictions'
  return {
    name: 'Tutorials',
    roles: {
      anonymous: ['access content', 'access mcp tool discovery'],
      authenticated: reading,
      editor: [...reading, ...writing],
      // Both scopes may see every tool; what a token may call is said by the tools' annotations.
      mcp: [...reading, ...writing]
    },
    users: [
      person(1, 'admin', [], '6a1e9a66-2d2b-4b6f-9d6a-0f6b7c1c0001'),
      person(2, 'editor', ['editor'], '6a1e9a66-2d2b-4b6f-9d6a-0f6b7c1c0002'),
      person(3, 'reader', [], '6a1e9a66-2d2b-4b6f-9d6a-0f6b7c1c0003')
    ],
    clients: [
      client('gateway', '6a1e9a66-2d2b-4b6f-9d6a-0f6b7c1c0101', {
        label: 'MCP gateway',
        secret: 'gateway-secret',
        grantTypes: [CLIENT_CREDENTIALS]
      }),
      client('public', '6a1e9a66-2d2b-4b6f-9d6a-0f6b7c1c0102', {
        label: 'Desktop assistant',
        redirectUris: ['http://127.0.0.1/callback', 'http://localhost:3334/callback'],
        grantTypes: [AUTHORIZATION_CODE, REFRESH_TOKEN, DEVICE_CODE],
        pkce: true
      })
    ],
    scopes: [
      { name: READ, grants, grantsRole: 'mcp' },
      { name: WRITE, grants, grantsRole: 'mcp' },
      { name: 'mcp_introspect', grants: [CLIENT_CREDENTIALS], grantsPermission: bypass }
    ],
    tools: [...tutorialTools(), ...oddTools()],
    basicAuth: false,
    unroutedTools: [],
    mintDefaults: { clientId: 'public', uid: 2, scopes: [READ, WRITE] }
  }
}

function person(uid: number, name: string, roles: string[], uuid: string) {
  return { uid, uuid, name, pass: name, roles, blocked: false }
}

function client(clientId: string, uuid: string, rest: Partial<Client>): Client {
  const base = { redirectUris: [], grantTypes: [], pkce: false, automaticAuthorization: false }
  return { clientId, uuid, label: clientId, ...base, ...rest }
}

function tutorialTools(): Tool[] {
  const tutorials = tutorialCollection()
  const read = { auth: { scopes: [READ], level: 'required' as const } }
  const write = { auth: { scopes: [WRITE], level: 'required' as const } }
  const id = { type: 'integer', minimum: 1, description: 'The tutorial’s id' }
  const short = ({ id, title, summary, tags, status }: Tutorial) => ({
    id,
    title,
    summary,
    tags,
    status
  })
  const drafts = 'view draft tutorials'
  return [
    {
      name: 'site.info',
      title: 'About this site',
      description: 'Says what the site is and how many tutorials it has.',
      permission: 'access content',
      params: {},
      output: { type: 'object' },
      annotations: { readOnlyHint: true, auth: { level: 'none' } },
      run: () => ({ name: 'Tutorials', software: 'Drupal 10', published: tutorials.count() })
    },
    {
      name: 'tutorials.search',
      title: 'Search tutorials',
      description: 'Finds tutorials by words and tag. Editors also find drafts.',
      permission: 'access content',
      params: {
        query: { type: 'string', description: 'Words that must all occur; empty finds everything' },
        tag: { type: 'string', description: 'Only tutorials with this tag' },
        limit: { type: 'integer', minimum: 1, maximum: 50, description: 'At most this many (10)' }
      },
      // An array here is against MCP, and is what real sites send.
      output: { type: 'array', items: { type: 'object' } },
      annotations: { readOnlyHint: true, ...read },
      run: ({ query = '', tag, limit = 10 }, caller) =>
        tutorials
          .search(String(query), tag as string | undefined, caller.can(drafts))
          .slice(0, Number(limit))
          .map(short)
    },
    {
      name: 'tutorials.read',
      title: 'Read a tutorial',
      description: 'Gives one tutorial with its whole text.',
      permission: 'access content',
      params: { id },
      required: ['id'],
      output: { type: 'object' },
      annotations: { readOnlyHint: true, ...read },
      run: (params, caller) => tutorials.read(Number(params.id), caller.can(drafts))
    },
    {
      name: 'tutorials.create',
      title: 'Write a tutorial',
      description: 'Saves a new tutorial as a draft.',
      permission: 'create tutorial content',
      params: {
        title: { type: 'string', description: 'The headline' },
        body: { type: 'string', description: 'The text' },
        summary: { type: 'string', description: 'One sentence' },
        tags: { type: 'array', items: { type: 'string' }, description: 'Lower-case words' }
      },
      required: ['title', 'body'],
      output: { type: 'object' },
      annotations: { readOnlyHint: false, ...write },
      run: ({ title, body, summary = '', tags }, caller) =>
        short(
          tutorials.create({
            title: String(title),
            body: String(body),
            summary: String(summary),
            tags: Array.isArray(tags) ? tags.map(String) : [],
            author: caller.name
          })
        )
    },
    {
      name: 'tutorials.publish',
      title: 'Publish a tutorial',
      description: 'Makes a draft visible to everybody.',
      permission: 'publish tutorial content',
      params: { id },
      required: ['id'],
      output: { type: 'object' },
      annotations: { readOnlyHint: false, idempotentHint: false, ...write },
      run: params => short(tutorials.publish(Number(params.id)))
    }
  ]
}

function oddTools(): Tool[] {
  const open = { permission: 'access content', output: { type: 'object' }, annotations: {} }
  return [
    {
      ...open,
      name: 'demo.slow',
      title: 'Slow tool',
      description: 'Answers after the given time.',
      params: { ms: { type: 'integer', minimum: 0, description: 'Milliseconds (2000)' } },
      async run({ ms = 2000 }, { signal }) {
        const waited = Math.min(Number(ms), MAX_SLOW_MS)
        await wait(waited, undefined, { signal })
        return { waited }
      }
    },
    {
      ...open,
      name: 'demo.fail',
      title: 'Failing tool',
      description: 'Always fails.',
      params: { message: { type: 'string', description: 'What to say (The tool failed.)' } },
      run({ message = 'The tool failed.' }) {
        throw new Error(String(message))
      }
    },
    {
      ...open,
      name: 'demo.large',
      title: 'Talkative tool',
      description: 'Answers with that much text.',
      params: { size: { type: 'integer', minimum: 0, description: 'Characters (1000000)' } },
      run: ({ size = 1_000_000 }) => ({ text: 'x'.repeat(Math.min(Number(size), MAX_LARGE)) })
    }
  ]
}
