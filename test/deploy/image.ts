// What does the Dockerfile say, and what is there when its steps have been carried out? Without a container engine: each stage is a
// folder that becomes the root of its commands, with this machine's system folders in it, read-only, as the base image.
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, readFileSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'

export interface Step {
  name: string
  args: string
}

export interface Stage {
  name: string
  base: string
  steps: Step[]
}

/** The stages of a Dockerfile with their steps, continuation lines joined and comments left out; `args` stand before FROM. */
export function parseDockerfile(text: string): { args: Step[]; stages: Stage[] } {
  const lines = text
    .split('\n')
    .filter(line => !/^\s*#/.test(line))
    .join('\n')
    .replace(/\\\n\s*/g, '')
    .split('\n')
    .filter(line => line.trim() !== '')
  const stages: Stage[] = []
  const before: Step[] = []
  for (const line of lines) {
    const [, name = '', args = ''] = /^(\w+)\s+(.*)$/.exec(line) ?? []
    if (name === 'FROM') {
      const [, base = '', stage = ''] = /^(\S+) AS (\S+)$/.exec(args) ?? []
      stages.push({ name: stage, base, steps: [] })
    } else (stages.at(-1)?.steps ?? before).push({ name, args })
  }
  return { args: before, stages }
}

/** What a .dockerignore of the form "everything but these" lets through. Throws on any other form. */
function contextNames(text: string): string[] {
  const lines = text.split('\n').filter(line => line !== '' && !line.startsWith('#'))
  const [first, ...rest] = lines
  if (first !== '*' || rest.some(line => !/^![\w.-]+$/.test(line)))
    throw new Error('.dockerignore must be * and then names with ! before them')
  return rest.map(line => line.slice(1))
}

export interface Image {
  root: string
  workdir: string
  env: Record<string, string>
  user: string
  entrypoint: string[]
  command: string[]
  healthcheck: string[]
  labels: string
}

/** What container engines set. */
const containerPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

const system = ['usr', 'bin', 'sbin', 'lib', 'lib64', 'etc']

/** A shell script that makes `root` the root of the command that follows, in mounts of its own. */
function enter(root: string, readOnly: boolean): string {
  const lines = ['set -e', 'mount --make-rprivate /']
  // A mount on itself, which then can be read-only as a whole.
  lines.push(`mount --bind '${root}' '${root}'`)
  for (const name of system)
    lines.push(
      `[ ! -d /${name} ] || { mount --bind /${name} '${root}/${name}' && mount -o remount,bind,ro '${root}/${name}'; }`
    )
  lines.push(`mount --rbind /dev '${root}/dev'`, `mount -t proc proc '${root}/proc'`)
  if (readOnly) lines.push(`mount -o remount,bind,ro '${root}'`)
  else lines.push(`[ -z "$CACHE" ] || mount --bind "$CACHE" '${root}/cache'`)
  return lines.join('\n')
}

function makeRoot(root: string): void {
  for (const name of [...system, 'dev', 'proc', 'tmp', 'cache', 'root'])
    mkdirSync(join(root, name), { recursive: true })
}

/** Why no isolated root can be made here; undefined when it can. */
export function isolationProblem(folder: string): string | undefined {
  const root = join(folder, 'probe')
  makeRoot(root)
  const { status, stderr } = spawnSync(
    'unshare',
    [
      '--mount',
      '--pid',
      '--fork',
      'sh',
      '-c',
      `${enter(root, true)}\nexec env -u NODE_OPTIONS chroot '${root}' node --version`
    ],
    { encoding: 'utf8', env: { PATH: process.env['PATH'] } }
  )
  return status === 0 ? undefined : `unshare and chroot do not work here: ${stderr?.trim()}`
}

/** Carries out every step of every stage, in order; answers what the last stage is. Throws with the output of a failed RUN. */
export function buildImage(context: string, folder: string): Image {
  const { args, stages } = parseDockerfile(readFileSync(join(context, 'Dockerfile'), 'utf8'))
  const allowed = new Set(contextNames(readFileSync(join(context, '.dockerignore'), 'utf8')))
  const cache = execFileSync('npm', ['config', 'get', 'cache'], { encoding: 'utf8' }).trim()
  mkdirSync(cache, { recursive: true })
  const images = new Map<string, Image>()
  let image: Image | undefined
  for (const stage of stages) {
    const root = join(folder, stage.name)
    makeRoot(root)
    image = {
      root,
      workdir: '/',
      env: {},
      user: '0:0',
      entrypoint: [],
      command: [],
      healthcheck: [],
      labels: ''
    }
    images.set(stage.name, image)
    const variables: Record<string, string> = {}
    for (const { name, args: text } of [...args, ...stage.steps]) {
      const value = text.replace(/\$\{(\w+)\}/g, (_, key: string) => variables[key] ?? '')
      switch (name) {
        case 'ARG': {
          const [key = '', preset = ''] = value.split('=')
          variables[key] = preset
          break
        }
        case 'LABEL':
          image.labels += ` ${value}`
          break
        case 'ENV':
          for (const pair of value.trim().split(/\s+/)) {
            const [key = '', given = ''] = pair.split('=')
            image.env[key] = given
          }
          break
        case 'WORKDIR':
          image.workdir = value
          mkdirSync(join(root, value), { recursive: true })
          break
        case 'COPY': {
          const words = value.split(' ')
          const from = words[0]?.startsWith('--from=') ? words.shift()?.slice(7) : undefined
          const target = words.pop() as string
          for (const word of words) {
            if (from === undefined && !allowed.has(word.replace('./', '')))
              throw new Error(`COPY ${word}: .dockerignore keeps it from the builder`)
            const source =
              from === undefined
                ? join(context, word)
                : join((images.get(from) as Image).root, word)
            const into = resolve('/', image.workdir, target)
            cpSync(source, join(root, target.endsWith('/') ? join(into, basename(word)) : into), {
              recursive: true,
              verbatimSymlinks: true
            })
          }
          break
        }
        case 'RUN':
          execFileSync(
            'unshare',
            [
              '--mount',
              '--pid',
              '--fork',
              'sh',
              '-c',
              `${enter(root, false)}\nexec env -u NODE_OPTIONS chroot '${root}' /bin/sh -c "$STEP"`
            ],
            {
              stdio: ['ignore', 'pipe', 'pipe'],
              env: {
                ...process.env,
                ...image.env,
                CACHE: cache,
                HOME: '/root',
                TMPDIR: '/tmp',
                npm_config_cache: '/cache',
                PATH: containerPath,
                STEP: `cd ${image.workdir} && ${value}`
              }
            }
          )
          break
        case 'USER':
          image.user = value
          break
        case 'ENTRYPOINT':
          image.entrypoint = JSON.parse(value) as string[]
          break
        case 'CMD':
          image.command = JSON.parse(value) as string[]
          break
        case 'HEALTHCHECK':
          image.healthcheck = JSON.parse(value.slice(value.indexOf('['))) as string[]
          break
        case 'EXPOSE':
        case 'STOPSIGNAL':
          break
        default:
          throw new Error(`No test knows the step ${name}`)
      }
    }
  }
  return image as Image
}

/** Starts a command in the image as its user would run: process 1, the root read-only, no privilege to gain. */
export function runImage(image: Image, command: string[], env: Record<string, string>) {
  const [uid = '', gid = ''] = image.user.split(':')
  const quoted = command.map(word => `'${word.replaceAll("'", `'\\''`)}'`).join(' ')
  const script = `${enter(image.root, true)}
cd '${image.root}${image.workdir}'
exec env -u NODE_OPTIONS chroot '${image.root}' setpriv --reuid ${uid} --regid ${gid} --clear-groups --no-new-privs --bounding-set=-all sh -c 'cd "$0" && exec "$@"' ${image.workdir} ${quoted}`
  return spawn('unshare', ['--mount', '--pid', '--fork', '--kill-child', 'sh', '-c', script], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: containerPath, ...image.env, ...env }
  })
}
