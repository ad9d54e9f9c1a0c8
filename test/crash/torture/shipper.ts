/**
 * A publisher of a run: `sekali publish` as one process after the other, which ships files that grow meanwhile; by their
 * names, under other names, or through a pipe in small pieces. When it is killed it ships the same again.
 */
import { linkSync } from "node:fs"
import { join } from "node:path"
import { type Running, start } from "../../support/command.ts"
import type { Aggregator } from "./aggregator.ts"
import type { Chance } from "./chance.ts"
import type { Front, Fronts } from "./front.ts"
import { keysOf, type LogFile } from "./logs.ts"
import { Broken, type Run } from "./run.ts"

/** What a publisher ships, and as what. */
export interface Cargo {
  readonly topic: string
  readonly source: string
  readonly files: ReadonlyArray<LogFile>
}

/** What a command said at its end. */
export interface Shipped {
  readonly stored: number
  readonly duplicates: number
  readonly conflicts: number
}

export class Shipper {
  readonly name: string
  readonly cargo: Cargo
  readonly aggregator: Aggregator
  readonly #run: Run
  readonly #fronts: Fronts
  readonly #chance: Chance
  #command: { readonly running: Running; readonly front: Front; isKilled: boolean } | undefined
  #launches = 0

  constructor(run: Run, fronts: Fronts, aggregator: Aggregator, name: string, cargo: Cargo) {
    this.#run = run
    this.#fronts = fronts
    this.aggregator = aggregator
    this.name = name
    this.cargo = cargo
    this.#chance = run.chance.of(name)
  }

  /** Ships again and again, until the faults stop. */
  async shipWhileRough(): Promise<void> {
    const { files } = this.cargo
    while (!this.#run.isCalm) {
      const chance = this.#chance
      const file = files[chance.between(0, files.length - 1)]
      if (file === undefined) return
      const way = chance.one(["path", "other name", "pipe", "pipe", "pipe", "pipe"])
      if (way === "path") await this.#publish(files, pathsOf(files))
      else if (way === "other name") await this.#publish([file], [this.#linkTo(file)])
      else await this.#publish([file], ["-"], file.content())
      for (const each of files) each.grow(20)
      await this.#run.pause(chance.between(0, 300), () => this.#run.isCalm)
    }
  }

  /** Ships all files, whole; nothing may go wrong with that any more. */
  async shipAll(): Promise<Shipped> {
    const { files } = this.cargo
    for (const file of files) file.finish()
    const shipped = await this.#publish(files, pathsOf(files))
    if (shipped === undefined) throw new Error(`${this.name} was killed in the calm`)
    return shipped
  }

  /** Kills the process that ships, if there is one. */
  async kill(): Promise<void> {
    const command = this.#command
    if (command === undefined) return
    command.isKilled = true
    command.running.kill("SIGKILL")
    await this.#run.within(`the end of ${this.name}`, command.running.ended)
  }

  #linkTo(file: LogFile): string {
    const path = join(this.#run.folder, `${this.name}-${this.#launches}-${file.name}`)
    linkSync(file.path, path)
    return path
  }

  // What it said at its end; nothing if it was killed.
  async #publish(
    files: ReadonlyArray<LogFile>,
    paths: ReadonlyArray<string>,
    input?: Buffer
  ): Promise<Shipped | undefined> {
    const run = this.#run
    const { topic, source } = this.cargo
    const name = `${this.name}#${++this.#launches}`
    const keys = files.flatMap((file) => keysOf(this.cargo, file).slice(0, file.linesWritten()))
    const front = await this.#fronts.open(this.aggregator, name)
    const running = start(["publish", "--topic", topic, "--source", source, ...paths], { url: front.url })
    const command = { running, front, isKilled: false }
    this.#command = command
    run.count("starts of a publisher")
    const feeding = input === undefined ? running.endInput() : this.#feed(running, front, input)
    // It fails with the run alone.
    feeding?.catch(() => {})
    const { code, signal, stderr } = await run
      .within(`the end of ${name}`, running.ended)
      .finally(() => run.tell(`${name} has said: ${summaryOf(running.stderr())}`))
    this.#command = undefined
    await feeding
    run.tell(`${name} has ended with ${code ?? signal}`)
    if (command.isKilled && signal === "SIGKILL") {
      front.gaveUp()
      run.count("kills of a publisher")
      return undefined
    }
    const mayConflict = files.some(({ format }) => format === "ndjson")
    if (code !== 0 && !(code === 3 && mayConflict)) {
      throw new Broken("G7", `${name} (sekali publish) ended by itself with ${code ?? signal}: ${stderr}`)
    }
    const lost = keys.find((key) => !front.acknowledged.has(key))
    if (lost !== undefined) {
      throw new Broken(
        "G1",
        `${name} (sekali publish) ended well, and ${lost} is not acknowledged: ${stderr}`
      )
    }
    return readSummary(stderr)
  }

  /** Writes an input in small pieces, as a program writes its log, so that there are many small requests. */
  async #feed(running: Running, front: Front, input: Buffer): Promise<void> {
    const chance = this.#chance.of(`feed ${this.#launches}`)
    let isOver = false
    running.ended.then(() => {
      isOver = true
    })
    // What is written before the program runs, it finds all at once.
    while (!front.isUsed && !isOver) await this.#run.pause(10)
    for (let from = 0; from < input.length && !isOver; ) {
      const to = from + chance.between(50, 2000)
      running.write(input.subarray(from, to))
      from = to
      await this.#run.pause(chance.between(0, 20), () => isOver || this.#run.isCalm)
    }
    running.endInput()
  }
}

const pathsOf = (files: ReadonlyArray<LogFile>) => files.map(({ path }) => path)

/** What a command has said last of how far it came, or last of all. */
const summaryOf = (stderr: string): string => {
  const lines = stderr.trimEnd().split("\n")
  return lines.findLast((line) => / in [\d.]+ s .* stored, /.test(line)) ?? lines.at(-1) ?? ""
}

const readSummary = (stderr: string): Shipped => {
  const found = /: ([\d,]+) stored, ([\d,]+) duplicates?, ([\d,]+) conflicts?, 0 failed; /.exec(stderr)
  if (found === null) throw new Broken("G8", `sekali publish ended well, and did not say so: ${stderr}`)
  const [stored = 0, duplicates = 0, conflicts = 0] = found
    .slice(1)
    .map((text) => Number(text.replaceAll(",", "")))
  return { stored, duplicates, conflicts }
}
