/**
 * The process is asked to stop. It takes nothing new, commits and answers what waits, empties its log into the database
 * and ends with 0 within its limit (G1, G7); and who asks twice does not wait.
 */
import { once } from "node:events"
import { statSync } from "node:fs"
import { get, type IncomingMessage } from "node:http"
import { join } from "node:path"
import { text } from "node:stream/consumers"
import { afterEach, describe, expect, it } from "vitest"
import {
  allEvents,
  eventNumber,
  keyOf,
  type Problem,
  type PublishAnswer,
  publish
} from "../support/client.ts"
import { ConnectionLost, connect, publishBytes, requestBytes } from "../support/connection.ts"
import { cleanUp, type Ended, type Serving, serve, temporaryFolder } from "../support/process.ts"

const shutdownSecondsMax = 10

afterEach(cleanUp)

/** How much of the write-ahead log is left. */
const logBytes = (database: string): number =>
  statSync(`${database}-wal`, { throwIfNoEntry: false })?.size ?? 0

/** Node's answer to the end of the server is taken away, so that a client that is not done holds the shutdown up. */
const heldOpenByClients = {
  NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(
    'import { Server } from "node:http"; Server.prototype.closeAllConnections = () => {}'
  )}`
}

/** Sends the first half of a request, and returns once the service has surely read it. */
const halfSent = async (port: number, whole: Buffer) => {
  const connection = await connect(port)
  const half = Math.floor(whole.length / 2)
  // Behind a whole request in the same piece: when that one is answered, this one has been read.
  const { status } = await connection.request(
    Buffer.concat([requestBytes("GET", "/health/live"), whole.subarray(0, half)])
  )
  expect(status).toBe(200)
  return { finish: () => connection.request(whole.subarray(half)), close: connection.close }
}

const draining = (service: Serving) => service.logged(({ message }) => message === "draining")

const expectStopped = (service: Serving, database: string, { code, signal, stderr }: Ended) => {
  expect({ code, signal, stderr }).toEqual({ code: 0, signal: null, stderr: "" })
  expect(service.log().at(-1)?.message).toBe("stopped")
  expect(logBytes(database)).toBe(0)
}

describe("asked to stop", () => {
  it.each(["SIGTERM", "SIGINT"] as const)(
    "answers all that waits, and has stored all that it answered (%s, G1, G7)",
    async (signal) => {
      const database = join(temporaryFolder(), "sekali.db")
      // Commits much smaller than what waits, so that there is something to drain.
      const service = await serve({
        database,
        environment: { SEKALI_COMMIT_EVENTS_MAX: "100", SEKALI_REQUEST_EVENTS_MAX: "100" }
      })
      const told = new Map<string, number>()
      const refused = new Set<string>()
      const unanswered: Array<string> = []
      let answersLeft = 200
      let underWay = 0
      let underWayAtSignal = 0
      let signalledAt: number | undefined
      let next = 0

      const publisher = async () => {
        const connection = await connect(service.port)
        while (true) {
          const events = Array.from({ length: 50 }, () => eventNumber(next++))
          const sentBefore = signalledAt === undefined
          underWay++
          try {
            const answer = await connection.request(publishBytes(events))
            underWay--
            if (answer.status !== 202) {
              expect(answer.status).toBe(503)
              expect(answer.headers.get("retry-after")).toMatch(/^\d+$/)
              for (const event of events) refused.add(keyOf(event))
              return
            }
            const { results } = JSON.parse(answer.body) as PublishAnswer
            for (const [index, event] of events.entries())
              told.set(keyOf(event), results[index]?.offset ?? -1)
            if (--answersLeft === 0) {
              underWayAtSignal = underWay
              signalledAt = performance.now()
              service.kill(signal)
            }
            if (answer.headers.get("connection") === "close") return
          } catch (error) {
            if (!(error instanceof ConnectionLost)) throw error
            // Only who sent after the signal may find the door closed.
            if (sentBefore) unanswered.push(events.map(keyOf).join())
            return
          }
        }
      }
      await Promise.all(Array.from({ length: 64 }, publisher))
      const ended = await service.ended
      expect(performance.now() - (signalledAt ?? 0)).toBeLessThan(shutdownSecondsMax * 1000)
      expectStopped(service, database, ended)
      expect(underWayAtSignal).toBeGreaterThan(32)
      expect(unanswered).toEqual([])

      const again = await serve({ database })
      const offsets = new Map((await allEvents(again.url)).map((event) => [keyOf(event), event.offset]))
      expect([...told].filter(([key, offset]) => offsets.get(key) !== offset)).toEqual([])
      // "Nothing of this request was stored", it said.
      expect([...refused].filter((key) => offsets.has(key))).toEqual([])
    }
  )

  it("is not ready any more, refuses what is new, and answers who was half way (G6)", async () => {
    const database = join(temporaryFolder(), "sekali.db")
    const service = await serve({ database, environment: heldOpenByClients })
    await publish(service.url, [eventNumber(0)])
    const reader = await halfSent(service.port, requestBytes("GET", "/health/ready"))
    const publisher = await halfSent(service.port, publishBytes(eventNumber(1)))
    service.kill("SIGTERM")
    await draining(service)
    for (const { finish } of [reader, publisher]) {
      const { status, headers, body } = await finish()
      expect(status).toBe(503)
      expect(headers.get("content-type")).toBe("application/problem+json")
      expect(headers.get("retry-after")).toMatch(/^\d+$/)
      expect(headers.get("connection")).toBe("close")
      expect((JSON.parse(body) as Problem).type).toMatch(/^urn:sekali:problem:(draining|not-serving)$/)
    }
    expectStopped(service, database, await service.ended)
    await expect(connect(service.port)).rejects.toThrow("ECONNREFUSED")
    const again = await serve({ database })
    expect((await allEvents(again.url)).map(keyOf)).toEqual([keyOf(eventNumber(0))])
  })

  it("waits for no client that never finishes", async () => {
    const database = join(temporaryFolder(), "sekali.db")
    const service = await serve({ database })
    await halfSent(service.port, publishBytes(eventNumber(0)))
    service.kill("SIGTERM")
    expectStopped(service, database, await service.ended)
  })

  it("does not open the database again for a reader who is not done", async () => {
    const database = join(temporaryFolder(), "sekali.db")
    const service = await serve({ database, environment: heldOpenByClients })
    const padding = "x".repeat(500_000)
    for (let n = 0; n < 40; n++) await publish(service.url, [eventNumber(n, "service-a", padding)])
    const headers = { accept: "application/x-ndjson", connection: "close" }
    const [response] = (await once(get(`${service.url}/events`, { headers }), "response")) as [
      IncomingMessage
    ]
    // The buffers between are full long before the events are through.
    service.kill("SIGTERM")
    await draining(service)
    while (logBytes(database) > 0) await new Promise(setImmediate)
    const lines = (await text(response)).trimEnd().split("\n")
    expect((JSON.parse(lines.at(-1) ?? "") as { problem: Problem }).problem.status).toBe(503)
    expectStopped(service, database, await service.ended)
  })

  it("ends at once when it is interrupted again", async () => {
    const database = join(temporaryFolder(), "sekali.db")
    const service = await serve({
      database,
      environment: { ...heldOpenByClients, SEKALI_SHUTDOWN_SECONDS_MAX: "3600" }
    })
    await publish(service.url, [eventNumber(0)])
    await halfSent(service.port, publishBytes(eventNumber(1)))
    service.kill("SIGINT")
    await draining(service)
    const impatient = setInterval(() => service.kill("SIGINT"), 50)
    const { code } = await service.ended
    clearInterval(impatient)
    expect(code).toBe(130)
    expect(service.log().map(({ message }) => message)).not.toContain("stopped")
    const again = await serve({ database })
    expect(await allEvents(again.url)).toHaveLength(1)
  })

  it("cuts a shutdown short that takes too long, says so, and ends with 1", async () => {
    const database = join(temporaryFolder(), "sekali.db")
    const service = await serve({
      database,
      environment: { ...heldOpenByClients, SEKALI_SHUTDOWN_SECONDS_MAX: "0.2" }
    })
    await halfSent(service.port, publishBytes(eventNumber(0)))
    service.kill("SIGTERM")
    const { code, stderr } = await service.ended
    expect(code).toBe(1)
    expect(stderr).toMatch(/^sekali: .*0\.2 s \(SEKALI_SHUTDOWN_SECONDS_MAX\).*\n$/)
  })

  it.skipIf(process.platform !== "linux")(
    "takes one Ctrl-C on a terminal for one, though npm passes it on a second time",
    async () => {
      const database = join(temporaryFolder(), "sekali.db")
      // What `npm start` runs, without building again what is built.
      const service = await serve({
        database,
        environment: { SEKALI_LOG_FORMAT: "json" },
        command: [
          "script",
          "--quiet",
          "--return",
          "--command",
          "stty -echo; npm --silent start --ignore-scripts",
          "/dev/null"
        ]
      })
      await publish(service.url, [eventNumber(0)])
      await halfSent(service.port, publishBytes(eventNumber(1)))
      service.type("\u0003")
      await service.ended
      // How the process itself ended npm does not tell; a second press would have ended it before this line.
      expect(service.log().at(-1)?.message).toBe("stopped")
      expect(logBytes(database)).toBe(0)
    }
  )
})
