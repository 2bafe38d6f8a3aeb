// The objects that deploy/ gives to a cluster, and what Kubernetes would say of each: by the schemas of kubernetes-models, which hold
// types and required fields, and by its TypeScript types, which know every field there is, so that a misspelt one shows.
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parse, parseAllDocuments } from 'yaml'
import { has, modules, root, tools } from './tools.ts'

/** A Kubernetes object; tests look into it freely. */
export interface Manifest {
  apiVersion: string
  kind: string
  // oxlint-disable-next-line typescript/no-explicit-any
  [field: string]: any
}

/** As Kubernetes reads YAML: 1.1, where 0440 is octal. */
export function readManifests(text: string): Manifest[] {
  return parseAllDocuments(text, { version: '1.1' })
    .map(document => {
      if (document.errors[0]) throw document.errors[0]
      return document.toJS() as Manifest | null
    })
    .filter(each => each !== null)
}

export function kustomize(folder: string): Manifest[] {
  return readManifests(
    execFileSync('kubectl', ['kustomize', join(root, 'deploy/kubernetes', folder)], {
      encoding: 'utf8'
    })
  )
}

export type Values = Record<string, unknown>

export const chart = join(root, 'deploy/helm')
export const defaultValues = parse(readFileSync(join(chart, 'values.yaml'), 'utf8')) as Values

/** What renders charts here: helm itself, else Go's template engine with Debian's sprig (render-chart.go). */
export const chartTool = has(tools.helm) ? tools.helm : tools.go

/** A chart's objects, `name` being that of the release and its namespace. Only whole top-level values are replaced. */
export function renderChart(values: Values = {}, name = 'mcp', folder = chart): Manifest[] {
  const input = JSON.stringify({ ...defaultValues, ...values })
  const run = (program: string, args: string[]) =>
    readManifests(
      execFileSync(program, args, {
        encoding: 'utf8',
        input,
        env: { ...process.env, GO111MODULE: 'off', GOPATH: '/usr/share/gocode', GOFLAGS: '' }
      })
    )
  return chartTool === tools.helm
    ? run('helm', ['template', name, folder, '--namespace', name, '--values', '-'])
    : run('go', ['run', join(root, 'test/deploy/render-chart.go'), folder, name, name])
}

/** The file, without its ending, that holds the schema and the types of an object. */
function model({ apiVersion, kind }: Manifest): string {
  const packages = ['kubernetes-models', 'gateway-api', 'prometheus-operator', 'traefik']
  for (const name of packages) {
    const folder = name === 'kubernetes-models' ? name : `@kubernetes-models/${name}`
    const file = `${modules}${folder}/${apiVersion}/${kind}`
    if (existsSync(`${file}.js`)) return file
  }
  throw new Error(`no schema for ${apiVersion} ${kind}`)
}

/** What is wrong with an object by its schema; undefined when nothing is. */
export async function schemaProblem(manifest: Manifest): Promise<string | undefined> {
  const models = (await import(pathToFileURL(`${model(manifest)}.js`).href)) as Record<
    string,
    new (
      data: unknown
    ) => { validate(): void }
  >
  const Model = models[manifest.kind]
  if (Model === undefined) throw new Error(`no model of ${manifest.kind}`)
  try {
    new Model(manifest).validate()
    return undefined
  } catch (error) {
    return (error as Error).message
  }
}

/** What the compiler says of the objects as literals of their types: a field that there is not, a value of the wrong form. */
export function unknownFields(manifests: readonly Manifest[], folder: string): string {
  const lines = manifests.map((manifest, index) => {
    const type = `import('${model(manifest)}.js').I${manifest.kind}`
    return `export const object${index}: ${type} = ${JSON.stringify(manifest)}`
  })
  const file = join(folder, 'objects.mts')
  writeFileSync(file, lines.join('\n'))
  const flags = '--noEmit --strict --skipLibCheck --module nodenext --ignoreConfig'.split(' ')
  // tap loads itself into every Node that a test starts; the compiler does not bear it.
  const command = ['-u', 'NODE_OPTIONS', join(root, 'node_modules/.bin/tsc'), ...flags, file]
  const { status, stdout, stderr } = spawnSync('env', command, { encoding: 'utf8', cwd: folder })
  return status === 0 ? '' : `${stdout}${stderr}`
}
