// The options and variables that several commands share, read in one way. It acts on none of them.
import { readFile } from 'node:fs/promises'
import { parseArgs, type ParseArgsConfig } from 'node:util'
import type { Vault } from './credentials.ts'
import type { Env } from './credentials-home.ts'
import { exitCodes, Failure, systemCode } from './failure.ts'
import { safeUrl } from './http.ts'

/** Reads a command line of at most one URL; unknown options and more words are wrong use. */
export function parse<Options extends NonNullable<ParseArgsConfig['options']>>(
  args: string[],
  options: Options
) {
  const parsed = parseArgs({ args, options, allowPositionals: true })
  if (parsed.positionals.length > 1) {
    throw new Failure(
      `One URL is enough, not ${parsed.positionals.length}: ${parsed.positionals.join(' ')}`,
      exitCodes.usage
    )
  }
  return { values: parsed.values, url: parsed.positionals[0] }
}

/** The URL as typed, when it is one that a token may be sent to. */
export function checkedUrl(url: string): string {
  try {
    safeUrl(url, 'The URL')
  } catch (error) {
    throw new Failure(
      `${(error as Error).message} It looks like https://mcp.example.org/mcp.`,
      exitCodes.usage
    )
  }
  return url
}

/** The URL: typed, from DRUPAL_MCP_URL, or the only one that somebody is signed in for. */
export async function chosenUrl(url: string | undefined, env: Env, vault?: Vault): Promise<string> {
  const named = url ?? env['DRUPAL_MCP_URL']
  if (named) return checkedUrl(named)
  const kept = vault === undefined ? [] : await vault.list()
  if (kept.length === 1 && kept[0] !== undefined) return kept[0].resource
  throw new Failure(
    kept.length === 0
      ? 'Which gateway? Give its MCP URL, such as https://mcp.example.org/mcp, or set DRUPAL_MCP_URL.'
      : `Which one? You are signed in for ${kept.map(({ resource }) => resource).join(', ')}.`,
    exitCodes.usage
  )
}

/** A client's secret, from DRUPAL_MCP_CLIENT_SECRET or a file: never from the command line, which others can read. */
export async function clientSecret(
  env: Env,
  file: string | undefined
): Promise<string | undefined> {
  const path = file ?? (env['DRUPAL_MCP_CLIENT_SECRET_FILE'] || undefined)
  if (path === undefined) return env['DRUPAL_MCP_CLIENT_SECRET'] || undefined
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw new Failure(`The secret file ${path} cannot be read (${systemCode(error)}).`)
  })
  if (text.trim() !== '') return text.trim()
  throw new Failure(`The secret file ${path} is empty.`)
}

/** "a b" or "a,b" as names. */
export function scopeList(text: string | undefined): string[] | undefined {
  return text?.split(/[\s,]+/).filter(Boolean)
}
