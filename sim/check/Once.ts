/**
 * G2, once: for each key one row, one count, and one `stored`. A delivery counts once for the key it was sent with: at
 * least those that were answered, at most those that reached a server and were not refused there.
 */
import type { Evidence } from "./Evidence.ts"
import type { Holdings } from "./Holdings.ts"
import { nameOf, type Report } from "./Report.ts"

/** Checks that each event took effect once. */
export const checkOnce = (holdings: Holdings, evidence: Evidence, report: Report): void => {
  for (const row of holdings.rows) {
    const first = holdings.byKey.get(row.key)
    if (first !== row) {
      report.add("G2", `${nameOf(row.key)} has rows at the offsets ${first?.offset} and ${row.offset}`)
    }
  }

  for (const topic of holdings.topics.values()) {
    const rows = holdings.byTopicId.get(topic.id)?.length ?? 0
    if (topic.events !== rows) {
      report.add("G2", `the topic ${topic.name} counts ${topic.events} events and has ${rows}`)
    }
  }

  for (const [key, { told }] of evidence.keys) {
    const stored = told.filter(({ outcome }) => outcome === "stored")
    const [first, second] = stored
    if (first !== undefined && second !== undefined) {
      const detail = `"stored" was told ${stored.length} times of ${nameOf(key)}: at ${first.offset} and at ${second.offset}`
      report.add("G2", detail, second.occurrence.publish.call.settled)
    }
    const row = holdings.byKey.get(key)
    if (row === undefined) continue
    for (const { offset, occurrence } of stored) {
      if (offset === row.offset) continue
      const detail = `${nameOf(key)} was told stored at ${offset}, and stands at ${row.offset}`
      report.add("G2", detail, occurrence.publish.call.settled)
    }
  }

  for (const [rank, { candidates, same, other }] of evidence.rows.entries()) {
    const row = holdings.rows[rank]
    // Of what was never sent it cannot be said how often it was.
    if (row === undefined || candidates.length === 0 || holdings.byKey.get(row.key) !== row) continue
    const conflicts = row.redelivery?.conflicts ?? 0
    const equal = 1 + (row.redelivery?.duplicates ?? 0) - conflicts
    const check = (what: string, counted: number, bounds: { least: number; most: number }): void => {
      if (counted >= bounds.least && counted <= bounds.most) return
      const detail = `${counted} deliveries of ${nameOf(row.key)} ${what} are counted; ${bounds.least} to ${bounds.most} came`
      report.add("G2", detail)
    }
    check("with its content", equal, same)
    check("with other content", conflicts, other)
  }
}
