/**
 * The other calls that read: the event by its key, the conflicts, the books, the topics.
 */
import { describe, expect, it } from "vitest"
import { ConflictsAnswer, KnownEventAnswer, TopicsAnswer } from "../../src/http/Api.ts"
import { type RunningServer, withFolder, withServer } from "../support/server.ts"
import { call, decoded, event, faults, get, post, problem, publish, stats } from "./client.ts"

const time = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/

const lookup = async (server: RunningServer, topic: string, eventId: string) => {
  const answer = await get(server, `/events/${topic}/${encodeURIComponent(eventId)}`)
  expect([answer.status, answer.headers["content-type"]], answer.text).toEqual([200, "application/json"])
  return decoded(KnownEventAnswer, answer)
}

describe("GET /events/{topic}/{event_id}", () => {
  it("gives the event with duplicates, conflicts and last_duplicate_at; conflicts are among the duplicates", async () => {
    await withServer({}, async (server) => {
      await publish(server, event("1", { sequence: 7, origin: "b" }))
      const fresh = await lookup(server, "test.topic", "1")
      expect(fresh).toEqual({
        ...event("1", { payload: {}, sequence: 7, origin: "b" }),
        offset: 1,
        processed_at: expect.stringMatching(time),
        duplicates: 0,
        conflicts: 0,
        last_duplicate_at: null
      })
      await publish(server, [event("1"), event("1", { payload: 1 }), event("1", { source: "other" })])
      const again = await lookup(server, "TEST.topic", "1")
      expect(again).toEqual({
        ...fresh,
        duplicates: 3,
        conflicts: 2,
        last_duplicate_at: expect.stringMatching(time)
      })
      expect(again.processed_at <= String(again.last_duplicate_at)).toBe(true)
      const { text } = await get(server, "/events/test.topic/1")
      expect(text).toMatch(
        /^\{"offset":1,"topic":"test\.topic","event_id":"1",.*"last_duplicate_at":"[^"]+"\}$/
      )
    })
  })

  it("answers 404 for a key that is not known, and 422 with the parameter for what cannot be one", async () => {
    await withServer({}, async (server) => {
      await publish(server, event("1"))
      for (const path of ["/events/test.topic/2", "/events/test/1", "/events/test.topic/01"]) {
        problem(await get(server, path), 404, "not-found", path)
      }
      const long = "x".repeat(256)
      for (const [path, names] of [
        ["/events/not!/1", ["topic"]],
        ["/events/a..b/1", ["topic"]],
        ["/events/test.topic/%00", ["event_id"]],
        [`/events/test.topic/${long}`, ["event_id"]],
        [`/events/${long}/${long}`, ["topic", "event_id"]]
      ] as const) {
        expect(faults(await get(server, path), path).map(([pointer]) => pointer)).toEqual(names)
      }
    })
  })

  it("finds ids with any character that an id may have, percent-encoded or as a path may hold it", async () => {
    await withServer({}, async (server) => {
      const names = [
        "a/b",
        "/",
        "//",
        "a//b",
        "%",
        "%2F",
        "%25",
        "100%",
        "a b",
        "a+b",
        "?a=b",
        "#",
        "a;b",
        ";",
        ".",
        ".."
      ]
      const others = [
        "İ",
        "ſ",
        "ß",
        "é",
        "日本語",
        "😀",
        "A",
        "a",
        "\u2028",
        "𝒳/%25/😀",
        ":",
        "*",
        "a:b@c",
        "~-_.!*'()"
      ]
      const long = ["x".repeat(101), "x".repeat(255), "😀".repeat(255), "%".repeat(255)]
      const ids = [...names, ...others, ...long]
      await publish(
        server,
        ids.map((id) => event(id))
      )
      for (const [index, id] of ids.entries()) {
        expect(await lookup(server, "test.topic", id)).toMatchObject({ event_id: id, offset: index + 1 })
      }
      for (const id of ["a;b", ";", "a+b", ":", "*", "a:b@c", "~-_.!*'()", ".", ".."]) {
        const answer = await get(server, `/events/test.topic/${id}`)
        expect(decoded(KnownEventAnswer, answer).event_id).toBe(id)
      }
    })
  })

  it("takes a whole address for the path in it, as a proxy may send it", async () => {
    await withServer({}, async (server) => {
      const body = JSON.stringify(event("1"))
      for (const origin of ["http://a", "HTTPS://a.b:80"]) {
        expect((await post(server, body, {}, `${origin}/publish`)).status).toBe(202)
        expect((await post(server, body, {}, `${origin}/publish?`)).status).toBe(202)
        expect((await get(server, `${origin}/events/test.topic/1`)).status).toBe(200)
        problem(await get(server, origin), 404, "not-found", "/")
        problem(await get(server, `${origin}?limit=1`), 404, "not-found", "/")
      }
      problem(await get(server, "//a/stats"), 404, "not-found", "//a/stats")
    })
  })

  it("answers malformed percent-encoding in a path with 404, never with 500", async () => {
    await withServer({}, async (server) => {
      for (const id of ["%", "%z", "%zz", "%ff", "%C3", "%2F%", "%E0%A4%A", "%u0041", "a%2", "%ED%A0%80"]) {
        problem(await get(server, `/events/test.topic/${id}`), 404, "not-found", `/events/test.topic/${id}`)
      }
    })
  })
})

