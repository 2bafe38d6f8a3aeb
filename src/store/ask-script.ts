// What Redis is asked in one command, as a script that it runs undisturbed: groups of draws, made all or none, and values. Which
// of them belong to one request, and what an answer means, is redis.ts's business.
import type { Draw, Taken } from './store.ts'

/** Draws that stand and fall together, or the key of a value. */
export type Question = readonly Draw[] | string

/** Of draws whether they were made (1 or 0), and of each what is used and the milliseconds left; of a key its value. */
export type Answer = number[] | string | null

/**
 * A window is opened by the first draw; the expiry is also set on a key that lost it, so that no budget is for ever. Draws are made
 * first and taken back where one went too far: nobody sees them in between, and the usual case asks for nothing twice.
 */
export const askScript = `
local out, key, arg = {}, 0, 0
while key < #KEYS do
  arg = arg + 1
  local draws = tonumber(ARGV[arg])
  if draws == 0 then
    key = key + 1
    out[#out + 1] = redis.call('GET', KEYS[key])
  else
    local told = { 1 }
    for i = 1, draws do
      local name, cost = KEYS[key + i], tonumber(ARGV[arg + 3 * i - 2])
      local used
      if cost > 0 then used = redis.call('INCRBY', name, cost)
      else used = tonumber(redis.call('GET', name) or 0) end
      local left = redis.call('PTTL', name)
      if left < 0 then
        left = tonumber(ARGV[arg + 3 * i])
        if cost > 0 then redis.call('PEXPIRE', name, left) end
      end
      if used > tonumber(ARGV[arg + 3 * i - 1]) then told[1] = 0 end
      told[2 * i], told[2 * i + 1] = used, left
    end
    if told[1] == 0 then
      for i = 1, draws do
        local cost = tonumber(ARGV[arg + 3 * i - 2])
        if cost > 0 then told[2 * i] = redis.call('DECRBY', KEYS[key + i], cost) end
      end
    end
    key, arg = key + draws, arg + 3 * draws
    out[#out + 1] = told
  end
end
return out`

/** The arguments of the script: how many keys, the keys, and what is wanted of each. */
export function askArguments(questions: readonly Question[]): (string | number)[] {
  const keys: string[] = []
  const wanted: number[] = []
  for (const question of questions) {
    if (typeof question === 'string') {
      keys.push(`value:${question}`)
      wanted.push(0)
      continue
    }
    wanted.push(question.length)
    for (const { key, cost, max, windowMs } of question) {
      keys.push(`budget:${key}`)
      wanted.push(cost, max, Math.ceil(windowMs))
    }
  }
  return [keys.length, ...keys, ...wanted]
}

/** What the answer to some draws says of each. */
export function takenOf(draws: readonly Draw[], answer: readonly number[]): Taken[] {
  const isDrawn = answer[0] === 1
  return draws.map((_, index) => ({
    isDrawn,
    used: answer[2 * index + 1] as number,
    resetMs: answer[2 * index + 2] as number
  }))
}
