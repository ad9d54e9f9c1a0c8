/**
 * Looks for one planted bug, in the process into which it was loaded: first a run without faults, then seeds until the
 * guarantee falls that the bug names, then the smallest run in which it does. Prints what it found as one JSON line.
 */
import { performance } from "node:perf_hooks"
import { Choices } from "./Choices.ts"
import { easyLimits, type Plan, planOf } from "./Plan.ts"
import { plantedBugs } from "./PlantedBugs.ts"
import { runPlan } from "./Run.ts"
import { runSeed, shrink, sizeOf } from "./Shrink.ts"

/** What came of the search for one bug. */
export interface Finding {
  readonly name: string
  readonly found: boolean
  /** What it was found by: the guarantees that fell in the run that was kept. */
  readonly guarantees: ReadonlyArray<string>
  readonly cleanRuns: number
  readonly seconds: number
  /** Requests, outages and choices in the smallest run that was found. */
  readonly size: string
  /** Why it does not count: it breaks ordinary traffic, or is not found. */
  readonly problem: string | undefined
}

/** Ordinary traffic: plans with everything in them but outages, under a world without faults. */
const calmPlans = (): ReadonlyArray<Plan> =>
  [1, 2, 3].map((seed) => ({
    ...planOf(seed),
    outages: [],
    lastOutage: "none",
    limits: easyLimits
  }))

const search = (name: string, seedsMax: number, shrinkSeconds: number): Finding => {
  const bug = plantedBugs.find((each) => each.name === name)
  if (bug === undefined) throw new Error(`there is no planted bug "${name}"`)
  const startedAt = performance.now()
  const finding = (changes: Partial<Finding>): Finding => ({
    name,
    found: false,
    guarantees: [],
    cleanRuns: 0,
    seconds: (performance.now() - startedAt) / 1000,
    size: "",
    problem: undefined,
    ...changes
  })
  if (bug.showsInCalm !== true) {
    const broken = calmPlans().flatMap(
      (plan) => runPlan({ plan, choices: Choices.replay([]), seed: 1 }).violations
    )
    const [first] = broken
    if (first !== undefined) {
      return finding({ problem: `breaks ordinary traffic: ${first.guarantee}, ${first.detail}` })
    }
  }
  const others = new Set<string>()
  for (let seed = 1; seed <= seedsMax; seed++) {
    const plan = planOf(seed)
    const result = runSeed(seed, plan)
    const named = result.violations.find(({ guarantee }) => guarantee === bug.guarantee)
    if (named === undefined) {
      for (const { guarantee } of result.violations) others.add(guarantee)
      continue
    }
    const guarantees = [...new Set(result.violations.map(({ guarantee }) => guarantee))].sort()
    const seconds = (performance.now() - startedAt) / 1000
    const only = { ...result, violations: [named] }
    const small =
      shrinkSeconds === 0
        ? undefined
        : shrink(seed, only, plan, { executionsMax: 400, secondsMax: shrinkSeconds })
    const size = small === undefined ? undefined : sizeOf(small)
    return finding({
      found: true,
      guarantees,
      cleanRuns: seed - 1,
      seconds,
      size:
        size === undefined
          ? ""
          : `${size.operations} ops, ${size.outages} outages, ${size.deviations} choices`
    })
  }
  const instead = others.size === 0 ? "" : `, but ${[...others].sort().join(", ")}`
  return finding({
    cleanRuns: seedsMax,
    problem: `${bug.guarantee} did not fall in ${seedsMax} runs${instead}`
  })
}

const [name = "", seeds = "1000", shrinkSeconds = "20"] = process.argv.slice(2)
process.stdout.write(`${JSON.stringify(search(name, Number(seeds), Number(shrinkSeconds)))}\n`)
process.exit(0)
