/**
 * What is not opened: databases of other programs, of newer versions, damaged ones, ones in use. Each is refused with
 * one sentence that says why, and every byte of it is left as it was.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs"
import { createRequire } from "node:module"
import { describe, expect, it } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Effect, Option } from "effect"
import type { StoreRefused } from "../../src/domain/Errors.ts"
import { applicationId } from "../../src/store/Migrations.ts"
import { makeEvents } from "../support/events.ts"
import {
  copyAsKilled,
  databaseAt,
  eventsOf,
  fingerprint,
  interceptedAt,
  openClosable,
  openStore,
  openStoreAt,
  sqliteError,
  temporaryFolder
} from "../support/stores.ts"

/** A folder of its own for each case, and the database in it. */
const place = Effect.map(temporaryFolder, (folder) => ({ folder, file: `${folder}/sekali.db` }))

/** Changes a database with the plain driver, and closes it again. */
const edit = (file: string, change: (database: Sqlite.Database) => void) => {
  const database = new Sqlite(file)
  try {
    change(database)
  } finally {
    database.close()
  }
}

/** A database of ours, closed in good order, with some events. */
const makeOurs = (file: string, events = makeEvents(3)) =>
  Effect.gen(function* () {
    const { store, close } = yield* openClosable(databaseAt(file))
    yield* store.append(events)
    yield* close
  })

/** Expects the database in the folder to be refused, and each file there to be as it was. */
const expectRefused = (
  { folder, file }: { readonly folder: string; readonly file: string },
  reason: StoreRefused["reason"],
  saying: string
) =>
  Effect.gen(function* () {
    const before = fingerprint(folder)
    for (let attempt = 0; attempt < 2; attempt++) {
      const refused = yield* Effect.flip(openStoreAt(file))
      expect(refused.sentence).toContain(saying)
      expect(refused.reason).toBe(reason)
      expect(refused.sentence).toContain(file)
      expect(refused.sentence).toMatch(/^The database [^\n]*\.$/)
      expect(refused.message).toBe(refused.sentence)
      expect(fingerprint(folder)).toEqual(before)
    }
  })

const foreign = (database: Sqlite.Database) => {
  database.exec("CREATE TABLE notes (text TEXT); INSERT INTO notes VALUES ('not ours')")
}

const newer = (database: Sqlite.Database) => {
  database.exec("INSERT INTO migration (migration_id, name) VALUES (9999, 'from_the_future')")
}

describe("a foreign database", () => {
  it.scoped("is refused and left untouched", () =>
    Effect.gen(function* () {
      const at = yield* place
      edit(at.file, foreign)
      yield* expectRefused(at, "foreign", "belongs to another program")
    })
  )

  it.scoped("is refused and left untouched with a write-ahead log, too", () =>
    Effect.gen(function* () {
      const at = yield* place
      edit(at.file, (database) => {
        database.pragma("journal_mode = WAL")
        foreign(database)
      })
      yield* expectRefused(at, "foreign", "belongs to another program")
    })
  )

  it.scoped("is refused where it has the tables of ours but not its mark", () =>
    Effect.gen(function* () {
      const at = yield* place
      yield* makeOurs(at.file)
      edit(at.file, (database) => database.pragma("application_id = 1"))
      yield* expectRefused(at, "foreign", "belongs to another program")
    })
  )
})

describe("a database of a newer version", () => {
  it.scoped("is refused and left untouched", () =>
    Effect.gen(function* () {
      const at = yield* place
      yield* makeOurs(at.file)
      edit(at.file, newer)
      yield* expectRefused(at, "newer", "was made by a newer Sekali (its schema is version 9999")
    })
  )
})

