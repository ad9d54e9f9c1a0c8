/**
 * The publisher in trouble: answers that are lost, late, or none of the service's; and what is no trouble but a refusal.
 */
import { HttpClient } from "@effect/platform"
import { Effect, Exit, Fiber, FiberStatus, TestClock } from "effect"
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { type EventToPublish, JsonText, make, type PublisherOptions } from "../../src/client/Publisher.ts"
import { get, post, stats } from "../http/client.ts"
import { type Arrived, accepted, type ScriptedAnswer, withAnswers } from "../support/answers.ts"
import { collidingEvent, expectedOf } from "../support/events.ts"
import { type Fault, type Plan, type RunningProxy, scripted, seeded, startProxy } from "../support/proxy.ts"
import { type RunningServer, until, withServer } from "../support/server.ts"
import { event, events, live, makeRetries, quick, timed, untilTrue, wakeAfter } from "./publishing.ts"

const withProxy = async <A>(
  server: RunningServer,
  plan: Plan,
  use: (proxy: RunningProxy) => Promise<A>
): Promise<A> => {
  const proxy = await startProxy(() => server, plan)
  try {
    return await use(proxy)
  } finally {
    await proxy.close()
  }
}

/** An address at which nobody listens. */
const nobody = async (): Promise<string> => {
  const proxy = await startProxy(() => ({ host: "127.0.0.1", port: 1 }), scripted())
  await proxy.close()
  return proxy.url
}

const publishAll = (options: PublisherOptions, batch: ReadonlyArray<EventToPublish>) =>
  live(
    Effect.gen(function* () {
      const publisher = yield* quick({ batchEventsMax: batch.length, lingerMillis: 60_000, ...options })
      const outcomes = yield* Effect.forEach(batch, publisher.submit)
      return {
        exits: yield* Effect.forEach(outcomes, Effect.exit),
        stats: yield* publisher.stats
      }
    })
  )

describe("an answer that is swallowed", () => {
  it("is the normal case: the retry is told duplicate, and each event is stored once (G2)", async () => {
    await withServer({}, async (server) => {
      await withProxy(server, scripted({ kind: "swallow-answer" }), async (proxy) => {
        const { exits, stats: publisher } = await publishAll({ url: proxy.url }, events(50))
        expect(exits).toMatchObject(
          events(50).map(({ event_id, topic }, index) =>
            Exit.succeed({ outcome: "duplicate", offset: index + 1, attempt: 2, event_id, topic })
          )
        )
        expect(publisher).toMatchObject({ attempts: 2, retries: 1, duplicates: 50 })
        expect(proxy.struck["swallow-answer"]).toBe(1)
        expect(await stats(server)).toMatchObject({
          received: 100,
          unique_processed: 50,
          duplicate_dropped: 50,
          conflicts: 0,
          publishes: { attempts: 2, retries: 1 }
        })
      })
    })
  })

  it("on a connection that stays open is waited for no longer than `requestSecondsMax`", async () => {
    await withServer({}, async (server) => {
      await withProxy(server, scripted({ kind: "swallow-silently" }), async (proxy) => {
        const { onRetry, nth } = makeRetries()
        await timed(
          Effect.gen(function* () {
            const publisher = yield* make({ url: proxy.url, lingerMillis: 0, requestSecondsMax: 20, onRetry })
            const outcome = yield* publisher.submit(event("1"))
            yield* untilTrue(Effect.sync(() => proxy.struck["swallow-silently"] === 1))
            yield* wakeAfter("20 seconds")
            const { waitMillis, ...told } = yield* nth(0)
            expect(told).toEqual({
              attempts: 1,
              events: 1,
              trouble: {
                kind: "timeout",
                status: undefined,
                detail: "no answer after 20 s",
                retryAfterMillis: 0
              }
            })
            yield* wakeAfter(waitMillis)
            expect(yield* outcome).toMatchObject({ outcome: "duplicate", attempt: 2 })
          })
        )
      })
    })
  })
})

