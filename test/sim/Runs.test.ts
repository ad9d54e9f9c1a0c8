/**
 * The simulator on the service itself, in the short form that every change has to pass: first that a run is always the
 * same run, then that no guarantee is broken in a batch of them, then that planted bugs are found and kept cases hold.
 * The long forms are `npm run sim` and `npm run sim:mutants`.
 */
import { execFileSync } from "node:child_process"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { describe, expect, it } from "vitest"
import { runSeeds } from "../../sim/Batch.ts"
import { findAll } from "../../sim/mutants.ts"
import { planOf } from "../../sim/Plan.ts"
import { plantedBugs } from "../../sim/PlantedBugs.ts"
import { type Case, replay, runSeed } from "../../sim/Shrink.ts"
import { neverHappened, runsForSometimes, sometimes } from "../../sim/Sometimes.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))
const cases = fileURLToPath(new URL("./cases", import.meta.url))

describe("a run is always the same run", () => {
  it("twice in one process, and in a fresh one", () => {
    const seeds = [1, 2, 3, 4, 5]
    const once = seeds.map((seed) => `${seed} ${runSeed(seed, planOf(seed)).digest}`)
    const again = seeds.map((seed) => `${seed} ${runSeed(seed, planOf(seed)).digest}`)
    expect(again).toEqual(once)
    const args = ["--import", "./sim/loader/register.mjs", "sim/main.ts"]
    const options = ["--seed", "1", "--runs", "5", "--jobs", "1", "--digest"]
    const output = execFileSync(process.execPath, [...args, ...options], { cwd: root, encoding: "utf8" })
    expect(output.split("\n").filter((line) => /^\d+ [0-9a-f]{16}$/.test(line))).toEqual(once)
  })

  it("and its deviations alone carry it out again", () => {
    const seed = 7
    const first = runSeed(seed, planOf(seed))
    const second = replay({ seed, plan: planOf(seed), deviations: first.deviations })
    expect(second.digest).toBe(first.digest)
    expect(second.history).toEqual(first.history)
  })
})

describe("the service under simulation", () => {
  it("keeps G1 to G8 in a batch of runs", () => {
    const tally = runSeeds(1, 60)
    expect(tally.failures).toEqual([])
    expect(tally.restarts).toBeGreaterThan(60)
  })

  for (const file of existsSync(cases) ? readdirSync(cases) : []) {
    it(`holds in the kept case ${file}`, () => {
      const kept = JSON.parse(readFileSync(`${cases}/${file}`, "utf8")) as Case
      expect(replay(kept).violations).toEqual([])
    })
  }
})

describe("the simulator's own honesty", () => {
  it("a batch in which something never happened is told", () => {
    const all = Object.fromEntries(sometimes.map((name) => [name, 1]))
    expect(neverHappened(all)).toEqual([])
    expect(neverHappened({ ...all, "disk: full": 0 })).toEqual(["disk: full"])
    expect(runsForSometimes).toBeGreaterThan(0)
  })

  it("there are enough planted bugs, each with its own name", () => {
    expect(plantedBugs.length).toBeGreaterThanOrEqual(28)
    expect(new Set(plantedBugs.map(({ name }) => name)).size).toBe(plantedBugs.length)
  })

  it("planted bugs are found by the guarantee they name", { timeout: 180_000 }, async () => {
    const names = [
      "trap 1",
      "a failed COMMIT answered as success",
      "counters in another transaction",
      "insert or replace"
    ]
    const bugs = plantedBugs.filter(({ name }) => names.some((start) => name.startsWith(start)))
    expect(bugs.length).toBe(names.length)
    const findings = await findAll(bugs, { seeds: "200", shrink: "0", jobs: 2 }, () => {})
    expect(findings.filter(({ found }) => !found)).toEqual([])
  })
})
