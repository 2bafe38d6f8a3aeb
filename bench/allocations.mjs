// How much does a call make? Bytes that V8 allocated, from its collector's own log: the same on a busy machine as on a quiet one,
// and what a call makes and what it runs grow together.
import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs'
import { load, mustSucceed, warm } from './measure.mjs'

/** The flags of Node that have it keep that log. */
export const heapLog = ['--trace-gc']

const collection = /(?:Scavenge|Mark-Compact)[^\n]*? ([\d.]+) \([\d.]+\) -> ([\d.]+) \([\d.]+\) MB/g

function readFrom(path, from) {
  const file = openSync(path, 'r')
  try {
    const bytes = Buffer.alloc(fstatSync(file).size - from)
    readSync(file, bytes, 0, bytes.length, from)
    return bytes.toString('latin1')
  } finally {
    closeSync(file)
  }
}

/** Bytes allocated a call, of a target that was started with `heapLog`, once its machine code is made. */
export async function bytesPerCall(target) {
  await warm(target, { seconds: 30 })
  const { log } = target.process
  const from = statSync(log).size
  const { answers } = mustSucceed(target, await load(target, { seconds: 30, count: 30_000 }))
  const collections = [...readFrom(log, from).matchAll(collection)]
  let megabytes = 0
  for (const [index, [, before]] of collections.entries()) {
    if (index > 0) megabytes += Number(before) - Number(collections[index - 1][2])
  }
  // From the first collection to the last, of as many intervals as there are collections: about twenty.
  const part = (collections.length - 1) / collections.length
  return (megabytes * 1_048_576) / part / answers
}
