/**
 * What the port `EventStore` promises of heartbeats and outages, as one suite that every implementation has to pass.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, type Scope, TestClock } from "effect"
import type { Store } from "../support/stores.ts"

/** Holds an implementation, opened empty in each test, to the port's promises of availability. */
export const availabilitySuite = (name: string, open: Effect.Effect<Store, unknown, Scope.Scope>) => {
  const test = <E>(title: string, body: (store: Store) => Effect.Effect<void, E, Scope.Scope>) =>
    it.scoped(title, () => Effect.flatMap(open, body))

  /** Lets a time pass in which a heartbeat is stored every ten seconds. */
  const live = (store: Store, seconds: number) =>
    Effect.repeatN(Effect.zipRight(TestClock.adjust("10 seconds"), store.beat(false)), seconds / 10 - 1)

  /** Lets a time pass without, of which nothing has to be stored. */
  const sleep = (seconds: number) => TestClock.adjust(`${seconds} seconds`)

  describe(`${name}, availability`, () => {
    test("is whole before the first heartbeat, and while they come", (store) =>
      Effect.gen(function* () {
        const whole = { share: 1, downtimeSeconds: 0 }
        expect(yield* store.availability).toEqual({ day: whole, month: whole })
        yield* sleep(86_400)
        yield* store.beat(true)
        expect(yield* store.availability).toEqual({ day: whole, month: whole })
        yield* live(store, 300)
        yield* sleep(15)
        expect(yield* store.availability).toEqual({ day: whole, month: whole })
      }))

    test("counts from the last heartbeat to the first of the next process, however short that is", (store) =>
      Effect.gen(function* () {
        yield* store.beat(true)
        yield* live(store, 90)
        yield* sleep(10)
        yield* store.beat(true)
        const told = { share: 0.9, downtimeSeconds: 10 }
        expect(yield* store.availability).toEqual({ day: told, month: told })
      }))

    test("counts a stretch without heartbeats while the process lives, also the one that lasts", (store) =>
      Effect.gen(function* () {
        yield* store.beat(true)
        yield* live(store, 60)
        yield* sleep(20)
        const running = yield* store.availability
        expect(running.day).toEqual({ share: 0.75, downtimeSeconds: 20 })
        yield* sleep(20)
        yield* store.beat(false)
        yield* live(store, 100)
        expect((yield* store.availability).day).toEqual({ share: 0.8, downtimeSeconds: 40 })
      }))
  })
}
