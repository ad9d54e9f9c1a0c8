/**
 * `sekali backup`: a backup of a service, fetched from it while it goes on, or of a database that no service holds.
 */
import { existsSync, statSync } from "node:fs"
// Without a limit of its own: Node's fetch waits five minutes for an answer, in which a large store is not copied.
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import { Effect } from "effect"
import { isoTime } from "../domain/Timestamp.ts"
import { backupContentType } from "../http/Api.ts"
import { backupAtRest } from "../node/AtRest.ts"
import { dated, receive, rotate } from "../node/BackupFiles.ts"
import { databasePath } from "../node/SqliteDatabase.ts"
import { UsageError } from "./CommandLine.ts"
import { exitCodes, Failure } from "./Conventions.ts"
import { fetchFile } from "./Service.ts"
import { untilAsked } from "./Signals.ts"

/** The options and arguments of the command. */
export interface BackupOptions {
  readonly url: string
  /** The database to take it from, instead of a service. */
  readonly database: string | undefined
  /** How many backups to keep, each under a name of its own. */
  readonly keep: number | undefined
  readonly overwrite: boolean
  readonly file: string
}

/** Makes a backup, says so, and gives the exit code. */
export const backup = (options: BackupOptions): Effect.Effect<number, UsageError | Failure> =>
  Effect.gen(function* () {
    const { database, keep, overwrite } = options
    if (keep !== undefined && overwrite) {
      const sentence = "--overwrite does not go with --keep, which gives each backup a name of its own."
      return yield* new UsageError({ sentence })
    }
    const file = keep === undefined ? options.file : dated(options.file, Date.now())
    if (existsSync(file) && !overwrite) {
      const ways = "--overwrite replaces it, and --keep N gives each backup a name of its own"
      return yield* new Failure({ sentence: `${file} is there already: ${ways}.` })
    }
    const { storeId, at } = yield* database === undefined
      ? fetchBackup(options.url, file)
      : copyBackup(databasePath(database), file)
    const bytes = statSync(file).size.toLocaleString("en-US")
    process.stdout.write(`${file}: ${bytes} bytes, of the store ${storeId} as of ${isoTime(at)}\n`)
    const removed = keep === undefined ? [] : yield* rotate(options.file, keep)
    for (const path of removed) process.stdout.write(`${path}: removed\n`)
    return exitCodes.done
  }).pipe(Effect.catchTags({ FileTrouble: failed, StoreRefused: failed }), untilAsked)

const failed = ({ sentence }: { readonly sentence: string }): Failure => new Failure({ sentence })

const fetchBackup = (url: string, file: string) =>
  fetchFile(url, "/backup", backupContentType).pipe(
    Effect.flatMap((content) => receive(file, content)),
    Effect.provide(NodeHttpClient.layer)
  )

const copyBackup = (from: string, to: string) =>
  Effect.gen(function* () {
    if (isSameFile(from, to)) {
      return yield* new Failure({
        sentence: `${to} is the database itself; a backup needs a file of its own.`
      })
    }
    return yield* backupAtRest(from, to)
  })

const isSameFile = (left: string, right: string): boolean => {
  const [one, other] = [left, right].map((path) => statSync(path, { throwIfNoEntry: false }))
  return one !== undefined && other !== undefined && one.ino === other.ino && one.dev === other.dev
}
