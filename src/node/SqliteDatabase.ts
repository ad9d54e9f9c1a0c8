/**
 * The database edge on Node: one connection of better-sqlite3 to the file of the settings, whose folder is made if it
 * is not there. What the connection is made fit with (WAL, durability, locks) is the store's affair.
 */
import { existsSync, mkdirSync } from "node:fs"
import { dirname } from "node:path"
import * as Reactivity from "@effect/experimental/Reactivity"
import { SqlError } from "@effect/sql/SqlError"
import * as SqliteClient from "@effect/sql-sqlite-node/SqliteClient"
import { Effect, Layer } from "effect"
import { Settings } from "../Config.ts"
import { Database } from "../store/Database.ts"

/** The path in a `file:` setting. */
export const databasePath = (setting: string): string => setting.replace(/^file:(\/\/)?/, "")

// One folder after the other: Node's own recursive form never ends where a folder cannot be made below an existing one
// that says it is not there, as in /proc.
const makeFolder = (folder: string): void => {
  if (existsSync(folder)) return
  makeFolder(dirname(folder))
  mkdirSync(folder)
}

/** The database file of the settings. */
export const layer: Layer.Layer<Database, never, Settings> = Layer.effect(
  Database,
  Effect.map(Settings, ({ database }) => {
    const filename = databasePath(database)
    return {
      name: filename,
      connect: Effect.zipRight(
        Effect.try({
          try: () => makeFolder(dirname(filename)),
          catch: (cause) => new SqlError({ cause, message: "the folder of the database cannot be made" })
        }),
        SqliteClient.make({ filename, disableWAL: true })
      ).pipe(
        // The driver throws where the file cannot be opened.
        Effect.catchAllDefect((cause) => new SqlError({ cause, message: "the database cannot be opened" })),
        Effect.provide(Reactivity.layer)
      )
    }
  })
)
