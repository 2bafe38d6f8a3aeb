// Is this text a URL, an issuer, a proxy address that may stand in the configuration, and how far away is its host? Pure: no
// name is resolved.
import { BlockList, isIP } from 'node:net'

/** Why a text is not a URL that may be configured, in words that follow the option's name; undefined when it is one. */
export function urlProblem(text: string): string | undefined {
  if (!/^https?:\/\/[^\s\\/]/i.test(text) || /[\s\\]/.test(text) || !URL.canParse(text))
    return 'must be an absolute URL that begins with https:// or http://'
  const authority = text.split('/', 3)[2] as string
  if (authority.includes('@')) return 'must not hold a user name or password: remove all before @'
  if (/[?#]/.test(text)) return 'must not have a query or fragment: remove all from ? or # on'
  return undefined
}

/** The same for the URL of a Redis, which may hold a user name and a password. */
export function redisUrlProblem(text: string): string | undefined {
  const problem = redisShapeProblem(text)
  // What was meant as a part of the password cuts off the host, and the rest is not what it looks like.
  return problem !== undefined && /^rediss?:\/\/[^/?#]+[/?#].*@/.test(text)
    ? 'must not hold / ? # before its @: in a password write them as %2F %3F %23'
    : problem
}

function redisShapeProblem(text: string): string | undefined {
  if (!/^rediss?:\/\/[^/]/.test(text) || !URL.canParse(text))
    return 'must be a URL that begins with redis:// or rediss://, such as redis://valkey:6379, without quotes and blanks around it'
  const { username, password, pathname, hash } = new URL(text)
  if (!/^(\/\d*)?$/.test(pathname))
    return 'must hold nothing but the number of a database after its host, such as redis://valkey:6379/1'
  try {
    decodeURIComponent(username + password)
  } catch {
    return 'has a % in its user name or password that begins no escape: write it as %25'
  }
  return hash === '' ? undefined : 'must not hold a #: in a password write it as %23'
}

/** Canonical form: scheme and host in lower case, no default port, no slash at the end. Path kept. */
export function normaliseUrl(text: string): string {
  const url = new URL(text)
  return url.origin + url.pathname.replace(/\/+$/, '')
}

/** As clients send it in Host: lower case, an IPv6 address in its short form. */
export function normaliseHost(text: string): string {
  const url = `http://${text}`
  return text.startsWith('[') && URL.canParse(url) ? new URL(url).hostname : text.toLowerCase()
}

/** As browsers send it in Origin: no default port, the host as in a URL. Origins of other schemes are compared in lower case. */
export function normaliseOrigin(text: string): string {
  return /^https?:/i.test(text) && URL.canParse(text) ? new URL(text).origin : text.toLowerCase()
}

/** An address, an IPv6 one with brackets or without, or a host name: what can be listened on. */
export const isHost = (text: string): boolean =>
  isIP(text.replace(/^\[(.*)\]$/, '$1')) !== 0 || /^[\w.-]+$/.test(text)

/** An address, a CIDR block or one of the names that stand for blocks. All addresses (/0) are none: Fastify would not start with them. */
export function isProxy(text: string): boolean {
  if (['loopback', 'linklocal', 'uniquelocal'].includes(text)) return true
  const [address = '', prefix, ...rest] = text.split('/')
  const family = isIP(address)
  if (family === 0 || rest.length > 0) return false
  return (
    prefix === undefined ||
    (/^\d{1,3}$/.test(prefix) && Number(prefix) > 0 && Number(prefix) <= (family === 4 ? 32 : 128))
  )
}

const loopback = new BlockList()
loopback.addSubnet('127.0.0.0', 8, 'ipv4')
loopback.addAddress('::1', 'ipv6')

const privateNetworks = new BlockList()
privateNetworks.addSubnet('10.0.0.0', 8, 'ipv4')
privateNetworks.addSubnet('172.16.0.0', 12, 'ipv4')
privateNetworks.addSubnet('192.168.0.0', 16, 'ipv4')
privateNetworks.addSubnet('169.254.0.0', 16, 'ipv4')
privateNetworks.addSubnet('fc00::', 7, 'ipv6')
privateNetworks.addSubnet('fe80::', 10, 'ipv6')

/**
 * How far the host of a URL is away: this machine, a private network (RFC 1918, RFC 4193, link-local, or a name that only a
 * cluster or a local network resolves), or anywhere.
 */
export function reach(url: string): 'loopback' | 'private' | 'public' {
  const host = new URL(url).hostname.replace(/^\[|\]$|\.$/g, '')
  const version = isIP(host)
  if (version !== 0) {
    const family = version === 4 ? 'ipv4' : 'ipv6'
    if (loopback.check(host, family)) return 'loopback'
    return privateNetworks.check(host, family) ? 'private' : 'public'
  }
  if (host === 'localhost' || host.endsWith('.localhost')) return 'loopback'
  const serviceName = !host.includes('.') || /\.(svc|cluster\.local|internal|local)$/.test(host)
  return serviceName ? 'private' : 'public'
}
