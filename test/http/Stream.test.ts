/**
 * `GET /events/stream`: every event that matches, once and in the order of the offsets (G5), whoever is slow, cut off or
 * comes again; and what a subscriber may cost the service (G6).
 */
import { readFileSync } from "node:fs"
import { describe, expect, it } from "vitest"
import { EventAnswer } from "../../src/http/Api.ts"
import { type RunningServer, until, withFolder, withServer } from "../support/server.ts"
import { type Subscriber, subscribe } from "../support/subscriber.ts"
import { call, decoded, event, faults, get, post, problem, publish, raw } from "./client.ts"

const idsOf = (subscriber: Subscriber) => subscriber.events().map(({ event_id }) => event_id)

const numbered = (from: number, to: number, further: Readonly<Record<string, unknown>> = {}) =>
  Array.from({ length: to - from + 1 }, (_, index) => event(`${from + index}`, further))

const names = (from: number, to: number) => numbered(from, to).map(({ event_id }) => event_id)

/** Waits for as many events, and checks that they came in order, each with its offset as the id. */
const received = async (subscriber: Subscriber, count: number) => {
  await until(() => subscriber.events().length >= count || subscriber.ended())
  const ids = subscriber.blocks.filter(({ data }) => data !== undefined).map(({ id }) => Number(id))
  expect(ids).toEqual(subscriber.events().map(({ offset }) => offset))
  expect(ids).toEqual([...new Set(ids)].sort((left, right) => left - right))
  expect(ids.length).toBe(count)
}

const lastOffset = async (server: RunningServer) =>
  (JSON.parse((await get(server, "/stats")).text) as { last_offset: number }).last_offset

describe("a subscriber", () => {
  it("gets what is committed from now on, as Server-Sent Events with the event as it is read", async () => {
    await withServer({}, async (server) => {
      await publish(server, event("before"))
      const subscriber = await subscribe(server)
      expect(subscriber.status).toBe(200)
      expect(subscriber.headers).toMatchObject({
        "content-type": "text/event-stream",
        "cache-control": "no-store"
      })
      await publish(server, event("1", { payload: { big: 1, text: "line\nbreak \u2028 é" }, sequence: 3 }))
      await publish(server, [event("1"), event("2")])
      await received(subscriber, 2)
      expect(subscriber.blocks[0]).toEqual({ id: "1", event: "message", data: undefined, comments: [] })
      const text = subscriber.blocks[1]?.data ?? ""
      const { events } = JSON.parse((await get(server, "/events?event_id=1")).text) as { events: unknown[] }
      expect([JSON.parse(text)]).toEqual(events)
      decoded(EventAnswer, { text })
      subscriber.leave()
    })
  })

  it("gets what is stored behind its cursor, and then what comes, also where others are at the end", async () => {
    await withServer({}, async (server) => {
      const early = await subscribe(server)
      await publish(server, numbered(1, 2500))
      const late = await subscribe(server, "?after=0")
      const middle = await subscribe(server, "?after=1200")
      const header = await subscribe(server, "?after=0", { "last-event-id": "2499" })
      await publish(server, numbered(2501, 2600))
      await received(early, 2600)
      await received(late, 2600)
      await received(middle, 1400)
      await received(header, 101)
      for (const subscriber of [early, late, middle, header]) subscriber.leave()
    })
  })

  it("gets what its topic or pattern and its source say, and a cursor that moves past the rest", async () => {
    const settings = { heartbeatSeconds: 0.1, stalledSecondsMax: 1 }
    await withServer({ settings }, async (server) => {
      const exact = await subscribe(server, "?topic=Shop.Orders")
      const pattern = await subscribe(server, "?topic=shop.*&source=b")
      const none = await subscribe(server, "?topic=other.>")
      await publish(server, [
        event("1", { topic: "shop.orders", source: "a" }),
        event("2", { topic: "shop.returns", source: "b" }),
        event("3", { topic: "shop.orders", source: "b" }),
        event("4", { topic: "shop.orders.eu", source: "b" })
      ])
      await received(exact, 2)
      await received(pattern, 2)
      expect([idsOf(exact), idsOf(pattern)]).toEqual([
        ["1", "3"],
        ["2", "3"]
      ])
      await until(() => none.lastId() === "4")
      expect(none.blocks.at(-1)).toMatchObject({ comments: ["heartbeat"], data: undefined })
      const beats = none.blocks.length
      await until(() => none.blocks.length > beats + 2)
      expect(none.events()).toEqual([])
      for (const subscriber of [exact, pattern, none]) subscriber.leave()
    })
  })

  it("resumes exactly: wherever it is cut, nothing is missed and nothing repeated", async () => {
    await withServer({}, async (server) => {
      const seen: Array<string> = []
      let cursor = "0"
      for (let n = 0; n < 20; n++) {
        await publish(server, numbered(n * 10 + 1, n * 10 + 10))
        const subscriber = await subscribe(server, "", { "last-event-id": cursor })
        const wanted = 1 + ((n * 7) % 12)
        await until(() => subscriber.events().length >= Math.min(wanted, (n + 1) * 10 - seen.length))
        subscriber.leave()
        seen.push(...idsOf(subscriber))
        cursor = subscriber.lastId() ?? cursor
      }
      expect(seen).toEqual(names(1, seen.length))
    })
  })

  it("never gets what is not committed yet", async () => {
    await withServer({}, async (server) => {
      const subscriber = await subscribe(server)
      await publish(server, event("1"))
      await received(subscriber, 1)
      server.database.hold()
      const waiting = post(server, JSON.stringify(event("2")))
      await until(() => server.database.held === 1)
      const other = subscribe(server, "?after=0")
      server.database.release()
      expect((await waiting).status).toBe(202)
      await received(subscriber, 2)
      await received(await other, 2)
      subscriber.leave()
      ;(await other).leave()
    })
  })
})

