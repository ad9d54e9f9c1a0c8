/**
 * The store's edge: how a connection to the database is opened. The driver behind it is chosen where the service is
 * put together; the store opens through it at the start, and again whenever a connection can no longer be trusted.
 */
import type { SqlClient } from "@effect/sql"
import type { SqlError } from "@effect/sql/SqlError"
import { Context, type Effect, type Scope } from "effect"

/** A database to connect to. */
export class Database extends Context.Tag("sekali/Database")<
  Database,
  {
    /** Its name for people: a path, an address. */
    readonly name: string
    /** Opens one connection, as the driver opens it by default, and closes it with the scope. */
    readonly connect: Effect.Effect<SqlClient.SqlClient, SqlError, Scope.Scope>
  }
>() {}
