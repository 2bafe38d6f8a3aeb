import t from 'tap'
import { readBearer } from '../../src/auth/bearer.ts'
import { startDrupal } from '../../src/demo/double.ts'
import { buildCorpus, type HostileCase } from './fixtures/corpus.ts'
import { makeParts } from './fixtures/parts.ts'

t.test(
  'R80 R81 R86 R87 every hostile or malformed header is refused, with its status, and nothing throws',
  async t => {
    const site = await startDrupal()
    t.teardown(() => site.close())
    const reasons = new Map<string, number>()
    const { verifier, asked } = makeParts({
      drupalUrl: site.url,
      events: { verdict: reason => void reasons.set(reason, (reasons.get(reason) ?? 0) + 1) }
    })
    const { cases, good } = await buildCorpus({
      issuer: site.issuer,
      privateKey: site.privateKeyPem,
      publicKeyPem: site.publicKeyPem,
      scope: 'read:tutorials'
    })

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
    for (const hostile of cases) t.same(await outcome(hostile), hostile.expect, hostile.name)
    t.match(verifier.verify(good), { ok: true, source: 'cache' }, 'and nothing evicted it')
    t.equal(asked.length, 3, 'metadata, keys, and one refresh of the keys for all of them')
    t.comment([...reasons].map(([reason, count]) => `${reason} ${count}`).join(', '))
  }
)
