// A process under measurement: started on one core, asked for its CPU time and memory, ended. It refuses to know what it does.
import { spawn } from 'node:child_process'
import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileName, workDir } from './machine.mjs'

const running = new Set()

/** A port that was free a moment ago. */
export async function freePort() {
  const server = createServer()
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address()
  await new Promise(resolve => server.close(resolve))
  return port
}

async function answers(port) {
  return new Promise(resolve => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => resolve(true) || socket.destroy())
    socket.once('error', () => resolve(false))
  })
}

/** Starts a command on a core; resolves when its port takes connections. Output goes to a file of its name. */
export async function start({ name, command, args, env = {}, core, port }) {
  const log = `${workDir}/${fileName(name)}.log`
  const output = openSync(log, 'w')
  const child = spawn('taskset', ['-c', String(core), command, ...args], {
    stdio: ['ignore', output, output],
    env: { PATH: process.env.PATH, HOME: process.env.HOME, ...env },
    cwd: workDir
  })
  closeSync(output)
  const exited = new Promise(resolve => child.once('exit', resolve))
  const started = { name, pid: child.pid, port, log, exited }
  running.add(child)
  child.once('exit', () => running.delete(child))
  const until = Date.now() + 20_000
  while (!(await answers(port))) {
    if (child.exitCode !== null || Date.now() > until) {
      throw new Error(`${name} does not answer:\n${readFileSync(log, 'utf8').slice(-2000)}`)
    }
    await sleep(10)
  }
  return started
}

function tell(signal, { pid }) {
  for (const one of tree(pid)) {
    try {
      process.kill(one, signal)
    } catch {
      // It ended meanwhile.
    }
  }
}

/**
 * Stops a process until `resume`: whoever is not measured does nothing. An idle Node process collects garbage after some seconds, up
 * to 80 ms on the core where somebody else's latency is measured.
 */
export const pause = started => tell('SIGSTOP', started)
export const resume = started => tell('SIGCONT', started)

/** Ends a process and waits for its end. */
export async function stop(started, signal = 'SIGTERM') {
  resume(started)
  try {
    process.kill(started.pid, signal)
  } catch {
    return
  }
  const late = setTimeout(() => process.kill(started.pid, 'SIGKILL'), 8000)
  await started.exited
  clearTimeout(late)
}

process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

/** The process and all it started. */
function tree(pid) {
  const children = new Map()
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, 'latin1')
      const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
      children.set(parent, [...(children.get(parent) ?? []), Number(entry)])
    } catch {
      // It ended meanwhile.
    }
  }
  const found = [pid]
  for (const one of found) found.push(...(children.get(one) ?? []))
  return found
}

/**
 * CPU seconds (user and system) of the process and all it started: what the scheduler counted, in nanoseconds. Time in
 * /proc/PID/stat is the same in steps of 10 ms, too coarse for short rounds.
 */
export function cpuSeconds({ pid }) {
  let nanoseconds = 0
  for (const one of tree(pid)) {
    for (const thread of readdirSync(`/proc/${one}/task`)) {
      const counted = readFileSync(`/proc/${one}/task/${thread}/schedstat`, 'latin1')
      nanoseconds += Number(counted.split(' ')[0])
    }
  }
  return nanoseconds / 1e9
}

/** Resident memory in MB of the process and all it started; shared pages are shared out. */
export function residentMegabytes({ pid }) {
  let kilobytes = 0
  for (const one of tree(pid)) {
    const rollup = readFileSync(`/proc/${one}/smaps_rollup`, 'latin1')
    kilobytes += Number(/^Pss:\s+(\d+)/m.exec(rollup)[1])
  }
  return kilobytes / 1024
}

/** Open file descriptors of the process. */
export const openFiles = ({ pid }) => readdirSync(`/proc/${pid}/fd`).length
