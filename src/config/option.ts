// How an option is written down: its JSON schema and, beside it, what people and the loader need to know. It refuses to know
// any single option (the *-options.ts files).

/** A JSON schema whose values are of type T; the type is for the compiler, at run time there is only the schema. */
export interface Schema<T> {
  readonly type: string
  readonly [keyword: string]: unknown
  readonly [valueType]?: T
}
declare const valueType: unique symbol

/** The type of what a schema accepts. */
export type ValueOf<S> = S extends Schema<infer T> ? T : never

type Schemas = Record<string, Schema<unknown>>
type Keywords = Record<string, unknown>

const schema = <T>(type: string, keywords: Keywords): Schema<T> => ({ type, ...keywords })

/** What an option carries beside its JSON schema. */
export type Meta = {
  /** Name of the environment variable. */
  env?: string
  description: string
  /** What goes wrong when the option is set badly. */
  risk?: string
  /** What is legal, in words, where type and bounds do not say it: "must be …". */
  accepts?: string
  /** Without a default the option is required. */
  default?: unknown
  /** Never in a file and never printed; `<env>_FILE` names a file that holds it. */
  secret?: boolean
}

/** A text that the keywords narrow. */
export const matching = (keywords: Keywords) => schema<string>('string', keywords)

/** A list whose entries are of one kind; comma-separated in the environment. */
export const listOf = <T>(items: Schema<T>, keywords: Keywords) =>
  schema<T[]>('array', { items, ...keywords })

/** Text; may be empty only when the default is. */
export const text = (meta: Meta) =>
  matching({ minLength: meta.default === '' ? 0 : 1, accepts: 'a text', ...meta })

/** An absolute http(s) URL that the loader normalises: no trailing slash. */
export const url = (meta: Meta) =>
  matching({
    format: 'http-url',
    minLength: meta.default === '' ? 0 : 1,
    accepts: 'a URL such as https://www.example.org, without query, fragment and credentials',
    ...meta
  })

/** A path; `pattern` says which. */
export const path = (pattern: string, meta: Meta) => matching({ pattern, ...meta })

/** Path of a file that is read at start; empty: none. */
export const file = (meta: Meta) =>
  matching({ accepts: 'the path of a file', default: '', ...meta })

/** A list of texts. `item` narrows an entry. */
export const list = (meta: Meta, item: Record<string, unknown>) =>
  listOf(matching({ minLength: 1, accepts: 'a text', ...item }), { default: [], ...meta })

/** One scope in a list, by RFC 6749 §3.3. */
export const scope = {
  pattern: '^[\\x21\\x23-\\x5B\\x5D-\\x7E]+$',
  accepts: 'one scope, without spaces, quotes and backslashes'
}

/** A duration in seconds, fractions allowed. */
export const seconds = (meta: Meta, minimum = 1, maximum = 31_536_000) =>
  schema<number>('number', { minimum, maximum, unit: 'seconds', ...meta })

/** A whole number of things. */
export const count = (meta: Meta, minimum = 1, maximum = 1_000_000) =>
  schema<number>('integer', { minimum, maximum, ...meta })

/** A size in bytes, from 1 KiB; unless said otherwise up to 1 GiB. */
export const bytes = (meta: Meta, maximum = 1_073_741_824) =>
  schema<number>('integer', { minimum: 1024, maximum, unit: 'bytes', ...meta })

export const flag = (meta: Meta) => schema<boolean>('boolean', meta)

export const oneOf = <const T extends readonly string[]>(values: T, keywords: Keywords = {}) =>
  schema<T[number]>('string', { enum: [...values], ...keywords })

/** `max/window` ("600/60s", "10/1m", a window of seven days at most) or "off". */
export const budgetPattern =
  '^(off|[1-9][0-9]{0,8}/([1-9][0-9]{0,4}s|[1-9][0-9]{0,3}m|[1-9][0-9]?h))$'

/** A budget, read by budget.ts. */
export const budget = (meta: Meta) =>
  matching({
    pattern: budgetPattern,
    accepts: 'a budget such as 600/60s, 10/1m or 5000/1h, or off',
    ...meta
  })

/** An object of these members and no others; all are required. */
export const object = <P extends Schemas>(properties: P, keywords: Keywords) =>
  schema<{ [K in keyof P]: ValueOf<P[K]> }>('object', {
    required: Object.keys(properties),
    properties,
    additionalProperties: false,
    ...keywords
  })

/** An object of some of these members and no others. */
export const partial = <P extends Schemas>(properties: P) =>
  schema<{ [K in keyof P]?: ValueOf<P[K]> }>('object', { properties, additionalProperties: false })

/** An object whose names match a pattern and whose values are of one kind. */
export const named = <T>(pattern: string, value: Schema<T>, meta: Meta) =>
  schema<Record<string, T>>('object', {
    patternProperties: { [pattern]: value },
    additionalProperties: false,
    ...meta
  })

/** A named group of options. */
export const group = <P extends Schemas>(description: string, properties: P) =>
  object(properties, { description, default: {} })
