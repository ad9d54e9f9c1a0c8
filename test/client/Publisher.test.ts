/**
 * The publisher against the real service, over real sockets and on a real file.
 */
import { HttpClient } from "@effect/platform"
import { Cause, Effect, Exit, Fiber, FiberStatus, Scope, TestClock } from "effect"
import { describe, expect, it } from "vitest"
import { JsonText, make, type PublishOutcome } from "../../src/client/Publisher.ts"
import { get, post, stats } from "../http/client.ts"
import { type RunningServer, withServer } from "../support/server.ts"
import { event, events, live, quick, timed, untilAsleep, untilTrue, wakeAfter } from "./publishing.ts"

const failureOf = <A, E>(exit: Exit.Exit<A, E>): unknown =>
  Exit.match(exit, { onSuccess: (value) => ({ value }), onFailure: Cause.squash })

/** What the service holds, in the order of offsets. */
const stored = async (server: RunningServer) => {
  const { events } = JSON.parse((await get(server, "/events?limit=1000")).text) as {
    events: ReadonlyArray<Record<string, unknown>>
  }
  return events
}

const idsOf = async (server: RunningServer) => (await stored(server)).map(({ event_id }) => event_id)

const storedCount = (server: RunningServer) =>
  Effect.promise(async () => (await stats(server)).unique_processed)

describe("publish", () => {
  it("tells each event's outcome: stored, duplicate, conflict, with the offset of the stored one (G8)", async () => {
    await withServer({}, async (server) => {
      const told = await live(
        Effect.gen(function* () {
          const publisher = yield* quick({ url: server.url })
          const outcomes: Array<PublishOutcome> = []
          for (const payload of ["a", "a", "b"]) {
            outcomes.push(yield* publisher.publish(event("1", { topic: "Shop.ORDERS", payload })))
          }
          return [outcomes, yield* publisher.stats] as const
        })
      )
      const where = { topic: "shop.orders", event_id: "1", offset: 1, attempt: 1 }
      expect(told[0]).toEqual([
        { outcome: "stored", ...where },
        { outcome: "duplicate", ...where },
        { outcome: "conflict", ...where }
      ])
      expect(told[1]).toEqual({
        events: 3,
        attempts: 3,
        retries: 0,
        stored: 1,
        duplicates: 1,
        conflicts: 1,
        failed: 0,
        bufferedEvents: 0,
        bufferedBytes: 0,
        waiting: 0
      })
      expect((await stats(server)).publishes).toEqual({ attempts: 3, retries: 0 })
    })
  })

  it("fills in what is left out: source, time, and an id of its own for each event", async () => {
    await withServer({}, async (server) => {
      await timed(
        Effect.gen(function* () {
          const publisher = yield* make({ url: `${server.url}/`, source: "worker-7", batchEventsMax: 1 })
          const first = yield* publisher.publish({ topic: "a" })
          const second = yield* publisher.publish({ topic: "a", sequence: 4, origin: "far", payload: null })
          expect(first.event_id).toMatch(/^worker-7-[0-9A-HJKMNP-TV-Z]{26}$/)
          expect(second.event_id > first.event_id).toBe(true)
        })
      )
      const time = "1970-01-01T00:00:00.000Z"
      expect(await stored(server)).toMatchObject([
        { source: "worker-7", timestamp: time, payload: {} },
        { source: "worker-7", timestamp: time, payload: null, sequence: 4, origin: "far" }
      ])
    })
  })

  it("sends a payload given as text to the last digit, and a value as JSON prints it", async () => {
    const text = ' { "n": 12345678901234567890.10, "z": -0, "big": 1e400, "half": "\ud800", "__proto__": 1 } '
    await withServer({}, async (server) => {
      await live(
        Effect.gen(function* () {
          const publisher = yield* quick({ url: server.url })
          yield* publisher.publish(event("text", { payload: new JsonText(text) }))
          yield* publisher.publish(event("value", { payload: { é: [1, "\ud800"], nothing: undefined } }))
        })
      )
      const { text: page } = await get(server, "/events")
      const exact = '{"n":12345678901234567890.10,"z":-0,"big":1e400,"half":"\\ud800","__proto__":1}'
      expect(page).toContain(`"payload":${exact}`)
      expect(page).toContain('"payload":{"é":[1,"\\ud800"]}')
    })
  })

  it("refuses what is no event before anything is sent, with every fault", async () => {
    const cyclic: Record<string, unknown> = {}
    cyclic["self"] = cyclic
    const cases: ReadonlyArray<readonly [Record<string, unknown>, ReadonlyArray<string>]> = [
      [{ topic: "no topic", timestamp: "yesterday" }, ["/topic", "/timestamp"]],
      [{ source: undefined }, ["/source"]],
      [{ source: 7 }, ["/source"]],
      [{ event_id: "", extra: 1 }, ["/extra", "/event_id"]],
      [{ sequence: -1, origin: null }, ["/origin", "/sequence"]],
      [{ event_id: null, timestamp: null, source: null }, ["/event_id", "/timestamp", "/source"]],
      [{ payload: cyclic }, ["/payload"]],
      [{ payload: 1n }, ["/payload"]],
      [{ payload: () => 1 }, ["/payload"]],
      [{ payload: new JsonText("{oops}") }, ["/payload"]],
      [{ payload: new JsonText(""), topic: "" }, ["/topic", "/payload"]],
      [{ payload: "x".repeat(2000) }, [""]]
    ]
    await withServer({}, async (server) => {
      const told = await live(
        Effect.gen(function* () {
          const publisher = yield* quick({ url: server.url, bufferBytesMax: 1000 })
          const failures = yield* Effect.forEach(cases, ([wrong]) =>
            Effect.flip(publisher.publish({ ...event("1"), ...wrong } as never))
          )
          expect(yield* publisher.stats).toMatchObject({ events: 0, attempts: 0 })
          return failures.map((error) => (error._tag === "InvalidEvent" ? error.faults : error))
        })
      )
      expect(
        told.map((faults) =>
          (faults as ReadonlyArray<{ pointer: string }>).map(({ pointer }) => pointer).sort()
        )
      ).toEqual(cases.map(([, pointers]) => [...pointers].sort()))
      expect((await stats(server)).publishes.attempts).toBe(0)
    })
  })
})

