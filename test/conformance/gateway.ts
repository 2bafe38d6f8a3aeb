// How is a gateway started for a test that knocks from outside? On a free port, with everything off that would slow a test
// down. The conformance run and the tests with real clients both come through here.
import { freePort } from '../fixtures/ports.ts'
import { buildGateway } from '../../src/app.ts'
import { listen } from '../../src/cli/serve.ts'
import { loadConfig } from '../../src/config/load.ts'

export interface RunningGateway {
  /** The MCP URL, as clients type it. */
  url: string
  close(): Promise<void>
}

/** Starts a gateway configured by `env` (DRUPAL_URL at least), listening on localhost without budgets. */
export async function startGateway(env: Record<string, string>): Promise<RunningGateway> {
  // The gateway must know its public URL, port included, before it listens.
  const port = await freePort('localhost')
  const config = loadConfig({
    env: {
      GATEWAY_PUBLIC_URL: `http://localhost:${port}`,
      MCP_SERVER_HOST: 'localhost',
      MCP_SERVER_PORT: String(port),
      LIMIT_SESSION: 'off',
      LIMIT_PRINCIPAL: 'off',
      LIMIT_FAILURES: 'off',
      LOG_LEVEL: process.env['LOG_LEVEL'] ?? 'error',
      ...env
    }
  })
  const gateway = await buildGateway(config, { audit: () => {} })
  await listen(gateway, config)
  return { url: config.derived.resource, close: () => gateway.stop() }
}
