// Where are the tools of these tests, and what happens without them: a visible skip on somebody's machine, a failure in CI.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

// From build/test/deploy as well as from test/deploy.
const here = fileURLToPath(new URL('.', import.meta.url))
/** The folder of package.json, with a slash at its end. */
export const root = here.replace(/(build\/)?test\/deploy\/$/, '')
export const modules = `${root}test/deploy/node_modules/`

/** Programs by path; those of npm come with `npm ci --prefix test/deploy`. */
export const tools = {
  dockerfilelint: `${modules}dockerfilelint/bin/dockerfilelint`,
  kubernetesModels: `${modules}kubernetes-models/package.json`,
  kubectl: 'kubectl',
  helm: 'helm',
  go: 'go',
  nginx: 'nginx',
  haproxy: 'haproxy',
  shellcheck: 'shellcheck',
  systemdAnalyze: 'systemd-analyze',
  prometheus: 'prometheus',
  promtool: 'promtool'
}

/** Whether a program can be run, or a file is there. */
export function has(tool: string): boolean {
  if (tool.includes('/')) return existsSync(tool)
  // Debian keeps servers in sbin, which is not in everybody's PATH.
  return spawnSync('sh', ['-c', `PATH="$PATH:/usr/sbin"; command -v ${tool}`]).status === 0
}

/**
 * Options of a test that needs tools: skipped visibly without them, with what to do. In CI it runs all the same and fails, as a
 * check that is skipped there holds nothing.
 */
export function needs(...tools: string[]): { skip?: string } {
  const absent = tools.filter(tool => !has(tool))
  if (absent.length === 0 || process.env['CI'] === 'true') return {}
  const hints = absent.map(tool =>
    tool.startsWith(modules) ? 'run `npm ci --prefix test/deploy`' : `install ${tool}`
  )
  return { skip: [...new Set(hints)].join(', ') }
}
