/**
 * `GET /metrics`: what is told after a known load, that Prometheus understands it, and that trouble does not silence it.
 */
import { describe, expect, it } from "vitest"
import { missingTools, promtool, withPrometheus } from "../support/prometheus.ts"
import { type RunningServer, until, withServer } from "../support/server.ts"
import { subscribe } from "../support/subscriber.ts"
import { event, get, post, publish, stats } from "./client.ts"

/** The samples of an answer, by name and labels as they stand there. */
const samples = async (server: RunningServer): Promise<ReadonlyMap<string, number>> => {
  const { status, headers, text } = await get(server, "/metrics")
  expect([status, headers["content-type"]]).toEqual([200, "text/plain; version=0.0.4; charset=utf-8"])
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"))
  const entries = lines.map((line) => [
    line.slice(0, line.lastIndexOf(" ")),
    Number(line.slice(line.lastIndexOf(" ") + 1))
  ])
  return new Map(entries as Array<[string, number]>)
}

const received = (topic: string, outcome: string) =>
  `sekali_events_received_total{topic="${topic}",outcome="${outcome}"}`

/** Stores 4 events over two topics, and repeats two of them, one with other content. */
const load = async (server: RunningServer) => {
  const sequenced = { topic: "a", sequence: 7 }
  await publish(server, [event("1", { topic: "a", sequence: 5 }), event("2", sequenced)])
  await publish(server, [event("1", { topic: "b" }), event("2", { topic: "b" })])
  const again = [event("2", sequenced), event("1", { topic: "b", payload: 1 })]
  const body = JSON.stringify(again)
  expect((await post(server, body, { "sekali-attempt": "2" })).status).toBe(202)
  expect((await post(server, "[")).status).toBe(400)
  expect((await get(server, "/nowhere")).status).toBe(404)
  expect((await get(server, "/events/a/1")).status).toBe(200)
}

