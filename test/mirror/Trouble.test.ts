/**
 * Mirrors in trouble: killed at every one of their requests, with the cursor that they kept, an older one or none; and
 * services that are down, cut off, or refuse. In the end nothing is missing anywhere (G9).
 */
import { Cause, Effect, Exit } from "effect"
import { describe, expect, it } from "vitest"
import { get } from "../http/client.ts"
import { makeEvent } from "../support/events.ts"
import { type RunningProxy, scripted, seeded, startProxy } from "../support/proxy.ts"
import { type RunningServer, startServer, withFolder } from "../support/server.ts"
import {
  type Between,
  booksOf,
  contentsOf,
  eventOf,
  eventsOf,
  heldBy,
  type Kept,
  mirrorOnce,
  nothingKept,
  offsetIn,
  publishAll,
  startAgain,
  startMirror,
  untilHeld,
  untilKept,
  whileMirroring,
  withServers
} from "./mirroring.ts"

const withProxies = async <A>(
  servers: ReadonlyArray<RunningServer>,
  use: (...proxies: ReadonlyArray<RunningProxy>) => Promise<A>
): Promise<A> => {
  const proxies = await Promise.all(servers.map((server) => startProxy(() => server, scripted())))
  try {
    return await use(...proxies)
  } finally {
    await Promise.all(proxies.map((proxy) => proxy.close()))
  }
}

/** Lets a number of requests pass; the next one hangs, before it is sent or when it was answered. */
const hangingAt = (number: number, moment: "unsent" | "answered") => {
  let requests = 0
  let reached = () => {}
  const hanging = new Promise<void>((resolve) => {
    reached = resolve
  })
  const hang = Effect.zipRight(
    Effect.sync(() => reached()),
    Effect.never
  )
  const between: Between = (request, send) => {
    if (requests++ < number) return send(request)
    return moment === "unsent" ? hang : Effect.zipRight(send(request), hang)
  }
  return { between, hanging }
}

describe("a mirror that is killed", () => {
  it.each(["kept", "older", "lost"] as const)(
    "at any of its requests leaves nothing out, with its cursor %s",
    async (cursor) => {
      await withServers(2, async (from, to) => {
        let kept = nothingKept()
        for (let [number, done] = [0, false]; !done; number++) {
          for (const moment of ["unsent", "answered"] as const) {
            await publishAll(from, eventsOf(`e-${number}-${moment}`, 7))
            const { between, hanging } = hangingAt(number, moment)
            const options = { from: from.url, to: to.url, once: true, pageEventsMax: 3 }
            const mirror = startMirror(options, kept, between)
            const isHanging = await Promise.race([hanging.then(() => true), mirror.ended.then(() => false)])
            done ||= !isHanging
            await mirror.kill()
            if (cursor === "older") kept.text = kept.history.at(-3)
            if (cursor === "lost") kept = nothingKept()
            await mirrorOnce(from, to, kept)
            expect(await contentsOf(to)).toEqual(await contentsOf(from))
          }
        }
        expect(await booksOf(from)).toMatchObject({ duplicates: 0 })
      })
    }
  )

  it("at any moment, both ways and with publishers, leaves nothing out", async () => {
    await withServers(2, async (left, right) => {
      const ways = [
        { from: left, to: right, kept: nothingKept() },
        { from: right, to: left, kept: nothingKept() }
      ]
      for (let round = 0; round < 12; round++) {
        const mirrors = ways.map(({ from, to, kept }, index) => {
          const { between, hanging } = hangingAt(
            (round * (index + 2)) % 17,
            round % 2 === 0 ? "unsent" : "answered"
          )
          return { hanging, ...startMirror({ from: from.url, to: to.url, pageEventsMax: 4 }, kept, between) }
        })
        for (let n = 0; n < 3; n++) {
          await publishAll(left, eventsOf(`left-${round}-${n}`, 5))
          await publishAll(right, eventsOf(`right-${round}-${n}`, 5))
        }
        for (const { hanging, kill } of mirrors) {
          await hanging
          await kill()
        }
        const [one] = ways
        if (one !== undefined && round % 3 === 2) one.kept.text = one.kept.history.at(-4)
      }
      for (const { from, to, kept } of ways) await mirrorOnce(from, to, kept)
      expect(await contentsOf(left)).toEqual(await contentsOf(right))
      expect(await booksOf(left)).toMatchObject({ unique: 12 * 30, conflicts: 0 })
    })
  })
})

