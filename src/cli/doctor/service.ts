// What only the inside can check: the gateway's own client at the site, and Redis.
import type { GatewayError } from '../../errors.ts'
import { createRedisStore, redisPatienceMs } from '../../store/redis.ts'
import { brief, certificateAdvice, fieldsOf } from './ask.ts'
import {
  type Check,
  type Context,
  failed,
  type Finding,
  ok,
  quote,
  skipped,
  warning,
  worst
} from './check.ts'
import { postForm } from './endpoints.ts'
import { readToken } from './token.ts'

const MAX_SCOPES = 40

/** As the gateway asks for its own token. */
function form({ config }: Context): Record<string, string> {
  const { clientId, clientSecret, introspectionScope: scope } = config!.oauth
  return {
    grant_type: 'client_credentials',
    client_id: clientId,
    client_secret: clientSecret,
    ...(scope !== '' && { scope })
  }
}

async function client(context: Context): Promise<Finding> {
  const { config, facts, askDrupal } = context
  const { clientId, validation } = config!.oauth
  if (clientId === '') return skipped(`no OAUTH_CLIENT_ID; OAUTH_VALIDATION is ${validation}`)
  const url = facts.metadata!.document['token_endpoint'] as string
  const answer = await postForm(askDrupal, url, form(context))
  const text = fieldsOf(answer)['access_token']
  if (answer.status === 200 && typeof text === 'string') {
    context.secrets.push(text)
    facts.serviceToken = readToken(text)
    return ok(`${clientId} gets a token`)
  }
  const { error, hint } = fieldsOf(answer)
  const seen = `${clientId} is answered ${brief(answer)}, ${quote(error)}`
  if (error === 'invalid_client') return failed(seen)
  if (error === 'invalid_request' || error === 'invalid_scope') {
    return failed(
      `${seen}, ${quote(hint)}`,
      'Give the client a default scope whose grant client_credentials is on: edit it at /admin/config/services/consumer; or name one in OAUTH_INTROSPECTION_SCOPE.'
    )
  }
  return failed(
    seen,
    'Switch the grant client_credentials on for this client, and give it a user: /admin/config/services/consumer'
  )
}

async function introspects({ config, facts, askDrupal }: Context): Promise<Finding> {
  const { text, claims } = facts.serviceToken!
  if (config!.oauth.validation === 'jwt') return skipped('OAUTH_VALIDATION is jwt')
  const url = facts.metadata!.document['introspection_endpoint'] as string
  const { jti } = claims
  const answer = await postForm(
    askDrupal,
    url,
    { token: typeof jti === 'string' ? jti : text },
    { authorization: `Bearer ${text}` }
  )
  const active = fieldsOf(answer)['active']
  return active === true
    ? ok('its own token is active')
    : failed(`${brief(answer)}, active ${quote(active)}`)
}

/** Asks for one scope after the other: a scope whose grants are off is listed in metadata all the same. */
async function scopeGrants(context: Context): Promise<Finding> {
  const { config, facts, askDrupal } = context
  const url = facts.metadata!.document['token_endpoint'] as string
  const wanted = config!.oauth.scopes.slice(0, MAX_SCOPES)
  if (wanted.length === 0) return skipped('OAUTH_SCOPES names none')
  const problems: Finding[] = []
  for (const scope of wanted) {
    const answer = await postForm(askDrupal, url, { ...form(context), scope })
    const text = fieldsOf(answer)['access_token']
    if (answer.status === 200 && typeof text === 'string') {
      context.secrets.push(text)
      const used = await askDrupal(`${config!.drupal.url}/oauth/userinfo`, {
        headers: { authorization: `Bearer ${text}` }
      })
      if (used.status < 500) continue
      problems.push(
        failed(
          `a token with ${scope} is answered ${brief(used)}`,
          'The scope has grants and no granularity: choose a permission or a role in it, at /admin/config/people/simple_oauth/oauth2_scope/dynamic'
        )
      )
    } else {
      problems.push(warning(`${scope}: ${quote(fieldsOf(answer)['error'])}`))
    }
  }
  return worst(problems, wanted.join(', '))
}

async function redis({ config }: Context): Promise<Finding> {
  const url = config!.redisUrl
  if (url === '') return ok('not used: budgets and ended sessions are known to one process')
  const nothing = () => {}
  const quiet = { warn: nothing, info: nothing }
  const store = await createRedisStore({ url, log: quiet, timeoutMs: 1000 })
  const where = new URL(url).host
  let problem: GatewayError | undefined
  let quickest = Infinity
  // The first may have to load the script, and this process is busy starting.
  for (let n = 0; n < 3 && problem === undefined; n++) {
    const start = performance.now()
    await store.check().catch((error: GatewayError) => (problem = error))
    quickest = Math.min(quickest, performance.now() - start)
  }
  await store.close()
  if (problem) return failed(`${where}: ${problem.reason}`, certificateAdvice(problem.reason ?? ''))
  if (quickest <= redisPatienceMs) return ok(`${where} takes a write`)
  return failed(
    `${where} takes ${Math.round(quickest)} ms to answer`,
    `Use a Redis that is nearer: one that needs more than ${redisPatienceMs} ms counts as gone.`
  )
}

export const serviceChecks: readonly Check[] = [
  {
    id: 'service-client',
    title: 'The gateway’s own client',
    side: 'inside',
    needs: ['token-endpoint'],
    remedy:
      'Correct OAUTH_CLIENT_ID and OAUTH_CLIENT_SECRET(_FILE), or save a new secret at /admin/config/services/consumer',
    run: client
  },
  {
    id: 'service-introspection',
    title: 'The gateway’s client may introspect',
    side: 'inside',
    needs: ['service-client', 'introspection'],
    remedy:
      'Give the client a user and a default scope with the permission “bypass token introspection restrictions”: drush role:perm:add ROLE "bypass token introspection restrictions"',
    run: introspects
  },
  {
    id: 'scope-grants',
    title: 'Base scopes can be granted',
    side: 'inside',
    needs: ['service-client'],
    remedy:
      'A scope that jsonrpc_mcp installed has no grants until somebody edits it; for service accounts switch client_credentials on in it, at /admin/config/people/simple_oauth/oauth2_scope/dynamic',
    run: scopeGrants
  },
  {
    id: 'redis',
    title: 'Redis',
    side: 'inside',
    needs: ['config'],
    remedy:
      'Start Redis or correct REDIS_URL; without it replicas count budgets apart, and sessions cannot be checked.',
    run: redis
  }
]
