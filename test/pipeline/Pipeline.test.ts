/**
 * Many publishers at once, through the queue and the one writer, over memory and over a real database: whatever they
 * send, however often, in whatever order, and whichever commits fail meanwhile, the set is stored once and the books
 * balance. Every choice is fast-check's; no time passes.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Either, Fiber, Logger, LogLevel, Option, type Scope } from "effect"
import fc from "fast-check"
import type { SettingsShape } from "../../src/Config.ts"
import type { Event, Outcome } from "../../src/domain/Event.ts"
import { collidingEvent, deliveriesOf, keyOf, makeEvents } from "../support/events.ts"
import {
  hastyClock,
  memoryStore,
  openIntake,
  publish,
  type Queue,
  scriptedStore,
  startConsumer,
  unavailable
} from "../support/pipeline.ts"
import {
  eventsOf,
  interceptedAt,
  openStore,
  type Store,
  sqliteError,
  temporaryFolder
} from "../support/stores.ts"

const run = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>) =>
  effect.pipe(
    Effect.scoped,
    Effect.withClock(hastyClock()),
    Logger.withMinimumLogLevel(LogLevel.None),
    Effect.runPromise
  )

interface Delivery {
  readonly events: ReadonlyArray<Event>
  readonly outcomes: ReadonlyArray<Outcome>
}

/** Sends batches one after the other, each again until it is answered; yields between them as it is told to. */
const publisher = (
  intake: Queue,
  batches: ReadonlyArray<ReadonlyArray<Event>>,
  pauses: ReadonlyArray<number>
) =>
  Effect.forEach(
    batches.filter((batch) => batch.length > 0),
    (events, index) =>
      Effect.gen(function* () {
        for (let pause = 0; pause < (pauses[index % pauses.length] ?? 0); pause++) yield* Effect.yieldNow()
        const outcomes = yield* Effect.retry(publish(intake, events), {
          while: (error) => Effect.as(Effect.yieldNow(), error._tag !== "Draining")
        })
        return { events, outcomes } satisfies Delivery
      })
  )

/** What must hold at the end, whatever the outcomes of failed commits were. */
const expectOnceEach = (store: Store, sent: ReadonlyArray<Event>, deliveries: ReadonlyArray<Delivery>) =>
  Effect.gen(function* () {
    const stored = yield* eventsOf(store)
    const byKey = new Map(stored.map((event) => [keyOf(event), event]))
    // G2, G3: the keys that were sent, once each, each with a content that was sent with it.
    expect(byKey.size).toBe(stored.length)
    expect([...byKey.keys()].sort()).toEqual([...new Set(sent.map(keyOf))].sort())
    for (const event of stored) {
      const { offset, processedAt, late, ...content } = event
      expect(sent.filter((other) => keyOf(other) === keyOf(event))).toContainEqual(content)
    }
    // G8: every answer names the offset of the one stored event.
    for (const { events, outcomes } of deliveries) {
      expect(outcomes.map(({ offset }) => offset)).toEqual(
        events.map((event) => byKey.get(keyOf(event))?.offset)
      )
    }
    // G4
    const books = yield* store.books
    expect(books.received).toBe(books.uniqueProcessed + books.duplicateDropped)
    expect(books.uniqueProcessed).toBe(stored.length)
    // G5
    const offsets = stored.map(({ offset }) => offset)
    expect(offsets).toEqual([...new Set(offsets)].sort((left, right) => left - right))
    expect(books.lastOffset).toBeGreaterThanOrEqual(offsets.at(-1) ?? 0)
    return { stored, books }
  })

interface Publisher {
  readonly batches: ReadonlyArray<ReadonlyArray<Event>>
  /** How often it yields before each batch. */
  readonly pauses: ReadonlyArray<number>
}

const anyPublishers: fc.Arbitrary<ReadonlyArray<Publisher>> = fc.array(
  fc.record({
    batches: deliveriesOf(fc.array(collidingEvent, { maxLength: 12 })),
    pauses: fc.array(fc.nat(6), { minLength: 1, maxLength: 4 })
  }),
  { minLength: 1, maxLength: 5 }
)

const limits: Partial<SettingsShape> = { commitEventsMax: 20, requestEventsMax: 20, queueEventsMax: 30 }

const runPublishers = (store: Store, publishers: ReadonlyArray<Publisher>) =>
  Effect.gen(function* () {
    const intake = yield* openIntake(limits)
    const consumer = yield* startConsumer(intake, store, limits)
    const deliveries = yield* Effect.forEach(
      publishers,
      ({ batches, pauses }) => publisher(intake, batches, pauses),
      { concurrency: "unbounded" }
    )
    yield* intake.close
    yield* consumer.ended
    expect(yield* intake.level).toMatchObject({ events: 0, bytes: 0 })
    return deliveries.flat()
  })

