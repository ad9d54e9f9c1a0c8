/**
 * The publisher that numbers its events: without holes or repetitions, through lost answers, full buffers, restarts of
 * either side and what an earlier process left behind.
 */
import { FetchHttpClient, HttpClient, HttpClientResponse } from "@effect/platform"
import { Effect, Either, Fiber } from "effect"
import { describe, expect, it } from "vitest"
import { make } from "../../src/client/Publisher.ts"
import { createPublisher } from "../../src/client/promises.ts"
import { SourcesAnswer } from "../../src/http/Api.ts"
import { decoded, get, post } from "../http/client.ts"
import { scripted, startProxy } from "../support/proxy.ts"
import { type RunningServer, withFolder, withServer } from "../support/server.ts"
import { event, events, live, makeRetries, quick, untilTrue } from "./publishing.ts"

const booksOf = async (server: RunningServer) =>
  decoded(SourcesAnswer, await get(server, "/sources")).sources.map(
    ({ topic, source, first, highest, contiguous, declared_missing, sequence_reused }) =>
      [topic, source, first, highest, contiguous, declared_missing + sequence_reused] as const
  )

/** The sequences of a topic by its ids. */
const numbersOf = async (server: RunningServer, topic = "test.topic") =>
  (
    JSON.parse((await get(server, `/events?limit=1000&topic=${topic}`)).text) as {
      events: ReadonlyArray<{ event_id: string; sequence?: number }>
    }
  ).events.map(({ event_id, sequence }) => [event_id, sequence])

