/**
 * Real SQLite files for tests, opened the way the service opens them; and a fault injector that stands between the
 * store and the driver's connection, sees every statement, and may hold it up or let it fail.
 */
import { createHash } from "node:crypto"
import { copyFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Reactivity } from "@effect/experimental"
import { SqlClient } from "@effect/sql"
import type { Connection } from "@effect/sql/SqlConnection"
import { SqlError } from "@effect/sql/SqlError"
import { makeCompilerSqlite } from "@effect/sql/Statement"
import { Clock, Context, Effect, Exit, Layer, Scope } from "effect"
import { defaults, Settings } from "../../src/Config.ts"
import * as SqliteDatabase from "../../src/node/SqliteDatabase.ts"
import { Database } from "../../src/store/Database.ts"
import { EventStore, type Filter, type Scan, type Window } from "../../src/store/EventStore.ts"
import * as SqlEventStore from "../../src/store/SqlEventStore.ts"
import * as Metrics from "../../src/telemetry/Metrics.ts"

/** A store, as its users see it. */
export type Store = Context.Tag.Service<typeof EventStore>

/** An empty folder that goes away with the scope. */
export const temporaryFolder: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "sekali-test-"))),
  (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
)

/** The database in a file, as `main` wires it. */
export const databaseAt = (file: string): Layer.Layer<Database> =>
  SqliteDatabase.layer.pipe(Layer.provide(Layer.succeed(Settings, { ...defaults, database: `file:${file}` })))

/** The store over a database, open until the scope closes. */
export const openStore = (database: Layer.Layer<Database>) =>
  Effect.map(Layer.build(Layer.provide(SqlEventStore.layer, [database, Metrics.layer])), (context) =>
    Context.get(context, EventStore)
  )

/** The store in a file, open until the scope closes. */
export const openStoreAt = (file: string) => openStore(databaseAt(file))

/** The same with a scope of its own: `close` closes it before the test ends. */
export const openClosable = (database: Layer.Layer<Database>) =>
  Effect.gen(function* () {
    const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
    const store = yield* Scope.extend(openStore(database), scope)
    return { store, close: Scope.close(scope, Exit.void) }
  })

/** A statement on its way to the driver. */
export interface Statement {
  readonly sql: string
  /** Which connection it is for, counted from 1 in the order in which they were opened. */
  readonly connection: number
  readonly run: Effect.Effect<ReadonlyArray<unknown>, SqlError>
}

/** Decides what becomes of a statement: runs it, holds it up, or fails in its place. */
export type Intercept = (statement: Statement) => Effect.Effect<ReadonlyArray<unknown>, SqlError>

/** An error as the driver reports it. */
export const sqliteError = (code: string): SqlError =>
  new SqlError({ cause: Object.assign(new Error(`injected ${code}`), { code }), message: "injected" })

/** The database in a file, with every statement of every connection going through `intercept`. */
export const interceptedAt = (file: string, intercept: Intercept): Layer.Layer<Database> =>
  Layer.effect(
    Database,
    Effect.map(Database, ({ name, connect, writeLogAgain }) => {
      let connections = 0
      return {
        name,
        writeLogAgain,
        connect: Effect.flatMap(connect, (real) => interceptedClient(real, intercept, ++connections))
      }
    })
  ).pipe(Layer.provide(databaseAt(file)))

// The driver's client again, over the driver's own connection; its semaphore is rebuilt because it is not reachable.
const interceptedClient = (real: SqlClient.SqlClient, intercept: Intercept, connection: number) =>
  Effect.gen(function* () {
    const driver = yield* Effect.scoped(real.reserve)
    const through = (sql: string, run: Effect.Effect<ReadonlyArray<unknown>, SqlError>) =>
      intercept({ sql, connection, run })
    const wrapped: Connection = {
      execute: (sql, parameters, transform) => through(sql, driver.execute(sql, parameters, transform)),
      // Called once for each text; what it gives back is run for each statement, and prepared when it is let through.
      executeUnprepared: (sql, parameters, transform) => {
        let prepared: ReturnType<Connection["executeUnprepared"]> | undefined
        const run = Effect.suspend(() => {
          prepared ??= driver.executeUnprepared(sql, parameters, transform)
          return prepared
        })
        return Effect.suspend(() => through(sql, run))
      },
      executeRaw: driver.executeRaw,
      executeValues: driver.executeValues,
      executeStream: driver.executeStream
    }
    const semaphore = yield* Effect.makeSemaphore(1)
    const transactionAcquirer = Effect.uninterruptibleMask((restore) =>
      Effect.as(
        Effect.zipRight(
          restore(semaphore.take(1)),
          Effect.addFinalizer(() => semaphore.release(1))
        ),
        wrapped
      )
    )
    return yield* SqlClient.make({
      acquirer: semaphore.withPermits(1)(Effect.succeed(wrapped)),
      transactionAcquirer,
      compiler: makeCompilerSqlite(),
      spanAttributes: []
    })
  }).pipe(Effect.provide(Reactivity.layer))

/** What is in a file and the ones SQLite keeps beside it: a hash for each, under its name. */
export const fingerprint = (folder: string): Readonly<Record<string, string>> =>
  Object.fromEntries(
    readdirSync(folder)
      .sort()
      .map((name) => [
        name,
        createHash("sha256")
          .update(readFileSync(join(folder, name)))
          .digest("hex")
      ])
  )

/** Copies a database that is open, with its WAL: what a kill at this moment would leave behind. */
export const copyAsKilled = (from: string, to: string): void => {
  for (const suffix of ["", "-wal"]) {
    if (existsSync(from + suffix)) copyFileSync(from + suffix, to + suffix)
  }
}

/** Every window of a read, followed to its end. */
export const windowsOf = (store: Store, scan: Partial<Scan> = {}) =>
  Effect.gen(function* () {
    const windows: Array<Window> = []
    let after = scan.after
    while (true) {
      const window = yield* store.scan({ filter: {}, order: "asc", eventsMax: 1000, ...scan, after })
      windows.push(window)
      if (window.end) return windows
      if (window.scannedTo === after) throw new Error("a reader does not get on")
      after = window.scannedTo
    }
  })

/** Every event that a reader with this filter sees, in its order. */
export const eventsOf = (store: Store, filter: Filter = {}, scan: Partial<Scan> = {}) =>
  Effect.map(windowsOf(store, { ...scan, filter }), (windows) => windows.flatMap(({ events }) => events))

/** A wall clock that a test sets, also backwards; what sleeps, sleeps as always. */
export const makeWall = (start: number) => {
  let now = start
  const clock = Object.assign(Clock.make(), {
    unsafeCurrentTimeMillis: () => now,
    currentTimeMillis: Effect.sync(() => now)
  })
  return {
    clock,
    set: (milliseconds: number) => {
      now = milliseconds
    }
  }
}
