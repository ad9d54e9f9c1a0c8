/**
 * The schema and its steps: they are taken in order and once, whole or not at all, and end in the schema that the store
 * checks for when it opens a database.
 */
import { describe, expect, it } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Effect, Layer } from "effect"
import { KeyIndexLimits } from "../../src/Config.ts"
import { connectTo } from "../../src/node/SqliteCopies.ts"
import { check } from "../../src/store/Check.ts"
import { Database } from "../../src/store/Database.ts"
import {
  applicationId,
  latestMigration,
  migrations,
  migrationTable,
  schema
} from "../../src/store/Migrations.ts"
import { makeOlder, rowsOf } from "../support/databases.ts"
import { makeEvents } from "../support/events.ts"
import {
  databaseAt,
  interceptedAt,
  openClosable,
  openStore,
  openStoreAt,
  sqliteError,
  temporaryFolder
} from "../support/stores.ts"

const temporaryFile = Effect.map(temporaryFolder, (folder) => `${folder}/sekali.db`)

const inside = <A>(file: string, look: (database: Sqlite.Database) => A): A => {
  const database = new Sqlite(file, { readonly: true })
  try {
    return look(database)
  } finally {
    database.close()
  }
}

const schemaOf = (database: Sqlite.Database) =>
  database.prepare("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name").all()

const stepsOf = (database: Sqlite.Database) =>
  database.prepare(`SELECT migration_id AS id, name FROM ${migrationTable} ORDER BY migration_id`).all()

const makeFresh = (file: string) =>
  Effect.gen(function* () {
    const { close } = yield* openClosable(databaseAt(file))
    yield* close
  })

describe("the record of steps", () => {
  it("is numbered from 1 without a gap, each step named", () => {
    const names = Object.keys(migrations)
    expect(names.length).toBeGreaterThan(0)
    for (const [index, name] of names.entries()) {
      expect(name).toMatch(/^\d{4}_[a-z_]+$/)
      expect(Number.parseInt(name, 10)).toBe(index + 1)
    }
    expect(latestMigration).toBe(names.length)
  })

  it.scoped("is what a new database has taken, in order, each once", () =>
    Effect.gen(function* () {
      const file = yield* temporaryFile
      yield* makeFresh(file)
      expect(inside(file, stepsOf)).toEqual(
        Object.keys(migrations).map((name, index) => ({ id: index + 1, name: name.slice(5) }))
      )
    })
  )

  it.scoped("changes nothing when it is taken again", () =>
    Effect.gen(function* () {
      const file = yield* temporaryFile
      const first = yield* openClosable(databaseAt(file))
      yield* first.store.append(makeEvents(3))
      yield* first.close
      const before = inside(file, (database) => [schemaOf(database), stepsOf(database)])
      const second = yield* openClosable(databaseAt(file))
      expect(yield* second.store.books).toMatchObject({ received: 3, uniqueProcessed: 3, lastOffset: 3 })
      yield* second.close
      expect(inside(file, (database) => [schemaOf(database), stepsOf(database)])).toEqual(before)
    })
  )
})

describe("the schema", () => {
  it.scoped("has exactly the columns that are recorded, in their order", () =>
    Effect.gen(function* () {
      const file = yield* temporaryFile
      yield* makeFresh(file)
      const found = inside(file, (database) => {
        const tables = database
          .prepare(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> ? AND name NOT LIKE 'sqlite_%'"
          )
          .pluck()
          .all(migrationTable) as ReadonlyArray<string>
        return Object.fromEntries(
          tables.map((table) => [
            table,
            database.prepare("SELECT name FROM pragma_table_info(?) ORDER BY cid").pluck().all(table)
          ])
        )
      })
      expect(found).toEqual(schema)
    })
  )

  it.scoped("has strict tables, and the mark of ours", () =>
    Effect.gen(function* () {
      const file = yield* temporaryFile
      yield* makeFresh(file)
      inside(file, (database) => {
        expect(database.pragma("application_id", { simple: true })).toBe(applicationId)
        expect(Buffer.from(applicationId.toString(16), "hex").toString()).toBe("Skli")
        for (const table of Object.keys(schema)) {
          const list = database.prepare("SELECT strict FROM pragma_table_list WHERE name = ?").pluck()
          expect([table, list.get(table)]).toEqual([table, 1])
        }
      })
    })
  )
})

