/**
 * The four traps of SQLite under Effect, each held shut by a test that fails when it is opened again. A fault injector
 * stands between the store and the driver: everything below it is the real driver on a real file.
 */
import { statSync } from "node:fs"
import type { SqlError } from "@effect/sql/SqlError"
import { describe, expect, it } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Cause, Deferred, Effect, Exit, Fiber, Layer, Option } from "effect"
import type { StoreError } from "../../src/domain/Errors.ts"
import { Database } from "../../src/store/Database.ts"
import { makeEvents } from "../support/events.ts"
import {
  copyAsKilled,
  databaseAt,
  eventsOf,
  type Intercept,
  interceptedAt,
  openClosable,
  openStore,
  openStoreAt,
  type Statement,
  sqliteError,
  temporaryFolder
} from "../support/stores.ts"

const temporaryFile = Effect.map(temporaryFolder, (folder) => `${folder}/sekali.db`)

const kindsOf = (outcomes: ReadonlyArray<{ readonly outcome: string }>) =>
  outcomes.map(({ outcome }) => outcome)

/** The error that an effect fails with, which must be a typed one. */
const errorOf = <A>(effect: Effect.Effect<A, StoreError>) =>
  Effect.map(Effect.exit(effect), (exit) => {
    if (Exit.isSuccess(exit)) throw new Error("it did not fail")
    return Option.getOrThrowWith(Cause.failureOption(exit.cause), () => new Error(Cause.pretty(exit.cause)))
  })

/** Intercepts statements, with a rule that can be changed while the store is open. */
const makeFaults = () => {
  let rule: Intercept = ({ run }) => run
  const seen: Array<Statement> = []
  return {
    seen,
    intercept: ((statement) =>
      Effect.suspend(() => {
        seen.push(statement)
        return rule(statement)
      })) satisfies Intercept,
    rule: (next: Intercept) => {
      rule = next
    },
    heal: () => {
      rule = ({ run }) => run
    },
    connections: () => Math.max(0, ...seen.map(({ connection }) => connection))
  }
}

const read = (file: string, sql: string) => {
  const database = new Sqlite(file, { readonly: true })
  try {
    return database.prepare(sql).all() as ReadonlyArray<Record<string, unknown>>
  } finally {
    database.close()
  }
}

describe("Trap 1: durability", () => {
  it.scoped("Trap 1: the store's connection is at synchronous=FULL after it has written", () =>
    Effect.gen(function* () {
      const file = yield* temporaryFile
      let client: Effect.Effect.Success<Database["Type"]["connect"]> | undefined
      const database = Layer.effect(
        Database,
        Effect.map(Database, ({ name, connect, writeLogAgain }) => ({
          name,
          writeLogAgain,
          connect: Effect.tap(connect, (sql) =>
            Effect.sync(() => {
              client = sql
            })
          )
        }))
      ).pipe(Layer.provide(databaseAt(file)))
      const levels = () => client?.unsafe<{ synchronous: number }>("PRAGMA synchronous") ?? Effect.succeed([])
      // Both a new file and, where the driver's default is weaker, a reopened one.
      for (const round of [0, 1]) {
        const { store, close } = yield* openClosable(database)
        expect(yield* levels()).toEqual([{ synchronous: 2 }])
        yield* store.append(makeEvents(3, {}, `${round}-`))
        yield* eventsOf(store)
        expect(yield* levels()).toEqual([{ synchronous: 2 }])
        yield* close
      }
    })
  )

  it.scoped("Trap 1: a rebuilt connection is at synchronous=FULL too", () =>
    Effect.gen(function* () {
      const file = yield* temporaryFile
      const faults = makeFaults()
      const store = yield* openStore(interceptedAt(file, faults.intercept))
      faults.rule(({ sql, run }) =>
        sql === "COMMIT" || sql === "ROLLBACK" ? sqliteError("SQLITE_IOERR") : run
      )
      yield* errorOf(store.append(makeEvents(1)))
      faults.heal()
      yield* store.append(makeEvents(1))
      expect(faults.connections()).toBe(2)
      const ofSecond = faults.seen.filter(({ connection }) => connection === 2)
      const last = ofSecond.findLast(({ sql }) => sql === "PRAGMA synchronous")
      expect(yield* last?.run ?? Effect.succeed([])).toEqual([{ synchronous: 2 }])
    })
  )

  it.scoped("Trap 1: a database that does not keep synchronous=FULL is refused", () =>
    Effect.gen(function* () {
      const file = yield* temporaryFile
      const database = interceptedAt(file, ({ sql, run }) =>
        /^PRAGMA synchronous = /.test(sql) ? Effect.succeed([]) : run
      )
      const refused = yield* Effect.flip(openStore(database))
      expect(refused.reason).toBe("not durable")
      expect(refused.sentence).toContain("synchronous is 1, not 2 (FULL)")
      expect(refused.sentence).toContain(file)
    })
  )

  it.scoped("Trap 1: what was read back is what holds after the first write, not before", () =>
    Effect.gen(function* () {
      const file = yield* temporaryFile
      const faults = makeFaults()
      yield* openStore(interceptedAt(file, faults.intercept))
      const position = (sql: string) => faults.seen.findIndex((statement) => statement.sql === sql)
      expect(position("COMMIT")).toBeGreaterThan(-1)
      expect(position("PRAGMA synchronous")).toBeGreaterThan(position("COMMIT"))
    })
  )
})

