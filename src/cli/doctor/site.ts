// What the site believes and what stands in front of it: host names, forwarded headers, caches, clocks.
import { type Answer, brief } from './ask.ts'
import {
  type Check,
  type Context,
  failed,
  type Finding,
  ok,
  PROBE_CLIENT,
  PROBE_HOST,
  warning,
  worst
} from './check.ts'
import { postForm } from './endpoints.ts'
import { unique } from './resource.ts'

async function trustedHosts({ facts, askDrupal }: Context): Promise<Finding> {
  const { url } = facts.metadata!.answer
  const question = { headers: { host: PROBE_HOST } }
  const answer = await askDrupal(unique(url), question).catch((error: Error) => error)
  if (answer instanceof Error) return ok('a foreign Host gets no answer')
  const seen = `a foreign Host is answered ${brief(answer)}`
  if (answer.text.includes(PROBE_HOST)) return failed(`${seen}, and the document repeats it`)
  if (answer.status >= 500) return warning(seen)
  return ok(seen)
}

async function forwarded({ facts, askDrupal }: Context): Promise<Finding> {
  const { url } = facts.metadata!.answer
  const headers = { 'x-forwarded-host': PROBE_HOST, forwarded: `host=${PROBE_HOST}` }
  const answer = await askDrupal(unique(url), { headers })
  if (answer.text.includes(PROBE_HOST)) {
    return failed('the site believes a foreign X-Forwarded-Host')
  }
  if (answer.status === 400 || answer.status >= 500) {
    return failed(`a foreign X-Forwarded-Host makes it answer ${answer.status}`)
  }
  return ok('a foreign X-Forwarded-Host changes nothing')
}

interface Evidence {
  hits: string[]
  stores: string[]
  passes: string[]
}

/** What the headers of an answer say about caches on its way. Pure. */
export function cacheEvidence(headers: Readonly<Record<string, string>>): Evidence {
  const evidence: Evidence = { hits: [], stores: [], passes: [] }
  const note = (kind: keyof Evidence, name: string) =>
    evidence[kind].push(`${name}: ${headers[name]}`)
  if (Number(headers['age']) > 0) note('hits', 'age')
  for (const name of [
    'x-cache',
    'x-cache-status',
    'cf-cache-status',
    'x-drupal-cache',
    'cache-status',
    'x-proxy-cache'
  ]) {
    const value = headers[name]
    if (value === undefined || /UNCACHEABLE/.test(value)) continue
    if (/\b(hit|stale|revalidated|updating)\b/i.test(value)) note('hits', name)
    else if (/\b(miss|expired)\b/i.test(value)) note('stores', name)
    else note('passes', name)
  }
  // Two numbers: this request's and that of the request that filled the cache.
  if (/^\d+ \d+$/.test(String(headers['x-varnish']))) note('hits', 'x-varnish')
  for (const name of ['via', 'cf-ray', 'x-amz-cf-id', 'x-served-by']) {
    if (headers[name] !== undefined) note('passes', name)
  }
  return evidence
}

function judgeCaches(answers: readonly Answer[]): Finding {
  const problems: Finding[] = []
  const passes = new Set<string>()
  for (const { url, headers } of answers) {
    const { pathname } = new URL(url)
    const evidence = cacheEvidence(headers)
    if (evidence.hits.length > 0) {
      problems.push(failed(`${pathname} comes from a cache (${evidence.hits.join(', ')})`))
    } else if (evidence.stores.length > 0) {
      problems.push(warning(`a cache may keep ${pathname} (${evidence.stores.join(', ')})`))
    }
    for (const line of evidence.passes) passes.add(line)
  }
  const on = passes.size > 0 ? `; on the way: ${[...passes].join(', ')}` : ''
  return worst(problems, `answers are fresh${on}`)
}

async function gatewayCaches({ url, ask, facts }: Context): Promise<Finding> {
  // The first GET of the run may have filled a cache; this one would come from it.
  return judgeCaches([await ask(url!), ...(facts.challenges ?? [])])
}

