// Preloaded into a process under measurement: when the file BENCH_MEMORY_FILE.ask appears it collects garbage and writes
// process.memoryUsage() to BENCH_MEMORY_FILE, so that what is kept is measured and not what waits for the collector. Needs
// --expose-gc. No signal: the gateway's own are for stopping it.
import { existsSync, renameSync, rmSync, writeFileSync } from 'node:fs'

const file = process.env.BENCH_MEMORY_FILE
setInterval(() => {
  if (!existsSync(`${file}.ask`)) return
  rmSync(`${file}.ask`)
  globalThis.gc()
  globalThis.gc()
  writeFileSync(`${file}.new`, JSON.stringify(process.memoryUsage()))
  renameSync(`${file}.new`, file)
}, 20).unref()