describe("a database of version 4", () => {
  it.scoped("gets an index of all its keys, and knows them all", () =>
    Effect.gen(function* () {
      const file = yield* temporaryFile
      const first = yield* openClosable(databaseAt(file))
      const events = [...makeEvents(90, { topic: "a" }), ...makeEvents(60, { topic: "b" })]
      yield* first.store.append(events)
      yield* first.store.append([
        ...makeEvents(7, { topic: "a" }),
        ...makeEvents(5, { topic: "a", payload: "1" })
      ])
      yield* first.store.append(makeEvents(3, { topic: "c" }))
      const [books, conflicts] = [
        yield* first.store.books,
        yield* first.store.conflicts({ after: undefined, limit: 100 })
      ]
      expect(books).toMatchObject({ received: 165, duplicateDropped: 12, conflicts: 5 })
      yield* first.close
      makeOlder(file, 4)

      const later = yield* openClosable(databaseAt(file))
      expect(yield* later.store.books).toEqual(books)
      expect(yield* later.store.conflicts({ after: undefined, limit: 100 })).toEqual(conflicts)
      const again = yield* later.store.append([
        ...events,
        ...makeEvents(3, { topic: "c" }),
        ...makeEvents(1, {}, "new")
      ])
      expect(again.map(({ outcome }) => outcome)).toEqual([...Array(153).fill("duplicate"), "stored"])
      expect(again.slice(0, 150).map(({ offset }) => offset)).toEqual(events.map((_, index) => index + 1))
      yield* later.close
      // Of 153 keys, those that fill runs of 8 are merged to the end.
      expect(rowsOf(file, "SELECT level, keys FROM key_run ORDER BY last_offset")).toEqual([
        { level: 4, keys: 128 },
        { level: 1, keys: 16 },
        { level: 0, keys: 8 }
      ])
      const { findings } = yield* Effect.scoped(
        Effect.flatMap(connectTo(file, { readonly: true }), (sql) => check("x.db", sql))
      )
      expect(findings.filter(({ sound }) => !sound)).toEqual([])
    }).pipe(
      Effect.provideService(KeyIndexLimits, {
        youngKeysMax: 8,
        keysPerPage: 2,
        runsPerMerge: 2,
        pagesPerStep: 1,
        filterBytesMax: 1000
      })
    )
  )
})

describe("a new database", () => {
  it.scoped("is made whole or not at all, whichever statement fails, and the next start makes it", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      const statements: Array<string> = []
      yield* Effect.scoped(
        openStore(
          interceptedAt(`${folder}/rehearsal.db`, ({ sql, run }) => {
            statements.push(sql)
            return run
          })
        )
      )
      // The last one belongs to the closing.
      for (const failing of statements.slice(0, -1).keys()) {
        const file = `${folder}/${failing}.db`
        let count = 0
        const database = interceptedAt(file, ({ run }) =>
          count++ === failing ? sqliteError("SQLITE_IOERR_WRITE") : run
        )
        const refused = yield* Effect.flip(Effect.scoped(openStore(database)))
        expect([statements[failing], refused.reason]).toEqual([statements[failing], "cannot be opened"])
        const tables = inside(file, (database) => schemaOf(database).length)
        // Only what comes after the commit can fail and leave a database; that one is whole.
        expect(tables === 0 || failing > statements.indexOf("COMMIT")).toBe(true)
        yield* makeFresh(file)
        expect(inside(file, schemaOf)).toEqual(inside(`${folder}/rehearsal.db`, schemaOf))
      }
    })
  )

  it.scoped("on a disk that is full is refused for it, and made once there is room", () =>
    Effect.gen(function* () {
      const file = yield* temporaryFile
      let refused = 0
      for (let pages = 1; pages < 100; pages++) {
        const small = Layer.effect(
          Database,
          Effect.map(Database, ({ name, connect, writeLogAgain }) => ({
            name,
            writeLogAgain,
            connect: Effect.tap(connect, (sql) => sql.unsafe(`PRAGMA max_page_count = ${pages}`))
          }))
        ).pipe(Layer.provide(databaseAt(file)))
        const opened = yield* Effect.either(Effect.scoped(openStore(small)))
        if (opened._tag === "Right") break
        expect(opened.left.sentence).toContain("cannot be opened: the disk is full")
        refused++
      }
      expect(refused).toBeGreaterThan(3)
      expect(yield* (yield* openStoreAt(file)).books).toMatchObject({ received: 0 })
    })
  )
})