describe("batches", () => {
  it("leave when they have enough events, in the order of publishing", async () => {
    await withServer({}, async (server) => {
      await timed(
        Effect.gen(function* () {
          const publisher = yield* make({ url: server.url, batchEventsMax: 3 })
          const outcomes = yield* Effect.forEach(events(9), publisher.submit)
          yield* Effect.forEach(outcomes, (outcome) => outcome)
          expect(yield* publisher.stats).toMatchObject({ attempts: 3, stored: 9 })
        })
      )
      expect(await idsOf(server)).toEqual(events(9).map(({ event_id }) => event_id))
    })
  })

  it("leave when they have enough bytes; what does not fit opens the next one", async () => {
    await withServer({}, async (server) => {
      const payload = "x".repeat(300)
      await timed(
        Effect.gen(function* () {
          const publisher = yield* make({ url: server.url, batchBytesMax: 1000 })
          const outcomes = yield* Effect.forEach(events(4, { payload }), publisher.submit)
          yield* Effect.forEach(outcomes.slice(0, 2), (outcome) => outcome)
          expect(yield* publisher.stats).toMatchObject({ attempts: 1, stored: 2, bufferedEvents: 2 })
        })
      )
    })
  })

  it("leave when the oldest event has waited for `lingerMillis`, and no earlier", async () => {
    await withServer({}, async (server) => {
      await timed(
        Effect.gen(function* () {
          const publisher = yield* make({ url: server.url, lingerMillis: 50 })
          const first = yield* publisher.submit(event("1"))
          yield* untilAsleep(50)
          yield* TestClock.setTime(30)
          const second = yield* publisher.submit(event("2"))
          yield* TestClock.setTime(49)
          // A request to the service takes longer than it would take to send the batch.
          expect(yield* storedCount(server)).toBe(0)
          expect(yield* publisher.stats).toMatchObject({ attempts: 0, bufferedEvents: 2 })
          yield* TestClock.setTime(50)
          yield* first
          yield* second
          expect(yield* publisher.stats).toMatchObject({ attempts: 1, stored: 2 })
          // And so again, also where an earlier batch was full before its time was over.
          const early = yield* publisher.submit(event("early"))
          yield* untilAsleep(100)
          const full = yield* Effect.forEach(events(999), publisher.submit)
          yield* Effect.all([early, ...full])
          yield* TestClock.setTime(60)
          const last = yield* publisher.submit(event("last"))
          yield* wakeAfter(40)
          yield* wakeAfter(10)
          yield* last
          expect(yield* publisher.stats).toMatchObject({ attempts: 3, stored: 1003 })
        })
      )
    })
  })

  it("share requests while one is under way, and keep the order also then", async () => {
    await withServer({}, async (server) => {
      server.database.hold()
      await live(
        Effect.gen(function* () {
          const publisher = yield* quick({ url: server.url })
          yield* publisher.submit(event("first"))
          yield* untilTrue(Effect.sync(() => server.database.held === 1))
          const outcomes = yield* Effect.forEach(events(20), publisher.submit)
          server.database.release()
          yield* Effect.forEach(outcomes, (outcome) => outcome)
          expect(yield* publisher.stats).toMatchObject({ attempts: 2, stored: 21 })
        })
      )
      expect(await idsOf(server)).toEqual(["first", ...events(20).map(({ event_id }) => event_id)])
    })
  })

  it("are under way one at a time, or as many as `requestsMax` says", async () => {
    for (const requestsMax of [1, 3]) {
      await withServer({}, async (server) => {
        server.database.hold()
        let underWay = 0
        let most = 0
        await live(
          Effect.gen(function* () {
            const counted = HttpClient.transform(yield* HttpClient.HttpClient, (execute) =>
              Effect.acquireUseRelease(
                Effect.sync(() => {
                  most = Math.max(most, ++underWay)
                }),
                () => execute,
                () => Effect.sync(() => underWay--)
              )
            )
            const publisher = yield* quick({ url: server.url, batchEventsMax: 1, requestsMax }).pipe(
              Effect.provideService(HttpClient.HttpClient, counted)
            )
            const outcomes = yield* Effect.forEach(events(20), publisher.submit)
            yield* untilTrue(Effect.sync(() => underWay === requestsMax))
            server.database.release()
            yield* Effect.forEach(outcomes, (outcome) => outcome)
            expect(yield* publisher.stats).toMatchObject({ attempts: 20, stored: 20, bufferedEvents: 0 })
          })
        )
        expect(most).toBe(requestsMax)
      })
    }
  })
})

