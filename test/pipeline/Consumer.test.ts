/**
 * The one writer: what shares a commit and what does not, who is answered when, what happens while commits fail, and
 * how it ends. Time is the test's: where a test does not move the clock, nothing may wait for it.
 */
import { describe, expect, it } from "@effect/vitest"
import {
  Cause,
  Clock,
  Deferred,
  Effect,
  Either,
  Exit,
  Fiber,
  HashMap,
  Layer,
  Logger,
  LogLevel,
  Option,
  Scope,
  TestClock
} from "effect"
import type { Event } from "../../src/domain/Event.ts"
import { Consumer } from "../../src/pipeline/Consumer.ts"
import * as Drain from "../../src/pipeline/Drain.ts"
import { Feed } from "../../src/pipeline/Feed.ts"
import { Intake } from "../../src/pipeline/Intake.ts"
import { makeEvent, makeEvents } from "../support/events.ts"
import {
  memoryStore,
  openIntake,
  publish,
  type Queue,
  scriptedStore,
  settled,
  startConsumer,
  startPipeline,
  unavailable
} from "../support/pipeline.ts"
import { eventsOf } from "../support/stores.ts"

const idsOf = (events: ReadonlyArray<Event>) => events.map(({ eventId }) => eventId)

/** Holds appends up until it is opened. */
const gate = Effect.map(Deferred.make<void>(), (opened) => ({
  pass: Deferred.await(opened),
  open: Effect.asVoid(Deferred.succeed(opened, undefined))
}))

/** Publishes in a fiber of its own, and lets it come as far as it can. */
const publishing = (intake: Queue, events: ReadonlyArray<Event>) =>
  Effect.tap(Effect.fork(Effect.exit(publish(intake, events))), () => settled)

const expectUnavailable = <A, E>(exit: Exit.Exit<A, E>, trouble = "io") => {
  const error = Exit.isFailure(exit) ? Option.getOrNull(Cause.failureOption(exit.cause)) : null
  expect(error).toMatchObject({ _tag: "StoreUnavailable", trouble })
}

const expectEmpty = (intake: Queue) =>
  Effect.gen(function* () {
    expect(yield* intake.unsettled).toEqual([])
    expect(yield* intake.level).toMatchObject({ events: 0, bytes: 0 })
  })

