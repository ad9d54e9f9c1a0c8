/**
 * The store's edge: how a connection to the database is opened, and how the database is copied while it is in use. The
 * driver behind it is chosen where the service is put together; the store opens through it at the start, and again
 * whenever a connection can no longer be trusted.
 */
import type { SqlClient } from "@effect/sql"
import type { SqlError } from "@effect/sql/SqlError"
import { Context, type Effect, type Scope, type Stream } from "effect"
import type { StoreRefused } from "../domain/Errors.ts"

/** A copy of a database, which is there as long as its scope. */
export interface DatabaseCopy {
  readonly bytes: number
  readonly content: Stream.Stream<Uint8Array, SqlError>
}

/** Copies of a database that is in use, made beside it. */
export interface Copies {
  /** Removes what a process that was killed has left. Only who holds the database may do it. */
  readonly tidy: Effect.Effect<void>
  /**
   * Copies the database through a connection that `connect` has given, while others go on to use that; what comes out
   * is the state at the end, and never a part of a transaction. `finish` is run on a connection to the copy. Where it
   * fails, nothing is left.
   */
  readonly make: <A, E>(
    sql: SqlClient.SqlClient,
    finish: (copy: SqlClient.SqlClient) => Effect.Effect<A, E>
  ) => Effect.Effect<readonly [A, DatabaseCopy], SqlError | E, Scope.Scope>
}

/** A database to connect to. */
export class Database extends Context.Tag("sekali/Database")<
  Database,
  {
    /** Its name for people: a path, an address. */
    readonly name: string
    /**
     * Writes what a process that was killed has left in the log once more, byte for byte, and syncs it. Run before
     * anything is opened: after a sync that failed, the system may show pages of the log that are not on the disk, take
     * them for written, and lose them later. SQLite, which takes what it has recovered for good, would by then write
     * older pages of the log into the database.
     */
    readonly writeLogAgain: Effect.Effect<void, SqlError>
    /** Opens one connection, as the driver opens it by default, and closes it with the scope. */
    readonly connect: Effect.Effect<SqlClient.SqlClient, SqlError | StoreRefused, Scope.Scope>
    /** Left out where the database cannot be copied while it is in use. */
    readonly copies?: Copies
    /** How many bytes it takes, and its log besides. Left out where that cannot be told. */
    readonly size?: Effect.Effect<{ readonly database: number; readonly log: number }>
  }
>() {}
