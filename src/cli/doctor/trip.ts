// Signed in: a whole trip through the gateway, and what the tools ask of the site. Only a read-only tool is ever called.
import { type Answer, brief, objectOf, type Json } from './ask.ts'
import { bearerChallenge, INITIALIZE, isTokenLost, MCP_HEADERS, TOKEN_LOST } from './challenge.ts'
import {
  type Check,
  type Context,
  failed,
  type Finding,
  ok,
  quote,
  skipped,
  strings,
  type Tool,
  warning
} from './check.ts'
import { scopesOf } from './token.ts'

const MAX_PAGES = 20

/** The JSON-RPC answer in a JSON body or in an event stream. */
function messageOf(answer: Answer): Json | undefined {
  if (!answer.type.includes('event-stream')) return objectOf(answer)
  const events = answer.text.split(/\r?\n\r?\n/)
  for (const event of events) {
    const data = [...event.matchAll(/^data: ?(.*)$/gm)].map(([, line]) => line)
    const message = objectOf({ ...answer, text: data.join('\n') })
    if (message !== undefined && 'id' in message) return message
  }
  return undefined
}

interface Reply {
  answer: Answer
  result: Json | undefined
  error: Json | undefined
}

async function call({ url, ask, facts }: Context, message: Json): Promise<Reply> {
  const answer = await ask(url!, {
    method: 'POST',
    headers: { ...MCP_HEADERS, ...facts.session, authorization: `Bearer ${facts.token!.text}` },
    body: JSON.stringify(message),
    until: text => /"id"\s*:/.test(text) && /\n\r?\n/.test(text)
  })
  const { result, error } = (messageOf(answer) ?? {}) as { result?: Json; error?: Json }
  return { answer, result, error }
}

function refusal({ answer, error }: Reply): Finding {
  const { status } = answer
  const said = error === undefined ? '' : `, ${quote(error['message'])}`
  const seen = `${brief(answer)}${said}`
  if (isTokenLost(answer)) return failed(seen, TOKEN_LOST)
  if (status === 400 && /mcp-session-id/i.test(String(error?.['message']))) {
    return failed(seen, 'Let the proxy pass Mcp-Session-Id, in requests and in answers.')
  }
  if (status === 401) {
    const { error_description: why } = bearerChallenge(answer) ?? {}
    return failed(
      `${seen}${why === undefined ? '' : `, ${quote(why)}`}`,
      'The gateway or Drupal refuses this token: its audit line says why. Saving a user or consumer in Drupal ends their tokens; else compare issuer, audience, scopes and clock above.'
    )
  }
  if (status === 403) {
    const { scope } = bearerChallenge(answer) ?? {}
    if (scope !== undefined)
      return failed(`${seen}, needs ${quote(scope)}`, 'Sign in again and ask for these scopes.')
    return failed(
      seen,
      'A firewall or Drupal’s permissions refuse it: drush role:perm:add ROLE "access mcp tool discovery"'
    )
  }
  return failed(seen)
}

async function initialize(context: Context): Promise<Finding> {
  const { facts } = context
  const reply = await call(context, INITIALIZE)
  const version = reply.result?.['protocolVersion']
  if (reply.answer.status !== 200 || typeof version !== 'string') return refusal(reply)
  const session = reply.answer.headers['mcp-session-id']
  facts.session = {
    'mcp-protocol-version': version,
    ...(session !== undefined && { 'mcp-session-id': session })
  }
  if (session !== undefined) context.secrets.push(session)
  await call(context, { jsonrpc: '2.0', method: 'notifications/initialized' })
  const { name } = (reply.result?.['serverInfo'] ?? {}) as { name?: unknown }
  return ok(`${quote(name)}, protocol ${version}${session === undefined ? '' : ', with a session'}`)
}

/** The gateway's own tool, whatever the operator calls it: it never reaches the site, so it proves nothing here. */
const OWN_TITLE = 'Sign-in status'

