/**
 * The schema, as an ordered record of the steps that lead to it. A step that has been released is never changed; what
 * it got wrong is put right by a later one. Each table is STRICT: a value of the wrong type is refused, not kept.
 */
import { SqlClient } from "@effect/sql"
import * as Migrator from "@effect/sql/Migrator"
import { SqlError } from "@effect/sql/SqlError"
import { Effect } from "effect"

/** Marks a database as one of ours, in SQLite's `application_id`: the letters "Skli". */
export const applicationId = 0x536b6c69

/** The table that says which steps a database has taken. */
export const migrationTable = "migration"

const events = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  // The books of the whole store: one row, moved in every transaction that stores or drops something.
  yield* sql`
    CREATE TABLE store (
      id INTEGER PRIMARY KEY CHECK (id = 1),
      received INTEGER NOT NULL,
      unique_processed INTEGER NOT NULL,
      duplicate_dropped INTEGER NOT NULL,
      conflicts INTEGER NOT NULL,
      topics INTEGER NOT NULL,
      last_offset INTEGER NOT NULL,
      processed_at INTEGER NOT NULL,
      opened INTEGER NOT NULL
    ) STRICT`
  yield* sql`INSERT INTO store VALUES (1, 0, 0, 0, 0, 0, 0, 0, 0)`
  yield* sql`
    CREATE TABLE topic (
      id INTEGER PRIMARY KEY,
      name TEXT NOT NULL UNIQUE,
      events INTEGER NOT NULL,
      duplicates INTEGER NOT NULL,
      conflicts INTEGER NOT NULL,
      first_offset INTEGER NOT NULL,
      last_offset INTEGER NOT NULL,
      last_event_time TEXT NOT NULL,
      last_event_ms INTEGER NOT NULL,
      last_event_ns INTEGER NOT NULL
    ) STRICT`
  // The unique key decides what is new. An event's row is written once and never changed.
  yield* sql`
    CREATE TABLE event (
      offset INTEGER PRIMARY KEY,
      topic_id INTEGER NOT NULL REFERENCES topic (id),
      event_id TEXT NOT NULL,
      timestamp TEXT NOT NULL,
      source TEXT NOT NULL,
      payload TEXT NOT NULL,
      sequence INTEGER,
      origin TEXT,
      processed_at INTEGER NOT NULL,
      UNIQUE (topic_id, event_id)
    ) STRICT`
  // What came later with the key of a stored event: a row only where something did.
  yield* sql`
    CREATE TABLE redelivery (
      offset INTEGER PRIMARY KEY REFERENCES event (offset),
      duplicates INTEGER NOT NULL,
      conflicts INTEGER NOT NULL,
      last_duplicate_at INTEGER NOT NULL,
      last_conflict_at INTEGER,
      last_conflict_source TEXT
    ) STRICT`
  yield* sql`CREATE INDEX redelivery_with_conflicts ON redelivery (offset) WHERE conflicts > 0`
})

/** The steps by number and name. */
export const migrations = {
  "0001_events": events
}

/** The newest step that this program knows. */
export const latestMigration: number = Math.max(
  ...Object.keys(migrations).map((name) => Number.parseInt(name, 10))
)

/** The columns that the schema has after the last step, by table. A database that lacks one is damaged. */
export const schema: Readonly<Record<string, ReadonlyArray<string>>> = {
  store: [
    "id",
    "received",
    "unique_processed",
    "duplicate_dropped",
    "conflicts",
    "topics",
    "last_offset",
    "processed_at",
    "opened"
  ],
  topic: [
    "id",
    "name",
    "events",
    "duplicates",
    "conflicts",
    "first_offset",
    "last_offset",
    "last_event_time",
    "last_event_ms",
    "last_event_ns"
  ],
  event: [
    "offset",
    "topic_id",
    "event_id",
    "timestamp",
    "source",
    "payload",
    "sequence",
    "origin",
    "processed_at"
  ],
  redelivery: [
    "offset",
    "duplicates",
    "conflicts",
    "last_duplicate_at",
    "last_conflict_at",
    "last_conflict_source"
  ]
}

const takeSteps = Migrator.make({})({
  loader: Migrator.fromRecord(migrations),
  table: migrationTable
})

/** Takes the steps that the database has not taken yet. It runs inside the transaction of its caller. */
export const migrate = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* takeSteps
  // Where the steps cannot be recorded, for whatever reason, the migrator believes that another one is at work and
  // leaves them to it without an error.
  const [last] = yield* sql<{ version: number | null }>`
    SELECT max(migration_id) AS version FROM ${sql(migrationTable)}`
  if (last?.version !== latestMigration) {
    return yield* new SqlError({ cause: undefined, message: "the steps of its schema could not be recorded" })
  }
})
