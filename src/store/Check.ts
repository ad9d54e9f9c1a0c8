/**
 * Whether a database is sound: SQLite's own checks, the schema, and the books recomputed from the events (G4). It only
 * reads, in bounded windows: what is kept in memory grows with the topics and not with the events. What it finds is
 * told in sentences, for people.
 */
import type { SqlClient } from "@effect/sql"
import { SqlError } from "@effect/sql/SqlError"
import { Cause, Effect, Either, Exit } from "effect"
import { StoreRefused } from "../domain/Errors.ts"
import { isoTime } from "../domain/Timestamp.ts"
import { deepestMessage, inspect, refusalOf } from "./Connection.ts"
import { latestMigration } from "./Migrations.ts"
import {
  type CheckProgress,
  type Count,
  countEvents,
  countRedeliveries,
  countTopics,
  type EpochRow,
  examplesMax,
  type StoreRow
} from "./Recount.ts"
import { countKeys, type KeysCount } from "./RecountKeys.ts"
import { countSequences } from "./RecountSequences.ts"

/** One thing that was looked at. */
export interface Finding {
  readonly sound: boolean
  /** For a person. */
  readonly sentence: string
}

/** What the database says of itself. */
export interface Figures {
  readonly schema: number
  /** Nothing in a database that is older than identities. */
  readonly storeId: string | undefined
  readonly epoch: number
  /** When it was made, in milliseconds since 1970, where it is a backup. */
  readonly backupAt: number | undefined
  readonly received: number
  readonly uniqueProcessed: number
  readonly duplicateDropped: number
  readonly conflicts: number
  readonly topics: number
  readonly lastOffset: number
}

/** The outcome of a check. */
export interface CheckReport {
  /** Whether every finding is sound. */
  readonly sound: boolean
  readonly findings: ReadonlyArray<Finding>
  /** Nothing where the books cannot be read. */
  readonly figures: Figures | undefined
}

/**
 * Checks a database, of which `name` is for people, and never fails: what cannot be read is a finding. Nobody may write
 * to the database meanwhile.
 */
