// Runs checks in their order, skips what rests on something broken, and lets nothing secret and no control character into a
// line. It knows no particular check.
import { Unreachable } from './ask.ts'
import { type Check, type Context, failed, type Finding, type Status } from './check.ts'

export interface Result extends Finding {
  id: string
  title: string
}

const MAX_LINE = 600

/** Runs all; tells each result as it comes. A check that throws has failed. */
export async function runChecks(
  checks: readonly Check[],
  context: Context,
  tell: (result: Result) => void = () => {}
): Promise<Result[]> {
  const results: Result[] = []
  const done = new Map<string, Status>()
  for (const check of checks) {
    const finding = missing(check, done) ?? (await runOne(check, context))
    const result = asResult(check, finding, context.secrets)
    done.set(check.id, result.status)
    results.push(result)
    tell(result)
  }
  return results
}

function missing({ needs }: Check, done: ReadonlyMap<string, Status>): Finding | undefined {
  const broken = needs.find(id => done.get(id) === 'failed' || done.get(id) === 'skipped')
  if (broken === undefined) return undefined
  return { status: 'skipped', seen: `rests on "${broken}", which ${reason(done.get(broken))}` }
}

const reason = (status: Status | undefined) => (status === 'failed' ? 'failed' : 'was skipped')

async function runOne(check: Check, context: Context): Promise<Finding> {
  try {
    return await check.run(context)
  } catch (error) {
    const { message } = error as Error
    if (error instanceof Unreachable) return failed(message, error.advice)
    return { status: 'failed', seen: `the check itself broke: ${message}`, advice: 'Report this.' }
  }
}

function asResult(check: Check, finding: Finding, secrets: readonly string[]): Result {
  const { id, title } = check
  const { status, seen } = finding
  const result = { id, title, status, seen: clean(seen, secrets) }
  if (status === 'ok' || status === 'skipped') return result
  return { ...result, advice: clean(finding.advice ?? check.remedy, secrets) }
}

/** What a server said may hold anything, even what would steer the terminal. */
function clean(text: string, secrets: readonly string[]): string {
  let line = text
  for (const secret of secrets) if (secret !== '') line = line.replaceAll(secret, '***')
  // oxlint-disable-next-line no-control-regex
  line = line.replace(/[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+/g, ' ').trim()
  return line.length > MAX_LINE ? `${line.slice(0, MAX_LINE)}…` : line
}
