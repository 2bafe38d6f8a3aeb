// Preloaded into a process under measurement: when the file BENCH_HEAP_FILE.ask appears for the first time it begins to sample what is
// allocated, for the second time it writes the profile to BENCH_HEAP_FILE. No signal: the gateway's own are for stopping it.
import { existsSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { Session } from 'node:inspector/promises'

const file = process.env.BENCH_HEAP_FILE
const session = new Session()
session.connect()
let isSampling = false
setInterval(() => {
  if (!existsSync(`${file}.ask`)) return
  rmSync(`${file}.ask`)
  if (isSampling) void write()
  else void begin()
  isSampling = !isSampling
}, 20).unref()

async function begin() {
  await session.post('HeapProfiler.startSampling', {
    samplingInterval: 2048,
    includeObjectsCollectedByMajorGC: true,
    includeObjectsCollectedByMinorGC: true
  })
}

async function write() {
  const { profile } = await session.post('HeapProfiler.stopSampling')
  writeFileSync(`${file}.new`, JSON.stringify(profile))
  renameSync(`${file}.new`, file)
}
