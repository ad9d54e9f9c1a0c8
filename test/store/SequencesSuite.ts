/**
 * What the port `EventStore` promises of sequences, as one suite that every implementation of it has to pass.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Option, type Scope, TestClock, TestContext } from "effect"
import fc from "fast-check"
import { SequenceLimits } from "../../src/Config.ts"
import type { Event } from "../../src/domain/Event.ts"
import { parseTopicPattern } from "../../src/domain/Topic.ts"
import type { SourceBook, SourcesPage } from "../../src/store/EventStore.ts"
import { collidingEvent, keyOf, makeEvent } from "../support/events.ts"
import { bookOf, NaiveSequences } from "../support/sequences.ts"
import { eventsOf, type Store } from "../support/stores.ts"

const pattern = (text: string) => Option.getOrThrow(parseTopicPattern(text))

/** Every series that a page's filter lets through, however the pages are cut. */
export const sourcesOf = (store: Store, page: Partial<SourcesPage> = {}) =>
  Effect.gen(function* () {
    const books: Array<SourceBook> = []
    let after = page.after
    while (true) {
      const listing = yield* store.sources({
        topic: undefined,
        source: undefined,
        limit: 100,
        ...page,
        after
      })
      books.push(...listing.items)
      if (!listing.more) return books
      expect(listing.scannedTo).toBeGreaterThan(after ?? 0)
      after = listing.scannedTo
    }
  })

let made = 0

/** Events with these numbers, each under a key of its own. */
const numbered = (numbers: ReadonlyArray<number | null>, event: Partial<Omit<Event, "time">> = {}) =>
  numbers.map((sequence) => makeEvent({ topic: "a", source: "s", ...event, sequence, eventId: `n${made++}` }))

const never = { secondsMax: 3600, eventsMax: 1_000_000 }

const step = fc.oneof(
  { weight: 4, arbitrary: fc.array(collidingEvent, { maxLength: 8 }) },
  // Keys of their own, so that numbers meet that are not duplicates.
  {
    weight: 6,
    arbitrary: fc.array(
      fc.record({
        topic: fc.constantFrom("a", "b"),
        source: fc.constantFrom("x", "y"),
        sequence: fc.oneof(fc.nat(25), fc.nat(12)),
        eventId: fc.uuid()
      }),
      { maxLength: 8 }
    )
  },
  {
    weight: 2,
    arbitrary: fc.record({ secondsMax: fc.constantFrom(1, 10), eventsMax: fc.constantFrom(2, 9, 99) })
  },
  { weight: 2, arbitrary: fc.constantFrom(500, 1000, 4000) }
)

