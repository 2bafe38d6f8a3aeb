// Is there a browser that the person at this terminal can see, and how is it opened? It knows no sign-in.
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import type { Env } from './credentials-home.ts'

/** Why there is no browser here, in words; undefined when there should be one. `exists` says whether a file is there. */
export function headless(
  env: Env,
  platform: NodeJS.Platform = process.platform,
  exists: (path: string) => boolean = existsSync
): string | undefined {
  const browser = env['BROWSER']
  if (browser === 'none' || browser === 'false') return `BROWSER is ${browser}`
  if (env['CI'] && env['CI'] !== 'false') return 'this is CI'
  // Editors that work in a container or over SSH set it to a command that opens the browser at home.
  if (browser) return undefined
  if (env['SSH_CONNECTION'] || env['SSH_TTY']) return 'this is an SSH session'
  if (env['container'] || env['KUBERNETES_SERVICE_HOST']) return 'this is a container'
  if (exists('/.dockerenv') || exists('/run/.containerenv')) return 'this is a container'
  const hasDisplay =
    platform === 'win32' || platform === 'darwin' || env['DISPLAY'] || env['WAYLAND_DISPLAY']
  return hasDisplay ? undefined : 'there is no display'
}

/** The command that opens a URL in the person's browser. Never through a shell: a URL comes from a server. Pure. */
export function browserCommand(
  url: string,
  env: Env,
  platform: NodeJS.Platform = process.platform
): [command: string, args: string[]] {
  const browser = env['BROWSER']
  if (browser && !/^(none|false)$/.test(browser)) return [browser, [url]]
  if (platform === 'darwin') return ['open', [url]]
  if (platform === 'win32') return ['rundll32', ['url.dll,FileProtocolHandler', url]]
  return ['xdg-open', [url]]
}

/** Opens the browser and lets go of it; false when the command could not be started. */
export function openBrowser(url: string, env: Env): Promise<boolean> {
  const [command, args] = browserCommand(url, env)
  return new Promise(resolve => {
    const child = spawn(command, args, { stdio: 'ignore', detached: true })
    child.once('error', () => resolve(false))
    child.once('spawn', () => {
      child.unref()
      resolve(true)
    })
  })
}
