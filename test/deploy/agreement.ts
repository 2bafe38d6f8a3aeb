// Do rendered objects say the same as the program? Every port, path, option, time and selector of the gateway's pod, and of what leads
// to it, held against the configuration that the pod would load.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { loadConfig } from '../../src/config/load.ts'
import { options } from '../../src/config/options.ts'
import type { Config } from '../../src/config/schema.ts'
import { type Manifest, readManifests } from './manifests.ts'
import { root } from './tools.ts'

export const deploy = join(root, 'deploy')
export const SECRET = 'kJ8s0dPq2mXv7ZtR4wYb6NcE1hGf3LuA'
export const known = new Set(
  options.flatMap(({ schema: { env, secret } }) =>
    env === undefined ? [] : secret ? [env, `${env}_FILE`] : [env]
  )
)
export const one = (manifests: readonly Manifest[], kind: string, name?: RegExp): Manifest => {
  const found = manifests.filter(
    each => each.kind === kind && (name === undefined || name.test(each['metadata'].name))
  )
  if (found.length !== 1) throw new Error(`${found.length} objects of kind ${kind}`)
  return found[0] as Manifest
}
export const gatewayPod = (manifests: readonly Manifest[]) =>
  one(manifests, 'Deployment')['spec'].template

/** The configuration that the pod would load, its secrets included. */
function configOf(t: Test, manifests: readonly Manifest[]): Config {
  const { spec } = gatewayPod(manifests)
  const [container] = spec.containers
  const data = one(manifests, 'ConfigMap')['data'] as Record<string, string>
  t.equal(container.envFrom[0].configMapRef.name, one(manifests, 'ConfigMap')['metadata'].name)
  const own = Object.fromEntries(
    container.env.map(({ name, value }: { name: string; value: string }) => [name, value])
  ) as Record<string, string>
  for (const [name, value] of Object.entries({ ...data, ...own })) {
    t.ok(known.has(name), `${name} is an option`)
    t.type(value, 'string')
  }
  const keys = one(
    readManifests(readFileSync(join(deploy, 'kubernetes/base/secret.example.yaml'), 'utf8')),
    'Secret'
  )['stringData'] as Record<string, string>
  const [mount] = container.volumeMounts
  return loadConfig({
    env: { ...data, ...own },
    readFile(path) {
      const key = path.replace(`${mount.mountPath}/`, '')
      const value = keys[key]
      if (value === undefined) throw new Error(`${path}: the Secret has no key ${key}`)
      return key === 'session-secret' ? SECRET : value
    }
  })
}

/** Whether a memory limit, in MiB, is enough for the answers that may be held at once, as they come and translated, and for the rest. */
export function hasRoom({ drupal }: Config, limit: string): boolean {
  return (
    drupal.maxConcurrency * drupal.maxResponseBytes < (Number.parseInt(limit, 10) * 1_048_576) / 4
  )
}

