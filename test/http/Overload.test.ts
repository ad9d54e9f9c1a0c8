/**
 * The row of trouble in the contract's second table, 503 with Retry-After: the queue is full, the disk is full, an
 * answer took too long, the service shuts down (G6, G7). Trouble is brought about, not waited for: commits are held
 * back, and the disk filled, on the real database.
 */
import { Cause, Exit } from "effect"
import { describe, expect, it } from "vitest"
import { until, withFolder, withServer } from "../support/server.ts"
import { call, event, get, post, problem, publish, publishHead, raw, stats } from "./client.ts"

const send = (id: string, further = {}) => JSON.stringify(event(id, further))

describe("503: the queue is full", () => {
  const byEvents = { queueEventsMax: 3, requestEventsMax: 3, commitEventsMax: 3 }

  it("refuses what would make it hold more events than its bound, and takes what fits", async () => {
    await withServer({ settings: byEvents }, async (server) => {
      server.database.hold()
      const first = post(server, JSON.stringify([event("1"), event("2")]))
      await until(() => server.database.held === 1)
      problem(await post(server, JSON.stringify([event("3"), event("4")])), 503, "overloaded")
      server.database.release()
      expect((await first).status).toBe(202)
      expect(await publish(server, event("5"))).toMatchObject({ stored: 1 })
      expect(await stats(server)).toMatchObject({
        received: 3,
        unique_processed: 3,
        queue: { events: 0, bytes: 0 }
      })
      expect(await publish(server, event("6"))).toMatchObject({ stored: 1 })
    })
  })

  const byBytes = { queueBytesMax: 2048, requestBytesMax: 2048, eventBytesMax: 1024 }

  it("refuses what would make it hold more bytes than its bound, counted from a body's first byte", async () => {
    await withServer({ settings: byBytes }, async (server) => {
      const slow = await raw(server)
      slow.write(publishHead("content-length: 1500"))
      await until(async () => (await stats(server)).queue.bytes === 1500)
      const told = problem(await post(server, send("1", { payload: "x".repeat(600) })), 503, "overloaded")
      expect(told.detail).toContain("bytes")
      expect(await publish(server, event("2"))).toMatchObject({ stored: 1 })
      slow.destroy()
      await until(async () => (await stats(server)).queue.bytes === 0)
      expect(await publish(server, event("1", { payload: "x".repeat(600) }))).toMatchObject({ stored: 1 })
      expect(await stats(server)).toMatchObject({ received: 2 })
    })
  })

  it("answers a body in chunks that outgrows the room, while more is to come, and gives the room back", async () => {
    await withServer({ settings: byBytes }, async (server) => {
      const [slow, fast] = [await raw(server), await raw(server)]
      slow.write(publishHead("content-length: 1500"))
      await until(async () => (await stats(server)).queue.bytes === 1500)
      fast.write(`${publishHead("transfer-encoding: chunked")}1f4\r\n${" ".repeat(500)}\r\n`)
      await until(async () => (await stats(server)).queue.bytes === 2000)
      fast.write(`1f4\r\n${" ".repeat(500)}\r\n`)
      await until(() => fast.received().endsWith("}"))
      expect(fast.received()).toMatch(/^HTTP\/1\.1 503 [\s\S]*retry-after: 1\r\n[\s\S]*problem:overloaded/)
      await until(async () => (await stats(server)).queue.bytes === 1500)
      // The same connection serves on: the rest of the refused body is read and thrown away.
      fast.write(
        "1f4\r\n".concat(" ".repeat(500), "\r\n0\r\n\r\n", "GET /health/live HTTP/1.1\r\nhost: a\r\n\r\n")
      )
      await until(() => fast.received().endsWith('{"status":"live"}'))
      expect((await stats(server)).queue.bytes).toBe(1500)
      slow.destroy()
      fast.destroy()
      await until(async () => (await stats(server)).queue.bytes === 0)
    })
  })
})

describe("503: waited too long", () => {
  it("says that the outcome is unknown; what was sent takes effect once, sent again or not (G2)", async () => {
    await withServer({ settings: { publishSecondsMax: 0.1 } }, async (server) => {
      server.database.hold()
      problem(await post(server, send("1")), 503, "waited-too-long")
      problem(await post(server, send("1")), 503, "waited-too-long")
      server.database.release()
      await until(async () => (await stats(server)).received === 2)
      expect(await stats(server)).toMatchObject({ unique_processed: 1, queue: { events: 0, bytes: 0 } })
      expect(await publish(server, event("1"))).toMatchObject({ duplicates: 1 })
    })
  })
})

describe("503: the disk is full", () => {
  it("stores nothing of the request, goes on reading, and recovers by itself once there is room (G7)", async () => {
    await withServer({}, async (server) => {
      await publish(server, event("before"))
      await server.database.fillDisk()
      const large = Array.from({ length: 50 }, (_, n) => event(`${n}`, { payload: "x".repeat(5000) }))
      const answer = await post(server, JSON.stringify(large))
      expect(problem(answer, 503, "store-unavailable").title).toBe("The disk is full")
      expect(await stats(server)).toMatchObject({
        received: 1,
        last_offset: 1,
        queue: { events: 0, bytes: 0 }
      })
      expect((await get(server, "/events/test.topic/0")).status).toBe(404)
      await server.database.freeDisk()
      await until(async () => (await post(server, JSON.stringify(large))).status === 202)
      expect(await stats(server)).toMatchObject({ unique_processed: 51 })
      expect((await get(server, "/health/ready")).status).toBe(200)
    })
  })
})

describe("503: shutting down", () => {
  it("refuses what comes, is not ready, and commits and answers what waits before it ends (G1)", async () => {
    await withFolder(async (folder) => {
      await withServer({ folder }, async (server) => {
        const late = await raw(server)
        late.write(publishHead(`content-length: ${send("late").length}`))
        await until(async () => (await stats(server)).queue.bytes > 0)
        server.database.hold()
        const waiting = post(server, send("waiting"))
        await until(() => server.database.held === 1)
        const stopped = server.stop()
        await until(async () => (await get(server, "/health/ready")).status === 503)
        problem(await get(server, "/health/ready"), 503, "draining", "/health/ready")
        expect((await get(server, "/health/live")).status).toBe(200)
        const figures = get(server, "/metrics")
        const refused = await post(server, send("refused"))
        problem(refused, 503, "draining")
        expect(refused.headers["connection"]).toBe("close")
        problem(await get(server, "/stats"), 503, "draining", "/stats")
        problem(await call(server, "DELETE", "/nothing?x=1"), 503, "draining", "/nothing")
        // Its body arrives too late to be offered.
        late.write(send("late"))
        await until(() => late.received().endsWith("}"))
        expect(late.received()).toMatch(/^HTTP\/1\.1 503 [\s\S]*problem:draining/)
        late.destroy()
        server.database.release()
        expect((await waiting).status).toBe(202)
        expect(await figures).toMatchObject({
          status: 200,
          text: expect.stringContaining("\nsekali_ready 0\n")
        })
        const exit = await stopped
        expect(Exit.isFailure(exit) && Cause.isInterruptedOnly(exit.cause)).toBe(true)
        await expect(get(server, "/health/live")).rejects.toThrow()
      })
      await withServer({ folder }, async (server) => {
        expect(await stats(server)).toMatchObject({ received: 1, unique_processed: 1 })
        expect((await get(server, "/events/test.topic/waiting")).status).toBe(200)
      })
    })
  })
})
