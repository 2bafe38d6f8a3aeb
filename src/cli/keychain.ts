// The operating system's keychain: macOS Keychain, Windows Credential Manager, the Secret Service of a Linux desktop. It keeps
// one secret, and says so by throwing where there is no keychain.
import type { Keychain } from './credentials-key.ts'

const service = 'drupal-mcp-gateway'

/** The keychain of this user; `account` tells several folders of credentials apart. */
export function systemKeychain(account: string): Keychain {
  const entry = async () => {
    const { AsyncEntry } = await import('@napi-rs/keyring')
    // Without this, Linux falls back to the kernel's keyring, which a reboot empties: the credentials could not be opened again.
    return new AsyncEntry(service, account, { linux: { store: 'secret-service' } })
  }
  return {
    get: async () => (await (await entry()).getPassword(AbortSignal.timeout(5000))) ?? undefined,
    set: async secret => (await entry()).setPassword(secret, AbortSignal.timeout(5000))
  }
}
