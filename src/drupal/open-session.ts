// How a session of a legacy client begins, whatever upstream is behind it. It refuses to know what the client is told of that.
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { SessionState } from '../mcp/call.ts'
import type { Sessions } from '../mcp/session.ts'

/** Opens one for who asked: the answer carries its id (R22), and the audit line of `initialize` names it and its version. */
export function openSession(
  sessions: Pick<Sessions, 'seal'>,
  request: FastifyRequest,
  reply: FastifyReply,
  { version, upstream }: Pick<SessionState, 'version' | 'upstream'>
): void {
  const principal = request.principal?.key ?? ''
  const { sealed, state } = sessions.seal({ principal, version, upstream })
  request.call.session = state
  request.call.version = version
  reply.header('mcp-session-id', sealed)
}
