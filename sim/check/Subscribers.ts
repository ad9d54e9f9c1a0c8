/**
 * G5 in what subscribers see: every event that matches once, in the order of the offsets, unchanged, none missed, none
 * that a crash takes back; also over everything that cuts a stream, and over the restarts of either side.
 */
import type { Entry } from "../History.ts"
import { Misshapen, readFollowed } from "./Answers.ts"
import type { Evidence } from "./Evidence.ts"
import { filterOf } from "./Filter.ts"
import type { Holdings } from "./Holdings.ts"
import { checkSeen } from "./Pages.ts"
import { nameOf, type Report } from "./Report.ts"

/** Checks what each subscriber saw. */
export const checkSubscribers = (
  history: ReadonlyArray<Entry>,
  holdings: Holdings,
  evidence: Evidence,
  report: Report
): void => {
  const calm = history.findIndex(({ kind }) => kind === "calm")
  const end = history.at(-1)
  const isDone = end?.kind === "end" && end.outcome === "done"
  for (const entry of history) {
    if (entry.kind !== "subscribes") continue
    const { subscriber, topic, from } = entry
    const matches = filterOf({ topic: topic ?? undefined })
    const seen = new Set<number>()
    let first: number | undefined
    let last = 0
    for (const [index, followed] of history.entries()) {
      if (followed.kind !== "followed" || followed.subscriber !== subscriber) continue
      const wrong = (detail: string): void => report.add("G5", `${subscriber}: ${detail}`, index)
      try {
        const event = readFollowed(followed.event)
        if (event.offset <= last) wrong(`${event.offset} was sent after ${last}`)
        if (!matches(event)) wrong(`${event.topic}/${event.eventId} was not asked for`)
        checkSeen(event, holdings, wrong)
        seen.add(event.offset)
        first ??= event.offset
        last = Math.max(last, event.offset)
      } catch (error) {
        if (!(error instanceof Misshapen)) throw error
        wrong(`an event is not what the contract says: ${error.message}`)
      }
    }
    // One that began at some moment is owed what comes behind the first event that it saw.
    const bottom = from === "the beginning" ? 0 : (first ?? Number.POSITIVE_INFINITY)
    for (const row of holdings.rows) {
      if (row.offset <= bottom || seen.has(row.offset) || !matches(row)) continue
      const isOwed = isDone && (evidence.rows[row.rank]?.ackedAt ?? Number.POSITIVE_INFINITY) < calm
      if (row.offset < last || isOwed) {
        report.add("G5", `${subscriber} missed ${nameOf(row.key)} at ${row.offset}, and saw up to ${last}`)
      }
    }
  }
}
