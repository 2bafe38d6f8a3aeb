// Where this package lies, and which version of it this is. Built code lies one folder deeper than its source.
import { existsSync, readFileSync } from 'node:fs'

const manifest = ['../package.json', '../../package.json']
  .map(path => new URL(path, import.meta.url))
  .find(path => existsSync(path)) as URL

/** The folder of package.json, as a URL with a trailing slash. */
export const packageRoot = new URL('.', manifest)

/** The gateway's version, from package.json. */
export const { version } = JSON.parse(readFileSync(manifest, 'utf8')) as { version: string }
