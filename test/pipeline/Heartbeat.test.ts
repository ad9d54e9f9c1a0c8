/**
 * The heartbeat: it is stored while the store is well, and finds out by itself when trouble is over (G7).
 */
import { expect, it } from "@effect/vitest"
import { Effect, Exit, Option, Scope, TestClock } from "effect"
import { beating } from "../../src/pipeline/Heartbeat.ts"
import { EventStore } from "../../src/store/EventStore.ts"
import { memoryStore, unavailable } from "../support/pipeline.ts"

const watched = Effect.gen(function* () {
  const memory = yield* memoryStore
  const calls: Array<string> = []
  let trouble = false
  const fails = Effect.suspend(() => (trouble ? Effect.fail(unavailable) : Effect.void))
  const store = {
    ...memory,
    append: () =>
      Effect.as(
        Effect.zipRight(
          Effect.sync(() => calls.push("probe")),
          fails
        ),
        []
      ),
    beat: (starting: boolean) =>
      Effect.zipRight(
        Effect.sync(() => calls.push(starting ? "start" : "beat")),
        fails
      ),
    trouble: Effect.sync(() => (trouble ? Option.some(unavailable) : Option.none()))
  }
  const scope = yield* Scope.make()
  const begin = beating.pipe(Effect.provideService(EventStore, store), Scope.extend(scope))
  return {
    calls,
    begin,
    end: Scope.close(scope, Exit.void),
    setTrouble: (value: boolean) => {
      trouble = value
    }
  }
})

it.scoped("beats at once, every ten seconds, and at the end", () =>
  Effect.gen(function* () {
    const { calls, begin, end } = yield* watched
    yield* begin
    expect(calls).toEqual(["start"])
    yield* TestClock.adjust("30 seconds")
    expect(calls).toEqual(["start", "beat", "beat", "beat"])
    yield* end
    expect(calls).toEqual(["start", "beat", "beat", "beat", "beat"])
    yield* TestClock.adjust("30 seconds")
    expect(calls).toHaveLength(5)
  })
)

it.scoped(
  "asks a store in trouble to prove itself, and is the first beat of the process until one is stored",
  () =>
    Effect.gen(function* () {
      const { calls, begin, end, setTrouble } = yield* watched
      setTrouble(true)
      yield* begin
      yield* TestClock.adjust("20 seconds")
      expect(calls).toEqual(["probe", "probe", "probe"])
      setTrouble(false)
      yield* TestClock.adjust("10 seconds")
      expect(calls.slice(3)).toEqual(["start"])
      yield* TestClock.adjust("10 seconds")
      expect(calls.slice(4)).toEqual(["beat"])
      yield* end
    })
)
