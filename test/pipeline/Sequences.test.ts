/**
 * Gaps in sequences are declared missing in time, by themselves: the fiber beside the Consumer's, with the settings, on
 * the clock that the test moves.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Either, Logger, TestClock } from "effect"
import { makeEvent } from "../support/events.ts"
import {
  memoryStore,
  openIntake,
  publish,
  settled,
  startConsumer,
  startPipeline,
  unavailable
} from "../support/pipeline.ts"

const numbered = (...numbers: ReadonlyArray<number>) =>
  numbers.map((sequence) => makeEvent({ eventId: `e${sequence}`, sequence }))

/** Lets time pass as a clock does, a look of the fiber at a time. */
const pass = (seconds: number) =>
  Effect.repeatN(Effect.zipRight(TestClock.adjust("250 millis"), settled), seconds * 4 - 1)

describe("a gap", () => {
  it.scoped(
    "is declared missing when it has been open for SEKALI_GAP_SECONDS, and what fills it then is late",
    () =>
      Effect.gen(function* () {
        const { intake, store } = yield* startPipeline({ gapSeconds: 5 })
        const sums = Effect.map(store.books, ({ sequences }) => sequences)
        yield* publish(intake, numbered(0, 3))
        yield* pass(4)
        expect(yield* sums).toMatchObject({ gapsOpen: 1, declared: 0 })
        yield* pass(2)
        expect(yield* sums).toMatchObject({ gapsOpen: 0, declared: 2, late: 0 })
        yield* publish(intake, numbered(1))
        expect(yield* sums).toMatchObject({ gapsOpen: 0, declared: 2, late: 1 })
      })
  )

  it.scoped("is declared missing when it is further behind than SEKALI_GAP_EVENTS", () =>
    Effect.gen(function* () {
      const { intake, store } = yield* startPipeline({ gapSeconds: 3600, gapEvents: 3 })
      const sums = Effect.map(store.books, ({ sequences }) => sequences)
      yield* publish(intake, numbered(0, 2, 3, 4))
      yield* pass(2)
      expect(yield* sums).toMatchObject({ gapsOpen: 1, declared: 0 })
      yield* publish(intake, numbered(5))
      yield* pass(2)
      expect(yield* sums).toMatchObject({ gapsOpen: 0, declared: 1 })
    })
  )

  it.scoped(
    "that cannot be declared missing is said to be so once, and is when the store is well again",
    () =>
      Effect.gen(function* () {
        const lines: Array<string> = []
        const logger = Logger.make(({ message, logLevel }) => void lines.push(`${logLevel.label} ${message}`))
        const store = yield* memoryStore
        const intake = yield* openIntake()
        let well = false
        const declareMissing: typeof store.declareMissing = (limits) =>
          Effect.flatMap(Either.right(undefined), () => (well ? store.declareMissing(limits) : unavailable))
        yield* Effect.gen(function* () {
          yield* startConsumer(intake, { ...store, declareMissing }, { gapSeconds: 1 })
          yield* publish(intake, numbered(0, 3))
          yield* pass(5)
          expect(lines).toEqual(["ERROR gaps in sequences cannot be declared missing"])
          well = true
          yield* pass(1)
          expect((yield* store.books).sequences).toMatchObject({ gapsOpen: 0, declared: 2 })
          expect(lines.slice(1)).toEqual(["WARN missing: a gap in a sequence was given up"])
        }).pipe(Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
      })
  )
})
