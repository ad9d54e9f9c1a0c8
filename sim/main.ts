/**
 * The command `npm run sim`: searches seeds for a run that breaks a guarantee, on every core, and tells the story of
 * the first one it finds.
 */
import { type ChildProcess, fork } from "node:child_process"
import { randomInt } from "node:crypto"
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { availableParallelism } from "node:os"
import { join, relative } from "node:path"
import { performance } from "node:perf_hooks"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { calmMillisMax } from "./Aggregator.ts"
import { add, emptyTally, type Failure, runSeeds, type Tally } from "./Batch.ts"
import { writeHistory } from "./History.ts"
import { planOf } from "./Plan.ts"
import { type Case, replay, runSeed, shrink } from "./Shrink.ts"
import { neverHappened, runsForSometimes } from "./Sometimes.ts"
import { tell } from "./Story.ts"
import { describeSwarm, swarmOf } from "./Swarm.ts"

const help = `npm run sim -- [options]: runs the service in a simulated world and looks for broken guarantees.

  --seed S        the first seed; the run of a seed is always the same (default: a random one)
  --runs N        how many seeds to try
  --seconds N     how long to search (default: 60, unless --runs is given)
  --jobs N        worker processes (default: one for each core)
  --digest        print the digest of each run; two runs of one seed must agree in it
  --replay FILE   carry out a kept case again and tell its story
  --verbose       with one run: its plan, its rates and its whole timeline
  --keep FOLDER   where a failure is written (default: sim/failures)
  --help          this page

Examples
  npm run sim                                    a minute's worth of new seeds
  npm run sim -- --seed 7 --runs 1 --verbose     one run, in full
  npm run sim -- --seconds 1800                  half an hour
  npm run sim -- --replay sim/failures/G1-42.json

It ends with code 0 if nothing was broken, 1 if something was, 2 if it was called wrongly, 130 after Ctrl-C.
`

const print = (...lines: ReadonlyArray<string>): void => void process.stdout.write(`${lines.join("\n")}\n`)

class UsageError extends Error {}

const wholeNumber = (
  name: string,
  text: string | undefined,
  least = 1,
  most = 2 ** 31 - 1
): number | undefined => {
  if (text === undefined) return undefined
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN
  if (!(value >= least && value <= most)) {
    const rule = `a whole number from ${least} to ${most}`
    throw new UsageError(`--${name} is ${JSON.stringify(text)}, but must be ${rule}`)
  }
  return value
}

const readOptions = () => {
  const { values } = parseArgs({
    options: {
      seed: { type: "string" },
      runs: { type: "string" },
      seconds: { type: "string" },
      jobs: { type: "string" },
      digest: { type: "boolean", default: false },
      replay: { type: "string" },
      verbose: { type: "boolean", default: false },
      keep: { type: "string", default: "sim/failures" },
      worker: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false }
    }
  })
  const runs = wholeNumber("runs", values.runs)
  if (values.verbose && runs !== 1 && values.replay === undefined) {
    throw new UsageError("--verbose shows one run: give --runs 1, or --replay")
  }
  return {
    ...values,
    seed: wholeNumber("seed", values.seed, 0) ?? randomInt(1_000_000_000),
    runs: runs ?? Number.POSITIVE_INFINITY,
    seconds: wholeNumber("seconds", values.seconds) ?? (runs === undefined ? 60 : Number.POSITIVE_INFINITY),
    jobs: Math.max(1, wholeNumber("jobs", values.jobs, 1, 256) ?? availableParallelism())
  }
}

type Options = ReturnType<typeof readOptions>

// ---------- workers ----------

/** What a worker is asked for: the runs of so many seeds from one on. */
interface Assignment {
  readonly from: number
  readonly runs: number
}

const seedsPerAssignment = 10

const work = (): void => {
  // Ctrl-C on a terminal reaches the whole group; when a worker ends is for the one that gave it work to say.
  process.on("SIGINT", () => {})
  process.on("disconnect", () => process.exit(0))
  process.on("message", ({ from, runs }: Assignment) => {
    process.send?.(runSeeds(from, runs), () => {
      // Nobody is there any more to hear of it: `disconnect` ends this process.
    })
  })
}

