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
import { applicationId, migrations, migrationTable } from "../../src/store/Migrations.ts"

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
