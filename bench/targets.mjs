// Everybody who is measured: the gateway in its variants and its peers, each as production would run it, one process or worker.
// A target is started beside a site, and has the file of requests that its load sends.
import { writeFileSync } from 'node:fs'
import { freePort, start } from './child.mjs'
import { cores, node, program, root, workDir } from './machine.mjs'
import { initialize, message, writeRequests } from './requests.mjs'

/** As many callers as connections: each has a token, a user and a session of its own. */
const CALLERS = 64
const users = Array.from({ length: CALLERS }, (_, index) => String(index + 2))

export const sessionSecret = 'a-secret-of-the-benchmark-0123456789-abcdefghij'

/** Everything that production has on; the numbers are high enough that nobody is refused. */
function gatewayEnvironment(site, port, adminPort) {
  return {
    DRUPAL_URL: site.url,
    GATEWAY_PUBLIC_URL: `http://127.0.0.1:${port}`,
    MCP_SERVER_PORT: String(port),
    ADMIN_PORT: String(adminPort),
    SESSION_SECRET: sessionSecret,
    OAUTH_SCOPES: 'content:read',
    LIMIT_SESSION: '99999999/1h',
    LIMIT_PRINCIPAL: '99999999/1h',
    DRUPAL_MAX_CONCURRENCY: '512',
    DRUPAL_MAX_QUEUE: '1024',
    STREAMS_PER_PRINCIPAL: '10000',
    // The lists are asked for while warming up, and then not until the end.
    CATALOGUE_TTL: '3600'
  }
}

/** Starts the gateway; `flags` are Node's. Its log and its audit lines go to a file. */
export async function startGateway(
  site,
  { name, env = {}, flags = [], at, build = `${root}build` }
) {
  const port = at ?? (await freePort())
  const adminPort = await freePort()
  const process = await start({
    name,
    command: node,
    args: [...flags, `${build}/src/cli/main.js`, 'serve'],
    env: { ...gatewayEnvironment(site, port, adminPort), ...env },
    core: cores.measured,
    port
  })
  return { ...process, adminPort }
}

/** The calls of one target: one request for each caller. */
async function calls(site, port, { sessions, algorithm, tokenOf, method, name, era, path }) {
  const list = []
  for (const [index, user] of users.entries()) {
    const token = tokenOf?.(user, index) ?? site.token({ algorithm, user })
    const session = sessions ? await initialize({ port, path, token }) : undefined
    list.push(message({ port, path, token, id: index + 1, era, session, method, name }))
  }
  return list
}

/** A variant of the gateway. `era`: legacy or modern; `upstream`: jsonrpc or mcp. */
export function gateway(name, options = {}) {
  const {
    upstream = 'jsonrpc',
    era = 'legacy',
    env = {},
    flags,
    method = 'tools/call',
    build
  } = options
  const { tool = 'article_1k', algorithm = 'RS256', tokenOf } = options
  return {
    name,
    async start(site) {
      const process = await startGateway(site, {
        name,
        env: { DRUPAL_UPSTREAM: upstream, ...env },
        flags,
        build
      })
      const { port } = process
      const sessions = era === 'legacy'
      const called = method === 'tools/call' ? tool : undefined
      const list = await calls(site, port, {
        sessions,
        algorithm,
        tokenOf,
        method,
        name: called,
        era
      })
      return { name, process, port, file: writeRequests(name, list) }
    }
  }
}

/** A peer that relays /mcp and keeps no sessions, started by `launch(site, port)`. */
function relay(name, launch, { algorithm = 'RS256', tool = 'article_1k', era = 'legacy' } = {}) {
  return {
    name,
    async start(site) {
      const port = await freePort()
      const process = await start({ name, core: cores.measured, port, ...launch(site, port) })
      const call = { algorithm, method: 'tools/call', name: tool, era }
      const list = await calls(site, port, { sessions: false, ...call })
      return { name, process, port, file: writeRequests(name, list) }
    }
  }
}

function written(name, text) {
  const file = `${workDir}/${name}`
  writeFileSync(file, text)
  return file
}

const nodePeer = (script, site, port, env = {}) => ({
  command: node,
  args: [`${root}bench/peers/${script}`],
  env: {
    NODE_ENV: 'production',
    PORT: String(port),
    UPSTREAM: site.url,
    ISSUER: site.url,
    JWKS: written(`jwks-${port}.json`, JSON.stringify({ keys: site.jwks })),
    ...env
  }
})

export const httpProxy = (name = 'http-proxy', options = {}) =>
  relay(name, (site, port) => nodePeer('http-proxy.mjs', site, port), options)

export const httpProxyJose = (name, algorithm) =>
  relay(name, (site, port) => nodePeer('http-proxy.mjs', site, port, { VERIFY: '1' }), {
    algorithm
  })

