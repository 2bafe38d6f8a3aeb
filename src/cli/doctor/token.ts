// The token of the signed-in part: where it comes from, and whether it fits what the documents say. It is shown nowhere.
import { readFileSync } from 'node:fs'
import { judgeAudience } from '../../auth/audience.ts'
import { isUrl } from '../../auth/claims.ts'
import { checkSignature } from '../../auth/jwks.ts'
import { algorithmNames, decodeJwt } from '../../auth/jwt.ts'
import { signatureAlgorithms } from '../../config/oauth-options.ts'
import {
  type Check,
  type Context,
  failed,
  type Finding,
  ok,
  quote,
  skipped,
  strings,
  type Token,
  warning
} from './check.ts'

/** The environment variable that holds a token. */
export const TOKEN_VARIABLE = 'DRUPAL_MCP_TOKEN'

const OTHER_TOKEN = `Correct that, or bring the access token alone in the file of --token-file or in ${TOKEN_VARIABLE}.`

export interface TokenSources {
  file: string | undefined
  env: Readonly<Record<string, string | undefined>>
  /** Where sign-ins are kept: gives an access token for this resource that is still good. */
  kept?: () => Promise<string | undefined>
}

/** The first token of file, environment and kept sign-ins. Throws an Error that says what is wrong with it. */
export async function findToken(
  sources: TokenSources
): Promise<{ text: string; from: string } | undefined> {
  const { file, env, kept } = sources
  if (file !== undefined) return { text: checked(readTokenFile(file), file), from: file }
  const set = env[TOKEN_VARIABLE]
  if (set !== undefined && set !== '') {
    return { text: checked(set, TOKEN_VARIABLE), from: TOKEN_VARIABLE }
  }
  const text = await kept?.()
  return text === undefined ? undefined : { text, from: 'the kept sign-in' }
}

function readTokenFile(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new Error(`${file} cannot be read (${code})`)
  }
}

/** RFC 6750 §2.1: what fits behind "Bearer". */
function checked(text: string, where: string): string {
  const token = text.trim().replace(/^Bearer\s+/i, '')
  if (/^[A-Za-z0-9._~+/-]+=*$/.test(token)) return token
  throw new Error(`${where} holds no bearer token`)
}

/** Takes a token apart; an opaque one has no claims. */
export function readToken(
  text: string,
  algorithms: readonly string[] = signatureAlgorithms
): Token {
  const decoded = decodeJwt(text, algorithmNames(algorithms))
  const opaque = { text, header: {}, claims: {} }
  if (decoded.kind === 'opaque') return opaque
  if (decoded.kind === 'refused') return { ...opaque, problem: decoded.detail }
  return { text, header: decoded.header, claims: decoded.claims }
}

/** The scopes of a token: Drupal writes a list, the standard a text. */
export function scopesOf({ claims }: Token): string[] {
  const { scope } = claims
  if (typeof scope === 'string') return scope.split(' ').filter(Boolean)
  return strings(scope)
}

async function find(context: Context): Promise<Finding> {
  const { facts, secrets, now } = context
  let found: Awaited<ReturnType<Context['findToken']>>
  try {
    found = await context.findToken()
  } catch (error) {
    // A sentence that says what is wrong, and often one that says what to do.
    const [seen = '', ...rest] = (error as Error).message.split(/(?<=\.) /)
    return failed(seen, rest.join(' ') || OTHER_TOKEN)
  }
  if (found === undefined) {
    return skipped(
      `no token: drupal-mcp-gateway login, --token-file FILE or ${TOKEN_VARIABLE} brings one`
    )
  }
  secrets.push(found.text)
  const token = readToken(found.text, context.config?.oauth.algorithms)
  if (token.problem !== undefined) {
    return failed(
      `from ${found.from}: ${token.problem}`,
      'No gateway believes it: let the authorization server sign plain JWTs with an algorithm of OAUTH_ALGORITHMS.'
    )
  }
  const { exp } = token.claims
  if (typeof exp === 'number') {
    const left = Math.floor(exp - now() / 1000)
    if (left <= 0) return failed(`from ${found.from}: it ended ${-left} s ago`)
    facts.token = token
    return ok(`from ${found.from}, client ${quote(token.claims['aud'])}, ends in ${left} s`)
  }
  facts.token = token
  return ok(`from ${found.from}, opaque`)
}

function issuer({ facts }: Context): Finding {
  const { iss } = facts.token!.claims
  if (iss === undefined) return ok('an opaque token names no issuer')
  const expected = facts.metadata!.document['issuer']
  if (iss === expected) return ok(quote(iss))
  return failed(`the token says ${quote(iss)}, metadata ${quote(expected)}`)
}

