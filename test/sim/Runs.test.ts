/**
 * The simulator on the service itself, in the short form that every change has to pass: first that a run is always the
 * same run, then that no guarantee is broken in a batch of them, then that planted bugs are found and kept cases hold.
 * The long forms are `npm run sim` and `npm run sim:mutants`.
 */
import { execFileSync, spawnSync } from "node:child_process"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { describe, expect, it } from "vitest"
import { add, emptyTally, runSeeds } from "../../sim/Batch.ts"
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
  it("keeps its guarantees in a batch of runs", { timeout: 240_000 }, async () => {
    let tally = emptyTally
    for (let seed = 1; seed <= 60; seed += 4) {
      tally = add(tally, runSeeds(seed, 4))
      // A run is one long step; in between the test runner wants to hear of this process.
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect(tally.failures).toEqual([])
    expect(tally.restarts).toBeGreaterThan(60)
    // What is frequent has to be in a batch as small as this one.
    const frequent = sometimes.filter((name) =>
      /duplicated|answerLost|syncError|lostWrite|told 200|killed$/.test(name)
    )
    expect(frequent.length).toBeGreaterThan(8)
    expect(frequent.filter((name) => (tally.counts[name] ?? 0) === 0)).toEqual([])
  })

  // A case is worth keeping as long as it still breaks with the mistake that it was found with.
  for (const file of existsSync(cases) ? readdirSync(cases) : []) {
    const kept = JSON.parse(readFileSync(`${cases}/${file}`, "utf8")) as Case
    it(`holds in the kept case ${file}, which breaks with the bug "${kept.bug}"`, () => {
      expect(replay(kept).violations).toEqual([])
      const bug = plantedBugs.find(({ name }) => name === kept.bug)
      const args = ["--import", "./sim/loader/register.mjs", "sim/main.ts", "--replay", `${cases}/${file}`]
      const env = { ...process.env, SEKALI_SIM_MUTANTS: JSON.stringify(bug?.changes) }
      const { status, stdout } = spawnSync(process.execPath, args, { cwd: root, encoding: "utf8", env })
      expect(stdout).toMatch(new RegExp(`^BROKEN  ${kept.guarantee}:`, "m"))
      expect(status).toBe(1)
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
