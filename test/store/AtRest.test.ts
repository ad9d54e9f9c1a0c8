/**
 * Databases that no service holds, and backups as files: what is made of them is whole, and what they were stays.
 */
import { spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync
} from "node:fs"
import { createRequire } from "node:module"
import { hostname } from "node:os"
import { basename } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Stream, TestClock } from "effect"
import { backupAtRest, checkAtRest } from "../../src/node/AtRest.ts"
import { dated, receive, rotate } from "../../src/node/BackupFiles.ts"
import { latestMigration } from "../../src/store/Migrations.ts"
import { edit, makeVersionOne } from "../support/databases.ts"
import { makeEvents } from "../support/events.ts"
import {
  copyAsKilled,
  databaseAt,
  eventsOf,
  fingerprint,
  openClosable,
  openStoreAt,
  temporaryFolder
} from "../support/stores.ts"

const start = Date.UTC(2026, 10, 22)

/** A folder of its own, and in it a database that was closed in good order. */
const place = Effect.gen(function* () {
  const folder = yield* temporaryFolder
  const file = `${folder}/sekali.db`
  const { store, close } = yield* openClosable(databaseAt(file))
  yield* store.append(makeEvents(3))
  yield* close
  return { folder, file }
})

/** The same as a kill leaves it: two more events are in its log alone. */
const killedPlace = Effect.gen(function* () {
  const live = yield* place
  const { store } = yield* openClosable(databaseAt(live.file))
  yield* store.append(makeEvents(5))
  const folder = yield* temporaryFolder
  const file = `${folder}/sekali.db`
  copyAsKilled(live.file, file)
  expect(statSync(`${file}-wal`).size).toBeGreaterThan(0)
  return { folder, file }
})

const namesIn = (folder: string) => readdirSync(folder).sort()
const modeOf = (file: string) => statSync(file).mode & 0o777
const stampsOf = (folder: string) =>
  namesIn(folder).map((name) => [
    name,
    statSync(`${folder}/${name}`).mtimeMs,
    statSync(`${folder}/${name}`).ino
  ])

/** The name under which a process of this machine writes a file that is not whole yet. */
const partialOf = (file: string, pid: number): string => `${file}.${hostname()}-${pid}.partial`

/** The id of a process that is no more. */
const killed = (): number => spawnSync("true").pid

describe("a check", () => {
  it.scoped("of a database in which a service was stopped leaves everything as it is", () =>
    Effect.gen(function* () {
      const { folder, file } = yield* place
      const before = [fingerprint(folder), stampsOf(folder)]
      const report = yield* checkAtRest(file)
      expect(report).toMatchObject({ sound: true, figures: { received: 3 } })
      expect([fingerprint(folder), stampsOf(folder)]).toEqual(before)
    })
  )

  it.scoped("of one in which a service was killed sees what its log holds, says so, and leaves both", () =>
    Effect.gen(function* () {
      const { folder, file } = yield* killedPlace
      const before = [fingerprint(folder), stampsOf(folder)]
      const report = yield* checkAtRest(file)
      expect(report).toMatchObject({ sound: true, figures: { received: 8, uniqueProcessed: 5 } })
      expect(report.findings[0]?.sentence).toContain("was killed")
      expect([fingerprint(folder), stampsOf(folder)]).toEqual(before)
    })
  )

  it.scoped("of a backup leaves it as it is", () =>
    Effect.gen(function* () {
      const { folder, file } = yield* place
      yield* backupAtRest(file, `${folder}/backup.db`)
      const before = [fingerprint(folder), stampsOf(folder)]
      expect(yield* checkAtRest(`${folder}/backup.db`)).toMatchObject({
        sound: true,
        figures: { received: 3, backupAt: 0 }
      })
      expect([fingerprint(folder), stampsOf(folder)]).toEqual(before)
    })
  )

  it.scoped("names what is not there, no database, or damaged", () =>
    Effect.gen(function* () {
      const { folder, file } = yield* place
      expect((yield* Effect.flip(checkAtRest(`${folder}/none.db`))).sentence).toBe(
        `The database ${folder}/none.db is not there.`
      )
      expect((yield* Effect.flip(checkAtRest(folder))).sentence).toContain("is not there")
      writeFileSync(`${folder}/notes.db`, "these are my notes, and no database\n".repeat(200))
      expect(yield* checkAtRest(`${folder}/notes.db`)).toMatchObject({ sound: false, figures: undefined })
      edit(file, (database) => database.exec("UPDATE store SET received = 7"))
      expect(yield* checkAtRest(file)).toMatchObject({ sound: false, figures: { received: 7 } })
      truncateSync(file, 5000)
      expect(yield* checkAtRest(file)).toMatchObject({ sound: false })
      expect(namesIn(folder)).toEqual(["notes.db", "sekali.db"])
    })
  )
})

