import { generateKeyPairSync } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { rootCertificates } from 'node:tls'
import t, { type Test } from 'tap'
import { parseAudience } from '../../src/config/audience.ts'
import { parseBudget } from '../../src/config/budget.ts'
import { ConfigError, type LoadOptions, loadConfig } from '../../src/config/load.ts'
import { label, options } from '../../src/config/options.ts'
import { placeholderSecret } from '../../src/config/session-secret.ts'
import { editDistance, nearest } from '../../src/config/suggest.ts'

type Env = Record<string, string>

const minimal: Env = { DRUPAL_URL: 'https://www.example.org' }
const strong = 'q8Zr2LwX0vKe7TnB4mYc1HsD6uGj9PaF'
const production: Env = {
  ...minimal,
  NODE_ENV: 'production',
  GATEWAY_PUBLIC_URL: 'https://mcp.example.org',
  SESSION_SECRET: strong
}

const load = (env: Env, yaml?: string) =>
  loadConfig(yaml === undefined ? { env } : { env, file: 'gateway.yaml', readFile: () => yaml })

/** The problems of a configuration that must be refused. */
function problems(t: Test, options: LoadOptions): readonly string[] {
  try {
    loadConfig(options)
  } catch (error) {
    if (error instanceof ConfigError) return error.problems
    throw error
  }
  t.fail('the configuration was accepted')
  return []
}

const refused = (t: Test, env: Env, yaml?: string) =>
  problems(t, yaml === undefined ? { env } : { env, file: 'gateway.yaml', readFile: () => yaml })

/** Exactly these lines, in this order. */
function only(t: Test, found: readonly string[], lines: readonly RegExp[], about = '') {
  t.equal(found.length, lines.length, [about, ...found].join('\n'))
  t.match(found, lines, about)
}

const warnings = (env: Env, yaml?: string) => load(env, yaml).derived.warnings

t.test('only DRUPAL_URL is needed; the fixed names have their defaults', async t => {
  const config = load(minimal)
  t.equal(config.server.port, 3000)
  t.equal(config.server.host, '127.0.0.1')
  t.equal(config.environment, 'development')
  t.equal(config.oauth.tokenCacheTtlSeconds, 300)
  t.equal(config.oauth.discoveryCacheTtlSeconds, 3600)
  t.equal(config.oauth.deviceFlowEnabled, true)
  t.equal(config.publicUrl, 'http://localhost:3000')
  t.equal(config.derived.resource, 'http://localhost:3000/mcp')
  t.strictSame(config.derived.budgets, {
    session: { max: 300, windowMs: 60_000 },
    principal: { max: 600, windowMs: 60_000 },
    client: null,
    failures: { max: 60, windowMs: 60_000 }
  })
  t.strictSame(config.policy.tools, {})
})

t.test('the configuration is frozen to its leaves and shares nothing with another', async t => {
  const config = load(minimal)
  t.ok(Object.isFrozen(config) && Object.isFrozen(config.server))
  t.ok(Object.isFrozen(config.oauth.algorithms) && Object.isFrozen(config.derived.budgets.session))
  t.throws(() => Object.assign(config.server, { port: 1 }), TypeError)
  t.not(load(minimal).oauth, config.oauth)
})

t.test('every option is read from its environment variable', async t => {
  const config = load({
    ...production,
    MCP_PATH: '/drupal/mcp',
    MCP_SERVER_PORT: '8443',
    MCP_SERVER_HOST: '0.0.0.0',
    OAUTH_DEVICE_FLOW_ENABLED: 'No',
    OAUTH_ISSUER: 'https://www.example.org/, https://id.example.org/realms/a ,',
    OAUTH_SCOPES: 'read:tutorials,write:tutorials',
    OAUTH_AUDIENCE: 'clients: a , b',
    DRUPAL_QUEUE_TIMEOUT: ' 0.5 ',
    ALLOWED_HOSTS: 'MCP.example.net,[::1]',
    ALLOWED_ORIGINS: 'https://Claude.ai,vscode-webview://abc',
    TRUSTED_PROXIES: '10.0.0.0/8,::1,fd00::/8,loopback',
    LIMIT_CLIENT: '50/2h',
    LIMIT_SESSION: 'off'
  })
  t.equal(config.server.port, 8443)
  t.equal(config.server.host, '0.0.0.0')
  t.equal(config.oauth.deviceFlowEnabled, false)
  t.strictSame(config.oauth.issuers, [
    'https://www.example.org/',
    'https://id.example.org/realms/a'
  ])
  t.strictSame(config.oauth.scopes, ['read:tutorials', 'write:tutorials'])
  t.strictSame(config.derived.audience, { kind: 'clients', clientIds: ['a', 'b'] })
  t.equal(config.drupal.queueTimeoutSeconds, 0.5)
  t.strictSame(config.server.allowedHosts, ['mcp.example.net', '[::1]'])
  t.strictSame(config.server.allowedOrigins, ['https://claude.ai', 'vscode-webview://abc'])
  t.strictSame(config.derived.budgets.client, { max: 50, windowMs: 7_200_000 })
  t.equal(config.derived.budgets.session, null)
  t.equal(config.derived.resource, 'https://mcp.example.org/drupal/mcp')
  const names = options.map(option => option.schema.env).filter(name => name !== undefined)
  t.equal(new Set(names).size, names.length, 'no two options share a variable')
  const withoutName = options.filter(({ schema }) => schema.env === undefined)
  t.strictSame(
    withoutName.map(({ path }) => path),
    ['policy.tools']
  )
})

