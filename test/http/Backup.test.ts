/**
 * `GET /backup` over real sockets: what is fetched while publishing goes on is whole, clients that go away and disks
 * that are full do no harm, and a backup that is put into service goes on where no reader can be misled.
 */
import { spawnSync } from "node:child_process"
import { subscribe, unsubscribe } from "node:diagnostics_channel"
import { once } from "node:events"
import { copyFileSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { type IncomingMessage, request } from "node:http"
import { connect, type Socket } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { NodeStream } from "@effect/platform-node"
import { Effect, Exit } from "effect"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { checkAtRest } from "../../src/node/AtRest.ts"
import { receive } from "../../src/node/BackupFiles.ts"
import { makeEvents } from "../support/events.ts"
import { DatabaseHand, listen, type RunningServer, until, withFolder, withServer } from "../support/server.ts"
import { openStoreAt } from "../support/stores.ts"
import { call, event, get, problem, publish, stats } from "./client.ts"

const mebibyte = 1024 * 1024

/** Asks for a backup; the answer has begun when this returns, and is read by who wants it. */
const ask = ({ host, port }: RunningServer): Promise<IncomingMessage> =>
  new Promise((resolve, reject) => {
    request({ host, port, path: "/backup" }, resolve).on("error", reject).end()
  })

/** Fetches a backup into a file. */
const fetchBackup = async (server: RunningServer, file: string) => {
  const answer = await ask(server)
  expect(answer.statusCode).toBe(200)
  const content = NodeStream.fromReadable<Error, Uint8Array>(
    () => answer,
    (cause) => cause as Error
  )
  return { headers: answer.headers, ...(await Effect.runPromise(receive(file, content))) }
}

const checked = async (file: string) => {
  const { sound, findings, figures } = await Effect.runPromise(checkAtRest(file))
  expect(findings.filter((finding) => !finding.sound)).toEqual([])
  if (!sound || figures === undefined) throw new Error("a backup is not sound")
  return figures
}

const namesIn = (folder: string) => readdirSync(folder).sort()

/** A database of about 30 MB, made once: `startLarge` begins with a copy of it. */
let large = ""
let largeFolder = ""
const largeEvents = 3000

beforeAll(async () => {
  largeFolder = mkdtempSync(join(tmpdir(), "sekali-large-"))
  large = join(largeFolder, "large.db")
  const payload = JSON.stringify("x".repeat(10_000))
  const made = Effect.flatMap(openStoreAt(large), (store) =>
    store.append(makeEvents(largeEvents, { payload }))
  )
  await Effect.runPromise(Effect.scoped(made))
})

afterAll(() => rmSync(largeFolder, { recursive: true }))

/** Runs a test against a service with a large database, whose backup takes many turns of the event loop. */
const withLarge = <A>(use: (server: RunningServer, folder: string) => Promise<A>): Promise<A> =>
  withFolder((folder) => {
    copyFileSync(large, join(folder, "sekali.db"))
    return withServer({ folder }, (server) => use(server, folder))
  })

/** Publishes one request after the other until it is stopped, and tells how many were answered. */
const publishing = (server: RunningServer, name: string, size: number) => {
  let answered = 0
  let over = false
  const ended = (async () => {
    for (let n = 0; !over; n++) {
      const events = Array.from({ length: size }, (_, index) =>
        event(`${name}-${n}-${index % Math.max(1, size - 1)}`, {
          topic: `t-${name}-${index % 3}`,
          payload: { n, index }
        })
      )
      await publish(server, events)
      answered++
    }
  })()
  return {
    answered: () => answered,
    stop: async () => {
      over = true
      await ended
    }
  }
}

describe("a backup", () => {
  it("is a file that says whose it is, when it was made, and how long it is", async () => {
    await withFolder(async (folder) => {
      await withServer({}, async (server) => {
        await publish(server, [event("1"), event("2"), event("2")])
        const { store_id } = await stats(server)
        const { headers, storeId, at, bytes } = await fetchBackup(server, join(folder, "backup.db"))
        expect(headers).toMatchObject({
          "content-type": "application/vnd.sqlite3",
          "content-length": String(bytes),
          "cache-control": "no-store"
        })
        expect(storeId).toBe(store_id)
        const time = new Date(at).toISOString().replace(/[-:.]/g, "")
        expect(headers["content-disposition"]).toBe(`attachment; filename="sekali-${store_id}-${time}.db"`)
        expect(await checked(join(folder, "backup.db"))).toMatchObject({
          received: 3,
          backupAt: at,
          epoch: 1
        })
        expect(server.logs).toContainEqual("INFO a backup was made")
        expect(await stats(server)).toMatchObject({ store_id, epoch: 1, received: 3, last_offset: 3 })
        expect(namesIn(join(server.file, ".."))).toEqual(["sekali.db", "sekali.db-wal"])
      })
    })
  })

  it("is not made for who asks for its headers alone", async () => {
    await withServer({}, async (server) => {
      const head = await call(server, "HEAD", "/backup")
      expect([head.status, head.headers["content-type"], head.text]).toEqual([
        200,
        "application/vnd.sqlite3",
        ""
      ])
      expect(server.logs).not.toContainEqual("INFO a backup was made")
    })
  })

  it("that is fetched while publishing goes on is a committed state, not older than its request", async () => {
    await withFolder(async (copies) => {
      await withServer({}, async (server) => {
        await publish(
          server,
          Array.from({ length: 400 }, (_, n) => event(`first-${n}`, { payload: "x".repeat(10_000) }))
        )
        const publishers = [1, 8, 500].map((size) => publishing(server, `p${size}`, size))
        for (let n = 0; n < 5; n++) {
          const before = await stats(server)
          const from = publishers.map(({ answered }) => answered())
          await fetchBackup(server, join(copies, "backup.db"))
          const after = await stats(server)
          const figures = await checked(join(copies, "backup.db"))
          expect(figures.received).toBeGreaterThanOrEqual(before.received)
          expect(figures.received).toBeLessThanOrEqual(after.received)
          // Each of them gets on before the next backup.
          await until(() => publishers.every(({ answered }, index) => answered() > (from[index] ?? 0)))
        }
        for (const publisher of publishers) await publisher.stop()
        const { received, last_offset } = await stats(server)
        await fetchBackup(server, join(copies, "last.db"))
        expect(await checked(join(copies, "last.db"))).toMatchObject({ received, lastOffset: last_offset })
      })
    })
  })

  it("of a large database does not keep publishers waiting until it is made", async () => {
    await withLarge(async (server) => {
      const publisher = publishing(server, "small", 1)
      await until(() => publisher.answered() > 0)
      const before = publisher.answered()
      const answer = await ask(server)
      expect(publisher.answered() - before).toBeGreaterThan(2)
      answer.destroy()
      await publisher.stop()
    })
  })
})

describe("one at a time", () => {
  it("a second one is told to come again, until the first is fetched", async () => {
    await withLarge(async (server) => {
      const first = await ask(server)
      const refused = problem(await get(server, "/backup"), 503, "backup-under-way", "/backup")
      expect(refused).toMatchObject({ retry_after: 5 })
      await publish(server, event("meanwhile"))
      let length = 0
      first.on("data", (chunk: Buffer) => {
        length += chunk.length
      })
      await once(first, "end")
      expect(length).toBe(Number(first.headers["content-length"]))
      await until(async () => {
        const answer = await ask(server)
        answer.destroy()
        return answer.statusCode === 200
      })
    })
  })
})

describe("clients that go away", () => {
  const expectNothingLeft = async (server: RunningServer, folder: string) => {
    await until(async () => {
      const answer = await ask(server)
      if (answer.statusCode === 200) expect(namesIn(folder)).toEqual(["sekali.db", "sekali.db-wal"])
      answer.destroy()
      return answer.statusCode === 200
    })
    await until(async () => (await get(server, "/health/ready")).status === 200)
  }

  it("while the copy is made leave nothing behind", async () => {
    await withLarge(async (server, folder) => {
      const asked = request({ host: server.host, port: server.port, path: "/backup" }).on("error", () => {})
      asked.end()
      await until(() => namesIn(folder).includes("sekali.db-backup"))
      asked.destroy()
      await expectNothingLeft(server, folder)
    })
  })

  it("while it is sent leave nothing behind", async () => {
    await withLarge(async (server, folder) => {
      const answer = await ask(server)
      await once(answer, "data")
      answer.destroy()
      await expectNothingLeft(server, folder)
    })
  })

  it("as soon as they have all of it do no harm to the service", async () => {
    await withServer({}, async (server) => {
      await publish(server, event("1"))
      for (let n = 0; n < 20; n++) {
        const socket = connect(server.port, server.host)
        socket.write("GET /backup HTTP/1.1\r\nhost: x\r\n\r\n")
        let received = Buffer.alloc(0)
        await new Promise<void>((resolve, reject) => {
          socket.on("error", reject)
          socket.on("close", () => resolve())
          socket.on("data", (chunk) => {
            received = Buffer.concat([received, chunk])
            const head = received.indexOf("\r\n\r\n")
            const length = /content-length: (\d+)/i.exec(received.toString("latin1", 0, head))?.[1]
            if (head > 0 && received.length === head + 4 + Number(length)) socket.destroy()
          })
        })
        await until(async () => (await get(server, "/health/live")).status === 200)
        await until(async () => (await get(server, "/stats")).status === 200)
      }
    })
  })
})

describe("an answer that is long in the making", () => {
  it("is waited for, and a client that does not read it then is cut off", async () => {
    await withServer({}, async (server) => {
      const requests: Array<{ readonly socket: Socket }> = []
      const note = (message: unknown) => void requests.push(message as { readonly socket: Socket })
      subscribe("http.server.request.start", note)
      try {
        server.database.hold()
        const publishing = publish(server, event("1"))
        await until(() => server.database.held === 1)
        const { socket } = requests[0] ?? expect.fail("no request was seen")
        // What Node does when nothing has moved on a connection for as long as it is allowed.
        socket.emit("timeout")
        expect(socket.destroyed).toBe(false)
        server.database.release()
        expect(await publishing).toMatchObject({ stored: 1 })
        const answer = await ask(server)
        requests.at(-1)?.socket.emit("timeout")
        expect(requests.at(-1)?.socket.destroyed).toBe(true)
        answer.destroy()
      } finally {
        unsubscribe("http.server.request.start", note)
      }
    })
  })
})

describe("a service that is stopped", () => {
  it("while a copy is made ends at once, and leaves nothing behind", async () => {
    await withLarge(async (server, folder) => {
      const asked = request({ host: server.host, port: server.port, path: "/backup" }).on("error", () => {})
      asked.end()
      await until(() => namesIn(folder).includes("sekali.db-backup"))
      expect(Exit.isInterrupted(await server.stop())).toBe(true)
      expect(namesIn(folder)).toEqual(["sekali.db"])
    })
  })
})

describe("a disk without room", () => {
  it("refuses the backup clearly, and the service goes on", async ({ skip }) => {
    const folder = mkdtempSync(join(tmpdir(), "sekali-full-"))
    const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=80m", "tmpfs", folder], {
      encoding: "utf8"
    })
    if (mounted.status !== 0) {
      rmSync(folder, { recursive: true })
      return skip(`no small disk can be mounted here: ${mounted.stderr ?? mounted.error?.message}`)
    }
    try {
      copyFileSync(large, join(folder, "sekali.db"))
      await withServer({ folder }, async (server) => {
        const ballast = join(folder, "ballast")
        const refused = async () => {
          const told = problem(await get(server, "/backup"), 503, "backup-failed", "/backup")
          expect(told.detail).toBe(
            "No backup was made: the disk has too little room for a copy of the database. " +
              "The service goes on without it; ask again."
          )
          expect(told.retry_after).toBe(60)
          expect(namesIn(folder).filter((name) => name.includes("backup"))).toEqual([])
        }
        // Found out beforehand: what little is free is for the events.
        writeFileSync(ballast, Buffer.alloc(10 * mebibyte))
        await refused()
        expect(server.logs.join("\n")).toContain("there is no room for a copy")
        await publish(server, event("1"))
        // Found out in the middle: something else has taken the room.
        rmSync(ballast)
        const refusing = refused()
        await until(() => namesIn(folder).includes("sekali.db-backup"))
        writeFileSync(ballast, Buffer.alloc(30 * mebibyte))
        await refusing
        rmSync(ballast)
        await until(async () => (await get(server, "/health/ready")).status === 200)
        await publish(server, event("2"))
        await fetchBackup(server, join(largeFolder, "from-small-disk.db"))
        expect(await checked(join(largeFolder, "from-small-disk.db"))).toMatchObject({
          received: largeEvents + 2
        })
      })
    } finally {
      spawnSync("umount", ["--lazy", folder])
      rmSync(folder, { recursive: true, force: true })
    }
  })
})

