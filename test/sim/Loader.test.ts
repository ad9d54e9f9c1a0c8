import { execFile } from "node:child_process"
import { promisify } from "node:util"
import { describe, expect, it } from "vitest"
import { applyMutants, checkMutants, type Mutant, root } from "../../sim/loader/mutate.mjs"
import { simulated } from "../../sim/loader/vitest.ts"
import { greet } from "./fixture/greet.ts"

const file = "test/sim/fixture/greet.ts"
const mutant: Mutant = { file, find: "hello", replace: "goodbye" }

const node = async (mutants: ReadonlyArray<Mutant>) => {
  const env = { ...process.env, SEKALI_SIM_MUTANTS: JSON.stringify(mutants), NODE_OPTIONS: "" }
  const args = ["--import", "./sim/loader/register.mjs", "test/sim/fixture/main.ts"]
  return (await promisify(execFile)(process.execPath, args, { cwd: root, env })).stdout
}

describe("the loader", () => {
  it("gives the driver its simulated disk and leaves modules alone", async () => {
    expect(await node([])).toBe("hello world, simulated\n")
  })

  it("applies mutants as modules are loaded", async () => {
    const second = { file, find: "{name}", replace: "{name.toUpperCase()}" }
    expect(await node([mutant, second])).toBe("goodbye WORLD, simulated\n")
    expect(greet("world")).toBe("hello world")
  })

  it("refuses a mutant that does not apply, before anything runs", async () => {
    await expect(node([{ ...mutant, find: "good morning" }])).rejects.toThrow(/occurs 0 times, not once/)
    await expect(node([{ ...mutant, find: "e" }])).rejects.toThrow(/occurs \d+ times, not once/)
    expect(() => checkMutants([{ ...mutant, file: "test/sim/fixture/none.ts" }])).toThrow(/ENOENT/)
    expect(() => checkMutants([{ ...mutant, find: "" }])).toThrow(/is empty/)
  })

  it("applies several mutants of one file in their order", () => {
    const mutants = [mutant, { file, find: "goodbye", replace: "farewell" }]
    expect(applyMutants(`${root}${file}`, "hello", mutants)).toBe("farewell")
    expect(applyMutants(`${root}other.ts`, "hello", mutants)).toBeUndefined()
  })

  it("does the same as a plugin of vitest", () => {
    const plugin = simulated([mutant])
    const transform = plugin.transform as (code: string, id: string) => unknown
    expect(transform("hello", `${root}${file}?v=1`)).toBe("goodbye")
    expect(transform("hello", `${root}src/other.ts`)).toBeUndefined()
    const resolveId = plugin.resolveId as (source: string, importer: string) => unknown
    expect(
      resolveId("better-sqlite3", "/x/node_modules/@effect/sql-sqlite-node/dist/esm/SqliteClient.js")
    ).toMatch(/BetterSqlite3\.ts$/)
    expect(resolveId("better-sqlite3", "/x/test/store.test.ts")).toBeUndefined()
  })
})
