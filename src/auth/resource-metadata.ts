// The protected-resource metadata document (RFC 9728 §2). Pure; it refuses to know where the document is served.

export interface ResourceMetadataParts {
  /** The resource, byte for byte: the public MCP URL (R85). */
  resource: string
  /** Issuers of the authorization servers, byte for byte as their own metadata spells them; at least one (R85, R99). */
  issuers: readonly string[]
  /** Scopes of the configuration and the tools. */
  scopes: readonly string[]
  siteName: string
}

/**
 * The document of RFC 9728 §2. `scopes_supported` is sorted, left out when empty, and never names offline_access (R83):
 * that scope is between the client and the authorization server.
 */
export function resourceMetadata(parts: ResourceMetadataParts): Record<string, unknown> {
  const { resource, issuers, siteName } = parts
  const scopes = [...new Set(parts.scopes)].filter(scope => scope !== 'offline_access').sort()
  return {
    resource,
    authorization_servers: [...issuers],
    ...(scopes.length > 0 && { scopes_supported: scopes }),
    bearer_methods_supported: ['header'],
    resource_name: siteName
  }
}