describe("a commit", () => {
  it.scoped(
    "G1: comes before the answer: no publisher hears of its events until the append has returned",
    () =>
      Effect.gen(function* () {
        const { intake, script } = yield* startPipeline()
        const disk = yield* gate
        script(() => disk.pass)
        const publisher = yield* publishing(intake, makeEvents(3))
        yield* TestClock.adjust("1 minute")
        expect(Option.isNone(yield* Fiber.poll(publisher))).toBe(true)
        expect(yield* intake.level).toMatchObject({ events: 3, bytes: 3 })
        yield* disk.open
        expect(Exit.isSuccess(yield* Fiber.join(publisher))).toBe(true)
        yield* expectEmpty(intake)
      })
  )

  it.scoped("A single submission does not wait for a timer, nor for company", () =>
    Effect.gen(function* () {
      const { intake, appends } = yield* startPipeline()
      for (let round = 0; round < 3; round++) yield* publish(intake, makeEvents(1, {}, `${round}-`))
      expect(appends.map(idsOf)).toEqual([["0-0"], ["1-0"], ["2-0"]])
      expect(yield* Clock.currentTimeMillis).toBe(0)
    })
  )

  it.scoped("Many submissions share one: whatever came in during the last one is in the next", () =>
    Effect.gen(function* () {
      const { intake, appends, script } = yield* startPipeline()
      const disk = yield* gate
      script((_, attempt) => (attempt === 1 ? disk.pass : Effect.void))
      const first = yield* publishing(intake, makeEvents(1, {}, "first-"))
      const others = yield* Effect.forEach([0, 1, 2, 3, 4], (index) =>
        publishing(intake, makeEvents(index + 1, {}, `${index}-`))
      )
      yield* disk.open
      yield* Effect.forEach([first, ...others], Fiber.join)
      expect(appends.map((events) => events.length)).toEqual([1, 15])
    })
  )

  it.scoped("G8: each publisher gets its own outcomes, in its own order", () =>
    Effect.gen(function* () {
      const { intake, script } = yield* startPipeline()
      const disk = yield* gate
      script((_, attempt) => (attempt === 1 ? disk.pass : Effect.void))
      const first = yield* publishing(intake, makeEvents(2))
      const batches = [
        makeEvents(3),
        [makeEvent({ eventId: "e1", payload: "1" }), makeEvent({ eventId: "new" })],
        [makeEvent({ eventId: "new" }), makeEvent({ eventId: "e2" }), makeEvent({ eventId: "e0" })]
      ]
      const others = yield* Effect.forEach(batches, (events) => publishing(intake, events))
      yield* disk.open
      const outcomesOf = (publisher: typeof first) =>
        Effect.map(Fiber.join(publisher), (exit) =>
          Exit.getOrElse(exit, () => []).map(({ outcome, offset }) => `${outcome} ${offset}`)
        )
      expect(yield* outcomesOf(first)).toEqual(["stored 1", "stored 2"])
      expect(yield* Effect.forEach(others, outcomesOf)).toEqual([
        ["duplicate 1", "duplicate 2", "stored 5"],
        ["conflict 2", "stored 7"],
        ["duplicate 7", "duplicate 5", "duplicate 1"]
      ])
    })
  )

  it.scoped("G5: offsets follow the order of the queue, then the order sent", () =>
    Effect.gen(function* () {
      const { intake, store, script } = yield* startPipeline()
      const disk = yield* gate
      script((_, attempt) => (attempt === 1 ? disk.pass : Effect.void))
      const publishers = yield* Effect.forEach([3, 1, 2, 4], (count, index) =>
        publishing(intake, makeEvents(count, {}, `${index}-`))
      )
      yield* disk.open
      yield* Effect.forEach(publishers, Fiber.join)
      const sent = [3, 1, 2, 4].flatMap((count, index) => idsOf(makeEvents(count, {}, `${index}-`)))
      expect(idsOf(yield* eventsOf(store))).toEqual(sent)
    })
  )

  it.scoped("A submission is whole: it is not split where the commit's limit falls into it", () =>
    Effect.gen(function* () {
      const settings = { commitEventsMax: 10, requestEventsMax: 10 }
      const { intake, appends, script } = yield* startPipeline(settings)
      const disk = yield* gate
      script((_, attempt) => (attempt === 1 ? disk.pass : Effect.void))
      const sizes = [1, 6, 4, 3, 8, 10, 1, 1]
      const publishers = yield* Effect.forEach(sizes, (count, index) =>
        publishing(intake, makeEvents(count, {}, `${index}-`))
      )
      yield* disk.open
      yield* Effect.forEach(publishers, Fiber.join)
      expect(appends.map((events) => events.length)).toEqual([1, 10, 3, 8, 10, 2])
    })
  )

  it.scoped("One writer: appends follow each other, however many publish", () =>
    Effect.gen(function* () {
      const { intake, store, script, runningMost } = yield* startPipeline({ commitEventsMax: 3 })
      script(() => Effect.repeatN(Effect.yieldNow(), 3))
      yield* Effect.forEach(
        Array.from({ length: 40 }, (_, index) => index),
        (index) => publish(intake, makeEvents(1 + (index % 3), {}, `${index}-`)),
        { concurrency: "unbounded" }
      )
      expect(runningMost()).toBe(1)
      expect((yield* store.books).uniqueProcessed).toBe(79)
      yield* expectEmpty(intake)
    })
  )

  it.scoped("A publisher that goes away changes nothing: its events are stored, its room is given back", () =>
    Effect.gen(function* () {
      const { intake, store, script } = yield* startPipeline()
      const disk = yield* gate
      script((_, attempt) => (attempt === 1 ? disk.pass : Effect.void))
      const during = yield* publishing(intake, makeEvents(2, {}, "during-"))
      const waiting = yield* publishing(intake, makeEvents(2, {}, "waiting-"))
      yield* Fiber.interrupt(during)
      yield* Fiber.interrupt(waiting)
      expect(yield* intake.level).toMatchObject({ events: 4, bytes: 4 })
      yield* disk.open
      yield* settled
      expect(idsOf(yield* eventsOf(store))).toEqual(["during-0", "during-1", "waiting-0", "waiting-1"])
      yield* expectEmpty(intake)
    })
  )
})

