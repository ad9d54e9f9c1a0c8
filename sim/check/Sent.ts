/**
 * G3, nothing invented: every row was sent as it stands, by a delivery that came before anyone was told of the row. A
 * row keeps the time, the sequence and the origin of the delivery that was stored, not of one that came later.
 */
import { arrival, type Evidence } from "./Evidence.ts"
import type { Holdings, Row } from "./Holdings.ts"
import { brief, nameOf, type Report } from "./Report.ts"

/** Checks that every row was sent. */
export const checkSent = (holdings: Holdings, evidence: Evidence, report: Report): void => {
  for (const row of holdings.rows) {
    if (row.topicText !== row.topic) {
      report.add("G3", `the topic of ${nameOf(row.key)} is stored as ${row.topicText}`)
    }
    const occurrences = evidence.keys.get(row.key)?.occurrences ?? []
    const { candidates, knownAt } = evidence.rows[row.rank] as Evidence["rows"][number]
    const [first] = candidates
    if (occurrences.length === 0) {
      report.add("G3", `${nameOf(row.key)} is stored, and never reached a server`)
    } else if (!occurrences.some(({ sent }) => sent.content === row.content)) {
      const detail = `${nameOf(row.key)} stands with a content that was never sent: source ${row.source}, payload ${brief(row.payload)}`
      report.add("G3", detail)
    } else if (first === undefined) {
      report.add("G3", `${nameOf(row.key)} stands with ${rest(row)}, as no delivery of it had`)
    } else if (arrival(first) > knownAt) {
      const detail = `${nameOf(row.key)} stands with ${rest(row)}, and was told of before any such delivery`
      report.add("G3", detail, knownAt)
    } else {
      checkFirst(row, evidence, report)
    }
  }
}

// The delivery that was told "stored" is the first one.
const checkFirst = (row: Row, evidence: Evidence, report: Report): void => {
  for (const { outcome, occurrence } of evidence.keys.get(row.key)?.told ?? []) {
    const { sent, publish } = occurrence
    if (outcome !== "stored" || sent.content !== row.content || sent.identity === row.identity) continue
    const detail = `${nameOf(row.key)} stands with ${rest(row)}, but was told stored with ${rest(sent)}`
    report.add("G3", detail, publish.call.settled)
  }
}

const rest = ({ timestamp, sequence, origin }: Pick<Row, "timestamp" | "sequence" | "origin">): string =>
  `the time ${timestamp}, sequence ${sequence} and origin ${origin}`
