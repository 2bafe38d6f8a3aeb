// What is given to Kubernetes and Compose: rendered, held against Kubernetes' own schemas, and held against the program itself, so
// that no port, path, option or time in deploy/ says something else than the gateway does.
import { cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Ajv } from 'ajv'
import t from 'tap'
import { parse } from 'yaml'
import { loadConfig } from '../../src/config/load.ts'
import { options } from '../../src/config/options.ts'
import { startGateway } from '../gateway/fixtures/start.ts'
import {
  hasRoom,
  agreesWithTheProgram,
  deploy,
  gatewayPod,
  known,
  nginxDirectives,
  one,
  SECRET,
  selections
} from './agreement.ts'
import {
  chart,
  chartTool,
  defaultValues,
  kustomize,
  type Manifest,
  readManifests,
  renderChart,
  schemaProblem,
  unknownFields
} from './manifests.ts'
import { needs, root, tools } from './tools.ts'

const overlays = readdirSync(join(deploy, 'kubernetes/overlays')).map(name => `overlays/${name}`)

t.test('the proxies in deploy/proxies wait longer than a call may take', async t => {
  const config = loadConfig({ env: { DRUPAL_URL: 'https://www.example.org' } })
  const longest = config.drupal.queueTimeoutSeconds + config.drupal.callTimeoutSeconds
  const directives = nginxDirectives()
  t.ok(Number.parseInt(directives['proxy_read_timeout'] as string, 10) > longest)
  t.equal(
    Number.parseInt(directives['client_max_body_size'] as string, 10) * 1_048_576,
    config.server.maxBodyBytes
  )
  const haproxy = readFileSync(join(deploy, 'proxies/haproxy.cfg'), 'utf8')
  t.equal(/timeout client (\d+)s/.exec(haproxy)?.[1], '150')
  t.equal(/timeout server (\d+)s/.exec(haproxy)?.[1], '150')
  t.ok(longest < 150)
  t.ok(config.streams.heartbeatSeconds < 60, 'shorter than the idle time-out of usual balancers')
})

t.test('the probes ask what the gateway answers', async t => {
  const { origin, gateway } = await startGateway(t, { env: { ADMIN_PORT: '0' } })
  for (const path of ['/livez', '/readyz', '/readyz?once'])
    t.equal((await fetch(origin + path)).status, 200, path)
  const metrics = await gateway.admin?.inject({
    url: '/metrics',
    headers: { host: '10.0.0.1:9464' }
  })
  t.equal(metrics?.statusCode, 200)
})

