// Credentials at rest: sealed, private, whole, and one refresh at a time, with real files and real processes.
import { spawn } from 'node:child_process'
import {
  chmod,
  mkdir,
  readdir,
  readFile,
  readlink,
  stat,
  utimes,
  writeFile,
  rm
} from 'node:fs/promises'
import { hostname } from 'node:os'
import { join, resolve } from 'node:path'
import { once } from 'node:events'
import t from 'tap'
import { type Credential, covers, credentialFor } from '../../src/cli/credentials.ts'
import { credentialsHome, writePrivately } from '../../src/cli/credentials-home.ts'
import { existingKey, type Keychain, keptKey } from '../../src/cli/credentials-key.ts'
import { withLock } from '../../src/cli/credentials-lock.ts'
import { keyFrom, seal, unseal } from '../../src/cli/credentials-seal.ts'
import { memoryVault, openVault } from '../../src/cli/credentials-vault.ts'
import { systemCode } from '../../src/cli/failure.ts'
import { systemKeychain } from '../../src/cli/keychain.ts'
import { builtProgram } from '../fixtures/program.ts'
import { terminal } from './fixtures/site.ts'

const credential = (more: Partial<Credential> = {}): Credential => ({
  issuer: 'https://cms.example.org/',
  resource: 'https://mcp.example.org/mcp',
  clientId: 'client',
  grant: 'device_code',
  tokenEndpoint: 'https://cms.example.org/oauth/token',
  accessToken: 'secret-access-token',
  refreshToken: 'secret-refresh-token',
  expiresAt: 2000,
  signedInAt: 1000,
  askedScopes: [],
  ...more
})

t.test('the seal', async t => {
  const key = keyFrom('a secret of any length')
  const envelope = seal(key, { issuer: 'a' }, 'text')
  t.equal(unseal(key, envelope), 'text')
  t.not(seal(key, {}, 'text').sealed, seal(key, {}, 'text').sealed, 'a new nonce each time')
  t.equal(unseal(keyFrom('another'), envelope), undefined)
  t.equal(unseal(key, { ...envelope, label: { issuer: 'b' } }), undefined, 'the label is bound')
  t.equal(unseal(key, { ...envelope, tag: envelope.tag.slice(0, 8) }), undefined, 'a short tag')
  const flipped = Buffer.from(envelope.sealed, 'base64')
  flipped[0] = flipped[0]! ^ 1
  t.equal(unseal(key, { ...envelope, sealed: flipped.toString('base64') }), undefined)
})

t.test('the folder', async t => {
  t.equal(credentialsHome({ DRUPAL_MCP_HOME: '/x', XDG_CONFIG_HOME: '/y' }), '/x')
  t.equal(credentialsHome({ XDG_CONFIG_HOME: '/y' }), '/y/drupal-mcp-gateway')
  t.equal(credentialsHome({ HOME: '/h' }), '/h/.config/drupal-mcp-gateway')
  t.equal(
    credentialsHome({}, () => '/z'),
    '/z/.config/drupal-mcp-gateway'
  )
  const nobody = () => {
    throw new Error('ENOENT')
  }
  t.throws(() => credentialsHome({}, nobody), /no home folder.*DRUPAL_MCP_HOME.*--token-file/)
  const folder = t.testdir({ file: '' })
  await t.rejects(openVault({ env: { DRUPAL_MCP_HOME: join(folder, 'file', 'x') } }), {
    message:
      /cannot be kept in .* \(ENOTDIR\)\. Set DRUPAL_MCP_HOME .* Only connect and doctor can do without/
  })
  await t.rejects(writePrivately(join(folder, 'missing', 'x'), ''), {
    message: /cannot be written \(ENOENT\)/
  })
  await t.rejects(writePrivately(folder, ''), { message: /cannot be written/ })
  t.strictSame(
    (await readdir(folder)).filter(name => name !== 'file'),
    [],
    'no draft is left'
  )
})

