/**
 * The simulated driver against the real one: the same script on a real file and on the simulated disk, and the
 * same answers, to the error codes and the level of durability that each connection finds itself at.
 */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import Real from "better-sqlite3"
import { Effect } from "effect"
import { afterAll, describe, expect, it } from "vitest"
import Simulated from "../../sim/BetterSqlite3.ts"
import { Choices } from "../../sim/Choices.ts"
import { type DiskFaults, noDiskFaults } from "../../sim/Disk.ts"
import { simulate } from "../../sim/World.ts"

/** What both drivers can do and the scripts use. */
interface Driver {
  readonly inTransaction: boolean
  pragma(source: string): unknown
  exec(sql: string): unknown
  close(): unknown
  serialize(): Buffer
  prepare(sql: string): {
    readonly reader: boolean
    all(...parameters: ReadonlyArray<unknown>): Array<unknown>
    get(...parameters: ReadonlyArray<unknown>): unknown
    run(...parameters: ReadonlyArray<unknown>): unknown
    raw(on?: boolean): unknown
    safeIntegers(on?: boolean): unknown
  }
}
type Open = (options?: { readonly readonly?: boolean; readonly timeout?: number }) => Driver
type Script = (open: Open, tell: (what: string, value: unknown) => void) => void

const directory = mkdtempSync(join(tmpdir(), "sekali-driver-"))
afterAll(() => rmSync(directory, { recursive: true }))
let scripts = 0

const record = (script: Script, open: Open) => {
  const told: Array<readonly [string, unknown]> = []
  script(open, (what, value) => told.push([what, value]))
  return told
}

const runReal = (script: Script) => {
  const file = join(directory, `${++scripts}.db`)
  return record(script, (options) => new Real(file, options) as unknown as Driver)
}

const runSimulated = (script: Script) =>
  simulate({ choices: Choices.replay([]) }, (world) => {
    let told: ReadonlyArray<readonly [string, unknown]> = []
    const process = world.start("program", () =>
      Effect.sync(() => {
        told = record(script, (options) => new Simulated("test.db", options) as unknown as Driver)
      })
    )
    world.run(() => process.exit !== undefined)
    if (process.exit?._tag !== "Success") throw new Error(String(process.exit?.cause))
    return told
  })

const same = (script: Script) => {
  const real = runReal(script)
  expect(real.length).toBeGreaterThan(0)
  expect(runSimulated(script)).toEqual(real)
}

/** The outcome of an action that may throw, in comparable form. */
const attempt = (action: () => unknown): unknown => {
  try {
    return action()
  } catch (error) {
    const { code, message, name } = error as { code?: string; message: string; name: string }
    return { name, code, message }
  }
}

const table =
  "CREATE TABLE t (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, n INTEGER, x ANY CHECK (x <> 13))"

