// What does a budget such as "600/60s" mean? It refuses to know who draws on it.
import { budgetPattern } from './option.ts'
import type { Budget } from './schema.ts'

const unitMs = { s: 1000, m: 60_000, h: 3_600_000 } as const
const shape = new RegExp(budgetPattern)

/**
 * Reads `max/window` ("600/60s", "10/1m", "50/1h") or "off" (null). The window comes back in milliseconds.
 * Throws an Error that says what is accepted.
 */
export function parseBudget(text: string): Budget {
  if (!shape.test(text))
    throw new Error('A budget must be max/window such as 600/60s or 10/1m, or off.')
  if (text === 'off') return null
  const [max = '', window = ''] = text.split('/')
  const unit = window.slice(-1) as keyof typeof unitMs
  return { max: Number(max), windowMs: Number.parseInt(window, 10) * unitMs[unit] }
}