describe("A failed COMMIT leaves the outcome unknown", () => {
  it.scoped(
    "all its publishers are told to send again, their room is given back, and it is not appended again",
    () =>
      Effect.gen(function* () {
        const { intake, appends, store, script } = yield* startPipeline()
        const disk = yield* gate
        script((events, attempt) => {
          if (attempt === 1) return disk.pass
          return events.length === 0 ? Effect.void : unavailable
        })
        const first = yield* publishing(intake, makeEvents(1, {}, "first-"))
        const failing = yield* Effect.forEach([0, 1, 2], (index) =>
          publishing(intake, makeEvents(2, {}, `${index}-`))
        )
        yield* disk.open
        expect(Exit.isSuccess(yield* Fiber.join(first))).toBe(true)
        for (const publisher of failing) expectUnavailable(yield* Fiber.join(publisher))
        yield* expectEmpty(intake)
        yield* TestClock.adjust("1 minute")
        expect(appends.filter((events) => events.length > 0)).toHaveLength(2)
        expect(idsOf(yield* eventsOf(store))).toEqual(["first-0"])
      })
  )

  it.scoped("a defect of the store is no different: the publishers are told, and the Consumer goes on", () =>
    Effect.gen(function* () {
      const { intake, script } = yield* startPipeline()
      script((_, attempt) => (attempt === 1 ? Effect.die(new Error("a bug")) : Effect.void))
      const failing = yield* publishing(intake, makeEvents(1))
      expectUnavailable(yield* Fiber.join(failing), "unexpected")
      const again = yield* publishing(intake, makeEvents(1))
      yield* TestClock.adjust("50 millis")
      expect(Exit.isSuccess(yield* Fiber.join(again))).toBe(true)
    })
  )

  it.scoped("nor is an append that was interrupted from within", () =>
    Effect.gen(function* () {
      const { intake, script } = yield* startPipeline()
      script((_, attempt) => (attempt === 1 ? Effect.interrupt : Effect.void))
      const failing = yield* publishing(intake, makeEvents(1))
      expectUnavailable(yield* Fiber.join(failing), "unexpected")
      yield* TestClock.adjust("1 minute")
      yield* publish(intake, makeEvents(1))
    })
  )

  it.scoped("nor are events that cannot be made: who waits with them is told, and the Consumer goes on", () =>
    Effect.gen(function* () {
      const { intake, appends } = yield* startPipeline()
      const broken = {
        length: 1,
        unpack: () => {
          throw new Error("injected")
        }
      }
      const room = yield* intake.admit(1)
      expectUnavailable(
        yield* Effect.exit(Effect.flatMap(room.offer(broken, 0n), (outcomes) => Deferred.await(outcomes))),
        "unexpected"
      )
      const next = yield* publishing(intake, makeEvents(1))
      yield* TestClock.adjust("1 minute")
      expect(Exit.isSuccess(yield* Fiber.join(next))).toBe(true)
      expect(appends.flat().map(({ eventId }) => eventId)).toEqual(["e0"])
    })
  )

  it.scoped("until a commit succeeds, submissions are committed one at a time", () =>
    Effect.gen(function* () {
      const { intake, appends, script } = yield* startPipeline()
      script((_, attempt) => (attempt <= 3 ? unavailable : Effect.void))
      const failing = yield* publishing(intake, makeEvents(2, {}, "first-"))
      expectUnavailable(yield* Fiber.join(failing))
      const publishers = yield* Effect.forEach([0, 1, 2, 3, 4], (index) =>
        publishing(intake, makeEvents(2, {}, `${index}-`))
      )
      expect(appends).toHaveLength(1)
      yield* TestClock.adjust("1 minute")
      const exits = yield* Effect.forEach(publishers, Fiber.join)
      // Two more fail alone, the third succeeds alone, and after it the rest share a commit again.
      expect(appends.map((events) => [...new Set(idsOf(events).map((id) => id.split("-")[0]))])).toEqual([
        ["first"],
        ["0"],
        ["1"],
        ["2"],
        ["3", "4"]
      ])
      expect(exits.map(Exit.isSuccess)).toEqual([false, false, true, true, true])
    })
  )

  it.scoped("the pause before each attempt grows from 50 ms to 2 s, and begins anew after a success", () =>
    Effect.gen(function* () {
      const { intake, script, appends } = yield* startPipeline()
      let failing = 9
      const times: Array<number> = []
      script(() =>
        Effect.flatMap(Clock.currentTimeMillis, (now) => {
          times.push(now)
          return failing-- > 0 ? unavailable : Effect.void
        })
      )
      yield* publishing(intake, makeEvents(1))
      yield* TestClock.adjust("1 minute")
      // Nothing waits: the store is asked with nothing, so that no publisher is needed to find out.
      expect(appends.map((events) => events.length)).toEqual([1, 0, 0, 0, 0, 0, 0, 0, 0, 0])
      expect(times).toEqual([0, 50, 150, 350, 750, 1550, 3150, 5150, 7150, 9150])

      // And once it is well nothing asks any more.
      times.length = 0
      failing = 2
      yield* publishing(intake, makeEvents(1))
      yield* TestClock.adjust("1 minute")
      expect(times).toEqual([60_000, 60_050, 60_150])
    })
  )

  it.scoped("G7: the store is found to be well again without any publisher", () =>
    Effect.gen(function* () {
      const { intake, appends, script } = yield* startPipeline()
      let broken = true
      script(() => (broken ? unavailable : Effect.void))
      expectUnavailable(yield* Fiber.join(yield* publishing(intake, makeEvents(1))))
      yield* TestClock.adjust("10 seconds")
      const attempts = appends.length
      expect(attempts).toBeGreaterThan(5)
      broken = false
      yield* TestClock.adjust("2 seconds")
      expect(appends).toHaveLength(attempts + 1)
      // From now on nobody waits for a pause.
      yield* publish(intake, makeEvents(1))
    })
  )

  it.scoped("G7: a neighbour that always fails does not stop the rest, however often it comes back", () =>
    Effect.gen(function* () {
      const { intake, store, script } = yield* startPipeline()
      script((events) => (events.some(({ eventId }) => eventId === "bad-0") ? unavailable : Effect.void))
      // Everybody retries as the answer says.
      const persistent = (events: ReadonlyArray<Event>) =>
        Effect.retry(publish(intake, events), { while: () => Effect.as(Effect.sleep("2 seconds"), true) })
      const bad = yield* Effect.fork(persistent(makeEvents(1, {}, "bad-")))
      const good = yield* Effect.forEach(
        Array.from({ length: 30 }, (_, index) => index),
        (index) => Effect.fork(persistent(makeEvents(3, {}, `${index}-`)))
      )
      yield* TestClock.adjust("10 minutes")
      for (const publisher of good) expect(Option.isSome(yield* Fiber.poll(publisher))).toBe(true)
      expect(Option.isNone(yield* Fiber.poll(bad))).toBe(true)
      yield* Fiber.interrupt(bad)
      expect((yield* store.books).uniqueProcessed).toBe(90)
    })
  )
})

