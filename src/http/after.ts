// How does a step go on when its answer may be there at once? It refuses to know what is asked.

/** Uses what is there at once, and what is promised later: a call whose answers are all at hand waits for no promise. */
export function after<T, U>(
  value: T | Promise<T>,
  use: (value: T) => U | Promise<U>
): U | Promise<U> {
  return value instanceof Promise ? value.then(use) : use(value)
}
