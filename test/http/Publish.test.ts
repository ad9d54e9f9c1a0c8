/**
 * `POST /publish`, the first row of the contract: every shape of body that is accepted, and the exact answer to each.
 */
import { Schema } from "effect"
import { describe, expect, it } from "vitest"
import { EventAnswer, PublishAnswer } from "../../src/http/Api.ts"
import { type RunningServer, withServer } from "../support/server.ts"
import { call, decoded, event, get, post, publish, stats } from "./client.ts"

const ndjson = { "content-type": "application/x-ndjson" }

const ids = async (server: RunningServer): Promise<ReadonlyArray<string>> => {
  const answer = await get(server, "/events", { accept: "application/x-ndjson" })
  return answer.text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => Schema.decodeUnknownSync(EventAnswer)(JSON.parse(line)).event_id)
}

describe("POST /publish", () => {
  it("answers one event with the exact JSON of the contract", async () => {
    await withServer({}, async (server) => {
      const answer = await post(server, JSON.stringify(event("1")))
      expect(answer.status).toBe(202)
      expect(answer.headers["content-type"]).toBe("application/json")
      expect(answer.headers["preference-applied"]).toBeUndefined()
      expect(answer.text).toBe(
        '{"status":"accepted","accepted":1,"stored":1,"duplicates":0,"conflicts":0,"results":[{"outcome":"stored","offset":1}]}'
      )
    })
  })

  it("answers an array with results in the order sent, each one stored, duplicate or conflict (G8)", async () => {
    await withServer({}, async (server) => {
      await publish(server, event("b", { payload: 1 }))
      const body = [
        event("c"),
        event("b", { payload: 1.0 }),
        event("a"),
        event("b", { payload: 2 }),
        event("c")
      ]
      const answer = await post(server, JSON.stringify(body))
      const { results, ...counts } = decoded(PublishAnswer, answer)
      expect(counts).toEqual({ status: "accepted", accepted: 5, stored: 2, duplicates: 2, conflicts: 1 })
      expect(results?.map(({ outcome }) => outcome)).toEqual([
        "stored",
        "duplicate",
        "stored",
        "conflict",
        "duplicate"
      ])
      const [c, b, a, conflict, again] = results?.map(({ offset }) => offset) ?? []
      expect([b, conflict, again]).toEqual([1, 1, c])
      expect(a).toBeGreaterThan(c ?? 0)
      expect(await ids(server)).toEqual(["b", "c", "a"])
    })
  })

  it("takes the envelope {events:[…]} and gives offsets in its order (G5)", async () => {
    await withServer({}, async (server) => {
      const answer = await publish(server, { events: [event("z"), event("y"), event("x")] })
      expect(answer).toMatchObject({ accepted: 3, stored: 3 })
      expect(await ids(server)).toEqual(["z", "y", "x"])
    })
  })

  it("takes NDJSON, one event a line; blank lines are skipped, the last line need not end", async () => {
    await withServer({}, async (server) => {
      const [one, two, three] = ["1", "2", "3"].map((id) => JSON.stringify(event(id)))
      const body = `\n${one}\r\n   \n\t\r\n${two}\n\n${three}`
      const answer = await post(server, body, ndjson)
      expect(answer.status, answer.text).toBe(202)
      expect(decoded(PublishAnswer, answer)).toMatchObject({ accepted: 3, stored: 3 })
      expect(await ids(server)).toEqual(["1", "2", "3"])
    })
  })

  it("takes a body that is sent in chunks without a length", async () => {
    await withServer({}, async (server) => {
      const headers = { "content-type": "application/json" }
      const answer = await call(server, "POST", "/publish", {
        headers,
        body: JSON.stringify(event("1")),
        chunked: true
      })
      expect(answer.status, answer.text).toBe(202)
      expect((await stats(server)).queue.bytes).toBe(0)
    })
  })

  it("reads JSON where no content type is named, with a charset of UTF-8, and with the encoding identity", async () => {
    await withServer({}, async (server) => {
      const body = JSON.stringify(event("1"))
      for (const headers of [
        {},
        { "content-type": "application/json; charset=utf-8" },
        { "content-type": 'Application/JSON;charset="UTF-8"' },
        { "content-type": "application/json", "content-encoding": "identity" },
        { "content-type": "application/x-ndjson; charset=utf8" }
      ]) {
        expect((await call(server, "POST", "/publish", { headers, body })).status).toBe(202)
      }
      expect(await stats(server)).toMatchObject({ received: 5, unique_processed: 1 })
    })
  })

  it("leaves results out on Prefer: return=minimal, and says so in Preference-Applied", async () => {
    await withServer({}, async (server) => {
      for (const prefer of [
        "return=minimal",
        "respond-async, return=minimal",
        'wait=5; a, RETURN="minimal"'
      ]) {
        const answer = await post(server, JSON.stringify([event("1"), event("2")]), { prefer })
        expect(answer.headers["preference-applied"]).toBe("return=minimal")
        expect(decoded(PublishAnswer, answer)).toMatchObject({ accepted: 2 })
        expect(answer.text).not.toContain("results")
      }
      for (const prefer of ["return=representation", "respond-async", "noreturn=minimal"]) {
        const answer = await post(server, JSON.stringify(event("1")), { prefer })
        expect(answer.headers["preference-applied"]).toBeUndefined()
        expect(answer.text).toContain("results")
      }
    })
  })

  it("keeps every member of an event: sequence, origin, the text of its timestamp; payload is {} by default", async () => {
    await withServer({}, async (server) => {
      const timestamp = "2026-11-22T17:00:00.123456789+07:00"
      await publish(server, [
        event("full", { timestamp, payload: { any: ["JSON"] }, sequence: 42, origin: "store-b" }),
        event("bare")
      ])
      const answer = await get(server, "/events")
      expect(answer.headers["content-type"]).toBe("application/json")
      const [full, bare] = (JSON.parse(answer.text) as { events: ReadonlyArray<Record<string, unknown>> })
        .events
      expect(full).toEqual({
        ...event("full", { timestamp, payload: { any: ["JSON"] }, sequence: 42, origin: "store-b" }),
        offset: 1,
        processed_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
      })
      expect(bare).toEqual({ ...event("bare"), payload: {}, offset: 2, processed_at: full?.["processed_at"] })
      expect(Object.keys(full ?? {})).toEqual([
        "offset",
        "topic",
        "event_id",
        "timestamp",
        "source",
        "payload",
        "sequence",
        "origin",
        "processed_at"
      ])
    })
  })

  it("folds the topic's case into the key: two spellings are one topic (G2)", async () => {
    await withServer({}, async (server) => {
      await publish(server, event("1", { topic: "System.Metrics_1.CPU-0" }))
      expect(await publish(server, event("1", { topic: "system.metrics_1.cpu-0" }))).toMatchObject({
        duplicates: 1
      })
      expect((await stats(server)).topics).toEqual(["system.metrics_1.cpu-0"])
    })
  })

  it("takes names of 255 code points in any script, and topics of 255 characters", async () => {
    await withServer({}, async (server) => {
      const long = event("😀".repeat(255), { source: "é".repeat(255), topic: `a.${"b".repeat(253)}` })
      expect(await publish(server, long)).toMatchObject({ stored: 1 })
      expect(await publish(server, long)).toMatchObject({ duplicates: 1 })
    })
  })

  it("calls a line that is shipped again with a new time or sequence a duplicate, and other content a conflict", async () => {
    await withServer({}, async (server) => {
      const first = event("1", { payload: { a: 1, b: [1e2] }, sequence: 1 })
      await publish(server, first)
      const again = {
        ...first,
        timestamp: "2027-01-01T00:00:00Z",
        sequence: 2,
        payload: { b: [100], a: 1.0 }
      }
      expect(await publish(server, again)).toMatchObject({ duplicates: 1, conflicts: 0 })
      expect(await publish(server, { ...first, source: "service-b" })).toMatchObject({ conflicts: 1 })
      expect(await publish(server, { ...first, payload: { a: 1, b: [101] } })).toMatchObject({ conflicts: 1 })
      const answer = await get(server, "/events/test.topic/1")
      expect(JSON.parse(answer.text)).toMatchObject(first)
    })
  })

  it("reads a request that offers to change the protocol as what it is", async () => {
    await withServer({}, async (server) => {
      const upgrade = {
        connection: "Upgrade, HTTP2-Settings",
        upgrade: "h2c",
        "http2-settings": "AAEAAEAAAAIAAAAB"
      }
      expect((await post(server, JSON.stringify(event("1")), upgrade)).status).toBe(202)
      const websocket = { connection: "Upgrade", upgrade: "websocket" }
      expect((await get(server, "/stats", websocket)).status).toBe(200)
    })
  })

  it("shows what a 2xx told to every read that begins after it, by whichever publisher", async () => {
    await withServer({}, async (server) => {
      const publishers = Array.from({ length: 6 }, async (_, publisher) => {
        for (let n = 0; n < 10; n++) {
          const id = `${publisher}-${n}`
          const { results } = await publish(server, event(id))
          const offset = results?.[0]?.offset ?? 0
          const [known, page, books] = await Promise.all([
            get(server, `/events/test.topic/${id}`),
            get(server, `/events?after=${offset - 1}&limit=1`),
            stats(server)
          ])
          expect([known.status, page.status]).toEqual([200, 200])
          expect(page.text).toContain(`"event_id":"${id}"`)
          expect(books.last_offset).toBeGreaterThanOrEqual(offset)
        }
      })
      await Promise.all(publishers)
      expect(await stats(server)).toMatchObject({ received: 60, unique_processed: 60 })
    })
  })
})
