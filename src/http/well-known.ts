// The documents by which clients find the sign-in: protected-resource metadata (RFC 9728) at both its places, the authorization
// server's own metadata again for 2025-03-26 clients (R98), and a JSON 404 for every other well-known.
import type { FastifyPluginCallback } from 'fastify'
import { resourceMetadata } from '../auth/resource-metadata.ts'
import type { Config } from '../config/schema.ts'
import { gatewayError } from '../errors.ts'

interface Options {
  config: Config
  /** The authorization server: its issuer byte for byte, and its metadata as it may be shown to the public. */
  authorizationServer: () => Promise<{
    issuer: string
    document: Readonly<Record<string, unknown>>
  }>
  /** Scopes known from configuration and tools. */
  scopes: () => Promise<readonly string[]>
}

export const wellKnown: FastifyPluginCallback<Options> = function wellKnown(app, options, done) {
  const { config, authorizationServer, scopes } = options
  const publicDocument = { config: { anyOrigin: true }, exposeHeadRoute: true }

  const protectedResource = async () => {
    const { issuer } = await authorizationServer()
    return resourceMetadata({
      resource: config.derived.resource,
      issuers: [issuer],
      scopes: await scopes(),
      siteName: config.siteName
    })
  }
  app.addHook('onSend', function cacheAllowed(_request, reply, payload, next) {
    reply.header('cache-control', reply.statusCode === 200 ? 'public, max-age=60' : 'no-store')
    next(null, payload)
  })
  app.get('/oauth-protected-resource', publicDocument, protectedResource)
  const suffix = new URL(config.derived.resource).pathname
  app.get(`/oauth-protected-resource${suffix}`, publicDocument, protectedResource)
  app.get('/oauth-authorization-server', publicDocument, async () => {
    return (await authorizationServer()).document
  })
  // Clients try many names; an HTML page or a 200 here sends them astray.
  app.all('/*', { config: publicDocument.config }, async () => {
    throw gatewayError('GW_NOT_FOUND')
  })
  done()
}