t.test('kustomize', needs(tools.kubectl, tools.kubernetesModels), async t => {
  for (const folder of ['base', ...overlays]) {
    await t.test(folder, async t => {
      const manifests = kustomize(folder)
      t.comment(manifests.map(({ kind, metadata }) => `${kind}/${metadata.name}`).join(' '))
      for (const manifest of manifests)
        t.equal(await schemaProblem(manifest), undefined, `${manifest.kind} fits its schema`)
      t.equal(unknownFields(manifests, t.testdir()), '')
      agreesWithTheProgram(t, manifests)
      for (const kind of [
        'PodDisruptionBudget',
        'HorizontalPodAutoscaler',
        'NetworkPolicy',
        'Namespace'
      ])
        t.ok(
          manifests.some(each => each.kind === kind),
          kind
        )
      if (folder !== 'base') {
        const { args } = one(manifests, 'StatefulSet')['spec'].template.spec.containers[0]
        t.strictSame(args, composeFile().services['valkey'].command, 'Valkey as in Compose')
        t.match(args.join(' '), '--appendonly yes')
        t.match(args.join(' '), '--maxmemory-policy noeviction')
        const from = one(manifests, 'NetworkPolicy', /gateway/)['spec'].ingress[0].from[0]
        t.not(from.namespaceSelector.matchLabels['kubernetes.io/metadata.name'], 'ingress')

        // Each selector takes its own pods and no others; the two policies let the gateway reach its Valkey.
        const names = ['drupal-mcp-gateway', 'valkey']
        const selected = selections(manifests)
        for (const { where, owner, isPeer, pods } of selected)
          t.strictSame(pods, isPeer ? names.filter(name => name !== owner) : [owner], where)
        t.strictSame(
          selected
            .filter(each => each.isPeer)
            .map(each => each.owner)
            .sort(),
          names
        )
      }
    })
  }
  t.test('the example of the Secret is refused as it stands', async t => {
    const text = readFileSync(join(deploy, 'kubernetes/base/secret.example.yaml'), 'utf8')
    const [secret] = readManifests(text)
    t.equal(await schemaProblem(secret as Manifest), undefined)
    t.throws(
      () =>
        loadConfig({
          env: {
            NODE_ENV: 'production',
            GATEWAY_PUBLIC_URL: 'https://mcp.example.org',
            DRUPAL_URL: 'https://www.example.org',
            SESSION_SECRET: secret?.['stringData']['session-secret']
          }
        }),
      /placeholder/
    )
  })
  t.test('a wrong type and a misspelt field are found', async t => {
    const manifest = one(kustomize('base'), 'Deployment')
    manifest['spec'].template.spec.containers[0].ports[0].containerPort = 'http'
    t.match(await schemaProblem(manifest), /containerPort must be integer/)
    const other = one(kustomize('base'), 'Deployment')
    other['spec'].template.spec.containers[0].livenesProbe = {}
    t.match(unknownFields([other], t.testdir()), /livenesProbe/)
  })
})

