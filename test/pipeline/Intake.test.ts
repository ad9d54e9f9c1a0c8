/**
 * The queue between requests and the Consumer: it is bounded in events and bytes, room is taken once and given back
 * once however a request ends, submissions come out whole and in their order, and closing is one step.
 */
import { describe, expect, it } from "@effect/vitest"
import { Chunk, Deferred, Effect, Either, Exit, Fiber, Option, Scope } from "effect"
import fc from "fast-check"
import { packed } from "../../src/domain/Event.ts"
import type { Room, Submission } from "../../src/pipeline/Intake.ts"
import { makeEvents } from "../support/events.ts"
import { openIntake, publish, type Queue, settled } from "../support/pipeline.ts"

const limits = { queueEventsMax: 10, queueBytesMax: 100 }

const levelOf = (intake: Queue) => Effect.map(intake.level, ({ events, bytes }) => [events, bytes])

/** Takes all that waits as the Consumer does: the sizes of the submissions. */
const takeSizes = (intake: Queue, eventsMax: number) =>
  Effect.map(
    intake.poll(eventsMax),
    Option.map((submissions) => [...submissions].map(({ events }) => events.length))
  )

const settleAll = (intake: Queue) => Effect.flatMap(intake.unsettled, intake.settle)

/** Offers in a scope that closes at once, as that of a request whose publisher does not wait. */
const offer = (intake: Queue, count: number, bytes = 0, prefix?: string) =>
  Effect.scoped(
    Effect.flatMap(intake.admit(bytes), (room) => room.offer(packed(makeEvents(count, {}, prefix)), 0n))
  )

const refusalOf = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.map(Effect.either(effect), Either.flip)

describe("G6: the queue is bounded", () => {
  it.scoped("G6: in bytes: a body that does not fit is refused before it is held, and takes nothing", () =>
    Effect.gen(function* () {
      const intake = yield* openIntake(limits)
      expect(yield* intake.level).toEqual({ events: 0, eventsMax: 10, bytes: 0, bytesMax: 100 })
      yield* intake.admit(60)
      const refused = yield* Effect.scoped(refusalOf(intake.admit(41)))
      expect(Either.getOrThrow(refused)).toMatchObject({ _tag: "Overloaded", bound: "bytes" })
      expect(yield* levelOf(intake)).toEqual([0, 60])
      yield* intake.admit(40)
      expect(yield* levelOf(intake)).toEqual([0, 100])
      yield* intake.admit(0)
      expect(Either.isRight(yield* Effect.scoped(refusalOf(intake.admit(1))))).toBe(true)
    })
  )

  it.scoped("G6: in bytes of a body whose length is not known: it grows until it does not fit", () =>
    Effect.gen(function* () {
      const intake = yield* openIntake(limits)
      yield* Effect.scoped(
        Effect.gen(function* () {
          const room = yield* intake.admit(0)
          yield* room.grow(70)
          yield* room.grow(30)
          expect(Either.getOrThrow(yield* refusalOf(room.grow(1)))).toMatchObject({
            _tag: "Overloaded",
            bound: "bytes"
          })
          expect(yield* levelOf(intake)).toEqual([0, 100])
        })
      )
      expect(yield* levelOf(intake)).toEqual([0, 0])
    })
  )

  it.scoped("G6: in events: an offer that does not fit is refused, and its bytes are given back", () =>
    Effect.gen(function* () {
      const intake = yield* openIntake(limits)
      yield* offer(intake, 7, 10)
      expect(Either.getOrThrow(yield* refusalOf(offer(intake, 4, 10)))).toMatchObject({
        _tag: "Overloaded",
        bound: "events"
      })
      expect(yield* levelOf(intake)).toEqual([7, 10])
      yield* offer(intake, 3, 10)
      expect(yield* levelOf(intake)).toEqual([10, 20])
      expect(Either.isRight(yield* refusalOf(offer(intake, 1)))).toBe(true)
    })
  )

  it.scoped("G6: until the commit: what was taken still counts, what was settled does not", () =>
    Effect.gen(function* () {
      const intake = yield* openIntake(limits)
      yield* offer(intake, 10, 100)
      const taken = Option.getOrThrow(yield* intake.take(10))
      expect(yield* levelOf(intake)).toEqual([10, 100])
      expect(Either.isRight(yield* refusalOf(offer(intake, 1)))).toBe(true)
      yield* intake.settle(taken)
      expect(yield* levelOf(intake)).toEqual([0, 0])
      yield* offer(intake, 10, 100)
    })
  )

  it.scoped("G6: an overload is a 503 that says when to come again", () =>
    Effect.gen(function* () {
      const intake = yield* openIntake(limits)
      const error = Either.getOrThrow(yield* Effect.scoped(refusalOf(intake.admit(101))))
      expect(error.problem).toMatchObject({ status: 503, retryAfterSeconds: 1 })
    })
  )
})