describe("GET /metrics", () => {
  it("counts a known load, as the books do", async () => {
    await withServer({}, async (server) => {
      await load(server)
      const told = await samples(server)
      expect(Object.fromEntries([...told].filter(([name]) => name.startsWith("sekali_events")))).toEqual({
        [received("a", "stored")]: 2,
        [received("a", "duplicate")]: 1,
        [received("a", "conflict")]: 0,
        [received("b", "stored")]: 2,
        [received("b", "duplicate")]: 0,
        [received("b", "conflict")]: 1,
        [received("(other)", "stored")]: 0,
        [received("(other)", "duplicate")]: 0,
        [received("(other)", "conflict")]: 0
      })
      expect(await stats(server)).toMatchObject({ received: 6, unique_processed: 4, conflicts: 1 })
      const expected = {
        sekali_ready: 1,
        'sekali_build_info{version="0.1.0"}': 1,
        sekali_queue_events: 0,
        sekali_queue_events_limit: server.settings.queueEventsMax,
        sekali_queue_bytes: 0,
        sekali_queue_bytes_limit: server.settings.queueBytesMax,
        sekali_processing_lag_seconds: 0,
        sekali_topics: 2,
        sekali_last_offset: 6,
        sekali_sequences: 1,
        sekali_sequence_gaps_open: 1,
        sekali_sequence_missing: 0,
        sekali_stream_subscribers: 0,
        sekali_stream_lag_offsets: 0,
        sekali_publish_attempts_total: 4,
        sekali_publish_retries_total: 1,
        sekali_commit_duration_seconds_count: 3,
        'sekali_commit_events_bucket{le="1"}': 0,
        'sekali_commit_events_bucket{le="2"}': 3,
        sekali_commit_events_sum: 6,
        sekali_receipt_to_durable_seconds_count: 3,
        sekali_duplicate_age_seconds_count: 1,
        'sekali_store_errors_total{trouble="full"}': 0,
        sekali_store_connection_rebuilds_total: 0,
        'sekali_http_requests_total{route="/publish",status="202"}': 3,
        'sekali_http_requests_total{route="/publish",status="400"}': 1,
        'sekali_http_requests_total{route="/events/:topic/:event_id",status="200"}': 1,
        'sekali_http_requests_total{route="(none)",status="404"}': 1
      }
      expect(Object.fromEntries(Object.keys(expected).map((name) => [name, told.get(name)]))).toEqual(
        expected
      )
      const durable = told.get("sekali_receipt_to_durable_seconds_sum") ?? 0
      expect(durable).toBeGreaterThanOrEqual(told.get("sekali_commit_duration_seconds_sum") ?? Number.NaN)
      for (const name of [
        "sekali_commit_duration_seconds_sum",
        "sekali_database_bytes",
        "sekali_database_wal_bytes",
        "sekali_database_event_bytes",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_start_time_seconds"
      ]) {
        expect([name, told.get(name)]).toEqual([name, expect.any(Number)])
        expect(told.get(name)).toBeGreaterThan(0)
      }
      await until(async () => ((await samples(server)).get("nodejs_eventloop_delay_seconds_count") ?? 0) > 1)
    })
  })

  it("keeps services apart that run in one process", async () => {
    await withServer({}, async (one) => {
      await load(one)
      await withServer({}, async (other) => {
        await publish(other, event("1"))
        const told = await samples(other)
        expect(told.get("sekali_publish_attempts_total")).toBe(1)
        expect(told.get(received("test.topic", "stored"))).toBe(1)
        expect(told.get(received("a", "stored"))).toBeUndefined()
      })
    })
  })

  it("has series for the first hundred topics, and one for the rest", async () => {
    await withServer({}, async (server) => {
      const name = (n: number) => `topic-${String(999 - n)}`
      const many = Array.from({ length: 103 }, (_, n) => event("1", { topic: name(n) }))
      await publish(server, many)
      await publish(server, [...many, event("2", { topic: name(102) })])
      const told = await samples(server)
      expect([...told.keys()].filter((series) => series.startsWith("sekali_events_received"))).toHaveLength(
        303
      )
      expect([told.get(received(name(99), "stored")), told.get(received(name(99), "duplicate"))]).toEqual([
        1, 1
      ])
      expect(told.get(received(name(100), "stored"))).toBeUndefined()
      expect([told.get(received("(other)", "stored")), told.get(received("(other)", "duplicate"))]).toEqual([
        4, 3
      ])
    })
  })

  it("tells of what waits, and how long it has", async () => {
    await withServer({}, async (server) => {
      server.database.hold()
      const body = JSON.stringify(event("1"))
      // The second one waits in the queue, while the first one's commit is held back, and with it whoever reads the store.
      const answers = [post(server, body), post(server, body)]
      await until(() => server.database.held > 0)
      const asked = samples(server)
      // Who is answered later was asked later: by then the figures of the queue have been read.
      for (let n = 0; n < 5; n++) await get(server, "/health/live")
      server.database.release()
      expect((await asked).get("sekali_queue_events")).toBeGreaterThanOrEqual(1)
      expect((await asked).get("sekali_processing_lag_seconds")).toBeGreaterThan(0)
      await Promise.all(answers)
      expect((await samples(server)).get("sekali_queue_events")).toBe(0)
    })
  })

  it("tells how many subscribers there are, and how far the slowest is behind", async () => {
    await withServer({}, async (server) => {
      let seen = 0
      const [reading, resting] = [await subscribe(server), await subscribe(server)]
      resting.pause()
      await until(async () => {
        const large = Array.from({ length: 100 }, () => event(`${seen++}`, { payload: "x".repeat(10_000) }))
        await publish(server, large)
        return ((await samples(server)).get("sekali_stream_lag_offsets") ?? 0) > 0
      })
      await until(() => reading.events().length === seen)
      expect((await samples(server)).get("sekali_stream_subscribers")).toBe(2)
      resting.leave()
      await until(async () => (await samples(server)).get("sekali_stream_subscribers") === 1)
      expect((await samples(server)).get("sekali_stream_lag_offsets")).toBe(0)
      reading.leave()
    })
  })

  it("tells of a full disk, while it is full", async () => {
    await withServer({}, async (server) => {
      await server.database.fillDisk()
      const large = JSON.stringify(event("1", { payload: "x".repeat(100_000) }))
      expect((await post(server, large)).status).toBe(503)
      const told = await samples(server)
      expect(told.get("sekali_ready")).toBe(0)
      expect(told.get('sekali_store_errors_total{trouble="full"}')).toBeGreaterThanOrEqual(1)
      expect(told.get('sekali_http_requests_total{route="/publish",status="503"}')).toBe(1)
      await server.database.freeDisk()
      await until(async () => (await samples(server)).get("sekali_ready") === 1)
    })
  })

  it("tells all but the books while these cannot be read", async () => {
    await withServer({}, async (server) => {
      const reader = await subscribe(server)
      await publish(server, event("1"))
      const before = await samples(server)
      await server.database.hideBooks()
      expect((await get(server, "/stats")).status).toBe(503)
      const told = await samples(server)
      const books =
        /^sekali_(events_received|topics|last_offset|sequence|stream_lag_offsets|database_event_bytes)/
      expect([...before.keys()].filter((name) => !told.has(name) && !books.test(name))).toEqual([])
      expect([...told.keys()].filter((name) => books.test(name))).toEqual([])
      expect(told.get("sekali_stream_subscribers")).toBe(1)
      expect(told.get('sekali_store_errors_total{trouble="unexpected"}')).toBeGreaterThanOrEqual(1)
      reader.leave()
    })
  })
})

describe("Prometheus", () => {
  it("finds nothing to mend in the text", async ({ skip }) => {
    const missing = missingTools()
    if (missing !== undefined) return skip(missing)
    await withServer({}, async (server) => {
      await load(server)
      const { text } = await get(server, "/metrics")
      expect(promtool(["check", "metrics"], text)).toEqual({ code: 0, text: "" })
    })
  })

  it("scrapes a service, and knows the values after a known load", async ({ skip }) => {
    const missing = missingTools()
    if (missing !== undefined) return skip(missing)
    await withServer({}, async (server) => {
      await load(server)
      await withPrometheus(`${server.host}:${server.port}`, async ({ query, until }) => {
        await until('sekali_ready{job="sekali"}', 1)
        for (const [expression, value] of [
          ['sum(sekali_events_received_total{outcome="stored"})', 4],
          ['sum(sekali_events_received_total{outcome!="stored"})', 2],
          ['sum(sekali_http_requests_total{route="/publish"})', 4],
          ["histogram_quantile(1, sekali_commit_events_bucket)", 2],
          ["sekali_receipt_to_durable_seconds_count", 3],
          ["sekali_publish_retries_total", 1]
        ] as const) {
          expect([expression, (await query(expression))[0]?.[1]]).toEqual([expression, value])
        }
        await publish(server, [event("3", { topic: "a" })])
        await until('sum(sekali_events_received_total{topic="a"})', 4)
      })
    })
  })
})
