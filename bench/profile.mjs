// Where does the CPU time of a call go, or the memory that it makes? Runs one variant of the gateway under V8's sampling profiler,
// sends it calls and tells what each function and package takes itself, in microseconds or bytes a call.
//
// Usage: node bench/profile.mjs [--bytes] [--era legacy|modern] [--upstream jsonrpc|mcp] [--tool article_1k] [--seconds 6] [--top 45]
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { stop } from './child.mjs'
import { compile, root, workDir } from './machine.mjs'
import { load, mustSucceed, warm } from './measure.mjs'
import { startSite } from './site.mjs'
import { gateway } from './targets.mjs'

const { values } = parseArgs({
  options: {
    era: { type: 'string', default: 'legacy' },
    upstream: { type: 'string', default: 'jsonrpc' },
    tool: { type: 'string', default: 'article_1k' },
    seconds: { type: 'string', default: '6' },
    top: { type: 'string', default: '45' },
    bytes: { type: 'boolean', default: false }
  }
})

compile()
const site = await startSite()
const { era, upstream, tool, bytes } = values
const self = new Map()
const told = bytes ? await profileBytes() : await profileTime()
await stop(site.upstream)

function add({ functionName, url, lineNumber }, amount) {
  const place = url.replace('file://', '').replace(root, '')
  const key = `${functionName || '(anonymous)'}  ${place}:${lineNumber + 1}`
  self.set(key, (self.get(key) ?? 0) + amount)
}

async function profileTime() {
  const dir = `${workDir}/profile`
  rmSync(dir, { recursive: true, force: true })
  const flags = ['--cpu-prof', `--cpu-prof-dir=${dir}`, '--cpu-prof-interval=200']
  const target = await gateway('profiled', { era, upstream, tool, flags }).start(site)
  await warm(target)
  const loaded = mustSucceed(target, await load(target, { seconds: Number(values.seconds) }))
  await stop(target.process)
  const file = readdirSync(dir).find(name => name.endsWith('.cpuprofile'))
  const { nodes, samples, timeDeltas } = JSON.parse(readFileSync(`${dir}/${file}`, 'utf8'))
  const byId = new Map(nodes.map(node => [node.id, node]))
  // Only the load at the end: not the start, and not the calls that were interpreted before they were compiled.
  const wanted = Number(values.seconds) * 1e6
  let first = samples.length
  for (let time = 0; first > 0 && time < wanted; first--) time += timeDeltas[first - 1]
  for (const [offset, id] of samples.slice(first).entries()) {
    const { callFrame } = byId.get(id)
    if (callFrame.functionName === '(idle)' || callFrame.functionName === '(program)') continue
    add(callFrame, timeDeltas[first + offset])
  }
  return { unit: 'µs', total: loaded.cpuMicros }
}

/** By V8's sampling heap profiler, from the end of warming up: also what is dropped at once. */
async function profileBytes() {
  const file = `${workDir}/profile.heap`
  for (const old of [file, `${file}.ask`]) rmSync(old, { force: true })
  const flags = [`--import=${root}bench/peers/heap-profile.mjs`]
  const env = { BENCH_HEAP_FILE: file }
  const target = await gateway('profiled', { era, upstream, tool, flags, env }).start(site)
  await warm(target, { seconds: 30, count: 60_000 })
  writeFileSync(`${file}.ask`, '')
  while (existsSync(`${file}.ask`)) await sleep(20)
  const { answers } = mustSucceed(target, await load(target, { seconds: 30, count: 6000 }))
  writeFileSync(`${file}.ask`, '')
  while (!existsSync(file)) await sleep(20)
  await stop(target.process)
  let total = 0
  function walk({ callFrame, selfSize, children }) {
    if (selfSize > 0) add(callFrame, selfSize)
    total += selfSize
    children.forEach(walk)
  }
  walk(JSON.parse(readFileSync(file, 'utf8')).head)
  return { unit: 'bytes', total: total / answers }
}

const room = key => {
  const place = key.split('  ')[1] ?? ''
  const dependency = /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(place)?.[1]
  if (dependency !== undefined) return dependency
  if (place.startsWith('build/src'))
    return place.split('/').slice(0, 3).join('/').replace(/:\d+$/, '')
  if (place.startsWith('node:')) return 'node'
  return key.split('  ')[0]
}
const rooms = new Map()
for (const [key, time] of self) rooms.set(room(key), (rooms.get(room(key)) ?? 0) + time)

const sum = [...self.values()].reduce((all, amount) => all + amount, 0)
const lines = (map, top) =>
  [...map]
    .sort((a, b) => b[1] - a[1])
    .slice(0, top)
    .map(([key, amount]) => {
      const part = amount / sum
      const share = `${(part * 100).toFixed(1).padStart(5)} %`
      return `${(part * told.total).toFixed(bytes ? 0 : 2).padStart(8)}  ${share}  ${key}`
    })
    .join('\n')
const { unit } = told
process.stdout.write(
  `${told.total.toFixed(1)} ${unit} a call under the profiler\n\nby package, ${unit} a call\n${lines(rooms, 40)}\n\nby function, ${unit} a call\n${lines(self, Number(values.top))}\n`
)
process.exit(0)
