/**
 * Database files for tests, handled with the plain driver: changed behind the store's back, looked into, made as older
 * versions of the program made them.
 */
import { Reactivity } from "@effect/experimental"
import { SqlClient } from "@effect/sql"
import * as Migrator from "@effect/sql/Migrator"
import { SqliteClient } from "@effect/sql-sqlite-node"
import Sqlite from "better-sqlite3"
import { Effect } from "effect"
import { applicationId, latestMigration, migrations, migrationTable } from "../../src/store/Migrations.ts"

/** Changes a database, and closes it again. */
export const edit = <A>(file: string, change: (database: Sqlite.Database) => A): A => {
  const database = new Sqlite(file)
  try {
    return change(database)
  } finally {
    database.close()
  }
}

/** The rows of a statement, from a file that is only read. */
export const rowsOf = (file: string, sql: string): ReadonlyArray<Record<string, unknown>> => {
  const database = new Sqlite(file, { readonly: true })
  try {
    return database.prepare(sql).all() as ReadonlyArray<Record<string, unknown>>
  } finally {
    database.close()
  }
}

/** What leads from a version of the schema back to the one before it. */
const undone: Readonly<Record<number, string>> = {
  5: `
    CREATE TABLE event_before (
      offset INTEGER PRIMARY KEY,
      topic_id INTEGER NOT NULL REFERENCES topic (id),
      event_id TEXT NOT NULL,
      timestamp TEXT NOT NULL,
      source TEXT NOT NULL,
      payload TEXT NOT NULL,
      sequence INTEGER,
      origin TEXT,
      processed_at INTEGER NOT NULL,
      late INTEGER NOT NULL DEFAULT 0,
      UNIQUE (topic_id, event_id)
    ) STRICT;
    INSERT INTO event_before SELECT * FROM event;
    DROP TABLE event;
    ALTER TABLE event_before RENAME TO event;
    CREATE INDEX event_in_sequence ON event (topic_id, source, sequence) WHERE sequence IS NOT NULL;
    DROP TABLE key_page; DROP TABLE key_filter; DROP TABLE key_run;
    ALTER TABLE store DROP COLUMN key_seed;`,
  4: "DROP TABLE heartbeat; DROP TABLE outage;",
  3: `
    DROP TABLE gap; DROP TABLE source; DROP INDEX event_in_sequence;
    ALTER TABLE event DROP COLUMN late;
    ALTER TABLE store DROP COLUMN sources; ALTER TABLE store DROP COLUMN gaps_open;
    ALTER TABLE store DROP COLUMN declared_missing; ALTER TABLE store DROP COLUMN late;
    ALTER TABLE store DROP COLUMN sequence_reused;`
}

/** Makes of a database of today what an older program would have made of the same events. */
export const makeOlder = (file: string, version: 2 | 3 | 4): void =>
  edit(file, (database) => {
    database.pragma("foreign_keys = OFF")
    for (let step = latestMigration; step > version; step--) database.exec(undone[step] ?? "")
    database.exec(`DELETE FROM ${migrationTable} WHERE migration_id > ${version}`)
  })

/** A database as version 1 of the schema left it, with two events and a duplicate in it. */
export const makeVersionOne = (file: string) =>
  Effect.gen(function* () {
    const sql = yield* SqliteClient.make({ filename: file })
    yield* Migrator.make({})({
      loader: Migrator.fromRecord({ "0001_events": migrations["0001_events"] }),
      table: migrationTable
    }).pipe(Effect.provideService(SqlClient.SqlClient, sql))
    yield* sql.unsafe(`PRAGMA application_id = ${applicationId}`)
    yield* sql`INSERT INTO topic VALUES (1, 'a', 2, 1, 0, 1, 2, '2026-11-22T10:00:00Z', 1795341600000, 0)`
    yield* sql`
      INSERT INTO event VALUES
        (1, 1, 'e0', '2026-11-22T10:00:00Z', 's', '{}', NULL, NULL, 5),
        (2, 1, 'e1', '2026-11-22T09:00:00Z', 's', '[1]', 3, 'o', 6)`
    yield* sql`INSERT INTO redelivery VALUES (1, 1, 0, 6, NULL, NULL)`
    yield* sql`UPDATE store SET received = 3, unique_processed = 2, duplicate_dropped = 1, topics = 1, last_offset = 3,
      processed_at = 6, opened = 1`
  }).pipe(Effect.scoped, Effect.provide(Reactivity.layer))
