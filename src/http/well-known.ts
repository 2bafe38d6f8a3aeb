// The documents by which clients find the sign-in: protected-resource metadata (RFC 9728) at both its places, the authorization
// server's own metadata again for 2025-03-26 clients (R98), and a JSON 404 for every other well-known.
import type { FastifyPluginCallback } from 'fastify'
import { resourceMetadata } from '../auth/resource-metadata.ts'
import type { Config } from '../config/schema.ts'
import { gatewayError } from '../errors.ts'

interface Options {
  config: Config
  /** The issuer of the authorization server, byte for byte. */
  issuer: () => Promise<string>
  /** Its metadata as they may be shown to the public. */
  authorizationServer: () => Promise<Readonly<Record<string, unknown>>>
  /** Scopes known from configuration and tools. */
  scopes: () => Promise<readonly string[]>
}

export const wellKnown: FastifyPluginCallback<Options> = function wellKnown(app, options, done) {
  const { config, issuer, authorizationServer, scopes } = options
  const publicDocument = { config: { anyOrigin: true }, exposeHeadRoute: true }

  const protectedResource = async () =>
    resourceMetadata({
      resource: config.derived.resource,
      issuers: [await issuer()],
      scopes: await scopes(),
      siteName: config.siteName
    })
  app.addHook('onSend', function cacheAllowed(_request, reply, payload, next) {
    reply.header('cache-control', reply.statusCode === 200 ? 'public, max-age=60' : 'no-store')
    next(null, payload)
  })
  app.get('/oauth-protected-resource', publicDocument, protectedResource)
  // Not a route of its own: to the router, which decodes what it looks up, the path of a public URL may be a pattern or nothing.
  const suffix = decoded(new URL(config.derived.resource).pathname.slice(1))
  app.get('/oauth-protected-resource/*', publicDocument, async request => {
    if ((request.params as { '*': string })['*'] === suffix) return protectedResource()
    throw gatewayError('GW_NOT_FOUND')
  })
  app.get('/oauth-authorization-server', publicDocument, authorizationServer)
  // Clients try many names; an HTML page or a 200 here sends them astray.
  app.all('/*', { config: publicDocument.config }, async () => {
    throw gatewayError('GW_NOT_FOUND')
  })
  done()
}

/** A path as the router gives it. One with a % that begins no escape never gets so far. */
function decoded(path: string): string {
  try {
    return decodeURIComponent(path)
  } catch {
    return path
  }
}
