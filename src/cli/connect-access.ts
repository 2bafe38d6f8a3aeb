// Who may pass? Gives every request its token, and where there is none any more, has somebody sign in: once for all that wait.
import { Failure } from './failure.ts'
import type { TokenSource } from './tokens.ts'

export interface Access {
  /** The token of the next request; undefined: try without one. */
  token(): Promise<string | undefined>
  /** After a 401: another token, by refresh or by a sign-in. Throws a Failure when there is none to be had. */
  replace(refused: string | undefined): Promise<string>
  /** After a 403 that names scopes: a token that was asked for with them; undefined when that was tried before. */
  stepUp(scopes: string[]): Promise<string | undefined>
  /** The token that was given last; nothing is refreshed and nobody asked. */
  last(): string | undefined
  /** Resolves when neither a sign-in nor a refresh is under way. */
  settled(): Promise<void>
}

interface AccessOptions {
  tokens: TokenSource
  /** Signs in with these scopes, or with what the gateway asks for. Undefined: nobody can. */
  signIn?: (scopes?: string[]) => Promise<unknown>
  /** Milliseconds; only differences count. Default: the monotonic clock. */
  now?: () => number
}

/** After a sign-in that failed, requests fail with it for that long: each would start another one otherwise. */
const coolDownMs = 30_000

/** Shares one sign-in among all requests that need it. */
export function createAccess({
  tokens,
  signIn,
  now = () => performance.now()
}: AccessOptions): Access {
  let running: Promise<unknown> | undefined
  let failed: { at: number; error: unknown } | undefined
  let last: string | undefined
  const tried = new Set<string>()

  async function signedIn(scopes?: string[]): Promise<string | undefined> {
    if (signIn === undefined) {
      throw new Failure('The token was refused, and nobody can sign in here. Bring a new token.', 3)
    }
    if (failed !== undefined && now() - failed.at < coolDownMs) throw failed.error
    running ??= signIn(scopes)
      .then(
        () => (failed = undefined),
        (error: unknown) => {
          failed = { at: now(), error }
          throw error
        }
      )
      .finally(() => (running = undefined))
    await running
    return tokens.current()
  }

  return {
    async token() {
      return (last = await tokens.current())
    },
    async replace(refused) {
      const other = refused === undefined ? await tokens.current() : await tokens.instead(refused)
      const token = other ?? (await signedIn())
      if (token !== undefined) return (last = token)
      throw new Failure('The sign-in gave no token that could be used.')
    },
    async stepUp(scopes) {
      const wish = scopes.toSorted().join(' ')
      if (signIn === undefined || scopes.length === 0 || tried.has(wish)) return undefined
      tried.add(wish)
      return (last = await signedIn(scopes))
    },
    last: () => last,
    async settled() {
      await running?.catch(() => undefined)
      await tokens.settled?.()
    }
  }
}
