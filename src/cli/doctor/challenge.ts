// Does a caller without a token, or with a bad one, learn where to sign in: the same 401 on every method (R80–R84)?
import { callToRefuse } from '../call-to-refuse.ts'
import { type Answer, brief } from './ask.ts'
import {
  type Check,
  type Context,
  failed,
  type Finding,
  ok,
  quote,
  warning,
  worst
} from './check.ts'
import { metadataUrls } from './resource.ts'

/** A first message of a legacy client. */
export const INITIALIZE = {
  jsonrpc: '2.0',
  id: 1,
  method: 'initialize',
  params: {
    protocolVersion: '2025-11-25',
    capabilities: {},
    clientInfo: { name: 'drupal-mcp-gateway doctor', version: '1' }
  }
}
export const MCP_HEADERS = {
  'content-type': 'application/json',
  accept: 'application/json, text/event-stream'
}

const OPEN =
  'The endpoint works without sign-in. Unless that is meant (AUTH_ANONYMOUS=public-tools), set AUTH_ANONYMOUS=off and check that this is the gateway.'

/** The parameters of a Bearer challenge; undefined when there is none. */
export function bearerChallenge(answer: Answer): Record<string, string> | undefined {
  const header = String(answer.headers['www-authenticate'])
  if (!/\bBearer\b/i.test(header)) return undefined
  const parameters = header.matchAll(/([a-z_]+)="([^"]*)"/gi)
  return Object.fromEntries([...parameters].map(([, name, value]) => [name!, value!]))
}

/** Of an answer to a request with a token: the challenge of one that brought none (RFC 6750 §3.1: no error then). */
export function isTokenLost(answer: Answer): boolean {
  const parameters = bearerChallenge(answer)
  return answer.status === 401 && parameters !== undefined && parameters['error'] === undefined
}
export const TOKEN_LOST =
  'The header Authorization does not arrive: let every proxy and CDN on the way pass it (CloudFront drops it unless its origin request policy names it).'

function judge(method: string, answer: Answer, metadataUrl: string): Finding | undefined {
  const seen = `${method} answers ${brief(answer)}`
  if (answer.status !== 401) return failed(seen, adviceFor(method, answer))
  const parameters = bearerChallenge(answer)
  if (parameters === undefined) {
    return failed(
      `${seen} without a Bearer challenge`,
      'Let the proxy pass WWW-Authenticate, and route the path to the gateway, not to Drupal.'
    )
  }
  const named = parameters['resource_metadata']
  if (named === metadataUrl) return undefined
  return failed(
    `${seen} and names ${quote(named)}, not ${metadataUrl}`,
    'Set GATEWAY_PUBLIC_URL to the URL that people type.'
  )
}

function adviceFor(method: string, { status }: Answer): string {
  if (status === 405 || status === 501) {
    return `Let the proxy pass ${method}: one answer without challenge ends a client’s whole sign-in.`
  }
  if (status === 429)
    return 'Too many failed attempts from this address: wait a minute and run the doctor again.'
  if (status < 300) return OPEN
  return 'Nothing in front of the gateway may answer here: look at the proxy, the firewall and the bot protection.'
}

async function challenges(context: Context): Promise<Finding> {
  const { url, ask, facts } = context
  const metadataUrl = metadataUrls(url!).suffixed
  const post = await ask(url!, {
    method: 'POST',
    headers: MCP_HEADERS,
    body: JSON.stringify(INITIALIZE)
  })
  const get = await ask(url!, { headers: { accept: 'text/event-stream' } })
  const gone = await ask(url!, { method: 'DELETE' })
  facts.challenges = [post, get, gone]
  if (post.status < 300) {
    const call = await ask(url!, callToRefuse)
    if (call.status === 401) return lazily(context, call, metadataUrl)
  }
  facts.challenge = bearerChallenge(post) ?? {}
  const problems = [
    judge('POST', post, metadataUrl),
    judge('GET', get, metadataUrl),
    judge('DELETE', gone, metadataUrl)
  ].filter(problem => problem !== undefined)
  if (problems.length > 0) return worst(problems, '')
  const { error, scope } = facts.challenge
  if (error !== undefined) {
    return warning(
      `401 with error=${quote(error)} although no token was sent`,
      'Let the gateway answer, not something in front of it.'
    )
  }
  return ok(`401 on POST, GET, DELETE; scope ${quote(scope)}`)
}

/** Some tools work before sign-in, by the operator's choice as far as anybody can tell from here; the rest challenges. */
function lazily({ config, facts }: Context, call: Answer, metadataUrl: string): Finding {
  facts.challenge = bearerChallenge(call) ?? {}
  const problem = judge('POST', call, metadataUrl)
  if (problem !== undefined) return problem
  const seen = `401 for a call only, scope ${quote(facts.challenge['scope'])}`
  return config?.oauth.anonymous === 'public-tools' ? ok(seen) : warning(seen, OPEN)
}

async function badToken({ url, ask }: Context): Promise<Finding> {
  const answer = await ask(url!, {
    method: 'POST',
    headers: { ...MCP_HEADERS, authorization: 'Bearer doctor-probe' },
    body: JSON.stringify(INITIALIZE)
  })
  const error = bearerChallenge(answer)?.['error']
  const seen = `${brief(answer)}, error ${quote(error)}`
  if (answer.status === 401 && error === 'invalid_token') return ok(seen)
  if (isTokenLost(answer)) return failed(seen, TOKEN_LOST)
  if (answer.status < 300) {
    return failed(
      `${seen}: any token is accepted`,
      'Take this endpoint off the network: tokens are not checked.'
    )
  }
  if (answer.status === 503) {
    return failed(
      seen,
      'The gateway cannot check tokens: it does not reach the authorization server or its keys. Look at /readyz.'
    )
  }
  return failed(seen)
}

export const challengeChecks: readonly Check[] = [
  {
    id: 'challenge',
    title: '401 and challenge without a token',
    side: 'outside',
    needs: ['endpoint'],
    remedy: 'Route POST, GET and DELETE of the path to the gateway, and let WWW-Authenticate pass.',
    run: challenges
  },
  {
    id: 'challenge-bad-token',
    title: '401 for a bad token',
    side: 'outside',
    needs: ['challenge'],
    remedy:
      'Let the gateway’s own 401 pass: clients renew their token on error="invalid_token" only.',
    run: badToken
  }
]
