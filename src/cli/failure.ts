// How a command says that it cannot go on: a sentence that says what to do, and the exit code. It knows no command.

/** 0 done, 1 failed, 2 wrong use: these are of every command. */
export const exitCodes = { failed: 1, usage: 2, notSignedIn: 3, fewerScopes: 4 } as const

/** A failure that a person can act upon; main.ts prints the message alone and ends with the code. */
export class Failure extends Error {
  readonly exitCode: number

  constructor(message: string, exitCode: number = exitCodes.failed, options?: ErrorOptions) {
    super(message, options)
    this.name = 'Failure'
    this.exitCode = exitCode
  }
}

/** The system's word for what went wrong (ECONNREFUSED, EROFS …), else undefined: found through wrapped errors. */
export function systemCode(error: unknown): string | undefined {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    const { code } = cause as { code?: unknown }
    if (typeof code === 'string' && /^E[A-Z]/.test(code)) return code
    if (cause instanceof AggregateError) return systemCode(cause.errors[0])
  }
  return undefined
}

/** What a server says of its refusal, in brackets, each text a sentence of its own. Empty where it says nothing. */
export function inBrackets(...texts: unknown[]): string {
  const said = texts.flatMap(text => (typeof text === 'string' && text !== '' ? [text] : []))
  return said.length === 0 ? '' : ` (${said.map(text => text.replace(/\.$/, '')).join('. ')})`
}
