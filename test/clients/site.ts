// What does a client need in order to sign in for real? A Drupal behind https: its issuer is https whatever the wire is, and
// clients compare the issuer with the address they were given (RFC 8414 §3.3). A TLS front before the double gives them that.
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { startDrupal, type DrupalDouble } from '../../src/demo/double.ts'
import { startEverythingServer } from '../conformance/everything-server.ts'
import { relay } from '../conformance/everything/relay.ts'
import { root } from '../conformance/tools.ts'

const tls = `${root}test/clients/fixtures/tls/`

/** The certificate of https://localhost that clients must trust; self-signed, for tests only, good until 2126. */
export const certificateFile = `${tls}localhost.pem`

export interface DrupalSite {
  drupal: DrupalDouble
  /** What a gateway in front of this site must know. */
  env: Record<string, string>
  close(): Promise<void>
}

/** Starts a Drupal double that publishes tools by jsonrpc_mcp, or one that speaks MCP itself at /mcp. */
export async function startDrupalSite(adapter: 'jsonrpc' | 'mcp'): Promise<DrupalSite> {
  const front = createServer(
    { cert: readFileSync(certificateFile), key: readFileSync(`${tls}localhost-key.pem`) },
    (incoming, outgoing) => relay(incoming, outgoing, inside)
  )
  front.listen(0, 'localhost')
  await once(front, 'listening')
  const publicUrl = `https://localhost:${(front.address() as AddressInfo).port}`
  const drupal = await startDrupal({ publicUrl })
  const mcp =
    adapter === 'mcp' ? await startEverythingServer({ elsewhere: new URL(drupal.url) }) : undefined
  const inside = new URL(mcp?.url ?? drupal.url)
  return {
    drupal,
    env: {
      DRUPAL_URL: publicUrl,
      DRUPAL_INTERNAL_URL: inside.origin,
      DRUPAL_UPSTREAM: adapter,
      OAUTH_SCOPES: 'read:tutorials'
    },
    async close() {
      front.closeAllConnections()
      front.close()
      await mcp?.close()
      await drupal.close()
    }
  }
}
