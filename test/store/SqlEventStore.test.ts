/**
 * What only the SQLite layer has to show: steps that are bounded in bytes, batches larger than any statement's
 * variables, a disk that fills, and that everything outlives a restart and a kill.
 */

import type { SqlClient } from "@effect/sql"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Effect, Exit, Layer, Option } from "effect"
import { ReadingLimits } from "../../src/Config.ts"
import { Database } from "../../src/store/Database.ts"
import { edit } from "../support/databases.ts"
import { makeEvent, makeEvents } from "../support/events.ts"
import {
  copyAsKilled,
  databaseAt,
  eventsOf,
  interceptedAt,
  openClosable,
  openStore,
  openStoreAt,
  sqliteError,
  temporaryFolder,
  windowsOf
} from "../support/stores.ts"

const temporaryFile = Effect.map(temporaryFolder, (folder) => `${folder}/sekali.db`)

const mebibyte = 1024 * 1024
const payloadOf = (bytes: number) => JSON.stringify("x".repeat(bytes - 2))

/** The store in a file, and the connection that it uses. */
const openWithConnection = (file: string) =>
  Effect.gen(function* () {
    let client: SqlClient.SqlClient | undefined
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
    const store = yield* openStore(database)
    const pragma = (text: string) =>
      Effect.suspend(() => client?.unsafe<Record<string, number>>(`PRAGMA ${text}`) ?? Effect.die("not open"))
    return { store, pragma }
  })

describe("G6: a step through the events", () => {
  it.scoped("reads no more than its bytes, unless a single event has more; a scan takes several", () =>
    Effect.gen(function* () {
      const store = yield* openStoreAt(yield* temporaryFile)
      const { windowBytesMax } = yield* ReadingLimits
      expect(windowBytesMax).toBe(4 * mebibyte)
      const sizes = [3, 1, 1, 5, 0.5, 0.5, 3, 2].map((size) => size * mebibyte)
      yield* store.append(
        sizes.map((size, index) => makeEvent({ eventId: `${index}`, payload: payloadOf(size) }))
      )
      const cut = (order: "asc" | "desc") =>
        Effect.map(windowsOf(store, { order }), (windows) =>
          windows.map(({ events }) => events.map(({ payload }) => payload.length / mebibyte))
        )
      expect(yield* cut("asc")).toEqual([[3, 1], [1], [5], [0.5, 0.5, 3], [2]])
      expect(yield* cut("desc")).toEqual([[2], [3, 0.5, 0.5], [5], [1, 1], [3]].map((window) => window))
    })
  )

  it.scoped("counts bytes, not characters", () =>
    Effect.gen(function* () {
      const store = yield* openStoreAt(yield* temporaryFile)
      yield* store.append(makeEvents(6, { payload: JSON.stringify("é".repeat(9)) }))
      const windows = yield* Effect.provideService(windowsOf(store), ReadingLimits, {
        ...(yield* ReadingLimits),
        windowBytesMax: 40
      })
      expect(windows.map(({ events }) => events.length)).toEqual([2, 2, 2])
    })
  )

  it.scoped("looks at no more than its rows, and never passes over what it did not look at", () =>
    Effect.gen(function* () {
      const store = yield* openStoreAt(yield* temporaryFile)
      // Gaps between the offsets, and matches spread unevenly.
      for (const source of ["a", "b", "a", "a", "b", "b", "b", "a"]) {
        const { lastOffset } = yield* store.books
        yield* store.append([
          ...makeEvents(3, { source }, `${lastOffset}-`),
          ...makeEvents(2, { source }, "0-")
        ])
      }
      const all = yield* eventsOf(store)
      const wanted = all.filter(({ source }) => source === "b").map(({ offset }) => offset)
      const limits = yield* ReadingLimits
      for (let rows = 1; rows <= all.length + 1; rows++) {
        for (const eventsMax of [1, 2, 100]) {
          for (const order of ["asc", "desc"] as const) {
            const windows = yield* Effect.provideService(
              windowsOf(store, { filter: { source: "b" }, eventsMax, order }),
              ReadingLimits,
              { ...limits, windowRowsMax: rows }
            )
            for (const { events } of windows)
              expect(events.length).toBeLessThanOrEqual(Math.min(rows, eventsMax))
            const seen = windows.flatMap(({ events }) => events.map(({ offset }) => offset))
            expect(seen).toEqual(order === "asc" ? wanted : [...wanted].reverse())
          }
        }
      }
    })
  )
})