describe("Trap 2: a failed COMMIT", () => {
  // What the driver could do, and how @effect/sql would report it.
  const failures: ReadonlyArray<readonly [string, (statement: Statement) => Effect.Effect<never, SqlError>]> =
    [
      ["fails", () => sqliteError("SQLITE_IOERR_FSYNC")],
      ["fails as a defect", () => Effect.die(sqliteError("SQLITE_IOERR_FSYNC"))]
    ]

  for (const [how, fail] of failures) {
    it.scoped(`Trap 2: a COMMIT that ${how} is StoreUnavailable, and the next append and read work`, () =>
      Effect.gen(function* () {
        const file = yield* temporaryFile
        const faults = makeFaults()
        const store = yield* openStore(interceptedAt(file, faults.intercept))
        yield* store.append(makeEvents(2, {}, "before-"))
        const before = yield* store.books

        faults.rule((statement) => (statement.sql === "COMMIT" ? fail(statement) : statement.run))
        const error = yield* errorOf(store.append(makeEvents(3, {}, "lost-")))
        expect(error).toMatchObject({ _tag: "StoreUnavailable", trouble: "io" })
        faults.heal()

        // The very next statements: nothing of the batch is there, and the connection is out of the transaction.
        expect(yield* store.books).toEqual(before)
        expect(Option.isSome(yield* store.trouble)).toBe(true)
        const outcomes = yield* store.append(makeEvents(3, {}, "lost-"))
        expect(kindsOf(outcomes)).toEqual(["stored", "stored", "stored"])
        expect(outcomes[0]?.offset).toBe(3)
        expect(Option.isNone(yield* store.trouble)).toBe(true)
        expect(faults.connections()).toBe(1)
      })
    )
  }

  it.scoped("Trap 2: the append after the failure needs no read in between", () =>
    Effect.gen(function* () {
      const file = yield* temporaryFile
      const faults = makeFaults()
      const store = yield* openStore(interceptedAt(file, faults.intercept))
      faults.rule(({ sql, run }) => (sql === "COMMIT" ? sqliteError("SQLITE_BUSY") : run))
      for (let round = 0; round < 3; round++) {
        expect(yield* errorOf(store.append(makeEvents(1)))).toMatchObject({ trouble: "busy" })
      }
      faults.heal()
      expect(kindsOf(yield* store.append(makeEvents(1)))).toEqual(["stored"])
      // And it is on disk, in a transaction of its own.
      copyAsKilled(file, `${file}.copy`)
      expect(read(`${file}.copy`, "SELECT event_id FROM event")).toEqual([{ event_id: "e0" }])
    })
  )

  it.scoped("Trap 2: any statement that fails takes the whole batch with it, and nothing else", () =>
    Effect.gen(function* () {
      const file = yield* temporaryFile
      const faults = makeFaults()
      const store = yield* openStore(interceptedAt(file, faults.intercept))
      yield* store.append(makeEvents(2))
      faults.seen.length = 0
      // A batch that needs every statement of an append: a new topic, a new event, a duplicate, a conflict.
      const batch = [
        ...makeEvents(2, { payload: "1" }).slice(0, 1),
        ...makeEvents(2),
        ...makeEvents(2, { topic: "new" })
      ]
      const rehearsal = yield* openStore(interceptedAt(`${file}.rehearsal`, faults.intercept))
      yield* rehearsal.append(makeEvents(2))
      faults.seen.length = 0
      yield* rehearsal.append(batch)
      const statements = faults.seen.length
      expect(statements).toBeGreaterThan(6)

      const before = yield* store.books
      for (let failing = 1; failing <= statements; failing++) {
        let count = 0
        faults.rule(({ run }) => (++count === failing ? sqliteError("SQLITE_IOERR_WRITE") : run))
        expect(yield* errorOf(store.append(batch))).toMatchObject({ _tag: "StoreUnavailable", trouble: "io" })
        faults.heal()
        expect(yield* store.books).toEqual(before)
      }
      expect(kindsOf(yield* store.append(batch))).toEqual([
        "conflict",
        "duplicate",
        "duplicate",
        "stored",
        "stored"
      ])
    })
  )

  it.scoped("Trap 2: where ROLLBACK fails too, the connection is rebuilt and works", () =>
    Effect.gen(function* () {
      const file = yield* temporaryFile
      const faults = makeFaults()
      const store = yield* openStore(interceptedAt(file, faults.intercept))
      yield* store.append(makeEvents(2))
      const before = yield* store.books
      faults.rule(({ sql, run }) =>
        sql === "COMMIT" || sql === "ROLLBACK" ? sqliteError("SQLITE_IOERR") : run
      )
      expect(yield* errorOf(store.append(makeEvents(5)))).toMatchObject({ trouble: "io" })
      faults.heal()
      expect(yield* store.books).toEqual(before)
      expect(faults.connections()).toBe(2)
      expect(kindsOf(yield* store.append(makeEvents(3)))).toEqual(["duplicate", "duplicate", "stored"])
      expect(faults.connections()).toBe(2)
    })
  )

  it.scoped(
    "Trap 2: as long as the connection cannot be rebuilt the store is unavailable, and then it is well",
    () =>
      Effect.gen(function* () {
        const file = yield* temporaryFile
        const faults = makeFaults()
        const store = yield* openStore(interceptedAt(file, faults.intercept))
        yield* store.append(makeEvents(1))
        faults.rule(({ sql, run }) =>
          /^(COMMIT|ROLLBACK|PRAGMA)/.test(sql) ? sqliteError("SQLITE_CANTOPEN") : run
        )
        for (let round = 0; round < 3; round++) {
          expect(yield* errorOf(store.append(makeEvents(2)))).toMatchObject({ trouble: "io" })
          expect(yield* errorOf(store.books)).toMatchObject({ trouble: "io" })
        }
        faults.heal()
        expect(kindsOf(yield* store.append(makeEvents(2)))).toEqual(["duplicate", "stored"])
        expect(Option.isNone(yield* store.trouble)).toBe(true)
      })
  )

  it.scoped("G2: after a COMMIT that failed although it was done, sending again stores nothing twice", () =>
    Effect.gen(function* () {
      const file = yield* temporaryFile
      const faults = makeFaults()
      const store = yield* openStore(interceptedAt(file, faults.intercept))
      faults.rule(({ sql, run }) =>
        sql === "COMMIT" ? Effect.zipRight(run, sqliteError("SQLITE_IOERR")) : run
      )
      yield* errorOf(store.append(makeEvents(3)))
      faults.heal()
      expect(kindsOf(yield* store.append(makeEvents(3)))).toEqual(["duplicate", "duplicate", "duplicate"])
      expect(yield* store.books).toMatchObject({ received: 6, uniqueProcessed: 3, duplicateDropped: 3 })
    })
  )

  it.scoped("a write is not cut short: whoever waits for it may go away, and it is committed whole", () =>
    Effect.gen(function* () {
      const file = yield* temporaryFile
      const faults = makeFaults()
      const store = yield* openStore(interceptedAt(file, faults.intercept))
      const reached = yield* Deferred.make<void>()
      const goOn = yield* Deferred.make<void>()
      faults.rule(({ sql, run }) =>
        sql.includes("INSERT INTO event")
          ? Effect.zipRight(Deferred.succeed(reached, undefined), Effect.zipRight(Deferred.await(goOn), run))
          : run
      )
      const writer = yield* Effect.fork(store.append(makeEvents(3)))
      yield* Deferred.await(reached)
      const interrupted = yield* Effect.fork(Fiber.interrupt(writer))
      yield* Effect.yieldNow()
      yield* Deferred.succeed(goOn, undefined)
      yield* Fiber.join(interrupted)
      faults.heal()
      expect(yield* store.books).toMatchObject({ received: 3, uniqueProcessed: 3 })
    })
  )
})

