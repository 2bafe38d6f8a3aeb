// The WWW-Authenticate value of a refusal (RFC 6750 §3, RFC 9728 §5.1). Pure, and byte-stable: SDKs compare two challenges in
// a row to stop a step-up loop (R89). It refuses to know why the refusal happened.

/** Node's clients drop an answer whose headers pass 16 KiB: a site with very many scopes names those that fit. */
const maxScopeLength = 4096

// RFC 6749 Appendix A.4 (scope-token) and A.7/A.8 (error, error_description): quote and backslash are in neither, so nothing
// here is ever escaped and the most naive parser reads it right.
const scopeToken = /^[\x21\x23-\x5b\x5d-\x7e]+$/
// oxlint-disable-next-line no-control-regex
const notText = /[^\x20\x21\x23-\x5b\x5d-\x7e]/g

export interface ChallengeParts {
  /** Absolute URL of the RFC 9728 document. */
  resourceMetadataUrl: string
  /** Scopes to ask for; order and repetition do not matter. */
  scopes?: readonly string[]
  /** RFC 6750 §3.1 code; leave out when no token was sent (R84). */
  error?: string
  /** Public text. */
  errorDescription?: string
}

/** Sorted, without doubles, offline_access (R83) and names that a challenge cannot carry: half a name would be another scope. */
function scopeList(scopes: readonly string[]): string {
  const named = new Set(scopes)
  named.delete('offline_access')
  let list = ''
  for (const scope of [...named].filter(s => scopeToken.test(s)).sort()) {
    const longer = list === '' ? scope : `${list} ${scope}`
    if (longer.length > maxScopeLength) break
    list = longer
  }
  return list
}

/** The one Bearer challenge (R82–R84, R88). Characters that are illegal in a part are dropped; empty parts are left out. */
export function challenge(parts: ChallengeParts): string {
  const { resourceMetadataUrl, scopes = [], error = '', errorDescription = '' } = parts
  const values = {
    resource_metadata: resourceMetadataUrl.replace(notText, '').replaceAll(' ', ''),
    scope: scopeList(scopes),
    error: error.replace(notText, ''),
    error_description: errorDescription.replace(notText, '')
  }
  return `Bearer ${Object.entries(values)
    .filter(([, value]) => value !== '')
    .map(([name, value]) => `${name}="${value}"`)
    .join(', ')}`
}