describe("a large batch", () => {
  it.scoped("may have more events, topics and duplicates than a statement has variables", () =>
    Effect.gen(function* () {
      const store = yield* openStoreAt(yield* temporaryFile)
      const events = Array.from({ length: 40_000 }, (_, index) =>
        makeEvent({ topic: `t${index}`, eventId: `${index % 7}` })
      )
      const first = yield* store.append(events)
      expect(first.map(({ offset }) => offset)).toEqual(events.map((_, index) => index + 1))
      const again = yield* store.append(events)
      expect(
        again.every(({ outcome, offset }, index) => outcome === "duplicate" && offset === index + 1)
      ).toBe(true)
      expect(yield* store.books).toMatchObject({
        received: 80_000,
        uniqueProcessed: 40_000,
        duplicateDropped: 40_000,
        topicsTotal: 40_000
      })
    })
  )
})

describe("a disk that is full", () => {
  it.scoped("G7: refuses appends and says so, is read from, and works once there is room", () =>
    Effect.gen(function* () {
      const { store, pragma } = yield* openWithConnection(yield* temporaryFile)
      yield* store.append(makeEvents(5))
      const before = yield* store.books
      const [count] = yield* pragma("page_count")
      yield* pragma(`max_page_count = ${count?.["page_count"]}`)

      const large = makeEvents(50, { payload: payloadOf(2000) }, "large-")
      for (let attempt = 0; attempt < 3; attempt++) {
        const exit = yield* Effect.exit(store.append(large))
        const error = Option.getOrThrow(
          Exit.isFailure(exit) ? Cause.failureOption(exit.cause) : Option.none()
        )
        expect(error).toMatchObject({ _tag: "StoreUnavailable", trouble: "full" })
        expect(error.problem).toMatchObject({ status: 503, title: "The disk is full" })
        expect(Option.getOrThrow(yield* store.trouble)).toMatchObject({ trouble: "full" })
        expect(yield* store.books).toEqual(before)
        expect(yield* eventsOf(store)).toHaveLength(5)
      }
      // What asks the store whether it is well again is not told so before there is room.
      expect(yield* Effect.flip(store.append([]))).toMatchObject({ trouble: "full" })
      expect(Option.isSome(yield* store.trouble)).toBe(true)

      yield* pragma("max_page_count = 1000000")
      expect(yield* store.append([])).toEqual([])
      expect(Option.isNone(yield* store.trouble)).toBe(true)
      expect((yield* store.append(large)).every(({ outcome }) => outcome === "stored")).toBe(true)
      expect(yield* store.books).toMatchObject({ received: 55, uniqueProcessed: 55 })
    })
  )

  it.scoped("G7: works again by the next append alone, too", () =>
    Effect.gen(function* () {
      const file = yield* temporaryFile
      const { store, pragma } = yield* openWithConnection(file)
      yield* store.append(makeEvents(5))
      const [count] = yield* pragma("page_count")
      yield* pragma(`max_page_count = ${count?.["page_count"]}`)
      const large = makeEvents(50, { payload: payloadOf(2000) }, "large-")
      expect(yield* Effect.flip(store.append(large))).toMatchObject({ trouble: "full" })
      yield* pragma("max_page_count = 1000000")
      yield* store.append(large)
      expect(Option.isNone(yield* store.trouble)).toBe(true)
      // Finding out left nothing behind that a later start would stumble over.
      copyAsKilled(file, `${file}.killed`)
      expect(yield* (yield* openStoreAt(`${file}.killed`)).books).toMatchObject({ uniqueProcessed: 55 })
    })
  )
})

