/**
 * The process is started where it cannot or must not run. It says in a sentence why, ends with 1, and leaves what it
 * found as it was.
 */
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync
} from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { Reactivity } from "@effect/experimental"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { Effect } from "effect"
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest"
import { allEvents, eventNumber, eventNumbers, publish } from "../support/client.ts"
import { cleanUp, launch, serve, temporaryFolder } from "../support/process.ts"

afterEach(cleanUp)

/** Every file of a folder with its content. */
const contents = (folder: string) =>
  Object.fromEntries(readdirSync(folder).map((name) => [name, readFileSync(join(folder, name), "base64")]))

/** Runs statements on a database file, as another program would. */
const alter = (database: string, ...statements: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const sql = yield* SqliteClient.make({ filename: database, disableWAL: true })
    yield* Effect.forEach(statements, (statement) => sql.unsafe(statement))
  }).pipe(Effect.scoped, Effect.provide(Reactivity.layer), Effect.runPromise)

const template = mkdtempSync(join(tmpdir(), "sekali-"))

beforeAll(async () => {
  const service = await serve({ database: join(template, "sekali.db") })
  await publish(service.url, eventNumbers(200))
  service.kill("SIGTERM")
  await service.ended
})

afterAll(() => rmSync(template, { recursive: true, force: true }))

/** Makes a database as the service leaves it when it stops. */
const used = (database: string) => copyFileSync(join(template, "sekali.db"), database)

const expectRefused = async (
  database: string,
  sentence: RegExp,
  environment: Readonly<Record<string, string>> = {}
) => {
  const { code, stdout, stderr } = await launch({ database, environment }).ended
  expect(stderr).toMatch(sentence)
  expect(stderr.trimEnd().split("\n")).toHaveLength(1)
  expect({ code, stdout }).toEqual({ code: 1, stdout: "" })
}

describe("a database that is not opened", () => {
  it("is one that another process holds, which goes on", async () => {
    const database = join(temporaryFolder(), "sekali.db")
    const first = await serve({ database })
    await publish(first.url, [eventNumber(0)])
    await expectRefused(database, /^sekali: The database .*sekali\.db is in use by another process\.\n$/)
    expect((await publish(first.url, [eventNumber(0), eventNumber(1)])).stored).toBe(1)
    first.kill("SIGTERM")
    expect((await first.ended).code).toBe(0)
    const second = await serve({ database })
    expect(await allEvents(second.url)).toHaveLength(2)
  })

  const cases: Record<string, readonly [make: (database: string) => Promise<void> | void, sentence: RegExp]> =
    {
      "no database": [
        (database) => writeFileSync(database, "a shopping list\n".repeat(1000)),
        /is damaged, or is not a SQLite database\.\n$/
      ],
      "another program's": [
        (database) => alter(database, "CREATE TABLE recipe (name TEXT)", "PRAGMA user_version = 7"),
        /belongs to another program\. Name another file in SEKALI_DATABASE\.\n$/
      ],
      "made by a newer version": [
        async (database) => {
          used(database)
          await alter(database, "INSERT INTO migration (migration_id, name) VALUES (9999, 'later')")
        },
        /was made by a newer Sekali \(its schema is version 9999, /
      ],
      "without one of its tables": [
        async (database) => {
          used(database)
          await alter(database, "DROP TABLE redelivery")
        },
        /is damaged: it lacks redelivery\.offset, /
      ],
      "overwritten at its beginning": [
        (database) => {
          used(database)
          const bytes = readFileSync(database)
          bytes.fill(0, 0, 16)
          writeFileSync(database, bytes)
        },
        /is damaged, or is not a SQLite database\.\n$/
      ],
      "overwritten in its schema": [
        (database) => {
          used(database)
          const bytes = readFileSync(database)
          bytes.fill(0xff, 100, 4096)
          writeFileSync(database, bytes)
        },
        /is damaged\. Restore it from a backup\.\n$/
      ]
    }

  it.each(Object.entries(cases))("is one that is %s, and is left as it was", async (_, [make, sentence]) => {
    const folder = temporaryFolder()
    const database = join(folder, "sekali.db")
    await make(database)
    const before = contents(folder)
    await expectRefused(database, sentence)
    expect(contents(folder)).toEqual(before)
  })

  it("is one whose place is no folder", async () => {
    const folder = temporaryFolder()
    writeFileSync(join(folder, "file"), "")
    await expectRefused(join(folder, "file", "sekali.db"), /cannot be opened: .*\n$/)
  })

  it("is found in a folder that is made for it, at the path of the setting", async () => {
    const database = join(temporaryFolder(), "a folder", "deeper", "söme%20 data.db")
    const service = await serve({ database })
    await publish(service.url, [eventNumber(0)])
    service.kill("SIGTERM")
    await service.ended
    expect(readdirSync(dirname(database))).toEqual(["söme%20 data.db"])
  })

  it("is good as a copy as well, with what was in its log (G1)", async () => {
    const folder = temporaryFolder()
    const database = join(folder, "sekali.db")
    const service = await serve({ database })
    await publish(service.url, eventNumbers(100))
    service.kill("SIGKILL")
    await service.ended
    const copy = join(folder, "copy", "sekali.db")
    mkdirSync(dirname(copy))
    for (const suffix of ["", "-wal"]) copyFileSync(`${database}${suffix}`, `${copy}${suffix}`)
    const other = await serve({ database: copy })
    expect(await allEvents(other.url)).toHaveLength(100)
  })
})

describe("settings that cannot be used", () => {
  it("are named, all of them, with their values and what is allowed", async () => {
    const folder = temporaryFolder()
    const { code, stdout, stderr } = await launch({
      database: join(folder, "sekali.db"),
      environment: {
        SEKALI_PORT: "-1",
        SEKALI_LOG_LEVEL: "loud",
        SEKALI_DATABASE: "postgres://localhost/events"
      }
    }).ended
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" })
    expect(stderr.split("\n")).toEqual([
      'sekali: SEKALI_PORT is "-1", but must be a whole number from 0 to 65535.',
      'SEKALI_DATABASE is "postgres://localhost/events", but must be file: and a path, such as file:./data/sekali.db.',
      'SEKALI_LOG_LEVEL is "loud", but must be one of trace, debug, info, warn, error, off.',
      ""
    ])
    expect(readdirSync(folder)).toEqual([])
  })

  it("are those that do not fit together", async () => {
    const folder = temporaryFolder()
    await expectRefused(
      join(folder, "sekali.db"),
      /^sekali: SEKALI_QUEUE_EVENTS_MAX is 16384, which is less than SEKALI_REQUEST_EVENTS_MAX, 100000: .*\.\n$/,
      { SEKALI_REQUEST_EVENTS_MAX: "100000" }
    )
    expect(readdirSync(folder)).toEqual([])
  })

  it("are those of an address that is taken", async () => {
    const taken = createServer()
    await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve))
    const address = taken.address()
    const port = typeof address === "object" && address !== null ? address.port : 0
    await expectRefused(
      join(temporaryFolder(), "sekali.db"),
      /^sekali: The address cannot be listened on: .*EADDRINUSE.*\n$/,
      { SEKALI_PORT: String(port) }
    )
    taken.close()
  })
})
