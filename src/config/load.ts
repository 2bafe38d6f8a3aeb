// What is the configuration? File → environment → *_FILE secrets → validated → derived → frozen; every problem at once, no
// secret in any of them. It refuses to know what the options are for.
import { readFileSync } from 'node:fs'
import { check } from './check.ts'
import { derive, settle } from './derive.ts'
import { type Environment, overlayEnvironment, strayVariables } from './environment.ts'
import { type Sources, readFileTree } from './file.ts'
import type { Config } from './schema.ts'
import { randomSecret } from './session-secret.ts'
import { validate } from './validate.ts'
import { warn } from './warnings.ts'

/** Everything that is wrong with a configuration. Each line names the option, its variable and what to do. */
export class ConfigError extends Error {
  readonly problems: readonly string[]
  /** Variables that were not read and look like a slip: often the reason of a problem. */
  readonly hints: readonly string[]

  constructor(problems: readonly string[], hints: readonly string[] = []) {
    const count = problems.length === 1 ? '1 problem' : `${problems.length} problems`
    super([`The configuration has ${count}.`, ...problems, ...hints].join('\n- '))
    this.name = 'ConfigError'
    this.problems = problems
    this.hints = hints
  }
}

export type LoadOptions = {
  /** The environment: process.env, or what a test wants. Empty values count as unset. */
  env: Environment
  /** Path of a YAML or JSON file; else env.GATEWAY_CONFIG; else no file. */
  file?: string
  /** Reads a file as text, throws as node:fs does. */
  readFile?: (path: string) => string
}

/**
 * Loads the configuration: the file, over it the environment, over it the defaults of the schema.
 * Gives a frozen Config; throws one ConfigError that lists every problem. Risks that are legal are in `derived.warnings`.
 */
export function loadConfig(options: LoadOptions): Config {
  const { env, readFile: read = (path: string) => readFileSync(path, 'utf8') } = options
  const path = options.file || env.GATEWAY_CONFIG
  const sources: Sources = path
    ? readFileTree(path, read)
    : { tree: {}, problems: [], readable: true }
  const environment = overlayEnvironment(sources.tree, env, read)
  const problems = [...sources.problems, ...environment.problems]
  const hints = strayVariables(env)
  // Without the file every option in it would be reported as missing.
  if (!sources.readable) throw new ConfigError(problems, hints)

  const { tree, problems: illegal, refused } = validate(sources.tree)
  settle(tree)
  problems.push(...illegal, ...check(tree, new Set([...refused, ...environment.refused]), read))
  if (problems.length > 0) throw new ConfigError(problems, hints)

  const warnings = [...warn(tree), ...hints]
  if (tree.session.secrets.length === 0) tree.session.secrets = [randomSecret()]
  return deepFreeze({ ...tree, derived: derive(tree, warnings) })
}

function deepFreeze<T extends object>(value: T): T {
  for (const inner of Object.values(value))
    if (typeof inner === 'object' && inner !== null) deepFreeze(inner)
  return Object.freeze(value)
}