export const check = (
  name: string,
  sql: SqlClient.SqlClient,
  progress: (progress: CheckProgress) => Effect.Effect<void> = () => Effect.void
): Effect.Effect<CheckReport> =>
  Effect.gen(function* () {
    const findings: Array<Finding> = []
    const say = (sentence: string) => void findings.push({ sound: true, sentence })
    const fault = (sentence: string) => void findings.push({ sound: false, sentence })
    const report = (figures?: Figures): CheckReport => ({
      sound: findings.every(({ sound }) => sound),
      findings,
      figures
    })

    /** Looks at one thing. Each sentence that comes of it is a fault; `sound` is what is said where there is none. */
    const look = Effect.fnUntraced(function* (
      what: string,
      faults: Effect.Effect<ReadonlyArray<string>, SqlError>,
      sound?: string
    ) {
      const found = yield* Effect.exit(faults)
      if (Exit.isSuccess(found)) {
        for (const sentence of found.value) fault(sentence)
        if (found.value.length === 0 && sound !== undefined) say(sound)
      } else if (Exit.isInterrupted(found)) {
        return yield* Effect.interrupt
      } else {
        fault(`${what} cannot be read to the end: ${deepestMessage(Cause.squash(found.cause))}.`)
      }
    })

    const inspected = yield* Effect.either(Effect.mapError(inspect(name, sql), refusedBy(name)))
    if (Either.isLeft(inspected)) fault(inspected.left.sentence)
    if (Either.isLeft(inspected) && inspected.left.reason !== "damaged") return report()

    yield* progress({ step: "integrity", done: 0, total: 1 })
    yield* look("The file", integrity(sql), "The file is sound: SQLite finds no damage in it.")
    yield* look("The file", foreignKeys(sql), "No row refers to one that is missing.")
    yield* progress({ step: "integrity", done: 1, total: 1 })
    if (Either.isLeft(inspected)) return report()
    const schema = inspected.right
    if (schema === 0) {
      fault(`The database ${name} is empty.`)
      return report()
    }
    const later = schema === latestMigration ? "" : `; the service brings it to ${latestMigration}`
    say(`The schema is whole, and is version ${schema}${later}.`)

    const read = yield* Effect.either(readBooks(sql, schema))
    if (Either.isLeft(read)) {
      fault(`The books cannot be read: ${deepestMessage(read.left)}.`)
      return report()
    }
    const { books, epochs } = read.right
    const recounted = { sql, schema, books, epochs, progress }
    const count: Count = {
      events: 0,
      duplicates: 0,
      conflicts: 0,
      topics: 0,
      sequenced: 0,
      late: 0,
      tallies: new Map()
    }
    yield* look("The events", countEvents(recounted, count))
    yield* look("The redeliveries", countRedeliveries(recounted, count))
    yield* look("The topics", countTopics(recounted, count))
    const { received, unique_processed, duplicate_dropped, topics, last_offset, store_id, backup_at } = books
    const balance = `${received} received = ${unique_processed} stored + ${duplicate_dropped} dropped, in ${topics} topics`
    const wrong = booksFaults(books, epochs, count)
    yield* look(
      "The books",
      Effect.succeed(wrong),
      `The books balance, counted again from the events: ${balance}.`
    )
    if (books.sources !== undefined)
      yield* look("The sequences", countSequences(recounted, count), sumOf(books))
    // Before there was this index, SQLite itself held the keys apart.
    if (schema >= 5) {
      const keys: KeysCount = { runs: 0, inRuns: 0, young: 0 }
      const faults = Effect.tap(countKeys(recounted, count, keys), ({ length }) => {
        if (length === 0 && count.events > 0) say(sumOfKeys(keys))
      })
      yield* look("The index of keys", faults)
    }
    const epoch = epochs.at(-1)?.number ?? 1
    if (store_id !== undefined) {
      const sound = `The store is ${store_id}, in epoch ${epoch}, and has given out the offsets to ${last_offset}.`
      yield* look("The epochs", Effect.succeed(epochFaults(books, epochs)), sound)
    }
    for (const epoch of epochs.slice(1)) say(jumpOf(epoch))
    if (backup_at !== undefined && backup_at !== null) {
      const then = `the service that opens it begins epoch ${epoch + 1}`
      say(`It is a backup, made at ${timeOf(backup_at)}: ${then}.`)
    }
    return report({
      schema,
      storeId: store_id,
      epoch,
      backupAt: backup_at ?? undefined,
      received,
      uniqueProcessed: unique_processed,
      duplicateDropped: duplicate_dropped,
      conflicts: books.conflicts,
      topics,
      lastOffset: last_offset
    })
  })

const refusedBy = (name: string) => (error: StoreRefused | SqlError) =>
  error instanceof StoreRefused ? error : refusalOf(name, error)

const readBooks = Effect.fnUntraced(function* (sql: SqlClient.SqlClient, schema: number) {
  const [books] = yield* sql<StoreRow>`SELECT * FROM store`
  if (books === undefined) return yield* new SqlError({ cause: undefined, message: "there is no row" })
  const epochs = schema === 1 ? [] : yield* sql<EpochRow>`SELECT * FROM epoch ORDER BY number`
  return { books, epochs }
})

// Nothing is said where there are none.
const sumOf = ({ sources, gaps_open, declared_missing = 0, late = 0, sequence_reused }: StoreRow) =>
  sources === 0
    ? undefined
    : `The sequences are what the events say: ${sources} sources, ${gaps_open} open gaps, ${declared_missing} numbers ` +
      `declared missing, of which ${late} came late, and ${sequence_reused} used again.`

const sumOfKeys = ({ runs, inRuns, young }: KeysCount) =>
  `The index of keys is that of the events: ${inRuns} keys in ${runs} runs, and ${young} behind them. No two events ` +
  "have one key."

