// What the image's HEALTHCHECK runs, a program of its own: does the public listener that file and environment configure answer? It
// starts every few seconds for as long as the container lives, so it loads what it needs and judges no configuration.
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import type { RawTree } from '../config/file.ts'
import { serverOptions } from '../config/server-options.ts'

const read = (path: string) => readFileSync(path, 'utf8')

/** The file that the gateway was given: a HEALTHCHECK has its environment, and its arguments are those of process 1. */
function configFile(): string | undefined {
  try {
    const args = read('/proc/1/cmdline').split('\0')
    const { config } = parseArgs({
      args,
      options: { config: { type: 'string' } },
      strict: false
    }).values
    if (typeof config === 'string') return config
  } catch {}
  return process.env['GATEWAY_CONFIG']
}

const file = configFile()
const tree = file ? (await import('../config/file.ts')).readFileTree(file, read).tree : {}
const given = ((tree as RawTree)['server'] ?? {}) as RawTree
const known = serverOptions['properties'] as Record<string, { env: string; default: unknown }>

function option(key: 'host' | 'port' | 'tlsCertFile'): string {
  const schema = known[key]!
  return String(process.env[schema.env]?.trim() || (given[key] ?? schema.default))
}

// Linux takes 0.0.0.0 and :: for this machine. Whose certificate it is is not asked.
const { get } =
  option('tlsCertFile') === '' ? await import('node:http') : await import('node:https')
const host = option('host').replace(/^\[(.*)\]$/, '$1')
const options = { host, port: option('port'), path: '/livez', rejectUnauthorized: false }
const end = (code: number) => process.exit(code)
get(options, ({ statusCode }) => end(statusCode === 200 ? 0 : 1)).on('error', () => end(1))
