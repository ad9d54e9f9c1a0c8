/**
 * Copies of a database that is in use, on Node: SQLite's online backup, made by the one connection that holds the
 * database, into a file beside it. The driver does a hundred pages in each turn of the event loop. Pages that are
 * written meanwhile go into the copy, too, and no step is made while a transaction is open, so that what comes out is a
 * committed state.
 */
import { closeSync, openSync, rmSync, statSync } from "node:fs"
import { type FileHandle, open, statfs } from "node:fs/promises"
import { dirname } from "node:path"
import * as Reactivity from "@effect/experimental/Reactivity"
import type { SqlClient } from "@effect/sql"
import { SqlError } from "@effect/sql/SqlError"
import * as SqliteClient from "@effect/sql-sqlite-node/SqliteClient"
import { Chunk, Effect, Option, Stream } from "effect"
import type { Copies, DatabaseCopy } from "../store/Database.ts"

/** Room that a copy leaves on the disk for the events that come meanwhile. */
const spareBytes = 16 * 1024 * 1024

const chunkBytes = 256 * 1024

/** How often a copy is synced while it grows. */
const syncEvery = "500 millis"

const failure = (message: string) => (cause: unknown) => new SqlError({ cause, message })

/** Opens one connection to a file, as the driver opens it by default. */
export const connectTo = (filename: string, { readonly = false } = {}) =>
  SqliteClient.make({ filename, readonly, disableWAL: true }).pipe(
    // The driver throws where the file cannot be opened.
    Effect.catchAllDefect(failure("the database cannot be opened")),
    Effect.provide(Reactivity.layer)
  )

/** What SQLite may keep beside a file. */
export const companions = ["-journal", "-wal", "-shm"]

/** Removes a database file and all that SQLite may have left beside it. */
export const removeDatabase = (file: string): Effect.Effect<void> =>
  Effect.sync(() => {
    for (const suffix of ["", ...companions]) rmSync(file + suffix, { force: true })
  })

/** An empty file that nobody else may read. */
export const createPrivate = (file: string): void => closeSync(openSync(file, "wx", 0o600))

// Found out beforehand, because a copy that fills the disk takes the room of the events that come meanwhile.
const requireRoom = (database: string) =>
  Effect.tryPromise({
    try: async () => {
      const bytes = ["", "-wal"].reduce(
        (sum, suffix) => sum + (statSync(database + suffix, { throwIfNoEntry: false })?.size ?? 0),
        spareBytes
      )
      const { bavail, bsize } = await statfs(dirname(database))
      if (bavail * bsize >= bytes) return
      throw Object.assign(new Error(`${bytes} bytes are needed, ${bavail * bsize} are free`), {
        code: "ENOSPC"
      })
    },
    catch: failure("there is no room for a copy")
  })

// The connection has to have come from `connect`, whose driver this is.
const copyPages = (sql: SqlClient.SqlClient, to: string) =>
  (sql as SqliteClient.SqliteClient).backup(to).pipe(
    // A first step that finds a transaction open copies nothing, which the driver takes for the end.
    Effect.repeat({ until: ({ totalPages }) => totalPages > 0 })
  )

/**
 * Syncs a file again and again on another thread. SQLite syncs the whole copy at its end, on the thread of everyone:
 * this leaves little to do for it then.
 */
const syncing = (handle: FileHandle) =>
  Effect.promise(() => handle.datasync().catch(() => undefined)).pipe(
    Effect.delay(syncEvery),
    Effect.forever,
    Effect.interruptible,
    Effect.forkScoped
  )

const contentOf = (handle: FileHandle, bytes: number): DatabaseCopy["content"] =>
  Stream.paginateChunkEffect(0, (from) =>
    Effect.tryPromise({
      try: async () => {
        const { bytesRead, buffer } = await handle.read(
          Buffer.allocUnsafeSlow(chunkBytes),
          0,
          chunkBytes,
          from
        )
        if (bytesRead === 0) throw new Error(`the copy ends after ${from} of ${bytes} bytes`)
        return buffer.subarray(0, bytesRead)
      },
      catch: failure("the copy cannot be read")
    }).pipe(
      Effect.map((read) => {
        const to = from + read.length
        return [Chunk.of<Uint8Array>(read), to < bytes ? Option.some(to) : Option.none()] as const
      })
    )
  )

/** Copies of the database in a file. */
export const copiesOf = (database: string): Copies => {
  const file = `${database}-backup`
  const tidy = removeDatabase(file)
  return {
    tidy,
    make: (sql, finish) =>
      Effect.gen(function* () {
        yield* tidy
        yield* requireRoom(database)
        yield* Effect.try({ try: () => createPrivate(file), catch: failure("the copy cannot be made") })
        const handle = yield* Effect.acquireRelease(
          Effect.tryPromise({ try: () => open(file, "r"), catch: failure("the copy cannot be opened") }),
          (handle) => Effect.promise(() => handle.close())
        )
        yield* Effect.scoped(Effect.zipRight(syncing(handle), copyPages(sql, file)))
        const finished = yield* Effect.scoped(Effect.flatMap(connectTo(file), finish))
        const { size } = yield* Effect.tryPromise({
          try: () => handle.stat(),
          catch: failure("the copy cannot be read")
        })
        return [finished, { bytes: size, content: contentOf(handle, size) }] as const
        // From here on the open file is all that is left of it: whatever ends this process takes it away.
      }).pipe(Effect.ensuring(tidy))
  }
}
