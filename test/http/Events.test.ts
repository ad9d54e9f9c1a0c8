/**
 * `GET /events`: filters, order, limits and cursors; pages and streams; and that a reader who follows `next` sees every
 * event once, in order, while others publish (G5).
 */
import { Schema } from "effect"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { EventAnswer, EventsAnswer, strict } from "../../src/http/Api.ts"
import { type RunningServer, startServer, withServer } from "../support/server.ts"
import { decoded, event, faults, get, problem, publish } from "./client.ts"

const page = async (server: RunningServer, query: string): Promise<typeof EventsAnswer.Type> => {
  const answer = await get(server, `/events${query}`)
  expect([answer.status, answer.headers["content-type"]], answer.text).toEqual([200, "application/json"])
  const decodedPage = decoded(EventsAnswer, answer)
  expect(decodedPage.count).toBe(decodedPage.events.length)
  return decodedPage
}

const lines = async (server: RunningServer, query = ""): Promise<ReadonlyArray<typeof EventAnswer.Type>> => {
  const answer = await get(server, `/events${query}`, { accept: "application/x-ndjson" })
  expect([answer.status, answer.headers["content-type"]], answer.text).toEqual([200, "application/x-ndjson"])
  expect(answer.text === "" || answer.text.endsWith("\n")).toBe(true)
  return answer.text
    .split("\n")
    .slice(0, -1)
    .map((line) => Schema.decodeUnknownSync(EventAnswer, strict)(JSON.parse(line)))
}

const numbered = (count: number, further: Readonly<Record<string, unknown>> = {}) =>
  Array.from({ length: count }, (_, n) => event(`${n + 1}`, further))

describe("GET /events on an empty store", () => {
  it("answers an empty page with next 0 and more false, after=0 too; a cursor ahead of the store is an error", async () => {
    await withServer({}, async (server) => {
      const empty = '{"topic":null,"count":0,"events":[],"next":0,"more":false}'
      for (const query of ["", "?after=0", "?order=desc", "?after=0&order=desc", "?limit=1"]) {
        expect((await get(server, `/events${query}`)).text).toBe(empty)
      }
      expect(await lines(server)).toEqual([])
      for (const query of ["?after=1", "?after=1&order=desc"]) {
        problem(await get(server, `/events${query}`), 422, "cursor-ahead", "/events")
      }
    })
  })
})