// A damaged database may hold any number.
const timeOf = (milliseconds: number): string =>
  Math.abs(milliseconds) <= 8.64e15 ? isoTime(milliseconds) : `${milliseconds} ms`

const jumpOf = ({ number, started_at, backup_at, last_offset, base_offset }: EpochRow): string =>
  `Epoch ${number} began at ${timeOf(started_at)}, when the backup of ${timeOf(backup_at ?? 0)} was put into service: ` +
  `offsets jump from ${last_offset} to ${base_offset}, beyond any that can have been given out since that backup. ` +
  `A reader's cursor in between is from a future that was lost, and is refused.`

const integrity = (sql: SqlClient.SqlClient) =>
  Effect.map(
    sql<{ integrity_check: string }>`PRAGMA integrity_check(${sql.literal(String(examplesMax))})`,
    (rows) =>
      rows.flatMap(({ integrity_check }) =>
        integrity_check === "ok" ? [] : [`SQLite finds damage: ${integrity_check.replaceAll("\n", "; ")}.`]
      )
  )

const foreignKeys = (sql: SqlClient.SqlClient) =>
  Effect.map(
    sql<{ table: string; parent: string; count: number; row: number | null }>`
      SELECT "table", parent, count(*) AS count, min(rowid) AS row
      FROM pragma_foreign_key_check GROUP BY "table", parent`,
    (rows) =>
      rows.map(
        ({ table, parent, count, row }) =>
          `Rows of the table ${table} that refer to none of the table ${parent}: ${count}, the first ${row}.`
      )
  )

const booksFaults = (
  books: StoreRow,
  epochs: ReadonlyArray<EpochRow>,
  count: Count
): ReadonlyArray<string> => {
  const jumped = epochs.reduce((sum, { last_offset, base_offset }) => sum + base_offset - last_offset, 0)
  return (
    [
      ["received", books.received, books.unique_processed + books.duplicate_dropped, "stored and dropped"],
      ["stored", books.unique_processed, count.events, "events"],
      ["dropped", books.duplicate_dropped, count.duplicates, "redeliveries"],
      ["conflicts", books.conflicts, count.conflicts, "conflicts among the redeliveries"],
      ["topics", books.topics, count.topics, "topics"],
      // Each delivery takes an offset.
      ["offsets given out", books.last_offset - jumped, books.received, "deliveries received"]
    ] as const
  ).flatMap(([what, said, is, of]) =>
    said === is ? [] : [`The books are wrong: ${what} ${said}, but there are ${is} ${of}.`]
  )
}

const epochFaults = (books: StoreRow, epochs: ReadonlyArray<EpochRow>): ReadonlyArray<string> => {
  const faults: Array<string> = []
  if (epochs.length === 0) faults.push("The epochs are gone.")
  let before = 0
  for (const [index, { number, backup_at, last_offset, base_offset }] of epochs.entries()) {
    if (number !== index + 1) faults.push(`Epoch ${index + 1} is missing.`)
    if ((index === 0) !== (backup_at === null)) {
      faults.push(
        `Epoch ${number} ${backup_at === null ? "does not say from which backup" : "is the first, but says from which backup"} it began.`
      )
    }
    if (last_offset < before || base_offset < last_offset || (index === 0 && base_offset !== 0)) {
      faults.push(
        `Epoch ${number} jumps from ${last_offset} to ${base_offset}, which cannot be after ${before}.`
      )
    }
    before = base_offset
  }
  if (before > books.last_offset) {
    faults.push(`The last offset is ${books.last_offset}, but the last epoch began after ${before}.`)
  }
  const ids = epochs.map(({ store_id }) => store_id)
  if (ids.at(-1) !== books.store_id) {
    faults.push(`The store is ${books.store_id}, but its last epoch says ${ids.at(-1)}.`)
  }
  if (new Set(ids).size < ids.length || ids.includes(""))
    faults.push("Two epochs have one id, or one has none.")
  return faults
}
