// Which requests of a caller wait for an answer of the upstream? It refuses to know how an answer comes.
import type { FastifyRequest } from 'fastify'
import type { RpcRequest } from '../mcp/call.ts'
import type { Expected } from './mcp-answer.ts'

/** What the answer to this request must be; `requests`: other ones than the client's own. */
export type ExpectedOf = (request: FastifyRequest, requests?: readonly RpcRequest[]) => Expected

export const expectedOf: ExpectedOf = ({ call, principal }, requests) => ({
  requests: requests ?? call.messages.filter(message => message.kind === 'request'),
  batch: requests === undefined && call.batch,
  scopes: principal?.scopes
})