t.test('the key', async t => {
  const long = 'k'.repeat(32)
  t.test('comes from the environment or a file, and must be long enough', async t => {
    const folder = t.testdir({ given: `${long}\n` })
    await chmod(join(folder, 'given'), 0o600)
    t.strictSame((await existingKey({ DRUPAL_MCP_KEY: long }, folder))?.key, keyFrom(long))
    const file = join(folder, 'given')
    t.strictSame((await existingKey({ DRUPAL_MCP_KEY_FILE: file }, folder))?.key, keyFrom(long))
    await t.rejects(existingKey({ DRUPAL_MCP_KEY: 'short' }, folder), {
      message: /has 5 characters.*openssl rand/
    })
    await t.rejects(existingKey({ DRUPAL_MCP_KEY_FILE: `${file}x` }, folder), {
      message: /does not exist/
    })
    await t.rejects(existingKey({ DRUPAL_MCP_KEY_FILE: folder }, folder), {
      message: /cannot be read \(EISDIR\)/
    })
    // As Docker and Kubernetes mount secrets.
    await chmod(file, 0o444)
    const mounted = await existingKey({ DRUPAL_MCP_KEY_FILE: file }, folder)
    t.strictSame(mounted?.key, keyFrom(long))
    t.match(mounted?.where, /given \(which every user of this machine may read\)$/)
    await chmod(file, 0o602)
    await t.rejects(existingKey({ DRUPAL_MCP_KEY_FILE: file }, folder), {
      message: /changed by everybody.*chmod 600/
    })
  })
  t.test('without a keychain is a file for this user alone', async t => {
    const folder = t.testdir()
    const broken: Keychain = {
      get: () => Promise.reject(new Error('no platform storage')),
      set: () => Promise.reject(new Error('no platform storage'))
    }
    const { key, where } = await keptKey(folder, broken)
    t.equal((await stat(join(folder, 'key'))).mode & 0o777, 0o600)
    t.match(where, join(folder, 'key'))
    t.strictSame((await existingKey({}, folder))?.key, key)
    await chmod(join(folder, 'key'), 0o644)
    await t.rejects(existingKey({}, folder), { message: /read by everybody.*chmod 600/ })
  })
  t.test('is kept by the keychain where there is one', async t => {
    const folder = t.testdir()
    let kept: string | undefined
    const chain: Keychain = { get: async () => kept, set: async secret => void (kept = secret) }
    const first = await keptKey(folder, chain)
    t.match(first.where, /keychain/)
    t.strictSame((await keptKey(folder, chain)).key, first.key)
    t.strictSame(await readdir(folder), [])
    const forgetful: Keychain = { get: async () => undefined, set: async () => undefined }
    t.match((await keptKey(folder, forgetful)).where, /key in/)
  })
  t.test('the real keychain answers or throws, and never hangs', async t => {
    const chain = systemKeychain(`test ${process.pid}`)
    const outcome = await chain.get().then(
      value => value === undefined,
      (error: Error) => error.message !== ''
    )
    t.ok(outcome)
    // Where this runs without one, setting says so too; a developer's own keychain is left alone.
    if (process.platform === 'linux' && !process.env['DBUS_SESSION_BUS_ADDRESS']) {
      await t.rejects(chain.set('x'))
    }
  })
})

for (const kind of ['file', 'memory'] as const) {
  t.test(`a vault (${kind})`, async t => {
    const env = { DRUPAL_MCP_HOME: join(t.testdir(), 'new', 'folder') }
    const vault = kind === 'memory' ? memoryVault() : await openVault({ env, keychain: null })
    const one = credential()
    const other = credential({ issuer: 'https://other.example/', signedInAt: 3000 })
    t.equal(await vault.get(one), undefined)
    await vault.set(one)
    await vault.set(other)
    t.strictSame(await vault.get(one), one)
    t.strictSame(await vault.list(), [other, one], 'R105 one for each issuer, newest first')
    t.strictSame(await credentialFor(vault, 'https://mcp.example.org/mcp'), other)
    t.equal(await credentialFor(vault, 'https://mcp.example.org/mcpx'), undefined)
    t.equal(await vault.delete(other), true)
    t.equal(await vault.delete(other), false)
    t.strictSame(await vault.list(), [one])
    const order: string[] = []
    await Promise.all([
      vault.locked(one, async () => {
        order.push('in')
        await new Promise(resolve => setImmediate(resolve))
        order.push('out')
      }),
      vault.locked(one, async () => void order.push('next'))
    ])
    t.strictSame(order, order[0] === 'in' ? ['in', 'out', 'next'] : ['next', 'in', 'out'])
    await t.rejects(
      vault.locked(one, () => Promise.reject(new Error('inside'))),
      /inside/
    )
    t.equal(await vault.locked(one, async () => 'free again'), 'free again')
  })
}