describe("A submission is whole: room is given back exactly once", () => {
  it.scoped("when the request ends before it offered", () =>
    Effect.gen(function* () {
      const intake = yield* openIntake(limits)
      yield* Effect.scoped(Effect.flatMap(intake.admit(50), (room) => room.grow(10)))
      expect(yield* levelOf(intake)).toEqual([0, 0])
    })
  )

  it.scoped("when the request is interrupted before it offered", () =>
    Effect.gen(function* () {
      const intake = yield* openIntake(limits)
      const request = yield* Effect.fork(Effect.scoped(Effect.zipRight(intake.admit(50), Effect.never)))
      yield* settled
      expect(yield* levelOf(intake)).toEqual([0, 50])
      yield* Fiber.interrupt(request)
      expect(yield* levelOf(intake)).toEqual([0, 0])
    })
  )

  it.scoped(
    "when the publisher is gone after the offer: the submission stays, and the commit gives back",
    () =>
      Effect.gen(function* () {
        const intake = yield* openIntake(limits)
        const request = yield* Effect.fork(publish(intake, makeEvents(3), 50))
        yield* settled
        yield* Fiber.interrupt(request)
        expect(yield* levelOf(intake)).toEqual([3, 50])
        const taken = Option.getOrThrow(yield* intake.take(10))
        expect(Chunk.size(taken)).toBe(1)
        yield* intake.settle(taken)
        expect(yield* levelOf(intake)).toEqual([0, 0])
      })
  )

  it.scoped("when the offer is refused because the queue is full, or closed", () =>
    Effect.gen(function* () {
      const intake = yield* openIntake(limits)
      yield* offer(intake, 10, 1)
      expect(Either.isRight(yield* refusalOf(offer(intake, 1, 50)))).toBe(true)
      expect(yield* levelOf(intake)).toEqual([10, 1])
      const scope = yield* Scope.make()
      const room = yield* Scope.extend(intake.admit(50), scope)
      yield* intake.close
      expect(Either.getOrThrow(yield* refusalOf(room.offer(packed(makeEvents(1)), 0n)))._tag).toBe("Draining")
      expect(yield* levelOf(intake)).toEqual([10, 51])
      yield* Scope.close(scope, Exit.void)
      expect(yield* levelOf(intake)).toEqual([10, 1])
    })
  )

  it.scoped("when a submission is settled twice", () =>
    Effect.gen(function* () {
      const intake = yield* openIntake(limits)
      yield* offer(intake, 2, 20, "a")
      yield* offer(intake, 3, 30, "b")
      const taken = Option.getOrThrow(yield* intake.take(2))
      yield* intake.settle(taken)
      yield* intake.settle(taken)
      expect(yield* levelOf(intake)).toEqual([3, 30])
      expect(yield* intake.unsettled).toHaveLength(1)
    })
  )

  it.scoped("at whatever point the request is interrupted: offering is done as a whole or not at all", () =>
    Effect.gen(function* () {
      const intake = yield* openIntake({ queueEventsMax: 1000, queueBytesMax: 10_000 })
      // Yields before each step, so that the interruption can fall between any two of them.
      const request = Effect.scoped(
        Effect.gen(function* () {
          yield* Effect.yieldNow()
          const room = yield* intake.admit(10)
          yield* Effect.yieldNow()
          yield* room.grow(5)
          yield* Effect.yieldNow()
          const outcomes = yield* room.offer(packed(makeEvents(2)), 0n)
          yield* Effect.yieldNow()
          return yield* Deferred.await(outcomes)
        })
      )
      let offered = 0
      for (let steps = 0; steps < 12; steps++) {
        const fiber = yield* Effect.fork(request)
        for (let step = 0; step < steps; step++) yield* Effect.yieldNow()
        yield* Fiber.interrupt(fiber)
        const submissions = yield* intake.unsettled
        expect(yield* levelOf(intake)).toEqual([2 * submissions.length, 15 * submissions.length])
        offered += submissions.length
        yield* settleAll(intake)
        expect(yield* levelOf(intake)).toEqual([0, 0])
      }
      // Both kinds of ending were met.
      expect(offered).toBeGreaterThan(0)
      expect(offered).toBeLessThan(12)
    })
  )
})

