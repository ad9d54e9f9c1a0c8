/**
 * `sekali backup` and `sekali check` as processes of their own: a backup is whole or not there, is sound, and can be put
 * into service (G1, G4); and what is not sound is told.
 */
import {
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync
} from "node:fs"
import type { RequestListener } from "node:http"
import { join } from "node:path"
import { afterEach, describe, expect, it } from "vitest"
import { answering, closeAnswering } from "../support/answering.ts"
import { allEvents, eventNumber, eventNumbers, keyOf, publish } from "../support/client.ts"
import { endCommands, run, start } from "../support/command.ts"
import { runHere } from "../support/commandline.ts"
import { cleanUp, type Serving, serve, temporaryFolder } from "../support/process.ts"

afterEach(async () => {
  await endCommands()
  await cleanUp()
  closeAnswering()
})

/** A service with so many events. */
const serveEvents = async (database: string, count: number): Promise<Serving> => {
  const service = await serve({ database })
  await publish(service.url, eventNumbers(count))
  return service
}

const stop = async (service: Serving, signal: NodeJS.Signals) => {
  service.kill(signal)
  await service.ended
}

/** The events in a database, as a service shows them that is started on it. */
const eventsIn = async (database: string): Promise<ReadonlyArray<string>> => {
  const service = await serve({ database })
  const keys = (await allEvents(service.url)).map(keyOf)
  await stop(service, "SIGTERM")
  return keys
}

const expectSound = async (file: string, ...sentences: ReadonlyArray<RegExp>) => {
  const { code, stdout, stderr } = await runHere(["check", file])
  expect({ code, stderr }, stdout).toEqual({ code: 0, stderr: "" })
  const lines = stdout.trimEnd().split("\n")
  expect(lines.at(-1)).toBe(`${file} is sound.`)
  for (const line of lines.slice(0, -1)) expect(line).toMatch(/^ok {5}\S/)
  for (const sentence of sentences) expect(stdout).toMatch(sentence)
}

describe("a backup of a service", () => {
  it("is made while publishing goes on, is sound, and can be put into service", async () => {
    const folder = temporaryFolder()
    const database = join(folder, "sekali.db")
    const file = join(folder, "backup.db")
    const service = await serveEvents(database, 1000)
    const command = start(["backup", file], { url: service.url })
    let made = false
    void command.ended.then(() => {
      made = true
    })
    let published = 1000
    while (!made) await publish(service.url, [eventNumber(published++)])
    const { code, stdout, stderr } = await command.ended
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
    expect(stdout).toMatch(new RegExp(`^${file}: [\\d,]+ bytes, of the store [0-9a-f]+ as of 20\\S+Z\n$`))
    expect(readdirSync(folder).filter((name) => name.startsWith("backup"))).toEqual(["backup.db"])
    const all = (await allEvents(service.url)).map(keyOf)
    expect(all).toHaveLength(published)
    await expectSound(file, /It is a backup, made at 20/)
    await stop(service, "SIGKILL")

    for (const suffix of ["", "-wal", "-shm"]) rmSync(database + suffix, { force: true })
    renameSync(file, database)
    const restored = await serve({ database })
    const survived = await allEvents(restored.url)
    expect(survived.length).toBeGreaterThanOrEqual(1000)
    expect(survived.map(keyOf)).toEqual(all.slice(0, survived.length))
    // Publishers that send everything once more, and something new.
    const { stored, duplicates } = await publish(restored.url, eventNumbers(published + 1))
    expect({ stored, duplicates }).toEqual({
      stored: published + 1 - survived.length,
      duplicates: survived.length
    })
    await stop(restored, "SIGTERM")
    await expectSound(database, /Epoch 2 began at /)
  })

  it("does not replace what is there, unless it is told to", async () => {
    const folder = temporaryFolder()
    const service = await serveEvents(join(folder, "sekali.db"), 10)
    const file = join(folder, "backup.db")
    writeFileSync(file, "a shopping list")
    const refused = await runHere(["backup", file], { url: service.url })
    expect(refused).toMatchObject({ code: 1, stdout: "" })
    expect(refused.stderr).toMatch(/^sekali: .*backup\.db is there already: --overwrite replaces it/)
    expect(readFileSync(file, "utf8")).toBe("a shopping list")
    expect((await runHere(["backup", "--overwrite", file], { url: service.url })).code).toBe(0)
    expect(await eventsIn(file)).toHaveLength(10)
  })

  it("is one of the newest that are kept, and nothing else is removed", async () => {
    const folder = temporaryFolder()
    const service = await serveEvents(join(folder, "sekali.db"), 10)
    const backups = join(folder, "backups.db")
    const others = ["backups.db", "backups-20200101T000000000Z.db", "backups-2020.db", "backups-1.txt"]
    for (const name of others) writeFileSync(join(folder, name), "a shopping list")
    const made: Array<string> = []
    for (let n = 0; n < 3; n++) {
      const { code, stdout } = await runHere(["backup", "--keep", "2", backups], {
        url: service.url
      })
      expect(code).toBe(0)
      const [path = "", ...more] = stdout.split("\n").map((line) => line.split(": ", 1)[0] ?? "")
      made.push(path)
      expect(more).toEqual(n < 2 ? [""] : [made[0], ""])
    }
    expect(
      readdirSync(folder)
        .filter((name) => name.startsWith("backups"))
        .sort()
    ).toEqual([...others, ...made.slice(1).map((path) => path.slice(folder.length + 1))].sort())
    for (const path of made.slice(1)) await expectSound(path)
  })
})

