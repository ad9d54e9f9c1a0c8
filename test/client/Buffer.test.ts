/**
 * The buffer under arbitrary interleavings: callers that come and go, batches that are taken and settled, in
 * whatever order the fibers run. No event is lost or settled twice, and no room either.
 */
import { Deferred, Effect, Exit, Fiber } from "effect"
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import * as Buffer from "../../src/client/Buffer.ts"
import { OutcomeUnknown, type PublisherClosed } from "../../src/client/Errors.ts"
import type { EncodedEvent } from "../../src/client/EventToPublish.ts"
import { runInterleaved } from "./interleaving.ts"

const encoded = (event_id: string, length: number): EncodedEvent => ({
  topic: "t",
  event_id,
  source: "s",
  bytes: new Uint8Array(length - 1)
})

type Step =
  | { readonly step: "submit"; readonly length: number }
  | { readonly step: "interrupt"; readonly which: number }
  | { readonly step: "settle"; readonly which: number }
  | { readonly step: "turn"; readonly times: number }
  | { readonly step: "close" }

const steps: fc.Arbitrary<ReadonlyArray<Step>> = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({ step: fc.constant("submit" as const), length: fc.integer({ min: 1, max: 40 }) })
    },
    { weight: 3, arbitrary: fc.record({ step: fc.constant("interrupt" as const), which: fc.nat(50) }) },
    { weight: 4, arbitrary: fc.record({ step: fc.constant("settle" as const), which: fc.nat(5) }) },
    {
      weight: 4,
      arbitrary: fc.record({ step: fc.constant("turn" as const), times: fc.integer({ min: 1, max: 30 }) })
    },
    { weight: 1, arbitrary: fc.constant({ step: "close" as const }) }
  ),
  { maxLength: 80 }
)

const limits = fc.record({
  batchEventsMax: fc.integer({ min: 1, max: 4 }),
  batchBytesMax: fc.integer({ min: 1, max: 100 }),
  bufferEventsMax: fc.integer({ min: 1, max: 6 }),
  bufferBytesMax: fc.integer({ min: 40, max: 120 }),
  lingerMillis: fc.constantFrom(0, 1000)
})

const turns = (times: number) => Effect.replicateEffect(Effect.yieldNow(), times)

describe("the buffer", () => {
  it("loses nothing, settles all once, and keeps its bounds", async () => {
    const property = fc.asyncProperty(
      steps,
      limits,
      fc.boolean(),
      fc.nat(3),
      fc.integer(),
      (script, limits, abandoned, takers, seed) =>
        Effect.gen(function* () {
          const buffer = yield* Buffer.make(limits)
          const submits: Array<Fiber.RuntimeFiber<Buffer.Item, PublisherClosed>> = []
          const batches: Array<ReadonlyArray<Buffer.Item>> = []
          const taken: Array<string> = []

          const taking = Effect.forever(
            Effect.map(buffer.take, (batch) => {
              expect(batch.length).toBeGreaterThan(0)
              expect(batch.length).toBeLessThanOrEqual(limits.batchEventsMax)
              batches.push(batch)
              taken.push(...batch.map(({ event }) => event.event_id))
            })
          )
          const fibers = yield* Effect.replicateEffect(Effect.fork(taking), takers + 1)
          const settle = (batch: ReadonlyArray<Buffer.Item>) =>
            buffer.settle(
              batch.map((item) => [item, Exit.succeed({ outcome: "stored", offset: 1, attempt: 1 } as const)])
            )
          const holds = Effect.map(buffer.stats, (stats) => {
            expect(stats.bufferedEvents).toBeLessThanOrEqual(limits.bufferEventsMax)
            expect(stats.bufferedBytes).toBeLessThanOrEqual(limits.bufferBytesMax)
            expect(stats.events).toBe(stats.stored + stats.failed + stats.bufferedEvents)
          })

          for (const step of script) {
            switch (step.step) {
              case "submit": {
                const event = encoded(String(submits.length).padStart(3, "0"), step.length)
                submits.push(yield* Effect.fork(buffer.submit(event)))
                break
              }
              case "interrupt": {
                const fiber = submits[step.which]
                if (fiber !== undefined) yield* Fiber.interruptFork(fiber)
                break
              }
              case "settle": {
                const [batch] = batches.splice(step.which, 1)
                if (batch === undefined) break
                yield* settle(batch)
                // Once more changes nothing.
                yield* settle(batch)
                break
              }
              case "turn":
                yield* turns(step.times)
                break
              case "close":
                yield* buffer.close
            }
            yield* holds
          }
          const error = (item: Buffer.Item) => new OutcomeUnknown({ sent: item.sent, reason: "test" })
          yield* buffer.close
          let done = false
          yield* Effect.fork(
            Effect.zipRight(
              buffer.drained,
              Effect.sync(() => (done = true))
            )
          )
          if (abandoned) yield* buffer.abandon(error)
          while (!done) {
            for (const batch of batches.splice(0)) yield* settle(batch)
            yield* turns(1)
            yield* holds
          }
          yield* Fiber.interruptAll(fibers)

          const stats = yield* buffer.stats
          expect(stats).toMatchObject({ bufferedEvents: 0, bufferedBytes: 0, waiting: 0 })
          const accepted: Array<string> = []
          for (const fiber of submits) {
            const exit = yield* Fiber.await(fiber)
            if (!Exit.isSuccess(exit)) continue
            const { event, outcome } = exit.value
            accepted.push(event.event_id)
            expect(yield* Deferred.isDone(outcome)).toBe(true)
          }
          // An interrupted caller may have been let in at that moment: its event is taken still, and counted.
          expect(stats.events).toBeGreaterThanOrEqual(accepted.length)
          if (!abandoned) {
            expect(taken).toEqual(expect.arrayContaining(accepted))
            expect(taken).toHaveLength(stats.events)
            expect(taken).toHaveLength(stats.stored)
          }
          expect(new Set(taken).size).toBe(taken.length)
        }).pipe((effect) => runInterleaved(seed, effect))
    )
    await fc.assert(property, { numRuns: 300 })
  })
})