describe("A submission is whole: it is never split", () => {
  it.scoped("what waits is taken in its order, as many whole submissions as fit", () =>
    Effect.gen(function* () {
      const intake = yield* openIntake({ queueEventsMax: 100 })
      for (const count of [3, 3, 4, 1, 10, 2, 9]) yield* offer(intake, count)
      expect(yield* takeSizes(intake, 10)).toEqual(Option.some([3, 3, 4]))
      expect(yield* takeSizes(intake, 10)).toEqual(Option.some([1]))
      expect(yield* takeSizes(intake, 10)).toEqual(Option.some([10]))
      expect(yield* takeSizes(intake, 10)).toEqual(Option.some([2]))
      expect(yield* takeSizes(intake, 10)).toEqual(Option.some([9]))
      expect(yield* takeSizes(intake, 10)).toEqual(Option.some([]))
    })
  )

  it.scoped("the first one is taken whatever its size, so that the Consumer always gets on", () =>
    Effect.gen(function* () {
      const intake = yield* openIntake({ queueEventsMax: 100 })
      for (const count of [5, 1, 7]) yield* offer(intake, count)
      expect(yield* takeSizes(intake, 1)).toEqual(Option.some([5]))
      expect(yield* takeSizes(intake, 1)).toEqual(Option.some([1]))
      expect(yield* takeSizes(intake, 1)).toEqual(Option.some([7]))
    })
  )

  it("any offers come out whole, each once, in their order, in takes that keep to the limit", () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 10 }), { maxLength: 30 })
    const takes = fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 10 })
    fc.assert(
      fc.property(sizes, takes, (sizes, takes) =>
        Effect.gen(function* () {
          const intake = yield* openIntake({ queueEventsMax: 1000 })
          for (const [index, count] of sizes.entries()) yield* offer(intake, count, 0, `${index}-`)
          yield* intake.close
          const seen: Array<string> = []
          for (let round = 0; ; round++) {
            const limit = takes[round % takes.length] ?? 1
            const taken = yield* round % 2 === 0 ? intake.take(limit) : intake.poll(limit)
            if (Option.isNone(taken)) break
            const events = [...taken.value].map(({ events }) => events.unpack())
            expect(events.length === 1 || events.flat().length <= limit).toBe(true)
            seen.push(...events.flat().map(({ eventId }) => eventId))
          }
          expect(seen).toEqual(
            sizes.flatMap((count, index) => makeEvents(count, {}, `${index}-`).map(({ eventId }) => eventId))
          )
        }).pipe(Effect.scoped, Effect.runSync)
      )
    )
  })
})

