// How is each client told about this gateway? The configuration that a person copies, as data; docs/clients.md says the same
// for an example URL. It refuses to know HTML.

/** Something to copy. */
export interface Snippet {
  /** Where it goes, as a sentence: "In ~/.cursor/mcp.json:" */
  label: string
  text: string
}

export interface Client {
  id: string
  name: string
  /** What kind of program it is, in a few words. */
  kind: string
  /** What to do, in order; before the snippets. */
  steps: readonly string[]
  snippets: readonly Snippet[]
  /** A link that opens the program with everything filled in. */
  install?: { label: string; href: string }
  note?: string
}

/** What the snippets are made of; all of it from the configuration. */
export interface Site {
  /** The MCP URL, byte for byte. */
  resource: string
  siteName: string
  /** Whether the address is on the public internet. */
  isPublic: boolean
  /** Whether some tools work before sign-in: then a request without a session is refused before anybody is asked to sign in. */
  isLazy?: boolean
}

/** A name for the server in configuration files: short, of a–z, 0–9 and "-". Pure. */
export function serverName(siteName: string): string {
  const ascii = siteName.normalize('NFKD').replace(/\p{M}/gu, '').toLowerCase()
  const slug = ascii
    .replace(/[^a-z0-9]+/g, ' ')
    .trim()
    .slice(0, 40)
    .trim()
    .replaceAll(' ', '-')
  return slug === '' ? 'drupal' : slug
}