describe("a bad network", () => {
  const cases: ReadonlyArray<Fault> = [
    { kind: "delay", requestMillis: 5, answerMillis: 5 },
    { kind: "refuse" },
    { kind: "cut-request", bytes: 100 },
    { kind: "cut-request", bytes: 900 },
    { kind: "cut-answer", bytes: 0 },
    { kind: "cut-answer", bytes: 20 },
    { kind: "cut-answer", bytes: 300 },
    { kind: "half-close-client", bytes: 0 },
    { kind: "half-close-client", bytes: 300 },
    { kind: "half-close-server", bytes: 0 },
    { kind: "half-close-server", bytes: 900 },
    { kind: "swallow-answer" }
  ]
  it.each(cases)("is tried again until it lets all through: %o", async (fault) => {
    await withServer({}, async (server) => {
      await withProxy(server, scripted({ kind: "pass" }, fault, fault, fault), async (proxy) => {
        await live(
          Effect.gen(function* () {
            const publisher = yield* quick({ url: proxy.url, batchEventsMax: 10, lingerMillis: 60_000 })
            // The first batch opens a connection that the next one finds open.
            for (const round of ["a", "b", "c", "d"]) {
              const outcomes = yield* Effect.forEach(events(10, {}, round), publisher.submit)
              yield* Effect.all(outcomes)
            }
          })
        )
        expect(proxy.struck[fault.kind]).toBe(3)
        expect(await stats(server)).toMatchObject({ unique_processed: 40, conflicts: 0 })
      })
    })
  })

  it("never changes what is stored, nor what is told: any faults, batches and events (G2, G8)", async () => {
    await withServer({}, async (server) => {
      let run = 0
      const property = fc.asyncProperty(
        fc.array(collidingEvent, { minLength: 1, maxLength: 40 }),
        fc.integer(),
        fc.record({
          refuse: fc.constantFrom(0, 0.1),
          "cut-request": fc.constantFrom(0, 0.2),
          "cut-answer": fc.constantFrom(0, 0.2),
          "half-close-client": fc.constantFrom(0, 0.1),
          "half-close-server": fc.constantFrom(0, 0.1),
          "swallow-answer": fc.constantFrom(0, 0.2)
        }),
        fc.record({
          batchEventsMax: fc.integer({ min: 1, max: 10 }),
          bufferEventsMax: fc.integer({ min: 1, max: 20 })
        }),
        async (all, seed, rates, options) => {
          // One service for all runs: each has topics of its own.
          const prefix = `run-${run++}.`
          const sent = all.map(
            ({ topic, eventId, timestamp, source, payload, sequence }): EventToPublish => ({
              topic: prefix + topic,
              event_id: eventId,
              timestamp,
              source,
              payload: new JsonText(payload),
              ...(sequence === null ? {} : { sequence })
            })
          )
          await withProxy(server, seeded(seed, rates), async (proxy) => {
            const before = await stats(server)
            const [told, publisher] = await live(
              Effect.gen(function* () {
                const publisher = yield* quick({ url: proxy.url, ...options })
                const outcomes = yield* Effect.forEach(sent, publisher.submit)
                yield* publisher.close
                return [yield* Effect.all(outcomes), yield* publisher.stats] as const
              })
            )
            const expected = expectedOf([all])
            const settled = told.map(({ outcome, attempt }, index) => {
              // Its own earlier attempt may have stored it.
              const wanted = expected.outcomes[0]?.[index]
              return wanted === "stored" && outcome === "duplicate" && attempt > 1 ? "stored" : outcome
            })
            expect(settled).toEqual(expected.outcomes[0])
            const after = await stats(server)
            expect(after.unique_processed - before.unique_processed).toBe(expected.stored.length)
            expect(publisher).toMatchObject({
              events: sent.length,
              failed: 0,
              bufferedEvents: 0,
              bufferedBytes: 0
            })
            expect(publisher.stored + publisher.duplicates + publisher.conflicts).toBe(sent.length)
          })
        }
      )
      await fc.assert(property, { numRuns: 40 })
    })
  })
})

