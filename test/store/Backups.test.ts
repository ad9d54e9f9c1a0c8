/**
 * Backups of a store that is in use, from inside: whatever its connection is doing, what comes out is a whole backup of
 * a committed state, or nothing at all.
 */
import { existsSync, readdirSync, statSync, writeFileSync } from "node:fs"
import type { SqlClient } from "@effect/sql"
import type { SqlError } from "@effect/sql/SqlError"
import type { SqliteClient } from "@effect/sql-sqlite-node"
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Exit, Fiber, Layer, Scope, Stream } from "effect"
import { checkAtRest } from "../../src/node/AtRest.ts"
import { receive } from "../../src/node/BackupFiles.ts"
import { type Backup, Backups, backupName } from "../../src/store/Backups.ts"
import { Database } from "../../src/store/Database.ts"
import { EventStore } from "../../src/store/EventStore.ts"
import * as SqlEventStore from "../../src/store/SqlEventStore.ts"
import * as Metrics from "../../src/telemetry/Metrics.ts"
import { makeEvents } from "../support/events.ts"
import { databaseAt, sqliteError, temporaryFolder } from "../support/stores.ts"

/** Stands between the store and what its transactions begin and end with; everything else is the driver's affair. */
type Control = (
  sql: string,
  run: Effect.Effect<ReadonlyArray<unknown>, SqlError>
) => Effect.Effect<ReadonlyArray<unknown>, SqlError>

const controlled = (
  file: string,
  control: Control,
  asItBegins: Effect.Effect<void> = Effect.void
): Layer.Layer<Database> =>
  Layer.effect(
    Database,
    Effect.map(Database, (database) => ({
      ...database,
      connect: Effect.map(database.connect, (client) => {
        const reserve = Effect.map(client.reserve, (connection) => ({
          ...connection,
          // Called once for each text; what it gives back is run for each statement.
          executeUnprepared: (...call: Parameters<typeof connection.executeUnprepared>) => {
            const run = connection.executeUnprepared(...call)
            return Effect.suspend(() => control(call[0], run))
          }
        }))
        return new Proxy(client, {
          get: (target, name, receiver): unknown => {
            if (name === "reserve") return reserve
            if (name !== "backup") return Reflect.get(target, name, receiver)
            const { backup } = target as SqliteClient.SqliteClient
            // The driver has asked the system about the file, but made no step, when the second one runs.
            return (to: string) => Effect.zipLeft(backup(to), asItBegins, { concurrent: true })
          }
        }) as SqlClient.SqlClient
      })
    }))
  ).pipe(Layer.provide(databaseAt(file)))

const open = (database: Layer.Layer<Database>) =>
  Effect.map(Layer.build(Layer.provide(SqlEventStore.layer, [database, Metrics.layer])), (context) => ({
    store: Context.get(context, EventStore),
    backups: Context.get(context, Backups)
  }))

const padding = JSON.stringify("x".repeat(10_000))

/** About 30 MB: some thousands of pages, and more than SQLite keeps in memory. */
const fill = (store: Context.Tag.Service<typeof EventStore>) =>
  store.append(makeEvents(3000, { payload: padding }, "old-"))

const save = (backup: Backup, to: string) => receive(to, backup.content)

const namesIn = (folder: string) => readdirSync(folder).sort()

const copyOf = (file: string) => `${file}-backup`

/** Lets the event loop turn until something is so. */
const turnUntil = (condition: () => boolean) =>
  Effect.async<void>((resume) => {
    const look = () => (condition() ? resume(Effect.void) : setImmediate(look))
    look()
  })

const turns = (count: number) => {
  let left = count
  return turnUntil(() => left-- <= 0)
}

const sizeOf = (file: string) => statSync(file, { throwIfNoEntry: false })?.size ?? 0

