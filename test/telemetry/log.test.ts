import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, statSync } from 'node:fs'
import { request, createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Ajv2020 } from 'ajv/dist/2020.js'
import fc from 'fast-check'
import Fastify from 'fastify'
import t from 'tap'
import { gatewayError } from '../../src/errors.ts'
import { createAudit, type AuditEntry, type Caller } from '../../src/telemetry/audit.ts'
import { createLogger, openLogStream } from '../../src/telemetry/log.ts'
import { scrub, scrubStart } from '../../src/telemetry/scrub.ts'

/** A logger and what it wrote. */
function capture(level = 'trace') {
  const lines: string[] = []
  const logger = createLogger({
    level,
    destination: {
      write(line) {
        lines.push(line)
      }
    }
  })
  const last = () => JSON.parse(lines.at(-1) as string) as Record<string, unknown>
  return { logger, lines, last }
}

const base64url = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64url')
const bytes = (min: number, max: number) => fc.uint8Array({ minLength: min, maxLength: max })
const b64token = fc.string({
  unit: fc.constantFrom(...'abcXYZ019-._~+/'.split('')),
  minLength: 20,
  maxLength: 90
})

/** What must never be read, and the texts in which it could come. `secret` is what the line must not hold. */
const jwt = fc
  .tuple(
    fc.constantFrom('{"alg":"RS256"}', '{ "typ":"JWT","alg":"ES256"}', '{\n"alg":"none"}'),
    fc.dictionary(fc.string(), fc.string()),
    bytes(32, 256)
  )
  .map(([header, claims, signature]) =>
    [
      Buffer.from(header).toString('base64url'),
      Buffer.from(JSON.stringify(claims)).toString('base64url'),
      base64url(signature)
    ].join('.')
  )
const secretText = fc.oneof(
  jwt.map(secret => ({ secret, text: secret })),
  bytes(30, 200).map(random => ({ secret: base64url(random), text: base64url(random) })),
  fc
    .string({
      unit: fc.constantFrom(...'0123456789abcdef'.split('')),
      minLength: 20,
      maxLength: 790
    })
    .map(hex => ({ secret: hex, text: `def50200${hex}` })),
  fc
    .tuple(
      b64token,
      fc.constantFrom('Bearer ', 'bearer  ', 'Bearer "', 'DPoP ', 'Basic ', 'Bearer%20')
    )
    .map(([secret, word]) => ({ secret, text: `${word}${secret}` })),
  fc
    .tuple(
      b64token,
      fc.constantFrom(
        'client_secret=',
        'access_token=',
        'refresh_token: ',
        'password=',
        'Mcp-Session-Id: ',
        'Cookie: a=b; SESS=',
        'Authorization: Negotiate ',
        '"client_secret":"',
        '\\"id_token\\": \\"',
        "token='",
        'https://a/cb?code='
      )
    )
    .map(([secret, word]) => ({ secret, text: `${word}${secret}` })),
  b64token.map(secret => ({ secret, text: `rediss://default:${secret}@redis.internal:6379/0` }))
)
const around = fc.constantFrom('', ' ', 'x: ', '\n', '{"a":"', '\\n', 'é', '(', '\u0000', '"', "'")
const planted = fc
  .tuple(around, secretText, around)
  .map(([before, { secret, text }, after]) => ({ secret, text: `${before}${text}${after}` }))

t.test(
  'whatever token goes in through any field of a log call, the line does not hold it',
  async () => {
    fc.assert(
      fc.property(planted, ({ secret, text }) => {
        const { logger, lines } = capture()
        const cause = new Error(text, { cause: new Error(text) })
        cause.stack = `Error: ${text}\n    at ${text}`
        logger.info(text)
        logger.info('%s and %o', text, { text })
        logger.warn({ text, nested: { deep: [{ text }] }, [text]: 1 }, text)
        logger.error({ err: gatewayError('GW_INTERNAL', { reason: text, cause }) })
        logger.error(new Error(text, { cause: text }))
        logger.info({ req: { id: text, method: text, url: `/x?${text}`, headers: { a: text } } })
        logger.child({ text }).debug({ headers: { x: text }, rawHeaders: [text], body: text })
        for (const line of lines) {
          JSON.parse(line)
          if (line.includes(secret)) throw new Error(`leaked: ${line}`)
        }
        return lines.length === 7
      }),
      { numRuns: 300 }
    )
  }
)