describe("where a file can have no second name", () => {
  // As long as a name may be, with what SQLite adds to it, but not with what is added here.
  const long = "x".repeat(245)

  it.scoped("a backup is checked and copied all the same, and a database with a log is refused", () =>
    Effect.gen(function* () {
      const { folder, file } = yield* place
      yield* backupAtRest(file, `${folder}/backup.db`)
      copyFileSync(`${folder}/backup.db`, `${folder}/${long}`)
      expect(yield* checkAtRest(`${folder}/${long}`)).toMatchObject({ sound: true, figures: { received: 3 } })
      yield* backupAtRest(`${folder}/${long}`, `${folder}/again.db`)
      copyFileSync(file, `${folder}/${long}`)
      const before = fingerprint(folder)
      for (const refused of [
        yield* Effect.flip(checkAtRest(`${folder}/${long}`)),
        yield* Effect.flip(backupAtRest(`${folder}/${long}`, `${folder}/more.db`))
      ]) {
        expect(refused.message).toContain(
          "cannot be looked at where it lies without changing it; copy it elsewhere."
        )
      }
      expect(fingerprint(folder)).toEqual(before)
    })
  )
})

describe("a backup of a database at rest", () => {
  it.scoped("is one file with all events, marked with the time, for its owner alone", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(start)
      for (const { folder, file } of [yield* place, yield* killedPlace]) {
        const before = fingerprint(folder)
        const target = yield* temporaryFolder
        const backup = `${target}/backup.db`
        const live = yield* checkAtRest(file)
        const marked = yield* backupAtRest(file, backup)
        expect(marked).toEqual({ storeId: live.figures?.storeId, at: start })
        expect(fingerprint(folder)).toEqual(before)
        expect(namesIn(target)).toEqual(["backup.db"])
        expect(modeOf(backup)).toBe(0o600)
        expect(yield* checkAtRest(backup)).toEqual({
          sound: true,
          findings: expect.anything(),
          figures: { ...live.figures, backupAt: start }
        })
        const restored = yield* openStoreAt(backup)
        expect(yield* restored.books).toMatchObject({ received: live.figures?.received, epoch: 2 })
        expect((yield* eventsOf(restored)).length).toBe(live.figures?.uniqueProcessed)
      }
    })
  )

  it.scoped("of an older schema is one of the newest, and the original stays as old", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      yield* makeVersionOne(`${folder}/old.db`)
      const before = fingerprint(folder)
      yield* backupAtRest(`${folder}/old.db`, `${folder}/backup.db`)
      expect(fingerprint(folder)).toMatchObject(before)
      expect(yield* checkAtRest(`${folder}/backup.db`)).toMatchObject({
        sound: true,
        figures: {
          schema: latestMigration,
          received: 3,
          epoch: 1,
          storeId: expect.stringMatching(/^[0-9a-f]{16}$/)
        }
      })
    })
  )

  it.scoped("of a backup stays the backup that it was", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(start)
      const { folder, file } = yield* place
      const first = yield* backupAtRest(file, `${folder}/first.db`)
      yield* TestClock.adjust("1 day")
      expect(yield* backupAtRest(`${folder}/first.db`, `${folder}/second.db`)).toEqual(first)
    })
  )

  it.scoped("takes the place of an older one when it is whole, and leaves that where it fails", () =>
    Effect.gen(function* () {
      const { folder, file } = yield* place
      const target = yield* temporaryFolder
      const backup = `${target}/backup.db`
      writeFileSync(backup, "an older backup")
      const left = partialOf(backup, killed())
      for (const path of [left, `${left}-journal`]) writeFileSync(path, "left by a kill")
      const others = [partialOf(backup, process.ppid), `${backup}.elsewhere-1.partial`]
      for (const other of others) writeFileSync(other, "is being written")
      writeFileSync(`${folder}/notes.db`, "these are my notes, and no database\n".repeat(200))
      writeFileSync(`${folder}/empty.db`, "")
      for (const [from, why] of [
        [`${folder}/notes.db`, "is not a SQLite database"],
        [`${folder}/empty.db`, "is empty"],
        [`${folder}/none.db`, "is not there"]
      ] as const) {
        expect((yield* Effect.flip(backupAtRest(from, backup))).message).toContain(why)
        expect(readFileSync(backup, "utf8")).toBe("an older backup")
      }
      expect((yield* Effect.flip(backupAtRest(file, `${target}/no/such/folder.db`))).message).toContain(
        "ENOENT"
      )
      yield* backupAtRest(file, backup)
      expect(namesIn(target)).toEqual([...others.map((path) => basename(path)), "backup.db"].sort())
      expect((yield* checkAtRest(backup)).sound).toBe(true)
      // What another machine was writing is given up after a day.
      const yesterday = new Date(Date.now() - 25 * 3_600_000)
      for (const other of others) utimesSync(other, yesterday, yesterday)
      yield* backupAtRest(file, backup)
      expect(namesIn(target)).toEqual([basename(others[0] ?? ""), "backup.db"].sort())
    })
  )
})

