/**
 * Backups of a store that is in service. A backup is a copy of the database in which `backup_at` says when it was made;
 * a store that finds itself marked so has been restored, and begins a new epoch (see `Epoch.ts`). The copy is made
 * beside the database while publishing goes on, and read from there.
 */
import type { SqlClient } from "@effect/sql"
import type { MigrationError } from "@effect/sql/Migrator"
import type { SqlError } from "@effect/sql/SqlError"
import { Clock, Context, Duration, Effect, type Scope, type Stream } from "effect"
import {
  type BackupError,
  BackupFailed,
  BackupUnderWay,
  BackupUnsupported,
  type StoreError,
  StoreRefused
} from "../domain/Errors.ts"
import { isoTime } from "../domain/Timestamp.ts"
import { type Connection, checkSchema, inspect, storeErrorOf, transaction } from "./Connection.ts"
import { Database } from "./Database.ts"
import { migrate } from "./Migrations.ts"

/** A backup, as long as its scope. */
export interface Backup {
  /** The store that it is of. */
  readonly storeId: string
  /** When it was made, in milliseconds since 1970. */
  readonly at: number
  readonly bytes: number
  /** The database file. */
  readonly content: Stream.Stream<Uint8Array, SqlError>
}

/** Makes backups. */
export class Backups extends Context.Tag("sekali/Backups")<
  Backups,
  {
    /**
     * A backup of the state that is on disk when this returns: a whole one, at one commit, whose books balance (G4).
     * There is one at a time, from when it is asked for until its scope closes. It cannot be interrupted while the copy
     * is made.
     */
    readonly take: Effect.Effect<Backup, BackupError | StoreError, Scope.Scope>
  }
>() {}

/** The name of a backup that is one of several: names with one beginning are ordered as their backups were made. */
export const backupName = (beginning: string, at: number, extension = ".db"): string =>
  `${beginning}-${isoTime(at).replace(/[-:.]/g, "")}${extension}`

/** What a backup says of itself. */
export interface Mark {
  readonly storeId: string
  readonly at: number
}

/**
 * Makes a copy of a database a backup: one file of the newest schema, marked with the time. Refuses what is not a store
 * of ours. A copy of a backup stays what it was.
 */
export const mark = (
  name: string,
  copy: SqlClient.SqlClient
): Effect.Effect<Mark, SqlError | MigrationError | StoreRefused> =>
  Effect.gen(function* () {
    yield* copy`PRAGMA busy_timeout = 0`
    yield* copy`PRAGMA locking_mode = EXCLUSIVE`
    if ((yield* inspect(name, copy)) === 0) {
      const sentence = `The database ${name} is empty: there is nothing to back up.`
      return yield* new StoreRefused({ reason: "foreign", sentence })
    }
    yield* copy`PRAGMA journal_mode = DELETE`
    yield* copy`PRAGMA synchronous = FULL`
    const now = yield* Clock.currentTimeMillis
    return yield* transaction(copy, (copy) =>
      Effect.gen(function* () {
        yield* migrate(copy)
        yield* checkSchema(name, copy)
        const [marked] = yield* copy<Mark>`
          UPDATE store SET backup_at = coalesce(backup_at, ${now}) RETURNING store_id AS "storeId", backup_at AS at`
        return marked ?? (yield* Effect.dieMessage("the books of the copy are gone"))
      })
    )
  })

/** Backups through the connection of a store. */
export const make = Effect.fnUntraced(function* (connection: Connection) {
  const { name, copies } = yield* Database
  if (copies === undefined) return Backups.of({ take: new BackupUnsupported() })
  yield* copies.tidy
  let underWay = false

  const turn = Effect.acquireRelease(
    Effect.suspend(() => {
      if (underWay) return new BackupUnderWay()
      underWay = true
      return Effect.void
    }),
    () =>
      Effect.sync(() => {
        underWay = false
      })
  )

  const failed = (error: StoreError | SqlError | MigrationError | StoreRefused) =>
    Effect.gen(function* () {
      if (error._tag === "StoreUnavailable" || error._tag === "StoreDamaged") return yield* error
      const known = storeErrorOf(error)
      const trouble = known._tag === "StoreUnavailable" ? known.trouble : "unexpected"
      yield* Effect.logError("no backup was made", error).pipe(Effect.annotateLogs({ trouble }))
      return yield* new BackupFailed({ trouble, cause: error })
    })

  const take = Effect.gen(function* () {
    yield* turn
    const copied = connection.beside((sql) => copies.make(sql, (copy) => mark(name, copy)))
    const [took, [marked, copy]] = yield* Effect.timed(Effect.catchAll(copied, failed))
    yield* Effect.logInfo("a backup was made").pipe(
      Effect.annotateLogs({ bytes: copy.bytes, milliseconds: Math.round(Duration.toMillis(took)) })
    )
    return { ...marked, ...copy }
  })
  return Backups.of({ take })
})
