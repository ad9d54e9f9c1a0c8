/**
 * The schema, as an ordered record of the steps that lead to it. A step that has been released is never changed; what
 * it got wrong is put right by a later one. Each table is STRICT: a value of the wrong type is refused, not kept.
 */
import { SqlClient } from "@effect/sql"
import * as Migrator from "@effect/sql/Migrator"
import { SqlError } from "@effect/sql/SqlError"
import { Clock, Effect } from "effect"
import { KeyIndex } from "./keys/KeyIndex.ts"

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

// Who the store is, and since when: an id, which changes with every epoch, and the epochs. A backup is a copy in which
// `backup_at` says when it was made; it is NULL in a store that is in service.
const identity = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`ALTER TABLE store ADD COLUMN store_id TEXT NOT NULL DEFAULT ''`
  yield* sql`ALTER TABLE store ADD COLUMN backup_at INTEGER`
  yield* sql`UPDATE store SET store_id = ${sql.literal(freshStoreId)}`
  // An epoch takes over the events up to `last_offset` and gives out offsets greater than `base_offset`.
  yield* sql`
    CREATE TABLE epoch (
      number INTEGER PRIMARY KEY,
      store_id TEXT NOT NULL,
      started_at INTEGER NOT NULL,
      backup_at INTEGER,
      last_offset INTEGER NOT NULL,
      base_offset INTEGER NOT NULL
    ) STRICT`
  yield* sql`INSERT INTO epoch SELECT 1, store_id, ${yield* Clock.currentTimeMillis}, NULL, 0, 0 FROM store`
})

// Sequences: what the numbers of a source say about its events in a topic. What was stored before this step counts as
// if it had been in force, and nothing had been given up for its age.
const sequences = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const gapsMax = sql.literal("1000")
  yield* sql`ALTER TABLE event ADD COLUMN late INTEGER NOT NULL DEFAULT 0`
  yield* sql`
    CREATE INDEX event_in_sequence ON event (topic_id, source, sequence) WHERE sequence IS NOT NULL`
  // `behind` says by how much the lowest open gap lies behind the highest number, 0 where no gap is open.
  yield* sql`
    CREATE TABLE source (
      id INTEGER PRIMARY KEY,
      topic_id INTEGER NOT NULL REFERENCES topic (id),
      name TEXT NOT NULL,
      first INTEGER NOT NULL,
      contiguous INTEGER NOT NULL,
      highest INTEGER NOT NULL,
      behind INTEGER NOT NULL,
      gaps INTEGER NOT NULL,
      declared INTEGER NOT NULL,
      late INTEGER NOT NULL,
      reused INTEGER NOT NULL,
      UNIQUE (topic_id, name)
    ) STRICT`
  yield* sql`CREATE INDEX source_by_behind ON source (behind) WHERE behind > 0`
  yield* sql`
    CREATE TABLE gap (
      source_id INTEGER NOT NULL REFERENCES source (id),
      first INTEGER NOT NULL,
      last INTEGER NOT NULL,
      opened_at INTEGER NOT NULL,
      PRIMARY KEY (source_id, first)
    ) STRICT, WITHOUT ROWID`
  yield* sql`CREATE INDEX gap_by_age ON gap (opened_at)`
  yield* sql`ALTER TABLE store ADD COLUMN sources INTEGER NOT NULL DEFAULT 0`
  yield* sql`ALTER TABLE store ADD COLUMN gaps_open INTEGER NOT NULL DEFAULT 0`
  yield* sql`ALTER TABLE store ADD COLUMN declared_missing INTEGER NOT NULL DEFAULT 0`
  yield* sql`ALTER TABLE store ADD COLUMN late INTEGER NOT NULL DEFAULT 0`
  yield* sql`ALTER TABLE store ADD COLUMN sequence_reused INTEGER NOT NULL DEFAULT 0`
  yield* sql`
    INSERT INTO source (topic_id, name, first, contiguous, highest, behind, gaps, declared, late, reused)
    SELECT s.topic_id, s.source, e.sequence, s.highest, s.highest, 0, 0, 0, 0, s.reused FROM (
      SELECT topic_id, source, min(offset) AS opened, max(sequence) AS highest,
        count(*) - count(DISTINCT sequence) AS reused
      FROM event WHERE sequence IS NOT NULL GROUP BY topic_id, source
    ) AS s JOIN event AS e ON e.offset = s.opened
    ORDER BY s.opened`
  // A gap opened when the first number beyond it came.
  yield* sql`
    INSERT INTO gap (source_id, first, last, opened_at)
    SELECT source_id, before + 1, sequence - 1, opened_at FROM (
      SELECT s.id AS source_id, e.sequence, s.first,
        lag(e.sequence) OVER (PARTITION BY s.id ORDER BY e.sequence) AS before,
        min(e.processed_at) OVER (
          PARTITION BY s.id ORDER BY e.sequence DESC ROWS UNBOUNDED PRECEDING
        ) AS opened_at
      FROM source AS s CROSS JOIN event AS e
        ON e.topic_id = s.topic_id AND e.source = s.name AND e.sequence IS NOT NULL
    ) WHERE before >= first AND sequence > before + 1`
  yield* sql`
    UPDATE source SET declared = coalesce((
      SELECT sum(last - first + 1) FROM (
        SELECT first, last FROM gap WHERE source_id = source.id
        ORDER BY opened_at DESC, first DESC LIMIT -1 OFFSET ${gapsMax}
      )), 0)`
  yield* sql`
    DELETE FROM gap WHERE (source_id, first) IN (
      SELECT source_id, first FROM (
        SELECT source_id, first, row_number() OVER (
          PARTITION BY source_id ORDER BY opened_at DESC, first DESC
        ) AS age FROM gap
      ) WHERE age > ${gapsMax})`
  yield* sql`UPDATE source SET gaps = (SELECT count(*) FROM gap WHERE source_id = source.id)`
  yield* sql`
    UPDATE source SET contiguous = g.first - 1, behind = highest - g.last
    FROM (SELECT source_id, min(first) AS first, last FROM gap GROUP BY source_id) AS g
    WHERE g.source_id = source.id`
  yield* sql`
    UPDATE store SET
      sources = s.sources, gaps_open = s.gaps, sequence_reused = s.reused,
      declared_missing = min(s.declared, ${sql.literal(String(Number.MAX_SAFE_INTEGER))})
    FROM (
      SELECT count(*) AS sources, coalesce(sum(gaps), 0) AS gaps, coalesce(sum(reused), 0) AS reused,
        cast(total(declared) AS INTEGER) AS declared
      FROM source
    ) AS s`
})