describe("the level of durability", () => {
  it("falls to NORMAL in a new WAL database, after the first write", () =>
    same((open, tell) => {
      const db = open()
      tell("at first", db.pragma("synchronous"))
      tell("exclusive", db.pragma("locking_mode = EXCLUSIVE"))
      tell("wal", db.pragma("journal_mode = WAL"))
      tell("then", db.pragma("synchronous"))
      db.exec(table)
      tell("after the first write", db.pragma("synchronous"))
      tell("through a statement", db.prepare("PRAGMA synchronous").all())
    }))

  it("is NORMAL in a WAL database that is opened again", () =>
    same((open, tell) => {
      const first = open()
      first.pragma("locking_mode = EXCLUSIVE")
      first.pragma("journal_mode = WAL")
      first.exec(table)
      first.close()
      const second = open()
      tell("on opening", second.pragma("synchronous"))
      second.close()
      const third = open()
      third.pragma("locking_mode = EXCLUSIVE")
      tell("mode", third.pragma("journal_mode"))
      tell("after a read", [third.prepare("SELECT * FROM t").all(), third.pragma("synchronous")])
    }))

  it("stays FULL where it was set after opening", () =>
    same((open, tell) => {
      for (let times = 0; times < 2; times++) {
        const db = open()
        db.pragma("locking_mode=EXCLUSIVE")
        db.pragma("journal_mode=WAL")
        db.prepare("PRAGMA synchronous=FULL").run()
        tell("set", db.pragma("synchronous"))
        db.exec("CREATE TABLE IF NOT EXISTS u (a)")
        db.exec("INSERT INTO u VALUES (1)")
        tell("after a write", db.pragma("synchronous"))
        tell("checkpoint", db.pragma("wal_checkpoint(TRUNCATE)"))
        tell("within a transaction", [
          db.prepare("BEGIN").run(),
          attempt(() => db.pragma("synchronous = OFF")),
          db.prepare("ROLLBACK").run(),
          db.pragma("synchronous")
        ])
        db.close()
      }
    }))

  it("is FULL without a write-ahead log, and again when the log is given up", () =>
    same((open, tell) => {
      const db = open()
      db.exec(table)
      tell("rollback journal", [db.pragma("journal_mode"), db.pragma("synchronous")])
      tell("shared memory", db.pragma("journal_mode = WAL"))
      db.exec("INSERT INTO t (key) VALUES ('a')")
      tell("wal", db.pragma("synchronous"))
      tell("back", db.pragma("journal_mode = DELETE"))
      db.exec("INSERT INTO t (key) VALUES ('b')")
      tell("delete", db.pragma("synchronous"))
    }))

  it("comes with the defaults that better-sqlite3 is compiled with", () =>
    same((open, tell) => {
      const db = open()
      const pragmas = ["page_size", "foreign_keys", "wal_autocheckpoint", "busy_timeout", "auto_vacuum"]
      for (const pragma of pragmas) tell(pragma, db.pragma(pragma))
      tell(
        "quoted strings",
        attempt(() => db.prepare('SELECT "nothing"').all())
      )
    }))
})

describe("statements", () => {
  it("give the same rows, changes and types", () =>
    same((open, tell) => {
      const db = open()
      db.exec(table)
      const insert = db.prepare(
        "INSERT INTO t (key, n, x) VALUES (?, ?, ?) ON CONFLICT (key) DO NOTHING RETURNING id, key"
      )
      tell("reader", insert.reader)
      tell("inserted", insert.all("a", 1, "text"))
      tell("not inserted", insert.all("a", 2, "other"))
      const run = db.prepare("INSERT INTO t (key, n, x) VALUES (?, ?, ?)")
      tell("reader", run.reader)
      tell("run", run.run("b", 2.5, null))
      tell("bytes", run.run("c", 9007199254740993n, Buffer.from([0, 255, 7])))
      tell("unicode", run.run("d\u0000é😀", -1, undefined))
      tell("update", db.prepare("UPDATE t SET n = n + 1 WHERE key < 'c'").run())
      tell("no change", db.prepare("UPDATE t SET n = 0 WHERE key = 'none'").run())
      const all = db.prepare(
        "SELECT *, typeof(n) AS type, typeof(?) AS bound, length(key) AS length FROM t ORDER BY id"
      )
      tell("all", all.all(3))
      tell("get", all.get(3n))
      all.raw(true)
      tell("raw", all.all("x"))
      all.raw(false)
      all.safeIntegers(true)
      tell("safe", all.all(null))
      tell(
        "integers",
        db.prepare("SELECT 9007199254740993 AS a, 9223372036854775807 AS b, -1 AS c, 1e300 AS d").all()
      )
      tell("empty", db.prepare("SELECT zeroblob(0) AS blob, '' AS text").all())
      tell("json", db.prepare("SELECT value FROM json_each(?)").all('[1,"a",null]'))
      tell("limit", db.prepare("SELECT key FROM t ORDER BY id LIMIT ?").all(2))
      tell(
        "many",
        db
          .prepare(`SELECT ${Array.from({ length: 500 }, () => "?").join("+")} AS sum`)
          .all(...Array(500).fill(1))
      )
      tell("size", db.serialize().length)
    }))

  it("fail with the same codes", () =>
    same((open, tell) => {
      const db = open()
      db.exec(table)
      db.exec(
        "CREATE TABLE child (t INTEGER NOT NULL REFERENCES t (id)); CREATE TABLE strict (n INTEGER) STRICT"
      )
      db.exec("INSERT INTO t (id, key) VALUES (1, 'a')")
      tell(
        "unique",
        attempt(() => db.prepare("INSERT INTO t (key) VALUES ('a')").run())
      )
      tell(
        "primary key",
        attempt(() => db.prepare("INSERT INTO t (id, key) VALUES (1, 'b')").run())
      )
      tell(
        "not null",
        attempt(() => db.prepare("INSERT INTO t (key) VALUES (?)").run(null))
      )
      tell(
        "check",
        attempt(() => db.prepare("INSERT INTO t (key, x) VALUES ('x', 13)").run())
      )
      tell(
        "foreign key",
        attempt(() => db.prepare("INSERT INTO child VALUES (?)").run(99))
      )
      tell(
        "type",
        attempt(() => db.prepare("INSERT INTO strict VALUES (?)").run("text"))
      )
      tell(
        "integral",
        attempt(() => db.prepare("INSERT INTO strict VALUES (?) RETURNING n, typeof(n) AS type").all(7))
      )
      tell(
        "syntax",
        attempt(() => db.prepare("SELEC 1"))
      )
      tell(
        "no table",
        attempt(() => db.prepare("SELECT * FROM nowhere"))
      )
      tell(
        "none",
        attempt(() => db.prepare("  -- nothing\n"))
      )
      tell(
        "several",
        attempt(() => db.prepare("SELECT 1; SELECT 2"))
      )
      tell(
        "several, but blank",
        attempt(() => db.prepare("SELECT 1 AS one; -- and no more\n /* at all */ ").all())
      )
      tell(
        "too few",
        attempt(() => db.prepare("SELECT ?").all())
      )
      tell(
        "too many",
        attempt(() => db.prepare("SELECT ?").all(1, 2))
      )
      tell(
        "boolean",
        attempt(() => db.prepare("SELECT ?").all(true))
      )
      tell(
        "date",
        attempt(() => db.prepare("SELECT ?").all(new Date(0)))
      )
      tell(
        "too big",
        attempt(() => db.prepare("SELECT ?").all(2n ** 64n))
      )
      tell(
        "all without data",
        attempt(() => db.prepare("DELETE FROM child").all())
      )
      db.close()
      tell(
        "closed",
        attempt(() => db.prepare("SELECT 1"))
      )
      tell(
        "closed",
        attempt(() => db.pragma("synchronous"))
      )
    }))
})

