/**
 * Clients that are slow, or go away: a request has a limited time to arrive, what it holds is given back however it
 * ends, and a publisher that disconnects changes nothing (G2, G6).
 */
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { type RunningServer, until, withServer } from "../support/server.ts"
import { type Subscriber, subscribe } from "../support/subscriber.ts"
import { event, get, post, publish, publishHead, type RawClient, raw, stats } from "./client.ts"

const seconds = { headersSecondsMax: 0.4, requestSecondsMax: 0.8 }

/** Sends a byte, and the next one after others have been served, until the service breaks the connection off. */
const drip = async (server: RunningServer, client: RawClient, byte: string) => {
  for (let n = 0; !client.ended(); n++) {
    client.write(byte)
    expect((await get(server, "/health/live")).status).toBe(200)
    expect(await publish(server, event(`${n % 5}`))).toMatchObject({ accepted: 1 })
  }
}

describe("a slow client", () => {
  it("that sends its headers a byte at a time is cut off with 408 while others are served", async () => {
    await withServer({ settings: seconds }, async (server) => {
      const client = await raw(server)
      client.write("POST /publish HTTP/1.1\r\nhost: a\r\nx-slow: ")
      await drip(server, client, "x")
      expect(client.received()).toMatch(
        /^HTTP\/1\.1 408 [\s\S]*content-type: application\/problem\+json[\s\S]*"type":"urn:sekali:problem:request-timeout"[\s\S]*"status":408/
      )
      client.destroy()
    })
  })

  it("that sends its body a byte at a time is cut off with 408, and its room is given back", async () => {
    await withServer({ settings: seconds }, async (server) => {
      for (const [head, byte, bytes] of [
        [publishHead("content-length: 60000"), " ", 60_000],
        [publishHead("transfer-encoding: chunked"), "1\r\n \r\n", 1]
      ] as const) {
        const client = await raw(server)
        client.write(head + byte)
        await until(async () => (await stats(server)).queue.bytes >= bytes)
        await drip(server, client, byte)
        expect(client.received()).toMatch(/^HTTP\/1\.1 408 /)
        // This client keeps its half of the connection open; that holds nothing.
        await until(async () => (await stats(server)).queue.bytes === 0)
        client.destroy()
      }
    })
  })

  it("that says nothing at all is cut off", async () => {
    await withServer({ settings: seconds }, async (server) => {
      const silent = await raw(server)
      const halfway = await raw(server)
      halfway.write(publishHead("content-length: 100"))
      await until(() => silent.ended() && halfway.ended())
      for (const client of [silent, halfway]) {
        expect(client.received()).toMatch(/^HTTP\/1\.1 408 /)
        client.destroy()
      }
      await until(async () => (await stats(server)).queue.bytes === 0)
    })
  })

  it("does not hold the service up when it stops", async () => {
    await withServer({}, async (server) => {
      const clients = [await raw(server), await raw(server), await raw(server)]
      clients[1]?.write("POST /publish HTTP/1.1\r\nhost: ")
      clients[2]?.write(publishHead("content-length: 100"))
      await until(async () => (await stats(server)).queue.bytes === 100)
      await server.stop()
      await until(() => clients.every((client) => client.ended()))
      for (const client of clients) client.destroy()
    })
  })
})

