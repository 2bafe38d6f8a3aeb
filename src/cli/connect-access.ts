// Who may pass? Gives every request its token, and where there is none any more, has somebody sign in: once for all that wait.
import { exitCodes, Failure } from './failure.ts'
import type { TokenSource } from './tokens.ts'

export interface Access {
  /** The token of the next request; undefined: try without one. */
  token(): Promise<string | undefined>
  /** After a 401, which may name scopes: another token, by refresh or by a sign-in. Throws a Failure when there is none to be had. */
  replace(refused: string | undefined, named?: string[]): Promise<string>
  /** After a 403 that names scopes: a token that was asked for with them; undefined when the last sign-ins already did. Throws a Failure, too. */
  stepUp(scopes: string[]): Promise<string | undefined>
  /** Whoever was asked to sign in does not want to: those that wait fail, and nobody is asked again for a while. */
  decline(): void
  /** The token that was given last; nothing is refreshed and nobody asked. */
  last(): string | undefined
  /** Which scopes the last sign-in did not get, and why; undefined when it got all. */
  lacking(): Promise<string | undefined>
  /** Resolves when neither a sign-in nor a refresh is under way. */
  settled(): Promise<void>
}

/**
 * `scopes`: what the refusal names, if it does; with `isStepUp` what a working token lacks. Ends early, with the signal's reason or an
 * error of its own, when aborted.
 */
export type SignInHere = (
  wish: { scopes: string[] | undefined; isStepUp: boolean },
  signal: AbortSignal
) => Promise<unknown>

interface AccessOptions {
  tokens: TokenSource
  /** Undefined: nobody can sign in. */
  signIn?: SignInHere
  /** Told when one more waits for a sign-in that is under way. */
  joined?: () => void
  /** Milliseconds; only differences count. Default: the monotonic clock. */
  now?: () => number
}

/** After a sign-in that failed, requests fail with it for that long: each would start another one otherwise. */
const coolDownMs = 30_000

/** Shares one sign-in among all requests that need it. */
export function createAccess({
  tokens,
  signIn,
  joined,
  now = () => performance.now()
}: AccessOptions): Access {
  let running: { wish: string; done: Promise<void> } | undefined
  let failed: { at: number; error: unknown } | undefined
  let last: string | undefined
  let stop = new AbortController()
  /** The wider scopes that the present sign-in was asked for, each as its 403 named them. */
  const wider = new Set<string>()
  /** What a sign-in could not bring is not asked for again: why, by the scopes. */
  const inVain = new Map<string, Failure>()

  /** `wish`: scopes as one text; '' takes what any sign-in gives, and asks for what was named. */
  async function signedIn(wish: string, named?: string[]): Promise<string | undefined> {
    if (signIn === undefined) {
      throw new Failure(
        'The token was refused, and nobody can sign in here. Bring a new token.',
        exitCodes.notSignedIn
      )
    }
    while (running !== undefined && wish !== '' && running.wish !== wish)
      await running.done.catch(() => undefined)
    if (failed !== undefined && now() - failed.at < coolDownMs) throw failed.error
    if (running !== undefined) joined?.()
    running ??= { wish, done: ask(signIn, wish, named).finally(() => (running = undefined)) }
    await running.done
    return tokens.current()
  }

  async function ask(begin: SignInHere, wish: string, named?: string[]): Promise<void> {
    try {
      // The new token takes the place of the old: what was gained before has to be asked for again.
      const all = new Set([wish, ...wider].flatMap(text => text.split(' ')))
      const isStepUp = wish !== ''
      await here(begin, { scopes: isStepUp ? [...all] : named, isStepUp })
    } catch (error) {
      if (error instanceof Failure && error.exitCode === exitCodes.fewerScopes) {
        inVain.set(wish, error)
        throw error
      }
      failed = { at: now(), error }
      throw error
    }
    failed = undefined
    if (wish !== '') wider.add(wish)
    else {
      wider.clear()
      inVain.clear()
    }
  }

  /** Until somebody has signed in: here, or meanwhile by another process, such as `login` in a terminal. */
  async function here(begin: SignInHere, wish: Parameters<SignInHere>[0]): Promise<void> {
    const mine = (stop = new AbortController())
    const own = begin(wish, mine.signal)
    const wanted = wish.isStepUp ? (wish.scopes ?? []) : []
    const elsewhere = tokens.signedInElsewhere?.(wanted, mine.signal)
    try {
      await (elsewhere === undefined ? own : Promise.race([own, elsewhere]))
    } catch (error) {
      throw mine.signal.aborted ? mine.signal.reason : error
    } finally {
      mine.abort()
      await Promise.allSettled([own, elsewhere])
    }
  }

  return {
    async token() {
      return (last = await tokens.current())
    },
    async replace(refused, named) {
      const other = refused === undefined ? await tokens.current() : await tokens.instead(refused)
      const token = other ?? (await signedIn('', named))
      if (token !== undefined) return (last = token)
      throw new Failure('The sign-in gave no token that could be used.', exitCodes.notSignedIn)
    },
    async stepUp(scopes) {
      const wish = scopes.toSorted().join(' ')
      if (signIn === undefined || wish === '' || wider.has(wish)) return undefined
      const known = inVain.get(wish)
      if (known !== undefined) throw known
      return (last = await signedIn(wish))
    },
    decline() {
      stop.abort(new Failure('The sign-in was declined in the client.', exitCodes.notSignedIn))
    },
    last: () => last,
    lacking: async () => tokens.lacking?.(),
    async settled() {
      await running?.done.catch(() => undefined)
      await tokens.settled?.()
    }
  }
}
