// Does anything leak? A steady load for minutes; memory after collections and open files, at the start and along the way.
import { setTimeout as sleep } from 'node:timers/promises'
import { sessionCalls } from '../callers.mjs'
import { openFiles, residentMegabytes, stop } from '../child.mjs'
import { load, mustSucceed, warm } from '../measure.mjs'
import { keptMegabytes, startMeasurable } from '../memory.mjs'
import { message, writeRequests } from '../requests.mjs'
import { startSite } from '../site.mjs'

const SAMPLES = 10
/** Calls a second: busy, and not so busy that a shared machine falls behind. */
const RATE = 1000

/** Least squares, MB a minute. */
function slope(samples) {
  const mean = key => samples.reduce((sum, one) => sum + one[key], 0) / samples.length
  const [minutes, megabytes] = [mean('minute'), mean('megabytes')]
  let over = 0
  let under = 0
  for (const one of samples) {
    over += (one.minute - minutes) * (one.megabytes - megabytes)
    under += (one.minute - minutes) ** 2
  }
  return over / under
}

export async function measureSoak(_group, { minutes, tell }) {
  const site = await startSite()
  const target = await startMeasurable(site, { name: 'soak', env: { CATALOGUE_TTL: '30' } })
  try {
    const { port } = target
    const token = site.token({ user: '3' })
    const bad = { port, token: `${token.slice(0, -8)}AAAAAAAA`, id: 1, era: 'modern' }
    const calls = [
      ...(await sessionCalls(site, port, 60)),
      message({ port, token, id: 2, era: 'modern', method: 'tools/list' }),
      message({ port, token, id: 3, era: 'modern', method: 'tools/call', name: 'article_10k' })
    ]
    const good = writeRequests('soak', calls)
    // Refusals too, fewer than hold an address back: paths of errors leak as well.
    const refused = writeRequests('soak-refused', [message({ ...bad, method: 'tools/list' })])
    await warm({ ...target, file: good })
    await sleep(6000) // connections to the site go after 4 s of idleness
    const files = openFiles(target.process)
    const samples = []
    for (let index = 0; index <= SAMPLES; index++) {
      samples.push({ minute: (index * minutes) / SAMPLES, megabytes: await keptMegabytes(target) })
      tell?.(
        `${samples.at(-1).minute.toFixed(1)} min: ${samples.at(-1).megabytes.toFixed(1)} MB kept`
      )
      if (index === SAMPLES) break
      const seconds = (minutes * 60) / SAMPLES
      mustSucceed(target, await load(target, { file: good, seconds, rate: RATE }))
      await load(target, { file: refused, connections: 1, seconds: 1, rate: 4 })
    }
    await sleep(6000)
    const leaked = openFiles(target.process) - files
    const growth = slope(samples.slice(2))
    const [first, last] = [samples[2].megabytes, samples.at(-1).megabytes]
    return {
      rows: [
        {
          what: `memory kept, ${minutes} minutes at ${RATE}/s`,
          found: `${first.toFixed(1)} → ${last.toFixed(1)} MB`
        },
        {
          what: 'slope',
          found: `${growth.toFixed(2)} MB a minute`,
          must: '≤ 0.5',
          kept: minutes < 2 ? undefined : growth <= 0.5
        },
        {
          what: 'resident at the end',
          found: `${residentMegabytes(target.process).toFixed(0)} MB`
        },
        {
          what: 'open files more than before',
          found: String(leaked),
          must: '≤ 0',
          kept: leaked <= 0
        }
      ]
    }
  } finally {
    await stop(target.process)
    await stop(site.upstream)
  }
}
