/**
 * Backups as files: written so that a name never stands for half of one, and rotated, so that there are only so many.
 */
import { closeSync, fsyncSync, openSync, readdirSync, readSync, renameSync, rmSync, statSync } from "node:fs"
import { open } from "node:fs/promises"
import { hostname } from "node:os"
import { basename, dirname, extname, join } from "node:path"
import { Data, Effect, Stream } from "effect"
import { backupName, type Mark } from "../store/Backups.ts"
import { applicationId } from "../store/Migrations.ts"
import { connectTo, removeDatabase } from "./SqliteCopies.ts"

/** A file could not be written, read or removed, or is not what it has to be; `sentence` says so for a person. */
export class FileTrouble extends Data.TaggedError("FileTrouble")<{
  readonly sentence: string
  readonly cause?: unknown
}> {
  override get message(): string {
    return this.sentence
  }
}

const trouble = (what: string) => (cause: unknown) =>
  new FileTrouble({ sentence: `${what}: ${cause instanceof Error ? cause.message : cause}.`, cause })

// ---------- files that are being written ----------

const host = hostname().replace(/[^\w-]/g, "_")

/** The name that this process gives to a file while it is not whole; no other one writes to it. */
const partialOf = (file: string): string => `${file}.${host}-${process.pid}.partial`

const partialShape = /\.([\w-]+)-(\d+)\.partial$/

/** How old what another machine or container was writing has to be until nobody can be writing it any more. */
const foreignHoursMax = 24

/** Whether whoever was writing this file has been killed meanwhile. */
const isAbandoned = (partial: string): boolean => {
  const [, writer, pid] = partialShape.exec(partial) ?? []
  if (writer !== host) {
    const { mtimeMs } = statSync(partial, { throwIfNoEntry: false }) ?? { mtimeMs: 0 }
    return Date.now() - mtimeMs > foreignHoursMax * 3_600_000
  }
  return Number(pid) === process.pid || !isRunning(Number(pid))
}

const isRunning = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM"
  }
}

/** Removes what was left of `file` by processes that were killed while they wrote it. */
const removeAbandoned = (file: string) =>
  Effect.try({
    try: () => {
      const shape = new RegExp(`^${literally(basename(file))}${partialShape.source}`)
      const partials = readdirSync(dirname(file)).filter((name) => shape.test(name))
      return partials.map((name) => join(dirname(file), name)).filter(isAbandoned)
    },
    catch: trouble(`The file ${file} cannot be written`)
  }).pipe(Effect.flatMap(Effect.forEach(removeDatabase, { discard: true })))

/**
 * Lets `write` make a file under another name, and gives it its own when it is whole and on disk, in place of what was
 * there before. However it ends, nothing else is left; where the process is killed, until the next time. Several
 * processes may write the same file at once: it is always one of theirs, and whole.
 */
export const writeWhole = <A, E, R>(
  file: string,
  write: (partial: string) => Effect.Effect<A, E, R>
): Effect.Effect<A, E | FileTrouble, R> => {
  const partial = partialOf(file)
  const finish = Effect.try({
    try: () => {
      sync(partial)
      renameSync(partial, file)
      sync(dirname(file))
    },
    catch: trouble(`The file ${file} cannot be written`)
  })
  return removeAbandoned(file).pipe(
    Effect.zipRight(write(partial)),
    Effect.zipLeft(finish),
    Effect.onError(() => removeDatabase(partial))
  )
}

const sync = (path: string) => {
  const descriptor = openSync(path, "r")
  try {
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}

/**
 * Writes a backup that is being received. What does not turn out to be a whole backup is refused, and what `file` was
 * before stays.
 */
export const receive = <E, R>(
  file: string,
  content: Stream.Stream<Uint8Array, E, R>
): Effect.Effect<Mark & { readonly bytes: number }, E | FileTrouble, R> =>
  writeWhole(file, (partial) =>
    Effect.gen(function* () {
      const bytes = yield* writeStream(partial, content)
      const marked = yield* markOf(partial, bytes)
      if (marked === undefined) {
        return yield* new FileTrouble({ sentence: "What was received is not a whole backup." })
      }
      return { ...marked, bytes }
    })
  )

const writeStream = <E, R>(file: string, content: Stream.Stream<Uint8Array, E, R>) =>
  Effect.gen(function* () {
    const failed = trouble(`The file ${file} cannot be written`)
    const handle = yield* Effect.acquireRelease(
      Effect.tryPromise({ try: () => open(file, "wx", 0o600), catch: failed }),
      (handle) => Effect.promise(() => handle.close())
    )
    return yield* Stream.runFoldEffect(content, 0, (bytes, chunk) =>
      Effect.as(
        Effect.tryPromise({ try: () => handle.appendFile(chunk), catch: failed }),
        bytes + chunk.length
      )
    )
  }).pipe(Effect.scoped)

/** What a backup says of itself, if it is one and as long as it says. */
const markOf = (file: string, bytes: number) =>
  Effect.gen(function* () {
    const sql = yield* connectTo(file, { readonly: true })
    const [pages] = yield* sql<{ bytes: number }>`
      SELECT page_count * page_size AS bytes FROM pragma_page_count, pragma_page_size`
    const [marked] = yield* sql<Mark>`
      SELECT store_id AS "storeId", backup_at AS at FROM store WHERE backup_at IS NOT NULL`
    return pages?.bytes === bytes ? marked : undefined
  }).pipe(
    Effect.scoped,
    Effect.orElseSucceed(() => undefined)
  )

const partsOf = (file: string) => {
  const extension = extname(file)
  return { folder: dirname(file), stem: basename(file, extension), extension }
}

/** The name of one of several backups that go by `file`: the time is put into it. */
export const dated = (file: string, at: number): string => {
  const { folder, stem, extension } = partsOf(file)
  return join(folder, backupName(stem, at, extension))
}

/**
 * Removes all backups that go by `file` (see `dated`) but the newest `keep`, of which there must be one at least, and
 * what others that were killed have left unfinished; tells which. What bears such a name and is no database of Sekali
 * stays, and does not count.
 */
export const rotate = (file: string, keep: number): Effect.Effect<ReadonlyArray<string>, FileTrouble> =>
  Effect.try({
    try: () => {
      const { folder, stem, extension } = partsOf(file)
      const shape = new RegExp(
        `^${literally(stem)}-\\d{8}T\\d{9}Z${literally(extension)}(${partialShape.source})?$`
      )
      const named = readdirSync(folder).flatMap((name) => {
        const found = shape.exec(name)
        return found === null ? [] : [{ name, path: join(folder, name), partial: found[1] !== undefined }]
      })
      const whole = named
        .filter(({ path, partial }) => !partial && isOurs(path))
        .sort((left, right) => (left.name < right.name ? -1 : 1))
      const leftovers = named.filter(({ path, partial }) => partial && isAbandoned(path))
      const removed = [...whole.slice(0, -keep), ...leftovers].map(({ path }) => path)
      for (const path of removed) rmSync(path)
      return removed
    },
    catch: trouble(`The backups that go by ${file} cannot be rotated`)
  })

const literally = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")

/** Whether a file bears our mark, where SQLite keeps it. */
const isOurs = (path: string): boolean => {
  if (statSync(path, { throwIfNoEntry: false })?.isFile() !== true) return false
  const descriptor = openSync(path, "r")
  try {
    const header = Buffer.alloc(100)
    readSync(descriptor, header, 0, 100, 0)
    return header.toString("latin1", 0, 15) === "SQLite format 3" && header.readUInt32BE(68) === applicationId
  } finally {
    closeSync(descriptor)
  }
}
