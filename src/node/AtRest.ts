/**
 * Databases that no service holds: checked, or made a backup of. Nothing of them is changed, and nothing is left beside
 * them. SQLite names what it keeps beside a file after the name by which it was opened; so the file is opened by another
 * name, a hard link. Its locks are the file's own: a service that holds it is noticed, and none begins to meanwhile.
 *
 * A log that lies beside the file was left by a service that was killed, and holds its newest commits. Then a copy of
 * both is looked at, in which SQLite may join them.
 */
import { createReadStream, createWriteStream, linkSync, mkdtempSync, rmSync, statSync } from "node:fs"
import { open } from "node:fs/promises"
import { join } from "node:path"
import { pipeline } from "node:stream/promises"
import type { SqlClient } from "@effect/sql"
import { Effect, Either, type Scope } from "effect"
import { StoreRefused } from "../domain/Errors.ts"
import { type Mark, mark } from "../store/Backups.ts"
import { type CheckReport, check } from "../store/Check.ts"
import { refusalOf } from "../store/Connection.ts"
import type { CheckProgress } from "../store/Recount.ts"
import { type FileTrouble, writeWhole } from "./BackupFiles.ts"
import { connectTo } from "./SqliteCopies.ts"

/** A check that is ready to run. */
export type ReadyCheck = (
  progress?: (progress: CheckProgress) => Effect.Effect<void>
) => Effect.Effect<CheckReport>

/**
 * Opens a database that no service holds, to be checked as long as the scope lives. Refuses one that a service holds,
 * and what cannot be looked at without changing it. Once it is open nothing of it lies beside the file any more, so that
 * whatever ends the process in the middle of the check leaves nothing.
 */
export const openForCheck = (file: string): Effect.Effect<ReadyCheck, StoreRefused, Scope.Scope> =>
  Effect.gen(function* () {
    const { sql, folder, logs, isRead } = yield* hold(file)
    if (logs.length === 0) {
      if (isRead && folder !== "") yield* remove(folder)
      return (progress) => check(file, sql, progress)
    }
    const copy = join(folder, "copy")
    yield* copyTo(file, logs, copy)
    const copied = yield* connect(file, copy)
    const isCopyRead = yield* Effect.isSuccess(copied`SELECT count(*) FROM sqlite_schema`)
    if (isRead && isCopyRead) yield* remove(folder)
    const sentence =
      "A service that held it was killed: what its log holds beside it was checked with it, in a copy."
    return (progress) =>
      Effect.map(check(file, copied, progress), (report) => ({
        ...report,
        findings: [{ sound: true, sentence }, ...report.findings]
      }))
  })

/** Checks a database that no service holds (see `openForCheck`); the file is as it was when this returns. */
export const checkAtRest = (
  file: string,
  progress?: (progress: CheckProgress) => Effect.Effect<void>
): Effect.Effect<CheckReport, StoreRefused> =>
  Effect.scoped(Effect.flatMap(openForCheck(file), (ready) => ready(progress)))

/**
 * Makes a backup of a database that no service holds: the same as the service would hand out. `to` appears when it is
 * whole and on disk, in place of what was there before.
 */
export const backupAtRest = (from: string, to: string): Effect.Effect<Mark, StoreRefused | FileTrouble> =>
  Effect.gen(function* () {
    const { logs } = yield* hold(from)
    return yield* writeWhole(to, (partial) =>
      Effect.scoped(
        Effect.gen(function* () {
          yield* copyTo(from, logs, partial)
          const sql = yield* connect(from, partial)
          return yield* Effect.mapError(mark(from, sql), refusedBy(from))
        })
      )
    )
  }).pipe(Effect.scoped)

interface Held {
  /** Reads the file, without its log. */
  readonly sql: SqlClient.SqlClient
  /** A folder beside the file, which goes with the scope. */
  readonly folder: string
  /** What a killed service has left beside it. */
  readonly logs: ReadonlyArray<string>
  /** Whether it could be read, so that SQLite has opened all that it needs. */
  readonly isRead: boolean
}

const refusedBy = (file: string) => (cause: unknown) =>
  cause instanceof StoreRefused ? cause : refusalOf(file, cause)

const refuse = (file: string, what: string, cause?: unknown) =>
  new StoreRefused({ reason: "cannot be opened", sentence: `The database ${file} ${what}`, cause })

const connect = (name: string, file: string, options = {}) =>
  Effect.mapError(connectTo(file, options), refusedBy(name))

/** Keeps every service from the file as long as the scope lives; refuses if one holds it. */
const hold = (file: string): Effect.Effect<Held, StoreRefused, Scope.Scope> =>
  Effect.gen(function* () {
    if (statSync(file, { throwIfNoEntry: false })?.isFile() !== true)
      return yield* refuse(file, "is not there.")
    const linked = yield* Effect.either(link(file))
    if (Either.isLeft(linked)) yield* requireAlone(file, linked.left)
    const folder = Either.isRight(linked) ? linked.right : ""
    const sql = yield* connect(file, folder === "" ? file : join(folder, "link"), { readonly: true })
    // A read takes the lock, and the transaction keeps it. Damage does not matter yet.
    const locked = yield* Effect.either(
      Effect.zipRight(
        sql`PRAGMA busy_timeout = 0`,
        Effect.zipRight(sql`BEGIN`, sql`SELECT count(*) FROM sqlite_schema`)
      )
    )
    if (Either.isLeft(locked)) {
      const refused = refusalOf(file, locked.left)
      if (refused.reason === "in use") return yield* refused
    }
    return { sql, folder, logs: logsOf(file), isRead: Either.isRight(locked) }
  })

/** What a killed service may leave beside its database that belongs to it. */
const logsOf = (file: string): ReadonlyArray<string> =>
  ["-wal", "-journal"].filter((suffix) => (statSync(file + suffix, { throwIfNoEntry: false })?.size ?? 0) > 0)

/** A new folder beside a file, with a hard link to it. */
const link = (file: string) =>
  Effect.gen(function* () {
    const folder = yield* Effect.acquireRelease(
      Effect.try(() => mkdtempSync(`${file}-at-rest-`)),
      remove
    )
    yield* Effect.try(() => linkSync(file, join(folder, "link")))
    return folder
  })

const remove = (folder: string): Effect.Effect<void> =>
  Effect.sync(() => rmSync(folder, { recursive: true, force: true }))

/** Where there can be no link, only what SQLite keeps nothing beside can be opened. */
const requireAlone = (file: string, cause: unknown) =>
  Effect.gen(function* () {
    const header = yield* Effect.tryPromise({
      try: async () => {
        const handle = await open(file, "r")
        try {
          return (await handle.read(Buffer.alloc(100), 0, 100, 0)).buffer
        } finally {
          await handle.close()
        }
      },
      catch: refusedBy(file)
    })
    // The format that readers need to know: 2 is that of a database with a log.
    if (header[19] === 2 || logsOf(file).length > 0) {
      return yield* refuse(
        file,
        "cannot be looked at where it lies without changing it; copy it elsewhere.",
        cause
      )
    }
  })

/** Copies a file, and the logs that belong to it, which come first: the lock ends when the file itself was read. */
const copyTo = (file: string, logs: ReadonlyArray<string>, to: string) =>
  Effect.forEach(
    [...logs, ""],
    (suffix) =>
      Effect.tryPromise({
        try: (signal) =>
          pipeline(
            createReadStream(file + suffix),
            createWriteStream(to + suffix, { flags: "wx", mode: 0o600 }),
            { signal }
          ),
        catch: refusedBy(file)
      }),
    { discard: true }
  )
