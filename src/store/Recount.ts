/**
 * The books of a database counted again, from the rows of its events, redeliveries and topics. Each table is walked in
 * the order of its key, a window at a time: what is kept in memory grows with the topics and not with the events.
 */
import type { SqlClient } from "@effect/sql"
import type { SqlError } from "@effect/sql/SqlError"
import { Effect, Option } from "effect"
import { compareInstants, type Instant, parseTimestamp } from "../domain/Timestamp.ts"

/** How far a check is. */
export interface CheckProgress {
  readonly step: "integrity" | "events" | "redeliveries" | "topics" | "sequences" | "keys"
  readonly done: number
  readonly total: number
}

/** Rows that one statement reads. */
export const windowRows = 5000

/** How many faults of one kind are told one by one. */
export const examplesMax = 10

/** The row of the books. */
export interface StoreRow {
  readonly received: number
  readonly unique_processed: number
  readonly duplicate_dropped: number
  readonly conflicts: number
  readonly topics: number
  readonly last_offset: number
  readonly processed_at: number
  readonly store_id?: string
  readonly backup_at?: number | null
  readonly sources?: number
  readonly gaps_open?: number
  readonly declared_missing?: number
  readonly late?: number
  readonly sequence_reused?: number
  readonly key_seed?: number
}

/** The row of an epoch. */
export interface EpochRow {
  readonly number: number
  readonly store_id: string
  readonly started_at: number
  readonly backup_at: number | null
  readonly last_offset: number
  readonly base_offset: number
}

interface TopicRow {
  readonly id: number
  readonly name: string
  readonly events: number
  readonly duplicates: number
  readonly conflicts: number
  readonly first_offset: number
  readonly last_offset: number
  readonly last_event_time: string
  readonly last_event_ms: number
  readonly last_event_ns: number
}

/** What is recounted, and how its progress is told. */
export interface Recounted {
  readonly sql: SqlClient.SqlClient
  readonly schema: number
  readonly books: StoreRow
  readonly epochs: ReadonlyArray<EpochRow>
  readonly progress: (progress: CheckProgress) => Effect.Effect<void>
}

/** What the rows add up to so far; what counts them fills it. */
export interface Count {
  events: number
  duplicates: number
  conflicts: number
  topics: number
  /** Events with a sequence, and those of them that came late. */
  sequenced: number
  late: number
  readonly tallies: Map<number, Tally>
}

/** What the events and redeliveries of one topic add up to. */
interface Tally {
  events: number
  duplicates: number
  conflicts: number
  firstOffset: number
  lastOffset: number
  latest: Instant | undefined
  latestText: string
}

/** Faults of many rows, by kind: how many there are, and where the first is. */
export class Counted {
  private readonly kinds = new Map<string, { count: number; readonly first: string }>()

  note(kind: string, where: string): void {
    const known = this.kinds.get(kind)
    if (known === undefined) this.kinds.set(kind, { count: 1, first: where })
    else known.count++
  }

  sentences(): ReadonlyArray<string> {
    return [...this.kinds].map(([kind, { count, first }]) => `${kind}: ${count}, the first ${first}.`)
  }
}

/** Every row of a table in the order of its key, a window at a time. */
const walk = Effect.fnUntraced(function* <Row>(
  { progress }: Recounted,
  step: CheckProgress["step"],
  total: number,
  window: (after: number) => Effect.Effect<ReadonlyArray<Row>, SqlError>,
  keyOf: (row: Row) => number,
  visit: (row: Row) => void
) {
  let after = Number.MIN_SAFE_INTEGER
  let done = 0
  while (true) {
    yield* progress({ step, done, total: Math.max(total, done) })
    const rows = yield* window(after)
    for (const row of rows) visit(row)
    done += rows.length
    const last = rows.at(-1)
    // A damaged tree may lead in a circle.
    if (last === undefined || keyOf(last) <= after) return done
    after = keyOf(last)
    yield* Effect.yieldNow()
  }
})

/** Counts the events into `count`; a sentence for each kind of fault. */
export const countEvents = Effect.fnUntraced(function* (recounted: Recounted, count: Count) {
  const { sql, schema, books, epochs } = recounted
  const counted = new Counted()
  const late = sql.literal(schema < 3 ? "0 AS late" : "late")
  let before = 0
  count.events = yield* walk(
    recounted,
    "events",
    books.unique_processed,
    (after) => sql<{
      offset: number
      topic_id: number
      timestamp: string
      processed_at: number
      sequence: number | null
      late: number
      valid: number
    }>`
      SELECT offset, topic_id, timestamp, processed_at, sequence, ${late}, json_valid(payload) AS valid FROM event
      WHERE offset > ${after} ORDER BY offset LIMIT ${windowRows}`,
    ({ offset }) => offset,
    ({ offset, topic_id, timestamp, processed_at, sequence, late, valid }) => {
      const where = `at offset ${offset}`
      const time = Option.getOrUndefined(parseTimestamp(timestamp))
      if (valid !== 1) counted.note("Events whose payload is not JSON", where)
      if (time === undefined) counted.note("Events whose timestamp names no instant", where)
      if (processed_at < before) counted.note("Events stored earlier than the one before them", where)
      if (processed_at > books.processed_at) counted.note("Events stored later than the last commit", where)
      if (offset < 1 || offset > books.last_offset) {
        counted.note("Events with an offset that was never given out", where)
      } else if (
        epochs.some(({ last_offset, base_offset }) => last_offset < offset && offset <= base_offset)
      ) {
        counted.note("Events with an offset that an epoch left out", where)
      }
      before = Math.max(before, processed_at)
      if (sequence !== null) count.sequenced++
      if (late !== 0) count.late++
      const tally = tallyOf(count, topic_id)
      if (tally.events++ === 0) tally.firstOffset = offset
      tally.lastOffset = offset
      if (time !== undefined && (tally.latest === undefined || compareInstants(time, tally.latest) > 0)) {
        tally.latest = time
        tally.latestText = timestamp
      }
    }
  )
  return counted.sentences()
})