// Since when heartbeats are stored and when the last one was, in one row that the first one makes; and the stretches
// without.
const availability = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE TABLE heartbeat (
      id INTEGER PRIMARY KEY CHECK (id = 1),
      since INTEGER NOT NULL,
      at INTEGER NOT NULL
    ) STRICT`
  yield* sql`CREATE TABLE outage (began_at INTEGER PRIMARY KEY, ended_at INTEGER NOT NULL) STRICT`
})

// Events lose the unique index over their keys, and get an index that is only written at its end (`keys/KeyIndex.ts`).
// SQLite cannot take a constraint away, so the table is made anew, and with it the one that refers to it.
const keys = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`ALTER TABLE store ADD COLUMN key_seed INTEGER NOT NULL DEFAULT 0`
  yield* sql`UPDATE store SET key_seed = random() & 4294967295`
  yield* sql`
    CREATE TABLE key_run (
      id INTEGER PRIMARY KEY,
      level INTEGER NOT NULL,
      keys INTEGER NOT NULL,
      pages INTEGER NOT NULL,
      last_offset INTEGER NOT NULL,
      live INTEGER NOT NULL
    ) STRICT`
  yield* sql`CREATE TABLE key_filter (run_id INTEGER PRIMARY KEY REFERENCES key_run (id), bytes BLOB NOT NULL) STRICT`
  yield* sql`CREATE TABLE key_page (place INTEGER PRIMARY KEY, entries BLOB NOT NULL) STRICT`
  yield* sql`
    CREATE TABLE event_anew (
      offset INTEGER PRIMARY KEY,
      topic_id INTEGER NOT NULL,
      event_id TEXT NOT NULL,
      timestamp TEXT NOT NULL,
      source TEXT NOT NULL,
      payload TEXT NOT NULL,
      sequence INTEGER,
      origin TEXT,
      processed_at INTEGER NOT NULL,
      late INTEGER NOT NULL DEFAULT 0
    ) STRICT`
  yield* sql`INSERT INTO event_anew SELECT * FROM event ORDER BY offset`
  yield* sql`
    CREATE TABLE redelivery_anew (
      offset INTEGER PRIMARY KEY REFERENCES event_anew (offset),
      duplicates INTEGER NOT NULL,
      conflicts INTEGER NOT NULL,
      last_duplicate_at INTEGER NOT NULL,
      last_conflict_at INTEGER,
      last_conflict_source TEXT
    ) STRICT`
  yield* sql`INSERT INTO redelivery_anew SELECT * FROM redelivery ORDER BY offset`
  yield* sql`DROP TABLE redelivery`
  yield* sql`DROP TABLE event`
  yield* sql`ALTER TABLE event_anew RENAME TO event`
  yield* sql`ALTER TABLE redelivery_anew RENAME TO redelivery`
  yield* sql`CREATE INDEX event_in_sequence ON event (topic_id, source, sequence) WHERE sequence IS NOT NULL`
  yield* sql`CREATE INDEX redelivery_with_conflicts ON redelivery (offset) WHERE conflicts > 0`
  yield* KeyIndex.catchUp(sql)
})

/** SQL for an id that no other store has, from SQLite's own source of chance. */
export const freshStoreId = "lower(hex(randomblob(8)))"

/** The steps by number and name. */
export const migrations = {
  "0001_events": events,
  "0002_identity": identity,
  "0003_sequences": sequences,
  "0004_availability": availability,
  "0005_keys": keys
}

/** The newest step that this program knows. */
export const latestMigration: number = Math.max(
  ...Object.keys(migrations).map((name) => Number.parseInt(name, 10))
)

/** The columns of a schema, by table. */
export type Schema = Readonly<Record<string, ReadonlyArray<string>>>

/** The columns after the first step. */
const firstSchema = {
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

/** The columns after the second step. */
const secondSchema = {
  ...firstSchema,
  store: [...firstSchema.store, "store_id", "backup_at"],
  epoch: ["number", "store_id", "started_at", "backup_at", "last_offset", "base_offset"]
}

/** The columns after the third step. */
const thirdSchema = {
  ...secondSchema,
  store: [...secondSchema.store, "sources", "gaps_open", "declared_missing", "late", "sequence_reused"],
  event: [...secondSchema.event, "late"],
  source: [
    "id",
    "topic_id",
    "name",
    "first",
    "contiguous",
    "highest",
    "behind",
    "gaps",
    "declared",
    "late",
    "reused"
  ],
  gap: ["source_id", "first", "last", "opened_at"]
}

/** The columns after the fourth step. */
const fourthSchema = {
  ...thirdSchema,
  heartbeat: ["id", "since", "at"],
  outage: ["began_at", "ended_at"]
}

/** The columns after the last step. */
export const schema: Schema = {
  ...fourthSchema,
  store: [...fourthSchema.store, "key_seed"],
  key_run: ["id", "level", "keys", "pages", "last_offset", "live"],
  key_filter: ["run_id", "bytes"],
  key_page: ["place", "entries"]
}

/** The columns after a step that has been released. */
export const schemaAfter = (step: number): Schema =>
  [firstSchema, secondSchema, thirdSchema, fourthSchema][step - 1] ?? schema

/** What a database lacks of a schema, as `table.column`. One that lacks anything is damaged. */
export const missingColumns = (sql: SqlClient.SqlClient, wanted: Schema) =>
  Effect.map(
    sql<{ table: string; column: string }>`
      SELECT t.name AS "table", c.name AS "column" FROM sqlite_schema AS t, pragma_table_info(t.name) AS c
      WHERE t.type = 'table'`,
    (rows): ReadonlyArray<string> => {
      const found = new Set(rows.map(({ table, column }) => `${table}.${column}`))
      return Object.entries(wanted)
        .flatMap(([table, columns]) => columns.map((column) => `${table}.${column}`))
        .filter((column) => !found.has(column))
    }
  )

const takeSteps = Migrator.make({})({
  loader: Migrator.fromRecord(migrations),
  table: migrationTable
})

const migrated = Effect.gen(function* () {
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

/** Takes the steps that the database has not taken yet, inside the transaction of its caller. */
export const migrate = (sql: SqlClient.SqlClient) =>
  Effect.flatMap(sql.reserve, (connection) =>
    migrated.pipe(
      Effect.provideService(SqlClient.SqlClient, sql),
      // The migrator looks here for a transaction that is open.
      Effect.provideService(SqlClient.TransactionConnection, [connection, 0])
    )
  ).pipe(Effect.scoped)
