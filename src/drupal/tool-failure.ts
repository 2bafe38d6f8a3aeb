// What a model is told when a tool failed. An exception's text may hold paths, queries and class names, so it stays in the log;
// what a tool says about its arguments is passed on, cleaned, because the model can do something about it.

import { isObject } from '../mcp/call.ts'
import { memberText, setMembers } from '../mcp/json-members.ts'

const MAX_TEXT = 500

/** Class names, paths, SQL states, markup: signs that a text was not written for the outside. */
const inside = /\\|\/[\w.-]+\/|\.php\b|SQLSTATE|[<>]|::|->|\bat line\b|0x[0-9a-f]{4}/i

function clean(text: unknown): string {
  if (typeof text !== 'string') return ''
  const line = text.replace(/\s+/g, ' ').trim().slice(0, MAX_TEXT)
  return inside.test(line) ? '' : line
}

/** jsonrpc's "<sentence> Adaptor <class> received invalid input data: [{…}]": the sentence, and the message of each item. */
function argumentProblems(data: unknown): string {
  if (typeof data !== 'string') return ''
  const adaptor = data.indexOf('Adaptor ')
  const sentence = adaptor < 0 ? data : data.slice(0, adaptor)
  const list = /received invalid input data: (\[.*\])/s.exec(data)?.[1]
  let messages: string[] = []
  try {
    messages = (JSON.parse(list ?? '[]') as { property?: unknown; message?: unknown }[]).map(item =>
      [clean(item.property), clean(item.message)].filter(Boolean).join(': ')
    )
  } catch {}
  return [clean(sentence), ...messages.slice(0, 10).map(message => message && `${message}.`)]
    .filter(Boolean)
    .join(' ')
}

/**
 * The text for a tool's JSON-RPC error. -32602: what is wrong with the arguments; -32603: nothing but the fact (the exception is
 * in the log); any other code was chosen by the tool's author, so its message passes when it looks fit for the outside.
 */
export function failureText(code: number, message: unknown, data: unknown): string {
  if (code === -32602) {
    const problems = argumentProblems(data)
    return problems === '' ? 'The arguments are not valid.' : `Invalid arguments: ${problems}`
  }
  const said = code === -32603 ? '' : clean(message)
  if (said !== '') return `The tool failed: ${said}`
  return 'The tool failed on the site. Its log says why.'
}

/** What only an exception or a stack says, in JSON text: classes, calls, files of a server, addresses that it could not reach. */
const exception =
  /\w\\\\\w|\w::\w|\w->\w|\.php\b|SQLSTATE|\\n\s+at |(?<![\w./:])\/(?:var|usr|srv|opt|home|app)\/|\bE(?:CONN[A-Z]+|NOENT|NOTFOUND|ACCES)\b/

/** How drupal/jsonrpc answers whatever was thrown: the exception's text, which may read like any other, is in `data`. */
const thrown = /^\{"code":-32603,"message":"Internal Error","data":/

/** PHP writes a slash as \/, and Drupal a ">" as \u003E. */
const unescaped = (json: string) =>
  json
    .replaceAll('\\/', '/')
    .replace(/\\u([\da-f]{4})/gi, (_, code: string) => String.fromCharCode(parseInt(code, 16)))

/** The JSON-RPC message as it is, but for an error that shows the inside of a site that speaks MCP: code and fact are left of it. */
export function withoutInside(message: string): string {
  const error = memberText(message, 'error')
  if (error === undefined || !(thrown.test(error) || exception.test(unescaped(error)))) {
    return message
  }
  const value: unknown = JSON.parse(error)
  if (!isObject(value)) return message
  const { code, message: said, data } = value
  const text =
    code === -32602 ? failureText(code, said, data) : 'The site failed. Its log says why.'
  return setMembers(message, { error: JSON.stringify({ code, message: text }) })
}
