// What does the environment say? Variables and `*_FILE` secrets to values of the tree. It refuses to know whether the values
// are legal, only whether they can be read as the option's type.
import { readBoolean } from './boolean.ts'
import { type RawTree, errorCode, setAt } from './file.ts'
import { type Option, accepted, label, options } from './options.ts'
import { nearest } from './suggest.ts'

export type Environment = Readonly<Record<string, string | undefined>>

/** Lays the environment over `tree`. Gives problems, no value in any of them, and the paths of the options that had one. */
export function overlayEnvironment(
  tree: RawTree,
  env: Environment,
  read: (path: string) => string
): { problems: string[]; refused: string[] } {
  const problems: string[] = []
  const refused: string[] = []
  const refuse = ({ path }: Option, problem: string) => {
    problems.push(`${label(path)}: ${problem}`)
    refused.push(path)
  }
  for (const option of options) {
    const name = option.schema.env
    if (name === undefined) continue
    const found = option.schema.secret ? secretText(name, env, read) : { text: env[name]?.trim() }
    if ('problem' in found) {
      refuse(option, found.problem)
      continue
    }
    if (found.text === undefined || found.text === '') continue
    const value = parse(found.text, option.schema)
    if (value === undefined) refuse(option, unreadable(found.text, option.schema))
    else setAt(tree, option, value)
  }
  return { problems, refused }
}

/** White space alone is no value; beside one it may be part of a secret. */
const filled = (text: string | undefined) => (text?.trim() ? text : undefined)

type Found = { text: string | undefined } | { problem: string }

function secretText(name: string, env: Environment, read: (path: string) => string): Found {
  const text = filled(env[name])
  const path = filled(env[`${name}_FILE`])
  if (path === undefined) return { text }
  if (text !== undefined) return { problem: `both ${name} and ${name}_FILE are set: keep one.` }
  try {
    const content = filled(read(path).replace(/[\r\n]+$/, ''))
    if (content !== undefined) return { text: content }
    return { problem: `the file that ${name}_FILE names is empty: write the secret into it.` }
  } catch (error) {
    return {
      problem: `the file that ${name}_FILE names cannot be read (${errorCode(error)}): check the path and its permissions.`
    }
  }
}

/** The text as the option's type, or undefined. */
function parse(text: string, schema: Option['schema']): unknown {
  switch (schema.type) {
    case 'boolean':
      return readBoolean(text)
    case 'number':
    case 'integer':
      return /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : undefined
    case 'array':
      return text
        .split(',')
        .map(entry => entry.trim())
        .filter(entry => entry !== '')
    default:
      return text
  }
}

function unreadable(text: string, schema: Option['schema']): string {
  const must = `must be ${accepted(schema)}, without quotes, units and signs beside it.`
  // Docker and Kubernetes put `<SERVICE>_PORT=tcp://…` for a Service into every pod beside it.
  return /^(tcp|udp|sctp):\/\//.test(text)
    ? `${must} Kubernetes sets this variable for a Service of that name: set enableServiceLinks: false, or rename the Service.`
    : must
}

/**
 * Variables that look like a slip of a known name: same first word, one or two letters off; and `<name>_FILE` of an option
 * that is no secret. Warnings, not problems: the environment is shared with other software and with what a platform adds
 * (REDIS_URI, DRUPAL_PORT), and a gateway must not refuse to start because of a neighbour's variable.
 */
export function strayVariables(env: Environment): string[] {
  const known = new Map<string, Option | undefined>([['GATEWAY_CONFIG', undefined]])
  for (const option of options) {
    if (option.schema.env === undefined) continue
    known.set(option.schema.env, option)
    if (option.schema.secret) known.set(`${option.schema.env}_FILE`, option)
  }
  const firstWord = (name: string) => name.split('_', 1)[0]
  const words = new Set([...known.keys()].filter(name => name.includes('_')).map(firstWord))
  const warnings: string[] = []
  for (const [name, value] of Object.entries(env)) {
    if (known.has(name) || value === undefined || !words.has(firstWord(name))) continue
    const base = name.replace(/_FILE$/, '')
    if (base !== name && known.has(base)) {
      warnings.push(`${name}: not read, only secrets are read from files. Set ${base} itself.`)
      continue
    }
    const meant = nearest(name, known.keys())
    if (meant === undefined) continue
    const option = known.get(meant)
    warnings.push(
      `${name}: not an option of the gateway and not read. Did you mean ${meant}${option ? ` (${option.path})` : ''}?`
    )
  }
  return warnings
}
