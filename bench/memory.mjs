// What a gateway keeps in memory after its garbage is collected, and gateways that can be asked for it.
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileName, root, workDir } from './machine.mjs'
import { startGateway } from './targets.mjs'

/** Starts a gateway that can be asked by `keptMegabytes`. */
export async function startMeasurable(site, { name, env = {}, upstream = 'jsonrpc' }) {
  const memoryFile = `${workDir}/${fileName(name)}.memory`
  for (const file of [memoryFile, `${memoryFile}.ask`]) rmSync(file, { force: true })
  const process = await startGateway(site, {
    name,
    flags: ['--expose-gc', `--import=${root}bench/peers/memory.mjs`],
    env: { DRUPAL_UPSTREAM: upstream, BENCH_MEMORY_FILE: memoryFile, ...env }
  })
  return { name, process, port: process.port, memoryFile }
}

/** Heap and buffers in MB that are in use after a collection. */
export async function keptMegabytes({ memoryFile }) {
  rmSync(memoryFile, { force: true })
  writeFileSync(`${memoryFile}.ask`, '')
  const until = Date.now() + 20_000
  while (!existsSync(memoryFile)) {
    if (Date.now() > until) throw new Error('the gateway does not tell its memory')
    await sleep(20)
  }
  const { heapUsed, external } = JSON.parse(readFileSync(memoryFile, 'utf8'))
  return (heapUsed + external) / 1e6
}
