// A real Prometheus (Debian's) for tests: started with the configuration that Compose gives it, only addresses and times put in, and
// asked over its own API. It refuses to know what is scraped.
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import { parse } from 'yaml'
import { freePort } from '../fixtures/ports.ts'
import { root } from './tools.ts'

export const alertsFile = join(root, 'deploy/prometheus/alerts.yaml')

/** Runs promtool; answers what it printed. Throws with that when it finds something wrong. */
export async function promtool(...args: string[]): Promise<string> {
  const { stdout, stderr } = await promisify(execFile)('promtool', args)
  return stdout + stderr
}

/** The configuration of compose.yaml, with a target on loopback and a scrape every second. Throws where it has not what is replaced. */
export function composeConfig(target: string): string {
  const { configs } = parse(readFileSync(join(root, 'deploy/compose.yaml'), 'utf8')) as {
    configs: Record<string, { content: string }>
  }
  let text = configs['prometheus']?.content ?? ''
  for (const [from, to] of [
    ['scrape_interval: 30s', 'scrape_interval: 1s\n  evaluation_interval: 1s'],
    ['/etc/prometheus/alerts.yaml', alertsFile],
    ['gateway:9464', target]
  ] as const) {
    if (!text.includes(from)) throw new Error(`compose.yaml: no "${from}" for Prometheus`)
    text = text.replace(from, to)
  }
  return text
}

export interface Sample {
  metric: Record<string, string>
  /** Of a query at one moment. */
  value?: [seconds: number, value: string]
  /** Of a query over a range. */
  values?: [seconds: number, value: string][]
}

export interface Prometheus {
  /** GET below /api/v1; throws with Prometheus's own words when it refuses. */
  ask<Data>(path: string, query?: Record<string, string>): Promise<Data>
  /** Answers of a query now. */
  query(expr: string): Promise<Sample[]>
  /** Answers of a query over the seconds from `start` to `end`. */
  range(expr: string, start: number, end: number, step: number): Promise<Sample[]>
}

/** Starts it for the length of the test; `folder` is an empty one of its own. */
export async function startPrometheus(
  t: Test,
  folder: string,
  target: string
): Promise<Prometheus> {
  const [port, file] = [await freePort(), join(folder, 'prometheus.yaml')]
  writeFileSync(file, composeConfig(target))
  const child = spawn(
    'prometheus',
    [
      `--config.file=${file}`,
      `--storage.tsdb.path=${join(folder, 'data')}`,
      `--web.listen-address=127.0.0.1:${port}`,
      '--log.level=warn'
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] }
  )
  let said = ''
  child.stderr.on('data', chunk => (said += chunk))
  const ended = once(child, 'exit')
  t.teardown(async () => {
    child.kill('SIGTERM')
    await ended
  })
  const origin = `http://127.0.0.1:${port}`
  for (;;) {
    const answer = await fetch(`${origin}/-/ready`).catch(() => undefined)
    if (answer?.status === 200) break
    if (child.exitCode !== null) throw new Error(`prometheus ended: ${said}`)
    await new Promise(resolve => setTimeout(resolve, 50))
  }

  async function ask<Data>(path: string, query: Record<string, string> = {}): Promise<Data> {
    const answer = await fetch(`${origin}/api/v1/${path}?${new URLSearchParams(query).toString()}`)
    const { status, error, data } = (await answer.json()) as {
      status: string
      error?: string
      data: Data
    }
    if (status !== 'success') throw new Error(`${path} ${JSON.stringify(query)}: ${error}`)
    return data
  }
  return {
    ask,
    query: async expr => (await ask<{ result: Sample[] }>('query', { query: expr })).result,
    async range(expr, start, end, step) {
      const span = { start: String(start), end: String(end), step: String(step) }
      return (await ask<{ result: Sample[] }>('query_range', { query: expr, ...span })).result
    }
  }
}
