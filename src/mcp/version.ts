// Which protocol versions are spoken here, which era a version belongs to and what the version header of a legacy request
// means. It refuses to know bodies: the era of a request is decided in envelope.ts.

/** Versions with a handshake and sessions, the newest first. */
export const LEGACY_VERSIONS = ['2025-11-25', '2025-06-18', '2025-03-26'] as const
/** Versions without: each request says all. */
export const MODERN_VERSIONS = ['2026-07-28'] as const

const LATEST_LEGACY = LEGACY_VERSIONS[0]
/** What a client without a version header and without a session speaks (R34), and the only version with batches (R46). */
export const FIRST_LEGACY = '2025-03-26'

/** The version that `initialize` answers: the requested one where it is spoken, else the latest legacy one (R32). */
export function negotiate(requested: unknown): string {
  return isSupportedLegacy(requested) ? requested : LATEST_LEGACY
}

/** True for a version with sessions that is spoken here. */
export function isSupportedLegacy(version: unknown): version is string {
  return LEGACY_VERSIONS.includes(version as (typeof LEGACY_VERSIONS)[number])
}

/** True for a modern version that is spoken here. */
export function isSupportedModern(version: unknown): version is string {
  return MODERN_VERSIONS.includes(version as (typeof MODERN_VERSIONS)[number])
}

/** True for any date from 2026-07-28 on, spoken here or not. Versions are ISO dates, so text order is time order. */
export function isModernVersion(version: unknown): boolean {
  return (
    typeof version === 'string' &&
    /^\d{4}-\d{2}-\d{2}$/.test(version) &&
    version >= MODERN_VERSIONS[0]
  )
}

/**
 * The version that governs a legacy request. `header` is MCP-Protocol-Version, `negotiated` the session's version.
 * Undefined means 400 GW_UNSUPPORTED_VERSION (R35). A supported header that differs from the session's version is accepted and
 * changes nothing (R36); without both it is 2025-03-26 (R34).
 */
export function legacyVersion(
  header: string | undefined,
  negotiated: string | undefined
): string | undefined {
  if (header !== undefined && !isSupportedLegacy(header)) return undefined
  return negotiated ?? header ?? FIRST_LEGACY
}

/** Public hint for GW_UNSUPPORTED_VERSION: which versions to send instead. */
export function supportedVersionsHint(): string {
  return `Supported: ${[...MODERN_VERSIONS, ...LEGACY_VERSIONS].join(', ')}.`
}