/** One word for a POSIX shell, quoted only when it must be. Pure. */
export function shellWord(text: string): string {
  return /^[A-Za-z0-9_./:@%+=,-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`
}

/** Indented, with the words of a command on one line. */
const json = (value: unknown) =>
  JSON.stringify(value, null, 2).replace(/\[\n[^\]]*\]/g, list =>
    list.replace(/\n\s*/g, ' ').replace('[ ', '[').replace(' ]', ']')
  )
const encode = (value: unknown) => encodeURIComponent(JSON.stringify(value))

/** The command that signs in from a terminal without a browser (RFC 8628). Pure. */
export function loginCommand(resource: string): string {
  return `npx drupal-mcp-gateway login ${shellWord(resource)}`
}

/** For clients that only start programs: what `login` keeps, `connect` uses. Pure. */
export function connectConfiguration({ resource, siteName }: Omit<Site, 'isPublic'>): string {
  const start = { command: 'npx', args: ['-y', 'drupal-mcp-gateway', 'connect', resource] }
  return json({ mcpServers: { [serverName(siteName)]: start } })
}

/** The request by which a person without a token sees the challenge. Pure. */
export function curlCommand(resource: string): string {
  return `curl -i ${shellWord(resource)} \\
  -H 'Content-Type: application/json' \\
  -H 'Accept: application/json, text/event-stream' \\
  -d '{"jsonrpc":"2.0","id":1,"method":"ping"}'`
}

/** Every client that the page and docs/clients.md explain, in the order of the page. Pure. */
export function clients({ resource, siteName, isPublic, isLazy }: Site): readonly Client[] {
  const name = serverName(siteName)
  const url = shellWord(resource)
  const remote = { command: 'npx', args: ['-y', 'mcp-remote', resource] }
  const base64 = Buffer.from(JSON.stringify({ url: resource })).toString('base64')
  const connector = [
    'Open Customize → Connectors and choose “Add custom connector”.',
    'Paste the name and the URL, then choose “Add” and “Connect”.',
    'Sign in to the site when it asks.'
  ]
  const pasted = [
    { label: 'Name', text: siteName },
    { label: 'URL', text: resource }
  ]
  const fromCloud = isPublic
    ? {}
    : {
        note: 'Claude connects from its own servers. This address is not on the public internet, so they cannot reach it: use Claude Code, or mcp-remote in Claude Desktop.'
      }
  return [
    {
      id: 'claude-web',
      name: 'Claude',
      kind: 'on the web',
      steps: ['Open claude.ai.', ...connector],
      snippets: pasted,
      ...fromCloud
    },
    {
      id: 'claude-desktop',
      name: 'Claude Desktop',
      kind: 'app',
      steps: connector,
      snippets: [
        ...pasted,
        {
          label: 'Or, on a private network, in claude_desktop_config.json',
          text: json({ mcpServers: { [name]: remote } })
        }
      ],
      ...fromCloud
    },
    {
      id: 'claude-code',
      name: 'Claude Code',
      kind: 'terminal',
      steps: ['Run the command, start claude, and sign in with /mcp.'],
      snippets: [{ label: 'Command', text: `claude mcp add --transport http ${name} ${url}` }]
    },
    {
      id: 'codex',
      name: 'Codex',
      kind: 'terminal and editor',
      steps: ['Run the command: it opens the sign-in.'],
      snippets: [{ label: 'Command', text: `codex mcp add ${name} --url ${url}` }]
    },
    {
      id: 'copilot-cli',
      name: 'GitHub Copilot CLI',
      kind: 'terminal',
      steps: ['Run the command and start copilot: it opens the sign-in.'],
      snippets: [{ label: 'Command', text: `copilot mcp add --transport http ${name} ${url}` }]
    },
    {
      id: 'opencode',
      name: 'opencode',
      kind: 'terminal',
      steps: ['Run both commands: the second opens the sign-in.'],
      snippets: [
        { label: 'Command', text: `opencode mcp add ${name} --url ${url}` },
        { label: 'To sign in', text: `opencode mcp auth ${name}` }
      ]
    },
    {
      id: 'cursor',
      name: 'Cursor',
      kind: 'editor',
      steps: ['Use the button or the file, then sign in under Settings → MCP.'],
      install: {
        label: 'Add to Cursor',
        href: `cursor://anysphere.cursor-deeplink/mcp/install?name=${name}&config=${encodeURIComponent(base64)}`
      },
      snippets: [
        {
          label: 'In ~/.cursor/mcp.json',
          text: json({ mcpServers: { [name]: { url: resource } } })
        }
      ]
    },
    {
      id: 'vs-code',
      name: 'VS Code',
      kind: 'editor',
      steps: ['Use the button or the file, start the server, and sign in when it asks.'],
      install: {
        label: 'Add to VS Code',
        href: `vscode:mcp/install?${encode({ name, type: 'http', url: resource })}`
      },
      snippets: [
        {
          label: 'In .vscode/mcp.json',
          text: json({ servers: { [name]: { type: 'http', url: resource } } })
        }
      ]
    },
    {
      id: 'zed',
      name: 'Zed',
      kind: 'editor',
      steps: ['Add it to the settings file; Zed opens the sign-in by itself.'],
      snippets: [
        {
          label: 'In settings.json',
          text: json({ context_servers: { [name]: { url: resource } } })
        }
      ]
    },
    {
      id: 'gemini-cli',
      name: 'Gemini CLI',
      kind: 'terminal',
      // Not its own sign-in: 0.61.0 refuses a redirect without iss (RFC 9207), which Drupal does not send, and asks for every
      // scope that the site publishes, which Drupal refuses when one of them is not for people.
      steps: ['Put this into the file and start gemini: the bridge opens the sign-in.'],
      snippets: [
        {
          label: 'In ~/.gemini/settings.json',
          text: json({ mcpServers: { [name]: remote } })
        }
      ]
    },
    {
      id: 'mcp-remote',
      name: 'mcp-remote',
      kind: 'for clients that only start programs',
      steps: ['A bridge: the client starts it, it opens the sign-in and talks to this address.'],
      snippets: [
        { label: 'In the client’s configuration', text: json({ mcpServers: { [name]: remote } }) },
        { label: 'To try it', text: `npx -y mcp-remote ${url}` }
      ]
    },
    {
      id: 'inspector',
      name: 'MCP Inspector',
      kind: 'for developers',
      steps: ['Shows every message; its browser page opens by itself.'],
      snippets: [
        {
          label: 'Command',
          text: `npx @modelcontextprotocol/inspector --server-url ${url} --transport http`
        }
      ]
    },
    {
      id: 'curl',
      name: 'curl',
      kind: 'for developers',
      steps: [
        isLazy
          ? 'It shows whether the address answers, in JSON.'
          : 'Without a token it shows the challenge, which names where to sign in.'
      ],
      snippets: [{ label: 'Command', text: curlCommand(resource) }]
    }
  ]
}
