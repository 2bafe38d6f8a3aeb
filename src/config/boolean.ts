// What does a text of the environment say, yes or no? Pure; it refuses to know who asks.

const words = new Map([
  ['true', true],
  ['1', true],
  ['yes', true],
  ['on', true],
  ['false', false],
  ['0', false],
  ['no', false],
  ['off', false]
])

/** How these words are told to people. */
export const booleanWords = 'true or false (in the environment also yes, no, on, off, 1 and 0)'

/** The text as a boolean, case not counted, or undefined. */
export const readBoolean = (text: string) => words.get(text.trim().toLowerCase())
