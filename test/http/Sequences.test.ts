/**
 * Sequences over HTTP: what `/sources` and `/stats` say of them, reading in sequence, and late events.
 */
import { describe, expect, it } from "vitest"
import { EventsAnswer, KnownEventAnswer, SourcesAnswer } from "../../src/http/Api.ts"
import { type RunningServer, until, withFolder, withServer } from "../support/server.ts"
import { decoded, event, faults, get, problem, publish, stats } from "./client.ts"

let made = 0
const numbered = (numbers: ReadonlyArray<number>, further: Readonly<Record<string, unknown>> = {}) =>
  numbers.map((sequence) => event(`n${made++}`, { sequence, ...further }))

const sources = async (server: RunningServer, query = "") => {
  const answer = await get(server, `/sources${query}`)
  expect(answer.status, answer.text).toBe(200)
  return decoded(SourcesAnswer, answer)
}

const events = async (server: RunningServer, query: string) => {
  const answer = await get(server, `/events?topic=test.topic&source=service-a&order=sequence${query}`)
  expect(answer.status, answer.text).toBe(200)
  return decoded(EventsAnswer, answer)
}

const soon = { gapSeconds: 0.1 }

describe("GET /sources", () => {
  it("tells of each series its numbers, its gaps and what became of them; /stats sums it; restarts change nothing", async () => {
    await withFolder(async (folder) => {
      const before = await withServer({ folder, settings: soon }, async (server) => {
        await publish(server, [...numbered([3, 4, 4, 8]), ...numbered([0], { source: "b" })])
        await until(async () => (await stats(server)).sequences.gaps_open === 0)
        await publish(server, numbered([6]))
        expect(server.logs.filter((line) => line.startsWith("WARN missing"))).toHaveLength(1)
        return [await sources(server), (await stats(server)).sequences]
      })
      expect(before).toEqual([
        {
          count: 2,
          sources: [
            {
              topic: "test.topic",
              source: "service-a",
              first: 3,
              contiguous: 8,
              highest: 8,
              gaps_open: 0,
              declared_missing: 3,
              missing: 2,
              late: 1,
              sequence_reused: 1,
              gaps: []
            },
            expect.objectContaining({ source: "b", first: 0, highest: 0 })
          ],
          next: 2,
          more: false
        },
        { sources: 2, gaps_open: 0, declared_missing: 3, missing: 2, late: 1, sequence_reused: 1 }
      ])
      await withServer({ folder, settings: soon }, async (server) => {
        expect([await sources(server), (await stats(server)).sequences]).toEqual(before)
      })
    })
  })

  it("shows open gaps with the time at which they opened", async () => {
    await withServer({}, async (server) => {
      const from = Date.now()
      await publish(server, numbered([0, 2, 9]))
      const { gaps, gaps_open, contiguous } = (await sources(server)).sources[0] ?? { gaps: [] }
      expect([contiguous, gaps_open, gaps.map(({ first, last }) => [first, last])]).toEqual([
        0,
        2,
        [
          [1, 1],
          [3, 8]
        ]
      ])
      for (const { opened_at } of gaps) expect(Math.abs(Date.parse(opened_at) - from)).toBeLessThan(60_000)
    })
  })

  it("is paged, and filtered by topic, pattern and source", async () => {
    await withServer({}, async (server) => {
      for (const topic of ["a", "a.b", "b"]) {
        for (const source of ["x", "y z"]) await publish(server, numbered([1], { topic, source }))
      }
      const named = async (query: string) => {
        const found: Array<string> = []
        for (let after = 0, more = true; more; ) {
          const page = await sources(server, `?limit=2&after=${after}${query}`)
          expect(page.count).toBe(page.sources.length)
          found.push(...page.sources.map(({ topic, source }) => `${topic}/${source}`))
          after = page.next
          more = page.more
        }
        return found
      }
      expect(await named("")).toEqual(["a/x", "a/y z", "a.b/x", "a.b/y z", "b/x", "b/y z"])
      expect(await named("&topic=A.b")).toEqual(["a.b/x", "a.b/y z"])
      expect(await named("&topic=*&source=y%20z")).toEqual(["a/y z", "b/y z"])
      expect(await named("&source=x")).toEqual(["a/x", "a.b/x", "b/x"])
      expect(await named("&topic=none")).toEqual([])
      const wrong = await get(server, "/sources?topic=!&source=%00&limit=0&after=x&colour=red")
      expect(faults(wrong, "/sources").map(([name]) => name)).toEqual([
        "colour",
        "topic",
        "source",
        "limit",
        "after"
      ])
    })
  })
})

describe("GET /events?order=sequence", () => {
  it("reads a topic's events of a source by sequence, in pages of any size, and as lines", async () => {
    await withServer({}, async (server) => {
      await publish(server, [...numbered([5, 2, 9]), event("without"), ...numbered([2, 0])])
      await publish(server, [...numbered([1], { source: "b" }), ...numbered([3], { topic: "test" })])
      const expected = [
        [0, 6],
        [2, 2],
        [2, 5],
        [5, 1],
        [9, 3]
      ]
      for (const limit of [1, 2, 5, 100]) {
        const read: Array<ReadonlyArray<unknown>> = []
        for (let after = "", more = true; more; ) {
          const page = await events(server, `&limit=${limit}${after}`)
          read.push(...page.events.map(({ sequence, offset }) => [sequence, offset]))
          after = `&after=${page.next}`
          more = page.more
        }
        expect(read).toEqual(expected)
      }
      const lines = await get(server, "/events?topic=test.topic&source=service-a&order=sequence&after=2", {
        accept: "application/x-ndjson"
      })
      const seen = lines.text.trim().split("\n")
      expect(seen.map((line) => (JSON.parse(line) as { offset: number }).offset)).toEqual([5, 1, 3])
    })
  })

  it("goes on behind an event of what is read, and behind nothing else", async () => {
    await withServer({}, async (server) => {
      await publish(server, [...numbered([5, 2]), event("without")])
      expect((await events(server, "&after=0")).count).toBe(2)
      expect(await events(server, "&after=1")).toMatchObject({ count: 0, next: 1, more: false })
      const path = "/events?topic=test.topic&source=service-a&order=sequence"
      problem(await get(server, `${path}&after=3`), 422, "cursor-outside", "/events")
      problem(await get(server, `${path}&after=4`), 422, "cursor-ahead", "/events")
    })
  })

  it("takes one topic and one source, and says so", async () => {
    await withServer({}, async (server) => {
      const told = async (query: string) =>
        faults(await get(server, `/events?order=sequence${query}`), "/events").map(([name]) => name)
      expect(await told("")).toEqual(["topic", "source"])
      expect(await told("&topic=a.*&source=x")).toEqual(["topic"])
      expect(await told("&topic=a")).toEqual(["source"])
      expect(faults(await get(server, "/events?order=up"), "/events")).toEqual([
        ["order", "must be asc, desc or sequence"]
      ])
    })
  })
})

describe("a late event", () => {
  it("bears the mark wherever it is shown, and no other event does", async () => {
    await withServer({ settings: soon }, async (server) => {
      await publish(server, numbered([0, 2]))
      await until(async () => (await stats(server)).sequences.missing === 1)
      await publish(server, event("late", { sequence: 1 }))
      const { text } = await get(server, "/events")
      expect(text.match(/"late":true/g)).toHaveLength(1)
      expect((await events(server, "")).events.map(({ late }) => late)).toEqual([undefined, true, undefined])
      const known = await get(server, "/events/test.topic/late")
      expect(decoded(KnownEventAnswer, known).late).toBe(true)
    })
  })
})
