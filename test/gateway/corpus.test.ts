// The corpus of hostile and malformed Authorization headers over real sockets: each is refused with its exact status and
// challenge, the log holds no exception, and the good token beside them stays known.
import { Agent, request } from 'node:http'
import t from 'tap'
import { buildCorpus, type HostileCase } from '../auth/fixtures/corpus.ts'
import { read, startGateway } from './fixtures/start.ts'

const PING = JSON.stringify({ jsonrpc: '2.0', id: 7, method: 'ping' })
const metadata =
  'Bearer resource_metadata="http://localhost:3999/.well-known/oauth-protected-resource/mcp", scope="read:tutorials"'

/** What the refusal of a case must say, byte for byte. */
const expected = {
  '401': { challenge: metadata, error: 'unauthorized' },
  '400 invalid_request': {
    challenge: `${metadata}, error="invalid_request"`,
    error: 'invalid_request'
  },
  '401 invalid_token': {
    challenge: `${metadata}, error="invalid_token", error_description="The access token is expired, revoked or not valid here. Sign in again."`,
    error: 'invalid_token'
  }
} as const

interface Refused {
  status: number
  challenge: string | undefined
  error: string
  type: string | undefined
}

t.test('R80 R81 R82 R84 R86 R87 the hostile corpus over HTTP', async t => {
  const gateway = await startGateway(t, { env: { LIMIT_FAILURES: 'off', ADMIN_PORT: '0' } })
  const { drupal } = gateway
  const { cases, good } = await buildCorpus({
    issuer: drupal.issuer,
    privateKey: drupal.privateKeyPem,
    publicKeyPem: drupal.publicKeyPem,
    scope: 'read:tutorials'
  })
  const agent = new Agent({ keepAlive: true, maxSockets: 8 })
  t.teardown(() => agent.destroy())

  function refused({ authorization }: HostileCase, method: 'POST' | 'GET' | 'DELETE') {
    return new Promise<Refused>((resolve, reject) => {
      const asked = request(
        gateway.url,
        {
          agent,
          method,
          headers: {
            authorization: authorization as string,
            accept: 'application/json, text/event-stream',
            ...(method === 'POST' ? { 'content-type': 'application/json' } : {})
          }
        },
        response => {
          let text = ''
          response.on('data', chunk => (text += chunk.toString()))
          response.on('end', () => {
            const { headers, statusCode = 0 } = response
            resolve({
              status: statusCode,
              challenge: headers['www-authenticate'],
              error: (JSON.parse(text) as { error: string }).error,
              type: headers['content-type']
            })
          })
        }
      )
      asked.on('error', reject).end(method === 'POST' ? PING : undefined)
    })
  }

  t.equal(
    (await gateway.post(PING, { authorization: `Bearer ${good}` })).status,
    400,
    'the good token of the same making is let in: what it lacks is a session'
  )
  const keysAsked = () => drupal.requests.filter(({ path }) => path.includes('jwks')).length
  t.equal(keysAsked(), 1)

  const count = new Map<string, number>()
  const wrong: string[] = []
  const methods = ['POST', 'GET', 'DELETE'] as const
  await Promise.all(
    cases.map(async (hostile, index) => {
      const { status, error } = hostile.expect
      const key = (
        error === undefined ? `${status}` : `${status} ${error}`
      ) as keyof typeof expected
      // Every case by POST, some by the other methods too (R39).
      const by = index % 10 === 0 ? methods : (['POST'] as const)
      for (const method of by) {
        const answer = await refused(hostile, method)
        const want = {
          ...expected[key],
          status,
          type: 'application/json; charset=utf-8'
        }
        const same = (Object.keys(want) as (keyof Refused)[]).every(k => want[k] === answer[k])
        if (!same) wrong.push(`${method} ${hostile.name}: ${JSON.stringify(answer)}`)
      }
      count.set(key, (count.get(key) ?? 0) + 1)
    })
  )
  t.strictSame(wrong, [], 'each with its exact status and challenge')
  t.ok(cases.length >= 200, `${cases.length} cases`)
  for (const [key, cases] of count) t.comment(`${key}: ${cases}`)

  const asked = drupal.requests.length
  t.equal((await gateway.post(PING, { authorization: `Bearer ${good}` })).status, 400)
  t.equal(drupal.requests.length, asked, 'the good verdict was not evicted')
  t.equal(keysAsked(), 2, 'all of them together cost one refresh of the keys')
  t.equal(
    drupal.requests.filter(({ path }) => path.startsWith('/mcp')).length,
    0,
    'R91 and nothing was relayed'
  )

  const levels = gateway.logged.map(line => (JSON.parse(line) as { level: number | string }).level)
  t.notOk(
    levels.some(level => level === 'error' || level === 'fatal' || Number(level) >= 50),
    'no exception in the log'
  )
  const address = (await gateway.gateway.admin?.listen({ host: '127.0.0.1', port: 0 })) as string
  const { text } = await read(await fetch(`${address}/metrics`))
  t.match(text, /^mcp_gateway_uncaught_errors_total 0$/m)
  const everything = gateway.logged.join('') + gateway.audited.join('')
  t.notMatch(everything, good.split('.')[2] as string, 'and no signature in any line')
  for (const line of text.split('\n').filter(l => l.startsWith('mcp_gateway_token_verdicts'))) {
    t.comment(line)
  }
})
