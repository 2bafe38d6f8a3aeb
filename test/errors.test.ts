import t from 'tap'
import { errorTable, gatewayError, isGatewayError } from '../src/errors.ts'

t.test('an error of the table carries its status and public text', async t => {
  const error = gatewayError('GW_RATE_LIMITED', { hint: 'Wait 3 seconds.', retryAfterSeconds: 3 })
  t.equal(error.statusCode, 429)
  t.equal(error.message, 'Rate limit reached. Wait 3 seconds.')
  t.equal(error.retryAfterSeconds, 3)
  t.ok(isGatewayError(error))
  const { message } = gatewayError('GW_INVALID_PARAMS', { hint: 'Unknown tool: x' })
  t.equal(message, 'Invalid params: Unknown tool: x')
})

t.test('a thrower may override the status: a modern unknown method is 404 (R61)', async t => {
  t.equal(gatewayError('GW_METHOD_NOT_FOUND').statusCode, 200)
  t.equal(gatewayError('GW_METHOD_NOT_FOUND', { status: 404 }).statusCode, 404)
})

t.test('the cause stays with the error for the log', async t => {
  const cause = new Error('connect ECONNREFUSED')
  t.equal(gatewayError('GW_UPSTREAM_UNAVAILABLE', { cause }).cause, cause)
})

t.test('only errors of the table are gateway errors', async t => {
  t.notOk(isGatewayError(new Error('x')))
  t.notOk(isGatewayError(Object.assign(new Error('x'), { code: 'toString' })))
  t.notOk(isGatewayError('GW_INTERNAL'))
})

t.test('own JSON-RPC codes stay outside what the specification reserves (R74)', async t => {
  const allowed = new Set([-32700, -32600, -32601, -32602, -32603, -32001, -32020, -32021, -32022])
  for (const [code, entry] of Object.entries(errorTable)) {
    t.ok(entry.rpc > 0 || allowed.has(entry.rpc), code)
  }
})

t.test(
  'a refusal does not look for the place it was thrown at; an error that nobody foresaw does',
  async t => {
    const { stackTraceLimit } = Error
    t.equal(gatewayError('GW_OVERLOADED').stack, undefined)
    t.equal(gatewayError('GW_INVALID_TOKEN', { cause: new Error('x') }).stack, undefined)
    t.match(gatewayError('GW_INTERNAL').stack, /errors\.test/)
    t.equal(Error.stackTraceLimit, stackTraceLimit)
  }
)
