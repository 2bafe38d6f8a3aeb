#!/usr/bin/env node
// The command line: one word says which program runs; each is loaded only when it is asked for.
import { realpathSync } from 'node:fs'
import { constants } from 'node:os'
import { pathToFileURL } from 'node:url'
import { version } from '../package.ts'
import { commands } from './commands.ts'
import { harmless, type World } from './terminal.ts'

function usage(): string {
  const lines = Object.entries(commands).map(
    ([name, { summary }]) => `  ${name.padEnd(10)} ${summary}`
  )
  return `drupal-mcp-gateway: the public MCP endpoint of a Drupal site

Usage: drupal-mcp-gateway <command> [options]

Commands:
${lines.join('\n')}

Options:
  --help     this text, or that of a command: drupal-mcp-gateway serve --help
  --version  the version

Examples:
  drupal-mcp-gateway demo
  drupal-mcp-gateway doctor https://mcp.example.org/mcp
  drupal-mcp-gateway login https://mcp.example.org/mcp
  claude mcp add drupal -- npx drupal-mcp-gateway connect https://mcp.example.org/mcp

Exit codes: 0 done, 1 failed, 2 wrong use; login and its kin also 3 not signed in, 4 fewer scopes than asked for.
`
}

/** Runs one command line (without node and the script) and answers its exit code. */
export async function main(args: string[], world: World = process): Promise<number> {
  const { stdout, stderr } = world
  const [name = '--help', ...rest] = args
  if (name === '--version' || name === '-v') {
    stdout.write(`${version}\n`)
    return 0
  }
  if (name === 'help' && Object.hasOwn(commands, rest[0] ?? '')) {
    return main([rest[0] as string, '--help'], world)
  }
  if (name === '--help' || name === '-h' || name === 'help') {
    stdout.write(usage())
    return 0
  }
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined
  if (command === undefined) {
    stderr.write(`"${name}" is no command. "drupal-mcp-gateway --help" lists them.\n`)
    return 2
  }
  try {
    return await (await command.load()).run(rest, world)
  } catch (error) {
    // A stack is for us, not for the person at the terminal.
    stderr.write(`drupal-mcp-gateway ${name}: ${harmless((error as Error).message)}\n`)
    const { code, exitCode = 1 } = error as { code?: string; exitCode?: number }
    return code?.startsWith('ERR_PARSE_ARGS') ? 2 : exitCode
  }
}

/** Without this, `doctor | head` and a client that closes our stderr would end in a stack. */
function obeyClosedPipes(): void {
  let isOver = false
  process.stdout.on('error', ({ code }: NodeJS.ErrnoException) => {
    if (!isOver && code !== 'EPIPE') {
      process.stderr.write(`The output cannot be written (${code}).\n`)
    }
    // Nobody reads any more: each command ends as it does on this signal.
    if (!isOver) process.kill(process.pid, 'SIGTERM')
    isOver = true
  })
  process.stderr.on('error', () => undefined)
}

/** The kernel gives process 1, as in a container, no signal that it does not wait for: a stop while a command still starts was lost. */
function obeyEarlyStops(): void {
  if (process.pid !== 1) return
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (process.listenerCount(signal) === 1) process.exit(128 + constants.signals[signal])
    })
  }
}

const started = process.argv[1]
// npm starts us through a link in node_modules/.bin.
if (started !== undefined && import.meta.url === pathToFileURL(realpathSync(started)).href) {
  obeyEarlyStops()
  obeyClosedPipes()
  process.exitCode = await main(process.argv.slice(2))
}