describe("a backup that is asked for while a transaction is open", () => {
  it.scoped("waits for its end, and holds all of it, also where its very first step finds that", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      const file = `${folder}/sekali.db`
      const commits = yield* Effect.makeLatch(true)
      let held = false
      const holding: Control = (sql, run) =>
        sql === "COMMIT"
          ? Effect.zipRight(
              Effect.sync(() => {
                held = true
              }),
              Effect.zipRight(commits.await, run)
            )
          : run
      let asItBegins: Effect.Effect<void> = Effect.void
      const once = Effect.suspend(() => {
        const first = asItBegins
        asItBegins = Effect.void
        return first
      })
      const { store, backups } = yield* open(controlled(file, holding, once))
      // However this ends, the store can close.
      yield* Effect.addFinalizer(() => commits.open)
      yield* store.append(makeEvents(10))
      held = false
      yield* commits.close
      asItBegins = Effect.asVoid(Effect.forkDaemon(Effect.orDie(store.append(makeEvents(20)))))
      const taking = yield* Effect.fork(backups.take)
      yield* turnUntil(() => existsSync(copyOf(file)) && held)
      yield* turns(300)
      expect(sizeOf(copyOf(file))).toBe(0)
      expect(yield* Fiber.poll(taking)).toMatchObject({ _tag: "None" })
      yield* commits.open
      yield* save(yield* Fiber.join(taking), `${folder}/backup.db`)
      expect(yield* checkAtRest(`${folder}/backup.db`)).toMatchObject({
        sound: true,
        figures: { received: 30, uniqueProcessed: 20 }
      })
    })
  )

  it.scoped("holds nothing of one that is rolled back, however much of it was written already", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      const file = `${folder}/sekali.db`
      let hold = false
      let held = false
      const goOn = yield* Effect.makeLatch(false)
      yield* Effect.scoped(Effect.flatMap(open(databaseAt(file)), ({ store }) => fill(store)))
      const { store, backups } = yield* open(
        controlled(file, (sql, run) => {
          if (sql !== "COMMIT" || !hold) return run
          held = true
          return Effect.zipRight(goOn.await, sqliteError("SQLITE_IOERR_FSYNC"))
        })
      )
      // However this ends, the store can close.
      yield* Effect.addFinalizer(() => goOn.open)
      const taking = yield* Effect.fork(backups.take)
      yield* turnUntil(() => sizeOf(copyOf(file)) > 2_000_000)
      hold = true
      const log = sizeOf(`${file}-wal`)
      const appending = yield* Effect.fork(
        Effect.exit(store.append(makeEvents(4000, { payload: padding, topic: "lost" }, "old-")))
      )
      yield* turnUntil(() => held)
      // More than SQLite keeps in memory of a transaction: it is in the log, and what was copied before is changed.
      expect(sizeOf(`${file}-wal`) - log).toBeGreaterThan(10_000_000)
      yield* turns(300)
      expect(yield* Fiber.poll(taking)).toMatchObject({ _tag: "None" })
      hold = false
      yield* goOn.open
      expect(Exit.isFailure(yield* Fiber.join(appending))).toBe(true)
      yield* store.append(makeEvents(5))
      yield* save(yield* Fiber.join(taking), `${folder}/backup.db`)
      const { sound, figures } = yield* checkAtRest(`${folder}/backup.db`)
      expect([sound, figures?.topics]).toEqual([true, 1])
      expect(figures?.received).toBeGreaterThanOrEqual(3000)
    })
  )
})

describe("a backup that cannot be finished", () => {
  it.scoped("because the connection was given up fails, leaves nothing, and the next one is made", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      const file = `${folder}/sekali.db`
      let broken = false
      const { store, backups } = yield* open(
        controlled(file, (sql, run) =>
          broken && /^(COMMIT|ROLLBACK|BEGIN)/.test(sql) ? sqliteError("SQLITE_IOERR") : run
        )
      )
      yield* fill(store)
      const taking = yield* Effect.fork(Effect.flip(Effect.scoped(backups.take)))
      yield* turnUntil(() => sizeOf(copyOf(file)) > 1_000_000)
      broken = true
      yield* Effect.flip(store.append(makeEvents(1)))
      broken = false
      expect(yield* Fiber.join(taking)).toMatchObject({ _tag: "BackupFailed", problem: { status: 503 } })
      expect(namesIn(folder).filter((name) => name.includes("backup"))).toEqual([])
      yield* store.append(makeEvents(1))
      yield* save(yield* backups.take, `${folder}/copy.db`)
      expect(yield* checkAtRest(`${folder}/copy.db`)).toMatchObject({
        sound: true,
        figures: { received: 3001 }
      })
    })
  )

  it.scoped("because the store closes ends with it, and leaves nothing", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      const file = `${folder}/sekali.db`
      const scope = yield* Scope.make()
      const { store, backups } = yield* Scope.extend(open(databaseAt(file)), scope)
      yield* fill(store)
      const taking = yield* Effect.fork(Effect.exit(Effect.scoped(backups.take)))
      yield* turnUntil(() => sizeOf(copyOf(file)) > 1_000_000)
      yield* Scope.close(scope, Exit.void)
      expect(namesIn(folder)).toEqual(["sekali.db"])
      expect(yield* Fiber.join(taking)).toMatchObject({ _tag: "Failure" })
      expect(yield* Effect.flip(Effect.scoped(backups.take))).toMatchObject({ trouble: "closed" })
    })
  )

  it.scoped(
    "because who asked for it goes away is given up when the copy is made, and the next one is made",
    () =>
      Effect.gen(function* () {
        const folder = yield* temporaryFolder
        const file = `${folder}/sekali.db`
        const { store, backups } = yield* open(databaseAt(file))
        yield* fill(store)
        const taking = yield* Effect.fork(Effect.scoped(backups.take))
        yield* turnUntil(() => sizeOf(copyOf(file)) > 1_000_000)
        // Meanwhile it is nobody else's to read.
        for (const suffix of ["", "-journal"])
          expect(statSync(copyOf(file) + suffix).mode & 0o777).toBe(0o600)
        const interrupting = yield* Effect.fork(Fiber.interrupt(taking))
        expect(yield* Effect.flip(Effect.scoped(backups.take))).toMatchObject({ _tag: "BackupUnderWay" })
        yield* Fiber.join(interrupting)
        expect(namesIn(folder)).toEqual(["sekali.db", "sekali.db-wal"])
        expect(yield* Effect.scoped(Effect.map(backups.take, ({ bytes }) => bytes))).toBeGreaterThan(
          30_000_000
        )
      })
  )
})

