// What a person sees of a sign-in: the address, the code, a QR code, how long it still waits. The same words for login and connect.
import type { Env } from './credentials-home.ts'
import { openBrowser } from './headless.ts'
import { qrText } from './qr.ts'
import type { SignInEvent } from './sign-in.ts'
import { duration, type Terminal } from './terminal.ts'

/** Gives the `tell` of a sign-in. `open` starts a browser and says whether it could. */
export function narrator(
  terminal: Terminal,
  env: Env,
  open: (url: string, env: Env) => Promise<boolean> = openBrowser
): (event: SignInEvent) => void {
  const { bold, dim, say } = terminal
  return event => {
    switch (event.kind) {
      case 'note':
        return say(dim(event.text))
      case 'visit':
        say('Sign in with your browser at:')
        say(`  ${bold(event.url)}`)
        if (event.open) {
          open(event.url, env).then(
            opened => opened || say(dim('No browser could be opened: open the address yourself.')),
            () => undefined
          )
        }
        return
      case 'code': {
        const { uri, userCode, complete, expiresAt } = event.code
        say('To sign in, open this address on any device')
        say(`  ${bold(uri)}`)
        say('and enter the code')
        say(`  ${bold(userCode)}`)
        const picture = qrText(complete, terminal.colours, terminal.columns)
        if (picture !== undefined) say(`\nor scan:\n${picture}`)
        say(
          dim(
            `The code is good for ${duration(expiresAt - Date.now())}. Enter it only if you started this sign-in.`
          )
        )
        return
      }
      case 'waiting':
        return terminal.progress(`Waiting … ${duration(event.remainingMs)} left`)
      case 'slower':
        return terminal.progress(`The server asks for patience: asking every ${event.seconds} s.`)
      case 'long':
        return say(
          dim(
            'Still waiting. If you pressed Deny, end this with Ctrl-C: Drupal does not pass a denial on. If the page said that the code was accepted, it takes a few seconds.'
          )
        )
    }
  }
}