describe("what is refused", () => {
  it("a cursor ahead of the store, and one that is none, before the stream begins", async () => {
    await withServer({}, async (server) => {
      await publish(server, event("1"))
      problem(await get(server, "/events/stream?after=2"), 422, "cursor-ahead", "/events/stream")
      const header = { "last-event-id": "2" }
      problem(await get(server, "/events/stream?after=0", header), 422, "cursor-ahead", "/events/stream")
      const wrong = await get(server, "/events/stream", { "last-event-id": "x" })
      expect(faults(wrong, "/events/stream").map(([pointer]) => pointer)).toEqual(["last-event-id"])
    })
  })

  it("parameters that are wrong or not known, every one by its name", async () => {
    await withServer({}, async (server) => {
      const answer = await get(server, "/events/stream?topic=a..b&source=&after=-1&limit=3&order=asc")
      expect(
        faults(answer, "/events/stream")
          .map(([pointer]) => pointer)
          .sort()
      ).toEqual(["after", "limit", "order", "source", "topic"])
    })
  })

  it("one subscriber more than the settings allow, until another has left", async () => {
    await withServer({ settings: { subscribersMax: 1 } }, async (server) => {
      const first = await subscribe(server)
      problem(await get(server, "/events/stream"), 503, "too-many-subscribers", "/events/stream")
      first.leave()
      let second: Subscriber | undefined
      await until(async () => {
        second = await subscribe(server)
        return second.status === 200
      })
      second?.leave()
    })
  })

  it("HEAD gets the headers and holds no place", async () => {
    await withServer({ settings: { subscribersMax: 1 } }, async (server) => {
      for (let n = 0; n < 3; n++) {
        const answer = await call(server, "HEAD", "/events/stream?after=0")
        expect([answer.status, answer.headers["content-type"], answer.text]).toEqual([
          200,
          "text/event-stream",
          ""
        ])
      }
      const subscriber = await subscribe(server)
      expect(subscriber.status).toBe(200)
      subscriber.leave()
    })
  })
})

const large = "x".repeat(50_000)

