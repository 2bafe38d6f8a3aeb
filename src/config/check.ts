// Do the options agree with each other, with the files that they name, and with what production asks for? Each check is one
// row that names the options it reads. It refuses to know shapes and bounds (schema.ts) and mere risks (warnings.ts).
import { reach, redisUrlProblem } from './address.ts'
import { errorCode } from './file.ts'
import { label } from './options.ts'
import type { Tree } from './schema.ts'
import { weakness } from './session-secret.ts'

type Read = (path: string) => string

type Check = {
  /** The option that the line is about. */
  path: string
  /** Others that it reads: when one of them is illegal already, the check says nothing. */
  reads?: readonly string[]
  /** What is wrong and what to do; undefined, false: nothing. */
  find: (tree: Tree, read: Read) => string | false | undefined
}

const production = (tree: Tree) => tree.environment === 'production'
const http = (url: string) => url.startsWith('http:')

const longerThan = (
  path: string,
  other: string,
  pick: (tree: Tree) => readonly [number, number]
) => ({
  path,
  reads: [other],
  find: (tree: Tree) => {
    const [value, bound] = pick(tree)
    return value > bound && `must not be longer than ${label(other)}: lower it or raise that.`
  }
})

const checks: readonly Check[] = [
  {
    path: 'publicUrl',
    reads: ['environment'],
    find: tree => {
      if (!production(tree)) return
      if (tree.publicUrl === '')
        return 'is required in production. Set it to the https URL that clients type, such as https://mcp.example.org.'
      return (
        http(tree.publicUrl) &&
        'must begin with https:// in production: tokens would travel in clear text. Let a proxy in front end TLS, or set server.tlsCertFile (TLS_CERT_FILE) and server.tlsKeyFile (TLS_KEY_FILE).'
      )
    }
  },
  {
    path: 'publicUrl',
    reads: ['environment', 'server.port'],
    find: tree =>
      !production(tree) &&
      tree.publicUrl === '' &&
      `is required when ${label('server.port')} is 0, as the port is not known before. Set one of them.`
  },
  {
    path: 'mcpPath',
    find: ({ mcpPath }) => {
      if (
        mcpPath
          .split('/')
          .slice(1)
          .some(segment => ['', '.', '..'].includes(segment))
      )
        return 'must not hold //, . or .. as a part: write the plain path, such as /mcp.'
      const reserved = ['/.well-known', '/livez', '/readyz'].find(
        path => mcpPath === path || mcpPath.startsWith(`${path}/`)
      )
      return (
        reserved &&
        `must not lie at or below ${reserved}, which the gateway answers itself: choose another, such as /mcp.`
      )
    }
  },
  {
    path: 'server.adminPort',
    reads: ['server.port'],
    find: ({ server }) =>
      server.adminPort > 0 &&
      server.adminPort === server.port &&
      `must not be the public port ${label('server.port')}, or everybody could read the metrics: choose another, or -1 for none.`
  },
  {
    path: 'server.maxBufferedBytes',
    reads: ['server.maxBodyBytes', 'drupal.maxResponseBytes'],
    find: ({ server, drupal }) => {
      // A translated answer has the result as text, too.
      const largest = 3 * server.maxBodyBytes + 2 * drupal.maxResponseBytes
      return (
        server.maxBufferedBytes < largest &&
        `must not be less than what one call may hold, 3 × ${label('server.maxBodyBytes')} + 2 × ${label('drupal.maxResponseBytes')} = ${largest}: raise it or lower those.`
      )
    }
  },
  {
    path: 'server.tlsCertFile',
    reads: ['server.tlsKeyFile'],
    find: ({ server }, read) => {
      if (server.tlsCertFile === '')
        return server.tlsKeyFile !== '' && `is required with ${label('server.tlsKeyFile')}.`
      return unusable(
        server.tlsCertFile,
        read,
        /-----BEGIN CERTIFICATE-----/,
        'a PEM certificate chain'
      )
    }
  },
  {
    path: 'server.tlsKeyFile',
    reads: ['server.tlsCertFile'],
    find: ({ server }, read) => {
      if (server.tlsKeyFile === '')
        return server.tlsCertFile !== '' && `is required with ${label('server.tlsCertFile')}.`
      return unusable(
        server.tlsKeyFile,
        read,
        /^(?![^]*ENCRYPTED)[^]*-----BEGIN [A-Z ]*PRIVATE KEY-----/,
        'a PEM private key without a passphrase (openssl pkey writes one)'
      )
    }
  },
  {
    path: 'drupal.url',
    reads: ['environment'],
    find: tree =>
      production(tree) &&
      http(tree.drupal.url) &&
      reach(tree.drupal.url) === 'public' &&
      `must begin with https:// in production: people sign in there and tokens are sent there. For a hop inside a cluster keep the https URL here and set ${label('drupal.internalUrl')}.`
  },
  longerThan('drupal.connectTimeoutSeconds', 'drupal.callTimeoutSeconds', ({ drupal }) => [
    drupal.connectTimeoutSeconds,
    drupal.callTimeoutSeconds
  ]),
  longerThan('drupal.headersTimeoutSeconds', 'drupal.callTimeoutSeconds', ({ drupal }) => [
    drupal.headersTimeoutSeconds,
    drupal.callTimeoutSeconds
  ]),
  longerThan('streams.heartbeatSeconds', 'streams.maxSeconds', ({ streams }) => [
    streams.heartbeatSeconds,
    streams.maxSeconds
  ]),
  {
    path: 'oauth.issuers',
    reads: ['environment'],
    find: tree => {
      const clear = tree.oauth.issuers.findIndex(
        issuer => http(issuer) && reach(issuer) === 'public'
      )
      return (
        production(tree) &&
        clear >= 0 &&
        `entry ${clear + 1} must begin with https:// in production: whoever is on the way could replace its keys.`
      )
    }
  },
  {
    path: 'oauth.validation',
    reads: ['oauth.clientId', 'oauth.clientSecret'],
    find: ({ oauth }) => {
      if (oauth.validation === 'jwt' || (oauth.clientId !== '' && oauth.clientSecret !== '')) return
      const missing = (['clientId', 'clientSecret'] as const)
        .filter(key => oauth[key] === '')
        .map(key => label(`oauth.${key}`))
      return `${oauth.validation} needs ${missing.join(' and ')}: register a confidential client at the authorization server and set it, or choose jwt.`
    }
  },
  {
    path: 'oauth.publicKeyFile',
    find: ({ oauth }, read) =>
      oauth.publicKeyFile !== '' &&
      unusable(
        oauth.publicKeyFile,
        read,
        /^(?![^]*PRIVATE KEY-----)[^]*-----BEGIN PUBLIC KEY-----/,
        'a PEM public key that begins with BEGIN PUBLIC KEY, and no private key (openssl pkey -pubin or openssl x509 -pubkey writes one)'
      )
  },
  {
    path: 'session.secrets',
    reads: ['environment'],
    find: tree => {
      if (!production(tree)) return
      const { secrets } = tree.session
      if (secrets.length === 0)
        return 'is required in production, the same for all replicas. Make one with: openssl rand -base64 48'
      return weakSecret(secrets)
    }
  },
  {
    path: 'redisUrl',
    find: ({ redisUrl }) => {
      const problem = redisUrl === '' ? undefined : redisUrlProblem(redisUrl)
      return problem && `${problem}.`
    }
  },
  {
    path: 'policy.tools',
    find: ({ policy }) => {
      const name = Object.entries(policy.tools).find(
        ([, rule]) => rule.level === 'none' && (rule.scopes ?? []).length > 0
      )?.[0]
      return (
        name !== undefined &&
        `${name} has level none and scopes, and only a token can carry scopes: remove one of them.`
      )
    }
  }
]

/** The first weak secret, as a sentence that names its place and not the secret. */
export function weakSecret(secrets: readonly string[]): string | undefined {
  for (const [index, secret] of secrets.entries()) {
    const reason = weakness(secret)
    if (reason) return `secret ${index + 1} must ${reason}. Make one with: openssl rand -base64 48`
  }
  return undefined
}

function unusable(path: string, read: Read, shape: RegExp, what: string): string | undefined {
  try {
    return shape.test(read(path)) ? undefined : `the file must hold ${what}.`
  } catch (error) {
    return `the file cannot be read (${errorCode(error)}): check the path and its permissions.`
  }
}

/** Every problem between options that are legal one by one; `refused` are the paths of those that are not. */
export function check(tree: Tree, refused: ReadonlySet<string>, read: Read): string[] {
  return checks
    .filter(({ path, reads = [] }) => ![path, ...reads].some(each => refused.has(each)))
    .flatMap(({ path, find }) => {
      const problem = find(tree, read)
      return problem ? [`${label(path)}: ${problem}`] : []
    })
}
