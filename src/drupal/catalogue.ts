// Which tools does Drupal show this caller? Asked with the caller's own token, kept per principal and scopes for a short time,
// one request at a time for the same question. One caller's tools are never another's (R65).
import { LRUCache } from 'lru-cache'
import type { Principal } from '../auth/principal.ts'
import type { Config } from '../config/schema.ts'
import { gatewayError } from '../errors.ts'
import { readObject } from './answers.ts'
import { upstreamHeaders } from './headers.ts'
import type { DrupalPool } from './pool.ts'
import { readTool } from './tool-listing.ts'
import type { Catalogue, CatalogueTool } from './upstream.ts'

const MAX_PAGES = 100
const MAX_TOOLS = 5000
const MAX_CALLERS = 10_000
const MAX_DISTINCT = 256

export interface CatalogueOptions {
  pool: DrupalPool
  config: Config
  log?: { warn(details: object, text: string): void }
  /** Told of every list that came from Drupal. */
  learned?: (catalogue: Catalogue) => void
  /** Milliseconds; only differences count. Default: the monotonic clock. */
  now?: () => number
}

/** `isFresh`: Drupal is asked whatever is kept. */
export type GetCatalogue = (
  principal: Principal | undefined,
  token: string | undefined,
  isFresh?: boolean
) => Catalogue | Promise<Catalogue>

/**
 * Makes the question. It rejects with the GatewayErrors of answers.ts; GW_UPSTREAM_FORBIDDEN means that the token lacks Drupal's
 * permission "access mcp tool discovery" (drupal-wire §12.6). What failed is not kept.
 */
export function createCatalogue(options: CatalogueOptions): GetCatalogue {
  const { pool, config, log, now = () => performance.now() } = options
  const ttlMs = config.drupal.catalogueTtlSeconds * 1000
  const listPath = `${config.drupal.mcpPath}/list`
  // Values and not promises: each call looks twice, and waiting for what is there costs it 5 % (measured).
  const kept = new LRUCache<string, { answer: Catalogue; until: number }>({
    max: MAX_CALLERS
  })
  // Most callers see the same tools: lists of the same content are one value in memory. Each caller's was asked for all the same.
  const distinct = new LRUCache<string, Catalogue>({ max: MAX_DISTINCT })
  // The verifier hands out the same Principal for the same token.
  const keys = new WeakMap<Principal, string>()
  const asking = new Map<string, Promise<Catalogue>>()

  async function page(
    principal: Principal | undefined,
    token: string | undefined,
    cursor: string | undefined
  ): Promise<Record<string, unknown>> {
    const answer = await pool.request({
      method: 'GET',
      path: cursor === undefined ? listPath : `${listPath}?cursor=${encodeURIComponent(cursor)}`,
      headers: upstreamHeaders({ host: pool.host, token, accept: 'application/json' }),
      principalKey: principal?.key
    })
    // Retry-After may be a date.
    return readObject(answer, { scopes: principal?.scopes, what: 'list', now: Date.now() })
  }

  async function ask(
    principal: Principal | undefined,
    token: string | undefined
  ): Promise<Catalogue> {
    const byName = new Map<string, CatalogueTool>()
    let skipped = 0
    let cursor: string | undefined
    const seen = new Set<string>()
    let pages = 0
    do {
      const { tools, nextCursor } = await page(principal, token, cursor)
      if (!Array.isArray(tools)) {
        throw gatewayError('GW_UPSTREAM_INVALID', { reason: 'Drupal: a list without "tools"' })
      }
      for (const listed of tools) {
        const tool = readTool(listed)
        if (tool === undefined || byName.has(tool.name) || byName.size >= MAX_TOOLS) skipped++
        else byName.set(tool.name, tool)
      }
      // One that came before would go round for ever.
      cursor = typeof nextCursor === 'string' && !seen.has(nextCursor) ? nextCursor : undefined
      if (cursor !== undefined) seen.add(cursor)
      pages++
    } while (cursor !== undefined && pages < MAX_PAGES && byName.size < MAX_TOOLS)
    if (skipped > 0 || cursor !== undefined) {
      log?.warn(
        { skipped, pages, unread: cursor !== undefined },
        'tools left out of the list: unusable or doubled names, or too many'
      )
    }
    const tools = [...byName.values()]
    const content = JSON.stringify(tools)
    const catalogue = distinct.get(content) ?? { tools, byName }
    distinct.set(content, catalogue)
    options.learned?.(catalogue)
    return catalogue
  }

  function keyOf(principal: Principal | undefined): string {
    if (principal === undefined) return ''
    let key = keys.get(principal)
    if (key === undefined) {
      key = `${principal.key} ${[...principal.scopes].sort().join(' ')}`
      keys.set(principal, key)
    }
    return key
  }

  return function catalogue(principal, token, isFresh = false) {
    const key = keyOf(principal)
    const entry = kept.get(key)
    if (!isFresh && entry !== undefined && now() < entry.until) return entry.answer

    // By token: should one token be revoked, its refusal is not the answer to another token of the same principal.
    const question = `${key} ${token ?? ''}`
    let answer = asking.get(question)
    if (answer === undefined) {
      const asked = ask(principal, token)
      asking.set(question, asked)
      asked.then(
        answer => {
          asking.delete(question)
          if (ttlMs > 0) kept.set(key, { answer, until: now() + ttlMs })
        },
        () => asking.delete(question)
      )
      answer = asked
    }
    return answer
  }
}