describe("a full buffer", () => {
  it.each([
    ["events", { bufferEventsMax: 3 }],
    ["bytes", { bufferBytesMax: 3 * (JSON.stringify(event("e0", { payload: { n: 0 } })).length + 1) }]
  ])("makes callers wait, counted in %s, and lets them in in order", async (_name, bound) => {
    await withServer({}, async (server) => {
      server.database.hold()
      await live(
        Effect.gen(function* () {
          const publisher = yield* quick({ url: server.url, batchEventsMax: 1, ...bound })
          yield* Effect.forEach(events(3), publisher.submit)
          const waiting: Array<Fiber.Fiber<unknown, unknown>> = []
          for (const [index, one] of events(3, {}, "w").entries()) {
            waiting.push(yield* Effect.fork(publisher.publish(one)))
            yield* untilTrue(Effect.map(publisher.stats, (stats) => stats.waiting === index + 1))
          }
          expect(yield* publisher.stats).toMatchObject({ events: 3, bufferedEvents: 3 })
          server.database.release()
          yield* Fiber.joinAll(waiting)
          expect(yield* publisher.stats).toMatchObject({
            events: 6,
            stored: 6,
            bufferedEvents: 0,
            waiting: 0
          })
        })
      )
      expect(await idsOf(server)).toEqual(["e0", "e1", "e2", "w0", "w1", "w2"])
    })
  })

  it("forgets a caller that is interrupted while it waits, and lets those behind it in", async () => {
    await withServer({}, async (server) => {
      const size = (id: string, length: number) => event(id, { payload: "x".repeat(length) })
      server.database.hold()
      await live(
        Effect.gen(function* () {
          const publisher = yield* quick({ url: server.url, bufferBytesMax: 2000, batchEventsMax: 1 })
          yield* publisher.submit(size("held", 1000))
          const large = yield* Effect.fork(publisher.publish(size("large", 1500)))
          yield* untilTrue(Effect.map(publisher.stats, ({ waiting }) => waiting === 1))
          const small = yield* Effect.fork(publisher.publish(size("small", 100)))
          yield* untilTrue(Effect.map(publisher.stats, ({ waiting }) => waiting === 2))
          yield* Fiber.interrupt(large)
          expect(yield* publisher.stats).toMatchObject({ events: 2, bufferedEvents: 2, waiting: 0 })
          server.database.release()
          expect(yield* Fiber.join(small)).toMatchObject({ outcome: "stored" })
        })
      )
      expect(await idsOf(server)).toEqual(["held", "small"])
    })
  })

  it("does not wait for others to share a request with", async () => {
    await withServer({}, async (server) => {
      await timed(
        Effect.gen(function* () {
          const publisher = yield* make({ url: server.url, bufferEventsMax: 2, lingerMillis: 60_000 })
          yield* Effect.forEach(events(5), publisher.publish, { concurrency: "unbounded" }).pipe(
            Effect.zipLeft(publisher.close),
            Effect.fork
          )
          yield* untilTrue(Effect.map(publisher.stats, ({ stored }) => stored >= 4))
        })
      )
    })
  })
})