describe("GET /events", () => {
  let server: RunningServer
  beforeAll(async () => {
    server = await startServer()
    await publish(server, [
      event("a", { topic: "system.metrics.cpu", timestamp: "2026-01-01T00:00:00Z", source: "one" }),
      event("b", { topic: "system.metrics", timestamp: "2026-01-01T00:00:01Z", source: "two" }),
      event("c", { topic: "system", timestamp: "2026-01-01T00:00:01.000000001Z", source: "one" }),
      event("a", { topic: "system.logs", timestamp: "2026-01-01T07:00:02+07:00", source: "http://two//" }),
      event("d", { topic: "systems.logs", timestamp: "2026-01-01T00:00:03Z", source: "one & 100% +é" })
    ])
  })
  afterAll(() => server.stop())

  const found = async (query: string) => (await page(server, query)).events.map(({ offset }) => offset)

  it("answers with the exact JSON of the contract", async () => {
    const { text } = await get(server, "/events?topic=System.Metrics&limit=1")
    const at = (JSON.parse(text) as { events: [{ processed_at: string }] }).events[0].processed_at
    expect(text).toBe(
      '{"topic":"System.Metrics","count":1,"events":[{"offset":2,"topic":"system.metrics","event_id":"b",' +
        '"timestamp":"2026-01-01T00:00:01Z","source":"two","payload":{},' +
        `"processed_at":"${at}"}],"next":5,"more":false}`
    )
  })

  it.each([
    ["", [1, 2, 3, 4, 5]],
    ["?topic=system.metrics", [2]],
    ["?topic=SYSTEM.metrics", [2]],
    ["?topic=system.nothing", []],
    ["?topic=system.*", [2, 4]],
    ["?topic=system.%3E", [1, 2, 4]],
    ["?topic=system.>", [1, 2, 4]],
    ["?topic=*", [3]],
    ["?topic=%3E", [1, 2, 3, 4, 5]],
    ["?topic=*.metrics", [2]],
    ["?topic=*.*.cpu", [1]],
    ["?topic=*.logs", [4, 5]],
    ["?topic=*.%3E", [1, 2, 4, 5]],
    ["?event_id=a", [1, 4]],
    ["?event_id=a&topic=system.logs", [4]],
    ["?source=one", [1, 3]],
    ["?source=http://two//", [4]],
    [`?source=${encodeURIComponent("one & 100% +é")}`, [5]],
    ["?source=nobody", []]
  ])("filters by topic, pattern, event_id and source: %s", async (query, offsets) => {
    expect(await found(query)).toEqual(offsets)
  })

  it.each([
    ["?since=2026-01-01T00:00:01Z", [2, 3, 4, 5]],
    ["?since=2026-01-01T00:00:01.000000001Z", [3, 4, 5]],
    ["?until=2026-01-01T00:00:01.000000001Z", [1, 2]],
    ["?until=2026-01-01T00:00:01Z", [1]],
    ["?since=2026-01-01T00:00:01Z&until=2026-01-01T00:00:02Z", [2, 3]],
    ["?since=2026-01-01T07:00:02%2B07:00&until=2026-01-01T00:00:02.5Z", [4]],
    ["?since=2026-01-01T00:00:02Z&until=2026-01-01T00:00:02Z", []]
  ])("takes since as inclusive and until as exclusive, by event time: %s", async (query, offsets) => {
    expect(await found(query)).toEqual(offsets)
  })

  it.each([
    ["?order=asc", [1, 2, 3, 4, 5], 5, false],
    ["?order=desc", [5, 4, 3, 2, 1], 1, false],
    ["?after=2", [3, 4, 5], 5, false],
    ["?after=2&order=desc", [1], 1, false],
    ["?after=5", [], 5, false],
    ["?after=1&order=desc", [], 1, false],
    ["?after=0&order=desc", [], 0, false],
    ["?limit=2", [1, 2], 2, true],
    ["?limit=2&order=desc", [5, 4], 4, true],
    ["?limit=2&after=2&order=asc", [3, 4], 4, true],
    ["?limit=2&after=3", [4, 5], 5, false],
    ["?limit=5", [1, 2, 3, 4, 5], 5, false],
    ["?topic=systems.logs", [5], 5, false],
    ["?topic=nothing", [], 5, false],
    ["?topic=nothing&order=desc", [], 1, false]
  ])(
    "pages behind an exclusive cursor, both ways; next is the last offset looked at: %s",
    async (query, offsets, next, more) => {
      const answer = await page(server, query)
      expect(answer.events.map(({ offset }) => offset)).toEqual(offsets)
      expect([answer.next, answer.more]).toEqual([next, more])
    }
  )

  it.each([
    ["?limit=0", "limit"],
    ["?limit=1001", "limit"],
    ["?limit=-1", "limit"],
    ["?limit=1.0", "limit"],
    ["?limit=1e1", "limit"],
    ["?limit=", "limit"],
    ["?limit", "limit"],
    ["?limit=%201", "limit"],
    ["?order=up", "order"],
    ["?order=ASC", "order"],
    ["?after=-1", "after"],
    ["?after=x", "after"],
    ["?after=9007199254740992", "after"],
    ["?topic=a..b", "topic"],
    ["?topic=", "topic"],
    ["?topic=a.%3E.b", "topic"],
    ["?topic=a*", "topic"],
    ["?event_id=", "event_id"],
    ["?event_id=%00", "event_id"],
    [`?source=${"x".repeat(256)}`, "source"],
    ["?since=2026-01-01", "since"],
    ["?since=2026-02-30T00:00:00Z", "since"],
    ["?until=yesterday", "until"],
    ["?since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "until"],
    ["?limit=1&limit=1", "limit"],
    ["?topic=a&topic=b", "topic"],
    ["?offset=1", "offset"],
    ["?a/b~c=1", "a/b~c"],
    ["?__proto__=1", "__proto__"],
    ["?constructor=1", "constructor"]
  ])("refuses a bad, repeated or unknown parameter by its name: %s", async (query, name) => {
    for (const accept of ["application/json", "application/x-ndjson"]) {
      const told = faults(await get(server, `/events${query}`, { accept }), "/events")
      expect(told.map(([pointer]) => pointer)).toEqual([name])
      expect(told[0]?.[1]).toMatch(/^(must |is not known here$)/)
    }
  })

  it("tells every fault of a query at once", async () => {
    const told = faults(await get(server, "/events?since=x&limit=0&order=up&more=1&topic=!"), "/events")
    expect(told.map(([pointer]) => pointer).sort()).toEqual(["limit", "more", "order", "since", "topic"])
  })

  it("refuses a cursor ahead of the store, also in a stream and backwards", async () => {
    for (const query of ["?after=6", "?after=6&order=desc", "?after=9007199254740991"]) {
      for (const accept of ["application/json", "application/x-ndjson"]) {
        const told = problem(await get(server, `/events${query}`, { accept }), 422, "cursor-ahead", "/events")
        expect(told.errors?.map(({ pointer }) => pointer)).toEqual(["after"])
      }
    }
  })

  it("streams all that matches on Accept: application/x-ndjson, by the same parameters", async () => {
    const offsets = async (query: string) => (await lines(server, query)).map(({ offset }) => offset)
    expect(await offsets("")).toEqual([1, 2, 3, 4, 5])
    expect(await offsets("?order=desc")).toEqual([5, 4, 3, 2, 1])
    expect(await offsets("?topic=system.%3E&source=one")).toEqual([1])
    expect(await offsets("?after=3&limit=1")).toEqual([4])
    expect(await offsets("?topic=nothing")).toEqual([])
    expect(await lines(server, "?limit=2")).toEqual((await page(server, "?limit=2")).events)
  })
})

describe("GET /events over many events", () => {
  it("pages 100 where no limit is given, at most 1,000, and streams everything", async () => {
    await withServer({}, async (server) => {
      await publish(server, numbered(2500))
      const first = await page(server, "")
      expect([first.count, first.next, first.more]).toEqual([100, 100, true])
      expect((await page(server, "?limit=1000")).count).toBe(1000)
      const all = await lines(server)
      expect(all.map(({ event_id }) => event_id)).toEqual(numbered(2500).map(({ event_id }) => event_id))
      expect((await lines(server, "?order=desc")).map(({ offset }) => offset)).toEqual(
        all.map(({ offset }) => offset).toReversed()
      )
    })
  })

  it("cuts a page by its bytes, loses nothing at the cut, and gives an event that is larger than a page alone", async () => {
    await withServer({ settings: { eventBytesMax: 8 << 20 } }, async (server) => {
      const sizes = [1, 1500, 1500, 1500, 6000, 1, 3000, 3000, 1]
      for (const [n, size] of sizes.entries()) {
        await publish(server, event(`${n + 1}`, { payload: "x".repeat(size * 1024) }))
      }
      for (const order of ["asc", "desc"]) {
        const seen: Array<string> = []
        let cursor = ""
        let pages = 0
        for (let more = true; more; pages++) {
          const answer = await page(server, `?order=${order}&limit=1000${cursor}`)
          seen.push(...answer.events.map(({ event_id }) => event_id))
          cursor = `&after=${answer.next}`
          more = answer.more
        }
        const sent = sizes.map((_, n) => `${n + 1}`)
        expect(seen).toEqual(order === "asc" ? sent : sent.toReversed())
        expect(pages).toBeGreaterThan(3)
      }
      expect((await lines(server)).length).toBe(sizes.length)
    })
  })

  it("finds rare events over many pages that may be short, each with a next to go on from", async () => {
    await withServer({}, async (server) => {
      for (let batch = 0; batch < 3; batch++) {
        const events = numbered(9999).map((one, n) => ({ ...one, topic: `t${batch}.${n % 7}` }))
        await publish(server, [...events, event("rare", { topic: `rare.${batch}` })])
      }
      const seen: Array<string> = []
      for (let after = 0, more = true; more; ) {
        const answer = await page(server, `?topic=rare.*&after=${after}`)
        seen.push(...answer.events.map(({ topic }) => topic))
        expect(answer.next).toBeGreaterThan(after)
        after = answer.next
        more = answer.more
      }
      expect(seen).toEqual([0, 1, 2].map((batch) => `rare.${batch}`))
      expect((await lines(server, "?topic=rare.*")).map(({ topic }) => topic)).toEqual(seen)
    })
  })

  it("shows a reader who follows next every event once, in order, while several publish (G5)", async () => {
    await withServer({}, async (server) => {
      let publishing = true
      const reader = async (limit: number) => {
        const seen: Array<readonly [number, string]> = []
        for (let after = 0; ; ) {
          const last = !publishing
          const answer = await page(server, `?after=${after}&limit=${limit}`)
          seen.push(...answer.events.map(({ offset, event_id }) => [offset, event_id] as const))
          after = answer.next
          if (last && !answer.more) return seen
        }
      }
      const publisher = async (name: number) => {
        const offsets: Array<readonly [number, string]> = []
        for (let n = 0; n < 20; n++) {
          const batch = Array.from({ length: 1 + (n % 5) }, (_, index) => event(`${name}-${n}-${index}`))
          const { results = [] } = await publish(server, [...batch, ...batch.slice(0, 1)])
          for (const [index, { event_id }] of batch.entries())
            offsets.push([results[index]?.offset ?? 0, event_id])
        }
        return offsets
      }
      const readers = [reader(1000), reader(7)]
      const told = (await Promise.all([0, 1, 2, 3].map(publisher))).flat()
      publishing = false
      told.sort(([left], [right]) => left - right)
      for (const seen of await Promise.all(readers)) expect(seen).toEqual(told)
      expect((await lines(server)).map(({ offset, event_id }) => [offset, event_id])).toEqual(told)
    })
  })
})