describe("Shutdown drains", () => {
  it.scoped("what waits is committed and answered, and only then does the Consumer end", () =>
    Effect.gen(function* () {
      const { intake, consumer, script, store } = yield* startPipeline({ commitEventsMax: 4 })
      const disk = yield* gate
      script((_, attempt) => (attempt === 1 ? disk.pass : Effect.void))
      const publishers = yield* Effect.forEach([2, 3, 3, 1], (count, index) =>
        publishing(intake, makeEvents(count, {}, `${index}-`))
      )
      const ended = yield* Effect.fork(consumer.ended)
      yield* intake.close
      yield* TestClock.adjust("1 minute")
      expect(Option.isNone(yield* Fiber.poll(ended))).toBe(true)
      yield* disk.open
      yield* Fiber.join(ended)
      for (const publisher of publishers) expect(Exit.isSuccess(yield* Fiber.join(publisher))).toBe(true)
      expect((yield* store.books).uniqueProcessed).toBe(9)
      yield* expectEmpty(intake)
    })
  )

  it.scoped(
    "the Consumer does not end as long as the Intake is open, and ends at once when an idle one closes",
    () =>
      Effect.gen(function* () {
        const { intake, consumer } = yield* startPipeline()
        const ended = yield* Effect.fork(consumer.ended)
        yield* publish(intake, makeEvents(2))
        yield* TestClock.adjust("1 minute")
        expect(Option.isNone(yield* Fiber.poll(ended))).toBe(true)
        yield* intake.close
        yield* Fiber.join(ended)
      })
  )

  it.scoped(
    "while commits fail too: what waits is tried once more, one at a time, without further pauses",
    () =>
      Effect.gen(function* () {
        const { intake, consumer, appends, script } = yield* startPipeline()
        script(() => unavailable)
        yield* publishing(intake, makeEvents(1, {}, "first-"))
        const waiting = yield* Effect.forEach([0, 1, 2], (index) =>
          publishing(intake, makeEvents(1, {}, `${index}-`))
        )
        yield* intake.close
        // The pause that has begun, and no other.
        yield* TestClock.adjust("50 millis")
        yield* consumer.ended
        for (const publisher of waiting) expectUnavailable(yield* Fiber.join(publisher))
        expect(appends.map(idsOf)).toEqual([["first-0"], ["0-0"], ["1-0"], ["2-0"]])
        yield* expectEmpty(intake)
      })
  )

  it.scoped("Drain closes the Intake when its scope closes, and waits for the Consumer", () =>
    Effect.gen(function* () {
      const { intake, consumer, feed, script } = yield* startPipeline()
      const disk = yield* gate
      script(() => disk.pass)
      const publisher = yield* publishing(intake, makeEvents(2))
      const scope = yield* Scope.make()
      yield* Layer.buildWithScope(Drain.layer, scope).pipe(
        Effect.provideService(Intake, intake),
        Effect.provideService(Consumer, consumer),
        Effect.provideService(Feed, feed)
      )
      const draining = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* settled
      expect(yield* intake.closed).toBe(true)
      expect(Option.isNone(yield* Fiber.poll(draining))).toBe(true)
      yield* disk.open
      yield* Fiber.join(draining)
      expect(Exit.isSuccess(yield* Fiber.join(publisher))).toBe(true)
    })
  )
})