/** Opens a database for a process of its own, as a service does. */
const open = (file: string) => `
  const database = new (require(${JSON.stringify(createRequire(import.meta.url).resolve("better-sqlite3"))}))(
    ${JSON.stringify(file)}, { timeout: 0 })
  database.pragma("locking_mode = EXCLUSIVE")`

describe("a database that is held", () => {
  it.scoped("by another process is refused and left untouched; once that was killed, its log is read", () =>
    Effect.gen(function* () {
      const { folder, file } = yield* place
      const script = `
        ${open(file)}
        database.exec("BEGIN IMMEDIATE; UPDATE store SET opened = opened + 1; COMMIT")
        process.stdout.write("held")
        process.stdin.resume()`
      const child = yield* Effect.acquireRelease(
        Effect.sync(() => spawn(process.execPath, ["-e", script], { stdio: ["pipe", "pipe", "inherit"] })),
        (child) => Effect.sync(() => child.kill("SIGKILL"))
      )
      yield* Effect.promise(() => once(child.stdout, "data"))
      const before = fingerprint(folder)
      for (const refused of [
        yield* Effect.flip(checkAtRest(file)),
        yield* Effect.flip(backupAtRest(file, `${folder}/backup.db`))
      ]) {
        expect(refused.message).toBe(`The database ${file} is in use by another process.`)
        expect(fingerprint(folder)).toEqual(before)
      }
      const gone = once(child, "exit")
      child.kill("SIGKILL")
      yield* Effect.promise(() => gone)
      expect(yield* checkAtRest(file)).toMatchObject({ sound: true, figures: { received: 3 } })
    })
  )

  it.scoped("by this process stays so, also after it was refused a second time here", () =>
    Effect.gen(function* () {
      const { file } = yield* place
      const store = yield* openStoreAt(file)
      yield* store.append(makeEvents(1))
      expect(statSync(`${file}-wal`).size).toBeGreaterThan(0)
      yield* Effect.flip(Effect.scoped(openStoreAt(file)))
      yield* Effect.flip(checkAtRest(file))
      // Whoever closes a file loses all locks of the process on it; SQLite would notice here, but not elsewhere.
      const { stderr } = spawnSync(
        process.execPath,
        ["-e", `${open(file)}; database.prepare("SELECT 1 FROM store").get()`],
        {
          encoding: "utf8"
        }
      )
      expect(stderr).toContain("SQLITE_BUSY")
    })
  )

  it.scoped("by a check cannot be taken by a service meanwhile, and can be after it", () =>
    Effect.gen(function* () {
      const { file } = yield* place
      let refusals = 0
      yield* checkAtRest(file, () =>
        Effect.gen(function* () {
          const refused = yield* Effect.flip(Effect.scoped(openStoreAt(file)))
          expect(refused.reason).toBe("in use")
          refusals++
        }).pipe(Effect.orDie)
      )
      expect(refusals).toBeGreaterThan(0)
      expect(yield* (yield* openStoreAt(file)).books).toMatchObject({ received: 3, epoch: 1 })
    })
  )
})

describe("a backup that was put in the place of a database that was killed", () => {
  it.scoped("is refused beside the log of that one, and opened once it is gone", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(start)
      const { folder, file } = yield* killedPlace
      yield* backupAtRest((yield* place).file, `${folder}/backup.db`)
      copyFileSync(`${folder}/backup.db`, file)
      const before = fingerprint(folder)
      const refused = yield* Effect.flip(Effect.scoped(openStoreAt(file)))
      expect(refused.sentence).toContain(`remove ${file}-wal first.`)
      expect(fingerprint(folder)).toEqual(before)
      yield* Effect.sync(() => truncateSync(`${file}-wal`))
      expect(yield* (yield* openStoreAt(file)).books).toMatchObject({ received: 3, epoch: 2 })
    })
  )
})