t.test('hosts and origins are compared as clients send them, however they are written', t => {
  const { server } = loadConfig({
    env: {
      DRUPAL_URL: 'https://www.example.org',
      ALLOWED_HOSTS: '[2001:DB8:0:0::1],[:::],Other.example',
      ALLOWED_ORIGINS:
        'https://App.example:443,http://a.example:80,https://b.example:8443,https://münchen.example,https://c.example:99999,VSCode-webview://abc'
    }
  })
  t.strictSame(server.allowedHosts, ['[2001:db8::1]', '[:::]', 'other.example'])
  t.strictSame(server.allowedOrigins, [
    'https://app.example',
    'http://a.example',
    'https://b.example:8443',
    'https://xn--mnchen-3ya.example',
    'https://c.example:99999',
    'vscode-webview://abc'
  ])
  t.end()
})

t.test('booleans are true, false, 1, 0, yes, no, on, off, in any case', async t => {
  for (const [text, value] of Object.entries({
    TRUE: true,
    1: true,
    yes: true,
    On: true,
    false: false,
    0: false,
    no: false,
    ' off ': false
  }))
    t.equal(load({ ...minimal, OAUTH_DEVICE_FLOW_ENABLED: text }).oauth.deviceFlowEnabled, value)
  only(t, refused(t, { ...minimal, OAUTH_DEVICE_FLOW_ENABLED: 'never' }), [
    /^oauth.deviceFlowEnabled \(OAUTH_DEVICE_FLOW_ENABLED\): must be true or false \(.*yes, no, on, off/
  ])
})

t.test('an empty variable counts as unset', async t => {
  const config = load(
    {
      ...minimal,
      MCP_SERVER_PORT: '',
      SESSION_SECRET: '',
      SESSION_SECRET_FILE: ' ',
      OAUTH_CLIENT_SECRET: '  ',
      REDIS_URL: ' ',
      LOG_LEVEL: ' '
    },
    'server: { port: 4000 }'
  )
  t.equal(config.server.port, 4000)
  t.equal(config.log.level, 'info')
  t.equal(config.oauth.clientSecret, '')
  t.equal(config.redisUrl, '')
  only(t, refused(t, { DRUPAL_URL: '' }), [
    /^drupal.url \(DRUPAL_URL\): is required. Set it to a URL/
  ])
})

t.test('numbers are strict: no unit, sign, exponent or hex; bounds are named', async t => {
  for (const text of ['300s', '1e3', '0x10', '+1', '١', '1_000', '.5', 'NaN', 'Infinity'])
    only(t, refused(t, { ...minimal, OAUTH_TOKEN_CACHE_TTL: text }), [
      /^oauth.tokenCacheTtlSeconds \(OAUTH_TOKEN_CACHE_TTL\): must be a number of seconds from 0 to 86400/
    ])
  only(t, refused(t, { ...minimal, MCP_SERVER_PORT: '70000' }), [
    /a whole number from 0 to 65535\.$/
  ])
  only(t, refused(t, { ...minimal, MCP_SERVER_PORT: '80.5' }), [
    /a whole number from 0 to 65535\.$/
  ])
  only(t, refused(t, { ...minimal, MCP_SERVER_PORT: 'tcp://10.0.0.1:3000' }), [
    /enableServiceLinks: false/
  ])
})

t.test(
  'a listener is an address or a name, so that --check finds what could never be listened on',
  async t => {
    for (const host of [
      '0.0.0.0',
      '::',
      '[::1]',
      'fe80::1%eth0',
      'localhost',
      'gateway_1.internal'
    ])
      t.equal(load({ ...minimal, MCP_SERVER_HOST: host }).server.host, host)
    for (const host of ['0.0.0.0:3000', 'http://0.0.0.0', '*', '[::', 'a b'])
      only(t, refused(t, { ...minimal, ADMIN_HOST: host }), [
        /^server\.adminHost \(ADMIN_HOST\): must be an address or a host name, without scheme and port\.$/
      ])
    only(t, refused(t, { ...minimal, MCP_SERVER_HOST: '"0.0.0.0"' }), [/Remove the quotes/])
  }
)

t.test('the environment wins over the file, the file over the defaults', async t => {
  const yaml = 'drupal: { url: https://file.example.org, maxQueue: 7 }\nserver: { port: 4000 }'
  const config = load({ MCP_SERVER_PORT: '5000' }, yaml)
  t.equal(config.server.port, 5000)
  t.equal(config.drupal.maxQueue, 7)
  t.equal(config.drupal.url, 'https://file.example.org')
  t.equal(config.drupal.maxConcurrency, 32)
})

t.test('the file is YAML or JSON, named by argument or GATEWAY_CONFIG', async t => {
  const dir = t.testdir({
    'a.json': '{\n\t"drupal": {\n\t\t"url": "https://json.example.org"\n\t}\n}\n',
    'b.yaml':
      'drupal:\n  url: https://yaml.example.org\nlimits:\n  client: off\nserver:\n  # port: 1\n'
  })
  const json = join(dir, 'a.json')
  t.equal(loadConfig({ env: {}, file: json }).drupal.url, 'https://json.example.org')
  const yaml = loadConfig({ env: { GATEWAY_CONFIG: join(dir, 'b.yaml') } })
  t.equal(yaml.drupal.url, 'https://yaml.example.org')
  t.equal(yaml.derived.budgets.client, null)
  t.equal(yaml.server.port, 3000, 'a blank group is as good as none')
  const both = { env: { GATEWAY_CONFIG: join(dir, 'b.yaml') }, file: json }
  t.equal(loadConfig(both).drupal.url, 'https://json.example.org')
  t.equal(load(minimal, '').server.port, 3000, 'an empty file is legal')
})

t.test('a file that cannot be used is one problem, with its place and no excerpt', async t => {
  const secret = 'hunter2-hunter2'
  const cases: [string, RegExp][] = [
    [`drupal:\n\turl: "${secret}`, /is not valid YAML or JSON at line 2, column \d+ \(.+\)\.$/],
    [`a: 1\n"${secret}" b: 2`, /not valid YAML or JSON at line 2/],
    ['a: 1\na: 2', /line 2, column 1 \(duplicate key\)/],
    ['- a', /must hold options/],
    ['just a text', /must hold options/],
    ['a: &x { b: 1 }\nc: *x', /must not use YAML aliases/],
    ['a: &x { b: *x }', /must not use YAML aliases/],
    ['a: 1\npolicy: !!omap [tools: 1]', /has a YAML tag .* at line 2, column 9: remove/],
    ['policy:\n  tools: !!set { x }', /a YAML tag .* at line 2/],
    ['policy: !!timestamp 2001-12-14', /a YAML tag/],
    ['policy: !!binary aGVsbG8=', /a YAML tag/],
    ['policy: !mine { x: 1 }', /a YAML tag/],
    ['%FOO 1\n---\na: 1', /at line 1, column 1 \(bad directive\)/]
  ]
  for (const [yaml, line] of cases) {
    const found = refused(t, {}, yaml)
    t.equal(found.length, 1, 'and nothing is reported as missing')
    t.match(found[0], /^configuration file gateway\.yaml: /)
    t.match(found[0], line)
    t.notMatch(found.join(), secret)
  }
  only(
    t,
    problems(t, {
      env: { GATEWAY_CONFIG: join(t.testdirName, 'none.yaml'), MCP_SERVER_PORT: 'x' }
    }),
    [/none\.yaml: cannot be read \(ENOENT\)\. Check the path/, /^server\.port \(MCP_SERVER_PORT\)/]
  )
  t.match(
    refused(t, minimal, '%YAML 1.1\n---\npolicy: 2001-12-14'),
    [/^policy: must be a group/],
    'no date of an older YAML'
  )
  const tagged = 'siteName: !!str 5\nserver: !!map { port: !!int 4000 }'
  t.match(load(minimal, tagged), { siteName: '5', server: { port: 4000 } }, 'core tags')
  const readFile = () => {
    throw new Error('boom')
  }
  only(t, problems(t, { env: {}, file: 'x', readFile }), [/\(unknown error\)/])
})

t.test('every problem is reported at once, each with option, variable and what to do', async t => {
  const error = t.throws(() =>
    load(
      {
        NODE_ENV: 'production',
        DRUPAL_ULR: 'https://www.example.org',
        GATEWAY_PUBLIC_URL: 'http://mcp.example.org',
        MCP_SERVER_PORT: 'three thousand',
        OAUTH_VALIDATION: 'introspection',
        SESSION_SECRET: 'short'
      },
      'limits: { session: many }\nserver: 3\nlog: { levle: info }'
    )
  ) as unknown as ConfigError
  only(t, error.problems, [
    /^server: must be a group of options/,
    /^server\.port \(MCP_SERVER_PORT\): must be a whole number/,
    /^drupal\.url \(DRUPAL_URL\): is required/,
    /^limits\.session \(LIMIT_SESSION\): must be a budget such as/,
    /^log\.levle: unknown option\. Did you mean log\.level\?/,
    /^publicUrl \(GATEWAY_PUBLIC_URL\): must begin with https:\/\/ in production/,
    /^oauth\.validation \(OAUTH_VALIDATION\): introspection needs oauth\.clientId \(OAUTH_CLIENT_ID\) and oauth\.clientSecret/,
    /^session\.secrets \(SESSION_SECRET or SESSION_SECRET_FILE\): secret 1 must have at least 32/
  ])
  only(t, error.hints, [/^DRUPAL_ULR: .* Did you mean DRUPAL_URL \(drupal\.url\)\?/])
  t.match(error.message, /^The configuration has 8 problems\.\n- server: .*\n- DRUPAL_ULR: /s)
  t.equal(error.name, 'ConfigError')
  t.match(
    t.throws(() => load({})),
    { message: /^The configuration has 1 problem\.\n- drupal\.url/ }
  )
})

t.test('unknown keys are refused with a suggestion', async t => {
  const cases: [string, string][] = [
    ['drupal: { urll: x }', 'drupal.urll: unknown option. Did you mean drupal.url?'],
    ['sitename: x', 'sitename: unknown option. Did you mean siteName?'],
    [
      'callTimeoutSeconds: 3',
      'callTimeoutSeconds: unknown option. Did you mean drupal.callTimeoutSeconds?'
    ],
    ['LOG_LEVEL: debug', 'LOG_LEVEL: unknown option. Did you mean log.level?'],
    ['colour: red', 'colour: unknown option. Remove it, or see config/gateway.example.yaml.'],
    [
      '__proto__: { polluted: 1 }',
      '__proto__: unknown option. Remove it, or see config/gateway.example.yaml.'
    ],
    [
      'server: { constructor: 1 }',
      'server.constructor: unknown option. Remove it, or see config/gateway.example.yaml.'
    ],
    [
      'policy: { tools: { a: { scope: [x] } } }',
      'policy.tools.a.scope: unknown option. Did you mean policy.tools.a.scopes?'
    ],
    [
      'policy: { tools: { a/b~: {} } }',
      'policy.tools.a/b~: not a name or pattern of tools. Use letters, digits and . _ * -, 128 at most.'
    ],
    [
      '"bad\\nkey": 1',
      '"bad\\nkey": unknown option. Remove it, or see config/gateway.example.yaml.'
    ]
  ]
  for (const [yaml, line] of cases) t.strictSame(refused(t, minimal, yaml), [line])
  t.equal(({} as { polluted?: number }).polluted, undefined)
})

t.test('wrong types and shapes in the file are named by what is legal', async t => {
  const cases: [string, RegExp][] = [
    ['server: { port: "80" }', /^server\.port \(MCP_SERVER_PORT\): must be a whole number/],
    ['oauth: { issuers: https://a.example }', /^oauth\.issuers \(OAUTH_ISSUER\): must be a list/],
    [
      'oauth: { algorithms: [RS256, HS256] }',
      /^oauth\.algorithms \(OAUTH_ALGORITHMS\), entry 2: must be one of RS256/
    ],
    ['oauth: { algorithms: [] }', /must be a list of RS256, PS256, ES256, EdDSA, at least one/],
    [
      'oauth: { scopes: ["read write"] }',
      /entry 1: must be one scope, without spaces.*\. Put commas between entries, not spaces\.$/
    ],
    ['policy: { tools: [] }', /^policy\.tools: must be rules by tool name/],
    ['policy: { tools: { a: 1 } }', /^policy\.tools\.a: must be a group of options/],
    ['policy: { tools: { a: { level: maybe } } }', /^policy\.tools\.a\.level: must be one of none/],
    [
      'policy: { tools: { a: { scopes: ["x y"] } } }',
      /^policy\.tools, entry|^policy\.tools\.a\.scopes/
    ],
    [
      'policy: { tools: { a: { level: none, scopes: [x] } } }',
      /^policy\.tools: a has level none and scopes/
    ],
    ['oauth: { deviceFlowEnabled: maybe }', /must be true or false/],
    ['server: { allowedOrigins: ["https://a.example/"] }', /entry 1: must be an origin such as/],
    ['server: { allowedHosts: ["a.example:80"] }', /entry 1: must be a host name without scheme/],
    ['limits: { client: 0/1m }', /must be a budget/],
    [
      'oauth: { audience: "clients:" }',
      /^oauth\.audience \(OAUTH_AUDIENCE\): must be drupal, resource or clients:/
    ],
    ['oauth: { audience: "clients: , " }', /must be drupal, resource or clients:/]
  ]
  for (const [yaml, line] of cases) only(t, refused(t, minimal, yaml), [line], yaml)
  for (const proxy of [
    '0.0.0.0/0',
    '::/0',
    '10.0.0.0/33',
    '1.2.3',
    '::1/129',
    '10.0.0.0/8/8',
    'everyone',
    '10.0.0.1/'
  ])
    only(t, refused(t, { ...minimal, TRUSTED_PROXIES: proxy }), [
      /entry 1: must be an address, a CIDR/
    ])
  const rules = load(
    minimal,
    'policy: { tools: { "x_*": { weight: 5, budget: 10/1m, level: none } } }'
  )
  t.strictSame(rules.policy.tools, { 'x_*': { weight: 5, budget: '10/1m', level: 'none' } })
})

t.test('secrets come by variable or file, never both, never in the configuration file', async t => {
  const dir = t.testdir({
    client: 's3cret\r\n',
    session: `${strong}\n`,
    empty: '\n',
    redis: 'rediss://:pw@cache'
  })
  const file = (name: string) => join(dir, name)
  const config = load({
    ...minimal,
    OAUTH_CLIENT_SECRET_FILE: file('client'),
    SESSION_SECRET_FILE: file('session'),
    REDIS_URL_FILE: file('redis')
  })
  t.equal(config.oauth.clientSecret, 's3cret', 'the newline at the end is no part of it')
  t.strictSame(config.session.secrets, [strong])
  t.equal(config.redisUrl, 'rediss://:pw@cache')
  t.strictSame(load({ ...minimal, SESSION_SECRET: `${strong}, other` }).session.secrets, [
    strong,
    'other'
  ])

  const found = refused(t, {
    ...production,
    SESSION_SECRET_FILE: file('session'),
    OAUTH_CLIENT_SECRET_FILE: file('missing'),
    REDIS_URL_FILE: file('empty')
  })
  only(t, found, [
    /^oauth\.clientSecret .*: the file that OAUTH_CLIENT_SECRET_FILE names cannot be read \(ENOENT\)/,
    /^session\.secrets .*: both SESSION_SECRET and SESSION_SECRET_FILE are set: keep one/,
    /^redisUrl .*: the file that REDIS_URL_FILE names is empty/
  ])
  only(
    t,
    refused(
      t,
      minimal,
      'redisUrl: redis://:pw@h\noauth: { clientSecret: abcdef }\nsession: { secrets: [x] }'
    ),
    [/^oauth\.clientSecret .* only by environment or \*_FILE/, /^session\.secrets/, /^redisUrl/]
  )
})

t.test('no value of the configuration is ever printed', async t => {
  const canary = 'CANARYcanary'
  const env = Object.fromEntries(
    options.map(({ schema }) => [schema.env ?? 'DRUPAL_ULR', `https://u:${canary}@h x"`])
  )
  const tree = JSON.stringify({
    oauth: { clientSecret: canary, audience: canary, scopes: [`${canary} x`] },
    session: { secrets: [canary] },
    redisUrl: canary,
    policy: { tools: { a: { budget: canary, level: canary } } }
  })
  const texts = [{ env }, { env: minimal, file: 'f', readFile: () => tree }].map(
    each => (t.throws(() => loadConfig(each)) as unknown as Error).message
  )
  t.ok(texts.every(text => text.length > 300))
  t.notMatch(texts.join(), canary)
  const development = {
    ...minimal,
    SESSION_SECRET: canary,
    REDIS_URL: `redis://:${canary}@db.example.org`
  }
  t.notMatch(warnings(development).join(), canary)
})

t.test('URLs are made canonical; a sub-directory is kept', async t => {
  const config = load({
    DRUPAL_URL: 'HTTPS://Example.org:443/cms/',
    DRUPAL_INTERNAL_URL: 'http://drupal:8080/',
    GATEWAY_PUBLIC_URL: 'https://mcp.example.org/gw/',
    DRUPAL_MCP_PATH: '/de/mcp/'
  })
  t.equal(config.drupal.url, 'https://example.org/cms')
  t.equal(config.drupal.internalUrl, 'http://drupal:8080')
  t.equal(config.derived.drupalConnectUrl, 'http://drupal:8080')
  t.equal(config.publicUrl, 'https://mcp.example.org/gw')
  t.equal(config.drupal.mcpPath, '/de/mcp')
  t.equal(config.derived.resource, 'https://mcp.example.org/gw/mcp', 'R85: no slash at the end')
  t.equal(
    config.derived.resourceMetadataUrl,
    'https://mcp.example.org/.well-known/oauth-protected-resource/gw/mcp'
  )
  t.equal(load(minimal).derived.drupalConnectUrl, 'https://www.example.org')
  t.equal(load(minimal).drupal.mcpPath, '/mcp/tools', 'the default of upstream jsonrpc')
  t.equal(load({ ...minimal, DRUPAL_UPSTREAM: 'mcp' }).drupal.mcpPath, '/mcp')
  const root = { ...minimal, DRUPAL_MCP_PATH: '/' }
  t.equal(
    load({ ...root, DRUPAL_UPSTREAM: 'mcp' }).drupal.mcpPath,
    '/',
    'the root, not the default'
  )
  t.equal(load(root).drupal.mcpPath, '', 'tools at the root')
  t.equal(
    load({ ...minimal, DRUPAL_MCP_PATH: '/über/%20mcp' }).drupal.mcpPath,
    '/%C3%BCber/%20mcp',
    'as a request may name it'
  )
  only(t, refused(t, { ...minimal, DRUPAL_MCP_PATH: ':99999999' }), [
    /^drupal\.mcpPath .*: must be a path/
  ])
})

t.test('URLs with a query, fragment, credentials or another scheme are refused', async t => {
  const cases: [string, RegExp][] = [
    ['https://a.example/?x=1', /must not have a query or fragment/],
    ['https://a.example/?', /must not have a query or fragment/],
    ['https://a.example#', /must not have a query or fragment/],
    ['https://user:pw@a.example', /must not hold a user name or password/],
    ['https://@a.example', /must not hold a user name or password/],
    ['ftp://a.example', /must be an absolute URL/],
    ['a.example', /must be an absolute URL/],
    ['//a.example', /must be an absolute URL/],
    ['https:/a.example', /must be an absolute URL/],
    ['https:///a.example', /must be an absolute URL/],
    ['https:\\\\a.example', /must be an absolute URL/],
    ['https://a.example/\\b', /must be an absolute URL/],
    ['https://a b', /must be an absolute URL/],
    ['https://a.example:99999', /must be an absolute URL/],
    ['"https://a.example"', /Remove the quotes around the value\.$/]
  ]
  for (const [url, line] of cases) {
    for (const name of [
      'DRUPAL_URL',
      'DRUPAL_INTERNAL_URL',
      'GATEWAY_PUBLIC_URL',
      'OAUTH_ISSUER'
    ]) {
      const [problem = '', ...others] = refused(t, { ...minimal, [name]: url })
      t.match(problem, line, `${name} ${url}`)
      t.match(problem, `(${name})`)
      t.strictSame(others, [])
    }
  }
  only(t, refused(t, {}, 'drupal: { url: "" }'), [/^drupal\.url/])
})

t.test('the MCP path is a plain path that shadows none of ours', async t => {
  const cases: [string, RegExp][] = [
    ['/mcp/', /must be a path such as \/mcp/],
    ['mcp', /must be a path/],
    ['/', /must be a path/],
    ['/a%2fb', /must be a path/],
    ['/a//b', /must not hold \/\//],
    ['//b', /must not hold \/\//],
    ['/a/../b', /must not hold/],
    ['/a/.', /must not hold/],
    ['/.well-known/x', /at or below \/\.well-known/],
    ['/livez', /at or below \/livez/],
    ['/readyz/x', /at or below \/readyz/]
  ]
  for (const [path, line] of cases)
    only(t, refused(t, { ...minimal, MCP_PATH: path }), [line], path)
  t.equal(load({ ...minimal, MCP_PATH: '/livezz' }).mcpPath, '/livezz')
})

t.test('the public URL has a default on this machine only', async t => {
  t.equal(load({ ...minimal, MCP_SERVER_PORT: '8080' }).publicUrl, 'http://localhost:8080')
  const { GATEWAY_PUBLIC_URL: _, ...without } = production
  only(t, refused(t, without), [/^publicUrl \(GATEWAY_PUBLIC_URL\): is required in production/])
  only(t, refused(t, { ...minimal, MCP_SERVER_PORT: '0' }), [
    /^publicUrl .*: is required when server\.port \(MCP_SERVER_PORT\) is 0/
  ])
  const free = { ...minimal, MCP_SERVER_PORT: '0', GATEWAY_PUBLIC_URL: 'http://localhost:1234' }
  t.equal(load(free).publicUrl, 'http://localhost:1234')
})

t.test('production refuses clear text, weak secrets and metrics in public', async t => {
  t.strictSame(load(production).environment, 'production')
  const { SESSION_SECRET: _, ...without } = production
  only(t, refused(t, without), [/^session\.secrets .*: is required in production.*openssl rand/])
  const weak: [string, RegExp][] = [
    ['short', /secret 1 must have at least 32 characters/],
    [`${strong},${'abc'.repeat(20)}`, /secret 2 must have at least 10 different/],
    ['0123456789abcdef'.repeat(2), /secret 1 must not repeat one part/],
    [placeholderSecret, /must not be the placeholder/]
  ]
  for (const [secret, line] of weak)
    only(t, refused(t, { ...production, SESSION_SECRET: secret }), [line])
  only(t, refused(t, { ...production, GATEWAY_PUBLIC_URL: 'http://localhost:3000' }), [
    /^publicUrl .*: must begin with https/
  ])
  only(t, refused(t, { ...production, ADMIN_PORT: '3000' }), [
    /^server\.adminPort \(ADMIN_PORT\): must not be the public port server\.port \(MCP_SERVER_PORT\)/
  ])
  only(t, refused(t, { ...production, DRUPAL_URL: 'http://www.example.org' }), [
    /^drupal\.url .*: must begin with https:\/\/ in production.*DRUPAL_INTERNAL_URL/
  ])
  only(t, refused(t, { ...production, OAUTH_ISSUER: 'https://a.example,http://b.example' }), [
    /^oauth\.issuers .*: entry 2 must begin with https/
  ])
  only(t, refused(t, { ...production, NODE_ENV: 'prod' }), [
    /^environment \(NODE_ENV\): must be one of production, development, test/
  ])
})

t.test('outside production the same settings start, with a warning', async t => {
  const found = warnings({ DRUPAL_URL: 'http://www.example.org', SESSION_SECRET: 'short' })
  only(t, found, [
    /^drupal\.url .*: is http/,
    /^oauth\.audience/,
    /^session\.secrets .*: secret 1 must .*refused in production/
  ])
  const first = load(minimal)
  t.equal(first.session.secrets.length, 1)
  t.ok((first.session.secrets[0] ?? '').length >= 43)
  t.not(load(minimal).session.secrets[0], first.session.secrets[0], 'one per process and load')
  t.match(first.derived.warnings.join('\n'), /session\.secrets .*: is not set, so one was made/)
})

t.test('a hop in clear text is told by how far it goes', async t => {
  const line = /drupal\.(url|internalUrl) .*: is http/
  for (const host of [
    'drupal',
    'drupal.web.svc',
    'drupal.web.svc.cluster.local',
    '10.1.2.3',
    '192.168.0.4',
    '[fd00::1]',
    '169.254.1.1',
    '172.31.0.1'
  ])
    t.match(warnings({ ...production, DRUPAL_URL: `http://${host}` }).join('\n'), line, host)
  for (const host of ['localhost', 'a.localhost', '127.8.8.8', '[::1]'])
    t.notMatch(warnings({ ...production, DRUPAL_URL: `http://${host}` }).join('\n'), line, host)
  for (const host of ['203.0.113.5', '[2001:db8::1]', 'a.example', '172.32.0.1', 'svc.example.'])
    only(t, refused(t, { ...production, DRUPAL_URL: `http://${host}` }), [/^drupal\.url/], host)
  const internal = { ...production, DRUPAL_INTERNAL_URL: 'http://drupal:8080' }
  t.match(warnings(internal).join('\n'), /drupal\.internalUrl \(DRUPAL_INTERNAL_URL\): is http/)
  t.notMatch(warnings({ ...internal, DRUPAL_INTERNAL_URL: 'https://drupal' }).join('\n'), line)
})

t.test('R86 an audience policy weaker than resource is named with its risk', async t => {
  only(t, warnings(production), [
    /^oauth\.audience \(OAUTH_AUDIENCE\): is drupal, weaker than resource/
  ])
  only(t, warnings({ ...production, OAUTH_AUDIENCE: 'clients:a' }), [
    /is a list of clients, weaker than resource/
  ])
  t.strictSame(
    warnings({ ...production, OAUTH_AUDIENCE: 'resource' }),
    [],
    'a strict configuration is quiet'
  )
})

t.test('other risks are warned about by name', async t => {
  const strict = { ...production, OAUTH_AUDIENCE: 'resource' }
  const cases: [Env, RegExp][] = [
    [
      { GATEWAY_PUBLIC_URL: 'https://mcp.example.org/mcp/' },
      /^publicUrl .*: ends in mcpPath .*https:\/\/mcp\.example\.org\/mcp\/mcp\./
    ],
    [{ ALLOWED_ORIGINS: '*' }, /^server\.allowedOrigins/],
    [{ AUTH_ANONYMOUS: 'public-tools', POLICY_UNANNOTATED: 'none' }, /^oauth\.anonymous/],
    [{ REDIS_URL: 'redis://db.example.org' }, /^redisUrl/],
    [{ LIMIT_PRINCIPAL: 'off' }, /^limits\.principal/],
    [{ LIMIT_FAILURES: 'off' }, /^limits\.failures/],
    [{ NODE_ENV: 'development' }, /^environment \(NODE_ENV\): is development although publicUrl/],
    // A second one was appended as a line of its own.
    [
      {
        SESSION_SECRET: `${strong}\n${strong.toLowerCase()}`
      },
      /^session\.secrets .*: holds a line break/
    ]
  ]
  for (const [env, line] of cases) {
    const found = warnings({ ...strict, ...env })
    only(t, found, [line])
  }
  t.strictSame(
    warnings({ ...strict, REDIS_URL: 'redis://valkey:6379', AUTH_ANONYMOUS: 'public-tools' }),
    []
  )
  const list = `${strong},\n${strong.toLowerCase()}\n`
  t.strictSame(warnings({ ...strict, SESSION_SECRET: list }), [])
})

t.test('variables that look like a slip are warned about, those of neighbours are not', async t => {
  const found = warnings({
    ...production,
    OAUTH_AUDIENCE: 'resource',
    OAUTH_TOKEN_CACHE_TLL: '3',
    DRUPAL_ULR: 'x',
    GATEWAY_CONFG: 'x',
    SESSION_SECRETS_FILE: 'x',
    DRUPAL_URL_FILE: 'x',
    DRUPAL_PORT: 'tcp://10.0.0.1:80',
    DRUPAL_SERVICE_HOST: '10.0.0.1',
    REDIS_PORT_6379_TCP_ADDR: '10.0.0.1',
    OAUTH_SOMETHING_ELSE: 'x',
    PATH: '/bin',
    DRUPAL_URI_OF_A_NEIGHBOUR_THAT_IS_LONGER_THAN_ANY_NAME_OF_OURS_IN_HERE: 'x'
  })
  only(t, found, [
    /^OAUTH_TOKEN_CACHE_TLL: .* Did you mean OAUTH_TOKEN_CACHE_TTL \(oauth\.tokenCacheTtlSeconds\)\?/,
    /^DRUPAL_ULR: .* Did you mean DRUPAL_URL \(drupal\.url\)\?/,
    /^GATEWAY_CONFG: .* Did you mean GATEWAY_CONFIG\?/,
    /^SESSION_SECRETS_FILE: .* Did you mean SESSION_SECRET_FILE/,
    /^DRUPAL_URL_FILE: not read, only secrets are read from files\. Set DRUPAL_URL itself/
  ])
})

t.test('TLS needs both files, and they must hold what they say', async t => {
  const dir = t.testdir({
    'cert.pem': '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n',
    'key.pem': '-----BEGIN EC PRIVATE KEY-----\nMIIB\n-----END EC PRIVATE KEY-----\n'
  })
  const TLS_CERT_FILE = join(dir, 'cert.pem')
  const TLS_KEY_FILE = join(dir, 'key.pem')
  t.equal(load({ ...minimal, TLS_CERT_FILE, TLS_KEY_FILE }).publicUrl, 'https://localhost:3000')
  only(t, refused(t, { ...minimal, TLS_CERT_FILE }), [
    /^server\.tlsKeyFile \(TLS_KEY_FILE\): is required with server\.tlsCertFile/
  ])
  only(t, refused(t, { ...minimal, TLS_KEY_FILE }), [
    /^server\.tlsCertFile \(TLS_CERT_FILE\): is required with server\.tlsKeyFile/
  ])
  only(
    t,
    refused(t, { ...minimal, TLS_CERT_FILE: TLS_KEY_FILE, TLS_KEY_FILE: join(dir, 'none') }),
    [
      /^server\.tlsCertFile .*: the file must hold a PEM certificate chain/,
      /^server\.tlsKeyFile .*: the file cannot be read \(ENOENT\)/
    ]
  )
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  for (const type of ['pkcs8', 'sec1'] as const) {
    const lock = { cipher: 'aes-256-cbc', passphrase: 'x' }
    const locked = privateKey.export({ type, format: 'pem', ...lock })
    writeFileSync(TLS_KEY_FILE, locked)
    only(t, refused(t, { ...minimal, TLS_CERT_FILE, TLS_KEY_FILE }), [
      /^server\.tlsKeyFile .*: the file must hold a PEM private key without a passphrase/
    ])
  }
})

t.test('a pinned key must be a public one, as SPKI', async t => {
  const rsa = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    publicKeyEncoding: { type: 'pkcs1', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' }
  })
  const pair = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' }
  })
  const dir = t.testdir({
    'public.pem': pair.publicKey,
    'private.pem': pair.privateKey,
    'both.pem': pair.publicKey + pair.privateKey,
    'text.pem': 'hello',
    'pkcs1.pem': rsa.publicKey,
    'certificate.pem': rootCertificates[0]!
  })
  const pinned = (name: string) => ({ ...minimal, OAUTH_PUBLIC_KEY_FILE: join(dir, name) })
  t.equal(load(pinned('public.pem')).oauth.publicKeyFile, join(dir, 'public.pem'))
  for (const name of ['private.pem', 'both.pem', 'text.pem', 'pkcs1.pem', 'certificate.pem'])
    only(t, refused(t, pinned(name)), [
      /^oauth\.publicKeyFile .*: the file must hold a PEM public key that begins with BEGIN PUBLIC KEY/
    ])
  only(t, refused(t, pinned('none.pem')), [/cannot be read \(ENOENT\)/])
})

