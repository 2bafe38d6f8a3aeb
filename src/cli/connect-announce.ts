// How the client's user learns of a sign-in: as a log message, and where the client can open URLs for a server, as such a request. It
// knows neither tokens nor the gateway.
import { isObject, parseJson } from '../mcp/call.ts'

export interface Announcer {
  /** Takes the params of the client's initialize. */
  greet(params: Record<string, unknown> | undefined): void
  /** Shows a text, and asks to open `link`, unless the client still shows that. */
  announce(text: string, link: string | undefined): Promise<void>
  /** What a response (`line`, to `id`) says of such a request; undefined: it answers another. */
  answered(id: string | undefined, line: string): 'declined' | 'other' | undefined
}

/** Builds an announcer. Before the session is open a server may not ask anything. */
export function createAnnouncer(
  write: (line: string) => Promise<void>,
  isOpen: () => boolean
): Announcer {
  let greeted = false
  let canOpenUrls = false
  let count = 0
  let asked: { id: string; link: string } | undefined

  const say = (method: string, params: unknown, id = '') =>
    write(`{"jsonrpc":"2.0",${id}"method":"${method}","params":${JSON.stringify(params)}}`)

  return {
    greet(params) {
      greeted = true
      const { elicitation } = (params?.['capabilities'] ?? {}) as {
        elicitation?: { url?: unknown }
      }
      canOpenUrls = elicitation?.url !== undefined
    },
    async announce(text, link) {
      if (!greeted) return
      await say('notifications/message', {
        level: 'notice',
        logger: 'drupal-mcp-gateway',
        data: text
      })
      if (link === undefined || !canOpenUrls || !isOpen() || asked?.link === link) return
      asked = { id: JSON.stringify(`drupal-mcp-gateway sign-in ${++count}`), link }
      const params = { mode: 'url', elicitationId: `sign-in-${count}`, url: link, message: text }
      await say('elicitation/create', params, `"id":${asked.id},`)
    },
    answered(id, line) {
      if (!id?.startsWith('"drupal-mcp-gateway sign-in ')) return undefined
      if (id !== asked?.id) return 'other'
      asked = undefined
      const value = parseJson(line)
      const result = isObject(value) ? value['result'] : undefined
      const action = isObject(result) ? result['action'] : undefined
      return action === 'decline' || action === 'cancel' ? 'declined' : 'other'
    }
  }
}