describe("what passes by itself", () => {
  const result = (count: number) => Array.from({ length: count }, () => ({ outcome: "stored", offset: 1 }))
  const answer = (further: object) =>
    JSON.stringify({ status: "accepted", accepted: 2, stored: 2, duplicates: 0, conflicts: 0, ...further })
  const html = "<html><body>Log in to\nthe network</body></html>"
  const cases: ReadonlyArray<readonly [string, NonNullable<ScriptedAnswer>, object]> = [
    ["408", { status: 408 }, { kind: "status", status: 408 }],
    ["429", { status: 429 }, { kind: "status", status: 429 }],
    ["500", { status: 500, body: html }, { kind: "status", status: 500 }],
    ["502", { status: 502 }, { kind: "status", status: 502, detail: "status 502: an empty body" }],
    ["504", { status: 504 }, { kind: "status", status: 504 }],
    ["599", { status: 599 }, { kind: "status", status: 599 }],
    [
      "a page with status 200",
      { status: 200, body: html },
      {
        kind: "answer",
        status: 200,
        detail: "an answer that is none of this service: <html><body>Log in to the network</body></html>"
      }
    ],
    ["a page with status 202", { status: 202, body: html }, { kind: "answer", status: 202 }],
    ["no content", { status: 204 }, { kind: "answer", status: 204 }],
    [
      "the service's own answer with another status",
      { status: 200, body: answer({ results: result(2) }) },
      {}
    ],
    ["too few results", { status: 202, body: answer({ results: result(1) }) }, { kind: "answer" }],
    ["too many results", { status: 202, body: answer({ results: result(3) }) }, { kind: "answer" }],
    ["no results", { status: 202, body: answer({}) }, { kind: "answer" }],
    ["another count", { status: 202, body: answer({ results: result(2), accepted: 3 }) }, { kind: "answer" }],
    [
      "an unknown outcome",
      { status: 202, body: answer({ results: [...result(1), { outcome: "lost", offset: 1 }] }) },
      { kind: "answer" }
    ],
    ["half an answer", { status: 202, body: answer({ results: result(2) }).slice(0, -9) }, { kind: "answer" }]
  ]
  it.each(cases)("is sent again, and counted: %s", async (_name, first, trouble) => {
    const { retries, onRetry } = makeRetries()
    const script = (request: Arrived, number: number) => (number < 2 ? first : accepted(request))
    await withAnswers(script, async ({ url, requests }) => {
      const { exits, stats: publisher } = await publishAll({ url, onRetry }, events(2))
      expect(exits).toMatchObject(
        [1, 2].map((offset) => Exit.succeed({ outcome: "stored", offset, attempt: 3 }))
      )
      expect(publisher).toMatchObject({ attempts: 3, retries: 2, stored: 2, failed: 0 })
      expect(requests.map(({ method, path, headers }) => [method, path, headers["sekali-attempt"]])).toEqual(
        ["1", "2", "3"].map((attempt) => ["POST", "/publish", attempt])
      )
      expect(new Set(requests.map(({ body }) => body)).size).toBe(1)
      expect(retries).toMatchObject([
        { attempts: 1, events: 2, trouble },
        { attempts: 2, events: 2, trouble }
      ])
    })
  })

  it("may be nobody at the address", async () => {
    const { retries, onRetry } = makeRetries()
    const url = await nobody()
    const { exits } = await publishAll({ url, onRetry, giveUp: { attempts: 2 } }, events(1))
    expect(exits[0]).toMatchObject(
      Exit.fail({ _tag: "GaveUp", attempts: 2, trouble: { kind: "network", status: undefined } })
    )
    expect(retries).toHaveLength(1)
    expect(retries[0]?.trouble.detail).toContain("ECONNREFUSED")
  })
})

describe("what does not pass by itself", () => {
  const faultOf = (pointer: string) =>
    JSON.stringify({
      type: "urn:sekali:problem:invalid-input",
      title: "The input is not valid",
      status: 422,
      detail: "1 fault; nothing was stored.",
      instance: "/publish",
      errors: [{ pointer, detail: "is wrong" }]
    })
  it.each([
    [301, { status: 301, headers: { location: "" }, body: "" }],
    [400, { status: 400, body: "Bad Request" }],
    [401, { status: 401 }],
    [403, { status: 403, body: "<html>" }],
    [404, { status: 404 }],
    [405, { status: 405 }],
    [409, { status: 409 }],
    [415, { status: 415 }],
    [422, { status: 422, body: "no problem document" }],
    [422, { status: 422, body: faultOf("sekali-attempt") }],
    [422, { status: 422, body: faultOf("/17") }],
    [431, { status: 431 }]
  ])("is not sent again, and fails the whole batch: %i %o", async (status, first) => {
    await withAnswers(
      (request, number) => (number === 0 ? first : accepted(request)),
      async ({ url, requests }) => {
        const { exits, stats: publisher } = await publishAll({ url }, events(3))
        expect(exits).toMatchObject(
          events(3).map(() => Exit.fail({ _tag: "Refused", status, faults: [], detail: expect.any(String) }))
        )
        expect(requests).toHaveLength(1)
        expect(publisher).toMatchObject({ attempts: 1, retries: 0, failed: 3, bufferedEvents: 0 })
      }
    )
  })

  it("is known also behind a client that takes a status for a failure", async () => {
    await withAnswers(
      () => ({ status: 404 }),
      async ({ url, requests }) => {
        const error = await live(
          Effect.gen(function* () {
            const strict = HttpClient.filterStatusOk(yield* HttpClient.HttpClient)
            const publisher = yield* Effect.provideService(quick({ url }), HttpClient.HttpClient, strict)
            return yield* Effect.flip(publisher.publish(event("1")))
          })
        )
        expect(error).toMatchObject({ _tag: "Refused", status: 404 })
        expect(requests).toHaveLength(1)
      }
    )
  })

  it("leaves the connection to the next batch", async () => {
    await withAnswers(
      (request, number) => (number === 0 ? { status: 403 } : accepted(request)),
      async ({ url }) => {
        await live(
          Effect.gen(function* () {
            const publisher = yield* quick({ url, batchEventsMax: 1 })
            const outcomes = yield* Effect.forEach(events(2), publisher.submit)
            const exits = yield* Effect.forEach(outcomes, Effect.exit)
            expect(exits.map(Exit.isSuccess)).toEqual([false, true])
          })
        )
      }
    )
  })
})

