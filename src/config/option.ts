// How an option is written down: its JSON schema and, beside it, what people and the loader need to know. It refuses to know
// any single option (the *-options.ts files).
import { type TSchema, Type } from 'typebox'

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

/** Text; may be empty only when the default is. */
export const text = (meta: Meta) =>
  Type.String({ minLength: meta.default === '' ? 0 : 1, accepts: 'a text', ...meta })

/** An absolute http(s) URL that the loader normalises: no trailing slash. */
export const url = (meta: Meta) =>
  Type.String({
    format: 'http-url',
    minLength: meta.default === '' ? 0 : 1,
    accepts: 'a URL such as https://www.example.org, without query, fragment and credentials',
    ...meta
  })

/** A path; `pattern` says which. */
export const path = (pattern: string, meta: Meta) => Type.String({ pattern, ...meta })

/** Path of a file that is read at start; empty: none. */
export const file = (meta: Meta) =>
  Type.String({ accepts: 'the path of a file', default: '', ...meta })

/** A list of texts; comma-separated in the environment. `item` narrows an entry. */
export const list = (meta: Meta, item: Record<string, unknown> = {}) =>
  Type.Array(Type.String({ minLength: 1, accepts: 'a text', ...item }), { default: [], ...meta })

/** A duration in seconds, fractions allowed. */
export const seconds = (meta: Meta, minimum = 1, maximum = 31_536_000) =>
  Type.Number({ minimum, maximum, unit: 'seconds', ...meta })

/** A whole number of things. */
export const count = (meta: Meta, minimum = 1, maximum = 1_000_000) =>
  Type.Integer({ minimum, maximum, ...meta })

/** A size in bytes, 1 KiB to 1 GiB. */
export const bytes = (meta: Meta) =>
  Type.Integer({ minimum: 1024, maximum: 1_073_741_824, unit: 'bytes', ...meta })

export const flag = (meta: Meta) => Type.Boolean(meta)

export const oneOf = <const T extends readonly string[]>(values: T, meta: Meta) =>
  Type.Unsafe<T[number]>({ type: 'string', enum: [...values], ...meta })

/** `max/window` ("600/60s", "10/1m", a window of seven days at most) or "off". */
export const budgetPattern =
  '^(off|[1-9][0-9]{0,8}/([1-9][0-9]{0,4}s|[1-9][0-9]{0,3}m|[1-9][0-9]?h))$'

/** A budget, read by budget.ts. */
export const budget = (meta: Meta) =>
  Type.String({
    pattern: budgetPattern,
    accepts: 'a budget such as 600/60s, 10/1m or 5000/1h, or off',
    ...meta
  })

/** A named group of options. Unknown keys are refused. */
export const group = <T extends Record<string, TSchema>>(description: string, properties: T) =>
  Type.Object(properties, { description, additionalProperties: false, default: {} })
