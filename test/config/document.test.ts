import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Ajv } from 'ajv'
import t from 'tap'
import { parse } from 'yaml'
import { configTable, editorSchema, exampleYaml, withTable } from '../../src/config/document.ts'
import { generate } from '../../src/config/generate.ts'
import { loadConfig } from '../../src/config/load.ts'
import { options, rootSchema } from '../../src/config/options.ts'

const strong = 'q8Zr2LwX0vKe7TnB4mYc1HsD6uGj9PaF'

t.test('the tree is a JSON schema: the loader itself does not ask', async t => {
  const ajv = new Ajv()
  ajv.addVocabulary(['env', 'risk', 'accepts', 'secret', 'unit'])
  t.equal(ajv.validateSchema(rootSchema), true, ajv.errorsText())
})

t.test('the generated documents of the repository are not stale', async t => {
  t.strictSame(generate(process.cwd(), true), [], 'run: npm run generate')
})

t.test('the example loads with nothing but the session secret', async t => {
  const config = loadConfig({
    env: { SESSION_SECRET: strong },
    file: join(process.cwd(), 'config/gateway.example.yaml')
  })
  t.equal(config.environment, 'production')
  t.equal(config.derived.resource, 'https://mcp.example.org/mcp')
})

t.test('the example names every option with its default', async t => {
  // Options at their default are comments without a space: "  #port: 3000".
  const active = exampleYaml().replace(/^( *)#(?! )/gm, '$1')
  const withDefaults = loadConfig({
    env: { SESSION_SECRET: strong },
    file: 'f',
    readFile: () => active
  })
  const without = loadConfig({
    env: { SESSION_SECRET: strong },
    file: 'f',
    readFile: () => exampleYaml()
  })
  t.strictSame(withDefaults, without)
  const tree = parse(active) as Record<string, Record<string, unknown>>
  for (const { keys, schema, path } of options) {
    const [first = '', second] = keys
    const value = second === undefined ? tree[first] : tree[first]?.[second]
    t.equal(value === undefined, schema.secret === true, path)
    if (schema.env !== undefined) t.match(exampleYaml(), schema.env)
  }
  t.strictSame(
    exampleYaml()
      .split('\n')
      .filter(line => line.length > 100),
    []
  )
})

t.test('the placeholder of the example is refused as a secret', async t => {
  const placeholder = /SESSION_SECRET=(\S+)/.exec(exampleYaml())?.[1] ?? ''
  t.throws(
    () => loadConfig({ env: { SESSION_SECRET: placeholder }, file: 'f', readFile: exampleYaml }),
    /must not be the placeholder/
  )
})

t.test('the editor schema takes the example and refuses what the loader refuses', async t => {
  const validate = new Ajv({ strict: true, allowUnionTypes: true }).compile(
    JSON.parse(editorSchema()) as object
  )
  t.ok(validate(parse(exampleYaml())))
  t.ok(validate(parse(readFileSync('config/demo.yaml', 'utf8'))))
  t.ok(validate({ server: null, policy: { tools: { 'a_*': { weight: 2 } } } }))
  for (const tree of [
    { redisUrl: 'redis://x' },
    { session: { secrets: ['x'] } },
    { drupal: { urll: 'x' } },
    { server: { port: '80' } },
    { policy: { tools: { a: { scope: [] } } } },
    { log: { level: 'loud' } }
  ])
    t.notOk(validate(tree), JSON.stringify(tree))
})

t.test('the configuration of the demo loads, and flags win over it', async t => {
  const file = join(process.cwd(), 'config/demo.yaml')
  const config = loadConfig({ env: { DRUPAL_URL: 'http://127.0.0.1:18080' }, file })
  t.equal(config.drupal.url, 'http://127.0.0.1:18080')
  t.equal(config.environment, 'development')
  t.equal(loadConfig({ env: {}, file }).drupal.url, 'http://127.0.0.1:8080')
})

t.test('the table has a row for every option and stands between the markers', async t => {
  const rows = configTable().split('\n').slice(2)
  t.equal(rows.length, options.length)
  for (const [index, { path }] of options.entries()) {
    t.match(rows[index], `| \`${path}\` |`)
    t.equal(rows[index]?.replaceAll('\\|', '').split('|').length, 6, path)
  }
  const readme = 'a\n<!-- config:begin -->\nold\n<!-- config:end -->\nb\n'
  t.equal(
    withTable(readme),
    readme.replace('old', () => configTable())
  )
  t.equal(withTable('no markers'), 'no markers')
  t.equal(withTable('<!-- config:end --><!-- config:begin -->').length, 40)
})

t.test('generate writes what is missing or stale and then finds nothing', async t => {
  const dir = t.testdir({ 'README.md': 'x\n<!-- config:begin -->\n<!-- config:end -->\n' })
  const all = ['config/gateway.example.yaml', 'config/gateway.schema.json', 'README.md']
  t.strictSame(generate(dir, true), all)
  t.strictSame(generate(dir, true), all, '--check wrote nothing')
  t.strictSame(generate(dir, false), all)
  t.strictSame(generate(dir, true), [])
  t.match(readFileSync(join(dir, 'README.md'), 'utf8'), '`drupal.url`')
  t.strictSame(
    generate(t.testdir({ empty: {} }), true),
    all.slice(0, 2),
    'no README, nothing to say'
  )
})
