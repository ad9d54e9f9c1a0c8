/**
 * G4 in each answer to /metrics: its counts agree with the history as those of /stats do. They count what had been
 * answered before and no more than had been delivered until then, topic by topic no more than there is at the end, and
 * never go backwards, whatever crashed between. And G6: they tell how full the queue is also while the store is in trouble.
 */
import type { MetricsAnswer } from "./Answers.ts"
import { type Calls, describe } from "./Calls.ts"
import type { Evidence } from "./Evidence.ts"
import type { Holdings } from "./Holdings.ts"
import type { QueueCheck } from "./Queue.ts"
import type { Report } from "./Report.ts"
import { getOrMake, Rising } from "./Rising.ts"
import { knownCounts } from "./Stats.ts"

/** The label of topics that have no series of their own. */
const otherTopics = "(other)"

/** Checks every answer to /metrics. */
export const checkMetrics = (
  calls: Calls,
  holdings: Holdings,
  evidence: Evidence,
  queue: QueueCheck,
  report: Report
): void => {
  const { received, delivered, unique } = knownCounts(calls, holdings, evidence)
  const told = new Map<string, Rising>()
  for (const { call, answer } of calls.metrics) {
    queue.check(call, answer.queue)
    if (answer.events.length === 0) continue
    const wrong = (detail: string): void => report.add("G4", `${describe(call)}: ${detail}`, call.settled)
    const stored = sumOf(answer, "stored")
    const all = stored + sumOf(answer, "duplicate") + sumOf(answer, "conflict")
    for (const [what, count, least] of [
      ["events received", all, received.before(call.invoked)],
      ["events stored", stored, unique.before(call.invoked)]
    ] as const) {
      if (count < least) wrong(`there are ${count} ${what}, when ${least} had been told of`)
    }
    const most = delivered.before(call.settled)
    if (all > most) wrong(`there are ${all} events received, when ${most} had been delivered`)

    for (const { topic, outcome, count } of answer.events) {
      const series = `the ${outcome} of ${topic}`
      const rising = getOrMake(told, series, () => new Rising())
      const before = rising.before(call.invoked)
      if (count < before) wrong(`${series} fell from ${before} to ${count}`)
      rising.note(call.settled, count)
      if (topic === otherTopics) continue
      const { events = 0, duplicates = 0, conflicts = 0 } = holdings.topics.get(topic) ?? {}
      const end = { stored: events, duplicate: duplicates - conflicts, conflict: conflicts }[outcome]
      if (count > end) wrong(`${series} were ${count} and end at ${end}`)
    }
  }
}

const sumOf = ({ events }: MetricsAnswer, of: string): number =>
  events.reduce((sum, { outcome, count }) => sum + (outcome === of ? count : 0), 0)
