// What does the published suite say of one server? Runs it as a program of its own and reads the checks it leaves behind.
// Refuses to know whether that server is the gateway.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { mkdir, readdir, readFile, rm } from 'node:fs/promises'
import { modernNode, programs, root } from './tools.ts'

export interface Check {
  id: string
  name: string
  status: 'SUCCESS' | 'FAILURE' | 'WARNING' | 'SKIPPED' | 'INFO'
  description?: string
  errorMessage?: string
  details?: unknown
}

/** Scenario → its checks, in the order in which the suite made them. */
export type Checks = Map<string, Check[]>

export interface SuiteTarget {
  url: string
  /** Sent as bearer token to the origin of `url`, and nowhere else. */
  token?: string
}

const longestRunMs = 300_000

/** Runs the conformance program with `args` and leaves its output in `log`. Throws when it cannot be run at all. */
async function runProgram(
  args: string[],
  log: string,
  env: NodeJS.ProcessEnv = {},
  nodeArgs: string[] = []
): Promise<void> {
  const output = createWriteStream(log)
  const child = spawn(modernNode(), [...nodeArgs, programs.conformance, ...args], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: longestRunMs
  })
  child.stdout.pipe(output, { end: false })
  child.stderr.pipe(output, { end: false })
  const [, signal] = await once(child, 'close')
  output.end()
  // The exit code says whether checks failed, which the comparison judges; only a kill means that there is no result.
  if (signal)
    throw new Error(`The conformance suite was stopped after ${longestRunMs} ms, see ${log}`)
}

/** Runs the suite's server scenarios chosen by `args` against `target`; keeps everything under `dir`. */
export async function runServerSuite(
  target: SuiteTarget,
  args: string[],
  dir: string
): Promise<Checks> {
  await rm(dir, { recursive: true, force: true })
  await mkdir(dir, { recursive: true })
  const withToken = target.token !== undefined
  await runProgram(
    ['server', '--url', target.url, '-o', dir, ...args],
    `${dir}/suite.log`,
    withToken ? { BEARER_ORIGIN: new URL(target.url).origin, BEARER_TOKEN: target.token } : {},
    withToken ? ['--import', `${root}test/conformance/preload.mjs`] : []
  )
  const checks = await readChecks(dir)
  if (checks.size === 0) throw new Error(`The suite left no checks, see ${dir}/suite.log`)
  return checks
}

/** A scenario in which the suite plays the server, and the revision in which it plays. */
export type ClientScenario = readonly [scenario: string, revision: string]

/**
 * Lets the suite play a server for each of `scenarios`, and client.ts visit it: straight, or through a gateway. The verdicts
 * are about what arrives at that server; so through a gateway they are about what it forwards.
 */
export async function runClientScenarios(
  way: 'direct' | 'gateway',
  scenarios: readonly ClientScenario[],
  dir: string
): Promise<Checks> {
  await rm(dir, { recursive: true, force: true })
  const all: Checks = new Map()
  for (const [scenario, revision] of scenarios) {
    const own = `${dir}/${scenario}-${revision}`
    await mkdir(own, { recursive: true })
    const command = `${modernNode()} ${root}test/conformance/client.ts ${way}`
    await runProgram(
      [
        'client',
        '--command',
        command,
        '--scenario',
        scenario,
        '--spec-version',
        revision,
        '-o',
        own
      ],
      `${own}/suite.log`
    )
    const checks = (await readChecks(own)).get(scenario)
    if (!checks) throw new Error(`The suite left no checks, see ${own}/suite.log`)
    all.set(`${scenario} ${revision}`, checks)
  }
  return all
}

/** Reads every `<scenario>-<time>/checks.json` below `dir`. */
async function readChecks(dir: string): Promise<Checks> {
  const checks: Checks = new Map()
  for (const entry of await readdir(dir, { withFileTypes: true })) {
    const scenario = /^(?:server-)?(.+)-\d{4}-\d\d-\d\dT[\d-]+Z$/.exec(entry.name)?.[1]
    if (!entry.isDirectory() || scenario === undefined) continue
    const file = await readFile(`${dir}/${entry.name}/checks.json`, 'utf8')
    checks.set(scenario, [...(checks.get(scenario) ?? []), ...(JSON.parse(file) as Check[])])
  }
  return checks
}
