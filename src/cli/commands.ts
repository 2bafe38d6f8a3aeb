// Which commands there are: what each is for, what the shell completes, and where its code is. It runs none.
import type { World } from './terminal.ts'

/** A command takes its own arguments and answers the exit code; a server answers when it has stopped. */
interface Command {
  summary: string
  /** What the shell completes besides --help. */
  options?: readonly string[]
  load: () => Promise<{ run: (args: string[], world?: World) => Promise<number> }>
}

export const commands: Readonly<Record<string, Command>> = {
  serve: {
    summary: 'run the gateway from file and environment',
    options: ['--config', '--check'],
    load: () => import('./serve.ts')
  },
  demo: {
    summary: 'run the gateway, a Drupal double and the whole trip of a client',
    options: ['--once', '--gateway-port', '--drupal-port', '--only'],
    load: () => import('./demo.ts')
  },
  login: {
    summary: 'sign in at the Drupal behind a gateway URL',
    options: [
      '--device',
      '--browser',
      '--scope',
      '--client-id',
      '--redirect-uri',
      '--client-credentials',
      '--client-secret-file'
    ],
    load: () => import('./login.ts')
  },
  status: {
    summary: 'say who is signed in, where, and for how long',
    options: ['--json'],
    load: () => import('./status.ts')
  },
  logout: {
    summary: 'revoke and forget what login has kept',
    options: ['--all'],
    load: () => import('./logout.ts')
  },
  connect: {
    summary: 'bridge a stdio client to a gateway, signing in when needed',
    options: [
      '--token-file',
      '--client-credentials',
      '--client-id',
      '--client-secret-file',
      '--device',
      '--browser',
      '--scope'
    ],
    load: () => import('./connect.ts')
  },
  completion: {
    summary: 'completion for bash, zsh and fish',
    options: ['bash', 'zsh', 'fish'],
    load: () => import('./completion.ts')
  },
  doctor: {
    summary: 'find the broken link between a client and the site, and what mends it',
    options: ['--token-file', '--gateway-config', '--only', '--json', '--strict', '--timeout'],
    load: () => import('./doctor.ts')
  }
}
