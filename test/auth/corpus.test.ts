import t from 'tap'
import { readBearer } from '../../src/auth/bearer.ts'
import { startDrupal } from '../../src/demo/double.ts'
import { buildCorpus, type HostileCase } from './fixtures/corpus.ts'
import { makeParts } from './fixtures/parts.ts'

for (const validation of ['jwt', 'introspection', 'both'] as const) {
  const name = `R80 R81 R86 R87 every hostile or malformed header is refused, with its status, and nothing throws (${validation})`
  t.test(name, async t => {
    const site = await startDrupal()
    t.teardown(() => site.close())
    const reasons = new Map<string, number>()
    const { verifier, asked } = makeParts({
      drupalUrl: site.url,
      oauth: {
        validation,
        clientId: 'gateway',
        clientSecret: 'gateway-secret',
        introspectionScope: 'mcp_introspect'
      },
      events: { verdict: reason => void reasons.set(reason, (reasons.get(reason) ?? 0) + 1) }
    })
    const corpus = await buildCorpus({
      issuer: site.issuer,
      privateKey: site.privateKeyPem,
      publicKeyPem: site.publicKeyPem,
      scope: 'read:tutorials'
    })
    const { cases } = corpus
    // Drupal vouches only for what it has stored.
    const good = validation === 'jwt' ? corpus.good : site.mint().token

    async function outcome({ authorization }: HostileCase): Promise<object> {
      const headers = [authorization].flat()
      const bearer = readBearer(headers[0], headers.length)
      if (bearer.kind === 'none') return { status: 401 }
      if (bearer.kind === 'malformed') return { status: 400, error: 'invalid_request' }
      const verdict = await verifier.verify(bearer.token)
      return verdict.ok ? { status: 200 } : { status: 401, error: 'invalid_token' }
    }

    t.match(
      await verifier.verify(good),
      { ok: true },
      'the good one of the same making is accepted'
    )
    t.ok(cases.length >= 200, `${cases.length} cases`)
    t.equal(new Set(cases.map(({ name }) => name)).size, cases.length, 'each has a name of its own')
    for (const hostile of cases) t.strictSame(await outcome(hostile), hostile.expect, hostile.name)
    t.match(verifier.verify(good), { ok: true, source: 'cache' }, 'and nothing evicted it')
    const questions = asked.map(url => new URL(url).pathname.split('/').at(-1))
    t.strictSame(
      questions.filter(name => name !== 'token' && name !== 'introspect'),
      ['oauth-authorization-server', 'jwks.json', 'jwks.json'],
      'metadata, keys, and one refresh of the keys for all of them'
    )
    const introspections = questions.filter(name => name === 'introspect')
    t.equal(introspections.length, validation === 'jwt' ? 0 : 1, 'only the good one is asked about')
    t.comment([...reasons].map(([reason, count]) => `${reason} ${count}`).join(', '))
  })
}
