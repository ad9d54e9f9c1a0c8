/**
 * G5, stable order, in what is stored: offsets grow in the order sent within a submission, from what was told before to
 * what was sent after, and a submission stands in one piece, whole. The order of what was under way at the same time is
 * the queue's own, and nothing is concluded of it.
 */
import { type Calls, describe, keyOf, type Publish } from "./Calls.ts"
import { arrival, type Evidence } from "./Evidence.ts"
import { foldTopic } from "./Filter.ts"
import type { Holdings, Row } from "./Holdings.ts"
import { nameOf, type Report } from "./Report.ts"
import { getOrMake } from "./Rising.ts"

/** Checks the order of what is stored. */
export const checkOrder = (calls: Calls, holdings: Holdings, evidence: Evidence, report: Report): void => {
  for (const { call, answer } of calls.publishes) {
    let before = 0
    for (const { outcome, offset } of answer?.results ?? []) {
      if (outcome !== "stored") continue
      if (offset <= before) {
        report.add("G5", `${describe(call)} was told of ${offset} after ${before}`, call.settled)
      }
      before = offset
    }
  }

  let processedAt = 0
  for (const row of holdings.rows) {
    if (row.processedAt < processedAt) {
      report.add("G5", `processed_at falls to ${row.processedAt} at the offset ${row.offset}`)
    }
    processedAt = row.processedAt
  }

  const stored = storedBy(holdings, evidence)
  for (const [row, publish] of stored.first) {
    const at = publish.possible[0] ?? 0
    const before = evidence.offset.before(at)
    if (row.offset <= before) {
      report.add(
        "G5",
        `${nameOf(row.key)} stands at ${row.offset}, and was sent when ${before} was given out`,
        at
      )
    }
  }
  for (const { publish, ranks } of stored.submissions.values()) {
    checkWhole(publish, ranks, calls, holdings, report)
  }

  for (const { call, operation, answer } of calls.lookups) {
    const row = holdings.byKey.get(keyOf(foldTopic(operation.topic), operation.event_id))
    if (answer !== undefined || row === undefined) continue
    const { ackedAt, knownAt } = evidence.rows[row.rank] as Evidence["rows"][number]
    const before = evidence.offset.before(call.invoked)
    if (knownAt < call.invoked) {
      // Where a publisher was told of it, it is the durability of its answer that is broken.
      if (ackedAt < call.invoked) continue
      report.add("G5", `${describe(call)} did not find ${nameOf(row.key)}, which had been seen`, call.settled)
    } else if (row.offset <= before) {
      const detail = `${nameOf(row.key)} was not there when ${before} was given out, and stands at ${row.offset}`
      report.add("G5", detail, call.settled)
    }
  }
}

interface Stored {
  /** The publish that stored a row, or that was the first that can have. */
  readonly first: ReadonlyMap<Row, Publish>
  /** The rows that only one submission can have stored. All attempts at it are alike. */
  readonly submissions: ReadonlyMap<string, { readonly publish: Publish; readonly ranks: Array<number> }>
}

const storedBy = ({ rows, byKey }: Holdings, evidence: Evidence): Stored => {
  const first = new Map<Row, Publish>()
  const submissions = new Map<string, { readonly publish: Publish; readonly ranks: Array<number> }>()
  for (const row of rows) {
    const { candidates, knownAt } = evidence.rows[row.rank] as Evidence["rows"][number]
    const [earliest] = candidates
    if (earliest === undefined || arrival(earliest) > knownAt || byKey.get(row.key) !== row) continue
    const told = evidence.keys
      .get(row.key)
      ?.told.find(({ outcome, offset }) => outcome === "stored" && offset === row.offset)
    const publish = (told?.occurrence ?? earliest).publish
    first.set(row, publish)
    const { submission } = publish
    if (told !== undefined || candidates.every((other) => other.publish.submission === submission)) {
      getOrMake(submissions, submission, () => ({ publish, ranks: [] })).ranks.push(row.rank)
    }
  }
  return { first, submissions }
}

// From the first row on that a submission has surely stored, what stands of it was stored with that row: what came
// before had its place already, and after it none of its keys was new.
const checkWhole = (
  { submission, sent }: Publish,
  ranks: ReadonlyArray<number>,
  calls: Calls,
  holdings: Holdings,
  report: Report
): void => {
  const from = ranks[0] as number
  const seen = new Set<string>()
  let expected = from
  for (const { key } of sent) {
    if (seen.has(key)) continue
    seen.add(key)
    const row = holdings.byKey.get(key)
    if (row === undefined) {
      if (!wasAnswered(submission, calls)) {
        report.add("G5", `the submission ${submission} is stored in part: ${nameOf(key)} is not there`)
      }
      return
    }
    if (row.rank < from) continue
    if (row.rank !== expected) {
      const place = holdings.offsets[expected]
      const detail = `the submission ${submission} does not stand in one piece in the order sent: ${nameOf(key)} is at ${row.offset}, not at ${place}`
      report.add("G5", detail)
      return
    }
    expected++
  }
}

// What was acknowledged and is not there is lost, not stored in part.
const wasAnswered = (submission: string, { publishes }: Calls): boolean =>
  publishes.some((publish) => publish.submission === submission && publish.answer !== undefined)