async function siteCaches({ facts, askDrupal }: Context): Promise<Finding> {
  const { document } = facts.metadata!
  const form = { grant_type: 'refresh_token', client_id: PROBE_CLIENT, refresh_token: 'none' }
  const token = document['token_endpoint'] as string
  const answers = [await postForm(askDrupal, token, form), await postForm(askDrupal, token, form)]
  const keys = document['jwks_uri']
  if (typeof keys === 'string' && URL.canParse(keys)) {
    await askDrupal(keys)
    answers.push(await askDrupal(keys))
  }
  return judgeCaches(answers)
}

/** Date says whole seconds. */
const BLUR_SECONDS = 2

/** Seconds by which the clock that wrote the Date header is ahead of ours; undefined when it cannot be known. */
function ahead({ headers, at }: Answer): number | undefined {
  const date = Date.parse(String(headers['date']))
  if (Number.isNaN(date) || Number(headers['age']) > 0) return undefined
  return Math.round((date - at) / 1000)
}

const apart = (seconds: number) => `${Math.abs(seconds)} s ${seconds < 0 ? 'behind' : 'ahead'}`

function clock({ config, facts }: Context): Finding {
  const site = ahead(facts.metadata!.answer)
  if (site === undefined) return ok('the site sends no Date')
  const gateway = facts.endpoint === undefined ? 0 : ahead(facts.endpoint)
  if (gateway === undefined) return ok('the gateway sends no Date')
  const tolerance = config?.oauth.clockToleranceSeconds ?? 5
  const difference = site - gateway
  const seen = `the site is ${apart(difference)} of ${facts.endpoint === undefined ? 'this machine' : 'the gateway'}`
  if (Math.abs(difference) > tolerance + BLUR_SECONDS) return failed(seen)
  if (Math.abs(difference) > BLUR_SECONDS) return warning(seen)
  if (Math.abs(gateway) > tolerance + BLUR_SECONDS) {
    return warning(
      `gateway and site agree, and this machine is ${apart(-gateway)}`,
      'Set this machine’s clock.'
    )
  }
  return ok(`less than ${BLUR_SECONDS + 1} s apart`)
}

export const siteChecks: readonly Check[] = [
  {
    id: 'trusted-hosts',
    title: 'Foreign Host at the site',
    side: 'both',
    needs: ['as-metadata'],
    remedy: `Set $settings['trusted_host_patterns'] in settings.php to the site's names: without it anybody can make documents and tokens with another issuer.`,
    run: trustedHosts
  },
  {
    id: 'forwarded-hosts',
    title: 'Foreign X-Forwarded-Host at the site',
    side: 'both',
    needs: ['as-metadata'],
    remedy: `In settings.php list only your own proxies in $settings['reverse_proxy_addresses'], and let the outermost proxy replace X-Forwarded-* and Forwarded.`,
    run: forwarded
  },
  {
    id: 'caches-gateway',
    title: 'Caches in front of the gateway',
    side: 'outside',
    needs: ['endpoint'],
    remedy:
      'Switch caching off for the MCP path in the CDN or proxy (Cloudflare: a cache rule “Bypass”; Varnish: return (pass)), and buffering too.',
    run: gatewayCaches
  },
  {
    id: 'caches-oauth',
    title: 'Caches in front of /oauth/',
    side: 'both',
    needs: ['token-endpoint'],
    remedy:
      'Let /oauth/ and /.well-known/jwks.json bypass every cache (Varnish: return (pass); Cloudflare: a cache rule “Bypass”): old keys and other people’s answers come from there.',
    run: siteCaches
  },
  {
    id: 'clock',
    title: 'Clocks',
    side: 'both',
    needs: ['as-metadata'],
    remedy:
      'Run NTP on both machines (timedatectl set-ntp true). OAUTH_CLOCK_TOLERANCE bridges a few seconds.',
    run: clock
  }
]
