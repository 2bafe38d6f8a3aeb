// Memory for large answers, used again once their bytes are with the client. Made anew for each, it has V8 mark the whole heap
// several times a second: a third of what an answer of 100 KB costs (measured). It refuses to know what is in it.

/** Smaller ones cost little, larger ones are rare. Bytes. */
const smallest = 16_384
const largest = 1_048_576
/** Most that is kept for later. */
const maxKept = 8_388_608

/** By the logarithm of their size. */
const free: ArrayBuffer[][] = []
let kept = 0
/** What is taken back is what was lent from here, once: a small body shares its memory with all that Node keeps in its own pool. */
const lent = new WeakSet<ArrayBufferLike>()

const sizeClass = (length: number) => 32 - Math.clz32(length - 1)

/** Memory of this many bytes, with whatever was in it before: fill it before anybody reads it. */
export function takeMemory(length: number): Buffer {
  if (length < smallest || length > largest) return Buffer.allocUnsafe(length)
  const known = free[sizeClass(length)]?.pop()
  if (known !== undefined) kept -= known.byteLength
  const memory = known ?? new ArrayBuffer(2 ** sizeClass(length))
  lent.add(memory)
  return Buffer.from(memory, 0, length)
}

/** Whether there is anything to give back. */
export const isLent = ({ buffer }: Buffer): boolean => lent.has(buffer)

/**
 * For the next to take. The caller promises that nobody has or gets to see these bytes any more: the next answer is somebody else's.
 * What did not come from here stays with its owner.
 */
export function giveMemoryBack({ buffer }: Buffer): void {
  if (!lent.delete(buffer) || kept + buffer.byteLength > maxKept) return
  ;(free[sizeClass(buffer.byteLength)] ??= []).push(buffer as ArrayBuffer)
  kept += buffer.byteLength
}
