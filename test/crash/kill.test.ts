/**
 * The process is killed, at moments it did not choose, and started again. What it had answered is there, once (G1, G2),
 * its books balance (G4), no reader sees an offset move (G5), and nobody has to help it (G7).
 */
import { appendFileSync, statSync } from "node:fs"
import { join } from "node:path"
import { afterEach, describe, expect, it } from "vitest"
import {
  allEvents,
  eventNumber,
  eventNumbers,
  eventsAfter,
  inBatches,
  keyOf,
  type PublishAnswer,
  publish,
  type ReadEvent,
  type SentEvent,
  stats,
  topicTotals
} from "../support/client.ts"
import { type Connection, ConnectionLost, connect, publishBytes } from "../support/connection.ts"
import { cleanUp, launch, type Serving, serve, temporaryFolder } from "../support/process.ts"

const restartMillisecondsMax = 5000

afterEach(cleanUp)

const kill = async (service: Serving) => {
  service.kill("SIGKILL")
  await service.ended
}

/** Whole numbers below a bound, the same ones for the same seed. */
const chances = (seed: number) => {
  let state = seed
  return (bound: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * bound)
  }
}

describe("after SIGKILL", () => {
  it("drops the same 1,000 events when they are sent again, and keeps every offset (G1, G2, G5)", async () => {
    const database = join(temporaryFolder(), "sekali.db")
    const events = eventNumbers(1000)
    const publishAll = async (url: string) =>
      (await Promise.all(inBatches(events, 20).map((batch) => publish(url, batch)))).flatMap(
        ({ results }) => results
      )

    const first = await serve({ database })
    const stored = await publishAll(first.url)
    expect(stored.every(({ outcome }) => outcome === "stored")).toBe(true)
    const before = await allEvents(first.url)
    await kill(first)

    const second = await serve({ database })
    expect(second.startMilliseconds).toBeLessThan(restartMillisecondsMax)
    expect(await allEvents(second.url)).toEqual(before)
    const again = await publishAll(second.url)
    expect(again).toEqual(stored.map(({ offset }) => ({ outcome: "duplicate", offset })))
    expect(await stats(second.url)).toMatchObject({
      received: 2000,
      unique_processed: 1000,
      duplicate_dropped: 1000,
      conflicts: 0
    })
    expect(await allEvents(second.url)).toEqual(before)
  })

  it("starts by itself with half a write at the end of its log, and reads nothing into it (G1, G3)", async () => {
    const database = join(temporaryFolder(), "sekali.db")
    const first = await serve({ database })
    await publish(first.url, eventNumbers(100))
    const before = await allEvents(first.url)
    await kill(first)

    const log = `${database}-wal`
    expect(statSync(log).size).toBeGreaterThan(0)
    // A frame is a header of 24 bytes and a page of 4096: this is one that is wrong, and one that is cut short.
    appendFileSync(log, Buffer.alloc(24 + 4096 + 1000, 0x5a))

    const second = await serve({ database })
    expect(second.startMilliseconds).toBeLessThan(restartMillisecondsMax)
    expect(await allEvents(second.url)).toEqual(before)
    expect((await publish(second.url, eventNumbers(101))).stored).toBe(1)
  })

  it("has kept what it answered under load, however often it is killed (G1, G2, G4, G5)", async () => {
    const rounds = 4
    const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 31)
    const chance = chances(seed)
    const context = `with SEED=${seed}`
    const database = join(temporaryFolder(), "sekali.db")

    /** What publishers were told: the offset of each key. */
    const answered = new Map<string, number>()
    let answeredDeliveries = 0
    /** What a reader has seen who follows the offsets across all restarts. */
    const followed: Array<ReadEvent> = []
    const sent = new Map<string, SentEvent>()
    let next = 0

    const note = (events: ReadonlyArray<SentEvent>, { results }: PublishAnswer) => {
      answeredDeliveries += events.length
      const told = events.map((event, index) => [keyOf(event), results[index]?.offset ?? -1] as const)
      expect(results.filter(({ outcome }) => outcome !== "stored" && outcome !== "duplicate")).toEqual([])
      expect(told.filter(([key, offset]) => (answered.get(key) ?? offset) !== offset)).toEqual([])
      for (const [key, offset] of told) answered.set(key, offset)
    }
    // New events, and among them many that were sent before or are under way right now.
    const someEvents = () =>
      Array.from({ length: 1 + chance(20) }, () => {
        const event = eventNumber(next > 0 && chance(3) === 0 ? Math.max(0, next - 1 - chance(200)) : next++)
        sent.set(keyOf(event), event)
        return event
      })
    const untilLost = async (body: (connection: Connection) => Promise<void>, port: number) => {
      try {
        const connection = await connect(port)
        while (true) await body(connection)
      } catch (error) {
        if (!(error instanceof ConnectionLost)) throw error
      }
    }
    const follow = async (url: string) => {
      try {
        while (true) {
          const { events } = await eventsAfter(url, followed.at(-1)?.offset ?? 0)
          followed.push(...events)
        }
      } catch (error) {
        // What `fetch` says when the connection is lost.
        if (!(error instanceof TypeError)) throw error
      }
    }

    for (let round = 0; round < rounds; round++) {
      // Now and then it is killed before it has come up: in the middle of its recovery.
      if (round % 2 === 1) {
        const early = launch({ database })
        setTimeout(() => early.kill("SIGKILL"), chance(1000))
        await early.ended
      }

      const service = await serve({ database })
      expect(service.startMilliseconds).toBeLessThan(restartMillisecondsMax)
      let answersLeft = 50 + chance(300)
      const publisher = async (connection: Connection) => {
        const events = someEvents()
        const { status, body } = await connection.request(publishBytes(events))
        expect(status, context).toBe(202)
        note(events, JSON.parse(body) as PublishAnswer)
        if (--answersLeft === 0) setTimeout(() => service.kill("SIGKILL"), chance(20))
      }
      await Promise.all([
        follow(service.url),
        ...Array.from({ length: 16 }, () => untilLost(publisher, service.port))
      ])
      expect((await service.ended).signal, context).toBe("SIGKILL")
    }

    const service = await serve({ database })
    const survived = await allEvents(service.url)
    const offsets = new Map(survived.map((event) => [keyOf(event), event.offset]))
    expect(offsets.size, context).toBe(survived.length)
    expect(
      [...answered].filter(([key, offset]) => offsets.get(key) !== offset),
      context
    ).toEqual([])
    expect(survived.slice(0, followed.length), context).toEqual(followed)

    // Publishers that retry: everything is sent once more.
    for (const batch of inBatches([...sent.values()], 500)) note(batch, await publish(service.url, batch))
    const all = await allEvents(service.url)
    expect(all.slice(0, survived.length), context).toEqual(survived)
    expect(
      all.every(({ offset }, index) => index === 0 || offset > (all[index - 1]?.offset ?? 0)),
      context
    ).toBe(true)
    expect(new Set(all.map(keyOf)), context).toEqual(new Set(sent.keys()))
    const contents = all.map(({ topic, event_id, timestamp, source, payload }) => ({
      topic,
      event_id,
      timestamp,
      source,
      payload
    }))
    expect(contents, context).toEqual(all.map((event) => sent.get(keyOf(event))))
    const books = await stats(service.url)
    expect(books.unique_processed, context).toBe(sent.size)
    expect(books.received, context).toBe(books.unique_processed + books.duplicate_dropped)
    expect(books.received, context).toBeGreaterThanOrEqual(answeredDeliveries)
    expect(await topicTotals(service.url), context).toEqual({
      events: books.unique_processed,
      duplicates: books.duplicate_dropped
    })
  })
})