t.test('introspection needs a client', async t => {
  const client = { OAUTH_CLIENT_ID: 'gateway', OAUTH_CLIENT_SECRET: 's' }
  for (const mode of ['introspection', 'both']) {
    t.equal(load({ ...minimal, ...client, OAUTH_VALIDATION: mode }).oauth.validation, mode)
    only(t, refused(t, { ...minimal, OAUTH_VALIDATION: mode, OAUTH_CLIENT_ID: 'gateway' }), [
      new RegExp(
        `^oauth\\.validation .*: ${mode} needs oauth\\.clientSecret \\(OAUTH_CLIENT_SECRET or OAUTH_CLIENT_SECRET_FILE\\):`
      )
    ])
  }
})

t.test('options that contradict each other are refused', async t => {
  only(t, refused(t, { ...minimal, DRUPAL_CALL_TIMEOUT: '3' }), [
    /^drupal\.connectTimeoutSeconds .*: must not be longer than drupal\.callTimeoutSeconds \(DRUPAL_CALL_TIMEOUT\)/,
    /^drupal\.headersTimeoutSeconds/
  ])
  const buffered =
    /^server\.maxBufferedBytes \(MAX_BUFFERED_BYTES\): .*server\.maxBodyBytes.* = 79691776/
  only(t, refused(t, { ...minimal, MAX_BUFFERED_BYTES: '79691775' }), [buffered])
  t.equal(load({ ...minimal, MAX_BUFFERED_BYTES: '79691776' }).server.maxBufferedBytes, 79_691_776)
  only(t, refused(t, { ...minimal, STREAM_MAX: '10' }), [/^streams\.heartbeatSeconds/])
  for (const url of [
    'http://h',
    'redis://',
    'valkey:6379',
    'redis:///x',
    '"redis://h"',
    ' redis://h'
  ])
    only(t, refused(t, { ...minimal, REDIS_URL: url }), [
      /^redisUrl .*: must be a URL that begins with redis:.*, without quotes and blanks around it/
    ])
})

