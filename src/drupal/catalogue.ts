// Which tools does Drupal show this caller? Asked with the caller's own token. One caller's tools are never another's (R65).
import type { Principal } from '../auth/principal.ts'
import type { Config } from '../config/schema.ts'
import { type Asked, invalid, readObject } from './answers.ts'
import { type CallerMemory, createCallerMemory } from './caller-memory.ts'
import { createDistinctLists } from './distinct-lists.ts'
import { siteHeaders } from './headers.ts'
import type { DrupalPool } from './pool.ts'
import { maxPages, maxTools, readTool } from './tool-listing.ts'
import type { Catalogue, CatalogueTool } from './upstream.ts'

export interface CatalogueOptions {
  pool: DrupalPool
  config: Config
  log?: { warn(details: object, text: string): void }
  /** Told of every list that came from Drupal. */
  learned?: (catalogue: Catalogue) => void
  /** Milliseconds; only differences count. Default: the monotonic clock. */
  now?: () => number
}

export type GetCatalogue = CallerMemory<Catalogue>['get']

/**
 * Makes the question. It rejects with the GatewayErrors of answers.ts; GW_UPSTREAM_FORBIDDEN means that the token lacks Drupal's
 * permission "access mcp tool discovery" (drupal-wire §12.6). What failed is not kept.
 */
export function createCatalogue(options: CatalogueOptions): GetCatalogue {
  const { pool, config, log, now = () => performance.now() } = options
  const listPath = `${config.drupal.mcpPath}/list`
  // Each caller's was asked for all the same.
  const distinct = createDistinctLists<Catalogue>()

  async function page(
    principal: Principal | undefined,
    token: string | undefined,
    cursor: string | undefined
  ): Promise<{ tools: readonly unknown[]; nextCursor: unknown; bytes: number }> {
    const answer = await pool.request({
      method: 'GET',
      path: cursor === undefined ? listPath : `${listPath}?cursor=${encodeURIComponent(cursor)}`,
      headers: siteHeaders({ host: pool.host, accept: 'application/json' }),
      bearer: token,
      subjectKey: principal?.subjectKey
    })
    // Retry-After may be a date.
    const asked: Asked = { scopes: principal?.scopes, what: 'list', now: Date.now() }
    const { tools, nextCursor } = readObject(answer, asked)
    if (!Array.isArray(tools)) throw invalid(answer, 'Drupal: a list without "tools"')
    return { tools, nextCursor, bytes: answer.body.length }
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
    let read = 0
    do {
      const { tools, nextCursor, bytes } = await page(principal, token, cursor)
      for (const listed of tools) {
        const tool = readTool(listed)
        if (tool === undefined || byName.has(tool.name) || byName.size >= maxTools) skipped++
        else byName.set(tool.name, tool)
      }
      // Half a pair of surrogates cannot be asked for.
      const next = typeof nextCursor === 'string' ? Buffer.from(nextCursor).toString() : undefined
      // One that came before would go round for ever.
      cursor = next !== undefined && !seen.has(next) ? next : undefined
      if (cursor !== undefined) seen.add(cursor)
      pages++
      read += bytes
      // All pages together may be as large as one answer may.
    } while (
      cursor !== undefined &&
      pages < maxPages &&
      byName.size < maxTools &&
      read < config.drupal.maxResponseBytes
    )
    if (skipped > 0 || cursor !== undefined) {
      log?.warn(
        { skipped, pages, unread: cursor !== undefined },
        'tools left out of the list: unusable or doubled names, or too many'
      )
    }
    const tools = [...byName.values()]
    const catalogue = distinct.of(tools, () => ({ tools, byName }))
    options.learned?.(catalogue)
    return catalogue
  }

  const ttlSeconds = config.drupal.catalogueTtlSeconds
  return createCallerMemory({ ask, ttlSeconds, now, sizeOf: distinct.sizeOf }).get
}
