/**
 * What the client's tests share: publishers on `fetch` over real sockets, by the real clock or by one that the test
 * moves, and waiting for explicit conditions.
 */
import { FetchHttpClient, type HttpClient } from "@effect/platform"
import { Duration, Effect, type Scope, TestClock, TestContext } from "effect"
import { type EventToPublish, make, type PublisherOptions, type Retry } from "../../src/client/Publisher.ts"

/** Runs an effect with a publisher in it, by the real clock. */
export const live = <A, E>(effect: Effect.Effect<A, E, HttpClient.HttpClient | Scope.Scope>): Promise<A> =>
  Effect.runPromise(Effect.scoped(effect).pipe(Effect.provide(FetchHttpClient.layer)))

/** Runs an effect with a publisher in it, by a clock that stands still until the test moves it. */
export const timed = <A, E>(effect: Effect.Effect<A, E, HttpClient.HttpClient | Scope.Scope>): Promise<A> =>
  live(effect.pipe(Effect.provide(TestContext.TestContext)))

/** A publisher that loses no time: events leave at once, and retries hardly wait. */
export const quick = (options: PublisherOptions) =>
  make({ lingerMillis: 0, backoffMillisFirst: 1, backoffMillisMax: 5, ...options })

/** An event with all that the test does not care about. */
export const event = (event_id: string, further: Partial<EventToPublish> = {}): EventToPublish => ({
  topic: "test.topic",
  event_id,
  timestamp: "2026-11-22T10:00:00.123Z",
  source: "service-a",
  ...further
})

/** Events with the ids `<prefix>0`, `<prefix>1` and so on. */
export const events = (
  count: number,
  further: Partial<EventToPublish> = {},
  prefix = "e"
): ReadonlyArray<EventToPublish> =>
  Array.from({ length: count }, (_, n) => event(`${prefix}${n}`, { payload: { n }, ...further }))

const nextTurn = Effect.promise(() => new Promise<void>((resolve) => setImmediate(resolve)))

/** Waits until it is so; the test's own limit ends it. */
export const untilTrue = <E, R>(condition: Effect.Effect<boolean, E, R>): Effect.Effect<void, E, R> =>
  Effect.flatMap(condition, (met) => (met ? Effect.void : Effect.zipRight(nextTurn, untilTrue(condition))))

/** Waits until somebody sleeps until this time, in milliseconds. */
export const untilAsleep = (at: number): Effect.Effect<void> =>
  untilTrue(Effect.map(TestClock.sleeps(), (sleeps) => [...sleeps].includes(at)))

/** Moves the clock on to when somebody who sleeps for so long wakes, once somebody does. */
export const wakeAfter = (duration: Duration.DurationInput): Effect.Effect<void> =>
  Effect.gen(function* () {
    const now = yield* TestClock.currentTimeMillis
    const at = now + Duration.toMillis(duration)
    yield* untilAsleep(at)
    yield* TestClock.setTime(at)
  })

/** Remembers what a publisher is told of its retries. */
export const makeRetries = () => {
  const retries: Array<Retry> = []
  return {
    retries,
    onRetry: (retry: Retry) => Effect.sync(() => void retries.push(retry)),
    /** Waits for the retry of this number, from 0. */
    nth: (number: number) =>
      Effect.flatMap(untilTrue(Effect.sync(() => retries.length > number)), () =>
        Effect.sync(() => retries[number] as Retry)
      )
  }
}
