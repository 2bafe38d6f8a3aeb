// Does the gateway say correctly what it is and where to sign in: resource metadata (RFC 9728) and other well-known addresses?
import { type Answer, brief, documentOf, fieldsOf, type Json } from './ask.ts'
import {
  type Check,
  type Context,
  failed,
  type Finding,
  ok,
  PROBE_HOST,
  quote,
  strings,
  warning
} from './check.ts'

const WELL_KNOWN = '/.well-known/oauth-protected-resource'
const ROUTE =
  'Route /.well-known/oauth-protected-resource and everything below it on this host to the gateway, not to Drupal.'

const NAME =
  'Set GATEWAY_PUBLIC_URL (and MCP_PATH) to what people type, byte for byte, or type what the document says.'

/** RFC 9728 §3.1: the path of the resource behind the well-known name. */
export function metadataUrls(url: string): { suffixed: string; root: string } {
  const { origin, pathname } = new URL(url)
  const suffix = pathname === '/' ? '' : pathname
  return { suffixed: origin + WELL_KNOWN + suffix, root: origin + WELL_KNOWN }
}

function notADocument(answer: Answer): Finding {
  const seen = `${answer.url} answers ${brief(answer)}`
  if (answer.status === 503) {
    return failed(
      seen,
      'The gateway does not reach the authorization server: run doctor --gateway-config where the gateway runs.'
    )
  }
  return failed(seen, ROUTE)
}

/** What to do where the URL typed and the resource differ by a slash alone. */
function adviceForSlash(resource: unknown, url: string): string | undefined {
  if (typeof resource !== 'string' || resource === url) return undefined
  return resource.replace(/\/$/, '') === url.replace(/\/$/, '')
    ? `They differ by a slash, and strict clients compare bytes: give people ${resource}.`
    : undefined
}

async function suffixed({ url, ask, facts }: Context): Promise<Finding> {
  const answer = await ask(metadataUrls(url!).suffixed)
  const document = documentOf(answer)
  if (document === undefined) {
    const shorter = url!.replace(/\/+$/, '')
    const other =
      shorter === url ? undefined : documentOf(await ask(metadataUrls(shorter).suffixed))
    const slash = adviceForSlash(other?.['resource'], url!)
    return slash === undefined
      ? notADocument(answer)
      : failed(`${answer.url} answers ${brief(answer)}`, slash)
  }
  const [issuer] = strings(document['authorization_servers'])
  if (issuer === undefined || !URL.canParse(issuer)) {
    return failed(
      `authorization_servers is ${quote(document['authorization_servers'])}`,
      'Set OAUTH_ISSUER, or let the gateway reach Drupal’s metadata.'
    )
  }
  facts.prm = document
  return ok(`names ${issuer}`)
}

async function root({ url, ask }: Context): Promise<Finding> {
  const answer = await ask(metadataUrls(url!).root)
  const document = documentOf(answer)
  if (document === undefined) return notADocument(answer)
  if (document['resource'] === url) return ok('the same resource')
  const fromDrupal = 'authorization_details_types_supported' in document
  return failed(
    `resource is ${quote(document['resource'])}, not the URL typed${fromDrupal ? ': this is Drupal’s own document' : ''}`,
    fromDrupal ? ROUTE : (adviceForSlash(document['resource'], url!) ?? NAME)
  )
}

function matches({ url, facts }: Context): Finding {
  const resource = facts.prm!['resource']
  if (resource === url) return ok(quote(resource))
  const seen = `resource is ${quote(resource)}, typed was ${quote(url)}`
  if (typeof resource !== 'string' || !URL.canParse(resource)) return failed(seen)
  return failed(seen, adviceForSlash(resource, url!))
}

/** The random query keeps a wrong answer out of every cache that keys on the URL. */
export const unique = (url: string) => `${url}?doctor=${Math.random().toString(36).slice(2)}`

async function steadfast({ url, ask, facts }: Context): Promise<Finding> {
  const headers = {
    'x-forwarded-host': PROBE_HOST,
    'x-forwarded-proto': 'http',
    forwarded: `host=${PROBE_HOST};proto=http`
  }
  const answer = await ask(unique(metadataUrls(url!).suffixed), { headers })
  const { resource } = fieldsOf(answer)
  if (resource === facts.prm!['resource']) return ok('forwarded headers change nothing')
  return failed(`with a foreign X-Forwarded-Host: ${brief(answer)}, resource ${quote(resource)}`)
}

async function unknown({ url, ask }: Context): Promise<Finding> {
  const { origin, pathname } = new URL(url!)
  const asked = [
    `${origin}/.well-known/doctor-probe`,
    `${origin}/.well-known/openid-configuration${pathname}`
  ]
  for (const address of asked) {
    const answer = await ask(address)
    const isJson = answer.type.includes('json')
    const seen = `${address} answers ${brief(answer)}`
    if (answer.status < 400) {
      if (isJson && fieldsOf(answer)['issuer'] !== undefined) continue
      return failed(seen)
    }
    if (!isJson || answer.status !== 404) return warning(`${seen}; a 404 in JSON is right`)
  }
  return ok('404 in JSON')
}

/** Texts anywhere in a document, with the name of the member they are in. */
export function textsIn(document: Json, name = ''): [name: string, text: string][] {
  return Object.entries(document).flatMap(([key, value]): [string, string][] => {
    const path = name === '' ? key : `${name}.${key}`
    if (typeof value === 'string') return [[path, value]]
    return typeof value === 'object' && value !== null ? textsIn(value as Json, path) : []
  })
}

export const resourceChecks: readonly Check[] = [
  {
    id: 'resource-metadata',
    title: 'Resource metadata, with path',
    side: 'outside',
    needs: ['endpoint'],
    remedy: ROUTE,
    run: suffixed
  },
  {
    id: 'resource-metadata-root',
    title: 'Resource metadata, at the root',
    side: 'outside',
    needs: ['endpoint'],
    remedy: ROUTE,
    run: root
  },
  {
    id: 'resource',
    title: 'resource is the URL typed',
    side: 'outside',
    needs: ['resource-metadata'],
    remedy: NAME,
    run: matches
  },
  {
    id: 'resource-forwarded',
    title: 'Foreign forwarded headers',
    side: 'outside',
    needs: ['resource-metadata'],
    remedy:
      'Set GATEWAY_PUBLIC_URL: the document must not follow X-Forwarded-Host or Forwarded of a caller.',
    run: steadfast
  },
  {
    id: 'well-known-unknown',
    title: 'Unknown well-known addresses',
    side: 'outside',
    needs: ['endpoint'],
    remedy:
      'Route all of /.well-known/ on this host to the gateway: clients try many names, and a page with 200 sends them astray.',
    run: unknown
  }
]
