// What happens under too much: calls at ever higher fixed rates before a site of a few workers. Told are the calls that got in,
// those that were turned away, the latency of the former, and how many the site ever had at work at once.
import { stop } from '../child.mjs'
import { load, spread, warm } from '../measure.mjs'
import { startSite, WORK_MS } from '../site.mjs'
import { gateway } from '../targets.mjs'

const WORKERS = 8
const QUEUE = 16
/** Calls a second that the site can do. */
const capacity = (WORKERS * 1000) / WORK_MS
const loads = [0.25, 0.5, 0.9, 1.5, 3, 10]

/** The most calls that the site had at work at once since it was asked last. */
async function mostAtWork(site) {
  const answer = await fetch(`${site.url}/.working`)
  return (await answer.json()).most
}

export async function measureOverload(_group, { rounds, seconds, tell }) {
  const site = await startSite()
  const env = {
    DRUPAL_MAX_CONCURRENCY: String(WORKERS),
    DRUPAL_MAX_QUEUE: String(QUEUE),
    DRUPAL_QUEUE_TIMEOUT: '1'
  }
  const target = await gateway('overload', { tool: 'work', env }).start(site)
  try {
    await warm(target, { connections: WORKERS, count: 3000, seconds: 30 })
    const points = []
    let most = 0
    for (const share of loads) {
      const told = []
      for (let round = 0; round < Math.min(rounds, 3); round++) {
        told.push(await load(target, { connections: 256, seconds, rate: share * capacity }))
      }
      const of = figure => spread(told.map(figure)).median
      const atOnce = await mostAtWork(site)
      most = Math.max(most, atOnce)
      const other = told.find(({ statuses }) =>
        statuses.some((n, i) => n > 0 && i !== 2 && i !== 5)
      )
      if (other !== undefined) throw new Error(`overload: neither 200 nor 503: ${other.sample}`)
      points.push([
        `${share} × (${share * capacity}/s)`,
        of(one => one.statuses[2] / one.seconds),
        of(one => one.statuses[5] / one.seconds),
        of(one => one.latency.p50 / 1000),
        of(one => one.latency.p99 / 1000),
        atOnce
      ])
      tell?.(`${share} × what the site can do`)
    }
    if (most > WORKERS)
      throw new Error(`the site had ${most} calls at work, its bound is ${WORKERS}`)
    const what = `A site of ${WORKERS} workers, ${WORK_MS} ms a call; DRUPAL_MAX_CONCURRENCY=${WORKERS}, DRUPAL_MAX_QUEUE=${QUEUE}.`
    const head = ['offered', 'admitted/s', '503/s', 'p50, ms', 'p99, ms', 'most at work']
    return { curves: [{ what, head, points }] }
  } finally {
    await stop(target.process)
    await stop(site.upstream)
  }
}