const megabytes = (): number => {
  const [, kibibytes = "0"] = /VmRSS:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8")) ?? []
  return Number(kibibytes) / 1024
}

describe("a slow subscriber", () => {
  it("loses nothing, and keeps nobody up", async () => {
    await withServer({}, async (server) => {
      const slow = await subscribe(server)
      const fast = await subscribe(server)
      slow.pause()
      for (let n = 0; n < 20; n++)
        await publish(server, numbered(n * 10 + 1, n * 10 + 10, { payload: large }))
      await received(fast, 200)
      slow.resume()
      await received(slow, 200)
      slow.leave()
      fast.leave()
    })
  })

  it("that never reads is cut off, and another gets its place", async () => {
    const settings = {
      headersSecondsMax: 0.2,
      requestSecondsMax: 0.2,
      publishSecondsMax: 0.2,
      heartbeatSeconds: 0.1,
      stalledSecondsMax: 0.1,
      subscribersMax: 1
    }
    await withServer({ settings: { ...settings, publishSecondsMax: 1 } }, async (server) => {
      const never = await raw(server)
      never.socket.pause()
      never.write("GET /events/stream HTTP/1.1\r\nhost: a\r\n\r\n")
      await until(async () => (await get(server, "/events/stream")).status === 503)
      const before = megabytes()
      for (let n = 0; n < 60; n++) {
        await publish(server, numbered(n * 10 + 1, n * 10 + 10, { payload: large }))
      }
      expect(megabytes() - before).toBeLessThan(200)
      await until(async () => {
        const subscriber = await subscribe(server)
        subscriber.leave()
        return subscriber.status === 200
      })
      // What had been sent is read, and then the connection turns out to be gone.
      never.socket.resume()
      await until(never.ended)
      never.destroy()
    })
  })

  it("waits for room where others hold it, and loses nothing either", async () => {
    await withServer({ settings: { readBytesMax: 300_000 } }, async (server) => {
      const subscribers = await Promise.all(Array.from({ length: 8 }, () => subscribe(server)))
      for (const subscriber of subscribers) subscriber.pause()
      await publish(server, numbered(1, 100, { payload: large }))
      for (const subscriber of subscribers) subscriber.resume()
      for (const subscriber of subscribers) {
        await received(subscriber, 100)
        subscriber.leave()
      }
    })
  })
})

describe("when the service stops", () => {
  it("a stream ends with all that was committed, and resumes exactly where the service starts again", async () => {
    await withFolder(async (folder) => {
      let cursor = ""
      const seen: Array<string> = []
      await withServer({ folder }, async (server) => {
        const subscriber = await subscribe(server, "?after=0")
        const idle = await subscribe(server, "?topic=nothing")
        server.database.hold()
        const waiting = post(server, JSON.stringify(numbered(1, 50)))
        await until(() => server.database.held === 1)
        const stopped = server.stop()
        server.database.release()
        expect((await waiting).status).toBe(202)
        await stopped
        await until(() => subscriber.ended() && idle.ended())
        seen.push(...idsOf(subscriber))
        expect(seen).toEqual(names(1, 50))
        cursor = subscriber.lastId() ?? ""
      })
      await withServer({ folder }, async (server) => {
        await publish(server, numbered(51, 60))
        const subscriber = await subscribe(server, `?after=${cursor}`)
        await received(subscriber, 10)
        expect([...seen, ...idsOf(subscriber)]).toEqual(names(1, 60))
        expect(await lastOffset(server)).toBe(Number(subscriber.lastId()))
        subscriber.leave()
      })
    })
  })

  it("a stream that reads nothing does not keep it", async () => {
    await withServer({}, async (server) => {
      const never = await raw(server)
      never.socket.pause()
      await publish(server, numbered(1, 100, { payload: large }))
      never.write("GET /events/stream?after=0 HTTP/1.1\r\nhost: a\r\n\r\n")
      const begun = performance.now()
      await server.stop()
      expect(performance.now() - begun).toBeLessThan(server.settings.shutdownSecondsMax * 1000)
      never.destroy()
    })
  })
})
