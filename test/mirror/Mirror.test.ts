/**
 * Mirrors between real services: whatever is where before, in the end all have the same events, once each, with every
 * digit and the id of the store that first took them (G9); and nothing is sent that does not need to be.
 */
import { Cause, Exit } from "effect"
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import type { Event } from "../../src/domain/Event.ts"
import { get } from "../http/client.ts"
import { anyEvent, expectedOf, keyOf, makeEvent } from "../support/events.ts"
import type { RunningServer } from "../support/server.ts"
import {
  booksOf,
  contentsOf,
  eventOf,
  eventsOf,
  heldBy,
  mirrorOnce,
  nothingKept,
  publishAll,
  startMirror,
  storeIdOf,
  untilHeld,
  untilKept,
  whileMirroring,
  withServers
} from "./mirroring.ts"

/** Each of these with the next one, and the last with the first. */
const ringOf = (servers: ReadonlyArray<RunningServer>) =>
  servers.map((from, index) => ({ from, to: servers[(index + 1) % servers.length] as RunningServer }))

/** Mirrors around a ring while something else is done, until all there is has been sent around. */
const aroundRing = async (
  servers: ReadonlyArray<RunningServer>,
  meanwhile: () => Promise<void>
): Promise<ReadonlyArray<string>> => {
  const mirrors = ringOf(servers).map(({ from, to }) => {
    const kept = nothingKept()
    return { from, kept, ...startMirror({ from: from.url, to: to.url, pageEventsMax: 7 }, kept) }
  })
  await whileMirroring(mirrors, meanwhile())
  for (const { kept, from } of mirrors) await whileMirroring(mirrors, untilKept(kept, from))
  await Promise.all(mirrors.map(({ kill }) => kill()))
  return mirrors.flatMap(({ logs }) => logs)
}

const exactPayloads = [
  "12345678901234567890",
  "1e400",
  "-0",
  "0.10000000000000000000001",
  '{"2":1,"1":2,"__proto__":3}',
  '{"a":1,"a":2}',
  '"\\ud800"',
  '"\\u0041,\\"origin\\":\\"x\\"}"',
  "[1.0,10e-1,[[[]]]]",
  "null",
  '{"payload":{"events":[{"payload":1}]}}'
]

describe("one way", () => {
  it("copies each event with every digit, in order, with the store that it came from", async () => {
    await withServers(2, async (from, to) => {
      const events = exactPayloads.map((payload, n) => ({
        ...eventOf("exact", n, payload),
        timestamp: `2026-11-22T10:00:0${n % 10}.${"0".repeat(n % 8)}1+02:00`,
        sequence: n % 2 === 0 ? n : null
      }))
      await publishAll(from, [...events, ...eventsOf("many", 60)])
      const kept = nothingKept()
      const counts = await mirrorOnce(from, to, kept, { pageEventsMax: 9 })
      expect(counts).toEqual({
        read: 71,
        sent: 71,
        stored: 71,
        duplicates: 0,
        conflicts: 0,
        skipped: 0,
        refused: 0
      })
      const origin = await storeIdOf(from)
      expect(await heldBy(to)).toEqual((await heldBy(from)).map((held) => ({ ...held, origin })))
      // The cursor is kept: nothing is read again. Without it all of it is, and all of it is known.
      expect(await mirrorOnce(from, to, kept)).toMatchObject({ read: 0, sent: 0 })
      expect(await mirrorOnce(from, to)).toMatchObject({ read: 71, sent: 71, stored: 0, duplicates: 71 })
      expect(await booksOf(to)).toMatchObject({ received: 142, unique: 71, conflicts: 0 })
    })
  })

  it("copies any event there can be", async () => {
    await withServers(2, async (from, to) => {
      const property = fc.asyncProperty(
        fc.array(anyEvent, { minLength: 1, maxLength: 30 }),
        async (events) => {
          await publishAll(from, events)
          await mirrorOnce(from, to, kept)
          expect(await contentsOf(to)).toEqual(await contentsOf(from))
        }
      )
      const kept = nothingKept()
      await fc.assert(property, { numRuns: 15 })
    })
  })

  it("goes on with what comes, and keeps the origin that an event has already", async () => {
    await withServers(2, async (from, to) => {
      const kept = nothingKept()
      const mirror = startMirror({ from: from.url, to: to.url }, kept)
      for (let n = 0; n < 5; n++) {
        await publishAll(from, [{ ...eventOf("a", n), origin: n % 2 === 0 ? "elsewhere" : null }])
        await whileMirroring([mirror], untilHeld([to], n + 1))
      }
      const own = await storeIdOf(from)
      expect((await heldBy(to)).map(({ origin }) => origin)).toEqual([
        "elsewhere",
        own,
        "elsewhere",
        own,
        "elsewhere"
      ])
      await mirror.kill()
      expect(await booksOf(to)).toMatchObject({ received: 5, unique: 5 })
      expect(mirror.logs[0]).toMatch(/^INFO mirroring after=0 from_store=/)
      expect(mirror.logs.at(-1)).toMatch(/^INFO stopped: 5 read, 5 sent, 5 stored, 0 /)
    })
  })

  it("holds no more than two pages, however slow the other is", async () => {
    await withServers(2, async (from, to) => {
      await publishAll(from, eventsOf("a", 100))
      to.database.hold()
      const pages: Array<string> = []
      const mirror = startMirror(
        { from: from.url, to: to.url, pageEventsMax: 10 },
        undefined,
        (request, send) => {
          if (request.url.includes("/events")) pages.push(request.url)
          return send(request)
        }
      )
      while (to.database.held === 0) await new Promise((resolve) => setImmediate(resolve))
      // What else it would read it would read while others are served again and again.
      for (let turn = 0; turn < 50; turn++) await contentsOf(from)
      expect(pages.map((url) => new URL(url).search)).toEqual(["?after=0&limit=10", "?after=10&limit=10"])
      to.database.release()
      await whileMirroring([mirror], untilHeld([to], 100))
      await mirror.kill()
    })
  })
})

