// `serve`: the gateway as a process. Configuration in, listeners up, signals obeyed; the rest is app.ts.
import { isatty } from 'node:tty'
import { parseArgs } from 'node:util'
import { setFlagsFromString } from 'node:v8'
import closeWithGrace from 'close-with-grace'
import { buildGateway, type Gateway } from '../app.ts'
import { readPinnedKey } from '../auth/pinned-key.ts'
import { loadConfig } from '../config/load.ts'
import type { Config } from '../config/schema.ts'
import { tlsOptions } from '../http/tls.ts'
import { crashSignals } from './terminal.ts'

const help = `Usage: drupal-mcp-gateway serve [--config FILE] [--check]

Runs the gateway. Configuration comes from FILE (YAML or JSON; or GATEWAY_CONFIG), then from the environment, then from
*_FILE secrets. DRUPAL_URL and GATEWAY_PUBLIC_URL are what a deployment cannot do without.

Options:
  --config FILE  configuration file; config/gateway.example.yaml shows every option
  --check        validate the configuration, say what is wrong, and end
  --help         this text

Example:
  DRUPAL_URL=https://cms.example.org GATEWAY_PUBLIC_URL=https://mcp.example.org drupal-mcp-gateway serve

Exit codes: 0 stopped cleanly, 1 failed, 2 wrong use or bad configuration.
`

/** Opens the public listener and, where configured, the admin one. Throws with what to do when a port is taken. */
export async function listen(gateway: Gateway, config: Config): Promise<{ url: string }> {
  const { host, port, adminHost, adminPort } = config.server
  const on = async (
    app: Gateway['app'],
    where: { host: string; port: number },
    env: { host: string; port: string }
  ) => {
    try {
      // As in a URL: an IPv6 address may stand in brackets. Of localhost Fastify makes a second server, at ::1, which a stop does
      // not wait for and a new certificate does not reach.
      const host = where.host === 'localhost' ? '127.0.0.1' : where.host.replace(/^\[(.*)\]$/, '$1')
      return await app.listen({ ...where, host })
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'EADDRINUSE') {
        throw new Error(
          `Port ${where.port} on ${where.host} is taken. Stop what listens there or set ${env.port}.`
        )
      }
      if (code === 'EACCES') {
        throw new Error(
          `Cannot listen on ${where.host}:${where.port} (${code}). Set ${env.port} to a port that this user may use.`
        )
      }
      if (['EADDRNOTAVAIL', 'ENOTFOUND', 'EAI_AGAIN', 'EAFNOSUPPORT'].includes(code ?? '')) {
        throw new Error(
          `Cannot listen on ${where.host}:${where.port} (${code}). Set ${env.host} to an address of this machine.`
        )
      }
      throw error
    }
  }
  const url = await on(
    gateway.app,
    { host, port },
    { host: 'MCP_SERVER_HOST', port: 'MCP_SERVER_PORT' }
  )
  if (gateway.admin !== undefined) {
    const env = { host: 'ADMIN_HOST', port: 'ADMIN_PORT' }
    await on(gateway.admin, { host: adminHost, port: adminPort }, env)
  }
  return { url }
}

/** Runs until a signal; answers the exit code. */
export async function run(args: string[]): Promise<number> {
  const { values } = parseArgs({
    args,
    options: {
      config: { type: 'string' },
      check: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' }
    }
  })
  if (values.help) {
    process.stdout.write(help)
    return 0
  }
  let config: Config
  try {
    config = loadConfig({
      env: process.env,
      ...(values.config === undefined ? {} : { file: values.config })
    })
    // What these files hold is judged by those that use them.
    tlsOptions(config.server)
    if (config.oauth.publicKeyFile !== '') readPinnedKey(config.oauth.publicKeyFile)
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`)
    return 2
  }
  if (values.check) {
    for (const warning of config.derived.warnings) process.stdout.write(`warning: ${warning}\n`)
    process.stdout.write(`The configuration is valid. Resource: ${config.derived.resource}\n`)
    return 0
  }

  // Where many objects from one place in the code once outlived a collection, V8 makes all further ones in the old space, though most
  // die with their call: there only a marking of the whole heap removes them and all that hangs on them. Measured: up to 4 KB a call,
  // and a fifth of what a modern call through an mcp upstream costs.
  setFlagsFromString('--no-allocation-site-pretenuring')
  const gateway = await buildGateway(config)
  try {
    await listen(gateway, config)
  } catch (error) {
    // The other listener or the store would keep the process, and no supervisor would start it anew.
    await gateway.app.close()
    throw error
  }
  const bound = config.server.shutdownTimeoutSeconds + config.server.readinessDelaySeconds
  // Without a listener Node ends the process on these two, which to other servers mean "reload" and "reopen the log". At a terminal
  // the first says that it was closed: nobody would see the process any more.
  const ignored: ('SIGHUP' | 'SIGUSR2')[] = isatty(0) ? ['SIGUSR2'] : ['SIGHUP', 'SIGUSR2']
  for (const signal of ignored) {
    process.on(signal, () => {
      gateway.app.log.info(
        { signal },
        'going on: new certificates are taken into use unasked, other changes with a restart'
      )
    })
  }
  // A second signal ends the process at once; that is close-with-grace's own rule.
  const skip = [...ignored, ...crashSignals]
  return new Promise(resolve => {
    closeWithGrace(
      { delay: bound * 1000 + 500, logger: gateway.app.log, skip },
      async ({ signal, err }) => {
        if (err) gateway.app.log.fatal({ err }, 'uncaught error: stopping')
        else gateway.app.log.info({ signal }, 'stopping')
        await gateway.stop()
        resolve(err ? 1 : 0)
      }
    )
  })
}
