// The stand-in for Drupal: what it says (metadata, keys, tools, results, streams), and tokens that its keys have signed.
import { generateKeyPairSync, randomBytes, sign } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { freePort, start } from './child.mjs'
import { cores, workDir } from './machine.mjs'

/** A result as Drupal's jsonrpc writes it, PHP's slashes and all, of about this many bytes. */
function articles(bytes) {
  const items = []
  for (let i = 1, size = 0; size < bytes - 160; i++) {
    const item = {
      id: i,
      title: `How to write the ${i}th article of a test`,
      url: `/tutorials/article-${i}`,
      summary: 'What a reader learns here, in one sentence, and no more than that.',
      published: true
    }
    items.push(item)
    size += JSON.stringify(item).length + 3
  }
  return JSON.stringify({ items, total: items.length }).replaceAll('/', '\\/')
}

function tools(count) {
  const list = []
  for (let i = 0; i < count; i++) {
    list.push({
      name: `filler_tool_${i}`,
      title: `Filler ${i}`,
      description:
        'Finds articles by words and language, and gives title, URL and summary of each.',
      inputSchema: {
        type: 'object',
        properties: { query: { type: 'string' }, langcode: { type: 'string' } },
        required: ['query']
      },
      annotations: { auth: { level: 'required', scopes: ['content:read'] } }
    })
  }
  return list
}

/** How long the tool `ticker` sends its 100 events a second. */
export const TICKER_SECONDS = 2

/** Milliseconds that the tool `work` keeps a worker of the site busy. */
export const WORK_MS = 20

export const sizes = { '1k': 1000, '10k': 10_000, '100k': 100_000 }

const jwk = (key, alg) => ({ ...key.export({ format: 'jwk' }), alg, use: 'sig' })
const base64url = value => Buffer.from(JSON.stringify(value)).toString('base64url')

/** Starts the stand-in with `toolCount` tools beside those that are called. */
export async function startSite({ toolCount = 20 } = {}) {
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const dir = `${workDir}/site-${port}`
  mkdirSync(dir, { recursive: true })
  const file = (name, text) => {
    writeFileSync(`${dir}/${name}`, typeof text === 'string' ? text : JSON.stringify(text))
    return `${dir}/${name}`
  }
  const keys = {
    RS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
    ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' })
  }
  const publicKey = {
    RS256: file('rs256.pem', keys.RS256.publicKey.export({ type: 'spki', format: 'pem' })),
    ES256: file('es256.pem', keys.ES256.publicKey.export({ type: 'spki', format: 'pem' }))
  }

  const rules = []
  const rule = (method, path, needle, answer, { status = 200, header = '-', stream = '' } = {}) =>
    rules.push([method, path, needle, status, header, answer, stream].join(' '))
  const metadata = file('metadata.json', {
    issuer: url,
    authorization_endpoint: `${url}/oauth/authorize`,
    token_endpoint: `${url}/oauth/token`,
    jwks_uri: `${url}/jwks`,
    introspection_endpoint: `${url}/introspect`,
    scopes_supported: ['content:read'],
    response_types_supported: ['code'],
    code_challenge_methods_supported: ['S256']
  })
  rule('GET', '/.well-known/', '-', metadata)
  rule('HEAD', '/.well-known/', '-', '-')
  const jwks = [jwk(keys.RS256.publicKey, 'RS256'), jwk(keys.ES256.publicKey, 'ES256')]
  rule('GET', '/jwks', '-', file('jwks.json', { keys: jwks }))
  const hour = Math.floor(Date.now() / 1000) + 86_400
  const active = { active: true, token_type: 'Bearer', scope: 'content:read', client_id: 'bench' }
  rule('POST', '/introspect', '-', file('active.json', { ...active, sub: '7', exp: hour }))

  const called = [...Object.keys(sizes).map(size => `article_${size}`), 'ticker', 'burst', 'work']
  const listed = tools(toolCount + called.length)
  for (const [index, name] of called.entries()) listed[index].name = name
  rule('GET', '/mcp/tools/list', '-', file('list.json', { tools: listed }))
  const rpc = (name, result) => file(name, `{"jsonrpc":"2.0","id":@ID@,"result":${result}}`)
  for (const [size, bytes] of Object.entries(sizes)) {
    const result = articles(bytes)
    const text = JSON.stringify({ content: [{ type: 'text', text: result }] })
    rule('POST', `/mcp/tools/article_${size}`, '-', rpc(`jsonrpc-${size}.json`, result))
    rule('POST', '/mcp', `"article_${size}"`, rpc(`mcp-${size}.json`, text))
  }
  // A worker that is busy for a while, as PHP is.
  const busy = { stream: `-1 ${WORK_MS * 1000}` }
  rule('POST', '/mcp/tools/work', '-', rpc('work.json', articles(1000)), busy)
  const event = file(
    'event.txt',
    `event: message\ndata: ${JSON.stringify({ jsonrpc: '2.0', method: 'notifications/message', params: { level: 'info', data: 'one step of a long work is done' } })}\n\n`
  )
  rule('POST', '/mcp', '"ticker"', event, { stream: `${TICKER_SECONDS * 100} 10000` })
  rule('POST', '/mcp', '"burst"', event, { stream: '1000 0' })
  // One event, then silence.
  rule('GET', '/mcp', '-', event, { stream: '2 3600000000' })
  const initialized = JSON.stringify({
    protocolVersion: '2025-11-25',
    capabilities: { tools: {} },
    serverInfo: { name: 'site', version: '1' }
  })
  const session = { header: 'Mcp-Session-Id:~session-of-the-site' }
  rule('POST', '/mcp', '"initialize"', rpc('initialize.json', initialized), session)
  rule('POST', '/mcp', '"tools/list"', rpc('mcp-list.json', JSON.stringify({ tools: listed })))
  rule('POST', '/mcp', '"notifications/', '-', { status: 202 })
  rule('DELETE', '/mcp', '-', '-')

  const upstream = await start({
    name: `upstream-${port}`,
    command: `${workDir}/upstream`,
    args: [String(port), file('rules.txt', `${rules.join('\n')}\n`)],
    core: cores.others,
    port
  })

  /** A token in Drupal's form (about 800 characters with RS256). */
  function token({ algorithm = 'RS256', user = '2' } = {}) {
    const now = Math.floor(Date.now() / 1000)
    const jti = randomBytes(40).toString('hex')
    const claims = {
      aud: 'bench-client',
      jti,
      iat: now,
      nbf: now,
      exp: now + 86_400,
      scope: ['content:read'],
      sub: user,
      iss: url
    }
    const input = `${base64url({ typ: 'JWT', alg: algorithm, jti })}.${base64url(claims)}`
    const key = { key: keys[algorithm].privateKey, dsaEncoding: 'ieee-p1363' }
    return `${input}.${sign('sha256', Buffer.from(input), key).toString('base64url')}`
  }

  return { port, url, upstream, publicKey, jwks, token }
}
