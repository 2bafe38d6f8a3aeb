// Are the generated documents of the configuration up to date? Writes them, or with --check only says which are stale. It
// refuses to know what is in them (document.ts).
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { editorSchema, exampleYaml, withTable } from './document.ts'

/**
 * Brings the documents below `root` up to date and gives the paths of those that were stale; with `check` it writes nothing.
 * The README is looked at only when it exists and has the markers.
 */
export function generate(root: string, check: boolean): string[] {
  const read = (path: string) =>
    existsSync(join(root, path)) ? readFileSync(join(root, path), 'utf8') : undefined
  const readme = read('README.md')
  const documents = new Map([
    ['config/gateway.example.yaml', exampleYaml()],
    ['config/gateway.schema.json', editorSchema()]
  ])
  if (readme !== undefined) documents.set('README.md', withTable(readme))
  const stale = [...documents].filter(([path, text]) => read(path) !== text)
  if (!check)
    for (const [path, text] of stale) {
      mkdirSync(dirname(join(root, path)), { recursive: true })
      writeFileSync(join(root, path), text)
    }
  return stale.map(([path]) => path)
}

/* c8 ignore start -- runs only as a command; a test calls generate() itself */
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const check = process.argv.includes('--check')
  const stale = generate(process.cwd(), check)
  for (const path of stale)
    console.log(check ? `${path} is stale: npm run generate` : `${path} written`)
  if (check && stale.length > 0) process.exitCode = 1
}
/* c8 ignore stop */
