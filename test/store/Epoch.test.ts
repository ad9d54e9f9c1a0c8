/**
 * The store's identity and its epochs: what an older database gets, what a restored backup begins, and what becomes of
 * the cursors of readers (G5).
 */
import { copyFileSync } from "node:fs"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Logger, Option, TestClock } from "effect"
import { latestMigration } from "../../src/store/Migrations.ts"
import { edit, makeVersionOne, rowsOf } from "../support/databases.ts"
import { makeEvents } from "../support/events.ts"
import {
  databaseAt,
  eventsOf,
  interceptedAt,
  openClosable,
  openStore,
  openStoreAt,
  type Store,
  sqliteError,
  temporaryFolder
} from "../support/stores.ts"

const day = 86_400_000
const start = Date.UTC(2026, 10, 22)

/** The offset from which an epoch goes on that begins at this time. */
const baseAt = (milliseconds: number) => (milliseconds - Date.UTC(2020, 0, 1)) * 1000

const storeIdShape = /^[0-9a-f]{16}$/

/** A store that was closed in good order, with this many events, and its file. */
const makeStore = (file: string, count: number) =>
  Effect.gen(function* () {
    const { store, close } = yield* openClosable(databaseAt(file))
    yield* store.append(makeEvents(count))
    const books = yield* store.books
    yield* close
    return books
  })

/** A backup of a closed store, as far as what opens it can tell. */
const makeBackup = (file: string, backup: string, at: number) => {
  copyFileSync(file, backup)
  edit(backup, (database) => database.prepare("UPDATE store SET backup_at = ?").run(at))
}

const cursor = (store: Store, after: number) =>
  Effect.gen(function* () {
    const outcome = <A>(ask: Effect.Effect<A, { readonly _tag: string }>) =>
      Effect.match(ask, { onFailure: ({ _tag }) => _tag, onSuccess: () => "followed" })
    return [
      yield* outcome(store.scan({ filter: {}, order: "asc", after, eventsMax: 10 })),
      yield* outcome(store.scan({ filter: {}, order: "desc", after, eventsMax: 10 })),
      yield* outcome(store.conflicts({ after, limit: 10 }))
    ]
  })

describe("a database of version 1", () => {
  it.scoped("keeps its events and books, and gets an identity", () =>
    Effect.gen(function* () {
      const file = `${yield* temporaryFolder}/sekali.db`
      yield* makeVersionOne(file)
      yield* TestClock.setTime(start)
      const first = yield* openClosable(databaseAt(file))
      const books = yield* first.store.books
      expect(books).toMatchObject({
        received: 3,
        uniqueProcessed: 2,
        duplicateDropped: 1,
        lastOffset: 3,
        epoch: 1,
        storeId: expect.stringMatching(storeIdShape)
      })
      expect(yield* eventsOf(first.store)).toMatchObject([
        { offset: 1, eventId: "e0", processedAt: 5 },
        { offset: 2, eventId: "e1", payload: "[1]", sequence: 3, origin: "o", processedAt: 6 }
      ])
      expect((yield* first.store.append(makeEvents(1)))[0]).toEqual({ outcome: "stored", offset: 4 })
      yield* first.close
      expect(rowsOf(file, "SELECT * FROM epoch")).toEqual([
        {
          number: 1,
          store_id: books.storeId,
          started_at: start,
          backup_at: null,
          last_offset: 0,
          base_offset: 0
        }
      ])
      expect(yield* (yield* openStoreAt(file)).books).toMatchObject({ storeId: books.storeId, epoch: 1 })
    })
  )

  it.scoped("is brought forward whole or not at all, whichever statement fails", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      yield* makeVersionOne(`${folder}/old.db`)
      const statements: Array<string> = []
      copyFileSync(`${folder}/old.db`, `${folder}/rehearsal.db`)
      yield* Effect.scoped(
        openStore(
          interceptedAt(`${folder}/rehearsal.db`, ({ sql, run }) => {
            statements.push(sql)
            return run
          })
        )
      )
      expect(statements.filter((sql) => sql.includes("epoch")).length).toBeGreaterThan(1)
      for (const failing of statements.slice(0, -1).keys()) {
        const file = `${folder}/${failing}.db`
        copyFileSync(`${folder}/old.db`, file)
        let count = 0
        yield* Effect.flip(
          Effect.scoped(
            openStore(
              interceptedAt(file, ({ run }) =>
                count++ === failing ? sqliteError("SQLITE_IOERR_WRITE") : run
              )
            )
          )
        )
        const version = rowsOf(file, "SELECT max(migration_id) AS version FROM migration")[0]?.["version"]
        const tables = rowsOf(file, "SELECT 1 FROM sqlite_schema WHERE name = 'epoch'").length
        const columns = rowsOf(
          file,
          "SELECT 1 FROM pragma_table_info('store') WHERE name = 'store_id'"
        ).length
        expect([
          [1, 0, 0],
          [latestMigration, 1, 1]
        ]).toContainEqual([version, tables, columns])
        expect(version === 1 || failing > statements.indexOf("COMMIT")).toBe(true)
        expect(yield* Effect.scoped(Effect.flatMap(openStoreAt(file), ({ books }) => books))).toMatchObject({
          received: 3,
          epoch: 1
        })
      }
    })
  )
})

