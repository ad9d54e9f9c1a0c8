/**
 * G1, durable answers: what a 2xx answer told of is in the database at the end, and a lookup that was begun after the
 * answer finds it. That pages show it, too, is checked where pages are.
 */
import { type Calls, describe, keyOf } from "./Calls.ts"
import type { Evidence } from "./Evidence.ts"
import { foldTopic } from "./Filter.ts"
import type { Holdings } from "./Holdings.ts"
import { nameOf, type Report } from "./Report.ts"

/** Checks that what was acknowledged is there. */
export const checkDurable = (calls: Calls, holdings: Holdings, evidence: Evidence, report: Report): void => {
  const lost = new Set<string>()
  for (const { call, sent, answer } of calls.publishes) {
    if (answer === undefined) continue
    for (const { key } of sent) {
      if (holdings.byKey.has(key) || lost.has(key)) continue
      lost.add(key)
      report.add("G1", `${nameOf(key)} is lost, although ${describe(call)} was answered`, call.settled)
    }
  }
  for (const { call, operation, answer } of calls.lookups) {
    if (answer !== undefined) continue
    const row = holdings.byKey.get(keyOf(foldTopic(operation.topic), operation.event_id))
    const acked = row === undefined ? undefined : evidence.rows[row.rank]?.ackedAt
    if (row !== undefined && acked !== undefined && acked < call.invoked) {
      const detail = `${describe(call)} did not find ${nameOf(row.key)}, although it began after the answer`
      report.add("G1", detail, call.settled)
    }
  }
}
