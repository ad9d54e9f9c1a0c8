/**
 * The follower over real sockets and a bad network: every event that matches comes once and in order, whatever cuts the
 * stream, and what will not pass is told.
 */
import { FetchHttpClient } from "@effect/platform"
import { Chunk, Effect, Either, Stream } from "effect"
import { describe, expect, it } from "vitest"
import {
  events,
  type FollowedEvent,
  type FollowOptions,
  type FollowRetry,
  inSequence
} from "../../src/client/Follower.ts"
import { followEvents, followInSequence } from "../../src/client/promises.ts"
import { event, get, publish } from "../http/client.ts"
import { type Fault, scripted, startProxy } from "../support/proxy.ts"
import { type RunningServer, until, withServer } from "../support/server.ts"

const numbered = (from: number, to: number, further: Readonly<Record<string, unknown>> = {}) =>
  Array.from({ length: to - from + 1 }, (_, index) => event(`${from + index}`, further))

const idsOf = (count: number) => numbered(1, count).map(({ event_id }) => event_id)

const quick = { backoffMillisFirst: 1, backoffMillisMax: 5 }

/** Follows until so many events have come. */
const take = (options: FollowOptions, count: number) => {
  let taken = 0
  return takeUntil(options, () => ++taken === count)
}

/** Follows up to an event, that one included. */
const takeUntil = (options: FollowOptions, isLast: (event: FollowedEvent) => boolean) =>
  Effect.runPromise(
    events({ ...quick, ...options }).pipe(
      Stream.takeUntil(isLast),
      Stream.runCollect,
      Effect.map(Chunk.toReadonlyArray),
      Effect.provide(FetchHttpClient.layer)
    )
  )

const refused = async (options: FollowOptions) =>
  Either.getOrThrow(
    Either.flip(
      await Effect.runPromise(
        Effect.either(Stream.runHead(events({ ...quick, ...options }))).pipe(
          Effect.provide(FetchHttpClient.layer)
        )
      )
    )
  )

const withProxy = async <A>(
  server: RunningServer,
  plan: Parameters<typeof startProxy>[1],
  use: (proxy: Awaited<ReturnType<typeof startProxy>>) => Promise<A>
): Promise<A> => {
  const proxy = await startProxy(() => server, plan)
  try {
    return await use(proxy)
  } finally {
    await proxy.close()
  }
}

