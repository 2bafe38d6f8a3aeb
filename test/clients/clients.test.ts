import t, { type Test } from 'tap'
import { startGateway } from '../conformance/gateway.ts'
import { areToolsInstalled, installHint } from '../conformance/tools.ts'
import type { Arrival, Journey } from './journey.ts'
import { inspector, mcpRemote } from './programs.ts'
import { sdkV1, sdkV2 } from './sdk.ts'
import { certificateFile, startDrupalSite } from './site.ts'

const isMissing = !areToolsInstalled()
if (isMissing && process.env['CI']) t.fail(installHint)

interface RealClient {
  name: string
  travel: (journey: Journey) => Promise<Arrival>
  /** What it has to agree on with a gateway that speaks every revision. */
  revision: string
  /** It is a program that must be installed, and it does not tell its revision. */
  isProgram?: true
}

const legacy = '2025-11-25'
const modern = '2026-07-28'

const clients: RealClient[] = [
  { name: 'SDK v1', travel: sdkV1, revision: legacy },
  { name: 'SDK v2, legacy', travel: sdkV2('legacy'), revision: legacy },
  { name: 'SDK v2, auto', travel: sdkV2('auto'), revision: modern },
  { name: 'SDK v2, pinned', travel: sdkV2({ pin: modern }), revision: modern },
  { name: 'Inspector, legacy', travel: inspector('legacy'), revision: legacy, isProgram: true },
  { name: 'Inspector, modern', travel: inspector('modern'), revision: modern, isProgram: true },
  { name: 'mcp-remote, legacy', travel: mcpRemote('legacy'), revision: legacy, isProgram: true },
  { name: 'mcp-remote, auto', travel: mcpRemote('auto'), revision: modern, isProgram: true }
]

const calls = {
  jsonrpc: {
    tool: 'tutorials.search',
    args: { query: 'drupal' },
    answer: /Caching that stays correct/
  },
  mcp: { tool: 'test_simple_text', args: {}, answer: /simple text response/ }
}

for (const adapter of ['jsonrpc', 'mcp'] as const) {
  t.test(`a person signs in and calls a tool on upstream ${adapter}`, async t => {
    const site = await startDrupalSite(adapter)
    t.teardown(() => site.close())
    const gateway = await startGateway(site.env)
    t.teardown(() => gateway.close())
    const { tool, args, answer } = calls[adapter]
    const home = t.testdir()

    for (const { name, travel, revision, isProgram } of clients) {
      const skip = isProgram && isMissing ? installHint : undefined
      // One after the other: a callback port is nobody's own.
      await t.test(`with ${name}`, { ...(skip && { skip }) }, async t => {
        const arrival = await travel({
          url: gateway.url,
          person: { user: 'editor', password: 'editor' },
          trust: certificateFile,
          tool,
          args,
          dir: `${home}/${name.replaceAll(/\W+/g, '-')}`
        })
        t.ok(arrival.tools.includes(tool), 'the tool is listed')
        t.match(arrival.text, answer, 'it answers')
        if (!isProgram) t.equal(arrival.revision, revision, 'R32 R62 on the revision it prefers')
        t.equal(
          arrival.signedInAt?.origin,
          site.env['DRUPAL_URL'],
          'R106 the sign-in was at Drupal, not at the gateway'
        )
        t.equal(
          arrival.signedInAt?.searchParams.get('resource'),
          gateway.url,
          'R85 R103 it asked for this resource, byte for byte'
        )
      })
    }
  })
}

/** An editor makes a tutorial, for which the scope that clients ask for at first is not enough. */
async function write(
  t: Test,
  travel: RealClient['travel'],
  env: Record<string, string> = {}
): Promise<Arrival> {
  const site = await startDrupalSite('jsonrpc')
  t.teardown(() => site.close())
  const gateway = await startGateway({ ...site.env, ...env })
  t.teardown(() => gateway.close())
  return travel({
    url: gateway.url,
    person: { user: 'editor', password: 'editor' },
    trust: certificateFile,
    tool: 'tutorials.create',
    args: { title: 'Told at first', body: 'Text' },
    dir: t.testdir()
  })
}

const bothScopes = 'read:tutorials write:tutorials'

t.test(
  'a client that refreshes where it should ask for a scope needs it among the base scopes',
  async t => {
    const refused = { message: /403 after trying upscoping/ }
    await t.rejects(write(t, sdkV1), refused, 'SDK v1 does not step up')
    const { text, signedInAt } = await write(t, sdkV1, {
      OAUTH_SCOPES: 'read:tutorials,write:tutorials'
    })
    t.match(text, /Told at first/)
    t.equal(signedInAt?.searchParams.get('scope'), bothScopes)
  }
)

t.test(
  'mcp-remote is told every scope that its user needs',
  isMissing ? { skip: installHint } : {},
  async t => {
    const metadata = JSON.stringify({ scope: bothScopes })
    const travel = mcpRemote('legacy', '--static-oauth-client-metadata', metadata)
    const { text, signedInAt } = await write(t, travel)
    t.match(text, /Told at first/)
    t.equal(signedInAt?.searchParams.get('scope'), bothScopes)
  }
)