describe("transactions", () => {
  it("begin, end and break in the same way", () =>
    same((open, tell) => {
      const db = open()
      db.exec(table)
      const sql = (text: string) => attempt(() => db.prepare(text).run())
      tell("commit without begin", sql("COMMIT"))
      tell("begin", [sql("BEGIN IMMEDIATE"), db.inTransaction])
      tell("begin again", sql("BEGIN"))
      tell("insert", sql("INSERT INTO t (key) VALUES ('a'), ('b')"))
      tell("conflict", sql("INSERT INTO t (key) VALUES ('c'), ('a')"))
      tell("still within", [db.inTransaction, db.prepare("SELECT key FROM t").all()])
      tell("savepoint", [sql("SAVEPOINT s"), sql("DELETE FROM t"), sql("ROLLBACK TO s"), sql("RELEASE s")])
      tell("conflict that rolls back", sql("INSERT OR ROLLBACK INTO t (key) VALUES ('a')"))
      tell("outside", [db.inTransaction, db.prepare("SELECT key FROM t").all()])
      tell("rollback", sql("ROLLBACK"))
      tell("again", [sql("BEGIN"), sql("INSERT INTO t (key) VALUES ('z')"), sql("COMMIT"), db.inTransaction])
      tell("rows", db.prepare("SELECT * FROM t").all())
    }))

  it("keep others out while the database is held exclusively", () =>
    same((open, tell) => {
      const db = open()
      db.pragma("locking_mode=EXCLUSIVE")
      db.pragma("journal_mode=WAL")
      db.exec(table)
      const other = open({ timeout: 0 })
      tell(
        "read",
        attempt(() => other.prepare("SELECT * FROM t").all())
      )
      tell(
        "pragma",
        attempt(() => other.pragma("journal_mode"))
      )
      other.close()
      db.close()
      const next = open({ timeout: 0 })
      tell(
        "freed",
        attempt(() => next.prepare("SELECT count(*) AS n FROM t").all())
      )
    }))

  it("let readers beside a writer through shared memory", () =>
    same((open, tell) => {
      const writer = open({ timeout: 0 })
      tell("wal", writer.pragma("journal_mode=WAL"))
      writer.exec(table)
      const reader = open({ timeout: 0 })
      reader.prepare("BEGIN").run()
      tell("before", reader.prepare("SELECT count(*) AS n FROM t").all())
      writer.exec("INSERT INTO t (key) VALUES ('a')")
      tell("same snapshot", reader.prepare("SELECT count(*) AS n FROM t").all())
      tell(
        "stale write",
        attempt(() => reader.prepare("INSERT INTO t (key) VALUES ('b')").run())
      )
      reader.prepare("COMMIT").run()
      tell("after", reader.prepare("SELECT count(*) AS n FROM t").all())
      writer.prepare("BEGIN IMMEDIATE").run()
      tell(
        "second writer",
        attempt(() => reader.prepare("BEGIN IMMEDIATE").run())
      )
      tell(
        "read only",
        attempt(() => open({ readonly: true }).prepare("DELETE FROM t").run())
      )
    }))

  it("lock a database without a write-ahead log", () =>
    same((open, tell) => {
      const one = open({ timeout: 0 })
      const two = open({ timeout: 0 })
      one.exec(table)
      one.prepare("BEGIN IMMEDIATE").run()
      tell(
        "reading beside it",
        attempt(() => two.prepare("SELECT * FROM t").all())
      )
      tell(
        "writing beside it",
        attempt(() => two.prepare("BEGIN IMMEDIATE").run())
      )
      two.prepare("BEGIN").run()
      two.prepare("SELECT * FROM t").all()
      one.prepare("INSERT INTO t (key) VALUES ('a')").run()
      tell(
        "commit beside a reader",
        attempt(() => one.prepare("COMMIT").run())
      )
      tell(
        "new reader",
        attempt(() => open({ timeout: 0 }).prepare("SELECT * FROM t").all())
      )
      two.prepare("COMMIT").run()
      tell(
        "commit",
        attempt(() => one.prepare("COMMIT").run())
      )
      tell("seen", two.prepare("SELECT key FROM t").all())
    }))
})

