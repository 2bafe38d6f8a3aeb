// What can be set about the gateway itself: its public URL, its listeners and their bounds. It refuses to know what follows
// from a value.
import {
  bytes,
  count,
  file,
  group,
  list,
  matching,
  oneOf,
  path,
  seconds,
  text,
  url
} from './option.ts'

/** Options at the root of the tree. */
export const rootOptions = {
  publicUrl: url({
    env: 'GATEWAY_PUBLIC_URL',
    description:
      'Base of the public URL, as clients type it, without the MCP path. Everything the gateway publishes derives from it, never from a request. Empty outside production: http://localhost:<server.port>, with server.tlsCertFile https; required in production, with https.',
    risk: 'When it differs from what clients type, they refuse to sign in.',
    default: ''
  }),
  mcpPath: path('^/[A-Za-z0-9._~/-]*[A-Za-z0-9._~-]$', {
    env: 'MCP_PATH',
    description:
      'Path of the MCP endpoint. publicUrl + mcpPath is the protected resource (RFC 9728): changing it makes a new resource, and clients sign in again.',
    accepts: 'a path such as /mcp, of letters, digits and . _ ~ - /, without a trailing slash',
    default: '/mcp'
  }),
  environment: oneOf(['production', 'development', 'test'], {
    env: 'NODE_ENV',
    description:
      'In production a public URL without https, a missing or weak session secret and a site reached in clear text are refused.',
    risk: 'Outside production these are only warned about.',
    default: 'development'
  }),
  siteName: text({
    env: 'SITE_NAME',
    description: 'Name of the site: in the resource metadata and on the page for people.',
    default: 'Drupal'
  })
}

export const serverOptions = group('The listeners.', {
  host: matching({
    format: 'host',
    env: 'MCP_SERVER_HOST',
    description:
      'Address to listen on; 0.0.0.0 or :: listens on all, as inside a container. localhost is 127.0.0.1.',
    accepts: 'an address or a host name, without scheme and port',
    default: '127.0.0.1'
  }),
  port: count(
    {
      env: 'MCP_SERVER_PORT',
      description: 'Port to listen on; 0 picks a free one (publicUrl must then be set).',
      default: 3000
    },
    0,
    65535
  ),
  adminHost: matching({
    format: 'host',
    env: 'ADMIN_HOST',
    description: 'Address of the admin listener (metrics, health).',
    accepts: 'an address or a host name, without scheme and port',
    risk: 'It answers without sign-in: keep it on a private network.',
    default: '127.0.0.1'
  }),
  adminPort: count(
    {
      env: 'ADMIN_PORT',
      description:
        'Port of the admin listener (metrics, health); -1: no admin listener; 0 picks a free one. Must not be server.port.',
      default: -1
    },
    -1,
    65535
  ),
  allowedHosts: list(
    {
      env: 'ALLOWED_HOSTS',
      description:
        'Further Host names that are served, beside that of publicUrl; the port does not matter. Loopback names are allowed when publicUrl is loopback.',
      risk: 'Each name widens what DNS rebinding can reach.'
    },
    {
      pattern: '^(\\[[0-9A-Fa-f:.]+\\]|[A-Za-z0-9._-]+)$',
      accepts: 'a host name without scheme, port and path'
    }
  ),
  allowedOrigins: list(
    {
      env: 'ALLOWED_ORIGINS',
      description:
        'Browser origins that may call, beside that of publicUrl; "*" allows every origin.',
      risk: 'With "*" any web page that holds a token may use it; tokens still decide.'
    },
    {
      pattern: '^(\\*|[A-Za-z][A-Za-z0-9+.-]*://[^/?#\\s@,]+)$',
      accepts: 'an origin such as https://app.example.org, without a path or a slash at the end'
    }
  ),
  trustedProxies: list(
    {
      env: 'TRUSTED_PROXIES',
      description:
        'Addresses or CIDR blocks of proxies whose X-Forwarded-For is believed, or loopback, linklocal, uniquelocal. Empty: none, the address of the connection counts.',
      risk: 'A block that is too wide lets callers invent their address and escape limits.failures.'
    },
    { format: 'proxy', accepts: 'an address, a CIDR block, loopback, linklocal or uniquelocal' }
  ),
  maxBodyBytes: bytes({
    env: 'MAX_BODY_BYTES',
    description: 'Largest request body; a larger one is answered 413.',
    risk: 'Each request at work may hold three times this much memory, and more where it is many small objects.',
    default: 4_194_304
  }),
  maxBufferedBytes: bytes(
    {
      env: 'MAX_BUFFERED_BYTES',
      description:
        'Most bytes that request bodies (each counts three times: as it came, parsed, and as it goes to Drupal; of many small objects by what these take), answers to batches that are not yet complete, and answers that clients have yet to take may hold together. Over it, whoever holds most loses what came last: a body that is still coming is answered 503 (one that alone would take more: 413), answers to a batch become errors, the connection of an answer is closed. At least 3 × maxBodyBytes + 2 × drupal.maxResponseBytes.',
      risk: 'More than the process has memory for: a few callers can end it.',
      default: 134_217_728
    },
    68_719_476_736
  ),
  maxBatch: count(
    {
      env: 'MAX_BATCH',
      description: 'Most messages in one batch (2025-03-26 clients only).',
      default: 100
    },
    1,
    1000
  ),
  requestTimeoutSeconds: seconds(
    {
      env: 'REQUEST_TIMEOUT',
      description: 'Time to receive a whole request, from its first byte.',
      risk: 'A long one lets slow senders hold connections.',
      default: 30
    },
    1,
    3600
  ),
  keepAliveSeconds: seconds(
    {
      env: 'KEEP_ALIVE',
      description:
        'Time that a free connection is kept for the next request. Longer than every balancer in front keeps it, so that the balancer closes first and no request meets a connection that is just closing: 620 behind Google’s (600 seconds), 3660 behind Envoy (one hour).',
      risk: 'Too short, calls are lost now and then, and the balancer answers 502; a long one lets idle clients hold connections.',
      default: 75
    },
    5,
    3900
  ),
  shutdownTimeoutSeconds: seconds(
    {
      env: 'SHUTDOWN_TIMEOUT',
      description:
        'Time that calls in flight have to finish after SIGTERM. Together with readinessDelaySeconds it must be shorter than what the platform grants (Kubernetes: 30 seconds).',
      default: 25
    },
    1,
    3600
  ),
  readinessDelaySeconds: seconds(
    {
      env: 'SHUTDOWN_DELAY',
      description:
        'Time between "not ready" and closing the listener after SIGTERM, so that load balancers notice.',
      default: 0
    },
    0,
    300
  ),
  tlsCertFile: file({
    env: 'TLS_CERT_FILE',
    description:
      'PEM certificate chain: the gateway then serves TLS itself. Reloaded when it changes. Needs tlsKeyFile. Empty: a proxy in front ends TLS.'
  }),
  tlsKeyFile: file({
    env: 'TLS_KEY_FILE',
    description: 'PEM private key of tlsCertFile. Empty: none.',
    risk: 'Let only the user of the gateway read it.'
  })
})