describe("both ways, and in rings", () => {
  it("makes all equal, sending each event to each store once and to its origin never", async () => {
    for (const count of [2, 3]) {
      await withServers(count, async (...servers) => {
        for (const [index, server] of servers.entries())
          await publishAll(server, eventsOf(`before-${index}`, 15))
        await aroundRing(servers, async () => {
          for (const [index, server] of servers.entries()) {
            for (const event of eventsOf(`during-${index}`, 5)) await publishAll(server, [event])
          }
          await untilHeld(servers, 20 * count)
        })
        for (const { from, to } of ringOf(servers))
          expect(await contentsOf(from)).toEqual(await contentsOf(to))
        for (const server of servers) {
          expect(await booksOf(server)).toEqual({
            received: 20 * count,
            unique: 20 * count,
            duplicates: 0,
            conflicts: 0
          })
        }
      })
    }
  })

  it("makes any two sets equal where no key is used with two contents", async () => {
    await withServers(2, async (left, right) => {
      const cursors = [nothingKept(), nothingKept()]
      const one = fc.array(fc.tuple(anyEvent, fc.constantFrom("left", "right", "both")), { maxLength: 20 })
      const property = fc.asyncProperty(one, async (events) => {
        const unique = events.filter(([event], index) => {
          const first = events.findIndex(([other]) => keyOf(other) === keyOf(event))
          return first === index
        })
        const at = (...sides: ReadonlyArray<string>) =>
          unique.flatMap(([event, side]) => (sides.includes(side) ? [{ ...event, origin: null }] : []))
        await publishAll(left, at("left", "both"))
        await publishAll(right, at("right", "both"))
        await Promise.all([mirrorOnce(left, right, cursors[0]), mirrorOnce(right, left, cursors[1])])
        expect(await contentsOf(left)).toEqual(await contentsOf(right))
      })
      await fc.assert(property, { numRuns: 12 })
    })
  })

  it("leaves each store its own where a key was used with two contents, and lists the conflict", async () => {
    await withServers(3, async (...servers) => {
      const content = (n: number): Event => makeEvent({ eventId: "key", payload: `{"from":${n}}` })
      for (const [index, server] of servers.entries()) {
        await publishAll(server, [content(index % 2), eventOf("a", index)])
      }
      const logs = await aroundRing(servers, () => untilHeld(servers, 4))
      const conflictsOf = async (server: RunningServer) =>
        (
          JSON.parse((await get(server, "/conflicts")).text) as {
            readonly conflicts: ReadonlyArray<{ readonly event_id: string }>
          }
        ).conflicts.map(({ event_id }) => event_id)
      for (const [index, { from, to }] of ringOf(servers).entries()) {
        const held = (await heldBy(from)).find(({ key }) => key.endsWith("/key"))
        expect(held?.content).toContain(`{"from":${index % 2}}`)
        if (index < 2) expect(await conflictsOf(to)).toEqual(["key"])
      }
      expect(logs.filter((line) => line.startsWith("WARN"))).toEqual(
        Array.from({ length: 2 }, () =>
          expect.stringMatching(/^WARN conflicts: .* count=1 keys=system\.metrics\.cpu\/key$/)
        )
      )
    })
  })

  it("agrees with the plain rule: whoever has a key first keeps it", async () => {
    await withServers(2, async (from, to) => {
      const mine = [eventOf("a", 1, '"x"'), eventOf("a", 2)]
      const theirs = [eventOf("a", 1, '"y"'), eventOf("a", 3)]
      await publishAll(to, mine)
      await publishAll(from, theirs)
      const { stored, conflicts } = expectedOf([mine, theirs])
      expect(await mirrorOnce(from, to)).toMatchObject({ stored: 1, conflicts })
      expect((await heldBy(to)).map(({ key }) => key)).toEqual(stored.map(keyOf))
    })
  })
})

describe("it refuses", () => {
  it("a store as its own mirror, also under another name", async () => {
    await withServers(1, async (server) => {
      const id = await storeIdOf(server)
      const other = server.url.replace("127.0.0.1", "localhost")
      for (const to of [server.url, other]) {
        const exit = await startMirror({ from: server.url, to }).ended
        expect(String(Exit.isFailure(exit) && Cause.squash(exit.cause))).toContain(`the same store (${id})`)
      }
    })
  })

  it.each([
    [{ from: "ftp://a", to: "http://b" }, "from must be an address"],
    [{ from: "http://a", to: "b" }, "to must be an address"],
    [{ from: "http://a", to: "http://b?x" }, "to must have neither"],
    [{ from: "http://a", to: "http://b", pageEventsMax: 0 }, "pageEventsMax must be"],
    [{ from: "http://a", to: "http://b", pageEventsMax: 1001 }, "pageEventsMax must be"],
    [{ from: "http://a", to: "http://b", pollMillisMax: Number.NaN }, "pollMillisMax must be"],
    [{ from: "http://a", to: "http://b", requestSecondsMax: -1 }, "requestSecondsMax must be"]
  ])("wrong options: %j", async (options, sentence) => {
    const exit = await startMirror(options).ended
    expect(String(Exit.isFailure(exit) && Cause.squash(exit.cause))).toContain(sentence)
  })
})