describe("how long it waits", () => {
  it("is at least what the service says in Retry-After, here with a queue that is full", async () => {
    const settings = { queueEventsMax: 1, commitEventsMax: 1, requestEventsMax: 1 }
    await withServer({ settings }, async (server) => {
      server.database.hold()
      const inTheWay = post(server, JSON.stringify(event("in the way")))
      await until(() => server.database.held === 1)
      const { onRetry, nth } = makeRetries()
      await timed(
        Effect.gen(function* () {
          const publisher = yield* make({
            url: server.url,
            lingerMillis: 0,
            backoffMillisFirst: 100,
            onRetry
          })
          const outcome = yield* publisher.submit(event("1"))
          const { waitMillis, trouble } = yield* nth(0)
          expect(trouble).toMatchObject({ kind: "status", status: 503, retryAfterMillis: 1000 })
          expect(waitMillis).toBeGreaterThanOrEqual(1000)
          expect(waitMillis).toBeLessThanOrEqual(1100)
          server.database.release()
          expect((yield* Effect.promise(() => inTheWay)).status).toBe(202)
          yield* Effect.promise(() => until(async () => (await stats(server)).queue.events === 0))
          yield* TestClock.setTime(waitMillis - 1)
          // A request to the service takes longer than it would take to send it again.
          expect((yield* Effect.promise(() => get(server, "/stats"))).status).toBe(200)
          expect(yield* publisher.stats).toMatchObject({ attempts: 1 })
          yield* TestClock.setTime(waitMillis)
          expect(yield* outcome).toMatchObject({ outcome: "stored", attempt: 2 })
        })
      )
    })
  })

  it.each([
    ["7", 7000],
    [" 0.5 ", 500],
    ["0", 0],
    ["Thu, 01 Jan 1970 00:01:30 GMT", 90_000],
    ["Wed, 31 Dec 1969 23:59:00 GMT", 0],
    ["soon", 0],
    ["999999999", 3_600_000]
  ])("reads Retry-After: %s", async (header, millis) => {
    await withAnswers(
      (request, number) =>
        number === 0 ? { status: 503, headers: { "retry-after": header } } : accepted(request),
      async ({ url }) => {
        const { onRetry, nth } = makeRetries()
        await timed(
          Effect.gen(function* () {
            const publisher = yield* make({ url, lingerMillis: 0, backoffMillisFirst: 0, onRetry })
            const outcome = yield* publisher.submit(event("1"))
            const { waitMillis } = yield* nth(0)
            expect(waitMillis).toBe(millis)
            if (waitMillis > 0) yield* wakeAfter(waitMillis)
            expect(yield* outcome).toMatchObject({ attempt: 2 })
          })
        )
      }
    )
  })

  it("is a random time up to a bound that doubles, as far as its limit", async () => {
    const attempts = 12
    const waits = await Promise.all(
      Array.from({ length: 20 }, async () => {
        const url = await nobody()
        const { onRetry, nth } = makeRetries()
        return timed(
          Effect.gen(function* () {
            const options = {
              backoffMillisFirst: 100,
              backoffMillisMax: 10_000,
              giveUp: { attempts },
              onRetry
            }
            const publisher = yield* make({ url, lingerMillis: 0, ...options })
            const outcome = yield* publisher.submit(event("1"))
            const waits: Array<number> = []
            for (let retry = 0; retry < attempts - 1; retry++) {
              const { waitMillis } = yield* nth(retry)
              waits.push(waitMillis)
              yield* wakeAfter(waitMillis)
            }
            expect(yield* Effect.flip(outcome)).toMatchObject({ _tag: "GaveUp", attempts })
            return waits
          })
        )
      })
    )
    for (let retry = 0; retry < attempts - 1; retry++) {
      const bound = Math.min(10_000, 100 * 2 ** retry)
      const ofRetry = waits.map((each) => each[retry] ?? Number.NaN)
      expect(Math.max(...ofRetry)).toBeLessThanOrEqual(bound)
      expect(Math.min(...ofRetry)).toBeGreaterThanOrEqual(0)
      // Full jitter: of twenty waits none below and none above the middle has a chance of one in 500,000 each.
      expect(Math.min(...ofRetry)).toBeLessThan(bound / 2)
      expect(Math.max(...ofRetry)).toBeGreaterThan(bound / 2)
    }
  })

  it("ends by policy, counted in attempts", async () => {
    await withAnswers(
      () => ({ status: 503, body: "" }),
      async ({ url, requests }) => {
        const { exits, stats: publisher } = await publishAll({ url, giveUp: { attempts: 3 } }, events(2))
        const trouble = { kind: "status", status: 503 }
        expect(exits).toMatchObject(events(2).map(() => Exit.fail({ _tag: "GaveUp", attempts: 3, trouble })))
        expect(publisher).toMatchObject({ attempts: 3, retries: 2, failed: 2, bufferedEvents: 0 })
        expect(requests).toHaveLength(3)
      }
    )
  })

  it("ends by policy, counted in seconds, without a last wait that would be too long", async () => {
    await withAnswers(
      () => ({ status: 429, headers: { "retry-after": "4" } }),
      async ({ url }) => {
        const { onRetry, nth } = makeRetries()
        await timed(
          Effect.gen(function* () {
            const options = { lingerMillis: 0, backoffMillisFirst: 500, backoffMillisMax: 500, onRetry }
            const publisher = yield* make({ url, ...options, giveUp: { seconds: 10 } })
            const outcome = yield* publisher.submit(event("1"))
            for (const retry of [0, 1]) yield* wakeAfter((yield* nth(retry)).waitMillis)
            expect(yield* Effect.flip(outcome)).toMatchObject({ _tag: "GaveUp", attempts: 3 })
          })
        )
      }
    )
  })

  it("has no end by itself", async () => {
    await withAnswers(
      (request, number) => (number < 300 ? { status: 503 } : accepted(request)),
      async ({ url }) => {
        const options = { url, backoffMillisFirst: 0, backoffMillisMax: 0 }
        const { stats: publisher } = await publishAll(options, events(1))
        expect(publisher).toMatchObject({ attempts: 301, retries: 300, stored: 1 })
      }
    )
  })

  it("does not keep a publisher from being closed by force", async () => {
    await withAnswers(
      () => ({ status: 503, headers: { "retry-after": "3600" } }),
      async ({ url }) => {
        const { onRetry, nth } = makeRetries()
        await live(
          Effect.gen(function* () {
            const publisher = yield* quick({ url, onRetry })
            const outcome = yield* publisher.submit(event("1"))
            yield* nth(0)
            const closing = yield* Effect.fork(publisher.close)
            yield* untilTrue(Effect.map(closing.status, FiberStatus.isSuspended))
            yield* Fiber.interrupt(closing)
            expect(yield* Effect.flip(outcome)).toMatchObject({ _tag: "OutcomeUnknown", sent: true })
          })
        )
      }
    )
  })
})

describe("a defect on the way", () => {
  it("ends the publisher, and leaves nobody waiting", async () => {
    const broken = HttpClient.make(() => Effect.die(new Error("out of order")))
    await live(
      Effect.gen(function* () {
        const publisher = yield* quick({
          url: "http://127.0.0.1:1",
          batchEventsMax: 1,
          bufferEventsMax: 2
        }).pipe(Effect.provideService(HttpClient.HttpClient, broken))
        const exits = yield* Effect.forEach(events(4), (one) => Effect.exit(publisher.publish(one)), {
          concurrency: "unbounded"
        })
        expect(exits).toMatchObject([
          Exit.fail({ _tag: "OutcomeUnknown", sent: true, reason: expect.stringContaining("out of order") }),
          Exit.fail({ _tag: "OutcomeUnknown", sent: false }),
          Exit.fail({ _tag: "PublisherClosed" }),
          Exit.fail({ _tag: "PublisherClosed" })
        ])
        expect(yield* Effect.flip(publisher.publish(event("late")))).toMatchObject({
          _tag: "PublisherClosed"
        })
        yield* publisher.close
      })
    )
  })
})
