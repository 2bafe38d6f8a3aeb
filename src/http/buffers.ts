// How much memory may request bodies, and answers that clients have yet to take, hold together? Over the bound, whoever has most
// loses what came last. It refuses to know what the bytes say.
import { type Member, Roster } from '../roster.ts'

/** Less than this lies in buffers that a connection has anyway. Bytes. */
export const worthCounting = 16_384

/** Why what is given up is given up: for the log. */
export const buffersAreFull = 'the bodies and answers of all callers fill server.maxBufferedBytes'

/** What is counted of one request and its answer. */
export interface Share {
  /** Sets its bytes; `giveUp`, where it can be given up, is called at most once and frees them by itself. */
  hold(bytes: number, giveUp?: () => void): void
  free(): void
  readonly isHeld: boolean
}

class HeldShare implements Share, Member {
  at = -1
  bytes = 0
  /** The higher, the later. */
  order = 0
  giveUp: (() => void) | undefined
  readonly owner: string
  readonly #buffers: Buffers

  constructor(buffers: Buffers, owner: string) {
    this.#buffers = buffers
    this.owner = owner
  }

  get isHeld(): boolean {
    return this.at !== -1
  }

  hold(bytes: number, giveUp?: () => void): void {
    if (bytes < worthCounting && !this.isHeld) return
    this.giveUp = giveUp
    this.#buffers.set(this, bytes)
  }

  free(): void {
    if (this.isHeld) this.#buffers.remove(this)
  }
}

/** All that is held now, of at most `maxBytes`, unless what is over it cannot be given up. */
export class Buffers {
  readonly #maxBytes: number
  readonly #onGivenUp: () => void
  readonly #held = new Roster<HeldShare>()
  #bytes = 0
  #count = 0

  constructor(maxBytes: number, onGivenUp: () => void = () => {}) {
    this.#maxBytes = maxBytes
    this.#onGivenUp = onGivenUp
  }

  get bytes(): number {
    return this.#bytes
  }

  /** `owner`: among whom the room is shared. */
  shareOf(owner: string): Share {
    return new HeldShare(this, owner)
  }

  set(share: HeldShare, bytes: number): void {
    if (!share.isHeld) {
      share.order = this.#count++
      this.#held.enter(share)
    }
    this.#bytes += bytes - share.bytes
    share.bytes = bytes
    while (this.#bytes > this.#maxBytes) {
      const last = this.#toGiveUp()
      if (last === undefined) return
      this.remove(last)
      this.#onGivenUp()
      last.giveUp?.()
    }
  }

  remove(share: HeldShare): void {
    this.#held.leave(share)
    this.#bytes -= share.bytes
    share.bytes = 0
  }

  /** Of the owners that have something to give up, the last to come of the one who has most: as in the queue for Drupal. */
  #toGiveUp(): HeldShare | undefined {
    const held = this.#held.all()
    const byOwner = new Map<string, number>()
    for (const { owner, bytes } of held) byOwner.set(owner, (byOwner.get(owner) ?? 0) + bytes)
    let found: HeldShare | undefined
    for (const share of held) {
      if (share.giveUp === undefined) continue
      const more = (byOwner.get(share.owner) as number) - (byOwner.get(found?.owner ?? '') ?? 0)
      if (found === undefined || more > 0 || (more === 0 && share.order > found.order))
        found = share
    }
    return found
  }
}