describe("a publisher with sequences", () => {
  it("numbers each topic and source from 0, in the order of the calls; a number that is given stays", async () => {
    await withServer({}, async (server) => {
      const publisher = await createPublisher({ url: server.url, sequences: true, lingerMillis: 0 })
      const one = (topic: string, source: string, sequence?: number) =>
        publisher.submit({ topic, source, sequence })
      for (let n = 0; n < 40; n++) await one(n % 2 === 0 ? "A.b" : "b", n % 3 === 0 ? "x" : "y & z")
      await one("c", "x", 77)
      await publisher.close()
      expect(await booksOf(server)).toEqual([
        ["a.b", "x", 0, 6, 6, 0],
        ["b", "y & z", 0, 12, 12, 0],
        ["a.b", "y & z", 0, 12, 12, 0],
        ["b", "x", 0, 6, 6, 0],
        ["c", "x", 77, 77, 77, 0]
      ])
    })
  })

  it("goes on behind what the service knows after a restart of both", async () => {
    await withFolder(async (folder) => {
      for (const from of [0, 30, 60]) {
        await withServer({ folder }, async (server) => {
          await live(
            Effect.gen(function* () {
              const publisher = yield* quick({ url: server.url, sequences: true })
              yield* Effect.forEach(events(30, {}, `e${from}-`), publisher.submit)
              yield* publisher.close
            })
          )
          expect(await booksOf(server)).toEqual([["test.topic", "service-a", 0, from + 29, from + 29, 0]])
        })
      }
    })
  })

  it("leaves neither hole nor repetition where answers are lost and requests come again", async () => {
    await withServer({}, async (server) => {
      const faults = ["swallow-answer", "refuse", "swallow-answer", "refuse", "swallow-answer"] as const
      const proxy = await startProxy(() => server, scripted(...faults.map((kind) => ({ kind }))))
      await live(
        Effect.gen(function* () {
          const publisher = yield* quick({ url: proxy.url, sequences: true, batchEventsMax: 7 })
          yield* Effect.forEach(events(60), publisher.submit)
          yield* publisher.close
        })
      )
      await proxy.close()
      expect(proxy.struck["swallow-answer"]).toBe(3)
      expect(await booksOf(server)).toEqual([["test.topic", "service-a", 0, 59, 59, 0]])
      expect(await numbersOf(server)).toEqual(events(60).map(({ event_id }, n) => [event_id, n]))
    })
  })

  it("numbers anew what an earlier process lost, and only what arrives later still is told as reused", async () => {
    await withServer({}, async (server) => {
      const earlier = (ids: ReadonlyArray<string>, from: number) =>
        post(server, JSON.stringify(ids.map((id, n) => event(id, { sequence: from + n }))))
      await earlier(["a0", "a1"], 0)
      // The earlier process has sent a2 and a3 as well; a2 is on its way yet, and a3 is lost with it.
      await live(
        Effect.gen(function* () {
          const publisher = yield* quick({ url: server.url, sequences: true })
          yield* publisher.publish(event("b0"))
          yield* Effect.promise(() => earlier(["a2"], 2))
          yield* publisher.publish(event("b1"))
        })
      )
      expect(await booksOf(server)).toEqual([["test.topic", "service-a", 0, 3, 3, 1]])
      expect(await numbersOf(server)).toEqual([
        ["a0", 0],
        ["a1", 1],
        ["b0", 2],
        ["a2", 2],
        ["b1", 3]
      ])
    })
  })

  it("gives no number to an event that is taken back while it waits for room", async () => {
    await withServer({}, async (server) => {
      await live(
        Effect.gen(function* () {
          const publisher = yield* make({
            url: server.url,
            sequences: true,
            bufferEventsMax: 2,
            lingerMillis: 60_000
          })
          server.database.hold()
          yield* Effect.forEach(events(2), publisher.submit)
          const waiting = yield* Effect.forEach(events(3, {}, "w"), (each) =>
            Effect.fork(publisher.submit(each))
          )
          yield* untilTrue(Effect.map(publisher.stats, (stats) => stats.waiting === 3))
          yield* Fiber.interrupt(waiting[1] as Fiber.Fiber<unknown, unknown>)
          server.database.release()
          yield* publisher.close
        })
      )
      expect(await numbersOf(server)).toEqual([
        ["e0", 0],
        ["e1", 1],
        ["w0", 2],
        ["w2", 3]
      ])
    })
  })

  it("asks until it is told, once for all who wait, and begins when the service does", async () => {
    await withServer({}, async (server) => {
      const asked: Array<string> = []
      const retries = makeRetries()
      await live(
        Effect.gen(function* () {
          const client = yield* HttpClient.HttpClient
          // The first two questions get no answer of the service.
          const counting = HttpClient.make((request, url) => {
            if (url.pathname !== "/sources") return client.execute(request)
            asked.push(url.search)
            return asked.length > 2
              ? client.execute(request)
              : Effect.succeed(HttpClientResponse.fromWeb(request, new Response("<html>", { status: 502 })))
          })
          const publisher = yield* Effect.provideService(
            quick({ url: server.url, sequences: true, onRetry: retries.onRetry }),
            HttpClient.HttpClient,
            counting
          )
          yield* Effect.forEach(events(5), publisher.publish, { concurrency: "unbounded" })
        })
      )
      expect(new Set(asked)).toEqual(new Set(["?topic=test.topic&source=service-a"]))
      expect([asked.length, retries.retries.length]).toEqual([3, 2])
      expect(await numbersOf(server)).toEqual(events(5).map(({ event_id }, n) => [event_id, n]))
    })
  })

  it("tells where it gives up asking, is refused, or is closed meanwhile, and has sent nothing", async () => {
    await withServer({}, async (server) => {
      const path = (status: number) =>
        HttpClient.make((request) =>
          Effect.succeed(HttpClientResponse.fromWeb(request, new Response("no", { status })))
        )
      const told = (status: number, giveUp = {}) =>
        live(
          Effect.gen(function* () {
            const publisher = yield* Effect.provideService(
              quick({ url: server.url, sequences: true, giveUp }),
              HttpClient.HttpClient,
              path(status)
            )
            const publishing = yield* Effect.fork(Effect.either(publisher.publish(event("1"))))
            if (status === 503 && !("attempts" in giveUp)) {
              yield* Effect.yieldNow()
              yield* publisher.close
            }
            const either = yield* Fiber.join(publishing)
            return [Either.isLeft(either) ? either.left._tag : "", (yield* publisher.stats).events]
          })
        )
      expect(await told(503, { attempts: 2 })).toEqual(["SequenceUnknown", 0])
      expect(await told(404)).toEqual(["SequenceUnknown", 0])
      expect(await told(503)).toEqual(["PublisherClosed", 0])
    })
  })

  it("sends one request at a time", async () => {
    const refused = await Effect.runPromise(
      make({ url: "http://127.0.0.1:1", sequences: true, requestsMax: 2 }).pipe(
        Effect.scoped,
        Effect.flip,
        Effect.provide(FetchHttpClient.layer)
      )
    )
    expect(refused.message).toContain("requestsMax must be 1 with sequences")
  })
})
