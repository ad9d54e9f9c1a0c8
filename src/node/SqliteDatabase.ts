/**
 * The database edge on Node: one connection of better-sqlite3 to the file of the settings, whose folder is made if it
 * is not there. What the connection is made fit with (WAL, durability, locks) is the store's affair.
 */
import { closeSync, existsSync, fsyncSync, openSync, readSync, statSync, writeSync } from "node:fs"
import { dirname } from "node:path"
import { SqlError } from "@effect/sql/SqlError"
import { Effect, Layer } from "effect"
import { Settings } from "../Config.ts"
import { StoreRefused } from "../domain/Errors.ts"
import { Database } from "../store/Database.ts"
import { makeFolder } from "./Folders.ts"
import { connectTo, copiesOf } from "./SqliteCopies.ts"

/** The path in a `file:` setting. */
export const databasePath = (setting: string): string => setting.replace(/^file:(\/\/)?/, "")

/** Where SQLite keeps in a database's first bytes whether it is one with a write-ahead log (2) or without (1). */
const formatAt = 19

/**
 * Whether a file was put in the place of a database that was killed, and lies now beside the log of that one, as it can
 * happen to a backup. SQLite would take the log for its own, and the file would be neither the one nor the other.
 */
const besideForeignLog = (file: string): boolean => {
  const log = statSync(`${file}-wal`, { throwIfNoEntry: false })
  if (log === undefined || log.size === 0 || !existsSync(file)) return false
  // Never closed: that would end every lock that this process has on the file, also those of SQLite.
  const descriptor = openSync(file, "r")
  const header = Buffer.alloc(formatAt + 1)
  return readSync(descriptor, header, 0, header.length, 0) === header.length && header[formatAt] === 1
}

const chunkBytes = 1024 * 1024

const writeLogAgain = (file: string) =>
  Effect.try({
    try: () => {
      const log = `${file}-wal`
      if (!existsSync(log)) return
      const descriptor = openSync(log, "r+")
      try {
        const chunk = Buffer.alloc(chunkBytes)
        let at = 0
        for (let read = readSync(descriptor, chunk, 0, chunkBytes, at); read > 0; ) {
          at += writeSync(descriptor, chunk, 0, read, at)
          read = readSync(descriptor, chunk, 0, chunkBytes, at)
        }
        fsyncSync(descriptor)
      } finally {
        closeSync(descriptor)
      }
    },
    catch: (cause) => new SqlError({ cause, message: "the log cannot be written again" })
  })

const bytesOf = (file: string): number => statSync(file, { throwIfNoEntry: false })?.size ?? 0

/** The database file of the settings. */
export const layer: Layer.Layer<Database, never, Settings> = Layer.effect(
  Database,
  Effect.map(Settings, ({ database }) => {
    const filename = databasePath(database)
    let started = false
    const prepare = Effect.try({
      try: () => {
        makeFolder(dirname(filename))
        if (!started && besideForeignLog(filename)) {
          const what = "was put in the place of another one, whose log still lies beside it"
          const sentence = `The database ${filename} ${what}: remove ${filename}-wal first.`
          throw new StoreRefused({ reason: "cannot be opened", sentence })
        }
        started = true
      },
      catch: (cause) =>
        cause instanceof StoreRefused
          ? cause
          : new SqlError({ cause, message: "the folder of the database cannot be made" })
    })
    return {
      name: filename,
      writeLogAgain: writeLogAgain(filename),
      connect: Effect.zipRight(prepare, connectTo(filename)),
      copies: copiesOf(filename),
      size: Effect.sync(() => ({ database: bytesOf(filename), log: bytesOf(`${filename}-wal`) }))
    }
  })
)