describe("However the Consumer ends, it fails what is left", () => {
  /** A Consumer in a scope that the test closes. */
  const startIn = (scope: Scope.Scope, intake: Queue, store: Parameters<typeof startConsumer>[1]) =>
    Scope.extend(startConsumer(intake, store, { commitEventsMax: 1 }), scope)

  it.scoped(
    "when it is interrupted: the append under way is finished, what waits is told to send again",
    () =>
      Effect.gen(function* () {
        const scripted = scriptedStore(yield* memoryStore)
        const intake = yield* openIntake()
        const scope = yield* Scope.make()
        const consumer = yield* startIn(scope, intake, scripted.store)
        const disk = yield* gate
        scripted.script(() => disk.pass)
        const during = yield* publishing(intake, makeEvents(1, {}, "during-"))
        const waiting = yield* Effect.forEach([0, 1, 2], (index) =>
          publishing(intake, makeEvents(1, {}, `${index}-`))
        )
        const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
        yield* settled
        expect(Option.isNone(yield* Fiber.poll(closing))).toBe(true)
        yield* disk.open
        yield* Fiber.join(closing)
        expect(Exit.isSuccess(yield* Fiber.join(during))).toBe(true)
        for (const publisher of waiting) expectUnavailable(yield* Fiber.join(publisher), "unexpected")
        yield* expectEmpty(intake)
        expect(Either.isLeft(yield* Effect.either(publish(intake, makeEvents(1))))).toBe(true)
        expect(Exit.isFailure(yield* Effect.exit(consumer.ended))).toBe(true)
      })
  )

  it.scoped("when it is interrupted while it pauses after a failure", () =>
    Effect.gen(function* () {
      const scripted = scriptedStore(yield* memoryStore)
      const intake = yield* openIntake()
      const scope = yield* Scope.make()
      yield* startIn(scope, intake, scripted.store)
      scripted.script(() => unavailable)
      yield* publishing(intake, makeEvents(1, {}, "first-"))
      const waiting = yield* publishing(intake, makeEvents(2))
      yield* Scope.close(scope, Exit.void)
      expectUnavailable(yield* Fiber.join(waiting), "unexpected")
      yield* expectEmpty(intake)
    })
  )

  it.scoped(
    "when it dies of a bug: also those that it had taken; later offers are refused, and `ended` fails",
    () =>
      Effect.gen(function* () {
        const scripted = scriptedStore(yield* memoryStore)
        const intake = yield* openIntake()
        let takes = 0
        // Takes, and then dies with what it has taken in its hands.
        const broken: Queue = {
          ...intake,
          take: (eventsMax) =>
            Effect.tap(intake.take(eventsMax), () =>
              ++takes === 2 ? Effect.die(new Error("a bug")) : Effect.void
            )
        }
        const consumer = yield* startConsumer(broken, scripted.store, { commitEventsMax: 1 })
        const disk = yield* gate
        scripted.script(() => disk.pass)
        const first = yield* publishing(intake, makeEvents(1, {}, "first-"))
        const others = yield* Effect.forEach([0, 1, 2], (index) =>
          publishing(intake, makeEvents(1, {}, `${index}-`))
        )
        yield* disk.open
        expect(Exit.isSuccess(yield* Fiber.join(first))).toBe(true)
        for (const publisher of others) expectUnavailable(yield* Fiber.join(publisher), "unexpected")
        expect(Either.flip(yield* Effect.either(publish(intake, makeEvents(1))))).toMatchObject({
          right: { _tag: "Draining" }
        })
        expect(Exit.isFailure(yield* Effect.exit(consumer.ended))).toBe(true)
        yield* expectEmpty(intake)
      })
  )
})