describe("a backup that cannot be fetched", () => {
  const type = "application/vnd.sqlite3"

  it.each<[name: string, listener: RequestListener, sentence: RegExp]>([
    [
      "it breaks off",
      (_request, response) => {
        response.writeHead(200, { "content-type": type, "content-length": 100_000 })
        response.write("x".repeat(50_000), () => response.destroy())
      },
      /broke off in the middle: /
    ],
    [
      "it ends too early",
      (_request, response) => response.writeHead(200, { "content-type": type }).end("SQLite format 3\0"),
      /What was received is not a whole backup\./
    ],
    [
      "the service says why",
      (_request, response) =>
        response.writeHead(503, { "content-type": "application/problem+json" }).end(
          JSON.stringify({
            type: "urn:sekali:problem:backup-under-way",
            title: "A backup is under way",
            status: 503,
            detail: "A backup is being made, ask again.",
            instance: "/backup"
          })
        ),
      /answers: A backup is being made, ask again\./
    ],
    [
      "another service answers",
      (_request, response) => response.writeHead(200, { "content-type": "text/html" }).end("It works!"),
      /is not Sekali: GET \/backup gives no application\/vnd\.sqlite3\./
    ],
    [
      "there is no such page",
      (_request, response) => response.writeHead(404).end(),
      /is not Sekali: GET \/backup gives status 404\./
    ]
  ])("ends with 1 and leaves everything as it was: %s", async (_, listener, sentence) => {
    const folder = temporaryFolder()
    const file = join(folder, "backup.db")
    writeFileSync(file, "the backup before")
    const { url } = await answering(listener)
    const { code, stdout, stderr } = await runHere(["backup", "--overwrite", file], { url })
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" })
    expect(stderr).toMatch(sentence)
    expect(stderr.trimEnd().split("\n")).toHaveLength(1)
    expect(readdirSync(folder)).toEqual(["backup.db"])
    expect(readFileSync(file, "utf8")).toBe("the backup before")
  })

  it.each([["SIGINT", 130] as const, ["SIGTERM", 143] as const])(
    "leaves nothing behind when it is ended by %s",
    async (signal, code) => {
      const folder = temporaryFolder()
      const file = join(folder, "backup.db")
      const { url } = await answering((_request, response) => {
        response.writeHead(200, { "content-type": type, "content-length": 100_000 })
        response.write("x".repeat(50_000))
      })
      const command = start(["backup", file], { url })
      while (readdirSync(folder).length === 0) await new Promise(setImmediate)
      command.kill(signal)
      expect(await command.ended).toMatchObject({ code, stdout: "", stderr: "" })
      expect(readdirSync(folder)).toEqual([])
    }
  )
})