describe("Trap 3: dirty reads", () => {
  /** Holds the append up before a statement, starts every kind of read meanwhile, then lets the append fail. */
  const readDuring = (held: RegExp) =>
    Effect.gen(function* () {
      const file = yield* temporaryFile
      const faults = makeFaults()
      const store = yield* openStore(interceptedAt(file, faults.intercept))
      yield* store.append(makeEvents(2))
      const seen = Effect.all([
        Effect.orDie(eventsOf(store)),
        store.books,
        store.lookup({ ...makeEvents(3)[2], topic: "system.metrics.cpu", eventId: "e2" }),
        store.topics({ after: undefined, limit: 10 }),
        store.conflicts({ after: undefined, limit: 10 })
      ])
      const before = yield* seen

      const reached = yield* Deferred.make<void>()
      const goOn = yield* Deferred.make<void>()
      faults.rule(({ sql, run }) =>
        Effect.gen(function* () {
          if (held.test(sql)) {
            yield* Deferred.succeed(reached, undefined)
            yield* Deferred.await(goOn)
          }
          if (sql === "COMMIT") return yield* sqliteError("SQLITE_IOERR_FSYNC")
          return yield* run
        })
      )
      const writer = yield* Effect.fork(Effect.exit(store.append(makeEvents(4, { payload: "1" }))))
      yield* Deferred.await(reached)
      const reader = yield* Effect.fork(seen)
      // All that can run without the append going on, runs.
      yield* Effect.repeatN(Effect.yieldNow(), 200)
      yield* Deferred.succeed(goOn, undefined)
      expect(Exit.isFailure(yield* Fiber.join(writer))).toBe(true)
      expect(yield* Fiber.join(reader)).toEqual(before)
      faults.heal()
      expect(yield* seen).toEqual(before)
    })

  it.scoped("Trap 3: a read that is begun inside an append that fails sees nothing of it", () =>
    readDuring(/^\s*UPDATE store/)
  )

  it.scoped("Trap 3: nor does one that is begun between the failed COMMIT and the ROLLBACK", () =>
    readDuring(/^ROLLBACK$/)
  )

  it.scoped("Trap 3: nor does one that is under way when the append begins", () =>
    Effect.gen(function* () {
      const file = yield* temporaryFile
      const faults = makeFaults()
      const store = yield* openStore(interceptedAt(file, faults.intercept))
      yield* store.append(makeEvents(2))
      const listing = store.topics({ after: undefined, limit: 10 })
      const before = yield* listing
      const reached = yield* Deferred.make<void>()
      const goOn = yield* Deferred.make<void>()
      const readDone = yield* Deferred.make<void>()
      // The read stands still with the connection in its hand; the append, if it comes so far, waits for the read.
      faults.rule(({ sql, run }) =>
        Effect.gen(function* () {
          if (sql.includes("FROM topic WHERE name >")) {
            yield* Deferred.succeed(reached, undefined)
            yield* Deferred.await(goOn)
          }
          if (sql === "COMMIT") {
            yield* Deferred.await(readDone)
            return yield* sqliteError("SQLITE_IOERR_FSYNC")
          }
          return yield* run
        })
      )
      const reader = yield* Effect.fork(listing)
      yield* Deferred.await(reached)
      const writer = yield* Effect.fork(Effect.exit(store.append(makeEvents(4))))
      yield* Effect.repeatN(Effect.yieldNow(), 200)
      yield* Deferred.succeed(goOn, undefined)
      const seen = yield* Fiber.join(reader)
      yield* Deferred.succeed(readDone, undefined)
      expect(Exit.isFailure(yield* Fiber.join(writer))).toBe(true)
      expect(seen).toEqual(before)
    })
  )

  it.scoped("Trap 3: all statements of one read see one committed state", () =>
    Effect.gen(function* () {
      const file = yield* temporaryFile
      const faults = makeFaults()
      const store = yield* openStore(interceptedAt(file, faults.intercept))
      yield* store.append(makeEvents(2, { topic: "a" }))
      const reached = yield* Deferred.make<void>()
      const goOn = yield* Deferred.make<void>()
      faults.rule(({ sql, run }) =>
        sql.includes("SELECT name FROM topic")
          ? Effect.zipRight(Deferred.succeed(reached, undefined), Effect.zipRight(Deferred.await(goOn), run))
          : run
      )
      const reader = yield* Effect.fork(store.books)
      yield* Deferred.await(reached)
      const writer = yield* Effect.fork(store.append(makeEvents(2, { topic: "b" })))
      yield* Effect.repeatN(Effect.yieldNow(), 200)
      yield* Deferred.succeed(goOn, undefined)
      expect(yield* Fiber.join(reader)).toMatchObject({ received: 2, topicsTotal: 1, topics: ["a"] })
      yield* Fiber.join(writer)
      expect(yield* store.books).toMatchObject({ received: 4, topicsTotal: 2, topics: ["a", "b"] })
    })
  )
})

