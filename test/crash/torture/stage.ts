/**
 * A run from its beginning to the verdict: a folder of its own, the services and their clients, and in the end the
 * checker of the simulator over each history and database. However a run ends, no process is left of it; of one that
 * broke something the folder is kept, with the histories, the databases, the files that were shipped and the story.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { Violation } from "../../../sim/Checker.ts"
import { writeHistory } from "../../../sim/History.ts"
import { endCommands } from "../../support/command.ts"
import { cleanUp } from "../../support/process.ts"
import { Aggregator, type Limits } from "./aggregator.ts"
import { Chance } from "./chance.ts"
import { drawNetwork, Fronts, type Network } from "./front.ts"
import { Broken, type Counts, Interrupted, Run, Stuck } from "./run.ts"

/** How much of everything there is to be in a run. */
export interface Extent {
  readonly outages: number
  /** Publishers of logs. */
  readonly sources: number
  /** Lines of a file. */
  readonly linesMax: number
  /** Whether exchanges may be swallowed in silence, which costs a client half a minute. */
  readonly withSilence: boolean
  /** Logs to be shipped in the place of such as are made up. */
  readonly logs?: ReadonlyArray<GivenLog> | undefined
}

/** A log that somebody has. */
export interface GivenLog {
  readonly name: string
  readonly bytes: Buffer
}

/** Puts a run on a stage, and gives what is wrong in the end, beside what the checker finds. */
export type Scenario = (stage: Stage) => Promise<() => ReadonlyArray<Violation>>

/** What came of a run. */
export interface Played {
  readonly violations: ReadonlyArray<Violation>
  readonly counts: Counts
  /** Where all that there is of the run was kept, if it broke something. */
  readonly kept: string | undefined
}

/** Where a run takes place. */
export class Stage {
  readonly run: Run
  readonly extent: Extent
  readonly fronts: Fronts
  readonly aggregators: Array<Aggregator> = []
  readonly #actors: Array<Promise<void>> = []

  constructor(run: Run, extent: Extent, network?: Network) {
    this.run = run
    this.extent = extent
    this.fronts = new Fronts(run, network ?? drawNetwork(run.chance.of("network"), extent.withSilence))
  }

  /** An aggregator that is not started yet. */
  aggregator(name: string, limits: Limits): Aggregator {
    const aggregator = new Aggregator(this.run, name, limits)
    this.aggregators.push(aggregator)
    return aggregator
  }

  /** Something that goes on by itself; if it fails, the run does. */
  begin(acting: Promise<void>): void {
    this.#actors.push(acting.catch((error) => this.run.fail(error)))
  }

  /** Waits until all that was begun has come to its end. */
  async finished(): Promise<void> {
    await this.run.within("the end of all that goes on", Promise.all(this.#actors))
  }

  /** No more faults from here on: networks pass everything, and services that are down come back. */
  async calm(): Promise<void> {
    this.run.calm()
    this.fronts.calm()
    for (const aggregator of this.aggregators) aggregator.calm()
    const down = this.aggregators.filter(({ serving }) => serving === undefined)
    await Promise.all(down.map((aggregator) => aggregator.start()))
  }

  /** Ends whatever goes on. */
  async clear(): Promise<void> {
    this.run.fail(new Error("the run is over"))
    await endProcesses()
    await this.fronts.close()
    await Promise.all(this.#actors)
    // What was being started when the run ended.
    await endProcesses()
  }
}

const endProcesses = () => Promise.all([cleanUp(), endCommands()])

/** Plays a scenario with this seed. `onRun` is told of the run as it begins; of one that is interrupted nothing is kept. */
export const play = async (
  scenario: Scenario,
  seed: number,
  extent: Extent,
  onRun: (run: Run) => void = () => {}
): Promise<Played> => {
  const folder = mkdtempSync(join(tmpdir(), "sekali-torture-"))
  const run = new Run(new Chance(seed), folder)
  const stage = new Stage(run, extent)
  onRun(run)
  const violations: Array<Violation> = []
  let isInterrupted = false
  let outcome: "done" | "stuck" | "exhausted" = "done"
  let waiting: ReadonlyArray<string> = []
  let verify: () => ReadonlyArray<Violation> = () => []
  try {
    verify = await scenario(stage)
  } catch (error) {
    const { message } = error as Error
    run.fail(error)
    // What fails after that fails because of it.
    isInterrupted = run.failure instanceof Interrupted
    run.tell(`the run fails: ${(error as Error).stack ?? message}`)
    outcome = error instanceof Stuck ? "stuck" : "exhausted"
    waiting = [message]
    // What is neither of the two is a fault of this program.
    if (error instanceof Broken) violations.push(error.violation)
    else if (!(error instanceof Stuck || isInterrupted))
      violations.push({ guarantee: "simulation", detail: message })
  }
  await stage.clear()
  for (const { history } of stage.aggregators) history.add({ kind: "end", outcome, waiting })
  if (!isInterrupted) violations.push(...judge(stage, verify))
  if (violations.length === 0) rmSync(folder, { recursive: true, force: true })
  else keep(stage, violations)
  return { violations, counts: run.counts, kept: violations.length === 0 ? undefined : folder }
}

const judge = ({ aggregators }: Stage, verify: () => ReadonlyArray<Violation>): ReadonlyArray<Violation> => {
  try {
    return [...aggregators.flatMap((aggregator) => aggregator.judge()), ...verify()]
  } catch (error) {
    const detail = `the run cannot be judged: ${(error as Error).stack}`
    return [{ guarantee: "simulation", detail }]
  }
}

const keep = ({ aggregators, run }: Stage, violations: ReadonlyArray<Violation>): void => {
  for (const { name, history } of aggregators) {
    writeFileSync(join(run.folder, `${name}.history.jsonl`), writeHistory(history.entries))
  }
  writeFileSync(join(run.folder, "story.txt"), `${run.story.join("\n")}\n`)
  writeFileSync(join(run.folder, "violations.json"), `${JSON.stringify(violations, undefined, 2)}\n`)
}