describe("an identity", () => {
  it.scoped("is every store's own, and stays through restarts", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      const one = yield* makeStore(`${folder}/one.db`, 1)
      const other = yield* makeStore(`${folder}/other.db`, 1)
      expect([one.storeId, other.storeId]).toEqual([
        expect.stringMatching(storeIdShape),
        expect.stringMatching(storeIdShape)
      ])
      expect(one.storeId).not.toBe(other.storeId)
      expect(yield* makeStore(`${folder}/one.db`, 1)).toMatchObject({ storeId: one.storeId, epoch: 1 })
    })
  )
})

describe("a backup that is put into service", () => {
  it.scoped(
    "begins a new epoch, once: another id, offsets beyond all that was lost, one line in the log",
    () =>
      Effect.gen(function* () {
        const folder = yield* temporaryFolder
        const lines: Array<string> = []
        const logger = Logger.make(({ message }) => void lines.push(String([message].flat()[0])))
        yield* TestClock.setTime(start)
        const before = yield* makeStore(`${folder}/live.db`, 5)
        makeBackup(`${folder}/live.db`, `${folder}/backup.db`, start)
        yield* TestClock.setTime(start + day)
        const opened = yield* openClosable(databaseAt(`${folder}/backup.db`)).pipe(
          Effect.provide(Logger.replace(Logger.defaultLogger, logger))
        )
        const base = baseAt(start + day)
        const books = yield* opened.store.books
        expect(books).toEqual({ ...before, storeId: books.storeId, lastOffset: base, epoch: 2 })
        expect(books.storeId).toMatch(storeIdShape)
        expect(books.storeId).not.toBe(before.storeId)
        expect(lines).toEqual([expect.stringContaining("a new epoch begins")])
        expect(yield* opened.store.append(makeEvents(7))).toMatchObject([
          ...Array.from({ length: 5 }, (_, index) => ({ outcome: "duplicate", offset: index + 1 })),
          { outcome: "stored", offset: base + 6 },
          { outcome: "stored", offset: base + 7 }
        ])
        yield* opened.close

        const again = yield* openStoreAt(`${folder}/backup.db`)
        expect(yield* again.books).toMatchObject({ storeId: books.storeId, lastOffset: base + 7, epoch: 2 })
        expect((yield* eventsOf(again)).map(({ offset }) => offset)).toEqual([
          1,
          2,
          3,
          4,
          5,
          base + 6,
          base + 7
        ])
        expect(rowsOf(`${folder}/live.db`, "SELECT store_id AS id, backup_at FROM store")).toEqual([
          { id: before.storeId, backup_at: null }
        ])
      })
  )

  it.scoped("refuses the cursors of the lost future, and follows all others across the jump", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      yield* TestClock.setTime(start)
      yield* makeStore(`${folder}/live.db`, 5)
      makeBackup(`${folder}/live.db`, `${folder}/backup.db`, start)
      const store = yield* openStoreAt(`${folder}/backup.db`)
      const base = baseAt(start)
      const followed = ["followed", "followed", "followed"]
      const lost = ["CursorLost", "CursorLost", "CursorLost"]
      const ahead = ["CursorAhead", "CursorAhead", "CursorAhead"]
      expect(yield* cursor(store, 4)).toEqual(followed)
      expect(yield* cursor(store, 5)).toEqual(followed)
      expect(yield* cursor(store, 6)).toEqual(lost)
      expect(yield* cursor(store, base - 1)).toEqual(lost)
      expect(yield* cursor(store, base)).toEqual(followed)
      expect(yield* cursor(store, base + 1)).toEqual(ahead)
      expect(yield* Effect.flip(store.conflicts({ after: 6, limit: 1 }))).toMatchObject({
        after: 6,
        epoch: 2,
        lastOffset: 5,
        baseOffset: base,
        problem: { status: 410, type: "cursor-lost" }
      })
      yield* store.append(makeEvents(1, {}, "new-"))
      expect((yield* eventsOf(store, {}, { after: 4 })).map(({ offset }) => offset)).toEqual([5, base + 1])
      expect((yield* eventsOf(store, {}, { order: "desc" })).map(({ offset }) => offset)).toEqual([
        base + 1,
        5,
        4,
        3,
        2,
        1
      ])
      expect(yield* cursor(store, base + 1)).toEqual(followed)
      expect(yield* cursor(store, 6)).toEqual(lost)
    })
  )

  it.scoped("gives out other offsets each time that the same one is restored", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      yield* TestClock.setTime(start)
      yield* makeStore(`${folder}/live.db`, 5)
      makeBackup(`${folder}/live.db`, `${folder}/backup.db`, start)
      const given: Array<number> = []
      const ids = new Set<string>()
      for (let restored = 0; restored < 4; restored++) {
        const file = `${folder}/${restored}.db`
        copyFileSync(`${folder}/backup.db`, file)
        yield* TestClock.adjust("10 millis")
        const { store, close } = yield* openClosable(databaseAt(file))
        // A thousand in each millisecond is more than a store can give out.
        for (const { offset } of yield* store.append(makeEvents(5000, {}, `r${restored}-`)))
          given.push(offset)
        ids.add((yield* store.books).storeId)
        yield* close
      }
      expect(new Set(given).size).toBe(20_000)
      expect([...given].sort((a, b) => a - b)).toEqual(given)
      expect(ids.size).toBe(4)
    })
  )

  it.scoped("goes on from epoch to epoch, and refuses what was lost in each", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      const bases: Array<number> = []
      yield* TestClock.setTime(start)
      yield* makeStore(`${folder}/0.db`, 3)
      for (let epoch = 1; epoch <= 3; epoch++) {
        makeBackup(`${folder}/${epoch - 1}.db`, `${folder}/${epoch}.db`, start)
        yield* TestClock.adjust("1 day")
        bases.push(baseAt(start + epoch * day))
        const { store, close } = yield* openClosable(databaseAt(`${folder}/${epoch}.db`))
        yield* store.append(makeEvents(2, {}, `${epoch}-`))
        yield* close
      }
      const store = yield* openStoreAt(`${folder}/3.db`)
      expect(yield* store.books).toMatchObject({ epoch: 4, received: 9, uniqueProcessed: 9 })
      for (const base of bases) {
        expect(new Set(yield* cursor(store, base + 2))).toEqual(new Set(["followed"]))
        expect(new Set(yield* cursor(store, base - 1))).toEqual(new Set(["CursorLost"]))
      }
      expect(new Set(yield* cursor(store, (bases[0] ?? 0) + 3))).toEqual(new Set(["CursorLost"]))
      expect((yield* eventsOf(store)).map(({ offset }) => offset)).toEqual([
        1,
        2,
        3,
        ...bases.flatMap((base) => [base + 1, base + 2])
      ])
    })
  )

  it.scoped(
    "goes by the latest time it knows of where the clock fell, says so, and lets processed_at not fall",
    () =>
      Effect.gen(function* () {
        const folder = yield* temporaryFolder
        const lines: Array<string> = []
        const logger = Logger.make(({ message }) => void lines.push(String([message].flat()[0])))
        yield* TestClock.setTime(start)
        yield* makeStore(`${folder}/live.db`, 2)
        makeBackup(`${folder}/live.db`, `${folder}/backup.db`, start + day)
        yield* TestClock.setTime(1000)
        const store = yield* openStoreAt(`${folder}/backup.db`).pipe(
          Effect.provide(Logger.replace(Logger.defaultLogger, logger))
        )
        expect(yield* store.books).toMatchObject({ lastOffset: baseAt(start + day), epoch: 2 })
        expect(lines).toEqual([expect.stringContaining("the clock is behind it")])
        yield* store.append(makeEvents(1, {}, "new-"))
        const times = (yield* eventsOf(store)).map(({ processedAt }) => processedAt)
        expect(times).toEqual([start, start, start])
      })
  )

  it.scoped("never falls back behind its last offset, whatever the clock says", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      yield* makeStore(`${folder}/live.db`, 4)
      makeBackup(`${folder}/live.db`, `${folder}/backup.db`, 0)
      const store = yield* openStoreAt(`${folder}/backup.db`)
      expect(yield* store.books).toMatchObject({ lastOffset: 4, epoch: 2 })
      expect(yield* store.append(makeEvents(1, {}, "new-"))).toMatchObject([{ offset: 5 }])
      expect(new Set(yield* cursor(store, 4))).toEqual(new Set(["followed"]))
    })
  )

  it.scoped("is refused in a time for which there are no offsets, and stays a backup", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      yield* TestClock.setTime(start)
      yield* makeStore(`${folder}/live.db`, 1)
      makeBackup(`${folder}/live.db`, `${folder}/backup.db`, start)
      yield* TestClock.setTime(Date.UTC(2200, 0, 1))
      const refused = yield* Effect.flip(Effect.scoped(openStoreAt(`${folder}/backup.db`)))
      expect(refused.sentence).toContain("with the time 2200-01-01T00:00:00.000Z: set the clock right.")
      yield* TestClock.setTime(start)
      expect(yield* (yield* openStoreAt(`${folder}/backup.db`)).books).toMatchObject({ epoch: 2 })
    })
  )

  it.scoped("begins the epoch whole or not at all, whichever statement of the opening fails", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      yield* TestClock.setTime(start)
      const live = yield* makeStore(`${folder}/live.db`, 3)
      makeBackup(`${folder}/live.db`, `${folder}/backup.db`, start)
      const statements: Array<string> = []
      copyFileSync(`${folder}/backup.db`, `${folder}/rehearsal.db`)
      yield* Effect.scoped(
        openStore(
          interceptedAt(`${folder}/rehearsal.db`, ({ sql, run }) => {
            statements.push(sql)
            return run
          })
        )
      )
      expect(statements.some((sql) => sql.includes("INSERT INTO epoch"))).toBe(true)
      for (const failing of statements.slice(0, -1).keys()) {
        const file = `${folder}/${failing}.db`
        copyFileSync(`${folder}/backup.db`, file)
        let count = 0
        const database = interceptedAt(file, ({ run }) =>
          count++ === failing ? sqliteError("SQLITE_IOERR_WRITE") : run
        )
        yield* Effect.flip(Effect.scoped(openStore(database)))
        const [found] = rowsOf(
          file,
          `SELECT store_id = '${live.storeId}' AS same, backup_at IS NOT NULL AS marked, last_offset = 3 AS stood,
             (SELECT count(*) FROM epoch) AS epochs FROM store`
        )
        const begun = failing > statements.indexOf("COMMIT")
        expect(found).toEqual(
          begun ? { same: 0, marked: 0, stood: 0, epochs: 2 } : { same: 1, marked: 1, stood: 1, epochs: 1 }
        )
        const store = yield* openStoreAt(file)
        expect(yield* store.books).toMatchObject({ epoch: 2, lastOffset: baseAt(start), received: 3 })
        expect(Option.isSome(yield* store.lookup({ topic: "system.metrics.cpu", eventId: "e0" }))).toBe(true)
      }
    })
  )
})
