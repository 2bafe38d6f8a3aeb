// Drawing on budgets, where telling of it fails: the request ends with it, and nothing else does.
import fastify from 'fastify'
import t from 'tap'
import { loadConfig } from '../../src/config/load.ts'
import { limits } from '../../src/http/limits.ts'
import { request } from '../../src/http/request.ts'
import { createMemoryStore } from '../../src/store/memory.ts'

t.test('an error while a draw is told fails its own request alone', async t => {
  const config = loadConfig({ env: { DRUPAL_URL: 'http://127.0.0.1:1' } })
  const app = fastify()
  t.teardown(() => app.close())
  let isBroken = true
  await app.register(request)
  await app.register(limits, {
    config,
    store: createMemoryStore(),
    local: createMemoryStore(),
    events: {
      budget() {
        if (isBroken) throw new Error('the metrics are broken')
      }
    }
  })
  app.addHook('preHandler', function draw(_request, reply, next) {
    const draw = { budget: 'principal', key: 'k', cost: 1, max: 9, windowMs: 60_000 } as const
    app.drawBudgets([draw], reply, next)
  })
  app.get('/', async () => 'answered')
  const url = await app.listen({ port: 0, host: '127.0.0.1' })

  t.equal((await fetch(url, { signal: AbortSignal.timeout(5000) })).status, 500)
  isBroken = false
  const second = await fetch(url)
  t.equal(second.status, 200)
  t.match(second.headers.get('ratelimit'), /r=7/, 'the first draw counts')
})