t.test('the Helm chart', needs(chartTool, tools.kubernetesModels), async t => {
  t.comment(`rendered by ${chartTool}`)
  const manifests = renderChart()
  const everything = renderChart({
    serviceMonitor: { enabled: true, interval: '15s', labels: { release: 'prometheus' } },
    image: { repository: 'r.example/g', digest: `sha256:${'0'.repeat(64)}`, pullPolicy: 'Always' },
    imagePullSecrets: [{ name: 'pull' }],
    nodeSelector: { disk: 'ssd' },
    tolerations: [{ key: 'a', operator: 'Exists' }],
    affinity: { podAntiAffinity: {} }
  })
  const set = (name: string, more: object) => ({ ...(defaultValues[name] as object), ...more })
  const alone = { minReplicas: 1, maxReplicas: 1, targetCPUUtilization: 70 }
  const nothing = renderChart({
    ingress: { enabled: false },
    networkPolicy: { enabled: false },
    redis: false,
    autoscaling: alone,
    serviceMonitor: { enabled: false }
  })
  t.comment(everything.map(({ kind }) => kind).join(' '))
  for (const manifest of [...manifests, ...everything, ...nothing])
    t.equal(await schemaProblem(manifest), undefined, `${manifest.kind} fits its schema`)
  t.equal(unknownFields([...manifests, ...everything, ...nothing], t.testdir()), '')
  agreesWithTheProgram(t, manifests)
  agreesWithTheProgram(t, everything)
  t.match(one(everything, 'ServiceMonitor').metadata, { labels: { release: 'prometheus' } })
  t.notOk(nothing.some(({ kind }) => /Ingress|NetworkPolicy|ServiceMonitor/.test(kind)))
  t.match(gatewayPod(everything).spec.containers[0].image, /^r\.example\/g@sha256:0+$/)
  t.strictSame(
    gatewayPod(nothing).spec.containers[0].env.map(({ name }: { name: string }) => name),
    ['SESSION_SECRET_FILE']
  )

  t.test('is reached by the Gateway API where that is wanted', async t => {
    const values = {
      ingress: { enabled: false },
      httpRoute: set('httpRoute', { enabled: true }),
      networkPolicy: set('networkPolicy', { ingressNamespace: 'gateways' })
    }
    const routed = renderChart(values)
    t.notOk(routed.some(({ kind }) => kind === 'Ingress'))
    t.equal(await schemaProblem(one(routed, 'HTTPRoute')), undefined)
    t.equal(unknownFields(routed, t.testdir()), '')
    agreesWithTheProgram(t, routed)
    const own = renderChart({ ...values, config: set('config', { KEEP_ALIVE: '620' }) })
    t.equal(one(own, 'ConfigMap')['data'].KEEP_ALIVE, '620', 'unless it is said')
    t.equal(one(manifests, 'ConfigMap')['data'].KEEP_ALIVE, undefined)
    const route = join(deploy, 'kubernetes/overlays/gateway-api/route.yaml')
    t.strictSame(
      one(routed, 'HTTPRoute')['spec'].parentRefs,
      one(readManifests(readFileSync(route, 'utf8')), 'HTTPRoute')['spec'].parentRefs
    )
  })

  t.test('names that YAML would read as numbers stay texts', async t => {
    const numbers = renderChart(
      {
        existingSecret: '123',
        image: { repository: '1', tag: '2', pullPolicy: 'Always' },
        ingress: set('ingress', { className: '1', host: '1e3', tlsSecret: '7' }),
        httpRoute: set('httpRoute', { enabled: true, host: '1e3' }),
        networkPolicy: set('networkPolicy', { ingressNamespace: '0', monitoringNamespace: 'no' }),
        serviceMonitor: { enabled: true, interval: '30s' }
      },
      '2024'
    )
    for (const manifest of numbers) {
      t.equal(await schemaProblem(manifest), undefined, `${manifest.kind} fits its schema`)
      const name = manifest.kind === 'Namespace' ? '2024' : '2024-drupal-mcp-gateway'
      t.match(manifest['metadata'], { name, namespace: '2024' })
    }
    t.equal(unknownFields(numbers, t.testdir()), '')
  })

  t.test('its notes ask for the keys that the pods read', async t => {
    const copy = t.testdir()
    cpSync(chart, copy, { recursive: true })
    const notes = readFileSync(join(chart, 'templates/NOTES.txt'), 'utf8')
    // Renderers show objects only.
    writeFileSync(join(copy, 'templates/notes.yaml'), `notes: |\n${notes.replaceAll(/^/gm, '  ')}`)
    for (const redis of [true, false]) {
      const rendered = renderChart({ redis }, 'mcp', copy)
      const shown = rendered.find(object => 'notes' in object)?.['notes'] as string
      const keys = gatewayPod(rendered).spec.containers[0].env.map(
        ({ value }: { value: string }) => /[^/]+$/.exec(value)?.[0]
      )
      t.strictSame(
        new Set(shown.match(/(?<=--from-literal=)[a-z-]+/g)),
        new Set(keys),
        `redis: ${redis}`
      )
      t.notMatch(shown, /\\\n\n/, 'no line goes on into nothing')
    }
  })

  t.test('lets the pods out to where Drupal and the store listen, and nowhere else', async t => {
    const portsOf = (more: object) => {
      const networkPolicy = { ...(defaultValues['networkPolicy'] as object), ...more }
      const { spec } = one(renderChart({ networkPolicy }), 'NetworkPolicy')
      return spec.egress.at(-1).ports.map(({ port }: { port: number }) => port)
    }
    t.strictSame(portsOf({}), [443, 80, 6379])
    t.strictSame(portsOf({ drupalPorts: [8080], redisPort: 6380 }), [8080, 6380])
  })

  t.test('runs the same pod as kustomize', needs(tools.kubectl), async t => {
    const plain = ({ spec }: Manifest) => {
      const {
        containers,
        topologySpreadConstraints: _spread,
        serviceAccountName: _name,
        ...pod
      } = spec
      const {
        image: _image,
        imagePullPolicy: _pull,
        envFrom: _config,
        ...container
      } = containers[0]
      return { ...pod, containers: [container] }
    }
    t.strictSame(plain(gatewayPod(manifests)), plain(gatewayPod(kustomize('base'))))
    const policy = (set: Manifest[]) => one(set, 'HorizontalPodAutoscaler')['spec'].behavior
    t.strictSame(policy(manifests), policy(kustomize('base')))
  })

  t.test('the schema of its values takes the defaults and refuses slips', async t => {
    const schema = JSON.parse(readFileSync(join(chart, 'values.schema.json'), 'utf8'))
    const validate = new Ajv({ strict: true, strictTypes: false, strictRequired: false }).compile(
      schema
    )
    t.ok(validate(defaultValues), JSON.stringify(validate.errors))
    const config = defaultValues['config'] as Record<string, string>
    for (const name of Object.keys(config)) t.ok(known.has(name), name)
    for (const slip of [
      { replicaz: 3 },
      { config: { ...config, SESSION_SECRET: SECRET } },
      { config: { ...config, MCP_SERVER_PORT: '4000' } },
      // The probes ask over plain HTTP.
      { config: { ...config, TLS_CERT_FILE: '/run/secrets/gateway/tls.crt' } },
      { config: { ...config, TLS_KEY_FILE: '/run/secrets/gateway/tls.key' } },
      { config: { ...config, GATEWAY_PUBLIC_URL: 'http://mcp.example.org' } },
      { config: { ...config, DRUPAL_MAX_CONCURRENCY: 8 } },
      { image: { repository: 'x', digest: 'latest' } },
      { shutdownTimeout: 0 },
      // Each process would remember for itself which sessions were ended.
      { redis: false }
    ])
      t.notOk(validate({ ...defaultValues, ...slip }), JSON.stringify(slip).slice(0, 60))
    t.ok(validate({ ...defaultValues, redis: false, autoscaling: alone }))
    const forbidden = schema.properties.config.propertyNames.not.enum as string[]
    for (const { schema: option } of options)
      if (option.secret) t.ok(forbidden.includes(option.env as string), `${option.env} is a secret`)
  })
})