describe("what the service refuses", () => {
  /** Deeper than the service takes; the contract's schema does not see it. */
  const tooDeep = new JsonText(`${"[".repeat(501)}${"]".repeat(501)}`)

  it("fails alone, with its faults; the rest of its batch is stored (422)", async () => {
    await withServer({}, async (server) => {
      const batch = events(6).map((one, index) => (index % 3 === 1 ? { ...one, payload: tooDeep } : one))
      await live(
        Effect.gen(function* () {
          const publisher = yield* quick({ url: server.url, lingerMillis: 60_000, batchEventsMax: 6 })
          const outcomes = yield* Effect.forEach(batch, publisher.submit)
          const exits = yield* Effect.forEach(outcomes, Effect.exit)
          const detail = "must not be nested more than 500 deep"
          const refused = { _tag: "Refused", status: 422, faults: [{ pointer: "/payload", detail }] }
          expect(exits.map(failureOf)).toMatchObject(
            [1, 0, 2, 3, 0, 4].map((offset) =>
              offset === 0
                ? refused
                : { value: { outcome: "stored", offset: expect.any(Number), attempt: 1 } }
            )
          )
          expect(yield* publisher.stats).toMatchObject({ attempts: 2, retries: 0, stored: 4, failed: 2 })
        })
      )
      expect(await idsOf(server)).toEqual(["e0", "e2", "e3", "e5"])
      expect(await stats(server)).toMatchObject({ received: 4, publishes: { attempts: 2, retries: 0 } })
    })
  })

  it("is halved until it fits (413), in order", async () => {
    const settings = { requestEventsMax: 3, commitEventsMax: 3, requestBytesMax: 2000, eventBytesMax: 1000 }
    await withServer({ settings }, async (server) => {
      await live(
        Effect.gen(function* () {
          const publisher = yield* quick({ url: server.url, lingerMillis: 60_000, batchEventsMax: 20 })
          const batch = events(20).map((one, index) =>
            index === 7
              ? { ...one, payload: "x".repeat(1500) }
              : index === 3
                ? { ...one, payload: "x".repeat(3000) }
                : one
          )
          const outcomes = yield* Effect.forEach(batch, publisher.submit)
          const exits = yield* Effect.forEach(outcomes, Effect.exit)
          expect(exits.map(Exit.isSuccess)).toEqual(batch.map((_one, index) => index !== 7 && index !== 3))
          for (const index of [3, 7]) {
            expect(failureOf(exits[index] as Exit.Exit<unknown>)).toMatchObject({
              _tag: "Refused",
              status: 413
            })
          }
        })
      )
      expect(await idsOf(server)).toEqual(
        events(20).flatMap(({ event_id }, index) => (index === 7 || index === 3 ? [] : [event_id]))
      )
      expect((await stats(server)).received).toBe(18)
    })
  })
})