describe("a connection that is rebuilt", () => {
  it.scoped("G2: knows what it has recovered, although a commit of that had failed", () =>
    Effect.gen(function* () {
      const file = yield* temporaryFile
      let failing = false
      let recovers = false
      const database = Layer.effect(
        Database,
        Effect.map(Database, ({ name, connect, writeLogAgain }) => ({
          name,
          connect,
          // As SQLite may find a commit in the log whose sync had failed.
          writeLogAgain: Effect.tap(writeLogAgain, () =>
            Effect.sync(() => {
              if (recovers) edit(file, (database) => database.exec(recovered))
            })
          )
        }))
      ).pipe(
        Layer.provide(
          interceptedAt(file, ({ sql, run }) =>
            failing && (sql === "COMMIT" || sql === "ROLLBACK") ? sqliteError("SQLITE_IOERR") : run
          )
        )
      )
      const store = yield* openStore(database)
      yield* store.append(makeEvents(3))
      // The connection is given up by a write that is no append, so that nothing of these is forgotten for it.
      failing = true
      expect(yield* Effect.flip(store.append([]))).toMatchObject({ trouble: "io" })
      failing = false
      recovers = true
      yield* store.books
      recovers = false
      expect(yield* store.append(makeEvents(1, {}, "recovered-"))).toEqual([
        { outcome: "duplicate", offset: 4 }
      ])
      expect(yield* store.append(makeEvents(1, {}, "new-"))).toEqual([{ outcome: "stored", offset: 6 }])
    })
  )
})

const recovered = `
  INSERT INTO event
  SELECT 4, topic_id, 'recovered-0', timestamp, source, payload, sequence, origin, processed_at, late
  FROM event WHERE offset = 1;
  UPDATE store SET received = 4, unique_processed = 4, last_offset = 4;
  UPDATE topic SET events = 4, last_offset = 4`

describe("a restart", () => {
  it.scoped("G1, G5: keeps events, offsets and books, and goes on where it was; so does a kill", () =>
    Effect.gen(function* () {
      const file = yield* temporaryFile
      const first = yield* openClosable(databaseAt(file))
      yield* first.store.append([...makeEvents(4), ...makeEvents(2, { payload: "1" })])
      const [events, books] = [yield* eventsOf(first.store), yield* first.store.books]
      yield* first.close

      const second = yield* openClosable(databaseAt(file))
      expect(yield* eventsOf(second.store)).toEqual(events)
      expect(yield* second.store.books).toEqual(books)
      const outcomes = yield* second.store.append(makeEvents(6))
      expect(outcomes.map(({ outcome }) => outcome)).toEqual([
        ...Array.from({ length: 4 }, () => "duplicate"),
        "stored",
        "stored"
      ])
      // Offsets that duplicates have taken are gone, also for the next start.
      expect(outcomes.map(({ offset }) => offset)).toEqual([1, 2, 3, 4, 11, 12])
      copyAsKilled(file, `${file}.killed`)

      const third = yield* openStoreAt(`${file}.killed`)
      expect(yield* eventsOf(third)).toEqual(yield* eventsOf(second.store))
      expect(yield* third.books).toEqual(yield* second.store.books)
      expect((yield* third.append(makeEvents(7))).at(-1)).toEqual({ outcome: "stored", offset: 19 })
      yield* second.close
    })
  )

  it.scoped("a store that was closed says so, and does not open its database again", () =>
    Effect.gen(function* () {
      const file = yield* temporaryFile
      const { store, close } = yield* openClosable(databaseAt(file))
      yield* close
      const other = yield* openStoreAt(file)
      expect(yield* Effect.flip(store.books)).toMatchObject({ _tag: "StoreUnavailable", trouble: "closed" })
      expect(yield* Effect.flip(store.append(makeEvents(1)))).toMatchObject({ trouble: "closed" })
      yield* other.append(makeEvents(1))
    })
  )
})
