/**
 * The one connection to the SQLite database, made durable, and the only two ways to use it: `read` and `write`, one at
 * a time. Four traps of this stack are closed here.
 *
 * 1. Durability. The driver's build of SQLite lets a WAL database fall to `synchronous=NORMAL`, at which a power cut
 *    takes acknowledged commits back. FULL is set on every open and read back after the first write.
 * 2. A failed COMMIT. In `@effect/sql` it is a defect and leaves the connection inside the transaction. Here COMMIT is
 *    a statement like any other, and after any failure the connection is proven to be outside of a transaction, or
 *    replaced, before anyone else may use it.
 * 3. Dirty reads. On one connection a statement of another fiber runs inside a transaction that is open, and sees what
 *    may yet be rolled back. So a read holds the connection alone, from its first statement to its last.
 * 4. Recovered but not synced. After a kill, SQLite recovers commits from the WAL that were written and never synced;
 *    a power cut could take them back after a reader has seen them. After every open the WAL is written into the
 *    database file and both are synced, before the first read.
 */
import type { SqlClient } from "@effect/sql"
import { SqlError } from "@effect/sql/SqlError"
import { Cause, Effect, Exit, Option, Scope } from "effect"
import { StoreDamaged, type StoreError, StoreRefused, StoreUnavailable } from "../domain/Errors.ts"
import { isoTime } from "../domain/Timestamp.ts"
import { Metrics } from "../telemetry/Metrics.ts"
import { Database } from "./Database.ts"
import { beginIfRestored, type Epoch } from "./Epoch.ts"
import { held } from "./HeldClient.ts"
import {
  applicationId,
  latestMigration,
  migrate,
  migrationTable,
  missingColumns,
  schemaAfter
} from "./Migrations.ts"

