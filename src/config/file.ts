// What does the configuration file say? YAML or JSON (which YAML reads) to a plain tree, without secrets. It refuses to know
// whether the values are legal.
import { createRequire } from 'node:module'
import type * as yaml from 'yaml'
import { type Option, label, options, rootSchema } from './options.ts'

const require = createRequire(import.meta.url)

/** What was written, before anybody knows whether it is legal (schema.ts `Tree`). */
export type RawTree = Record<string, unknown>

export type Sources = {
  tree: RawTree
  problems: string[]
  /** False: nothing is known of the file, so that a missing option says nothing. */
  readable: boolean
}

/** Reads a file by `read`. Problems name the place, never an excerpt: somebody may have put a secret there. */
export function readFileTree(path: string, read: (path: string) => string): Sources {
  const failed = (problem: string): Sources => ({
    tree: {},
    problems: [`configuration file ${path}: ${problem}`],
    readable: false
  })
  let source: string
  try {
    source = read(path)
  } catch (error) {
    return failed(`cannot be read (${errorCode(error)}). Check the path and its permissions.`)
  }
  // Only here: without a file, the 70 modules of the parser are a twentieth of a cold start (measured).
  const { LineCounter, parseDocument } = require('yaml') as typeof yaml
  const lines = new LineCounter()
  const document = parseDocument(source, {
    prettyErrors: false,
    lineCounter: lines,
    // Nothing but plain groups, lists and values: in a Map, Set or Date (!!omap, !!set, a date of YAML 1.1) no option is seen.
    schema: 'core',
    resolveKnownTags: false
  })
  const [error] = [...document.errors, ...document.warnings]
  if (error) {
    const { line, col } = lines.linePos(error.pos[0])
    const place = `at line ${line}, column ${col}`
    if (error.code === 'TAG_RESOLVE_FAILED') {
      return failed(`has a YAML tag that is not known here ${place}: remove the word with the !.`)
    }
    const kind = error.code.toLowerCase().replaceAll('_', ' ')
    return failed(`is not valid YAML or JSON ${place} (${kind}).`)
  }
  let tree: unknown
  try {
    // Aliases could make a tree that is endless or explodes.
    tree = document.toJS({ maxAliasCount: 0 })
  } catch {
    return failed('must not use YAML aliases (*name): write the value out.')
  }
  if (tree === null) return { tree: {}, problems: [], readable: true }
  if (!isTree(tree)) return failed(`must hold options, such as drupal: { url: … }.`)
  const problems: string[] = []
  dropBlanks(tree)
  straightenGroups(tree, problems)
  removeSecrets(tree, problems)
  return { tree, problems, readable: true }
}

function isTree(value: unknown): value is RawTree {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** `ENOENT`, `EACCES`, …: the message of a file error may say more than a log should. */
export function errorCode(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? 'unknown error'
}

/** A key without a value (`server:` with every line below commented out) counts as unset, as an empty variable does. */
function dropBlanks(tree: RawTree): void {
  for (const [key, value] of Object.entries(tree)) {
    if (value === null) delete tree[key]
    else if (isTree(value)) dropBlanks(value)
  }
}

/** Something other than a group where a group is due would hide the environment's options below it. */
function straightenGroups(tree: RawTree, problems: string[]): void {
  for (const [key, schema] of Object.entries(rootSchema.properties)) {
    if (!schema.properties || tree[key] === undefined || isTree(tree[key])) continue
    problems.push(
      `${key}: must be a group of options, one per line, such as "${key}:" and below it "  ${Object.keys(schema.properties)[0]}: …".`
    )
    delete tree[key]
  }
}

function removeSecrets(tree: RawTree, problems: string[]): void {
  for (const option of options) {
    if (!option.schema.secret || valueAt(tree, option) === undefined) continue
    problems.push(
      `${label(option.path)}: a secret is given only by environment or *_FILE: remove it from the file, and replace the secret if others can read the file.`
    )
    setAt(tree, option, undefined)
  }
}

function valueAt(tree: RawTree, option: Option): unknown {
  return option.keys.reduce<unknown>(
    (node, key) => (isTree(node) && Object.hasOwn(node, key) ? node[key] : undefined),
    tree
  )
}

/** Sets an option, making its group where it is missing; undefined removes it. */
export function setAt(tree: RawTree, option: Option, value: unknown): void {
  const groups = option.keys.slice(0, -1)
  const last = option.keys.at(-1) as string
  const group = groups.reduce<RawTree>((node, key) => (node[key] ??= {}) as RawTree, tree)
  if (value === undefined) delete group[last]
  else group[last] = value
}
