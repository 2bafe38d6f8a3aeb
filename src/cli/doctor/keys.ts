// Can the keys that sign tokens be had, and are they strong enough? It verifies nothing with them (token.ts does).
import { createPublicKey, type JsonWebKey, type KeyObject } from 'node:crypto'
import { maxKeys } from '../../auth/jwks.ts'
import { readPinnedKey } from '../../auth/pinned-key.ts'
import { brief, documentOf, type Json } from './ask.ts'
import {
  type Check,
  type Context,
  failed,
  type Finding,
  ok,
  quote,
  warning,
  worst
} from './check.ts'

const LEAST_BITS = 2048
const NEW_KEYS =
  'Make new keys outside the web root, then let people sign in again: drush simple-oauth:generate-keys ../keys'
const SWITCH_ON =
  'In Drupal, OpenID Connect is switched off: drush config:set simple_oauth.settings disable_openid_connect 0 -y && drush cache:rebuild; or give the gateway the key as OAUTH_PUBLIC_KEY_FILE.'
const SEE_LOG =
  'The log of the site says why. Only where its key files are missing, make new ones, and people must sign in again: drush simple-oauth:generate-keys ../keys'
const LET_THROUGH =
  'Everybody must be able to read it: look what in front of the site, or which of its modules, answers in its place. New keys would not help.'

async function keys({ config, facts, askDrupal }: Context): Promise<Finding> {
  const file = config?.oauth.publicKeyFile ?? ''
  if (file !== '') return pinned(file, facts)
  const uri = facts.metadata!.document['jwks_uri']
  if (typeof uri !== 'string' || !URL.canParse(uri)) {
    return failed(`jwks_uri is ${quote(uri)}`, SWITCH_ON)
  }
  const answer = await askDrupal(uri)
  const document = documentOf(answer)
  if (document === undefined) {
    const seen = `${uri} answers ${brief(answer)}`
    if (answer.status === 404) return failed(seen, SWITCH_ON)
    return failed(seen, answer.status >= 500 ? SEE_LOG : LET_THROUGH)
  }
  const list = document['keys']
  if (!Array.isArray(list) || list.length === 0) return failed(`${uri} holds no keys`, NEW_KEYS)
  if (list.length > maxKeys) {
    return failed(
      `${uri} holds ${list.length} keys`,
      `The gateway takes a set of ${maxKeys} at the most: remove those that sign nothing any more.`
    )
  }
  const read = list.map(readKey)
  const problems = read.flatMap(({ finding }) => finding ?? [])
  facts.keys = list.filter((_, index) => read[index]!.key !== undefined)
  if (facts.keys.length === 0) problems.push(failed('there is no usable key'))
  const sizes = read.flatMap(({ key }) => (key === undefined ? [] : describe(key))).join(', ')
  return worst(problems, `${list.length === 1 ? '1 key' : `${list.length} keys`}: ${sizes}`)
}

function pinned(file: string, facts: Context['facts']): Finding {
  try {
    facts.keys = readPinnedKey(file).keys
    return ok(`pinned in ${file}`)
  } catch (error) {
    return failed((error as Error).message)
  }
}

function readKey(jwk: unknown): { key?: KeyObject; finding?: Finding } {
  const members = Object(jwk) as Json
  if ('d' in members) {
    return {
      finding: failed('a private key is published', `Take the site off the network. ${NEW_KEYS}`)
    }
  }
  let key: KeyObject
  try {
    key = createPublicKey({ key: jwk as JsonWebKey, format: 'jwk' })
  } catch {
    return { finding: warning(`a key cannot be used: kty ${quote(members['kty'])}`) }
  }
  const bits = key.asymmetricKeyDetails?.modulusLength
  if (bits !== undefined && bits < LEAST_BITS) {
    return { finding: failed(`RSA of ${bits} bits, less than ${LEAST_BITS}`, NEW_KEYS) }
  }
  return { key }
}

function describe(key: KeyObject): string {
  const { asymmetricKeyDetails: details, asymmetricKeyType: type } = key
  if (details?.modulusLength !== undefined) return `RSA ${details.modulusLength}`
  return details?.namedCurve ?? String(type)
}

export const keyChecks: readonly Check[] = [
  {
    id: 'keys',
    title: 'Signing keys',
    side: 'both',
    needs: ['as-metadata'],
    remedy: NEW_KEYS,
    run: keys
  }
]
