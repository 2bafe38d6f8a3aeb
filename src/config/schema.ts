// One tree: every option's shape, type, default, documentation and environment name. It refuses to know where values come
// from (load.ts) and what follows from them (derive.ts).
import { drupalOptions } from './drupal-options.ts'
import { oauthOptions } from './oauth-options.ts'
import { object, type ValueOf } from './option.ts'
import {
  limitOptions,
  logOptions,
  policyOptions,
  redisUrl,
  sessionOptions,
  streamOptions,
  toolOptions
} from './policy-options.ts'
import { rootOptions, serverOptions } from './server-options.ts'

export const configSchema = object(
  {
    ...rootOptions,
    server: serverOptions,
    drupal: drupalOptions,
    oauth: oauthOptions,
    session: sessionOptions,
    redisUrl,
    limits: limitOptions,
    policy: policyOptions,
    tools: toolOptions,
    streams: streamOptions,
    log: logOptions
  },
  { description: 'Configuration of drupal-mcp-gateway.' }
)

/** The tree as validated, before anything is derived from it. Only src/config sees it. */
export type Tree = ValueOf<typeof configSchema>

/** How the audience of a token is judged (auth/audience.ts). */
export type AudiencePolicy =
  | { kind: 'drupal' }
  | { kind: 'resource' }
  | { kind: 'clients'; clientIds: readonly string[] }

/** A budget: at most `max` units per window; null: switched off. */
export type Budget = { max: number; windowMs: number } | null

type Frozen<T> = T extends (infer E)[]
  ? readonly Frozen<E>[]
  : T extends object
    ? { readonly [K in keyof T]: Frozen<T[K]> }
    : T

/** The validated, frozen configuration with what follows from it. Made by load.ts only. */
export type Config = Frozen<Tree> & {
  readonly derived: {
    /** publicUrl + mcpPath: the protected resource, byte for byte (R85). */
    readonly resource: string
    /** URL of the resource metadata document (RFC 9728 §3.1, path-suffixed form). */
    readonly resourceMetadataUrl: string
    readonly audience: AudiencePolicy
    readonly budgets: {
      readonly session: Budget
      readonly principal: Budget
      readonly client: Budget
      readonly failures: Budget
    }
    /** Where to connect: drupal.internalUrl or drupal.url; no trailing slash. */
    readonly drupalConnectUrl: string
    /** Warnings for the start-up log: each names the option and the risk. */
    readonly warnings: readonly string[]
  }
}