/** Hands out seeds to workers until time or seeds run out, or something is broken. */
const search = (
  options: Options,
  progress: (tally: Tally) => void
): Promise<{ readonly tally: Tally; readonly interrupted: boolean }> =>
  new Promise((resolve, reject) => {
    const startedAt = performance.now()
    const workers: Array<ChildProcess> = []
    let tally = emptyTally
    let assigned = 0
    let busy = 0
    const over = () =>
      assigned >= options.runs ||
      tally.failures.length > 0 ||
      performance.now() - startedAt > options.seconds * 1000
    const assign = (worker: ChildProcess) => {
      if (over()) return worker.disconnect()
      const runs = Math.min(seedsPerAssignment, options.runs - assigned)
      worker.send({ from: options.seed + assigned, runs } satisfies Assignment)
      assigned += runs
      busy++
    }
    const finish = () => {
      if (busy > 0) return
      for (const worker of workers) if (worker.connected) worker.disconnect()
      // What is done next with a failure is one long step: Ctrl-C then ends the process as usual.
      process.off("SIGINT", interrupt)
      resolve({ tally, interrupted: false })
    }
    let interrupted = false
    const interrupt = () => {
      interrupted = true
      for (const worker of workers) worker.kill()
      resolve({ tally, interrupted })
    }
    process.once("SIGINT", interrupt)
    for (let job = 0; job < Math.min(options.jobs, options.runs); job++) {
      const worker = fork(fileURLToPath(import.meta.url), ["--worker"])
      workers.push(worker)
      worker.on("message", (seen: Tally) => {
        busy--
        tally = add(tally, options.digest ? seen : { ...seen, digests: {} })
        if (options.digest)
          for (const [seed, digest] of Object.entries(seen.digests)) print(`${seed} ${digest}`)
        progress(tally)
        assign(worker)
        finish()
      })
      worker.on("error", reject)
      worker.on("exit", (code, signal) => {
        if (code !== 0 && !interrupted) reject(new Error(`a worker ended with ${code ?? signal}`))
      })
      assign(worker)
    }
    finish()
  })

// ---------- reports ----------

const makeProgress = (startedAt: number) => {
  let printedAt = startedAt
  return (tally: Tally): void => {
    const now = performance.now()
    const terminal = process.stdout.isTTY
    if (now - printedAt < (terminal ? 500 : 10_000)) return
    printedAt = now
    const seconds = (now - startedAt) / 1000
    const line = `${Math.round(seconds)} s: ${tally.runs} runs, ${(tally.runs / seconds).toFixed(1)} a second, ${tally.operations} operations, ${tally.restarts} restarts`
    process.stdout.write(terminal ? `\r${line}\u001b[K` : `${line}\n`)
  }
}

const table = (tally: Tally, seconds: number, jobs: number): ReadonlyArray<string> => {
  const counts = Object.entries(tally.counts).sort(([left], [right]) => (left < right ? -1 : 1))
  const aRun = (count: number) => (count / Math.max(1, tally.runs)).toFixed(1)
  const rows: ReadonlyArray<readonly [string, string]> = [
    ["runs", String(tally.runs)],
    ["runs per second", `${(tally.runs / seconds).toFixed(1)} with ${jobs} workers`],
    ["runs per second and core, by CPU time", (tally.runs / (tally.cpuMillis / 1000)).toFixed(1)],
    ["runs per second and core, by wall time", (tally.runs / (tally.wallMillis / 1000)).toFixed(1)],
    ["operations", `${tally.operations}, ${aRun(tally.operations)} a run`],
    ["restarts", `${tally.restarts}, ${aRun(tally.restarts)} a run`],
    ["all was done within", `${calmMillisMax / 1000} s of virtual time after the last fault (G7)`],
    ["virtual time survived", `${(tally.virtualMillis / 3_600_000).toFixed(1)} h`],
    ...counts.map(([name, times]) => [name, String(times)] as const)
  ]
  const width = Math.max(...rows.map(([name]) => name.length))
  return rows.map(([name, value]) => `  ${name.padEnd(width)}  ${value}`)
}

/** Writes a case, and its history beside it. */
const writeCase = (folder: string, kept: Case): string => {
  mkdirSync(folder, { recursive: true })
  const file = join(folder, `${kept.guarantee}-${kept.seed}.json`)
  writeFileSync(file, `${JSON.stringify(kept, undefined, 1)}\n`)
  writeFileSync(file.replace(/json$/, "history.jsonl"), writeHistory(replay(kept).history))
  return relative(process.cwd(), file)
}

