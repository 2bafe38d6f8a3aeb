// Is the tree legal by the schema? One Ajv pass fills in defaults; its errors become lines that say what to do. It refuses to
// know how options depend on each other (check.ts).
import { Ajv, type ErrorObject } from 'ajv'
import { isHost, isProxy, urlProblem } from './address.ts'
import { type RawTree, setAt } from './file.ts'
import { type OptionSchema, accepted, label, optionAt, options } from './options.ts'
import { type Tree, configSchema } from './schema.ts'
import { nearest } from './suggest.ts'

const ajv = new Ajv({
  // A test judges the schema; done at each start, with code made for speed, it is a twentieth of a cold start (measured).
  meta: false,
  validateSchema: false,
  code: { optimize: false },
  allErrors: true,
  useDefaults: true,
  verbose: true,
  formats: {
    'http-url': (text: string) => text === '' || urlProblem(text) === undefined,
    issuer: (text: string) => urlProblem(text) === undefined,
    proxy: isProxy,
    host: isHost
  }
})
ajv.addVocabulary(['env', 'risk', 'accepts', 'secret', 'unit'])
const validateTree = ajv.compile<Tree>(configSchema)

/** Put where drupal.url is missing or illegal, so that the checks of other options can go on. Never leaves src/config. */
const standIn = 'https://drupal.invalid'

export type Validated = {
  /** Legal by the schema: an illegal option has its default here. */
  tree: Tree
  problems: string[]
  /** Paths of the options that had a problem. */
  refused: ReadonlySet<string>
}

/** Validates `tree` in place. Every problem is found; no value is in any of them. */
export function validate(tree: RawTree): Validated {
  const problems = new Set<string>()
  const refused = new Set<string>()
  validateTree(tree)
  for (const error of validateTree.errors ?? []) {
    const keys = error.instancePath.split('/').slice(1).map(unescapePointer)
    if (error.keyword === 'required') keys.push(error.params.missingProperty as string)
    const path = keys.join('.')
    const option = optionAt(path)
    problems.add(
      error.keyword === 'additionalProperties'
        ? unknownKey(path, error)
        : error.keyword === 'required'
          ? `${label(path)}: is required. Set it to ${accepted(option?.schema as OptionSchema)}.`
          : `${located(keys)}: ${mismatch(error)}`
    )
    if (option) refused.add(option.path)
  }
  for (const path of refused) {
    const option = options.find(each => each.path === path)
    if (option) setAt(tree, option, structuredClone(option.schema.default ?? standIn))
  }
  return { tree: tree as Tree, problems: [...problems], refused }
}

const unescapePointer = (key: string) => key.replaceAll('~1', '/').replaceAll('~0', '~')

/** `oauth.issuers (OAUTH_ISSUER), entry 2`. */
function located(keys: readonly string[]): string {
  const path = keys.join('.')
  const option = optionAt(path)
  if (option?.schema.type !== 'array' || option.path === path) return label(path)
  return `${label(option.path)}, entry ${Number(keys.at(-1)) + 1}`
}

function mismatch(error: ErrorObject): string {
  const schema = error.parentSchema as OptionSchema
  const reason =
    (error.keyword === 'format' && urlProblemOf(schema, error.data as string)) ||
    `must be ${accepted(schema)}`
  const text = typeof error.data === 'string' ? error.data : ''
  if (/^(["']).*\1$/s.test(text)) return `${reason}. Remove the quotes around the value.`
  const several = /\/\d+$/.test(error.instancePath) && /\S\s+\S/.test(text)
  return several ? `${reason}. Put commas between entries, not spaces.` : `${reason}.`
}

const urlProblemOf = (schema: OptionSchema & { format?: string }, text: string) =>
  ['proxy', 'host'].includes(schema.format ?? '') ? undefined : urlProblem(text)

/** A key may hold anything, also what would forge a line of the log. */
const printable = (key: string) =>
  /^[\x20-\x7E]{1,200}$/.test(key) ? key : JSON.stringify(key).slice(0, 200)

function unknownKey(parent: string, error: ErrorObject): string {
  const key = error.params.additionalProperty as string
  const path = printable(parent === '' ? key : `${parent}.${key}`)
  const siblings = Object.keys((error.parentSchema as OptionSchema).properties ?? {})
  if (siblings.length === 0)
    return `${path}: not a name or pattern of tools. Use letters, digits and . _ * -, 128 at most.`
  const sibling = nearest(key, siblings)
  const elsewhere = options.find(({ keys, schema }) => keys.at(-1) === key || schema.env === key)
  const meant =
    sibling === undefined
      ? elsewhere?.path
      : [...(parent === '' ? [] : [parent]), sibling].join('.')
  return `${path}: unknown option. ${meant ? `Did you mean ${meant}?` : 'Remove it, or see config/gateway.example.yaml.'}`
}
