// Where this package lies: its manifest and its configuration files. Built code lies one folder deeper than its source.
import { existsSync } from 'node:fs'

/** The folder of package.json, as a URL with a trailing slash. */
export function packageRoot(): URL {
  const built = new URL('../../../', import.meta.url)
  return existsSync(new URL('package.json', built)) ? built : new URL('../../', import.meta.url)
}
