import fc from 'fast-check'
import t, { type Test } from 'tap'
import { challenge } from '../../src/auth/challenge.ts'
import { resourceMetadata } from '../../src/auth/resource-metadata.ts'

function holds<T>(t: Test, property: fc.IProperty<T>): void {
  t.doesNotThrow(() => fc.assert(property))
}

const resourceMetadataUrl = 'https://mcp.example/.well-known/oauth-protected-resource/mcp'

/** A parser by RFC 9110 §11.6.1 that knows nothing of how the challenge was made. */
function parse(header: string): Record<string, string> {
  const found: Record<string, string> = {}
  let rest = header.replace(/^Bearer /, '')
  while (rest !== '') {
    const match = /^([a-z_]+)="((?:[^"\\]|\\.)*)"(?:, |$)/.exec(rest)
    if (match === null) throw new Error(`does not parse: ${rest}`)
    found[match[1] as string] = (match[2] as string).replaceAll(/\\(.)/g, '$1')
    rest = rest.slice(match[0].length)
  }
  return found
}

t.test(
  'R82 R83 R84 the challenge without a token names metadata and scopes, and no error',
  async t => {
    t.equal(
      challenge({ resourceMetadataUrl, scopes: ['write:b', 'read:a', 'write:b'] }),
      `Bearer resource_metadata="${resourceMetadataUrl}", scope="read:a write:b"`
    )
    t.equal(challenge({ resourceMetadataUrl }), `Bearer resource_metadata="${resourceMetadataUrl}"`)
  }
)

t.test('R83 a challenge never asks for offline_access, though it is configured', async t => {
  const named = challenge({ resourceMetadataUrl, scopes: ['offline_access', 'read:a'] })
  t.equal(parse(named)['scope'], 'read:a')
  t.notMatch(challenge({ resourceMetadataUrl, scopes: ['offline_access'] }), 'scope')
})

t.test('R84 R88 error and description follow', async t => {
  t.equal(
    challenge({
      resourceMetadataUrl,
      scopes: ['a'],
      error: 'insufficient_scope',
      errorDescription: 'Needs "more".\r\nX-Evil: 1'
    }),
    `Bearer resource_metadata="${resourceMetadataUrl}", scope="a", error="insufficient_scope", error_description="Needs more.X-Evil: 1"`
  )
})

t.test(
  'a scope that a challenge cannot carry is left out whole: half a name would be another scope',
  async t => {
    t.equal(
      challenge({ resourceMetadataUrl, scopes: ['a b', 'é', 'q"', 'b\\', '', 'ok', 'x\r\n'] }),
      `Bearer resource_metadata="${resourceMetadataUrl}", scope="ok"`
    )
  }
)

t.test('very many scopes do not break the header limits of clients', async t => {
  const scopes = Array.from({ length: 2000 }, (_, i) => `scope:number-${i}`)
  const scope = parse(challenge({ resourceMetadataUrl, scopes }))['scope'] as string
  t.ok(scope.length > 4000 && scope.length <= 4096)
  t.ok(scope.split(' ').every(name => scopes.includes(name)))
})

t.test(
  'R84 R89 whatever goes in, it parses back, is one line, and does not depend on order',
  async t => {
    const any = fc.string({ unit: 'binary' })
    const legal = fc.string({ unit: fc.constantFrom(...'abz09:/._-~!#[]{}'.split('')) })
    holds(
      t,
      fc.property(
        fc.array(fc.oneof(any, legal)),
        fc.oneof(any, legal),
        fc.oneof(any, legal),
        fc.webUrl(),
        (scopes, error, errorDescription, url) => {
          const made = challenge({ resourceMetadataUrl: url, scopes, error, errorDescription })
          const again = challenge({
            resourceMetadataUrl: url,
            scopes: [...scopes, ...scopes].reverse(),
            error,
            errorDescription
          })
          const parsed = parse(made)
          const expected = scopes.filter(s => /^[!#-[\]-~]+$/.test(s))
          const isText = (s: string) => /^[ !#-[\]-~]+$/.test(s)
          return (
            made === again &&
            /^[\x20-\x7e]*$/.test(made) &&
            parsed['resource_metadata'] === url &&
            (parsed['scope'] ?? '') === [...new Set(expected)].sort().join(' ') &&
            (!isText(error) || parsed['error'] === error) &&
            (!isText(errorDescription) || parsed['error_description'] === errorDescription)
          )
        }
      )
    )
  }
)

t.test('R85 the resource metadata names the resource and the issuers byte for byte', async t => {
  t.strictSame(
    resourceMetadata({
      resource: 'https://mcp.example/mcp',
      issuers: ['https://cms.example/'],
      scopes: ['write:b', 'offline_access', 'read:a', 'read:a'],
      siteName: 'Example'
    }),
    {
      resource: 'https://mcp.example/mcp',
      authorization_servers: ['https://cms.example/'],
      scopes_supported: ['read:a', 'write:b'],
      bearer_methods_supported: ['header'],
      resource_name: 'Example'
    }
  )
})

t.test(
  'R83 scopes_supported is left out when empty, and offline_access alone is empty',
  async t => {
    const document = resourceMetadata({
      resource: 'https://mcp.example/mcp',
      issuers: ['https://cms.example/'],
      scopes: ['offline_access'],
      siteName: 'Example'
    })
    t.notOk('scopes_supported' in document)
  }
)
