/**
 * What the port `EventStore` promises, as one suite that every implementation of it has to pass. It asks only through
 * the port, under a clock that the test sets.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Either, Option, type Scope, TestClock } from "effect"
import fc from "fast-check"
import type { Event, Outcome } from "../../src/domain/Event.ts"
import { parseTopicPattern } from "../../src/domain/Topic.ts"
import { booksTopicsMax, type Filter } from "../../src/store/EventStore.ts"
import {
  anyEvent,
  collidingEvent,
  deliveriesOf,
  expectedOf,
  instant,
  keyOf,
  makeEvent,
  makeEvents
} from "../support/events.ts"
import { eventsOf, type Store, windowsOf } from "../support/stores.ts"

const kindsOf = (outcomes: ReadonlyArray<Outcome>) => outcomes.map(({ outcome }) => outcome)
const offsetsOf = (items: ReadonlyArray<{ readonly offset: number }>) => items.map(({ offset }) => offset)
const idsOf = (events: ReadonlyArray<Event>) => events.map(({ eventId }) => eventId)

const pattern = (text: string) => Option.getOrThrow(parseTopicPattern(text))

const expectGrowing = (offsets: ReadonlyArray<number>) => {
  expect(offsets).toEqual([...new Set(offsets)].sort((left, right) => left - right))
}

/** Holds an implementation, opened empty in each test, to the port's promises. */
export const eventStoreSuite = (name: string, open: Effect.Effect<Store, unknown, Scope.Scope>) => {
  const test = <E>(title: string, body: (store: Store) => Effect.Effect<void, E, Scope.Scope>) =>
    it.scoped(title, () => Effect.flatMap(open, body))

  // A property that opens a store for each of its cases.
  const property = <A>(
    arbitrary: fc.Arbitrary<A>,
    body: (store: Store, value: A) => Effect.Effect<void, unknown>
  ) =>
    Effect.promise(() =>
      fc.assert(
        fc.asyncProperty(arbitrary, (value) =>
          Effect.runPromise(Effect.scoped(Effect.flatMap(open, (store) => body(store, value))))
        ),
        { numRuns: 50 }
      )
    )

  const identity = { storeId: expect.stringMatching(/^[a-z0-9-]{8,}$/), epoch: 1 }
  const sequences = { sources: 0, gapsOpen: 0, declared: 0, late: 0, reused: 0 }

  describe(name, () => {
    test("is empty at first", (store) =>
      Effect.gen(function* () {
        expect(yield* store.books).toEqual({
          received: 0,
          uniqueProcessed: 0,
          duplicateDropped: 0,
          conflicts: 0,
          topicsTotal: 0,
          topics: [],
          lastOffset: 0,
          ...identity,
          sequences
        })
        for (const order of ["asc", "desc"] as const) {
          expect(yield* store.scan({ filter: {}, order, after: undefined, eventsMax: 10 })).toEqual({
            events: [],
            scannedTo: 0,
            end: true
          })
        }
        expect(yield* store.topics({ after: undefined, limit: 10 })).toEqual({ items: [], more: false })
        expect(yield* store.conflicts({ after: undefined, limit: 10 })).toEqual({ items: [], more: false })
        expect(Option.isNone(yield* store.lookup({ topic: "a", eventId: "1" }))).toBe(true)
        expect(Option.isNone(yield* store.trouble)).toBe(true)
      }))

    test("an append of nothing has no outcomes and changes nothing", (store) =>
      Effect.gen(function* () {
        yield* store.append(makeEvents(2))
        const before = yield* store.books
        yield* TestClock.setTime(5000)
        expect(yield* store.append([])).toEqual([])
        expect(yield* store.books).toEqual(before)
        yield* TestClock.setTime(1000)
        yield* store.append(makeEvents(3))
        expect((yield* eventsOf(store)).at(-1)?.processedAt).toBe(1000)
      }))

    test("G8: each event's outcome is told, in the order sent, with the offset of the one that is stored", (store) =>
      Effect.gen(function* () {
        const first = yield* store.append(makeEvents(3))
        expect(kindsOf(first)).toEqual(["stored", "stored", "stored"])
        const [e0, e1, e2] = makeEvents(3)
        if (e0 === undefined || e1 === undefined || e2 === undefined) throw new Error("three events")
        const second = yield* store.append([
          { ...e2, payload: '{"other":1}' },
          makeEvent({ eventId: "new" }),
          { ...e0, timestamp: "2030-01-01T00:00:00Z", time: instant("2030-01-01T00:00:00Z"), sequence: 7 },
          { ...e1, source: "service-b" }
        ])
        expect(kindsOf(second)).toEqual(["conflict", "stored", "duplicate", "conflict"])
        expect(second[0]?.offset).toBe(first[2]?.offset)
        expect(second[2]?.offset).toBe(first[0]?.offset)
        expect(second[3]?.offset).toBe(first[1]?.offset)
        // The first stands.
        const found = Option.getOrThrow(yield* store.lookup(e2))
        expect(found.event.payload).toBe("{}")
        expect(found.event.timestamp).toBe(e2.timestamp)
      }))

    test("G2: duplicates and conflicts inside one batch are told as such; its first stands", (store) =>
      Effect.gen(function* () {
        const event = makeEvent({ eventId: "1", payload: '{"a":1,"b":2}' })
        const outcomes = yield* store.append([
          event,
          { ...event, payload: '{"b":2.0,"a":1}' },
          { ...event, payload: '{"a":1}' },
          event
        ])
        expect(kindsOf(outcomes)).toEqual(["stored", "duplicate", "conflict", "duplicate"])
        expect(new Set(offsetsOf(outcomes)).size).toBe(1)
        expect((yield* eventsOf(store)).map(({ payload }) => payload)).toEqual(['{"a":1,"b":2}'])
        expect(yield* store.books).toMatchObject({
          received: 4,
          uniqueProcessed: 1,
          duplicateDropped: 3,
          conflicts: 1
        })
      }))

    test("G2: the key is the topic and the id together, each exactly as it is", (store) =>
      Effect.gen(function* () {
        const keys = [
          ["a", "1"],
          ["b", "1"],
          ["a", "01"],
          ["a", "1.0"],
          ["a", "1 "],
          ["a", "é"],
          ["a", "e\u0301"],
          ["a", "A"],
          ["a", "a"],
          ["a.b", "c"],
          ["a", "b/c"],
          ["a", "null"],
          ["a", '"1"'],
          ["a", "[1]"],
          ["a", "\u{1F600}"],
          ["a", "\uFFFF"],
          ["a", "9007199254740993"],
          ["a", "9007199254740992"]
        ] as const
        const events = keys.map(([topic, eventId]) => makeEvent({ topic, eventId }))
        expect(kindsOf(yield* store.append(events))).toEqual(events.map(() => "stored"))
        expect(kindsOf(yield* store.append(events))).toEqual(events.map(() => "duplicate"))
        for (const event of events) {
          expect(Option.getOrThrow(yield* store.lookup(event)).event).toMatchObject(event)
        }
      }))

    test("G5: offsets grow in the order sent, over appends that drop and appends of nothing", (store) =>
      Effect.gen(function* () {
        const offsets: Array<number> = []
        for (const batch of [makeEvents(3), makeEvents(5), [], makeEvents(2), makeEvents(9)]) {
          const outcomes = yield* store.append(batch)
          offsets.push(...offsetsOf(outcomes.filter(({ outcome }) => outcome === "stored")))
        }
        expect(offsets).toHaveLength(9)
        expectGrowing(offsets)
        const stored = yield* eventsOf(store)
        expect(offsetsOf(stored)).toEqual(offsets)
        expect(idsOf(stored)).toEqual(idsOf(makeEvents(9)))
        expect((yield* store.books).lastOffset).toBeGreaterThanOrEqual(offsets.at(-1) ?? 0)
      }))

    test("Two clocks: processed_at never falls as offsets grow, although the wall clock jumps back", (store) =>
      Effect.gen(function* () {
        const times = [1_000_000, 2_000_000, 500_000, 1_999_999, 2_000_001, 0]
        for (const [index, time] of times.entries()) {
          yield* TestClock.setTime(time)
          yield* store.append([makeEvent({ eventId: `${index}` }), makeEvent({ eventId: "0" })])
        }
        const stored = yield* eventsOf(store)
        expect(stored.map(({ processedAt }) => processedAt)).toEqual([
          1_000_000, 2_000_000, 2_000_000, 2_000_000, 2_000_001, 2_000_001
        ])
        const known = Option.getOrThrow(yield* store.lookup(makeEvent({ eventId: "0" })))
        expect(known.lastDuplicateAt).toBe(2_000_001)
      }))

    test("G4: the books balance, by topic and together", (store) =>
      Effect.gen(function* () {
        const a = makeEvents(4, { topic: "a" })
        const b = makeEvents(3, { topic: "b" })
        yield* store.append([...a, ...b.slice(0, 1)])
        yield* store.append([...b, ...a.slice(2)])
        yield* store.append(a.map((event) => ({ ...event, payload: "1" })))
        expect(yield* store.books).toEqual({
          received: 14,
          uniqueProcessed: 7,
          duplicateDropped: 7,
          conflicts: 4,
          topicsTotal: 2,
          topics: ["a", "b"],
          lastOffset: 14,
          ...identity,
          sequences
        })
        const { items } = yield* store.topics({ after: undefined, limit: 10 })
        expect(items).toMatchObject([
          { topic: "a", events: 4, duplicates: 6, conflicts: 4 },
          { topic: "b", events: 3, duplicates: 1, conflicts: 0 }
        ])
      }))

    test("topics tell their first and last offset and their latest event time as it was sent", (store) =>
      Effect.gen(function* () {
        const at = (eventId: string, timestamp: string) => makeEvent({ topic: "a", eventId, timestamp })
        yield* store.append([
          makeEvent({ topic: "b", eventId: "0" }),
          at("1", "2026-11-22T10:00:00.000000002Z"),
          at("2", "2026-11-22T17:00:00.000000001+07:00")
        ])
        const book = () => Effect.map(store.topics({ after: undefined, limit: 1 }), ({ items }) => items[0])
        expect(yield* book()).toMatchObject({
          firstOffset: 2,
          lastOffset: 3,
          lastEventTime: "2026-11-22T10:00:00.000000002Z"
        })
        // The same instant again, spelled otherwise, is not later; a duplicate's time does not count.
        yield* store.append([
          at("3", "2026-11-22T17:00:00.000000002+07:00"),
          at("1", "2030-01-01T00:00:00Z"),
          at("4", "1960-01-01T00:00:00Z")
        ])
        expect(yield* book()).toMatchObject({
          firstOffset: 2,
          lastOffset: 6,
          lastEventTime: "2026-11-22T10:00:00.000000002Z"
        })
        yield* store.append([at("5", "2026-11-22T10:00:00.000000003Z")])
        expect(yield* book()).toMatchObject({
          lastOffset: 7,
          lastEventTime: "2026-11-22T10:00:00.000000003Z"
        })
      }))

    test("of equal latest times the text that came first is told, also inside one batch", (store) =>
      Effect.gen(function* () {
        const times = ["2026-11-22T10:00:00Z", "2026-11-22T17:00:00+07:00", "2026-11-22T10:00:00.0Z"]
        const events = times.map((timestamp, index) => makeEvent({ eventId: `${index}`, timestamp }))
        yield* store.append(events.slice(0, 2))
        yield* store.append(events.slice(2))
        const { items } = yield* store.topics({ after: undefined, limit: 1 })
        expect(items[0]?.lastEventTime).toBe(times[0])
      }))

    test("topics that only have times before 1970 have a latest one too", (store) =>
      Effect.gen(function* () {
        const times = ["1950-01-01T00:00:00Z", "1969-12-31T23:59:59.9999Z", "1960-01-01T00:00:00Z"]
        yield* store.append(times.map((timestamp, index) => makeEvent({ eventId: `${index}`, timestamp })))
        const { items } = yield* store.topics({ after: undefined, limit: 1 })
        expect(items[0]?.lastEventTime).toBe(times[1])
      }))

    test(`topics are listed in pages by name, and the books name the first ${booksTopicsMax}`, (store) =>
      Effect.gen(function* () {
        const names = Array.from({ length: booksTopicsMax + 2 }, (_, index) => `t${10_000 + index}`)
        yield* store.append([...names].reverse().map((topic) => makeEvent({ topic, eventId: "1" })))
        const books = yield* store.books
        expect(books.topicsTotal).toBe(names.length)
        expect(books.topics).toEqual(names.slice(0, booksTopicsMax))
        const listed: Array<string> = []
        for (let more = true; more; ) {
          const page = yield* store.topics({ after: listed.at(-1), limit: 334 })
          expect(page.items.length).toBeLessThanOrEqual(334)
          listed.push(...page.items.map(({ topic }) => topic))
          more = page.more
        }
        expect(listed).toEqual(names)
        expect((yield* store.topics({ after: names.at(-1), limit: 10 })).items).toEqual([])
        expect((yield* store.topics({ after: "t10000.5", limit: 1 })).items[0]?.topic).toBe("t10001")
      }))

    test("topics are in the order of their characters", (store) =>
      Effect.gen(function* () {
        const names = ["a", "a-b", "a.b", "a0", "a_b", "ab", "b", "-", "0", "_"]
        yield* store.append(names.map((topic) => makeEvent({ topic, eventId: "1" })))
        const { items } = yield* store.topics({ after: undefined, limit: 100 })
        expect(items.map(({ topic }) => topic)).toEqual([...names].sort())
      }))

    test("conflicts are listed by offset, in pages: how often, last when and by which source", (store) =>
      Effect.gen(function* () {
        const events = makeEvents(5)
        yield* store.append(events)
        yield* TestClock.setTime(1000)
        yield* store.append([...events.slice(1).map((event) => ({ ...event, source: "b" })), ...events])
        yield* TestClock.setTime(2000)
        yield* store.append(events.slice(3).map((event) => ({ ...event, payload: "2", source: "c" })))
        yield* TestClock.setTime(3000)
        yield* store.append(events)

        const all = yield* store.conflicts({ after: undefined, limit: 100 })
        expect(all.more).toBe(false)
        expect(all.items.map(({ topic, eventId }) => keyOf({ topic, eventId }))).toEqual(
          events.slice(1).map(keyOf)
        )
        expect(all.items.map(({ conflicts }) => conflicts)).toEqual([1, 1, 2, 2])
        expect(all.items.map(({ lastConflictAt }) => lastConflictAt)).toEqual([1000, 1000, 2000, 2000])
        expect(all.items.map(({ lastConflictSource }) => lastConflictSource)).toEqual(["b", "b", "c", "c"])

        const first = yield* store.conflicts({ after: undefined, limit: 3 })
        expect(first).toEqual({ items: all.items.slice(0, 3), more: true })
        const rest = yield* store.conflicts({ after: first.items.at(-1)?.offset, limit: 3 })
        expect(rest).toEqual({ items: all.items.slice(3), more: false })
      }))

    test("of several conflicts in one batch the last one's source is listed", (store) =>
      Effect.gen(function* () {
        const event = makeEvent({ eventId: "1" })
        yield* store.append([event, ...["b", "c", "d"].map((source) => ({ ...event, source })), event])
        const { items } = yield* store.conflicts({ after: undefined, limit: 10 })
        expect(items).toMatchObject([{ conflicts: 3, lastConflictSource: "d" }])
      }))

    test("a lookup gives the event, and what came later with its key", (store) =>
      Effect.gen(function* () {
        const event = makeEvent({ eventId: "1", sequence: 42, origin: "elsewhere", payload: '{"a":[1.0]}' })
        yield* TestClock.setTime(1000)
        yield* store.append([event])
        const lookup = store.lookup({ topic: event.topic, eventId: "1" })
        expect(Option.getOrThrow(yield* lookup)).toEqual({
          event: { ...event, offset: 1, processedAt: 1000, late: false },
          duplicates: 0,
          conflicts: 0,
          lastDuplicateAt: null
        })
        yield* TestClock.setTime(2000)
        yield* store.append([event, { ...event, payload: "2" }, event])
        expect(Option.getOrThrow(yield* lookup)).toEqual({
          event: { ...event, offset: 1, processedAt: 1000, late: false },
          duplicates: 3,
          conflicts: 1,
          lastDuplicateAt: 2000
        })
        expect(Option.isNone(yield* store.lookup({ topic: event.topic, eventId: "2" }))).toBe(true)
        expect(Option.isNone(yield* store.lookup({ topic: "system", eventId: "1" }))).toBe(true)
      }))

    test("a scan goes up or down, from where the reader was, and tells how far it looked", (store) =>
      Effect.gen(function* () {
        yield* store.append(makeEvents(10))
        const scan = (order: "asc" | "desc", after: number | undefined, eventsMax: number) =>
          Effect.map(store.scan({ filter: {}, order, after, eventsMax }), ({ events, scannedTo, end }) => ({
            offsets: offsetsOf(events),
            scannedTo,
            end
          }))
        expect(yield* scan("asc", undefined, 3)).toEqual({ offsets: [1, 2, 3], scannedTo: 3, end: false })
        expect(yield* scan("asc", 0, 3)).toEqual({ offsets: [1, 2, 3], scannedTo: 3, end: false })
        expect(yield* scan("asc", 3, 3)).toEqual({ offsets: [4, 5, 6], scannedTo: 6, end: false })
        expect(yield* scan("asc", 6, 100)).toEqual({ offsets: [7, 8, 9, 10], scannedTo: 10, end: true })
        expect(yield* scan("asc", 7, 3)).toEqual({ offsets: [8, 9, 10], scannedTo: 10, end: true })
        expect(yield* scan("asc", 10, 3)).toEqual({ offsets: [], scannedTo: 10, end: true })
        expect(yield* scan("desc", undefined, 3)).toEqual({ offsets: [10, 9, 8], scannedTo: 8, end: false })
        expect(yield* scan("desc", 8, 3)).toEqual({ offsets: [7, 6, 5], scannedTo: 5, end: false })
        expect(yield* scan("desc", 4, 100)).toEqual({ offsets: [3, 2, 1], scannedTo: 1, end: true })
        expect(yield* scan("desc", 1, 3)).toEqual({ offsets: [], scannedTo: 1, end: true })
      }))

    test("G5: a reader who follows offsets sees every event once, in order, gaps or not", (store) =>
      Effect.gen(function* () {
        for (let round = 0; round < 6; round++) yield* store.append(makeEvents(5 * (round + 1)))
        const all = yield* eventsOf(store)
        expect(idsOf(all)).toEqual(idsOf(makeEvents(30)))
        expectGrowing(offsetsOf(all))
        for (const eventsMax of [1, 2, 7, 30, 1000]) {
          expect(yield* eventsOf(store, {}, { eventsMax })).toEqual(all)
          expect(yield* eventsOf(store, {}, { eventsMax, order: "desc" })).toEqual([...all].reverse())
        }
        // From any cursor, also one in a gap.
        const { lastOffset } = yield* store.books
        for (let after = 0; after <= lastOffset; after++) {
          expect(yield* eventsOf(store, {}, { after })).toEqual(all.filter(({ offset }) => offset > after))
          expect(yield* eventsOf(store, {}, { after, order: "desc" })).toEqual(
            all.filter(({ offset }) => offset < after).reverse()
          )
        }
      }))

    test("G5: a reader who goes on while events are appended misses none and sees none twice", (store) =>
      Effect.gen(function* () {
        const seen: Array<string> = []
        let after: number | undefined
        for (let round = 0; round < 20; round++) {
          yield* store.append(makeEvents(3, {}, `${round % 15}-`))
          const window = yield* store.scan({ filter: {}, order: "asc", after, eventsMax: 2 })
          seen.push(...idsOf(window.events))
          after = window.scannedTo
        }
        seen.push(...idsOf(yield* eventsOf(store, {}, { after })))
        const sent = Array.from({ length: 15 }, (_, round) => idsOf(makeEvents(3, {}, `${round}-`)))
        expect(seen).toEqual(sent.flat())
      }))

    describe("a filter", () => {
      const events = [
        makeEvent({ topic: "system", eventId: "1", timestamp: "2026-11-22T10:00:00Z" }),
        makeEvent({ topic: "system.cpu", eventId: "2", timestamp: "2026-11-22T10:00:00.000000001Z" }),
        makeEvent({
          topic: "system.cpu",
          eventId: "1",
          source: "b",
          timestamp: "2026-11-22T10:00:00.0000005Z"
        }),
        makeEvent({ topic: "system.cpu.core0", eventId: "3", timestamp: "2026-11-22T10:00:00.001Z" }),
        makeEvent({
          topic: "systems.cpu",
          eventId: "4",
          source: "b",
          timestamp: "2026-11-22T09:59:59.999999999Z"
        }),
        makeEvent({ topic: "app.cpu", eventId: "1", timestamp: "1969-12-31T23:59:59.9999999Z" })
      ]
      const cases: ReadonlyArray<readonly [string, Filter, ReadonlyArray<number>]> = [
        ["of an exact topic", { topic: pattern("system.cpu") }, [2, 3]],
        ["of a topic that is not there", { topic: pattern("system.disk") }, []],
        ["of one segment more", { topic: pattern("system.*") }, [2, 3]],
        ["of any first segment", { topic: pattern("*.cpu") }, [2, 3, 5, 6]],
        ["of the rest", { topic: pattern("system.>") }, [2, 3, 4]],
        ["of everything", { topic: pattern(">") }, [1, 2, 3, 4, 5, 6]],
        ["of an event_id", { eventId: "1" }, [1, 3, 6]],
        ["of a source", { source: "b" }, [3, 5]],
        ["of a topic, an event_id and a source", { topic: pattern("*.cpu"), eventId: "1", source: "b" }, [3]],
        ["since an instant, inclusive", { since: instant("2026-11-22T10:00:00.0000005Z") }, [3, 4]],
        ["since a nanosecond later", { since: instant("2026-11-22T10:00:00.000000501Z") }, [4]],
        ["until an instant, exclusive", { until: instant("2026-11-22T10:00:00.000000001Z") }, [1, 5, 6]],
        ["until a nanosecond later", { until: instant("2026-11-22T10:00:00.000000002Z") }, [1, 2, 5, 6]],
        [
          "between two instants of one millisecond",
          {
            since: instant("2026-11-22T17:00:00.000000001+07:00"),
            until: instant("2026-11-22T10:00:00.000001Z")
          },
          [2, 3]
        ],
        [
          "around 1970",
          { since: instant("1969-12-31T23:59:59.9999999Z"), until: instant("1970-01-01T00:00:00Z") },
          [6]
        ],
        [
          "that is empty in time",
          { since: instant("2026-11-22T10:00:00Z"), until: instant("2026-11-22T10:00:00Z") },
          []
        ]
      ]
      for (const [title, filter, offsets] of cases) {
        test(`${title} keeps what it says, in both orders and every page size`, (store) =>
          Effect.gen(function* () {
            yield* store.append(events)
            for (const eventsMax of [1, 2, 100]) {
              expect(offsetsOf(yield* eventsOf(store, filter, { eventsMax }))).toEqual(offsets)
              const down = yield* eventsOf(store, filter, { eventsMax, order: "desc" })
              expect(offsetsOf(down)).toEqual([...offsets].reverse())
            }
          }))
      }
    })

    test("G6: one step of a scan is bounded, whatever matches; following it finds everything", (store) =>
      Effect.gen(function* () {
        const events = makeEvents(5000)
        yield* store.append(events)
        const last = { eventId: "e4999" }
        const windows = yield* windowsOf(store, { filter: last })
        expect(windows.length).toBeGreaterThan(1)
        expectGrowing(windows.map(({ scannedTo }) => scannedTo))
        expect(windows.flatMap((window) => idsOf(window.events))).toEqual(["e4999"])
        const down = yield* windowsOf(store, { filter: { eventId: "e0" }, order: "desc" })
        expect(down.length).toBeGreaterThan(1)
        expect(down.flatMap((window) => idsOf(window.events))).toEqual(["e0"])
        for (const window of yield* windowsOf(store, { eventsMax: 300 })) {
          expect(window.events.length).toBeLessThanOrEqual(300)
        }
        expect(idsOf(yield* eventsOf(store, {}, { eventsMax: 300 }))).toEqual(idsOf(events))
      }))

    test("a cursor ahead of the store is an error that tells the last offset", (store) =>
      Effect.gen(function* () {
        const scan = (order: "asc" | "desc", after: number) =>
          Effect.either(store.scan({ filter: {}, order, after, eventsMax: 10 }))
        const refused = { _tag: "CursorAhead", after: 1, lastOffset: 0 }
        expect(Either.getOrThrow(Either.flip(yield* scan("asc", 1)))).toMatchObject(refused)
        yield* store.append(makeEvents(3))
        yield* store.append(makeEvents(3))
        const { lastOffset } = yield* store.books
        for (const order of ["asc", "desc"] as const) {
          expect(Either.isRight(yield* scan(order, lastOffset))).toBe(true)
          expect(Either.getOrThrow(Either.flip(yield* scan(order, lastOffset + 1)))).toMatchObject({
            _tag: "CursorAhead",
            after: lastOffset + 1,
            lastOffset
          })
        }
      }))

    test("a cursor ahead of the store is an error in the list of conflicts, too", (store) =>
      Effect.gen(function* () {
        yield* store.append(makeEvents(3))
        expect(yield* store.conflicts({ after: 3, limit: 10 })).toEqual({ items: [], more: false })
        const refused = yield* Effect.flip(store.conflicts({ after: 4, limit: 10 }))
        expect(refused).toMatchObject({ _tag: "CursorAhead", after: 4, lastOffset: 3 })
      }))

    test("G3: what is stored is what was sent, in every member", (store) =>
      Effect.gen(function* () {
        // Under keys of their own, so that all of them are stored.
        const made = fc.sample(anyEvent, { numRuns: 300, seed: 1 })
        const events = made.map((event, index) => ({ ...event, eventId: `${index}-${event.eventId}` }))
        yield* store.append(events)
        const stored = yield* eventsOf(store)
        expect(stored).toEqual(
          events.map((event, index) => ({ ...event, offset: index + 1, processedAt: 0, late: false }))
        )
      }))

    it.effect("G2, G3: any events come back as they were sent, the first of each key", () =>
      property(fc.array(anyEvent, { maxLength: 10 }), (store, events) =>
        Effect.gen(function* () {
          yield* store.append(events)
          const stored = yield* Effect.orDie(eventsOf(store))
          expect(stored).toMatchObject(expectedOf([events]).stored)
        })
      )
    )

    it.effect(
      "G2, G3, G4, G5, G8: however events are cut into batches and sent, again and in any order, the set is stored once",
      () =>
        property(deliveriesOf(fc.array(collidingEvent, { maxLength: 25 })), (store, batches) =>
          Effect.gen(function* () {
            const expected = expectedOf(batches)
            const outcomes = yield* Effect.forEach(batches, (batch) => store.append(batch))
            expect(outcomes.map(kindsOf)).toEqual(expected.outcomes)

            const stored = yield* Effect.orDie(eventsOf(store))
            expect(stored).toMatchObject(expected.stored)
            expectGrowing(offsetsOf(stored))
            const offsets = new Map(stored.map((event) => [keyOf(event), event.offset]))
            for (const [index, batch] of batches.entries()) {
              expect(offsetsOf(outcomes[index] ?? [])).toEqual(
                batch.map((event) => offsets.get(keyOf(event)))
              )
            }

            const books = yield* store.books
            expect(books).toMatchObject({
              received: expected.received,
              uniqueProcessed: expected.stored.length,
              duplicateDropped: expected.dropped,
              conflicts: expected.conflicts
            })
            expect(books.received).toBe(books.uniqueProcessed + books.duplicateDropped)
            yield* expectTopicsBalance(store)
          })
        )
    )
  })
}

/** G4: the books of the topics say what the stored events and the books of the whole say. */
const expectTopicsBalance = (store: Store) =>
  Effect.gen(function* () {
    const books = yield* store.books
    const { items } = yield* store.topics({ after: undefined, limit: 1000 })
    const sum = (of: (item: (typeof items)[number]) => number) =>
      items.reduce((total, item) => total + of(item), 0)
    expect(sum(({ events }) => events)).toBe(books.uniqueProcessed)
    expect(sum(({ duplicates }) => duplicates)).toBe(books.duplicateDropped)
    expect(sum(({ conflicts }) => conflicts)).toBe(books.conflicts)
    expect(items.map(({ topic }) => topic)).toEqual(books.topics)
    for (const { topic, events, firstOffset, lastOffset } of items) {
      const offsets = offsetsOf(yield* Effect.orDie(eventsOf(store, { topic: pattern(topic) })))
      expect([offsets.length, offsets[0], offsets.at(-1)]).toEqual([events, firstOffset, lastOffset])
    }
    const { items: conflicted } = yield* store.conflicts({ after: undefined, limit: 1000 })
    expect(conflicted.reduce((total, { conflicts }) => total + conflicts, 0)).toBe(books.conflicts)
  })
