/**
 * The cursor of a mirror in a file: whole or not there, whatever happens while it is written.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdirSync, readdirSync, readFileSync, statSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { Effect, Either } from "effect"
import { describe, expect, it } from "vitest"
import { MirrorCursor } from "../../src/mirror/Mirror.ts"
import * as CursorFile from "../../src/node/CursorFile.ts"
import { withFolder } from "../support/server.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))

const using = <A, E>(path: string, use: (cursor: MirrorCursor["Type"]) => Effect.Effect<A, E>) =>
  Effect.runPromise(
    Effect.flatMap(MirrorCursor, use).pipe(Effect.provide(CursorFile.layer(path)), Effect.either)
  )

describe("the file", () => {
  it("holds what was saved last, and makes its folder", async () => {
    await withFolder(async (folder) => {
      const path = join(folder, "a", "b", "cursor.json")
      expect(await using(path, ({ load }) => load)).toEqual(Either.right(undefined))
      for (const text of ["one", "two"]) {
        expect(await using(path, ({ save }) => save(text))).toEqual(Either.right(undefined))
        expect(await using(path, ({ load }) => load)).toEqual(Either.right(`${text}\n`))
      }
      expect(readdirSync(join(folder, "a", "b"))).toEqual(["cursor.json"])
      expect(statSync(path).mode & 0o777).toBe(0o600)
    })
  })

  it("is left as it is where it cannot be written, and nothing stays beside it", async () => {
    await withFolder(async (folder) => {
      const path = join(folder, "cursor.json")
      mkdirSync(path)
      const saved = await using(path, ({ save }) => save("text"))
      expect(Either.isLeft(saved) && saved.left.message).toMatch(`The file ${path} cannot be written: `)
      expect(readdirSync(folder)).toEqual(["cursor.json"])
    })
  })

  it("is whole whenever the process is killed", async () => {
    await withFolder(async (folder) => {
      const path = join(folder, "cursor.json")
      const texts = ["a".repeat(100_000), "b".repeat(200_000)]
      const script = `
        import { Effect } from "effect"
        import { MirrorCursor } from "./dist/mirror/Mirror.js"
        import { layer } from "./dist/node/CursorFile.js"
        const saving = Effect.flatMap(MirrorCursor, ({ save }) => Effect.gen(function* () {
          for (let n = 0; ; n++) {
            yield* save(n % 2 === 0 ? "a".repeat(100_000) : "b".repeat(200_000))
            process.stdout.write("saved")
          }
        }))
        Effect.runFork(Effect.provide(saving, layer(${JSON.stringify(path)})))`
      const words = ["--input-type=module", "--eval", script]
      for (let round = 0; round < 3; round++) {
        const child = spawn(process.execPath, words, { cwd: root, stdio: ["ignore", "pipe", "inherit"] })
        for (let saves = 0; saves <= round; saves++) await once(child.stdout, "data")
        child.kill("SIGKILL")
        await once(child, "close")
        expect(texts).toContain(readFileSync(path, "utf8").trimEnd())
      }
    })
  })
})
