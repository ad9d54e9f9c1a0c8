/**
 * Addresses that come to lead to other stores: replaced, put back as an older copy, restored from a backup, at any moment
 * of a mirror, and back again. Whoever is there in the end has all that the other one has (G9), and each event says the
 * store that it came from.
 */
import { copyFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { HttpClientRequest } from "@effect/platform"
import { Exit } from "effect"
import { describe, expect, it } from "vitest"
import { type RunningServer, startServer, withFolder } from "../support/server.ts"
import {
  type Between,
  booksOf,
  contentsOf,
  eventsOf,
  heldBy,
  type Kept,
  mirrorOnce,
  nothingKept,
  publishAll,
  startAgain,
  startMirror,
  storeIdOf,
  untilHeld,
  untilKept,
  whileMirroring,
  withServers
} from "./mirroring.ts"

/** From the request of this number on, the other service stands where the one was. */
const exchangedAt = (number: number, [one, other]: readonly [RunningServer, RunningServer]) => {
  let requests = 0
  const between: Between = (request, send) => {
    const url = requests++ < number ? request.url : request.url.replace(one.url, other.url)
    return send(HttpClientRequest.setUrl(request, url))
  }
  return { between, isOver: () => requests <= number }
}

const copyOf = ({ text }: Kept): Kept => ({ text, history: [] })

const expectHas = async (server: RunningServer, contents: ReadonlyArray<string>) => {
  const held = new Set(await contentsOf(server))
  expect(contents.filter((content) => !held.has(content))).toEqual([])
}

/** That each event that a store has from others says rightly which of these it came from. */
const expectOrigins = async (server: RunningServer, sources: Readonly<Record<string, RunningServer>>) => {
  const ids: Record<string, string> = {}
  for (const [name, source] of Object.entries(sources)) ids[name] = await storeIdOf(source)
  for (const { key, origin } of await heldBy(server)) {
    const [, name = ""] = /\/(\w+)-/.exec(key) ?? []
    expect([key, origin]).toEqual([key, ids[name]])
  }
}

describe("another store where the events go to", () => {
  it("gets all of them, whenever it comes", async () => {
    await withServers(3, async (from, to, other) => {
      let cursor = nothingKept()
      for (let [number, isOver] = [0, false]; !isOver; number++) {
        await publishAll(from, eventsOf(`from-${number}`, 3))
        const exchange = exchangedAt(number, [to, other])
        const kept = copyOf(cursor)
        const options = { from: from.url, to: to.url, once: true, pageEventsMax: 2 }
        const exit = await startMirror(options, kept, exchange.between).ended
        expect(Exit.isSuccess(exit)).toBe(true)
        isOver = exchange.isOver()
        // Started again, it finds the other one there, or the first one, with the same cursor.
        await mirrorOnce(from, other, copyOf(kept))
        expect(await contentsOf(other)).toEqual(await contentsOf(from))
        await mirrorOnce(from, to, kept)
        expect(await contentsOf(to)).toEqual(await contentsOf(from))
        cursor = kept
      }
      await expectOrigins(other, { from })
    })
  })
})

describe("another store where the events come from", () => {
  it("is copied as well, whenever it comes, and each event says where it came from", async () => {
    await withServers(3, async (from, other, to) => {
      let cursor = nothingKept()
      for (let [number, isOver] = [0, false]; !isOver; number++) {
        await publishAll(from, eventsOf(`from-${number}`, 3))
        await publishAll(other, eventsOf(`other-${number}`, 3))
        const kept = copyOf(cursor)
        const exchange = exchangedAt(number, [from, other])
        const options = { from: from.url, to: to.url, once: true, pageEventsMax: 2 }
        const exit = await startMirror(options, kept, exchange.between).ended
        expect(Exit.isSuccess(exit)).toBe(true)
        isOver = exchange.isOver()
        await mirrorOnce(other, to, copyOf(kept))
        await expectHas(to, await contentsOf(other))
        // And where the first one comes back.
        await mirrorOnce(from, to, kept)
        await expectHas(to, await contentsOf(from))
        await expectOrigins(to, { from, other })
        cursor = kept
      }
    })
  })
})

describe("a store that is found to be another one while nothing happens", () => {
  it.each(["to", "from"] as const)("is noticed, and its events are copied: --%s", async (side) => {
    await withFolder(async (folder) => {
      await withServers(1, async (other) => {
        const first = await startServer({ folder: join(folder, "first") })
        const [from, to] = side === "from" ? [first, other] : [other, first]
        const kept = nothingKept()
        await publishAll(from, eventsOf("a", 20))
        const mirror = startMirror({ from: from.url, to: to.url }, kept)
        await whileMirroring([mirror], untilHeld([to], 20))
        await whileMirroring([mirror], untilKept(kept, from))
        const was = await storeIdOf(first)
        // As many events as the first one has, and there before anybody asks: nothing is new behind the mirror's cursor.
        const made = await startServer({ folder: join(folder, "second") })
        if (side === "from") await publishAll(made, eventsOf("b", 20))
        await made.stop()
        await first.stop()
        const second = await startAgain(first, join(folder, "second"))
        await whileMirroring(
          [mirror],
          untilHeld(side === "from" ? [other] : [second], side === "from" ? 40 : 20)
        )
        await whileMirroring([mirror], untilKept(kept, side === "from" ? second : other))
        await mirror.kill()
        const is = await storeIdOf(second)
        expect(mirror.logs).toContain(
          `WARN another store is there than before is=${is} side=${side} was=${was}`
        )
        await expectHas(side === "from" ? other : second, await contentsOf(side === "from" ? second : other))
        await second.stop()
      })
    })
  })
})

describe("a store that was put back as an older copy of itself", () => {
  it("is read from its start again, and none of its new events is missed", async () => {
    await withFolder(async (folder) => {
      await withServers(1, async (to) => {
        const file = join(folder, "sekali.db")
        let from = await startServer({ folder })
        await publishAll(from, eventsOf("a", 10))
        await from.stop()
        copyFileSync(file, join(folder, "copy.db"))
        from = await startAgain(from, folder)
        await publishAll(from, eventsOf("lost", 10))
        const kept = nothingKept()
        await mirrorOnce(from, to, kept)
        await from.stop()
        for (const suffix of ["-wal", "-shm"]) rmSync(file + suffix, { force: true })
        copyFileSync(join(folder, "copy.db"), file)
        from = await startAgain(from, folder)

        await publishAll(from, eventsOf("b", 5))
        const mirror = startMirror({ from: from.url, to: to.url, once: true }, kept)
        expect(Exit.isSuccess(await mirror.ended)).toBe(true)
        expect(mirror.logs.join("\n")).toContain(
          "WARN the cursor is not known there; reading again from the start"
        )
        // What was read from the start is kept at once: by now it would be a cursor of the new events.
        expect(kept.history.map((text) => (JSON.parse(text) as { after: number }).after)).toEqual([20, 0, 15])
        await publishAll(from, eventsOf("c", 10))
        await mirrorOnce(from, to, kept)
        await expectHas(to, await contentsOf(from))
        expect(await booksOf(to)).toMatchObject({ unique: 35, conflicts: 0 })
        await from.stop()
      })
    })
  })
})

describe("a store that is restored from a backup", () => {
  it.each(["while the mirrors run", "while they do not"])(
    "gets back from its peer what it lost, %s",
    async (when) => {
      await withFolder(async (folder) => {
        await withServers(1, async (peer) => {
          const file = join(folder, "sekali.db")
          let store = await startServer({ folder })
          const ways = () =>
            [
              { from: store, to: peer, kept: cursors[0] },
              { from: peer, to: store, kept: cursors[1] }
            ] as const
          const cursors = [nothingKept(), nothingKept()] as const
          const startAll = () =>
            ways().map(({ from, to, kept }) =>
              startMirror({ from: from.url, to: to.url, pageEventsMax: 7 }, kept)
            )
          let mirrors = startAll()
          const untilEqual = async (count: number) => {
            await whileMirroring(mirrors, untilHeld([store, peer], count))
            for (const { from, kept } of ways()) await whileMirroring(mirrors, untilKept(kept, from))
            expect(await contentsOf(store)).toEqual(await contentsOf(peer))
          }
          const killAll = () => Promise.all(mirrors.map(({ kill }) => kill()))

          await publishAll(store, eventsOf("before", 20))
          await publishAll(peer, eventsOf("peer", 20))
          await untilEqual(40)
          const backup = Buffer.from(await (await fetch(`${store.url}/backup`)).arrayBuffer())
          await publishAll(store, eventsOf("lost", 20))
          await publishAll(peer, eventsOf("late", 20))
          await untilEqual(80)
          const was = await storeIdOf(store)

          if (when === "while they do not") await killAll()
          await store.stop()
          for (const suffix of ["-wal", "-shm"]) rmSync(file + suffix, { force: true })
          writeFileSync(file, backup)
          store = await startAgain(store, folder)
          expect(await storeIdOf(store)).not.toBe(was)
          if (when === "while they do not") mirrors = startAll()
          await publishAll(store, eventsOf("after", 20))
          await untilEqual(100)
          await killAll()

          for (const server of [store, peer])
            expect(await booksOf(server)).toMatchObject({ unique: 100, conflicts: 0 })
          const lost = (await heldBy(store)).filter(({ key }) => key.includes("/lost-"))
          expect(lost.map(({ origin }) => origin)).toEqual(Array.from({ length: 20 }, () => was))
        })
      })
    }
  )
})
