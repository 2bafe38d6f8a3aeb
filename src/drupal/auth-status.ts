// Who am I here, and what may I not do yet? A tool of the gateway's own among the site's, so that a model can find out why a call
// was refused. It says what the caller's token says, and refuses to know the token itself.
import type { Principal } from '../auth/principal.ts'
import type { Config } from '../config/schema.ts'
import type { ToolPolicy } from '../policy/tools.ts'
import type { GetCatalogue } from './catalogue.ts'
import type { Catalogue, CatalogueTool } from './upstream.ts'

export interface AuthStatusOptions {
  config: Config
  toolPolicy: ToolPolicy
  /** The site's tools. */
  catalogue: GetCatalogue
}

const description =
  'Says whether and as whom this connection is signed in, which scopes it was granted, how many seconds the access token has left, and which tools need scopes that were not granted. Takes no arguments and changes nothing.'

/** The caller's tools with the status tool at their end; without it where it is switched off or the site has that name itself. */
export function withAuthStatus(options: AuthStatusOptions): GetCatalogue {
  const { config, toolPolicy, catalogue } = options
  const name = config.tools.authStatus
  if (name === 'off') return catalogue

  /** Only what the caller's own list shows anyway: where `policy.missingScope` hides tools, nothing is told of them. */
  function lacking(principal: Principal | undefined, { tools }: Catalogue) {
    if (config.policy.missingScope === 'hide' && principal !== undefined) return []
    return tools
      .map(tool => ({ name: tool.name, rule: toolPolicy.rule(tool.name, tool.auth) }))
      .filter(({ rule }) => rule.level !== 'none')
      .map(({ name, rule }) => ({
        name,
        missingScopes: rule.scopes.filter(scope => !principal?.scopes.includes(scope))
      }))
      .filter(({ missingScopes }) => principal === undefined || missingScopes.length > 0)
  }

  function status(principal: Principal | undefined, mine: Catalogue): object {
    const toolsThatNeedMore = lacking(principal, mine)
    if (principal === undefined) return { signedIn: false, toolsThatNeedMore }
    const { issuer, subject, clientId, scopes, expiresAt, hasUser } = principal
    return {
      signedIn: true,
      issuer,
      [hasUser ? 'user' : 'service']: subject,
      client: clientId,
      scopes,
      secondsLeft: Math.max(0, Math.floor(expiresAt - Date.now() / 1000)),
      toolsThatNeedMore
    }
  }

  const tool: CatalogueTool = {
    name,
    listing: {
      name,
      title: 'Sign-in status',
      description,
      inputSchema: { type: 'object', properties: {} },
      annotations: { readOnlyHint: true, openWorldHint: false }
    },
    auth: { level: 'none', scopes: [] },
    answer(principal, mine) {
      const json = JSON.stringify(status(principal, mine))
      return `{"content":[{"type":"text","text":${JSON.stringify(json)}}],"structuredContent":${json}}`
    }
  }
  // The same list of the site is the same list here: what is kept per list stays kept.
  const extended = new WeakMap<Catalogue, Catalogue>()

  function extend(site: Catalogue): Catalogue {
    if (site.byName.has(name)) return site
    let whole = extended.get(site)
    if (whole === undefined) {
      whole = { tools: [...site.tools, tool], byName: new Map([...site.byName, [name, tool]]) }
      extended.set(site, whole)
    }
    return whole
  }

  return (principal, token, isFresh) => {
    const site = catalogue(principal, token, isFresh)
    return site instanceof Promise ? site.then(extend) : extend(site)
  }
}
