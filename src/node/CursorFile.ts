/**
 * The cursor of a mirror in a file. It is written beside that, synced, and put in its place by a rename, so that whatever
 * stops the process or the machine leaves one whole cursor or the other. (The folder is not synced: the older one does
 * as well.)
 */
import { randomUUID } from "node:crypto"
import { constants } from "node:fs"
import { access, open, readFile, rename, rm } from "node:fs/promises"
import { dirname } from "node:path"
import { Effect, Layer } from "effect"
import { CursorTrouble, MirrorCursor } from "../mirror/Mirror.ts"
import { makeFolder } from "./Folders.ts"

const attempt = <A>(path: string, what: string, action: () => Promise<A>): Effect.Effect<A, CursorTrouble> =>
  Effect.tryPromise({
    try: action,
    catch: (error) =>
      new CursorTrouble({ sentence: `The file ${path} cannot be ${what}: ${(error as Error).message}.` })
  })

const read = async (path: string): Promise<string | undefined> => {
  try {
    return await readFile(path, "utf8")
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined
    throw error
  }
}

const write = async (path: string, text: string): Promise<void> => {
  // A name of its own: there may be two mirrors by mistake.
  const beside = `${path}.${randomUUID()}`
  try {
    const file = await open(beside, "wx", 0o600)
    try {
      await file.writeFile(text)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(beside, path)
  } catch (error) {
    await rm(beside, { force: true })
    throw error
  }
}

/** Keeps the cursor in a file, whose folder is made if it is not there. */
export const layer = (path: string): Layer.Layer<MirrorCursor, CursorTrouble> =>
  Layer.effect(
    MirrorCursor,
    attempt(path, "written", async () => {
      makeFolder(dirname(path))
      await access(dirname(path), constants.W_OK)
    }).pipe(
      Effect.as({
        load: attempt(path, "read", () => read(path)),
        // Not to be interrupted, so that nothing is left beside it.
        save: (text: string) =>
          Effect.uninterruptible(attempt(path, "written", () => write(path, `${text}\n`)))
      })
    )
  )
