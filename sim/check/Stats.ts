/**
 * G4 in each answer to /stats, and G6 (see `Queue.ts`). The books balance, count what had been answered before and no
 * more than had been delivered until then, and never go backwards, neither from one answer to a later one nor to the end,
 * whatever crashed between.
 */
import type { StatsAnswer } from "./Answers.ts"
import { type Calls, describe } from "./Calls.ts"
import type { Evidence } from "./Evidence.ts"
import type { Books, Holdings } from "./Holdings.ts"
import type { QueueCheck } from "./Queue.ts"
import type { Report } from "./Report.ts"
import { countBelow, Rising } from "./Rising.ts"

/** How many topics /stats names. */
const topicsNamedMax = 1000

const counters = [
  "received",
  "uniqueProcessed",
  "duplicateDropped",
  "conflicts",
  "topicsTotal",
  "lastOffset"
] as const satisfies ReadonlyArray<keyof StatsAnswer>

/** Checks every answer to /stats. */
export const checkStats = (
  calls: Calls,
  holdings: Holdings,
  evidence: Evidence,
  queue: QueueCheck,
  report: Report
): void => {
  const told = counters.map((name) => [name, new Rising()] as const)
  const final = finally_(holdings.books)
  const { received, delivered, unique, topics } = knownCounts(calls, holdings, evidence)
  const topicsKnownAt = topics.map(([at]) => at)

  for (const { call, answer } of calls.stats) {
    const wrong = (detail: string): void => report.add("G4", `${describe(call)}: ${detail}`, call.settled)
    const { uniqueProcessed, duplicateDropped } = answer
    if (answer.received !== uniqueProcessed + duplicateDropped) {
      wrong(
        `received ${answer.received} = unique ${uniqueProcessed} + dropped ${duplicateDropped} does not hold`
      )
    }
    const rate = answer.received === 0 ? 0 : duplicateDropped / answer.received
    if (answer.duplicateRate !== rate) wrong(`the rate ${answer.duplicateRate} should be ${rate}`)
    if (answer.conflicts > duplicateDropped)
      wrong(`${answer.conflicts} conflicts of ${duplicateDropped} dropped`)

    for (const [name, rising] of told) {
      const before = rising.before(call.invoked)
      if (answer[name] < before) wrong(`${name} fell from ${before} to ${answer[name]}`)
      if (answer[name] > final[name]) wrong(`${name} was ${answer[name]} and ends at ${final[name]}`)
      rising.note(call.settled, answer[name])
    }

    const atLeast = (what: string, counted: number, least: number): void => {
      if (counted < least) wrong(`${what} is ${counted}, when ${least} had been told of`)
    }
    atLeast("received", answer.received, received.before(call.invoked))
    atLeast("unique_processed", uniqueProcessed, unique.before(call.invoked))
    atLeast("last_offset", answer.lastOffset, evidence.offset.before(call.invoked))
    const deliveredMost = delivered.before(call.settled)
    if (answer.received > deliveredMost) {
      wrong(`received is ${answer.received}, when ${deliveredMost} had been delivered`)
    }
    checkTopicNames(answer, topics.slice(0, countBelow(topicsKnownAt, call.invoked)), holdings, wrong)
    queue.check(call, answer.queue)
  }
}

const finally_ = (books: Books): Pick<StatsAnswer, (typeof counters)[number]> => ({
  ...books,
  topicsTotal: books.topics
})

/** What had been told of, or delivered, at any moment. */
export const knownCounts = ({ publishes }: Calls, holdings: Holdings, evidence: Evidence) => {
  const rising = (steps: Array<readonly [at: number, more: number]>): Rising => {
    steps.sort(([left], [right]) => left - right)
    const result = new Rising()
    for (const [at, more] of steps) result.add(at, more)
    return result
  }
  const topicsKnown = new Map<string, number>()
  const unique: Array<readonly [number, number]> = []
  for (const [rank, { knownAt }] of evidence.rows.entries()) {
    const topic = holdings.rows[rank]?.topic
    if (knownAt === Number.POSITIVE_INFINITY || topic === undefined) continue
    unique.push([knownAt, 1])
    topicsKnown.set(topic, Math.min(topicsKnown.get(topic) ?? knownAt, knownAt))
  }
  return {
    received: rising(
      publishes.flatMap(({ answer, call, sent }) =>
        answer === undefined ? [] : [[call.settled, sent.length] as const]
      )
    ),
    delivered: rising(
      publishes.flatMap(({ possible, sent }) => possible.map((at) => [at, sent.length] as const))
    ),
    unique: rising(unique),
    topics: [...topicsKnown]
      .map(([topic, at]) => [at, topic] as const)
      .sort(([left], [right]) => left - right)
  }
}

const checkTopicNames = (
  { topics, topicsTotal }: StatsAnswer,
  known: ReadonlyArray<readonly [number, string]>,
  holdings: Holdings,
  wrong: (detail: string) => void
): void => {
  if (topics.length !== Math.min(topicsTotal, topicsNamedMax)) {
    wrong(`${topics.length} topics are named of ${topicsTotal}`)
  }
  for (const [index, topic] of topics.entries()) {
    const before = topics[index - 1]
    if (before !== undefined && before >= topic) wrong(`the topic ${topic} is named after ${before}`)
    if (!holdings.topics.has(topic)) wrong(`there is no topic ${topic} at the end`)
  }
  const names = new Set(topics)
  const last = topics.at(-1)
  for (const [, topic] of known) {
    const isAmong = topics.length < topicsNamedMax || (last !== undefined && topic <= last)
    if (isAmong && !names.has(topic)) wrong(`the topic ${topic} is not named`)
  }
}