describe("a damaged database", () => {
  it.scoped("that is no database at all is refused and left untouched", () =>
    Effect.gen(function* () {
      const at = yield* place
      writeFileSync(at.file, "these are my notes, and no database\n".repeat(200))
      yield* expectRefused(at, "damaged", "is damaged, or is not a SQLite database")
    })
  )

  it.scoped("that is random bytes is refused and left untouched", () =>
    Effect.gen(function* () {
      const at = yield* place
      writeFileSync(at.file, Buffer.from(Array.from({ length: 9000 }, (_, index) => (index * 7919) % 251)))
      yield* expectRefused(at, "damaged", "is damaged, or is not a SQLite database")
    })
  )

  it.scoped("that was cut short is refused and left untouched", () =>
    Effect.gen(function* () {
      const at = yield* place
      yield* makeOurs(at.file, makeEvents(500, { payload: JSON.stringify("x".repeat(200)) }))
      truncateSync(at.file, 4096 * 3 + 100)
      yield* expectRefused(at, "damaged", "is damaged. Restore it from a backup.")
    })
  )

  it.scoped("whose schema was overwritten is refused and left untouched", () =>
    Effect.gen(function* () {
      const at = yield* place
      yield* makeOurs(at.file)
      const bytes = readFileSync(at.file)
      bytes.fill(0xff, 100, 4096)
      writeFileSync(at.file, bytes)
      yield* expectRefused(at, "damaged", "is damaged. Restore it from a backup.")
    })
  )

  it.scoped("that lacks a column is refused and left untouched", () =>
    Effect.gen(function* () {
      const at = yield* place
      yield* makeOurs(at.file)
      edit(at.file, (database) => database.exec("ALTER TABLE topic DROP COLUMN last_event_ns"))
      yield* expectRefused(at, "damaged", "is damaged: it lacks topic.last_event_ns.")
    })
  )

  it.scoped("that lacks a table is refused and left untouched, also in another journal mode", () =>
    Effect.gen(function* () {
      const at = yield* place
      yield* makeOurs(at.file)
      edit(at.file, (database) => {
        database.exec("DROP TABLE redelivery")
        database.pragma("journal_mode = DELETE")
      })
      yield* expectRefused(at, "damaged", "is damaged: it lacks redelivery.offset")
    })
  )

  it.scoped("that lacks the table of its books is refused and left untouched", () =>
    Effect.gen(function* () {
      const at = yield* place
      yield* makeOurs(at.file)
      edit(at.file, (database) => database.exec("DROP TABLE store"))
      yield* expectRefused(at, "damaged", "is damaged: it lacks store.id")
    })
  )

  it.scoped("whose books are gone is refused and left untouched", () =>
    Effect.gen(function* () {
      const at = yield* place
      yield* makeOurs(at.file)
      edit(at.file, (database) => database.exec("DELETE FROM store"))
      yield* expectRefused(at, "damaged", "is damaged: its books are gone")
    })
  )

  it.scoped("that has the mark of ours but no record of its schema is refused and left untouched", () =>
    Effect.gen(function* () {
      const at = yield* place
      edit(at.file, (database) => {
        foreign(database)
        database.pragma(`application_id = ${applicationId}`)
      })
      yield* expectRefused(at, "damaged", "is damaged")
      const emptied = yield* place
      yield* makeOurs(emptied.file)
      edit(emptied.file, (database) => database.exec("DELETE FROM migration"))
      yield* expectRefused(emptied, "damaged", "is damaged")
    })
  )
})

describe("a database in use", () => {
  it.scoped("by another connection of this process is refused and left untouched; later it is opened", () =>
    Effect.gen(function* () {
      const at = yield* place
      const { store, close } = yield* openClosable(databaseAt(at.file))
      yield* store.append(makeEvents(2))
      yield* expectRefused(at, "in use", "is in use by another process")
      yield* store.append(makeEvents(3))
      yield* close
      expect(yield* (yield* openStoreAt(at.file)).books).toMatchObject({ received: 5, uniqueProcessed: 3 })
    })
  )

  it.scoped("by another process is refused and left untouched, and opened once that one was killed", () =>
    Effect.gen(function* () {
      const at = yield* place
      yield* makeOurs(at.file)
      const driver = createRequire(import.meta.url).resolve("better-sqlite3")
      const script = `
        const database = new (require(${JSON.stringify(driver)}))(${JSON.stringify(at.file)})
        database.pragma("locking_mode = EXCLUSIVE")
        database.exec("BEGIN IMMEDIATE; UPDATE store SET opened = opened + 1; COMMIT")
        process.stdout.write("held")
        process.stdin.resume()`
      const child = yield* Effect.acquireRelease(
        Effect.sync(() => spawn(process.execPath, ["-e", script], { stdio: ["pipe", "pipe", "inherit"] })),
        (child) => Effect.sync(() => child.kill("SIGKILL"))
      )
      yield* Effect.promise(() => once(child.stdout, "data"))
      yield* expectRefused(at, "in use", "is in use by another process")
      const gone = once(child, "exit")
      child.kill("SIGKILL")
      yield* Effect.promise(() => gone)
      expect(yield* (yield* openStoreAt(at.file)).books).toMatchObject({ received: 3 })
    })
  )
})

