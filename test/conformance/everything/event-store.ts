// What has been sent on which stream? Remembers the events of one session so that a stream can be resumed (SEP-1699).
// Bounded: an everything-server that is called a million times keeps the last events only.
import { randomUUID } from 'node:crypto'
import type { EventStore, JSONRPCMessage } from '@modelcontextprotocol/server'

const maxEvents = 1000

/** Events in order of arrival, kept for one session. */
export function createEventStore(): EventStore {
  const events = new Map<string, { streamId: string; message: JSONRPCMessage }>()
  return {
    async storeEvent(streamId, message) {
      const eventId = randomUUID()
      events.set(eventId, { streamId, message })
      const [oldest] = events.keys()
      if (events.size > maxEvents && oldest !== undefined) events.delete(oldest)
      return eventId
    },
    async getStreamIdForEventId(eventId) {
      return events.get(eventId)?.streamId
    },
    async replayEventsAfter(lastEventId, { send }) {
      const streamId = events.get(lastEventId)?.streamId
      if (streamId === undefined) throw new Error('unknown event id')
      let after = false
      for (const [eventId, event] of events) {
        // The priming event carries no message and is never replayed.
        if (after && event.streamId === streamId && 'jsonrpc' in event.message)
          await send(eventId, event.message)
        if (eventId === lastEventId) after = true
      }
      return streamId
    }
  }
}