describe("Trap 4: recovered but not synced", () => {
  /** A database as a kill leaves it: its newest commits are in the WAL alone. */
  const leftByKill = Effect.gen(function* () {
    const live = yield* temporaryFile
    const killed = yield* temporaryFile
    const store = yield* openStoreAt(live)
    yield* store.append(makeEvents(10))
    copyAsKilled(live, killed)
    expect(statSync(`${killed}-wal`).size).toBeGreaterThan(0)
    return killed
  })
  const isCheckpoint = (sql: string) => /wal_checkpoint\(TRUNCATE\)/i.test(sql)

  it.scoped(
    "Trap 4: after a kill the WAL is in the database file and empty before the first write or read",
    () =>
      Effect.gen(function* () {
        const file = yield* leftByKill
        const order: Array<string> = []
        const store = yield* openStore(
          interceptedAt(file, ({ sql, run }) =>
            Effect.tap(run, () =>
              Effect.sync(() => {
                order.push(sql)
                if (!isCheckpoint(sql)) return
                expect(statSync(`${file}-wal`).size).toBe(0)
                // The file alone has it all.
                copyAsKilled(file, `${file}.alone`)
                expect(read(`${file}.alone`, "SELECT count(*) AS events FROM event")).toEqual([
                  { events: 10 }
                ])
              })
            )
          )
        )
        expect(yield* Effect.orDie(eventsOf(store))).toHaveLength(10)
        const first = (kind: RegExp) => order.findIndex((sql) => kind.test(sql))
        const checkpoint = order.findIndex(isCheckpoint)
        expect(checkpoint).toBeGreaterThan(-1)
        expect(first(/^BEGIN/)).toBeGreaterThan(checkpoint)
        expect(first(/FROM event\b/)).toBeGreaterThan(checkpoint)
        // And the checkpoint itself is synced.
        expect(first(/^PRAGMA synchronous = FULL/)).toBeLessThan(checkpoint)
        expect(first(/^PRAGMA synchronous = FULL/)).toBeGreaterThan(-1)
      })
  )

  it.scoped("Trap 4: the same holds for a connection that is rebuilt", () =>
    Effect.gen(function* () {
      const file = yield* temporaryFile
      const faults = makeFaults()
      const store = yield* openStore(interceptedAt(file, faults.intercept))
      yield* store.append(makeEvents(1))
      faults.rule(({ sql, run }) =>
        sql === "COMMIT" || sql === "ROLLBACK" ? sqliteError("SQLITE_IOERR") : run
      )
      yield* errorOf(store.append(makeEvents(2)))
      faults.heal()
      yield* store.books
      const second = faults.seen.filter(({ connection }) => connection === 2).map(({ sql }) => sql)
      const checkpoint = second.findIndex(isCheckpoint)
      expect(checkpoint).toBeGreaterThan(-1)
      expect(second.findIndex((sql) => /^BEGIN|SELECT received/.test(sql))).toBeGreaterThan(checkpoint)
    })
  )

  it.scoped("Trap 4: a database whose WAL cannot be synced is not opened", () =>
    Effect.gen(function* () {
      const file = yield* leftByKill
      const failing = interceptedAt(file, ({ sql, run }) =>
        isCheckpoint(sql) ? sqliteError("SQLITE_IOERR_FSYNC") : run
      )
      const refused = yield* Effect.flip(openStore(failing))
      expect(refused.reason).toBe("cannot be opened")
      expect(refused.sentence).toContain("the disk reported an error")
      const blocked = interceptedAt(file, ({ sql, run }) =>
        isCheckpoint(sql) ? Effect.succeed([{ busy: 1, log: 5, checkpointed: 0 }]) : run
      )
      expect((yield* Effect.flip(openStore(blocked))).reason).toBe("in use")
      // Nothing is lost by it.
      expect(yield* (yield* openStoreAt(file)).books).toMatchObject({ uniqueProcessed: 10 })
    })
  )

  it.scoped("Trap 4: a rebuilt connection whose WAL cannot be synced is not read from", () =>
    Effect.gen(function* () {
      const file = yield* temporaryFile
      const faults = makeFaults()
      const store = yield* openStore(interceptedAt(file, faults.intercept))
      yield* store.append(makeEvents(1))
      faults.rule(({ sql, run }) =>
        isCheckpoint(sql) || sql === "COMMIT" || sql === "ROLLBACK" ? sqliteError("SQLITE_IOERR") : run
      )
      yield* errorOf(store.append(makeEvents(2)))
      expect(yield* errorOf(store.books)).toMatchObject({ _tag: "StoreUnavailable", trouble: "io" })
      faults.heal()
      expect(yield* store.books).toMatchObject({ received: 1 })
    })
  )
})

it.scoped("closing writes the WAL into the database file and leaves nothing beside it", () =>
  Effect.gen(function* () {
    const file = yield* temporaryFile
    const { store, close } = yield* openClosable(databaseAt(file))
    yield* store.append(makeEvents(5))
    yield* close
    expect(() => statSync(`${file}-wal`)).toThrow("ENOENT")
    expect(read(file, "SELECT count(*) AS events FROM event")).toEqual([{ events: 5 }])
  })
)