describe("a backup", () => {
  it.scoped("is there as long as its scope, one at a time, and nothing of it is to be seen", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      const file = `${folder}/sekali.db`
      const { store, backups } = yield* open(databaseAt(file))
      yield* store.append(makeEvents(3))
      const { storeId } = yield* store.books
      yield* Effect.scoped(
        Effect.gen(function* () {
          const backup = yield* backups.take
          expect(backup).toMatchObject({ storeId, at: 0 })
          expect(namesIn(folder)).toEqual(["sekali.db", "sekali.db-wal"])
          expect(yield* Stream.runFold(backup.content, 0, (sum, { length }) => sum + length)).toBe(
            backup.bytes
          )
          expect(yield* Effect.flip(Effect.scoped(backups.take))).toMatchObject({ _tag: "BackupUnderWay" })
          // What is read a second time is the same.
          yield* store.append(makeEvents(300, { payload: padding }))
          expect(yield* Stream.runFold(backup.content, 0, (sum, { length }) => sum + length)).toBe(
            backup.bytes
          )
        })
      )
      yield* save(yield* backups.take, `${folder}/copy.db`)
      expect(yield* checkAtRest(`${folder}/copy.db`)).toMatchObject({ figures: { received: 303, storeId } })
    })
  )

  it.scoped("makes away with what a kill has left of another one, at the start and before each", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      const file = `${folder}/sekali.db`
      const leave = () => {
        for (const suffix of ["", "-journal", "-wal", "-shm"])
          writeFileSync(copyOf(file) + suffix, "left by a kill")
      }
      leave()
      const { store, backups } = yield* open(databaseAt(file))
      expect(namesIn(folder)).toEqual(["sekali.db", "sekali.db-wal"])
      yield* store.append(makeEvents(3))
      leave()
      yield* save(yield* backups.take, `${folder}/copy.db`)
      expect(namesIn(folder)).toEqual(["copy.db", "sekali.db", "sekali.db-wal"])
      expect((yield* checkAtRest(`${folder}/copy.db`)).sound).toBe(true)
    })
  )

  it.scoped("of a store that is refused is not touched by who was refused", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      const file = `${folder}/sekali.db`
      yield* open(databaseAt(file))
      writeFileSync(copyOf(file), "the copy of who holds the database")
      yield* Effect.flip(Effect.scoped(open(databaseAt(file))))
      expect(existsSync(copyOf(file))).toBe(true)
    })
  )

  it.scoped("is refused where the database cannot be copied in use", () =>
    Effect.gen(function* () {
      const withoutCopies = Layer.effect(
        Database,
        Effect.map(Database, ({ name, connect, writeLogAgain }) => ({ name, connect, writeLogAgain }))
      ).pipe(Layer.provide(databaseAt(`${yield* temporaryFolder}/sekali.db`)))
      const { backups } = yield* open(withoutCopies)
      expect(yield* Effect.flip(Effect.scoped(backups.take))).toMatchObject({
        _tag: "BackupUnsupported",
        problem: { status: 501 }
      })
    })
  )

  it("has a name that says whose it is and when, in the order of time", () => {
    expect(backupName("sekali-1f", Date.UTC(2026, 10, 22, 10, 0, 0, 7))).toBe(
      "sekali-1f-20261122T100000007Z.db"
    )
    expect(backupName("x", 1e12, "")).toBe("x-20010909T014640000Z")
  })
})
