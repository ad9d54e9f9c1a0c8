/**
 * What only the store over SQLite can show of sequences: what a commit costs, that no statement walks through a table,
 * the age of gaps across restarts and under a wall clock that is set, and that databases of before are brought along.
 */
import { describe, expect, it } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Effect, Exit, Logger, Option, Scope, TestClock } from "effect"
import type { Event } from "../../src/domain/Event.ts"
import { parseTopicPattern } from "../../src/domain/Topic.ts"
import { connectTo } from "../../src/node/SqliteCopies.ts"
import { check } from "../../src/store/Check.ts"
import { makeOlder } from "../support/databases.ts"
import { makeEvent } from "../support/events.ts"
import {
  databaseAt,
  interceptedAt,
  makeWall,
  openClosable,
  openStore,
  openStoreAt,
  sqliteError,
  temporaryFolder
} from "../support/stores.ts"
import { sourcesOf } from "./SequencesSuite.ts"

let made = 0
const numbered = (numbers: ReadonlyArray<number | null>, event: Partial<Omit<Event, "time">> = {}) =>
  numbers.map((sequence) => makeEvent({ topic: "a", source: "s", ...event, sequence, eventId: `n${made++}` }))

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => from + index)

/** A store that tells its statements. */
const openTold = (file: string) =>
  Effect.gen(function* () {
    const statements: Array<string> = []
    const store = yield* openStore(
      interceptedAt(file, ({ sql, run }) => {
        statements.push(sql)
        return run
      })
    )
    const of = <A, E>(use: Effect.Effect<A, E>) =>
      Effect.suspend(() => {
        statements.length = 0
        return Effect.map(use, () => [...statements])
      })
    return { store, statementsOf: of }
  })

const aboutSequences = (statements: ReadonlyArray<string>) =>
  statements.filter((sql) => /\b(source AS|source SET|INTO source|gap)\b/.test(sql))

describe("a commit", () => {
  it.scoped(
    "spends nothing on sequences where no event has one, and a read and a write a series where all are in order",
    () =>
      Effect.gen(function* () {
        const { store, statementsOf } = yield* openTold(`${yield* temporaryFolder}/sekali.db`)
        yield* store.append(numbered([0]))
        const without = yield* statementsOf(store.append(numbered(Array.from({ length: 500 }, () => null))))
        expect(aboutSequences(without)).toEqual([])
        const within = yield* statementsOf(store.append(numbered(range(1, 501))))
        expect(aboutSequences(within)).toHaveLength(2)
        expect(within).toHaveLength(without.length + 2)
        // Duplicates of them move nothing.
        const again = yield* statementsOf(
          store.append(
            range(1, 501).map((n) =>
              makeEvent({ topic: "a", source: "s", sequence: n + 9, eventId: `n${n + 500}` })
            )
          )
        )
        expect(aboutSequences(again)).toEqual([])
      })
  )

  it.scoped("and whatever else is done with sequences finds its rows by an index", () =>
    Effect.gen(function* () {
      const file = `${yield* temporaryFolder}/sekali.db`
      const topic = Option.getOrThrow(parseTopicPattern("a"))
      const statements = yield* Effect.scoped(
        Effect.gen(function* () {
          const { store, statementsOf } = yield* openTold(file)
          yield* store.append(numbered([0, 9, 19, 29]))
          return [
            ...(yield* statementsOf(store.append(numbered([4, 4, 40])))),
            ...(yield* statementsOf(store.declareMissing({ secondsMax: 3600, eventsMax: 30 }))),
            ...(yield* statementsOf(store.declareMissing({ secondsMax: 0, eventsMax: 1 }))),
            ...(yield* statementsOf(store.append(numbered([5])))),
            ...(yield* statementsOf(store.sources({ topic, source: "s", after: undefined, limit: 10 }))),
            ...(yield* statementsOf(
              store.scan({ filter: { topic, source: "s" }, order: "sequence", after: 1, eventsMax: 10 })
            ))
          ]
        })
      )
      const database = new Sqlite(file, { readonly: true })
      const plans = statements
        .filter((sql) => /\b(event|source|gap)\b/.test(sql))
        .map((sql) => {
          const parameters = Array.from({ length: sql.split("?").length - 1 }, () => "[]")
          const steps = database.prepare(`EXPLAIN QUERY PLAN ${sql}`).all(parameters) as Array<{
            detail: string
          }>
          return { sql, steps: steps.map(({ detail }) => detail) }
        })
      database.close()
      expect(plans.length).toBeGreaterThan(20)
      // What is scanned is a list of parameters, or what was found by an index.
      const walks = plans.filter(({ steps }) =>
        steps.some(
          (step) =>
            /^SCAN (?!json_each|k\b|n\b|v\b|CONSTANT|value|m\b|\d+-ROW VALUES)/.test(step) ||
            // A whole topic is a walk as well.
            /^SEARCH e(vent)? .*\(topic_id=\?\)$/.test(step)
        )
      )
      expect(walks).toEqual([])
    })
  )
})