/** A tool of the site, or none. */
function readTool(listed: unknown): Tool[] {
  const { name, title, annotations, inputSchema } = (listed ?? {}) as Record<
    string,
    Json | undefined
  >
  if (typeof name !== 'string' || (title as unknown) === OWN_TITLE) return []
  const { auth, readOnlyHint } = (annotations ?? {}) as { auth?: Json; readOnlyHint?: unknown }
  return [
    {
      name,
      scopes: strings(auth?.['scopes']),
      readOnly: readOnlyHint === true,
      required: strings(inputSchema?.['required'])
    }
  ]
}

async function tools(context: Context): Promise<Finding> {
  const { facts } = context
  const found: Tool[] = []
  let cursor: unknown
  for (let page = 0; page < MAX_PAGES; page++) {
    const reply = await call(context, {
      jsonrpc: '2.0',
      id: `list-${page}`,
      method: 'tools/list',
      params: cursor === undefined ? {} : { cursor }
    })
    const listed = reply.result?.['tools']
    if (!Array.isArray(listed)) return refusal(reply)
    found.push(...listed.flatMap(readTool))
    cursor = reply.result?.['nextCursor']
    if (typeof cursor !== 'string') break
  }
  facts.tools = found
  const seen = `${found.length} tools of the site`
  return found.length > 0 ? ok(seen) : warning(seen)
}

async function callTool(context: Context): Promise<Finding> {
  const { facts } = context
  const granted = scopesOf(facts.token!)
  const tool = facts.tools!.find(
    ({ readOnly, required, scopes }) =>
      readOnly && required.length === 0 && scopes.every(scope => granted.includes(scope))
  )
  if (tool === undefined) {
    return skipped('no tool that is read-only, needs no argument and is covered by the token')
  }
  const reply = await call(context, {
    jsonrpc: '2.0',
    id: 'call',
    method: 'tools/call',
    params: { name: tool.name, arguments: {} }
  })
  if (reply.result === undefined) {
    const finding = refusal(reply)
    return { ...finding, seen: `${tool.name}: ${finding.seen}` }
  }
  if (reply.result['isError'] === true) {
    return warning(
      `${tool.name} says that it failed`,
      'See the site’s log: drush watchdog:show --severity=Error'
    )
  }
  return ok(`${tool.name} answers`)
}

async function end({ url, ask, facts }: Context): Promise<Finding> {
  if (facts.session?.['mcp-session-id'] === undefined) return skipped('there is no session')
  const answer = await ask(url!, {
    method: 'DELETE',
    headers: { ...facts.session, authorization: `Bearer ${facts.token!.text}` }
  })
  const seen = `DELETE answers ${brief(answer)}`
  return answer.status < 300 || answer.status === 405 ? ok(seen) : warning(seen)
}

export const tripChecks: readonly Check[] = [
  {
    id: 'initialize',
    title: 'Signed in: initialize',
    side: 'outside',
    needs: ['token', 'token-issuer', 'token-signature', 'token-time', 'token-audience'],
    remedy: 'See the gateway’s log and its /readyz.',
    run: initialize
  },
  {
    id: 'tools',
    title: 'Signed in: tools/list',
    side: 'outside',
    needs: ['initialize'],
    remedy:
      'Give the role and the scope the permission to see tools: drush role:perm:add ROLE "access mcp tool discovery"; see drush watchdog:show.',
    run: tools
  },
  {
    id: 'tool-call',
    title: 'Signed in: tools/call',
    side: 'outside',
    needs: ['tools'],
    remedy: 'See the gateway’s audit line and drush watchdog:show.',
    run: callTool
  },
  {
    id: 'session-end',
    title: 'Signed in: the session ends',
    side: 'outside',
    needs: ['initialize'],
    remedy: 'Let the proxy pass DELETE and Mcp-Session-Id.',
    run: end
  }
]
