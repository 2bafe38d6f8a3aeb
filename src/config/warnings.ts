// What is legal and still a risk? Lines for the start-up log: each names the option and what can go wrong. It refuses to know
// what is illegal (check.ts).
import { reach } from './address.ts'
import { weakSecret } from './check.ts'
import { label } from './options.ts'
import type { Tree } from './schema.ts'

type Warning = {
  path: string
  when: (tree: Tree) => boolean
  text: string | ((tree: Tree) => string)
}

const clearText = (url: string) => !/^(https|rediss):/.test(url) && reach(url) !== 'loopback'

const warnings: readonly Warning[] = [
  {
    path: 'environment',
    when: tree => tree.environment !== 'production' && reach(tree.publicUrl) !== 'loopback',
    text: tree =>
      `is ${tree.environment} although ${label('publicUrl')} is not this machine: weak settings are not refused. Set production.`
  },
  {
    path: 'publicUrl',
    when: tree => new URL(tree.publicUrl).pathname.endsWith(tree.mcpPath),
    text: tree =>
      `ends in ${label('mcpPath')}, which is put behind it: clients must type ${tree.publicUrl}${tree.mcpPath}. Remove it when that is not meant.`
  },
  {
    path: 'server.allowedOrigins',
    when: ({ server }) => server.allowedOrigins.includes('*'),
    text: '"*" lets every web page that holds a token use it.'
  },
  {
    path: 'drupal.url',
    when: ({ drupal }) => clearText(drupal.url),
    text: 'is http: people sign in and tokens are sent in clear text on that network.'
  },
  {
    path: 'drupal.internalUrl',
    when: ({ drupal }) => drupal.internalUrl !== '' && clearText(drupal.internalUrl),
    text: 'is http: tokens cross that network in clear text. Keep it inside a cluster that nobody else listens in.'
  },
  {
    path: 'oauth.audience',
    when: ({ oauth }) => oauth.audience === 'drupal',
    text: "is drupal, weaker than resource: a token that does not name this resource is accepted when it carries one of this resource's scopes, whatever the site made it for. Set resource when the authorization server honours RFC 8707."
  },
  {
    path: 'oauth.audience',
    when: ({ oauth }) => oauth.audience.startsWith('clients:'),
    text: 'is a list of clients, weaker than resource: every token of these clients is accepted, whatever the site made it for. Set resource when the authorization server honours RFC 8707.'
  },
  {
    path: 'oauth.anonymous',
    when: ({ oauth, policy }) =>
      oauth.anonymous === 'public-tools' && policy.unannotated === 'none',
    text: `with ${label('policy.unannotated')} none: every tool without annotation works without sign-in.`
  },
  {
    path: 'session.secrets',
    when: ({ session }) => session.secrets.length === 0,
    text: 'is not set, so one was made for this process: sessions end with it, and replicas cannot share them.'
  },
  {
    path: 'session.secrets',
    when: ({ session }) => weakSecret(session.secrets) !== undefined,
    text: ({ session }) => `${weakSecret(session.secrets)} (refused in production)`
  },
  {
    path: 'session.secrets',
    when: ({ session }) => session.secrets.some(secret => /[\r\n]/.test(secret)),
    text: 'holds a line break, and lines are one secret: put a comma between two, or sessions of the first end.'
  },
  {
    path: 'redisUrl',
    when: ({ redisUrl }) => redisUrl !== '' && clearText(redisUrl) && reach(redisUrl) === 'public',
    text: 'is redis: the password and the keys cross the network in clear text. Use rediss://.'
  },
  {
    path: 'limits.principal',
    when: ({ limits }) => limits.principal === 'off',
    text: 'is off: one user can keep every PHP worker of the site busy.'
  },
  {
    path: 'limits.failures',
    when: ({ limits }) => limits.failures === 'off',
    text: 'is off: guessing tokens is not slowed down.'
  }
]

/** The warnings of a tree that passed every check. */
export function warn(tree: Tree): string[] {
  return warnings
    .filter(({ when }) => when(tree))
    .map(({ path, text }) => `${label(path)}: ${typeof text === 'string' ? text : text(tree)}`)
}