t.test('the page begins with an overlay whose controller is cared for', async t => {
  const page = readFileSync(join(root, 'docs/deployment.md'), 'utf8')
  for (const overlay of overlays) t.match(page, `\`${overlay.replace('overlays/', '')}\``)
  const [, applied = ''] = /^kubectl apply -k deploy\/kubernetes\/(\S+)$/m.exec(page) ?? []
  t.ok(overlays.includes(applied), applied)
  t.not(applied, 'overlays/ingress-nginx')
  t.match(page, 'ingress-nginx is retired')
  const retired = 'kubernetes/overlays/ingress-nginx/kustomization.yaml'
  for (const file of [join(deploy, retired), join(chart, 'values.yaml')])
    t.match(readFileSync(file, 'utf8'), /ingress-nginx\b.* is retired/, file)
})

t.test('the runbooks name what is there', needs(tools.kubectl, chartTool), async t => {
  const page = readFileSync(join(root, 'docs/runbooks.md'), 'utf8')
  const rendered = [kustomize('base'), renderChart()]
  const deployments = rendered.map(each => one(each, 'Deployment')['metadata'])
  t.strictSame(
    new Set(
      [...page.matchAll(/-n (\S+) \S+ deploy\/(\S+)/g)].map(([, ...names]) => names.join('/'))
    ),
    new Set(deployments.map(({ name, namespace }) => `${namespace}/${name}`))
  )
  const selectors = [...page.matchAll(/ -l (\S+)=(\w+)/g)]
  t.ok(selectors.length > 0)
  for (const [, label = '', value] of selectors)
    for (const each of rendered) t.equal(gatewayPod(each).metadata.labels[label], value, label)
})

interface Compose {
  // oxlint-disable-next-line typescript/no-explicit-any
  services: Record<string, any>
  configs: Record<string, { content: string }>
}
function composeFile(): Compose {
  return parse(readFileSync(join(deploy, 'compose.yaml'), 'utf8')) as Compose
}

