// Which options are there, as a flat list? The tree read once, for the loader and the generated documents. It refuses to know
// values.
import { booleanWords } from './boolean.ts'
import type { Meta } from './option.ts'
import { configSchema } from './schema.ts'

/** The JSON schema of an option or of an entry of a list, as far as anybody here reads it. */
export type OptionSchema = Partial<Meta> & {
  type: 'string' | 'number' | 'integer' | 'boolean' | 'array' | 'object'
  enum?: readonly string[]
  minimum?: number
  maximum?: number
  unit?: string
  items?: OptionSchema
  properties?: Record<string, OptionSchema>
}

export type Option = {
  /** `drupal.callTimeoutSeconds` */
  path: string
  keys: readonly string[]
  schema: OptionSchema & { description: string }
}

function flatten(properties: Record<string, OptionSchema>, above: readonly string[]): Option[] {
  return Object.entries(properties).flatMap(([key, schema]) => {
    const keys = [...above, key]
    return schema.properties
      ? flatten(schema.properties, keys)
      : [{ path: keys.join('.'), keys, schema: schema as Option['schema'] }]
  })
}

/** The root of the tree as plain JSON schema. */
export const rootSchema = configSchema as unknown as OptionSchema & {
  properties: Record<string, OptionSchema>
}

/** Every option, in the order of the tree. */
export const options: readonly Option[] = flatten(rootSchema.properties, [])

const byPath = new Map(options.map(option => [option.path, option]))

/** The option at a path, or the one that a longer path (`policy.tools.search.level`) lies in. */
export function optionAt(path: string): Option | undefined {
  const keys = path.split('.')
  for (let length = keys.length; length > 0; length--) {
    const option = byPath.get(keys.slice(0, length).join('.'))
    if (option) return option
  }
  return undefined
}

/** How every problem and warning begins: `drupal.url (DRUPAL_URL)`. */
export function label(path: string): string {
  const schema = optionAt(path)?.schema
  if (!schema?.env) return path
  return `${path} (${schema.env}${schema.secret ? ` or ${schema.env}_FILE` : ''})`
}

/** What is legal, in words that follow "must be": unit and bounds included. */
export function accepted(schema: OptionSchema): string {
  if (schema.accepts !== undefined) return schema.accepts
  if (schema.enum) return `one of ${schema.enum.join(', ')}`
  switch (schema.type) {
    case 'boolean':
      return booleanWords
    case 'number':
    case 'integer': {
      const kind = schema.type === 'integer' ? 'a whole number' : 'a number'
      const unit = schema.unit ? ` of ${schema.unit}` : ''
      return `${kind}${unit} from ${schema.minimum} to ${schema.maximum}`
    }
    case 'array':
      return `a list (comma-separated in the environment); each entry ${accepted(schema.items as OptionSchema)}`
    default:
      return 'a group of options, key: value'
  }
}