describe("several publishers at once, over a real database", () => {
  it.live("G2, G3, G4, G5, G8: the set is stored once each, and every outcome is told to one delivery", () =>
    Effect.promise(() =>
      fc.assert(
        fc.asyncProperty(anyPublishers, (publishers) =>
          run(
            Effect.gen(function* () {
              const folder = yield* temporaryFolder
              const store = yield* openStore(interceptedAt(`${folder}/sekali.db`, ({ run }) => run))
              const deliveries = yield* runPublishers(store, publishers)
              const sent = publishers.flatMap(({ batches }) => batches.flat())
              const { stored, books } = yield* expectOnceEach(store, sent, deliveries)
              const outcomes = deliveries.flatMap(({ outcomes }) => outcomes)
              const count = (kind: Outcome["outcome"]) =>
                outcomes.filter(({ outcome }) => outcome === kind).length
              expect(outcomes).toHaveLength(sent.length)
              expect(count("stored")).toBe(stored.length)
              expect(books).toMatchObject({
                received: sent.length,
                duplicateDropped: count("duplicate") + count("conflict"),
                conflicts: count("conflict")
              })
            })
          )
        ),
        { numRuns: 50 }
      )
    )
  )

  it.live(
    "G1, G2, G7: also while commits fail, done or not, and publishers send again until they are answered",
    () =>
      Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(
            anyPublishers,
            fc.array(fc.constantFrom("works", "works", "fails", "fails although done", "breaks"), {
              maxLength: 12
            }),
            (publishers, commits) =>
              run(
                Effect.gen(function* () {
                  const folder = yield* temporaryFolder
                  let opened = false
                  let commit = 0
                  let broken = false
                  const store = yield* openStore(
                    interceptedAt(`${folder}/sekali.db`, ({ sql, run }) =>
                      Effect.suspend(() => {
                        if (!opened) return run
                        if (sql === "ROLLBACK" && broken) return sqliteError("SQLITE_IOERR")
                        if (sql !== "COMMIT") return run
                        const fate = commits[commit++] ?? "works"
                        broken = fate === "breaks"
                        if (fate === "works") return run
                        const failure = sqliteError("SQLITE_IOERR_FSYNC")
                        return fate === "fails although done" ? Effect.zipRight(run, failure) : failure
                      })
                    )
                  )
                  opened = true
                  const deliveries = yield* runPublishers(store, publishers)
                  const sent = publishers.flatMap(({ batches }) => batches.flat())
                  yield* expectOnceEach(store, sent, deliveries)
                })
              )
          ),
          { numRuns: 50 }
        )
      )
  )
})

describe("submissions of any size", () => {
  const anySubmissions = fc.array(
    fc.record({
      size: fc.integer({ min: 1, max: 10 }),
      pause: fc.nat(8),
      /** After how many yields the publisher goes away, if it does. */
      leaves: fc.option(fc.nat(10))
    }),
    { minLength: 1, maxLength: 30 }
  )

  it.live(
    "are each appended whole, at most once, in their order, and every publisher that stays is answered",
    () =>
      Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(
            anySubmissions,
            fc.array(fc.boolean(), { maxLength: 10 }),
            (submissions, failing) =>
              run(
                Effect.gen(function* () {
                  const { store, appends, script, runningMost } = scriptedStore(yield* memoryStore)
                  script((_, attempt) =>
                    Effect.zipRight(
                      Effect.yieldNow(),
                      failing[attempt - 1] === true ? unavailable : Effect.void
                    )
                  )
                  const settings = { commitEventsMax: 12, requestEventsMax: 10, queueEventsMax: 40 }
                  const intake = yield* openIntake(settings)
                  const consumer = yield* startConsumer(intake, store, settings)
                  const fibers = yield* Effect.forEach(submissions, ({ size, pause }, index) =>
                    Effect.gen(function* () {
                      for (let step = 0; step < pause; step++) yield* Effect.yieldNow()
                      return yield* Effect.either(publish(intake, makeEvents(size, {}, `${index}-`)))
                    }).pipe(Effect.fork)
                  )
                  const leaving = yield* Effect.forEach(submissions, ({ leaves }, index) =>
                    Effect.gen(function* () {
                      const fiber = fibers[index]
                      if (leaves === null || fiber === undefined) return
                      for (let step = 0; step < leaves; step++) yield* Effect.yieldNow()
                      yield* Fiber.interrupt(fiber)
                    }).pipe(Effect.fork)
                  )
                  yield* Effect.forEach(leaving, Fiber.join)
                  const results = yield* Effect.forEach(fibers, Fiber.await)
                  yield* intake.close
                  yield* consumer.ended

                  expect(runningMost()).toBeLessThanOrEqual(1)
                  expect(yield* intake.level).toMatchObject({ events: 0, bytes: 0 })
                  const stored = new Set((yield* eventsOf(store)).map(({ eventId }) => eventId))
                  for (const [index, { size, leaves }] of submissions.entries()) {
                    const ids = makeEvents(size, {}, `${index}-`).map(({ eventId }) => eventId)
                    // Whole in one append, or in none.
                    const tried = appends.map((events) =>
                      events.map(({ eventId }) => eventId).filter((id) => id.startsWith(`${index}-`))
                    )
                    const own = tried.filter((found) => found.length > 0)
                    expect(own.length).toBeLessThanOrEqual(1)
                    if (own[0] !== undefined) expect(own[0]).toEqual(ids)
                    const committed = ids.filter((id) => stored.has(id)).length
                    expect([0, size]).toContain(committed)

                    const result = results[index]
                    if (result?._tag !== "Success") {
                      expect(leaves).not.toBeNull()
                      continue
                    }
                    if (Either.isRight(result.value)) {
                      expect(committed).toBe(size)
                      expect(result.value.right.map(({ outcome }) => outcome)).toEqual(
                        ids.map(() => "stored")
                      )
                    } else {
                      expect(["Overloaded", "StoreUnavailable"]).toContain(result.value.left._tag)
                      expect(committed).toBe(0)
                    }
                  }
                  for (const [index, events] of appends.entries()) {
                    expect(events.length).toBeLessThanOrEqual(12)
                    // After a failure one at a time.
                    const owners = new Set(events.map(({ eventId }) => eventId.split("-")[0]))
                    if (index > 0 && failing[index - 1] === true) expect(owners.size).toBeLessThanOrEqual(1)
                  }
                  expect(Option.isNone(yield* store.trouble)).toBe(true)
                })
              )
          ),
          { numRuns: 150 }
        )
      )
  )
})
