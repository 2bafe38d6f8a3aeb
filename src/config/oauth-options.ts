// What can be set about tokens and the authorization server: who issues them, how they are judged, how long a verdict lives.
// It refuses to know keys and claims.
import {
  count,
  file,
  flag,
  group,
  list,
  listOf,
  matching,
  oneOf,
  scope,
  seconds,
  text
} from './option.ts'

/** Every signature algorithm that tokens may have. */
export const signatureAlgorithms = ['RS256', 'PS256', 'ES256', 'EdDSA'] as const

export const oauthOptions = group('Tokens and the authorization server.', {
  clientId: text({
    env: 'OAUTH_CLIENT_ID',
    description:
      "The gateway's own client at the authorization server; needed for introspection only. Empty: none.",
    default: ''
  }),
  clientSecret: text({
    env: 'OAUTH_CLIENT_SECRET',
    secret: true,
    description: 'Secret of oauth.clientId. Empty: none.',
    default: ''
  }),
  issuers: list(
    {
      env: 'OAUTH_ISSUER',
      description:
        'Exact issuers that are accepted, byte for byte (a slash at the end counts); the first is published, and asked where tokens are introspected. Empty: discovered from drupal.url.',
      risk: 'Every issuer listed can sign in anybody.'
    },
    {
      format: 'issuer',
      accepts: 'an http(s) URL exactly as the iss claim has it, without query and fragment'
    }
  ),
  audience: matching({
    pattern: '^(drupal|resource|clients:[\\s,]*[^\\s,].*)$',
    env: 'OAUTH_AUDIENCE',
    accepts: 'drupal, resource or clients:<client id>,<client id>',
    description:
      "drupal: aud names this resource, or else the token carries one of this resource's scopes. resource: aud must name this resource. clients:id,id: aud must be one of these client ids.",
    risk: 'With drupal and clients a token that the same site made for another purpose may be accepted here; resource is the strict one (RFC 8707).',
    default: 'drupal'
  }),
  scopes: list(
    {
      env: 'OAUTH_SCOPES',
      description:
        'Base scopes of the 401 challenge: what clients ask for at first. Empty: none named, tools ask for theirs. With OAUTH_AUDIENCE=drupal a token is refused unless it has one of these, or one that a tool shown to callers asks for: name every scope that a token may carry alone.'
    },
    scope
  ),
  validation: oneOf(['jwt', 'introspection', 'both'], {
    env: 'OAUTH_VALIDATION',
    description:
      'How tokens are judged. jwt: by signature and claims. introspection: by asking the authorization server; needs clientId and clientSecret. both: the JWT at once, then liveness by introspection.',
    risk: 'With jwt a revoked token is stopped by Drupal only, not by the gateway.',
    default: 'jwt'
  }),
  introspection: oneOf(['auto', 'rfc7662', 'drupal'], {
    env: 'OAUTH_INTROSPECTION',
    description:
      "Dialect of the introspection endpoint. drupal: the jti is posted with the gateway's own bearer token. auto: detected.",
    default: 'auto'
  }),
  introspectionScope: text({
    env: 'OAUTH_INTROSPECTION_SCOPE',
    description:
      'Scope that the gateway asks for its own token, with which it introspects in Drupal\'s dialect; it must grant "bypass token introspection restrictions". Empty: the default scopes of its client apply.',
    accepts: 'one or more scopes, separated by spaces',
    default: ''
  }),
  publicKeyFile: file({
    env: 'OAUTH_PUBLIC_KEY_FILE',
    description:
      'PEM public key (BEGIN PUBLIC KEY) that verifies tokens, such as public.key of Simple OAuth; no JWKS is fetched. Empty: keys are discovered.',
    risk: 'It is read at start: after a key rotation replace the file and restart.'
  }),
  algorithms: listOf(oneOf(signatureAlgorithms), {
    minItems: 1,
    env: 'OAUTH_ALGORITHMS',
    description: 'Signature algorithms that are accepted.',
    accepts: `a list of ${signatureAlgorithms.join(', ')}, at least one`,
    default: signatureAlgorithms
  }),
  clockToleranceSeconds: seconds(
    {
      env: 'OAUTH_CLOCK_TOLERANCE',
      description: 'How far the clocks of gateway and issuer may differ: for exp and nbf.',
      risk: 'Expired tokens live this much longer.',
      default: 5
    },
    0,
    300
  ),
  tokenCacheTtlSeconds: seconds(
    {
      env: 'OAUTH_TOKEN_CACHE_TTL',
      description:
        'Longest time that a verdict is kept, never beyond exp; 0 judges every time. Also the bound on how long a revoked token lives where introspection is on.',
      default: 300
    },
    0,
    86_400
  ),
  tokenCacheEntries: count({
    env: 'OAUTH_TOKEN_CACHE_ENTRIES',
    description: 'Most verdicts kept; the least recently used goes first.',
    default: 10_000
  }),
  discoveryCacheTtlSeconds: seconds({
    env: 'OAUTH_DISCOVERY_CACHE_TTL',
    description: 'Time that metadata and keys are kept before they are fetched again.',
    default: 3600
  }),
  keyCooldownSeconds: seconds(
    {
      env: 'OAUTH_KEY_COOLDOWN',
      description:
        'Least time between two fetches of keys that an unknown key or a bad signature asks for.',
      risk: 'Near 0 a flood of bad tokens becomes a flood of requests to the site.',
      default: 30
    },
    0,
    3600
  ),
  staleSeconds: seconds(
    {
      env: 'OAUTH_STALE_KEYS',
      description: 'Time that known keys go on serving while the authorization server is down.',
      risk: 'A key withdrawn meanwhile is believed this long.',
      default: 86_400
    },
    0
  ),
  timeoutSeconds: seconds(
    {
      env: 'OAUTH_TIMEOUT',
      description: 'Time-out of one request to the authorization server.',
      default: 5
    },
    0.01,
    60
  ),
  deviceFlowEnabled: flag({
    env: 'OAUTH_DEVICE_FLOW_ENABLED',
    description: 'Whether sign-in by device code (RFC 8628) is offered.',
    default: true
  }),
  anonymous: oneOf(['off', 'public-tools'], {
    env: 'AUTH_ANONYMOUS',
    description:
      'off: every call needs a token. public-tools: tools of level none work before sign-in.',
    risk: 'With public-tools anybody on the network can call these tools.',
    default: 'off'
  })
})