describe("the cursor", () => {
  it("is not kept before all up to it is acknowledged", async () => {
    await withServers(2, async (from, to) => {
      const kept = nothingKept()
      await publishAll(from, eventsOf("a", 6))
      await mirrorOnce(from, to, kept)
      await publishAll(from, eventsOf("b", 6))
      to.database.hold()
      const mirror = startMirror({ from: from.url, to: to.url, pageEventsMax: 3 }, kept)
      while (to.database.held === 0) await new Promise((resolve) => setImmediate(resolve))
      for (let turn = 0; turn < 20; turn++) await contentsOf(from)
      expect(offsetIn(kept)).toBe(6)
      to.database.release()
      await whileMirroring([mirror], untilKept(kept, from))
      await mirror.kill()
      expect(kept.history.map((text) => offsetIn({ text, history: [] }))).toEqual(
        kept.history.map((text) => offsetIn({ text, history: [] })).toSorted((left, right) => left - right)
      )
    })
  })

  it("that cannot be kept is told once, and the mirror goes on", async () => {
    await withServers(2, async (from, to) => {
      const kept: Kept = {
        get text(): undefined {
          return undefined
        },
        set text(_text) {
          throw new Error("a full disk")
        },
        history: []
      }
      const mirror = startMirror({ from: from.url, to: to.url }, kept)
      const complaints = () => mirror.logs.filter((line) => line.includes("a full disk"))
      await publishAll(from, [eventOf("a", 0)])
      while (complaints().length === 0) await booksOf(from)
      await publishAll(from, [eventOf("a", 1)])
      await whileMirroring([mirror], untilHeld([to], 2))
      await mirror.kill()
      expect(complaints().length).toBe(1)
    })
  })

  it("that is no cursor is an error, and stays as it is", async () => {
    await withServers(2, async (from, to) => {
      for (const text of ["", "notes", '{"from":"a","to":"b"}', '{"from":"a","to":"b","after":-1}']) {
        const kept: Kept = { text, history: [] }
        const exit = await startMirror({ from: from.url, to: to.url }, kept).ended
        expect(String(Exit.isFailure(exit) && Cause.squash(exit.cause))).toContain("CursorTrouble")
        expect(kept).toEqual({ text, history: [] })
      }
    })
  })
})

describe("a service that is down", () => {
  it.each(["from", "to"] as const)("is waited for, at the start and later: --%s", async (side) => {
    await withFolder(async (folder) => {
      await withServers(1, async (other) => {
        let server = await startServer({ folder })
        const [from, to] = side === "from" ? [server, other] : [other, server]
        await publishAll(from, eventsOf("a", 5))
        await server.stop()
        const kept = nothingKept()
        const mirror = startMirror({ from: from.url, to: to.url }, kept)
        const toldOf = async (what: string, times: number) => {
          while (mirror.logs.filter((line) => line.includes(what)).length < times) await booksOf(other)
        }
        for (const round of [1, 2]) {
          await toldOf("no answer", round)
          expect(mirror.logs.at(-1)).toContain(`${side}=${server.url} trouble=`)
          if (side === "to") await publishAll(other, [eventOf("b", round)])
          server = await startAgain(server, folder)
          await toldOf("answers again", round)
          if (side === "from") await publishAll(server, [eventOf("b", round)])
          await whileMirroring([mirror], untilHeld([side === "from" ? other : server], 5 + round))
          await server.stop()
        }
        server = await startAgain(server, folder)
        await mirror.kill()
        expect(await contentsOf(server)).toEqual(await contentsOf(other))
        expect(mirror.logs.filter((line) => line.startsWith("WARN")).length).toBeLessThanOrEqual(3)
      })
    })
  })
})

