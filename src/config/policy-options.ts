// What can be set about sessions, budgets, who may call which tool, streams and the log. It refuses to know how any of these
// is carried out.
import {
  budget,
  count,
  flag,
  group,
  list,
  listOf,
  matching,
  named,
  oneOf,
  partial,
  scope,
  seconds,
  text
} from './option.ts'

export const sessionOptions = group('Sealed sessions of the legacy eras.', {
  secrets: listOf(matching({ minLength: 1, accepts: 'a text' }), {
    env: 'SESSION_SECRET',
    secret: true,
    description:
      'Secrets of at least 32 characters that seal session ids, comma-separated: the first seals, all open, so that one can be replaced without ending sessions. The same for all replicas. Required in production; elsewhere one is made at start.',
    risk: 'Who knows it can make session ids (a token is still needed).',
    default: []
  }),
  lifetimeSeconds: seconds(
    {
      env: 'SESSION_LIFETIME',
      description: 'Absolute lifetime of a session; clients then initialize again.',
      default: 604_800
    },
    60
  ),
  required: flag({
    env: 'SESSION_REQUIRED',
    description:
      'Whether legacy requests must name the session that initialize has opened, as the specification asks of clients. false: one that names none is served, too, for clients that never send the id back; it counts for its user, cannot be cancelled, and an mcp upstream with sessions is asked to open one for it.',
    default: true
  })
})

/** Root option. */
export const redisUrl = text({
  env: 'REDIS_URL',
  secret: true,
  description:
    'redis:// or rediss:// URL of one Redis 7 or Valkey, no cluster: budgets and tombstones are shared by all replicas. Empty: kept per process.',
  accepts: 'a URL that begins with redis:// or rediss://',
  risk: 'Without it every replica counts budgets for itself.',
  default: ''
})

export const limitOptions = group('Budgets, as max/window; "off" switches one off.', {
  session: budget({ env: 'LIMIT_SESSION', description: 'Calls per session.', default: '300/1m' }),
  principal: budget({
    env: 'LIMIT_PRINCIPAL',
    description: 'Calls per user and client, all sessions together.',
    risk: 'When off, one user can keep every PHP worker busy.',
    default: '600/1m'
  }),
  client: budget({
    env: 'LIMIT_CLIENT',
    description: 'Calls per OAuth client, all its users together.',
    default: 'off'
  }),
  failures: budget({
    env: 'LIMIT_FAILURES',
    description:
      'Failed attempts per address. Calls that succeed never draw on it, nor does an expired JWT; over it, the address gets 429 whatever token comes.',
    risk: 'When off, guessing tokens is not slowed down. Too low where many users share an address, as those of hosted clients do, and a few of them hold all back.',
    default: '60/1m'
  })
})

const toolRule = partial({
  level: oneOf(['none', 'optional', 'required'], {
    description: 'none: no token needed. optional: a token is used when present. required.'
  }),
  scopes: listOf(matching(scope), { description: 'Scopes that a call needs, all of them.' }),
  budget: budget({ description: 'A budget of this tool or pattern, per principal.' }),
  weight: count({ description: 'Units that one call draws from every budget.' }, 1, 1000)
})

export const policyOptions = group('Who may call which tool.', {
  unannotated: oneOf(['required', 'none'], {
    env: 'POLICY_UNANNOTATED',
    description: 'Level of a tool whose annotations say nothing.',
    risk: 'With none such tools work without a token where oauth.anonymous allows it.',
    default: 'required'
  }),
  missingScope: oneOf(['step-up', 'hide'], {
    env: 'POLICY_MISSING_SCOPE',
    description:
      'step-up: a tool whose scope is missing is listed and answers 403 insufficient_scope. hide: it is not listed, and unknown like every tool that is not listed; but strangers, whom oauth.anonymous lets in, see it in the list, for that is how their clients find out that they can sign in.',
    default: 'step-up'
  }),
  resultChallenge: list(
    {
      env: 'POLICY_RESULT_CHALLENGE',
      description:
        'Clients, by how their User-Agent begins, that are told within the result of a tool call that it needs a sign-in or another scope: 200, isError and the challenge in _meta["mcp/www_authenticate"], in the place of 401 or 403. openai-mcp is ChatGPT. With one or more, tools also say what they need (securitySchemes), but for those of an mcp upstream, whose list is relayed as it is.',
      risk: 'A client that goes by the specification, which wants 401 and 403, does not sign in when it is named here.'
    },
    { pattern: '^[\\x21-\\x7E]{1,100}$', accepts: 'the beginning of a User-Agent, without spaces' }
  ),
  tools: named('^[A-Za-z0-9._*-]{1,128}$', toolRule, {
    description:
      'Overrides by tool name or pattern ("*" matches any run of characters): level (none, optional, required), scopes, budget, weight (1 to 1000). The most exact pattern wins. By file only.',
    accepts: 'rules by tool name or pattern, such as "tutorial_*": { weight: 5 }',
    risk: "A level or scopes set here replace the tool's own annotations.",
    default: {}
  })
})

export const toolOptions = group("The gateway's own tools.", {
  authStatus: matching({
    pattern: '^[A-Za-z0-9._-]{1,128}$',
    env: 'AUTH_STATUS_TOOL',
    accepts: 'a tool name of letters, digits and . _ -, or off',
    description:
      'Name of a tool that tells a caller who is signed in, for how long, and which tools lack a scope. A tool of the site with the same name takes its place. off: no such tool. With drupal.upstream mcp there is none: the list of the site is relayed as it is.',
    default: 'auth_status'
  })
})

export const streamOptions = group('Open event streams.', {
  heartbeatSeconds: seconds(
    {
      env: 'STREAM_HEARTBEAT',
      description:
        'Silence after which a comment keeps a stream alive. Shorter than the idle time-out of every proxy in front; at most maxSeconds.',
      default: 15
    },
    0.05,
    120
  ),
  maxPerPrincipal: count(
    {
      env: 'STREAMS_PER_PRINCIPAL',
      description:
        'Most open streams per user, whatever clients hold them; one more is answered 429.',
      default: 16
    },
    1,
    10_000
  ),
  maxSeconds: seconds(
    {
      env: 'STREAM_MAX',
      description: 'Longest life of a stream; clients then open it again.',
      default: 3600
    },
    1
  ),
  watchSeconds: seconds(
    {
      env: 'STREAM_WATCH',
      description:
        'How often the site is asked whether the tools of a listening client have changed, while one listens; 0: never, and clients are not offered such news. Upstreams that tell by themselves are not asked.',
      risk: 'Each user who listens costs one request per interval.',
      default: 60
    },
    0,
    86_400
  )
})

export const logOptions = group('Logging.', {
  level: oneOf(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'], {
    env: 'LOG_LEVEL',
    description: 'Least level that is logged; tokens are in no level.',
    default: 'info'
  })
})
