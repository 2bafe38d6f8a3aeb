// How a tool call tells within its result that it needs a sign-in or another scope: a draft of the protocol (SEP-1489), which
// ChatGPT goes by. It refuses to know who is told so.
import { metaKey } from './envelope.ts'
import { gatewayInfo } from './server-info.ts'

export interface ToolChallenge {
  /** What a model reads. */
  text: string
  /** The value of WWW-Authenticate. */
  challenge: string
  isModern: boolean
}

/** The CallToolResult as JSON text; a modern one with what it must have (R62, R63). */
export function challengeResult({ text, challenge, isModern }: ToolChallenge): string {
  return JSON.stringify({
    ...(isModern && { resultType: 'complete' }),
    content: [{ type: 'text', text }],
    isError: true,
    _meta: {
      'mcp/www_authenticate': [challenge],
      ...(isModern && { [metaKey.serverInfo]: gatewayInfo })
    }
  })
}