/** Holds an implementation, opened empty in each test, to the port's promises of sequences. */
export const sequencesSuite = (name: string, open: Effect.Effect<Store, unknown, Scope.Scope>) => {
  const test = <E>(title: string, body: (store: Store) => Effect.Effect<void, E, Scope.Scope>) =>
    it.scoped(title, () => Effect.flatMap(open, body))

  const only = (store: Store) => Effect.map(sourcesOf(store), ([book]) => book && bookOf(book))

  describe(`${name}, sequences`, () => {
    test("events without a sequence open no series", (store) =>
      Effect.gen(function* () {
        yield* store.append(numbered([null, null]))
        expect(yield* sourcesOf(store)).toEqual([])
        expect((yield* store.books).sequences).toEqual({
          sources: 0,
          gapsOpen: 0,
          declared: 0,
          late: 0,
          reused: 0
        })
      }))

    test("the first number opens the series, later ones open gaps and close them", (store) =>
      Effect.gen(function* () {
        const book = { topic: "a", source: "s", first: 7, declared: 0, late: 0, reused: 0 }
        yield* store.append(numbered([7, 8]))
        expect(yield* only(store)).toEqual({ ...book, contiguous: 8, highest: 8, gapsOpen: 0, gaps: [] })
        yield* store.append(numbered([14]))
        expect(yield* only(store)).toEqual({
          ...book,
          contiguous: 8,
          highest: 14,
          gapsOpen: 1,
          gaps: [[9, 13]]
        })
        yield* store.append(numbered([11]))
        const cut = [
          [9, 10],
          [12, 13]
        ]
        expect(yield* only(store)).toEqual({ ...book, contiguous: 8, highest: 14, gapsOpen: 2, gaps: cut })
        yield* store.append(numbered([10, 9]))
        expect(yield* only(store)).toEqual({
          ...book,
          contiguous: 11,
          highest: 14,
          gapsOpen: 1,
          gaps: [[12, 13]]
        })
        // What is from before the series moves nothing, and 13 stays open beside it.
        yield* store.append(numbered([12, 3]))
        expect(yield* only(store)).toEqual({
          ...book,
          contiguous: 12,
          highest: 14,
          gapsOpen: 1,
          gaps: [[13, 13]]
        })
        expect((yield* store.books).sequences).toEqual({
          sources: 1,
          gapsOpen: 1,
          declared: 0,
          late: 0,
          reused: 0
        })
      }))

    test("each topic and source is a series of its own", (store) =>
      Effect.gen(function* () {
        yield* store.append([
          ...numbered([1, 2], { source: "s" }),
          ...numbered([5], { source: "t" }),
          ...numbered([0, 9], { topic: "a.b", source: "s" })
        ])
        const books = yield* sourcesOf(store)
        expect(books.map(({ topic, source, first, highest }) => [topic, source, first, highest])).toEqual([
          ["a", "s", 1, 2],
          ["a", "t", 5, 5],
          ["a.b", "s", 0, 9]
        ])
      }))

    test("a gap that is open too long is declared missing, once; what comes then is late and stored", (store) =>
      Effect.gen(function* () {
        const limits = { secondsMax: 30, eventsMax: 1_000_000 }
        yield* store.append(numbered([1, 5]))
        yield* TestClock.adjust("20 seconds")
        yield* store.append(numbered([8]))
        yield* TestClock.adjust("9999 millis")
        expect(yield* store.declareMissing(limits)).toBe(0)
        yield* TestClock.adjust("1 millis")
        expect(yield* store.declareMissing(limits)).toBe(1)
        expect(yield* store.declareMissing(limits)).toBe(0)
        expect(yield* only(store)).toMatchObject({ contiguous: 5, declared: 3, late: 0, gaps: [[6, 7]] })

        yield* store.append([...numbered([3]), ...numbered([6])])
        expect(yield* only(store)).toMatchObject({ contiguous: 6, declared: 3, late: 1, gaps: [[7, 7]] })
        const stored = yield* eventsOf(store)
        expect(stored.map(({ sequence, late }) => [sequence, late])).toEqual([
          [1, false],
          [5, false],
          [8, false],
          [3, true],
          [6, false]
        ])
        const late = stored[3]
        if (late === undefined) throw new Error("five events")
        expect(Option.getOrThrow(yield* store.lookup(late)).event.late).toBe(true)
        expect((yield* store.books).sequences).toEqual({
          sources: 1,
          gapsOpen: 1,
          declared: 3,
          late: 1,
          reused: 0
        })
      }))

    test("a gap that is too far behind is declared missing, as soon as its last number is", (store) =>
      Effect.gen(function* () {
        const limits = { secondsMax: 3600, eventsMax: 10 }
        yield* store.append(numbered([0, 5]))
        yield* store.append(numbered([6, 7, 8, 9, 10, 11, 12, 13, 14]))
        expect(yield* store.declareMissing(limits)).toBe(0)
        yield* store.append(numbered([15, 20]))
        expect(yield* store.declareMissing(limits)).toBe(1)
        expect(yield* only(store)).toMatchObject({ contiguous: 15, declared: 4, gaps: [[16, 19]] })
      }))

    test("the same number under another id is stored, counted, and moves nothing else", (store) =>
      Effect.gen(function* () {
        yield* store.append(numbered([4, 4, 6]))
        yield* store.append(numbered([6, 4, 7, 7]))
        expect(yield* only(store)).toMatchObject({ highest: 7, contiguous: 4, gaps: [[5, 5]], reused: 4 })
        yield* store.declareMissing({ secondsMax: 0, eventsMax: 1 })
        yield* store.append(numbered([5, 5]))
        yield* store.append(numbered([5]))
        expect(yield* only(store)).toMatchObject({ declared: 1, late: 1, reused: 6 })
        expect((yield* eventsOf(store)).filter(({ late }) => late)).toHaveLength(1)
        expect((yield* store.books).uniqueProcessed).toBe(10)
      }))

    test("duplicates and conflicts move nothing, whatever number they bear", (store) =>
      Effect.gen(function* () {
        const [event] = numbered([1])
        if (event === undefined) throw new Error("one event")
        yield* store.append([event, { ...event, sequence: 2 }, { ...event, sequence: 9, payload: "[1]" }])
        yield* store.append([
          { ...event, sequence: 1 },
          { ...event, sequence: null },
          { ...event, source: "t", sequence: 0 }
        ])
        expect(yield* sourcesOf(store)).toHaveLength(1)
        expect(yield* only(store)).toMatchObject({ first: 1, highest: 1, gapsOpen: 0, reused: 0, late: 0 })
      }))

    test("G6: where more gaps are open than the limit, the oldest are declared missing in the same commit", (store) =>
      Effect.gen(function* () {
        const append = (numbers: ReadonlyArray<number>) =>
          Effect.provideService(store.append(numbered(numbers)), SequenceLimits, { gapsMax: 2 })
        yield* append([0, 2])
        yield* TestClock.adjust("1 second")
        yield* append([4])
        expect(yield* only(store)).toMatchObject({ gapsOpen: 2, declared: 0 })
        yield* append([6, 9])
        expect(yield* only(store)).toMatchObject({
          gapsOpen: 2,
          declared: 2,
          contiguous: 4,
          gaps: [
            [5, 5],
            [7, 8]
          ]
        })
        yield* append([1])
        expect(yield* only(store)).toMatchObject({ late: 1 })
      }))

    test("a jump over all numbers there are is one gap", (store) =>
      Effect.gen(function* () {
        const last = Number.MAX_SAFE_INTEGER
        for (const source of ["s", "t", "u"]) yield* store.append(numbered([0, last], { source }))
        yield* store.declareMissing({ secondsMax: 0, eventsMax: 1 })
        const books = yield* sourcesOf(store)
        expect(books.map(({ declared, contiguous }) => [declared, contiguous])).toEqual(
          Array.from({ length: 3 }, () => [last - 1, last])
        )
        // The sum stops where JavaScript's whole numbers do.
        expect((yield* store.books).sequences.declared).toBe(last)
      }))

    test("events are read by sequence, then by offset; the cursor is the offset of one of them", (store) =>
      Effect.gen(function* () {
        yield* store.append([
          ...numbered([5, 2, 9], { source: "s" }),
          ...numbered([1, null], { source: "t" }),
          ...numbered([2, null, 0], { source: "s" }),
          ...numbered([3], { topic: "a.b", source: "s" })
        ])
        const filter = { topic: pattern("a"), source: "s" }
        for (const eventsMax of [1, 2, 100]) {
          const read = yield* eventsOf(store, filter, { order: "sequence", eventsMax })
          expect(read.map(({ sequence, offset }) => [sequence, offset])).toEqual([
            [0, 8],
            [2, 2],
            [2, 6],
            [5, 1],
            [9, 3]
          ])
        }
        const behind = yield* eventsOf(store, filter, { order: "sequence", after: 2 })
        expect(behind.map(({ offset }) => offset)).toEqual([6, 1, 3])
        // Of another source, without a sequence, in another topic.
        for (const after of [4, 7, 9]) {
          const refused = yield* Effect.flip(store.scan({ filter, order: "sequence", after, eventsMax: 10 }))
          expect(refused).toMatchObject({ _tag: "CursorOutside", after })
        }
        expect(
          yield* Effect.flip(store.scan({ filter, order: "sequence", after: 10, eventsMax: 10 }))
        ).toMatchObject({ _tag: "CursorAhead" })
        const nothing = { topic: pattern("b"), source: "s" }
        expect(yield* eventsOf(store, nothing, { order: "sequence" })).toEqual([])
      }))

    test("series are listed in the order in which they were opened, by topic, pattern and source", (store) =>
      Effect.gen(function* () {
        for (const [topic, source] of [
          ["b", "x"],
          ["a", "y"],
          ["a.b", "x"],
          ["a", "x"]
        ]) {
          yield* store.append(numbered([0], { topic: topic ?? "", source: source ?? "" }))
        }
        const cases: ReadonlyArray<readonly [Partial<SourcesPage>, ReadonlyArray<number>]> = [
          [{}, [1, 2, 3, 4]],
          [{ after: 2 }, [3, 4]],
          [{ after: 99 }, []],
          [{ topic: pattern("a") }, [2, 4]],
          [{ topic: pattern("a"), source: "x" }, [4]],
          [{ topic: pattern("a.>") }, [3]],
          [{ topic: pattern("*") }, [1, 2, 4]],
          [{ topic: pattern("*"), source: "x" }, [1, 4]],
          [{ source: "x" }, [1, 3, 4]],
          [{ topic: pattern("z") }, []]
        ]
        for (const limit of [1, 2, 100]) {
          for (const [page, ids] of cases) {
            const listed = yield* sourcesOf(store, { ...page, limit })
            expect([page, listed.map(({ id }) => id)]).toEqual([page, ids])
          }
        }
      }))

    it.effect(
      "G4: the books are what a naive model says of the same events, in any order, with duplicates, conflicts and gaps given up",
      () =>
        Effect.promise(() =>
          fc.assert(
            fc.asyncProperty(fc.array(step, { maxLength: 25 }), (steps) =>
              Effect.gen(function* () {
                const store = yield* open
                const model = new NaiveSequences()
                let now = 0
                for (const step of steps) {
                  if (typeof step === "number") {
                    now += step
                    yield* TestClock.adjust(step)
                  } else if ("secondsMax" in step) {
                    const count = yield* store.declareMissing(step)
                    expect(count).toBe(model.declareMissing(now, step.secondsMax, step.eventsMax))
                  } else {
                    const events = step.map((event) => makeEvent(event))
                    yield* store.append(events)
                    model.append(events, now, 3)
                  }
                  const books = yield* sourcesOf(store)
                  expect(books.map(bookOf)).toEqual(model.books())
                }
                const { sequences } = yield* store.books
                const books = model.books()
                const sum = (of: (book: (typeof books)[number]) => number) =>
                  books.reduce((total, book) => total + of(book), 0)
                expect(sequences).toEqual({
                  sources: books.length,
                  gapsOpen: sum(({ gapsOpen }) => gapsOpen),
                  declared: sum(({ declared }) => declared),
                  late: sum(({ late }) => late),
                  reused: sum(({ reused }) => reused)
                })
                // Declared = still missing + came late.
                expect(sequences.declared).toBe(model.missing() + sequences.late)
                const stored = yield* eventsOf(store)
                expect(stored.filter(({ late }) => late).map(keyOf)).toEqual(model.late)
              }).pipe(
                Effect.provideService(SequenceLimits, { gapsMax: 3 }),
                Effect.scoped,
                Effect.provide(TestContext.TestContext),
                Effect.runPromise
              )
            ),
            { numRuns: 100 }
          )
        )
    )

    test("nothing is due where nothing is open", (store) =>
      Effect.gen(function* () {
        yield* store.append(numbered([1, 2, 3]))
        yield* TestClock.adjust("1 day")
        expect(yield* store.declareMissing(never)).toBe(0)
      }))
  })
}
