// What can be set about the site behind the gateway: where it is, and how much work it is given. It refuses to know OAuth.
import { bytes, count, group, oneOf, path, seconds, url } from './option.ts'

export const drupalOptions = group('The site behind the gateway.', {
  url: url({
    env: 'DRUPAL_URL',
    description:
      "Canonical URL of the Drupal site, with its sub-directory if it has one: its Host header, its issuer and the browser's sign-in derive from it.",
    risk: 'Tokens are sent there. In production http is refused unless the host is loopback or private.'
  }),
  internalUrl: url({
    env: 'DRUPAL_INTERNAL_URL',
    description:
      'Where to connect instead of drupal.url (a service name inside a cluster); Host and issuer stay those of drupal.url. Empty: connect to drupal.url.',
    risk: 'With http the token crosses that network in clear text.',
    default: ''
  }),
  upstream: oneOf(['jsonrpc', 'mcp'], {
    env: 'DRUPAL_UPSTREAM',
    description:
      'jsonrpc: the site runs jsonrpc_mcp. mcp: the site speaks MCP Streamable HTTP (drupal/mcp_server, drupal/mcp).',
    default: 'jsonrpc'
  }),
  mcpPath: path('^(/[^?#\\s\\\\]*)?$', {
    env: 'DRUPAL_MCP_PATH',
    description:
      'Path on the site, below drupal.url: of the MCP endpoint (upstream mcp) or of the tools (upstream jsonrpc). Empty: /mcp, with jsonrpc /mcp/tools.',
    accepts: 'a path such as /mcp/tools, without query and fragment',
    default: ''
  }),
  maxConcurrency: count(
    {
      env: 'DRUPAL_MAX_CONCURRENCY',
      description:
        'Most calls at work in Drupal at once, per gateway process; its own questions (keys, introspection) come on top. Size it to PHP-FPM: pm.max_children ÷ replicas, less what visitors need.',
      risk: 'Too high and agents take every PHP worker from the site.',
      default: 32
    },
    1,
    10_000
  ),
  maxQueue: count(
    {
      env: 'DRUPAL_MAX_QUEUE',
      description: 'Most calls that wait for a free worker; more are answered 503 at once.',
      default: 256
    },
    0,
    100_000
  ),
  queueTimeoutSeconds: seconds(
    {
      env: 'DRUPAL_QUEUE_TIMEOUT',
      description: 'Longest wait in the queue before 503.',
      default: 10
    },
    0.01,
    600
  ),
  connectTimeoutSeconds: seconds(
    {
      env: 'DRUPAL_CONNECT_TIMEOUT',
      description: 'Time to open a connection, TLS included. At most callTimeoutSeconds.',
      default: 5
    },
    0.01,
    60
  ),
  headersTimeoutSeconds: seconds(
    {
      env: 'DRUPAL_HEADERS_TIMEOUT',
      description: 'Time until the first byte of an answer. At most callTimeoutSeconds.',
      default: 60
    },
    0.01,
    3600
  ),
  callTimeoutSeconds: seconds(
    {
      env: 'DRUPAL_CALL_TIMEOUT',
      description: 'Absolute bound of one call, body included (not of a stream).',
      risk: 'A call that hangs holds a PHP worker this long.',
      default: 120
    },
    0.01,
    3600
  ),
  maxResponseBytes: bytes({
    env: 'DRUPAL_MAX_RESPONSE_BYTES',
    description:
      'Largest answer that is relayed or translated. To a batch that holds as much already, further answers are refused.',
    risk: 'Translated answers are held in memory: up to this times maxConcurrency.',
    default: 33_554_432
  }),
  breakerFailures: count(
    {
      env: 'DRUPAL_BREAKER_FAILURES',
      description: 'Failures in a row that open the circuit breaker.',
      default: 10
    },
    1,
    10_000
  ),
  breakerOpenSeconds: seconds(
    {
      env: 'DRUPAL_BREAKER_OPEN',
      description: 'Time that an open breaker answers 503 at once before it probes.',
      default: 5
    },
    0.01,
    600
  ),
  catalogueTtlSeconds: seconds(
    {
      env: 'CATALOGUE_TTL',
      description: "Time that a caller's tool list is kept; 0 asks every time.",
      risk: 'New tools and changed permissions show up in lists this much later; calls are always checked by Drupal.',
      default: 30
    },
    0,
    3600
  )
})