describe("close", () => {
  it("sends what waits without lingering, and ends when all have their outcome; then nothing is taken", async () => {
    await withServer({}, async (server) => {
      await timed(
        Effect.gen(function* () {
          const publisher = yield* make({ url: server.url, lingerMillis: 3_600_000, batchEventsMax: 4 })
          const outcomes = yield* Effect.forEach(events(10), publisher.submit)
          yield* publisher.close
          expect(yield* publisher.stats).toMatchObject({ stored: 10, bufferedEvents: 0 })
          expect(yield* Effect.forEach(outcomes, (outcome) => outcome)).toHaveLength(10)
          expect(yield* Effect.flip(publisher.publish(event("late")))).toMatchObject({
            _tag: "PublisherClosed"
          })
          yield* publisher.close
        })
      )
      expect((await stats(server)).received).toBe(10)
    })
  })

  it("lets in those who waited for room before it", async () => {
    await withServer({}, async (server) => {
      server.database.hold()
      await live(
        Effect.gen(function* () {
          const publisher = yield* quick({ url: server.url, bufferEventsMax: 2, batchEventsMax: 1 })
          const publishing = yield* Effect.fork(
            Effect.forEach(events(7), publisher.publish, { concurrency: "unbounded" })
          )
          yield* untilTrue(Effect.map(publisher.stats, ({ waiting }) => waiting === 5))
          const closing = yield* Effect.fork(publisher.close)
          yield* untilTrue(Effect.map(closing.status, FiberStatus.isSuspended))
          expect(yield* Effect.flip(publisher.publish(event("late")))).toMatchObject({
            _tag: "PublisherClosed"
          })
          server.database.release()
          yield* Fiber.join(closing)
          expect(yield* publisher.stats).toMatchObject({ stored: 7, waiting: 0 })
          expect(yield* Fiber.join(publishing)).toHaveLength(7)
        })
      )
      expect((await stats(server)).received).toBe(7)
    })
  })

  it("interrupted, fails what is left: what was sent as unknown, what was not as not sent", async () => {
    await withServer({}, async (server) => {
      server.database.hold()
      await live(
        Effect.gen(function* () {
          const publisher = yield* quick({ url: server.url, batchEventsMax: 1, bufferEventsMax: 2 })
          const outcomes = yield* Effect.forEach(events(2), publisher.submit)
          yield* untilTrue(Effect.sync(() => server.database.held === 1))
          const waiting = yield* Effect.fork(publisher.publish(event("waits")))
          yield* untilTrue(Effect.map(publisher.stats, (stats) => stats.waiting === 1))
          const closing = yield* Effect.fork(publisher.close)
          const other = yield* Effect.fork(publisher.close)
          for (const { status } of [closing, other])
            yield* untilTrue(Effect.map(status, FiberStatus.isSuspended))
          yield* Fiber.interrupt(closing)
          expect(yield* Effect.forEach(outcomes, Effect.flip)).toMatchObject([
            { _tag: "OutcomeUnknown", sent: true, reason: "closing was interrupted" },
            { _tag: "OutcomeUnknown", sent: false, reason: "closing was interrupted" }
          ])
          expect(yield* Effect.flip(Fiber.join(waiting))).toMatchObject({ _tag: "PublisherClosed" })
          yield* Fiber.join(other)
          expect(yield* publisher.stats).toMatchObject({
            failed: 2,
            bufferedEvents: 0,
            bufferedBytes: 0,
            waiting: 0
          })
        })
      )
      server.database.release()
      // What had been sent is stored yet: the outcome was unknown indeed.
      await Effect.runPromise(untilTrue(Effect.map(storedCount(server), (count) => count === 1)))
    })
  })

  it("comes with the end of the scope", async () => {
    await withServer({}, async (server) => {
      await timed(
        Effect.gen(function* () {
          const publisher = yield* make({ url: server.url, lingerMillis: 3_600_000 })
          yield* Effect.forEach(events(10), publisher.submit)
        })
      )
      expect(await idsOf(server)).toEqual(events(10).map(({ event_id }) => event_id))
    })
  })

  it("at the end of the scope takes no longer than `closeSecondsMax`", async () => {
    await withServer({}, async (server) => {
      server.database.hold()
      await timed(
        Effect.gen(function* () {
          const scope = yield* Scope.make()
          const publisher = yield* make({ url: server.url, closeSecondsMax: 7, lingerMillis: 0 }).pipe(
            Scope.extend(scope)
          )
          const outcome = yield* publisher.submit(event("1"))
          yield* untilTrue(Effect.sync(() => server.database.held === 1))
          const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
          yield* wakeAfter("7 seconds")
          yield* Fiber.join(closing)
          expect(yield* Effect.flip(outcome)).toMatchObject({ _tag: "OutcomeUnknown", sent: true })
          expect(yield* Effect.flip(publisher.publish(event("2")))).toMatchObject({ _tag: "PublisherClosed" })
        })
      )
    })
  })
})

describe("Sekali-Attempt at the service", () => {
  it("is counted since start; what is no whole number from 1 counts as a first attempt", async () => {
    await withServer({}, async (server) => {
      const values = ["1", "2", "17", "0", "-1", "1.5", "two", "", "1, 2", "02", "99999999999999999999"]
      for (const value of values) {
        const answer = await post(server, JSON.stringify(event("1")), { "sekali-attempt": value })
        expect(answer.status, answer.text).toBe(202)
      }
      expect((await post(server, "no JSON", { "sekali-attempt": "3" })).status).toBe(400)
      expect((await stats(server)).publishes).toEqual({ attempts: values.length + 1, retries: 3 })
    })
  })

  it("stands in the contract", async () => {
    await withServer({}, async (server) => {
      const spec = JSON.parse((await get(server, "/openapi.json")).text) as {
        paths: Record<string, { post: { parameters: ReadonlyArray<Record<string, unknown>> } }>
      }
      expect(spec.paths["/publish"]?.post.parameters).toMatchObject([
        { name: "sekali-attempt", in: "header", required: false, schema: { type: "integer", minimum: 1 } }
      ])
    })
  })
})
