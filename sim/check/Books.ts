/**
 * G4, books that balance, at the end: every counter in the database is what its rows say, and the deliveries that it
 * counts are those that came.
 */
import type { Calls } from "./Calls.ts"
import type { Evidence } from "./Evidence.ts"
import { instantOf } from "./Filter.ts"
import type { Holdings, Topic } from "./Holdings.ts"
import { nameOf, type Report } from "./Report.ts"

/** Checks the books of the database. */
export const checkBooks = (calls: Calls, holdings: Holdings, evidence: Evidence, report: Report): void => {
  const { books, rows, redeliveries, topics } = holdings
  const equal = (what: string, counted: number, is: number): void => {
    if (counted !== is) report.add("G4", `${what}: the books say ${counted}, it is ${is}`)
  }
  const sum = (values: ReadonlyArray<number>): number => values.reduce((total, value) => total + value, 0)

  equal("received", books.received, books.uniqueProcessed + books.duplicateDropped)
  equal("unique_processed", books.uniqueProcessed, rows.length)
  equal("duplicate_dropped", books.duplicateDropped, sum(redeliveries.map(({ duplicates }) => duplicates)))
  equal("conflicts", books.conflicts, sum(redeliveries.map(({ conflicts }) => conflicts)))
  equal("topics", books.topics, topics.size)
  const lastOffset = rows.at(-1)?.offset ?? 0
  if (books.lastOffset < lastOffset) equal("last_offset", books.lastOffset, lastOffset)
  const processedAt = Math.max(0, ...rows.map((row) => row.processedAt))
  if (books.processedAt < processedAt) equal("processed_at", books.processedAt, processedAt)

  const { least, most } = deliveries(calls)
  if (books.received < least || books.received > most) {
    report.add("G4", `${books.received} deliveries are counted as received; ${least} to ${most} came`)
  }

  for (const topic of topics.values()) checkTopic(topic, holdings, report)
  checkRedeliveries(holdings, evidence, report)
}

/** How many events were delivered: those that were answered, and those that may have been carried out. */
const deliveries = ({ publishes }: Calls): { readonly least: number; readonly most: number } => {
  let least = 0
  let most = 0
  for (const { answer, sent, possible } of publishes) {
    if (answer !== undefined) least += sent.length
    most += sent.length * possible.length
  }
  return { least, most }
}

const checkTopic = (topic: Topic, { byTopicId }: Holdings, report: Report): void => {
  const rows = byTopicId.get(topic.id) ?? []
  const wrong = (what: string, counted: unknown, is: unknown): void =>
    report.add("G4", `${what} of the topic ${topic.name}: the books say ${counted}, it is ${is}`)
  const first = rows[0]
  const last = rows.at(-1)
  if (first === undefined || last === undefined) {
    wrong("events", topic.events, "a topic without events")
    return
  }

  let duplicates = 0
  let conflicts = 0
  let latest = instantOf(first.timestamp)
  for (const { redelivery, timestamp } of rows) {
    duplicates += redelivery?.duplicates ?? 0
    conflicts += redelivery?.conflicts ?? 0
    const instant = timestamp === first.timestamp ? latest : instantOf(timestamp)
    if (instant !== undefined && (latest === undefined || instant > latest)) latest = instant
  }
  if (topic.duplicates !== duplicates) wrong("duplicates", topic.duplicates, duplicates)
  if (topic.conflicts !== conflicts) wrong("conflicts", topic.conflicts, conflicts)
  if (topic.firstOffset !== first.offset) wrong("first offset", topic.firstOffset, first.offset)
  if (topic.lastOffset !== last.offset) wrong("last offset", topic.lastOffset, last.offset)
  if (latest === undefined) return
  if (
    instantOf(topic.lastEventTime) !== latest ||
    !rows.some((row) => row.timestamp === topic.lastEventTime)
  ) {
    wrong("last event time", topic.lastEventTime, latest)
  }
  if (BigInt(topic.lastEventMillis) * 1_000_000n + BigInt(topic.lastEventNanos) !== latest) {
    wrong("last event instant", `${topic.lastEventMillis} ms and ${topic.lastEventNanos} ns`, latest)
  }
}

const checkRedeliveries = (holdings: Holdings, evidence: Evidence, report: Report): void => {
  for (const row of holdings.rows) {
    const { redelivery } = row
    if (redelivery === undefined) continue
    const wrong = (what: string): void => report.add("G4", `the redeliveries of ${nameOf(row.key)}: ${what}`)
    const { duplicates, conflicts, lastDuplicateAt, lastConflictAt, lastConflictSource } = redelivery
    if (duplicates < 1 || conflicts < 0 || conflicts > duplicates) {
      wrong(`${duplicates} in all, ${conflicts} of them conflicts`)
    }
    if (lastDuplicateAt < row.processedAt || lastDuplicateAt > holdings.books.processedAt) {
      wrong(`the last at ${lastDuplicateAt}, which is not between the first and the last commit`)
    }
    if (conflicts > 0 !== (lastConflictAt !== null) || conflicts > 0 !== (lastConflictSource !== null)) {
      wrong(`${conflicts} conflicts, the last at ${lastConflictAt} from ${lastConflictSource}`)
    } else if (lastConflictAt !== null && lastConflictAt > lastDuplicateAt) {
      wrong(`the last conflict at ${lastConflictAt}, after the last redelivery of all`)
    } else if (
      lastConflictSource !== null &&
      !evidence.keys
        .get(row.key)
        ?.occurrences.some(({ sent }) => sent.content !== row.content && sent.source === lastConflictSource)
    ) {
      wrong(`no conflicting delivery came from ${lastConflictSource}`)
    }
  }
}