export const nginx = (name = 'nginx', options = {}) =>
  relay(
    name,
    (site, port) => ({
      command: program('nginx'),
      args: [
        '-e',
        'stderr',
        '-p',
        workDir,
        '-c',
        written(`${name}.conf`, nginxConfig(site, port, name))
      ],
      env: {}
    }),
    options
  )

const nginxConfig = (
  site,
  port,
  name
) => `daemon off; worker_processes 1; pid ${workDir}/${name}.pid; user root;
events { worker_connections 8192; }
http {
  access_log off; keepalive_requests 100000000;
  client_body_temp_path ${workDir}/${name}-body; proxy_temp_path ${workDir}/${name}-proxy;
  fastcgi_temp_path ${workDir}/${name}-f; uwsgi_temp_path ${workDir}/${name}-u; scgi_temp_path ${workDir}/${name}-s;
  upstream site { server 127.0.0.1:${site.port}; keepalive 128; keepalive_requests 100000000; }
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://site; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_read_timeout 600s;
    }
  }
}
`

/** `algorithm` undefined: bare. Else the signature is verified on each call, and a stick table counts each token's rate. */
export const haproxy = (name = 'haproxy', options = {}) =>
  relay(
    name,
    (site, port) => ({
      command: program('haproxy'),
      args: ['-db', '-f', written(`${name}.cfg`, haproxyConfig(site, port, options.verify))],
      env: {}
    }),
    { ...options, algorithm: options.verify }
  )

const haproxyConfig = (site, port, algorithm) => `global
  nbthread 1
  maxconn 8000
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  option http-keep-alive
  http-reuse always
${
  algorithm === undefined
    ? ''
    : `backend callers
  stick-table type string len 128 size 100k expire 10m store http_req_rate(60s)
`
}frontend public
  bind 127.0.0.1:${port}
${algorithm === undefined ? '' : haproxyRules(site, algorithm)}  default_backend site
backend site
  server site 127.0.0.1:${site.port}
`

const haproxyRules = (site, algorithm) => `  http-request set-var(txn.bearer) http_auth_bearer
  http-request set-var(txn.alg) var(txn.bearer),jwt_header_query('$.alg')
  http-request set-var(txn.iss) var(txn.bearer),jwt_payload_query('$.iss')
  http-request set-var(txn.exp) var(txn.bearer),jwt_payload_query('$.exp','int')
  http-request set-var(txn.now) date()
  http-request deny deny_status 401 unless { var(txn.alg) -m str ${algorithm} }
  http-request deny deny_status 401 unless { var(txn.iss) -m str ${site.url} }
  http-request deny deny_status 401 if { var(txn.exp),sub(txn.now) -m int lt 0 }
  http-request deny deny_status 401 unless { var(txn.bearer),jwt_verify(txn.alg,"${site.publicKey[algorithm]}") 1 }
  http-request track-sc0 var(txn.bearer),jwt_payload_query('$.jti') table callers
  http-request deny deny_status 429 if { sc_http_req_rate(0) gt 99999999 }
`

export const apache = (name = 'apache') =>
  relay(name, (site, port) => ({
    command: program('apache'),
    args: ['-DFOREGROUND', '-f', written(`${name}.conf`, apacheConfig(site, port, name))],
    env: {}
  }))

const apacheConfig = (site, port, name) => `ServerRoot /usr/lib/apache2
Listen 127.0.0.1:${port}
ServerName 127.0.0.1
PidFile ${workDir}/${name}.pid
DefaultRuntimeDir ${workDir}
ErrorLog ${workDir}/${name}-error.log
LogLevel error
User www-data
Group www-data
${['mpm_event', 'authn_core', 'authz_core', 'authz_user', 'proxy', 'proxy_http', 'oauth2']
  .map(module => `LoadModule ${module}_module modules/mod_${module}.so`)
  .join('\n')}
StartServers 1
ServerLimit 1
ThreadsPerChild 128
ThreadLimit 128
MaxRequestWorkers 128
KeepAlive On
MaxKeepAliveRequests 0
OAuth2TokenVerify jwk ${JSON.stringify(JSON.stringify(site.jwks[0]))}
<Location />
  AuthType oauth2
  AuthName bench
  Require valid-user
  ProxyPass http://127.0.0.1:${site.port}/ max=128 keepalive=On
</Location>
`

/** The gateway that a user would write with the SDK: sessions, and few callers, because each costs a client and a server. */
export const sdkGateway = (name = 'sdk-gateway', env = {}) => ({
  name,
  async start(site) {
    const port = await freePort()
    const launched = nodePeer('sdk-gateway.mjs', site, port, env)
    const process = await start({ name, core: cores.measured, port, ...launched })
    const call = {
      sessions: env.STATELESS === undefined,
      method: 'tools/call',
      name: 'article_1k',
      era: 'legacy'
    }
    return { name, process, port, file: writeRequests(name, await calls(site, port, call)) }
  }
})
