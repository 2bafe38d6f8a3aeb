// Where does the suite knock? At the everything-server itself, or at the gateway in front of it, with a token that a Drupal
// double has signed. Knows how the two are put together, not what is asked of them.
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { startDrupal } from '../../src/demo/double.ts'
import { startEverythingServer } from './everything-server.ts'
import type { SuiteTarget } from './suite.ts'

export interface Target extends SuiteTarget {
  close(): Promise<void>
}

/** The everything-server, with nothing in front of it. */
export function startDirect(): Promise<Target> {
  return startEverythingServer()
}

/** A gateway in front of any MCP server; `token` is accepted by it for an hour. */
export async function startGatewayBefore(upstream: URL): Promise<Target & { token: string }> {
  // Loaded late: whoever runs the everything-server alone needs no gateway.
  const { startGateway } = await import('./gateway.ts')
  const drupal = await startDrupal()
  const dir = await mkdtemp(`${tmpdir()}/conformance-`)
  await writeFile(`${dir}/issuer.pem`, drupal.publicKeyPem)
  const gateway = await startGateway({
    DRUPAL_URL: upstream.origin,
    DRUPAL_UPSTREAM: 'mcp',
    DRUPAL_MCP_PATH: upstream.pathname,
    OAUTH_ISSUER: drupal.issuer,
    OAUTH_PUBLIC_KEY_FILE: `${dir}/issuer.pem`
  })
  return {
    url: gateway.url,
    token: drupal.mint({ expiresIn: 3600 }).token,
    async close() {
      await gateway.close()
      await drupal.close()
      await rm(dir, { recursive: true })
    }
  }
}

/** The gateway in front of an everything-server of its own. */
export async function startThroughGateway(): Promise<Target> {
  const server = await startEverythingServer()
  const gateway = await startGatewayBefore(new URL(server.url))
  return {
    ...gateway,
    async close() {
      await gateway.close()
      await server.close()
    }
  }
}