describe("a database that cannot be opened", () => {
  it.scoped("because its path is a folder says so", () =>
    Effect.gen(function* () {
      const at = yield* place
      mkdirSync(at.file)
      const refused = yield* Effect.flip(openStoreAt(at.file))
      expect(refused.reason).toBe("cannot be opened")
      expect(refused.sentence).toContain(`The database ${at.file} cannot be opened: `)
    })
  )

  it.scoped("because its folder cannot be made says so", () =>
    Effect.gen(function* () {
      const { file } = yield* place
      writeFileSync(file, "a file, no folder")
      const refused = yield* Effect.flip(openStoreAt(`${file}/data/sekali.db`))
      expect(refused.reason).toBe("cannot be opened")
      expect(refused.sentence).toMatch(/EEXIST|ENOTDIR/)
      expect(readFileSync(file, "utf8")).toBe("a file, no folder")
    })
  )

  it.scoped("because the disk fails in any statement of the opening says so, and can be opened later", () =>
    Effect.gen(function* () {
      const live = yield* place
      const store = yield* openStoreAt(live.file)
      yield* store.append(makeEvents(3))
      const { file } = yield* place
      copyAsKilled(live.file, file)
      const statements: Array<string> = []
      const rehearsal = yield* place
      copyAsKilled(live.file, rehearsal.file)
      yield* openStore(
        interceptedAt(rehearsal.file, ({ sql, run }) => {
          statements.push(sql)
          return run
        })
      )
      expect(statements.length).toBeGreaterThan(10)
      for (const failing of statements.keys()) {
        let count = 0
        const database = interceptedAt(file, ({ run }) =>
          count++ === failing ? sqliteError("SQLITE_IOERR_READ") : run
        )
        const refused = yield* Effect.flip(openStore(database))
        expect([statements[failing], refused.reason]).toEqual([statements[failing], "cannot be opened"])
        // A savepoint that could not be set takes the reason with it; SQLite needs no disk to set one.
        if (!statements[failing]?.startsWith("SAVEPOINT")) {
          expect(refused.sentence).toContain("the disk reported an error")
        }
      }
      expect(yield* (yield* openStoreAt(file)).books).toMatchObject({ received: 3, uniqueProcessed: 3 })
    })
  )
})

it.scoped("a folder that is not there is made", () =>
  Effect.gen(function* () {
    const folder = yield* temporaryFolder
    const store = yield* openStoreAt(`${folder}/not/there/yet/sekali.db`)
    yield* store.append(makeEvents(1))
    expect(existsSync(`${folder}/not/there/yet/sekali.db`)).toBe(true)
  })
)

it.scoped("an empty file is a new database", () =>
  Effect.gen(function* () {
    const { file } = yield* place
    writeFileSync(file, "")
    const store = yield* openStoreAt(file)
    yield* store.append(makeEvents(1))
    expect(yield* store.books).toMatchObject({ received: 1 })
  })
)