t.test('Compose', async t => {
  const { services, configs } = composeFile()
  const { gateway, demo, prometheus, grafana } = services
  /** ${NAME:-default} as Compose fills it in. */
  const filled = (given: Record<string, string>) =>
    Object.fromEntries(
      Object.entries(gateway.environment as Record<string, unknown>).map(([name, value]) => [
        name,
        String(value).replace(
          /\$\{(\w+):-([^}]*)\}/g,
          (_, key: string, preset: string) => given[key] ?? preset
        )
      ])
    )
  for (const name of Object.keys(gateway.environment)) t.ok(known.has(name), `${name} is an option`)
  t.strictSame(gateway.env_file, [{ path: '.env', required: false }], 'so is each other one')
  const readFile = (path: string) => {
    t.equal(path, `/run/secrets/${gateway.secrets[0]}`)
    return SECRET
  }
  const config = loadConfig({
    env: filled({
      GATEWAY_PUBLIC_URL: 'https://mcp.example.org',
      DRUPAL_URL: 'https://www.example.org'
    }),
    readFile
  })
  t.throws(
    () => loadConfig({ env: filled({}), readFile }),
    /GATEWAY_PUBLIC_URL[^]*DRUPAL_URL|DRUPAL_URL[^]*GATEWAY_PUBLIC_URL/
  )
  const exposed = /^EXPOSE (\d+)$/m.exec(readFileSync(join(root, 'Dockerfile'), 'utf8'))?.[1]
  t.equal(config.server.port, Number(exposed), 'the port of the Dockerfile')
  t.match(gateway.ports, [/^127\.0\.0\.1:.*:3000$/, /^127\.0\.0\.1:9464:9464$/])
  t.equal(gateway.ports.length, 2, 'published on loopback only')
  t.equal(config.server.adminPort, 9464, 'as the runbooks ask it')
  t.ok(
    Number.parseInt(gateway.stop_grace_period, 10) >
      config.server.shutdownTimeoutSeconds + config.server.readinessDelaySeconds
  )
  t.ok(hasRoom(config, gateway.mem_limit), 'answers held in memory leave room')
  t.match(gateway.logging, {
    driver: 'json-file',
    options: { 'max-size': /^\d+m$/, 'max-file': /^\d+$/ }
  })
  const { 'max-size': size, 'max-file': files } = gateway.logging.options
  const page = readFileSync(join(root, 'docs/deployment.md'), 'utf8')
  t.match(page, `the last ${Number.parseInt(size, 10) * Number(files)} MB`, 'no more of the disk')
  for (const service of [gateway, services['valkey'], demo]) {
    t.equal(service.read_only, true)
    t.strictSame(service.cap_drop, ['ALL'])
  }
  t.strictSame(demo.profiles, ['demo'])
  for (const service of Object.values(services))
    if (service.image === gateway.image)
      t.match(service.build, { context: '..' }, 'it is published nowhere')
  t.strictSame(demo.build, gateway.build)
  for (const service of [prometheus, grafana]) t.strictSame(service.profiles, ['monitoring'])
  for (const service of [gateway, services['valkey'], prometheus, grafana])
    t.equal(service.restart, 'unless-stopped', 'after the host has started anew')
  t.match(configs['prometheus']?.content, `targets: ['gateway:${config.server.adminPort}']`)
  t.match(configs['prometheus']?.content, 'job_name: drupal-mcp-gateway')
  for (const { content } of Object.values(configs)) t.type(parse(content), 'object')
  for (const { volumes = [], image } of Object.values(services)) {
    t.notMatch(image, /:latest$/)
    for (const volume of volumes as string[]) {
      const [source = ''] = volume.split(':')
      if (source.startsWith('./')) t.ok(existsSync(join(deploy, source)), source)
    }
  }
})
