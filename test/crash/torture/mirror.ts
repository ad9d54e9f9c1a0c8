/**
 * A mirror of a run: `sekali mirror` as one process after the other, between two services and over a bad network to
 * each. It is cut off from one side or both, killed, and started again with the place that it kept or without.
 */
import { rmSync } from "node:fs"
import { join } from "node:path"
import { type Running, start } from "../../support/command.ts"
import type { Fault } from "../../support/proxy.ts"
import type { Aggregator } from "./aggregator.ts"
import type { Front } from "./front.ts"
import { Broken } from "./run.ts"
import type { Stage } from "./stage.ts"

/** How much of what a mirror said goes into the story. */
const saidMax = 1000

/** How a mirror is cut off, and from which of its services. */
export interface Cut {
  readonly fault: Fault
  readonly sides: ReadonlyArray<"from" | "to">
}

interface MirrorProcess {
  readonly name: string
  readonly running: Running
  readonly ways: { readonly from: Front; readonly to: Front }
  isEnding: boolean
}

export class Mirror {
  readonly name: string
  readonly from: Aggregator
  readonly to: Aggregator
  readonly #stage: Stage
  #process: MirrorProcess | undefined
  #cut: Cut | undefined
  #starts = 0

  constructor(stage: Stage, name: string, from: Aggregator, to: Aggregator) {
    this.#stage = stage
    this.name = name
    this.from = from
    this.to = to
  }

  get isCut(): boolean {
    return this.#cut !== undefined
  }

  /** How many exchanges of the process that runs were refused on their way. */
  get refused(): number {
    const { from, to } = this.#process?.ways ?? {}
    return (from?.struck.refuse ?? 0) + (to?.struck.refuse ?? 0)
  }

  async start(): Promise<void> {
    const { run, fronts } = this.#stage
    const name = `${this.name}#${++this.#starts}`
    const [from, to] = await Promise.all([fronts.open(this.from, name), fronts.open(this.to, name)])
    const running = start(["mirror", "--from", from.url, "--to", to.url, "--state", this.#place])
    running.endInput()
    const process: MirrorProcess = { name, running, ways: { from, to }, isEnding: false }
    this.#process = process
    this.#applyCut()
    run.count("starts of a mirror")
    run.tell(`${name} is started`)
    running.ended.then(({ code, signal, stderr }) => {
      for (const way of [from, to]) way.gaveUp()
      run.tell(`${name} has ended with ${code ?? signal}, and has said: ${stderr.slice(-saidMax).trimEnd()}`)
      if (process.isEnding) return
      const detail = `${name} (sekali mirror) ended by itself with ${code ?? signal}: ${stderr}`
      run.fail(new Broken("G9", detail))
    }, run.fail.bind(run))
  }

  /** Kills the process; it may lose the place that it kept. */
  async kill(losesPlace: boolean): Promise<void> {
    const { run } = this.#stage
    const process = this.#process
    if (process === undefined) return
    process.isEnding = true
    process.running.kill("SIGKILL")
    await run.within(`the end of ${process.name}`, process.running.ended)
    run.count("kills of a mirror")
    run.tell(`${process.name} is killed${losesPlace ? " and loses its place" : ""}`)
    if (losesPlace) rmSync(this.#place, { force: true })
  }

  /** Asks the process to stop, and waits until it has. */
  async stop(): Promise<void> {
    const { run } = this.#stage
    const process = this.#process
    if (process === undefined) return
    process.isEnding = true
    process.running.kill("SIGTERM")
    const { code, stderr } = await run.within(`the end of ${process.name}`, process.running.ended)
    if (code !== 0) {
      throw new Broken("G9", `${process.name} was asked to stop and ended with ${code}: ${stderr}`)
    }
  }

  /** Cuts it off, until it is healed: what it asks is refused, or carried out and not answered. */
  cut(cut: Cut): void {
    this.#stage.run.count("partitions")
    this.#stage.run.tell(`${this.name} is cut off (${cut.fault.kind}, ${cut.sides.join(" and ")})`)
    this.#cut = cut
    this.#applyCut()
  }

  heal(): void {
    if (this.#cut === undefined) return
    this.#stage.run.tell(`${this.name} is no longer cut off`)
    this.#cut = undefined
    for (const way of Object.values(this.#process?.ways ?? {})) way.heal()
  }

  #applyCut(): void {
    for (const side of this.#cut?.sides ?? []) this.#process?.ways[side].cut((this.#cut as Cut).fault)
  }

  get #place(): string {
    return join(this.#stage.run.folder, `${this.name}.json`)
  }
}