describe("the age of a gap", () => {
  it.scoped("goes on while the service is down", () =>
    Effect.gen(function* () {
      const file = `${yield* temporaryFolder}/sekali.db`
      const limits = { secondsMax: 30, eventsMax: 1000 }
      const first = yield* openClosable(databaseAt(file))
      yield* first.store.append(numbered([0, 2]))
      yield* TestClock.adjust("10 seconds")
      expect(yield* first.store.declareMissing(limits)).toBe(0)
      yield* first.close
      yield* TestClock.adjust("19 seconds")
      const store = yield* openStoreAt(file)
      expect(yield* store.declareMissing(limits)).toBe(0)
      yield* TestClock.adjust("1 second")
      expect(yield* store.declareMissing(limits)).toBe(1)
    })
  )

  it.live(
    "is not moved by a wall clock that is set; one that was set back over a restart lets it begin anew",
    () =>
      Effect.scoped(
        Effect.gen(function* () {
          const file = `${yield* temporaryFolder}/sekali.db`
          const hour = 3_600_000
          const wall = makeWall(100 * hour)
          const limits = { secondsMax: 1800, eventsMax: 1000 }
          const test = Effect.gen(function* () {
            const scope = yield* Scope.make()
            const before = yield* Scope.extend(openStoreAt(file), scope)
            yield* before.append(numbered([0, 2]))
            wall.set(200 * hour)
            expect(yield* before.declareMissing(limits)).toBe(0)
            wall.set(50 * hour)
            expect(yield* before.declareMissing(limits)).toBe(0)
            yield* before.append(numbered([4]))
            const ages = (yield* sourcesOf(before))[0]?.gaps.map(({ openedAt }) =>
              Math.floor(openedAt / hour)
            )
            expect(ages).toEqual([100, 100])
            yield* Scope.close(scope, Exit.void)

            const after = yield* openStoreAt(file)
            expect(yield* after.declareMissing(limits)).toBe(0)
            const anew = (yield* sourcesOf(after))[0]?.gaps.map(({ openedAt }) => Math.floor(openedAt / hour))
            expect(anew).toEqual([50, 50])
          })
          yield* Effect.withClock(test, wall.clock)
        })
      )
  )
})

describe("the warning that numbers are missing", () => {
  const linesOf = <A, E, R>(use: Effect.Effect<A, E, R>) =>
    Effect.gen(function* () {
      const lines: Array<readonly [unknown, Record<string, unknown>]> = []
      const logger = Logger.make(({ message, annotations, logLevel }) => {
        if (logLevel.label === "WARN") lines.push([message, Object.fromEntries(annotations)])
      })
      yield* Effect.provide(use, Logger.replace(Logger.defaultLogger, logger))
      return lines
    })

  it.scoped("is one line for a series and commit, told when that is on disk", () =>
    Effect.gen(function* () {
      let failing = false
      const store = yield* openStore(
        interceptedAt(`${yield* temporaryFolder}/sekali.db`, ({ sql, run }) =>
          failing && sql === "COMMIT" ? sqliteError("SQLITE_IOERR_FSYNC") : run
        )
      )
      yield* store.append([...numbered([0, 2, 9]), ...numbered([5, 7], { source: "t" })])
      failing = true
      const declare = store.declareMissing({ secondsMax: 0, eventsMax: 1000 })
      expect(yield* linesOf(Effect.exit(declare))).toEqual([])
      failing = false
      expect(yield* linesOf(declare)).toEqual([
        [
          ["missing: a gap in a sequence was given up"],
          { topic: "a", source: "s", first: 1, last: 8, gaps: 2, numbers: 7 }
        ],
        [
          ["missing: a gap in a sequence was given up"],
          { topic: "a", source: "t", first: 6, last: 6, gaps: 1, numbers: 1 }
        ]
      ])
      expect(yield* linesOf(declare)).toEqual([])
    })
  )
})

describe("a database of version 2", () => {
  it.scoped("is brought along with the sequences that its events have", () =>
    Effect.gen(function* () {
      const file = `${yield* temporaryFolder}/sekali.db`
      yield* TestClock.setTime(1_000_000)
      const { store, close } = yield* openClosable(databaseAt(file))
      for (const numbers of [
        [7, 9, 9, 20],
        [3, 12, null],
        [25, 11, 7],
        [8, 30]
      ]) {
        yield* store.append([...numbered(numbers), ...numbered(numbers.slice(1), { source: "t" })])
        yield* TestClock.adjust("1 second")
      }
      yield* store.append(
        numbered(
          range(0, 1100).map((n) => 2 * n),
          { topic: "b" }
        )
      )
      const books = yield* sourcesOf(store)
      const { sequences } = yield* store.books
      expect(sequences.declared).toBe(99)
      yield* close
      makeOlder(file, 2)
      const later = yield* openClosable(databaseAt(file))
      expect(yield* sourcesOf(later.store)).toEqual(books)
      expect((yield* later.store.books).sequences).toEqual(sequences)
      yield* later.close
      const report = yield* Effect.scoped(
        Effect.flatMap(connectTo(file, { readonly: true }), (sql) => check("x.db", sql))
      )
      expect(report.findings.filter(({ sound }) => !sound)).toEqual([])
    })
  )
})