describe("a follower", () => {
  it("gets every event once and in order, however often its stream is cut, refused or ended early", async () => {
    await withServer({}, async (server) => {
      const plan = Array.from({ length: 24 }, (_, n): Fault => {
        const kind = (["cut-answer", "half-close-client", "cut-answer", "refuse"] as const)[n % 4]
        return kind === "refuse" ? { kind } : { kind: kind ?? "cut-answer", bytes: 40 + ((n * 149) % 900) }
      })
      await withProxy(server, scripted(...plan), async (proxy) => {
        const following = take({ url: proxy.url, after: 0, topic: "test.>" }, 100)
        for (let n = 0; n < 10; n++) {
          await publish(server, numbered(n * 10 + 1, n * 10 + 10, { payload: "é 😀" }))
          await publish(server, event(`${n}`, { topic: "other" }))
        }
        const followed = await following
        expect(followed.map(({ event_id }) => event_id)).toEqual(idsOf(100))
        expect(followed[17]?.payload).toBe("é 😀")
        expect(proxy.struck).toMatchObject({ "cut-answer": 12, "half-close-client": 6, refuse: 6 })
        const { text } = await get(server, "/events?event_id=18&topic=test.topic")
        expect(text).toContain(followed[17]?.json)
      })
    })
  })

  it("that began now misses nothing, though its first stream is cut before an event came", async () => {
    await withServer({}, async (server) => {
      await publish(server, event("before"))
      // So much of the answer that the first place is in it.
      await withProxy(server, scripted({ kind: "cut-answer", bytes: 290 }), async (proxy) => {
        const retries: Array<FollowRetry> = []
        const onRetry = (retry: FollowRetry) =>
          Effect.promise(async () => {
            retries.push(retry)
            if (retries.length === 1) await publish(server, event("1"))
          })
        const following = takeUntil({ url: proxy.url, onRetry }, ({ event_id }) => event_id === "1")
        await until(() => proxy.exchanges() === 1)
        let noise = 0
        await until(async () => {
          await publish(server, event(`noise-${noise++}`, { topic: "noise", payload: "x".repeat(300) }))
          return retries.length > 0 || proxy.struck["cut-answer"] > 0
        })
        const ids = (await following).map(({ event_id }) => event_id)
        expect(ids.at(-1)).toBe("1")
        expect(ids).not.toContain("before")
      })
    })
  })

  it("takes a stream that is silent for too long for a broken one", async () => {
    await withServer({}, async (server) => {
      await withProxy(server, scripted({ kind: "swallow-silently" }), async (proxy) => {
        await publish(server, event("1"))
        const options = { url: proxy.url, after: 0, silentSecondsMax: 0.2, requestSecondsMax: 0.2 }
        expect(await take(options, 1)).toHaveLength(1)
        expect(proxy.struck["swallow-silently"]).toBe(1)
      })
    })
  })

  it("is refused a cursor of another store and wrong options, and does not ask again", async () => {
    await withServer({}, async (server) => {
      expect(await refused({ url: server.url, after: 9 })).toMatchObject({
        _tag: "FollowRefused",
        status: 422,
        type: "cursor-ahead",
        cursor: 9
      })
    })
    const wrong = await refused({ url: "nowhere", topic: "a..b", source: "", after: -1, silentSecondsMax: 0 })
    expect(wrong).toMatchObject({ _tag: "InvalidOptions" })
    expect("faults" in wrong ? wrong.faults : []).toHaveLength(5)
  })
})

describe("in sequence", () => {
  it("events are put in order, and the missing number is told when the time is over", async () => {
    await withServer({}, async (server) => {
      const options = { ...quick, url: server.url, after: 0, heldMillisMax: 200 }
      const following = Effect.runPromise(
        inSequence(options).pipe(
          Stream.take(7),
          Stream.runCollect,
          Effect.map(Chunk.toReadonlyArray),
          Effect.provide(FetchHttpClient.layer)
        )
      )
      await publish(
        server,
        [0, 2, 1, 5, 4].map((sequence) => event(`${sequence}`, { sequence }))
      )
      await publish(server, event("plain"))
      const told = (await following).map((delivery) =>
        delivery._tag === "Event"
          ? [delivery.event.event_id, delivery.cursor]
          : [`${delivery.from}-${delivery.to} missing`, delivery.cursor]
      )
      expect(told).toEqual([
        ["0", 1],
        ["1", 1],
        ["2", 3],
        ["plain", 3],
        ["3-3 missing", 3],
        ["4", 3],
        ["5", 6]
      ])
    })
  })
})

describe("without Effect", () => {
  it("events come in a loop, which ends when it is left, or by a signal", async () => {
    await withServer({}, async (server) => {
      await publish(server, numbered(1, 5))
      const seen: Array<string> = []
      for await (const { event_id } of followEvents({ ...quick, url: server.url, after: 0 })) {
        seen.push(event_id)
        if (seen.length === 3) break
      }
      expect(seen).toEqual(["1", "2", "3"])
      const ending = new AbortController()
      const options = { ...quick, url: server.url, after: 3, signal: ending.signal }
      const loop = async () => {
        for await (const delivery of followInSequence(options)) {
          if (delivery._tag === "Event") seen.push(delivery.event.event_id)
          if (seen.length === 5) ending.abort()
        }
      }
      await expect(loop()).rejects.toMatchObject({ name: "AbortError" })
      expect(seen).toEqual(["1", "2", "3", "4", "5"])
      const refused = async () => {
        for await (const _event of followEvents({ url: server.url, after: 99 })) break
      }
      await expect(refused()).rejects.toMatchObject({ _tag: "FollowRefused" })
    })
  })
})