describe("taking", () => {
  it.scoped("waits for the first submission, and for nothing more", () =>
    Effect.gen(function* () {
      const intake = yield* openIntake(limits)
      const taker = yield* Effect.fork(intake.take(10))
      yield* settled
      expect(Option.isNone(yield* Fiber.poll(taker))).toBe(true)
      yield* offer(intake, 2)
      const taken = Option.getOrThrow(yield* Fiber.join(taker))
      expect([...taken].map(({ events }) => events.length)).toEqual([2])
    })
  )

  it.scoped("ends when the queue is closed while it waits", () =>
    Effect.gen(function* () {
      const intake = yield* openIntake(limits)
      const taker = yield* Effect.fork(intake.take(10))
      yield* settled
      yield* intake.close
      expect(Option.isNone(yield* Fiber.join(taker))).toBe(true)
      expect(Option.isNone(yield* intake.take(10))).toBe(true)
      expect(Option.isNone(yield* intake.poll(10))).toBe(true)
    })
  )

  it.scoped(
    "that was interrupted loses nothing: what waits stays, what was taken is known as unsettled",
    () =>
      Effect.gen(function* () {
        const intake = yield* openIntake(limits)
        const taker = yield* Effect.fork(intake.take(10))
        yield* settled
        yield* Fiber.interrupt(taker)
        yield* offer(intake, 2)
        expect(yield* intake.unsettled).toHaveLength(1)
        expect(yield* takeSizes(intake, 10)).toEqual(Option.some([2]))
      })
  )
})

describe("Shutdown drains: closing is atomic", () => {
  it.scoped("what was offered before is taken yet, what comes later is refused", () =>
    Effect.gen(function* () {
      const intake = yield* openIntake(limits)
      const scope = yield* Effect.scope
      const room: Room = yield* Scope.extend(intake.admit(1), scope)
      yield* offer(intake, 2)
      yield* offer(intake, 3)
      expect(yield* intake.closed).toBe(false)
      yield* intake.close
      yield* intake.close
      expect(yield* intake.closed).toBe(true)
      const draining = Either.getOrThrow(yield* Effect.scoped(refusalOf(intake.admit(1))))
      expect(draining).toMatchObject({ _tag: "Draining", problem: { status: 503, retryAfterSeconds: 1 } })
      expect(Either.getOrThrow(yield* refusalOf(room.offer(packed(makeEvents(1)), 0n)))._tag).toBe("Draining")
      expect(yield* takeSizes(intake, 2)).toEqual(Option.some([2]))
      // What was held back for its size comes before the end, too.
      expect(yield* takeSizes(intake, 2)).toEqual(Option.some([3]))
      expect(Option.isNone(yield* intake.poll(2))).toBe(true)
    })
  )

  it.scoped("a queue that is full to the last event can be closed", () =>
    Effect.gen(function* () {
      const intake = yield* openIntake(limits)
      for (let count = 0; count < limits.queueEventsMax; count++) yield* offer(intake, 1)
      yield* intake.close
      expect(yield* takeSizes(intake, 100)).toEqual(Option.some(Array.from({ length: 10 }, () => 1)))
      expect(Option.isNone(yield* intake.take(100))).toBe(true)
    })
  )

  it.scoped("of offers that race with it each is either taken or refused", () =>
    Effect.gen(function* () {
      const intake = yield* openIntake({ queueEventsMax: 1000 })
      const publishers = yield* Effect.forEach(
        Array.from({ length: 50 }, (_, index) => index),
        (index) =>
          Effect.fork(
            Effect.gen(function* () {
              for (let step = 0; step < index; step++) yield* Effect.yieldNow()
              return yield* Effect.either(offer(intake, 1, 1, `${index}-`))
            })
          )
      )
      for (let step = 0; step < 25; step++) yield* Effect.yieldNow()
      yield* intake.close
      const results = yield* Effect.forEach(publishers, Fiber.join)
      const accepted = results.filter(Either.isRight).length
      expect(accepted).toBeGreaterThan(0)
      expect(accepted).toBeLessThan(50)
      for (const result of results) if (Either.isLeft(result)) expect(result.left._tag).toBe("Draining")
      const taken = Option.getOrThrow(yield* intake.take(1000))
      expect(Chunk.size(taken)).toBe(accepted)
      expect(yield* levelOf(intake)).toEqual([accepted, accepted])
    })
  )
})

