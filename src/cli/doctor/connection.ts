// Can the URL be reached at all: name, TLS, and something that answers there as an MCP endpoint would?
import { lookup } from 'node:dns/promises'
import { isIP } from 'node:net'
import { connect, type TLSSocket } from 'node:tls'
import { reach } from '../../config/address.ts'
import { brief, certificateAdvice, Unreachable } from './ask.ts'
import { type Check, type Context, failed, type Finding, ok, warning } from './check.ts'

const DAY_MS = 86_400_000
const SOON_DAYS = 14

const hostOf = (url: string) => new URL(url).hostname.replace(/^\[|\]$/g, '')

/** Whether the addresses of a URL's host can be reached by everybody. Pure. */
export function judgeAddresses(url: string, addresses: readonly string[]): Finding {
  const seen = `${hostOf(url)} is ${addresses.join(', ')}`
  const near = addresses.some(
    address => reach(`http://${isIP(address) === 6 ? `[${address}]` : address}`) !== 'public'
  )
  if (!near || reach(url) === 'loopback') return ok(seen)
  return warning(
    `${seen}: not reachable from the Internet`,
    'Hosted clients (claude.ai, ChatGPT) connect from the Internet: give the name a public address, or ignore this when all clients are inside.'
  )
}

async function name({ url }: Context): Promise<Finding> {
  const host = hostOf(url!)
  if (isIP(host) !== 0) return ok(`${host} is an address`)
  try {
    const found = await lookup(host, { all: true })
    return judgeAddresses(
      url!,
      found.map(({ address }) => address)
    )
  } catch (error) {
    return failed(`${host}: the name is not known (${(error as NodeJS.ErrnoException).code})`)
  }
}

async function tls(context: Context): Promise<Finding> {
  const url = new URL(context.url!)
  if (url.protocol === 'http:') {
    const text = 'plain http: no TLS to check'
    if (reach(url.href) === 'loopback') return ok(`${text}, on this machine`)
    return failed(text, 'Put TLS in front and give clients the https URL.')
  }
  const socket = await handshake(context, url)
  // Node's types say Error; it is the code, as text, or null.
  const problem = socket.authorizationError as unknown as string | null
  const { valid_to: until } = socket.getPeerCertificate()
  const protocol = socket.getProtocol()
  socket.destroy()
  if (problem) return failed(`the certificate is refused: ${problem}`, certificateAdvice(problem))
  const days = Math.floor((Date.parse(until) - context.now()) / DAY_MS)
  const seen = `${protocol}, certificate valid for ${days} more days`
  return days < SOON_DAYS
    ? warning(seen, 'Renew the certificate; see why it was not renewed automatically.')
    : ok(seen)
}

/** Only a handshake: nothing is sent over a connection that is not verified. */
function handshake({ ca, timeoutMs }: Context, url: URL): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const host = hostOf(url.href)
    const socket = connect(
      {
        host,
        port: Number(url.port || 443),
        rejectUnauthorized: false,
        ...(ca !== undefined && { ca }),
        ...(isIP(host) === 0 && { servername: host })
      },
      () => resolve(socket)
    )
    socket.setTimeout(timeoutMs, () => socket.destroy(coded('ETIMEDOUT')))
    socket.on('error', (error: NodeJS.ErrnoException) =>
      reject(new Unreachable(url.origin, String(error.code)))
    )
  })
}

const coded = (code: string) => Object.assign(new Error(code), { code })

async function answers({ url, ask, facts }: Context): Promise<Finding> {
  const answer = await ask(url!)
  facts.endpoint = answer
  const { status, headers } = answer
  const seen = `GET answers ${brief(answer)}`
  if (status >= 300 && status < 400) {
    const target = headers['location'] ?? 'nowhere'
    return failed(seen, `Clients do not follow redirects with a token: give them ${target}.`)
  }
  if (status === 404) {
    return failed(
      seen,
      'Type the whole URL with its path (MCP_PATH, default /mcp), and let the proxy pass that path unchanged.'
    )
  }
  if (status >= 502 && status <= 504) {
    return failed(
      seen,
      'The proxy in front has no gateway behind it: start the gateway, look at its /readyz, and check the proxy’s upstream address.'
    )
  }
  if (status === 403 || status === 421) {
    return failed(
      seen,
      'The Host is refused: set GATEWAY_PUBLIC_URL to this URL, or name the host in ALLOWED_HOSTS. A page in HTML is a firewall’s.'
    )
  }
  if (status === 401 && /^(Basic|Digest|Negotiate)\b/i.test(headers['www-authenticate'] ?? '')) {
    return failed(
      `${seen} and asks for a password`,
      'Something in front, or Drupal itself, has a sign-in of its own: let this path and /.well-known/ reach the gateway without it (nginx: auth_basic off).'
    )
  }
  if (status === 200 && answer.type.includes('html')) {
    return failed(seen, 'Another site answers: route this path to the gateway.')
  }
  return ok(seen)
}

export const connectionChecks: readonly Check[] = [
  {
    id: 'dns',
    title: 'Name',
    side: 'outside',
    needs: [],
    remedy: 'Create the DNS record, or correct the URL.',
    run: name
  },
  {
    id: 'tls',
    title: 'TLS: chain, name, expiry',
    side: 'outside',
    needs: ['dns'],
    remedy: 'Start the TLS server and open its port.',
    run: tls
  },
  {
    id: 'endpoint',
    title: 'The MCP endpoint answers',
    side: 'outside',
    needs: ['tls'],
    remedy: 'Start the gateway (drupal-mcp-gateway serve) and route the URL to it.',
    run: answers
  }
]