/** How the store uses its database. */
export interface Connection {
  /** Runs statements that only read, all at one committed state. */
  readonly read: <A>(body: Statements<A>) => Effect.Effect<A, StoreError>
  /** Runs statements in one transaction; when this returns it is on disk. When it fails, its outcome is unknown. */
  readonly write: <A>(body: Statements<A>) => Effect.Effect<A, StoreError>
  /**
   * Finds out by writing whether the database can be written. Where the last write found the disk full, a few bytes
   * would prove nothing: as much room is taken as the largest event needs, and is left for the events that come next.
   */
  readonly probe: Effect.Effect<void, StoreError>
  /**
   * Runs what works beside the statements of others, and minds their transactions by itself. One at a time; it ends
   * with the connection at the latest.
   */
  readonly beside: <A, E, R>(
    use: (sql: SqlClient.SqlClient) => Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | StoreError, R>
  /** What `read` and `write` would use now; none where it would have to be opened first, or where they would fail. */
  readonly inUse: () => SqlClient.SqlClient | undefined
  /** What kept the last write from succeeding, if it did not, or the damage that was found. */
  readonly trouble: Effect.Effect<Option.Option<StoreError>>
}

/** Statements to run on a connection that is held for them alone. */
export type Statements<A> = (sql: SqlClient.SqlClient) => Effect.Effect<A, SqlError>

interface Session {
  readonly sql: SqlClient.SqlClient
  readonly scope: Scope.CloseableScope
}

const codeOf = (cause: unknown): string => {
  if (typeof cause !== "object" || cause === null) return ""
  if ("code" in cause && typeof cause.code === "string") return cause.code
  return "cause" in cause ? codeOf(cause.cause) : ""
}

const isDamage = (code: string): boolean =>
  code.startsWith("SQLITE_CORRUPT") || code.startsWith("SQLITE_NOTADB")

const isFull = (code: string): boolean =>
  code.startsWith("SQLITE_FULL") || code === "ENOSPC" || code === "EDQUOT"

/** What an error of the driver or of the disk means for the store. */
export const storeErrorOf = (cause: unknown): StoreError => {
  const code = codeOf(cause)
  if (isDamage(code)) return new StoreDamaged({ cause })
  if (isFull(code)) return new StoreUnavailable({ trouble: "full", cause })
  if (code.startsWith("SQLITE_BUSY") || code.startsWith("SQLITE_LOCKED")) {
    return new StoreUnavailable({ trouble: "busy", cause })
  }
  const io = ["SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN"].some((prefix) => code.startsWith(prefix))
  return new StoreUnavailable({ trouble: io ? "io" : "unexpected", cause })
}

/** Why a database is not opened, from an error of the driver. */
export const refusalOf = (name: string, cause: unknown): StoreRefused => {
  const code = codeOf(cause)
  const refused = (reason: StoreRefused["reason"], what: string) =>
    new StoreRefused({ reason, sentence: `The database ${name} ${what}`, cause })
  if (code.startsWith("SQLITE_NOTADB")) return refused("damaged", "is damaged, or is not a SQLite database.")
  if (isDamage(code)) return refused("damaged", "is damaged. Restore it from a backup.")
  if (code.startsWith("SQLITE_BUSY")) return refused("in use", "is in use by another process.")
  const why = {
    full: "the disk is full",
    io: "the disk reported an error",
    busy: "it is locked",
    closed: "",
    unexpected: ""
  }
  const error = storeErrorOf(cause)
  const reason =
    error._tag === "StoreUnavailable" && why[error.trouble] !== "" ? `${why[error.trouble]} ` : ""
  const detail = deepestMessage(cause)
  return refused(
    "cannot be opened",
    `cannot be opened: ${reason}(${[code, detail].filter(Boolean).join(", ")}).`
  )
}

/** What was wrong at the bottom of an error. */
export const deepestMessage = (error: unknown): string => {
  if (!(error instanceof Error)) return String(error)
  return error.cause instanceof Error ? deepestMessage(error.cause) : error.message
}

const one = <A>(rows: ReadonlyArray<A>): Effect.Effect<A> =>
  rows[0] === undefined
    ? Effect.dieMessage("a statement that always has a row had none")
    : Effect.succeed(rows[0])

/** Begins, runs, commits, with typed errors throughout; on any failure the transaction may still be open. */
export const transaction: <A, E>(
  sql: SqlClient.SqlClient,
  body: (sql: SqlClient.SqlClient) => Effect.Effect<A, E>
) => Effect.Effect<A, E | SqlError> = Effect.fnUntraced(function* (sql, body) {
  yield* sql`BEGIN IMMEDIATE`
  const value = yield* body(sql)
  yield* sql`COMMIT`
  return value
})

const damaged = (name: string, what: string) =>
  new StoreRefused({
    reason: "damaged",
    sentence: `The database ${name} is damaged: ${what}. Restore it from a backup.`
  })

/**
 * The version of a database's schema, 0 where it is new; refuses what is not ours to open. Nothing has been written
 * before this, and nothing is by it; where a kill left a log, SQLite folds that into the file as the connection closes,
 * whatever the verdict.
 */
export const inspect = Effect.fnUntraced(function* (name: string, sql: SqlClient.SqlClient) {
  const refuse = (reason: StoreRefused["reason"], what: string) =>
    new StoreRefused({ reason, sentence: `The database ${name} ${what}` })
  const { application_id } = yield* one(yield* sql<{ application_id: number }>`PRAGMA application_id`)
  const { tables, records } = yield* one(
    yield* sql<{ tables: number; records: number }>`
      SELECT count(*) AS tables, count(*) FILTER (WHERE name = ${migrationTable}) AS records FROM sqlite_schema`
  )
  if (application_id === 0 && tables === 0) return 0
  if (application_id !== applicationId) {
    return yield* refuse("foreign", "belongs to another program.")
  }
  if (records === 0) return yield* damaged(name, "the record of its schema is gone")
  const { version } = yield* one(
    yield* sql<{ version: number | null }>`SELECT max(migration_id) AS version FROM ${sql(migrationTable)}`
  )
  if (version === null) return yield* damaged(name, "the record of its schema is empty")
  if (version > latestMigration) {
    const versions = `its schema is version ${version}, and this program knows ${latestMigration}`
    return yield* refuse(
      "newer",
      `was made by a newer Sekali (${versions}). Run that one, or restore a backup.`
    )
  }
  yield* checkSchema(name, sql, version)
  return version
})

/** Finds out whether the schema is what it has to be after a step; by default, what the store's statements expect. */
export const checkSchema = Effect.fnUntraced(function* (
  name: string,
  sql: SqlClient.SqlClient,
  version = latestMigration
) {
  const wanted = schemaAfter(version)
  const missing = yield* missingColumns(sql, wanted)
  if (missing.length > 0) return yield* damaged(name, `it lacks ${missing.join(", ")}`)
  for (const table of ["store", "epoch"].filter((table) => table in wanted)) {
    const rows = yield* sql`SELECT 1 FROM ${sql(table)} LIMIT 1`
    if (rows.length === 0) return yield* damaged(name, "its books are gone")
  }
})

const withHint = <E>(error: E): E | StoreRefused =>
  error instanceof StoreRefused && error.reason === "foreign"
    ? new StoreRefused({ ...error, sentence: `${error.sentence} Name another file in SEKALI_DATABASE.` })
    : error

/** Makes a fresh connection fit for use, or refuses the database. */
const prepare = Effect.fnUntraced(function* (name: string, sql: SqlClient.SqlClient) {
  // Whoever holds the database holds it for life: waiting for the lock would not help, and would stop everything.
  yield* sql`PRAGMA busy_timeout = 0`
  yield* sql`PRAGMA locking_mode = EXCLUSIVE`
  const known = yield* Effect.mapError(inspect(name, sql), withHint)
  const { journal_mode } = yield* one(yield* sql<{ journal_mode: string }>`PRAGMA journal_mode = WAL`)
  if (journal_mode !== "wal") {
    const sentence = `The database ${name} cannot be opened: its file system does not support a write-ahead log.`
    return yield* new StoreRefused({ reason: "cannot be opened", sentence })
  }
  yield* sql`PRAGMA synchronous = FULL`
  yield* sql`PRAGMA temp_store = MEMORY`
  yield* checkpoint(sql)
  const begun = yield* transaction(sql, (sql) =>
    Effect.gen(function* () {
      if (known === 0) yield* sql.unsafe(`PRAGMA application_id = ${applicationId}`)
      if (known < latestMigration) {
        yield* migrate(sql)
        yield* checkSchema(name, sql)
      }
      yield* sql`UPDATE store SET opened = opened + 1`
      return yield* beginIfRestored(name, sql)
    })
  )
  const { synchronous } = yield* one(yield* sql<{ synchronous: number }>`PRAGMA synchronous`)
  if (synchronous !== 2) {
    const sentence = `The database ${name} would not survive a power cut: synchronous is ${synchronous}, not 2 (FULL).`
    return yield* new StoreRefused({ reason: "not durable", sentence })
  }
  if (begun !== undefined) yield* announce(begun)
})

const announce = ({ number, storeId, backupAt, lastOffset, baseOffset, clockBehind }: Epoch) =>
  Effect.logWarning(
    clockBehind
      ? "a backup was put into service, but the clock is behind it; offsets that were lost may be given out again"
      : "a backup was put into service: a new epoch begins, whose offsets are greater than any that were lost"
  ).pipe(
    Effect.annotateLogs({
      epoch: number,
      store_id: storeId,
      backup_at: isoTime(backupAt),
      last_offset: lastOffset,
      base_offset: baseOffset
    })
  )

/** Writes the whole WAL into the database file, syncs both, and empties the WAL. */
const checkpoint = Effect.fnUntraced(function* (sql: SqlClient.SqlClient) {
  const { busy } = yield* one(yield* sql<{ busy: number }>`PRAGMA wal_checkpoint(TRUNCATE)`)
  if (busy !== 0)
    return yield* new SqlError({ cause: { code: "SQLITE_BUSY" }, message: "checkpoint was blocked" })
})

/** How much room the disk must have before it counts as no longer full: as much as the largest event needs. */
const roomBytes = 1024 * 1024

/** Takes room in the database file and gives it back to the next events, or fails if the disk has none. */
const takeRoom = Effect.fnUntraced(function* (sql: SqlClient.SqlClient) {
  yield* checkpoint(sql)
  yield* transaction(sql, (sql) =>
    Effect.gen(function* () {
      yield* sql`DROP TABLE IF EXISTS room`
      yield* sql`CREATE TABLE room (bytes BLOB NOT NULL) STRICT`
      yield* sql`INSERT INTO room VALUES (zeroblob(${roomBytes}))`
    })
  )
  // Each time from the log into the file, so that the log has room as well. Dropped pages stay in the file, and are
  // used first.
  yield* checkpoint(sql)
  yield* transaction(sql, (sql) => sql`DROP TABLE room`)
})

/** Opens the database for the life of the scope, or says in one sentence why not. */
export const open: Effect.Effect<Connection, StoreRefused, Database | Metrics | Scope.Scope> = Effect.gen(
  function* () {
    const { name, connect, writeLogAgain } = yield* Database
    const metrics = yield* Metrics
    const lock = yield* Effect.makeSemaphore(1)
    const besides = yield* Effect.makeSemaphore(1)
    let session: Session | undefined
    let trouble: StoreError | undefined
    let damage: StoreDamaged | undefined
    let closed = false

    const connectAndPrepare = Effect.gen(function* () {
      const scope = yield* Scope.make()
      const attempt = Effect.gen(function* () {
        yield* writeLogAgain
        const sql = yield* held(yield* Scope.extend(connect, scope))
        yield* prepare(name, sql)
        session = { sql, scope }
        return sql
      })
      return yield* attempt.pipe(
        Effect.catchAllCause((cause) => {
          const error = Cause.squash(cause)
          const refused = error instanceof StoreRefused ? error : refusalOf(name, error)
          return Effect.zipRight(Effect.exit(Scope.close(scope, Exit.void)), refused)
        })
      )
    }).pipe(Effect.uninterruptible)

    const disconnect = Effect.suspend(() => {
      const scope = session?.scope
      session = undefined
      return scope === undefined ? Effect.void : Effect.exit(Scope.close(scope, Exit.void))
    })

    /** The connection in use, or a new one in place of one that had to be given up. */
    const current = Effect.suspend((): Effect.Effect<SqlClient.SqlClient, StoreError> => {
      if (damage !== undefined) return damage
      // A reader may outlive the service by a moment; the database must not be opened again for it.
      if (closed) return new StoreUnavailable({ trouble: "closed", cause: "the service is stopping" })
      if (session !== undefined) return Effect.succeed(session.sql)
      return connectAndPrepare.pipe(
        Effect.tap(() => metrics.connectionRebuilds.update(1)),
        Effect.tap(Effect.logWarning("the connection to the database was rebuilt")),
        Effect.mapError((refused) =>
          refused.reason === "damaged" ? new StoreDamaged({ cause: refused }) : storeErrorOf(refused)
        )
      )
    })

    /** After a failure: leaves the transaction if one is open, and gives the connection up if that cannot be proven. */
    const mend = Effect.fnUntraced(function* (sql: SqlClient.SqlClient) {
      yield* Effect.exit(sql`ROLLBACK`)
      const outside = yield* Effect.exit(Effect.zipRight(sql`BEGIN`, sql`ROLLBACK`))
      if (Exit.isFailure(outside)) yield* disconnect
    })

    /** What a failed use of the connection means for the store; damage is remembered, and ends all further use. */
    const failure = (cause: Cause.Cause<SqlError | StoreError>): Effect.Effect<never, StoreError> => {
      if (Cause.isInterruptedOnly(cause)) return Effect.interrupt
      const error = Cause.squash(cause)
      const known =
        error instanceof StoreUnavailable || error instanceof StoreDamaged ? error : storeErrorOf(error)
      if (known._tag === "StoreDamaged") damage = known
      const trouble = known._tag === "StoreDamaged" ? "damaged" : known.trouble
      if (trouble !== "closed") metrics.storeFailed(trouble)
      return Effect.fail(known)
    }

    const note = (error: StoreError | undefined) =>
      Effect.sync(() => {
        trouble = error
      })

    /**
     * Holds the connection for one use. It cannot be interrupted, not even while it waits: a permit that is granted to a
     * fiber which is interrupted before it runs is lost for good, and with it the connection for everyone.
     */
    const alone = <A, E>(use: Effect.Effect<A, E>): Effect.Effect<A, E> =>
      Effect.uninterruptible(lock.withPermits(1)(use))

    const beside: Connection["beside"] = (use) =>
      Effect.uninterruptible(besides.withPermits(1)(Effect.flatMap(alone(current), use)))

    const read: Connection["read"] = (body) =>
      Effect.flatMap(current, (sql) => body(sql)).pipe(Effect.catchAllCause(failure), alone)

    /** Runs what writes, takes note of how that went, and leaves no transaction open. */
    const writing = <A>(body: Statements<A>) =>
      Effect.flatMap(current, (sql) => Effect.tapErrorCause(body(sql), () => mend(sql))).pipe(
        Effect.catchAllCause(failure),
        Effect.tapBoth({
          onFailure: (error) => note(error),
          onSuccess: () => note(undefined)
        }),
        alone
      )

    const write: Connection["write"] = (body) => writing((sql) => transaction(sql, body))

    const probe = writing((sql) =>
      trouble?._tag === "StoreUnavailable" && trouble.trouble === "full"
        ? takeRoom(sql)
        : transaction(sql, (sql) => sql`UPDATE store SET opened = opened`)
    ).pipe(Effect.asVoid)

    yield* Effect.acquireRelease(connectAndPrepare, () =>
      alone(
        Effect.gen(function* () {
          closed = true
          if (session !== undefined) yield* Effect.exit(checkpoint(session.sql))
          yield* disconnect
        })
        // What was under way beside it ends now.
      ).pipe(Effect.zipRight(besides.withPermits(1)(Effect.void)))
    )

    return {
      read,
      write,
      probe,
      beside,
      inUse: () => (damage === undefined ? session?.sql : undefined),
      trouble: Effect.sync(() => Option.fromNullable(damage ?? trouble))
    }
  }
)