describe("backups of one name", () => {
  /** A service that sends a backup by halves: the second one when it is told to. */
  const byHalves = async (bytes: Buffer) => {
    const half = bytes.length / 2
    let finish = () => {}
    const finished = new Promise<void>((resolve) => {
      finish = resolve
    })
    const { url } = await answering((_request, response) => {
      response.writeHead(200, { "content-type": "application/vnd.sqlite3", "content-length": bytes.length })
      response.write(bytes.subarray(0, half))
      void finished.then(() => response.end(bytes.subarray(half)))
    })
    return { url, finish }
  }

  const partials = (folder: string) => readdirSync(folder).filter((name) => name.endsWith(".partial"))

  const untilHalf = async (folder: string, count: number) => {
    const begun = () => partials(folder).filter((name) => statSync(join(folder, name)).size > 0)
    while (begun().length < count) await new Promise(setImmediate)
  }

  const backupBytes = async (): Promise<Buffer> => {
    const service = await serveEvents(join(temporaryFolder(), "sekali.db"), 100)
    return Buffer.from(await (await fetch(`${service.url}/backup`)).arrayBuffer())
  }

  it("may be made by several at once: each is whole, and the last one stays", async () => {
    const folder = temporaryFolder()
    const file = join(folder, "backup.db")
    const { url, finish } = await byHalves(await backupBytes())
    const commands = [1, 2].map(() => start(["backup", "--overwrite", file], { url }))
    await untilHalf(folder, 2)
    finish()
    for (const { ended } of commands) expect(await ended).toMatchObject({ code: 0, stderr: "" })
    expect(readdirSync(folder)).toEqual(["backup.db"])
    await expectSound(file)
  })

  it("do not stand for the half of one that was killed, which goes with the next one", async () => {
    const folder = temporaryFolder()
    const file = join(folder, "backup.db")
    const bytes = await backupBytes()
    for (const words of [
      ["backup", file],
      ["backup", "--keep", "2", file]
    ]) {
      const { url, finish } = await byHalves(bytes)
      const command = start(words, { url })
      await untilHalf(folder, 1)
      command.kill("SIGKILL")
      await command.ended
      expect(readdirSync(folder)).toEqual(partials(folder))
      finish()
      const next = await runHere(words, { url })
      expect(next, next.stderr).toMatchObject({ code: 0, stderr: "" })
      expect(partials(folder)).toEqual([])
      for (const name of readdirSync(folder)) {
        await expectSound(join(folder, name))
        rmSync(join(folder, name))
      }
    }
  })

  it("are not made by a service that is killed meanwhile, which keeps nothing of it", async () => {
    const folder = temporaryFolder()
    const database = join(folder, "sekali.db")
    const file = join(temporaryFolder(), "backup.db")
    let service = await serve({ database })
    const padding = "x".repeat(500_000)
    for (let n = 0; n < 20; n++) await publish(service.url, [eventNumber(n, "service-a", padding)])
    for (let isHit = false; !isHit; ) {
      const command = start(["backup", "--overwrite", file], { url: service.url })
      let hasEnded = false
      void command.ended.then(() => {
        hasEnded = true
      })
      while (!(hasEnded || isHit)) {
        isHit = existsSync(`${database}-backup`)
        await new Promise(setImmediate)
      }
      if (isHit) await stop(service, "SIGKILL")
      const { code, stderr } = await command.ended
      expect(code, stderr).toBe(isHit ? 1 : 0)
    }
    service = await serve({ database })
    expect(readdirSync(folder).filter((name) => name.includes("backup"))).toEqual([])
    expect(await allEvents(service.url)).toHaveLength(20)
    expect((await runHere(["backup", "--overwrite", file], { url: service.url })).code).toBe(0)
    await expectSound(file)
  })
})

