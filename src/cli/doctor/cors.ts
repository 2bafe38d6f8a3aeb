// Can a client that runs in a browser use the endpoint: preflight before any token, headers it may read (R9)?
import { type Answer, brief } from './ask.ts'
import { type Check, type Context, failed, type Finding, ok, warning } from './check.ts'
import { INITIALIZE, MCP_HEADERS } from './challenge.ts'
import { PROBE, postForm } from './endpoints.ts'
import { metadataUrls } from './resource.ts'

const ALLOWED = ['authorization', 'content-type', 'mcp-protocol-version', 'mcp-session-id']
const EXPOSED = ['www-authenticate', 'mcp-session-id']

const listed = (value = '') => value.toLowerCase().split(/\s*,\s*/)
const lacking = (wanted: readonly string[], value: string | undefined) =>
  wanted.filter(name => !listed(value).includes(name))

async function preflight({ url, ask }: Context): Promise<Finding> {
  const { origin } = new URL(url!)
  const answer = await ask(url!, {
    method: 'OPTIONS',
    headers: {
      origin,
      'access-control-request-method': 'POST',
      'access-control-request-headers': ALLOWED.join(', ')
    }
  })
  const seen = `OPTIONS answers ${brief(answer)}`
  if (answer.status === 401) {
    return failed(
      seen,
      'A preflight carries no token: let OPTIONS reach the gateway before any sign-in in the proxy.'
    )
  }
  if (answer.status >= 300) return failed(seen)
  const { headers } = answer
  const allowed = headers['access-control-allow-origin']
  if (allowed !== origin && allowed !== '*') {
    return failed(`${seen} without Access-Control-Allow-Origin for ${origin}`)
  }
  const missing = lacking(ALLOWED, headers['access-control-allow-headers'])
  if (missing.length > 0) return failed(`${seen} and does not allow ${missing.join(', ')}`)
  if (headers['access-control-allow-credentials'] === 'true') {
    return warning(
      `${seen} and allows credentials`,
      'Remove Access-Control-Allow-Credentials in the proxy: tokens do not travel in cookies.'
    )
  }
  return ok(`${seen} for ${origin}`)
}

async function exposed({ url, ask }: Context): Promise<Finding> {
  const { origin } = new URL(url!)
  const answer = await ask(url!, {
    method: 'POST',
    headers: { ...MCP_HEADERS, origin },
    body: JSON.stringify(INITIALIZE)
  })
  const missing = lacking(EXPOSED, answer.headers['access-control-expose-headers'])
  if (missing.length === 0) return ok(EXPOSED.join(', '))
  return failed(`a page cannot read ${missing.join(', ')}`)
}

async function documents({ url, ask }: Context): Promise<Finding> {
  const answer = await ask(metadataUrls(url!).suffixed, {
    headers: { origin: 'https://inspector.example' }
  })
  const allowed = answer.headers['access-control-allow-origin']
  if (allowed === '*') return ok('Access-Control-Allow-Origin: *')
  return warning(`${brief(answer)}, Access-Control-Allow-Origin ${allowed ?? 'missing'}`)
}

/** Where MCP Inspector 1 runs: the best known client in a browser. */
const INSPECTOR = 'http://localhost:6274'

/** Registration needs a preflight (its body is JSON), a token none, but its answer must be readable. */
async function signIn({ facts, askDrupal }: Context): Promise<Finding> {
  const { document, answer } = facts.metadata!
  const { token_endpoint: token, registration_endpoint: registration } = document
  const asked: [string, Answer][] = [
    ['metadata', await askDrupal(answer.url, { headers: { origin: INSPECTOR } })],
    ['token endpoint', await postForm(askDrupal, token as string, PROBE, { origin: INSPECTOR })]
  ]
  if (typeof registration === 'string' && URL.canParse(registration)) {
    const headers = {
      origin: INSPECTOR,
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'content-type'
    }
    const answer = await askDrupal(registration, { method: 'OPTIONS', headers })
    asked.push(['registration endpoint', answer])
  }
  const closed = asked.filter(([what, { status, headers }]) => {
    const isOpen = ['*', INSPECTOR].includes(headers['access-control-allow-origin']!)
    const accepted = listed(headers['access-control-allow-headers'])
    const takesJson = status < 300 && ['*', 'content-type'].some(name => accepted.includes(name))
    return !isOpen || (what === 'registration endpoint' && !takesJson)
  })
  if (closed.length === 0) return ok(asked.map(([what]) => what).join(', '))
  return warning(`a page at ${INSPECTOR} cannot use: ${closed.map(([what]) => what).join(', ')}`)
}

export const signInCorsChecks: readonly Check[] = [
  {
    id: 'cors-sign-in',
    title: 'CORS: sign-in',
    side: 'outside',
    needs: ['token-endpoint'],
    remedy:
      "Only clients in a browser (MCP Inspector 1) need it: in the site’s services.yml set cors.config to enabled: true, allowedOrigins: ['*'] (or their origins), allowedMethods: ['GET', 'POST'], allowedHeaders: ['content-type', 'mcp-protocol-version'], then drush cache:rebuild",
    run: signIn
  }
]

export const corsChecks: readonly Check[] = [
  {
    id: 'cors-preflight',
    title: 'CORS: preflight',
    side: 'outside',
    needs: ['endpoint'],
    remedy:
      'Let OPTIONS reach the gateway, and set CORS headers nowhere else; ALLOWED_ORIGINS names further pages.',
    run: preflight
  },
  {
    id: 'cors-exposed',
    title: 'CORS: headers a page may read',
    side: 'outside',
    needs: ['cors-preflight'],
    remedy: 'Let the gateway’s Access-Control-Expose-Headers pass; set none in the proxy.',
    run: exposed
  },
  {
    id: 'cors-documents',
    title: 'CORS: resource metadata',
    side: 'outside',
    needs: ['resource-metadata'],
    remedy:
      'Let the gateway’s Access-Control-Allow-Origin: * pass on /.well-known/, and set none in the proxy.',
    run: documents
  }
]