t.test('the files', async t => {
  const folder = join(t.testdir(), 'home')
  const env = { DRUPAL_MCP_HOME: folder }
  const vault = await openVault({ env })
  await vault.set(credential())
  t.equal((await stat(folder)).mode & 0o777, 0o700)
  const [name = ''] = (await readdir(folder)).filter(file => file.endsWith('.json'))
  const path = join(folder, name)
  t.equal((await stat(path)).mode & 0o777, 0o600)
  const text = await readFile(path, 'utf8')
  t.notMatch(text, /secret-(access|refresh)-token/)
  t.match(text, 'https://cms.example.org/', 'a person can see whose file it is')
  t.notMatch(vault.where, /secret/)

  const other = await openVault({ env: { ...env, DRUPAL_MCP_KEY: 'x'.repeat(40) } })
  await t.rejects(other.get(credential()), {
    message: /cannot be opened with the key from DRUPAL_MCP_KEY.*sign in again/
  })
  await writeFile(path, text.replace('cms.example.org', 'evil.example.org'))
  await t.rejects(vault.get(credential()), { message: /cannot be opened/ }, 'a changed label')
  await writeFile(path, '{')
  await t.rejects(vault.get(credential()), { message: /cannot be opened/ })
})

t.test('a file that cannot be opened does not stand in the way of the others', async t => {
  const person = terminal(t, 'person')
  // A run before this one may have left its files.
  await rm(person.home, { recursive: true, force: true })
  const vault = await openVault({ env: person.env, keychain: null })
  t.strictSame(await vault.damaged(), [])
  await vault.set(credential())
  for (const [number, text] of ['null', '{', ''].entries())
    await writeFile(join(person.home, `${String(number).repeat(32)}.json`), text)
  t.strictSame(await vault.list(), [credential()])
  const { code, stdout } = await person.run('status')
  t.equal(code, 0)
  t.match(stdout, /mcp\.example\.org[^]*0{32}\.json cannot be opened[^]*1{32}\.json cannot[^]*Kept/)
  const { damaged } = JSON.parse((await person.run('status', '--json')).stdout)
  t.match(damaged, [/0{32}\.json/, /1{32}\.json/, /2{32}\.json/])
  t.match(await person.run('logout', 'https://else.example.org/mcp'), {
    code: 3,
    stderr: /Nobody is signed in there\. \S+0{32}\.json cannot be opened .*sign in again/
  })
  const env = { ...person.env, DRUPAL_MCP_KEY: 'other'.repeat(20) }
  const other = await openVault({ env, keychain: null })
  t.equal((await other.damaged('https://mcp.example.org/mcp')).length, 4)
  t.equal((await other.damaged('https://else.example.org/mcp')).length, 3, 'another’s is left out')
})

t.test('what a process that was killed while it wrote has left is forgotten, too', async t => {
  const folder = join(t.testdir(), 'home')
  const vault = await openVault({ env: { DRUPAL_MCP_HOME: folder }, keychain: null })
  const other = credential({ resource: 'https://other.example.org/mcp' })
  await vault.set(credential())
  const [mine = ''] = (await readdir(folder)).filter(file => file.endsWith('.json'))
  await vault.set(other)
  const files = await readdir(folder)
  const drafts = files.filter(file => file.endsWith('.json')).map(file => `${file}.0123456789ab`)
  for (const draft of drafts) await writeFile(join(folder, draft), 'sealed')
  t.ok(await vault.delete(credential()))
  t.strictSame(
    await readdir(folder),
    [...files, ...drafts].filter(file => !file.startsWith(mine)).toSorted()
  )
  t.strictSame(await vault.list(), [other])
})

t.test('which resource covers a URL', async t => {
  const cases: [string, string, boolean][] = [
    ['https://a.example/mcp', 'https://a.example/mcp', true],
    ['https://a.example/', 'https://a.example/mcp', true],
    ['https://a.example/mcp', 'https://a.example/mcp/more', true],
    ['https://a.example/mcp', 'https://a.example/mcp2', false],
    ['https://a.example/mcp', 'http://a.example/mcp', false],
    ['https://a.example/mcp', 'https://a.example:444/mcp', false],
    ['nonsense', 'https://a.example/mcp', false]
  ]
  for (const [resource, url, expected] of cases)
    t.equal(covers(resource, url), expected, `${resource} ${url}`)
})