t.test('whatever value is logged, the line is JSON and the call does not throw', async () => {
  fc.assert(
    fc.property(fc.anything(), fc.string(), (value, name) => {
      const { logger, lines } = capture()
      logger.info(value as object)
      logger.info({ [name]: value, err: value, req: value, res: value }, name)
      logger.child({ [name]: value }).info(name)
      for (const line of lines) JSON.parse(line)
      return lines.length === 3
    }),
    { numRuns: 500 }
  )
})

t.test('a secret key is scrubbed whatever its value looks like; content is omitted', async t => {
  const { logger, last } = capture()
  logger.info({
    token: 'x',
    accessToken: 'x',
    clientSecret: { value: 'x' },
    redisPassword: ['x'],
    authorization: 'x',
    'set-cookie': 'x',
    sessionId: 'x',
    headers: { host: 'a' },
    rawHeaders: ['a'],
    body: 'a',
    hasToken: true,
    tokens: 5
  })
  const { time, level, ...fields } = last()
  t.match(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
  t.equal(level, 'info')
  t.strictSame(fields, {
    token: '[scrubbed]',
    accessToken: '[scrubbed]',
    clientSecret: '[scrubbed]',
    redisPassword: '[scrubbed]',
    authorization: '[scrubbed]',
    'set-cookie': '[scrubbed]',
    sessionId: '[scrubbed]',
    headers: '[omitted]',
    rawHeaders: '[omitted]',
    body: '[omitted]',
    hasToken: true,
    tokens: 5
  })
})

t.test('an error is logged with code, reason and causes, and nothing else of it', async t => {
  const { logger, last } = capture()
  let cause: Error = new Error('root')
  for (let i = 0; i < 9; i += 1) cause = new Error(`cause ${i}`, { cause })
  const err = gatewayError('GW_INVALID_TOKEN', { reason: 'audience', cause, data: 'private' })
  logger.error({ err }, 'refused')
  const logged = last()['err'] as Record<string, unknown>
  t.match(logged, {
    type: 'FastifyError',
    code: 'GW_INVALID_TOKEN',
    statusCode: 401,
    reason: 'audience',
    cause: {
      message: 'cause 8',
      stack: /log\.test/,
      cause: { cause: { message: 'cause 6', cause: undefined } }
    }
  })
  t.notMatch(JSON.stringify(logged), /private|cause 5/)
  logger.error({ err: 'text' })
  t.equal(last()['err'], 'text')
  logger.error({ err: { secret: 'x', why: 1 } })
  t.strictSame(last()['err'], { secret: '[scrubbed]', why: 1 })
  logger.info({ req: undefined, res: undefined })
  t.match(last(), { level: 'info' })
})

t.test('texts and depth are bounded, levels respected', async t => {
  const { logger, lines, last } = capture('warn')
  logger.info('not heard')
  t.equal(lines.length, 0)
  logger.warn(`long ${'word '.repeat(10_000)}`)
  t.ok((last()['msg'] as string).length <= 8193)
  const nested = (levels: number): unknown => (levels === 0 ? 'end' : { d: nested(levels - 1) })
  logger.warn({ ...(nested(10) as object) })
  t.match(last()['d'], nested(9), 'so deep is told')
  // Deeper than JSON.parse and pino go by themselves, and not.
  for (const levels of [11, 100, 5000]) {
    logger.warn({ ...(nested(levels) as object) })
    t.ok((lines.at(-1) as string).length < 300, `${levels} levels`)
    t.notMatch(lines.at(-1), /"end"/)
  }
})

t.test("as Fastify's logger it writes method and path, never query, headers or body", async t => {
  const { logger, lines } = capture()
  const app = Fastify({ loggerInstance: logger })
  app.post('/mcp', async (incoming, reply) => {
    incoming.log.error({ req: incoming, raw: incoming.raw.headers, err: new Error('boom') }, 'x')
    return reply.code(202).send()
  })
  await app.inject({
    method: 'POST',
    url: '/mcp?access_token=query-value',
    headers: { authorization: 'Bearer header-value', cookie: 'SESS=cookie-value' },
    payload: { value: 'body-value' }
  })
  await app.close()
  const text = lines.join('')
  t.match(text, '"path":"/mcp"')
  t.match(text, '"statusCode":202')
  t.match(text, 'boom')
  t.notMatch(text, /query-value|header-value|cookie-value|body-value/)
})

t.test('a Node request under any name shows neither its headers nor its query', async t => {
  const { logger, lines } = capture()
  const server = createServer((incoming, answer) => {
    logger.info({ req: incoming, incoming })
    answer.end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const outgoing = request({
    port: (server.address() as AddressInfo).port,
    path: '/a?code=query-value',
    headers: { 'x-anything': 'header-value' }
  }).end()
  await once(outgoing, 'response')
  server.close()
  server.closeAllConnections()
  t.equal(lines.length, 1)
  t.notMatch(lines[0], /query-value|header-value/)
})

t.test('scrub leaves the words around a secret, whatever its case and lines', async t => {
  for (const [text, left] of [
    ['the Password: "two\nwords", and more', 'the Password: [scrubbed]'],
    ['with BASIC "two\nwords", and more', 'with BASIC [scrubbed]'],
    ['Cookie: a=b; c=d\nCOOKIE: e\nnext', 'Cookie: [scrubbed]\nCOOKIE: [scrubbed]\nnext'],
    ['a dpop%20x, then Bearer: y.', 'a dpop [scrubbed], then Bearer [scrubbed]'],
    ['TOKEN=x&secret=y&more', 'TOKEN=[scrubbed]&secret=[scrubbed]&more'],
    ['to /callback?Code=x&state=y', 'to /callback?Code=[scrubbed]&state=y'],
    ['at https://user:p@ss@cms.example/x', 'at https://[scrubbed]@cms.example/x'],
    ['DEF50200ab of Drupal, def50200', '[scrubbed] of Drupal, [scrubbed]']
  ] as const) {
    t.equal(scrub(text), left)
  }
})

t.test('scrub leaves alone what an operator needs', async t => {
  for (const text of [
    'GW_UPSTREAM_TIMEOUT after 60 s at https://drupal.example.com/mcp/tools/search_tutorials',
    '4f6c2b0e-1d7c-4f0c-9a70-3a5e6cf5a001',
    '4bf92f3577b34da6a3ce929d0e0e4736',
    'connect ECONNREFUSED 127.0.0.1:6379',
    'key "eyebrow" of keys',
    'code: ECONNRESET',
    'connection failed: ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED',
    'token expired 5 s ago'
  ]) {
    t.equal(scrub(text), text)
  }
  for (const run of [
    `ERR_${'Ab0-'.repeat(12)}`,
    `ERR_${'A'.repeat(80)}`,
    `a${'ERR_A'.repeat(9)}`
  ]) {
    t.equal(scrub(run), '[scrubbed]', 'no error code')
  }
})

t.test('scrub takes linear time on text made to slow it down', async t => {
  for (const unit of [
    'eyJ',
    'a-',
    '://',
    'token',
    'token="',
    'Bearer ',
    '\\',
    'a.',
    "token='",
    'cookie:',
    'ERR_'
  ]) {
    const text = unit.repeat(60_000)
    const started = process.hrtime.bigint()
    scrub(text)
    const ms = Number(process.hrtime.bigint() - started) / 1e6
    t.ok(ms < 2000, `${unit}: ${text.length} characters took ${ms} ms`)
  }
})

t.test('what a client chose costs no more than is shown of it', async t => {
  for (const unit of ['://', ':', '\u0001', 'a'.repeat(39), 'x ', 'token=']) {
    const text = unit.repeat(4_000_000 / unit.length)
    const started = process.hrtime.bigint()
    const { line } = audit({ method: text, tool: text, userAgent: text, reason: text })
    const ms = Number(process.hrtime.bigint() - started) / 1e6
    t.ok(ms < 500, `${JSON.stringify(unit.slice(0, 9))}: ${ms} ms`)
    t.ok(line.length < 8000)
  }
  const opaque = 'Zq0-'.repeat(16)
  // What stands before it shrinks, so that it is shown although it stands where the text is cut.
  for (let before = 440; before < 520; before++) {
    const { line, read } = audit({ reason: `eyJ${'a'.repeat(before)} ${opaque}${opaque}` })
    t.notMatch(line, 'Zq0', `${before}`)
    t.match(read['reason'], before + 4 + 2 * opaque.length > 512 ? /…$/ : /\[scrubbed\]$/)
  }
})

t.test('of a long text its beginning is shown, with an ellipsis', async t => {
  for (const [text, most, shown] of [
    ['a b c d', 7, 'a b c d'],
    ['a b c de', 7, 'a b c …'],
    ['a b '.repeat(100), 7, 'a b a …'],
    [`eyJ${'a'.repeat(20)} opaque and more`, 14, '[scrubbed] …']
  ] as const) {
    t.equal(scrubStart(text, most), shown)
  }
})

t.test('what looks plain and is a secret is scrubbed', async t => {
  for (const text of ['password:hunter2', 'Bearer:abcdef123456', 'x.token:abc', 'api-key:1']) {
    t.match(audit({ tool: text, reason: text }).read, { reason: /\[scrubbed\]$/ })
  }
  for (const text of ['2001:db8::1', 'tutorials:token', 'basic.page', 'GW_INVALID_TOKEN']) {
    t.equal(audit({ tool: text }).read['tool'], text)
  }
})

const schema = JSON.parse(readFileSync('docs/audit.schema.json', 'utf8')) as object
const validate = new Ajv2020({ strict: true }).compile(schema)

/** What the audit writes for an entry, and the line read back. */
function audit(entry: Partial<AuditEntry>) {
  const lines: string[] = []
  const write = createAudit({ write: line => lines.push(line), now: () => 1_800_000_000_000 })
  const { requestId, decision, status, durationMs, bytesIn, bytesOut, ...rest } = entry
  write({
    requestId: requestId ?? 'req-1',
    decision: decision ?? 'allowed',
    status: status ?? 200,
    durationMs: durationMs ?? 1,
    bytesIn: bytesIn ?? 0,
    bytesOut: bytesOut ?? 0,
    ...rest
  })
  const [line = ''] = lines
  t.match(line, /^\{[^\n]*\}\n$/, 'one line')
  return { line, read: JSON.parse(line) as Record<string, unknown> }
}

const principal: Caller = {
  issuer: 'https://drupal.example.com/',
  subject: 'Zt0Pairwise-subjects_are43characters_longABCD',
  clientId: 'a8b7c6d5-0000-4a70-9a70-3a5e6cf5a001',
  tokenId: 'jti-value'
}

const full: AuditEntry = {
  requestId: '4f6c2b0e-1d7c-4f0c-9a70-3a5e6cf5a001',
  traceId: '4bf92f3577b34da6a3ce929d0e0e4736',
  principal,
  session: { id: 'session-value' },
  era: 'legacy',
  version: '2025-11-25',
  method: 'tools/call',
  tool: 'search_tutorials',
  arguments: {
    q: 'value-1',
    n: 42,
    on: true,
    none: null,
    list: ['value-2', 1],
    map: { a: 'value-3' }
  },
  decision: 'refused',
  code: 'GW_INSUFFICIENT_SCOPE',
  reason: 'permission "create article"',
  status: 403,
  durationMs: 12.3456,
  queueMs: 0.25,
  drupalMs: 11,
  bytesIn: 233,
  bytesOut: 1900,
  address: '2001:db8::1',
  userAgent: 'Claude/1.2 (é "quoted" \\ )'
}

t.test(
  'an audit line holds what docs/audit.schema.json says, names and sizes but no value',
  async t => {
    const { line, read } = audit(full)
    t.ok(validate(read), JSON.stringify(validate.errors))
    t.match(read, {
      time: '2027-01-15T08:00:00.000Z',
      type: 'audit',
      subject: principal.subject,
      durationMs: 12.346,
      userAgent: full.userAgent,
      arguments: [
        { name: 'q', type: 'string', size: 7 },
        { name: 'n', type: 'number', size: undefined },
        { name: 'on', type: 'boolean', size: undefined },
        { name: 'none', type: 'null', size: undefined },
        { name: 'list', type: 'array', size: 2 },
        { name: 'map', type: 'object', size: 1 }
      ]
    })
    t.strictSame(
      Object.keys(read).sort(),
      Object.keys((schema as { properties: object }).properties)
        .filter(name => name !== 'argumentsOmitted')
        .sort(),
      'every property of the schema is written'
    )
    t.notMatch(line, /value-|session-value|jti-value|42/)
  }
)

t.test('what is not known of a call is not in its line', async t => {
  t.strictSame(audit({}).read, {
    time: '2027-01-15T08:00:00.000Z',
    type: 'audit',
    requestId: 'req-1',
    decision: 'allowed',
    status: 200,
    durationMs: 1,
    bytesIn: 0,
    bytesOut: 0
  })
})

t.test('whatever its numbers and texts are, a line is JSON', async t => {
  const odd = { durationMs: -0.5, queueMs: Number.NaN, bytesIn: 3e15, tool: 'a\r\nb' }
  t.match(audit(odd).read, { durationMs: -0.5, queueMs: 0, bytesIn: 3e15, tool: 'a  b' })
})

t.test('a session and a token keep their hash from call to call', async t => {
  const [one, two, other] = [audit(full), audit(full), audit({ ...full, session: { id: 'other' } })]
  t.equal(one.read['sessionHash'], two.read['sessionHash'])
  t.equal(one.read['tokenIdHash'], two.read['tokenIdHash'])
  t.not(one.read['sessionHash'], other.read['sessionHash'])
})

t.test('who calls is remembered by value, which token by none', async t => {
  const lines: string[] = []
  const write = createAudit({ write: line => lines.push(line) })
  const first = { ...principal, issuer: 'https://user:secret@drupal.example.com/' }
  // A value may be one member's and another's: each keeps its own name.
  const swapped = { ...first, subject: first.clientId, clientId: first.subject }
  for (const caller of [
    first,
    { ...first, tokenId: 'next' },
    swapped,
    { ...first, tokenId: undefined }
  ]) {
    write({ ...full, principal: caller })
  }
  const [one, next, other, without] = lines.map(line => JSON.parse(line))
  const names = {
    issuer: 'https://[scrubbed]@drupal.example.com/',
    subject: first.subject,
    clientId: first.clientId
  }
  for (const read of [one, next, without]) t.match(read, names)
  t.match(other, { ...names, subject: first.clientId, clientId: first.subject })
  t.equal(other.tokenIdHash, one.tokenIdHash)
  t.match(next.tokenIdHash, /^[\w-]{16}$/)
  t.not(next.tokenIdHash, one.tokenIdHash)
  t.notOk('tokenIdHash' in without)
})

t.test('the least entry is valid too; numbers that are none become 0', async t => {
  const { read } = audit({ durationMs: Number.NaN, bytesOut: Number.POSITIVE_INFINITY })
  t.ok(validate(read), JSON.stringify(validate.errors))
  t.match(read, { durationMs: 0, bytesOut: 0 })
})

t.test('many, long and hostile arguments stay bounded', async t => {
  const many = Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`name ${i}`, i]))
  const { line, read } = audit({
    arguments: many,
    userAgent: 'word '.repeat(5000),
    tool: '../é\r\n\u0000'.repeat(500)
  })
  t.ok(validate(read), JSON.stringify(validate.errors))
  t.equal((read['arguments'] as unknown[]).length, 32)
  t.equal(read['argumentsOmitted'], 4968)
  t.ok(line.length < 4096)
  t.match(read['userAgent'], /…$/)
  const proto = audit({
    arguments: JSON.parse('{"__proto__":{"a":1},"constructor":"x"}') as object as never
  })
  t.match(proto.read['arguments'], [
    { name: '__proto__', type: 'object', size: 1 },
    { name: 'constructor' }
  ])
})