describe("a bad network", () => {
  it.each([1, 2, 3])("loses no event and leaves nothing twice (seed %i)", async (seed) => {
    await withServers(2, async (left, right) => {
      await withProxies([left, right], async (toLeft, toRight) => {
        const rates = {
          refuse: 0.1,
          "cut-request": 0.1,
          "cut-answer": 0.1,
          "half-close-client": 0.05,
          "half-close-server": 0.05,
          "swallow-answer": 0.1,
          "swallow-silently": 0.02,
          delay: 0.1
        }
        for (const proxy of [toLeft, toRight]) proxy.follow(seeded(seed, rates))
        await publishAll(left, eventsOf("left", 40))
        await publishAll(right, eventsOf("right", 40))
        const patience = { requestSecondsMax: 0.5, pageEventsMax: 5 }
        const mirrors = [
          startMirror({ from: toLeft.url, to: toRight.url, ...patience }),
          startMirror({ from: toRight.url, to: toLeft.url, ...patience })
        ]
        for (let n = 0; n < 10; n++) {
          await publishAll(left, [eventOf("left", 40 + n)])
          await publishAll(right, [eventOf("right", 40 + n)])
        }
        await whileMirroring(mirrors, untilHeld([left, right], 100))
        await Promise.all(mirrors.map(({ kill }) => kill()))
        expect(await contentsOf(left)).toEqual(await contentsOf(right))
        expect(await booksOf(left)).toMatchObject({ unique: 100, conflicts: 0 })
        const struck = [toLeft, toRight].flatMap((proxy) => Object.entries(proxy.struck))
        expect(struck.filter(([kind, times]) => kind !== "pass" && times > 0).length).toBeGreaterThan(5)
      })
    })
  })

  it("that is too slow for a whole page is asked for smaller ones", async () => {
    await withServers(2, async (from, to) => {
      await publishAll(from, eventsOf("a", 40))
      const asked: Array<number> = []
      const slow: Between = (request, send) => {
        const limit = Number(new URL(request.url).searchParams.get("limit"))
        if (limit > 0) asked.push(limit)
        return limit > 6 ? Effect.never : send(request)
      }
      const options = { from: from.url, to: to.url, once: true, pageEventsMax: 20, requestSecondsMax: 0.5 }
      const exit = await startMirror(options, undefined, slow).ended
      expect(Exit.isSuccess(exit)).toBe(true)
      expect(await contentsOf(to)).toEqual(await contentsOf(from))
      expect(asked.slice(0, 3)).toEqual([20, 10, 5])
      expect(Math.max(...asked.slice(3))).toBeGreaterThan(5)
    })
  })

  it("in which the answer to a batch is swallowed makes duplicates, and no harm", async () => {
    await withServers(2, async (from, to) => {
      await withProxies([to], async (proxy) => {
        await publishAll(from, eventsOf("a", 10))
        // The first exchange asks for the id of the store.
        proxy.follow(scripted({ kind: "pass" }, { kind: "swallow-answer" }))
        const counts = await mirrorOnce(from, proxy)
        expect(counts).toMatchObject({ sent: 10, stored: 0, duplicates: 10 })
        expect(await booksOf(to)).toEqual({ received: 20, unique: 10, duplicates: 10, conflicts: 0 })
      })
    })
  })

  it("that is cut in two and healed again: the one aggregator misses evt-002, then has it, once", async () => {
    await withServers(2, async (left, right) => {
      await withProxies([left, right], async (toLeft, toRight) => {
        const mirrors = [
          startMirror({ from: left.url, to: toRight.url }),
          startMirror({ from: right.url, to: toLeft.url })
        ]
        const evt = (id: string) => makeEvent({ eventId: id, payload: `{"id":"${id}"}` })
        const keysOf = async (server: RunningServer) => (await heldBy(server)).map(({ key }) => key.slice(-7))
        await publishAll(left, [evt("evt-001")])
        await whileMirroring(mirrors, untilHeld([left, right], 1))

        for (const proxy of [toLeft, toRight]) proxy.follow(() => ({ kind: "refuse" }))
        await publishAll(left, [evt("evt-002")])
        await publishAll(right, [evt("evt-003")])
        for (const mirror of mirrors) {
          while (!mirror.logs.some((line) => line.includes("no answer"))) await booksOf(left)
        }
        expect(await keysOf(left)).toEqual(["evt-001", "evt-002"])
        expect(await keysOf(right)).toEqual(["evt-001", "evt-003"])

        for (const proxy of [toLeft, toRight]) proxy.follow(scripted())
        await whileMirroring(mirrors, untilHeld([left, right], 3))
        await Promise.all(mirrors.map(({ kill }) => kill()))
        expect(await contentsOf(left)).toEqual(await contentsOf(right))
        for (const server of [left, right]) {
          expect(await booksOf(server)).toEqual({ received: 3, unique: 3, duplicates: 0, conflicts: 0 })
        }
      })
    })
  })
})

describe("an event that is refused", () => {
  it("ends the mirror, which leaves nothing out once the event is taken", async () => {
    await withFolder(async (folder) => {
      await withServers(1, async (from) => {
        let to = await startServer({ folder, settings: { eventBytesMax: 1024 } })
        const big = { ...eventOf("big", 1), payload: JSON.stringify("x".repeat(2000)) }
        await publishAll(from, [...eventsOf("a", 10), big, ...eventsOf("b", 10)])
        const kept = nothingKept()
        const mirror = startMirror({ from: from.url, to: to.url, pageEventsMax: 4 }, kept)
        const exit = await mirror.ended
        const sentence = String(Exit.isFailure(exit) && Cause.squash(exit.cause))
        expect(sentence).toContain(`${to.url} does not take the event topic-1/big-1 (offset 11). `)
        expect(sentence).toContain("(413)")
        expect(offsetIn(kept)).toBeLessThan(11)
        // It comes to the same end however often it is tried.
        expect(
          Exit.isFailure(await startMirror({ from: from.url, to: to.url, once: true }, kept).ended)
        ).toBe(true)

        await to.stop()
        to = await startAgain(to, folder, { eventBytesMax: 65_536 })
        await mirrorOnce(from, to, kept)
        expect(await contentsOf(to)).toEqual(await contentsOf(from))
        await to.stop()
      })
    })
  })

  it("or a question ends it as well", async () => {
    await withServers(2, async (from, to) => {
      const wrong = `${from.url}/nowhere`
      const exit = await startMirror({ from: wrong, to: to.url }).ended
      const sentence = String(Exit.isFailure(exit) && Cause.squash(exit.cause))
      expect(sentence).toContain(`${wrong} refuses GET /stats (404)`)
      expect((await get(to, "/events")).text).toContain('"count":0')
    })
  })
})