const report = ({ seed, guarantee, detail }: Failure, folder: string): void => {
  print("", `seed ${seed} breaks ${guarantee}: ${detail}`, `rates: ${describeSwarm(swarmOf(seed))}`)
  print(`in full:  npm run sim -- --seed ${seed} --runs 1 --verbose`)
  const plan = planOf(seed)
  const result = runSeed(seed, plan)
  if (result.violations.length === 0) {
    print("carried out again, it breaks nothing: the run is not determined")
    return
  }
  const drawn = { guarantee, detail, seed, plan, deviations: result.deviations }
  print(
    `kept as it is in ${writeCase(folder, drawn)}; looking for the smallest run that does, up to 120 s ...`
  )
  const kept = shrink(seed, result, plan, { executionsMax: 3000, secondsMax: 120 })
  print("", ...tell(kept, writeCase(folder, kept)))
}

// ---------- commands ----------

const readCase = (file: string): Case => {
  const fault = (what: string) => new UsageError(`--replay: ${file} ${what}`)
  let kept: unknown
  try {
    kept = JSON.parse(readFileSync(file, "utf8"))
  } catch (error) {
    throw fault(`cannot be read: ${(error as Error).message}`)
  }
  const members = ["guarantee", "seed", "plan", "deviations"]
  if (typeof kept !== "object" || kept === null || !members.every((name) => name in kept)) {
    throw fault("is no kept case")
  }
  return kept as Case
}

const replayFile = (file: string, verbose: boolean): boolean => {
  const kept = readCase(file)
  const { violations, digest } = replay(kept)
  const broken = [...new Set(violations.map(({ guarantee }) => guarantee))]
  if (broken.length > 0 || verbose) print(...tell(kept, file), "")
  print(
    `digest ${digest}`,
    broken.length > 0 ? `${broken.join(", ")} broken` : `${kept.guarantee} holds: the case is mended`
  )
  return broken.length === 0
}

const runOne = ({ seed, keep }: Options): boolean => {
  const plan = planOf(seed)
  print(`rates: ${describeSwarm(swarmOf(seed))}`, "plan:", JSON.stringify(plan, undefined, 1))
  const result = runSeed(seed, plan, true)
  print(...result.notes.map(({ micros, text }) => `  ${(micros / 1000).toFixed(3).padStart(10)} ms  ${text}`))
  print(`digest ${result.digest}, ${result.operations} operations, ${result.starts} starts`)
  const [violation] = result.violations
  if (violation !== undefined) report({ seed, ...violation }, keep)
  return violation === undefined
}

const searchSeeds = async (options: Options): Promise<number> => {
  const startedAt = performance.now()
  print(`seeds from ${options.seed} on, ${options.jobs} workers`)
  const { tally, interrupted } = await search(options, makeProgress(startedAt))
  const seconds = (performance.now() - startedAt) / 1000
  if (process.stdout.isTTY) print("")
  print(...table(tally, seconds, options.jobs))
  const never = tally.runs >= runsForSometimes ? neverHappened(tally.counts) : []
  if (tally.runs < runsForSometimes) {
    print("", `${tally.runs} runs are too few to say what never happened; that takes ${runsForSometimes}`)
  }
  if (never.length > 0) print("", `NEVER HAPPENED in ${tally.runs} runs: ${never.join("; ")}`)
  const [failure] = tally.failures
  if (failure !== undefined) report(failure, options.keep)
  else if (never.length === 0) print("", "no guarantee was broken")
  if (interrupted) return 130
  return failure === undefined && never.length === 0 ? 0 : 1
}

const main = async (): Promise<number> => {
  // Whoever reads this may go away, as `head` does.
  process.stdout.on("error", () => process.exit(141))
  try {
    const options = readOptions()
    if (options.help) {
      print(help)
      return 0
    }
    if (options.worker) {
      work()
      return -1
    }
    if (options.replay !== undefined) return replayFile(options.replay, options.verbose) ? 0 : 1
    if (options.verbose && options.runs === 1) return runOne(options) ? 0 : 1
    return await searchSeeds(options)
  } catch (error) {
    const usage =
      error instanceof UsageError || (error as NodeJS.ErrnoException).code?.startsWith("ERR_PARSE_ARGS")
    if (!usage && (error as NodeJS.ErrnoException).code !== "ENOENT") throw error
    process.stderr.write(`sim: ${(error as Error).message}\nTry: npm run sim -- --help\n`)
    return 2
  }
}

const code = await main()
if (code >= 0) process.exit(code)