t.test(
  'ten thousand different callers do not make the audit grow or forget how to write',
  async t => {
    let lines = 0
    const write = createAudit({
      write(line) {
        lines += 1
        if (!validate(JSON.parse(line))) throw new Error(JSON.stringify(validate.errors))
      }
    })
    for (let i = 0; i < 10_000; i += 1)
      write({
        ...full,
        principal: { ...principal, subject: `user-${i}` },
        session: { id: `s-${i}` }
      })
    t.equal(lines, 10_000)
  }
)

t.test(
  'whatever token goes in through any field of an audit entry, the line does not hold it',
  async () => {
    fc.assert(
      fc.property(planted, ({ secret, text }) => {
        const { line, read } = audit({
          ...full,
          requestId: text,
          principal: { ...principal, tokenId: text },
          session: { id: text },
          method: text,
          tool: text,
          arguments: { [text]: text, list: [text], map: { [text]: text } },
          reason: text,
          address: text,
          userAgent: text
        })
        if (line.includes(secret)) throw new Error(`leaked: ${line}`)
        return validate(read) as boolean
      }),
      { numRuns: 300 }
    )
  }
)

t.test('a JWT is not written even where an identifier of the token is due', async t => {
  const token = `eyJhbGciOiJSUzI1NiJ9.${'a'.repeat(60)}.${'b'.repeat(60)}`
  const { line } = audit({
    ...full,
    principal: { ...principal, subject: token, clientId: `Bearer ${token}`, issuer: token }
  })
  t.notMatch(line, /aaaa|bbbb/)
})

