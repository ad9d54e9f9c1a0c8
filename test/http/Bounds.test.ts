/**
 * G6 at the door: what a request or a reader can make the service hold or do is bounded, whatever it sends and however
 * slowly it reads.
 */
import { connect } from "node:net"
import { describe, expect, it } from "vitest"
import { until, withServer } from "../support/server.ts"
import { get, post, problem, publish, stats } from "./client.ts"

const event = (id: string, payload: unknown = {}) => ({
  topic: "bounds",
  event_id: id,
  timestamp: "2026-11-22T10:00:00Z",
  source: "test",
  payload
})

describe("G6: a body is counted before anything is made of it", () => {
  it("refuses an array of very many elements, and lines of very many events, as too large", async () => {
    await withServer({}, async (server) => {
      problem(await post(server, `[${"0,".repeat(500_000)}0]`), 413, "too-large")
      const headers = { "content-type": "application/x-ndjson" }
      problem(await post(server, "0\n".repeat(500_000), headers), 413, "too-large")
      expect(await stats(server)).toMatchObject({ received: 0 })
    })
  })

  it("passes over very many blank lines", async () => {
    await withServer({}, async (server) => {
      const body = `${"\n".repeat(4_000_000)}${JSON.stringify(event("1"))}`
      const told = await post(server, body, { "content-type": "application/x-ndjson" })
      expect(told.status).toBe(202)
    })
  })

  it("tells no more than 1,000 faults, and says that there may be more", async () => {
    await withServer({}, async (server) => {
      const told = problem(
        await post(server, JSON.stringify(Array.from({ length: 3000 }, () => ({})))),
        422,
        "invalid-input"
      )
      expect(told.errors).toHaveLength(1000)
      expect(told.detail).toBe("1000 or more faults; nothing was stored.")
      const members = Object.fromEntries(Array.from({ length: 5000 }, (_, index) => [`m${index}`, 0]))
      const crowded = problem(
        await post(server, JSON.stringify({ ...event("1"), ...members })),
        422,
        "invalid-input"
      )
      expect(crowded.errors).toHaveLength(1000)
    })
  })
})

describe("G6: what is promised and not sent holds no room", () => {
  it("counts a large body as it arrives, not as its headers say", async () => {
    await withServer({}, async (server) => {
      const { host, port } = server
      const sockets = Array.from({ length: 5 }, () => connect(port, host))
      for (const socket of sockets) {
        socket.write("POST /publish HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n")
        socket.write(`content-length: ${16 * 1024 * 1024}\r\n\r\n[ `)
      }
      await until(async () => (await stats(server)).queue.bytes === 10)
      expect(await publish(server, event("1"))).toMatchObject({ stored: 1 })
      for (const socket of sockets) socket.destroy()
      await until(async () => (await stats(server)).queue.bytes === 0)
    })
  })
})

describe("G6: readers that do not read", () => {
  it("hold no more than their bound; others are told to come again, until they are gone", async () => {
    await withServer({ settings: { readBytesMax: 1024 * 1024 } }, async (server) => {
      // More than what the system itself buffers, which counts as sent.
      for (let index = 0; index < 30; index++) {
        await publish(server, event(String(index), "x".repeat(900_000)))
      }
      const { host, port } = server
      const socket = connect(port, host)
      socket.write("GET /events HTTP/1.1\r\nhost: a\r\naccept: application/x-ndjson\r\n\r\n")
      await until(() => socket.bytesRead > 10_000)
      await until(async () => (await get(server, "/events?limit=1")).status === 503)
      const refused = problem(await get(server, "/events?limit=1"), 503, "readers-overloaded", "/events")
      expect(refused.retry_after).toBe(1)
      socket.destroy()
      await until(async () => (await get(server, "/events?limit=1")).status === 200)
    })
  })
})

describe("422: a sequence that would be altered", () => {
  it("is refused, and one that is a whole number in another spelling is taken", async () => {
    await withServer({}, async (server) => {
      const send = (sequence: string) => JSON.stringify(event("1")).replace(/}$/, `,"sequence":${sequence}}`)
      const told = problem(await post(server, send("1.00000000000000000001")), 422, "invalid-input")
      expect(told.errors).toEqual([
        { pointer: "/sequence", detail: expect.stringContaining("a whole number") }
      ])
      expect((await post(server, send("1e2"))).status).toBe(202)
    })
  })
})
