/**
 * The whole publisher in whatever order its fibers run, interrupted at any step, with a service that loses requests and
 * answers, refuses, and hangs. The service here is the contract in a few lines: what it does with a body is done in one
 * step, so that all that can go wrong is the publisher's.
 */
import { HttpClient, HttpClientError, HttpClientResponse } from "@effect/platform"
import { Effect, Exit, Fiber, Random, Scope } from "effect"
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { make } from "../../src/client/Publisher.ts"
import { runInterleaved } from "./interleaving.ts"
import { event } from "./publishing.ts"

/** A service that stores each id once, and the requests on their way to it and back. */
const makeService = (trouble: number) => {
  const stored = new Map<string, number>()
  let received = 0
  const publish = (body: string) => {
    const events = JSON.parse(body) as ReadonlyArray<{ readonly event_id: string }>
    const results = events.map(({ event_id }) => {
      received++
      const outcome = stored.has(event_id) ? "duplicate" : "stored"
      if (outcome === "stored") stored.set(event_id, stored.size + 1)
      return { outcome, offset: stored.get(event_id) }
    })
    const counts = { accepted: events.length, stored: 0, duplicates: 0, conflicts: 0 }
    return new Response(JSON.stringify({ status: "accepted", ...counts, results }), { status: 202 })
  }
  const client = HttpClient.make((request) =>
    Effect.gen(function* () {
      const body = request.body._tag === "Uint8Array" ? new TextDecoder().decode(request.body.body) : ""
      const lost = new HttpClientError.RequestError({ request, reason: "Transport" })
      const fate = (yield* Random.next) / trouble
      yield* Effect.yieldNow()
      if (fate < 0.2) return yield* lost
      if (fate < 0.4) return HttpClientResponse.fromWeb(request, new Response(null, { status: 503 }))
      const answer = publish(body)
      yield* Effect.yieldNow()
      if (fate < 0.7) return yield* lost
      if (fate < 0.9) return yield* Effect.async<never>(() => {})
      if (fate < 1) return HttpClientResponse.fromWeb(request, new Response("<html>", { status: 200 }))
      return HttpClientResponse.fromWeb(request, answer)
    })
  )
  return { client, stored, received: () => received }
}

const options = fc.record({
  batchEventsMax: fc.integer({ min: 1, max: 4 }),
  bufferEventsMax: fc.integer({ min: 1, max: 6 }),
  requestsMax: fc.integer({ min: 1, max: 3 }),
  lingerMillis: fc.constantFrom(0, 20)
})

/** Which callers are interrupted, and how the publisher ends. */
const script = fc.record({
  events: fc.integer({ min: 0, max: 20 }),
  interrupted: fc.array(fc.nat(19), { maxLength: 8 }),
  trouble: fc.constantFrom(0.01, 0.5, 0.8),
  end: fc.constantFrom("closed", "scope", "by force" as const),
  turns: fc.nat(200)
})

describe("the publisher", () => {
  it("loses no event and no room, and leaves nobody waiting", async () => {
    const property = fc.asyncProperty(script, options, fc.integer(), (script, options, seed) =>
      Effect.gen(function* () {
        const service = makeService(script.trouble)
        const scope = yield* Scope.make()
        const publisher = yield* make({
          url: "http://service",
          backoffMillisFirst: 100,
          backoffMillisMax: 1000,
          requestSecondsMax: 1,
          closeSecondsMax: 3600,
          ...options
        }).pipe(Scope.extend(scope), Effect.provideService(HttpClient.HttpClient, service.client))
        const ids = Array.from({ length: script.events }, (_, n) => `e${n}`)
        const calls = yield* Effect.forEach(ids, (id) => Effect.fork(publisher.publish(event(id))))
        yield* Effect.replicateEffect(Effect.yieldNow(), script.turns)
        for (const index of script.interrupted) {
          const call = calls[index]
          if (call !== undefined) yield* Fiber.interruptFork(call)
        }
        const force = script.end === "by force"
        const closing = yield* Effect.fork(
          script.end === "scope" ? Scope.close(scope, Exit.void) : publisher.close
        )
        if (force) {
          yield* Effect.replicateEffect(Effect.yieldNow(), script.turns)
          yield* Fiber.interruptFork(closing)
        }
        const closed = yield* Effect.fork(publisher.close)
        const exits = yield* Effect.forEach(calls, Fiber.await)
        yield* Fiber.join(closed)
        yield* Fiber.await(closing)
        const stats = yield* publisher.stats
        expect(stats).toMatchObject({ bufferedEvents: 0, bufferedBytes: 0, waiting: 0, conflicts: 0 })
        expect(stats.events).toBe(stats.stored + stats.duplicates + stats.failed)
        for (const [index, exit] of exits.entries()) {
          if (Exit.isSuccess(exit)) {
            expect(exit.value).toMatchObject({
              event_id: ids[index],
              offset: service.stored.get(`e${index}`)
            })
          }
        }
        if (!force) {
          expect(stats.failed).toBe(0)
          expect(service.stored.size).toBe(stats.events)
        }
        yield* Scope.close(scope, Exit.void)
      }).pipe(Effect.withRandom(Random.make(seed)), (effect) => runInterleaved(seed, effect))
    )
    await fc.assert(property, { numRuns: 100 })
  })
})