describe("damage that is found while running", () => {
  it.scoped("is told by every call from then on, and nothing more is written", () =>
    Effect.gen(function* () {
      const { folder, file } = yield* place
      // Enough events that their payloads lie in pages which are not read at the start.
      yield* makeOurs(file, makeEvents(300, { payload: JSON.stringify(`needle${"x".repeat(500)}`) }))
      const bytes = readFileSync(file)
      const page = Math.floor(bytes.indexOf("needle", bytes.length >> 1) / 4096)
      expect(page).toBeGreaterThan(5)
      bytes.fill(0xff, page * 4096, (page + 1) * 4096)
      writeFileSync(file, bytes)

      const { store, close } = yield* openClosable(databaseAt(file))
      expect(Option.isNone(yield* store.trouble)).toBe(true)
      expect(yield* Effect.flip(eventsOf(store))).toMatchObject({ _tag: "StoreDamaged" })
      expect(Option.getOrThrow(yield* store.trouble)).toMatchObject({ _tag: "StoreDamaged" })
      const before = fingerprint(folder)
      expect(yield* Effect.flip(store.append(makeEvents(1, {}, "new-")))).toMatchObject({
        _tag: "StoreDamaged"
      })
      expect(yield* Effect.flip(store.append([]))).toMatchObject({ _tag: "StoreDamaged" })
      expect(yield* Effect.flip(store.books)).toMatchObject({ _tag: "StoreDamaged" })
      expect(fingerprint(folder)).toEqual(before)
      yield* close
    })
  )

  it.scoped("is told where a COMMIT finds it, and where a rebuilt connection does", () =>
    Effect.gen(function* () {
      const { file } = yield* place
      let fault: "none" | "commit" | "reopen" = "none"
      const open = openStore(
        interceptedAt(file, ({ sql, connection, run }) => {
          if (fault === "commit" && sql === "COMMIT") return sqliteError("SQLITE_CORRUPT")
          if (fault !== "reopen") return run
          if (connection > 1) return sqliteError("SQLITE_NOTADB")
          return sql === "COMMIT" || sql === "ROLLBACK" ? sqliteError("SQLITE_IOERR") : run
        })
      )
      yield* Effect.scoped(
        Effect.gen(function* () {
          const store = yield* open
          fault = "commit"
          expect(yield* Effect.flip(store.append(makeEvents(1)))).toMatchObject({ _tag: "StoreDamaged" })
          fault = "none"
          expect(yield* Effect.flip(store.append(makeEvents(1)))).toMatchObject({ _tag: "StoreDamaged" })
          expect(Option.getOrThrow(yield* store.trouble)).toMatchObject({ _tag: "StoreDamaged" })
        })
      )
      const store = yield* open
      fault = "reopen"
      expect(yield* Effect.flip(store.append(makeEvents(1)))).toMatchObject({ _tag: "StoreUnavailable" })
      expect(yield* Effect.flip(store.append(makeEvents(1)))).toMatchObject({ _tag: "StoreDamaged" })
      fault = "none"
      expect(yield* Effect.flip(store.books)).toMatchObject({ _tag: "StoreDamaged" })
    })
  )
})

describe("what a kill left beside a database that is refused", () => {
  // SQLite itself moves a write-ahead log into its file when the last connection to it closes, so the bytes may lie
  // elsewhere afterwards; what they say stays.
  const expectContentKept = (file: string, make: (database: Sqlite.Database) => void, saying: string) =>
    Effect.gen(function* () {
      const killed = yield* place
      const database = yield* Effect.acquireRelease(
        Effect.sync(() => new Sqlite(file)),
        (database) => Effect.sync(() => database.close())
      )
      database.pragma("journal_mode = WAL")
      make(database)
      copyAsKilled(file, killed.file)
      expect(existsSync(`${killed.file}-wal`)).toBe(true)
      expect((yield* Effect.flip(openStoreAt(killed.file))).sentence).toContain(saying)
      edit(killed.file, (after) => expect(contentOf(after)).toEqual(contentOf(database)))
    })
  const contentOf = (database: Sqlite.Database) => {
    const tables = database
      .prepare("SELECT name, sql FROM sqlite_schema ORDER BY name")
      .all() as ReadonlyArray<{
      readonly name: string
      readonly sql: string | null
    }>
    const rows = tables
      .filter(({ sql }) => sql?.startsWith("CREATE TABLE"))
      .map(({ name }) => database.prepare(`SELECT * FROM "${name}"`).all())
    return { tables, rows, id: database.pragma("application_id") }
  }

  it.scoped("stays: a foreign one's", () =>
    Effect.gen(function* () {
      const { file } = yield* place
      yield* expectContentKept(file, foreign, "belongs to another program")
    })
  )

  it.scoped("stays: a newer one's", () =>
    Effect.gen(function* () {
      const { file } = yield* place
      yield* makeOurs(file)
      yield* expectContentKept(file, newer, "was made by a newer Sekali")
    })
  )
})
