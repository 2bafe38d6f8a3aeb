// Spans by a real OpenTelemetry SDK, loaded as docs/deployment.md says: the API that the gateway was built with must be one that the
// SDK answers to, which no fake provider shows.
import { join } from 'node:path'
import t from 'tap'
import { startDrupal } from '../../src/demo/double.ts'
import { gatewayProcess } from '../gateway/fixtures/process.ts'
import { freePort } from '../fixtures/ports.ts'
import { modules, needs, root } from './tools.ts'

const TRACE = '0af7651916cd43dd8448eb211c80319c'
const OTHER = '4bf92f3577b34da6a3ce929d0e0e4736'
const SPAN = 'b7ad6b7169203331'

interface Exported {
  name: string
  kind: number
  traceId: string
  spanId: string
  parent?: string
  links: string[]
  attributes: Record<string, unknown>
  status: { code: number }
}

t.test(
  'node --import with an SDK: a span for each call, and Drupal becomes its child',
  needs(`${modules}@opentelemetry/sdk-trace-node`),
  async t => {
    const drupal = await startDrupal()
    t.teardown(() => drupal.close())
    const env = { DRUPAL_URL: drupal.url }
    const preload = ['--import', join(root, 'test/deploy/fixtures/tracing.mjs')]
    const gateway = gatewayProcess(t, await freePort(), env, preload)
    await gateway.start()
    const post = async (body: object, headers: Record<string, string>) => {
      const answer = await fetch(gateway.url, {
        method: 'POST',
        body: JSON.stringify({ jsonrpc: '2.0', id: 7, ...body }),
        headers: {
          'content-type': 'application/json',
          authorization: `Bearer ${drupal.mint().token}`,
          ...headers
        }
      })
      await answer.text()
      return answer
    }
    const clientInfo = { name: 'test', version: '1' }
    const params = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo }
    const opened = await post({ method: 'initialize', params }, {})
    const session = { 'mcp-session-id': opened.headers.get('mcp-session-id') ?? '' }
    const call = (meta: object, headers: Record<string, string>, name = 'site.info') =>
      post(
        { method: 'tools/call', params: { name, arguments: {}, ...meta } },
        { ...session, ...headers }
      )
    await call({}, { traceparent: `00-${TRACE}-${SPAN}-01` })
    await call(
      { _meta: { traceparent: `00-${OTHER}-${SPAN}-01` } },
      { traceparent: `00-${TRACE}-${SPAN}-01` }
    )
    await call({}, {}, 'demo.fail')

    const spans = () =>
      gateway
        .stderr()
        .split('\n')
        .filter(line => line.startsWith('{'))
        .map(line => JSON.parse(line) as Exported)
    while (spans().length < 4) await new Promise(resolve => setTimeout(resolve, 20))
    const [first, byHeader, byMeta, failed] = spans() as [Exported, Exported, Exported, Exported]
    t.match(first, { name: 'initialize', kind: 1, attributes: { 'mcp.method.name': 'initialize' } })
    t.notOk('parent' in first, 'a trace of its own where the client brought none')
    t.match(byHeader, {
      name: 'tools/call site.info',
      traceId: TRACE,
      parent: SPAN,
      attributes: {
        'mcp.method.name': 'tools/call',
        'mcp.protocol.version': '2025-11-25',
        'gen_ai.operation.name': 'execute_tool',
        'gen_ai.tool.name': 'site.info',
        'jsonrpc.request.id': '7',
        'http.response.status_code': 200
      },
      links: []
    })
    t.match(byMeta, { traceId: OTHER, parent: SPAN, links: [TRACE] }, 'R77 `_meta` is the parent')
    t.match(failed, { attributes: { 'error.type': 'tool_error' }, status: { code: 2 } })
    const asked = drupal.requests.filter(({ path }) => path === '/mcp/tools/site.info')
    t.strictSame(
      asked.map(({ headers }) => headers['traceparent']),
      [byHeader, byMeta].map(({ traceId, spanId }) => `00-${traceId}-${spanId}-01`)
    )
    t.equal(new Set([first, failed, byHeader].map(({ traceId }) => traceId)).size, 3)
  }
)