describe("a backup that is put into service", () => {
  it("has the old events with their offsets, and goes on beyond every offset that was lost", async () => {
    await withFolder(async (folder) => {
      const backup = join(folder, "backup.db")
      const live = join(folder, "sekali.db")
      const given: Array<number> = []
      const offsetsOf = async (server: RunningServer, name: string, count: number) => {
        const events = Array.from({ length: count }, (_, n) => event(`${name}-${n}`))
        const { results = [] } = await publish(server, events)
        expect(results.map(({ outcome }) => outcome)).toEqual(events.map(() => "stored"))
        return results.map(({ offset }) => offset)
      }
      const restore = () => {
        rmSync(live)
        copyFileSync(backup, live)
      }

      const before = await withServer({ folder }, async (server) => {
        await offsetsOf(server, "old", 50)
        await publish(server, [event("old-1"), event("old-2", { payload: 1 })])
        const events = await get(server, "/events?limit=1000")
        const books = await stats(server)
        await fetchBackup(server, backup)
        given.push(...(await offsetsOf(server, "lost", 500)))
        return { events, books, lastCursor: given.at(-1) ?? 0 }
      })

      const ids = new Set([before.books.store_id])
      for (let restored = 1; restored <= 3; restored++) {
        restore()
        await withServer({ folder }, async (server) => {
          expect(
            server.logs.filter((line) => line.startsWith("WARN a backup was put into service"))
          ).toHaveLength(1)
          const books = await stats(server)
          expect(books).toMatchObject({ received: 52, unique_processed: 50, conflicts: 1, epoch: 2 })
          expect(ids).not.toContain(books.store_id)
          ids.add(books.store_id)
          expect((await get(server, "/events?limit=1000")).text).toBe(before.events.text)

          // A reader from the lost future, by page, stream and list of conflicts.
          for (const path of ["/events", "/events/stream", "/conflicts"]) {
            for (const after of [53, before.lastCursor]) {
              const told = problem(await get(server, `${path}?after=${after}`), 410, "cursor-lost", path)
              expect(told).toMatchObject({ after, epoch: 2, last_offset: 52, base_offset: books.last_offset })
            }
          }
          const stream = { accept: "application/x-ndjson" }
          problem(
            await get(server, `/events?after=${before.lastCursor}`, stream),
            410,
            "cursor-lost",
            "/events"
          )
          problem(await get(server, `/events?order=desc&after=60`), 410, "cursor-lost", "/events")
          problem(await get(server, `/events?after=${books.last_offset + 1}`), 422, "cursor-ahead", "/events")

          // Publishing goes on, also with what was lost.
          const offsets = [
            ...(await offsetsOf(server, "lost", 500)),
            ...(await offsetsOf(server, `new-${restored}`, 500))
          ]
          expect(Math.min(...offsets)).toBeGreaterThan(Math.max(...given))
          given.push(...offsets)
          // A reader that was not ahead goes on across the jump, and sees each event once.
          const seen: Array<number> = []
          let after = 50
          while (true) {
            const page = JSON.parse((await get(server, `/events?after=${after}&limit=300`)).text) as {
              events: ReadonlyArray<{ offset: number }>
              next: number
              more: boolean
            }
            seen.push(...page.events.map(({ offset }) => offset))
            after = page.next
            if (!page.more) break
          }
          expect(seen).toEqual(offsets)
        })
      }
      expect(new Set(given).size).toBe(given.length)
      expect(ids.size).toBe(4)

      // The restored store's own backup tells of the jump.
      const next = join(folder, "next.db")
      await withServer({ folder }, async (server) => {
        expect(await stats(server)).toMatchObject({ epoch: 2 })
        await fetchBackup(server, next)
      })
      const { findings } = await Effect.runPromise(checkAtRest(next))
      expect(findings.map(({ sentence }) => sentence).join("\n")).toMatch(
        /Epoch 2 began .* offsets jump from 52 to \d+/
      )
      await checked(next)
      renameSync(next, live)
      await withServer({ folder }, async (server) => {
        expect(await stats(server)).toMatchObject({ epoch: 3, received: 1052 })
      })
    })
  })
})

describe("a service that holds a log which is not its own", () => {
  it("does not start, and says what to remove", async () => {
    await withFolder(async (folder) => {
      const backup = join(folder, "backup.db")
      await withServer({}, async (server) => {
        await publish(server, event("1"))
        await fetchBackup(server, backup)
      })
      copyFileSync(backup, join(folder, "sekali.db"))
      writeFileSync(join(folder, "sekali.db-wal"), Buffer.alloc(100, 1))
      const server = await listen({ folder, database: new DatabaseHand() })
      const exit = await server.stop()
      expect(String(exit)).toContain("sekali.db-wal first.")
    })
  })
})