describe("the simulated driver's own faults", () => {
  const inWorld = (faults: Partial<DiskFaults>, body: () => void) =>
    simulate({ choices: Choices.seeded(1), diskFaults: { ...noDiskFaults, ...faults } }, (world) => {
      const process = world.start("program", () => Effect.sync(body))
      world.run(() => process.exit !== undefined)
      expect(process.exit?._tag).toBe("Success")
    })

  it("a COMMIT and a ROLLBACK that fail leave the transaction open", () => {
    inWorld({ commitRefused: 1, rollbackError: 1 }, () => {
      const db = new Simulated("test.db")
      db.prepare("CREATE TABLE t (key)").run()
      db.prepare("BEGIN").run()
      db.prepare("INSERT INTO t VALUES (1)").run()
      for (const sql of ["COMMIT", "ROLLBACK"]) {
        expect(() => db.prepare(sql).run()).toThrow(/locked|I\/O/)
        expect(db.inTransaction).toBe(true)
      }
      expect(() => db.prepare("BEGIN").run()).toThrow(/within a transaction/)
      db.close()
    })
  })

  it("a fiber may pause after a statement, and let others in between", () => {
    const orders = Array.from({ length: 20 }, (_, seed) =>
      simulate({ choices: Choices.seeded(seed, { rates: { pause: 1 }, defaultRate: 0 }) }, (world) => {
        const order: Array<string> = []
        const process = world.start("program", () => {
          const steps = (name: string, db: Simulated) =>
            Effect.forEach([1, 2, 3], () =>
              Effect.sync(() => {
                db.prepare("SELECT 1").all()
                order.push(name)
              })
            )
          return Effect.suspend(() => {
            const db = new Simulated("test.db")
            return Effect.all([steps("a", db), steps("b", db)], { concurrency: "unbounded" })
          })
        })
        world.run(() => process.exit !== undefined)
        return order.join("")
      })
    )
    expect(new Set(orders).size).toBeGreaterThan(2)
    expect(orders.every((order) => [...order].sort().join("") === "aaabbb")).toBe(true)
  })
})