describe("G6: the level, whatever happens", () => {
  const weights = { admit: 6, grow: 3, offer: 6, end: 6, take: 4, settle: 4, close: 1 }
  const actions = fc.array(
    fc.record({
      action: fc.constantFrom(
        ...Object.entries(weights).flatMap(([action, weight]) =>
          Array.from({ length: weight }, () => action as keyof typeof weights)
        )
      ),
      bytes: fc.nat(40),
      count: fc.integer({ min: 1, max: 5 }),
      which: fc.nat(9)
    }),
    { maxLength: 60 }
  )

  interface Request {
    readonly room: Room
    readonly scope: Scope.CloseableScope
    bytes: number
    offered: boolean
  }

  it("is what the open requests and the unsettled submissions hold, and never above its bounds", () => {
    fc.assert(
      fc.property(actions, (actions) =>
        Effect.gen(function* () {
          const intake = yield* openIntake(limits)
          const requests: Array<Request> = []
          let [events, bytes, closed] = [0, 0, false]
          let taken: Array<Submission> = []
          for (const step of actions) {
            const request = requests[step.which % Math.max(1, requests.length)]
            if (step.action === "admit") {
              const scope = yield* Scope.make()
              const room = yield* Effect.either(Scope.extend(intake.admit(step.bytes), scope))
              const fits = bytes + step.bytes <= limits.queueBytesMax
              expect(Either.isRight(room)).toBe(!closed && fits)
              if (Either.isLeft(room)) expect(room.left._tag).toBe(closed ? "Draining" : "Overloaded")
              if (Either.isLeft(room)) yield* Scope.close(scope, Exit.void)
              else {
                requests.push({ room: room.right, scope, bytes: step.bytes, offered: false })
                bytes += step.bytes
              }
            } else if (step.action === "grow" && request?.offered === false) {
              const grown = yield* Effect.either(request.room.grow(step.bytes))
              expect(Either.isRight(grown)).toBe(bytes + step.bytes <= limits.queueBytesMax)
              if (Either.isRight(grown)) {
                request.bytes += step.bytes
                bytes += step.bytes
              }
            } else if (step.action === "offer" && request?.offered === false) {
              const offered = yield* Effect.either(request.room.offer(packed(makeEvents(step.count)), 0n))
              expect(Either.isRight(offered)).toBe(!closed && events + step.count <= limits.queueEventsMax)
              if (Either.isRight(offered)) {
                request.offered = true
                events += step.count
              }
            } else if (step.action === "end" && request !== undefined) {
              yield* Scope.close(request.scope, Exit.void)
              requests.splice(requests.indexOf(request), 1)
              if (!request.offered) bytes -= request.bytes
            } else if (step.action === "take") {
              const polled = yield* intake.poll(step.count)
              if (Option.isSome(polled)) taken.push(...polled.value)
            } else if (step.action === "settle") {
              const before = taken
              taken = []
              const known = yield* intake.unsettled
              yield* intake.settle(known.filter((submission) => before.includes(submission)))
              for (const submission of before) {
                events -= submission.events.length
                bytes -= submission.bytes
              }
            } else if (step.action === "close") {
              yield* intake.close
              closed = true
            }
            expect(yield* levelOf(intake)).toEqual([events, bytes])
            expect(events).toBeLessThanOrEqual(limits.queueEventsMax)
            expect(bytes).toBeLessThanOrEqual(limits.queueBytesMax)
          }
          // All requests end, all that waits is settled: nothing is held.
          yield* Effect.forEach(requests, ({ scope }) => Scope.close(scope, Exit.void))
          yield* settleAll(intake)
          expect(yield* levelOf(intake)).toEqual([0, 0])
        }).pipe(Effect.scoped, Effect.runSync)
      ),
      { numRuns: 200 }
    )
  })
})