describe("a client that goes away", () => {
  it("in the middle of its body leaves nothing behind", async () => {
    await withServer({}, async (server) => {
      const body = JSON.stringify(event("1"))
      for (const head of [
        publishHead(`content-length: ${body.length + 1}`),
        `${publishHead("transfer-encoding: chunked")}${body.length.toString(16)}\r\n`
      ]) {
        const client = await raw(server)
        client.write(head + body)
        await until(async () => (await stats(server)).queue.bytes > 0)
        client.destroy()
        await until(async () => (await stats(server)).queue.bytes === 0)
      }
      expect(await stats(server)).toMatchObject({ received: 0, queue: { events: 0, bytes: 0 } })
    })
  })

  it("leaves nothing behind of a request that was waiting for the answer to the one before it", async () => {
    await withServer({ settings: { subscribersMax: 2 } }, async (server) => {
      const stream = "GET /events/stream HTTP/1.1\r\nhost: a\r\n\r\n"
      const publisher = await raw(server)
      publisher.write(`${stream}${publishHead("content-length: 60000")}[`)
      await until(async () => (await stats(server)).queue.bytes === 60_000)
      publisher.destroy()
      await until(async () => (await stats(server)).queue.bytes === 0)

      const statusOfAnother = async () => {
        const another = await subscribe(server)
        another.leave()
        return another.status
      }
      const reader = await raw(server)
      reader.write(stream + stream)
      await until(async () => (await statusOfAnother()) === 503)
      reader.destroy()
      // Both places are free again.
      let one: Subscriber | undefined
      await until(async () => {
        one = await subscribe(server)
        return one.status === 200
      })
      await until(async () => (await statusOfAnother()) === 200)
      one?.leave()
    })
  })

  it("is not told that a publish was refused which is still to be committed, for what came behind it", async () => {
    await withServer({ settings: seconds }, async (server) => {
      const body = JSON.stringify(event("1"))
      for (const behind of ["no HTTP at all\r\n\r\n", publishHead("content-length: 100")]) {
        server.database.hold()
        const client = await raw(server)
        client.write(publishHead(`content-length: ${body.length}`) + body + behind)
        await until(() => client.ended())
        expect(client.received()).toBe("")
        client.destroy()
        server.database.release()
      }
      await until(async () => (await stats(server)).received === 2)
    })
  })

  it("before its answer has its events stored, once, however often it sends them again", async () => {
    await withServer({}, async (server) => {
      const body = JSON.stringify([event("1"), event("2")])
      server.database.hold()
      for (let attempt = 0; attempt < 3; attempt++) {
        const client = await raw(server)
        client.write(publishHead(`content-length: ${body.length}`) + body)
        if (attempt === 0) await until(() => server.database.held === 1)
        client.destroy()
      }
      server.database.release()
      await until(async () => (await stats(server)).received >= 2)
      expect(await publish(server, [event("1"), event("2")])).toMatchObject({ duplicates: 2 })
      expect(await stats(server)).toMatchObject({
        unique_processed: 2,
        conflicts: 0,
        queue: { events: 0, bytes: 0 }
      })
    })
  })

  it("at any byte of its request changes nothing: sent again, each event is stored once (G2)", async () => {
    await withServer({}, async (server) => {
      let runs = 0
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 1, maxLength: 4 }),
          async (cuts) => {
            const run = runs++
            const body = JSON.stringify([event(`${run}-a`), event(`${run}-b`)])
            const request = publishHead(`content-length: ${body.length}`) + body
            for (const cut of cuts) {
              const client = await raw(server)
              const sent = Math.round(cut * request.length)
              await new Promise<void>(
                (resolve) => void client.socket.write(request.slice(0, sent), () => resolve())
              )
              client.destroy()
            }
            const answer = await post(server, body)
            expect(answer.status).toBe(202)
            await until(async () => (await stats(server)).queue.bytes === 0)
            const books = await stats(server)
            expect(books).toMatchObject({
              unique_processed: 2 * runs,
              conflicts: 0,
              queue: { events: 0, bytes: 0 }
            })
            expect(books.received % 2).toBe(0)
          }
        ),
        { numRuns: 40 }
      )
    })
  })

  it("in the middle of a stream it reads leaves the service as it was", async () => {
    await withServer({}, async (server) => {
      const events = Array.from({ length: 200 }, (_, n) => event(`${n}`, { payload: "x".repeat(50_000) }))
      await publish(server, events)
      for (let n = 0; n < 5; n++) {
        const client = await raw(server)
        client.write("GET /events HTTP/1.1\r\nhost: a\r\naccept: application/x-ndjson\r\n\r\n")
        await until(() => client.received().length > 0)
        client.destroy()
      }
      const answer = await get(server, "/events", { accept: "application/x-ndjson" })
      expect(answer.text.split("\n").length).toBe(201)
      expect(server.logs.filter((line) => line.includes("bug"))).toEqual([])
    })
  })
})

describe("a client that sends several publishes at once", () => {
  it("has them all answered by a service that is about to stop", async () => {
    await withServer({}, async (server) => {
      server.database.hold()
      const client = await raw(server)
      const body = JSON.stringify(event("1"))
      client.write(`${publishHead(`content-length: ${body.length}`)}${body}`.repeat(3))
      await until(() => server.database.held === 1)
      const stopped = server.stop()
      await until(() => server.logs.some((line) => line.includes("draining")))
      server.database.release()
      await until(() => client.ended())
      expect(client.received().match(/HTTP\/1\.1 202 /g)).toHaveLength(3)
      client.destroy()
      await stopped
    })
  })
})