t.test('REDIS_URL names a database by its number', async t => {
  for (const path of ['', '/', '/15'])
    t.equal(load({ ...minimal, REDIS_URL: `redis://h${path}` }).redisUrl, `redis://h${path}`)
  for (const path of ['/cache', '/0/1', '/-1', '/1.5'])
    only(t, refused(t, { ...minimal, REDIS_URL: `redis://h${path}` }), [
      /^redisUrl .*: must hold nothing but the number of a database/
    ])
})

t.test('a password in REDIS_URL that is not escaped is named, with what to write', async t => {
  for (const [url, problem] of [
    ['redis://:hunter2%zz@valkey:6379', /%25/],
    ['redis://:hunter2%@valkey:6379', /%25/],
    ['redis://hunter2%E0%A4:pw@valkey:6379', /%25/],
    ['redis://hunter2:12#34@valkey:6379', /%23/],
    ['redis://:12#hunter2@valkey:6379', /%23/],
    // As those of managed stores are.
    ['redis://:hunter2/ab=@valkey:6379', /%2F/],
    ['rediss://user:hunter2?b@valkey:6379', /%3F/],
    ['redis://:hunter2@c/d@valkey:6379', /%2F/]
  ] as const) {
    const found = refused(t, { ...minimal, REDIS_URL: url })
    only(t, found, [/^redisUrl \(REDIS_URL or REDIS_URL_FILE\): /], url)
    t.match(found[0], problem)
    t.notMatch(found.join(), /hunter2|12#|:pw/)
  }
  const escaped = 'redis://user:%25%23%2F@valkey:6379/0'
  t.equal(load({ ...minimal, REDIS_URL: escaped }).redisUrl, escaped)
})

t.test('budgets and audiences are read on their own too', async t => {
  t.strictSame(parseBudget('600/60s'), { max: 600, windowMs: 60_000 })
  t.equal(parseBudget('off'), null)
  for (const text of ['', '0/1s', '1/0s', '1/1d', '1/100h', '-1/1s', '1 / 1s', 'OFF'])
    t.throws(() => parseBudget(text), /must be max\/window such as/)
  t.strictSame(parseAudience('resource'), { kind: 'resource' })
  t.strictSame(parseAudience('drupal'), { kind: 'drupal' })
  for (const text of ['clients:', 'clients:,', 'any', ''])
    t.throws(() => parseAudience(text), /must be drupal, resource or clients:/)
})

t.test('a slip is two edits at most, a swap of neighbours counts as one', async t => {
  t.equal(editDistance('', 'abc'), 3)
  t.equal(editDistance('abc', ''), 3)
  t.equal(editDistance('ulr', 'url'), 1)
  t.equal(editDistance('kitten', 'sitting'), 3)
  t.equal(nearest('hsot', ['port', 'host', 'hosts']), 'host')
  t.equal(nearest('abc', ['xyz']), undefined)
  t.equal(nearest('x'.repeat(65), ['x'.repeat(64)]), undefined)
  t.equal(label('nowhere.at.all'), 'nowhere.at.all')
})