const tallyOf = ({ tallies }: Count, topicId: number): Tally => {
  const known = tallies.get(topicId)
  if (known !== undefined) return known
  const tally: Tally = {
    events: 0,
    duplicates: 0,
    conflicts: 0,
    firstOffset: 0,
    lastOffset: 0,
    latest: undefined,
    latestText: ""
  }
  tallies.set(topicId, tally)
  return tally
}

/** Counts the redeliveries into `count`, after the events; a sentence for each kind of fault. */
export const countRedeliveries = Effect.fnUntraced(function* (recounted: Recounted, count: Count) {
  const { sql, books } = recounted
  const [redelivered] = yield* sql<{ rows: number }>`SELECT count(*) AS rows FROM redelivery`
  const counted = new Counted()
  yield* walk(
    recounted,
    "redeliveries",
    redelivered?.rows ?? 0,
    (after) => sql<{
      offset: number
      duplicates: number
      conflicts: number
      last_duplicate_at: number
      last_conflict_at: number | null
      last_conflict_source: string | null
      topic_id: number | null
      processed_at: number | null
    }>`
      SELECT r.*, e.topic_id, e.processed_at FROM redelivery AS r LEFT JOIN event AS e ON e.offset = r.offset
      WHERE r.offset > ${after} ORDER BY r.offset LIMIT ${windowRows}`,
    ({ offset }) => offset,
    (row) => {
      const where = `at offset ${row.offset}`
      count.duplicates += row.duplicates
      count.conflicts += row.conflicts
      // An event that is missing is told of by the check of what rows refer to.
      if (row.topic_id !== null) {
        const tally = tallyOf(count, row.topic_id)
        tally.duplicates += row.duplicates
        tally.conflicts += row.conflicts
      }
      if (row.duplicates < 1 || row.conflicts < 0 || row.conflicts > row.duplicates) {
        counted.note("Redeliveries with counts that cannot be", where)
      }
      const from = row.processed_at ?? row.last_duplicate_at
      if (row.last_duplicate_at < from || row.last_duplicate_at > books.processed_at) {
        counted.note("Redeliveries at a time that cannot be", where)
      }
      const { last_conflict_at, last_conflict_source } = row
      const conflicted = row.conflicts > 0
      if (
        conflicted !== (last_conflict_at !== null) ||
        conflicted !== (last_conflict_source !== null) ||
        (last_conflict_at !== null && (last_conflict_at < from || last_conflict_at > row.last_duplicate_at))
      ) {
        counted.note("Redeliveries whose last conflict cannot be", where)
      }
    }
  )
  return counted.sentences()
})

/** Counts the topics into `count`, after the others, and compares their books; a sentence for each wrong one. */
export const countTopics = Effect.fnUntraced(function* (recounted: Recounted, count: Count) {
  const { sql, schema, books } = recounted
  const faults: Array<string> = []
  let more = 0
  const strays = new Map(count.tallies)
  count.topics = yield* walk(
    recounted,
    "topics",
    books.topics,
    (after) => sql<TopicRow>`SELECT * FROM topic WHERE id > ${after} ORDER BY id LIMIT ${windowRows}`,
    ({ id }) => id,
    (row) => {
      strays.delete(row.id)
      const fault = topicFault(row, count.tallies.get(row.id))
      if (fault === undefined) return
      if (faults.length < examplesMax) faults.push(`The topic ${row.name} ${fault}.`)
      else more++
    }
  )
  if (more > 0) faults.push(`The same is so of ${more} more topics.`)
  // Until the events' table was made anew it referred to the topics, and the check of what rows refer to tells of it.
  if (schema >= 5 && strays.size > 0) {
    let [events, first] = [0, Number.POSITIVE_INFINITY]
    for (const tally of strays.values()) {
      events += tally.events
      first = Math.min(first, tally.firstOffset)
    }
    faults.push(
      `Rows of the table event that refer to none of the table topic: ${events}, the first ${first}.`
    )
  }
  return faults
})

const topicFault = (row: TopicRow, tally: Tally | undefined): string | undefined => {
  if (tally === undefined || tally.events === 0) return "has no events"
  const wrong = (
    [
      ["events", row.events, tally.events],
      ["duplicates", row.duplicates, tally.duplicates],
      ["conflicts", row.conflicts, tally.conflicts],
      ["first offset", row.first_offset, tally.firstOffset],
      ["last offset", row.last_offset, tally.lastOffset],
      ["last event time", row.last_event_time, tally.latestText],
      ["milliseconds of the last event time", row.last_event_ms, tally.latest?.milliseconds],
      ["nanoseconds of the last event time", row.last_event_ns, tally.latest?.nanoseconds]
    ] as const
  ).filter(([, said, is]) => said !== is)
  if (wrong.length === 0) return undefined
  return `has wrong books: ${wrong.map(([what, said, is]) => `${what} ${said}, which should be ${is}`).join("; ")}`
}