t.test('the lock', async t => {
  const namespace = await readlink('/proc/self/ns/pid').catch(() => undefined)
  const here = { host: hostname(), ...(namespace === undefined ? {} : { namespace }) }
  const child = async () => {
    const process = spawn('sh', ['-c', 'exit 0'])
    await once(process, 'exit')
    return process.pid!
  }
  t.test('of a process that died is taken over', async t => {
    const path = join(t.testdir(), 'lock')
    await writeFile(path, JSON.stringify({ pid: await child(), ...here }))
    t.equal(await withLock(path, async () => 'mine'), 'mine')
    t.strictSame(await readdir(join(path, '..')), [])
  })
  t.test('that is too old is taken over, wherever it came from', async t => {
    const path = join(t.testdir(), 'lock')
    await writeFile(path, JSON.stringify({ pid: 1, host: 'another machine' }))
    await utimes(path, 1, 1)
    await writeFile(`${path}.break`, '')
    await utimes(`${path}.break`, 1, 1)
    t.equal(await withLock(path, async () => 'mine'), 'mine')
  })
  t.test('of a living process is waited for, and not for ever', async t => {
    const path = join(t.testdir(), 'lock')
    const elsewhere = { ...here, namespace: 'pid:[1]' }
    for (const holder of [
      JSON.stringify({ pid: 1, ...here }),
      'half writ',
      // A container that shares the host's name: there that number may be alive.
      JSON.stringify({ pid: await child(), ...elsewhere })
    ]) {
      await writeFile(path, holder)
      await t.rejects(
        withLock(path, async () => 1, { patienceMs: 0 }),
        { message: /delete that file/ }
      )
    }
  })
  t.test('that was taken from us is not removed', async t => {
    const path = join(t.testdir(), 'lock')
    await withLock(path, () => writeFile(path, 'of another'))
    t.equal(await readFile(path, 'utf8'), 'of another')
  })
  t.test('needs a folder that can be written', async t => {
    await t.rejects(
      withLock(join(t.testdir(), 'no', 'lock'), async () => 1),
      { message: /ENOENT.*--token-file/ }
    )
  })
  t.test('that a full disk does not take is not left behind', async t => {
    const path = join(t.testdir(), 'lock')
    // Whoever may write no byte may still make a file, as on a full disk.
    const limit = 'unset NODE_OPTIONS; ulimit -f 0; exec "$@"'
    const file = resolve(builtProgram(), '../credentials-lock.js')
    const script = `import { withLock } from ${JSON.stringify(file)}
      await withLock(${JSON.stringify(path)}, async () => 1).catch(error => console.log(error.message))`
    const node = [process.execPath, '--input-type=module', '-e', script]
    const child = spawn('sh', ['-c', limit, 'sh', ...node])
    const [said] = await once(child.stdout.setEncoding('utf8'), 'data')
    t.match(said, /lock cannot be written \(EFBIG\)/)
    t.strictSame(await readdir(join(path, '..')), [])
  })
  t.test('holds many at once to one at a time', async t => {
    const path = join(t.testdir(), 'lock')
    await mkdir(`${path}.d`)
    let inside = 0
    let most = 0
    await Promise.all(
      Array.from({ length: 8 }, () =>
        withLock(path, async () => {
          most = Math.max(most, ++inside)
          await readdir(`${path}.d`)
          inside--
        })
      )
    )
    t.equal(most, 1)
  })
})

t.test('the system’s word for a failure is found in what wraps it', async t => {
  const inner = Object.assign(new Error('x'), { code: 'ECONNREFUSED' })
  t.equal(systemCode(new Error('fetch failed', { cause: inner })), 'ECONNREFUSED')
  t.equal(systemCode(new AggregateError([inner])), 'ECONNREFUSED')
  t.equal(systemCode(Object.assign(new Error('x'), { code: 'OTHER' })), undefined)
  t.equal(systemCode('text'), undefined)
})