function issuedAt({ facts, config }: Context): Finding {
  const { iat, nbf } = facts.token!.claims
  const start = Math.max(0, ...[iat, nbf].filter(value => typeof value === 'number'))
  if (start === 0) return ok('the token names no time')
  const { headers, at } = facts.endpoint!
  const date = Date.parse(String(headers['date']))
  const early = Math.round(start - (Number.isNaN(date) ? at : date) / 1000)
  const tolerance = config?.oauth.clockToleranceSeconds ?? 5
  return early > tolerance ? failed(`for the gateway it begins in ${early} s`) : ok('it has begun')
}

async function signature({ facts }: Context): Promise<Finding> {
  const { header, text } = facts.token!
  const { alg } = header
  if (typeof alg !== 'string') return ok('an opaque token has no signature')
  const keys = facts.keys!
  if (keys.length === 0) return failed(`${alg}, and there is no usable key`)
  const refusal = await checkSignature({ keys }, text, signatureAlgorithms)
  return refusal === undefined
    ? ok(`${alg}, by one of the keys`)
    : failed(`${alg}, by none of the ${keys.length} keys`)
}

function audience({ config, facts, url }: Context): Finding {
  const { aud } = facts.token!.claims
  if (aud === undefined) return ok('an opaque token names no audience')
  const named: unknown[] = [aud].flat()
  if (named.includes(url)) return ok('names this resource')
  const policy = config?.derived.audience
  const seen = `names ${quote(aud)}, not this resource`
  if (policy?.kind === 'resource') {
    return failed(
      seen,
      'Drupal puts the client id into aud: set OAUTH_AUDIENCE=drupal or clients:<client id>.'
    )
  }
  if (policy?.kind === 'clients' && !policy.clientIds.some(id => named.includes(id))) {
    return failed(`${seen}, nor a client of OAUTH_AUDIENCE`)
  }
  if (policy?.kind !== 'clients' && strings(named).some(isUrl)) {
    // From outside nobody knows the policy, and clients:… may name that URL.
    return (policy === undefined ? warning : failed)(
      `${seen}, but another: OAUTH_AUDIENCE=drupal refuses it`,
      'Sign in with the URL of this gateway: an audience that is a URL is for that resource alone.'
    )
  }
  return ok(`${seen}: Drupal’s way, OAUTH_AUDIENCE must be drupal or clients`)
}

function granted({ facts, config, url }: Context): Finding {
  const token = facts.token!
  const scopes = scopesOf(token)
  const { aud } = token.claims
  if (aud === undefined) return skipped('the token names no scopes')
  const known = strings(facts.prm!['scopes_supported'])
  const self = { resource: url!, scopes: new Set(known) }
  const claims = { audience: strings([aud].flat()), scopes }
  const refusal = judgeAudience({ kind: 'drupal' }, claims, self)
  const listed = scopes.join(' ') || 'none'
  if (refusal?.reason !== 'no-scope' || (config?.derived.audience.kind ?? 'drupal') !== 'drupal') {
    return (scopes.length > 0 ? ok : warning)(listed)
  }
  return (config === undefined ? warning : failed)(
    `${listed}: OAUTH_AUDIENCE=drupal refuses the token, it has none of this resource’s scopes`,
    scopes.length * known.length > 0
      ? `Sign in again and ask for one of ${known.join(' ')}. OAUTH_SCOPES names every scope that a token may carry alone.`
      : undefined
  )
}

export const tokenChecks: readonly Check[] = [
  {
    id: 'token',
    title: 'A token to sign in with',
    side: 'outside',
    // Over plain http, loopback apart, `tls` has failed: no token is sent there.
    needs: ['tls', 'endpoint'],
    remedy: 'Sign in again: drupal-mcp-gateway login URL',
    run: find
  },
  {
    id: 'token-issuer',
    title: 'Token: issuer',
    side: 'outside',
    needs: ['token', 'as-metadata'],
    remedy:
      'Tokens carry the host name under which /oauth/token was asked: let everybody reach the site under one name, set trusted_host_patterns, or list the other name in OAUTH_ISSUER.',
    run: issuer
  },
  {
    id: 'token-signature',
    title: 'Token: signature',
    side: 'outside',
    needs: ['token', 'keys'],
    remedy:
      'The keys were changed: sign in again. When it stays so, the site serves an old key: drush cache:rebuild, and purge the CDN.',
    run: signature
  },
  {
    id: 'token-time',
    title: 'Token: beginning',
    side: 'outside',
    needs: ['token'],
    remedy:
      'The site’s clock is ahead of the gateway’s: run NTP on both (timedatectl set-ntp true).',
    run: issuedAt
  },
  {
    id: 'token-audience',
    title: 'Token: audience',
    side: 'outside',
    needs: ['token'],
    remedy: 'Name the client in OAUTH_AUDIENCE=clients:…, or sign in with one that is named.',
    run: audience
  },
  {
    id: 'token-scopes',
    title: 'Token: scopes',
    side: 'outside',
    needs: ['token', 'resource-metadata'],
    remedy:
      'Sign in again and ask for scopes. By device code Drupal drops every scope whose name has other characters than a–z, 0–9 and _.',
    run: granted
  }
]