describe("GET /conflicts", () => {
  const page = async (server: RunningServer, query = "") => {
    const answer = await get(server, `/conflicts${query}`)
    expect([answer.status, answer.headers["content-type"]], answer.text).toEqual([200, "application/json"])
    return decoded(ConflictsAnswer, answer)
  }

  it("lists keys that were used again with other content: how often, last when and by which source", async () => {
    await withServer({}, async (server) => {
      expect((await get(server, "/conflicts")).text).toBe('{"count":0,"conflicts":[],"next":0,"more":false}')
      await publish(server, [event("1"), event("2"), event("3"), event("2"), event("3", { payload: 3 })])
      await publish(server, [
        event("1", { source: "late" }),
        event("3", { source: "later", payload: 3 }),
        event("3")
      ])
      const answer = await page(server)
      const conflict = { topic: "test.topic", last_conflict_at: expect.stringMatching(time) }
      expect(answer).toEqual({
        count: 2,
        conflicts: [
          { ...conflict, event_id: "1", offset: 1, conflicts: 1, last_conflict_source: "late" },
          { ...conflict, event_id: "3", offset: 3, conflicts: 2, last_conflict_source: "later" }
        ],
        next: 3,
        more: false
      })
      expect(await stats(server)).toMatchObject({ received: 8, duplicate_dropped: 5, conflicts: 3 })
    })
  })

  it("pages them by limit, 100 by default, and after", async () => {
    await withServer({}, async (server) => {
      const many = Array.from({ length: 250 }, (_, n) => event(`${n}`))
      await publish(server, many)
      await publish(
        server,
        many.map((one) => ({ ...one, payload: "other" }))
      )
      const seen: Array<string> = []
      let pages = 0
      for (let after = 0, more = true; more; pages++) {
        const answer = await page(server, after === 0 ? "" : `?after=${after}`)
        expect(answer.count).toBe(answer.conflicts.length)
        seen.push(...answer.conflicts.map(({ event_id }) => event_id))
        after = answer.next
        more = answer.more
      }
      expect([seen, pages]).toEqual([many.map(({ event_id }) => event_id), 3])
      expect(await page(server, "?limit=1&after=249")).toMatchObject({ count: 1, next: 250, more: false })
      expect(await page(server, "?after=250")).toEqual({ count: 0, conflicts: [], next: 250, more: false })
      for (const [query, name] of [
        ["?limit=0", "limit"],
        ["?limit=1001", "limit"],
        ["?after=x", "after"],
        ["?order=asc", "order"]
      ] as const) {
        expect(faults(await get(server, `/conflicts${query}`), "/conflicts").map(([at]) => at)).toEqual([
          name
        ])
      }
    })
  })
})

describe("GET /stats", () => {
  it("tells the exact members of the contract on an empty store", async () => {
    await withServer({}, async (server) => {
      const { text } = await get(server, "/stats")
      const { uptime } = await stats(server)
      expect(uptime).toBeGreaterThanOrEqual(0)
      const told = text
        .replace(/"(uptime|recovery_seconds)":[\d.e-]+/g, '"$1":0')
        .replace(/[0-9a-f]{16}/, "<id>")
      expect(told).toBe(
        '{"received":0,"unique_processed":0,"duplicate_dropped":0,"conflicts":0,"topics":[],"topics_total":0,' +
          '"last_offset":0,"store_id":"<id>","epoch":1,"uptime":0,"duplicate_rate":0,' +
          '"queue":{"events":0,"events_max":16384,"bytes":0,"bytes_max":67108864},' +
          '"publishes":{"attempts":0,"retries":0},' +
          '"sequences":{"sources":0,"gaps_open":0,"declared_missing":0,"missing":0,"late":0,"sequence_reused":0},' +
          '"availability":{"last_24_hours":{"share":1,"downtime_seconds":0},' +
          '"last_30_days":{"share":1,"downtime_seconds":0},"recovery_seconds":0}}'
      )
    })
  })

  it("balances: received = unique_processed + duplicate_dropped, conflicts among the dropped (G4)", async () => {
    await withServer({}, async (server) => {
      await publish(server, [
        event("1", { topic: "b" }),
        event("1", { topic: "a" }),
        event("1", { topic: "b" })
      ])
      await publish(server, event("1", { topic: "a", payload: "other" }))
      const books = await stats(server)
      expect(books).toMatchObject({
        received: 4,
        unique_processed: 2,
        duplicate_dropped: 2,
        conflicts: 1,
        topics: ["a", "b"],
        topics_total: 2,
        duplicate_rate: 0.5,
        queue: { events: 0, bytes: 0 }
      })
    })
  })

  it("names the first 1,000 topics in alphabetical order, and counts them all", async () => {
    await withServer({}, async (server) => {
      const topics = Array.from({ length: 1200 }, (_, n) => `t${(n * 7919) % 1200}`)
      await publish(
        server,
        topics.map((topic) => event("1", { topic }))
      )
      const books = await stats(server)
      expect(books.topics_total).toBe(1200)
      expect(books.topics).toEqual([...topics].sort().slice(0, 1000))
    })
  })

  it("survives a restart, with offsets that do not change and are not used again (G4, G5)", async () => {
    await withFolder(async (folder) => {
      const [before, events] = await withServer({ folder }, async (server) => {
        await publish(server, [event("1"), event("2"), event("1")])
        return [await stats(server), await get(server, "/events")]
      })
      await withServer({ folder }, async (server) => {
        const after = await stats(server)
        const { availability } = after
        const perProcess = { uptime: 0, publishes: { attempts: 0, retries: 0 }, availability }
        expect({ ...after, uptime: 0 }).toEqual({ ...before, ...perProcess })
        expect((await get(server, "/events")).text).toBe(events.text)
        const { results } = await publish(server, [event("2"), event("3")])
        expect(results?.[0]).toEqual({ outcome: "duplicate", offset: 2 })
        expect(results?.[1]?.offset).toBeGreaterThan(before.last_offset)
      })
    })
  })
})

