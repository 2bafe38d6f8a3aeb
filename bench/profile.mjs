// Where does the CPU time of a call go? Runs one variant of the gateway under V8's sampling profiler, sends it calls and tells
// self time by function and by package, in microseconds a call.
//
// Usage: node bench/profile.mjs [--era legacy|modern] [--upstream jsonrpc|mcp] [--tool article_1k] [--seconds 6] [--top 45]
import { readdirSync, readFileSync, rmSync } from 'node:fs'
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
    top: { type: 'string', default: '45' }
  }
})

compile()
const site = await startSite()
const dir = `${workDir}/profile`
rmSync(dir, { recursive: true, force: true })
const flags = ['--cpu-prof', `--cpu-prof-dir=${dir}`, '--cpu-prof-interval=200']
const { era, upstream, tool } = values
const target = await gateway('profiled', { era, upstream, tool, flags }).start(site)
await warm(target)
const told = mustSucceed(target, await load(target, { seconds: Number(values.seconds) }))
await stop(target.process)
await stop(site.upstream)

const file = readdirSync(dir).find(name => name.endsWith('.cpuprofile'))
const { nodes, samples, timeDeltas } = JSON.parse(readFileSync(`${dir}/${file}`, 'utf8'))
const byId = new Map(nodes.map(node => [node.id, node]))
const self = new Map()
let total = 0
// Only the load at the end: not the start, and not the calls that were interpreted before they were compiled.
const wanted = Number(values.seconds) * 1e6
let first = samples.length
for (let time = 0; first > 0 && time < wanted; first--) time += timeDeltas[first - 1]
for (const [offset, id] of samples.slice(first).entries()) {
  const index = first + offset
  const { functionName, url, lineNumber } = byId.get(id).callFrame
  if (functionName === '(idle)' || functionName === '(program)') continue
  const place = url
    .replace('file://', '')
    .replace(root, '')
    .replace(/^node:/, 'node:')
  const key = `${functionName || '(anonymous)'}  ${place}:${lineNumber + 1}`
  self.set(key, (self.get(key) ?? 0) + timeDeltas[index])
  total += timeDeltas[index]
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

const scale = told.cpuMicros / total
const lines = (map, top) =>
  [...map]
    .sort((a, b) => b[1] - a[1])
    .slice(0, top)
    .map(
      ([key, time]) =>
        `${(time * scale).toFixed(2).padStart(8)}  ${((time / total) * 100).toFixed(1).padStart(5)} %  ${key}`
    )
    .join('\n')
process.stdout.write(
  `${told.cpuMicros.toFixed(1)} µs a call under the profiler, ${Math.round(told.perSecond)} calls/s\n\nby package, µs a call\n${lines(rooms, 30)}\n\nby function, µs a call\n${lines(self, Number(values.top))}\n`
)
process.exit(0)