describe("a backup that is received", () => {
  const bytesOf = (file: string) => Stream.fromIterable([...chunksOf(readFileSync(file))])
  function* chunksOf(bytes: Buffer) {
    for (let at = 0; at < bytes.length; at += 1000) yield bytes.subarray(at, at + 1000)
  }

  it.scoped("is written whole, for its owner alone", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(start)
      const { folder, file } = yield* place
      const target = yield* temporaryFolder
      const marked = yield* backupAtRest(file, `${folder}/backup.db`)
      const { size } = statSync(`${folder}/backup.db`)
      expect(yield* receive(`${target}/b.db`, bytesOf(`${folder}/backup.db`))).toEqual({
        ...marked,
        bytes: size
      })
      expect(namesIn(target)).toEqual(["b.db"])
      expect(modeOf(`${target}/b.db`)).toBe(0o600)
      expect(readFileSync(`${target}/b.db`).equals(readFileSync(`${folder}/backup.db`))).toBe(true)
    })
  )

  it.scoped("in part, or is no backup, or breaks off, leaves what was there before", () =>
    Effect.gen(function* () {
      const { folder, file } = yield* place
      yield* backupAtRest(file, `${folder}/backup.db`)
      const target = yield* temporaryFolder
      const into = `${target}/b.db`
      writeFileSync(into, "an older backup")
      const bytes = readFileSync(`${folder}/backup.db`)
      for (const wrong of [
        Stream.make(bytes.subarray(0, bytes.length - 4096)),
        Stream.make(bytes, Buffer.alloc(4096)),
        Stream.make(readFileSync(file)),
        Stream.make(Buffer.from('{"status":503}')),
        Stream.empty,
        Stream.concat(Stream.make(bytes), Stream.fail("cut"))
      ]) {
        expect(["What was received is not a whole backup.", "cut"]).toContain(
          yield* Effect.map(Effect.flip(receive(into, wrong)), (error) =>
            typeof error === "string" ? error : error.message
          )
        )
        expect(namesIn(target)).toEqual(["b.db"])
        expect(readFileSync(into, "utf8")).toBe("an older backup")
      }
      const fiber = yield* Effect.fork(receive(into, Stream.concat(Stream.make(bytes), Stream.never)))
      yield* Effect.yieldNow().pipe(Effect.repeat({ until: () => existsSync(partialOf(into, process.pid)) }))
      yield* Fiber.interrupt(fiber)
      expect(namesIn(target)).toEqual(["b.db"])
    })
  )
})

describe("rotation", () => {
  it.scoped("keeps the newest of its own, and leaves everything else", () =>
    Effect.gen(function* () {
      const { file } = yield* place
      const folder = yield* temporaryFolder
      const series = `${folder}/sek.ali.db`
      const at = (n: number) => dated(series, start + n * 1000)
      expect(at(1)).toBe(`${folder}/sek.ali-20261122T000001000Z.db`)
      for (let n = 1; n <= 5; n++) yield* backupAtRest(file, at(n))
      const others = [
        "sek.ali.db",
        "sekxali-20261122T000000000Z.db",
        "sek.ali-20261122T000000000Z.db.gz",
        "sek.ali-20261122T000000000Zxdb",
        "sek.ali-2026.db",
        "sek.ali-old-20261122T000000000Z.db",
        "other-20261122T000000000Z.db",
        basename(partialOf("sek.ali-20261122T000001000Z.db", process.ppid))
      ]
      for (const name of others) copyFileSync(at(1), `${folder}/${name}`)
      writeFileSync(`${folder}/sek.ali-20261122T000000001Z.db`, "no database, though it is called like one")
      mkdirSync(`${folder}/sek.ali-20261122T000000002Z.db`)
      const left = partialOf(at(2), killed())
      writeFileSync(left, "left by a kill")
      const stays = [...others, "sek.ali-20261122T000000001Z.db", "sek.ali-20261122T000000002Z.db"]

      expect(yield* rotate(series, 3)).toEqual([at(1), at(2), left])
      expect(namesIn(folder)).toEqual(
        [...stays, ...[3, 4, 5].map((n) => at(n).slice(folder.length + 1))].sort()
      )
      expect(yield* rotate(series, 3)).toEqual([])
      expect(yield* rotate(series, 9)).toEqual([])
      expect(yield* rotate(series, 1)).toEqual([at(3), at(4)])
      expect((yield* checkAtRest(at(5))).sound).toBe(true)
      expect((yield* Effect.flip(rotate(`${folder}/none/x.db`, 1))).message).toContain("ENOENT")
    })
  )

  it.scoped("also goes by a name without an extension", () =>
    Effect.gen(function* () {
      const { file } = yield* place
      const series = `${yield* temporaryFolder}/nightly`
      for (let n = 1; n <= 3; n++) yield* backupAtRest(file, dated(series, start + n))
      expect(yield* rotate(series, 2)).toEqual([dated(series, start + 1)])
    })
  )
})