/** Runs the fixture: its exit code and the lines on its standard output. */
async function run(...args: string[]) {
  const file = fileURLToPath(new URL('./fixtures/log-and-exit.ts', import.meta.url))
  const child = spawn(process.execPath, [...process.execArgv, file, ...args], {
    stdio: ['ignore', 'pipe', 'inherit']
  })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', chunk => {
    output += chunk
  })
  const [code] = await once(child, 'close')
  const lines = output.trim().split('\n')
  return { code, lines: lines.map(line => JSON.parse(line) as object) }
}

t.test('log and audit lines share one stream, which is flushed when the process exits', async t => {
  const { code, lines } = await run()
  t.equal(code, 3)
  t.match(lines, [
    { level: 'info', msg: 'first' },
    { type: 'audit' },
    { level: 'error', msg: 'last words' }
  ])
})

t.test('each of many lines is written once', async t => {
  const file = join(t.testdir({}), 'log')
  const stream = openLogStream(file)
  await once(stream, 'ready')
  const lines = Array.from({ length: 5000 }, (_, n) => `{"line":${n},"text":"schön"}\n`)
  for (const line of lines) stream.write(line)
  stream.end()
  await once(stream, 'close')
  t.equal(readFileSync(file, 'utf8'), lines.join(''))
})

t.test('by default lines go to standard output, and the stream keeps no process alive', async t => {
  const { code, lines } = await run('default')
  t.equal(code, 0)
  t.match(lines, [{ level: 'info', msg: 'only' }])
})

t.test('the stream writes to a file, and by itself before it is full', async t => {
  const file = `${t.testdir()}/log`
  const stream = openLogStream(file)
  t.teardown(() => stream.destroy())
  await once(stream, 'ready')
  createLogger({ level: 'info', destination: stream }).info('hello')
  // Nothing tells of a periodic flush; the file does.
  while (statSync(file).size === 0) await setTimeout(20)
  t.match(readFileSync(file, 'utf8'), '"msg":"hello"')
})
