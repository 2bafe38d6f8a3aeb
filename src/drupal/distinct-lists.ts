// Most callers see the same tools: lists of the same content are one value in memory, and how much all of them may take is bounded
// by what is in them, not by how many they are. It refuses to know whose they are.
import { createHash } from 'node:crypto'
import { LRUCache } from 'lru-cache'

/** Characters of JSON that all lists may hold together: parsed, and kept as bytes besides, they take three times as much. */
export const MAX_LISTED = 16 * 1024 * 1024
const MAX_LISTS = 1000
/** For a list that is nested too deeply to be written. */
const UNKNOWN_SIZE = 1024 * 1024

export interface DistinctLists<T> {
  /** The value that stands for these tools: the one that is known, or what `read` makes of them. */
  of(tools: readonly unknown[], read: () => T): T
  /** Characters of JSON that were read as this value. */
  sizeOf(list: T): number
}

/** Gives lists that are one value where their content is the same; what was used longest ago goes first. */
export function createDistinctLists<T extends object>(): DistinctLists<T> {
  const sizes = new WeakMap<T, number>()
  const sizeOf = (list: T) => sizes.get(list) ?? UNKNOWN_SIZE
  const lists = new LRUCache<string, T>({
    max: MAX_LISTS,
    maxSize: MAX_LISTED,
    sizeCalculation: sizeOf
  })

  return {
    sizeOf,
    of(tools, read) {
      let text: string
      try {
        text = JSON.stringify(tools)
      } catch {
        return read()
      }
      const content = createHash('sha256').update(text).digest('base64')
      let list = lists.get(content)
      if (list === undefined) {
        list = read()
        sizes.set(list, text.length)
        lists.set(content, list)
      }
      return list
    }
  }
}