describe("a database that no service holds", () => {
  it("can be backed up and checked, also after a kill, and is left as it was", async () => {
    const folder = temporaryFolder()
    const database = join(folder, "sekali.db")
    const file = join(folder, "backup.db")
    await stop(await serveEvents(database, 100), "SIGKILL")
    const before = readdirSync(folder).sort()
    const bytes = readFileSync(database)
    await expectSound(database, /A service that held it was killed/)
    const made = await run(["backup", "--database", database, file])
    expect(made).toMatchObject({ code: 0, stderr: "" })
    expect(readdirSync(folder).sort()).toEqual(["backup.db", ...before])
    expect(readFileSync(database)).toEqual(bytes)
    await expectSound(file, /100 received = 100 stored \+ 0 dropped/)
    expect(await eventsIn(file)).toEqual(eventNumbers(100).map(keyOf))

    // As the setting of a service names it; and never in its own place.
    const itself = await runHere(["backup", "--overwrite", "--database", `file:${database}`, database])
    expect(itself.code).toBe(1)
    expect(itself.stderr).toMatch(/sekali\.db is the database itself; /)
    expect(readFileSync(database)).toEqual(bytes)
  })

  it("has to be one: what a service holds is refused", async () => {
    const folder = temporaryFolder()
    const database = join(folder, "sekali.db")
    const service = await serveEvents(database, 1)
    for (const words of [
      ["check", database],
      ["backup", "--database", database, join(folder, "backup.db")]
    ]) {
      const { code, stdout, stderr } = await runHere(words)
      expect({ code, stdout }).toEqual({ code: 1, stdout: "" })
      expect(stderr).toMatch(/^sekali: The database .*sekali\.db is in use by another process\./)
    }
    expect((await publish(service.url, [eventNumber(1)])).stored).toBe(1)
    expect(existsSync(join(folder, "backup.db"))).toBe(false)
  })

  it.each([
    ["SIGINT", "SIGTERM"],
    ["SIGTERM", "SIGKILL"]
  ] as const)("is let go at once on %s, also while SQLite checks it, after a %s", async (signal, before) => {
    const folder = temporaryFolder()
    const database = join(folder, "sekali.db")
    await stop(await serveEvents(database, 10), before)
    const files = readdirSync(folder).sort()
    const hook = new URL("../support/endless-check.mjs", import.meta.url).href
    const command = start(["check", database], { environment: { NODE_OPTIONS: `--import=${hook}` } })
    await command.said(/^checking$/m)
    expect(readdirSync(folder).sort()).toEqual(files)
    command.kill(signal)
    expect(await command.ended).toMatchObject({ code: null, signal, stdout: "" })
    expect(readdirSync(folder).sort()).toEqual(files)
    await expectSound(database)
  })

  it("is told to be damaged, where it is, and ends the check with 1", async () => {
    const folder = temporaryFolder()
    const database = join(folder, "sekali.db")
    await stop(await serveEvents(database, 2000), "SIGTERM")
    const damaged = join(folder, "damaged.db")
    copyFileSync(database, damaged)
    const bytes = readFileSync(damaged)
    bytes.fill(0x5a, bytes.length / 2, bytes.length / 2 + 8192)
    writeFileSync(damaged, bytes)
    const { code, stdout, stderr } = await run(["check", damaged])
    expect({ code, stderr }).toEqual({ code: 1, stderr: "" })
    expect(stdout).toMatch(/^FAULT {2}.*(damage|malformed)/m)
    expect(stdout).toMatch(/damaged\.db has \d+ faults\.\n$/)
    expect(readFileSync(damaged)).toEqual(bytes)

    writeFileSync(damaged, "a shopping list\n".repeat(1000))
    expect((await runHere(["check", damaged])).stdout).toMatch(
      /^FAULT {2}The database .* is not a SQLite database/m
    )
    const missing = await runHere(["check", join(folder, "missing.db")])
    expect(missing).toMatchObject({ code: 1, stdout: "" })
    expect(missing.stderr).toMatch(/^sekali: The database .*missing\.db is not there\.\n$/)
    expect(readdirSync(folder).sort()).toEqual(["damaged.db", "sekali.db"])
  })
})