describe("GET /topics", () => {
  const page = async (server: RunningServer, query = "") => {
    const answer = await get(server, `/topics${query}`)
    expect([answer.status, answer.headers["content-type"]], answer.text).toEqual([200, "application/json"])
    return decoded(TopicsAnswer, answer)
  }

  it("tells per topic: events, duplicates, first and last offset, last event time", async () => {
    await withServer({}, async (server) => {
      expect((await get(server, "/topics")).text).toBe('{"count":0,"topics":[],"next":"","more":false}')
      const [early, late] = ["2026-01-01T12:00:00+07:00", "2026-01-01T06:00:00.000Z"]
      await publish(server, [
        event("1", { topic: "b", timestamp: late }),
        event("1", { topic: "a", timestamp: early }),
        event("2", { topic: "b", timestamp: early }),
        event("1", { topic: "b", timestamp: "2027-01-01T00:00:00Z" }),
        event("2", { topic: "b", payload: "other", timestamp: "2027-01-01T00:00:00Z" })
      ])
      const a = {
        topic: "a",
        events: 1,
        duplicates: 0,
        conflicts: 0,
        first_offset: 2,
        last_offset: 2,
        last_event_time: early
      }
      const b = {
        topic: "b",
        events: 2,
        duplicates: 2,
        conflicts: 1,
        first_offset: 1,
        last_offset: 3,
        last_event_time: late
      }
      expect(await page(server)).toEqual({ count: 2, topics: [a, b], next: "b", more: false })
      const { text } = await get(server, "/topics?limit=1")
      expect(text).toBe(`{"count":1,"topics":[${JSON.stringify(a)}],"next":"a","more":true}`)
    })
  })

  it("pages them in alphabetical order by limit, 100 by default, and after", async () => {
    await withServer({}, async (server) => {
      const topics = Array.from({ length: 230 }, (_, n) => `t.${(n * 7919) % 230}`)
      await publish(
        server,
        topics.map((topic) => event("1", { topic }))
      )
      const seen: Array<string> = []
      let pages = 0
      for (let after = "", more = true; more; pages++) {
        const answer = await page(server, after === "" ? "" : `?after=${after}`)
        expect(answer.count).toBe(answer.topics.length)
        seen.push(...answer.topics.map(({ topic }) => topic))
        after = answer.next
        more = answer.more
      }
      expect([seen, pages]).toEqual([[...topics].sort(), 3])
      expect(await page(server, "?after=ZZZ&limit=1000")).toEqual({
        count: 0,
        topics: [],
        next: "zzz",
        more: false
      })
      for (const [query, name] of [
        ["?limit=0", "limit"],
        ["?after=!", "after"],
        ["?after=", "after"],
        ["?topic=a", "topic"]
      ] as const) {
        expect(faults(await get(server, `/topics${query}`), "/topics").map(([at]) => at)).toEqual([name])
      }
    })
  })
})

describe("HEAD", () => {
  it("answers every GET without its body", async () => {
    await withServer({}, async (server) => {
      await publish(server, event("1"))
      const paths = [
        "/events",
        "/events/test.topic/1",
        "/conflicts",
        "/stats",
        "/topics",
        "/health/live",
        "/docs"
      ]
      for (const path of [...paths, "/health/ready", "/openapi.json"]) {
        const [head, full] = [await call(server, "HEAD", path), await get(server, path)]
        expect([head.status, head.text, head.headers["content-type"]]).toEqual([
          200,
          "",
          full.headers["content-type"]
        ])
      }
      expect((await call(server, "HEAD", "/events/test.topic/2")).status).toBe(404)
      const stream = await call(server, "HEAD", "/events", { headers: { accept: "application/x-ndjson" } })
      expect([stream.status, stream.text]).toEqual([200, ""])
    })
  })
})
