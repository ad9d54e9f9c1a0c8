/**
 * Many runs, and what they add up to.
 */
import { performance } from "node:perf_hooks"
import { planOf } from "./Plan.ts"
import type { RunResult } from "./Run.ts"
import { runSeed } from "./Shrink.ts"

/** What a number of runs have seen. It is plain data, so that worker processes can send it. */
export interface Tally {
  readonly runs: number
  readonly operations: number
  readonly restarts: number
  readonly steps: number
  readonly virtualMillis: number
  /** The time of the processor that the runs took, that of the garbage collector included. */
  readonly cpuMillis: number
  /** The time on the clock that they took, one after the other. */
  readonly wallMillis: number
  /** How often each fault and each branch happened. */
  readonly counts: Readonly<Record<string, number>>
  readonly failures: ReadonlyArray<Failure>
  /** The digest of each run, by seed. */
  readonly digests: Readonly<Record<number, string>>
}

/** A run that broke something. */
export interface Failure {
  readonly seed: number
  readonly guarantee: string
  readonly detail: string
}

/** Nothing seen yet. */
export const emptyTally: Tally = {
  runs: 0,
  operations: 0,
  restarts: 0,
  steps: 0,
  virtualMillis: 0,
  cpuMillis: 0,
  wallMillis: 0,
  counts: {},
  failures: [],
  digests: {}
}

/** What one run has seen. */
export const tallyOf = (seed: number, result: RunResult): Tally => {
  const [violation] = result.violations
  return {
    runs: 1,
    operations: result.operations,
    restarts: result.starts - 1,
    steps: result.steps,
    virtualMillis: result.virtualMillis,
    cpuMillis: 0,
    wallMillis: 0,
    counts: Object.fromEntries(result.counters.counts),
    failures:
      violation === undefined ? [] : [{ seed, guarantee: violation.guarantee, detail: violation.detail }],
    digests: { [seed]: result.digest }
  }
}

/** Both together. */
export const add = (left: Tally, right: Tally): Tally => {
  const counts = { ...left.counts }
  for (const [name, times] of Object.entries(right.counts)) counts[name] = (counts[name] ?? 0) + times
  return {
    runs: left.runs + right.runs,
    operations: left.operations + right.operations,
    restarts: left.restarts + right.restarts,
    steps: left.steps + right.steps,
    virtualMillis: left.virtualMillis + right.virtualMillis,
    cpuMillis: left.cpuMillis + right.cpuMillis,
    wallMillis: left.wallMillis + right.wallMillis,
    counts,
    failures: [...left.failures, ...right.failures],
    digests: { ...left.digests, ...right.digests }
  }
}

/** Carries out the runs of consecutive seeds, until one breaks something if so told, or time is up. */
export const runSeeds = (
  firstSeed: number,
  runs: number,
  options: { readonly untilFailure?: boolean; readonly secondsMax?: number } = {}
): Tally => {
  const startedAt = performance.now()
  const cpuBefore = process.cpuUsage()
  let tally = emptyTally
  for (let seed = firstSeed; seed < firstSeed + runs; seed++) {
    if (performance.now() - startedAt > (options.secondsMax ?? Number.POSITIVE_INFINITY) * 1000) break
    tally = add(tally, tallyOf(seed, runSeed(seed, planOf(seed))))
    if (options.untilFailure === true && tally.failures.length > 0) break
  }
  const { system, user } = process.cpuUsage(cpuBefore)
  return { ...tally, cpuMillis: (system + user) / 1000, wallMillis: performance.now() - startedAt }
}