describe("the log", () => {
  interface Line {
    readonly level: string
    readonly message: string
    readonly annotations: Readonly<Record<string, unknown>>
  }
  const logged = (level: LogLevel.LogLevel) => {
    const lines: Array<Line> = []
    const logger = Logger.make(({ logLevel, message, annotations }) => {
      const text = Array.isArray(message) ? message.join(" ") : String(message)
      lines.push({
        level: logLevel.label,
        message: text,
        annotations: Object.fromEntries(HashMap.toEntries(annotations))
      })
    })
    const through = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
      effect.pipe(Effect.provide(Logger.add(logger)), Logger.withMinimumLogLevel(level))
    return { lines, through }
  }

  it.scoped("tells of dropped duplicates how many and the first keys, and of each conflict", () => {
    const { lines, through } = logged(LogLevel.Info)
    return Effect.gen(function* () {
      const { intake } = yield* startPipeline()
      yield* publish(intake, makeEvents(8))
      expect(lines).toEqual([])
      yield* publish(intake, [...makeEvents(8), makeEvent({ eventId: "e0", source: "b" })])
      expect(lines.map(({ level, message }) => `${level} ${message}`)).toEqual([
        "INFO duplicates dropped",
        "WARN conflict: a known key came with other content; the first one stands"
      ])
      expect(lines[0]?.annotations).toMatchObject({
        fiber: "consumer",
        dropped: 9,
        keys: ["e0", "e1", "e2", "e3", "e4"].map((id) => `system.metrics.cpu/${id}`)
      })
      expect(lines[1]?.annotations).toMatchObject({
        topic: "system.metrics.cpu",
        event_id: "e0",
        source: "b",
        first_offset: 1
      })
    }).pipe(through)
  })

  it.scoped(
    "tells of duplicates at once, then once a second of all since, and at the end of the rest",
    () => {
      const { lines, through } = logged(LogLevel.Info)
      const counts = () => lines.map(({ annotations }) => annotations["dropped"])
      return Effect.gen(function* () {
        const { intake, consumer } = yield* startPipeline()
        yield* publish(intake, makeEvents(8))
        yield* publish(intake, makeEvents(2))
        yield* publish(intake, makeEvents(3))
        yield* TestClock.adjust("999 millis")
        yield* publish(intake, makeEvents(4))
        expect(counts()).toEqual([2])
        yield* TestClock.adjust("1 millis")
        yield* publish(intake, makeEvents(8))
        expect(counts()).toEqual([2, 15])
        expect(lines[1]?.annotations["keys"]).toEqual(
          ["e0", "e1", "e2", "e0", "e1"].map((id) => `system.metrics.cpu/${id}`)
        )
        yield* publish(intake, makeEvents(1))
        yield* intake.close
        yield* consumer.ended
        expect(counts()).toEqual([2, 15, 1])
      }).pipe(through)
    }
  )

  it.scoped("tells of each duplicate at debug", () => {
    const { lines, through } = logged(LogLevel.Debug)
    return Effect.gen(function* () {
      const { intake } = yield* startPipeline()
      yield* publish(intake, makeEvents(7))
      yield* publish(intake, makeEvents(7))
      expect(
        lines.filter(({ level }) => level === "DEBUG").map(({ annotations }) => annotations["event_id"])
      ).toEqual(idsOf(makeEvents(7)))
    }).pipe(through)
  })

  it.scoped("tells once when commits begin to fail and once when the store is well again", () => {
    const { lines, through } = logged(LogLevel.Info)
    return Effect.gen(function* () {
      const { intake, script } = yield* startPipeline()
      script((_, attempt) => (attempt <= 6 ? unavailable : Effect.void))
      yield* publishing(intake, makeEvents(1))
      yield* TestClock.adjust("1 minute")
      expect(lines.map(({ level, message }) => `${level} ${message}`)).toEqual([
        "ERROR commits fail: the disk reported an error",
        "INFO the store is well again"
      ])
      expect(lines[0]?.annotations).toMatchObject({ cause: "injected" })
      expect(lines[1]?.annotations).toMatchObject({ failures: 6 })
    }).pipe(through)
  })
})
