// Gathers what is asked in one turn of the event loop into one command: the price of a round trip is paid once for a whole
// burst of requests. It does not know what is asked.

/** Most questions of a batch. */
const max = 128

/**
 * `send` gets the gathered questions and resolves to the answers in the same order; when it rejects, each question rejects
 * with that reason. A batch leaves at the end of the turn, or at once when it is full.
 */
export function createBatch<Question, Answer>(
  send: (questions: Question[]) => Promise<Answer[]>
): (question: Question) => Promise<Answer> {
  let questions: Question[] = []
  let waiting: { resolve: (answer: Answer) => void; reject: (reason: unknown) => void }[] = []

  function flush() {
    if (questions.length === 0) return
    const asked = waiting
    const batch = questions
    questions = []
    waiting = []
    send(batch).then(
      answers => {
        for (const [i, { resolve }] of asked.entries()) resolve(answers[i]!)
      },
      reason => {
        for (const { reject } of asked) reject(reason)
      }
    )
  }

  return question =>
    new Promise((resolve, reject) => {
      waiting.push({ resolve, reject })
      const size = questions.push(question)
      if (size === 1) setImmediate(flush)
      else if (size === max) flush()
    })
}
