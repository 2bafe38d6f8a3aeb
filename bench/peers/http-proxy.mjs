// The bare peer: @fastify/http-proxy as its README shows it, nothing checked. With VERIFY=1 it verifies the token's signature
// on each call with jose, as the shortest way to an authenticating proxy would.
import { readFileSync } from 'node:fs'
import httpProxy from '@fastify/http-proxy'
import fastify from 'fastify'
import { createLocalJWKSet, jwtVerify } from 'jose'

const { PORT, UPSTREAM, VERIFY, JWKS, ISSUER } = process.env
const app = fastify()
const keys = VERIFY ? createLocalJWKSet(JSON.parse(readFileSync(JWKS, 'utf8'))) : undefined

async function verify(request, reply) {
  try {
    const token = (request.headers.authorization ?? '').replace(/^Bearer /, '')
    await jwtVerify(token, keys, { issuer: ISSUER })
  } catch {
    return reply.code(401).send({ error: 'invalid_token' })
  }
}

await app.register(httpProxy, {
  upstream: UPSTREAM,
  ...(keys === undefined ? {} : { preHandler: verify })
})
await app.listen({ port: Number(PORT), host: '127.0.0.1' })
process.once('SIGTERM', () => process.exit(0))