/** Everything that a set of objects says about the gateway's pod. */
export function agreesWithTheProgram(t: Test, manifests: readonly Manifest[]): void {
  const config = configOf(t, manifests)
  const template = gatewayPod(manifests)
  const { spec } = template
  const [container] = spec.containers
  const ports = Object.fromEntries(
    container.ports.map((port: { name: string; containerPort: number }) => [
      port.name,
      port.containerPort
    ])
  )
  t.strictSame(ports, { http: config.server.port, metrics: config.server.adminPort })
  t.match([config.server.host, config.server.adminHost], ['0.0.0.0', '0.0.0.0'])
  t.equal(config.environment, 'production')
  t.ok(config.server.trustedProxies.length > 0, 'the ingress controller is believed')

  const { shutdownTimeoutSeconds, readinessDelaySeconds } = config.server
  t.ok(readinessDelaySeconds > 0, 'endpoints have time to follow')
  t.ok(spec.terminationGracePeriodSeconds > shutdownTimeoutSeconds + readinessDelaySeconds)
  t.notOk('lifecycle' in container)
  t.equal(container.startupProbe.httpGet.path, '/livez')
  t.equal(container.livenessProbe.httpGet.path, '/livez')
  t.equal(container.readinessProbe.httpGet.path, '/readyz?once')
  for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe'])
    t.ok(ports[container[probe].httpGet.port], probe)

  t.match(spec, {
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    securityContext: {
      runAsNonRoot: true,
      runAsUser: Number(/^USER (\d+):/m.exec(readFileSync(join(root, 'Dockerfile'), 'utf8'))?.[1]),
      fsGroup: spec.securityContext.runAsGroup,
      seccompProfile: { type: 'RuntimeDefault' }
    }
  })
  t.strictSame(container.securityContext, {
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ['ALL'] }
  })
  t.ok(spec.topologySpreadConstraints.length > 0)
  t.ok(hasRoom(config, container.resources.limits.memory), 'answers held in memory leave room')

  // Everything that selects pods selects these.
  const labels = template.metadata.labels as Record<string, string>
  const selected = (selector: Record<string, string>) =>
    Object.entries(selector).every(([name, value]) => labels[name] === value)
  const service = one(manifests, 'Service', /gateway/)
  t.ok(selected(service['spec'].selector))
  for (const kind of ['Deployment', 'PodDisruptionBudget'])
    t.ok(selected(one(manifests, kind)['spec'].selector.matchLabels), kind)
  const policy = one(manifests, 'NetworkPolicy', /gateway/)
  t.ok(selected(policy['spec'].podSelector.matchLabels))
  for (const rule of spec.topologySpreadConstraints) t.ok(selected(rule.labelSelector.matchLabels))
  t.equal(
    one(manifests, 'HorizontalPodAutoscaler')['spec'].scaleTargetRef.name,
    one(manifests, 'Deployment')['metadata'].name
  )
  t.ok(spec.serviceAccountName === one(manifests, 'ServiceAccount')['metadata'].name)

  // Every port that is named exists.
  const served = new Map<string | number, string>()
  for (const { name, port, targetPort } of service['spec'].ports) {
    t.ok(ports[targetPort], `service port ${name}`)
    served.set(name, targetPort).set(port, targetPort)
  }
  for (const { ports: allowed } of policy['spec'].ingress)
    for (const { port } of allowed) t.ok(ports[port], `network policy: ${port}`)
  for (const monitor of manifests.filter(({ kind }) => kind === 'ServiceMonitor')) {
    t.match(monitor['spec'].endpoints, [{ port: 'metrics', path: '/metrics' }])
    for (const [name, value] of Object.entries(monitor['spec'].selector.matchLabels))
      t.equal(service['metadata'].labels[name], value)
    t.equal(service['metadata'].labels[monitor['spec'].jobLabel], 'drupal-mcp-gateway')
  }

  // How it is reached: the whole host, the right port, time enough.
  const longest = config.drupal.queueTimeoutSeconds + config.drupal.callTimeoutSeconds
  const { host } = new URL(config.publicUrl)
  for (const { spec: ingress, metadata } of manifests.filter(each => each.kind === 'Ingress')) {
    const note = (name: string) => metadata.annotations[`nginx.ingress.kubernetes.io/${name}`]
    t.equal(ingress.rules[0].host, host)
    const [path] = ingress.rules[0].http.paths
    t.equal(path.path, '/')
    t.equal(path.backend.service.name, service['metadata'].name)
    t.equal(served.get(path.backend.service.port.name), 'http')
    t.match(nginxDirectives(), {
      proxy_buffering: note('proxy-buffering'),
      proxy_read_timeout: `${note('proxy-read-timeout')}s`,
      proxy_send_timeout: `${note('proxy-send-timeout')}s`,
      proxy_http_version: note('proxy-http-version'),
      proxy_next_upstream: note('proxy-next-upstream'),
      client_max_body_size: note('proxy-body-size')
    })
    t.ok(Number(note('proxy-read-timeout')) > longest)
  }
  for (const { spec: route } of manifests.filter(each => each.kind === 'HTTPRoute')) {
    t.strictSame(route.hostnames, [host])
    t.equal(route.rules[0].timeouts.request, '0s')
    t.equal(served.get(route.rules[0].backendRefs[0].port), 'http')
    t.equal(route.rules[0].backendRefs[0].name, service['metadata'].name)
    t.ok(config.server.keepAliveSeconds > 3600, 'Envoy closes first')
  }
  for (const { spec: route } of manifests.filter(each => each.kind === 'IngressRoute')) {
    t.equal(route.routes[0].match, `Host(\`${host}\`)`)
    const [backend] = route.routes[0].services
    t.equal(served.get(backend.port), 'http')
    t.equal(backend.name, service['metadata'].name)
    const transport = one(manifests, 'ServersTransport')
    t.equal(backend.serversTransport, transport['metadata'].name)
    const { responseHeaderTimeout, idleConnTimeout } = transport['spec'].forwardingTimeouts
    t.ok(Number.parseInt(responseHeaderTimeout, 10) > longest)
    t.ok(Number.parseInt(idleConnTimeout, 10) < config.server.keepAliveSeconds, 'closes first')
  }
}

interface Selection {
  /** The object and the place in it. */
  where: string
  /** The object's name. */
  owner: string
  /** True for the other side of a policy's rule. */
  isPeer: boolean
  /** The workloads whose pods are selected. */
  pods: string[]
}

/** Every selector of pods in a set of objects, and whose pods of the set it selects. */
export function selections(manifests: readonly Manifest[]): Selection[] {
  const workloads = manifests.filter(each => each['spec']?.template?.metadata !== undefined)
  const selectedBy = (labels: Record<string, string>) =>
    workloads
      .filter(({ spec }) =>
        Object.entries(labels).every(
          ([name, value]) => spec.template.metadata.labels[name] === value
        )
      )
      .map(({ metadata }) => metadata.name as string)
  const found: Selection[] = []
  for (const { kind, metadata, spec } of manifests) {
    // A ServiceMonitor selects Services.
    if (kind === 'ServiceMonitor') continue
    const look = (node: unknown, path: string[]) => {
      if (typeof node !== 'object' || node === null) return
      for (const [key, value] of Object.entries(node)) {
        const isSelector = ['selector', 'podSelector', 'labelSelector'].includes(key)
        if (!isSelector) {
          look(value, [...path, key])
          continue
        }
        found.push({
          where: [`${kind}/${metadata.name}`, ...path, key].join(' '),
          owner: metadata.name,
          isPeer: path[0] === 'ingress' || path[0] === 'egress',
          pods: selectedBy(kind === 'Service' ? value : value.matchLabels)
        })
      }
    }
    look(spec, [])
  }
  return found
}

/** `name value;` lines of deploy/proxies/nginx.conf. */
export function nginxDirectives(): Record<string, string> {
  const text = readFileSync(join(deploy, 'proxies/nginx.conf'), 'utf8')
  return Object.fromEntries(
    [...text.matchAll(/^\s*([a-z_]+) ([^;]+);/gm)].map(([, name, value]) => [name, value])
  ) as Record<string, string>
}
